//! `rookery up`: a local cluster of real processes in one command.
//!
//! The supervision of the processes is [`LocalCluster`], which the cluster tests use too.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that shows its nodes' addresses and logs"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

pub mod cluster;
pub mod node;
pub mod ports;

pub use cluster::{ClusterOptions, LocalCluster, NodeSetting};
pub use node::{Addresses, LocalNode, Output};
pub use ports::PortPlan;

/// Most nodes that one command starts; each is a process with threads and files of its own.
const NODES_MAX: usize = 64;
/// Pause before a node that died is started again, so that one that can't start doesn't fill the log.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Start a local cluster: several nodes on this machine, with embedded SQLite.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Where the database lives; kept between runs.
    #[arg(long, default_value = "data", value_name = "DIR")]
    pub data: PathBuf,
    /// Use a fresh folder instead, and remove it at the end.
    #[arg(long)]
    pub temporary: bool,
    /// Use this database instead of embedded SQLite: mysql://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// A configuration file for all the nodes.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// HTTP and WebSocket port of the first node; the others count up. Default: 8080 if free, then free ones.
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// TCP frames, likewise. Default: 8081 if free.
    #[arg(long, value_name = "PORT")]
    pub tcp_port: Option<u16>,
    /// TCP lines, likewise. Default: 6000 if free.
    #[arg(long, value_name = "PORT")]
    pub line_port: Option<u16>,
    /// Admin, likewise. Default: 8090 if free.
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Links between nodes, likewise.
    #[arg(long, value_name = "PORT")]
    pub cluster_port: Option<u16>,
    /// Start a node again that ends by itself.
    #[arg(long)]
    pub restart: bool,
    /// Show only the addresses, not the nodes' logs.
    #[arg(long)]
    pub quiet: bool,
}

/// Runs the cluster until Ctrl-C or SIGTERM.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    if args.nodes == 0 || args.nodes > NODES_MAX {
        bail!("--nodes must be 1 to {NODES_MAX}, and is {}", args.nodes);
    }
    let data = DataFolder::open(&args)?;
    let database_url = match (&args.database_url, &data) {
        (Some(url), _) => url.clone(),
        (None, Some(folder)) => format!("sqlite://{}", folder.path.join("rookery.db").display()),
        (None, None) => bail!("there is neither a database URL nor a data folder"),
    };
    let ports = PortPlan::bases(
        args.http_port,
        args.tcp_port,
        args.line_port,
        args.admin_port,
        args.cluster_port,
        args.nodes,
    )
    .map_err(anyhow::Error::msg)?;
    let mut options = ClusterOptions::new(database_url)?;
    options.ports = ports;
    options.config = args.config.clone();
    options.output = if args.quiet { Output::Keep } else { Output::Forward };

    // Before the nodes start, so that no signal is missed.
    let mut stop = StopSignals::listen()?;
    println!("starting {} node(s) …", args.nodes);
    let mut cluster = tokio::select! {
        cluster = LocalCluster::start(args.nodes, options) => cluster?,
        // Dropping the start kills the nodes that it has started.
        () = stop.next() => return Ok(()),
    };
    print_table(&cluster, args.database_url.is_none().then_some(data.as_ref()).flatten());
    supervise(&mut cluster, &args, &mut stop).await;

    println!("stopping; once more Ctrl-C ends it at once …");
    let unclean = tokio::select! {
        unclean = cluster.shutdown() => unclean,
        () = stop.next() => vec!["all: ended at once on request".to_owned()],
    };
    for complaint in &unclean {
        eprintln!("{complaint}");
    }
    drop(cluster);
    drop(data);
    if unclean.is_empty() { Ok(()) } else { bail!("not every node ended in good order") }
}

async fn supervise(cluster: &mut LocalCluster, args: &UpArgs, stop: &mut StopSignals) {
    loop {
        let (at, status) = tokio::select! {
            () = stop.next() => return,
            exit = cluster.next_exit() => exit,
        };
        let name = cluster.nodes()[at].name().to_owned();
        eprintln!("{name} has ended unexpectedly: {status}");
        if !args.restart {
            if cluster.nodes().iter().all(|node| !node.is_running()) {
                eprintln!("no node is left");
                return;
            }
            continue;
        }
        tokio::select! {
            () = stop.next() => return,
            () = tokio::time::sleep(RESTART_PAUSE) => {}
        }
        let restarted = tokio::select! {
            () = stop.next() => return,
            restarted = cluster.start_again(at) => restarted,
        };
        match restarted {
            Ok(()) => println!("{name} runs again"),
            Err(error) => eprintln!("{name} could not be started again: {error:#}"),
        }
    }
}

fn print_table(cluster: &LocalCluster, data: Option<&DataFolder>) {
    println!();
    println!(
        "{:<6} {:<26} {:<18} {:<18} {:<38} {:<18} {:>8}",
        "node", "open in a browser", "TCP frames", "TCP lines", "admin", "cluster", "pid"
    );
    for node in cluster.nodes() {
        let at = node.addresses();
        println!(
            "{:<6} {:<26} {:<18} {:<18} {:<38} {:<18} {:>8}",
            node.name(),
            format!("http://{}/", at.http),
            at.tcp,
            at.line,
            format!("http://{}/admin/v1/nodes", at.admin),
            at.cluster,
            node.pid().unwrap_or_default()
        );
    }
    println!();
    if let Some(data) = data {
        let fate = if data.remove_at_end { "removed at the end" } else { "kept" };
        println!("data: {} ({fate})", data.path.display());
    }
    if let Some(first) = cluster.nodes().first() {
        println!("chat: rookery chat --server {}", first.addresses().http);
    }
    println!("Ctrl-C stops all nodes.");
    println!();
}

/// Ctrl-C and SIGTERM.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("signals can't be listened for")?;
        let terminate = signal(SignalKind::terminate()).context("signals can't be listened for")?;
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where the database lives.
struct DataFolder {
    path: PathBuf,
    remove_at_end: bool,
}

impl DataFolder {
    /// `None` with a database elsewhere.
    fn open(args: &UpArgs) -> anyhow::Result<Option<Self>> {
        if args.database_url.is_some() {
            return Ok(None);
        }
        let path = if args.temporary {
            std::env::temp_dir().join(format!("rookery-up-{:016x}", rand::random::<u64>()))
        } else {
            args.data.clone()
        };
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} can't be made; name another folder with --data", path.display()))?;
        let path = absolute(&path)?;
        Ok(Some(Self { path, remove_at_end: args.temporary }))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.remove_at_end
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("{} can't be removed: {error}", self.path.display());
        }
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{} can't be found", path.display()))
}
