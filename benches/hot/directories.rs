//! The session directory, and what fan-out plans by it.

use std::sync::Arc;
use std::time::Duration;

use rookery::actors::directory::Directory;
use rookery::cluster::{NodeInfo, NodeState, View, ViewNode};
use rookery::config::PresenceConfig;
use rookery::protocol::cluster::{Register, SessionRecord};

/// The node that plans.
pub const HERE: &str = "node-0";

/// A view of `nodes` nodes that are up, of which this is the first.
pub fn view(nodes: usize) -> View {
    let node = |number: usize| ViewNode {
        info: Arc::new(NodeInfo { name: format!("node-{number}"), incarnation: 1, ..NodeInfo::default() }),
        state: NodeState::Up,
        since_ms: 0,
        has_left: false,
    };
    View::new(1, (0..nodes).map(node).collect(), HERE)
}

/// A directory in a cluster of `nodes`, which knows one session each of the users 1 to `users`, spread over all nodes.
pub fn directory(nodes: usize, users: u64) -> Directory {
    let directory = Directory::new(PresenceConfig::default().shards, Duration::ZERO);
    directory.take_view(&view(nodes), HERE);
    for user_id in 1..=users {
        let shard = directory.shard_of(user_id);
        if directory.counts(shard).is_none() {
            continue;
        }
        let record = SessionRecord {
            user_id,
            session_id: user_id,
            device_id: user_id,
            node: format!("node-{}", user_id as usize % nodes),
            incarnation: 1,
            device_name: String::new(),
            number: user_id,
            ..SessionRecord::default()
        };
        directory.register(shard, Register { sessions: vec![record], ..Register::default() });
    }
    directory
}
