//! When a node has more to do than it can: which sends it refuses, and what it says of that (decision 14).
//!
//! A send that waits for longer than its client does is work for nobody, and the client's repeat is more of it. So what
//! waits is measured where it waits, and refused early, while that costs little: at the edge, as soon as the node's
//! threads or its writers are behind; and wherever a send has waited for `overload.wait_max`, before it costs the
//! database anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::chance;
use crate::config::OverloadConfig;
use crate::domain::Error;

/// How often the node looks how far its threads are behind. A look is one task's turn.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a send was refused. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The node's threads are behind: it was refused unseen.
    Threads,
    /// The writers are behind: it was refused before it went to its room.
    Writers,
    /// It waited too long for its room.
    Room,
    /// It waited too long for a writer.
    Group,
    /// Too many wait to learn who may write to whom.
    Relations,
    /// Too many wait for their direct conversation to be found or made.
    Directs,
    /// Too many rooms wait to be loaded.
    Loads,
    /// Too many wait for their token to be looked up.
    SignIns,
}

impl Shed {
    const ALL: [Self; 8] = [
        Self::Threads,
        Self::Writers,
        Self::Room,
        Self::Group,
        Self::Relations,
        Self::Directs,
        Self::Loads,
        Self::SignIns,
    ];

    /// The name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threads => "sheds_threads",
            Self::Writers => "sheds_writers",
            Self::Room => "sheds_room",
            Self::Group => "sheds_group",
            Self::Relations => "sheds_relations",
            Self::Directs => "sheds_directs",
            Self::Loads => "sheds_loads",
            Self::SignIns => "sheds_sign_ins",
        }
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct Overload {
    wait_max: Duration,
    /// How many may wait in one place for their first message's sake.
    pub(super) starts_waiting: usize,
    began: Instant,
    /// How long a task waited for its turn, the two last times that it was looked at, microseconds.
    lags_us: [AtomicU64; 2],
    /// Since when the oldest group waits for a writer, microseconds since `began`, plus 1; 0: none does.
    oldest_group: AtomicU64,
    sheds: [AtomicU64; Shed::ALL.len()],
}

impl Overload {
    /// Nothing waits yet.
    pub fn new(config: &OverloadConfig) -> Self {
        Self {
            wait_max: config.wait_max,
            starts_waiting: config.starts_waiting,
            began: Instant::now(),
            lags_us: Default::default(),
            oldest_group: AtomicU64::new(0),
            sheds: Default::default(),
        }
    }

