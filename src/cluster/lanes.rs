//! One lane to one peer: gathers items into envelopes, numbers them, and holds them back when the peer is slow. Pure.
//!
//! An item leaves in the link's next turn when nothing is unacknowledged or the last envelope left a while ago, together
//! with what has come by then; else it waits until an envelope is full, the peer acknowledges, or [`FLUSH_AFTER`] has
//! passed. The receiver acknowledges by the next envelope that it sends itself; without one, by an empty envelope after
//! [`ACK_AFTER`] or [`ACK_EVERY`] envelopes. At most [`CREDIT_ENVELOPES`] are unacknowledged, and no more bytes than so
//! many full envelopes hold: casts into `ractor_cluster` are queued without bound, so what a stopped peer can pile up has
//! to be bounded here. What waits for credit is bounded by items and by bytes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::cluster::{Envelope, Item};

/// Envelopes of a lane that may be on their way.
pub const CREDIT_ENVELOPES: u64 = 64;
/// How long items gather at most while earlier ones are unacknowledged and there is credit.
pub const FLUSH_AFTER: Duration = Duration::from_millis(1);
/// How long consumed envelopes go unacknowledged.
pub const ACK_AFTER: Duration = Duration::from_millis(25);
/// Consumed envelopes that are acknowledged at once.
pub const ACK_EVERY: u64 = CREDIT_ENVELOPES / 4;

/// What bounds a lane's envelopes and its queue.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// `cluster.envelope_items`.
    pub envelope_items: usize,
    /// `cluster.envelope_bytes`.
    pub envelope_bytes: usize,
    /// `cluster.lane_queue_items`.
    pub queue_items: usize,
    /// `cluster.lane_queue_bytes`.
    pub queue_bytes: usize,
}

/// The lane has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Whether a received envelope is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The next one.
    Next,
    /// Seen before.
    Stale,
    /// One in between is missing: the link has lost something.
    Gap,
}

/// When the lane wants to be looked at again, without anything arriving or being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// In [`FLUSH_AFTER`]: items gather.
    Flush,
    /// In [`ACK_AFTER`]: consumed envelopes are unacknowledged.
    Ack,
}

impl Wake {
    /// In how long.
    pub fn after(self) -> Duration {
        match self {
            Self::Flush => FLUSH_AFTER,
            Self::Ack => ACK_AFTER,
        }
    }
}

/// The state of one lane of one link, both directions.
#[derive(Debug)]
pub struct Lane {
    limits: LaneLimits,
    queue: VecDeque<(Item, usize)>,
    queue_bytes: usize,
    /// Bytes of each envelope on its way, oldest first.
    unacked: VecDeque<usize>,
    unacked_bytes: usize,
    sent: u64,
    last_sent: Option<Instant>,
    consumed: u64,
    told: u64,
    consumed_at: Option<Instant>,
    /// When it is looked at again as things stand; `None`: not until it asks for it.
    armed: Option<Wake>,
}

