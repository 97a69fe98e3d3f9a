//! The logs of conversations.

use async_trait::async_trait;

use super::StoreResult;
use crate::protocol::v1::Message;

/// How far behind the newest entry of a log its newest message is looked for, in seqs: a message may have been followed by
/// many reactions.
pub const PREVIEW_BACK: u64 = 1000;

/// What identifies a send to its sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// In which conversation.
    pub conversation_id: u64,
    /// By whom.
    pub sender_id: u64,
    /// Under which name.
    pub client_id: String,
}

/// The logs. A message that is read is as later entries of its log have made it ([`crate::domain::changes`]): what an
/// append does to earlier messages is stored with it.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Appends messages of any conversations in one transaction: all or none.
    /// [`Exists`](super::StoreError::Exists): a (conversation, seq) or a (conversation, sender, client_id) is taken; nothing stored.
    async fn append(&self, messages: &[Message]) -> StoreResult<()>;
    /// How many of `waiting` messages are best appended at once, the rest being soon to follow: 1 to `waiting`.
    fn append_size(&self, waiting: usize) -> usize {
        waiting
    }
    /// How many appends can run at the same time; more would wait for each other.
    fn appends_at_once(&self) -> usize {
        usize::MAX
    }
    /// The newest seq of a conversation; 0: none.
    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64>;
    /// Those of the keys that are stored, as (key, seq, created_at_ms), in any order.
    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>>;
    /// Messages with `after_seq < seq`, oldest first.
    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>>;
    /// Messages behind each of these places (conversation, seq), of which no two are in one conversation: conversation by
    /// conversation in the order given, oldest first, and `limit` in all at most.
    async fn tails(&self, places: &[(u64, u64)], limit: u32) -> StoreResult<Vec<Message>> {
        let mut messages = Vec::new();
        for (conversation_id, seq) in places {
            let left = limit - messages.len() as u32;
            if left == 0 {
                break;
            }
            messages.extend(self.after(*conversation_id, *seq, left).await?);
        }
        Ok(messages)
    }
    /// The first seq whose message was stored at `at_ms` (Unix milliseconds) or later; behind the newest where there is
    /// none. Halves the log, as times grow with seqs: where clocks of nodes differ, it is as far off as they are.
    async fn seq_at(&self, conversation_id: u64, at_ms: u64) -> StoreResult<u64> {
        let (mut low, mut high) = (1, self.last_seq(conversation_id).await?.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            // The first that is there: older ones may have been removed.
            let there = self.after(conversation_id, middle - 1, 1).await?;
            match there.first() {
                Some(message) if message.seq < high && message.created_at_ms < at_ms => low = message.seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
    /// Those of the messages, named by conversation and seq, that there are, in any order.
    async fn at(&self, keys: &[(u64, u64)]) -> StoreResult<Vec<Message>> {
        let mut found = Vec::new();
        for (conversation_id, seq) in keys.iter().filter(|(_, seq)| *seq > 0) {
            let there = self.after(*conversation_id, seq - 1, 1).await?;
            found.extend(there.into_iter().filter(|message| message.seq == *seq));
        }
        Ok(found)
    }
    /// The newest messages of each conversation, oldest first, `limit` at most; in the order of the ids.
    async fn newest(&self, conversation_ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        let mut tails = Vec::with_capacity(conversation_ids.len());
        for id in conversation_ids {
            tails.push(self.before(*id, u64::MAX >> 1, 1, limit).await?);
        }
        Ok(tails)
    }
    /// The newest messages with `first_seq <= seq < before_seq`, oldest first.
    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>>;
}
