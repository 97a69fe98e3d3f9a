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
    /// It is being sent, and can't be taken back any more.
    pub claimed: bool,
}

/// See the module's header. Nothing of it is cached.
#[async_trait]
pub trait MarkStore: std::marker::Send + Sync {
    /// Hides messages from one user, at a time (Unix milliseconds). Those that are hidden already stay as they are.
    async fn hide(&self, user_id: u64, conversation_id: u64, seqs: &[u64], now_ms: u64) -> StoreResult<()>;
    /// What a user has hidden at `since_ms` or later, as (time, conversation, seq), in this order.
    async fn hidden_since(
        &self,
        user_id: u64,
        since_ms: u64,
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>>;
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
    /// Who has hidden a message, in any order.
    async fn hiders(&self, conversation_id: u64, seq: u64, limit: u32) -> StoreResult<Vec<u64>>;
    /// Pins a message; whether it was not pinned before.
    async fn pin(&self, pin: PinRecord) -> StoreResult<bool>;
    /// Takes a pin off; whether there was one. A message that is taken back loses its pin with what it said.
    async fn unpin(&self, conversation_id: u64, seq: u64) -> StoreResult<bool>;
    /// The pins of a conversation, by seq.
    async fn pins(&self, conversation_id: u64) -> StoreResult<Vec<PinRecord>>;
    /// Keeps a message for later (its `id` is ignored); of two with one `client_id` the first stays. What is kept.
    async fn schedule(&self, record: ScheduledRecord) -> StoreResult<ScheduledRecord>;
    /// What a user has scheduled and is not being sent, by id above `after_id`.
    async fn scheduled(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ScheduledRecord>>;
    /// What is to be sent by now and was not refused, by (time, id) behind `after`; what is being sent too, as whoever has begun
    /// may have ended.
    async fn due(&self, now_ms: u64, after: (u64, u64), limit: u32) -> StoreResult<Vec<ScheduledRecord>>;
    /// Takes one out for its sender; whether it was there, the user's, and not being sent.
    async fn unschedule(&self, user_id: u64, id: u64) -> StoreResult<bool>;
    /// Marks one as being sent; `false`: it is not there any more, was refused, or is being sent already.
    async fn claim(&self, id: u64) -> StoreResult<bool>;
    /// Puts one off until `send_at_ms`, being sent still or, where it certainly was not, no more.
    async fn put_off(&self, id: u64, send_at_ms: u64, claimed: bool) -> StoreResult<()>;
    /// Takes one out that was sent.
    async fn finish(&self, id: u64) -> StoreResult<()>;
    /// Notes that one was refused: it is not being sent any more.
    async fn note_failure(&self, id: u64, failure: &str) -> StoreResult<()>;
    /// Messages that have expired by now and were not emptied yet, as (time, conversation, seq) behind `after`.
    async fn expired(
        &self,
        now_ms: u64,
        after: (u64, u64, u64),
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>>;
    /// Forgets when a message expires: nothing is left to be done about it.
    async fn forget_expiry(&self, conversation_id: u64, seq: u64) -> StoreResult<()>;
}
