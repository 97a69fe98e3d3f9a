//! The logs as the database has them, compared with all that was told.

use super::{Author, Broken, Ledger};
use crate::protocol::{MessageKind, v1};

/// A row of a log, as the database has it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place.
    pub seq: u64,
    /// Whose it is.
    pub sender_id: u64,
    /// Its name.
    pub client_id: String,
    /// Whether the server wrote it.
    pub is_system: bool,
}

impl From<&v1::Message> for Row {
    fn from(message: &v1::Message) -> Self {
        Self {
            seq: message.seq,
            sender_id: message.sender_id,
            client_id: message.client_id.clone(),
            is_system: message.kind == MessageKind::System as i32,
        }
    }
}

/// Who wrote a row; `None`: nobody that takes part.
pub(super) fn author_of(row: &Row) -> Option<Author> {
    if row.is_system {
        return Some(Author::System);
    }
    let (device, number) = row.client_id.strip_prefix('d')?.split_once('-')?;
    Some(Author::Device { device: device.parse().ok()?, number: number.parse().ok()? })
}

impl Ledger {
    /// Where each log has been compared up to.
    pub fn verified(&self) -> Vec<(u64, u64)> {
        self.state().rooms.iter().map(|room| (room.id, room.verified)).collect()
    }

    /// Compares further rows of a log, in the order of their seqs, with all that was told so far.
    pub fn verify(&self, room_id: u64, rows: &[Row]) {
        let mut state = self.state();
        let Some(room) = state.by_id.get(&room_id).copied() else { return };
        for row in rows {
            let expected = state.rooms[room].verified + 1;
            if row.seq != expected {
                let text = format!("room {room_id}: the log has seq {} where {expected} belongs", row.seq);
                state.broken(Broken::Gap, text);
            }
            state.take_row(room, row, "in the log");
            state.rooms[room].verified = row.seq;
        }
    }

    /// The highest seq of a room that somebody was told of. To be taken before its log is read.
    pub fn told_up_to(&self, room_id: u64) -> u64 {
        let state = self.state();
        state.by_id.get(&room_id).map_or(0, |room| state.rooms[*room].claims.len() as u64)
    }

    /// A log has been read to its end, and it was told that there are messages up to `told`.
    pub fn log_reaches(&self, room_id: u64, told: u64) {
        let mut state = self.state();
        let Some(room) = state.by_id.get(&room_id).copied() else { return };
        let verified = state.rooms[room].verified;
        for seq in verified + 1..=told {
            if let Some(claim) = state.claim_at(room, seq) {
                let how = if claim.acked { "acknowledged" } else { "delivered" };
                let text = format!("room {room_id}: seq {seq} was {how}, and the log ends at {verified}");
                state.broken(Broken::Lost, text);
            }
        }
    }

    /// Reads a whole log anew: whether a row differs from what was there before.
    pub fn verify_again(&self, room_id: u64, rows: &[Row]) {
        let mut state = self.state();
        let Some(room) = state.by_id.get(&room_id).copied() else { return };
        let verified = state.rooms[room].verified;
        if (rows.len() as u64) < verified {
            let text = format!("room {room_id}: the log had {verified} rows and now has {}", rows.len());
            state.broken(Broken::Lost, text);
        }
        for (at, row) in rows.iter().enumerate() {
            if row.seq != at as u64 + 1 {
                let text =
                    format!("room {room_id}: the final log has seq {} where {} belongs", row.seq, at + 1);
                return state.broken(Broken::Gap, text);
            }
            state.take_row(room, row, "in the final log");
        }
    }

    /// Devices of members that lack something of the logs as compared so far: (device, room, seq).
    pub fn lacking(&self) -> Vec<(usize, usize, u64)> {
        let state = self.state();
        let mut lacking = Vec::new();
        for (at, room) in state.rooms.iter().enumerate() {
            for device in &room.devices {
                let seen = state.devices[*device].seen.get(&at);
                let missing = seen.map_or(1, |seen| seen.first_missing_after(0));
                if missing <= room.verified {
                    lacking.push((*device, at, missing));
                }
            }
        }
        lacking
    }
}
