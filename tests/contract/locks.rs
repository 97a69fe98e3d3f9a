//! Locks of a MariaDB that others hold: for ever, for a moment, crosswise, or while they stand still.

use std::time::{Duration, Instant};

use rookery::config::StorageConfig;
use rookery::protocol::v1::Message;
use rookery::storage::StoreError;
use sea_orm::sqlx::{self, Connection as _, Executor as _};

use crate::fixture::{message, mysql_config, opened};
use crate::mariadb_server::MariaDb;
use crate::mysql_proxy::{Fate, MySqlProxy, Point};

/// How long an append waits for a lock: two seconds, and what a busy machine adds.
const LOCK_WAIT: Duration = Duration::from_secs(4);
/// What an append without a rival may take.
const AT_ONCE: Duration = Duration::from_millis(1500);
/// Rounds of crossing transactions.
const CROSSINGS: u64 = 150;

/// So many messages of one conversation from `seq` on. Nine are two statements, and so a transaction.
fn several(conversation_id: u64, seq: u64, count: u64, by: u64) -> Vec<Message> {
    (seq..seq + count).map(|seq| message(conversation_id, seq, by, &format!("c{seq}"))).collect()
}

#[tokio::test]
async fn a_row_that_stays_locked_is_unavailable_in_time_and_others_go_on() {
    let server = MariaDb::shared().await;
    let config = mysql_config(server).await;
    let stores = opened(&config).await.stores();
    let database = config.url.rsplit('/').next().expect("it has a name").to_owned();
    let mut other = server.connect().await.expect("the server answers");
    other.execute("BEGIN").await.expect("it begins");
    let row = format!("INSERT INTO {database}.messages VALUES (1, 1, 9, NULL, 0, '', 0, 0, '', NULL, 0)");
    other.execute(sqlx::AssertSqlSafe(row)).await.expect("it takes the lock");

    for count in [1, 9] {
        let began = Instant::now();
        let outcome = stores.messages.append(&several(1, 1, count, 1)).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{count}: {outcome:?}");
        assert!(began.elapsed() < LOCK_WAIT, "{count}: {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(stores.messages.append(&several(2, count, 1, 1)).await, Ok(()));
        assert!(began.elapsed() < AT_ONCE, "another log went on after {:?}", began.elapsed());
    }
    other.close().await.expect("it goes, and its row with it");
    assert_eq!(stores.messages.append(&several(1, 1, 9, 1)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_deadlock_are_tried_again_and_end() {
    let server = MariaDb::start().await;
    let config = mysql_config(&server).await;
    let (one, two) = (opened(&config).await.stores(), opened(&config).await.stores());
    let mut slowest = Duration::ZERO;
    for round in 0..CROSSINGS {
        // Each begins in one log and ends in the other's.
        let seq = 1 + round * 8;
        let (mut here, mut there) = (several(1, seq, 8, 1), several(2, seq, 8, 2));
        here.extend(several(2, seq, 1, 1));
        there.extend(several(1, seq, 1, 2));
        let began = Instant::now();
        let (here, there) = tokio::join!(one.messages.append(&here), two.messages.append(&there));
        slowest = slowest.max(began.elapsed());
        let outcomes = [here, there];
        assert!(outcomes.contains(&Ok(())), "round {round}: one of them wins: {outcomes:?}");
        assert!(
            outcomes.contains(&Err(StoreError::Exists)),
            "round {round}: the other learns it: {outcomes:?}"
        );
    }
    assert!(slowest < LOCK_WAIT, "{slowest:?}");
    let mut operator = server.connect().await.expect("the server answers");
    let (_, deadlocks): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        .fetch_one(&mut operator)
        .await
        .expect("MariaDB counts them");
    assert_ne!(deadlocks, "0", "they did cross");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_amid_a_transaction_holds_others_up_for_a_moment_only() {
    let server = MariaDb::shared().await;
    let config = mysql_config(server).await;
    let proxy = MySqlProxy::start(server.port()).await;
    let by_proxy = StorageConfig { url: proxy.url(&config.url, server.port()), ..config.clone() };
    let (still, other) = (opened(&by_proxy).await, opened(&config).await.stores());
    // Its first append to a conversation wakes it, in a transaction of its own.
    assert_eq!(still.stores().messages.append(&several(1, 1, 1, 3)).await, Ok(()));
    proxy.cut_next(Point::Commit, Fate::Held);
    let stores = still.stores();
    let standing = tokio::spawn(async move { stores.messages.append(&several(1, 2, 9, 1)).await });
    while proxy.cuts() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let outcome = other.messages.append(&several(1, 2, 1, 2)).await;
    assert_eq!(outcome, Ok(()), "after {:?}", began.elapsed());
    assert!(began.elapsed() < LOCK_WAIT, "{:?}", began.elapsed());
    // It learns that its transaction may or may not have been; the log says that it was not.
    let outcome = standing.await.expect("no panic");
    assert!(matches!(outcome, Err(StoreError::Unsettled(_))), "{outcome:?}");
    assert_eq!(other.messages.last_seq(1).await, Ok(2));
}
