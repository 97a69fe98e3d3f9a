//! Whether a batch waits a moment for company before it is stored. A commit costs the database as much for one message
//! as for several, so at some thousand messages a second a wait far below what anybody notices spares a good part of
//! all work. It must bring company, though: one sender who waits for each answer would only wait longer. And it ends when
//! as many have come as may be expected: who came last need not wait for nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;

/// Waiting is thought of where at least so many messages come meanwhile, by the rate of before.
const EXPECTED_MIN: f64 = 0.5;
/// It goes on while it brought so many on average.
const GAIN_MIN: f64 = 0.25;
/// A wait that lately did not pay is tried again after as many batches.
const TRY_AGAIN: u32 = 64;
/// What a wait brought counts so much in the average.
const WEIGHT: f64 = 0.05;
/// How long messages are counted for the rate.
const COUNTING: Duration = Duration::from_millis(50);

/// The decision, and the wait.
pub struct Linger {
    limit: Duration,
    enough_at_most: usize,
    /// None where the wait is turned off, or the kernel gives no timer.
    alarm: Option<Alarm>,
    habit: Habit,
    /// Messages in the batch as its wait began.
    began_with: usize,
    /// A batch of as many waits no longer.
    enough: usize,
}

impl Linger {
    /// Waits of `limit` at most, for up to `enough` messages. To be called on a runtime.
    pub fn new(limit: Duration, enough_at_most: usize) -> Self {
        let alarm = (!limit.is_zero()).then(Alarm::new).and_then(|alarm| {
            let warn = |error: &std::io::Error| {
                tracing::warn!(%error, "there is no timer for writer.linger; messages don't wait for company");
            };
            alarm.inspect_err(warn).ok()
        });
        Self { limit, enough_at_most, alarm, habit: Habit::new(limit), began_with: 0, enough: 0 }
    }

    /// So many messages have come.
    pub fn came(&mut self, messages: usize) {
        self.habit.came(messages);
    }

    /// A batch of `size` is ready to be stored; whether it waits. Then [`Self::end`] has to follow.
    pub fn begin(&mut self, size: usize) -> bool {
        let Some(alarm) = &self.alarm else { return false };
        let Some(company) = self.habit.company(Instant::now()) else { return false };
        (self.began_with, self.enough) = (size, self.enough_at_most.min(size + company));
        size < self.enough && alarm.set(self.limit).is_ok()
    }

    /// A batch of as many messages waits no longer.
    pub fn enough(&self) -> usize {
        self.enough
    }

    /// What `coming` brings, or `None` when the wait is over.
    pub async fn wait_for<T>(&self, coming: impl Future<Output = Option<T>>) -> Option<T> {
        let alarm = self.alarm.as_ref()?;
        tokio::select! {
            biased;
            came = coming => came,
            // A timer that fails waits no longer either.
            _ = alarm.rings() => None,
        }
    }

    /// The wait is over, the batch has `size` messages.
    pub fn end(&mut self, size: usize) {
        if let Some(alarm) = &self.alarm {
            // Should it fail, it rings for nobody.
            let _ = alarm.set(Duration::ZERO);
        }
        self.habit.brought(size.saturating_sub(self.began_with));
    }
}

/// What experience says. Pure.
struct Habit {
    limit: Duration,
    /// Messages a second, lately.
    rate: f64,
    counted: usize,
    since: Instant,
    /// Messages that a wait brought, on average.
    gain: f64,
    /// Batches that did not wait since one last did.
    passed: u32,
}

impl Habit {
    fn new(limit: Duration) -> Self {
        // As if it had paid: the first waits show.
        Self { limit, rate: 0.0, counted: 0, since: Instant::now(), gain: 2.0 * GAIN_MIN, passed: 0 }
    }

    fn came(&mut self, messages: usize) {
        self.counted += messages;
    }

    /// How many messages a batch waits for; `None`: for none.
    fn company(&mut self, now: Instant) -> Option<usize> {
        let counting = now.duration_since(self.since);
        if counting >= COUNTING {
            self.rate = self.counted as f64 / counting.as_secs_f64();
            (self.counted, self.since) = (0, now);
        }
        let expected = self.rate * self.limit.as_secs_f64();
        if expected < EXPECTED_MIN {
            return None;
        }
        let waits = self.gain >= GAIN_MIN || self.passed >= TRY_AGAIN;
        self.passed = if waits { 0 } else { self.passed + 1 };
        waits.then_some((expected.round() as usize).max(1))
    }

    fn brought(&mut self, messages: usize) {
        self.gain += WEIGHT * (messages as f64 - self.gain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(1200);

    /// Batches of one message, `gap` apart, each of whose waits brings `company`; which of the last thousand waited.
    fn waits(gap: Duration, company: usize) -> usize {
        let mut habit = Habit::new(LIMIT);
        let mut now = Instant::now();
        let mut waited = 0;
        for batch in 0..2000 {
            now += gap;
            habit.came(1);
            if habit.company(now).is_some() {
                habit.came(company);
                habit.brought(company);
                waited += usize::from(batch >= 1000);
            }
        }
        waited
    }

    #[test]
    fn waits_while_they_bring_company() {
        assert_eq!(waits(Duration::from_millis(1), 1), 1000);
    }

    #[test]
    fn one_who_sends_when_answered_hardly_ever_waits() {
        let waited = waits(Duration::from_micros(300), 0);
        assert!((1..=1000 / TRY_AGAIN as usize + 1).contains(&waited), "{waited} of 1,000");
    }

    #[test]
    fn more_is_waited_for_where_more_comes() {
        for (gap_us, expected) in [(1000, 1), (500, 2), (100, 12)] {
            let mut habit = Habit::new(LIMIT);
            let mut now = Instant::now();
            let mut company = None;
            for _ in 0..2000 {
                now += Duration::from_micros(gap_us);
                habit.came(1);
                company = habit.company(now);
            }
            assert_eq!(company, Some(expected), "{gap_us} µs apart");
        }
    }

    #[test]
    fn rare_messages_never_wait() {
        assert_eq!(waits(Duration::from_millis(20), 1), 0);
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_limit_or_with_what_comes() {
        let linger = Linger::new(LIMIT, 16);
        let alarm = linger.alarm.as_ref().expect("Linux has timers");
        alarm.set(LIMIT).expect("it is ours");
        assert_eq!(linger.wait_for(std::future::ready(Some(1))).await, Some(1));
        assert_eq!(linger.wait_for(std::future::pending::<Option<u8>>()).await, None);
    }
}