impl Lane {
    /// An empty lane.
    pub fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            queue_bytes: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            sent: 0,
            last_sent: None,
            consumed: 0,
            told: 0,
            consumed_at: None,
            armed: None,
        }
    }

    /// Queues an item of `bytes` encoded bytes. An empty lane takes an item of any size.
    pub fn push(&mut self, item: Item, bytes: usize) -> Result<(), Full> {
        if !self.has_room(bytes) {
            return Err(Full);
        }
        self.push_over(item, bytes);
        Ok(())
    }

    /// Queues an item even if the lane is full: for what another bound limits, such as the number of open questions.
    pub fn push_over(&mut self, item: Item, bytes: usize) {
        self.queue.push_back((item, bytes));
        self.queue_bytes += bytes;
    }

    /// Whether [`Lane::push`] would take an item of so many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.limits.queue_items
            && (self.queue.is_empty() || self.queue_bytes + bytes <= self.limits.queue_bytes)
    }

    /// Items that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Envelopes on their way.
    pub fn unacked(&self) -> u64 {
        self.unacked.len() as u64
    }

    /// The peer has consumed all envelopes up to `seq`.
    pub fn on_acked(&mut self, seq: u64) {
        // The oldest on its way has the number `sent - unacked + 1`.
        while self.unacked() > 0 && self.sent - self.unacked() < seq {
            self.unacked_bytes -= self.unacked.pop_front().unwrap_or_default();
        }
    }

    /// An envelope has come. It counts as consumed, as the caller handles it before it handles another.
    pub fn on_received(&mut self, seq: u64, now: Instant) -> Received {
        if seq <= self.consumed {
            return Received::Stale;
        }
        if seq > self.consumed + 1 {
            return Received::Gap;
        }
        self.consumed = seq;
        self.consumed_at.get_or_insert(now);
        Received::Next
    }

    /// The next envelope to send now, if any (its incarnation and link_epoch are the caller's to fill in). Call until
    /// it returns none.
    pub fn next(&mut self, now: Instant) -> Option<Envelope> {
        let (items, bytes) = if self.may_send(now) { self.take_items() } else { (Vec::new(), 0) };
        if items.is_empty() && !self.must_ack(now) {
            return None;
        }
        let mut envelope = Envelope { acked_seq: self.consumed, ..Envelope::default() };
        if !items.is_empty() {
            self.sent += 1;
            self.unacked.push_back(bytes);
            self.unacked_bytes += bytes;
            self.last_sent = Some(now);
            envelope.lane_seq = self.sent;
            envelope.items = items;
        }
        self.told = self.consumed;
        self.consumed_at = None;
        Some(envelope)
    }

    /// Whether an envelope is full, so that waiting for the link's turn would bring it nothing.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.limits.envelope_items || self.queue_bytes >= self.limits.envelope_bytes
    }

    /// Whether it has to be looked at earlier than [`Lane::arm`] said.
    pub fn is_due(&self, now: Instant) -> bool {
        let sooner = match (self.wake(), self.armed) {
            (Some(wake), Some(armed)) => wake < armed,
            (wake, None) => wake.is_some(),
            (None, Some(_)) => false,
        };
        sooner || self.may_send(now) || self.must_ack(now)
    }

    /// When to call [`Lane::next`] again. Who asks does so then.
    pub fn arm(&mut self) -> Option<Wake> {
        self.armed = self.wake();
        self.armed
    }

    fn wake(&self) -> Option<Wake> {
        if !self.queue.is_empty() && self.has_credit() {
            Some(Wake::Flush)
        } else {
            self.consumed_at.map(|_| Wake::Ack)
        }
    }

    fn may_send(&self, now: Instant) -> bool {
        !self.queue.is_empty()
            && self.has_credit()
            && (self.unacked() == 0
                || self.is_full()
                || self.last_sent.is_none_or(|at| now.duration_since(at) >= FLUSH_AFTER))
    }

    fn has_credit(&self) -> bool {
        self.unacked() < CREDIT_ENVELOPES
            && self.unacked_bytes < self.limits.envelope_bytes * CREDIT_ENVELOPES as usize
    }

    fn must_ack(&self, now: Instant) -> bool {
        self.consumed - self.told >= ACK_EVERY
            || self.consumed_at.is_some_and(|at| now.duration_since(at) >= ACK_AFTER)
    }

    fn take_items(&mut self) -> (Vec<Item>, usize) {
        let mut items = Vec::with_capacity(self.queue.len().min(self.limits.envelope_items));
        let mut bytes = 0;
        while let Some((_, size)) = self.queue.front() {
            // A single item may be larger than an envelope should be.
            let full = items.len() >= self.limits.envelope_items || bytes + size > self.limits.envelope_bytes;
            if full && !items.is_empty() {
                break;
            }
            if let Some((item, size)) = self.queue.pop_front() {
                bytes += size;
                items.push(item);
            }
        }
        self.queue_bytes -= bytes;
        (items, bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::cluster::{Heartbeat, item};

    const LIMITS: LaneLimits =
        LaneLimits { envelope_items: 4, envelope_bytes: 100, queue_items: 10, queue_bytes: 1000 };

    fn item(number: u64) -> Item {
        Item { item: Some(item::Item::Heartbeat(Heartbeat { sent_at_us: number, ..Heartbeat::default() })) }
    }

    fn numbers(envelope: &Envelope) -> Vec<u64> {
        let number = |item: &Item| match &item.item {
            Some(item::Item::Heartbeat(beat)) => beat.sent_at_us,
            other => panic!("{other:?} was never pushed"),
        };
        envelope.items.iter().map(number).collect()
    }

    #[test]
    fn an_idle_lane_sends_at_once_and_a_busy_one_gathers() {
        let now = Instant::now();
        let mut lane = Lane::new(LIMITS);
        lane.push(item(1), 10).expect("there is room");
        assert_eq!(
            lane.next(now).map(|envelope| (envelope.lane_seq, numbers(&envelope))),
            Some((1, vec![1]))
        );
        lane.push(item(2), 10).expect("there is room");
        lane.push(item(3), 10).expect("there is room");
        assert_eq!(lane.next(now), None);
        assert_eq!(lane.wake(), Some(Wake::Flush));
        lane.on_acked(1);
        assert_eq!(lane.next(now).map(|envelope| numbers(&envelope)), Some(vec![2, 3]));
        lane.push(item(4), 10).expect("there is room");
        assert_eq!(lane.next(now), None);
        assert_eq!(lane.next(now + FLUSH_AFTER).map(|envelope| numbers(&envelope)), Some(vec![4]));
        assert_eq!(lane.wake(), None);
    }

    #[test]
    fn envelopes_are_bounded_by_items_and_bytes_but_for_one_large_item() {
        let now = Instant::now();
        let mut lane = Lane::new(LIMITS);
        for number in 0..6 {
            lane.push(item(number), 10).expect("there is room");
        }
        lane.push(item(6), 500).expect("there is room");
        lane.push(item(7), 60).expect("there is room");
        lane.push(item(8), 60).expect("there is room");
        let mut seen = Vec::new();
        while let Some(envelope) = lane.next(now) {
            lane.on_acked(envelope.lane_seq);
            seen.push(numbers(&envelope));
        }
        assert_eq!(seen, [vec![0, 1, 2, 3], vec![4, 5], vec![6], vec![7], vec![8]]);
    }

    #[test]
    fn a_full_lane_refuses() {
        let mut lane = Lane::new(LIMITS);
        for number in 0..10 {
            lane.push(item(number), 1).expect("there is room");
        }
        assert_eq!(lane.push(item(10), 1), Err(Full));
        lane.push_over(item(10), 1);
        assert_eq!(lane.queued(), 11);
    }

    #[test]
    fn a_lane_with_too_many_bytes_refuses() {
        let mut lane = Lane::new(LIMITS);
        lane.push(item(0), 5000).expect("an empty lane takes an item of any size");
        assert_eq!(lane.push(item(1), 1), Err(Full));
        lane.next(Instant::now()).expect("it leaves");
        lane.push(item(1), 900).expect("there is room");
        assert_eq!(lane.push(item(2), 101), Err(Full));
        lane.push(item(2), 100).expect("there is room");
        assert_eq!((lane.queued(), lane.queued_bytes()), (2, 1000));
    }

    #[test]
    fn large_items_spend_credit_by_their_bytes() {
        let mut now = Instant::now();
        let mut lane = Lane::new(LaneLimits { queue_bytes: usize::MAX, ..LIMITS });
        let credit_bytes = LIMITS.envelope_bytes * CREDIT_ENVELOPES as usize;
        for number in 0..3 {
            lane.push(item(number), credit_bytes / 2).expect("there is room");
        }
        for _ in 0..2 {
            assert!(lane.next(now).is_some());
            now += FLUSH_AFTER;
        }
        assert_eq!((lane.next(now), lane.wake()), (None, None));
        lane.on_acked(1);
        assert!(lane.next(now).is_some());
        lane.on_acked(9);
        assert_eq!(lane.unacked(), 0, "more than was sent can't be acknowledged");
    }

    #[test]
    fn without_credit_nothing_leaves_but_acknowledgements() {
        let mut now = Instant::now();
        let mut lane = Lane::new(LIMITS);
        for number in 0..CREDIT_ENVELOPES {
            lane.push(item(number), 1).expect("there is room");
            now += FLUSH_AFTER;
            assert!(lane.next(now).is_some());
        }
        lane.push(item(0), 1).expect("there is room");
        now += FLUSH_AFTER;
        assert_eq!(lane.next(now), None);
        assert_eq!(lane.wake(), None);
        assert_eq!(lane.on_received(1, now), Received::Next);
        assert_eq!(lane.wake(), Some(Wake::Ack));
        let ack = lane.next(now + ACK_AFTER).expect("an acknowledgement is due");
        assert_eq!((ack.lane_seq, ack.acked_seq, ack.items.len()), (0, 1, 0));
        lane.on_acked(1);
        assert!(lane.next(now).is_some());
    }

    #[test]
    fn a_lane_asks_to_be_looked_at_only_where_that_is_earlier_than_agreed() {
        let now = Instant::now();
        let mut lane = Lane::new(LIMITS);
        assert!(!lane.is_due(now));
        lane.push(item(1), 10).expect("there is room");
        assert!(lane.is_due(now), "nothing is on its way");
        assert!(lane.next(now).is_some() && lane.arm().is_none());
        lane.push(item(2), 10).expect("there is room");
        assert!(lane.is_due(now), "nobody would look");
        assert_eq!(lane.arm(), Some(Wake::Flush));
        lane.push(item(3), 10).expect("there is room");
        assert!(!lane.is_due(now), "it goes with the one before");
        assert!(lane.is_due(now + FLUSH_AFTER));
        lane.on_acked(1);
        assert!(lane.is_due(now));
        assert!(lane.next(now).is_some() && lane.arm().is_none());
        assert_eq!(lane.on_received(1, now), Received::Next);
        assert!(lane.is_due(now));
        assert_eq!(lane.arm(), Some(Wake::Ack));
        assert_eq!(lane.on_received(2, now), Received::Next);
        assert!(!lane.is_due(now));
        lane.push(item(4), 10).expect("there is room");
        assert!(lane.is_due(now), "it gathers for less time than an acknowledgement waits");
    }

    #[test]
    fn what_comes_twice_or_too_early_is_told_apart() {
        let now = Instant::now();
        let mut lane = Lane::new(LIMITS);
        assert_eq!(lane.on_received(1, now), Received::Next);
        assert_eq!(lane.on_received(1, now), Received::Stale);
        assert_eq!(lane.on_received(3, now), Received::Gap);
        assert_eq!(lane.on_received(2, now), Received::Next);
    }

    proptest! {
        /// Whatever the timing: everything arrives once and in order, credit is never exceeded, and both ends come to
        /// rest.
        #[test]
        fn all_items_arrive_once_and_in_order(
            steps in proptest::collection::vec((0_u8..4, 1_usize..80, 0_u64..3000), 1..300),
        ) {
            let limits = LaneLimits { queue_items: 1000, ..LIMITS };
            let (mut near, mut far) = (Lane::new(limits), Lane::new(limits));
            let mut wire: VecDeque<Envelope> = VecDeque::new();
            let mut back: VecDeque<Envelope> = VecDeque::new();
            let mut now = Instant::now();
            let (mut pushed, mut arrived) = (0, Vec::new());
            let mut step = |what: u8, bytes: usize, wait_us: u64| {
                now += Duration::from_micros(wait_us);
                match what {
                    0 => {
                        near.push(item(pushed), bytes).expect("there is room");
                        pushed += 1;
                    }
                    1 => if let Some(envelope) = wire.pop_front() {
                        near.on_acked(0);
                        if envelope.lane_seq > 0 {
                            assert_eq!(far.on_received(envelope.lane_seq, now), Received::Next);
                        }
                        arrived.extend(numbers(&envelope));
                    },
                    2 => if let Some(envelope) = back.pop_front() {
                        near.on_acked(envelope.acked_seq);
                    },
                    _ => {}
                }
                while let Some(envelope) = near.next(now) {
                    wire.push_back(envelope);
                }
                while let Some(envelope) = far.next(now) {
                    back.push_back(envelope);
                }
                assert!(near.unacked() <= CREDIT_ENVELOPES);
                pushed
            };
            let mut total = 0;
            for (what, bytes, wait_us) in steps {
                total = step(what, bytes, wait_us);
            }
            for _ in 0..2000 {
                step(1, 0, 1000);
                step(2, 0, 1000);
            }
            prop_assert_eq!(arrived, (0..total).collect::<Vec<_>>());
            prop_assert_eq!((near.queued(), near.unacked(), near.wake(), far.wake()), (0, 0, None, None));
        }
    }
}
