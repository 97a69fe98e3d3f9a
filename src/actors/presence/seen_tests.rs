//! When users were last seen, though shards end before they have noted it.

use std::time::Duration;

use crate::actors::room::testing::{Node, PATIENCE};
use crate::clock;
use crate::storage::memory::MemoryStores;

/// Waits until a user was seen at `from_ms` or later; when.
async fn is_seen(memory: &MemoryStores, user_id: u64, from_ms: u64) -> u64 {
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    let seen = async {
        loop {
            pause.tick().await;
            let rows = memory.stores().people.presences(&[user_id]).await.expect("memory answers");
            match rows.first() {
                Some(row) if row.last_seen_ms >= from_ms => return row.last_seen_ms,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_stays_is_seen_at_intervals() {
    let memory = MemoryStores::default();
    let interval = Duration::from_millis(400);
    let node = Node::start_with("stay", &memory, |config| config.presence.seen_interval = interval).await;
    let begun_ms = clock::now_ms();
    let session = node.session_of(7).await;
    for _ in 0..2 {
        let seen_ms = is_seen(&memory, 7, clock::now_ms()).await;
        assert!(seen_ms >= begun_ms);
    }
    session.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_leaves_is_seen_though_its_shard_does_not_hear_of_it() {
    let memory = MemoryStores::default();
    let never = Duration::from_secs(3600);
    let node = Node::start_with("leave", &memory, |config| config.presence.seen_interval = never).await;
    let session = node.session_of(7).await;
    // The shard's node can't be reached any more.
    node.owns_all(false);
    let left_ms = clock::now_ms();
    session.close();
    is_seen(&memory, 7, left_ms).await;
}
