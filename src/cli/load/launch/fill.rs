//! Messages that were there before: `--stored` fills the log, so that what a run costs on a full one is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;

use crate::config::StorageConfig;
use crate::protocol::v1::Message;
use crate::storage::MessageStore;
use crate::storage::sql::SqlStores;

/// Most messages to begin with.
pub(super) const STORED_MAX: u64 = 100_000_000;
/// Rows of one insert.
const ROWS: u64 = 500;
/// Messages of one conversation.
const LENGTH: u64 = 1000;
/// Inserts under way at once.
const AT_ONCE: u64 = 4;
/// The first conversation: far above those that the run makes. The log does not ask for a row of theirs.
const FIRST: u64 = 1 << 40;
/// The sender of all.
const SENDER: u64 = 1 << 40;
/// Bytes of each text.
const TEXT_BYTES: usize = 200;
/// How long the database may take for an insert: nobody waits for it meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stores so many messages in the database, whose tables are there.
pub(super) async fn fill(url: &str, count: u64) -> anyhow::Result<()> {
    let config = StorageConfig { url: url.to_owned(), request_timeout: PATIENCE, ..StorageConfig::default() };
    let stores =
        SqlStores::connect(&config).await.context("the database can't be reached to fill it")?.stores();
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..AT_ONCE).map(|_| {
        let (messages, next) = (Arc::clone(&stores.messages), Arc::clone(&next));
        async move {
            loop {
                let from = next.fetch_add(ROWS, Ordering::Relaxed);
                if from >= count {
                    return anyhow::Ok(());
                }
                insert(&*messages, from, (from + ROWS).min(count)).await?;
            }
        }
    });
    try_join_all(workers).await.map(drop)
}

async fn insert(messages: &dyn MessageStore, from: u64, to: u64) -> anyhow::Result<()> {
    let now_ms = crate::clock::now_ms();
    let rows: Vec<Message> = (from..to)
        .map(|number| Message {
            conversation_id: FIRST + number / LENGTH,
            seq: 1 + number % LENGTH,
            sender_id: SENDER,
            client_id: format!("{number:x}"),
            text: format!("{number:<TEXT_BYTES$}"),
            created_at_ms: now_ms,
            ..Message::default()
        })
        .collect();
    messages.append(&rows).await.context("the database can't be filled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_filled_with_as_many_as_asked_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let config = StorageConfig { url: url.clone(), ..StorageConfig::default() };
        crate::storage::sql::migrate(&config).await.expect("the file can be made");
        let stores = SqlStores::connect(&config).await.expect("the tables are there").stores();
        fill(&url, 2_300).await.expect("there is room");
        for (conversation, length) in [(0, LENGTH), (1, LENGTH), (2, 300), (3, 0)] {
            let last = stores.messages.last_seq(FIRST + conversation).await.expect("the log can be read");
            assert_eq!(last, length, "conversation {conversation}");
        }
    }
}
