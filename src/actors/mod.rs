//! The actors: sessions, rooms and presence shards, and what starts, finds and feeds them.
//!
//! Who may ask whom, so that asks never run in a circle: session → room, session → presence shard, and node → session
//! (admin). Rooms and shards ask nobody but storage; rooms tell sessions by way of fan-out, which never waits.

mod alarm;
mod cursor_lane;
pub mod directory;
mod doubt;
pub mod frame;
pub mod gather;
mod inbound;
mod linger;
pub mod overload;
pub mod presence;
pub mod reach;
pub mod rebalance;
pub mod registry;
pub mod room;
pub mod session;
pub mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorRuntime;
use tokio::sync::Semaphore;

use self::cursor_lane::CursorLane;
use self::directory::Directory;
use self::frame::SharedFrame;
use self::gather::Gather;
use self::overload::Overload;
use self::presence::actor::{ShardActor, ShardArguments, ShardMessage};
use self::presence::seen::SeenLane;
use self::presence::watches::Watches;
use self::registry::Registry;
use self::room::Rooms;
use self::room::actor::RoomMessage;
use self::room::loading::{Loaded, Newborns, loads};
use self::session::table::SessionTable;
use self::session::{Handler, Session, Sessions};
use self::writer::Writers;
use crate::clock;
use crate::cluster::{Address, Cluster, NodeState, ReplyTo, View};
use crate::config::Config;
use crate::domain::{Error, Result};
use crate::protocol::ConversationKind;
use crate::protocol::cluster::{
    CloseSessions, Connected, Forget, Lookup, NodeReply, NodeRequest, PresenceRequest, PresenceSaid,
    Register, Reply, Request, SessionRecord, Unregister, node_request, presence_reply, presence_request,
    reply, request,
};
use crate::protocol::v1::ServerFrame;
use crate::protocol::v1::server_frame::Body;
use crate::storage::Stores;

/// Rooms that read their membership again at the same time.
const REFRESHES_AT_ONCE: usize = 8;

/// Sends of non-members that are looked up in storage at the same time; more are refused unseen.
const DENIALS_AT_ONCE: usize = 256;

/// All actors of a node. Cheap to clone.
#[derive(Clone)]
pub struct Actors {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    config: Config,
    runtime: tokio::runtime::Handle,
    stores: Stores,
    writers: Writers,
    overload: Arc<Overload>,
    /// Rooms that are being loaded.
    loads: Gather<u64, Loaded>,
    newborns: Newborns,
    cursor_lane: CursorLane,
    /// Turns of rooms that read their membership again.
    refreshes: Semaphore,
    /// Turns of sends by those who are no members.
    denials: Arc<Semaphore>,
    /// See [`Actors::doubts`].
    doubts: AtomicU64,
    /// See [`Actors::in_doubt_since`].
    doubted_since_ms: AtomicU64,
    cluster: OnceLock<Cluster>,
    handler: OnceLock<Arc<dyn Handler>>,
    rooms: Registry<RoomMessage>,
    shards: Registry<ShardMessage>,
    directory: Arc<Directory>,
    watches: Arc<Watches>,
    seen: SeenLane,
    sessions: SessionTable,
    /// Shards whose owner has not confirmed what this node had to say of its sessions.
    unconfirmed: Mutex<BTreeSet<u64>>,
    draining: AtomicBool,
    /// An operator has told this node to drain.
    drain_ordered: tokio::sync::Notify,
}

