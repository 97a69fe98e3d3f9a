//! Pins of messages: stored first, then told in the log by a `system` message that names the one concerned, so that every
//! device learns of it in order.

use super::actor::RoomState;
use crate::clock;
use crate::domain::changes::is_written;
use crate::domain::permissions::{Act, require};
use crate::domain::{Error, Result};
use crate::protocol::ConversationKind;
use crate::protocol::cluster::Pin;
use crate::storage::{ClientKey, PinRecord, RoomChange, RoomWrite, Saying, StoreError, StoreResult};

impl RoomState {
    /// Pins a message or takes the pin off. What is so already stays so, and is not told again.
    pub(super) async fn pin(&mut self, by: u64, pin: Pin) -> Result<()> {
        let seq = pin.seq;
        let room = self.room.as_ref().ok_or_else(|| Error::internal("a room acts before it is loaded"))?;
        let member = room.require_member(by)?;
        if room.conversation().kind == ConversationKind::Group {
            require(member.role, Act::PinMessage)?;
        }
        let unseen = || Error::not_found(format!("there is no message {seq} in this conversation for you"));
        if !(member.first_seq.max(1)..=room.last_seq()).contains(&seq) {
            return Err(unseen());
        }
        let (stores, id) = (self.actors.inner.stores.clone(), room.conversation().id);
        let pins = stores.marks.pins(id).await?;
        let there = pins.iter().find(|pinned| pinned.seq == seq).copied();
        if pin.remove {
            let Some(there) = there else { return Ok(()) };
            confirmed(stores.marks.unpin(id, seq).await, async || {
                Ok(!stores.marks.pins(id).await?.iter().any(|pinned| pinned.seq == seq))
            })
            .await?;
            self.say_of_pin(by, "took a pin off a message", &there, "unpin").await?;
            return Ok(());
        }
        let record = match there {
            Some(there) => there,
            None => {
                let found = stores.messages.after(id, seq - 1, 1).await?;
                let mut target = found.into_iter().find(|message| message.seq == seq).ok_or_else(unseen)?;
                // What waits to be stored may take it back, and takes no pin off that comes later.
                if let Some(room) = &self.room {
                    room.foresee(&mut target);
                }
                if !is_written(&target) || target.recalled {
                    return Err(Error::precondition(
                        "only messages that users wrote, and that are still there, can be pinned",
                    ));
                }
                let most = self.actors.inner.config.messages.pins_max;
                if pins.len() >= most {
                    return Err(Error::precondition(format!(
                        "{most} messages are pinned here already; take one of those pins off first"
                    )));
                }
                let pinned_at_ms = clock::now_ms();
                let record = PinRecord { conversation_id: id, seq, user_id: by, pinned_at_ms };
                confirmed(stores.marks.pin(record).await, async || {
                    Ok(stores.marks.pins(id).await?.contains(&record))
                })
                .await?;
                record
            }
        };
        self.say_of_pin(record.user_id, "pinned a message", &record, "pin").await
    }

    /// Says in the log what became of a pin, once: the name of what is said is made of the pin, so that a repeat, after an
    /// answer that was lost or a crash, says it if it was not said.
    async fn say_of_pin(&mut self, by: u64, text: &str, pin: &PinRecord, what: &str) -> Result<()> {
        let client_id = format!("{what}-{}-{:x}", pin.seq, pin.pinned_at_ms);
        let key =
            ClientKey { conversation_id: pin.conversation_id, sender_id: by, client_id: client_id.clone() };
        let is_known = self.room.as_ref().is_some_and(|room| room.knows(by, &client_id));
        if is_known || !self.actors.inner.stores.messages.stored(&[key]).await?.is_empty() {
            return Ok(());
        }
        let saying = Saying {
            client_id,
            by,
            text: text.to_owned(),
            about: Vec::new(),
            target_seq: pin.seq,
            created_at_ms: clock::now_ms(),
        };
        // Before it is answered, so that it is said though this node ends.
        let change = RoomChange {
            conversation_id: pin.conversation_id,
            now_ms: saying.created_at_ms,
            conditions: Vec::new(),
            writes: vec![RoomWrite::Say(saying.clone())],
        };
        self.actors.inner.stores.rooms.change_room(&change).await?;
        self.say(saying);
        Ok(())
    }
}

/// Whether something was done that the database did not confirm shows by looking.
async fn confirmed<T>(
    outcome: StoreResult<T>,
    is_done: impl AsyncFnOnce() -> StoreResult<bool>,
) -> StoreResult<()> {
    match outcome {
        Err(StoreError::Unsettled(cause)) => match is_done().await {
            Ok(true) => Ok(()),
            _ => Err(StoreError::Unsettled(cause)),
        },
        outcome => outcome.map(drop),
    }
}
