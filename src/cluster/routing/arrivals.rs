//! What comes over links: messages, questions and answers of other nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Routing;
use super::questions::{Held, PASSED_ON, question};
use crate::cluster::address::Address;
use crate::cluster::inbox::Words;
use crate::cluster::lanes::Received;
use crate::cluster::link::Link;
use crate::cluster::manager::Event;
use crate::cluster::pending::{Asker, Goal, Question, Shard, Untaken};
use crate::cluster::placement;
use crate::cluster::refusals::Standing;
use crate::cluster::reply::ReplyTo;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    Answer, Ask, Envelope, Heartbeat, NodeReply, Reply, Request, Tell, actor_address, answer, item::Item,
    reply, request,
};
use crate::protocol::codec;

/// Where a remote question came from, and so where its answer goes.
struct Return {
    /// The link it came over. If that is gone, its asker asks again over another.
    epoch: u64,
    id: u64,
    attempt: u32,
    /// Of a session's send.
    standing: Option<Standing>,
}

impl Routing {
    /// An envelope has come on a lane.
    pub fn on_envelope(self: &Arc<Self>, lane: usize, bytes: Bytes) {
        let Ok(envelope) = codec::decode_cluster_shared::<Envelope>(bytes) else {
            self.counters.envelopes_unreadable.increment();
            tracing::error!(target: "rookery::cluster", lane, "an envelope can't be read and is dropped");
            return;
        };
        let link = self.routes.read().by_epoch.get(&envelope.link_epoch).cloned();
        let Some(link) = link.filter(|link| link.peer.incarnation == envelope.incarnation) else {
            return self.counters.envelopes_stale.increment();
        };
        match link.on_envelope(lane, envelope.lane_seq, envelope.acked_seq) {
            Received::Next => {}
            Received::Stale => return self.counters.envelopes_stale.increment(),
            Received::Gap => {
                self.counters.envelopes_missing.increment();
                tracing::error!(
                    target: "rookery::cluster", peer = %link.peer.name, lane, seq = envelope.lane_seq,
                    "an envelope was lost on the way; the link is cut and made again"
                );
                return link.cut();
            }
        }
        for item in envelope.items {
            if let Some(item) = item.item {
                self.on_item(&link, lane, item);
            }
        }
    }

    fn on_item(self: &Arc<Self>, link: &Arc<Link>, lane: usize, item: Item) {
        match item {
            Item::Tell(tell) => self.on_tell(link, lane, tell),
            Item::Ask(ask) => self.on_ask(link, ask),
            Item::Answer(answer) => self.on_answer(link, answer),
            Item::Heartbeat(beat) => self.on_heartbeat(link, beat),
            Item::Gossip(gossip) => self.note(link, |words| words.gossip = Some(gossip)),
            Item::Leaving(leaving) if leaving.confirmed => self.note(link, |words| words.confirms = true),
            Item::Leaving(_) => self.note(link, |words| words.leaves = true),
        }
    }

    fn note(&self, link: &Arc<Link>, say: impl FnOnce(&mut Words)) {
        if link.inbox.put(say) {
            // The manager is gone only when the node is stopping.
            let _ = self.events.send(Event::Talk(link.clone()));
        }
    }

    fn on_tell(&self, link: &Link, lane: usize, tell: Tell) {
        let to = tell.to.unwrap_or_default();
        if to.kind() == actor_address::Kind::Node {
            match (decode(tell.request), self.inbound()) {
                (Some(request::Request::Node(request)), Some(inbound)) => {
                    inbound.tell_node(&link.peer.name, request);
                }
                _ => self.counters.envelopes_unreadable.increment(),
            }
            return;
        }
        let Ok(address) = Address::try_from(&to) else {
            return self.counters.envelopes_unreadable.increment();
        };
        if self.owns(&address) {
            return match codec::decode_cluster_shared::<Request>(tell.request) {
                Ok(request) => self.deliver_tell(address, request),
                Err(_) => self.counters.envelopes_unreadable.increment(),
            };
        }
        match self.owner_link(&address) {
            Some(next) if tell.hops == 0 => {
                self.counters.items_forwarded.increment();
                self.tell_over(&next, lane, to, tell.request, 1);
            }
            _ => self.counters.tells_unreachable.increment(),
        }
    }

