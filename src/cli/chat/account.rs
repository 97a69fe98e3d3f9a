//! What the commands of somebody who has signed in do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clean;
use super::command::Command;
use super::deeds::new_client_id;
use super::view::{Names, contact_line};
use crate::client::{Client, ClientError, Rest};
use crate::domain::Error;
use crate::protocol::v1;

/// How long a message waits to be stored before the user is told that it is still waiting.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// Most messages in one page of history.
const HISTORY_PAGE: u32 = crate::domain::limits::HISTORY_PAGE_MAX;
/// Pages of a list that are read.
const LIST_PAGES_MAX: usize = 20;

/// What a command came to.
pub(super) enum Done {
    /// Print this.
    Say(String),
    /// The sync of this number is complete: show all that it brought.
    Synced(u64),
}

/// Somebody who has signed in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) rest: Rest,
    client: Client,
    pub(super) names: Names,
    /// The client_ids of what was written here, whose messages need no echo.
    sent: Arc<Mutex<HashSet<String>>>,
}

impl Account {
    pub(super) fn new(rest: Rest, client: Client, names: Names) -> Self {
        Self { rest, client, names, sent: Arc::default() }
    }

    /// Whether the message was written at this very keyboard; asked once a message.
    pub(super) fn sent_here(&self, message: &v1::Message) -> bool {
        self.sent.lock().remove(&message.client_id)
    }

    pub(super) async fn sign_out(&self) -> Result<(), ClientError> {
        self.rest.sign_out().await
    }

    pub(super) async fn carry_out(self, command: Command) -> Result<Done, ClientError> {
        let text = match command {
            Command::Pull => return Ok(Done::Synced(self.client.sync().await?)),
            Command::Chat { user, text } => {
                let (user_id, name) = self.find(&user).await?;
                let sent = self.send(v1::Send { to_user_id: user_id, text, ..v1::Send::default() }).await?;
                self.said_so(sent, &format!("to {name}"))
            }
            Command::SendGroup { conversation_id, text } => {
                let sent = self.send(v1::Send { conversation_id, text, ..v1::Send::default() }).await?;
                let title = self.names.conversation(conversation_id).await;
                self.said_so(sent, &format!("to {title}"))
            }
            Command::AddFriend { user } => {
                let (user_id, name) = self.find(&user).await?;
                match self.rest.add_contact(user_id, "").await?.state.as_str() {
                    "friend" => format!("you and {name} are friends now"),
                    _ => format!("{name} has been asked"),
                }
            }
            Command::GetFriends => self.friends().await?,
            Command::CreateGroup { name, description } => {
                let made = self.rest.create_group(&name, &description, "open", &[]).await?;
                let id = made.conversation_id;
                self.names.learn(made);
                format!(
                    "group {name} made: others join with 'joingroup {id}', you write with 'sendgroup {id} TEXT'"
                )
            }
            Command::JoinGroup { conversation_id } => {
                if self.rest.join(conversation_id).await? {
                    "asked to join: the group's owner and admins let you in, or not".to_owned()
                } else {
                    let title = self.names.conversation(conversation_id).await;
                    format!("joined {title}: write with 'sendgroup {conversation_id} TEXT'")
                }
            }
            Command::LeaveGroup { conversation_id } => {
                let title = self.names.conversation(conversation_id).await;
                self.rest.leave(conversation_id).await?;
                format!("left {title}")
            }
            Command::History { conversation_id, count } => self.history(conversation_id, count).await?,
            Command::Conversations => self.conversations().await?,
            Command::Act(act) => self.act(act).await?,
            // Handled where there need be no account.
            Command::Register { .. }
            | Command::Login { .. }
            | Command::Logout
            | Command::Help
            | Command::Quit => String::new(),
        };
        Ok(Done::Say(text))
    }

    /// Sends, and keeps the client_id in mind. `None`: it still waits to be stored, and goes on trying.
    async fn send(&self, mut send: v1::Send) -> Result<Option<v1::Sent>, ClientError> {
        let client_id = new_client_id();
        send.client_id.clone_from(&client_id);
        self.sent.lock().insert(client_id.clone());
        let (client, sending) = (self.client.clone(), send);
        // Apart, so that it goes on when the wait below ends.
        let sent = tokio::spawn(async move { client.send(sending).await });
        match tokio::time::timeout(SEND_PATIENCE, sent).await {
            Err(_) => Ok(None),
            Ok(Ok(Ok(sent))) => Ok(Some(sent)),
            Ok(Ok(Err(error))) => {
                self.sent.lock().remove(&client_id);
                Err(error)
            }
            Ok(Err(_)) => Err(Error::internal("the sending task has failed; try again").into()),
        }
    }

    fn said_so(&self, sent: Option<v1::Sent>, whom: &str) -> String {
        match sent {
            Some(sent) => {
                format!("sent {whom} (conversation {}, message {})", sent.conversation_id, sent.seq)
            }
            None => format!("not yet stored {whom}; it goes out when the server can take it"),
        }
    }

    /// The user of an id or a name, and how to call them.
    pub(super) async fn find(&self, user: &str) -> Result<(u64, String), ClientError> {
        match user.parse() {
            Ok(user_id) => Ok((user_id, self.names.user(user_id).await)),
            Err(_) => {
                let found = self.rest.user_by_name(user).await?;
                Ok((found.user_id, found.username))
            }
        }
    }

    async fn friends(&self) -> Result<String, ClientError> {
        let mut lines = Vec::new();
        let mut cursor = String::new();
        for _ in 0..LIST_PAGES_MAX {
            let page = self.rest.contacts(&cursor).await?;
            for contact in page.items {
                let name = self.names.user(contact.user_id).await;
                lines.push(contact_line(&name, contact.user_id, &contact.state));
            }
            if page.next_cursor.is_empty() {
                break;
            }
            cursor = page.next_cursor;
        }
        Ok(if lines.is_empty() {
            "no friends yet; ask somebody with 'addfriend USER'".to_owned()
        } else {
            lines.join("\n")
        })
    }

    async fn conversations(&self) -> Result<String, ClientError> {
        let mut lines = Vec::new();
        let mut cursor = String::new();
        for _ in 0..LIST_PAGES_MAX {
            let page = self.rest.conversations(&cursor).await?;
            for conversation in page.items {
                let (id, unread) = (conversation.conversation_id, conversation.unread);
                let last =
                    conversation.last_message.as_ref().map(|m| clean::name(&m.text)).unwrap_or_default();
                self.names.learn(conversation);
                let title = self.names.conversation(id).await;
                let unread = if unread == 0 { String::new() } else { format!(" ({unread} unread)") };
                lines.push(format!("{id:>6}  {title}{unread}  {last}"));
            }
            if page.next_cursor.is_empty() {
                break;
            }
            cursor = page.next_cursor;
        }
        Ok(if lines.is_empty() {
            "no conversations yet; begin one with 'chat USER TEXT' or 'creategroup NAME DESCRIPTION'"
                .to_owned()
        } else {
            lines.join("\n")
        })
    }

    async fn history(&self, conversation_id: u64, count: u32) -> Result<String, ClientError> {
        let page = self.client.history(conversation_id, 0, count.min(HISTORY_PAGE)).await?;
        let mut lines = Vec::new();
        for message in &page.messages {
            lines.push(format!("{:>6}  {}", message.seq, self.names.message(message).await));
        }
        Ok(if lines.is_empty() { "no messages".to_owned() } else { lines.join("\n") })
    }
}
