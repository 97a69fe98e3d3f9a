//! What the command is told, and whether it makes sense.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::compare::CompareArgs;
use super::launch::LaunchArgs;
use super::lean::Framing;
use super::lean::pool::THREADS_MAX;
use super::report::growth::GrowthArgs;
use super::{chaos, checker, fill, measure};

/// Longest run, in seconds.
pub(super) const SECONDS_MAX: u64 = 3600;
/// Most runs of one command.
pub(super) const RUNS_MAX: usize = 100;
/// Most connections of one process.
pub(super) const CONNECTIONS_MAX: usize = 100_000;
/// File descriptors that the process needs beside its connections.
pub(super) const SPARE_FILES: usize = 100;
/// Largest payload: the server's default limit of a text.
pub(super) const PAYLOAD_MAX: usize = 64 * 1024;

/// Most unanswered messages of one writer, or pings of one connection.
pub(super) const IN_FLIGHT_MAX: usize = 10_000;
/// Most messages, pings or deeds a second that an open loop may ask for.
pub(super) const RATE_MAX: f64 = 1e7;
/// Most members of one room: the server's default limit.
pub(super) const ROOM_MAX: usize = 100_000;
/// Most messages of one user's backlog.
pub(super) const MESSAGES_MAX: usize = 1_000_000;
/// Most messages of one page of sync: the server's default limit.
pub(super) const PAGE_MAX: usize = 500;
/// Longest jitter of a reconnect storm.
pub(super) const JITTER_MAX_MS: usize = 600_000;
/// Most sign-ups and connections under way at once.
pub(super) const AT_ONCE_MAX: usize = 4096;
/// Largest padded ping, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 128;

/// Generate load and check deliveries. Talks to loopback addresses only.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// What to do.
    #[command(subcommand)]
    pub scenario: Scenario,
    /// HTTP address (host:port) of a node; repeat it to spread the users over nodes.
    #[arg(long = "server", value_name = "HOST:PORT", default_value = "127.0.0.1:8080", global = true)]
    pub servers: Vec<String>,
    /// TCP frames address of a node, for --transport tcp; repeat it likewise.
    #[arg(long = "tcp-server", value_name = "HOST:PORT", default_value = "127.0.0.1:8081", global = true)]
    pub tcp_servers: Vec<String>,
    /// Lines address of a node, for --transport line; repeat it likewise.
    #[arg(long = "line-server", value_name = "HOST:PORT", default_value = "127.0.0.1:6000", global = true)]
    pub line_servers: Vec<String>,
    /// How the users connect.
    #[arg(long, value_enum, default_value_t = TransportName::WsProto, global = true)]
    pub transport: TransportName,
    /// How long to measure.
    #[arg(long, default_value_t = 10, global = true)]
    pub seconds: u64,
    /// How long to run before measuring.
    #[arg(long, default_value_t = 2, global = true)]
    pub warm_up: u64,
    /// Bytes of text in each message.
    #[arg(long, default_value_t = 100, global = true)]
    pub payload: usize,
    /// Sign-ups, sign-ins and connections under way at once.
    #[arg(long, default_value_t = 64, global = true)]
    pub at_once: usize,
    /// Threads that play the users. More than one takes cores from a server on the same machine.
    #[arg(long, default_value_t = 1, global = true)]
    pub threads: usize,
    /// Users to take instead of signing new ones up: JSON lines that an earlier run against the same database wrote.
    /// What is missing is signed up and added; a file that isn't there is made.
    #[arg(long, value_name = "FILE", global = true)]
    pub users_file: Option<PathBuf>,
    /// Write a line of progress each second though the standard error is no terminal.
    #[arg(long, global = true)]
    pub progress: bool,
    /// A server process whose CPU and memory to report; repeat it for several.
    #[arg(long = "server-pid", value_name = "PID", global = true)]
    pub server_pids: Vec<u32>,
    /// A database process, likewise.
    #[arg(long = "database-pid", value_name = "PID", global = true)]
    pub database_pids: Vec<u32>,
    /// The URL of the servers' database, to name its version in the report; with fill, of the database to fill.
    #[arg(long, value_name = "URL", global = true)]
    pub database_url: Option<String>,
    /// Write the report as JSON to this file, too; with --runs, an array of them.
    #[arg(long, value_name = "FILE", global = true)]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file, too.
    #[arg(long, value_name = "FILE", global = true)]
    pub html: Option<PathBuf>,
    /// Do all of it so many times, and show the medians.
    #[arg(long, value_name = "N", global = true)]
    pub runs: Option<usize>,
    /// A number to keep with the report, such as stored=1000000 for a plot of growth; repeat it for more.
    #[arg(long = "note", value_name = "NAME=NUMBER", value_parser = noted, global = true)]
    pub notes: Vec<(String, f64)>,
    /// Servers of the run's own.
    #[command(flatten)]
    pub launch: LaunchArgs,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand, Serialize)]
