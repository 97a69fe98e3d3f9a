//! A member's own view of its conversations: muted, pinned, archived, hidden, what to be notified of, and the draft. Every
//! change is told to all of the user's devices, and comes by sync to those that are away.

use std::sync::Arc;

use super::messages::Messages;
use crate::actors::Events;
use crate::clock::now_ms;
use crate::domain::limits::{DRAFT_MAX, NUMBER_MAX, check_length};
use crate::domain::{Error, Result};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{NotificationLevel, v1};
use crate::storage::{Draft, PeopleStore, PreferenceChange};

/// Changes of preferences; `None` leaves one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preferences {
    /// Unix time, milliseconds; 0: not muted.
    pub muted_until_ms: Option<u64>,
    /// At the top of the list.
    pub pinned: Option<bool>,
    /// Put away from the main list.
    pub archived: Option<bool>,
    /// Out of sight until the next message.
    pub hidden: Option<bool>,
    /// To come back to, until more is read or this is taken off.
    pub marked_unread: Option<bool>,
    /// What to be notified of.
    pub notifications: Option<NotificationLevel>,
}

/// Own views, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct OwnViews {
    people: Arc<dyn PeopleStore>,
    messages: Messages,
    events: Events,
}

impl OwnViews {
    /// Over these.
    pub fn new(people: Arc<dyn PeopleStore>, messages: Messages, events: Events) -> Self {
        Self { people, messages, events }
    }

    /// Changes the caller's preferences of a conversation; the conversation as it stands then.
    pub async fn prefer(
        &self,
        by: u64,
        conversation_id: u64,
        wanted: Preferences,
    ) -> Result<v1::Conversation> {
        let Preferences { muted_until_ms, pinned, archived, hidden, marked_unread, notifications } = wanted;
        if muted_until_ms.is_some_and(|until| until > NUMBER_MAX) {
            return Err(Error::invalid(
                "muted_until_ms",
                format!("muted_until_ms is beyond {NUMBER_MAX}; mute until then for ever"),
            ));
        }
        let hidden_before_seq = match hidden {
            None => None,
            Some(false) => Some(0),
            Some(true) => Some(self.messages.conversation(by, conversation_id).await?.last_seq + 1),
        };
        let unread_before_seq = match marked_unread {
            None => None,
            Some(false) => Some(0),
            Some(true) => Some(self.messages.conversation(by, conversation_id).await?.read_seq + 1),
        };
        let change = PreferenceChange {
            muted_until_ms,
            pinned,
            archived,
            hidden_before_seq,
            unread_before_seq,
            notifications,
        };
        let stored = self.people.set_preferences(by, conversation_id, change, now_ms()).await;
        self.told(by, conversation_id, stored?).await
    }

    /// Keeps what the caller has begun to write, in place of what was kept before; nothing at all: keeps none.
    pub async fn draft(&self, by: u64, conversation_id: u64, text: String, reply_to_seq: u64) -> Result<()> {
        check_length("text", &text, DRAFT_MAX)?;
        if reply_to_seq > NUMBER_MAX {
            return Err(Error::invalid("reply_to_seq", "reply_to_seq is no seq"));
        }
        let draft = Draft { text, reply_to_seq, updated_at_ms: now_ms() };
        let stored = self.people.set_draft(by, conversation_id, draft).await?;
        self.told(by, conversation_id, stored).await.map(|_| ())
    }

    async fn told(&self, by: u64, conversation_id: u64, is_member: bool) -> Result<v1::Conversation> {
        let conversation = match self.messages.conversation(by, conversation_id).await {
            Ok(conversation) if is_member && !conversation.removed => conversation,
            Ok(_) => {
                return Err(Error::denied(format!(
                    "you are not a member of conversation {conversation_id}; join it or ask a member to add you"
                )));
            }
            Err(error) => return Err(error),
        };
        self.events.publish(vec![by], Body::Conversation(conversation.clone()), 0);
        Ok(conversation)
    }
}
