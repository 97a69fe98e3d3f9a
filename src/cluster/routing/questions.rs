//! What this node sends: messages and questions, to whom they go, and what becomes of those that find no way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Routes, Routing, not_started};
use crate::cluster::address::Address;
use crate::cluster::gate::Turn;
use crate::cluster::link::Link;
use crate::cluster::pending::{Asker, Carrier, Goal, Question, Shard, Untaken, Way};
use crate::cluster::placement;
use crate::cluster::refusals;
use crate::cluster::reply::ReplyTo;
use crate::cluster::routing::here::Delivery;
use crate::cluster::view::{NodeState, View};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    ActorAddress, Ask, NodeReply, NodeRequest, Reply, Request, Tell, actor_address, item::Item, request,
};
use crate::protocol::codec;

/// A question to an actor that is about to move, or that has just moved.
pub(super) struct Held {
    pub(super) to: Address,
    pub(super) request: Request,
    pub(super) reply: ReplyTo<Reply>,
    pub(super) deadline: Instant,
    /// By how many moving actors it has been handed on.
    pub(super) handovers: u32,
    /// [`Question::hops`], should there be no such actor any more.
    pub(super) hops: u32,
}

/// What [`Question::hops`] is made of, beside 0 for a question as it was asked. One that has been passed on once is
/// kept by another node that does not own its address ([`Shard::keep`]).
pub(super) const PASSED_ON: u32 = 1;
/// Handed on by moving actors: this many times, plus [`PASSED_ON`]. Such a question may still be passed on once.
const HANDOVERS_MAX: u32 = 4;
/// Views that may come and go while one question looks for its way; each takes the time in which one is published.
const TURNS_MAX: usize = 100;

/// A ready link: carries questions.
pub(super) struct Over<'a>(&'a Arc<Link>);

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
    pub(super) fn place(&self, mut held: Held) {
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
    pub(super) fn may_hold(&self, to: &Address) -> bool {
        self.gate.is_closed() || self.inbound().is_some_and(|inbound| inbound.holds(to))
    }

    /// To the actor that moves, or if there is none, to the owner; given back if the turn is over.
    pub(super) fn ask_held(&self, held: Held, turn: Turn<'_>) -> Option<Held> {
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

    pub(super) fn open(
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

    pub(super) fn way<'a>(&'a self, view: &View, routes: &'a Routes, goal: &Goal) -> Way<Over<'a>> {
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

    pub(super) fn untaken(&self, why: Untaken) -> Error {
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

    pub(super) fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= self.config.item_bytes_max {
            return Ok(());
        }
        self.counters.items_oversized.increment();
        Err(Error::exhausted(
            format!("{bytes} bytes are too many for one message between nodes (cluster.item_bytes_max)"),
            Duration::ZERO,
        ))
    }

    pub(super) fn tell_over(&self, link: &Link, lane: usize, to: ActorAddress, request: Bytes, hops: u32) {
        if self.check_size(request.len()).is_err() {
            return;
        }
        if link.push(lane, Item::Tell(Tell { to: Some(to), hops, request })).is_err() {
            self.counters.tells_overflowed.increment();
        }
    }
}

pub(super) fn question(goal: Goal, request: Bytes, deadline: Instant, hops: u32) -> Question {
    Question { goal, request, deadline, attempt: 0, hops }
}

pub(super) fn node_address() -> ActorAddress {
    ActorAddress { kind: actor_address::Kind::Node as i32, key: 0 }
}