pub enum Scenario {
    /// Pairs of users; one of each writes to the other
    Direct(PairArgs),
    /// Group rooms, all members online; some of each write, all others receive
    Room(RoomArgs),
    /// Busy rooms: several writers with several messages under way, so that frames leave together
    Busy(BusyArgs),
    /// Ping and pong, with several under way on each connection
    Echo(EchoArgs),
    /// Connections that do nothing, to see what they cost in memory
    Idle {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
    /// A storm of sign-ins: connect, hello, welcome, close, over and over
    SignIn(SignInArgs),
    /// Messages to users who are offline, who then all come and fetch them by sync
    Backlog(BacklogArgs),
    /// All users lose their connections at once and come back, while others write to them
    Reconnect(ReconnectArgs),
    /// A day of mixed use compressed into the run, with users coming and going
    Mixed(MixedArgs),
    /// SEND to +OK on one line connection, beside the time of a commit
    LineLatency(LineLatencyArgs),
    /// Rounds of faults against a cluster of its own, and a verdict on what became of the messages
    #[command(long_flag = "chaos")]
    #[serde(skip)]
    Chaos(Box<chaos::ChaosArgs>),
    /// Fill the database of --database-url with millions of messages and a user of many conversations, to measure on
    ///
    /// Half of the messages go to the conversations of one user (four fifths of them direct, the others groups of five), half
    /// to a tenth as many of other users, spread over 90 days. What is stored is what servers would have stored, ten quiet
    /// minutes later, but for the search index, which searches make. No server may use the database meanwhile. The other
    /// options of `load` have no meaning here.
    #[serde(skip)]
    Fill(fill::FillArgs),
    /// Show kept reports again, one or several against each other.
    #[serde(skip)]
    Report {
        /// Reports that --json wrote. NAME-1.json, NAME-2.json and so on are runs of one thing.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The title of the page.
        #[arg(long)]
        title: Option<String>,
    },
    /// Draw how figures grow with the connections, members, rooms, nodes or stored messages of several reports.
    #[serde(skip)]
    Growth(GrowthArgs),
    /// Run one scenario against several programs or settings in turns, and show the ratios.
    #[serde(skip)]
    Compare(CompareArgs),
}

/// Pairs.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct PairArgs {
    /// How many pairs.
    #[arg(long, default_value_t = 50)]
    pub pairs: usize,
    /// Sender and receiver of each pair on different nodes; it is so by itself with several nodes, and with this
    /// it is an error if there is one only.
    #[arg(long, conflicts_with = "same_node")]
    pub across: bool,
    /// Sender and receiver of each pair on the same node.
    #[arg(long)]
    pub same_node: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub pace: Pace,
}

/// Rooms.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct RoomArgs {
    /// How many rooms.
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// Members of each, all online, the writers included.
    #[arg(long, default_value_t = 100)]
    pub members: usize,
    /// Members of each that write.
    #[arg(long, default_value_t = 1)]
    pub writers: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub pace: Pace,
}

/// [`RoomArgs`] with the defaults of busy rooms.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct BusyArgs {
    /// How many rooms.
    #[arg(long, default_value_t = 10)]
    pub rooms: usize,
    /// Members of each, all online, the writers included.
    #[arg(long, default_value_t = 100)]
    pub members: usize,
    /// Members of each that write.
    #[arg(long, default_value_t = 5)]
    pub writers: usize,
    /// Unanswered messages of each writer in the closed loop.
    #[arg(long, default_value_t = 20)]
    pub in_flight: usize,
    /// Messages a second of all writers together, answered or not (open loop).
    #[arg(long)]
    pub rate: Option<f64>,
}

