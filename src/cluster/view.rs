//! The membership view: an immutable snapshot of which nodes there are and which of them own addresses.

use std::sync::Arc;

use super::address::Address;
use super::placement::{self, Candidate};
use crate::protocol::cluster::{Member, member};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Unique in the cluster.
    pub name: String,
    /// When its process started, in Unix milliseconds: tells a restarted node from the one before.
    pub incarnation: u64,
    /// host:port that other nodes dial.
    pub cluster_address: String,
    /// host:port of HTTP and WebSocket.
    pub http_address: String,
    /// host:port of TCP frames.
    pub tcp_address: String,
    /// host:port of TCP lines.
    pub line_address: String,
    /// host:port of the operators' endpoint.
    pub admin_address: String,
    /// The version of Rookery it runs.
    pub version: String,
}

impl NodeInfo {
    /// As it goes over the wire, with the sender's idea of the node's state.
    pub fn to_member(&self, state: NodeState) -> Member {
        Member {
            name: self.name.clone(),
            incarnation: self.incarnation,
            cluster_address: self.cluster_address.clone(),
            state: member::State::from(state) as i32,
            version: self.version.clone(),
            http_address: self.http_address.clone(),
            tcp_address: self.tcp_address.clone(),
            line_address: self.line_address.clone(),
            admin_address: self.admin_address.clone(),
            link: 0,
        }
    }

    /// From the wire, with the sender's idea of the node's state.
    pub fn from_member(member: Member) -> (Self, NodeState) {
        let state = member.state().into();
        let info = Self {
            name: member.name,
            incarnation: member.incarnation,
            cluster_address: member.cluster_address,
            http_address: member.http_address,
            tcp_address: member.tcp_address,
            line_address: member.line_address,
            admin_address: member.admin_address,
            version: member.version,
        };
        (info, state)
    }
}

/// How this node sees a node (itself included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeState {
    /// Known, but not yet taking part: not linked, or still finding the others. Owns nothing.
    Joining,
    /// Linked and taking part.
    Up,
    /// Silent, or its link was lost a moment ago. It still owns what it owned.
    Suspect,
    /// It has said that it will stop. It owns nothing (unless nobody else is there) and forwards what reaches it.
    Leaving,
    /// Gone: its link is cut. It comes back only by a new link.
    Down,
}

impl NodeState {
    /// The word of the admin endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Leaving => "leaving",
            Self::Down => "down",
        }
    }

    /// Whether a node in this state owns addresses.
    pub fn owns(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }
}

impl From<NodeState> for member::State {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Joining => Self::Joining,
            NodeState::Up => Self::Up,
            NodeState::Suspect => Self::Suspect,
            NodeState::Leaving => Self::Leaving,
            NodeState::Down => Self::Down,
        }
    }
}

impl From<member::State> for NodeState {
    fn from(state: member::State) -> Self {
        match state {
            member::State::Joining => Self::Joining,
            member::State::Up => Self::Up,
            member::State::Suspect => Self::Suspect,
            member::State::Leaving => Self::Leaving,
            member::State::Down => Self::Down,
        }
    }
}

/// A node in a [`View`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewNode {
    /// What it says of itself.
    pub info: Arc<NodeInfo>,
    /// How this node sees it.
    pub state: NodeState,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// It is gone as it had said it would be.
    pub has_left: bool,
}

/// A node with its live figures, for the admin pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// What it says of itself.
    pub info: NodeInfo,
    /// How this node sees it.
    pub state: NodeState,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// The last heartbeat's round trip; none for this node itself and for nodes without a link.
    pub rtt_us: Option<u64>,
    /// Items that wait here to be sent to it, over all lanes.
    pub queued_items: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Live sessions there, as of its last heartbeat.
    pub sessions: u64,
    /// Active rooms there, as of its last heartbeat.
    pub rooms: u64,
}

/// An immutable snapshot of the membership, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Grows by one with every change. Only this node's: other nodes count their own.
    pub version: u64,
    /// All nodes known, ordered by name.
    pub nodes: Vec<ViewNode>,
    candidates: Vec<Candidate>,
    here: Option<usize>,
}

