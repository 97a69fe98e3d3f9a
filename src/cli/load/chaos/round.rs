//! One round: a fault, its end, the wait until everything works again, and the comparison with the logs.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::cast::{Cast, wait_until};
use super::fault::{self, Fault};
use super::ledger::{Broken, LATE};
use super::net::{Place, Way};
use super::stage::{Stage, VIEW_TIMEOUT};
use super::truth::Truth;

/// How long sends and live delivery may take to be well again after a fault.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long nothing may be amiss before live delivery counts as complete: a push is missed for [`LATE`] at first.
const QUIET: Duration = Duration::from_millis(1300);
/// How long a round waits for that once every way works: on an overloaded machine single pushes are late for ever.
const NOISE_TIMEOUT: Duration = Duration::from_secs(6);
/// How long devices may take to get what the logs have, and after what part of it they are told to sync.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(40);
const COMPLETE_BY_THEMSELVES: Duration = Duration::from_secs(4);
/// How long a whole round may take, and one in which every node restarts.
const ROUND_TIMEOUT: Duration = Duration::from_secs(150);
const ROLLING_TIMEOUT: Duration = Duration::from_secs(300);
/// A fault lasts at least so long.
const SHORTEST: Duration = Duration::from_millis(1500);
/// A stop lasts so long.
const STOP_SHORTEST: Duration = Duration::from_secs(1);
const STOP_LONGEST: Duration = Duration::from_secs(8);
/// How long a killed database stays away.
const DB_AWAY_LONGEST: Duration = Duration::from_secs(3);
/// Pause between the nodes of a rolling restart.
const ROLLING_PAUSE: Duration = Duration::from_millis(300);
/// How long the nodes may take to say who owns what.
const OWNERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often each of them is asked.
const OWNERS_TRIES: usize = 2;
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// What became of a round.
#[derive(Clone, Debug, Serialize)]
pub struct RoundReport {
    /// Its number, from 1.
    pub round: usize,
    /// What was done.
    pub fault: Fault,
    /// To whom, and how.
    pub detail: String,
    /// From the beginning to the end of the fault, in milliseconds.
    pub fault_ms: f64,
    /// Until sends from each node to each room that the fault concerned were acknowledged again: from the fault's beginning,
    /// for outages of the database from its end. The median of the pairs, and the last.
    pub acked_again_median_ms: Option<f64>,
    /// The last pair.
    pub acked_again_ms: Option<f64>,
    /// Pairs of a node and a room from which nobody sent in time.
    pub unmeasured: usize,
    /// Until pushes were complete again, from the same moment. `None`: every way worked, and single pushes were still
    /// missed or late when the round ended, as on a machine that has too much to do.
    pub live_again_ms: Option<f64>,
    /// The same from the fault's end.
    pub live_after_end_ms: Option<f64>,
    /// From the fault's end until every device had had a push of a message of later from each of its rooms.
    pub ways_after_end_ms: Option<f64>,
    /// The longest way of a message to its `sent`, repeats by the client included.
    pub slowest_ack_ms: f64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Sends refused for now.
    pub refused: u64,
    /// Sends without an answer.
    pub unanswered: u64,
    /// Pushes that live connections missed.
    pub holes: u64,
    /// Connections made.
    pub connections: u64,
    /// Broken promises.
    pub broken: u64,
    /// All of it, in seconds.
    pub seconds: f64,
}

/// Plays rounds.
pub struct Player<'a> {
    /// What is played on.
    pub stage: &'a mut Stage,
    /// Who plays.
    pub cast: &'a Cast,
    /// The logs.
    pub truth: &'a mut Truth,
    /// How long a fault lasts at most.
    pub longest: Duration,
    /// Nodes at the start; more have joined.
    pub nodes: usize,
}

/// What a fault did.
struct Done {
    detail: String,
    began_us: u64,
    ended_us: u64,
    /// When every device had been pushed something from each of its rooms.
    ways_us: u64,
    /// Whether no push was missed at the end.
    is_calm: bool,
}

