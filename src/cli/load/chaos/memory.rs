//! The trial of a stopped peer: one node's process stands still, messages addressed to its users go on, and the others
//! must not grow.
//!
//! The writers are at the other nodes, each with a reader at the node that stands still, so that a third of the rooms and
//! all live deliveries lead there. What matters is the memory of the nodes that live.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that shows its progress and report"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::people::patiently;
use super::super::process::memory_of;
use super::ChaosArgs;
use super::stage::{Stage, VIEW_TIMEOUT};
use crate::client::connection::Incoming;
use crate::client::{ClientError, Connection, ConnectionOptions, Rest, Transport};
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// Pairs of a writer and a reader.
const PAIRS: usize = 40;
/// Sign-ups under way at once.
const CALLS_AT_ONCE: usize = 8;
/// Messages a second of all writers together, where none is asked for.
const RATE: f64 = 5000.0;
/// Unanswered messages of one writer; beyond, its messages are not made, and counted.
const UNANSWERED_MAX: usize = 2000;
/// How long the traffic runs before the node is stopped, and after it goes on.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);
/// Writers make their messages due this often.
const TICK: Duration = Duration::from_millis(20);
/// Kinds of refusals that are told apart.
const REASONS_MAX: usize = 20;
/// Pause before a lost connection is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const PASSWORD: &str = "chaos-password";
const MIB: f64 = 1024.0 * 1024.0;

/// The state at one second.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Since the stop; negative: before.
    pub second: i64,
    /// Resident memory of each node, by its place, in MiB.
    pub memory_mib: Vec<f64>,
    /// Messages acknowledged in this second.
    pub acked: u64,
    /// Refused for now.
    pub refused: u64,
    /// Due, and not made, since too many were unanswered.
    pub not_made: u64,
}

/// What the trial came to.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// The node that stood still, by its place.
    pub stopped: usize,
    /// Messages a second asked for.
    pub rate: f64,
    /// Bytes of text of a message.
    pub text_bytes: usize,
    /// Every second.
    pub seconds: Vec<Second>,
    /// How much the other nodes grew at most while it stood still, in MiB, by their places.
    pub growth_mib: Vec<(usize, f64)>,
    /// What was allowed.
    pub limit_mib: f64,
    /// Messages acknowledged in all.
    pub acked: u64,
    /// How often each refusal was given.
    pub reasons: BTreeMap<String, u64>,
    /// Whether all stayed below, and everybody saw each other afterwards.
    pub ok: bool,
}

#[derive(Debug, Default)]
struct Counters {
    acked: AtomicU64,
    refused: AtomicU64,
    not_made: AtomicU64,
    reasons: Mutex<BTreeMap<String, u64>>,
}

