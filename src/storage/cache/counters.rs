//! What the cache counts, for the operators. All counts are since the node's start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// Times in microseconds, four steps to each power of two: what is told is a quarter too long at most.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
}

/// Steps between a power of two and the next one.
const STEPS: u64 = 4;
/// The last one is for all from 7 × 2^20 µs (seven seconds) up.
const BUCKETS: usize = 88;

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// The bucket of a time: each number up to 7 has its own.
fn bucket_of(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let octave = micros.ilog2() - STEPS.ilog2();
    let step = (micros >> octave) - STEPS;
    ((u64::from(octave) + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

/// The first time beyond a bucket.
fn end_of(bucket: usize) -> u64 {
    let (octave, step) = ((bucket as u64 + 1) / STEPS, (bucket as u64 + 1) % STEPS);
    match octave.checked_sub(1) {
        None => step,
        Some(octave) => (STEPS + step) << octave,
    }
}

impl Latency {
    /// Notes one.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time, rounded up to the end of its step, within which this share of all stayed. 0: none yet.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if all > 0 && seen as f64 >= share * all as f64 {
                return end_of(bucket);
            }
        }
        0
    }
}

/// The counters of a node's cache.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Look-ups answered by this process, also those that shared another's look-up.
    pub local_hits: AtomicU64,
    /// Look-ups answered by Redis.
    pub redis_hits: AtomicU64,
    /// Look-ups that went to the database.
    pub misses: AtomicU64,
    /// Reads of the database for these; several look-ups may share one.
    pub loads: AtomicU64,
    /// Reads that are never cached.
    pub plain_reads: AtomicU64,
    /// Requests sent to Redis for look-ups, fillings and writes.
    pub redis_requests: AtomicU64,
    /// Those that failed, the next ones included.
    pub redis_errors: AtomicU64,
    /// Those that took too long.
    pub redis_timeouts: AtomicU64,
    /// Values stored in Redis.
    pub fills: AtomicU64,
    /// Values not stored: outdated meanwhile, or Redis is full.
    pub fills_refused: AtomicU64,
    /// Writes that made something be forgotten.
    pub invalidations: AtomicU64,
    /// Those of which not every node confirmed that it has forgotten.
    pub unconfirmed: AtomicU64,
    /// How often the breaker opened.
    pub opened: AtomicU64,
    /// How often it closed.
    pub closed: AtomicU64,
    /// New epochs begun by this node.
    pub epochs: AtomicU64,
    /// Users whose presence was copied to Redis.
    pub presence_copied: AtomicU64,
    /// Users whose presence was not copied: too many at once, or Redis is away.
    pub presence_dropped: AtomicU64,
    /// How long look-ups that hit took.
    pub hit_latency: Latency,
    /// How long Redis took to answer look-ups.
    pub redis_latency: Latency,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// So many more.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl CacheCounters {
    /// As the admin endpoint shows them.
    pub fn json(&self) -> Value {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (hits, misses) = (get(&self.local_hits) + get(&self.redis_hits), get(&self.misses));
        let ratio = if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 };
        json!({
            "hit_ratio": ratio,
            "local_hits": get(&self.local_hits), "redis_hits": get(&self.redis_hits), "misses": misses,
            "database_reads": { "cached_kinds": get(&self.loads), "never_cached": get(&self.plain_reads) },
            "redis": {
                "requests": get(&self.redis_requests), "errors": get(&self.redis_errors),
                "timeouts": get(&self.redis_timeouts), "fills": get(&self.fills),
                "fills_refused": get(&self.fills_refused), "opened": get(&self.opened),
                "closed": get(&self.closed), "epochs": get(&self.epochs),
                "p50_us": self.redis_latency.quantile_us(0.5), "p99_us": self.redis_latency.quantile_us(0.99),
            },
            "hit_p50_us": self.hit_latency.quantile_us(0.5), "hit_p99_us": self.hit_latency.quantile_us(0.99),
            "invalidations": get(&self.invalidations), "unconfirmed": get(&self.unconfirmed),
            "presence_copied": get(&self.presence_copied), "presence_dropped": get(&self.presence_dropped),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_a_step_that_bounds_it() {
        let latency = Latency::default();
        assert_eq!(latency.quantile_us(0.99), 0);
        for micros in 1..=100 {
            latency.note(Duration::from_micros(micros));
        }
        assert_eq!(latency.quantile_us(0.5), 56);
        assert_eq!(latency.quantile_us(0.99), 112);
        latency.note(Duration::from_secs(1000));
        assert_eq!(latency.quantile_us(1.0), 8 << 20);
    }

    #[test]
    fn the_steps_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(end_of(bucket - 1)), bucket);
            assert_eq!(bucket_of(end_of(bucket) - 1), bucket);
        }
    }
}