impl From<BusyArgs> for RoomArgs {
    fn from(busy: BusyArgs) -> Self {
        let BusyArgs { rooms, members, writers, in_flight, rate } = busy;
        Self { rooms, members, writers, pace: Pace { rate, in_flight } }
    }
}

/// Echoes.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct EchoArgs {
    /// How many connections.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Pings under way on each.
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Bytes of each ping as the client sends it; it is filled up by a field that the protocol ignores.
    #[arg(long, default_value_t = 64)]
    pub frame_bytes: usize,
}

/// Sign-ins.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct SignInArgs {
    /// Users who sign in, each again and again.
    #[arg(long, default_value_t = 1000)]
    pub users: usize,
    /// Sign-ins under way at once.
    #[arg(long, default_value_t = 64)]
    pub workers: usize,
}

/// Offline backlog.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct BacklogArgs {
    /// Users who are offline; as many others write to them, one each.
    #[arg(long, default_value_t = 100)]
    pub users: usize,
    /// Messages to each.
    #[arg(long, default_value_t = 100)]
    pub messages: u64,
    /// Unanswered messages of each writer.
    #[arg(long, default_value_t = 10)]
    pub in_flight: usize,
    /// Messages of one page of sync.
    #[arg(long, default_value_t = 500)]
    pub page: u32,
}

/// Reconnect storm.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct ReconnectArgs {
    /// Users who lose their connections.
    #[arg(long, default_value_t = 500)]
    pub users: usize,
    /// Of them in one room, which has a writer beside them whose connection stays.
    #[arg(long, default_value_t = 10)]
    pub members: usize,
    /// Messages a second of all writers together.
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Each comes back at a random moment within so many milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub jitter_ms: u64,
}

/// Mixed day.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct MixedArgs {
    /// Users, some of whom are online at any time.
    #[arg(long, default_value_t = 500)]
    pub users: usize,
    /// Deeds a second of all users together at noon; at the day's ends it is a fifth.
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// Members of a small room; every user is in one.
    #[arg(long, default_value_t = 8)]
    pub small_room: usize,
    /// Members of a big room; every user is in one, if there are so many users.
    #[arg(long, default_value_t = 200)]
    pub big_room: usize,
    /// Makes the choice of deeds and users repeatable.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Line latency.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct LineLatencyArgs {
    /// The server's database, as its own `storage.url`: the same insert that stores a message is timed there, in
    /// turns with the messages.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

/// How fast writers write.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub struct Pace {
    /// Messages a second of all writers together, answered or not (open loop). Without it, each writes its next
    /// message when one is answered (closed loop).
    #[arg(long)]
    pub rate: Option<f64>,
    /// Unanswered messages of each writer in the closed loop.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
}

/// How users connect, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportName {
    /// WebSocket with JSON.
    WsJson,
    /// WebSocket with protobuf.
    WsProto,
    /// TCP frames.
    Tcp,
    /// Text lines, for direct, room, busy, idle, sign-in and line-latency.
    Line,
}

impl From<TransportName> for Framing {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::WsJson => Self::WsJson,
            TransportName::WsProto => Self::WsProto,
            TransportName::Tcp => Self::Tcp,
            TransportName::Line => Self::Line,
        }
    }
}

impl LoadArgs {
    /// Most connections that the scenario holds at once.
    pub(super) fn connections(&self) -> usize {
        match &self.scenario {
            Scenario::Direct(args) => args.pairs.saturating_mul(2),
            Scenario::Room(args) => args.rooms.saturating_mul(args.members),
            Scenario::Busy(args) => args.rooms.saturating_mul(args.members),
            Scenario::Echo(args) => args.connections,
            Scenario::Idle { connections } => *connections,
            // Those that say goodbye, too.
            Scenario::SignIn(args) => args.users.min(args.workers.saturating_mul(2)),
            Scenario::Backlog(args) => args.users.saturating_mul(2),
            Scenario::Reconnect(args) => args.users + args.users.div_ceil(args.members.max(1)),
            Scenario::Mixed(args) => args.users,
            Scenario::LineLatency(_) => 2,
            Scenario::Chaos(_)
            | Scenario::Fill(_)
            | Scenario::Report { .. }
            | Scenario::Growth(_)
            | Scenario::Compare(_) => 0,
        }
    }

