//! A link to a peer: its socket, its lanes, and what is known of its other end. A new connection is a new link; nothing
//! of an old one passes over to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::inbox::Inbox;
use super::lanes::{Full, Lane, LaneLimits, Received, Wake};
use super::refusals::Refusals;
use super::stream::Socket;
use super::transport::{Lanes, Session};
use super::view::NodeInfo;
use crate::domain::Error;
use crate::protocol::cluster::{Answer, Heartbeat, Item, answer, item};
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
    /// What the peer has said to the manager.
    pub inbox: Inbox,
    /// The nodes that the peer reaches, by its last word, with the numbers of its links.
    reached: Mutex<Arc<BTreeMap<String, u64>>>,
    /// The peer's heartbeats so far, and for how long, in milliseconds, it had heard nothing at the last one.
    report: Mutex<(u64, u32)>,
    /// When the last heartbeat that was answered (or, before that, the first) was sent, in microseconds of this process.
    answered_us: AtomicU64,
    my_incarnation: u64,
    lanes: Vec<Mutex<Lane>>,
    /// By lane: what the peer was refused, and the last refusal by the peer that was heard of.
    refusals: Vec<(Arc<Refusals>, AtomicU64)>,
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
            inbox: Inbox::default(),
            reached: Mutex::default(),
            report: Mutex::default(),
            answered_us: AtomicU64::new(0),
            my_incarnation,
            lanes: (0..lanes).map(|_| Mutex::new(Lane::new(limits))).collect(),
            refusals: (0..lanes).map(|_| Default::default()).collect(),
            peer_lanes: OnceLock::new(),
            session: OnceLock::new(),
            flush: Notify::new(),
        }
    }

    /// Gives the link the peer's lanes; what waited leaves.
    pub fn attach(&self, lanes: Box<dyn Lanes>) {
        if self.peer_lanes.set(lanes).is_ok() {
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

    /// Sends an answer, or if too much waits in the lane, `unavailable` in its place, which is small; so many of those
    /// are bounded by the questions that the asker may have open. False: it was replaced.
    pub fn push_answer(&self, lane: usize, answer: Answer) -> bool {
        let Answer { ask_id, attempt, refusal, .. } = answer;
        let (item, bytes) = sized(item::Item::Answer(answer));
        let mut state = self.lanes[lane].lock();
        let has_room = state.has_room(bytes);
        if has_room {
            state.push_over(item, bytes);
        } else {
            let error =
                Error::unavailable("too much waits to be answered to the asking node; try again in a moment");
            let result = Some(answer::Result::Error(error.into()));
            let (item, bytes) = sized(item::Item::Answer(Answer { ask_id, attempt, refusal, result }));
            state.push_over(item, bytes);
        }
        self.pump(lane, &mut state);
        has_room
    }

    /// What the peer was refused on the lane.
    pub fn refusals(&self, lane: usize) -> &Arc<Refusals> {
        &self.refusals[lane].0
    }

    /// The last refusal by the peer that this node has heard of on the lane.
    pub fn heard(&self, lane: usize) -> u64 {
        self.refusals[lane].1.load(Ordering::Relaxed)
    }

    /// The peer has refused. Said while the questions of the lane are locked, as they say what was heard.
    pub fn hear(&self, lane: usize, refusal: u64) {
        self.refusals[lane].1.fetch_max(refusal, Ordering::Relaxed);
    }

    /// A heartbeat was sent at that time of this process, in microseconds.
    pub fn note_asked(&self, sent_at_us: u64) {
        // Only the first counts from its sending.
        let _ = self.answered_us.compare_exchange(0, sent_at_us, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A heartbeat of the peer has come, or its answer to one of ours.
    pub fn on_heartbeat(&self, beat: &Heartbeat, now_us: u64) {
        self.sessions.store(beat.sessions, Ordering::Relaxed);
        self.rooms.store(beat.rooms, Ordering::Relaxed);
        if beat.echo_us > 0 {
            let rtt = now_us.saturating_sub(beat.echo_us);
            self.rtt_us.store(rtt.max(1), Ordering::Relaxed);
            self.answered_us.fetch_max(beat.echo_us, Ordering::Relaxed);
        }
        let mut report = self.report.lock();
        *report = (report.0 + 1, beat.silent_ms);
    }

    /// The peer's heartbeats so far, and for how long it had heard nothing at the last one.
    pub fn report(&self) -> (u64, Duration) {
        let (count, silent_ms) = *self.report.lock();
        (count, Duration::from_millis(silent_ms.into()))
    }

    /// How old the last heartbeat is that was answered. Of a link that keeps up it is an interval and a round trip.
    pub fn unanswered_for(&self, now_us: u64) -> Duration {
        match self.answered_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            answered_us => Duration::from_micros(now_us.saturating_sub(answered_us)),
        }
    }

    /// The peer says which nodes it reaches.
    pub fn set_reached(&self, reached: BTreeMap<String, u64>) {
        let mut said = self.reached.lock();
        // What stays the same is seen to do so at once.
        if **said != reached {
            *said = Arc::new(reached);
        }
    }

    /// The nodes that the peer reaches, with the numbers of its links to them.
    pub fn reached(&self) -> Arc<BTreeMap<String, u64>> {
        self.reached.lock().clone()
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

    /// Bytes that wait, over all lanes.
    pub fn queued_bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.lock().queued_bytes() as u64).sum()
    }

    /// Sends what may be sent on a lane; whether that was all it was given.
    pub fn send_all(&self, lane: usize) -> bool {
        let mut state = self.lanes[lane].lock();
        self.send(lane, &mut state);
        state.queued() == 0
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
            match self.pump_all() {
                None => self.flush.notified().await,
                Some(wake) => {
                    // Something may be due earlier: then this is told.
                    let _ = tokio::time::timeout(wake.after(), self.flush.notified()).await;
                }
            }
        }
    }

    /// Sends what may be sent, and says when to look again.
    fn pump_all(&self) -> Option<Wake> {
        let pump = |(number, lane): (usize, &Mutex<Lane>)| {
            let mut lane = lane.lock();
            self.send(number, &mut lane);
            lane.arm()
        };
        self.lanes.iter().enumerate().filter_map(pump).min()
    }

    /// Sends what fills an envelope. The rest is the flushing task's, whose turn comes behind whatever is ready now: what
    /// that has to send goes together.
    fn pump(&self, number: usize, lane: &mut Lane) {
        let now = Instant::now();
        if lane.is_full() {
            self.send(number, lane);
        }
        if lane.is_due(now) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::network::{Connection, Cut};
    use crate::cluster::stream::LinkStream;
    use crate::cluster::transport::Lanes;
    use crate::protocol::cluster::Envelope;

    struct NoCut;

    impl Cut for NoCut {
        fn cut(&self) {}
    }

    /// What the peer was sent.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<Envelope>>>);

    impl Lanes for Sent {
        fn send(&self, _: usize, envelope: Vec<u8>) {
            self.0.lock().push(codec::decode_cluster(&envelope).expect("it was encoded"));
        }
    }

    fn link() -> Link {
        let connection =
            Connection::new(Box::new(tokio::io::empty()), Box::new(tokio::io::sink()), Arc::new(NoCut));
        let socket = LinkStream::new(1, connection, Duration::from_secs(1)).socket();
        let limits =
            LaneLimits { envelope_items: 64, envelope_bytes: 4000, queue_items: 100, queue_bytes: 1000 };
        Link::new((1, 1), Arc::default(), socket, 1, 1, limits)
    }

    fn answer(ask_id: u64, bytes: usize) -> Answer {
        let error = Error::internal("x".repeat(bytes));
        Answer { ask_id, result: Some(answer::Result::Error(error.into())), attempt: 1, refusal: ask_id }
    }

    #[tokio::test]
    async fn an_answer_that_finds_no_room_becomes_a_small_one_that_says_so() {
        let (link, sent) = (link(), Sent::default());
        assert!(link.push_answer(0, answer(1, 900)));
        assert!(!link.push_answer(0, answer(2, 900)));
        assert!(link.queued_bytes() < 1200, "{}", link.queued_bytes());
        link.attach(Box::new(sent.clone()));
        link.pump_all();
        let sent = sent.0.lock();
        let answers: Vec<Answer> = sent
            .iter()
            .flat_map(|envelope| envelope.items.clone())
            .filter_map(|item| match item.item {
                Some(item::Item::Answer(answer)) => Some(answer),
                _ => None,
            })
            .collect();
        assert_eq!(answers.iter().map(|answer| answer.ask_id).collect::<Vec<_>>(), [1, 2]);
        let Some(answer::Result::Error(error)) = &answers[1].result else { panic!("{answers:?}") };
        let error = Error::from(error.clone());
        assert_eq!(error.code, crate::protocol::ErrorCode::Unavailable);
        assert!(error.retry_after_ms > 0);
        assert_eq!((answers[1].attempt, answers[1].refusal), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pushed_in_one_turn_leaves_together_and_what_fills_an_envelope_at_once() {
        let (link, sent) = (Arc::new(link()), Sent::default());
        link.attach(Box::new(sent.clone()));
        let flusher = tokio::spawn(Arc::clone(&link).keep_flushing());
        let (sizes, push) = (
            || sent.0.lock().iter().map(|envelope| envelope.items.len()).collect::<Vec<_>>(),
            || link.push_over(0, item::Item::Answer(answer(1, 1))),
        );
        (0..3).for_each(|_| push());
        assert!(sizes().is_empty(), "their turn has not come");
        tokio::task::yield_now().await;
        assert_eq!(sizes(), [3]);
        (0..64).for_each(|_| push());
        assert_eq!(sizes(), [3, 64], "no more would go with it");
        push();
        tokio::task::yield_now().await;
        assert_eq!(sizes(), [3, 64], "nothing is acknowledged yet");
        // A timer's grain is as long.
        tokio::time::sleep(2 * Wake::Flush.after()).await;
        assert_eq!(sizes(), [3, 64, 1]);
        flusher.abort();
    }

    #[tokio::test]
    async fn what_the_peer_hears_and_answers_is_remembered() {
        let link = link();
        assert_eq!(link.unanswered_for(5_000_000), Duration::ZERO, "nothing was asked");
        link.note_asked(1_000_000);
        link.note_asked(2_000_000);
        assert_eq!(link.unanswered_for(5_000_000), Duration::from_secs(4));
        link.on_heartbeat(&Heartbeat { echo_us: 2_000_000, ..Heartbeat::default() }, 2_300_000);
        assert_eq!((link.rtt(), link.report()), (Some(300_000), (1, Duration::ZERO)));
        assert_eq!(link.unanswered_for(5_000_000), Duration::from_secs(3));
        link.on_heartbeat(
            &Heartbeat { silent_ms: 700, sessions: 3, rooms: 4, ..Heartbeat::default() },
            2_400_000,
        );
        assert_eq!(link.report(), (2, Duration::from_millis(700)));
        assert_eq!(link.load(), (3, 4));
    }
}