    fn on_ask(self: &Arc<Self>, link: &Link, ask: Ask) {
        let to = ask.to.unwrap_or_default();
        let mut back = Return { epoch: link.epoch, id: ask.ask_id, attempt: ask.attempt, standing: None };
        if to.kind() == actor_address::Kind::Node {
            return match (decode(ask.request), self.inbound()) {
                (Some(request::Request::Node(request)), Some(inbound)) => {
                    let routing = self.clone();
                    let reply = ReplyTo::new(move |result: Result<NodeReply>| {
                        let result = result.map(|reply| Reply { reply: Some(reply::Reply::Node(reply)) });
                        routing.answer(&back, result_of(result));
                    });
                    inbound.ask_node(&link.peer.name, request, reply);
                }
                _ => self.answer(&back, unreadable()),
            };
        }
        let Ok(address) = Address::try_from(&to) else { return self.answer(&back, unreadable()) };
        let Ok(sent) = codec::decode_cluster_shared::<Request>(ask.request.clone()) else {
            self.counters.envelopes_unreadable.increment();
            return self.answer(&back, unreadable());
        };
        let epoch = link.epoch;
        let refusals = link.refusals(self.lane_of(ask.ask_id));
        let standing = Standing::of(address, &sent, refusals, ask.heard);
        back.standing = standing.clone();
        let routing = self.clone();
        let reply = ReplyTo::new(move |result| routing.answer(&back, result_of(result)));
        let reply = reply.with_standing(standing);
        let deadline = Instant::now() + Duration::from_millis(ask.deadline_ms.into());
        let held = |request, reply| Held {
            to: address,
            request,
            reply,
            deadline,
            handovers: ask.hops.saturating_sub(PASSED_ON),
            hops: PASSED_ON,
        };
        let turn = self.turn();
        if self.owns(&address) {
            if let Some((request, reply)) = self.deliver_ask(address, sent, reply, turn) {
                self.place(held(request, reply));
            }
            return;
        }
        let lane = placement::lane(&address, self.config.lanes);
        let keeps = ask.hops == PASSED_ON || self.shards[lane].lock().keeps(&address);
        let taken = if keeps {
            let question = question(Goal::Address(address), ask.request, deadline, PASSED_ON);
            self.keep(lane, address, question, Asker::Actor(reply), epoch)
        } else if self.may_hold(&address) {
            // Earlier questions of the asker may wait in the actor that moves: this one goes behind them.
            Err((Untaken::Here, Asker::Actor(reply)))
        } else {
            // Asked anew in this node's name: should the owner go, this node sends it to the next, or keeps it, in
            // order. Passed on and forgotten, it would be lost with a link that ends at this moment.
            self.counters.items_forwarded.increment();
            let question = question(Goal::Address(address), ask.request, deadline, PASSED_ON);
            self.open(lane, question, Asker::Actor(reply), turn)
        };
        match taken {
            Ok(()) => {}
            Err((Untaken::Here | Untaken::Late, Asker::Actor(reply))) => self.place(held(sent, reply)),
            Err((why, asker)) => asker.fail(self.untaken(why)),
        }
    }

    /// Keeps a question of a node that takes this one for the owner, unless it has just become that.
    fn keep(
        &self,
        lane: usize,
        address: Address,
        question: Question,
        asker: Asker,
        epoch: u64,
    ) -> std::result::Result<(), (Untaken, Asker)> {
        let mut shard = self.shards[lane].lock();
        if self.owns(&address) {
            return Err((Untaken::Here, asker));
        }
        // Looked at under the lock, as a link that ends is forgotten under it.
        if !self.routes.read().by_epoch.contains_key(&epoch) {
            drop(shard);
            return Ok(());
        }
        let first = shard.is_empty();
        shard.keep(question, asker, epoch)?;
        self.counters.asks_kept.increment();
        if first {
            self.sweep.notify_one();
        }
        Ok(())
    }

