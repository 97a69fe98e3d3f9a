//! Which nodes there are and in what state, as this node sees it. Pure: events in, a view out.
//!
//! Each node decides by its own links who is up and who is down; from gossip it takes names and addresses, the word of
//! a node about itself, and that a node leaves. So nothing that one node imagines of another can spread.
//!
//! - A node heard of is `joining` until a link to it is ready; from then on it is what it says of itself.
//! - A silent link makes it `suspect`, and so does a lost one; bytes or a new link clear that.
//! - `Dead` (silent for too long, or its port refuses after its link was lost) makes it `down`. Only a link brings it
//!   back. So does a newer incarnation, which is another node as far as links go.
//! - `leaving` is final for an incarnation; when its link ends it is down, and nobody dials it any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::{NodeInfo, NodeState, View, ViewNode};

/// Nodes that are down are forgotten after this long, in milliseconds: 24 hours, beyond any partition that heals by
/// itself. Until then they are dialled.
pub const FORGET_AFTER_MS: u64 = 24 * 3600 * 1000;

/// Most other nodes that are known; more are ignored.
pub const PEERS_MAX: usize = 1024;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node says something else of itself.
    Myself(NodeState),
    /// Another node knows this one. `leaving`: and knows that it leaves.
    Heard {
        /// The node.
        info: NodeInfo,
        /// It has been seen leaving.
        leaving: bool,
    },
    /// The node itself has said that it is there, and wants a link.
    Met(NodeInfo),
    /// A link to the node is ready, which replaces any earlier one. `said`: its own word.
    Linked {
        /// The node.
        info: NodeInfo,
        /// What it says of itself.
        said: NodeState,
    },
    /// The node's own word, over its link.
    Said {
        /// Its name.
        name: String,
        /// Of which incarnation.
        incarnation: u64,
        /// What it says of itself.
        state: NodeState,
    },
    /// Its link has been silent for `suspect_after`.
    Silent(String),
    /// Its link is not silent any more.
    Alive(String),
    /// Its link has ended.
    Unlinked(String),
    /// It is gone for certain, or as good as.
    Dead(String),
}

/// A node other than this one.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it says of itself.
    pub info: Arc<NodeInfo>,
    /// As this node sees it.
    pub state: NodeState,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// A link to it is ready.
    pub linked: bool,
    said: NodeState,
}

impl Peer {
    /// Whether a link to it is wanted.
    pub fn is_wanted(&self) -> bool {
        !self.linked && self.said != NodeState::Leaving
    }

    /// Whether it is gone as it had said it would be.
    fn has_left(&self) -> bool {
        self.state == NodeState::Down && self.said == NodeState::Leaving
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The view differs from the one before.
    pub view: bool,
    /// A node, or a new incarnation of one, has become known: the others should hear of it.
    pub learned: bool,
}

/// The membership as one node sees it.
#[derive(Clone, Debug)]
pub struct Membership {
    me: Arc<NodeInfo>,
    my_state: NodeState,
    my_since_ms: u64,
    peers: BTreeMap<String, Peer>,
    version: u64,
}

impl Membership {
    /// Knows this node alone, which is `joining`.
    pub fn new(me: NodeInfo, now_ms: u64) -> Self {
        Self {
            me: Arc::new(me),
            my_state: NodeState::Joining,
            my_since_ms: now_ms,
            peers: BTreeMap::new(),
            version: 1,
        }
    }

    /// Takes an event.
    pub fn apply(&mut self, event: Event, now_ms: u64) -> Change {
        let change = self.change(event, now_ms);
        if change.view {
            self.version += 1;
        }
        change
    }

    /// Forgets what has been down for too long.
    pub fn forget(&mut self, now_ms: u64) -> Change {
        let before = self.peers.len();
        self.peers.retain(|_, peer| {
            peer.state != NodeState::Down || now_ms.saturating_sub(peer.since_ms) < FORGET_AFTER_MS
        });
        let change = Change { view: self.peers.len() != before, learned: false };
        if change.view {
            self.version += 1;
        }
        change
    }

    /// The view.
    pub fn view(&self) -> View {
        let me = ViewNode {
            info: self.me.clone(),
            state: self.my_state,
            since_ms: self.my_since_ms,
            has_left: false,
        };
        let others = self.peers.values().map(|peer| ViewNode {
            info: peer.info.clone(),
            state: peer.state,
            since_ms: peer.since_ms,
            has_left: peer.has_left(),
        });
        View::new(self.version, others.chain([me]).collect(), &self.me.name)
    }

    /// The node of that name, unless it is this one.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.get(name)
    }

    /// All other nodes, by name.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// What this node says of itself.
    pub fn me(&self) -> (&NodeInfo, NodeState) {
        (&self.me, self.my_state)
    }

