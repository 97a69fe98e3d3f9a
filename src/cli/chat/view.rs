//! Puts what happens into words: names for numbers, and sentences for errors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::clean;
use crate::client::{ClientError, Rest};
use crate::protocol::{ContactState, ConversationKind, ErrorCode, MessageKind, v1};

/// How long a name may be looked up before the number stands in its place.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(2);
/// Names that are remembered; when there are more, all are forgotten and looked up again.
const NAMES_MAX: usize = 10_000;

/// Names of users and conversations, looked up once. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names {
    rest: Rest,
    own_id: u64,
    users: Arc<Mutex<HashMap<u64, String>>>,
    conversations: Arc<Mutex<HashMap<u64, v1::Conversation>>>,
}

impl Names {
    pub(super) fn new(rest: Rest, own_id: u64) -> Self {
        Self { rest, own_id, users: Arc::default(), conversations: Arc::default() }
    }

    /// Whether this is who has signed in.
    pub(super) fn is_own(&self, user_id: u64) -> bool {
        user_id == self.own_id
    }

    /// Keeps a conversation in mind and gives its title as far as it is known.
    pub(super) fn learn(&self, conversation: v1::Conversation) -> String {
        let title = group_title(&conversation);
        let mut known = self.conversations.lock();
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(conversation.conversation_id, conversation);
        title
    }

    /// How to call a user.
    pub(super) async fn user(&self, user_id: u64) -> String {
        if user_id == self.own_id {
            return "you".to_owned();
        }
        if let Some(name) = self.users.lock().get(&user_id) {
            return name.clone();
        }
        match timeout(LOOKUP_PATIENCE, self.rest.user(user_id)).await {
            Ok(Ok(user)) => {
                let name = match user.display_name.as_str() {
                    "" => user.username,
                    display if display == user.username => user.username,
                    display => format!("{display} ({})", user.username),
                };
                let name = clean::name(&name);
                let mut known = self.users.lock();
                if known.len() >= NAMES_MAX {
                    known.clear();
                }
                known.insert(user_id, name.clone());
                name
            }
            _ => format!("user {user_id}"),
        }
    }

    /// How to call a conversation.
    pub(super) async fn conversation(&self, conversation_id: u64) -> String {
        match self.look_up(conversation_id).await {
            None => format!("conversation {conversation_id}"),
            Some(conversation) => match conversation.kind() {
                ConversationKind::Direct => self.user(conversation.peer_user_id).await,
                ConversationKind::Group => group_title(&conversation),
            },
        }
    }

    async fn look_up(&self, conversation_id: u64) -> Option<v1::Conversation> {
        let known = self.conversations.lock().get(&conversation_id).cloned();
        if known.is_some() {
            return known;
        }
        let found = timeout(LOOKUP_PATIENCE, self.rest.conversation(conversation_id)).await.ok()?.ok()?;
        self.learn(found.clone());
        Some(found)
    }

    /// A message as one line.
    pub(super) async fn message(&self, message: &v1::Message) -> String {
        let place = match self.look_up(message.conversation_id).await {
            None => format!("[conversation {}] ", message.conversation_id),
            Some(conversation) => match conversation.kind() {
                ConversationKind::Group => format!("[{}] ", group_title(&conversation)),
                // Only one's own words from elsewhere need to be told to whom they went.
                ConversationKind::Direct if message.sender_id == self.own_id => {
                    format!("[to {}] ", self.user(conversation.peer_user_id).await)
                }
                ConversationKind::Direct => String::new(),
            },
        };
        if message.kind() == MessageKind::System {
            // The server's words lack their subject: "joined the group".
            return format!("{place}* {} {}", self.user(message.sender_id).await, clean::text(&message.text));
        }
        format!("{place}{}: {}", self.user(message.sender_id).await, content(message))
    }

    /// A change of a contact as one line.
    pub(super) async fn contact(&self, contact: &v1::ContactEvent) -> String {
        let (id, name) = (contact.user_id, self.user(contact.user_id).await);
        match contact.state() {
            ContactState::Invited => {
                let words = if contact.message.is_empty() { "" } else { ": " };
                format!(
                    "{name} asks to be friends{words}{}; accept with 'addfriend {id}'",
                    clean::text(&contact.message)
                )
            }
            ContactState::Requested => format!("{name} has been asked to be friends"),
            ContactState::Friend => format!("you and {name} are friends now"),
            ContactState::Removed | ContactState::None => format!("{name} is no longer a friend"),
            ContactState::Blocked => format!("{name} is blocked"),
        }
    }
}