impl Actors {
    /// The actors of a node, none active yet. Runs on the current runtime, whichever thread calls later.
    pub fn new(name: &str, config: &Config, stores: Stores) -> Self {
        let overload = Arc::new(Overload::new(&config.overload));
        let inner = Inner {
            name: name.to_owned(),
            config: config.clone(),
            runtime: tokio::runtime::Handle::current(),
            writers: Writers::start(&config.writer, &stores, &overload),
            loads: loads(&overload, &stores),
            newborns: Newborns::default(),
            overload,
            cursor_lane: CursorLane::start(&stores),
            refreshes: Semaphore::new(REFRESHES_AT_ONCE),
            denials: Arc::new(Semaphore::new(DENIALS_AT_ONCE)),
            doubts: AtomicU64::new(0),
            doubted_since_ms: AtomicU64::new(u64::MAX),
            watches: Arc::new(Watches::new(config.presence.watches_max)),
            seen: SeenLane::start(&stores),
            stores,
            cluster: OnceLock::new(),
            handler: OnceLock::new(),
            rooms: Registry::default(),
            shards: Registry::default(),
            directory: Arc::new(Directory::new(config.presence.shards, config.presence.rebuild_window)),
            sessions: SessionTable::default(),
            unconfirmed: Mutex::default(),
            draining: AtomicBool::new(false),
            drain_ordered: tokio::sync::Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Joins the actors to the cluster and to what handles clients' frames; called once, before any client comes.
    pub fn connect(&self, cluster: Cluster, handler: Arc<dyn Handler>) {
        let first = self.inner.cluster.set(cluster).is_ok() && self.inner.handler.set(handler).is_ok();
        debug_assert!(first, "the actors are connected once");
        rebalance::start(self.clone());
        self.inner.overload.watch();
        presence::rounds::start(self.clone());
        presence::seen::start_rounds(self.clone());
    }

    /// The sessions of this node.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.clone())
    }

    /// The rooms of the cluster.
    pub fn rooms(&self) -> Rooms {
        Rooms::new(self.clone())
    }

    /// Events for users.
    pub fn events(&self) -> Events {
        Events { actors: self.clone() }
    }

    /// What is refused as too much.
    pub fn overload(&self) -> &Arc<Overload> {
        &self.inner.overload
    }

    /// The directory of live sessions.
    pub fn presence(&self) -> Presence {
        Presence { actors: self.clone() }
    }

    /// The cluster that the actors are part of.
    pub fn cluster(&self) -> &Cluster {
        self.inner.cluster.get().expect("the node connects its actors before it takes clients or links")
    }

    /// This node's name.
    pub fn node_name(&self) -> &str {
        &self.inner.name
    }

    /// No new sessions from now on; those there are told to go elsewhere.
    pub fn drain_sessions(&self, reason: &str, address_of: impl Fn(session::Transport) -> String) {
        self.inner.draining.store(true, Ordering::Relaxed);
        for session in self.inner.sessions.all() {
            session.go_away(reason, address_of(session.transport()));
        }
    }

    /// Returns when an operator has told this node to drain, by whichever node.
    pub async fn drain_ordered(&self) {
        self.inner.drain_ordered.notified().await;
    }

    /// Takes nothing more from clients that are still there; says whether all that was taken is answered.
    pub fn ebb_sessions(&self) -> bool {
        let sessions = self.inner.sessions.all();
        sessions.iter().for_each(Session::ebb);
        sessions.iter().all(Session::is_settled)
    }

    /// Tells every room to finish, store its cursors, and end; a message for one starts it again.
    pub fn retire_rooms(&self) {
        for vitals in self.inner.rooms.vitals() {
            self.inner.rooms.cast_if_active(vitals.address, RoomMessage::Finish);
        }
    }

    /// Rooms of this node that had something to do since then (Unix milliseconds), by id; the first `max` of them.
    pub fn rooms_active_since(&self, since_ms: u64, max: usize) -> Vec<u64> {
        let rooms = self.inner.rooms.vitals();
        let active = rooms.iter().filter(|vitals| vitals.last_active_ms() >= since_ms);
        active.map(|vitals| vitals.address.key).take(max).collect()
    }

    /// Grows when a link or a node was lost or has come back: another activation of a room may have changed what rooms
    /// here remember of their members.
    fn doubts(&self) -> u64 {
        self.inner.doubts.load(Ordering::Relaxed)
    }

    /// Messages stored since then (Unix milliseconds) may not have reached everybody: a link was lost or has come back a
    /// moment ago.
    fn in_doubt_since(&self) -> Option<u64> {
        let since = self.inner.doubted_since_ms.load(Ordering::Relaxed);
        (since != u64::MAX).then_some(since)
    }

    /// Closes every session, after what is queued for it.
    pub fn close_sessions(&self, code: u16, reason: &str) {
        for session in self.inner.sessions.all() {
            session.outbox().close(code, reason);
        }
    }

    /// Stores what is known of when users were last seen.
    pub async fn flush_seen(&self) {
        self.inner.seen.flush().await;
    }

    /// Live sessions, active rooms and active presence shards.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.inner.sessions.len(), self.inner.rooms.len(), self.inner.shards.len())
    }

    fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// Casts to a presence shard of this node, which starts if need be.
    fn cast_shard(&self, address: Address, message: ShardMessage) {
        let inner = &self.inner;
        let start = |vitals| {
            let _runtime = inner.runtime.enter();
            let arguments = ShardArguments { actors: self.clone(), vitals };
            match ActorRuntime::spawn_instant(None, ShardActor, arguments) {
                Ok((actor, _)) => Some(actor),
                Err(error) => {
                    tracing::error!(%address, %error, "a presence shard could not start");
                    None
                }
            }
        };
        // A shard takes what comes in any order, so whoever casts is let in.
        let _ = inner.shards.cast(address, message, |_| true, start);
    }

    /// Tells the presence shard of a session's user that it has begun.
    async fn announce(&self, session: &Session, limit: Duration) -> Result<()> {
        let register = Register { sessions: vec![session.record(self)], ..Register::default() };
        let shard = self.inner.directory.shard_of(session.user_id());
        self.ask_shard(shard, presence_request::Command::Register(register), limit).await.map(|_| ())
    }

    /// Tells the presence shard that a session has ended.
    fn withdraw(&self, session: &Session) {
        // By this node too, as the shard's may end before it has noted it.
        self.inner.seen.note(session.user_id(), clock::now_ms());
        self.withdraw_record(&session.record(self));
    }

    /// If the shard's owner does not confirm it, all sessions of the shard are announced again, which says the same.
    fn withdraw_record(&self, record: &SessionRecord) {
        let gone =
            Unregister { user_id: record.user_id, session_id: record.session_id, node: record.node.clone() };
        let request = presence_request_of(presence_request::Command::Unregister(gone));
        let shard = self.inner.directory.shard_of(record.user_id);
        let actors = self.clone();
        let reply = ReplyTo::new(move |answer: Result<Reply>| {
            if answer.is_err() {
                actors.announce_again(shard);
            }
        });
        let limit = self.inner.config.cluster.ask_timeout;
        self.cluster().ask(Address::presence(shard), request, limit, reply);
    }

    /// The sessions of the shard are to be announced with the next round.
    fn announce_again(&self, shard: u64) {
        self.inner.unconfirmed.lock().insert(shard);
    }

    async fn ask_shard(
        &self,
        shard: u64,
        command: presence_request::Command,
        limit: Duration,
    ) -> Result<presence_reply::Reply> {
        let (reply, answer) = ReplyTo::channel();
        self.cluster().ask(Address::presence(shard), presence_request_of(command), limit, reply);
        match answer.await?.reply {
            Some(reply::Reply::Presence(presence)) => {
                presence.reply.ok_or_else(|| Error::internal("a presence shard answered nothing"))
            }
            _ => Err(Error::internal("a presence shard answered as something else")),
        }
    }

    /// Sends an event to the users' sessions, wherever they are. Never waits.
    fn fan_out(&self, user_ids: &[u64], except_session_id: u64, event: ServerFrame, kind: ConversationKind) {
        self.route(user_ids, except_session_id, SharedFrame::new(event, kind), true);
    }

    /// See [`Directory::routes`] for `may_forward`.
    fn route(&self, user_ids: &[u64], except_session_id: u64, event: SharedFrame, may_forward: bool) {
        let inner = &self.inner;
        // Pushes of one conversation stay in order; those of different ones don't wait for each other.
        let order_key = match event.message() {
            Some(message) => message.conversation_id,
            None => user_ids.first().copied().unwrap_or_default(),
        };
        let mut routes = inner.directory.routes(user_ids, except_session_id, &inner.name, may_forward);
        if !routes.everywhere.is_empty() {
            let view = self.cluster().view();
            for node in live_nodes(&view).filter(|node| *node != inner.name) {
                routes.nodes.entry(node.to_owned()).or_default().extend(&routes.everywhere);
            }
            routes.here.append(&mut routes.everywhere);
        }
        let tell = |node: &str, command| {
            self.cluster().tell_node_keyed(node, order_key, NodeRequest { command: Some(command) });
        };
        let detours = (!routes.shards.is_empty()).then(|| inner.directory.detours());
        for (node, user_ids) in routes.shards {
            for unreached in detours.iter().filter_map(|detours| detours.get(&*node)).flatten() {
                routes.nodes.entry(unreached.clone()).or_default().extend(&user_ids);
            }
            tell(&node, node_request::Command::Route(event.deliver(user_ids, except_session_id)));
        }
        for (node, user_ids) in routes.nodes {
            tell(&node, node_request::Command::Deliver(event.deliver(user_ids, except_session_id)));
        }
        if !routes.here.is_empty() {
            inner.sessions.deliver(&routes.here, except_session_id, &event);
        }
    }
}

