//! [`RetentionStore`] behind the cache. Nothing of it is cached; that a conversation begins later is forgotten on all nodes.

use async_trait::async_trait;

use super::stores::CachedStores;
use crate::storage::StoreResult;
use crate::storage::retention::{LogEnds, RetentionStore};

#[async_trait]
impl RetentionStore for CachedStores {
    async fn logs(&self, after_id: u64, ruled: bool, limit: u32) -> StoreResult<Vec<LogEnds>> {
        self.count_plain();
        self.plain.retention.logs(after_id, ruled, limit).await
    }

    async fn remove_before(&self, conversation_id: u64, before_seq: u64, most: u32) -> StoreResult<bool> {
        let plain = self.plain.retention.clone();
        let write = async move { plain.remove_before(conversation_id, before_seq, most).await };
        self.write_conversation(vec![conversation_id], write).await
    }

    async fn empty(&self, conversation_id: u64, seq: u64) -> StoreResult<()> {
        self.count_plain();
        self.plain.retention.empty(conversation_id, seq).await
    }
}
