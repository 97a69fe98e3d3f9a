//! `rookery serve`: one node, from its arguments to its last flush.

use std::path::PathBuf;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{descriptors, run_on};
use crate::config::Config;
use crate::gateway::home::Home;
use crate::node::Node;
use crate::telemetry;

/// Arguments of `rookery serve`. Each overrides its key of the configuration.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// The file to read; without it `cluster.toml` in this folder, where there is one
    #[arg(long)]
    config: Option<PathBuf>,
    /// The node's name, unique in the cluster (node.name)
    #[arg(long)]
    name: Option<String>,
    /// HTTP and WebSocket (gateway.http_listen)
    #[arg(long)]
    http_listen: Option<String>,
    /// TCP frames (gateway.tcp_listen)
    #[arg(long)]
    tcp_listen: Option<String>,
    /// TCP lines (gateway.line_listen)
    #[arg(long)]
    line_listen: Option<String>,
    /// The operators' endpoint (admin.listen)
    #[arg(long)]
    admin_listen: Option<String>,
    /// Links from other nodes (cluster.listen)
    #[arg(long)]
    cluster_listen: Option<String>,
    /// host:port of a node of the cluster; repeat it for more (cluster.seeds)
    #[arg(long = "seed")]
    seeds: Vec<String>,
    /// sqlite://PATH or mysql://USER:PASSWORD@HOST:PORT/DATABASE (storage.url)
    #[arg(long)]
    database_url: Option<String>,
    /// Drain and stop when standard input closes: for a process that runs nodes and must not leave any behind
    #[arg(long)]
    stop_on_stdin_close: bool,
}

impl ServeArgs {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        let overrides = [
            (&self.name, &mut config.node.name),
            (&self.http_listen, &mut config.gateway.http_listen),
            (&self.tcp_listen, &mut config.gateway.tcp_listen),
            (&self.line_listen, &mut config.gateway.line_listen),
            (&self.admin_listen, &mut config.admin.listen),
            (&self.cluster_listen, &mut config.cluster.listen),
            (&self.database_url, &mut config.storage.url),
        ];
        for (given, key) in overrides {
            if let Some(given) = given {
                key.clone_from(given);
            }
        }
        if !self.seeds.is_empty() {
            config.cluster.seeds.clone_from(&self.seeds);
        }
        config.check()?;
        Ok(config)
    }
}

/// Runs the command: returns when the node has drained.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    match actor_threads(&config) {
        1 => run_on(&mut Builder::new_current_thread(), serve(config, args.stop_on_stdin_close)),
        threads => run_on(
            Builder::new_multi_thread().worker_threads(threads),
            serve(config, args.stop_on_stdin_close),
        ),
    }
}

/// By default half the cores: with one for each, threads that find nothing to do are woken by every hop of a message
/// (docs/performance.md).
fn actor_threads(config: &Config) -> usize {
    match config.node.actor_threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        threads => threads,
    }
}

#[expect(clippy::print_stdout, reason = "the line tells whoever started the node where it listens")]
async fn serve(config: Config, stop_on_stdin_close: bool) -> anyhow::Result<()> {
    let _logs = telemetry::start(&config.log)?;
    descriptors::raise(config.gateway.connections_max);
    let grace_period = config.node.grace_period;
    let node = Node::start(config, Home::here()).await.context("the node could not start")?;
    println!("rookery ready {}", node.addresses());
    let why = tokio::select! {
        why = stop_signal(stop_on_stdin_close) => why?,
        () = node.drain_ordered() => "an operator's order",
    };
    tracing::info!(why, ?grace_period, "draining");
    node.drain().await;
    tracing::info!("drained");
    Ok(())
}

/// Waits for SIGTERM, SIGINT, or the end of standard input where that counts.
async fn stop_signal(stop_on_stdin_close: bool) -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stdin_closed = async {
        if !stop_on_stdin_close {
            return std::future::pending().await;
        }
        let mut sink = [0; 256];
        let mut stdin = tokio::io::stdin();
        while !matches!(stdin.read(&mut sink).await, Ok(0) | Err(_)) {}
    };
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stdin_closed => "standard input was closed",
    })
}