    /// Sends an answer back over the link on which the question came.
    fn answer(&self, back: &Return, result: answer::Result) {
        let link = self.routes.read().by_epoch.get(&back.epoch).cloned();
        let mut answer = Answer { ask_id: back.id, result: Some(result), attempt: back.attempt, refusal: 0 };
        if let Err(error) = self.check_size(codec::cluster_len(&answer)) {
            answer.result = Some(answer::Result::Error(error.into()));
        }
        let refused = matches!(&answer.result, Some(answer::Result::Error(_)));
        let push = |refusal| {
            let Some(link) = link else { return self.counters.answers_lost.increment() };
            answer.refusal = refusal;
            if !link.push_answer(self.lane_of(back.id), answer) {
                self.counters.answers_overflowed.increment();
            }
        };
        match &back.standing {
            // Counted though the link may be gone: what came over it may wait in the room still.
            Some(standing) if refused => standing.refuse(push),
            _ => push(0),
        }
    }

    /// The lane of a question, and so of its answer.
    fn lane_of(&self, ask_id: u64) -> usize {
        Shard::lane_of(ask_id) % self.config.lanes
    }

    fn on_answer(&self, link: &Link, answer: Answer) {
        let Some(shard) = self.shards.get(Shard::lane_of(answer.ask_id)) else {
            return self.counters.envelopes_unreadable.increment();
        };
        let (id, attempt) = (answer.ask_id, answer.attempt);
        let result = match answer.result {
            Some(answer::Result::Reply(reply)) => Ok(reply),
            Some(answer::Result::Error(error)) => Err(Error::from(error)),
            None => Err(Error::internal("an answer of another node is empty")),
        };
        let asker = {
            let mut shard = shard.lock();
            link.hear(self.lane_of(id), answer.refusal);
            let asker = shard.answered(id, attempt, result.is_err());
            if let (Some(asker), Err(_)) = (&asker, &result) {
                asker.condemn();
            }
            asker
        };
        match (asker, result) {
            (None, _) => self.counters.answers_late.increment(),
            (Some(asker), Err(error)) => asker.fail(error),
            (Some(Asker::Actor(reply)), Ok(answer)) => reply.send(Ok(answer)),
            (Some(Asker::Node(reply)), Ok(Reply { reply: Some(reply::Reply::Node(answer)) })) => {
                reply.send(Ok(answer));
            }
            (Some(asker), Ok(_)) => asker.fail(Error::internal("an answer is of the wrong kind")),
        }
    }

    fn on_heartbeat(&self, link: &Link, beat: Heartbeat) {
        link.on_heartbeat(&beat, self.now_us());
        if beat.echo_us > 0 {
            return;
        }
        let answer = Heartbeat { sent_at_us: 0, echo_us: beat.sent_at_us, ..self.heartbeat() };
        // A peer that does not take it is found out by its silence.
        let _ = link.push(self.control_lane(), Item::Heartbeat(answer));
    }

    fn owner_link(&self, address: &Address) -> Option<Arc<Link>> {
        let view = self.view.read();
        view.owner(address).and_then(|owner| self.link_to(owner))
    }
}

fn decode(request: Bytes) -> Option<request::Request> {
    codec::decode_cluster_shared::<Request>(request).ok().and_then(|request| request.request)
}

fn result_of(result: Result<Reply>) -> answer::Result {
    match result {
        Ok(reply) => answer::Result::Reply(reply),
        Err(error) => answer::Result::Error(error.into()),
    }
}

fn unreadable() -> answer::Result {
    answer::Result::Error(Error::internal("the node asked can't read the question; run one release").into())
}
