//! `rookery load` against a real node: every scenario for a second, judged by the JSON that it writes.
//!
//! What the figures are is no matter here; that there are some, that nothing was lost, doubled or out of order, and that
//! nobody was refused, is.

#[allow(dead_code, reason = "shared with the other tests of one node, which use the rest")]
#[path = "../support/node.rs"]
mod node;

use std::process::{Command, Output};

use node::Node;
use serde_json::Value;

/// Runs `rookery load` with these arguments against the node; gives what it wrote.
fn load(node: &Node, arguments: &[&str]) -> (Output, Option<Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .arg("load")
        .args(["--server", node.address("http"), "--tcp-server", node.address("tcp")])
        .args(["--line-server", node.address("line"), "--seconds", "1", "--warm-up", "0", "--json"])
        .arg(&json)
        .args(arguments)
        .output()
        .expect("the binary was built for these tests");
    let report = std::fs::read_to_string(&json).ok();
    (output, report.map(|report| serde_json::from_str(&report).expect("the report is JSON")))
}

/// [`load`] that must end well, without a fault.
fn report(node: &Node, arguments: &[&str]) -> Value {
    let (output, report) = load(node, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    let report = report.expect("a run that ends well has a report");
    for fault in ["lost", "doubled", "out_of_order"] {
        assert_eq!(report["checked"][fault], 0, "{arguments:?} {fault}: {report:#}");
    }
    assert_eq!(report["closed"], serde_json::json!({}), "{arguments:?}: {report:#}");
    report
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} is a count: {report:#}"))
}

/// A figure of the scenario's own.
fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().expect("it is a list");
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn pairs_talk_over_every_transport() {
    let node = Node::shared();
    for transport in ["ws-json", "ws-proto", "tcp", "line"] {
        let report = report(&node, &["direct", "--pairs", "3", "--transport", transport]);
        let (written, received) = (number(&report, "written"), &report["checked"]["received"]);
        // How many more than the first of each pair is a matter of the machine.
        assert!(written >= 3 && *received == written, "{transport}: {report:#}");
        assert_eq!(number(&report, "unanswered"), 0, "{report:#}");
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let report = report(&Node::shared(), &["direct", "--pairs", "4", "--rate", "40", "--same-node"]);
    // However loaded the machine: what is due is written, or counted as skipped.
    let due = number(&report, "written") + number(&report, "skipped");
    assert!((30..=60).contains(&due), "{report:#}");
}

#[test]
fn rooms_are_checked_for_all_their_writers() {
    let node = Node::shared();
    for transport in ["ws-proto", "line"] {
        let arguments =
            ["room", "--members", "5", "--writers", "2", "--in-flight", "3", "--transport", transport];
        let report = report(&node, &arguments);
        // Each writer is heard by the four others.
        assert_eq!(report["checked"]["received"], 4 * number(&report, "written"), "{report:#}");
    }
    let report = report(&node, &["busy", "--rooms", "2", "--members", "6", "--writers", "3"]);
    assert_eq!(report["checked"]["received"], 5 * number(&report, "written"), "{report:#}");
}

#[test]
fn idle_connections_stay() {
    for transport in ["ws-proto", "line"] {
        let report = report(&Node::shared(), &["idle", "--connections", "10", "--transport", transport]);
        assert_eq!(number(&report, "connections"), 10);
    }
}

#[test]
fn pings_are_answered_in_order() {
    for transport in ["ws-json", "ws-proto", "tcp"] {
        let arguments = ["echo", "--connections", "2", "--in-flight", "8", "--transport", transport];
        let report = report(&Node::shared(), &arguments);
        assert!(figure(&report, "echoes") > 1.0, "{report:#}");
        assert_eq!(number(&report, "payload_bytes"), 64);
    }
}

#[test]
fn a_storm_of_sign_ins_passes() {
    for transport in ["ws-proto", "tcp", "line"] {
        let arguments = ["sign-in", "--users", "12", "--workers", "4", "--transport", transport];
        let report = report(&Node::shared(), &arguments);
        assert!(figure(&report, "sign-ins") > 0.0, "{transport}: {report:#}");
        assert_eq!(report["checked"]["received"], number(&report, "written"), "{report:#}");
    }
}

#[test]
fn a_backlog_is_stored_and_fetched_whole() {
    let node = Node::shared();
    for transport in ["ws-json", "tcp"] {
        let arguments =
            ["backlog", "--users", "4", "--messages", "25", "--page", "10", "--transport", transport];
        let report = report(&node, &arguments);
        assert_eq!(number(&report, "written"), 100, "{report:#}");
        assert_eq!(report["checked"]["received"], 100, "{report:#}");
        assert!(figure(&report, "stored") > 0.0 && figure(&report, "fetched by sync") > 0.0, "{report:#}");
        assert!(figure(&report, "fetching: this load's CPU") >= 0.0, "{report:#}");
    }
}

#[test]
fn all_come_back_after_a_cut_and_miss_nothing() {
    let arguments = [
        "reconnect",
        "--users",
        "12",
        "--members",
        "4",
        "--rate",
        "60",
        "--jitter-ms",
        "200",
        "--seconds",
        "60",
    ];
    let report = report(&Node::shared(), &arguments);
    assert!((figure(&report, "cut off") - 12.0).abs() < 0.1, "{report:#}");
    assert!((figure(&report, "back") - 12.0).abs() < 0.1, "{report:#}");
    assert!(figure(&report, "100 % back") > 0.0, "{report:#}");
    assert_eq!(report["checked"]["received"], 4 * number(&report, "written"), "{report:#}");
}

#[test]
fn a_mixed_day_loses_nothing() {
    let arguments = [
        "mixed",
        "--users",
        "30",
        "--rate",
        "150",
        "--small-room",
        "4",
        "--big-room",
        "15",
        "--seconds",
        "3",
    ];
    let report = report(&Node::shared(), &arguments);
    assert!((figure(&report, "online at the end") - 30.0).abs() < 0.1, "{report:#}");
    let operations = report["operations"].as_array().expect("it is a list");
    let done = |name: &str| {
        let found = operations.iter().find(|operation| operation["name"] == name);
        found.and_then(|operation| operation["done"].as_u64()).unwrap_or_else(|| panic!("no {name}"))
    };
    for name in ["direct message", "small room message", "read receipt", "reconnect"] {
        assert!(done(name) > 0, "{name}: {report:#}");
    }
    // A deed that is always refused is asked for wrongly.
    for operation in operations {
        assert!(operation["refused"] == 0 || number(operation, "done") > 0, "{report:#}");
    }
    assert!(number(&report, "written") > 20, "{report:#}");
}

#[test]
fn a_line_is_timed_beside_the_commit() {
    let node = Node::start(&[]);
    let url = node.database_url();
    let arguments = ["line-latency", "--transport", "line", "--seconds", "2", "--database-url", &url];
    let report = report(&node, &arguments);
    assert!(figure(&report, "SEND to +OK, P50") > 0.0, "{report:#}");
    assert!(figure(&report, "commit of one message, P50") > 0.0, "{report:#}");
    assert_eq!(report["checked"]["received"], number(&report, "written"), "{report:#}");
    // Another database is not taken for it.
    let other = Node::start(&[]);
    let url = other.database_url();
    let (output, _) = load(&node, &["line-latency", "--transport", "line", "--database-url", &url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not the server's database"), "{said}");
}

#[test]
fn users_are_taken_from_their_file() {
    let node = Node::shared();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("users.jsonl");
    let file = file.to_str().expect("temporary folders have plain names");
    let users = || std::fs::read_to_string(file).expect("the run wrote it");
    report(&node, &["direct", "--pairs", "2", "--users-file", file]);
    let first = users();
    assert_eq!(first.lines().count(), 4);
    // The same pairs write in the same conversations, and neither run takes the other's messages for its own.
    report(&node, &["direct", "--pairs", "2", "--users-file", file]);
    assert_eq!(users(), first);
    report(&node, &["backlog", "--users", "3", "--messages", "4", "--users-file", file]);
    assert!(users().starts_with(&first) && users().lines().count() == 6);
    let (output, _) = load(&Node::start(&[]), &["direct", "--pairs", "2", "--users-file", file]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not known to this server"), "{said}");
}

#[test]
fn progress_is_told_each_second() {
    let arguments = ["direct", "--pairs", "1", "--seconds", "3", "--progress"];
    let (output, _) = load(&Node::shared(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = said.lines().filter(|line| line.contains("P99 so far")).count();
    assert!(lines >= 1, "{said}");
    let (output, _) = load(&Node::shared(), &["direct", "--pairs", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("P99 so far"), "nobody asked for it: {said}");
}

#[test]
fn nonsense_is_refused_in_plain_words() {
    let node = Node::shared();
    for (arguments, wanted) in [
        (&["direct", "--pairs", "0"][..], "1 to 100000"),
        (&["direct", "--across"], "needs two nodes"),
        (&["mixed", "--transport", "line"], "no sync"),
        (&["direct", "--payload", "3"], "--payload must be"),
        (&["direct", "--users-file", "/nowhere/at/all"], "can't be written"),
    ] {
        let (output, _) = load(&node, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{arguments:?}: {said}");
    }
}
