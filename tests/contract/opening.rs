//! Opening databases: migrations, several openers at once, databases of newer versions, bad addresses.

use std::time::Duration;

use rookery::config::StorageConfig;
use rookery::storage::{StoreError, sql};
use sea_orm::ConnectionTrait as _;

use crate::fixture::{message, mysql_config, opened, sqlite_config, user};
use crate::mariadb_server::MariaDb;
use crate::tiny_disk::TinyDisk;

/// Four nodes start at once on an empty database; afterwards it is used, and opened again.
async fn many_open_at_once(config: StorageConfig) {
    let openers: Vec<_> = (0..4)
        .map(|at| {
            let config = config.clone();
            tokio::spawn(async move {
                let stores = sql::open(&config).await?;
                stores.stores().messages.append(&[message(at, 1, 1, "first")]).await
            })
        })
        .collect();
    for opener in openers {
        assert_eq!(opener.await.expect("no panic"), Ok(()));
    }
    sql::migrate(&config).await.expect("a second time changes nothing");
    let stores = opened(&config).await.stores();
    for at in 0..4 {
        assert_eq!(stores.messages.last_seq(at).await, Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_open_one_file_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    many_open_at_once(sqlite_config(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_open_one_server_at_once() {
    many_open_at_once(mysql_config(MariaDb::shared().await).await).await;
}

/// A migration that this version has never heard of.
async fn a_newer_database_is_refused(config: StorageConfig) {
    opened(&config).await.close().await;
    let db = sea_orm::Database::connect(&config.url).await.expect("it connects");
    let note = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_from_the_future', 1)";
    db.execute_unprepared(note).await.expect("it is noted");
    db.close().await.expect("it closes");
    let Err(StoreError::Invalid(sentence)) = sql::open(&config).await else { panic!("it must be refused") };
    assert!(sentence.contains("m9999_from_the_future"), "{sentence}");
    assert!(sentence.contains("run that version of rookery or a later one"), "{sentence}");
}

#[tokio::test]
async fn a_newer_sqlite_database_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    a_newer_database_is_refused(sqlite_config(folder.path())).await;
}

#[tokio::test]
async fn a_newer_mariadb_database_is_refused() {
    a_newer_database_is_refused(mysql_config(MariaDb::shared().await).await).await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for config in [sqlite_config(folder.path()), mysql_config(MariaDb::shared().await).await] {
        let stores = opened(&config).await;
        let ada = stores.stores().accounts.create_user(user("ada", "Ada")).await.expect("the name is free");
        stores.close().await;
        assert!(matches!(stores.ping().await, Err(StoreError::Unavailable(_))), "it is closed");
        let again = opened(&config).await;
        assert_eq!(again.stores().accounts.user_by_name("ADA").await, Ok(Some(ada)));
        assert_eq!(again.ping().await, Ok(()));
    }
}

#[tokio::test]
async fn sqlite_keeps_a_write_ahead_log_and_syncs_it_fully() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = sqlite_config(folder.path());
    opened(&config).await;
    let db = sea_orm::Database::connect(&config.url).await.expect("it connects");
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "PRAGMA journal_mode");
    let row = db.query_one_raw(statement).await.expect("it is read").expect("there is a row");
    assert_eq!(row.try_get_by_index::<String>(0).expect("a word"), "wal");
}

#[tokio::test]
async fn addresses_that_cant_work_are_refused_in_words() {
    let refused = async |url: &str| {
        let config = StorageConfig {
            url: url.to_owned(),
            acquire_timeout: Duration::from_millis(300),
            ..StorageConfig::default()
        };
        sql::open(&config).await.expect_err("it can't be opened")
    };
    assert!(matches!(refused("sqlite::memory:").await, StoreError::Invalid(_)));
    assert!(matches!(refused("mysql://root@127.0.0.1:1").await, StoreError::Invalid(_)));
    assert!(matches!(refused("mysql://root@127.0.0.1:1/none").await, StoreError::Unavailable(_)));
    let server = MariaDb::shared().await.database().await;
    let unknown = refused(&format!("{server}_that_is_not_there")).await;
    assert!(
        matches!(&unknown, StoreError::Invalid(cause) if cause.contains("Unknown database")),
        "{unknown}"
    );
    let stranger = refused(&server.replace("root@", "root:wrong@")).await;
    assert!(matches!(&stranger, StoreError::Invalid(cause) if cause.contains("Access denied")), "{stranger}");
    assert!(!stranger.to_string().contains("wrong"), "the password is not told");
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_named_at_the_start() {
    let server = MariaDb::start_in(&std::env::temp_dir(), &["--max-connections=10"]).await;
    let config = StorageConfig { acquire_timeout: Duration::from_secs(1), ..mysql_config(&server).await };
    let crowd = server.all_connections().await;
    let began = std::time::Instant::now();
    let Err(StoreError::Unavailable(sentence)) = sql::open(&config).await else {
        panic!("it must be refused")
    };
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(sentence.contains(&format!("127.0.0.1:{}", server.port())), "{sentence}");
    assert!(sentence.contains("Too many connections"), "{sentence}");
    drop(crowd);
}

#[tokio::test]
async fn a_disk_that_cant_be_written_is_named_at_the_start() {
    let Some(disk) = TinyDisk::mount(20) else { return };
    let config = StorageConfig {
        url: format!("sqlite://{}", disk.path().join("rookery.db").display()),
        ..StorageConfig::default()
    };
    opened(&config).await.close().await;
    disk.becomes_read_only();
    let Err(StoreError::Unavailable(sentence)) = sql::open(&config).await else {
        panic!("it must be refused")
    };
    assert!(sentence.contains("rookery.db") && sentence.contains("Read-only file system"), "{sentence}");
}

/// MySQL 8 sends passwords by TLS or not at all; this server takes nothing else either.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn a_server_that_demands_tls_is_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: openssl, which makes the server's certificate, is not there");
        return;
    }
    let settings = [
        format!("--ssl-key={}", key.display()),
        format!("--ssl-cert={}", certificate.display()),
        "--require-secure-transport=ON".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = MariaDb::start_in(&std::env::temp_dir(), &settings).await;
    let config = mysql_config(&server).await;
    let stores = opened(&config).await;
    assert_eq!(stores.stores().messages.append(&[message(1, 1, 1, "a")]).await, Ok(()));
    let plain = StorageConfig { url: format!("{}?ssl-mode=disabled", config.url), ..config };
    assert!(sql::open(&plain).await.is_err(), "the server demands TLS");
}
