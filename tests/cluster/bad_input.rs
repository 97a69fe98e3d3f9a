//! What an operator gets wrong is answered with one sentence that says how to mend it, and a bad exit.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Rookery;
use crate::world::{folder, within};

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `rookery` with these arguments and environment; it must fail with one sentence that has all the words.
async fn fails(folder: &Path, arguments: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let running = Rookery::run(folder, arguments, environment);
    let (status, said) = within(TEST_TIMEOUT, "a process that is to fail at once", running).await;
    assert!(!status.success(), "{arguments:?} must fail; it said:\n{said}");
    // What was logged on the way is not the sentence.
    let is_logged = |line: &&str| [" INFO ", " WARN ", "DEBUG "].iter().any(|level| line.contains(level));
    let sentences: Vec<&str> = said.lines().filter(|line| !is_logged(line)).collect();
    assert_eq!(sentences.len(), 1, "one sentence, and not:\n{said}");
    assert!(sentences[0].starts_with("rookery: "), "{said}");
    for word in words {
        assert!(sentences[0].contains(word), "'{word}' is not in: {}", sentences[0]);
    }
}

fn folder_with(config: &str) -> TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("cluster.toml"), config).expect("the folder is ours");
    folder
}

#[tokio::test]
async fn an_unreadable_file_is_named() {
    let folder = folder();
    for command in [&["serve"][..], &["config", "check"], &["migrate"]] {
        let arguments = [command, &["--config", "absent.toml"]].concat();
        fails(folder.path(), &arguments, &[], &["absent.toml", "can't be read"]).await;
    }
    let folder = folder_with("[node\nname = 1");
    fails(folder.path(), &["serve"], &[], &["cluster.toml", "can't be read", "line 1"]).await;
}

#[tokio::test]
async fn an_unknown_key_is_named_with_the_nearest_one() {
    let folder = folder_with("[cluster]\nheartbeat_intervall = \"1s\"\n");
    let words = ["cluster.heartbeat_intervall", "did you mean 'heartbeat_interval'", "cluster.toml"];
    fails(folder.path(), &["config", "check"], &[], &words).await;
    fails(folder.path(), &["serve"], &[], &words).await;
    let folder = folder_with("[clutser]\ncookie = \"secret\"\n");
    fails(folder.path(), &["serve"], &[], &["clutser", "did you mean 'cluster'"]).await;
    let environment = [("ROOKERY__GATEWAY__HTTP_LISTN", "127.0.0.1:0")];
    let empty = crate::world::folder();
    fails(empty.path(), &["serve"], &environment, &["gateway.http_listn", "did you mean 'http_listen'"])
        .await;
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_named() {
    for (config, words) in [
        ("[gateway]\nhttp_workers = \"many\"\n", ["gateway.http_workers", "many"]),
        ("[cluster]\nheartbeat_interval = \"soon\"\n", ["cluster.heartbeat_interval", "soon"]),
        ("[cluster]\nseeds = \"127.0.0.1:1\"\n", ["cluster.seeds", "127.0.0.1:1"]),
        ("[log]\nformat = \"prose\"\n", ["log.format", "json"]),
        ("[storage]\nurl = \"oracle://x\"\n", ["storage.url", "mysql://"]),
        ("[cluster]\nsuspect_after = \"1h\"\n", ["cluster.suspect_after", "cluster.down_after"]),
        ("[admin]\nlisten = \"0.0.0.0:0\"\n", ["admin.token", "admin.listen"]),
        ("[node]\nname = \"two words\"\n", ["node.name", "letters"]),
    ] {
        let folder = folder_with(config);
        fails(folder.path(), &["config", "check"], &[], &words).await;
    }
}

#[tokio::test]
async fn the_environment_overrides_the_file_and_the_command_line_both() {
    let folder = folder_with("[cluster]\ncookie = \"from the file\"\nlanes = 3\n[node]\nname = \"file\"\n");
    let check = Rookery::run(folder.path(), &["config", "check"], &[("ROOKERY__NODE__NAME", "environment")]);
    let (status, said) = within(TEST_TIMEOUT, "config check", check).await;
    assert!(status.success(), "{said}");
    assert!(said.contains("name = \"environment\"") && said.contains("lanes = 3"), "{said}");
    assert!(!said.contains("from the file"), "the cookie is a secret: {said}");
    let environment = [("ROOKERY__NODE__NAME", "environment"), ("ROOKERY__CLUSTER__LISTEN", "127.0.0.1:0")];
    let node = Rookery::serve(folder.path(), &["--name", "argument"], &environment).await;
    assert_eq!(node.address("name").await, "argument");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = folder();
    let (status, said) = Rookery::run(folder.path(), &["migrate"], &[]).await;
    assert!(status.success(), "{said}");
    assert!(said.contains("up to date"), "{said}");
    let file = format!("sqlite://{}", folder.path().join("data/rookery.db").display());
    let db = sea_orm::Database::connect(file).await.expect("the file was made just now");
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&db, later).await.expect("the table is there");
    db.close().await.expect("it closes");
    for command in ["migrate", "serve"] {
        fails(folder.path(), &[command], &[], &["newer version", "m9999_later", "storage.url"]).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_key() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = held.local_addr().expect("a bound socket has an address").to_string();
    let keys = [
        "gateway.http_listen",
        "gateway.tcp_listen",
        "gateway.line_listen",
        "admin.listen",
        "cluster.listen",
    ];
    for key in keys {
        let folder = folder();
        let variable = |key: &str| format!("ROOKERY__{}", key.to_uppercase().replace('.', "__"));
        let variables: Vec<String> = keys.iter().map(|key| variable(key)).collect();
        let environment: Vec<(&str, &str)> = variables
            .iter()
            .zip(keys)
            .map(|(variable, other)| {
                (variable.as_str(), if other == key { taken.as_str() } else { "127.0.0.1:0" })
            })
            .collect();
        fails(folder.path(), &["serve"], &environment, &[key, &taken, "in use"]).await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_without_its_password() {
    let folder = folder();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a free port");
    let url = format!("mysql://rook:hush@{free}/rookery");
    let arguments = ["serve", "--database-url", &url];
    let (status, said) =
        within(TEST_TIMEOUT, "a database that is away", Rookery::run(folder.path(), &arguments, &[])).await;
    assert!(!status.success() && said.contains("storage.url"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    std::fs::write(folder.path().join("file"), "").expect("the folder is ours");
    let url = "sqlite://file/rookery.db";
    fails(folder.path(), &["serve", "--database-url", url], &[], &["storage.url", "file"]).await;
}
