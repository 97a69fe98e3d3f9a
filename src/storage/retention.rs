//! Removing what is too old: which logs have old messages, and taking those out with all that hangs on them.
//!
//! A log loses its messages from its beginning on, so that what is left has no gap. Its newest message keeps its place,
//! emptied, as long as none follows: it says where the log goes on, and no seq is ever given twice.

use async_trait::async_trait;

use super::StoreResult;

/// The two ends of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnds {
    /// Of which conversation.
    pub conversation_id: u64,
    /// How long its messages are kept by its own rule, in seconds; 0: it has none.
    pub retention_seconds: u64,
    /// The first seq that is there; 0: the log is empty.
    pub oldest_seq: u64,
    /// When that was stored, Unix milliseconds.
    pub oldest_ms: u64,
    /// The last seq.
    pub newest_seq: u64,
    /// Nothing is left of the last message.
    pub newest_is_empty: bool,
}

/// See the module's header.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// The logs of conversations by id above `after_id`, dissolved ones too; `ruled`: only of those that have a rule of their
    /// own.
    async fn logs(&self, after_id: u64, ruled: bool, limit: u32) -> StoreResult<Vec<LogEnds>>;
    /// Removes messages before `before_seq`, but never the newest, with edits, reactions, marks and what a search finds them
    /// by; whether there is more to remove. One call touches a few times `most` rows. Cut off anywhere, it is completed by the
    /// next: messages go last. From the first call on, members see the log from `before_seq` on.
    async fn remove_before(&self, conversation_id: u64, before_seq: u64, most: u32) -> StoreResult<bool>;
    /// Empties a message in its place, and takes off what hangs on it.
    async fn empty(&self, conversation_id: u64, seq: u64) -> StoreResult<()>;
}
