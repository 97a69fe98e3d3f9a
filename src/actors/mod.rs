//! The actors: sessions, rooms and presence shards, and what starts and finds them.

pub mod room;
pub mod session;

use crate::domain::Result;
use crate::protocol::cluster::SessionRecord;
use crate::protocol::v1::server_frame::Body;

/// Events for users, wherever their sessions are. Cheap to clone.
#[derive(Clone)]
pub struct Events {}

impl Events {
    /// Sends `event` to every live session of the users but `except_session_id` (0: none). Not durable: a session that
    /// is not reached learns by sync.
    pub fn publish(&self, user_ids: Vec<u64>, event: Body, except_session_id: u64) {
        let _ = (user_ids, event, except_session_id);
        todo!()
    }
}

/// The directory of live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Presence {}

impl Presence {
    /// The live sessions of the users, on all nodes.
    pub async fn sessions_of(&self, user_ids: &[u64]) -> Result<Vec<SessionRecord>> {
        let _ = user_ids;
        todo!()
    }
    /// Ends the live sessions of a device on whichever node (`device_id` 0: of all the user's devices) with a
    /// WebSocket close code such as 4401.
    pub async fn close_sessions(
        &self,
        user_id: u64,
        device_id: u64,
        close_code: u16,
        reason: &str,
    ) -> Result<()> {
        let _ = (user_id, device_id, close_code, reason);
        todo!()
    }
}