impl View {
    /// Makes a view for the node named `here`. If no node is `up` or `suspect`, the leaving ones own: the last node
    /// of a cluster serves its clients until it has stopped.
    pub fn new(version: u64, mut nodes: Vec<ViewNode>, here: &str) -> Self {
        nodes.sort_by(|a, b| a.info.name.cmp(&b.info.name));
        let owning = |wanted: fn(NodeState) -> bool| -> Vec<Candidate> {
            let owners = nodes.iter().enumerate().filter(|(_, node)| wanted(node.state));
            owners
                .map(|(index, node)| Candidate { hash: placement::node_hash(&node.info.name), index })
                .collect()
        };
        let mut candidates = owning(NodeState::owns);
        if candidates.is_empty() {
            candidates = owning(|state| state == NodeState::Leaving);
        }
        let here = nodes.iter().position(|node| node.info.name == here);
        Self { version, nodes, candidates, here }
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&ViewNode> {
        let at = self.nodes.binary_search_by(|node| node.info.name.as_str().cmp(name)).ok()?;
        self.nodes.get(at)
    }

    /// The nodes in state `up`, by name.
    pub fn up_nodes(&self) -> impl Iterator<Item = &ViewNode> {
        self.nodes.iter().filter(|node| node.state == NodeState::Up)
    }

    /// The nodes that own addresses, by name.
    pub fn owners(&self) -> impl Iterator<Item = &ViewNode> {
        self.candidates.iter().map(|candidate| &self.nodes[candidate.index])
    }

    /// The name of the node that owns the address; none while no node is up.
    pub fn owner(&self, address: &Address) -> Option<&str> {
        self.owner_node(address).map(|node| node.info.name.as_str())
    }

    /// Who would own the address if `node` were gone.
    pub fn owner_without(&self, address: &Address, node: &str) -> Option<&str> {
        let others: Vec<Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| self.nodes[candidate.index].info.name != node)
            .copied()
            .collect();
        placement::owner(&others, address).map(|index| self.nodes[index].info.name.as_str())
    }

    /// Whether this node owns the address.
    pub fn owned_here(&self, address: &Address) -> bool {
        let owner = placement::owner(&self.candidates, address);
        owner.is_some() && owner == self.here
    }

    fn owner_node(&self, address: &Address) -> Option<&ViewNode> {
        placement::owner(&self.candidates, address).map(|index| &self.nodes[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(states: &[(&str, NodeState)]) -> View {
        let nodes = states
            .iter()
            .map(|(name, state)| ViewNode {
                info: Arc::new(NodeInfo { name: (*name).to_owned(), ..NodeInfo::default() }),
                state: *state,
                since_ms: 0,
                has_left: false,
            })
            .collect();
        View::new(1, nodes, "a")
    }

    #[test]
    fn only_up_and_suspect_nodes_own() {
        let view = view(&[
            ("d", NodeState::Leaving),
            ("b", NodeState::Suspect),
            ("a", NodeState::Up),
            ("c", NodeState::Down),
            ("e", NodeState::Joining),
        ]);
        let owners: Vec<&str> = view.owners().map(|node| node.info.name.as_str()).collect();
        assert_eq!(owners, ["a", "b"]);
        assert_eq!(view.up_nodes().count(), 1);
        for key in 0..100 {
            let address = Address::room(key);
            let owner = view.owner(&address).expect("two nodes own");
            assert_eq!(view.owned_here(&address), owner == "a");
            assert_ne!(view.owner_without(&address, owner), Some(owner));
        }
    }

    #[test]
    fn the_last_node_owns_while_it_leaves() {
        let view = view(&[("a", NodeState::Leaving), ("b", NodeState::Down)]);
        assert!(view.owned_here(&Address::room(1)));
    }

    #[test]
    fn a_node_that_joins_alone_owns_nothing_yet() {
        let view = view(&[("a", NodeState::Joining)]);
        assert_eq!(view.owner(&Address::room(1)), None);
        assert!(!view.owned_here(&Address::room(1)));
    }

    #[test]
    fn nodes_are_found_by_name() {
        let view = view(&[("b", NodeState::Up), ("a", NodeState::Up)]);
        assert_eq!(view.node("b").map(|node| node.info.name.as_str()), Some("b"));
        assert!(view.node("z").is_none());
    }
}
