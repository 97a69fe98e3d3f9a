//! Whom the sessions of this node watch, and what they were told. One table a node: shards know nodes and not sessions, so that
//! a user watched by many costs its shard one message a node.
//!
//! What is to be shown of a user differs by who looks (blocks, privacy), so that the services compose it: they take
//! [`Watches::changed`] users from here, and leave here what was told.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::{Error, Result};

/// Whom one session watches.
#[derive(Debug, Default)]
struct Watch {
    user_id: u64,
    /// By user: what was told of it, in short; 0: nothing yet.
    told: BTreeMap<u64, u64>,
    /// Has not been given its page yet: news wait, or they would be followed by an older page.
    is_new: bool,
    /// Users with news meanwhile.
    missed: BTreeSet<u64>,
}

#[derive(Default)]
struct Tables {
    sessions: BTreeMap<u64, Watch>,
    /// By user: the sessions that watch it.
    watched: BTreeMap<u64, BTreeSet<u64>>,
    /// Those of the watched users who are connected, as their shards said last.
    connected: BTreeSet<u64>,
    /// Users to be looked at anew.
    changed: BTreeSet<u64>,
    /// Users nobody here watches any more; their shards still think so.
    dropped: BTreeSet<u64>,
    /// How many pairs of session and user there are.
    pairs: usize,
}

/// See the module's header.
pub struct Watches {
    tables: Mutex<Tables>,
    wake: Notify,
    /// Most pairs of session and user.
    pairs_max: usize,
}

/// A session that watches a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// The session.
    pub session_id: u64,
    /// Whose it is.
    pub user_id: u64,
    /// What was told last.
    pub told: u64,
}

impl Watches {
    /// Nobody watches yet.
    pub fn new(pairs_max: usize) -> Self {
        Self { tables: Mutex::default(), wake: Notify::new(), pairs_max }
    }

    /// A session watches these users and no others from now on. It is told nothing before [`Watches::begin`]. Returns
    /// whom it watched before. `resource_exhausted`, and nothing has changed, where this node watches too many.
    pub fn replace(&self, session_id: u64, user_id: u64, user_ids: &BTreeSet<u64>) -> Result<BTreeSet<u64>> {
        let mut tables = self.tables.lock();
        let before: BTreeSet<u64> = tables
            .sessions
            .get(&session_id)
            .map(|watch| watch.told.keys().copied().collect())
            .unwrap_or_default();
        if tables.pairs - before.len() + user_ids.len() > self.pairs_max {
            return Err(Error::exhausted(
                "this node watches too many users already; watch fewer, or connect to another node",
                RETRY,
            ));
        }
        for gone in before.difference(user_ids) {
            tables.unwatch(session_id, *gone);
        }
        for new in user_ids.difference(&before) {
            tables.pairs += 1;
            tables.dropped.remove(new);
            tables.watched.entry(*new).or_default().insert(session_id);
        }
        if user_ids.is_empty() {
            tables.sessions.remove(&session_id);
            return Ok(before);
        }
        let watch = tables.sessions.entry(session_id).or_default();
        watch.user_id = user_id;
        watch.is_new = true;
        watch.told.retain(|user_id, _| user_ids.contains(user_id));
        for user_id in user_ids {
            watch.told.entry(*user_id).or_default();
        }
        Ok(before)
    }

    /// The session has been given its page: what it says is what was told.
    pub fn begin(&self, session_id: u64, page: impl IntoIterator<Item = (u64, u64)>) {
        let mut tables = self.tables.lock();
        let Some(watch) = tables.sessions.get_mut(&session_id) else { return };
        watch.is_new = false;
        for (user_id, told) in page {
            if let Some(known) = watch.told.get_mut(&user_id) {
                *known = told;
            }
        }
        let mut missed = std::mem::take(&mut watch.missed);
        if !missed.is_empty() {
            tables.changed.append(&mut missed);
            self.wake.notify_one();
        }
    }

    /// A shard's news: who came, who went, and who said something. Users that nobody here watches are passed over.
    pub fn take_news(&self, connected: &[u64], gone: &[u64], said: &[u64]) {
        let mut tables = self.tables.lock();
        for user_id in connected {
            if tables.watched.contains_key(user_id) && tables.connected.insert(*user_id) {
                tables.changed.insert(*user_id);
            }
        }
        for user_id in gone {
            if tables.connected.remove(user_id) {
                tables.changed.insert(*user_id);
            }
        }
        for user_id in said {
            if tables.watched.contains_key(user_id) {
                tables.changed.insert(*user_id);
            }
        }
        if !tables.changed.is_empty() {
            self.wake.notify_one();
        }
    }

    /// What may be shown of these users has changed for somebody.
    pub fn look_again(&self, user_ids: &[u64]) {
        self.take_news(&[], &[], user_ids);
    }

