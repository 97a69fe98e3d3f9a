//! A room's cursors: kept in memory, stored by the node's cursor lane a batch at a time, and told to the others as
//! receipts. The room never waits for that: whoever does is answered when the lane has.

use std::collections::HashSet;

use super::actor::{RoomMessage, RoomState, Waiter, done, room};
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_reply;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{Message, Receipt, ServerFrame};
use crate::protocol::{ConversationKind, MessageKind};
use crate::storage::{CursorAdvance, StoreResult, veil_from_hider};

/// Of so many who have hidden a message an edit is kept.
const HIDERS_MAX: u32 = 10_000;

/// Who waits for cursors to be stored.
enum Reader {
    /// For that alone.
    Read(Waiter),
    /// To see the conversation with them.
    Describe(u64, Waiter),
    /// The room itself, to tell members how the conversation looks with them.
    Tell,
}

/// What a room has to store of its cursors, beside those that [`super::state::Room`] calls dirty.
#[derive(Default)]
pub struct Cursors {
    flush_armed: bool,
    lazy_flush_armed: bool,
    /// With the lane, and who waits for them.
    flying: Option<(Vec<CursorAdvance>, Vec<Reader>)>,
    /// Who waits for the next to leave.
    readers: Vec<Reader>,
}

impl Cursors {
    /// Whether the lane has some.
    pub fn are_flying(&self) -> bool {
        self.flying.is_some()
    }

    /// Whether somebody waits.
    pub fn waits(&self) -> bool {
        !self.readers.is_empty() || self.flying.as_ref().is_some_and(|(_, readers)| !readers.is_empty())
    }

    /// Takes out those who have waited for too long.
    pub fn expire(&mut self) -> Vec<Waiter> {
        let mut late = Vec::new();
        let flying = self.flying.as_mut().map(|(_, readers)| readers);
        for readers in flying.into_iter().chain([&mut self.readers]) {
            let (gone, stay): (Vec<Reader>, Vec<Reader>) =
                std::mem::take(readers).into_iter().partition(Reader::is_late);
            *readers = stay;
            late.extend(gone.into_iter().filter_map(|reader| match reader {
                Reader::Read(waiter) | Reader::Describe(_, waiter) => Some(waiter),
                Reader::Tell => None,
            }));
        }
        late
    }

    fn has(&self, user_id: u64) -> bool {
        self.flying
            .as_ref()
            .is_some_and(|(cursors, _)| cursors.iter().any(|cursor| cursor.user_id == user_id))
    }
}

impl Reader {
    fn is_late(&self) -> bool {
        match self {
            Self::Read(waiter) | Self::Describe(_, waiter) => waiter.is_late(),
            Self::Tell => false,
        }
    }
}

impl RoomState {
    /// Moves a member's cursors; whether one moved.
    pub(super) fn advance(
        &mut self,
        user_id: u64,
        session_id: u64,
        delivered_seq: u64,
        read_seq: u64,
    ) -> Result<bool> {
        let Some(room) = &mut self.room else { return Ok(false) };
        let moved = room.advance(user_id, delivered_seq, read_seq, session_id)?;
        if moved {
            if room.member_ids().len() <= self.actors.inner.config.room.small_room {
                self.receipts.insert(user_id, session_id);
            }
            self.arm_flush();
            self.arm_lazy_flush();
        }
        Ok(moved)
    }

    /// `ok` follows the storing, also for one who has read no further than another device whose cursor is on its way.
    pub(super) fn read(&mut self, user_id: u64, session_id: u64, seq: u64, waiter: Waiter) {
        match self.advance(user_id, session_id, seq, seq) {
            Ok(_) if self.is_unstored(user_id) => {
                self.cursors.readers.push(Reader::Read(waiter));
                self.arm_flush();
            }
            Ok(_) => waiter.answer(Ok(done())),
            Err(error) => waiter.answer(Err(error)),
        }
    }