    /// Looks from now on, on the current runtime, how long tasks wait for their turn; as long as it is used elsewhere.
    pub(super) fn watch(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let due = Instant::now() + LOOK_EVERY;
                tokio::time::sleep_until(due).await;
                let Some(this) = this.upgrade() else { return };
                this.note_lag(due.elapsed());
            }
        });
    }

    pub(super) fn note_lag(&self, lag: Duration) {
        let before = self.lags_us[1].swap(lag.as_micros() as u64, Ordering::Relaxed);
        self.lags_us[0].store(before, Ordering::Relaxed);
    }

    /// How long tasks wait for their turn: the less of the two last looks, as one alone may have been a hiccup.
    pub fn lag(&self) -> Duration {
        let [before, last] = self.lags_us.each_ref().map(|lag| lag.load(Ordering::Relaxed));
        Duration::from_micros(before.min(last))
    }

    /// Whether a send that comes now is refused unseen. While the node's threads or writers are behind by a quarter of
    /// `overload.wait_max`, some are; by half of it, all: what waits then is enough to keep it busy.
    pub fn admit(&self) -> Result<(), Error> {
        if self.is_refused(self.lag()) {
            return Err(self.shed(Shed::Threads));
        }
        self.admit_to_writers()
    }

    /// The same, of the writers alone: for a send that comes from another node's edge.
    pub fn admit_to_writers(&self) -> Result<(), Error> {
        let oldest = self.oldest_group.load(Ordering::Relaxed);
        if oldest == 0 {
            return Ok(());
        }
        let since = self.began + Duration::from_micros(oldest - 1);
        if self.is_refused(since.elapsed()) {
            return Err(self.shed(Shed::Writers));
        }
        Ok(())
    }

    /// The more the longer others wait: all or nothing would let the queue run empty and full by turns.
    fn is_refused(&self, wait: Duration) -> bool {
        let begins = self.wait_max / 4;
        if wait <= begins {
            return false;
        }
        let share = (wait - begins).as_micros() * 1000 / begins.as_micros().max(1);
        u128::from(chance::bits() % 1000) < share
    }

    /// Whether whoever has waited since then has waited enough.
    pub fn is_late(&self, since: Instant) -> bool {
        since.elapsed() >= self.wait_max
    }

    /// Whether nobody else need begin to wait where somebody waits since then.
    pub fn is_behind(&self, since: Instant) -> bool {
        since.elapsed() >= self.wait_max / 2
    }

    /// Counts a refusal, and says what the client is told. Certainly nothing was stored.
    pub fn shed(&self, why: Shed) -> Error {
        self.count(why);
        // Clients that were refused together must not come back together.
        let wait_ms = (self.wait_max.as_millis() as u64).max(1);
        Error {
            retry_after_ms: wait_ms / 2 + chance::bits() % wait_ms,
            ..Error::unavailable(
                "the server has too much to do; try again later, a send with the same client_id",
            )
        }
    }

    /// Counts a refusal whose error is made elsewhere.
    pub(super) fn count(&self, why: Shed) {
        self.sheds[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A group waits for a writer from now on: the oldest, if none did.
    pub(super) fn group_waits(&self) {
        if self.oldest_group.load(Ordering::Relaxed) == 0 {
            self.oldest_waits_since(Some(Instant::now()));
        }
    }

    /// Since when the oldest group waits that is left.
    pub(super) fn oldest_waits_since(&self, since: Option<Instant>) {
        let oldest =
            since.map_or(0, |since| since.saturating_duration_since(self.began).as_micros() as u64 + 1);
        self.oldest_group.store(oldest, Ordering::Relaxed);
    }

    /// How many were refused, by reason, and how far the threads are behind.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let sheds = Shed::ALL.map(|why| (why.as_str(), self.sheds[why as usize].load(Ordering::Relaxed)));
        sheds.into_iter().chain([("threads_behind_us", self.lag().as_micros() as u64)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(overload: &Overload) -> usize {
        (0..1000).filter(|_| overload.admit().is_err()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_the_threads_are_behind_the_more_is_refused() {
        let overload =
            Overload::new(&OverloadConfig { wait_max: Duration::from_secs(1), ..Default::default() });
        overload.note_lag(Duration::from_secs(9));
        assert_eq!(refused(&overload), 0, "once is a hiccup");
        let at = |ms| {
            (0..2).for_each(|_| overload.note_lag(Duration::from_millis(ms)));
            refused(&overload)
        };
        assert_eq!([at(0), at(250)], [0, 0]);
        assert!((300..700).contains(&at(375)), "half of them between a quarter and a half of the time");
        assert_eq!([at(500), at(5000)], [1000, 1000]);
        let counts = overload.counts();
        assert!(counts.contains(&("threads_behind_us", 5_000_000)) && counts[0].1 >= 2300, "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_wait_for_a_writer_keep_others_out_until_they_have_left() {
        let overload =
            Overload::new(&OverloadConfig { wait_max: Duration::from_secs(1), ..Default::default() });
        overload.group_waits();
        assert_eq!(refused(&overload), 0);
        tokio::time::sleep(Duration::from_millis(600)).await;
        overload.group_waits();
        assert_eq!(refused(&overload), 1000, "the first one waits still");
        overload.oldest_waits_since(Some(Instant::now()));
        assert_eq!(refused(&overload), 0);
        overload.oldest_waits_since(None);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(refused(&overload), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_refused_together_are_told_to_come_back_apart() {
        let overload =
            Overload::new(&OverloadConfig { wait_max: Duration::from_secs(1), ..Default::default() });
        let pauses: std::collections::BTreeSet<u64> =
            (0..100).map(|_| overload.shed(Shed::Room).retry_after_ms).collect();
        assert!(pauses.len() > 50 && pauses.iter().all(|ms| (500..1500).contains(ms)), "{pauses:?}");
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for (at, why) in Shed::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at);
        }
    }
}
