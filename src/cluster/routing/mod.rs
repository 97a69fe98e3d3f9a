//! Routing: what is told or asked of an address goes to this node's own actors or over a link, and back.
//!
//! Locks are taken in this order, and never held while actors or askers are called: shards (by number), gate, view,
//! routes, refusals, lanes. The view and the ready links change only while all shards are locked, so whoever holds one
//! shard sees both stand still, and questions that are sent again go before newer ones.

mod arrivals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::cluster::address::Address;
use crate::cluster::counters::Counters;
use crate::cluster::gate::{Gate, Turn};
use crate::cluster::link::Link;
use crate::cluster::manager::Event;
use crate::cluster::pending::{Asker, Carrier, Goal, Moved, Question, Shard, ShardLimits, Untaken, Way};
use crate::cluster::refusals;
use crate::cluster::reply::ReplyTo;
use crate::cluster::view::{NodeState, View};
use crate::cluster::{Inbound, placement};
use crate::config::ClusterConfig;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    ActorAddress, Ask, Heartbeat, NodeReply, NodeRequest, Reply, Request, Tell, actor_address, item::Item,
    request,
};
use crate::protocol::codec;

/// How often open questions are looked at for deadlines, while there are any.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// What reaches this node's own actors.
enum Delivery {
    Tell(Address, Request),
    Ask(Address, Request, ReplyTo<Reply>),
    /// A question that was open to another node.
    Home(Address, Request, ReplyTo<Reply>),
    /// Of an address that another node owns, to the actor that may still be active here.
    Held(Box<Held>),
}

/// A question to an actor that is about to move, or that has just moved.
struct Held {
    to: Address,
    request: Request,
    reply: ReplyTo<Reply>,
    deadline: Instant,
    /// By how many moving actors it has been handed on.
    handovers: u32,
    /// [`Question::hops`], should there be no such actor any more.
    hops: u32,
}

/// What [`Question::hops`] is made of, beside 0 for a question as it was asked. One that has been passed on once is
/// kept by another node that does not own its address ([`Shard::keep`]).
const PASSED_ON: u32 = 1;
/// Handed on by moving actors: this many times, plus [`PASSED_ON`]. Such a question may still be passed on once.
const HANDOVERS_MAX: u32 = 4;
/// Views that may come and go while one question looks for its way; each takes the time in which one is published.
const TURNS_MAX: usize = 100;

/// The links, by what they are looked up by.
#[derive(Default)]
struct Routes {
    /// All links, ready or not, by the number that envelopes carry.
    by_epoch: HashMap<u64, Arc<Link>>,
    /// Ready links, by the peer's name.
    ready: BTreeMap<String, Arc<Link>>,
}

/// What all parts of a node's cluster share.
pub struct Routing {
    name: Arc<str>,
    incarnation: u64,
    started: Instant,
    config: ClusterConfig,
    inbound: OnceLock<Arc<dyn Inbound>>,
    shards: Vec<Mutex<Shard>>,
    gate: Gate<Delivery>,
    view: RwLock<Arc<View>>,
    views: watch::Sender<Arc<View>>,
    routes: RwLock<Routes>,
    /// The nodes that this one's actors reach, with the numbers of the links.
    reached: Mutex<Arc<BTreeMap<String, u64>>>,
    sweep: Notify,
    events: mpsc::UnboundedSender<Event>,
    /// What happened so far.
    pub counters: Counters,
}

/// A ready link: carries questions.
struct Over<'a>(&'a Arc<Link>);

impl Carrier for Over<'_> {
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    fn carry(&self, id: u64, question: &Question, anyway: bool) -> bool {
        let to = match &question.goal {
            Goal::Address(address) => (*address).into(),
            Goal::Node(_) => node_address(),
        };
        let left = question.deadline.saturating_duration_since(Instant::now());
        let lane = Shard::lane_of(id);
        let ask = Item::Ask(Ask {
            to: Some(to),
            hops: question.hops,
            ask_id: id,
            deadline_ms: left.as_millis() as u32,
            request: question.request.clone(),
            attempt: question.attempt,
            heard: self.0.heard(lane),
        });
        if anyway {
            self.0.push_over(lane, ask);
            return true;
        }
        self.0.push(lane, ask).is_ok()
    }
}