/// Runs the trial and prints what comes of it. An error if a node grew too much.
pub async fn run(args: ChaosArgs, json: Option<PathBuf>) -> anyhow::Result<()> {
    let report = trial(&args).await?;
    if let Some(file) = &json {
        let text = serde_json::to_string_pretty(&report).context("the report can't be written as JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("{} can't be written", file.display()))?;
    }
    for (node, growth) in &report.growth_mib {
        println!("n{} grew by {growth:.1} MiB while n{} stood still", node + 1, report.stopped + 1);
    }
    for (reason, times) in &report.reasons {
        println!("refused {times} times: {reason}");
    }
    println!("{} messages acknowledged; allowed growth {:.0} MiB", report.acked, report.limit_mib);
    if !report.ok {
        bail!("a node grew more than is allowed, or the cluster did not become whole again");
    }
    Ok(())
}

/// The trial itself. Everything that it started has ended when it returns.
pub async fn trial(args: &ChaosArgs) -> anyhow::Result<MemoryReport> {
    if args.nodes < 2 {
        bail!("a peer that stands still needs another node that does not: --nodes must be at least 2");
    }
    args.check()?;
    let stage = Stage::start(&args.stage(0)?).await?;
    let stopped = args.nodes - 1;
    let counters = Arc::new(Counters::default());
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for writer in open_pairs(&stage, args, stopped, &counters, &stopping, &mut tasks).await? {
        tasks.spawn(writer.run());
    }

    let mut report = MemoryReport {
        stopped,
        rate: args.rate.unwrap_or(RATE),
        text_bytes: args.text_bytes,
        seconds: Vec::new(),
        growth_mib: Vec::new(),
        limit_mib: args.memory_limit_mib as f64,
        acked: 0,
        reasons: BTreeMap::new(),
        ok: false,
    };
    let mut watching = Watching { counters: &counters, before: [0; 3], show: !args.quiet };
    let since = -i64::try_from(BEFORE.as_secs()).unwrap_or(0);
    watching.seconds(&stage, since..0, &mut report.seconds).await;
    // Memory breathes by several MiB, as the allocator gives pages back when it pleases: what a node held at any second
    // before is no growth.
    let before: Vec<Vec<f64>> = report.seconds.iter().map(|second| second.memory_mib.clone()).collect();
    stage.cluster.stop(stopped)?;
    let stop_seconds = i64::try_from(args.stop_seconds).unwrap_or(i64::MAX);
    watching.seconds(&stage, 0..stop_seconds, &mut report.seconds).await;
    let during: Vec<&Second> = report.seconds.iter().filter(|second| second.second >= 0).collect();
    report.growth_mib = (0..args.nodes)
        .filter(|at| *at != stopped)
        .map(|at| {
            let most = |memory: &mut dyn Iterator<Item = &Vec<f64>>| {
                memory.filter_map(|nodes| nodes.get(at)).copied().fold(0.0, f64::max)
            };
            let during = most(&mut during.iter().map(|second| &second.memory_mib));
            (at, (during - most(&mut before.iter())).max(0.0))
        })
        .collect();
    stage.cluster.cont(stopped)?;
    let after = i64::try_from(AFTER.as_secs()).unwrap_or(0);
    watching.seconds(&stage, stop_seconds..stop_seconds + after, &mut report.seconds).await;
    stop.send_replace(true);
    let whole = stage.see_each_other(VIEW_TIMEOUT).await;
    if let Err(error) = &whole {
        eprintln!("{error:#}");
    }
    tasks.shutdown().await;
    report.acked = counters.acked.load(Ordering::Relaxed);
    report.reasons = counters.reasons.lock().clone();
    let small = report.growth_mib.iter().all(|(_, growth)| *growth <= report.limit_mib);
    report.ok = whole.is_ok() && small && report.acked > 0;
    for complaint in stage.end().await {
        eprintln!("{complaint}");
    }
    Ok(report)
}

struct Watching<'a> {
    counters: &'a Counters,
    before: [u64; 3],
    show: bool,
}

impl Watching<'_> {
    async fn seconds(&mut self, stage: &Stage, range: std::ops::Range<i64>, seconds: &mut Vec<Second>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once.
        ticks.tick().await;
        for second in range {
            ticks.tick().await;
            let nodes = stage.cluster.nodes().iter();
            let memory = nodes.map(|node| node.pid().and_then(memory_of).unwrap_or(0) as f64 / MIB);
            let Counters { acked, refused, not_made, .. } = self.counters;
            let now = [acked, refused, not_made].map(|counter| counter.load(Ordering::Relaxed));
            let [acked, refused, not_made] = std::array::from_fn(|at| now[at] - self.before[at]);
            self.before = now;
            let found = Second { second, memory_mib: memory.collect(), acked, refused, not_made };
            if self.show {
                let memory = found.memory_mib.iter().enumerate();
                let memory: Vec<String> = memory.map(|(at, mib)| format!("n{} {mib:.1}", at + 1)).collect();
                println!(
                    "{second:>4} s: MiB {}; {acked} acked, {refused} refused, {not_made} not made",
                    memory.join(", ")
                );
            }
            seconds.push(found);
        }
    }
}

