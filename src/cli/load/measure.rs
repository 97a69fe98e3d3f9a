//! Times of messages: one histogram for the run, one for the second that is passing.
//!
//! The generator shares its cores with the server, so a record must cost next to nothing: each thread writes into a shard
//! of its own, and once a second somebody takes the shards away and adds them up.

use std::mem::swap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Longest time told apart, in microseconds.
const TIME_MAX_US: u64 = 60_000_000;
/// Significant digits of a time.
const DIGITS: u8 = 3;
/// Shards of a recorder: threads that record without meeting each other. Each takes 280 kB.
const SHARDS: usize = 8;
/// Steps of a percentile curve for each halving of what lies above.
const CURVE_STEPS: u32 = 4;
/// Most points of a percentile curve.
const CURVE_POINTS_MAX: usize = 128;

/// Times and counts of one run. Only what happens while measuring is counted.
#[derive(Debug)]
pub(super) struct Recorder {
    epoch: Instant,
    measuring: AtomicBool,
    shards: [Shard; SHARDS],
    sums: Mutex<Sums>,
    errors: AtomicU64,
    skipped: AtomicU64,
}

/// On cache lines of its own, as others are written by other threads.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(Mutex<Pair>);

/// The two times that a message has.
#[derive(Debug)]
struct Pair {
    acks: Histogram<u64>,
    deliveries: Histogram<u64>,
}

#[derive(Debug)]
struct Sums {
    /// Of the run.
    all: Pair,
    /// Since the last [`Recorder::tick`].
    passing: Pair,
    /// Empty, to be put in the place of a shard.
    spare: Pair,
    refused_before: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let sums = Sums { all: Pair::new(), passing: Pair::new(), spare: Pair::new(), refused_before: 0 };
        Self {
            epoch: Instant::now(),
            measuring: AtomicBool::new(false),
            shards: std::array::from_fn(|_| Shard(Mutex::new(Pair::new()))),
            sums: Mutex::new(sums),
            errors: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Microseconds since the start.
    pub(super) fn now_us(&self) -> u64 {
        self.us_of(Instant::now())
    }

    pub(super) fn us_of(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn measure(&self, on: bool) {
        self.measuring.store(on, Ordering::Relaxed);
    }

    /// Whether what happens now is counted.
    pub(super) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    /// A message due at `due_us` has been answered with `sent`.
    pub(super) fn acked(&self, due_us: u64) {
        self.acked_at(due_us, self.now_us());
    }

    /// [`Self::acked`] by a clock that was read once for all that came together.
    pub(super) fn acked_at(&self, due_us: u64, now_us: u64) {
        self.record(due_us, now_us, |pair| &mut pair.acks);
    }

    /// A message due at `due_us` has been delivered to one receiver, by such a clock.
    pub(super) fn delivered_at(&self, due_us: u64, now_us: u64) {
        self.record(due_us, now_us, |pair| &mut pair.deliveries);
    }

    fn record(&self, due_us: u64, now_us: u64, which: impl FnOnce(&mut Pair) -> &mut Histogram<u64>) {
        if self.is_measuring() {
            let mut pair = self.shards[own_shard()].0.lock();
            which(&mut pair).saturating_record(now_us.saturating_sub(due_us).max(1));
        }
    }

    /// A message was refused.
    pub(super) fn refused(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of the open loop was not written, since too many of its writer's waited for an answer.
    pub(super) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refusals(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn skips(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn ack_times(&self) -> Times {
        Times::of(&self.gathered().all.acks)
    }

    pub(super) fn delivery_times(&self) -> Times {
        Times::of(&self.gathered().all.deliveries)
    }

    /// Which share of the answers came within which time.
    pub(super) fn ack_curve(&self) -> Curve {
        curve_of(&self.gathered().all.acks)
    }

    /// The same of deliveries.
    pub(super) fn delivery_curve(&self) -> Curve {
        curve_of(&self.gathered().all.deliveries)
    }

    /// What has come since the last call, or since the start.
    pub(super) fn tick(&self) -> Tick {
        let mut sums = self.gathered();
        let refused = self.refusals();
        let tick = Tick {
            messages: sums.passing.acks.len(),
            deliveries: sums.passing.deliveries.len(),
            refused: refused - sums.refused_before,
            send_to_ack: Brief::of(&sums.passing.acks),
            send_to_receive: Brief::of(&sums.passing.deliveries),
        };
        sums.refused_before = refused;
        sums.passing.reset();
        tick
    }

    /// The sums, with all that the shards hold taken out of them and added. A shard is locked for a swap only.
    fn gathered(&self) -> parking_lot::MutexGuard<'_, Sums> {
        let mut guard = self.sums.lock();
        let sums = &mut *guard;
        for shard in &self.shards {
            {
                let mut pair = shard.0.lock();
                if pair.is_empty() {
                    continue;
                }
                swap(&mut *pair, &mut sums.spare);
            }
            sums.all.add(&sums.spare);
            sums.passing.add(&sums.spare);
            sums.spare.reset();
        }
        guard
    }
}

/// The shard of this thread: threads take them in turn.
fn own_shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}

impl Pair {
    fn new() -> Self {
        Self { acks: histogram(), deliveries: histogram() }
    }

    fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.deliveries.is_empty()
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in [(&mut self.acks, &other.acks), (&mut self.deliveries, &other.deliveries)] {
            sum.add(more).expect("both have the same bounds");
        }
    }

    fn reset(&mut self) {
        self.acks.reset();
        self.deliveries.reset();
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_MAX_US, DIGITS).expect("the bounds and digits are valid constants")
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl Times {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.50),
            p90_us: histogram.value_at_quantile(0.90),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// Times of one kind of thing that a scenario does, beside messages and deliveries.
#[derive(Debug)]
pub(super) struct Stopwatch {
    times: Mutex<Histogram<u64>>,
}

impl Stopwatch {
    pub(super) fn new() -> Self {
        Self { times: Mutex::new(histogram()) }
    }

    /// It took so many microseconds.
    pub(super) fn took_us(&self, us: u64) {
        self.times.lock().saturating_record(us.max(1));
    }

    pub(super) fn times(&self) -> Times {
        Times::of(&self.times.lock())
    }
}

/// What came between two ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    pub(super) refused: u64,
    pub(super) send_to_ack: Brief,
    pub(super) send_to_receive: Brief,
}

/// Percentiles of one second, in microseconds; 0 where nothing came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Brief {
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
}

impl Brief {
    fn of(histogram: &Histogram<u64>) -> Self {
        let Times { p50_us, p99_us, max_us, .. } = Times::of(histogram);
        Self { p50_us, p99_us, max_us }
    }
}

/// Points (share of all from 0 to 1, microseconds within which that share came), rising; denser towards 1.
pub(super) type Curve = Vec<(f64, u64)>;

fn curve_of(histogram: &Histogram<u64>) -> Curve {
    let mut curve = Curve::new();
    for step in histogram.iter_quantiles(CURVE_STEPS).take(CURVE_POINTS_MAX) {
        let point = (step.quantile_iterated_to(), step.value_iterated_to().min(histogram.max()));
        if curve.last() != Some(&point) {
            curve.push(point);
        }
    }
    curve
}

/// How many files this process may have open.
pub(super) fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read() {
        assert!(open_files_max().is_some_and(|files| files > 10));
    }

