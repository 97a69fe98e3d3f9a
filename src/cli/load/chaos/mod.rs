//! `rookery load chaos`: real nodes, real faults, and a judge that believes nobody.
//!
//! A run starts a cluster in a net of its own ([`net`]) and plays rounds: a fault is brought about and ended while users
//! with several devices each write to each other, and the round is over when everything works again. The [`ledger`] holds
//! every answer and delivery against the database's logs. `stage` is what is played on, `cast` and `device` who plays,
//! `fault` and `round` what happens, `truth` the logs, `report` what came of it, `memory` the trial of a stopped peer.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that shows its progress and report"
)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

pub mod cast;
pub mod device;
pub mod fault;
pub mod ledger;
pub mod memory;
pub mod net;
pub mod report;
pub mod round;
pub mod stage;
pub mod truth;

use self::cast::{Cast, CastOptions};
use self::fault::Fault;
use self::ledger::Broken;
use self::report::ChaosReport;
use self::round::Player;
pub use self::stage::NetKind;
use self::stage::{DatabaseKind, Stage, StageOptions};
use self::truth::Truth;

/// Most nodes of a run; each is a process with threads of its own.
const NODES_MAX: usize = net::NODES_MAX - 1;
/// Most rounds of a run.
const ROUNDS_MAX: usize = 100_000;
/// Sends a second at most; the point is faults, not load.
const RATE_MAX: f64 = 20_000.0;
/// How long everybody may take to be signed in at first.
const ONLINE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last sends may take to be answered.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the connections may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Play rounds of faults against a cluster of real nodes under traffic, and judge what comes of it.
#[derive(Clone, Debug, clap::Args)]
pub struct ChaosArgs {
    /// How many nodes; one more joins and leaves.
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// How many rounds.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
    /// The first round's number, to begin where another run has failed.
    #[arg(long, default_value_t = 1)]
    pub first_round: usize,
    /// What everything is drawn from; by default a new one, which is printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Use this database instead of an SQLite file of the run's own: mysql://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, value_name = "URL", conflicts_with = "mariadb")]
    pub database: Option<String>,
    /// Start a MariaDB of the run's own, in a temporary folder.
    #[arg(long)]
    pub mariadb: bool,
    /// Which faults, by their names with commas between; by default all that the set-up allows.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub faults: Vec<Fault>,
    /// How long a fault lasts at most.
    #[arg(long, visible_alias = "round-seconds", default_value_t = 6.0)]
    pub fault_seconds: f64,
    /// Sends a second; with --memory, to the node that stands still.
    #[arg(long)]
    pub rate: Option<f64>,
    /// How many users.
    #[arg(long, default_value_t = 12)]
    pub users: usize,
    /// Devices of each.
    #[arg(long, default_value_t = 2)]
    pub devices: usize,
    /// How many rooms.
    #[arg(long, default_value_t = 24)]
    pub rooms: usize,
    /// What the nodes are joined by.
    #[arg(long, value_enum, default_value_t)]
    pub net: NetKind,
    /// A key of the nodes' configuration, such as cluster.down_after=2s; repeat it for more.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Write the nodes' logs into this folder.
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Instead of rounds: hold one node still, send to it all the while, and watch the memory of the others.
    #[arg(long)]
    pub memory: bool,
    /// With --memory: for how long.
    #[arg(long, default_value_t = 60)]
    pub stop_seconds: u64,
    /// With --memory: how much a node may grow, in MiB.
    #[arg(long, default_value_t = 256)]
    pub memory_limit_mib: u64,
    /// With --memory: bytes of text of a message.
    #[arg(long, default_value_t = 200)]
    pub text_bytes: usize,
    /// The nodes' binary; by default this one.
    #[arg(skip)]
    pub executable: Option<PathBuf>,
    /// Show no progress.
    #[arg(skip)]
    pub quiet: bool,
}

