//! What arrives for this node's actors, from other nodes or from itself.

use serde_json::json;

use super::Actors;
use super::frame::SharedFrame;
use super::presence::actor::ShardMessage;
use crate::cluster::{Address, Inbound, Kind, ReplyTo, Turn};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    ActorList, CloseSessions, Done, ListActors, NodeReply, NodeRequest, PlacementQuery, PlacementView, Reply,
    Request, node_reply, node_request, request,
};

/// The close code of a session whose device has begun another one.
const REPLACED: u16 = 4409;

impl Inbound for Actors {
    fn tell(&self, to: Address, request: Request) {
        let back = self.ask(to, request, ReplyTo::ignore(), Turn::endless());
        debug_assert!(back.is_none(), "an endless turn is never over");
    }

    fn ask(
        &self,
        to: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        match (to.kind, request.request) {
            (Kind::Room, Some(request::Request::Room(request))) => {
                let (request, reply) = self.cast_room(to.key, request, reply, turn)?;
                return Some((Request { request: Some(request::Request::Room(request)) }, reply));
            }
            (Kind::Presence, Some(request::Request::Presence(request))) => {
                self.cast_shard(to, ShardMessage::Request(request, reply));
            }
            _ => reply.send(Err(Error::internal(format!("{to} does not take such a request")))),
        }
        None
    }

    fn holds(&self, to: &Address) -> bool {
        to.kind == Kind::Room && self.inner.rooms.is_active(to)
    }

    fn ask_held(
        &self,
        to: Address,
        request: Request,
        handovers: u32,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        match (to.kind, request.request) {
            (Kind::Room, Some(request::Request::Room(request))) => {
                let (request, reply) = self.cast_held_room(to.key, request, handovers, reply, turn)?;
                Some((Request { request: Some(request::Request::Room(request)) }, reply))
            }
            (_, request) => Some((Request { request }, reply)),
        }
    }

    fn tell_node(&self, from: &str, request: NodeRequest) {
        self.ask_node(from, request, ReplyTo::ignore());
    }

    fn ask_node(&self, _from: &str, request: NodeRequest, reply: ReplyTo<NodeReply>) {
        use node_request::Command;
        let answer = match request.command {
            Some(Command::Deliver(deliver)) => {
                let event = SharedFrame::of(&deliver);
                self.inner.sessions.deliver(&deliver.user_ids, deliver.except_session_id, &event);
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::Route(deliver)) => {
                self.route(&deliver.user_ids, deliver.except_session_id, SharedFrame::of(&deliver), false);
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::ListActors(query)) => Ok(node_reply::Reply::Actors(self.list(&query))),
            Some(Command::InspectSession(query)) => self.inspect_session(query.session_id),
            Some(Command::Placement(query)) => self.placement(&query),
            Some(Command::CloseSessions(close)) => {
                self.close_sessions_of(&close);
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::Forget(forget)) => {
                if let Some(handler) = self.inner.handler.get() {
                    for key in &forget.cache_keys {
                        handler.forget(key);
                    }
                }
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::PresenceChanged(news)) => {
                self.inner.watches.take_news(&news.connected, &news.gone, &news.said);
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::ReplaceSession(replaced)) => {
                if let Some(session) = self.inner.sessions.get(replaced.session_id) {
                    session.ebb();
                    session.outbox().close(REPLACED, "this device has connected elsewhere");
                }
                Ok(node_reply::Reply::Done(Done {}))
            }
            Some(Command::Drain(_)) => {
                self.inner.drain_ordered.notify_one();
                Ok(node_reply::Reply::Done(Done {}))
            }
            None => Err(Error::internal("a node request without a command")),
        };
        reply.send(answer.map(|answer| NodeReply { reply: Some(answer) }));
    }

    fn load(&self) -> (u64, u64) {
        let (sessions, rooms, _) = self.counts();
        (sessions as u64, rooms as u64)
    }
}

impl Actors {
    /// Rows in the order (kind, key), from behind (`after_kind`, `after_key`).
    fn list(&self, query: &ListActors) -> ActorList {
        let inner = &self.inner;
        let sessions = inner.sessions.all();
        let mut vitals: Vec<_> =
            sessions.iter().map(|session| std::sync::Arc::clone(session.vitals())).collect();
        vitals.extend(inner.rooms.vitals());
        vitals.extend(inner.shards.vitals());
        let position = |kind: &str, key: u64| (kind.to_owned(), key);
        let after = position(&query.after_kind, query.after_key);
        let mut rows: Vec<_> = vitals
            .iter()
            .filter(|vitals| query.kind.is_empty() || vitals.address.kind.as_str() == query.kind)
            .filter(|vitals| query.key == 0 || vitals.address.key == query.key)
            .filter(|vitals| {
                query.after_kind.is_empty()
                    || position(vitals.address.kind.as_str(), vitals.address.key) > after
            })
            .map(|vitals| vitals.row(&inner.name))
            .collect();
        rows.sort_by(|a, b| (&a.kind, a.key).cmp(&(&b.kind, b.key)));
        rows.truncate(query.limit as usize);
        for row in rows.iter_mut().filter(|row| row.kind == Kind::Session.as_str()) {
            row.passive = inner.sessions.get(row.key).is_some_and(|session| session.is_passive());
        }
        ActorList { actors: rows }
    }

    fn inspect_session(&self, session_id: u64) -> Result<node_reply::Reply> {
        let session = self.inner.sessions.get(session_id).ok_or_else(|| {
            Error::not_found(format!("session {session_id} is not on node {}", self.inner.name))
        })?;
        let mut view = session.inspect();
        view["node"] = json!(self.inner.name);
        Ok(node_reply::Reply::Json(view.to_string()))
    }

    fn placement(&self, query: &PlacementQuery) -> Result<node_reply::Reply> {
        let address = query.address.as_ref().ok_or_else(|| Error::invalid("key", "name an actor"))?;
        let address = Address::try_from(address)?;
        let view = self.cluster().view();
        let owner = view.owner(&address).unwrap_or_default().to_owned();
        let owner_if_lost = view.owner_without(&address, &owner).unwrap_or_default().to_owned();
        Ok(node_reply::Reply::Placement(PlacementView {
            node: self.inner.name.clone(),
            view_version: view.version,
            owner,
            owner_if_lost,
        }))
    }

    fn close_sessions_of(&self, close: &CloseSessions) {
        for session in self.inner.sessions.of_user(close.user_id) {
            if close.device_id == 0 || close.device_id == session.device_id() {
                let code = u16::try_from(close.close_code).unwrap_or(4401);
                // Nothing that it still sends counts, however long its client leaves the close unread.
                session.ebb();
                session.outbox().close(code, &close.reason);
            }
        }
    }
}