/// The nodes that may hold sessions: all that are not down.
pub(crate) fn live_nodes(view: &View) -> impl Iterator<Item = &str> {
    view.nodes.iter().filter(|node| node.state != NodeState::Down).map(|node| node.info.name.as_str())
}

fn presence_request_of(command: presence_request::Command) -> Request {
    Request { request: Some(request::Request::Presence(PresenceRequest { command: Some(command) })) }
}

/// Events for users, wherever their sessions are. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    actors: Actors,
}

impl Events {
    /// Sends `event` to every live session of the users but `except_session_id` (0: none). Not durable: a session that
    /// is not reached learns by sync.
    pub fn publish(&self, user_ids: Vec<u64>, event: Body, except_session_id: u64) {
        let frame = ServerFrame { reply_to: 0, body: Some(event) };
        self.actors.fan_out(&user_ids, except_session_id, frame, ConversationKind::Direct);
    }
}

/// The directory of live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    actors: Actors,
}

impl Presence {
    /// What its node refuses as too much.
    pub fn overload(&self) -> &Arc<Overload> {
        self.actors.overload()
    }

    /// The live sessions of the users, on all nodes.
    pub async fn sessions_of(&self, user_ids: &[u64]) -> Result<Vec<SessionRecord>> {
        let limit = self.actors.inner.config.cluster.ask_timeout;
        let asks = self.by_shard(user_ids).into_iter().map(|(shard, user_ids)| {
            self.actors.ask_shard(shard, presence_request::Command::Lookup(Lookup { user_ids }), limit)
        });
        let mut sessions = Vec::new();
        for answer in futures_util::future::join_all(asks).await {
            if let presence_reply::Reply::Sessions(found) = answer? {
                sessions.extend(found.sessions);
            }
        }
        Ok(sessions)
    }

    /// Whom the sessions of this node watch.
    pub fn watches(&self) -> Arc<Watches> {
        Arc::clone(&self.actors.inner.watches)
    }

    /// Those of the users who are connected, or were a moment ago.
    pub async fn connected(&self, user_ids: &[u64]) -> Result<BTreeSet<u64>> {
        let limit = self.actors.inner.config.cluster.ask_timeout;
        let asks = self.by_shard(user_ids).into_iter().map(|(shard, user_ids)| {
            let connected = presence_request::Command::Connected(Connected { user_ids });
            self.actors.ask_shard(shard, connected, limit)
        });
        let mut found = BTreeSet::new();
        for answer in futures_util::future::join_all(asks).await {
            if let presence_reply::Reply::Connected(list) = answer? {
                found.extend(list.user_ids);
            }
        }
        Ok(found)
    }

    /// Makes the users' shards tell this node of them from now on; those of them who are connected.
    pub async fn watch(&self, user_ids: &[u64]) -> Result<BTreeSet<u64>> {
        let asks = self
            .by_shard(user_ids)
            .into_iter()
            .map(|(shard, user_ids)| self.actors.watch_shard(shard, user_ids, false));
        for answer in futures_util::future::join_all(asks).await {
            answer?;
        }
        let watches = &self.actors.inner.watches;
        Ok(user_ids.iter().copied().filter(|user_id| watches.is_connected(*user_id)).collect())
    }

    /// What a user says of being there has been stored anew.
    pub async fn said(&self, user_id: u64) -> Result<()> {
        let shard = self.actors.inner.directory.shard_of(user_id);
        let said = presence_request::Command::PresenceSaid(PresenceSaid { user_id });
        let limit = self.actors.inner.config.cluster.ask_timeout;
        self.actors.ask_shard(shard, said, limit).await.map(|_| ())
    }