/// A row of `getfriends`.
pub(super) fn contact_line(name: &str, user_id: u64, state: &str) -> String {
    let note = match state {
        "friend" => "friend".to_owned(),
        "invited" => format!("wants to be friends; accept with 'addfriend {user_id}'"),
        "requested" => "has not answered your request".to_owned(),
        other => other.to_owned(),
    };
    format!("{user_id:>6}  {name}  {note}")
}

fn group_title(conversation: &v1::Conversation) -> String {
    match conversation.name.as_str() {
        "" => format!("conversation {}", conversation.conversation_id),
        name => format!("{} #{}", clean::name(name), conversation.conversation_id),
    }
}

/// What a message says, whatever its kind: nothing in it acts on the terminal.
fn content(message: &v1::Message) -> String {
    if message.recalled {
        return "(recalled)".to_owned();
    }
    let text = clean::text(&message.text);
    match message.kind() {
        MessageKind::Text | MessageKind::System | MessageKind::Custom => text,
        MessageKind::Edit => format!("(edits message {}) {text}", message.target_seq),
        MessageKind::Recall => format!("(recalls message {})", message.target_seq),
        MessageKind::Reaction => {
            format!("({} on message {})", clean::name(&message.emoji), message.target_seq)
        }
        MessageKind::Image | MessageKind::Audio | MessageKind::Video | MessageKind::File => {
            let names: Vec<&str> = message.attachments.iter().map(|file| file.name.as_str()).collect();
            format!("({} {}) {text}", message.kind().as_str_name(), clean::name(&names.join(", ")))
        }
    }
}

/// What went wrong and what to do about it.
pub(super) fn complaint(error: &ClientError) -> String {
    let advice = match error.code() {
        ErrorCode::Unauthenticated => " (sign in again with 'login NAME PASSWORD')",
        ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => " (try again in a moment)",
        _ => "",
    };
    format!("error: {error}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_kinds_have_words() {
        let mut message = v1::Message { text: "hi".into(), target_seq: 4, ..v1::Message::default() };
        assert_eq!(content(&message), "hi");
        message.set_kind(MessageKind::Edit);
        assert_eq!(content(&message), "(edits message 4) hi");
        message.recalled = true;
        assert_eq!(content(&message), "(recalled)");
    }

    #[tokio::test]
    async fn a_message_names_its_room_and_its_writer() {
        // Nobody listens at this address: what is not learned is shown by number.
        let names = Names::new(Rest::new(["127.0.0.1:1"]), 1);
        names.users.lock().insert(2, "bob".into());
        let mut group = v1::Conversation { conversation_id: 9, name: "rust".into(), ..Default::default() };
        group.set_kind(ConversationKind::Group);
        names.learn(group);
        names.learn(v1::Conversation { conversation_id: 8, peer_user_id: 2, ..Default::default() });
        let message = |conversation_id, sender_id| v1::Message {
            conversation_id,
            sender_id,
            text: "hi".into(),
            ..v1::Message::default()
        };
        assert_eq!(names.message(&message(9, 2)).await, "[rust #9] bob: hi");
        assert_eq!(names.message(&message(8, 2)).await, "bob: hi");
        assert_eq!(names.message(&message(8, 1)).await, "[to bob] you: hi");
        assert_eq!(names.message(&message(7, 3)).await, "[conversation 7] user 3: hi");
        let mut group =
            v1::Conversation { conversation_id: 10, name: "a\n\u{1b}[1m".into(), ..Default::default() };
        group.set_kind(ConversationKind::Group);
        names.learn(group);
        let text = "hi\nbob: \u{1b}[2Jbye".to_owned();
        let forged = v1::Message { text, ..message(10, 2) };
        let shown = names.message(&forged).await;
        assert_eq!(shown, "[a\u{fffd}\u{fffd}[1m #10] bob: hi\n    | bob: \u{fffd}[2Jbye");
    }
}
