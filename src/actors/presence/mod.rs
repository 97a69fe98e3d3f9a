//! Presence shards: the directory of live sessions.

pub mod actor;
pub mod state;