impl Player<'_> {
    /// Plays one round. Whatever goes wrong is in the ledger and the report.
    pub async fn play(&mut self, round: usize, fault: Fault, seed: u64) -> RoundReport {
        let mut random = fault::random_of(seed, (1 << 32) + round as u64);
        let began = Instant::now();
        let ledger = &self.cast.ledger;
        ledger.begin_round(round);
        let before = ledger.counts();
        let limit = if fault == Fault::Rolling { ROLLING_TIMEOUT } else { ROUND_TIMEOUT };
        let began_us = ledger.now_us();
        let played = timeout(limit, self.act_and_recover(fault, &mut random)).await;
        let (done, failure) = match played {
            Ok(Ok(done)) => (Some(done), None),
            Ok(Err(error)) => (None, Some(format!("{error:#}"))),
            Err(_) => (None, Some(format!("not over within {} s", limit.as_secs()))),
        };
        if let Some(failure) = failure {
            ledger.broken(Broken::Unrecovered, format!("{}: {failure}", fault.name()));
            if let Err(error) = self.stage.repair().await {
                ledger.broken(Broken::Unrecovered, format!("the cluster can't be repaired: {error:#}"));
            }
        }
        self.look_for_dead_nodes().await;
        if let Err(error) = self.compare().await {
            ledger.broken(Broken::Unrecovered, format!("{error:#}"));
        }
        let after = ledger.counts();
        let now_us = ledger.now_us();
        let done = done.unwrap_or_else(|| Done {
            detail: "failed".to_owned(),
            began_us,
            ended_us: now_us,
            ways_us: 0,
            is_calm: false,
        });
        let (fault_began, fault_ended) = (done.began_us, done.ended_us);
        let reference = if fault.is_outage() { fault_ended } else { fault_began };
        let watched = ledger.watched_ms();
        let trouble = ledger.trouble_us();
        let ms_since = |from: u64| done.is_calm.then_some(trouble.saturating_sub(from) as f64 / 1000.0);
        let refused = after.refused - before.refused;
        RoundReport {
            round,
            fault,
            fault_ms: fault_ended.saturating_sub(fault_began) as f64 / 1000.0,
            acked_again_median_ms: watched.get(watched.len() / 2).copied(),
            acked_again_ms: watched.last().copied(),
            unmeasured: ledger.unmeasured(),
            live_again_ms: ms_since(reference),
            live_after_end_ms: ms_since(fault_ended),
            ways_after_end_ms: (done.ways_us > 0)
                .then_some(done.ways_us.saturating_sub(fault_ended) as f64 / 1000.0),
            detail: done.detail,
            slowest_ack_ms: ledger.slowest_ack_ms(),
            acked: after.acked - before.acked,
            refused,
            unanswered: after.unanswered - before.unanswered,
            holes: after.holes - before.holes,
            connections: after.connections - before.connections,
            broken: after.broken.values().sum::<u64>() - before.broken.values().sum::<u64>(),
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    async fn act_and_recover(&mut self, fault: Fault, random: &mut StdRng) -> anyhow::Result<Done> {
        let running = self.stage.running();
        let owners = self.owners(&running).await?;
        let mut done = self.act(fault, random, &running, &owners).await?;
        self.recover(&mut done).await?;
        self.cast.go_home();
        Ok(done)
    }

    /// Who owns each room. A node that has much to do is asked again, and the others too.
    async fn owners(&self, running: &[usize]) -> anyhow::Result<Vec<usize>> {
        let mut failure = anyhow!("no node runs");
        for _ in 0..OWNERS_TRIES {
            for asked in running {
                match timeout(OWNERS_TIMEOUT, self.stage.owners(*asked, &self.cast.room_ids)).await {
                    Ok(Ok(owners)) => return Ok(owners),
                    Ok(Err(error)) => failure = error,
                    Err(_) => failure = anyhow!("n{} does not say in time who owns what", asked + 1),
                }
            }
        }
        Err(failure)
    }

    /// Brings the fault about and ends it.
    async fn act(
        &mut self,
        fault: Fault,
        random: &mut StdRng,
        running: &[usize],
        owners: &[usize],
    ) -> anyhow::Result<Done> {
        let ledger = self.cast.ledger.clone();
        let victim = *running.choose(random).context("no node runs")?;
        let name = format!("n{}", victim + 1);
        let hold = fault::between(random, SHORTEST, self.longest.max(SHORTEST));
        let others: Vec<usize> = running.iter().copied().filter(|at| *at != victim).collect();
        // Which pairs of a room and a node the fault stands between.
        let pairs = |between: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
            let rooms = owners.iter().enumerate();
            rooms
                .flat_map(|(room, owner)| running.iter().map(move |node| (room, *owner, *node)))
                .filter(|(_, owner, node)| between(*owner, *node))
                .map(|(room, _, node)| (room, node))
                .collect()
        };
        let off_victim = |owner: usize, node: usize| (owner == victim) != (node == victim);
        let began_us = ledger.now_us();
        let detail = match fault {
            Fault::Kill => {
                // Now and then it is back before the others have noticed.
                let hold = if random.random_bool(0.25) { Duration::ZERO } else { hold };
                self.stage.cluster.kill9(victim).await?;
                ledger.watch(began_us, false, pairs(&|owner, node| owner == victim && node != victim));
                sleep(hold).await;
                self.start_again(victim).await?;
                format!("{name} for {hold:?}")
            }
            Fault::Stop => {
                let hold =
                    fault::between(random, STOP_SHORTEST, STOP_LONGEST.min(self.longest + STOP_SHORTEST * 2));
                self.stage.cluster.stop(victim)?;
                ledger.watch(began_us, false, pairs(&|owner, node| owner == victim && node != victim));
                sleep(hold).await;
                self.stage.cluster.cont(victim)?;
                format!("{name} for {hold:?}")
            }
            Fault::Partition => {
                for other in &others {
                    let (a, b) = (Place::Node(victim), Place::Node(*other));
                    self.stage.net.cut(a, b, Way::Both).await?;
                }
                ledger.watch(began_us, false, pairs(&off_victim));
                sleep(hold).await;
                self.stage.net.heal().await?;
                format!("{name} off the others for {hold:?}")
            }
            Fault::OneWay => {
                let deaf = random.random_bool(0.5);
                for other in &others {
                    let (a, b) = (Place::Node(victim), Place::Node(*other));
                    let (from, to) = if deaf { (b, a) } else { (a, b) };
                    self.stage.net.cut(from, to, Way::There).await?;
                }
                ledger.watch(began_us, false, pairs(&off_victim));
                sleep(hold).await;
                self.stage.net.heal().await?;
                format!("{name} {} for {hold:?}", if deaf { "hears nothing" } else { "is not heard" })
            }
            Fault::Split => {
                let sides = fault::sides(random, running);
                let side_of = |node: usize| sides.iter().find(|(at, _)| *at == node).map(|(_, side)| *side);
                for (at, (a, side)) in sides.iter().enumerate() {
                    for (b, other) in sides[at + 1..].iter().filter(|(_, other)| other != side) {
                        let _ = other;
                        self.stage.net.cut(Place::Node(*a), Place::Node(*b), Way::Both).await?;
                    }
                }
                ledger.watch(began_us, false, pairs(&|owner, node| side_of(owner) != side_of(node)));
                sleep(hold).await;
                self.stage.net.heal().await?;
                let words = sides.iter().map(|(node, side)| format!("n{}:{side}", node + 1));
                format!("sides {} for {hold:?}", words.collect::<Vec<_>>().join(" "))
            }
            Fault::Loss => {
                let percent = random.random_range(5..=30);
                self.stage.net.lose(percent).await?;
                ledger.watch(began_us, false, pairs(&|owner, node| owner != node));
                sleep(hold).await;
                self.stage.net.heal().await?;
                format!("{percent} % for {hold:?}")
            }
            Fault::Delay => {
                let delay = fault::between(random, Duration::from_millis(50), Duration::from_millis(400));
                self.stage.net.delay(victim, delay).await?;
                ledger.watch(began_us, false, pairs(&off_victim));
                sleep(hold).await;
                self.stage.net.heal().await?;
                let how =
                    if self.stage.net.can_delay() { format!("{delay:?}") } else { "by load".to_owned() };
                format!("{name} by {how} for {hold:?}")
            }
            Fault::Slow => {
                let kib = random.random_range(16..=128);
                self.stage.net.slow(victim, kib * 1024).await?;
                ledger.watch(began_us, false, pairs(&off_victim));
                sleep(hold).await;
                self.stage.net.heal().await?;
                format!("{name} to {kib} KiB/s for {hold:?}")
            }
            Fault::DbCut => {
                let way = *[(true, true), (true, false), (false, true)].choose(random).context("three")?;
                let (node, database) = (Place::Node(victim), Place::Database);
                if way.0 {
                    self.stage.net.cut(node, database, Way::There).await?;
                }
                if way.1 {
                    self.stage.net.cut(database, node, Way::There).await?;
                }
                sleep(hold).await;
                self.stage.net.heal().await?;
                let now = ledger.now_us();
                ledger.watch(now, true, pairs(&|owner, _| owner == victim));
                format!("{name}, what it sends: {}, hears: {}, for {hold:?}", way.0, way.1)
            }
            Fault::DbKill => {
                let hold = hold.min(DB_AWAY_LONGEST);
                let mariadb = self.stage.mariadb.as_mut().context("the run has no database server")?;
                mariadb.kill()?;
                sleep(hold).await;
                mariadb.restart().await?;
                ledger.watch(ledger.now_us(), true, pairs(&|_, _| true));
                format!("away for {hold:?}")
            }
            Fault::DbStop => {
                let mariadb = self.stage.mariadb.as_mut().context("the run has no database server")?;
                mariadb.freeze()?;
                sleep(hold).await;
                mariadb.thaw()?;
                ledger.watch(ledger.now_us(), true, pairs(&|_, _| true));
                format!("for {hold:?}")
            }
            Fault::Rolling => {
                for at in running {
                    self.drain(*at).await?;
                    self.start_again(*at).await?;
                    self.stage.see_each_other(VIEW_TIMEOUT).await?;
                    sleep(ROLLING_PAUSE).await;
                }
                format!("{} nodes", running.len())
            }
            Fault::Join => self.join().await?,
            Fault::Drain => {
                self.drain(victim).await?;
                sleep(hold / 2).await;
                self.start_again(victim).await?;
                format!("{name}, away for {:?}", hold / 2)
            }
        };
        Ok(Done { detail, began_us, ended_us: ledger.now_us(), ways_us: 0, is_calm: false })
    }

    async fn start_again(&mut self, at: usize) -> anyhow::Result<()> {
        self.stage.cluster.start_again(at).await?;
        self.cast.add_endpoint(at, self.stage.cluster.node(at).addresses().clone());
        Ok(())
    }

    /// One node more; where it is there already, it leaves instead.
    async fn join(&mut self) -> anyhow::Result<String> {
        let spare = self.nodes;
        if self.stage.cluster.nodes().len() == spare {
            self.stage.cluster.add().await?;
            self.cast.add_endpoint(spare, self.stage.cluster.node(spare).addresses().clone());
        } else if self.stage.cluster.node(spare).is_running() {
            self.drain(spare).await?;
            return Ok(format!("n{} leaves again", spare + 1));
        } else {
            self.start_again(spare).await?;
        }
        Ok(format!("n{}", spare + 1))
    }

    async fn drain(&mut self, at: usize) -> anyhow::Result<()> {
        let status = self.stage.cluster.terminate(at).await?;
        if !status.success() {
            let text = format!("n{} was told to stop and ended with {status}", at + 1);
            self.cast.ledger.broken(Broken::Unrecovered, text);
        }
        Ok(())
    }

    /// Waits until all nodes see each other, everybody is signed in, each room answers, and nobody misses a push.
    async fn recover(&self, done: &mut Done) -> anyhow::Result<()> {
        let ledger = &self.cast.ledger;
        self.stage.see_each_other(VIEW_TIMEOUT).await?;
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        let mut since: Option<Instant> = None;
        loop {
            let answered = ledger.all_rooms_answer_since(done.ended_us);
            let offline = ledger.offline();
            let reached = ledger.all_get_pushes_since(done.ended_us);
            let trouble_ago = Duration::from_micros(ledger.now_us().saturating_sub(ledger.trouble_us()));
            if answered && offline == 0 && reached {
                let since = *since.get_or_insert_with(|| {
                    done.ways_us = ledger.now_us();
                    Instant::now()
                });
                done.is_calm = trouble_ago >= QUIET && since.elapsed() >= QUIET;
                if done.is_calm || since.elapsed() >= NOISE_TIMEOUT {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                bail!(
                    "not well again {} s after its end: every room answers: {answered}; devices without a connection: \
                     {offline}; every device has pushes of each room: {reached}; the last push missed {trouble_ago:?} ago; {}",
                    RECOVERY_TIMEOUT.as_secs(),
                    ledger.who_waits()
                );
            }
            sleep(POLL).await;
        }
    }

    /// Nodes that ended without being told to are an error of the server's.
    async fn look_for_dead_nodes(&mut self) {
        let mut found = false;
        while let Ok((at, status)) = timeout(Duration::ZERO, self.stage.cluster.next_exit()).await {
            let last = self.stage.cluster.node(at).output();
            let last = last[last.len().saturating_sub(5)..].join(" | ");
            let text = format!("n{} ended by itself with {status}: {last}", at + 1);
            self.cast.ledger.broken(Broken::Unrecovered, text);
            found = true;
        }
        if found && let Err(error) = self.stage.repair().await {
            let text = format!("the cluster can't be repaired: {error:#}");
            self.cast.ledger.broken(Broken::Unrecovered, text);
        }
    }

    /// Compares with the logs, and waits until every device has what they hold.
    async fn compare(&mut self) -> anyhow::Result<()> {
        let ledger = &self.cast.ledger;
        self.truth.compare(ledger).await?;
        if wait_until(COMPLETE_BY_THEMSELVES, || ledger.lacking().is_empty()).await {
            return Ok(());
        }
        self.cast.sync(ledger.lacking().into_iter().map(|(device, _, _)| device));
        let rest = COMPLETE_TIMEOUT - COMPLETE_BY_THEMSELVES;
        if wait_until(rest, || ledger.lacking().is_empty()).await {
            return Ok(());
        }
        let lacking = ledger.lacking();
        let (device, room, seq) = *lacking.first().ok_or_else(|| anyhow!("it has just come"))?;
        let text = format!(
            "{} rooms of devices are incomplete after sync; device {device} lacks seq {seq} of room {}",
            lacking.len(),
            ledger.room_id(room)
        );
        ledger.broken(Broken::Missing, text);
        Ok(())
    }
}

const _: () = assert!(QUIET.as_millis() > LATE.as_millis());
