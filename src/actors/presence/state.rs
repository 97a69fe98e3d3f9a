//! One shard of the directory: which sessions its users have, and on which nodes. Soft state: what a node lost, the
//! others announce again. No I/O and no clock.

use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::protocol::cluster::{Register, SessionRecord};

/// A session that is said to begin and is older than another by more than this is told late, or by a clock that is behind, in
/// milliseconds.
const LATE_MS: u64 = 100;
/// Of sessions that began by more than this apart it is certain which is the later one, in milliseconds.
const APART_MS: u64 = 10_000;

/// The records of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    users: HashMap<u64, Vec<SessionRecord>, RandomState>,
    sessions: usize,
    /// Users whose first session has come or whose last one has ended since this was taken.
    flips: BTreeSet<u64>,
}

impl Shard {
    /// Takes up sessions, new or known, and drops those that an announcement leaves out. Returns those that another session of
    /// their device replaces: they are to be ended.
    pub fn register(&mut self, register: Register) -> Vec<SessionRecord> {
        let begins = register.up_to == 0;
        let mut replaced = Vec::new();
        if register.up_to > 0 {
            self.drop_unlisted(&register);
        }
        for record in register.sessions {
            let (device_id, session_id, sole) = (record.device_id, record.session_id, record.sole);
            let of_user = self.users.entry(record.user_id).or_default();
            match of_user.iter_mut().find(|known| known.session_id == record.session_id) {
                Some(known) => *known = record,
                None => {
                    if of_user.is_empty() {
                        self.flips.insert(record.user_id);
                    }
                    of_user.push(record);
                    self.sessions += 1;
                }
            }
            if sole && of_user.len() > 1 {
                replaced.extend(replaced_in(of_user, device_id, begins.then_some(session_id)));
            }
        }
        replaced
    }

    /// Drops a session; whether it was known.
    pub fn unregister(&mut self, user_id: u64, session_id: u64) -> bool {
        self.retain_of(user_id, |record| record.session_id != session_id) > 0
    }

    /// Keeps only the sessions of nodes that `is_alive` (by name and incarnation).
    pub fn retain_nodes(&mut self, is_alive: impl Fn(&str, u64) -> bool) {
        let users: Vec<u64> = self.users.keys().copied().collect();
        for user_id in users {
            self.retain_of(user_id, |record| is_alive(&record.node, record.incarnation));
        }
    }

    /// Users who may have come or gone since the last call.
    pub fn take_flips(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.flips)
    }

    /// Whether there are any.
    pub fn has_flips(&self) -> bool {
        !self.flips.is_empty()
    }

    /// A user's live sessions.
    pub fn sessions_of(&self, user_id: u64) -> &[SessionRecord] {
        self.users.get(&user_id).map_or(&[], Vec::as_slice)
    }

    /// The users who are online, with their sessions, in any order.
    pub fn users(&self) -> impl Iterator<Item = (u64, &[SessionRecord])> {
        self.users.iter().map(|(user_id, sessions)| (*user_id, sessions.as_slice()))
    }

    /// How many users are online, and in how many sessions.
    pub fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.sessions)
    }

    fn drop_unlisted(&mut self, register: &Register) {
        let listed: HashSet<u64> = register.sessions.iter().map(|record| record.session_id).collect();
        let has_ended = |record: &SessionRecord| {
            let in_range = record.incarnation == register.incarnation
                && (register.after < record.number && record.number <= register.up_to)
                && !listed.contains(&record.session_id);
            record.node == register.node && (record.incarnation < register.incarnation || in_range)
        };
        let ended: Vec<(u64, u64)> = self
            .users
            .values()
            .flatten()
            .filter(|record| has_ended(record))
            .map(|record| (record.user_id, record.session_id))
            .collect();
        for (user_id, session_id) in ended {
            self.unregister(user_id, session_id);
        }
    }

    fn retain_of(&mut self, user_id: u64, keep: impl Fn(&SessionRecord) -> bool) -> usize {
        let Some(records) = self.users.get_mut(&user_id) else { return 0 };
        let before = records.len();
        records.retain(keep);
        let dropped = before - records.len();
        if records.is_empty() {
            self.users.remove(&user_id);
            self.flips.insert(user_id);
        }
        self.sessions -= dropped;
        dropped
    }
}

