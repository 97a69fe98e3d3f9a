//! Sessions that passivate: no frame is lost, doubled or overtaken, whenever the actor goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Handler, OpenSession, Session, Socket, Transport};
use crate::actors::Actors;
use crate::actors::frame::SharedFrame;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::protocol::ConversationKind;
use crate::protocol::codec::Format;
use crate::protocol::v1::client_frame::Request;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ClientFrame, Ping, Pong, ServerFrame, SyncRequest, Typing};
use crate::storage::memory::MemoryStores;

/// More than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Frames of the race, and how often the actor has to have gone meanwhile; more frames where the machine gives it no turn.
const FRAMES: u64 = 20_000;
const ACTIVATIONS: u64 = 3;

/// Notes which frames were handled, each after passing the door.
struct Notes {
    handled: Arc<Mutex<Vec<u64>>>,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Handler for Notes {
    fn handle_now(&self, session: &Session, frame: ClientFrame) -> Option<ClientFrame> {
        match frame.request {
            Some(Request::Ping(_)) => session.answer(frame.id, Body::Pong(Pong {})),
            _ => return Some(frame),
        }
        None
    }
    async fn handle(&self, _: &Session, frame: ClientFrame) {
        let mut open = self.open.clone();
        open.wait_for(|open| *open).await.expect("the test keeps the door");
        self.handled.lock().push(frame.id);
    }
    fn forget(&self, _: &str) {}
}

/// A node of one, whose sessions are idle at once.
struct Node {
    actors: Actors,
    cluster: Cluster,
    handled: Arc<Mutex<Vec<u64>>>,
    door: watch::Sender<bool>,
}

impl Node {
    async fn start() -> Self {
        let mut config = Config::default();
        config.cluster.listen = "127.0.0.1:0".to_owned();
        config.session.idle_timeout = Duration::ZERO;
        config.session.inbox_frames = usize::MAX;
        let cluster = Cluster::bind(&config).await.expect("port 0 can be bound");
        let actors = Actors::new(cluster.name(), &config, MemoryStores::default().stores());
        let (door, open) = watch::channel(true);
        let handled: Arc<Mutex<Vec<u64>>> = Arc::default();
        actors.connect(cluster.clone(), Arc::new(Notes { handled: handled.clone(), open }));
        cluster.start(Arc::new(actors.clone()), cluster.info()).await.expect("a node of one needs nobody");
        Self { actors, cluster, handled, door }
    }

    async fn opens(&self) -> Session {
        let open = OpenSession {
            user_id: 7,
            device_id: 8,
            device_name: "phone".to_owned(),
            transport: Transport::Tcp,
            format: Format::Proto,
            reply_to: 1,
            token: String::new(),
            peer_address: String::new(),
        };
        let socket = Socket { wake: Box::new(|_| {}), cut: Box::new(|| {}) };
        self.actors.sessions().open(open, socket).await.expect("the node takes sessions")
    }

    fn handled(&self) -> Vec<u64> {
        self.handled.lock().clone()
    }

    fn sweep(&self) {
        self.actors.sessions().sweep();
    }

    async fn stop(self) {
        self.cluster.shutdown().await;
    }
}

fn sync(id: u64) -> ClientFrame {
    ClientFrame { id, request: Some(Request::Sync(SyncRequest::default())) }
}

fn ping(id: u64) -> ClientFrame {
    ClientFrame { id, request: Some(Request::Ping(Ping {})) }
}

/// Waits until `holds`.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what} took too long"));
}

/// How many hold the session: two tables, the test, and its actor if one is alive.
fn holders(session: &Session) -> usize {
    Arc::strong_count(&session.0)
}

#[tokio::test]
async fn an_idle_session_has_no_actor_and_the_next_frame_starts_one() {
    let node = Node::start().await;
    let session = node.opens().await;
    assert!(session.is_passive(), "nothing was asked of it yet");
    for id in 1..=3 {
        session.receive(sync(id));
        assert!(!session.is_passive());
        until("the frame", || node.handled().len() as u64 == id && session.is_settled()).await;
        node.sweep();
        assert!(session.is_passive());
        until("the actor's end", || holders(&session) == 3).await;
    }
    assert_eq!(node.handled(), [1, 2, 3]);
    assert!(
        !session.outbox().drain(usize::MAX).frames.is_empty(),
        "it is the same session: the welcome waits"
    );
    node.stop().await;
}

#[tokio::test]
async fn who_asks_once_keeps_no_actor_as_long_as_who_talks() {
    let node = Node::start().await;
    let session = node.opens().await;
    let stays = |session: &Session, silent_ms| {
        session.passivate_if_idle(session.vitals().last_active_ms() + silent_ms, 10_000);
        !session.is_passive()
    };
    session.receive(sync(1));
    until("the frame", || session.is_settled()).await;
    assert!(stays(&session, 999));
    assert!(!stays(&session, 1000), "one frame earns a second");
    for id in 2..=30 {
        session.receive(sync(id));
    }
    until("the frames", || session.is_settled()).await;
    assert!(stays(&session, 9_999));
    assert!(!stays(&session, 10_000), "no more than session.idle_timeout");
    node.stop().await;
}

