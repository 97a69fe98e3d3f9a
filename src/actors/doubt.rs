//! What may have gone wrong when links are lost and made, here or between two other nodes: which pushes may not have
//! reached everybody, and since when another activation may have changed what rooms here remember. Pure: links in, what
//! to do out.
//!
//! Pushes are told at most once, so those under way are lost with their link, and so is all that is meant for a node
//! while there is no link to it. Rooms push them again when the link is found lost (the way by another shard's owner is
//! open then) and when it is there again. Links are told apart by their numbers, so that one that is lost and made
//! between two looks is seen.

use std::time::Duration;

use super::reach::Ways;

/// Rooms push again at most this often, milliseconds; what happens meanwhile is done together.
const PUSH_EVERY_MS: u64 = 1000;
/// The same for links between others, which all nodes hear of: one that comes and goes must not keep all of them busy. Below
/// `room.repush_window`, so that nothing grows too old meanwhile.
const PUSH_FOR_OTHERS_EVERY_MS: u64 = 5000;
/// Membership is read once more this long after a change, milliseconds: by then the other activation has ended.
const READ_AGAIN_MS: u64 = 2000;
/// Rooms that move push again for this long after a change, milliseconds.
const DOUBT_MS: u64 = 5000;
/// Most lost links remembered, and how long, milliseconds: after that, what was missed is left to sync.
const LOST_MAX: usize = 1024;
const LOST_FOR_MS: u64 = 24 * 3600 * 1000;

/// The links as they were, and what is still to be done.
#[derive(Debug, Default)]
pub struct Doubt {
    ways: Ways,
    /// When a link was found lost.
    lost: Ways,
    push_since_ms: Option<u64>,
    /// The same because of links between others.
    push_for_others_since_ms: Option<u64>,
    pushed_at_ms: u64,
    read_again_at_ms: Option<u64>,
    in_doubt: Option<(u64, u64)>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Memberships are to be read again.
    pub members: bool,
    /// Rooms are to push again what was stored since then, Unix milliseconds.
    pub push_since_ms: Option<u64>,
    /// Rooms that move now are to push that again before they do.
    pub in_doubt_since_ms: Option<u64>,
}

impl Doubt {
    /// With these links.
    pub fn new(ways: Ways) -> Self {
        Self { ways, ..Self::default() }
    }

    /// Compares with the links there are now; `None`: the same as before. `window`: how long before a loss pushes may have
    /// been lost already.
    pub fn look(&mut self, ways: Option<Ways>, now_ms: u64, window: Duration) -> Found {
        let mut changed = false;
        if let Some(ways) = ways {
            changed = self.compare(ways, now_ms, window);
        }
        self.lost.retain(|_, lost_at_ms| now_ms.saturating_sub(*lost_at_ms) < LOST_FOR_MS);
        while self.lost.len() > LOST_MAX {
            // This node's own come first.
            self.lost.pop_last();
        }
        let mut found = Found { members: changed, ..Found::default() };
        if changed {
            self.read_again_at_ms = Some(now_ms + READ_AGAIN_MS);
        } else if self.read_again_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.read_again_at_ms = None;
            found.members = true;
        }
        self.in_doubt = self.in_doubt.filter(|(_, until_ms)| now_ms < *until_ms);
        found.in_doubt_since_ms = self.in_doubt.map(|(since, _)| since);
        let quiet_ms = now_ms.saturating_sub(self.pushed_at_ms);
        if (self.push_since_ms.is_some() && quiet_ms >= PUSH_EVERY_MS)
            || (self.push_for_others_since_ms.is_some() && quiet_ms >= PUSH_FOR_OTHERS_EVERY_MS)
        {
            self.pushed_at_ms = now_ms;
            let both = [self.push_since_ms.take(), self.push_for_others_since_ms.take()];
            found.push_since_ms = both.into_iter().flatten().min();
        }
        found
    }

    /// Takes up other links than before; whether some of this node's own are among those that changed.
    fn compare(&mut self, ways: Ways, now_ms: u64, window: Duration) -> bool {
        let reaches = |name: &String| ways.contains_key(&(String::new(), name.clone()));
        let (mut changed, mut earliest) = (false, None);
        let mut push = |way: &(String, String), at_ms: u64| {
            let at_ms = at_ms.saturating_sub(window.as_millis() as u64);
            let since =
                if is_own(way) { &mut self.push_since_ms } else { &mut self.push_for_others_since_ms };
            *since = earlier(*since, at_ms);
            earliest = earlier(earliest, at_ms);
        };
        for (way, number) in &self.ways {
            let (of, to) = way;
            // Of a node that this one does not reach any more nothing is known, and its own link's return covers all.
            if ways.get(way) != Some(number) && (is_own(way) || (reaches(of) && reaches(to))) {
                changed |= is_own(way);
                self.lost.entry(way.clone()).or_insert(now_ms);
                push(way, now_ms);
            }
        }
        for (way, number) in &ways {
            if self.ways.get(way) != Some(number) {
                changed |= is_own(way);
                // A node that never was linked has missed nothing.
                if let Some(lost_at_ms) = self.lost.remove(way) {
                    push(way, lost_at_ms);
                }
            }
        }
        self.ways = ways;
        if let Some(since) = earliest {
            let so_far = self.in_doubt.map(|(since, _)| since);
            self.in_doubt = earlier(so_far, since).map(|since| (since, now_ms + DOUBT_MS));
        }
        changed
    }
}