    /// Sends an event to one session of this node, if it still lives.
    pub fn push(&self, session_id: u64, event: Body) {
        let Some(session) = self.actors.inner.sessions.get(session_id) else { return };
        let frame = ServerFrame { reply_to: 0, body: Some(event) };
        session.outbox().push(crate::protocol::codec::encode(&frame, session.format()));
    }

    fn by_shard(&self, user_ids: &[u64]) -> BTreeMap<u64, Vec<u64>> {
        let mut by_shard: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for user_id in user_ids {
            by_shard.entry(self.actors.inner.directory.shard_of(*user_id)).or_default().push(*user_id);
        }
        by_shard
    }

    /// Tells every other node to forget what its caches hold under these keys, and waits up to `limit` for all of them;
    /// whether all confirmed.
    pub async fn forget(&self, cache_keys: Vec<String>, limit: Duration) -> bool {
        let forget = node_request::Command::Forget(Forget { cache_keys });
        let view = self.actors.cluster().view();
        let own_name = self.actors.node_name();
        let others = live_nodes(&view).filter(|node| *node != own_name);
        let asks: Vec<_> = others.map(|node| self.actors.order(node, forget.clone(), limit)).collect();
        futures_util::future::join_all(asks).await.iter().all(Result::is_ok)
    }

    /// The directory's slots on this node, for those who want to be told of changes.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.actors.inner.directory)
    }

    /// For how long this node has heard every other one, so that they could tell it what to forget. `None`: it does not,
    /// or does not take part yet. One that left on purpose is missed by nobody.
    pub fn whole_for(&self) -> Option<Duration> {
        let view = self.actors.cluster().view();
        let mut since_ms = 0;
        for node in view.nodes.iter().filter(|node| !node.has_left) {
            if !matches!(node.state, NodeState::Up | NodeState::Leaving) {
                return None;
            }
            since_ms = since_ms.max(node.since_ms);
        }
        (since_ms > 0).then(|| Duration::from_millis(clock::now_ms().saturating_sub(since_ms)))
    }

    /// Ends the live sessions of a device on whichever node (`device_id` 0: of all the user's devices) with a
    /// WebSocket close code such as 4401.
    pub async fn close_sessions(
        &self,
        user_id: u64,
        device_id: u64,
        close_code: u16,
        reason: &str,
    ) -> Result<()> {
        let close = CloseSessions {
            user_id,
            device_id,
            close_code: u32::from(close_code),
            reason: reason.to_owned(),
        };
        self.actors.tell_all_nodes(node_request::Command::CloseSessions(close)).await
    }
}

impl Actors {
    /// Asks every live node, this one included, and waits for those that answer. An error is the first of them.
    async fn tell_all_nodes(&self, command: node_request::Command) -> Result<()> {
        let view = self.cluster().view();
        let limit = self.inner.config.admin.ask_timeout;
        let asks: Vec<_> = live_nodes(&view).map(|node| self.order(node, command.clone(), limit)).collect();
        for answer in futures_util::future::join_all(asks).await {
            answer?;
        }
        Ok(())
    }
}

impl Actors {
    fn order(
        &self,
        node: &str,
        command: node_request::Command,
        limit: Duration,
    ) -> impl Future<Output = Result<NodeReply>> + use<> {
        let (reply, answer) = ReplyTo::channel();
        self.cluster().ask_node(node, NodeRequest { command: Some(command) }, limit, reply);
        answer
    }

    /// A presence shard's own view of itself, as JSON.
    pub async fn inspect_shard(&self, shard: u64) -> Result<String> {
        let shards = self.inner.directory.shards();
        if shard >= shards {
            return Err(Error::not_found(format!("there are {shards} presence shards: 0 to {}", shards - 1)));
        }
        let inspect = presence_request::Command::Inspect(crate::protocol::cluster::Inspect {});
        match self.ask_shard(shard, inspect, self.inner.config.admin.ask_timeout).await? {
            presence_reply::Reply::Inspection(json) => Ok(json),
            _ => Err(Error::internal("a presence shard answered as something else")),
        }
    }
}

/// What an ask of any actor comes to.
pub(crate) type AnyReply = ReplyTo<Reply>;
