//! This node's part of the session directory, and the fan-out that reads it.
//!
//! Slots are written by the presence shards' actors and read by fan-out without passing a mailbox. While a shard is
//! new here, sessions are still being announced to it, so events for its users go to every node: a moved shard costs
//! a little traffic, never a delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::presence::state::Shard;
use super::reach::Detours;
use crate::cluster::{Address, NodeState, View, ViewNode};
use crate::protocol::cluster::{Register, SessionRecord};

/// Of more users than this, those who are online are looked for, if they are fewer.
const MANY: usize = 512;

/// A shard that this node owns.
struct Slot {
    shard: Shard,
    complete_at: Instant,
}

/// Where a shard lives, by the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    Here,
    /// On the node of this name and incarnation, which can be reached (`up`) or not.
    There(Arc<str>, u64, bool),
    /// No node is up.
    Nowhere,
}

/// All shards, as this node knows them.
pub struct Directory {
    slots: Vec<RwLock<Option<Slot>>>,
    places: RwLock<Arc<[Place]>>,
    /// The nodes of the last view that may hold sessions: name, incarnation, and whether there has been a link to it.
    live: RwLock<BTreeSet<(String, u64, bool)>>,
    /// All nodes of the last view: incarnation, and whether it is down.
    known: RwLock<BTreeMap<String, (u64, bool)>>,
    detours: RwLock<Arc<Detours>>,
    rebuild_window: Duration,
    observer: OnceLock<Observer>,
}

/// Is told the users whose sessions have changed. Must not block.
pub type Observer = Box<dyn Fn(&[u64]) + Send + Sync>;

/// Where the sessions of some users are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Users who may have sessions on this node.
    pub here: Vec<u64>,
    /// Users by node that holds a session of theirs.
    pub nodes: BTreeMap<String, Vec<u64>>,
    /// Users by node that owns their shard, which is to route for them.
    pub shards: BTreeMap<Arc<str>, Vec<u64>>,
    /// Users whose sessions may be anywhere.
    pub everywhere: Vec<u64>,
}

impl Directory {
    /// No shard is here yet.
    pub fn new(shards: u64, rebuild_window: Duration) -> Self {
        Self {
            slots: (0..shards).map(|_| RwLock::new(None)).collect(),
            places: RwLock::new((0..shards).map(|_| Place::Nowhere).collect()),
            live: RwLock::new(BTreeSet::new()),
            known: RwLock::new(BTreeMap::new()),
            detours: RwLock::default(),
            rebuild_window,
            observer: OnceLock::new(),
        }
    }

    /// Names who is told of changes; the first one stays.
    pub fn observe(&self, observer: Observer) {
        let _ = self.observer.set(observer);
    }

    /// The shard of a user.
    pub fn shard_of(&self, user_id: u64) -> u64 {
        user_id % self.slots.len() as u64
    }

