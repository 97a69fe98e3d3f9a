//! What is said of each message, by acknowledgements, pushes, syncs and logs, and whether it agrees.

use super::log::{Row, author_of};
use super::{Author, Broken, Claim, Device, RECENT_MAX, Recent, State, VIOLATIONS_KEPT, Violation};

impl State {
    pub(super) fn broken(&mut self, what: Broken, text: String) {
        *self.counts.broken.entry(what).or_default() += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(Violation { round: self.round, what, text });
        }
    }

    /// A send has no `sent` as yet.
    pub(super) fn failed(&mut self, device: usize, number: u32, now: u64) {
        let Device { connection, sendings, .. } = &self.devices[device];
        let (Some(connection), Some(sending)) = (connection, sendings.get(number as usize)) else { return };
        if let Some(watch) = self.watches.get_mut(&(sending.room as usize, connection.node)) {
            watch.failed_us = now;
        }
    }

    /// When the message at this seq was first posted; 0: not known.
    pub(super) fn posted_us_of(&self, room: usize, seq: u64) -> u64 {
        match self.claim_at(room, seq).map(|claim| claim.author) {
            Some(Author::Device { device, number }) => self
                .devices
                .get(device as usize)
                .and_then(|device| device.sendings.get(number as usize))
                .map_or(0, |sending| sending.first_posted_us),
            _ => 0,
        }
    }

    pub(super) fn claim_at(&self, room: usize, seq: u64) -> Option<Claim> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.rooms[room].claims.get(at).copied().flatten()
    }

    /// Somebody says who wrote a seq. Gives whether this is its first acknowledgement.
    pub(super) fn claim(&mut self, room: usize, seq: u64, author: Author, acked: bool, how: &str) -> bool {
        let id = self.rooms[room].id;
        let at = usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX);
        let (verified, before) = (self.rooms[room].verified, self.claim_at(room, seq));
        match before {
            Some(claim) if claim.author != author => {
                let text = format!("room {id}: seq {seq} is by {:?}, and {how} by {author:?}", claim.author);
                self.broken(if claim.acked || acked { Broken::Lost } else { Broken::Gap }, text);
                return false;
            }
            None if seq <= verified => {
                let text = format!("room {id}: seq {seq} was {how} and is not in the log");
                self.broken(Broken::Lost, text);
            }
            _ => {}
        }
        if let Author::Device { device, number } = author {
            let known = self
                .devices
                .get_mut(device as usize)
                .and_then(|device| device.sendings.get_mut(number as usize));
            let Some(sending) = known else {
                self.broken(Broken::Gap, format!("room {id}: seq {seq} is by {author:?}, who never sent it"));
                return false;
            };
            let (first_room, first_seq) = (sending.room as usize, sending.seq);
            if sending.seq == 0 {
                sending.seq = seq;
            }
            if first_room != room || (first_seq != 0 && first_seq != seq) {
                let text =
                    format!("room {id}: {author:?} is at seq {first_seq}, and {how} at seq {seq} as well");
                self.broken(Broken::Doubled, text);
            }
        }
        let claims = &mut self.rooms[room].claims;
        if claims.len() <= at {
            claims.resize(at + 1, None);
        }
        let was_acked = before.is_some_and(|claim| claim.acked);
        claims[at] = Some(Claim { author, acked: acked || was_acked });
        acked && !was_acked
    }

    pub(super) fn take_row(&mut self, room: usize, row: &Row, how: &str) {
        let id = self.rooms[room].id;
        let Some(author) = author_of(row) else {
            return self.broken(Broken::Gap, format!("room {id}: nobody sent {row:?}, which was {how}"));
        };
        if let Author::Device { device, .. } = author
            && self.devices.get(device as usize).is_none_or(|device| device.user_id != row.sender_id)
        {
            self.broken(Broken::Gap, format!("room {id}: {row:?} was {how} under a wrong sender"));
        }
        self.claim(room, row.seq, author, false, how);
    }

    pub(super) fn take(&mut self, device: usize, room: usize, row: &Row, how: &str) {
        self.take_row(room, row, how);
        if !self.rooms[room].devices.contains(&device) {
            let text = format!("room {}: device {device} was given what is not its own", self.rooms[room].id);
            self.broken(Broken::Protocol, text);
        }
    }

    /// Whether the device did not have it.
    pub(super) fn mark_seen(&mut self, device: usize, room: usize, seq: u64) -> bool {
        let seen = self.devices[device].seen.entry(room).or_default();
        let new = !seen.contains(seq);
        seen.insert(seq, seq);
        new
    }

    /// Something came on a connection: seqs rise.
    pub(super) fn comes(&mut self, device: usize, room: usize, seq: u64, how: &str) {
        let id = self.rooms[room].id;
        let Some(connection) = &mut self.devices[device].connection else { return };
        let node = connection.node + 1;
        let last = connection.last.entry(room).or_default();
        if *last >= seq {
            let what = if *last == seq { Broken::Doubled } else { Broken::OutOfOrder };
            let text = format!(
                "room {id}: device {device} at n{node} got seq {seq} ({how}) behind seq {last} on one connection"
            );
            self.broken(what, text);
        }
        if let Some(connection) = &mut self.devices[device].connection {
            let last = connection.last.entry(room).or_default();
            *last = (*last).max(seq);
        }
    }

    /// A message is acknowledged: which connections should have it live, or get it?
    pub(super) fn expect_pushes(&mut self, sender: usize, room: usize, seq: u64, posted_us: u64, now: u64) {
        let mut waiting = Vec::new();
        for device in self.rooms[room].devices.iter().filter(|device| **device != sender) {
            // One that signed in after the message was posted may have been too late.
            let connection = self.devices[*device].connection.as_ref().filter(|c| c.since_us < posted_us);
            let Some(connection) = connection else { continue };
            let pushed = connection.pushed.get(&room);
            if pushed.is_some_and(|pushed| pushed.contains(seq)) {
                continue;
            }
            if connection.last.get(&room).is_some_and(|last| *last > seq) {
                self.counts.holes += 1;
                self.trouble_us = self.trouble_us.max(now);
                continue;
            }
            waiting.push(*device);
        }
        let recent = &mut self.rooms[room].recent;
        if !waiting.is_empty() && recent.len() < RECENT_MAX {
            recent.push_back(Recent { seq, acked_us: now, waiting });
        }
    }
}
