//! Who is typing: told to the other members, and taken back when it is not said again in time, so that nobody types for ever
//! whose client or connection ended. Not stored. A room that ends takes it back too.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::actor::{RoomMessage, RoomState, done};
use crate::domain::Result;
use crate::protocol::ConversationKind;
use crate::protocol::cluster::Reply;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ServerFrame, Typing, TypingState};

/// Those who type, and until when they are believed.
#[derive(Default)]
pub struct Typists {
    until: BTreeMap<u64, Instant>,
    armed: bool,
}

impl Typists {
    /// Takes out those who are not believed any more.
    fn stopped(&mut self, now: Instant) -> Vec<u64> {
        let stopped: Vec<u64> =
            self.until.iter().filter(|(_, until)| **until <= now).map(|(user_id, _)| *user_id).collect();
        self.until.retain(|_, until| *until > now);
        stopped
    }
}

impl RoomState {
    /// Tells the other members that somebody types, or has stopped. In rooms that are not small nobody is told.
    pub(super) fn typing(&mut self, user_id: u64, session_id: u64, typing: &TypingState) -> Result<Reply> {
        let Some(room) = &self.room else { return Ok(done()) };
        room.require_member(user_id)?;
        if room.member_ids().len() > self.actors.inner.config.room.small_room {
            return Ok(done());
        }
        if typing.active {
            let until = Instant::now() + self.actors.inner.config.messages.typing_timeout;
            self.typists.until.insert(user_id, until);
            self.arm_typing();
        } else {
            self.typists.until.remove(&user_id);
        }
        self.tell_typing(user_id, session_id, typing.active);
        Ok(done())
    }

    /// Some may not be believed any more.
    pub(super) fn typing_over(&mut self) {
        self.typists.armed = false;
        for user_id in self.typists.stopped(Instant::now()) {
            self.tell_typing(user_id, 0, false);
        }
        self.arm_typing();
    }

    /// Nobody types here any more: the room ends, and who still types says so again to the next one.
    pub(super) fn end_typing(&mut self) {
        for user_id in std::mem::take(&mut self.typists.until).into_keys() {
            self.tell_typing(user_id, 0, false);
        }
    }

    fn arm_typing(&mut self) {
        let Some(first) = self.typists.until.values().min().copied() else { return };
        if !std::mem::replace(&mut self.typists.armed, true) {
            self.cast_later(first.saturating_duration_since(Instant::now()), || RoomMessage::TypingOver);
        }
    }

    fn tell_typing(&self, user_id: u64, session_id: u64, active: bool) {
        let Some(room) = &self.room else { return };
        let event = Typing { conversation_id: self.conversation_id(), user_id, active };
        let event = ServerFrame { reply_to: 0, body: Some(Body::Typing(event)) };
        let others: Vec<u64> = room.member_ids().iter().copied().filter(|id| *id != user_id).collect();
        self.actors.fan_out(&others, session_id, event, ConversationKind::Direct);
    }
}
