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

use super::checker::Verdict;
use super::lean::pool::Pool;
use super::measure::{self, Recorder};
use super::report::{Process, Report};
use super::{LoadArgs, Scenario};
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
        Scenario::Room(rooms) => rooms::room(&run, "room", &rooms.clone().into()).await,
        Scenario::Busy(rooms) => rooms::room(&run, "busy", &rooms.clone().into()).await,
        Scenario::Echo(echo) => echo::echo(&run, echo).await,
        Scenario::Idle { connections } => idle::idle(&run, *connections).await,
        Scenario::SignIn(storm) => sign_in::sign_in(&run, storm).await,
        Scenario::Backlog(backlog) => backlog::backlog(&run, backlog).await,
        Scenario::Reconnect(storm) => reconnect::reconnect(&run, storm).await,
        Scenario::Mixed(day) => mixed::mixed(&run, day).await,
        Scenario::LineLatency(latency) => line_latency::line_latency(&run, latency).await,
        Scenario::Chaos(_) => unreachable!("it has a stage of its own and is run by its own module"),
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
        let costs = Costs::begin(&self.args);
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
        report.processes = costs.end(report.messages, report.deliveries, None);
        report
    }

    /// What the recorder has, into a report whose `seconds` are known.
    fn count(&self, report: &mut Report) {
        report.send_to_ack = self.recorder.ack_times();
        report.send_to_receive = self.recorder.delivery_times();
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
fn announce(text: &str) {
    eprintln!("{text}");
}

/// What the processes had used when measuring began.
struct Costs {
    since: Instant,
    processes: Vec<(String, u32, Duration, u64)>,
}

impl Costs {
    fn begin(args: &LoadArgs) -> Self {
        let servers = args.server_pids.iter().map(|pid| ("server", *pid));
        let databases = args.database_pids.iter().map(|pid| ("database", *pid));
        let own = [("this load", std::process::id())];
        let processes = servers
            .chain(databases)
            .chain(own)
            .filter_map(|(role, pid)| {
                Some((role.to_owned(), pid, measure::cpu_of(pid)?, measure::memory_of(pid).unwrap_or(0)))
            })
            .collect();
        Self { since: Instant::now(), processes }
    }

    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// `connections`: how many each server holds, where they are what is measured.
    fn end(self, messages: u64, deliveries: u64, connections: Option<f64>) -> Vec<Process> {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut ended = Vec::new();
        for (role, pid, cpu_before, memory_before) in self.processes {
            let Some(cpu) = measure::cpu_of(pid) else { continue };
            let memory = measure::memory_of(pid).unwrap_or(0);
            let used = cpu.saturating_sub(cpu_before).as_secs_f64();
            let growth =
                i64::try_from(memory).unwrap_or(i64::MAX) - i64::try_from(memory_before).unwrap_or(0);
            let per = |count: u64| (count > 0).then(|| used * 1e6 / count as f64);
            let held = connections.filter(|_| role != "database");
            ended.push(Process {
                pid,
                cpu_seconds: used,
                cores: used / seconds,
                cpu_us_per_message: per(messages),
                cpu_us_per_delivery: per(deliveries),
                memory_bytes: memory,
                memory_growth_bytes: growth,
                memory_bytes_per_connection: held.map(|held| growth as f64 / held),
                role,
            });
        }
        ended
    }
}
