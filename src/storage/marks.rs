//! What stands beside the logs: messages that one member has hidden, pins, messages that wait for their time, and the times
//! at which messages expire.

use async_trait::async_trait;

use super::StoreResult;
use crate::protocol::v1::Send;

/// A message that is pinned in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinRecord {
    /// In which conversation.
    pub conversation_id: u64,
    /// Which message.
    pub seq: u64,
    /// By whom.
    pub user_id: u64,
    /// Unix time, milliseconds.
    pub pinned_at_ms: u64,
}

/// A message to be sent later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduledRecord {
    /// 1 and up.
    pub id: u64,
    /// By whom.
    pub user_id: u64,
    /// When, Unix time, milliseconds.
    pub send_at_ms: u64,
    /// What, with its conversation and `client_id`.
    pub send: Send,
    /// Why it was refused when its time came; empty: it was not. It is not tried again then.
    pub failure: String,
}

/// See the module's header. Nothing of it is cached.
#[async_trait]
pub trait MarkStore: std::marker::Send + Sync {
    /// Hides messages from one user. Those that are hidden already stay so.
    async fn hide(&self, user_id: u64, conversation_id: u64, seqs: &[u64]) -> StoreResult<()>;
    /// What a user has hidden of a conversation at `from_seq <= seq`, by seq.
    async fn hidden(
        &self,
        user_id: u64,
        conversation_id: u64,
        from_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<u64>>;
    /// Those of the messages, as (conversation, seq), that a user has hidden, in any order.
    async fn hidden_among(&self, user_id: u64, messages: &[(u64, u64)]) -> StoreResult<Vec<(u64, u64)>>;
    /// Pins a message; whether it was not pinned before.
    async fn pin(&self, pin: PinRecord) -> StoreResult<bool>;
    /// Takes a pin off; whether there was one. A message that is taken back loses its pin with what it said.
    async fn unpin(&self, conversation_id: u64, seq: u64) -> StoreResult<bool>;
    /// The pins of a conversation, by seq.
    async fn pins(&self, conversation_id: u64) -> StoreResult<Vec<PinRecord>>;
    /// Keeps a message for later (its `id` is ignored); of two with one `client_id` the first stays. What is kept.
    async fn schedule(&self, record: ScheduledRecord) -> StoreResult<ScheduledRecord>;
    /// What a user has scheduled, by id above `after_id`.
    async fn scheduled(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ScheduledRecord>>;
    /// What is to be sent by now and was not refused, by (time, id) behind `after`.
    async fn due(&self, now_ms: u64, after: (u64, u64), limit: u32) -> StoreResult<Vec<ScheduledRecord>>;
    /// Takes one out; whether it was there, and the user's.
    async fn unschedule(&self, user_id: u64, id: u64) -> StoreResult<bool>;
    /// Notes that one was refused.
    async fn note_failure(&self, id: u64, failure: &str) -> StoreResult<()>;
    /// Messages that have expired by now and were not emptied yet, as (conversation, seq) behind `after`.
    async fn expired(&self, now_ms: u64, after: (u64, u64), limit: u32) -> StoreResult<Vec<(u64, u64)>>;
    /// Forgets when a message expires: nothing is left to be done about it.
    async fn forget_expiry(&self, conversation_id: u64, seq: u64) -> StoreResult<()>;
}
