//! For tests of rooms: nodes whose view the test makes, over stores that the test holds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::actors::Actors;
use crate::actors::session::{Handler, OpenSession, Session, Socket, Transport};
use crate::cluster::{Address, Cluster, NodeInfo, NodeState, ReplyTo, ViewNode};
use crate::config::Config;
use crate::domain::Result;
use crate::protocol::JoinPolicy;
use crate::protocol::codec::Format;
use crate::protocol::v1::{ClientFrame, Message, Send, Sent};
use crate::storage::memory::MemoryStores;
use crate::storage::starts::Opening;
use crate::storage::{
    ClientKey, ConversationRecord, ConversationRow, ConversationStore, CursorAdvance, MemberRecord,
    MessageStore, NewGroup, StoreError, StoreResult, Stores,
};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// No client comes in these tests.
struct NoClients;

#[async_trait]
impl Handler for NoClients {
    fn handle_now(&self, _: &Session, frame: ClientFrame) -> Option<ClientFrame> {
        Some(frame)
    }
    async fn handle(&self, _: &Session, _: ClientFrame) {}
    fn forget(&self, _: &str) {}
}

/// A log that takes nothing while it is shut.
struct HeldLog {
    log: Arc<dyn MessageStore>,
    open: watch::Receiver<bool>,
    /// Groups that have come to it.
    groups: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

#[async_trait]
impl MessageStore for HeldLog {
    async fn append(&self, messages: &[Message]) -> StoreResult<()> {
        self.groups.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.clone();
        open.wait_for(|open| *open).await.expect("the test keeps the door");
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        self.log.append(messages).await
    }
    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64> {
        self.log.last_seq(conversation_id).await
    }
    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>> {
        self.log.stored(keys).await
    }
    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        self.log.after(conversation_id, after_seq, limit).await
    }
    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        self.log.before(conversation_id, before_seq, first_seq, limit).await
    }
}

/// Conversations whose cursors are not stored while it is shut.
struct HeldCursors {
    conversations: Arc<dyn ConversationStore>,
    open: watch::Receiver<bool>,
    /// Nor are rooms opened while this is.
    load_open: watch::Receiver<bool>,
    /// Openings that were asked for.
    loads: Arc<AtomicUsize>,
}

#[async_trait]
impl ConversationStore for HeldCursors {
    async fn create_group(&self, group: NewGroup) -> StoreResult<ConversationRecord> {
        self.conversations.create_group(group).await
    }
    async fn created_as(&self, owner_id: u64, client_id: &str) -> StoreResult<Option<ConversationRecord>> {
        self.conversations.created_as(owner_id, client_id).await
    }
    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)> {
        self.conversations.direct(a, b, now_ms).await
    }
    async fn openings(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Opening>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let mut open = self.load_open.clone();
        open.wait_for(|open| *open).await.expect("the test keeps the door");
        self.conversations.openings(conversation_ids).await
    }
    async fn conversation(&self, conversation_id: u64) -> StoreResult<Option<ConversationRecord>> {
        self.conversations.conversation(conversation_id).await
    }
    async fn members(&self, conversation_id: u64) -> StoreResult<Vec<MemberRecord>> {
        self.conversations.members(conversation_id).await
    }
    async fn member(&self, conversation_id: u64, user_id: u64) -> StoreResult<Option<MemberRecord>> {
        self.conversations.member(conversation_id, user_id).await
    }
    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()> {
        let mut open = self.open.clone();
        open.wait_for(|open| *open).await.expect("the test keeps the door");
        self.conversations.advance_cursors(cursors).await
    }
    async fn conversations_of(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>> {
        self.conversations.conversations_of(user_id, changed_since_ms, before, limit).await
    }
    async fn conversation_of(&self, user_id: u64, id: u64) -> StoreResult<Option<ConversationRow>> {
        self.conversations.conversation_of(user_id, id).await
    }
}

/// A node over a database that others may share.
pub struct Node {
    pub actors: Actors,
    pub cluster: Cluster,
    /// Shut: groups of messages are not stored.
    pub door: watch::Sender<bool>,
    /// Shut: cursors are not.
    pub cursor_door: watch::Sender<bool>,
    /// Shut: no room is opened.
    pub load_door: watch::Sender<bool>,
    /// Openings that were asked for.
    pub loads: Arc<AtomicUsize>,
    /// Groups of messages that have come to the log.
    pub groups: Arc<AtomicUsize>,
    /// The log refuses them, and is not read.
    pub away: Arc<AtomicBool>,
    pub stores: Stores,
}

impl Node {
    pub async fn start(name: &str, memory: &MemoryStores) -> Self {
        Self::start_with(name, memory, |_| {}).await
    }

