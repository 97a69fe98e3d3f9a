//! The scenarios: who writes to whom, and the phases of a run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::checker::{Verdict, Written};
use super::measure::{self, Recorder};
use super::people::{self, Online};
use super::receiver::{Receiver, ReceiverState};
use super::report::{Process, Report};
use super::sender::{Destination, Loop, Sender, SenderEnd};
use super::{DRAIN, LoadArgs, Pace};
use crate::client::Close;

/// Members named in one call, by the protocol.
const MEMBERS_AT_ONCE: usize = crate::domain::limits::MEMBER_IDS_MAX;
/// How often it is looked whether all deliveries have come.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// One writer and those who receive from it.
struct Circle {
    writer: Online,
    destination: Destination,
    receivers: Vec<Online>,
}

/// Pairs.
pub(super) async fn direct(args: &LoadArgs, pairs: usize, pace: Pace) -> anyhow::Result<Report> {
    announce(&format!("signing up {} users …", pairs * 2));
    let people = people::sign_up(args, pairs * 2).await?;
    // Writers first, receivers behind them turned by one, so that a pair's two are on different nodes.
    let (writers, receivers) = people.split_at(pairs);
    let writers = people::connect(args, writers).await?;
    let mut turned = receivers.to_vec();
    turned.rotate_left(1);
    let mut receivers = people::connect(args, &turned).await?;
    receivers.rotate_right(1);
    let circles = writers
        .into_iter()
        .zip(receivers)
        .map(|(writer, receiver)| Circle {
            destination: Destination::User(receiver.user_id),
            writer,
            receivers: vec![receiver],
        })
        .collect();
    play(args, "direct", circles, pace).await
}

/// Group rooms.
pub(super) async fn room(
    args: &LoadArgs,
    rooms: usize,
    members: usize,
    pace: Pace,
) -> anyhow::Result<Report> {
    announce(&format!("signing up {} users …", rooms * members));
    let people = people::sign_up(args, rooms * members).await?;
    announce("making rooms …");
    let ids: Vec<u64> = stream::iter(people.chunks(members))
        .map(|members| async move {
            let (owner, others) = members.split_first().context("a room has members")?;
            let ids: Vec<u64> = others.iter().map(|person| person.user_id).collect();
            let first = &ids[..ids.len().min(MEMBERS_AT_ONCE)];
            let made = people::patiently(|| owner.rest.create_group("load", "", "open", first)).await?;
            for more in ids[first.len()..].chunks(MEMBERS_AT_ONCE) {
                people::patiently(|| owner.rest.add_members(made.conversation_id, more)).await?;
            }
            anyhow::Ok(made.conversation_id)
        })
        .buffered(args.at_once)
        .try_collect()
        .await
        .context("the rooms can't be made")?;
    let mut online = people::connect(args, &people).await?.into_iter();
    let mut circles = Vec::new();
    for id in ids {
        let writer = online.next().context("every room has a writer")?;
        let receivers = online.by_ref().take(members - 1).collect();
        circles.push(Circle { writer, destination: Destination::Conversation(id), receivers });
    }
    play(args, "room", circles, pace).await
}

/// Connections that do nothing.
pub(super) async fn idle(args: &LoadArgs, connections: usize) -> anyhow::Result<Report> {
    announce(&format!("signing up {connections} users …"));
    let people = people::sign_up(args, connections).await?;
    let costs = Costs::begin(args);
    let online = people::connect(args, &people).await?;
    announce("holding the connections …");
    sleep(Duration::from_secs(args.seconds)).await;
    let mut report = frame(args, "idle", connections);
    report.seconds = costs.elapsed().as_secs_f64();
    report.processes = costs.end(0, 0, Some(connections as f64 / args.server_pids.len().max(1) as f64));
    for one in online {
        if one.connection.is_closed() {
            count_close(&mut report, &one.events.close());
        }
    }
    Ok(report)
}

