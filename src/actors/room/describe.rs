//! Tells members how the conversation looks for them, after changes: once for all changes of a moment, and by one task a
//! room, so that nobody is told an older state last, and changes that follow each other fast cost no more than the last of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::actor::{RoomMessage, RoomState};
use crate::actors::Actors;
use crate::clock;
use crate::protocol::ConversationKind;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{Conversation, ServerFrame};
use crate::storage::{StoreResult, veil};

/// How long changes gather before members are told how the conversation looks.
const DESCRIBE_PAUSE: Duration = Duration::from_millis(20);
/// Of a large room's managers, how many are told of a change.
pub(super) const MANAGERS_TOLD_MAX: usize = 50;

/// What the task that tells them has before it.
#[derive(Default)]
pub(super) struct Telling {
    runs: bool,
    /// No more than there are members, and those who have left.
    wanted: BTreeSet<u64>,
}

impl RoomState {
    /// Tells all members of a small room how the conversation looks, and of a large one those who manage it.
    pub(super) fn describe_to_all(&mut self) {
        if let Some(room) = &self.room {
            if room.member_ids().len() <= self.actors.inner.config.room.small_room {
                self.describe_to.extend(room.member_ids().iter());
            } else {
                self.describe_to.extend(room.managers(MANAGERS_TOLD_MAX));
            }
        }
        self.describe_soon();
    }

    /// Tells those who are noted down.
    pub(super) fn describe_soon(&mut self) {
        if !self.describe_to.is_empty() && !std::mem::replace(&mut self.describe_armed, true) {
            // A room that has ended leaves this to the clients' next sync.
            self.cast_later(DESCRIBE_PAUSE, || RoomMessage::Describe);
        }
    }

    /// The same now; their cursors are stored first, as they are part of it.
    pub(super) fn describe_members(&mut self) {
        self.describe_armed = false;
        if self.describe_to.iter().any(|user_id| self.is_unstored(*user_id)) {
            self.tell_when_stored();
        } else {
            self.tell_members();
        }
    }

    /// Sends everybody concerned the conversation as it stands for them, off the room's own task.
    pub(super) fn tell_members(&mut self) {
        if self.describe_to.is_empty() {
            return;
        }
        let mut telling = self.telling.lock();
        telling.wanted.extend(self.describe_to.drain(..));
        if std::mem::replace(&mut telling.runs, true) {
            return;
        }
        drop(telling);
        let (actors, conversation_id) = (self.actors.clone(), self.vitals.address.key);
        let telling = Arc::clone(&self.telling);
        self.actors.inner.runtime.spawn(async move {
            while let Some(user_ids) = next(&telling) {
                for user_id in user_ids {
                    match seen_by(&actors, user_id, conversation_id).await {
                        Ok(Some(conversation)) => {
                            let event =
                                ServerFrame { reply_to: 0, body: Some(Body::Conversation(conversation)) };
                            actors.fan_out(&[user_id], 0, event, ConversationKind::Group);
                        }
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!(%error, conversation_id, "members learn of a change by sync only");
                            *telling.lock() = Telling::default();
                            return;
                        }
                    }
                }
            }
        });
    }
}

/// Whom the task tells next; `None`: it is done.
fn next(telling: &Mutex<Telling>) -> Option<BTreeSet<u64>> {
    let mut telling = telling.lock();
    telling.runs = !telling.wanted.is_empty();
    telling.runs.then(|| std::mem::take(&mut telling.wanted))
}

async fn seen_by(actors: &Actors, user_id: u64, conversation_id: u64) -> StoreResult<Option<Conversation>> {
    let stores = &actors.inner.stores;
    let row = stores.conversations.conversation_of(user_id, conversation_id).await?;
    let Some(mut conversation) = row.map(Conversation::from) else { return Ok(None) };
    let preview = conversation.last_message.iter_mut().collect();
    veil(stores.marks.as_ref(), user_id, preview, clock::now_ms()).await?;
    Ok(Some(conversation))
}