    pub async fn start_with(name: &str, memory: &MemoryStores, set: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(name, memory, set, |stores| stores).await
    }

    /// The same over stores of the test's own.
    pub async fn start_over(
        name: &str,
        memory: &MemoryStores,
        set: impl FnOnce(&mut Config),
        over: impl FnOnce(Stores) -> Stores,
    ) -> Self {
        let mut config = Config::default();
        // What tests hold up is nobody's overload.
        config.overload.wait_max = 2 * PATIENCE;
        set(&mut config);
        config.node.name = format!("{name}-{:x}", rand::random::<u32>());
        config.cluster.listen = "127.0.0.1:0".to_owned();
        let (door, open) = watch::channel(true);
        let stores = over(memory.stores());
        let groups = Arc::new(AtomicUsize::new(0));
        let away = Arc::new(AtomicBool::new(false));
        let log = HeldLog { log: stores.messages.clone(), open, groups: groups.clone(), away: away.clone() };
        let (cursor_door, open) = watch::channel(true);
        let (load_door, load_open) = watch::channel(true);
        let loads = Arc::new(AtomicUsize::new(0));
        let conversations = HeldCursors {
            conversations: stores.conversations.clone(),
            open,
            load_open,
            loads: Arc::clone(&loads),
        };
        let stores = Stores { messages: Arc::new(log), conversations: Arc::new(conversations), ..stores };
        let cluster = Cluster::bind(&config).await.expect("port 0 can be bound");
        let actors = Actors::new(cluster.name(), &config, stores.clone());
        actors.connect(cluster.clone(), Arc::new(NoClients));
        cluster.start(Arc::new(actors.clone()), cluster.info()).await.expect("a node of one needs nobody");
        let mut views = cluster.watch();
        let is_up = views.wait_for(|view| view.up_nodes().next().is_some());
        tokio::time::timeout(PATIENCE, is_up).await.expect("in time").expect("the node runs");
        Self { actors, cluster, door, cursor_door, load_door, loads, groups, away, stores }
    }

    /// All rooms are this node's, or another's that can't be reached yet.
    pub fn owns_all(&self, owns: bool) {
        let node =
            |info: NodeInfo, state| ViewNode { info: Arc::new(info), state, since_ms: 0, has_left: false };
        let other = NodeInfo { name: "other".to_owned(), incarnation: 7, ..NodeInfo::default() };
        let mine = if owns { NodeState::Up } else { NodeState::Joining };
        let its = if owns { NodeState::Joining } else { NodeState::Up };
        self.cluster.imagine(vec![node(self.cluster.info(), mine), node(other, its)]);
    }

    pub async fn session_of(&self, user_id: u64) -> Session {
        let open = OpenSession {
            user_id,
            device_id: 1,
            device_name: String::new(),
            token: String::new(),
            transport: Transport::Line,
            format: Format::Line,
            peer_address: String::new(),
            reply_to: 0,
        };
        let socket = Socket { wake: Box::new(|_| {}), cut: Box::new(|| {}) };
        self.actors.sessions().open(open, socket).await.expect("the node takes sessions")
    }

    pub fn is_active(&self, room: u64) -> bool {
        self.actors.inner.rooms.is_active(&Address::room(room))
    }

    pub async fn log_of(&self, room: u64) -> Vec<Message> {
        self.stores.messages.after(room, 0, 10_000).await.expect("memory answers")
    }
}

pub async fn group(memory: &MemoryStores, owner_id: u64, member_ids: Vec<u64>) -> u64 {
    let group = NewGroup {
        owner_id,
        name: "rooks".to_owned(),
        description: String::new(),
        join_policy: JoinPolicy::Open,
        member_ids,
        client_id: String::new(),
        now_ms: 1,
    };
    memory.stores().conversations.create_group(group).await.expect("memory takes groups").id
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// The number of a send, and its answer.
type Answered = (u32, Result<Sent>);

/// What became of pipelined sends of one session.
#[derive(Clone, Default)]
pub struct Answers(pub Arc<Mutex<Vec<Answered>>>);

impl Answers {
    pub fn post(&self, node: &Node, by: u64, room: u64, number: u32) {
        let answers = self.0.clone();
        let send = Send {
            conversation_id: room,
            client_id: format!("{by}-{number}"),
            text: number.to_string(),
            ..Send::default()
        };
        let reply = ReplyTo::new(move |answer| answers.lock().push((number, answer)));
        node.actors.rooms().post_send(by, 1, send, reply);
    }

    pub async fn all(&self, count: usize) -> Vec<Answered> {
        eventually("every send is answered", || self.0.lock().len() >= count).await;
        self.0.lock().clone()
    }
}