/// Lets the circles write and receive, and measures.
async fn play(args: &LoadArgs, name: &str, circles: Vec<Circle>, pace: Pace) -> anyhow::Result<Report> {
    let recorder = Arc::new(Recorder::new());
    let (stop_writing, writing_stops) = watch::channel(false);
    let (stop_receiving, receiving_stops) = watch::channel(false);
    let writers = circles.len();
    let connections = circles.iter().map(|circle| 1 + circle.receivers.len()).sum();
    let mut senders: JoinSet<SenderEnd> = JoinSet::new();
    let mut receivers: JoinSet<()> = JoinSet::new();
    let mut states: Vec<Arc<ReceiverState>> = Vec::new();
    for (at, circle) in circles.into_iter().enumerate() {
        let written = Arc::new(Mutex::new(Written::default()));
        for online in circle.receivers {
            let state = Arc::new(ReceiverState::new(Arc::clone(&written)));
            states.push(Arc::clone(&state));
            let receiver = Receiver {
                online,
                writer_id: circle.writer.user_id,
                recorder: Arc::clone(&recorder),
                state,
                stop: receiving_stops.clone(),
            };
            receivers.spawn(receiver.run());
        }
        let sender = Sender {
            online: circle.writer,
            destination: circle.destination,
            pace: loop_of(pace, at, writers),
            payload: args.payload,
            recorder: Arc::clone(&recorder),
            written,
            stop: writing_stops.clone(),
        };
        senders.spawn(sender.run(DRAIN));
    }

    announce("warming up …");
    sleep(Duration::from_secs(args.warm_up)).await;
    announce("measuring …");
    let costs = Costs::begin(args);
    recorder.measure(true);
    sleep(Duration::from_secs(args.seconds)).await;
    recorder.measure(false);
    let mut report = frame(args, name, connections);
    report.seconds = costs.elapsed().as_secs_f64();
    report.send_to_ack = recorder.ack_times();
    report.send_to_receive = recorder.delivery_times();
    report.messages = report.send_to_ack.count;
    report.deliveries = report.send_to_receive.count;
    report.messages_per_second = report.messages as f64 / report.seconds;
    report.deliveries_per_second = report.deliveries as f64 / report.seconds;
    report.processes = costs.end(report.messages, report.deliveries, None);

    stop_writing.send_replace(true);
    let mut ends = Vec::new();
    while let Some(end) = senders.join_next().await {
        ends.push(end.context("a writer's task has failed")?);
    }
    let deadline = Instant::now() + DRAIN;
    while Instant::now() < deadline && !states.iter().all(|state| state.is_complete()) {
        sleep(DRAIN_POLL).await;
    }
    stop_receiving.send_replace(true);
    while let Some(end) = receivers.join_next().await {
        end.context("a receiver's task has failed")?;
    }
    for end in &ends {
        report.written += end.written;
        report.unanswered += end.unanswered;
        if let Some(close) = &end.closed {
            count_close(&mut report, close);
        }
    }
    let mut sum = Verdict::default();
    for state in &states {
        sum.add(state.checker.lock().verdict(&state.writer.lock()));
        if let Some(close) = &*state.closed.lock() {
            count_close(&mut report, close);
        }
    }
    report.checked = sum;
    report.refused = recorder.refusals();
    report.skipped = recorder.skips();
    Ok(report)
}

fn loop_of(pace: Pace, at: usize, writers: usize) -> Loop {
    match pace.rate {
        None => Loop::Closed { in_flight: pace.in_flight },
        Some(rate) => {
            let interval = Duration::from_secs_f64(writers as f64 / rate);
            // Spread over the interval, or all would write at one moment.
            Loop::Open { interval, offset: interval.mul_f64(at as f64 / writers as f64) }
        }
    }
}

fn frame(args: &LoadArgs, scenario: &str, connections: usize) -> Report {
    Report {
        scenario: scenario.to_owned(),
        transport: format!("{:?}", args.transport),
        nodes: args.endpoints().len(),
        connections,
        payload_bytes: args.payload,
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::client::test_server::TestServer;
    use crate::client::{Connection, ConnectionOptions, Transport};

    async fn online(server: &TestServer) -> Online {
        let options = ConnectionOptions { transport: Transport::Tcp, ..ConnectionOptions::default() };
        let (connection, events) = Connection::connect(&server.address, &options).await.expect("it listens");
        let welcome = connection.hello("good").await.expect("the token is good");
        Online { user_id: welcome.user_id, connection, events }
    }

    async fn play_one_room(server: &TestServer, arguments: &[&str], pace: Pace) -> Report {
        let command = LoadArgs::augment_args(clap::Command::new("load"));
        let matches = command.try_get_matches_from(arguments).expect("the arguments are good");
        let args = LoadArgs::from_arg_matches(&matches).expect("the arguments are complete");
        let circle = Circle {
            writer: online(server).await,
            destination: Destination::Conversation(1),
            receivers: vec![online(server).await, online(server).await],
        };
        play(&args, "room", vec![circle], pace).await.expect("no task fails")
    }

    const ONE_SECOND: [&str; 6] = ["load", "--seconds", "1", "--warm-up", "0", "room"];

    #[tokio::test]
    async fn a_closed_loop_is_counted_and_without_fault() {
        let server = TestServer::start(Transport::Tcp).await;
        let report = play_one_room(&server, &ONE_SECOND, Pace { rate: None, in_flight: 2 }).await;
        assert!(!report.has_faults() && report.closed.is_empty(), "{}", report.table());
        assert!(report.messages > 10, "{}", report.table());
        assert_eq!(report.checked.received, 2 * report.written, "{}", report.table());
        assert_eq!(report.unanswered, 0);
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_rate_and_losses_are_seen() {
        let server = TestServer::start(Transport::Tcp).await;
        server.inner.lock().lose_pushes = 3;
        let report = play_one_room(&server, &ONE_SECOND, Pace { rate: Some(100.0), in_flight: 1 }).await;
        assert!((80..=120).contains(&report.written), "{}", report.table());
        assert_eq!(report.checked.lost, 2 * 3, "{}", report.table());
    }
}
