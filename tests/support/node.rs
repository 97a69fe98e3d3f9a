//! One real node for tests: the built binary with its own folder, its own SQLite file and free ports.
//!
//! The node stops when its standard input closes, so that none is left behind however the test process ends.
//! Test binaries take this file in by `#[path]`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a node may take to say that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of a node's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;
/// Its log, in its folder.
const LOG: &str = "log";
/// What every test node differs in from the defaults: free ports, and hashes that cost next to nothing.
const TEST_CONFIG: [(&str, &str); 9] = [
    ("gateway.http_listen", "127.0.0.1:0"),
    ("gateway.tcp_listen", "127.0.0.1:0"),
    ("gateway.line_listen", "127.0.0.1:0"),
    ("admin.listen", "127.0.0.1:0"),
    ("cluster.listen", "127.0.0.1:0"),
    ("accounts.argon2_memory_kib", "8"),
    ("accounts.argon2_passes", "1"),
    ("log.filter", "info"),
    // What waits because the machine is busy with other tests is not refused; `overload.rs` sets its own.
    ("overload.wait_max", "20s"),
];

/// A running node. Dropping it ends it and removes its folder.
pub struct Node {
    process: Mutex<Child>,
    addresses: HashMap<String, String>,
    folder: tempfile::TempDir,
    environment: HashMap<String, String>,
}

/// Starts the binary in `folder` and waits until it says where it listens.
fn launch(folder: &Path, environment: &HashMap<String, String>) -> (Child, HashMap<String, String>) {
    let log =
        File::options().create(true).append(true).open(folder.join(LOG)).expect("a file in our own folder");
    let mut process = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .args(["serve", "--stop-on-stdin-close"])
        .current_dir(folder)
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the binary was built for these tests");
    let output = BufReader::new(process.stdout.take().expect("it is a pipe"));
    let (sender, ready) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let Ok(line) = ready.recv_timeout(START_TIMEOUT) else {
        drop(process.kill());
        drop(process.wait());
        panic!("the node did not start:\n{}", end_of_log(folder));
    };
    // rookery ready name=… http=… tcp=… line=… admin=… cluster=…
    let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
    (process, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The end of what a node logged.
fn end_of_log(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

impl Node {
    /// The node that tests share which need nothing of their own: started by the first, ended by the last.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Node>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Self::start(&[]));
            *shared = Arc::downgrade(&node);
            node
        })
    }

    /// A node of one's own, with keys of `cluster.toml` set as given (`("gateway.heartbeat", "1s")`).
    pub fn start(config: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("rookery-node-").tempdir().expect("a temporary folder");
        let database = format!("sqlite://{}", folder.path().join("rookery.db").display());
        let own_database = [("storage.url", database.as_str())];
        // Later ones win.
        let config: HashMap<&str, &str> =
            TEST_CONFIG.iter().chain(&own_database).chain(config).copied().collect();
        let variable = |key: &str| format!("ROOKERY__{}", key.to_uppercase().replace('.', "__"));
        let environment = config.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        let (process, addresses) = launch(folder.path(), &environment);
        Self { process: Mutex::new(process), addresses, folder, environment }
    }

    /// Kills the node as a power cut would, and starts it again on its folder, on other ports.
    pub fn restart(&mut self) {
        self.end();
        let (process, addresses) = launch(self.folder.path(), &self.environment);
        (self.process, self.addresses) = (Mutex::new(process), addresses);
    }

    /// Tells the node to stop, as its operator does, and waits until it has; whether it ended well.
    pub fn drain(&self) -> bool {
        let mut process = self.process();
        drop(process.stdin.take());
        process.wait().expect("the node is our child").success()
    }

    fn end(&self) {
        let mut process = self.process();
        // It may be gone already.
        drop(process.kill());
        drop(process.wait());
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// host:port of one of `http, tcp, line, admin, cluster`; or its `name`.
    pub fn address(&self, what: &str) -> &str {
        self.addresses.get(what).unwrap_or_else(|| panic!("the node did not say its {what} address"))
    }

    /// Its database, for a second node.
    #[allow(dead_code, reason = "most tests have one node")]
    pub fn database_url(&self) -> String {
        self.environment["ROOKERY__STORAGE__URL"].clone()
    }

    /// Memory that the node holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process().id()))
            .expect("the node is running, and the tests run on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux names it");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number")
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its node logged")]
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("the node's log ends with:\n{}", end_of_log(self.folder.path()));
        }
    }
}
