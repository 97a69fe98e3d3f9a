//! The load tool with servers of its own: it ends all of them, however it ends, and its files can be shown again.
//!
//! Everything that a command starts inherits a variable of its environment, by which it is found in `/proc`.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long a start, a run or an end may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(50);
/// The variable that marks a command and all that it starts.
const MARK: &str = "ROOKERY_BENCH_TEST";

/// A command under way, with a temporary folder of its own.
struct Load {
    child: Child,
    folder: TempDir,
    mark: String,
}

impl Load {
    /// Starts `rookery load` with these arguments, in a folder whose `cluster.toml` no node can read.
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("tmp")).expect("the folder is ours");
        fs::write(folder.path().join("cluster.toml"), "[of_another_version]\nkey = 1\n").expect("likewise");
        let log = fs::File::create(folder.path().join("log")).expect("likewise");
        let mark = folder.path().display().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .arg("load")
            .args(arguments)
            .current_dir(folder.path())
            .env("TMPDIR", folder.path().join("tmp"))
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            // A group of its own, as a shell gives it, for what Ctrl-C does.
            .process_group(0)
            .spawn()
            .expect("the binary was built for these tests");
        Self { child, folder, mark }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// The names of all processes that this command has started and that live; its own is among them while it does.
    fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push(name.trim().to_owned());
            }
        }
        found.sort();
        found
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}; {:?}\n{}", self.processes(), self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Waits until it measures, with these processes beside it.
    fn measures_with(&self, expected: &[&str]) {
        self.wait_until("it measures", || self.log().contains("measuring"));
        let mut expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        expected.push("rookery".to_owned());
        expected.sort();
        assert_eq!(self.processes(), expected, "{}", self.log());
    }

    fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    fn leaves_no_process(&self) {
        self.wait_until("all that it started has ended", || self.processes().is_empty());
    }

    fn leaves_no_file(&self) {
        let left = || fs::read_dir(self.path().join("tmp")).expect("the folder is ours").count();
        self.wait_until("its temporary files are gone", || left() == 0);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_load_leaves_no_process_behind() {
    let arguments = ["--launch", "2", "--database", "mariadb", "--seconds", "200", "direct", "--pairs", "2"];
    let mut load = Load::start(&arguments);
    load.measures_with(&["mariadbd", "rookery", "rookery", "sh"]);
    kill(load.pid(), Signal::SIGKILL).expect("it is there");
    assert!(!load.ends().success());
    load.leaves_no_process();
}

#[test]
fn ctrl_c_ends_a_load_with_all_that_it_started() {
    let arguments = ["--launch", "1", "--database", "mariadb", "--seconds", "200", "direct", "--pairs", "2"];
    let mut load = Load::start(&arguments);
    load.measures_with(&["mariadbd", "rookery", "sh"]);
    // The terminal sends it to the whole group.
    killpg(load.pid(), Signal::SIGINT).expect("it is there");
    assert!(!load.ends().success());
    assert!(load.log().contains("ended on request"), "{}", load.log());
    load.leaves_no_process();
    load.leaves_no_file();
}

#[test]
fn a_comparison_that_is_told_to_end_leaves_nothing() {
    let arguments =
        ["compare", "--runs", "50", "--", "direct", "--pairs", "2", "--seconds", "1", "--warm-up", "0"];
    let mut load = Load::start(&arguments);
    load.wait_until("the second run begins", || load.log().contains("run 1 of 50, b"));
    kill(load.pid(), Signal::SIGTERM).expect("it is there");
    assert!(!load.ends().success());
    load.leaves_no_process();
    load.leaves_no_file();
}

#[test]
fn a_comparison_runs_in_turns_and_its_file_is_shown_again() {
    let arguments = [
        "compare",
        "--runs",
        "2",
        "--label",
        "one",
        "--label",
        "two",
        "--config-b",
        "cache.local_rows=1000",
        "--json",
        "both.json",
        "--html",
        "both.html",
        "--",
        "direct",
        "--pairs",
        "2",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--transport",
        "ws-json",
    ];
    let mut load = Load::start(&arguments);
    assert!(load.ends().success(), "{}", load.log());
    load.leaves_no_process();
    load.leaves_no_file();
    let log = load.log();
    let turns: Vec<&str> = log.lines().filter(|line| line.starts_with("run ")).collect();
    assert_eq!(turns, ["run 1 of 2, one", "run 1 of 2, two", "run 2 of 2, two", "run 2 of 2, one"], "{log}");
    let json: Value = read_json(&load.path().join("both.json"));
    for (at, label) in ["one", "two"].iter().enumerate() {
        let side = &json["sides"][at];
        assert_eq!(side["label"], *label);
        let runs = side["runs"].as_array().expect("runs are a list");
        assert_eq!(runs.len(), 2);
        for run in runs {
            assert!(run["messages"].as_u64() > Some(0), "{run}");
            assert_eq!(run["checked"]["lost"], 0);
            assert!(!run["series"].as_array().expect("seconds are a list").is_empty(), "{run}");
            assert_eq!(run["processes"][0]["role"], "server");
            assert_eq!(run["machine"]["database"], "SQLite");
            assert_eq!(run["parameters"]["pairs"], 2.0);
        }
    }
    let ratio = &json["results"][0]["ratios"][0]["median"];
    assert!(ratio.as_f64().is_some_and(|ratio| ratio > 0.0), "{}", json["results"][0]);
    let page = fs::read_to_string(load.path().join("both.html")).expect("the page was written");
    assert!(page.contains("<svg") && page.contains("two: P99"));

    let file = load.path().join("both.json").display().to_string();
    let mut again = Load::start(&["report", &file, "--html", "again.html"]);
    assert!(again.ends().success(), "{}", again.log());
    assert!(again.log().contains("to one"), "{}", again.log());
    assert!(again.path().join("again.html").exists());
    let growth = ["growth", &file, "--x", "pairs", "--y", "server_cpu_us_per_message", "--svg", "a.svg"];
    let mut growth = Load::start(&growth);
    assert!(growth.ends().success(), "{}", growth.log());
    let svg = fs::read_to_string(growth.path().join("a.svg")).expect("the plot was written");
    assert!(svg.starts_with("<svg"), "{svg}");
}

#[test]
fn several_runs_are_kept_with_what_they_were_made_with() {
    let arguments = [
        "--launch",
        "1",
        "--runs",
        "2",
        "--stored",
        "700",
        "--note",
        "try=3",
        "--json",
        "runs.json",
        "--html",
        "runs.html",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "room",
        "--members",
        "3",
    ];
    let mut load = Load::start(&arguments);
    assert!(load.ends().success(), "{}", load.log());
    load.leaves_no_process();
    load.leaves_no_file();
    let json = read_json(&load.path().join("runs.json"));
    let runs = json.as_array().expect("several runs are a list");
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert!(run["deliveries"].as_u64() > Some(0), "{run}");
        let parameters = [("members", 3.0), ("stored", 700.0), ("try", 3.0)];
        assert!(parameters.iter().all(|(name, value)| run["parameters"][name] == *value), "{run}");
        assert!(run["command"].as_str().is_some_and(|line| line.contains("--stored 700")), "{run}");
    }
    let page = fs::read_to_string(load.path().join("runs.html")).expect("the page was written");
    assert!(page.contains("2 run(s)") && page.contains("<svg"));
}

fn read_json(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("the report was written");
    serde_json::from_str(&text).expect("the report is JSON")
}