    fn change(&mut self, event: Event, now_ms: u64) -> Change {
        match event {
            Event::Myself(state) => {
                let view = self.my_state != state;
                if view {
                    (self.my_state, self.my_since_ms) = (state, now_ms);
                }
                Change { view, learned: false }
            }
            Event::Heard { info, leaving } => self.heard(info, leaving, now_ms),
            Event::Met(info) => self.met(info, now_ms),
            Event::Linked { info, said } => self.linked(info, said, now_ms),
            Event::Said { name, incarnation, state } => {
                let Some(peer) =
                    self.peers.get_mut(&name).filter(|peer| peer.info.incarnation == incarnation)
                else {
                    return Change::default();
                };
                let had_left = peer.has_left();
                peer.say(state);
                let seen = match peer.state {
                    NodeState::Suspect if peer.said != NodeState::Leaving => NodeState::Suspect,
                    _ if peer.linked => peer.said,
                    // Its word came with the last bytes of its link.
                    _ if peer.said == NodeState::Leaving => NodeState::Down,
                    other => other,
                };
                let change = set(peer, seen, now_ms);
                Change { view: change.view || peer.has_left() != had_left, ..change }
            }
            Event::Silent(name) => self.with(&name, now_ms, |peer| match peer.state {
                NodeState::Up => NodeState::Suspect,
                other => other,
            }),
            Event::Alive(name) => self.with(&name, now_ms, |peer| match peer.state {
                NodeState::Suspect if peer.linked => peer.said,
                other => other,
            }),
            Event::Unlinked(name) => self.with(&name, now_ms, |peer| {
                peer.linked = false;
                match peer.state {
                    NodeState::Up => NodeState::Suspect,
                    NodeState::Leaving => NodeState::Down,
                    other => other,
                }
            }),
            Event::Dead(name) => self.with(&name, now_ms, |peer| {
                peer.linked = false;
                NodeState::Down
            }),
        }
    }

    fn with(&mut self, name: &str, now_ms: u64, decide: impl FnOnce(&mut Peer) -> NodeState) -> Change {
        match self.peers.get_mut(name) {
            Some(peer) => {
                let state = decide(peer);
                set(peer, state, now_ms)
            }
            None => Change::default(),
        }
    }

    fn heard(&mut self, info: NodeInfo, leaving: bool, now_ms: u64) -> Change {
        if info.name == self.me.name {
            return Change::default();
        }
        let said = if leaving { NodeState::Leaving } else { NodeState::Joining };
        let full = self.peers.len() >= PEERS_MAX;
        match self.peers.get_mut(&info.name) {
            Some(peer) if peer.info.incarnation == info.incarnation => {
                if leaving && peer.said != NodeState::Leaving {
                    let had_left = peer.has_left();
                    peer.say(NodeState::Leaving);
                    let state = match peer.state {
                        NodeState::Down => NodeState::Down,
                        _ if peer.linked => NodeState::Leaving,
                        // Without a link there is nothing to wait for.
                        _ => NodeState::Down,
                    };
                    let change = set(peer, state, now_ms);
                    return Change { view: change.view || peer.has_left() != had_left, ..change };
                }
                Change::default()
            }
            // The link, or a newer incarnation, knows better.
            Some(peer) if peer.linked || peer.info.incarnation > info.incarnation => Change::default(),
            Some(peer) => {
                *peer = Peer::new(info, said, now_ms);
                Change { view: true, learned: true }
            }
            None if leaving || full => Change::default(),
            None => {
                self.peers.insert(info.name.clone(), Peer::new(info, said, now_ms));
                Change { view: true, learned: true }
            }
        }
    }

    /// What a node says of itself is newer than all that is known of it, unless there is a link to another incarnation.
    fn met(&mut self, info: NodeInfo, now_ms: u64) -> Change {
        match self.peers.get(&info.name) {
            Some(peer) if peer.linked || *peer.info == info => Change::default(),
            None if self.peers.len() >= PEERS_MAX => Change::default(),
            _ => {
                self.peers.insert(info.name.clone(), Peer::new(info, NodeState::Joining, now_ms));
                Change { view: true, learned: true }
            }
        }
    }

    fn linked(&mut self, info: NodeInfo, said: NodeState, now_ms: u64) -> Change {
        let known = self.peers.get(&info.name).filter(|peer| *peer.info == info);
        let was_leaving = known.is_some_and(|peer| peer.said == NodeState::Leaving);
        let before = known.map(|peer| (peer.state, peer.since_ms));
        let said = if was_leaving { NodeState::Leaving } else { said };
        let since_ms = before.filter(|(state, _)| *state == said).map_or(now_ms, |(_, since_ms)| since_ms);
        let change = Change { view: before.map(|(state, _)| state) != Some(said), learned: before.is_none() };
        let name = info.name.clone();
        self.peers.insert(name, Peer { info: Arc::new(info), state: said, since_ms, linked: true, said });
        change
    }
}

