//! `rookery up`: one command makes a cluster, and takes all of it away again.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Rookery;
use crate::world::{Admin, VIEW_TIMEOUT, eventually, folder, within};

/// How long ended nodes may take to be gone from the process table.
const GONE: Duration = Duration::from_secs(10);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A row of the table that `up` prints.
struct Row {
    page: String,
    admin: String,
    pid: Pid,
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [_, page, _, _, admin, _, pid] = cells[..] else { panic!("a row has seven cells: {line}") };
    let pid = Pid::from_raw(pid.parse().expect("the last cell is a pid"));
    Row { page: page.to_owned(), admin: admin.to_owned(), pid }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_starts_a_cluster_and_ctrl_c_leaves_nothing_behind() {
    within(TEST_TIMEOUT, "rookery up", up_and_down()).await;
}

async fn up_and_down() {
    let folder = folder();
    // So that the temporary data folder is ours to look at.
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).expect("the folder is ours");
    let environment = [("TMPDIR", temporary.to_str().expect("the path is UTF-8"))];
    let mut up = Rookery::start(folder.path(), &["up", "--nodes", "3", "--temporary"], &environment).await;
    up.line_with(&["Ctrl-C stops all nodes"]).await;
    let mut rows = Vec::new();
    for name in ["n1 ", "n2 ", "n3 "] {
        let said = up.said();
        let line = said.lines().find(|line| line.starts_with(name) && line.contains("http://"));
        rows.push(row(line.unwrap_or_else(|| panic!("no row of {name}in\n{said}"))));
    }
    let http = reqwest::Client::builder().no_proxy().build().expect("the settings are valid");
    for Row { page, admin, .. } in &rows {
        let index = http.get(page).send().await.expect("the page is served");
        assert!(index.status().is_success());
        let body = index.text().await.expect("the page is text");
        assert!(body.to_lowercase().contains("<!doctype html>"), "{body}");
        for base in [page.clone(), admin.replace("/admin/v1/nodes", "/")] {
            let ready = http.get(format!("{base}readyz")).send().await.expect("readiness is served");
            assert!(ready.status().is_success(), "{base}readyz: {}", ready.status());
        }
        let address = admin.trim_start_matches("http://").trim_end_matches("/admin/v1/nodes");
        let operators = Admin::at(address);
        eventually(VIEW_TIMEOUT, "all three see each other", || async {
            let states = operators.states().await.ok()?;
            (states.len() == 3 && states.values().all(|state| state == "up")).then_some(())
        })
        .await;
    }

    up.signal(Signal::SIGINT);
    let status = up.ends().await;
    assert!(status.success(), "{status}:\n{}", up.said());
    for Row { pid, .. } in &rows {
        let gone = || async { kill(*pid, None).is_err().then_some(()) };
        eventually(GONE, format!("process {pid} is gone"), gone).await;
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("the folder is ours").flatten().collect();
    assert!(left.is_empty(), "the temporary folder is removed: {left:?}");
}