    /// Tells members how the conversation looks when the cursors are stored, or could not be.
    pub(super) fn tell_when_stored(&mut self) {
        if !self.cursors.readers.iter().any(|reader| matches!(reader, Reader::Tell)) {
            self.cursors.readers.push(Reader::Tell);
        }
        self.start_storing_cursors();
    }

    pub(super) fn is_unstored(&self, user_id: u64) -> bool {
        self.cursors.has(user_id) || self.room.as_ref().is_some_and(|room| room.is_dirty(user_id))
    }

    fn arm_flush(&mut self) {
        if !std::mem::replace(&mut self.cursors.flush_armed, true) {
            self.cast_later(self.actors.inner.config.room.cursor_flush, || RoomMessage::Flush);
        }
    }

    pub(super) fn arm_lazy_flush(&mut self) {
        if !std::mem::replace(&mut self.cursors.lazy_flush_armed, true) {
            self.cast_later(self.actors.inner.config.room.cursor_lazy_flush, || RoomMessage::FlushLazily);
        }
    }

    /// Tells of receipts, and stores cursors if somebody waits for that.
    pub(super) fn flush(&mut self) {
        self.cursors.flush_armed = false;
        self.tell_receipts();
        if !self.cursors.readers.is_empty() {
            self.start_storing_cursors();
        }
    }

    pub(super) fn flush_lazily(&mut self) {
        self.cursors.lazy_flush_armed = false;
        self.start_storing_cursors();
    }

    pub(super) fn tell_receipts(&mut self) {
        let Some(room) = &self.room else { return };
        for (user_id, session_id) in std::mem::take(&mut self.receipts) {
            let Some(member) = room.member(user_id) else { continue };
            let receipt = Receipt {
                conversation_id: member.conversation_id,
                user_id,
                delivered_seq: member.delivered_seq,
                read_seq: member.read_seq,
            };
            let event = ServerFrame { reply_to: 0, body: Some(Body::Receipt(receipt)) };
            self.actors.fan_out(&room.member_ids(), session_id, event, ConversationKind::Direct);
        }
    }

    /// Hands every moved cursor to the lane. While it has some the others wait for them.
    pub(super) fn start_storing_cursors(&mut self) {
        if self.cursors.are_flying() {
            return;
        }
        let cursors = self.room.as_mut().map(|room| room.take_dirty()).unwrap_or_default();
        let readers = std::mem::take(&mut self.cursors.readers);
        if cursors.is_empty() {
            self.answer_readers(readers, &Ok(()));
            return;
        }
        self.cursors.flying = Some((cursors.clone(), readers));
        let myself = self.myself.clone();
        self.actors.inner.cursor_lane.store(cursors, move |outcome| {
            // The room waits for its cursors before it ends.
            let _ = myself.cast(RoomMessage::CursorsDone(outcome));
        });
    }

    /// The lane has stored the cursors, or not.
    pub(super) fn cursors_done(&mut self, outcome: StoreResult<()>) {
        let Some((cursors, readers)) = self.cursors.flying.take() else { return };
        let outcome = outcome.map_err(Error::from);
        if outcome.is_err() {
            if let Some(room) = &mut self.room {
                room.cursors_failed(&cursors);
            }
            self.arm_lazy_flush();
        }
        self.answer_readers(readers, &outcome);
        if !self.cursors.readers.is_empty() {
            if outcome.is_ok() {
                self.start_storing_cursors();
            } else {
                // Those who came meanwhile wait for the same.
                let readers = std::mem::take(&mut self.cursors.readers);
                self.answer_readers(readers, &outcome);
            }
        }
    }

    fn answer_readers(&mut self, readers: Vec<Reader>, outcome: &Result<()>) {
        for reader in readers {
            match (reader, outcome) {
                (Reader::Tell, _) => self.tell_members(),
                (Reader::Read(waiter), outcome) => waiter.answer(outcome.clone().map(|()| done())),
                (Reader::Describe(user_id, waiter), Ok(())) => self.describe_stored(user_id, waiter),
                (Reader::Describe(_, waiter), Err(error)) => waiter.answer(Err(error.clone())),
            }
        }
    }

