//! What the full-screen client does over the network, each in a task of its own: the screen never waits for it.

use std::future::Future;

use tokio::sync::mpsc;

use crate::client::{Client, ClientError, Rest};
use crate::domain::Error;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};
use crate::protocol::{PresenceStatus, v1::WatchPresence};

/// Answers that were not taken yet; more make their tasks wait.
const TELLINGS_MAX: usize = 256;
/// Messages in one page of history.
const PAST_PAGE: u32 = 50;

/// What a task has to tell.
#[derive(Debug)]
pub(super) enum Told {
    /// What a user is called.
    Name(u64, String),
    /// What a conversation is.
    Conversation(Box<v1::Conversation>),
    /// Earlier messages of a conversation; `None`: they could not be had.
    Past(u64, Option<v1::HistoryPage>),
    /// How users are.
    Presences(Vec<v1::Presence>),
    /// This conversation is to be shown.
    Open(u64),
    /// Something was done.
    Note(String),
    /// Something was not.
    Failed(ClientError),
}

/// Where tasks tell what came of them.
pub(super) struct Tellings(mpsc::Receiver<Told>);

impl Tellings {
    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.0.recv().await
    }
}

/// Starts the tasks.
pub(super) struct Worker {
    rest: Rest,
    client: Client,
    tell: mpsc::Sender<Told>,
}

impl Worker {
    pub(super) fn new(rest: Rest, client: Client) -> (Self, Tellings) {
        let (tell, tellings) = mpsc::channel(TELLINGS_MAX);
        (Self { rest, client, tell }, Tellings(tellings))
    }

    /// Ends the device's session at the server.
    pub(super) async fn sign_out(&self) {
        // The token expires by itself.
        let _ = self.rest.sign_out().await;
    }

    /// Runs a task; an error is told to the user.
    fn spawn(&self, work: impl Future<Output = Result<Option<Told>, ClientError>> + Send + 'static) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let told = match work.await {
                Ok(None) => return,
                Ok(Some(told)) => told,
                Err(error) => Told::Failed(error),
            };
            // Nobody listens any more when the screen is gone.
            let _ = tell.send(told).await;
        });
    }

    pub(super) fn look_up(&self, user_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            // An unknown name is shown as a number.
            let Ok(user) = rest.user(user_id).await else { return Ok(None) };
            let name = if user.display_name.is_empty() { user.username } else { user.display_name };
            Ok(Some(Told::Name(user_id, name)))
        });
    }

    pub(super) fn describe(&self, conversation_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            Ok(Some(Told::Conversation(Box::new(rest.conversation(conversation_id).await?))))
        });
    }

    pub(super) fn mark_read(&self, cursor: v1::Cursor) {
        let client = self.client.clone();
        self.spawn(async move {
            // The next message that is read says it as well.
            let _ = client.request(Request::Read(cursor)).await;
            Ok(None)
        });
    }

    pub(super) fn older(&self, conversation_id: u64, before_seq: u64) {
        let client = self.client.clone();
        self.spawn(async move {
            let page = client.history(conversation_id, before_seq, PAST_PAGE).await;
            Ok(Some(Told::Past(conversation_id, page.ok())))
        });
    }

    pub(super) fn watch(&self, user_ids: Vec<u64>) {
        let client = self.client.clone();
        self.spawn(async move {
            match client.request(Request::WatchPresence(WatchPresence { user_ids })).await? {
                Body::PresencePage(page) => Ok(Some(Told::Presences(page.users))),
                _ => Ok(None),
            }
        });
    }

    pub(super) fn send(&self, send: v1::Send) {
        let client = self.client.clone();
        self.spawn(async move { client.send(send).await.map(|_| None) });
    }

    pub(super) fn edit(&self, edit: v1::Edit) {
        let client = self.client.clone();
        self.spawn(async move { client.edit(edit).await.map(|_| None) });
    }

    pub(super) fn recall(&self, recall: v1::Recall) {
        let client = self.client.clone();
        self.spawn(async move { client.recall(recall).await.map(|_| None) });
    }

    pub(super) fn react(&self, react: v1::React) {
        let client = self.client.clone();
        self.spawn(async move { client.react(react).await.map(|_| None) });
    }

    pub(super) fn tell_typing(&self, conversation_id: u64) {
        let client = self.client.clone();
        self.spawn(async move {
            // Not worth a word when it fails.
            let _ = client.request(Request::Typing(v1::TypingState { conversation_id, active: true })).await;
            Ok(None)
        });
    }

    /// Writes to a user by name, and shows the conversation.
    pub(super) fn write_to(&self, name: &str, text: &str) {
        let (rest, client) = (self.rest.clone(), self.client.clone());
        let (name, text) = (name.to_owned(), text.to_owned());
        self.spawn(async move {
            let user = rest.user_by_name(&name).await?;
            let sent = client.send_text_to(user.user_id, &text).await?;
            Ok(Some(Told::Open(sent.conversation_id)))
        });
    }

    pub(super) fn make_group(&self, name: &str) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let made = rest.create_group(&name, "", "open", &[]).await?;
            Ok(Some(Told::Open(made.conversation_id)))
        });
    }

    pub(super) fn join(&self, conversation_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            if rest.join(conversation_id).await? {
                return Ok(Some(Told::Note("its owner and admins have been asked to let you in".to_owned())));
            }
            Ok(Some(Told::Open(conversation_id)))
        });
    }

    pub(super) fn leave(&self, conversation_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            rest.leave(conversation_id).await?;
            Ok(Some(Told::Note("you have left the group".to_owned())))
        });
    }

    pub(super) fn befriend(&self, name: &str) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let user = rest.user_by_name(&name).await?;
            let contact = rest.add_contact(user.user_id, "").await?;
            let note = if contact.state == "friend" { "is a friend now" } else { "has been asked" };
            Ok(Some(Told::Note(format!("{name} {note}"))))
        });
    }

    pub(super) fn add_member(&self, conversation_id: u64, name: &str) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let user = rest.user_by_name(&name).await?;
            rest.add_members(conversation_id, &[user.user_id]).await?;
            Ok(Some(Told::Note(format!("{name} is a member now"))))
        });
    }

    /// Says how the user is: a word, and a text behind it. The error says which words there are.
    pub(super) fn set_presence(&self, words: &str) -> Result<(), String> {
        let (word, text) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let status = PresenceStatus::from_str_name(word)
            .filter(|status| *status != PresenceStatus::Offline)
            .ok_or("/status WORD TEXT: the word is online, away, busy or invisible")?;
        let mut set = v1::SetPresence { text: text.trim().to_owned(), ..v1::SetPresence::default() };
        set.set_status(status);
        let (client, note) = (self.client.clone(), format!("you are {word} now"));
        self.spawn(async move {
            match client.request(Request::SetPresence(set)).await? {
                Body::Ok(_) => Ok(Some(Told::Note(note))),
                _ => Err(ClientError::Refused(Error::internal("the server answered something else"))),
            }
        });
        Ok(())
    }
}