    /// How many shards there are.
    pub fn shards(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Where every shard lives now.
    pub fn places(&self) -> Arc<[Place]> {
        Arc::clone(&self.places.read())
    }

    /// Whether the last view that was taken up has a node of that name that may hold sessions.
    pub fn is_live(&self, name: &str) -> bool {
        self.known.read().get(name).is_some_and(|(_, down)| !down)
    }

    /// The nodes that owners of shards don't reach, by the name of the owner.
    pub fn detours(&self) -> Arc<Detours> {
        Arc::clone(&self.detours.read())
    }

    /// Takes up who does not reach whom.
    pub fn take_detours(&self, detours: Detours) {
        if **self.detours.read() != detours {
            *self.detours.write() = Arc::new(detours);
        }
    }

    /// Takes up a new view: opens the slots that are ours now, drops those that are not, forgets sessions of nodes
    /// that are gone. A node that is new in the view, or reached for the first time, may bring sessions for any slot, so
    /// all of them are incomplete again. Returns the shards whose place changed, or whose owner has become reachable or
    /// ceased to be: it may have forgotten us meanwhile.
    pub fn take_view(&self, view: &View, own_name: &str) -> Vec<u64> {
        let live: BTreeSet<(String, u64, bool)> = view
            .nodes
            .iter()
            .filter(|node| node.state != NodeState::Down && node.info.name != own_name)
            .map(|node| (node.info.name.clone(), node.info.incarnation, node.state != NodeState::Joining))
            .collect();
        let known = |node: &ViewNode| {
            (node.info.name.clone(), (node.info.incarnation, node.state == NodeState::Down))
        };
        *self.known.write() = view.nodes.iter().map(known).collect();
        let newcomer = live.difference(&self.live.read()).next().is_some();
        let alone = live.is_empty();
        *self.live.write() = live;
        let places: Arc<[Place]> = (0..self.shards())
            .map(|shard| match view.owner(&Address::presence(shard)) {
                Some(name) if name == own_name => Place::Here,
                Some(name) => Place::There(name.into(), incarnation(view, name), is_up(view, name)),
                None => Place::Nowhere,
            })
            .collect();
        let before = std::mem::replace(&mut *self.places.write(), Arc::clone(&places));
        for (shard, place) in places.iter().enumerate() {
            let mut slot = self.slots[shard].write();
            match (place, slot.as_mut()) {
                (Place::Here, Some(slot)) => {
                    slot.shard.retain_nodes(|name, incarnation| {
                        name == own_name || is_alive(view, name, incarnation)
                    });
                    if newcomer {
                        slot.complete_at = Instant::now() + self.rebuild_window;
                    }
                }
                (Place::Here, None) => *slot = Some(self.new_slot(alone)),
                (_, Some(_)) => *slot = None,
                (_, None) => {}
            }
        }
        let changed = |shard: &u64| before.get(*shard as usize) != places.get(*shard as usize);
        (0..self.shards()).filter(changed).collect()
    }

    /// Takes up sessions of a shard. Another node's view may be ahead of ours, so the slot is opened if need be; but what
    /// was held up on the way until its node had gone is dropped. Returns the sessions that others of their devices replace.
    pub fn register(&self, shard: u64, mut register: Register) -> Vec<SessionRecord> {
        let has_gone = |name: &str, incarnation: u64| {
            let now = self.known.read().get(name).copied();
            now.is_some_and(|(now, down)| now > incarnation || (now == incarnation && down))
        };
        register.sessions.retain(|record| !has_gone(&record.node, record.incarnation));
        let observed = self.observer.get().map(|tell| (tell, user_ids(&register.sessions)));
        let replaced = self.slots[self.index(shard)]
            .write()
            .get_or_insert_with(|| self.new_slot(false))
            .shard
            .register(register);
        if let Some((tell, user_ids)) = observed {
            tell(&user_ids);
        }
        replaced
    }

    /// Drops sessions of nodes that are gone: a late announcement of theirs may have come after their end was seen.
    pub fn drop_gone(&self, view: &View, own_name: &str) {
        for slot in &self.slots {
            if let Some(slot) = slot.write().as_mut() {
                slot.shard
                    .retain_nodes(|name, incarnation| name == own_name || is_alive(view, name, incarnation));
            }
        }
    }

    /// Drops a session of a shard.
    pub fn unregister(&self, shard: u64, user_id: u64, session_id: u64) {
        if let Some(slot) = self.slots[self.index(shard)].write().as_mut() {
            slot.shard.unregister(user_id, session_id);
        }
        if let Some(tell) = self.observer.get() {
            tell(&[user_id]);
        }
    }

    /// The same as [`Directory::sessions_of`]; `None`: the user's shard is not here.
    pub fn known_sessions_of(&self, user_id: u64) -> Option<Vec<SessionRecord>> {
        let slot = self.slots[self.index(self.shard_of(user_id))].read();
        slot.as_ref().map(|slot| slot.shard.sessions_of(user_id).to_vec())
    }

    /// The live sessions of a user whose shard is here.
    pub fn sessions_of(&self, user_id: u64) -> Vec<SessionRecord> {
        let slot = self.slots[self.index(self.shard_of(user_id))].read();
        slot.as_ref().map_or_else(Vec::new, |slot| slot.shard.sessions_of(user_id).to_vec())
    }

    /// Users of a shard who may have come or gone since the last call.
    pub fn take_flips(&self, shard: u64) -> BTreeSet<u64> {
        let mut slot = self.slots[self.index(shard)].write();
        slot.as_mut().map(|slot| slot.shard.take_flips()).unwrap_or_default()
    }

    /// The shards here that have such users.
    pub fn flipped(&self) -> Vec<u64> {
        let has_flips = |shard: &u64| {
            self.slots[self.index(*shard)].read().as_ref().is_some_and(|slot| slot.shard.has_flips())
        };
        (0..self.shards()).filter(has_flips).collect()
    }

    /// Users and sessions of a shard that is here, and whether it is complete.
    pub fn counts(&self, shard: u64) -> Option<(usize, usize, bool)> {
        let slot = self.slots[self.index(shard)].read();
        slot.as_ref().map(|slot| {
            let (users, sessions) = slot.shard.counts();
            (users, sessions, Instant::now() >= slot.complete_at)
        })
    }

    /// Where events for these users have to go. With `may_forward` false (they were forwarded to us as the owner of
    /// their shards already) nothing is handed to another shard's owner again. A node that holds nobody else's session
    /// than `except_session_id` (0: none) is spared: nearly always that is the sender's own.
    pub fn routes(
        &self,
        user_ids: &[u64],
        except_session_id: u64,
        own_name: &str,
        may_forward: bool,
    ) -> Routes {
        let (places, now) = (self.places(), Instant::now());
        if user_ids.len() > MANY && user_ids.is_sorted() && self.online() < user_ids.len() {
            return self.routes_of_many(user_ids, except_session_id, own_name, may_forward, &places, now);
        }
        let mut routes = Routes::default();
        for &user_id in user_ids {
            let shard = self.shard_of(user_id) as usize;
            if let Some(name) = forwards(&places[shard], may_forward) {
                routes.shards.entry(Arc::clone(name)).or_default().push(user_id);
                continue;
            }
            let slot = self.slots[shard].read();
            match slot.as_ref() {
                Some(slot) if now >= slot.complete_at => {
                    routes.add(user_id, slot.shard.sessions_of(user_id), except_session_id, own_name);
                }
                _ => routes.everywhere.push(user_id),
            }
        }
        routes
    }

    /// The same for more users (in order) than are online: those who are are looked for among the users, so that an event of
    /// a large room costs in proportion to those who are there. Users of other nodes' shards are sorted to them one by one.
    fn routes_of_many(
        &self,
        user_ids: &[u64],
        except_session_id: u64,
        own_name: &str,
        may_forward: bool,
        places: &[Place],
        now: Instant,
    ) -> Routes {
        let mut routes = Routes::default();
        // By shard: its users are not looked for here, and where they go instead.
        let mut elsewhere: Vec<Option<Option<&Arc<str>>>> = vec![None; places.len()];
        for (shard, place) in places.iter().enumerate() {
            if let Some(name) = forwards(place, may_forward) {
                elsewhere[shard] = Some(Some(name));
                continue;
            }
            let slot = self.slots[shard].read();
            match slot.as_ref() {
                Some(slot) if now >= slot.complete_at => {
                    let online = slot.shard.users();
                    for (user_id, sessions) in online.filter(|(id, _)| user_ids.binary_search(id).is_ok()) {
                        routes.add(user_id, sessions, except_session_id, own_name);
                    }
                }
                _ => elsewhere[shard] = Some(None),
            }
        }
        if elsewhere.iter().any(Option::is_some) {
            let mut by_shard: Vec<Vec<u64>> = vec![Vec::new(); places.len()];
            for &user_id in user_ids {
                by_shard[self.shard_of(user_id) as usize].push(user_id);
            }
            for (users, elsewhere) in by_shard.into_iter().zip(elsewhere) {
                match elsewhere {
                    Some(Some(name)) => routes.shards.entry(Arc::clone(name)).or_default().extend(users),
                    Some(None) => routes.everywhere.extend(users),
                    None => {}
                }
            }
            // Whoever routes for them looks for them in order too.
            routes.shards.values_mut().for_each(|users| users.sort_unstable());
        }
        routes
    }

    /// Users online in the shards that are here.
    fn online(&self) -> usize {
        let users =
            |slot: &RwLock<Option<Slot>>| slot.read().as_ref().map_or(0, |slot| slot.shard.counts().0);
        self.slots.iter().map(users).sum()
    }

    fn new_slot(&self, alone: bool) -> Slot {
        let window = if alone { Duration::ZERO } else { self.rebuild_window };
        Slot { shard: Shard::default(), complete_at: Instant::now() + window }
    }

    fn index(&self, shard: u64) -> usize {
        (shard % self.shards()) as usize
    }
}

impl Routes {
    /// Adds a user by the nodes that hold sessions of his, but the one that is left out.
    fn add(&mut self, user_id: u64, sessions: &[SessionRecord], except_session_id: u64, own_name: &str) {
        let mut last: Option<&str> = None;
        for record in sessions.iter().filter(|record| record.session_id != except_session_id) {
            if last == Some(record.node.as_str()) {
                continue;
            }
            last = Some(&record.node);
            let list = if record.node == own_name {
                &mut self.here
            } else {
                self.nodes.entry(record.node.clone()).or_default()
            };
            // A user's sessions are looked at together, so that a double is the last one.
            if list.last() != Some(&user_id) {
                list.push(user_id);
            }
        }
    }
}

/// The node that routes for a shard. An owner that can't be reached would lose the event: everybody looks for himself.
fn forwards(place: &Place, may_forward: bool) -> Option<&Arc<str>> {
    match place {
        Place::There(name, _, true) if may_forward => Some(name),
        _ => None,
    }
}

fn user_ids(sessions: &[SessionRecord]) -> Vec<u64> {
    sessions.iter().map(|session| session.user_id).collect()
}

fn incarnation(view: &View, name: &str) -> u64 {
    view.node(name).map_or(0, |node| node.info.incarnation)
}

fn is_alive(view: &View, name: &str, incarnation: u64) -> bool {
    view.node(name).is_some_and(|node| node.state != NodeState::Down && node.info.incarnation == incarnation)
}

fn is_up(view: &View, name: &str) -> bool {
    view.node(name).is_some_and(|node| node.state == NodeState::Up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeInfo;

    fn view(other: NodeState, incarnation: u64) -> View {
        let node = |name: &str, state, incarnation| ViewNode {
            info: Arc::new(NodeInfo { name: name.to_owned(), incarnation, ..NodeInfo::default() }),
            state,
            since_ms: 0,
            has_left: false,
        };
        let nodes = vec![node("here", NodeState::Up, 1), node("other", other, incarnation)];
        View::new(1, nodes, "here")
    }

    #[test]
    fn a_crowd_is_routed_as_each_of_it_would_be() {
        let directory = Directory::new(8, Duration::ZERO);
        directory.take_view(&view(NodeState::Up, 5), "here");
        for user_id in (0..4000u64).step_by(7) {
            let record = |session_id: u64, node: &str, incarnation| SessionRecord {
                user_id,
                session_id,
                node: node.to_owned(),
                incarnation,
                ..SessionRecord::default()
            };
            let mut sessions = vec![record(user_id * 2, if user_id % 2 == 0 { "here" } else { "other" }, 1)];
            if user_id % 3 == 0 {
                sessions.push(record(user_id * 2 + 1, "other", 5));
            }
            // Also of shards that are not here: they are not to be looked at.
            directory.register(directory.shard_of(user_id), Register { sessions, ..Register::default() });
        }
        // One of those here is not complete yet.
        let here = directory.places().iter().position(|place| *place == Place::Here).expect("some are here");
        directory.slots[here].write().as_mut().expect("it was registered to").complete_at =
            Instant::now() + Duration::from_secs(600);
        let crowd: Vec<u64> = (1000..5000).filter(|id| id % 5 != 0).collect();
        for may_forward in [true, false] {
            let mut expected = Routes::default();
            for user_id in &crowd {
                let one = directory.routes(&[*user_id], 0, "here", may_forward);
                expected.here.extend(one.here);
                expected.everywhere.extend(one.everywhere);
                one.nodes
                    .into_iter()
                    .for_each(|(node, ids)| expected.nodes.entry(node).or_default().extend(ids));
                one.shards
                    .into_iter()
                    .for_each(|(node, ids)| expected.shards.entry(node).or_default().extend(ids));
            }
            let mut routes = directory.routes(&crowd, 0, "here", may_forward);
            let lists = [&mut routes.here, &mut routes.everywhere].into_iter();
            lists.chain(routes.nodes.values_mut()).for_each(|list| list.sort_unstable());
            assert_eq!(routes, expected);
            assert!(!routes.here.is_empty() && !routes.everywhere.is_empty() && !routes.nodes.is_empty());
            assert_eq!(routes.shards.is_empty(), !may_forward);
        }
    }

    #[test]
    fn a_node_is_spared_an_event_for_the_session_that_caused_it_alone() {
        let directory = Directory::new(1, Duration::ZERO);
        directory.take_view(&view(NodeState::Down, 5), "here");
        let record = |user_id, session_id, node: &str| SessionRecord {
            user_id,
            session_id,
            node: node.to_owned(),
            incarnation: 1,
            ..SessionRecord::default()
        };
        let sessions = vec![record(1, 10, "left"), record(1, 11, "right"), record(2, 20, "left")];
        directory.register(0, Register { sessions, ..Register::default() });
        let nodes = |user_id, except| {
            let routes = directory.routes(&[user_id], except, "here", true);
            routes.nodes.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(nodes(1, 0), ["left", "right"]);
        assert_eq!(nodes(1, 10), ["right"], "his other device hears of it");
        assert!(nodes(2, 20).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_reached_for_the_first_time_has_time_to_announce_its_sessions() {
        const WINDOW: Duration = Duration::from_secs(4);
        let directory = Directory::new(8, WINDOW);
        let is_complete = |state, incarnation| {
            directory.take_view(&view(state, incarnation), "here");
            let places = directory.places();
            let here = places.iter().position(|place| *place == Place::Here).expect("some are here");
            directory.counts(here as u64).is_some_and(|(_, _, complete)| complete)
        };
        assert!(!is_complete(NodeState::Joining, 5), "it was heard of");
        tokio::time::advance(WINDOW).await;
        assert!(is_complete(NodeState::Joining, 5));
        assert!(!is_complete(NodeState::Up, 5), "it was long out of reach");
        tokio::time::advance(WINDOW).await;
        assert!(is_complete(NodeState::Up, 5) && is_complete(NodeState::Suspect, 5));
        assert!(is_complete(NodeState::Down, 5) && !is_complete(NodeState::Up, 5));
    }

    #[test]
    fn what_was_held_up_until_its_node_had_gone_is_dropped() {
        let directory = Directory::new(1, Duration::ZERO);
        let register = |incarnation: u64, node: &str| {
            let record = SessionRecord {
                user_id: 1,
                session_id: incarnation,
                node: node.to_owned(),
                incarnation,
                ..SessionRecord::default()
            };
            directory.register(0, Register { sessions: vec![record], ..Register::default() });
            directory.sessions_of(1).len()
        };
        directory.take_view(&view(NodeState::Down, 5), "here");
        assert_eq!(register(5, "other"), 0, "its node is down");
        directory.take_view(&view(NodeState::Up, 6), "here");
        assert_eq!(register(5, "other"), 0, "another has taken its node's place");
        assert_eq!(register(6, "other"), 1);
        // Others may know what this node has not heard of yet.
        assert_eq!(register(7, "other"), 2);
        assert_eq!(register(8, "third"), 3);
    }
}
