//! What a run plays on: the net, the database, the nodes, and what can be done to each. Every wait has a deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::net::{Namespaces, Net, Proxies};
use crate::cli::load::launch::folder::Folder;
use crate::cli::load::launch::mariadb::{MariaDb, Size};
use crate::cli::up::{ClusterOptions, LocalCluster, Output};

/// How long nodes may take to agree on who is up.
pub const VIEW_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a node may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to drain; above its grace period.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long one question to the operators' endpoint may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(40);
/// What the operators' endpoint wants where it does not listen on loopback.
const ADMIN_TOKEN: &str = "chaos-admin";

/// Which net to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NetKind {
    /// Namespaces where the machine allows them, else proxies.
    #[default]
    Auto,
    /// A network namespace a node (root, iproute2, nftables).
    Namespaces,
    /// Proxies between the nodes.
    Proxies,
}

/// Which database to use.
#[derive(Clone, Debug)]
pub enum DatabaseKind {
    /// An SQLite file of the run's own.
    Sqlite,
    /// A MariaDB server of the run's own.
    MariaDb,
    /// One that is there.
    Url(String),
}

/// How a stage is set up.
#[derive(Clone, Debug)]
pub struct StageOptions {
    /// Nodes at the start.
    pub nodes: usize,
    /// Nodes that may join later.
    pub spare: usize,
    /// The net.
    pub net: NetKind,
    /// The database.
    pub database: DatabaseKind,
    /// The binary of the nodes; `None`: this one.
    pub executable: Option<PathBuf>,
    /// Keys of the nodes' configuration: `cluster.down_after` and its value.
    pub set: Vec<(String, String)>,
    /// Where the nodes' logs go; `None`: nowhere.
    pub logs: Option<PathBuf>,
}

/// See the module. Dropping it ends everything.
pub struct Stage {
    // Dropped in this order: the nodes before what they stand on.
    /// The nodes.
    pub cluster: LocalCluster,
    /// The run's own MariaDB.
    pub mariadb: Option<MariaDb>,
    /// The net.
    pub net: Box<dyn Net>,
    /// The database as this process reaches it.
    pub database_url: String,
    http: reqwest::Client,
    _folder: Folder,
}

impl Stage {
    /// Starts everything, and waits until all nodes see each other.
    pub async fn start(options: &StageOptions) -> anyhow::Result<Self> {
        let folder = Folder::new("chaos")?;
        let places = options.nodes + options.spare;
        let mut net = open_net(options.net, places).await?;
        let mut mariadb = None;
        let database_url = match &options.database {
            DatabaseKind::Sqlite => format!("sqlite://{}", folder.path().join("rookery.db").display()),
            DatabaseKind::MariaDb => {
                let server = MariaDb::start(&net.database_host(), Size::Small).await?;
                let url = MariaDb::url(&server.address());
                mariadb = Some(server);
                url
            }
            DatabaseKind::Url(url) => url.clone(),
        };
        let server = server_of(&database_url);
        if let Some(server) = &server {
            net.attach_database(server).await?;
        }
        let mut cluster = ClusterOptions::new(&database_url)?;
        if let Some(executable) = &options.executable {
            cluster.executable.clone_from(executable);
        }
        cluster.output = options.logs.clone().map_or(Output::Keep, Output::Files);
        cluster.ready_timeout = START_TIMEOUT;
        cluster.grace = DRAIN_TIMEOUT;
        cluster.environment = vec![
            // Signing in is not what is under test.
            ("ROOKERY__ACCOUNTS__ARGON2_MEMORY_KIB".to_owned(), "8".to_owned()),
            ("ROOKERY__ACCOUNTS__ARGON2_PASSES".to_owned(), "1".to_owned()),
            ("ROOKERY__ADMIN__TOKEN".to_owned(), ADMIN_TOKEN.to_owned()),
        ];
        for (key, value) in &options.set {
            let variable = format!("ROOKERY__{}", key.to_uppercase().replace('.', "__"));
            cluster.environment.push((variable, value.clone()));
        }
        cluster.settings = (0..places)
            .map(|at| {
                let (mut setting, database) = net.setting(at);
                if let (Some(own), Some(server)) = (database, &server) {
                    setting.database_url = Some(database_url.replacen(server, &own, 1));
                }
                setting
            })
            .collect();
        let cluster = LocalCluster::start(options.nodes, cluster).await?;
        let http = reqwest::Client::builder()
            .timeout(ADMIN_TIMEOUT)
            .no_proxy()
            .build()
            .context("the HTTP client's settings are not taken")?;
        let stage = Self { cluster, mariadb, net, database_url, http, _folder: folder };
        stage.see_each_other(VIEW_TIMEOUT).await?;
        Ok(stage)
    }

