//! What a presence shard knows beside its sessions: which nodes watch which users, who has gone only a moment ago, and
//! what the watching nodes are to be told. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::cluster::PresenceChanged;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Watchers {
    /// By node: its incarnation and whom it watches.
    nodes: BTreeMap<String, (u64, BTreeSet<u64>)>,
    /// By user: how many nodes watch.
    watched: HashMap<u64, usize>,
    /// Users whose last session has ended, and until when they count as connected all the same.
    leaving: HashMap<u64, Instant>,
    /// The same in the order of time. An entry that `leaving` does not confirm is void.
    leaving_order: VecDeque<(Instant, u64)>,
    /// Who came or went for good, and who said something, since the nodes were told.
    came_or_went: BTreeSet<u64>,
    said: BTreeSet<u64>,
}

impl Watchers {
    /// A node watches these users: some more, or, with `all`, these and no others. What an earlier incarnation of it
    /// watched is dropped; what an earlier one says is ignored.
    pub fn watch(&mut self, node: &str, incarnation: u64, user_ids: Vec<u64>, all: bool) {
        let known = self.nodes.get(node).map(|(known, _)| *known);
        if known.is_some_and(|known| known > incarnation) {
            return;
        }
        if all || known != Some(incarnation) {
            self.drop_node(node);
        }
        let (_, of_node) =
            self.nodes.entry(node.to_owned()).or_insert_with(|| (incarnation, BTreeSet::new()));
        for user_id in user_ids {
            if of_node.insert(user_id) {
                *self.watched.entry(user_id).or_default() += 1;
            }
        }
        if of_node.is_empty() {
            self.nodes.remove(node);
        }
    }

    /// Forgets the nodes that are not alive, by name and incarnation.
    pub fn retain_nodes(&mut self, is_alive: impl Fn(&str, u64) -> bool) {
        let gone = |(node, (incarnation, _)): (&String, &(u64, BTreeSet<u64>))| {
            (!is_alive(node, *incarnation)).then(|| node.clone())
        };
        let gone: Vec<String> = self.nodes.iter().filter_map(gone).collect();
        for node in gone {
            self.drop_node(&node);
        }
    }

    fn drop_node(&mut self, node: &str) {
        let Some((_, users)) = self.nodes.remove(node) else { return };
        for user_id in users {
            if let Some(count) = self.watched.get_mut(&user_id) {
                *count -= 1;
                if *count == 0 {
                    self.watched.remove(&user_id);
                }
            }
        }
    }

    /// A user has sessions again, or its first. One who was gone for a moment only has not been away at all.
    pub fn came(&mut self, user_id: u64) {
        if self.leaving.remove(&user_id).is_none() && self.watched.contains_key(&user_id) {
            self.came_or_went.insert(user_id);
        }
    }

    /// A user's last session has ended. Whether it was there until now.
    pub fn left(&mut self, user_id: u64, until: Instant) -> bool {
        let is_new = self.leaving.insert(user_id, until).is_none();
        if is_new {
            self.leaving_order.push_back((until, user_id));
        }
        is_new
    }

    /// What a user says of being there has changed.
    pub fn said(&mut self, user_id: u64) {
        if self.watched.contains_key(&user_id) {
            self.said.insert(user_id);
        }
    }

    /// Whether a user without sessions counts as connected.
    pub fn is_leaving(&self, user_id: u64) -> bool {
        self.leaving.contains_key(&user_id)
    }

    /// Ends the grace of those whose time has come.
    pub fn expire(&mut self, now: Instant) {
        while let Some((until, user_id)) = self.leaving_order.front().copied() {
            if until > now {
                break;
            }
            self.leaving_order.pop_front();
            match self.leaving.get(&user_id).copied() {
                Some(due) if due <= now => {
                    self.leaving.remove(&user_id);
                    if self.watched.contains_key(&user_id) {
                        self.came_or_went.insert(user_id);
                    }
                }
                // It came and left again: its time is later.
                Some(due) => self.leaving_order.push_back((due, user_id)),
                None => {}
            }
        }
    }

