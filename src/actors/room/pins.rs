//! Pins of messages: stored first, then told in the log by a `system` message that names the one concerned, so that every
//! device learns of it in order.

use super::actor::RoomState;
use crate::domain::changes::is_written;
use crate::domain::permissions::{Act, require};
use crate::domain::{Error, Result};
use crate::protocol::ConversationKind;
use crate::protocol::cluster::Pin;
use crate::storage::PinRecord;
use crate::{chance, clock};

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
        let changed = if pin.remove {
            stores.marks.unpin(id, seq).await?
        } else {
            let found = stores.messages.after(id, seq - 1, 1).await?;
            let target = found.first().filter(|message| message.seq == seq).ok_or_else(unseen)?;
            if !is_written(target) || target.recalled {
                return Err(Error::precondition(
                    "only messages that users wrote, and that are still there, can be pinned",
                ));
            }
            let pins = stores.marks.pins(id).await?;
            let most = self.actors.inner.config.messages.pins_max;
            if pins.len() >= most && pins.iter().all(|pinned| pinned.seq != seq) {
                return Err(Error::precondition(format!(
                    "{most} messages are pinned here already; take one of those pins off first"
                )));
            }
            let record = PinRecord { conversation_id: id, seq, user_id: by, pinned_at_ms: clock::now_ms() };
            stores.marks.pin(record).await?
        };
        if changed && let Some(room) = &mut self.room {
            let text = if pin.remove { "took a pin off a message" } else { "pinned a message" };
            room.announce_about(by, text.to_owned(), seq, format!("system-{:016x}", chance::bits()));
        }
        Ok(())
    }
}
