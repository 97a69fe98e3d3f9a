//! `rookery load`: generates load over the public protocol, checks every delivery, and says what it cost.
//!
//! One process plays all the users. `people` signs them up and connects them, `sender` and `receiver` play one side
//! each, `checker` judges what arrives, `measure` keeps times and reads `/proc`, `report` prints.

#![expect(clippy::print_stdout, reason = "a command that prints its report")]

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::client::Transport;

pub mod chaos;
mod checker;
mod measure;
mod people;
mod receiver;
mod report;
mod scenarios;
mod sender;

/// Longest run, in seconds.
const SECONDS_MAX: u64 = 3600;
/// Most connections of one process.
const CONNECTIONS_MAX: usize = 100_000;
/// File descriptors that the process needs beside its connections.
const SPARE_FILES: usize = 100;
/// Largest payload: the server's default limit of a text.
const PAYLOAD_MAX: usize = 64 * 1024;

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
    #[arg(long, default_value_t = 16, global = true)]
    pub at_once: usize,
    /// A server process whose CPU and memory to report; repeat it for several.
    #[arg(long = "server-pid", value_name = "PID", global = true)]
    pub server_pids: Vec<u32>,
    /// A database process, likewise.
    #[arg(long = "database-pid", value_name = "PID", global = true)]
    pub database_pids: Vec<u32>,
    /// Write the report as JSON to this file, too.
    #[arg(long, value_name = "FILE", global = true)]
    pub json: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// Pairs of users; one of each writes to the other.
    Direct {
        /// How many pairs.
        #[arg(long, default_value_t = 50)]
        pairs: usize,
        #[command(flatten)]
        pace: Pace,
    },
    /// Group rooms; one member of each writes, all others receive.
    Room {
        /// How many rooms.
        #[arg(long, default_value_t = 1)]
        rooms: usize,
        /// Members of each, all online, the writer included.
        #[arg(long, default_value_t = 100)]
        members: usize,
        #[command(flatten)]
        pace: Pace,
    },
    /// Connections that do nothing, to see what they cost in memory.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
    /// Rounds of faults against a cluster of its own, and a verdict on what became of the messages.
    #[command(long_flag = "chaos")]
    Chaos(Box<chaos::ChaosArgs>),
}

/// How fast writers write.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Pace {
    /// Messages a second of all writers together, answered or not (open loop). Without it, each writes its next
    /// message when one is answered (closed loop).
    #[arg(long)]
    pub rate: Option<f64>,
    /// Unanswered messages of each writer in the closed loop.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
}

/// [`Transport`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportName {
    /// WebSocket with JSON.
    WsJson,
    /// WebSocket with protobuf.
    WsProto,
    /// TCP frames.
    Tcp,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::WsJson => Self::WebSocketJson,
            TransportName::WsProto => Self::WebSocketProto,
            TransportName::Tcp => Self::Tcp,
        }
    }
}

impl LoadArgs {
    fn connections(&self) -> usize {
        match self.scenario {
            Scenario::Direct { pairs, .. } => pairs.saturating_mul(2),
            Scenario::Room { rooms, members, .. } => rooms.saturating_mul(members),
            Scenario::Idle { connections } => connections,
            Scenario::Chaos(_) => 0,
        }
    }

    /// The addresses that users connect to.
    fn endpoints(&self) -> &[String] {
        match self.transport {
            TransportName::Tcp => &self.tcp_servers,
            _ => &self.servers,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        for address in self.servers.iter().chain(self.endpoints()) {
            check_loopback(address)?;
        }
        if self.seconds == 0 || self.seconds + self.warm_up > SECONDS_MAX {
            bail!("--seconds and --warm-up together must be 1 to {SECONDS_MAX}");
        }
        if !(checker::PAYLOAD_MIN..=PAYLOAD_MAX).contains(&self.payload) {
            bail!("--payload must be {} to {PAYLOAD_MAX} bytes", checker::PAYLOAD_MIN);
        }
        let connections = self.connections();
        if connections == 0 || connections > CONNECTIONS_MAX {
            bail!("that makes {connections} connections; 1 to {CONNECTIONS_MAX} are possible");
        }
        if let Scenario::Room { members: 0 | 1, .. } = self.scenario {
            bail!("--members must be 2 at least: a writer and somebody who receives");
        }
        if let Scenario::Direct { pace, .. } | Scenario::Room { pace, .. } = self.scenario
            && (pace.in_flight == 0 || pace.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0))
        {
            bail!("--rate must be above 0 and --in-flight at least 1");
        }
        if self.at_once == 0 {
            bail!("--at-once must be at least 1");
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
}

/// Runs the scenario and prints its report. An error if deliveries were lost, doubled or out of order.
pub async fn run(args: LoadArgs) -> anyhow::Result<()> {
    if let Scenario::Chaos(chaos) = args.scenario {
        // It loads no server but those that it starts.
        return Box::pin(chaos::run(*chaos, args.json)).await;
    }
    args.check()?;
    let report = match args.scenario.clone() {
        Scenario::Direct { pairs, pace } => scenarios::direct(&args, pairs, pace).await?,
        Scenario::Room { rooms, members, pace } => scenarios::room(&args, rooms, members, pace).await?,
        Scenario::Idle { connections } => scenarios::idle(&args, connections).await?,
        Scenario::Chaos(_) => unreachable!("it was run above"),
    };
    println!("{}", report.table());
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("the report can't be written as JSON")?;
        std::fs::write(file, json + "\n").with_context(|| format!("{} can't be written", file.display()))?;
    }
    if report.has_faults() {
        bail!("deliveries were lost, doubled or out of order; see the report");
    }
    Ok(())
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

/// How long answers and deliveries are awaited after the last message.
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn read(arguments: &[&str]) -> LoadArgs {
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
    fn arguments_are_checked() {
        read(&["load", "direct", "--pairs", "2", "--rate", "100"]).check().expect("they are good");
        for bad in [
            &["load", "direct", "--pairs", "0"][..],
            &["load", "direct", "--seconds", "1000000"],
            &["load", "direct", "--payload", "1"],
            &["load", "direct", "--rate", "-1"],
            &["load", "room", "--members", "1"],
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