    /// The users of whom [`Watchers::take_changes`] will ask whether they are connected, in order.
    pub fn changing(&self) -> impl Iterator<Item = u64> + '_ {
        self.came_or_went.iter().copied()
    }

    /// What each watching node is to be told, once for all changes since the last call.
    pub fn take_changes(&mut self, is_connected: impl Fn(u64) -> bool) -> Vec<(String, PresenceChanged)> {
        let changed = std::mem::take(&mut self.came_or_went);
        let said = std::mem::take(&mut self.said);
        if changed.is_empty() && said.is_empty() {
            return Vec::new();
        }
        let now: Vec<(u64, bool)> =
            changed.into_iter().map(|user_id| (user_id, is_connected(user_id))).collect();
        let mut news = Vec::new();
        for (node, (_, users)) in &self.nodes {
            let mut change = PresenceChanged::default();
            for (user_id, connected) in now.iter().filter(|(user_id, _)| users.contains(user_id)) {
                let list = if *connected { &mut change.connected } else { &mut change.gone };
                list.push(*user_id);
            }
            change.said = said.iter().filter(|user_id| users.contains(user_id)).copied().collect();
            if change != PresenceChanged::default() {
                news.push((node.clone(), change));
            }
        }
        news
    }

    /// When something is to be done next, if nothing else happens: what has changed is told `gather` after it did.
    pub fn due_in(&self, now: Instant, gather: Duration) -> Option<Duration> {
        if !self.came_or_went.is_empty() || !self.said.is_empty() {
            return Some(gather);
        }
        let (until, _) = self.leaving_order.front()?;
        Some(until.saturating_duration_since(now).max(gather))
    }

    /// How many users are watched.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Whether nobody is watched.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn a_moment_away_is_told_to_nobody() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        watchers.watch("n1", 1, vec![7], false);
        watchers.came(7);
        assert_eq!(watchers.take_changes(|_| true).len(), 1);
        assert!(watchers.left(7, now + GRACE));
        watchers.expire(now + GRACE / 2);
        assert!(watchers.is_leaving(7));
        watchers.came(7);
        watchers.expire(now + GRACE * 2);
        assert_eq!(watchers.take_changes(|_| true), []);
        // A later absence has its whole grace, though the earlier one's entry is still queued.
        let later = now + GRACE;
        watchers.left(7, later + GRACE);
        watchers.expire(now + GRACE);
        assert!(watchers.is_leaving(7));
        watchers.expire(later + GRACE);
        let gone = PresenceChanged { gone: vec![7], ..PresenceChanged::default() };
        assert_eq!(watchers.take_changes(|_| false), [("n1".to_owned(), gone)]);
        assert_eq!(watchers.due_in(now, Duration::ZERO), None);
    }

    #[test]
    fn each_node_is_told_once_and_only_of_whom_it_watches() {
        let mut watchers = Watchers::default();
        watchers.watch("n1", 1, vec![1, 2], false);
        watchers.watch("n2", 1, vec![2], false);
        for user_id in [1, 2, 2, 3, 1] {
            watchers.came(user_id);
            watchers.said(user_id);
        }
        let change =
            |ids: &[u64]| PresenceChanged { connected: ids.to_vec(), gone: vec![], said: ids.to_vec() };
        let expected = [("n1".to_owned(), change(&[1, 2])), ("n2".to_owned(), change(&[2]))];
        assert_eq!(watchers.take_changes(|_| true), expected);
        assert_eq!(watchers.take_changes(|_| true), []);
    }

    #[test]
    fn what_a_node_watches_is_replaced_and_dropped_with_it() {
        let mut watchers = Watchers::default();
        watchers.watch("n1", 1, vec![1, 2], false);
        watchers.watch("n1", 1, vec![3], false);
        assert_eq!(watchers.len(), 3);
        watchers.watch("n1", 1, vec![3], true);
        assert_eq!(watchers.len(), 1);
        watchers.watch("n1", 2, vec![4], false);
        watchers.watch("n1", 1, vec![5, 6], true);
        assert_eq!(watchers.len(), 1, "an earlier incarnation has nothing to say");
        watchers.watch("n2", 9, vec![4], false);
        watchers.retain_nodes(|node, incarnation| (node, incarnation) == ("n2", 9));
        watchers.said(4);
        assert_eq!(watchers.take_changes(|_| true).len(), 1);
        watchers.watch("n2", 9, vec![], true);
        assert!(watchers.is_empty());
    }
}
