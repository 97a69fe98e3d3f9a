//! How long things took to work again: sends from each node to each room, and live delivery.

use std::time::Duration;

use super::{LATE, Ledger, Recent, micros};

/// A send that late behind the last one that failed, and answered at once, does not say since when sends work.
const IN_TIME: Duration = Duration::from_millis(750);
/// One that had to wait so long does.
const WAITED: Duration = Duration::from_millis(200);

/// Until when, after a moment, a room could not be sent to from a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) since_us: u64,
    /// Whether the answer to a send of before counts.
    pub(super) any_send: bool,
    /// Until when a send is known to have had no `sent`.
    pub(super) failed_us: u64,
    /// When the first one with an answer was posted, and when the answer came.
    pub(super) answered: Option<(u64, u64)>,
}

impl Watch {
    /// How long it took. `None`: nobody sent in time to tell.
    pub(super) fn took_us(&self) -> Option<u64> {
        let (posted, acked) = self.answered?;
        let in_time = posted.saturating_sub(self.failed_us) <= micros(IN_TIME);
        let had_to_wait = acked.saturating_sub(posted) >= micros(WAITED);
        (in_time || had_to_wait).then(|| acked.saturating_sub(self.since_us))
    }
}

impl Ledger {
    /// From `since_us` on, times the first answer to a send to each of these rooms from each of these nodes; `any_send`:
    /// also to one that was posted before.
    pub fn watch(&self, since_us: u64, any_send: bool, pairs: impl IntoIterator<Item = (usize, usize)>) {
        let watch = Watch { since_us, any_send, failed_us: since_us, answered: None };
        self.state().watches = pairs.into_iter().map(|pair| (pair, watch)).collect();
    }

    /// The pairs under watch that have had no answer.
    pub fn unanswered_pairs(&self) -> Vec<(usize, usize)> {
        let state = self.state();
        let waiting = state.watches.iter().filter(|(_, watch)| watch.answered.is_none());
        let mut pairs: Vec<(usize, usize)> = waiting.map(|(pair, _)| *pair).collect();
        pairs.sort_unstable();
        pairs
    }

    /// Pairs under watch of which nothing can be said.
    pub fn unmeasured(&self) -> usize {
        self.state().watches.values().filter(|watch| watch.took_us().is_none()).count()
    }

    /// The times found, in milliseconds, ascending.
    pub fn watched_ms(&self) -> Vec<f64> {
        let state = self.state();
        let mut found: Vec<f64> =
            state.watches.values().filter_map(Watch::took_us).map(|us| us as f64 / 1000.0).collect();
        found.sort_by(f64::total_cmp);
        found
    }

    /// Whether every room has answered a send that was posted after `since_us`.
    pub fn all_rooms_answer_since(&self, since_us: u64) -> bool {
        self.state().rooms.iter().all(|room| room.answered_post_us >= since_us)
    }

    /// Whether every device that is signed in has had a push, from each of its rooms, of a message posted after `since_us`.
    pub fn all_get_pushes_since(&self, since_us: u64) -> bool {
        let state = self.state();
        state.rooms.iter().enumerate().all(|(at, room)| {
            room.devices.iter().map(|device| &state.devices[*device]).all(|device| {
                device.connection.is_none()
                    || device.pushed_post_us.get(&at).is_some_and(|posted| *posted >= since_us)
            })
        })
    }

    /// When the last message was acknowledged that a live connection missed or got late; now, if one waits too long.
    pub fn trouble_us(&self) -> u64 {
        let now = self.now_us();
        let state = self.state();
        let waits = |recent: &Recent| {
            !recent.waiting.is_empty() && now.saturating_sub(recent.acked_us) > micros(LATE)
        };
        if state.rooms.iter().any(|room| room.recent.iter().any(waits)) { now } else { state.trouble_us }
    }

    /// Which devices wait too long for a push, at most five of them: what to say when live delivery does not recover.
    pub fn who_waits(&self) -> String {
        let now = self.now_us();
        let state = self.state();
        let mut words = Vec::new();
        for room in &state.rooms {
            for recent in &room.recent {
                let late = now.saturating_sub(recent.acked_us);
                let shown = if late > micros(LATE) { 5_usize.saturating_sub(words.len()) } else { 0 };
                for device in recent.waiting.iter().take(shown) {
                    let node = state.devices[*device].connection.as_ref().map_or(0, |c| c.node + 1);
                    words.push(format!(
                        "device {device} at n{node} has not had {} of room {} for {} ms",
                        recent.seq,
                        room.id,
                        late / 1000
                    ));
                }
            }
        }
        words.join("; ")
    }
}
