//! A cluster of real `rookery serve` processes on this machine, and what can be done to them.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::node::{Addresses, ExitNotice, LocalNode, Output, Spec};
use super::ports::PortPlan;

/// Seeds given to a node; membership spreads from them.
const SEEDS_MAX: usize = 3;
/// Notices of ended processes that wait to be taken.
const EXITS_MAX: usize = 1024;
/// How long the kernel may take to end a killed process.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How a local cluster is started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The `rookery` binary; by default, this one.
    pub executable: PathBuf,
    /// The database that all nodes share.
    pub database_url: String,
    /// A configuration file for all.
    pub config: Option<PathBuf>,
    /// The folder that they run in; by default this one, whose `cluster.toml` they read.
    pub folder: Option<PathBuf>,
    /// Ports; by default any free ones.
    pub ports: PortPlan,
    /// Further environment of the nodes, such as `ROOKERY__LOG__FILTER`.
    pub environment: Vec<(String, String)>,
    /// Further arguments of `rookery serve`.
    pub extra_arguments: Vec<String>,
    /// Where their output goes.
    pub output: Output,
    /// How long a node may take to become ready.
    pub ready_timeout: Duration,
    /// How long a node may take to end after SIGTERM; above its own `node.grace_period`.
    pub grace: Duration,
    /// What differs for single nodes, by their place; the others run as the fields above say.
    pub settings: Vec<NodeSetting>,
}

/// What differs for one node: for the tools that put each into a network of its own.
#[derive(Clone, Debug, Default)]
pub struct NodeSetting {
    /// A program that starts the node's, with its arguments: `ip netns exec NAME`. It must become the node (`exec`), or
    /// signals miss it. Empty: none.
    pub launcher: Vec<String>,
    /// Where it listens, instead of on loopback at the ports of the plan.
    pub listen: Option<Addresses>,
    /// Its own way to the database.
    pub database_url: Option<String>,
    /// Further environment, which wins over that of all.
    pub environment: Vec<(String, String)>,
}

impl ClusterOptions {
    /// The defaults, with this database.
    pub fn new(database_url: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self {
            executable: std::env::current_exe().context("the path of this program can't be found")?,
            database_url: database_url.into(),
            config: None,
            folder: None,
            ports: PortPlan::any(),
            environment: Vec::new(),
            extra_arguments: Vec::new(),
            output: Output::default(),
            ready_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(25),
            settings: Vec::new(),
        })
    }
}

/// Nodes `n1`, `n2`, … by their place from 0. Dropping it kills those that run.
#[derive(Debug)]
pub struct LocalCluster {
    options: ClusterOptions,
    nodes: Vec<LocalNode>,
    exit_sender: mpsc::Sender<ExitNotice>,
    exits: mpsc::Receiver<ExitNotice>,
}