    /// Waits until users have changed, and takes at most `max` of them.
    pub async fn changed(&self, max: usize) -> Vec<u64> {
        loop {
            {
                let mut tables = self.tables.lock();
                let some: Vec<u64> = tables.changed.iter().take(max).copied().collect();
                if !some.is_empty() {
                    for user_id in &some {
                        tables.changed.remove(user_id);
                    }
                    return some;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Whether a watched user is connected, as far as is known here.
    pub fn is_connected(&self, user_id: u64) -> bool {
        self.tables.lock().connected.contains(&user_id)
    }

    /// Who is to be told of a user, and whether that user is connected. Those without a page yet are told later.
    pub fn watchers(&self, user_id: u64) -> (Vec<Watcher>, bool) {
        let mut tables = self.tables.lock();
        let ids: Vec<u64> = tables.watched.get(&user_id).into_iter().flatten().copied().collect();
        let mut watchers = Vec::with_capacity(ids.len());
        for session_id in ids {
            let Some(watch) = tables.sessions.get_mut(&session_id) else { continue };
            if watch.is_new {
                watch.missed.insert(user_id);
            } else {
                let told = watch.told.get(&user_id).copied().unwrap_or_default();
                watchers.push(Watcher { session_id, user_id: watch.user_id, told });
            }
        }
        (watchers, tables.connected.contains(&user_id))
    }

    /// A session is being told something of a user.
    pub fn told(&self, session_id: u64, user_id: u64, told: u64) {
        let mut tables = self.tables.lock();
        if let Some(known) =
            tables.sessions.get_mut(&session_id).and_then(|watch| watch.told.get_mut(&user_id))
        {
            *known = told;
        }
    }

    /// Drops the sessions that are not live any more.
    pub fn retain_sessions(&self, is_live: impl Fn(u64) -> bool) {
        let mut tables = self.tables.lock();
        let gone: Vec<u64> = tables.sessions.keys().filter(|id| !is_live(**id)).copied().collect();
        for session_id in gone {
            let Some(watch) = tables.sessions.remove(&session_id) else { continue };
            for user_id in watch.told.keys() {
                tables.unwatch(session_id, *user_id);
            }
        }
    }

    /// All watched users, for their shards.
    pub fn watched(&self) -> BTreeSet<u64> {
        self.tables.lock().watched.keys().copied().collect()
    }

    /// Users that are not watched any more since the last call.
    pub fn take_dropped(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.tables.lock().dropped)
    }

    /// How many sessions watch, and how many users are watched.
    pub fn counts(&self) -> (usize, usize) {
        let tables = self.tables.lock();
        (tables.sessions.len(), tables.watched.len())
    }
}

/// When one who was refused may try again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

impl Tables {
    fn unwatch(&mut self, session_id: u64, user_id: u64) {
        let Some(sessions) = self.watched.get_mut(&user_id) else { return };
        if sessions.remove(&session_id) {
            self.pairs -= 1;
        }
        if sessions.is_empty() {
            self.watched.remove(&user_id);
            self.connected.remove(&user_id);
            self.changed.remove(&user_id);
            self.dropped.insert(user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[tokio::test]
    async fn news_before_the_page_are_told_after_it() {
        let watches = Watches::new(10);
        watches.replace(100, 1, &set(&[7])).expect("there is room");
        watches.take_news(&[7], &[], &[]);
        assert_eq!(watches.changed(9).await, [7]);
        assert_eq!(watches.watchers(7), (vec![], true));
        watches.begin(100, [(7, 55)]);
        assert_eq!(watches.changed(9).await, [7]);
        let watcher = Watcher { session_id: 100, user_id: 1, told: 55 };
        assert_eq!(watches.watchers(7), (vec![watcher], true));
    }

    #[test]
    fn the_table_has_a_bound_and_gives_back_what_is_dropped() {
        let watches = Watches::new(3);
        assert_eq!(watches.replace(100, 1, &set(&[7, 8])).expect("room"), set(&[]));
        let refusal = watches.replace(200, 2, &set(&[7, 9])).expect_err("four are too many");
        assert!(refusal.retry_after_ms > 0);
        assert_eq!(watches.watched(), set(&[7, 8]), "a refused call changes nothing");
        assert_eq!(watches.replace(100, 1, &set(&[8])).expect("fewer"), set(&[7, 8]));
        watches.replace(200, 2, &set(&[8, 9])).expect("room now");
        assert_eq!(watches.take_dropped(), set(&[7]));
        watches.retain_sessions(|session_id| session_id == 100);
        assert_eq!((watches.watched(), watches.take_dropped()), (set(&[8]), set(&[9])));
        watches.replace(100, 1, &set(&[])).expect("none");
        assert_eq!(watches.counts(), (0, 0));
    }
}
