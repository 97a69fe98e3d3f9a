//! Starts nodes as processes, talks to them, and ends them whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rookery::config::Config;

use crate::node::{NODE, PREFIX, Settings};

/// One test at a time: they measure times, and each needs several processes.
static TURN: Mutex<()> = Mutex::new(());

/// How long a node may take to do what it is told.
const OBEY_MAX: Duration = Duration::from_secs(30);

/// Checks again and again until it holds, and fails after `limit`.
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        pause();
    }
}

/// Leaves the processor to the nodes between two looks at them.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// The nodes of one test.
pub struct Nodes {
    nodes: BTreeMap<String, Process>,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Nodes {
    pub fn new() -> Self {
        // A test that failed has ended its nodes all the same.
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("the system has room for a folder");
        Self { nodes: BTreeMap::new(), folder, _turn: turn }
    }

    /// `a`, `b` and `c`, which have `a` as their seed.
    pub fn start_three(&mut self) {
        self.start("a", |_| {});
        let seed = self.get("a").address().to_owned();
        for name in ["b", "c"] {
            self.spawn(name, |config| config.cluster.seeds = vec![seed.clone()]);
        }
        self.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(5));
    }

    /// Starts a node and waits until it listens.
    pub fn start(&mut self, name: &str, set: impl FnOnce(&mut Config)) {
        self.start_as(name, name, set);
    }

    /// Starts a node whose clock begins at `clock_ms` (Unix time; 0: now).
    pub fn start_at(&mut self, name: &str, clock_ms: u64, set: impl FnOnce(&mut Config)) {
        self.spawn_as(name, name, clock_ms, set);
        self.get(name).address();
    }

    /// Starts a node that the test calls otherwise.
    pub fn start_as(&mut self, name: &str, called: &str, set: impl FnOnce(&mut Config)) {
        self.spawn_as(name, called, 0, set);
        self.get(called).address();
    }

    /// Starts a node and goes on.
    pub fn spawn(&mut self, name: &str, set: impl FnOnce(&mut Config)) {
        self.spawn_as(name, name, 0, set);
    }

    fn spawn_as(&mut self, name: &str, called: &str, clock_ms: u64, set: impl FnOnce(&mut Config)) {
        let journal = self.folder.path().join("journal").display().to_string();
        let mut settings = Settings { journal, clock_ms, ..Settings::default() };
        settings.config.node.name = name.to_owned();
        settings.config.cluster.listen = "127.0.0.1:0".to_owned();
        settings.config.cluster.cookie = "cookie of the tests".to_owned();
        set(&mut settings.config);
        self.nodes.insert(called.to_owned(), Process::start(&settings));
    }

    pub fn get(&self, name: &str) -> &Process {
        &self.nodes[name]
    }

    /// Waits until each of the nodes has that view.
    pub fn await_view(&self, names: &[&str], view: &str, limit: Duration) {
        let began = Instant::now();
        for name in names {
            let mut last = String::new();
            while last != view {
                assert!(
                    began.elapsed() < limit,
                    "not within {limit:?}: '{name}' sees '{view}', but '{last}'"
                );
                pause();
                last = self.get(name).ask_line("view");
            }
        }
    }

    /// Checks that for each key and asker the questions were first executed, by whichever node, in the order in which
    /// they were asked.
    pub fn check_order(&self) {
        let journal =
            std::fs::read_to_string(self.folder.path().join("journal")).expect("nodes have written it");
        let mut seen: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
        for line in journal.lines() {
            let words: Vec<u64> =
                line.split(' ').map(|word| word.parse().expect("nodes write numbers")).collect();
            let seen = seen.entry((words[0], words[1])).or_default();
            let last = seen.last().copied().unwrap_or_default();
            assert!(
                !seen.insert(words[2]) || last < words[2],
                "key {}: {} was first executed after {last}",
                words[0],
                words[2]
            );
        }
    }

    /// As `kill -9` does.
    pub fn kill(&mut self, name: &str) {
        drop(self.nodes.remove(name));
    }

    pub fn signal(&self, name: &str, signal: &str) {
        let id = self.get(name).child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(status.expect("kill is there").success());
    }

