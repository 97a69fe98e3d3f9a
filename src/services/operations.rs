//! What operators ask: nodes, actors, placement. The answers are JSON as the admin endpoint shows it.

use serde_json::Value;

use crate::domain::Result;

/// The operators' questions. Cheap to clone.
#[derive(Clone)]
pub struct Operations {}

/// The filters of `GET /actors`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct ActorQuery {
    /// `session`, `room` or `presence`; empty: all.
    pub kind: String,
    /// One node's only.
    pub node: String,
    /// One key only.
    pub key: Option<u64>,
    /// Most rows.
    pub limit: Option<usize>,
    /// An earlier `next_cursor`.
    pub cursor: String,
}

impl Operations {
    /// Whether the node takes clients: storage answers and the node is up in its own view. Else why not.
    pub async fn ready(&self) -> std::result::Result<(), String> {
        todo!()
    }
    /// `{"items": [node…]}`.
    pub async fn nodes(&self) -> Result<Value> {
        todo!()
    }
    /// One node.
    pub async fn node(&self, name: &str) -> Result<Value> {
        let _ = name;
        todo!()
    }
    /// `{"items": [actor…], "next_cursor", "incomplete": [nodes that did not answer]}`.
    pub async fn actors(&self, query: ActorQuery) -> Result<Value> {
        let _ = query;
        todo!()
    }
    /// One actor's own view of itself.
    pub async fn actor(&self, kind: &str, key: u64) -> Result<Value> {
        let _ = (kind, key);
        todo!()
    }
    /// Where an address lives, and where it would.
    pub async fn placement(&self, kind: &str, key: u64) -> Result<Value> {
        let _ = (kind, key);
        todo!()
    }
}