    #[test]
    fn only_what_is_measured_counts() {
        let recorder = Recorder::new();
        recorder.acked(0);
        assert_eq!(recorder.ack_times().count, 0);
        recorder.measure(true);
        recorder.acked(0);
        assert_eq!(recorder.ack_times().count, 1);
    }

    #[test]
    fn threads_and_seconds_add_up_to_the_run() {
        let recorder = Recorder::new();
        recorder.measure(true);
        let mut seconds = Vec::new();
        for second in 1..=3 {
            std::thread::scope(|scope| {
                for _ in 0..SHARDS + 2 {
                    scope.spawn(|| {
                        (0..100 * second).for_each(|_| recorder.acked(recorder.now_us()));
                        recorder.delivered_at(0, recorder.now_us());
                    });
                }
            });
            recorder.refused();
            seconds.push(recorder.tick());
        }
        let threads = SHARDS as u64 + 2;
        let counts: Vec<u64> = seconds.iter().map(|second| second.messages).collect();
        assert_eq!(counts, [100 * threads, 200 * threads, 300 * threads]);
        assert!(seconds.iter().all(|second| second.deliveries == threads && second.refused == 1));
        assert!(seconds.iter().all(|second| second.send_to_receive.max_us > 0));
        assert_eq!(recorder.ack_times().count, 600 * threads);
        assert_eq!(recorder.delivery_times().count, 3 * threads);
        assert_eq!(recorder.tick(), Tick::default());
    }

    #[test]
    fn what_a_look_at_the_sums_takes_is_still_in_its_second() {
        let recorder = Recorder::new();
        recorder.measure(true);
        recorder.acked(0);
        assert_eq!(recorder.ack_times().count, 1);
        assert_eq!(recorder.tick().messages, 1);
    }

    #[test]
    fn a_percentile_curve_rises_from_the_least_to_the_most() {
        let mut times = histogram();
        (1..=10_000).for_each(|us| times.saturating_record(us));
        let curve = curve_of(&times);
        assert!((40..=CURVE_POINTS_MAX).contains(&curve.len()), "{}", curve.len());
        assert!(curve.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1), "{curve:?}");
        let half = curve.iter().find(|(share, _)| *share >= 0.5).expect("the curve reaches the middle");
        assert!((4_990..=5_010).contains(&half.1), "{half:?}");
        assert_eq!(curve.last().copied(), Some((1.0, times.max())));
        assert!(curve_of(&histogram()).len() <= 1);
    }
}
