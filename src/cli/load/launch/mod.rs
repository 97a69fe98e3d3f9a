//! Servers of the run's own: `--launch` starts nodes and a database, and ends them whatever becomes of the run.
//!
//! Nodes end when the pipe to their standard input closes, the database when that to its keeper does; so that a killed
//! load leaves no process behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

mod fill;
pub mod folder;
pub mod kept;
pub mod mariadb;

use self::folder::Folder;
use self::mariadb::{MariaDb, Size};
use super::args::{LoadArgs, Scenario};
use crate::cli::up::{ClusterOptions, LocalCluster, Output};

/// Most nodes of a run; each is a process with threads of its own.
const NODES_MAX: usize = 16;
/// How long a node may take to start, tables included.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long nodes may take to agree on who is up.
const VIEW_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to drain; above its grace period.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long one question to the operators' endpoint may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);
/// What every node warns of whose limit of open files is below its most connections: nothing new in each run.
const KNOWN_WARNING: &str = "open_files_max=";
/// Signing in is not what is measured: hashes that cost next to nothing.
const FAST_PASSWORDS: [(&str, &str); 2] =
    [("accounts.argon2_memory_kib", "8"), ("accounts.argon2_passes", "1")];

/// Servers that the run brings along.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LaunchArgs {
    /// Start so many nodes for the run, and end them after it.
    #[arg(long, value_name = "NODES", global = true)]
    pub launch: Option<usize>,
    /// With --launch: sqlite (a file of the run's own), mariadb (a server of the run's own), or the URL of one that is
    /// there. Default: sqlite.
    #[arg(long, value_name = "DATABASE", global = true)]
    pub database: Option<String>,
    /// With --launch: the nodes' program. Default: this one.
    #[arg(long = "binary", value_name = "FILE", global = true)]
    pub binaries: Vec<PathBuf>,
    /// With --launch: a key of the nodes' configuration, such as storage.writers=2; repeat it for more.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_and_value, global = true)]
    pub config: Vec<(String, String)>,
    /// With --launch: store so many messages of other conversations before the run.
    #[arg(long, value_name = "MESSAGES", global = true)]
    pub stored: Option<u64>,
}

/// What is to be started.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) database: String,
    /// `None`: this program.
    pub(super) binary: Option<PathBuf>,
    pub(super) config: Vec<(String, String)>,
    /// Messages that are there beforehand.
    pub(super) stored: u64,
}

impl LaunchArgs {
    /// What these arguments ask for; `None`: nothing.
    pub(super) fn plan(&self) -> anyhow::Result<Option<Plan>> {
        let Some(nodes) = self.launch else {
            if self.is_given() {
                bail!(
                    "--database, --binary, --config and --stored say how servers are started; that needs --launch"
                );
            }
            return Ok(None);
        };
        if self.binaries.len() > 1 {
            bail!("one --binary is enough, except to compare");
        }
        let database = self.database.clone().unwrap_or_else(|| "sqlite".to_owned());
        let plan = Plan {
            nodes,
            database,
            binary: self.binaries.first().cloned(),
            config: self.config.clone(),
            stored: self.stored.unwrap_or(0),
        };
        plan.check()?;
        Ok(Some(plan))
    }

    /// Whether anything is said about servers of the run's own.
    pub(super) fn is_given(&self) -> bool {
        let Self { launch, database, binaries, config, stored } = self;
        launch.is_some()
            || database.is_some()
            || stored.is_some()
            || !(binaries.is_empty() && config.is_empty())
    }
}

impl Plan {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.nodes == 0 || self.nodes > NODES_MAX {
            bail!("--launch must be 1 to {NODES_MAX}");
        }
        if !matches!(self.database.as_str(), "sqlite" | "mariadb") && !self.database.contains("://") {
            bail!("--database is sqlite, mariadb or a URL, and not '{}'", self.database);
        }
        if self.stored > fill::STORED_MAX {
            bail!("--stored must be at most {}", fill::STORED_MAX);
        }
        Ok(())
    }
}

