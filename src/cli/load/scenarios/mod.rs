//! The scenarios, one file each, and what they share: the phases of a run and what it costs.

mod backlog;
mod blend;
mod echo;
mod idle;
mod line_latency;
mod member;
mod mixed;
mod pairs;
mod play;
mod progress;
mod reconnect;
mod rooms;
mod sign_in;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::args::{LoadArgs, Scenario};
use super::checker::Verdict;
use super::lean::pool::Pool;
use super::measure::Recorder;
use super::report::Report;
use super::sampler::Costs;
use crate::client::Close;

/// How often it is looked whether what is waited for has come.
const POLL: Duration = Duration::from_millis(20);

/// One run of one scenario.
pub(super) struct Run {
    pub(super) args: Arc<LoadArgs>,
    pub(super) pool: Pool,
    pub(super) recorder: Arc<Recorder>,
    /// On every message, so that what an earlier run left in the database is not taken for this one's.
    pub(super) number: u32,
}

/// Plays the scenario of `args`.
pub(super) async fn play(args: &LoadArgs) -> anyhow::Result<Report> {
    let run = Run {
        args: Arc::new(args.clone()),
        pool: Pool::start(args.threads)?,
        recorder: Arc::new(Recorder::new()),
        number: rand::random(),
    };
    match &args.scenario {
        Scenario::Direct(pairs) => pairs::direct(&run, pairs).await,
        Scenario::Room(rooms) => rooms::room(&run, "room", rooms).await,
        Scenario::Busy(rooms) => rooms::room(&run, "busy", &rooms.clone().into()).await,
        Scenario::Echo(echo) => echo::echo(&run, echo).await,
        Scenario::Idle { connections } => idle::idle(&run, *connections).await,
        Scenario::SignIn(storm) => sign_in::sign_in(&run, storm).await,
        Scenario::Backlog(backlog) => backlog::backlog(&run, backlog).await,
        Scenario::Reconnect(storm) => reconnect::reconnect(&run, storm).await,
        Scenario::Mixed(day) => mixed::mixed(&run, day).await,
        Scenario::LineLatency(latency) => line_latency::line_latency(&run, latency).await,
        Scenario::Chaos(_)
        | Scenario::Fill(_)
        | Scenario::Report { .. }
        | Scenario::Growth(_)
        | Scenario::Compare(_) => {
            anyhow::bail!("this is not a scenario of load")
        }
    }
}

impl Run {
    /// The address of a node by the transport of the run; they count on from the first when there are no more.
    pub(super) fn endpoint(&self, node: usize) -> String {
        let endpoints = self.args.endpoints();
        endpoints[node % endpoints.len()].clone()
    }

    /// Warms up, measures, and fills in what every report has. With `until`, measuring ends early when it says so.
    async fn measure(&self, name: &str, connections: usize, until: impl Fn() -> bool) -> Report {
        announce("warming up …");
        let warm = Instant::now() + Duration::from_secs(self.args.warm_up);
        while Instant::now() < warm && !until() {
            sleep_until(warm.min(Instant::now() + POLL)).await;
        }
        announce("measuring …");
        let costs = Costs::begin(&self.args, Some(&self.recorder));
        let mut progress = progress::Progress::begin(&self.args);
        let end = Instant::now() + Duration::from_secs(self.args.seconds);
        self.recorder.measure(true);
        while Instant::now() < end && !until() {
            sleep_until(end.min(Instant::now() + POLL)).await;
            progress.tick(&self.recorder);
        }
        self.recorder.measure(false);
        let mut report = frame(&self.args, name, connections);
        report.seconds = costs.elapsed().as_secs_f64();
        self.count(&mut report);
        costs.end(&mut report, None).await;
        report
    }

    /// What the recorder has, into a report whose `seconds` are known.
    fn count(&self, report: &mut Report) {
        report.send_to_ack = self.recorder.ack_times();
        report.send_to_receive = self.recorder.delivery_times();
        report.send_to_ack_curve = self.recorder.ack_curve();
        report.send_to_receive_curve = self.recorder.delivery_curve();
        report.messages = report.send_to_ack.count;
        report.deliveries = report.send_to_receive.count;
        report.messages_per_second = report.messages as f64 / report.seconds;
        report.deliveries_per_second = report.deliveries as f64 / report.seconds;
        report.refused = self.recorder.refusals();
        report.skipped = self.recorder.skips();
    }
}

/// Waits until `ready` or until `limit` has passed; whether it is ready.
async fn wait_until(limit: Duration, ready: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !ready() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep_until(deadline.min(Instant::now() + POLL)).await;
    }
    true
}

fn frame(args: &LoadArgs, scenario: &str, connections: usize) -> Report {
    Report {
        scenario: scenario.to_owned(),
        transport: format!("{:?}", args.transport),
        nodes: args.endpoints().len(),
        connections,
        payload_bytes: args.payload,
        checked: Verdict::default(),
        ..Report::default()
    }
}

fn count_close(report: &mut Report, close: &Close) {
    *report.closed.entry(close.to_string()).or_default() += 1;
}

/// Progress goes to the standard error, so that the report stands alone.
#[expect(clippy::print_stderr, reason = "progress of a command")]
pub(super) fn announce(text: &str) {
    eprintln!("{text}");
}