/// What has become of a device's earlier sessions. One that begins now replaces them, unless it is told late and another one has
/// begun since; of those that are announced only one that is clearly older than another is replaced. Where nodes' clocks leave
/// it open, both stay: whoever is told that it was replaced does not come back by itself.
fn replaced_in(of_user: &[SessionRecord], device_id: u64, begins: Option<u64>) -> Vec<SessionRecord> {
    let rivals = || of_user.iter().filter(move |record| record.sole && record.device_id == device_id);
    let Some(new) = rivals().find(|record| Some(record.session_id) == begins) else {
        let newest_ms = rivals().map(|record| record.since_ms).max().unwrap_or_default();
        return rivals().filter(|record| record.since_ms + APART_MS < newest_ms).cloned().collect();
    };
    // Of sessions of one node it is certain which is the later one.
    let is_overtaken_by = |other: &SessionRecord| {
        other.node == new.node && other.incarnation == new.incarnation && other.number > new.number
    };
    let is_overtaken = rivals().any(is_overtaken_by);
    let is_replaced = |record: &&SessionRecord| {
        if record.session_id == new.session_id {
            return is_overtaken;
        }
        !is_overtaken_by(record) && record.since_ms <= new.since_ms + LATE_MS
    };
    rivals().filter(is_replaced).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn record(user_id: u64, session_id: u64, node: u8) -> SessionRecord {
        SessionRecord { user_id, session_id, node: format!("n{node}"), ..SessionRecord::default() }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(steps in prop::collection::vec((0u8..4, 1u64..6, 1u64..12, 0u8..3), 0..80)) {
            let mut shard = Shard::default();
            let mut model: BTreeSet<(u64, u64, u8)> = BTreeSet::new();
            for (step, user_id, session_id, node) in steps {
                // A session belongs to one user and one node.
                let (user_id, home) = (user_id.min(session_id), (session_id % 3) as u8);
                match step {
                    0 | 1 => {
                        let sessions = vec![record(user_id, session_id, home)];
                        shard.register(Register { sessions, ..Register::default() });
                        model.insert((user_id, session_id, home));
                    }
                    2 => {
                        shard.unregister(user_id, session_id);
                        model.remove(&(user_id, session_id, home));
                    }
                    _ => {
                        let gone = format!("n{node}");
                        shard.retain_nodes(|name, _| name != gone);
                        model.retain(|entry| entry.2 != node);
                    }
                }
                prop_assert_eq!(shard.counts().1, model.len());
            }
            for user_id in 1..6 {
                let mut held: Vec<u64> = shard.sessions_of(user_id).iter().map(|r| r.session_id).collect();
                held.sort_unstable();
                let expected: Vec<u64> = model.iter().filter(|e| e.0 == user_id).map(|e| e.1).collect();
                prop_assert_eq!(held, expected);
            }
        }
    }

    #[test]
    fn an_announcement_ends_what_it_leaves_out() {
        let numbered = |user_id, number, incarnation| SessionRecord {
            number,
            incarnation,
            ..record(user_id, number + 100 * incarnation, 1)
        };
        let mut shard = Shard::default();
        let sessions = (1..=6).map(|number| numbered(number, number, 2)).collect();
        shard.register(Register { sessions, ..Register::default() });
        let others = vec![record(7, 900, 2), numbered(8, 1, 1)];
        shard.register(Register { sessions: others, ..Register::default() });
        // The sixth began after the announcement was drawn up; the first is told in another part of it.
        let sessions = vec![numbered(3, 3, 2)];
        shard.register(Register { sessions, node: "n1".to_owned(), incarnation: 2, after: 1, up_to: 5 });
        let online = |user_id| !shard.sessions_of(user_id).is_empty();
        let online: Vec<u64> = (1..=8).filter(|user_id| online(*user_id)).collect();
        assert_eq!(online, [1, 3, 6, 7], "and what is left of an earlier incarnation is gone");
        assert_eq!(shard.counts(), (4, 4));
    }

    #[test]
    fn a_devices_later_session_replaces_the_earlier_one() {
        let of = |session_id, node, device_id, number, since_ms| SessionRecord {
            device_id,
            number,
            since_ms,
            sole: true,
            ..record(1, session_id, node)
        };
        let ids = |replaced: Vec<SessionRecord>| replaced.iter().map(|r| r.session_id).collect::<Vec<_>>();
        let begins = |shard: &mut Shard, record| {
            ids(shard.register(Register { sessions: vec![record], ..Register::default() }))
        };
        let mut shard = Shard::default();
        let none: Vec<u64> = Vec::new();
        assert_eq!(begins(&mut shard, of(10, 1, 7, 1, 500)), none);
        assert_eq!(begins(&mut shard, of(11, 1, 8, 2, 500)), none, "another device");
        // Another node, whose clock is behind.
        assert_eq!(begins(&mut shard, of(12, 2, 7, 1, 400)), [10]);
        let shared = SessionRecord { sole: false, ..of(13, 2, 7, 2, 900) };
        assert_eq!(begins(&mut shard, shared), none);
        shard.unregister(1, 10);
        // Of two on one node the later one, whichever is told first.
        assert_eq!(begins(&mut shard, of(15, 2, 7, 9, 600)), [12]);
        assert_eq!(begins(&mut shard, of(14, 2, 7, 8, 590)), [12, 14]);
        // What another node has to say of a session that has long been given up replaces nobody.
        let mut shard = Shard::default();
        assert_eq!(begins(&mut shard, of(17, 1, 7, 3, 5000)), none);
        assert_eq!(begins(&mut shard, of(18, 2, 7, 3, 3000)), none);
        // Of those that are announced to a new shard one that is clearly older.
        let mut shard = Shard::default();
        let announced = |node: &str, sessions| {
            let node = node.to_owned();
            Register { sessions, node, up_to: 99, ..Register::default() }
        };
        assert_eq!(ids(shard.register(announced("n2", vec![of(15, 2, 7, 9, 60_000)]))), none);
        assert_eq!(ids(shard.register(announced("n1", vec![of(10, 1, 7, 1, 500)]))), [10]);
        assert_eq!(ids(shard.register(announced("n1", vec![of(16, 1, 7, 2, 65_000)]))), none);
        assert_eq!(ids(shard.register(announced("n1", vec![of(19, 1, 7, 4, 90_000)]))), [15]);
    }
}