    /// Shows a member the conversation, cursors in memory included: those are stored first.
    pub(super) fn describe(&mut self, user_id: u64, waiter: Waiter) {
        if let Err(error) = self.present() {
            return waiter.answer(Err(error));
        }
        if self.cursors.are_flying() || self.room.as_ref().is_some_and(|room| room.has_dirty()) {
            self.cursors.readers.push(Reader::Describe(user_id, waiter));
            return self.start_storing_cursors();
        }
        self.describe_stored(user_id, waiter);
    }

    /// Answers off the room's own task.
    fn describe_stored(&self, user_id: u64, waiter: Waiter) {
        let (actors, conversation_id) = (self.actors.clone(), self.conversation_id());
        self.actors.inner.runtime.spawn(async move {
            let found = actors.inner.stores.conversations.conversation_of(user_id, conversation_id).await;
            waiter.answer(match found {
                // Of those who are out, only those may see it for whom it ended as for all.
                Ok(Some(row))
                    if [0, row.conversation.rules.dissolved_at_ms].contains(&row.member.removed_at_ms) =>
                {
                    Ok(room(room_reply::Reply::Conversation(row.into())))
                }
                Ok(_) => {
                    Err(Error::denied(format!("you are not a member of conversation {conversation_id}")))
                }
                Err(error) => Err(error.into()),
            });
        });
    }

    /// Messages after this time may not have reached everybody, Unix milliseconds.
    pub(super) fn young_ms(&self) -> u64 {
        let window = self.actors.inner.config.room.repush_window;
        crate::clock::now_ms().saturating_sub(window.as_millis() as u64)
    }

    /// Sends a stored message to the members, and remembers it.
    pub(super) fn push_message(
        &mut self,
        members: &[u64],
        kind: ConversationKind,
        message: Message,
        except_session_id: u64,
    ) {
        self.recent.push(&message, self.young_ms());
        if let Some(room) = &self.room {
            self.pace.wrote(&message, room.conversation().rules.slow_mode_seconds);
        }
        if message.kind() == MessageKind::Recall {
            self.recent.take_back(message.target_seq);
        }
        self.push(members, kind, message, except_session_id);
    }

    /// Sends a stored message to users. An edit comes without its words to those who have hidden what it changes, as it does
    /// by sync; who they are is looked up off the room's own task, and sessions put what follows in order.
    fn push(&self, user_ids: &[u64], kind: ConversationKind, message: Message, except_session_id: u64) {
        if message.kind() != MessageKind::Edit {
            let event = ServerFrame { reply_to: 0, body: Some(Body::Message(message)) };
            return self.actors.fan_out(user_ids, except_session_id, event, kind);
        }
        let (actors, user_ids) = (self.actors.clone(), user_ids.to_vec());
        self.actors.inner.runtime.spawn(async move {
            let marks = &actors.inner.stores.marks;
            // While storage is away they get the words of what they don't show.
            let found = marks.hiders(message.conversation_id, message.target_seq, HIDERS_MAX).await;
            let hiders: HashSet<u64> = found.unwrap_or_default().into_iter().collect();
            let (without, with): (Vec<u64>, Vec<u64>) =
                user_ids.into_iter().partition(|user_id| hiders.contains(user_id));
            let mut veiled = message.clone();
            veil_from_hider(&mut veiled);
            for (user_ids, message) in [(with, message), (without, veiled)] {
                if !user_ids.is_empty() {
                    let event = ServerFrame { reply_to: 0, body: Some(Body::Message(message)) };
                    actors.fan_out(&user_ids, except_session_id, event, kind);
                }
            }
        });
    }

    /// Pushes what was stored since then again: sessions drop what they have had.
    pub(super) fn push_again(&self, since_ms: u64) {
        let Some(room) = &self.room else { return };
        for message in self.recent.since(since_ms) {
            self.push(&room.member_ids(), room.conversation().kind, message.clone(), 0);
        }
    }
}