/// Whether it is a link of this node. Only at its ends may rooms be active twice.
fn is_own((of, _): &(String, String)) -> bool {
    of.is_empty()
}

fn earlier(so_far: Option<u64>, at_ms: u64) -> Option<u64> {
    Some(so_far.map_or(at_ms, |so_far| so_far.min(at_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn links(links: &[(&str, u64)]) -> Ways {
        links.iter().map(|(to, number)| ((String::new(), (*to).to_owned()), *number)).collect()
    }

    #[test]
    fn a_lost_link_and_its_return_are_made_good() {
        let mut doubt = Doubt::new(links(&[("a", 1), ("b", 2)]));
        assert_eq!(doubt.look(None, 50_000, WINDOW), Found::default());
        let found = doubt.look(Some(links(&[("a", 1)])), 60_000, WINDOW);
        let lost = Found { members: true, push_since_ms: Some(50_000), in_doubt_since_ms: Some(50_000) };
        assert_eq!(found, lost);
        // Long after, what was stored since the loss is pushed again, and what was under way then.
        assert_eq!(doubt.look(None, 70_000, WINDOW), Found { members: true, ..Found::default() });
        assert_eq!(doubt.look(None, 71_000, WINDOW), Found::default());
        assert_eq!(doubt.look(Some(links(&[("a", 1), ("b", 3)])), 100_000, WINDOW), lost);
    }

    #[test]
    fn a_link_made_anew_between_two_looks_is_seen() {
        let mut doubt = Doubt::new(links(&[("a", 1)]));
        assert_eq!(doubt.look(Some(links(&[("a", 2)])), 60_000, WINDOW).push_since_ms, Some(50_000));
        // The next one soon after waits for its turn.
        assert_eq!(doubt.look(Some(links(&[("a", 3)])), 60_300, WINDOW).push_since_ms, None);
        assert_eq!(doubt.look(None, 61_300, WINDOW).push_since_ms, Some(50_300));
        assert_eq!(doubt.look(None, 62_400, WINDOW).push_since_ms, None);
    }

    /// The links to `a` and `b`, and from `a` to `b` one with this number.
    fn between(number: u64) -> Ways {
        let mut ways = links(&[("a", 1), ("b", 2)]);
        ways.insert(("a".to_owned(), "b".to_owned()), number);
        ways
    }

    #[test]
    fn what_others_lose_is_pushed_again_now_and_then_and_no_membership_is_read_for_it() {
        let own = links(&[("a", 1), ("b", 2)]);
        let mut doubt = Doubt::new(own.clone());
        let found = doubt.look(Some(between(5)), 50_000, WINDOW);
        assert_eq!(found, Found::default(), "it was not lost before");
        let lost = Found { members: false, push_since_ms: Some(50_000), in_doubt_since_ms: Some(50_000) };
        assert_eq!(doubt.look(Some(own.clone()), 60_000, WINDOW), lost);
        assert_eq!(doubt.look(Some(between(6)), 90_000, WINDOW), lost);
        assert_eq!(doubt.look(Some(between(7)), 92_000, WINDOW).push_since_ms, None);
        assert_eq!(doubt.look(Some(between(8)), 94_900, WINDOW).push_since_ms, None);
        assert_eq!(doubt.look(None, 95_000, WINDOW).push_since_ms, Some(82_000), "since the first of them");
    }

    #[test]
    fn with_an_own_link_those_between_others_go_out_of_sight_and_are_not_lost() {
        let mut doubt = Doubt::new(between(5));
        assert_eq!(doubt.look(Some(links(&[("a", 1)])), 60_000, WINDOW).push_since_ms, Some(50_000));
        assert_eq!(doubt.lost.len(), 1);
        let back = links(&[("a", 1), ("b", 3)]);
        assert_eq!(doubt.look(Some(back), 90_000, WINDOW).push_since_ms, Some(50_000));
        assert_eq!(
            doubt.look(Some(between(5)), 99_000, WINDOW).push_since_ms,
            Some(89_000),
            "its own is made anew"
        );
        let mut with = links(&[("a", 1), ("b", 2), ("c", 4)]);
        with.insert(("a".to_owned(), "b".to_owned()), 5);
        assert_eq!(doubt.look(Some(with), 110_000, WINDOW).push_since_ms, None);
    }

    #[test]
    fn a_node_that_is_new_has_missed_nothing() {
        let mut doubt = Doubt::default();
        let found = doubt.look(Some(links(&[("a", 1)])), 60_000, WINDOW);
        assert_eq!(found, Found { members: true, ..Found::default() });
    }
}