    /// The addresses that users connect to.
    pub(super) fn endpoints(&self) -> &[String] {
        match self.transport {
            TransportName::Tcp => &self.tcp_servers,
            TransportName::Line => &self.line_servers,
            TransportName::WsJson | TransportName::WsProto => &self.servers,
        }
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        for address in self.servers.iter().chain(self.endpoints()) {
            check_loopback(address)?;
        }
        if self.seconds == 0 || self.seconds.saturating_add(self.warm_up) > SECONDS_MAX {
            bail!("--seconds and --warm-up together must be 1 to {SECONDS_MAX}");
        }
        if !(checker::PAYLOAD_MIN..=PAYLOAD_MAX).contains(&self.payload) {
            bail!("--payload must be {} to {PAYLOAD_MAX} bytes", checker::PAYLOAD_MIN);
        }
        within("--at-once", self.at_once, 1, AT_ONCE_MAX)?;
        within("--threads", self.threads, 1, THREADS_MAX)?;
        self.check_scenario()?;
        let connections = self.connections();
        if connections == 0 || connections > CONNECTIONS_MAX {
            bail!("that makes {connections} connections; 1 to {CONNECTIONS_MAX} are possible");
        }
        if let Some(files) = measure::open_files_max()
            && connections + SPARE_FILES > files
        {
            bail!(
                "{connections} connections need more open files than the {files} allowed; raise it with \
                 'ulimit -n {}'",
                connections + SPARE_FILES
            );
        }
        Ok(())
    }

    /// What each scenario asks of its own arguments.
    fn check_scenario(&self) -> anyhow::Result<()> {
        let line = self.transport == TransportName::Line;
        match &self.scenario {
            Scenario::Echo(_) | Scenario::Backlog(_) | Scenario::Reconnect(_) | Scenario::Mixed(_)
                if line =>
            {
                bail!(
                    "lines have no ping and no sync; this scenario needs --transport ws-proto, ws-json or tcp"
                );
            }
            Scenario::LineLatency(_) if !line => bail!("line-latency needs --transport line"),
            Scenario::Direct(args) => {
                if args.across && self.endpoints().len() < 2 {
                    bail!("--across needs two nodes: repeat --server (and --tcp-server, --line-server)");
                }
                args.pace.check()
            }
            Scenario::Room(args) => args.check(),
            Scenario::Busy(args) => RoomArgs::from(args.clone()).check(),
            Scenario::Echo(args) => {
                within("--in-flight", args.in_flight, 1, IN_FLIGHT_MAX)?;
                within("--frame-bytes", args.frame_bytes, 2, FRAME_BYTES_MAX)
            }
            Scenario::SignIn(args) => {
                within("--workers", args.workers, 1, AT_ONCE_MAX)?;
                within("--users", args.users, args.workers, CONNECTIONS_MAX)
            }
            Scenario::Backlog(args) => {
                within("--in-flight", args.in_flight, 1, IN_FLIGHT_MAX)?;
                within("--messages", args.messages as usize, 1, MESSAGES_MAX)?;
                within("--page", args.page as usize, 1, PAGE_MAX)
            }
            Scenario::Reconnect(args) => {
                within("--members", args.members, 1, ROOM_MAX)?;
                within("--jitter-ms", args.jitter_ms as usize, 0, JITTER_MAX_MS)?;
                check_rate(args.rate)
            }
            Scenario::Mixed(args) => {
                within("--users", args.users, 4, CONNECTIONS_MAX)?;
                within("--small-room", args.small_room, 2, ROOM_MAX)?;
                within("--big-room", args.big_room, 2, ROOM_MAX)?;
                check_rate(args.rate)
            }
            Scenario::Idle { .. } | Scenario::LineLatency(_) => Ok(()),
            _ => bail!("this is not a scenario of load"),
        }
    }
}

