//! The list of conversations while they settle, and when they are written to again: databases alone keep places.

use std::time::Duration;

use rookery::storage::Stores;
use rookery::storage::sql::SqlStores;

use crate::fixture::{group, message, mysql_config, opened, sqlite_config};
use crate::mariadb_server::MariaDb;

/// How long a conversation stays unsettled here.
const LEASE: Duration = Duration::from_secs(3);
/// How long settling may take after that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whose list it is.
const ADA: u64 = 2;

async fn list(stores: &Stores, since_ms: u64, limit: u32) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut before = None;
    loop {
        let page =
            stores.conversations.conversations_of(ADA, since_ms, before, limit).await.expect("it is read");
        let Some(last) = page.last() else { return ids };
        before = Some((last.activity_ms(), last.conversation.id));
        ids.extend(page.iter().map(|row| row.conversation.id));
    }
}

/// Reads the list until all its places are written down.
async fn settles(sql: &SqlStores, stores: &Stores) {
    let settled = async {
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        while sql.unsettled(ADA).await.expect("it is read") > 0 {
            pause.tick().await;
            list(stores, 0, 100).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("all settle");
}

async fn what_is_settled_is_listed_like_everything_else(sql: SqlStores) {
    let stores = &sql.stores();
    let mut ids = Vec::new();
    for at in 0..6 {
        let id = group(stores, &[ADA], 10 + at).await.id;
        let sent = message(id, 1, 1, "first");
        stores.messages.append(&[sent]).await.expect("it is stored");
        ids.push(id);
    }
    let [a, b, c, d, e, f] = ids.clone().try_into().expect("there are six");
    // Of equal times the higher id comes first.
    let all = [f, e, d, c, b, a];
    assert_eq!(list(stores, 0, 100).await, all);
    assert_eq!(sql.unsettled(ADA).await, Ok(6));
    settles(&sql, stores).await;
    assert_eq!(list(stores, 0, 100).await, all);
    assert_eq!(list(stores, 0, 2).await, all, "page by page");
    assert_eq!(
        stores.conversations.order_of(ADA).await.map(|order| order.into_iter().map(|at| at.1).collect()),
        Ok(all.to_vec())
    );

    // A message, by another process and by this one; a change of who is in it; one that is left.
    let elsewhere = sql.clone().leasing(LEASE).stores();
    elsewhere.messages.append(&[message(b, 2, 1, "later")]).await.expect("it is stored");
    assert_eq!(list(stores, 0, 100).await, [b, f, e, d, c, a]);
    stores
        .messages
        .append(&[message(c, 2, 1, "later"), message(c, 3, 1, "again")])
        .await
        .expect("they are stored");
    assert_eq!(list(stores, 0, 100).await, [c, b, f, e, d, a]);
    stores.conversations.remove_member(a, 1, 2_000_000).await.expect("they leave");
    assert_eq!(list(stores, 0, 100).await, [a, c, b, f, e, d]);
    stores.conversations.remove_member(e, ADA, 2_000_001).await.expect("they leave");
    assert_eq!(list(stores, 0, 2).await, [a, c, b, f, d]);
    assert_eq!(list(stores, 1_000_002, 2).await, [e, a, c, b], "what changed since");
    settles(&sql, stores).await;
    assert_eq!(list(stores, 0, 2).await, [a, c, b, f, d]);
    assert_eq!(list(stores, 1_000_002, 2).await, [e, a, c, b], "what changed since");
    let muted = rookery::storage::PreferenceChange { archived: Some(true), ..Default::default() };
    let changed = stores.people.set_preferences(ADA, d, muted, 3_000_000).await;
    assert_eq!(changed, Ok(true));
    assert_eq!(list(stores, 2_500_000, 100).await, [d]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_lists_what_is_settled_like_everything_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sql = opened(&sqlite_config(folder.path())).await.leasing(LEASE);
    what_is_settled_is_listed_like_everything_else(sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_lists_what_is_settled_like_everything_else() {
    let sql = opened(&mysql_config(MariaDb::shared().await).await).await.leasing(LEASE);
    what_is_settled_is_listed_like_everything_else(sql).await;
}
