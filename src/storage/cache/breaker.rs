//! Whether Redis is asked at all: closed (it is), open (it is not, until a while has passed), half-open (probes go
//! there, requests don't). No clock and no I/O: times are handed in.
//!
//! Requests never try a Redis that failed: probes are the business of the tier's own task. So a request waits for a
//! failing Redis at most once, and the kept crates, whose trial calls are requests, did not fit.

use std::time::{Duration, Instant};

/// What a breaker goes by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// Good probes in a row that close it; at least 1.
    pub probes: u32,
    /// How long it stays open before the first probe.
    pub open_min: Duration,
    /// The most it stays open; the time doubles with each probe that fails.
    pub open_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { good: u32, pause: Duration },
}

/// The state machine.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    state: State,
}

impl Breaker {
    /// Open, with a probe due at once: nothing is connected yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, state: State::Open { until: now, pause: limits.open_min } }
    }

    /// Whether requests may go to Redis.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// `closed`, `open` or `half_open`.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }

    /// A request was answered.
    pub fn succeeded(&mut self) {
        if let State::Closed { failures } = &mut self.state {
            *failures = 0;
        }
    }

    /// A request was not; whether that opened the breaker. What was under way when it opened changes nothing.
    pub fn failed(&mut self, now: Instant) -> bool {
        let State::Closed { failures } = &mut self.state else { return false };
        *failures += 1;
        let opens = *failures >= self.limits.failures.max(1);
        if opens {
            self.open(now, self.limits.open_min);
        }
        opens
    }

    /// Opens at once, with a probe due now: the connection must be made anew.
    pub fn trip(&mut self, now: Instant) {
        self.state = State::Open { until: now, pause: self.limits.open_min };
    }

    /// Goes half-open when it is time for probes; whether they are wanted.
    pub fn wants_probe(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::HalfOpen { .. } => true,
            State::Open { until, pause } => {
                let due = now >= until;
                if due {
                    self.state = State::HalfOpen { good: 0, pause };
                }
                due
            }
        }
    }

    /// A probe was answered in time; whether that is enough to [`Breaker::close`].
    pub fn probe_succeeded(&mut self) -> bool {
        match &mut self.state {
            State::HalfOpen { good, .. } => {
                *good += 1;
                *good >= self.limits.probes.max(1)
            }
            State::Closed { .. } | State::Open { .. } => false,
        }
    }

    /// A probe was not: open again, for twice as long.
    pub fn probe_failed(&mut self, now: Instant) {
        if let State::HalfOpen { pause, .. } = self.state {
            self.open(now, pause);
        }
    }

    /// Requests may go to Redis again.
    pub fn close(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// Open for `pause`; the next time twice as long.
    fn open(&mut self, now: Instant, pause: Duration) {
        let next = (pause * 2).min(self.limits.open_max).max(self.limits.open_min);
        self.state = State::Open { until: now + pause, pause: next };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn breaker(failures: u32, probes: u32) -> (Breaker, Instant) {
        let limits = Limits { failures, probes, open_min: 100 * MS, open_max: 350 * MS };
        let now = Instant::now();
        (Breaker::new(limits, now), now)
    }

    #[test]
    fn it_begins_open_and_closes_after_enough_good_probes() {
        let (mut breaker, now) = breaker(1, 2);
        assert_eq!(breaker.name(), "open");
        assert!(breaker.wants_probe(now));
        assert_eq!((breaker.name(), breaker.is_closed()), ("half_open", false));
        assert!(!breaker.probe_succeeded());
        assert!(breaker.probe_succeeded());
        breaker.close();
        assert!(breaker.is_closed() && !breaker.wants_probe(now));
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = breaker(3, 1);
        breaker.close();
        for _ in 0..5 {
            assert!(!breaker.failed(now) && !breaker.failed(now));
            breaker.succeeded();
        }
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert!(!breaker.failed(now), "a straggler opens nothing twice");
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_most() {
        let (mut breaker, mut now) = breaker(1, 1);
        breaker.close();
        breaker.failed(now);
        for wait in [100, 200, 350, 350] {
            assert!(!breaker.wants_probe(now + (wait - 1) * MS), "{wait}");
            now += wait * MS;
            assert!(breaker.wants_probe(now), "{wait}");
            breaker.probe_failed(now);
        }
        breaker.trip(now);
        assert!(breaker.wants_probe(now));
        breaker.probe_failed(now);
        assert!(breaker.wants_probe(now + 100 * MS), "it begins with the shortest wait again");
    }
}