    /// Says a figure that is no check.
    pub fn note(&self, line: String) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// What came of many questions.
#[derive(Debug)]
#[allow(dead_code, reason = "all of it is printed when a check fails")]
pub struct Report {
    pub ok: u64,
    pub failed: u64,
    pub owners: Vec<String>,
    pub longest: Duration,
    pub errors: String,
}

impl Report {
    fn of(line: &str) -> Self {
        let parts: Vec<&str> = line.splitn(5, ';').collect();
        let number = |at: usize| parts[at].parse::<u64>().expect("nodes write numbers");
        Self {
            ok: number(0),
            failed: number(1),
            owners: parts[2].split(',').map(str::to_owned).collect(),
            longest: Duration::from_millis(number(3)),
            errors: parts[4].to_owned(),
        }
    }
}

/// A node, in a process of its own.
pub struct Process {
    child: Child,
    input: Mutex<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    address: OnceLock<String>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(settings: &Settings) -> Self {
        let program = std::env::current_exe().expect("a process knows its program");
        let mut child = Command::new(program)
            .args(["--exact", "node_process", "--nocapture"])
            .env(NODE, settings.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a program can start itself again");
        let input = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        let errors = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(PREFIX) {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.lock().expect("nobody panics with it").push(line);
            }
        });
        Self { child, input: Mutex::new(input), lines: Mutex::new(lines), address: OnceLock::new(), log }
    }

    /// Where it listens; waits until it does.
    pub fn address(&self) -> &str {
        self.address.get_or_init(|| self.next_line("address"))
    }

    /// Tells it to do something that has no answer.
    pub fn say(&self, command: &str) {
        self.address();
        let mut input = self.input.lock().expect("nobody panics with it");
        writeln!(input, "{command}").expect("the node reads");
    }

    /// Tells it to do something, and waits for its answer.
    pub fn ask_line(&self, command: &str) -> String {
        self.say(command);
        self.next_line("answer")
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.ask_line(&format!("counter {name}")).parse().expect("nodes write numbers")
    }

    /// When this node saw a node come into a state, in Unix milliseconds, at or after `after_ms`.
    pub fn when(&self, name: &str, state: &str, after_ms: u64) -> Option<u64> {
        self.ask_line(&format!("when {name} {state} {after_ms}")).parse().ok()
    }

    pub fn stop_flow(&self) -> Report {
        Report::of(&self.ask_line("stop_flow"))
    }

    /// Its resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kib * 1024
    }

    /// Its TCP sockets, other than listening ones, with that port at either end.
    pub fn sockets_at(&self, port: u16) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let links = std::fs::read_dir(folder).expect("the process runs").flatten();
        let mine: BTreeSet<String> = links
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter_map(|link| {
                Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
            })
            .collect();
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel tells it");
        let has_port = |address: &str| address.ends_with(&format!(":{port:04X}"));
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let (local, remote, state, inode) = (1, 2, 3, 9);
        rows.filter(|row| row[state] != "0A" && mine.contains(row[inode]))
            .filter(|row| has_port(row[local]) || has_port(row[remote]))
            .count()
    }

    pub fn flood(&self, keys: u64, count: u64) -> Report {
        Report::of(&self.ask_line(&format!("flood {keys} {count}")))
    }

    pub fn stop_stream(&self) -> Report {
        Report::of(&self.ask_line("stop_stream"))
    }

    /// Waits until its actors are asked.
    pub fn await_traffic(&self) {
        let asked = || self.ask_line("asked").parse::<u64>().expect("nodes write numbers");
        let before = asked();
        within(Duration::from_secs(5), "questions arrive", || asked() > before + 100);
    }

    /// Whether one line of its log has all these words.
    pub fn log_has(&self, words: &[&str]) -> bool {
        let log = self.log.lock().expect("nobody panics with it");
        log.iter().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        self.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("it is host:port")
    }

    fn next_line(&self, kind: &str) -> String {
        let lines = self.lines.lock().expect("nobody panics with it");
        let line = lines.recv_timeout(OBEY_MAX).expect("the node answers");
        let (what, rest) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        assert_eq!(what, kind, "the node said '{line}'");
        rest.to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = writeln!(std::io::stderr(), "---- process {} ----\n{}", self.child.id(), log.join("\n"));
        }
    }
}