impl Routing {
    /// Routes for the node of that name and incarnation. Events go to the manager.
    pub fn new(
        name: &str,
        incarnation: u64,
        config: ClusterConfig,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let view = Arc::new(View::new(0, Vec::new(), name));
        let limits = ShardLimits { questions: config.lane_queue_items, bytes: config.lane_queue_bytes };
        Self {
            name: name.into(),
            incarnation,
            started: Instant::now(),
            inbound: OnceLock::new(),
            shards: (0..config.lanes).map(|lane| Mutex::new(Shard::new(lane, limits))).collect(),
            gate: Gate::new(config.lane_queue_items),
            view: RwLock::new(view.clone()),
            views: watch::Sender::new(view),
            routes: RwLock::new(Routes::default()),
            reached: Mutex::default(),
            sweep: Notify::new(),
            events,
            counters: Counters::default(),
            config,
        }
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This node's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The configuration.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// The lane of heartbeats and gossip.
    pub fn control_lane(&self) -> usize {
        self.config.lanes
    }

    /// Sets what takes messages here. False: it has been set before.
    pub fn set_inbound(&self, inbound: Arc<dyn Inbound>) -> bool {
        self.inbound.set(inbound).is_ok()
    }

    /// What takes messages here.
    pub fn inbound(&self) -> Option<&Arc<dyn Inbound>> {
        self.inbound.get()
    }

    /// The present view.
    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// The view and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    /// Whether this node owns the address.
    pub fn owns(&self, address: &Address) -> bool {
        self.view.read().owned_here(address)
    }

    /// The ready link to the node.
    pub fn link_to(&self, node: &str) -> Option<Arc<Link>> {
        self.routes.read().ready.get(node).cloned()
    }

    /// All ready links.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.routes.read().ready.values().cloned().collect()
    }

    /// The nodes that this one's actors reach, with the numbers of the links.
    pub fn reached(&self) -> Arc<BTreeMap<String, u64>> {
        self.reached.lock().clone()
    }

    /// See [`crate::cluster::Cluster::say_reached`].
    pub fn say_reached(&self, reached: BTreeMap<String, u64>) {
        let mut said = self.reached.lock();
        if **said != reached {
            *said = Arc::new(reached);
            // The manager is gone only when the node is stopping.
            let _ = self.events.send(Event::Reached);
        }
    }