impl Peer {
    fn new(info: NodeInfo, said: NodeState, now_ms: u64) -> Self {
        let state = if said == NodeState::Leaving { NodeState::Down } else { NodeState::Joining };
        Self { info: Arc::new(info), state, since_ms: now_ms, linked: false, said }
    }

    /// Takes its word about itself; who has said that it leaves can't take that back.
    fn say(&mut self, state: NodeState) {
        if self.said != NodeState::Leaving {
            self.said = match state {
                NodeState::Up | NodeState::Leaving => state,
                _ => NodeState::Joining,
            };
        }
    }
}

fn set(peer: &mut Peer, state: NodeState, now_ms: u64) -> Change {
    let view = peer.state != state;
    if view {
        (peer.state, peer.since_ms) = (state, now_ms);
    }
    Change { view, learned: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::Address;

    fn info(name: &str, incarnation: u64) -> NodeInfo {
        NodeInfo { name: name.to_owned(), incarnation, ..NodeInfo::default() }
    }

    fn membership() -> Membership {
        let mut membership = Membership::new(info("a", 1), 0);
        membership.apply(Event::Myself(NodeState::Up), 0);
        membership
    }

    fn linked(name: &str, incarnation: u64) -> Event {
        Event::Linked { info: info(name, incarnation), said: NodeState::Up }
    }

    fn state(membership: &Membership, name: &str) -> Option<NodeState> {
        membership.view().node(name).map(|node| node.state)
    }

    #[test]
    fn a_node_heard_of_owns_nothing_until_it_is_linked() {
        let mut membership = membership();
        let change = membership.apply(Event::Heard { info: info("b", 1), leaving: false }, 1);
        assert_eq!(change, Change { view: true, learned: true });
        assert_eq!(state(&membership, "b"), Some(NodeState::Joining));
        membership.apply(linked("b", 1), 2);
        assert_eq!(state(&membership, "b"), Some(NodeState::Up));
        assert_eq!(membership.view().owners().count(), 2);
    }

    #[test]
    fn a_linked_node_is_what_it_says() {
        let mut membership = membership();
        membership.apply(Event::Linked { info: info("b", 1), said: NodeState::Joining }, 1);
        assert_eq!(state(&membership, "b"), Some(NodeState::Joining));
        let up = Event::Said { name: "b".to_owned(), incarnation: 1, state: NodeState::Up };
        assert!(membership.apply(up.clone(), 2).view);
        assert_eq!(state(&membership, "b"), Some(NodeState::Up));
        assert!(!membership.apply(up, 3).view);
        let stale = Event::Said { name: "b".to_owned(), incarnation: 9, state: NodeState::Leaving };
        assert!(!membership.apply(stale, 4).view);
    }

    #[test]
    fn a_lost_link_makes_suspect_and_a_new_one_clears_it() {
        let mut membership = membership();
        membership.apply(linked("b", 1), 1);
        membership.apply(Event::Unlinked("b".to_owned()), 2);
        assert_eq!(state(&membership, "b"), Some(NodeState::Suspect));
        assert_eq!(membership.view().owners().count(), 2);
        membership.apply(Event::Alive("b".to_owned()), 3);
        assert_eq!(state(&membership, "b"), Some(NodeState::Suspect), "nothing is alive without a link");
        membership.apply(linked("b", 1), 4);
        assert_eq!(state(&membership, "b"), Some(NodeState::Up));
    }

    #[test]
    fn a_dead_node_comes_back_only_by_a_link() {
        let mut membership = membership();
        membership.apply(linked("b", 1), 1);
        membership.apply(Event::Dead("b".to_owned()), 2);
        assert_eq!(state(&membership, "b"), Some(NodeState::Down));
        membership.apply(Event::Heard { info: info("b", 1), leaving: false }, 3);
        membership.apply(Event::Alive("b".to_owned()), 3);
        membership.apply(Event::Said { name: "b".to_owned(), incarnation: 1, state: NodeState::Up }, 3);
        assert_eq!(state(&membership, "b"), Some(NodeState::Down));
        assert!(membership.peer("b").expect("it is known").is_wanted());
        membership.apply(linked("b", 1), 4);
        assert_eq!(state(&membership, "b"), Some(NodeState::Up));
    }

    #[test]
    fn a_restarted_node_replaces_its_older_self() {
        let mut membership = membership();
        membership.apply(linked("b", 1), 1);
        membership.apply(Event::Heard { info: info("b", 2), leaving: false }, 2);
        assert_eq!(membership.peer("b").map(|peer| peer.info.incarnation), Some(1), "the link knows better");
        membership.apply(linked("b", 2), 3);
        assert_eq!(membership.peer("b").map(|peer| peer.info.incarnation), Some(2));
        membership.apply(Event::Heard { info: info("b", 1), leaving: true }, 4);
        assert_eq!(state(&membership, "b"), Some(NodeState::Up));
    }

    #[test]
    fn leaving_is_final_and_spreads() {
        let mut membership = membership();
        membership.apply(linked("b", 1), 1);
        membership.apply(Event::Heard { info: info("b", 1), leaving: true }, 2);
        assert_eq!(state(&membership, "b"), Some(NodeState::Leaving));
        membership.apply(Event::Said { name: "b".to_owned(), incarnation: 1, state: NodeState::Up }, 3);
        assert_eq!(state(&membership, "b"), Some(NodeState::Leaving));
        assert!(membership.view().owned_here(&Address::room(7)));
        membership.apply(Event::Unlinked("b".to_owned()), 4);
        assert_eq!(state(&membership, "b"), Some(NodeState::Down));
        assert!(!membership.peer("b").expect("it is known").is_wanted());
    }

    #[test]
    fn what_has_long_been_down_is_forgotten() {
        let mut membership = membership();
        membership.apply(linked("b", 1), 1);
        membership.apply(Event::Dead("b".to_owned()), 2);
        assert!(!membership.forget(FORGET_AFTER_MS).view);
        assert!(membership.forget(FORGET_AFTER_MS + 2).view);
        assert!(membership.peer("b").is_none());
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let name = prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned);
        let states = prop_oneof![Just(NodeState::Joining), Just(NodeState::Up), Just(NodeState::Leaving)];
        (0_u8..7, name, 1_u64..4, states).prop_map(|(what, name, incarnation, said)| {
            let info = info(&name, incarnation);
            match what {
                0 => Event::Heard { info, leaving: said == NodeState::Leaving },
                // A node never links to itself.
                1 if name != "a" => Event::Linked { info, said },
                2 => Event::Said { name, incarnation, state: said },
                3 if said == NodeState::Up && name != "a" => Event::Met(info),
                3 => Event::Silent(name),
                4 => Event::Alive(name),
                5 => Event::Unlinked(name),
                _ => Event::Dead(name),
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_happens_the_view_stays_sound(events in proptest::collection::vec(any_event(), 0..60)) {
            let mut membership = membership();
            for (now_ms, event) in events.into_iter().enumerate() {
                let before = membership.view();
                let was = membership.peers.clone();
                let change = membership.apply(event.clone(), now_ms as u64);
                let after = membership.view();
                prop_assert_eq!(after.version, before.version + u64::from(change.view));
                if !change.view {
                    prop_assert_eq!(&after.nodes, &before.nodes);
                }
                prop_assert!(after.node("a").is_some_and(|me| me.state == NodeState::Up));
                for peer in membership.peers() {
                    prop_assert!(!(peer.linked && peer.state == NodeState::Down));
                    prop_assert!(peer.state != NodeState::Up || peer.linked, "up without a link");
                    let Some(old) = was.get(&peer.info.name) else { continue };
                    let same = old.info.incarnation == peer.info.incarnation;
                    if same && old.said == NodeState::Leaving {
                        prop_assert!(!peer.state.owns(), "a leaving node came back");
                    }
                    if old.state == NodeState::Down && peer.state.owns() {
                        let by_link = matches!(event, Event::Linked { .. });
                        prop_assert!(by_link, "a dead node came back by {:?}", event);
                    }
                }
            }
        }

        #[test]
        fn nodes_that_are_all_linked_agree_on_every_owner(
            count in 2_usize..6,
            events in proptest::collection::vec((0_usize..6, any_event()), 0..40),
            key: u64,
        ) {
            let name = |number: usize| ((b'a' + number as u8) as char).to_string();
            let mut nodes: Vec<Membership> = (0..count)
                .map(|number| Membership::new(info(&name(number), 1), 0))
                .collect();
            // A confused past, then everyone links to everyone.
            for (number, event) in events {
                let about_itself = matches!(&event, Event::Linked { info, .. } if info.name == name(number % count));
                if !about_itself && !matches!(&event, Event::Heard { leaving: true, .. } | Event::Linked { .. }) {
                    nodes[number % count].apply(event, 1);
                }
            }
            for (number, node) in nodes.iter_mut().enumerate() {
                node.apply(Event::Myself(NodeState::Up), 2);
                for other in (0..count).filter(|other| *other != number) {
                    let said = Event::Linked { info: info(&name(other), 10), said: NodeState::Up };
                    node.apply(said, 2);
                }
            }
            let address = Address::room(key);
            let owners: Vec<Option<String>> =
                nodes.iter().map(|node| node.view().owner(&address).map(str::to_owned)).collect();
            prop_assert!(owners[0].is_some());
            prop_assert!(owners.iter().all(|owner| *owner == owners[0]), "{:?}", owners);
        }
    }
}
