//! The actor of a presence shard. Identity: `presence/{shard}`. Owns the shard's slot of the [`Directory`]: it alone
//! writes it; and knows which nodes watch its users. Never asks anybody. Dies when its shard moves away: the nodes then
//! tell its successor what they watch.
//!
//! [`Directory`]: crate::actors::directory::Directory

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::time::Instant;

use super::watchers::Watchers;
use crate::actors::Actors;
use crate::actors::registry::Vitals;
use crate::clock;
use crate::cluster::{NodeState, ReplyTo};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    ConnectedList, Done, NodeRequest, PresenceReply, PresenceRequest, ReplaceSession, Reply, SessionList,
    SessionRecord, node_request, presence_reply, presence_request, reply,
};

/// What a shard takes.
pub enum ShardMessage {
    /// From any node.
    Request(PresenceRequest, ReplyTo<Reply>),
    /// Sessions of the slot have ended with their node, or nodes have gone.
    Look,
    /// Something is due.
    Tick,
    /// The shard has moved.
    Stop,
}

impl ractor::Message for ShardMessage {}

/// The behaviour.
pub struct ShardActor;

/// What a shard is born with.
pub struct ShardArguments {
    /// Its node's actors.
    pub actors: Actors,
    /// Its own vitals.
    pub vitals: Arc<Vitals>,
}

/// The state of the actor; the sessions are in the slot.
pub struct ShardState {
    actors: Actors,
    vitals: Arc<Vitals>,
    watchers: Watchers,
    /// When the next tick comes; later ones may follow, which are harmless.
    tick_at: Option<Instant>,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> std::result::Result<ShardState, ActorProcessingErr> {
        let ShardArguments { actors, vitals } = arguments;
        Ok(ShardState { actors, vitals, watchers: Watchers::default(), tick_at: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Request(request, reply) => {
                state.vitals.handle(clock::now_ms());
                let answer = state.answer(request);
                // Before the answer, which may be followed by questions that build on it.
                state.take_flips();
                reply.send(answer);
            }
            ShardMessage::Look => {
                state.vitals.handle(state.vitals.last_active_ms());
                state.look_at_nodes();
                state.take_flips();
            }
            ShardMessage::Tick => {
                let now = Instant::now();
                state.tick_at = state.tick_at.filter(|at| *at > now);
                state.watchers.expire(now);
                state.tell();
            }
            ShardMessage::Stop => myself.stop(None),
        }
        state.arm_tick(&myself);
        Ok(())
    }
}

impl ShardState {
    fn shard(&self) -> u64 {
        self.vitals.address.key
    }

    fn answer(&mut self, request: PresenceRequest) -> Result<Reply> {
        use presence_request::Command;
        let shard = self.shard();
        let directory = Arc::clone(&self.actors.inner.directory);
        let answer = match request.command {
            Some(Command::Register(register)) => {
                let replaced = directory.register(shard, register);
                self.end_replaced(replaced);
                presence_reply::Reply::Done(Done {})
            }
            Some(Command::Unregister(gone)) => {
                directory.unregister(shard, gone.user_id, gone.session_id);
                presence_reply::Reply::Done(Done {})
            }
            Some(Command::Lookup(lookup)) => {
                let sessions =
                    lookup.user_ids.iter().flat_map(|user_id| directory.sessions_of(*user_id)).collect();
                presence_reply::Reply::Sessions(SessionList { sessions })
            }
            Some(Command::Watch(watch)) => {
                let asked = watch.user_ids.clone();
                self.watchers.watch(&watch.node, watch.incarnation, watch.user_ids, watch.all);
                presence_reply::Reply::Connected(self.connected(asked))
            }
            Some(Command::PresenceSaid(said)) => {
                self.watchers.said(said.user_id);
                presence_reply::Reply::Done(Done {})
            }
            Some(Command::Connected(asked)) => {
                presence_reply::Reply::Connected(self.connected(asked.user_ids))
            }
            Some(Command::Inspect(_)) => {
                let (users, sessions, complete) = directory.counts(shard).unwrap_or_default();
                let view = json!({ "shard": shard, "users": users, "sessions": sessions,
                    "watchers": self.watchers.len(), "complete": complete,
                    "activation": self.vitals.activation });
                presence_reply::Reply::Inspection(view.to_string())
            }
            None => return Err(Error::internal("a presence request without a command")),
        };
        Ok(Reply { reply: Some(reply::Reply::Presence(PresenceReply { reply: Some(answer) })) })
    }