    /// Questions to other nodes that wait for an answer.
    pub fn open_questions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().len() as u64).sum()
    }

    /// Sends to the owner of the address.
    pub fn tell(&self, to: Address, request: Request) {
        let link = {
            let view = self.view.read();
            if view.owned_here(&to) {
                None
            } else {
                match view.owner(&to).and_then(|owner| self.link_to(owner)) {
                    Some(link) => Some(link),
                    None => return self.counters.tells_unreachable.increment(),
                }
            }
        };
        match link {
            None => self.deliver_tell(to, request),
            Some(link) => {
                let lane = placement::lane(&to, self.config.lanes);
                self.tell_over(&link, lane, to.into(), codec::encode_cluster(&request).into(), 0);
            }
        }
    }

    /// The turn that begins no later than now: see [`crate::cluster::gate`].
    pub fn turn(&self) -> Turn<'_> {
        self.gate.turn()
    }

    /// Asks the owner of the address.
    pub fn ask(&self, to: Address, request: Request, deadline: Duration, reply: ReplyTo<Reply>) {
        let turn = self.turn();
        let (request, reply) = if self.owns(&to) {
            match self.deliver_ask(to, request, reply, turn) {
                None => return,
                Some(back) => back,
            }
        } else {
            (request, reply)
        };
        let deadline = Instant::now() + deadline;
        self.place(Held { to, request, reply, deadline, handovers: 0, hops: 0 });
    }

    /// Hands a question of a moving actor on; given back if its address is (again) this node's, or if the turn is over.
    pub fn hand_on(
        &self,
        to: Address,
        request: Request,
        deadline: Instant,
        handovers: u32,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Result<(), Box<(Request, ReplyTo<Reply>)>> {
        let encoded: Bytes = codec::encode_cluster(&request).into();
        if let Err(error) = self.check_size(encoded.len()) {
            reply.send(Err(error));
            return Ok(());
        }
        let lane = placement::lane(&to, self.config.lanes);
        let hops = PASSED_ON + handovers + 1;
        let question = question(Goal::Address(to), encoded, deadline, hops);
        match self.open(lane, question, Asker::Actor(reply), turn) {
            Err((Untaken::Here | Untaken::Late, Asker::Actor(reply))) => {
                return Err(Box::new((request, reply)));
            }
            Err((why, asker)) => asker.fail(self.untaken(why)),
            Ok(()) => self.counters.items_forwarded.increment(),
        }
        Ok(())
    }

    /// Finds the way of a question for an address that another node owned a moment ago.
    fn place(&self, mut held: Held) {
        for _ in 0..TURNS_MAX {
            let turn = self.turn();
            let back = if self.may_hold(&held.to) {
                match self.pass(Delivery::Held(Box::new(held))) {
                    Some(Delivery::Held(held)) => self.ask_held(*held, turn),
                    _ => None,
                }
            } else {
                self.ask_elsewhere(held, turn)
            };
            held = match back {
                Some(back) => back,
                None => return,
            };
        }
        held.reply.send(Err(Error::unavailable("the cluster changes too fast; try again in a moment")));
    }

    /// Whether a question for an address of another node has to go by way of this node's own actors: one of them is
    /// still active, or an earlier question for it may wait at the gate.
    fn may_hold(&self, to: &Address) -> bool {
        self.gate.is_closed() || self.inbound().is_some_and(|inbound| inbound.holds(to))
    }

    /// To the actor that moves, or if there is none, to the owner; given back if the turn is over.
    fn ask_held(&self, held: Held, turn: Turn<'_>) -> Option<Held> {
        let Held { to, request, reply, deadline, handovers, hops } = held;
        let Some(inbound) = self.inbound() else {
            reply.send(Err(not_started()));
            return None;
        };
        let (request, reply) = if handovers <= HANDOVERS_MAX {
            inbound.ask_held(to, request, handovers, reply, turn)?
        } else {
            (request, reply)
        };
        self.ask_elsewhere(Held { to, request, reply, deadline, handovers, hops }, turn)
    }

    /// Given back if the turn is over.
    fn ask_elsewhere(&self, held: Held, turn: Turn<'_>) -> Option<Held> {
        let Held { to, request, reply, deadline, handovers, hops } = held;
        let encoded: Bytes = codec::encode_cluster(&request).into();
        if let Err(error) = self.check_size(encoded.len()) {
            reply.send(Err(error));
            return None;
        }
        let lane = placement::lane(&to, self.config.lanes);
        let question = question(Goal::Address(to), encoded, deadline, hops);
        let (request, reply) = match self.open(lane, question, Asker::Actor(reply), turn) {
            // It has become ours between the two looks.
            Err((Untaken::Here, Asker::Actor(reply))) => self.deliver_ask(to, request, reply, turn)?,
            Err((Untaken::Late, Asker::Actor(reply))) => (request, reply),
            Err((why, asker)) => {
                asker.fail(self.untaken(why));
                return None;
            }
            Ok(()) => return None,
        };
        Some(Held { to, request, reply, deadline, handovers, hops })
    }

    /// Sends to a node. What has the same key arrives in order.
    pub fn tell_node(&self, node: &str, key: u64, request: NodeRequest) {
        if node == &*self.name {
            if let Some(inbound) = self.inbound() {
                inbound.tell_node(&self.name, request);
            }
            return;
        }
        let Some(link) = self.link_to(node) else {
            return self.counters.tells_unreachable.increment();
        };
        let request = Request { request: Some(request::Request::Node(request)) };
        let lane = (key % self.config.lanes as u64) as usize;
        self.tell_over(&link, lane, node_address(), codec::encode_cluster(&request).into(), 0);
    }

    /// Asks a node.
    pub fn ask_node(&self, node: &str, request: NodeRequest, deadline: Duration, reply: ReplyTo<NodeReply>) {
        if node == &*self.name {
            return match self.inbound() {
                Some(inbound) => inbound.ask_node(&self.name, request, reply),
                None => reply.send(Err(not_started())),
            };
        }
        let request = Request { request: Some(request::Request::Node(request)) };
        let encoded: Bytes = codec::encode_cluster(&request).into();
        if let Err(error) = self.check_size(encoded.len()) {
            return reply.send(Err(error));
        }
        let question = question(Goal::Node(node.into()), encoded, Instant::now() + deadline, 0);
        if let Err((why, asker)) = self.open(0, question, Asker::Node(reply), Turn::endless()) {
            asker.fail(self.untaken(why));
        }
    }

    /// Publishes a view: questions whose owner it changes are sent again, before anything newer.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view);
        let mut shards = self.lock_shards();
        let mut moved = Moved::default();
        {
            let mut waiting = self.gate.close();
            *self.view.write() = view.clone();
            self.refresh(&mut shards, &mut moved);
            waiting.extend(moved.home.drain(..).map(|(address, request, reply)| {
                // What can't be decoded is handed in empty, and the actor answers that.
                let request = codec::decode_cluster_shared(request).unwrap_or_default();
                Delivery::Home(address, request, reply)
            }));
        }
        drop(shards);
        self.gate.drain(|delivery| self.hand_in(delivery));
        self.finish(moved);
        self.views.send_replace(view);
    }

    /// A link has been opened: envelopes may come over it.
    pub fn add_link(&self, link: &Arc<Link>) {
        self.routes.write().by_epoch.insert(link.epoch, link.clone());
    }

    /// A link is ready: questions that waited for it leave.
    pub fn link_ready(&self, link: &Arc<Link>) {
        self.counters.links_ready.increment();
        self.change_routes(|routes| {
            routes.ready.insert(link.peer.name.clone(), link.clone());
        });
    }

    /// A link has ended: nothing is taken from it any more, and its open questions wait for another.
    pub fn remove_link(&self, epoch: u64) {
        self.change_routes(|routes| {
            routes.by_epoch.remove(&epoch);
            routes.ready.retain(|_, link| link.epoch != epoch);
        });
        // What the peer asked of this node as the owner, and this node is not. Their answers go nowhere now.
        let kept: Vec<Asker> = self.shards.iter().flat_map(|shard| shard.lock().forget(epoch)).collect();
        drop(kept);
    }

    /// Answers what is open with `unavailable`; for the end.
    pub fn fail_all(&self) {
        let askers: Vec<Asker> = self.shards.iter().flat_map(|shard| shard.lock().clear()).collect();
        for asker in askers {
            asker.fail(Error::unavailable("this node is stopping; ask another"));
        }
    }

    /// Watches over deadlines. Runs until it is dropped.
    pub async fn keep_sweeping(self: Arc<Self>) {
        loop {
            self.sweep.notified().await;
            while self.shards.iter().any(|shard| !shard.lock().is_empty()) {
                tokio::time::sleep(SWEEP_EVERY).await;
                self.sweep_once(Instant::now());
            }
        }
    }

    fn sweep_once(&self, now: Instant) {
        for shard in &self.shards {
            let expired = shard.lock().expire(now);
            for asker in expired {
                self.counters.asks_expired.increment();
                asker.fail(Error::new(
                    crate::protocol::ErrorCode::DeadlineExceeded,
                    "the node asked has not answered in time; try again, a send with the same client_id",
                ));
            }
        }
    }

    fn open(
        &self,
        lane: usize,
        question: Question,
        asker: Asker,
        turn: Turn<'_>,
    ) -> Result<(), (Untaken, Asker)> {
        let mut shard = self.shards[lane].lock();
        // The view stands still from here on, and what was decided by another does not count.
        if turn.is_over() {
            return Err((Untaken::Late, asker));
        }
        if asker.is_void() {
            return Err((Untaken::Void, asker));
        }
        let first = shard.is_empty();
        let view = self.view.read();
        let routes = self.routes.read();
        let way = self.way(&view, &routes, &question.goal);
        shard.ask(question, asker, way)?;
        if first {
            self.sweep.notify_one();
        }
        Ok(())
    }

    fn way<'a>(&'a self, view: &View, routes: &'a Routes, goal: &Goal) -> Way<Over<'a>> {
        let owner = match goal {
            Goal::Address(address) if view.owned_here(address) => return Way::Here,
            Goal::Address(address) => match view.owner(address) {
                Some(owner) => owner,
                None => return Way::Nowhere,
            },
            Goal::Node(node) => match view.node(node) {
                Some(known) if known.state != NodeState::Down => node,
                _ => return Way::Gone,
            },
        };
        match routes.ready.get(owner) {
            Some(link) => Way::Over(Over(link)),
            None => Way::Nowhere,
        }
    }

    fn lock_shards(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock()).collect()
    }

    fn refresh(&self, shards: &mut [MutexGuard<'_, Shard>], moved: &mut Moved) {
        let view = self.view.read();
        let routes = self.routes.read();
        for shard in shards {
            let more = shard.refresh(|goal| self.way(&view, &routes, goal));
            moved.home.extend(more.home);
            moved.gone.extend(more.gone);
            moved.void.extend(more.void);
            moved.resent += more.resent;
        }
    }

    fn change_routes(&self, change: impl FnOnce(&mut Routes)) {
        let mut moved = Moved::default();
        {
            let mut shards = self.lock_shards();
            change(&mut self.routes.write());
            self.refresh(&mut shards, &mut moved);
        }
        self.finish(moved);
    }

    fn finish(&self, moved: Moved) {
        for _ in 0..moved.resent {
            self.counters.asks_resent.increment();
        }
        for asker in moved.gone {
            asker.fail(Error::unavailable("the node asked is gone"));
        }
        for asker in moved.void {
            asker.fail(refusals::void());
        }
    }

    fn untaken(&self, why: Untaken) -> Error {
        match why {
            Untaken::Full => {
                self.counters.asks_overflowed.increment();
                Error::unavailable("too much waits for the node that owns this; try again in a moment")
            }
            Untaken::Gone => Error::unavailable("the node asked is not in the cluster"),
            Untaken::Here => Error::internal("a node was asked through a link to itself"),
            Untaken::Late => Error::unavailable("the cluster changes at this moment; try again"),
            Untaken::Void => refusals::void(),
        }
    }

    fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= self.config.item_bytes_max {
            return Ok(());
        }
        self.counters.items_oversized.increment();
        Err(Error::exhausted(
            format!("{bytes} bytes are too many for one message between nodes (cluster.item_bytes_max)"),
            Duration::ZERO,
        ))
    }

    fn tell_over(&self, link: &Link, lane: usize, to: ActorAddress, request: Bytes, hops: u32) {
        if self.check_size(request.len()).is_err() {
            return;
        }
        if link.push(lane, Item::Tell(Tell { to: Some(to), hops, request })).is_err() {
            self.counters.tells_overflowed.increment();
        }
    }

    fn deliver_tell(&self, to: Address, request: Request) {
        if let Some(delivery) = self.pass(Delivery::Tell(to, request)) {
            self.hand_in(delivery);
        }
    }

    /// To this node's own actors, of which the address is one; given back if the turn is over.
    fn deliver_ask(
        &self,
        to: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        let Some(Delivery::Ask(to, request, reply)) = self.pass(Delivery::Ask(to, request, reply)) else {
            return None;
        };
        match self.inbound() {
            Some(inbound) => inbound.ask(to, request, reply, turn),
            None => {
                reply.send(Err(not_started()));
                None
            }
        }
    }

    /// A delivery that is to be made now, by whoever has called; others wait, or are refused.
    fn pass(&self, delivery: Delivery) -> Option<Delivery> {
        match self.gate.pass(delivery) {
            Ok(delivery) => return delivery,
            Err(Delivery::Ask(_, _, reply) | Delivery::Home(_, _, reply)) => {
                reply.send(Err(self.untaken(Untaken::Full)));
            }
            Err(Delivery::Held(held)) => held.reply.send(Err(self.untaken(Untaken::Full))),
            Err(Delivery::Tell(..)) => self.counters.tells_overflowed.increment(),
        }
        None
    }

    /// What has waited at the gate, or needs no order. Called by whoever publishes views: no turn ends meanwhile, so
    /// nothing is given back.
    fn hand_in(&self, delivery: Delivery) {
        let Some(inbound) = self.inbound() else {
            match delivery {
                Delivery::Ask(_, _, reply) | Delivery::Home(_, _, reply) => {
                    reply.send(Err(not_started()));
                }
                Delivery::Held(held) => held.reply.send(Err(not_started())),
                Delivery::Tell(..) => {}
            }
            return;
        };
        let back = match delivery {
            Delivery::Tell(to, request) => {
                inbound.tell(to, request);
                None
            }
            Delivery::Ask(to, request, reply) => inbound.ask(to, request, reply, Turn::endless()),
            Delivery::Home(to, request, reply) => inbound.ask(to, request, reply, Turn::homeward()),
            // It is this node's now. To queue it again would put it behind later ones.
            Delivery::Held(held) if self.owns(&held.to) => {
                inbound.ask(held.to, held.request, held.reply, Turn::endless())
            }
            Delivery::Held(held) => {
                self.ask_held(*held, Turn::endless()).map(|held| (held.request, held.reply))
            }
        };
        debug_assert!(back.is_none(), "an endless turn is never over");
    }

    /// A heartbeat of this moment.
    pub fn heartbeat(&self) -> Heartbeat {
        let (sessions, rooms) = self.inbound().map_or((0, 0), |inbound| inbound.load());
        Heartbeat {
            sent_at_us: self.now_us(),
            echo_us: 0,
            view_version: self.view.read().version,
            sessions,
            rooms,
            silent_ms: 0,
        }
    }

    /// Microseconds of this process, as heartbeats carry them.
    pub fn now_us(&self) -> u64 {
        // From one, as zero says that there is none.
        self.started.elapsed().as_micros() as u64 + 1
    }
}

fn question(goal: Goal, request: Bytes, deadline: Instant, hops: u32) -> Question {
    Question { goal, request, deadline, attempt: 0, hops }
}

fn node_address() -> ActorAddress {
    ActorAddress { kind: actor_address::Kind::Node as i32, key: 0 }
}

fn not_started() -> Error {
    Error::unavailable("this node is starting; try again")
}