impl ChaosArgs {
    /// The defaults, as without any argument.
    pub fn defaults() -> Self {
        use clap::{Args as _, FromArgMatches as _};
        let command = Self::augment_args(clap::Command::new("chaos"));
        let matches = command.get_matches_from(["chaos"]);
        Self::from_arg_matches(&matches).expect("every argument has a default")
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.nodes == 0 || self.nodes > NODES_MAX {
            bail!("--nodes must be 1 to {NODES_MAX}");
        }
        if self.rounds == 0 || self.rounds > ROUNDS_MAX || self.first_round == 0 {
            bail!("--rounds must be 1 to {ROUNDS_MAX}, and --first-round at least 1");
        }
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0 || rate > RATE_MAX) {
            bail!("--rate must be above 0 and at most {RATE_MAX}");
        }
        if self.users < 4 || self.devices == 0 || self.rooms == 0 {
            bail!("--users must be at least 4, --devices and --rooms at least 1");
        }
        if !self.fault_seconds.is_finite() || !(0.1..=60.0).contains(&self.fault_seconds) {
            bail!("--fault-seconds must be 0.1 to 60");
        }
        if self.text_bytes == 0 || self.text_bytes > super::args::PAYLOAD_MAX {
            bail!("--text-bytes must be 1 to {}", super::args::PAYLOAD_MAX);
        }
        self.set.iter().try_for_each(|pair| key_and_value(pair).map(drop))
    }

    /// What a stage needs to know.
    pub fn stage(&self, spare: usize) -> anyhow::Result<StageOptions> {
        let database = match (&self.database, self.mariadb) {
            (Some(url), _) => DatabaseKind::Url(url.clone()),
            (None, true) => DatabaseKind::MariaDb,
            (None, false) => DatabaseKind::Sqlite,
        };
        let set = self.set.iter().map(|pair| key_and_value(pair)).collect::<anyhow::Result<_>>()?;
        if let Some(folder) = &self.logs {
            std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
        }
        Ok(StageOptions {
            nodes: self.nodes,
            spare,
            net: self.net,
            database,
            executable: self.executable.clone(),
            set,
            logs: self.logs.clone(),
        })
    }

    fn database_name(&self) -> String {
        match (&self.database, self.mariadb) {
            (Some(url), _) => url.split(':').next().unwrap_or_default().to_owned(),
            (None, true) => "MariaDB".to_owned(),
            (None, false) => "SQLite".to_owned(),
        }
    }
}

