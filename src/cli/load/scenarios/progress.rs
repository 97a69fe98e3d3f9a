//! The line a second that says how a run goes.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use super::super::LoadArgs;
use super::super::measure::Recorder;
use super::announce;

/// How often it is written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes a line a second, if anybody looks.
pub(super) struct Progress {
    shown: bool,
    began: Instant,
    last: Instant,
    sent: u64,
    delivered: u64,
}

impl Progress {
    pub(super) fn begin(args: &LoadArgs) -> Self {
        let shown = args.progress || std::io::stderr().is_terminal();
        Self { shown, began: Instant::now(), last: Instant::now(), sent: 0, delivered: 0 }
    }

    /// To be called often; once a second it writes.
    pub(super) fn tick(&mut self, recorder: &Recorder) {
        let passed = self.last.elapsed();
        if !self.shown || passed < INTERVAL {
            return;
        }
        let (acks, deliveries) = (recorder.ack_times(), recorder.delivery_times());
        let rate = |count: u64| (count as f64 / passed.as_secs_f64()).round();
        let times = if deliveries.count > 0 { deliveries } else { acks };
        announce(&format!(
            "{:>4} s  sent {:>8}/s  delivered {:>8}/s  P99 so far {:>9.3} ms  refused {}  skipped {}",
            self.began.elapsed().as_secs(),
            rate(acks.count - self.sent),
            rate(deliveries.count - self.delivered),
            times.p99_us as f64 / 1000.0,
            recorder.refusals(),
            recorder.skips(),
        ));
        (self.last, self.sent, self.delivered) = (Instant::now(), acks.count, deliveries.count);
    }
}
