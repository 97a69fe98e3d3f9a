//! The store of the search index: which messages have which terms ([`crate::domain::search_terms`]), and how far the
//! index of each conversation reaches into its log.

use async_trait::async_trait;

use super::StoreResult;
use crate::domain::search_terms::Lookup;

/// How far the index of a conversation reaches: all seqs from `low_seq` to `high_seq` are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IndexState {
    /// Of which conversation.
    pub conversation_id: u64,
    /// The first seq that is indexed; behind `high_seq` where none is.
    pub low_seq: u64,
    /// The last one.
    pub high_seq: u64,
    /// Grows with every change of the index; 0: there is none yet.
    pub edition: u64,
    /// The newest seq of the log.
    pub last_seq: u64,
}

impl IndexState {
    /// Whether the whole log is indexed.
    pub fn is_complete(&self) -> bool {
        self.last_seq == 0 || (self.edition > 0 && self.high_seq >= self.last_seq && self.low_seq <= 1)
    }
}

/// A message in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedMessage {
    /// Its seq.
    pub seq: u64,
    /// Who sent it.
    pub sender_id: u64,
    /// Number of its kind.
    pub kind: i32,
    /// When it was sent, Unix milliseconds.
    pub created_at_ms: u64,
    /// What it is found by, each once. None: it is not found.
    pub terms: Vec<String>,
}

/// A change of a conversation's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStep {
    /// How the index was when the log was read.
    pub from: IndexState,
    /// Its new first seq.
    pub low_seq: u64,
    /// Its new last seq.
    pub high_seq: u64,
    /// Messages to put in, in the place of what is there of them.
    pub messages: Vec<IndexedMessage>,
}

/// A place in the order of what is found: newest first, by time, conversation and seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundAt {
    /// When the message was sent, Unix milliseconds.
    pub created_at_ms: u64,
    /// Its conversation.
    pub conversation_id: u64,
    /// Its seq.
    pub seq: u64,
}

/// What to find.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// Whose conversations: only those that this user is a member of, and only from its `first_seq` on.
    pub user_id: u64,
    /// In which of them.
    pub conversation_ids: Vec<u64>,
    /// By which terms, all of them; the first leads. Beginnings behind a first one are not looked at.
    pub lookups: Vec<Lookup>,
    /// From whom; 0: anybody.
    pub sender_id: u64,
    /// Of which kind.
    pub kind: Option<i32>,
    /// Not older, Unix milliseconds.
    pub from_ms: u64,
    /// Older than this, Unix milliseconds; 0: any.
    pub to_ms: u64,
    /// Only what comes behind this place.
    pub behind: Option<FoundAt>,
    /// At most so many.
    pub limit: u32,
}

/// The search index.
#[async_trait]
pub trait SearchStore: Send + Sync {
    /// How far the indexes of these conversations reach, in any order; those that don't exist are left out.
    async fn index_states(&self, conversation_ids: &[u64]) -> StoreResult<Vec<IndexState>>;
    /// Takes a step in one transaction; `false`: the index is not as the step says that it was, and nothing was changed.
    async fn index(&self, step: &IndexStep) -> StoreResult<bool>;
    /// Takes messages with `from_seq <= seq < to_seq` out of a conversation's index, those of `sender_id` or (0) of anybody. A
    /// step that was begun before fails.
    async fn forget(
        &self,
        conversation_id: u64,
        sender_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()>;
    /// Messages that may be meant, newest first. Their texts may have changed since they were indexed.
    async fn find(&self, find: &Find) -> StoreResult<Vec<FoundAt>>;
}
