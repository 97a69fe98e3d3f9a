//! A link to a peer: its socket, its lanes, and what is known of its other end. A new connection is a new link; nothing
//! of an old one passes over to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lanes::{ACK_AFTER, FLUSH_AFTER, Full, Lane, LaneLimits, Received, Wake};
use super::stream::Socket;
use super::transport::{Lanes, Session};
use super::view::NodeInfo;
use crate::protocol::cluster::{Item, item};
use crate::protocol::codec;

/// A link to a peer.
pub struct Link {
    /// The number that this node gave it: the peer's envelopes carry it.
    pub epoch: u64,
    /// The number that the peer gave it.
    pub peer_epoch: u64,
    /// The peer, as it said in its hello.
    pub peer: Arc<NodeInfo>,
    /// The socket.
    pub socket: Arc<Socket>,
    /// The last heartbeat's round trip, in microseconds; 0: none yet.
    pub rtt_us: AtomicU64,
    /// Live sessions on the peer.
    pub sessions: AtomicU64,
    /// Active rooms on the peer.
    pub rooms: AtomicU64,
    my_incarnation: u64,
    lanes: Vec<Mutex<Lane>>,
    peer_lanes: OnceLock<Box<dyn Lanes>>,
    session: OnceLock<Box<dyn Session>>,
    flush: Notify,
}

impl Link {
    /// A link that is not ready: what is sent waits until [`Link::attach`]. `lanes` counts control.
    pub fn new(
        (epoch, peer_epoch): (u64, u64),
        peer: Arc<NodeInfo>,
        socket: Arc<Socket>,
        my_incarnation: u64,
        lanes: usize,
        limits: LaneLimits,
    ) -> Self {
        Self {
            epoch,
            peer_epoch,
            peer,
            socket,
            rtt_us: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            rooms: AtomicU64::new(0),
            my_incarnation,
            lanes: (0..lanes).map(|_| Mutex::new(Lane::new(limits))).collect(),
            peer_lanes: OnceLock::new(),
            session: OnceLock::new(),
            flush: Notify::new(),
        }
    }

    /// Gives the link the peer's lanes; what waited leaves.
    pub fn attach(&self, lanes: Box<dyn Lanes>) {
        if self.peer_lanes.set(lanes).is_ok() {
            self.pump_all();
            self.flush.notify_one();
        }
    }

    /// Gives the link its session, which is stopped when the link is cut.
    pub fn set_session(&self, session: Box<dyn Session>) {
        // Only the first session of a link is its session.
        let _ = self.session.set(session);
    }

    /// Sends an item when the lane allows it.
    pub fn push(&self, lane: usize, item: item::Item) -> Result<(), Full> {
        let (item, bytes) = sized(item);
        let mut state = self.lanes[lane].lock();
        state.push(item, bytes)?;
        self.pump(lane, &mut state);
        Ok(())
    }

    /// Sends an item even if the lane is full; for what is bounded elsewhere.
    pub fn push_over(&self, lane: usize, item: item::Item) {
        let (item, bytes) = sized(item);
        let mut state = self.lanes[lane].lock();
        state.push_over(item, bytes);
        self.pump(lane, &mut state);
    }

    /// An envelope has come: takes its acknowledgement, and says whether its items are to be taken.
    pub fn on_envelope(&self, lane: usize, seq: u64, acked: u64) -> Received {
        let mut state = self.lanes[lane].lock();
        state.on_acked(acked);
        let received = if seq == 0 { Received::Next } else { state.on_received(seq, Instant::now()) };
        self.pump(lane, &mut state);
        received
    }

    /// Items that wait, over all lanes.
    pub fn queued(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.lock().queued() as u64).sum()
    }

    /// Whether a lane has sent all it was given.
    pub fn is_idle(&self, lane: usize) -> bool {
        self.lanes[lane].lock().queued() == 0
    }

    /// The last heartbeat's round trip.
    pub fn rtt(&self) -> Option<u64> {
        Some(self.rtt_us.load(Ordering::Relaxed)).filter(|rtt| *rtt > 0)
    }

    /// Live sessions and active rooms of the peer.
    pub fn load(&self) -> (u64, u64) {
        (self.sessions.load(Ordering::Relaxed), self.rooms.load(Ordering::Relaxed))
    }

    /// Ends the link at once.
    pub fn cut(&self) {
        self.socket.cut();
        if let Some(session) = self.session.get() {
            session.stop();
        }
    }

    /// Sends what has gathered, and acknowledges what has come, when their time has come. Runs until it is dropped.
    pub async fn keep_flushing(self: Arc<Self>) {
        loop {
            match self.wake() {
                None => self.flush.notified().await,
                Some(Wake::Flush) => tokio::time::sleep(FLUSH_AFTER).await,
                Some(Wake::Ack) => {
                    // Something may gather meanwhile, and then there is less time.
                    let _ = tokio::time::timeout(ACK_AFTER, self.flush.notified()).await;
                }
            }
            self.pump_all();
        }
    }

    fn wake(&self) -> Option<Wake> {
        self.lanes.iter().filter_map(|lane| lane.lock().wake()).min()
    }

    fn pump_all(&self) {
        for (number, lane) in self.lanes.iter().enumerate() {
            self.send(number, &mut lane.lock());
        }
    }

    /// Sends what may be sent, and has the flushing task look after the rest.
    fn pump(&self, number: usize, lane: &mut Lane) {
        self.send(number, lane);
        if lane.wake().is_some() {
            self.flush.notify_one();
        }
    }

    /// Sends while the lane's lock is held, so that envelopes leave in the order of their numbers. Wakes nobody: the
    /// flushing task, which calls it too, would wake itself without end.
    fn send(&self, number: usize, lane: &mut Lane) {
        let Some(lanes) = self.peer_lanes.get() else { return };
        let now = Instant::now();
        while let Some(mut envelope) = lane.next(now) {
            envelope.incarnation = self.my_incarnation;
            envelope.link_epoch = self.peer_epoch;
            lanes.send(number, codec::encode_cluster(&envelope));
        }
    }
}

fn sized(item: item::Item) -> (Item, usize) {
    let item = Item { item: Some(item) };
    let bytes = codec::cluster_len(&item);
    (item, bytes)
}
