//! The surroundings of a test: a cluster of real processes, its operators' view, and waiting with a deadline.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use rookery::cli::up::{ClusterOptions, LocalCluster, Output};
use rookery::client::Rest;
use serde_json::Value;
use tempfile::TempDir;

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);
/// How long nodes may take to agree on a view of the cluster.
pub const VIEW_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an idle cluster may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of each node's output shown when a test fails.
const LINES_SHOWN: usize = 60;

/// What all nodes of these tests differ in from the defaults: hashes that cost next to nothing, and nothing
/// refused because the machine is busy with other tests.
pub const CHEAP: [(&str, &str); 4] = [
    ("ROOKERY__ACCOUNTS__ARGON2_MEMORY_KIB", "8"),
    ("ROOKERY__ACCOUNTS__ARGON2_PASSES", "1"),
    ("ROOKERY__LOG__FILTER", "info"),
    ("ROOKERY__OVERLOAD__WAIT_MAX", "20s"),
];

/// The binary under test.
pub const ROOKERY: &str = env!("CARGO_BIN_EXE_rookery");

/// A seed for what a test does at random: `ROOKERY_TEST_SEED`, or a new one. Printed, and again with a violation.
#[expect(clippy::print_stderr, reason = "a failed run is repeated with its seed")]
pub fn seed() -> u64 {
    let given = std::env::var("ROOKERY_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("ROOKERY_TEST_SEED is a number"));
    eprintln!("seed {seed}");
    seed
}

/// An empty folder that is removed with its handle.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("rookery-cluster-").tempdir().expect("a temporary folder")
}

/// Looks again and again until there is something, and fails after `limit`.
pub async fn eventually<T, F>(limit: Duration, what: impl Display, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Fails the test when it takes longer than `limit`, so that a hang has a name.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// A local cluster in a temporary folder. When the test fails, the nodes' last words are shown.
pub struct Cluster {
    local: LocalCluster,
    _folder: Option<TempDir>,
}

impl Deref for Cluster {
    type Target = LocalCluster;
    fn deref(&self) -> &LocalCluster {
        &self.local
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut LocalCluster {
        &mut self.local
    }
}

impl Cluster {
    /// `count` nodes on one SQLite file of their own, which all see each other up.
    pub async fn on_sqlite(count: usize) -> Self {
        let folder = folder();
        let url = format!("sqlite://{}", folder.path().join("rookery.db").display());
        Self::start(count, url, Some(folder)).await
    }

    /// The same on a database given.
    pub async fn on(count: usize, database_url: String) -> Self {
        Self::start(count, database_url, None).await
    }

    async fn start(count: usize, database_url: String, folder: Option<TempDir>) -> Self {
        Self::with(count, Self::options(database_url), folder).await
    }

    /// What nodes of these tests are started with, to be changed and given to [`Cluster::with`].
    pub fn options(database_url: String) -> ClusterOptions {
        let mut options = ClusterOptions::new(database_url).expect("this program has a path");
        options.executable = ROOKERY.into();
        options.environment = CHEAP.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        options.output = Output::Keep;
        options
    }

    /// `count` nodes with these options, which all see each other up; `folder` goes with them.
    pub async fn with(count: usize, options: ClusterOptions, folder: Option<TempDir>) -> Self {
        let local = LocalCluster::start(count, options).await.expect("the nodes start");
        let cluster = Self { local, _folder: folder };
        let all: Vec<usize> = (0..count).collect();
        cluster.see_each_other(&all).await;
        cluster
    }

    /// Waits until each of these nodes sees exactly these up.
    pub async fn see_each_other(&self, nodes: &[usize]) {
        let names: Vec<String> = nodes.iter().map(|at| self.node(*at).name().to_owned()).collect();
        for at in nodes {
            let admin = self.admin(*at);
            let what = format!("{} sees {names:?} up, and no others", self.node(*at).name());
            eventually(VIEW_TIMEOUT, what, || async {
                let states = admin.states().await.ok()?;
                let up: Vec<&String> =
                    states.iter().filter(|(_, state)| *state == "up").map(|(name, _)| name).collect();
                (up == names.iter().collect::<Vec<_>>()).then_some(())
            })
            .await;
        }
    }

    /// Ends all nodes that run; each must drain well, and soon, as there is nothing to wait for.
    pub async fn end(mut self) {
        let began = Instant::now();
        assert_eq!(self.local.shutdown().await, Vec::<String>::new());
        let took = began.elapsed();
        assert!(took < END_TIMEOUT, "the idle cluster ended in {took:?}");
    }

    /// The operators' endpoint of a node.
    pub fn admin(&self, at: usize) -> Admin {
        Admin::at(&self.node(at).addresses().admin)
    }

    /// REST at all nodes.
    pub fn rest(&self) -> Rest {
        Rest::new(self.http_addresses())
    }

    /// The place of the node of that name.
    pub fn place_of(&self, name: &str) -> usize {
        self.nodes().iter().position(|node| node.name() == name).expect("it is a node of this cluster")
    }

    /// The node that owns a room, as node `asked` sees it.
    pub async fn owner_of_room(&self, asked: usize, conversation_id: u64) -> usize {
        let placement = self.admin(asked).get(&format!("/placement?kind=room&key={conversation_id}")).await;
        let placement = placement.expect("placement answers");
        self.place_of(placement["owner"].as_str().expect("a room has an owner"))
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its nodes logged")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.local.nodes() {
            let lines = node.output();
            let shown = lines.len().saturating_sub(LINES_SHOWN);
            let fate = if node.is_running() { "running" } else { "ended" };
            eprintln!("--- {} ({fate}) ---", node.name());
            for line in &lines[shown..] {
                eprintln!("{line}");
            }
        }
    }
}

/// The operators' endpoint of one node.
pub struct Admin {
    http: reqwest::Client,
    base: String,
}

impl Admin {
    /// At host:port.
    pub fn at(address: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .build()
            .expect("the settings are valid");
        Self { http, base: format!("http://{address}/admin/v1") }
    }

    /// What a path under `/admin/v1` answers; an error has the status and the body.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let response =
            self.http.get(format!("{}{path}", self.base)).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body: Value = response.json().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}")) }
    }

    /// Name → state of all nodes that this one knows.
    pub async fn states(&self) -> Result<BTreeMap<String, String>, String> {
        let nodes = self.get("/nodes").await?;
        let items = nodes["items"].as_array().ok_or_else(|| format!("no items: {nodes}"))?;
        let word = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|node| (word(node, "name"), word(node, "state"))).collect())
    }

    /// All actors of a kind, page by page.
    pub async fn actors(&self, kind: &str) -> Vec<Value> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/actors?kind={kind}&limit=40&cursor={cursor}");
            let page = self.get(&path).await.expect("actors are listed");
            assert_eq!(page["incomplete"], Value::Array(Vec::new()), "every node answers for its actors");
            found.extend(page["items"].as_array().expect("a list has items").iter().cloned());
            cursor = page["next_cursor"].as_str().expect("a list has a cursor").to_owned();
            if cursor.is_empty() {
                return found;
            }
        }
    }
}
