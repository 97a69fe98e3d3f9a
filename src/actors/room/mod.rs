//! Room actors: the only sequencers of their conversations' logs.

use crate::domain::Result;
use crate::protocol::v1;

/// Asks rooms, on whichever node they live. Cheap to clone. Every method may answer `not_found`, `permission_denied`,
/// `unavailable` or `deadline_exceeded` (within `cluster.ask_timeout`).
#[derive(Clone)]
pub struct Rooms {}

impl Rooms {
    /// Stores a message and tells the members.
    pub async fn send(&self, by: u64, send: v1::Send) -> Result<v1::Sent> {
        let _ = (by, send);
        todo!()
    }
    /// All up to seq were delivered to a device of `by`.
    pub async fn delivered(&self, by: u64, cursor: v1::Cursor) -> Result<()> {
        let _ = (by, cursor);
        todo!()
    }
    /// All up to seq were read by `by`.
    pub async fn read(&self, by: u64, cursor: v1::Cursor) -> Result<()> {
        let _ = (by, cursor);
        todo!()
    }
    /// The first act of a new group: stores its `system` message and tells the members.
    pub async fn opened(&self, by: u64, conversation_id: u64) -> Result<()> {
        let _ = (by, conversation_id);
        todo!()
    }
    /// Adds users (who exist) to a group; `by` is its owner or an admin.
    pub async fn add_members(&self, by: u64, conversation_id: u64, user_ids: Vec<u64>) -> Result<()> {
        let _ = (by, conversation_id, user_ids);
        todo!()
    }
    /// Removes a member from a group.
    pub async fn remove_member(&self, by: u64, conversation_id: u64, user_id: u64) -> Result<()> {
        let _ = (by, conversation_id, user_id);
        todo!()
    }
    /// Joins an open group. Already a member: nothing changes.
    pub async fn join(&self, by: u64, conversation_id: u64) -> Result<()> {
        let _ = (by, conversation_id);
        todo!()
    }
    /// Leaves a group. The last owner passes ownership to the oldest admin, else to the oldest member.
    pub async fn leave(&self, by: u64, conversation_id: u64) -> Result<()> {
        let _ = (by, conversation_id);
        todo!()
    }
    /// The conversation as `by` sees it.
    pub async fn describe(&self, by: u64, conversation_id: u64) -> Result<v1::Conversation> {
        let _ = (by, conversation_id);
        todo!()
    }
}