    /// The places of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.cluster.nodes().len()).filter(|at| self.cluster.node(*at).is_running()).collect()
    }

    /// Waits until each running node sees exactly the running ones up.
    pub async fn see_each_other(&self, limit: Duration) -> anyhow::Result<()> {
        let running = self.running();
        let names: Vec<String> = running.iter().map(|at| self.cluster.node(*at).name().to_owned()).collect();
        let deadline = Instant::now() + limit;
        let each = running.iter().map(|at| self.sees(*at, &names, deadline));
        for seen in join_all(each).await {
            seen?;
        }
        Ok(())
    }

    async fn sees(&self, at: usize, names: &[String], deadline: Instant) -> anyhow::Result<()> {
        loop {
            let found = self.states(at).await;
            let up = |states: &BTreeMap<String, String>| -> Vec<String> {
                states.iter().filter(|(_, state)| *state == "up").map(|(name, _)| name.clone()).collect()
            };
            match found {
                Ok(states) if up(&states) == names => return Ok(()),
                found if Instant::now() >= deadline => {
                    bail!("{} does not see {names:?} up, but {found:?}", self.cluster.node(at).name())
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// Name → state of all nodes, as the one at this place sees them.
    pub async fn states(&self, at: usize) -> anyhow::Result<BTreeMap<String, String>> {
        let nodes = self.admin(at, "/nodes").await?;
        let items = nodes["items"].as_array().ok_or_else(|| anyhow!("the list of nodes has no items"))?;
        let word = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|node| (word(node, "name"), word(node, "state"))).collect())
    }

    /// The place of the owner of each of these rooms, as the node at `asked` sees it.
    pub async fn owners(&self, asked: usize, rooms: &[u64]) -> anyhow::Result<Vec<usize>> {
        let each = rooms.iter().map(|room| async move {
            let answer = self.admin(asked, &format!("/placement?kind=room&key={room}")).await?;
            let owner = answer["owner"].as_str().and_then(|name| name.strip_prefix('n'));
            let number: usize = owner.and_then(|number| number.parse().ok()).unwrap_or(0);
            number.checked_sub(1).ok_or_else(|| anyhow!("room {room} has no owner: {answer}"))
        });
        join_all(each).await.into_iter().collect()
    }

    async fn admin(&self, at: usize, path: &str) -> anyhow::Result<Value> {
        let node = self.cluster.node(at);
        let url = format!("http://{}/admin/v1{path}", node.addresses().admin);
        let response = self.http.get(&url).bearer_auth(ADMIN_TOKEN).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let answer = response.with_context(|| format!("{} does not answer {path}", node.name()))?;
        answer.json().await.with_context(|| format!("{} answers {path} with no JSON", node.name()))
    }

    /// Brings everything back to order, whatever has gone wrong: the net heals, what is frozen goes on, what is dead
    /// starts. A node that can't be brought back is killed and started.
    pub async fn repair(&mut self) -> anyhow::Result<()> {
        self.net.heal().await?;
        if let Some(mariadb) = &mut self.mariadb {
            // An error means that it does not run.
            if mariadb.thaw().is_err() {
                mariadb.restart().await?;
            }
        }
        for at in self.running() {
            // An error means that it has just ended.
            let _ = self.cluster.cont(at);
        }
        self.start_all().await;
        if self.see_each_other(VIEW_TIMEOUT).await.is_ok() {
            return Ok(());
        }
        for at in self.running() {
            self.cluster.kill9(at).await?;
        }
        self.start_all().await;
        self.see_each_other(VIEW_TIMEOUT).await
    }

    /// Starts every node that does not run; one that can't is tried once more.
    async fn start_all(&mut self) {
        for at in 0..self.cluster.nodes().len() {
            for _ in 0..2 {
                if self.cluster.node(at).is_running() || self.cluster.start_again(at).await.is_ok() {
                    break;
                }
            }
        }
    }

    /// Ends everything in good order; sentences for what did not.
    pub async fn end(mut self) -> Vec<String> {
        // An error can't stop us here.
        let _ = self.net.heal().await;
        let complaints = match timeout(DRAIN_TIMEOUT * 2, self.cluster.shutdown()).await {
            Ok(complaints) => complaints,
            Err(_) => vec!["not all nodes ended in time, and were killed".to_owned()],
        };
        let Self { cluster, mariadb, mut net, .. } = self;
        drop(cluster);
        drop(mariadb);
        net.end().await;
        complaints
    }
}

/// A net of the kind wished for, or of the one that the machine allows.
#[expect(clippy::print_stderr, reason = "whoever runs it should know what it runs on")]
pub async fn open_net(kind: NetKind, places: usize) -> anyhow::Result<Box<dyn Net>> {
    if kind != NetKind::Proxies {
        match Namespaces::start(places).await {
            Ok(net) => return Ok(Box::new(net)),
            Err(error) if kind == NetKind::Namespaces => {
                return Err(error.context("network namespaces can't be made"));
            }
            Err(error) => eprintln!("no network namespaces here ({error:#}); proxies take their place"),
        }
    }
    Ok(Box::new(Proxies::start(places).await?))
}

/// host:port of a database URL; `None`: it is a file.
fn server_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("mysql://")?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    Some(host.split('/').next().unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_url_is_found() {
        assert_eq!(server_of("mysql://a:b@10.0.0.1:3306/x").as_deref(), Some("10.0.0.1:3306"));
        assert_eq!(server_of("mysql://localhost:1/x").as_deref(), Some("localhost:1"));
        assert_eq!(server_of("sqlite:///tmp/x"), None);
    }
}
