//! The supervision of processes, with a shell script in the place of `rookery serve`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const SCRIPT: &str = r#"#!/bin/sh
echo "arguments: $*"
echo "cookie: $ROOKERY__CLUSTER__COOKIE"
if [ -n "$FAIL" ]; then echo "the disk is full" >&2; exit 3; fi
trap 'exit 0' TERM
echo "rookery ready name=$3 http=127.0.0.1:1 tcp=127.0.0.1:2 line=127.0.0.1:3 admin=$ADMIN cluster=$3.test:5"
while read -r line; do :; done
echo "standard input closed"
"#;

/// A folder with the script, and an HTTP server that finds everything ready.
struct Stage {
    folder: tempfile::TempDir,
    admin: String,
    _server: JoinSet<()>,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let script = folder.path().join("serve");
        std::fs::write(&script, SCRIPT).expect("there is room for a file");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let admin = listener.local_addr().expect("it is bound").to_string();
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0_u8; 1024];
                let _ = stream.read(&mut request).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { folder, admin, _server: server }
    }

    fn options(&self) -> ClusterOptions {
        let mut options = ClusterOptions::new("sqlite://unused").expect("this program has a path");
        options.executable = self.folder.path().join("serve");
        options.environment = vec![("ADMIN".to_owned(), self.admin.clone())];
        options.ready_timeout = Duration::from_secs(20);
        options
    }
}

/// Waits for a line in the node's output.
async fn line_with(cluster: &LocalCluster, at: usize, part: &str) -> String {
    let found = async {
        loop {
            if let Some(line) = cluster.node(at).output().into_iter().find(|line| line.contains(part)) {
                return line;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the node prints it")
}

#[tokio::test]
async fn nodes_start_with_seeds_and_one_cookie_and_end_in_good_order() {
    let stage = Stage::new().await;
    let mut cluster = LocalCluster::start(3, stage.options()).await.expect("the script starts");
    assert_eq!(cluster.nodes().len(), 3);
    assert!(!line_with(&cluster, 0, "arguments").await.contains("--seed"));
    assert!(line_with(&cluster, 2, "arguments").await.contains("serve --name n3"));
    assert!(line_with(&cluster, 2, "arguments").await.contains("--seed n1.test:5"));
    let cookie = line_with(&cluster, 0, "cookie").await;
    assert!(cookie.len() > 20, "{cookie}");
    assert_eq!(cookie, line_with(&cluster, 1, "cookie").await);
    assert_eq!(cluster.shutdown().await, Vec::<String>::new());
    assert!(cluster.nodes().iter().all(|node| !node.is_running()));
}

#[tokio::test]
async fn a_killed_node_is_told_only_when_nobody_asked_for_it_and_starts_again() {
    let stage = Stage::new().await;
    let mut cluster = LocalCluster::start(2, stage.options()).await.expect("the script starts");
    cluster.kill9(0).await.expect("it is ours to kill");
    assert!(cluster.node(0).pid().is_none());
    // Unasked: as if it crashed.
    cluster.node(1).signal(Signal::SIGKILL).expect("it runs");
    let (at, status) = cluster.next_exit().await;
    assert_eq!((at, status.success()), (1, false));
    cluster.start_again(0).await.expect("it starts");
    cluster.start_again(1).await.expect("it starts");
    cluster.start_again(1).await.expect_err("it runs already");
    assert!(line_with(&cluster, 1, "arguments").await.contains("--http-listen 127.0.0.1:1 "));
    assert_eq!(cluster.add().await.expect("it starts"), 2);
}

#[tokio::test]
async fn a_frozen_node_still_ends() {
    let stage = Stage::new().await;
    let mut cluster = LocalCluster::start(1, stage.options()).await.expect("the script starts");
    cluster.stop(0).expect("it runs");
    assert!(cluster.terminate(0).await.expect("it ends").success());
}

#[tokio::test]
async fn dropping_the_cluster_ends_the_processes() {
    let stage = Stage::new().await;
    let cluster = LocalCluster::start(1, stage.options()).await.expect("the script starts");
    let pid = cluster.node(0).pid().expect("it runs");
    drop(cluster);
    let gone = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it ends");
}

#[tokio::test]
async fn a_node_that_fails_to_start_says_why() {
    let stage = Stage::new().await;
    let mut options = stage.options();
    options.environment.push(("FAIL".to_owned(), "yes".to_owned()));
    let error = LocalCluster::start(1, options).await.expect_err("the script fails").to_string();
    assert!(error.contains("n1 did not start") && error.contains("the disk is full"), "{error}");
}
