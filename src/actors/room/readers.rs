//! Who has read a message, from the cursors that the room holds in memory.

use super::actor::{RoomState, room};
use super::state::Room;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{ReaderList, Readers, Reply, room_reply};

impl<W> Room<W> {
    /// Whom a message that `by` may see has reached, its sender and those who joined later left out; by name in rooms of up to
    /// `small_room` members.
    pub fn readers(&self, by: u64, asked: &Readers, small_room: usize) -> Result<ReaderList> {
        let first_seq = self.require_member(by)?.first_seq;
        if !(first_seq.max(1)..=self.last_seq()).contains(&asked.seq) {
            return Err(Error::not_found(format!(
                "there is no message {} in this conversation for you",
                asked.seq
            )));
        }
        let mut list = ReaderList { counts_only: self.members().len() > small_room, ..ReaderList::default() };
        for member in self.members().values() {
            if member.user_id == asked.sender_id || member.first_seq > asked.seq {
                continue;
            }
            if member.delivered_seq >= asked.seq {
                list.delivered_count += 1;
                list.delivered.extend((!list.counts_only).then_some(member.user_id));
            }
            if member.read_seq >= asked.seq {
                list.read_count += 1;
                list.read.extend((!list.counts_only).then_some(member.user_id));
            }
        }
        Ok(list)
    }
}

impl RoomState {
    /// Answers from memory.
    pub(super) fn readers(&self, by: u64, asked: &Readers) -> Result<Reply> {
        let small_room = self.actors.inner.config.room.small_room;
        let known =
            self.room.as_ref().ok_or_else(|| Error::internal("a room answers before it is loaded"))?;
        known.readers(by, asked, small_room).map(|list| room(room_reply::Reply::Readers(list)))
    }
}