/// Signs the pairs up, makes their conversations, and connects the readers to the node that will stand still; the writers
/// are to be started at the others.
async fn open_pairs(
    stage: &Stage,
    args: &ChaosArgs,
    stopped: usize,
    counters: &Arc<Counters>,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Vec<Writer>> {
    let rest = Rest::new(stage.cluster.http_addresses());
    let run: u32 = rand::random();
    let people: Vec<(u64, String)> = stream::iter(0..2 * PAIRS)
        .map(|at| {
            let (rest, name) = (rest.clone(), format!("memory-{run:08x}-{at}"));
            async move {
                patiently(|| rest.sign_up(&name, PASSWORD, "")).await?;
                let signed_in = patiently(|| rest.sign_in(&name, PASSWORD, "memory")).await?;
                anyhow::Ok((signed_in.user_id, signed_in.token))
            }
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await
        .context("the users can't be made")?;
    let tcp = stage.cluster.tcp_addresses();
    let mut writers = Vec::new();
    for (at, pair) in people.chunks(2).enumerate() {
        let [(_, writer), (reader_id, reader)] = pair else { continue };
        let options = ConnectionOptions { transport: Transport::Tcp, ..ConnectionOptions::default() };
        let (connection, mut events) = Connection::connect(&tcp[stopped], &options).await?;
        connection.hello(reader).await?;
        tasks.spawn(async move {
            // It reads all there is; the connection is held open meanwhile.
            while events.next().await.is_some() {}
            drop(connection);
        });
        let own = rest.with_token(writer);
        patiently(|| own.direct(*reader_id)).await?;
        writers.push(Writer {
            endpoint: tcp[at % stopped].clone(),
            token: writer.clone(),
            to: *reader_id,
            per_second: args.rate.unwrap_or(RATE) / PAIRS as f64,
            number: 0,
            text_bytes: args.text_bytes,
            counters: Arc::clone(counters),
            stopping: stopping.clone(),
        });
    }
    Ok(writers)
}

struct Writer {
    endpoint: String,
    token: String,
    to: u64,
    per_second: f64,
    number: u64,
    text_bytes: usize,
    counters: Arc<Counters>,
    stopping: watch::Receiver<bool>,
}

impl Writer {
    async fn run(mut self) {
        while !*self.stopping.borrow() {
            // Whatever ended the connection, the next one tries again.
            let _ = self.write_on_one_connection().await;
            sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn write_on_one_connection(&mut self) -> Result<(), ClientError> {
        let options = ConnectionOptions { transport: Transport::Tcp, ..ConnectionOptions::default() };
        let (connection, mut events) = Connection::connect(&self.endpoint, &options).await?;
        connection.hello(&self.token).await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut unanswered, mut made, began) = (0_usize, 0_u64, Instant::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if *self.stopping.borrow() {
                        return Ok(());
                    }
                    let due = (began.elapsed().as_secs_f64() * self.per_second) as u64;
                    while made < due {
                        made += 1;
                        // Never waits for room: the connection may be waiting for us to take answers.
                        if unanswered >= UNANSWERED_MAX || connection.room() == 0 {
                            self.counters.not_made.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        self.number += 1;
                        unanswered += 1;
                        connection.post_tagged(self.number, Request::Send(self.message())).await?;
                    }
                }
                incoming = events.next_incoming() => match incoming {
                    None => return Ok(()),
                    Some(Incoming::Event(_)) => {}
                    Some(Incoming::Answer { result, .. }) => {
                        unanswered = unanswered.saturating_sub(1);
                        self.count(result);
                    }
                },
            }
        }
    }

    fn count(&self, result: Result<Body, ClientError>) {
        if let Ok(Body::Sent(_)) = result {
            self.counters.acked.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        let reason = match result {
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        let mut reasons = self.counters.reasons.lock();
        if reasons.len() < REASONS_MAX || reasons.contains_key(&reason) {
            *reasons.entry(reason).or_default() += 1;
        }
    }

    fn message(&self) -> v1::Send {
        v1::Send {
            to_user_id: self.to,
            client_id: format!("m{}", self.number),
            text: "x".repeat(self.text_bytes),
            ..v1::Send::default()
        }
    }
}