#[tokio::test]
async fn an_actor_with_work_is_not_idle() {
    let node = Node::start().await;
    let session = node.opens().await;
    node.door.send_replace(false);
    session.receive(sync(1));
    session.receive(sync(2));
    node.sweep();
    assert!(!session.is_passive(), "two frames wait");
    node.door.send_replace(true);
    until("the frames", || node.handled() == [1, 2]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_keep_their_order_however_often_the_actor_goes() {
    let node = Node::start().await;
    let session = node.opens().await;
    let over = AtomicBool::new(false);
    let (mut activations, mut frames) = (0_u64, 0_u64);
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                node.sweep();
            }
        });
        while frames < FRAMES || (activations < ACTIVATIONS && began.elapsed() < PATIENCE) {
            frames += 1;
            activations += u64::from(session.is_passive());
            session.receive(sync(frames));
            if frames % 3 == 0 {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    until("all frames", || session.is_settled()).await;
    let handled = node.handled();
    assert_eq!(handled.len() as u64, frames, "none is lost or doubled");
    assert!(handled.is_sorted(), "none overtakes another");
    assert!(activations >= ACTIVATIONS, "the race took place");
    node.stop().await;
}

#[tokio::test]
async fn a_heartbeat_wakes_no_actor() {
    let node = Node::start().await;
    let session = node.opens().await;
    let _ = session.outbox().drain(usize::MAX);
    assert!(session.receive(ping(5)));
    assert!(session.is_passive() && session.is_settled());
    assert_eq!(session.outbox().drain(usize::MAX).frames.len(), 1, "the pong");
    // Behind another frame it waits its turn.
    node.door.send_replace(false);
    session.receive(sync(1));
    session.receive(ping(2));
    assert_eq!(session.outbox().waiting().0, 0);
    node.door.send_replace(true);
    until("both frames", || node.handled() == [1, 2]).await;
    node.stop().await;
}

#[tokio::test]
async fn a_passive_session_that_has_ended_starts_no_actor() {
    let node = Node::start().await;
    let session = node.opens().await;
    session.close();
    session.receive(sync(1));
    assert!(session.is_passive() && session.is_settled());
    assert_eq!(node.actors.counts().0, 0);
    until("its leaving the directory", || node.actors.presence().directory().sessions_of(7).is_empty()).await;
    assert!(node.handled().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_session_whose_connection_is_lost_while_it_opens_does_not_stay() {
    let node = Node::start().await;
    // One look: the shard has been told and has not answered, as there is one thread.
    let mut opening = Box::pin(node.opens());
    assert!((&mut opening).now_or_never().is_none());
    assert_eq!(node.actors.counts().0, 1);
    drop(opening);
    assert_eq!(node.actors.counts().0, 0);
    until("its leaving the directory", || node.actors.presence().directory().sessions_of(7).is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn an_event_for_more_users_than_are_here_reaches_those_who_are() {
    let node = Node::start().await;
    let session = node.opens().await;
    let waiting = || session.outbox().drain(usize::MAX).frames.len();
    assert_eq!(waiting(), 1, "the welcome");
    let event = SharedFrame::new(
        ServerFrame { body: Some(Body::Typing(Typing::default())), ..ServerFrame::default() },
        ConversationKind::Group,
    );
    let (many, others): (Vec<u64>, Vec<u64>) = ((1..1000).collect(), (8..1000).collect());
    let unordered = many.iter().rev().copied().collect();
    for (user_ids, reached) in [(many, 1), (unordered, 1), (others, 0), (vec![7], 1)] {
        node.actors.inner.sessions.deliver(&user_ids, 0, &event);
        assert_eq!(waiting(), reached, "{} users", user_ids.len());
        node.actors.inner.sessions.deliver(&user_ids, session.id(), &event);
        assert_eq!(waiting(), 0, "it is left out");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_was_taken_before_the_end_is_handled() {
    let node = Node::start().await;
    let session = node.opens().await;
    node.door.send_replace(false);
    session.receive(sync(1));
    session.receive(sync(2));
    session.close();
    node.door.send_replace(true);
    until("the frames", || node.handled() == [1, 2]).await;
    until("the actor's end", || holders(&session) == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn a_drain_finds_passive_sessions_settled_and_they_stay_so() {
    let node = Node::start().await;
    let session = node.opens().await;
    assert!(node.actors.ebb_sessions());
    assert!(!session.receive(sync(1)), "it is the next node's");
    assert!(!session.receive(ping(2)));
    assert!(session.is_passive() && node.actors.ebb_sessions());
    assert!(node.handled().is_empty());
    node.stop().await;
}
