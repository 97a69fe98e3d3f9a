//! Times of messages, and what processes cost by `/proc`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// Longest time told apart, in microseconds.
const TIME_MAX_US: u64 = 60_000_000;
/// Significant digits of a time.
const DIGITS: u8 = 3;
/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, which is 100 on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Times and counts of one run. Only what happens while measuring is counted.
#[derive(Debug)]
pub(super) struct Recorder {
    epoch: Instant,
    measuring: AtomicBool,
    acks: Mutex<Histogram<u64>>,
    deliveries: Mutex<Histogram<u64>>,
    errors: AtomicU64,
    skipped: AtomicU64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            measuring: AtomicBool::new(false),
            acks: Mutex::new(histogram()),
            deliveries: Mutex::new(histogram()),
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

    /// A message due at `due_us` has been answered with `sent`.
    pub(super) fn acked(&self, due_us: u64) {
        self.record_at(&self.acks, due_us, self.now_us());
    }

    /// [`Self::acked`] by a clock that was read once for all that came together.
    pub(super) fn acked_at(&self, due_us: u64, now_us: u64) {
        self.record_at(&self.acks, due_us, now_us);
    }

    /// A message due at `due_us` has been delivered to one receiver, by such a clock.
    pub(super) fn delivered_at(&self, due_us: u64, now_us: u64) {
        self.record_at(&self.deliveries, due_us, now_us);
    }

    fn record_at(&self, histogram: &Mutex<Histogram<u64>>, due_us: u64, now_us: u64) {
        if self.is_measuring() {
            histogram.lock().saturating_record(now_us.saturating_sub(due_us).max(1));
        }
    }

    /// Whether what happens now is counted.
    pub(super) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
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
        Times::of(&self.acks.lock())
    }

    pub(super) fn delivery_times(&self) -> Times {
        Times::of(&self.deliveries.lock())
    }
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
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

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_MAX_US, DIGITS).expect("the bounds and digits are valid constants")
}

/// CPU time that a process has used, all threads, by user and kernel. `None`: there is no such process.
pub(super) fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks_in(&stat)?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// utime and stime: fields 14 and 15 of proc_pid_stat(5). The second field is a name in parentheses that may hold
/// anything, so that fields are counted from behind it.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Resident memory of a process, in bytes.
pub(super) fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
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
    fn the_kernels_files_are_read() {
        assert_eq!(ticks_in("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20"), Some(300));
        let own = std::process::id();
        assert!(cpu_of(own).is_some());
        assert!(memory_of(own).is_some_and(|bytes| bytes > 100_000));
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
}