/// `key.name=value`, as its parts.
pub(super) fn key_and_value(pair: &str) -> Result<(String, String), String> {
    let (key, value) = pair.split_once('=').ok_or("it is not KEY=VALUE")?;
    if !key.contains('.') {
        return Err(format!("'{key}' is no key such as storage.writers"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Nodes and a database. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Launched {
    // Dropped in this order: the nodes before what they stand on.
    cluster: LocalCluster,
    mariadb: Option<MariaDb>,
    database_url: String,
    _folder: Folder,
}

impl Launched {
    /// Starts everything, and waits until all nodes see each other.
    pub(super) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        plan.check()?;
        let folder = Folder::new("load")?;
        let mut mariadb = None;
        let database_url = match plan.database.as_str() {
            "sqlite" => format!("sqlite://{}", folder.path().join("rookery.db").display()),
            "mariadb" => {
                let server = MariaDb::start("127.0.0.1", Size::Large).await?;
                let url = MariaDb::url(&server.address());
                mariadb = Some(server);
                url
            }
            url => url.to_owned(),
        };
        let mut options = ClusterOptions::new(&database_url)?;
        if let Some(binary) = &plan.binary {
            // Absolute, as the nodes run in another folder.
            options.executable =
                binary.canonicalize().with_context(|| format!("{} can't be found", binary.display()))?;
        }
        // This folder's cluster.toml may be of another version than the binary.
        options.folder = Some(folder.path().to_owned());
        options.output = Output::Keep;
        options.ready_timeout = START_TIMEOUT;
        options.grace = DRAIN_TIMEOUT;
        let given = plan.config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        options.environment = FAST_PASSWORDS.into_iter().chain(given).map(variable).collect();
        let cluster = LocalCluster::start(plan.nodes, options).await?;
        let launched = Self { cluster, mariadb, database_url, _folder: folder };
        if plan.stored > 0 {
            fill::fill(&launched.database_url, plan.stored).await?;
        }
        launched.see_each_other().await?;
        Ok(launched)
    }

    /// Tells the arguments of a run where the servers are.
    pub(super) fn direct(&self, args: &mut LoadArgs) {
        args.servers = self.cluster.http_addresses();
        args.tcp_servers = self.cluster.tcp_addresses();
        args.line_servers = self.cluster.nodes().iter().map(|node| node.addresses().line.clone()).collect();
        args.database_url = Some(self.database_url.clone());
        if let Scenario::LineLatency(latency) = &mut args.scenario {
            latency.database_url.get_or_insert_with(|| self.database_url.clone());
        }
        args.server_pids = self.cluster.nodes().iter().filter_map(|node| node.pid()).collect();
        args.database_pids = self.mariadb.iter().map(MariaDb::pid).collect();
    }

    async fn see_each_other(&self) -> anyhow::Result<()> {
        let nodes = self.cluster.nodes();
        let http = reqwest::Client::builder()
            .timeout(ADMIN_TIMEOUT)
            .no_proxy()
            .build()
            .context("the HTTP client's settings are not taken")?;
        let deadline = Instant::now() + VIEW_TIMEOUT;
        for node in nodes {
            let url = format!("http://{}/admin/v1/nodes", node.addresses().admin);
            while up_in(&http, &url).await != Some(nodes.len()) {
                if Instant::now() >= deadline {
                    bail!("{} does not see all nodes up", node.name());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Ends everything in good order. Sentences for what did not, and for what the nodes warned of.
    pub(super) async fn end(mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for node in self.cluster.nodes() {
            let lines = node.output();
            let is_news = |line: &&String| {
                (line.contains(" WARN ") || line.contains(" ERROR ")) && !line.contains(KNOWN_WARNING)
            };
            let warnings: Vec<&String> = lines.iter().filter(is_news).collect();
            if let Some(first) = warnings.first() {
                complaints.push(format!("{}: {} warnings; the first: {first}", node.name(), warnings.len()));
            }
        }
        match timeout(DRAIN_TIMEOUT * 2, self.cluster.shutdown()).await {
            Ok(more) => complaints.extend(more),
            Err(_) => complaints.push("not all nodes ended in time, and were killed".to_owned()),
        }
        complaints
    }
}

/// How many nodes are up in a node's view; `None`: it did not answer.
async fn up_in(http: &reqwest::Client, url: &str) -> Option<usize> {
    let answer: Value = http.get(url).send().await.ok()?.json().await.ok()?;
    let states = answer["items"].as_array()?.iter().map(|node| node["state"].as_str());
    Some(states.filter(|state| *state == Some("up")).count())
}

/// `storage.writers` as a variable of the environment.
fn variable((key, value): (&str, &str)) -> (String, String) {
    (format!("ROOKERY__{}", key.to_uppercase().replace('.', "__")), value.to_owned())
}

/// The version that a program gives of itself, such as "rookery 0.1.0".
pub(super) async fn version_of(binary: &Path) -> Option<String> {
    let output = tokio::process::Command::new(binary).arg("--version").output();
    let output = timeout(ADMIN_TIMEOUT, output).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(launch: Option<usize>, database: Option<&str>) -> LaunchArgs {
        LaunchArgs { launch, database: database.map(str::to_owned), ..LaunchArgs::default() }
    }

    #[test]
    fn what_to_start_is_read_and_checked() {
        assert_eq!(args(None, None).plan().expect("nothing is asked for"), None);
        let plan = args(Some(2), None).plan().expect("it is good").expect("something is asked for");
        assert_eq!((plan.nodes, plan.database.as_str()), (2, "sqlite"));
        assert!(args(Some(2), Some("mysql://a:b@127.0.0.1:1/c")).plan().is_ok());
        for bad in [args(None, Some("mariadb")), args(Some(0), None), args(Some(1), Some("oracle"))] {
            assert!(bad.plan().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_become_variables() {
        let pair = key_and_value("storage.writers=a=b").expect("it is a pair");
        assert_eq!(variable((&pair.0, &pair.1)), ("ROOKERY__STORAGE__WRITERS".to_owned(), "a=b".to_owned()));
        assert!(key_and_value("storage.writers").is_err() && key_and_value("writers=2").is_err());
    }
}