    fn connected(&self, asked: Vec<u64>) -> ConnectedList {
        let (_, _, complete) = self.actors.inner.directory.counts(self.shard()).unwrap_or_default();
        let user_ids = asked.into_iter().filter(|user_id| self.is_connected(*user_id)).collect();
        ConnectedList { user_ids, complete }
    }

    fn is_connected(&self, user_id: u64) -> bool {
        !self.actors.inner.directory.sessions_of(user_id).is_empty() || self.watchers.is_leaving(user_id)
    }

    /// Ends sessions whose devices have begun others. At most once: one that is not reached is told with the next announcement.
    fn end_replaced(&self, replaced: Vec<SessionRecord>) {
        if replaced.is_empty() {
            return;
        }
        let view = self.actors.cluster().view();
        for record in replaced {
            // One whose node leaves goes by itself, when what it has asked is answered.
            if view.node(&record.node).is_some_and(|node| node.state == NodeState::Leaving) {
                continue;
            }
            let replace = ReplaceSession { session_id: record.session_id };
            let request = NodeRequest { command: Some(node_request::Command::ReplaceSession(replace)) };
            self.actors.cluster().tell_node_keyed(&record.node, record.session_id, request);
        }
    }

    /// Takes notice of users whose first session has come or whose last one has ended.
    fn take_flips(&mut self) {
        let directory = &self.actors.inner.directory;
        let until = Instant::now() + self.actors.inner.config.presence.offline_grace;
        for user_id in directory.take_flips(self.shard()) {
            if !directory.sessions_of(user_id).is_empty() {
                self.watchers.came(user_id);
            } else if self.watchers.left(user_id, until) {
                self.actors.inner.seen.note(user_id, clock::now_ms());
            }
        }
    }

    fn look_at_nodes(&mut self) {
        let view = self.actors.cluster().view();
        self.watchers.retain_nodes(|name, incarnation| {
            view.node(name)
                .is_some_and(|node| node.state != NodeState::Down && node.info.incarnation <= incarnation)
        });
    }

    /// Tells each watching node what has changed. At most once: nodes ask again at intervals.
    fn tell(&mut self) {
        let directory = Arc::clone(&self.actors.inner.directory);
        let leaving: &Watchers = &self.watchers;
        let connected: Vec<u64> = leaving
            .changing()
            .filter(|user_id| !directory.sessions_of(*user_id).is_empty() || leaving.is_leaving(*user_id))
            .collect();
        let shard = self.shard();
        for (node, change) in self.watchers.take_changes(|user_id| connected.binary_search(&user_id).is_ok())
        {
            let command = node_request::Command::PresenceChanged(change);
            self.actors.cluster().tell_node_keyed(&node, shard, NodeRequest { command: Some(command) });
        }
    }

    fn arm_tick(&mut self, myself: &ActorRef<ShardMessage>) {
        let gather: Duration = self.actors.inner.config.presence.gather;
        let now = Instant::now();
        if let Some(pause) = self.watchers.due_in(now, gather)
            // News that gather are not to wait for the end of somebody's grace.
            && self.tick_at.is_none_or(|at| at > now + pause)
        {
            self.tick_at = Some(now + pause);
            myself.send_after(pause, || ShardMessage::Tick);
        }
    }
}