fn key_and_value(pair: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = pair.split_once('=').with_context(|| format!("--set {pair} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command. An error if a promise was broken.
pub async fn run(args: ChaosArgs, json: Option<PathBuf>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be listened for")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be listened for")?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    if args.memory {
        // Dropping the trial ends its nodes.
        return tokio::select! {
            tried = memory::run(args, json) => tried,
            () = stopped => bail!("ended on request"),
        };
    }
    let report = play(&args, stopped).await?;
    println!("{}", report.table());
    if let Some(file) = &json {
        let text = serde_json::to_string_pretty(&report).context("the report can't be written as JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("{} can't be written", file.display()))?;
    }
    if !report.ok {
        bail!("promises were broken, or not all rounds could be played; see the report");
    }
    Ok(())
}

/// Plays all rounds, or those until `stopped` ends. Everything that it started has ended when it returns.
pub async fn play(args: &ChaosArgs, stopped: impl Future<Output = ()>) -> anyhow::Result<ChaosReport> {
    args.check()?;
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("seed {seed}");
    let began = Instant::now();
    let mut stage = Stage::start(&args.stage(1)?).await?;
    let mut cast = Cast::start(
        &stage,
        CastOptions {
            users: args.users,
            devices: args.devices,
            rooms: args.rooms,
            rate: args.rate.unwrap_or(200.0),
            seed,
        },
    )
    .await?;
    if !cast.all_online(ONLINE_TIMEOUT).await {
        bail!("not everybody could sign in within {} s", ONLINE_TIMEOUT.as_secs());
    }
    let mut truth = Truth::new(&stage.database_url);
    let mut rounds = Vec::new();
    let faults = faults_of(args, &stage)?;
    let mut report = ChaosReport {
        seed,
        net: stage.net.describe(),
        database: args.database_name(),
        nodes: args.nodes,
        rounds_asked: args.rounds,
        seconds: 0.0,
        counts: cast.ledger.counts(),
        skipped: 0,
        kinds: std::collections::BTreeMap::new(),
        rounds: Vec::new(),
        refused_in_planned: 0,
        reasons: std::collections::BTreeMap::new(),
        violations: Vec::new(),
        ok: false,
    };
    let last = args.first_round + args.rounds - 1;
    let mut player = Player {
        stage: &mut stage,
        cast: &cast,
        truth: &mut truth,
        longest: Duration::from_secs_f64(args.fault_seconds),
        nodes: args.nodes,
    };
    let playing = async {
        for round in args.first_round..=last {
            let played = player.play(round, fault::draw(&faults, seed, round), seed).await;
            if !args.quiet {
                eprintln!("{}", progress(&played, last, player.cast));
            }
            rounds.push(played);
        }
    };
    tokio::select! {
        () = playing => {}
        () = stopped => eprintln!("ended on request; what was played is judged"),
    }
    if rounds.len() < args.rounds {
        // The last round was left in the middle.
        stage.repair().await?;
    }
    if !cast.finish_traffic(FINISH_TIMEOUT).await {
        let text = format!("sends without an answer {} s after the last round", FINISH_TIMEOUT.as_secs());
        cast.ledger.broken(Broken::Unrecovered, text);
    }
    for compared in [truth.compare(&cast.ledger).await, truth.compare_all(&cast.ledger).await] {
        if let Err(error) = compared {
            cast.ledger.broken(Broken::Unrecovered, format!("{error:#}"));
        }
    }
    let ledger = cast.ledger.clone();
    if !cast::wait_until(END_TIMEOUT, || ledger.lacking().is_empty()).await {
        cast.sync(ledger.lacking().into_iter().map(|(device, _, _)| device));
        if !cast::wait_until(END_TIMEOUT, || ledger.lacking().is_empty()).await {
            let text = format!("{} rooms of devices are incomplete in the end", ledger.lacking().len());
            ledger.broken(Broken::Missing, text);
        }
    }
    report.skipped = cast.skipped();
    cast.end(END_TIMEOUT).await;
    for complaint in stage.end().await {
        ledger.broken(Broken::Unrecovered, complaint);
    }
    report.counts = ledger.counts();
    report.reasons = ledger.reasons();
    report.violations = ledger.violations();
    report.kinds = ChaosReport::by_kind(&rounds);
    report.refused_in_planned =
        rounds.iter().filter(|round| round.fault.is_planned()).map(|round| round.refused).sum();
    report.ok = report.counts.broken.is_empty() && rounds.len() == args.rounds;
    report.rounds = rounds;
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// The faults asked for, or all that can be done here.
fn faults_of(args: &ChaosArgs, stage: &Stage) -> anyhow::Result<Vec<Fault>> {
    use clap::ValueEnum as _;
    let server = stage.database_url.starts_with("mysql:");
    let possible = |fault: &Fault| fault.is_possible(args.nodes, server, stage.mariadb.is_some());
    if args.faults.is_empty() {
        return Ok(Fault::value_variants().iter().copied().filter(possible).collect());
    }
    if let Some(fault) = args.faults.iter().find(|fault| !possible(fault)) {
        bail!("'{}' can't be done here; the database's faults need --mariadb", fault.name());
    }
    Ok(args.faults.clone())
}

fn progress(round: &round::RoundReport, last: usize, cast: &Cast) -> String {
    let ms = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    let broken: u64 = cast.ledger.counts().broken.values().sum();
    format!(
        "round {}/{last} {} {}: acked again {}, live {}, slowest {}, {} acked, {} refused, {} unanswered, {:.1} s{}",
        round.round,
        round.fault.name(),
        round.detail,
        ms(round.acked_again_ms),
        ms(round.live_again_ms),
        ms(Some(round.slowest_ack_ms)),
        round.acked,
        round.refused,
        round.unanswered,
        round.seconds,
        if broken > 0 { format!("; BROKEN so far: {broken}") } else { String::new() }
    )
}