impl RoomArgs {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.members < 2 {
            bail!("--members must be 2 at least: a writer and somebody who receives");
        }
        within("--members", self.members, 2, ROOM_MAX)?;
        within("--writers", self.writers, 1, self.members)?;
        self.pace.check()
    }
}

impl Pace {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("--in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        self.rate.map_or(Ok(()), check_rate)
    }
}

fn check_rate(rate: f64) -> anyhow::Result<()> {
    if !rate.is_finite() || rate <= 0.0 || rate > RATE_MAX {
        bail!("--rate must be above 0 and at most {RATE_MAX}");
    }
    Ok(())
}

fn within(name: &str, value: usize, least: usize, most: usize) -> anyhow::Result<()> {
    if !(least..=most).contains(&value) {
        bail!("{name} must be {least} to {most}");
    }
    Ok(())
}

/// `stored=1000000`, as its parts.
fn noted(pair: &str) -> Result<(String, f64), String> {
    let (name, value) = pair.split_once('=').ok_or("it is not NAME=NUMBER")?;
    let value: f64 = value.parse().map_err(|_| format!("'{value}' is no number"))?;
    if value.is_finite() { Ok((name.to_owned(), value)) } else { Err("the number is not finite".to_owned()) }
}

/// Refuses what isn't this machine: nobody's server is to be flooded by mistake.
fn check_loopback(address: &str) -> anyhow::Result<()> {
    let resolved: Vec<IpAddr> = address
        .to_socket_addrs()
        .with_context(|| format!("'{address}' is not an address such as 127.0.0.1:8080"))?
        .map(|a| a.ip())
        .collect();
    if resolved.is_empty() || !resolved.iter().all(IpAddr::is_loopback) {
        bail!("'{address}' is not a loopback address; run the load on the server's own machine");
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    pub(in crate::cli::load) fn read(arguments: &[&str]) -> LoadArgs {
        let command = LoadArgs::augment_args(clap::Command::new("load"));
        let matches = command.try_get_matches_from(arguments).expect("the arguments are good");
        LoadArgs::from_arg_matches(&matches).expect("the arguments are complete")
    }

    #[test]
    fn only_this_machine_is_loaded() {
        check_loopback("127.0.0.1:8080").expect("it is loopback");
        check_loopback("[::1]:8080").expect("it is loopback");
        let error = check_loopback("192.0.2.1:8080").expect_err("it is somebody else");
        assert!(error.to_string().contains("not a loopback address"));
    }

    #[test]
    fn a_note_is_a_name_and_a_number() {
        let args = read(&["load", "idle", "--note", "stored=1000"]);
        assert_eq!(args.notes, [("stored".to_owned(), 1000.0)]);
        assert!(noted("stored").is_err() && noted("stored=much").is_err() && noted("a=inf").is_err());
    }

    #[test]
    fn arguments_are_checked() {
        read(&["load", "direct", "--pairs", "2", "--rate", "100"]).check().expect("they are good");
        for bad in [
            &["load", "direct", "--pairs", "0"][..],
            &["load", "direct", "--seconds", "1000000"],
            &["load", "direct", "--payload", "1"],
            &["load", "direct", "--rate", "-1"],
            &["load", "direct", "--across"],
            &[
                "load",
                "direct",
                "--across",
                "--same-node",
                "--server",
                "127.0.0.1:1",
                "--server",
                "127.0.0.1:2",
            ],
            &["load", "room", "--members", "1"],
            &["load", "room", "--writers", "101"],
            &["load", "busy", "--in-flight", "0"],
            &["load", "echo", "--transport", "line"],
            &["load", "line-latency"],
            &["load", "sign-in", "--users", "3"],
            &["load", "backlog", "--messages", "0"],
            &["load", "mixed", "--rate", "0"],
            &["load", "reconnect", "--members", "0"],
            &["load", "idle", "--threads", "0"],
            &["load", "idle", "--server", "192.0.2.1:80"],
        ] {
            let arguments: Vec<&str> = bad.to_vec();
            let command = LoadArgs::augment_args(clap::Command::new("load"));
            let refused = match command.try_get_matches_from(&arguments) {
                Ok(matches) => LoadArgs::from_arg_matches(&matches).expect("complete").check().is_err(),
                Err(_) => true,
            };
            assert!(refused, "{arguments:?}");
        }
    }
}
