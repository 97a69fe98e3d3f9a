//! Sending, syncing and reading history.

use crate::domain::Result;
use crate::protocol::v1;

/// Messages, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Messages {}

impl Messages {
    /// Checks, resolves `to_user_id`, stores. `Sent.duplicate` tells a repeat.
    pub async fn send(&self, by: u64, send: v1::Send) -> Result<v1::Sent> {
        let _ = (by, send);
        todo!()
    }
    /// A page of sync, no larger than `max_bytes` in JSON.
    pub async fn sync(&self, by: u64, request: v1::SyncRequest, max_bytes: usize) -> Result<v1::SyncPage> {
        let _ = (by, request, max_bytes);
        todo!()
    }
    /// A page of history.
    pub async fn history(
        &self,
        by: u64,
        request: v1::HistoryRequest,
        max_bytes: usize,
    ) -> Result<v1::HistoryPage> {
        let _ = (by, request, max_bytes);
        todo!()
    }
    /// The conversation as `by` sees it, from storage.
    pub async fn conversation(&self, by: u64, conversation_id: u64) -> Result<v1::Conversation> {
        let _ = (by, conversation_id);
        todo!()
    }
    /// The conversation list of `by`, newest first; `cursor` is an earlier answer's second part (empty: from the top).
    pub async fn conversations(
        &self,
        by: u64,
        cursor: &str,
        limit: u32,
    ) -> Result<(Vec<v1::Conversation>, String)> {
        let _ = (by, cursor, limit);
        todo!()
    }
    /// The direct conversation of two different users, created if need be (whether it was). `not_found`: no such user.
    pub async fn direct(&self, by: u64, other: u64) -> Result<(u64, bool)> {
        let _ = (by, other);
        todo!()
    }
}