impl LocalCluster {
    /// Starts `count` nodes and waits until each is ready for clients. Nodes that know each other still have to meet;
    /// the admin endpoint tells when they have.
    pub async fn start(count: usize, mut options: ClusterOptions) -> anyhow::Result<Self> {
        if count == 0 {
            bail!("a cluster has at least one node");
        }
        // A secret for this run: nodes of another cluster on this machine are not let in.
        let cookie = hex::encode(rand::random::<[u8; 16]>());
        options.environment.push(("ROOKERY__CLUSTER__COOKIE".to_owned(), cookie));
        let (exit_sender, exits) = mpsc::channel(EXITS_MAX);
        let mut cluster = Self { options, nodes: Vec::new(), exit_sender, exits };
        // The first alone: the others need its address, and it prepares the database.
        cluster.add().await?;
        let starting = (1..count)
            .map(|at| LocalNode::start(cluster.new_spec(at, Vec::new()), at, cluster.exit_sender.clone()));
        for node in join_all(starting).await {
            cluster.nodes.push(node?);
        }
        Ok(cluster)
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// One of them.
    pub fn node(&self, at: usize) -> &LocalNode {
        &self.nodes[at]
    }

    /// The HTTP and WebSocket addresses of all, for a client's list of endpoints.
    pub fn http_addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addresses().http.clone()).collect()
    }

    /// The TCP frame addresses of all.
    pub fn tcp_addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addresses().tcp.clone()).collect()
    }

    /// Adds a node and gives its place.
    pub async fn add(&mut self) -> anyhow::Result<usize> {
        self.add_with(Vec::new()).await
    }

    /// Adds a node with more environment than the others, as to try another configuration, and gives its place.
    pub async fn add_with(&mut self, environment: Vec<(String, String)>) -> anyhow::Result<usize> {
        let at = self.nodes.len();
        let node = LocalNode::start(self.new_spec(at, environment), at, self.exit_sender.clone()).await?;
        self.nodes.push(node);
        Ok(at)
    }

    /// Kills a node with SIGKILL and waits for its end.
    pub async fn kill9(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].end_expected = true;
        self.nodes[at].signal(Signal::SIGKILL)?;
        let name = self.nodes[at].name();
        let ended = self.nodes[at].exited_within(KILL_GRACE).await;
        ended.map(drop).ok_or_else(|| anyhow!("{name} was killed and has not ended"))
    }

    /// Freezes a node's process with SIGSTOP: its sockets stay open and nobody answers.
    pub fn stop(&self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].signal(Signal::SIGSTOP)
    }

    /// Lets a frozen node go on.
    pub fn cont(&self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].signal(Signal::SIGCONT)
    }

    /// Asks a node to drain and end (SIGTERM), and waits for that. Kills it, and fails, when the grace has passed.
    pub async fn terminate(&mut self, at: usize) -> anyhow::Result<ExitStatus> {
        self.nodes[at].end_expected = true;
        terminate(&self.nodes[at], self.options.grace).await
    }

    /// Starts an ended node again, under its name and at its old addresses, and waits until it is ready.
    pub async fn start_again(&mut self, at: usize) -> anyhow::Result<()> {
        let old = &self.nodes[at];
        if old.is_running() {
            bail!("{} still runs", old.name());
        }
        let mut spec = self.new_spec(at, Vec::new());
        // The address told to others may be another than the one listened on, where a setting has put something between.
        if self.options.settings.get(at).is_none_or(|setting| setting.listen.is_none()) {
            spec.listen = old.addresses().clone();
        }
        self.nodes[at] = LocalNode::start(spec, at, self.exit_sender.clone()).await?;
        Ok(())
    }

    /// The next node that ends without having been told to: its place and status. Cancel-safe.
    pub async fn next_exit(&mut self) -> (usize, ExitStatus) {
        loop {
            let Some((at, pid, status)) = self.exits.recv().await else {
                // We hold a sender ourselves, so that this can't be; never is the safe answer.
                return std::future::pending().await;
            };
            // A node that failed to start is not listed, and was reported by its start.
            if self.nodes.get(at).is_some_and(|node| !node.end_expected && node.was(pid)) {
                return (at, status);
            }
        }
    }

    /// Ends all nodes in good order, at the same time. Gives a sentence for each that didn't end well.
    pub async fn shutdown(&mut self) -> Vec<String> {
        for node in &mut self.nodes {
            node.end_expected = true;
        }
        let grace = self.options.grace;
        let ends = self.nodes.iter().filter(|node| node.is_running()).map(|node| async move {
            match terminate(node, grace).await {
                Ok(status) if status.success() => None,
                Ok(status) => Some(format!("{} ended with {status}", node.name())),
                Err(error) => Some(error.to_string()),
            }
        });
        join_all(ends).await.into_iter().flatten().collect()
    }

    fn new_spec(&self, at: usize, environment: Vec<(String, String)>) -> Spec {
        let [http, tcp, line, admin, cluster] =
            self.options.ports.of(at).map(|port| format!("127.0.0.1:{port}"));
        let seeds = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        let setting = self.options.settings.get(at).cloned().unwrap_or_default();
        let common = self.options.environment.iter().cloned();
        Spec {
            name: format!("n{}", at + 1),
            executable: self.options.executable.clone(),
            launcher: setting.launcher,
            config: self.options.config.clone(),
            folder: self.options.folder.clone(),
            listen: setting.listen.unwrap_or(Addresses { http, tcp, line, admin, cluster }),
            seeds: seeds.map(|(_, node)| node.addresses().cluster.clone()).take(SEEDS_MAX).collect(),
            database_url: setting.database_url.unwrap_or_else(|| self.options.database_url.clone()),
            environment: common.chain(setting.environment).chain(environment).collect(),
            extra_arguments: self.options.extra_arguments.clone(),
            output: self.options.output.clone(),
            ready_timeout: self.options.ready_timeout,
        }
    }
}

async fn terminate(node: &LocalNode, grace: Duration) -> anyhow::Result<ExitStatus> {
    node.signal(Signal::SIGTERM)?;
    // A frozen node can't take the signal until it goes on. An error means that it has ended already.
    let _ = node.signal(Signal::SIGCONT);
    if let Some(status) = node.exited_within(grace).await {
        return Ok(status);
    }
    node.signal(Signal::SIGKILL)?;
    node.exited_within(KILL_GRACE).await;
    bail!("{} did not end within {} s of SIGTERM and was killed", node.name(), grace.as_secs())
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
