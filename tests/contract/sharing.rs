//! Several nodes on one database, as `rookery up` starts them.

use std::time::{Duration, Instant};

use rookery::config::StorageConfig;
use rookery::storage::StoreError;

use crate::fixture::{message, mysql_config, opened, sqlite_config};
use crate::mariadb_server::MariaDb;

/// Nodes on the database.
const NODES: u64 = 3;
/// Appends of each node.
const APPENDS: u64 = 300;

/// Every node appends without a pause to logs of its own, and one log is everybody's.
async fn nodes_append_side_by_side(config: StorageConfig) {
    let mut nodes = Vec::new();
    for node in 0..NODES {
        let stores = opened(&config).await.stores();
        nodes.push(tokio::spawn(async move {
            let (mut slowest, mut won) = (Duration::ZERO, 0u64);
            for seq in 1..=APPENDS {
                let started = Instant::now();
                let own = message(100 + node, seq, node, &format!("c{seq}"));
                stores.messages.append(&[own]).await.expect("an own log has no rival");
                slowest = slowest.max(started.elapsed());
                match stores.messages.append(&[message(1, seq, node, &format!("c{seq}"))]).await {
                    Ok(()) => won += 1,
                    Err(error) => assert_eq!(error, StoreError::Exists),
                }
            }
            (slowest, won)
        }));
    }
    let mut won_in_all = 0;
    for node in nodes {
        let (slowest, won) = node.await.expect("no panic");
        won_in_all += won;
        assert!(slowest < Duration::from_secs(3), "one node kept another waiting for {slowest:?}");
    }
    assert_eq!(won_in_all, APPENDS, "each seq of the shared log was won once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    nodes_append_side_by_side(sqlite_config(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_a_server() {
    nodes_append_side_by_side(mysql_config(MariaDb::shared().await).await).await;
}

/// A writer in another process that does not let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_stays_locked_is_unavailable_in_time() {
    use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = StorageConfig {
        busy_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(2),
        ..sqlite_config(folder.path())
    };
    let stores = opened(&config).await.stores();
    let other = sea_orm::Database::connect(&config.url).await.expect("it connects");
    let held = other.begin().await.expect("it begins");
    held.execute_unprepared("INSERT INTO line_given VALUES (1, 1, '')").await.expect("it takes the lock");
    let started = Instant::now();
    let single = stores.messages.append(&[message(1, 1, 1, "a")]).await;
    assert!(matches!(single, Err(StoreError::Unavailable(_))), "{single:?}");
    let several: Vec<_> = (1..=200).map(|seq| message(1, seq, 1, &format!("c{seq}"))).collect();
    assert!(matches!(stores.messages.append(&several).await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(stores.messages.last_seq(1).await, Ok(0), "reads go on");
    held.rollback().await.expect("it lets go");
    assert_eq!(stores.messages.append(&several).await, Ok(()));
}
