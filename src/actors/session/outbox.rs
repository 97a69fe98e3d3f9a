//! What waits to be written to one socket: bounded, in order, filled from any thread without passing the Session
//! actor's mailbox.
//!
//! Order: on one connection `sent` and pushed messages of a conversation go out in seq order. They come by different
//! ways (an answer straight from the room, a push by way of the presence shard), so a later one may arrive first. The
//! outbox holds it back until what is before it has come, or for `session.order_wait`; a push that comes later than that
//! is dropped, and the client fetches the gap. An answer can't be dropped, so what may belong behind one is held until it
//! has come; and so is a message of the user's own, which may be the very one that the answer stands for (a room's new
//! owner pushes young messages again and doesn't know whose session sent them).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// A frame as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutFrame {
    /// Encoded in the session's format. For lines: without the line's end.
    pub bytes: Bytes,
    /// For a message: its conversation and seq.
    pub message: Option<(u64, u64)>,
}

/// What a drain yields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// In order.
    pub frames: Vec<OutFrame>,
    /// After the frames, close with this WebSocket close code and reason.
    pub close: Option<(u16, String)>,
    /// More waits: drain again.
    pub more: bool,
}

/// Bounds of an outbox, from `cluster.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Unsent frames.
    pub frames: usize,
    /// Unsent bytes.
    pub bytes: usize,
    /// Conversations whose order is remembered.
    pub conversations: usize,
}

/// How soon the transport is to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Others may come first: something was pushed.
    InTurn,
    /// Somebody waits: an answer, or the end.
    AtOnce,
}

/// Close code for a client that reads too slowly.
pub const TOO_SLOW: u16 = 4429;

/// Waits of `session.order_wait` after which answers to this connection's own sends are given up on: with the defaults
/// 6 s, beyond `cluster.ask_timeout`, when each has come.
const ANSWER_WAITS: u32 = 60;

/// What has a place in the order of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The answer to this connection's own send, which stands for its message.
    Answer,
    /// A message of the same user, by another session or, pushed again, by this one.
    Own,
    /// A message of somebody else.
    Other,
}

/// What came too early.
#[derive(Debug)]
struct Held {
    frame: OutFrame,
    origin: Origin,
    /// Sends of this connection that had begun by then: later ones get higher seqs.
    begun: u64,
}

/// The order of one conversation on this connection.
#[derive(Debug, Default)]
struct Order {
    /// The newest seq that went out; 0: none yet.
    out_seq: u64,
    /// Sends of this connection, and the answers to them. The room answers in the order of the sends.
    begun: u64,
    answered: u64,
    held: BTreeMap<u64, Held>,
    /// Waits since something is held.
    waits: u32,
}

impl Order {
    fn is_plain(&self) -> bool {
        self.all_answered() && self.held.is_empty()
    }

    fn all_answered(&self) -> bool {
        self.answered >= self.begun
    }

    /// Takes the first of what is held, if it is let go.
    fn take_first_if(&mut self, let_go: impl FnOnce(&Self, u64, &Held) -> bool) -> Option<OutFrame> {
        let (&seq, held) = self.held.first_key_value()?;
        if !let_go(self, seq, held) {
            return None;
        }
        let (seq, held) = self.held.pop_first()?;
        self.out_seq = self.out_seq.max(seq);
        Some(held.frame)
    }
}

/// The decisions, without threads.
#[derive(Debug)]
struct State {
    queue: VecDeque<OutFrame>,
    queued_bytes: usize,
    orders: BTreeMap<u64, Order>,
    close: Option<(u16, String)>,
    /// How the transport was woken, if it has not drained since.
    woken: Option<Wake>,
    /// A release is due: what is held now waits at most so long.
    release_armed: bool,
    bounds: Bounds,
}

/// What the caller has to do after filling the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Todo {
    wake: Option<Wake>,
    /// Something is held back: release it after `session.order_wait`.
    release_later: bool,
}

impl State {
    /// Queues a frame. An empty one is nothing to write: the answer to a send that wanted none.
    fn push(&mut self, frame: OutFrame) {
        if self.close.is_some() || frame.bytes.is_empty() {
            return;
        }
        self.queued_bytes += frame.bytes.len();
        self.queue.push_back(frame);
        if self.queue.len() > self.bounds.frames || self.queued_bytes > self.bounds.bytes {
            self.close(TOO_SLOW, "you read too slowly; reconnect and sync");
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.close.is_some() {
            return;
        }
        if code == TOO_SLOW {
            // Nobody reads it, and it is in the log; the memory is wanted.
            self.queue = VecDeque::new();
            self.queued_bytes = 0;
        } else {
            // Among what is held for its turn may be the answer to a send, which its sender waits for.
            for order in self.orders.values_mut() {
                while let Some(frame) = order.take_first_if(|_, _, _| true) {
                    self.queued_bytes += frame.bytes.len();
                    self.queue.push_back(frame);
                }
            }
        }
        self.orders = BTreeMap::new();
        self.close = Some((code, reason.to_owned()));
    }

    fn order(&mut self, conversation_id: u64) -> &mut Order {
        if self.orders.len() >= self.bounds.conversations && !self.orders.contains_key(&conversation_id) {
            // Forgetting a quiet conversation's order costs at most a message that the client has already.
            self.orders.retain(|_, order| !order.is_plain());
        }
        self.orders.entry(conversation_id).or_default()
    }

    /// A pushed message, or the answer to this connection's own send, which stands for its message.
    fn put(&mut self, conversation_id: u64, seq: u64, frame: OutFrame, origin: Origin) -> bool {
        if self.close.is_some() {
            return false;
        }
        let is_answer = origin == Origin::Answer;
        let order = self.order(conversation_id);
        if is_answer {
            order.answered += 1;
        }
        if seq <= order.out_seq {
            // A push that the client has seen; or an answer that came later than its wait.
            if is_answer {
                self.push(frame);
                self.flush(conversation_id);
            }
            return false;
        }
        if order.out_seq > 0
            && seq == order.out_seq + 1
            && order.held.is_empty()
            && (origin != Origin::Own || order.all_answered())
        {
            // Nearly always: nothing is before it, and nothing waits for it.
            order.out_seq = seq;
            order.waits = 0;
            self.push(frame);
            return false;
        }
        let is_next = if order.out_seq == 0 {
            // The first of this connection: nothing to compare with but its own unanswered sends.
            order.is_plain() || is_answer
        } else {
            seq == order.out_seq + 1
        };
        // An answer takes the place of its message; a second push of one that is held changes nothing.
        if is_answer || !order.held.contains_key(&seq) {
            let begun = order.begun;
            order.held.insert(seq, Held { frame, origin, begun });
        }
        if is_next && order.out_seq == 0 {
            // Whatever is below goes first, then this.
            order.out_seq = order.held.keys().next().copied().unwrap_or(seq) - 1;
        }
        self.flush(conversation_id);
        self.orders.get(&conversation_id).is_some_and(|order| !order.held.is_empty())
    }

    /// An answer without a place in the order: an error, or a repeat's first result.
    fn put_unordered(&mut self, conversation_id: u64, frame: OutFrame) {
        let order = self.order(conversation_id);
        order.answered += 1;
        self.push(frame);
        self.flush(conversation_id);
    }

    /// Sends out what is held and whose turn has come.
    fn flush(&mut self, conversation_id: u64) {
        let Some(order) = self.orders.get_mut(&conversation_id) else { return };
        let mut ready = Vec::new();
        if order.out_seq == 0 && order.all_answered() {
            // Nothing unanswered is left that could have to go first.
            order.out_seq = order.held.keys().next().map_or(0, |first| first - 1);
        }
        if order.out_seq > 0 || order.held.contains_key(&1) {
            let is_due = |order: &Order, seq: u64, held: &Held| {
                seq == order.out_seq + 1 && (held.origin != Origin::Own || order.answered >= held.begun)
            };
            while let Some(frame) = order.take_first_if(is_due) {
                ready.push(frame);
            }
        }
        if order.held.is_empty() {
            order.waits = 0;
        }
        for frame in ready {
            self.push(frame);
        }
    }

    /// A wait is over: what is held goes out, in order, but for what may belong behind an answer that is still to come.
    /// Says whether something is held still.
    fn release(&mut self) -> bool {
        let mut ready = Vec::new();
        self.release_armed = false;
        for order in self.orders.values_mut().filter(|order| !order.held.is_empty()) {
            order.waits += 1;
            let given_up = order.waits >= ANSWER_WAITS;
            while let Some(frame) =
                order.take_first_if(|order, _, held| given_up || order.answered >= held.begun)
            {
                ready.push(frame);
            }
            if order.held.is_empty() {
                order.waits = 0;
            }
            self.release_armed |= !order.held.is_empty();
        }
        for frame in ready {
            self.push(frame);
        }
        self.release_armed
    }

    fn drain(&mut self, max_bytes: usize) -> Drained {
        let mut drained = Drained::default();
        let mut bytes = 0;
        while let Some(frame) = self.queue.front() {
            if bytes > 0 && bytes + frame.bytes.len() > max_bytes {
                break;
            }
            bytes += frame.bytes.len();
            drained.frames.extend(self.queue.pop_front());
        }
        self.queued_bytes -= bytes;
        drained.more = !self.queue.is_empty();
        if !drained.more {
            drained.close = self.close.clone();
        }
        self.woken = drained.more.then_some(Wake::AtOnce);
        drained
    }

    fn todo(&mut self, wake: Wake, release_later: bool) -> Todo {
        let is_due = !self.queue.is_empty() || self.close.is_some();
        let wake = Some(wake).filter(|wake| is_due && self.woken.is_none_or(|woken| woken < *wake));
        self.woken = wake.or(self.woken);
        let release_later = release_later && !std::mem::replace(&mut self.release_armed, release_later);
        Todo { wake, release_later }
    }
}

/// The outbox of one session.
pub struct Outbox {
    state: Arc<Mutex<State>>,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
    order_wait: std::time::Duration,
    runtime: tokio::runtime::Handle,
}

impl Outbox {
    /// An empty outbox that calls `wake` when it has something, once until the next drain, or twice where the second can't
    /// wait.
    pub fn new(
        bounds: Bounds,
        order_wait: std::time::Duration,
        wake: Box<dyn Fn(Wake) + Send + Sync>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            orders: BTreeMap::new(),
            close: None,
            woken: None,
            release_armed: false,
            bounds,
        };
        Self { state: Arc::new(Mutex::new(state)), wake: wake.into(), order_wait, runtime }
    }

    /// Takes frames of about `max_bytes` together, at least one if any waits. Where the answer says `more`, drain
    /// again: no other wake comes before.
    pub fn drain(&self, max_bytes: usize) -> Drained {
        self.state.lock().drain(max_bytes)
    }

    /// Queues a frame that has no order and that somebody waits for.
    pub fn push(&self, bytes: Bytes) {
        self.push_frame(Wake::AtOnce, bytes, None);
    }

    /// Queues an event that has no order.
    pub fn event(&self, bytes: Bytes) {
        self.push_frame(Wake::InTurn, bytes, None);
    }

    fn push_frame(&self, wake: Wake, bytes: Bytes, message: Option<(u64, u64)>) {
        self.fill(wake, |state| {
            state.push(OutFrame { bytes, message });
            false
        });
    }

    /// A send of this connection to a conversation begins: its answer will come by [`Outbox::sent`] or
    /// [`Outbox::unsent`].
    pub fn expect_answer(&self, conversation_id: u64) {
        self.fill(Wake::AtOnce, |state| {
            state.order(conversation_id).begun += 1;
            false
        });
    }

    /// The answer to a send that stored a new message.
    pub fn sent(&self, conversation_id: u64, seq: u64, bytes: Bytes) {
        self.fill(Wake::AtOnce, |state| {
            state.put(conversation_id, seq, OutFrame { bytes, message: None }, Origin::Answer)
        });
    }

    /// The answer to a send that stored nothing new.
    pub fn unsent(&self, conversation_id: u64, bytes: Bytes) {
        self.fill(Wake::AtOnce, |state| {
            state.put_unordered(conversation_id, OutFrame { bytes, message: None });
            false
        });
    }

    /// A message of somebody else, or (`own`) of the same user, by another session or pushed again.
    pub fn message(&self, conversation_id: u64, seq: u64, own: bool, bytes: Bytes) {
        let frame = OutFrame { bytes, message: Some((conversation_id, seq)) };
        let origin = if own { Origin::Own } else { Origin::Other };
        self.fill(Wake::InTurn, |state| state.put(conversation_id, seq, frame, origin));
    }

    /// A message for a line connection, as it comes: lines are marked as given one by one.
    pub fn line(&self, conversation_id: u64, seq: u64, bytes: Bytes) {
        self.push_frame(Wake::InTurn, bytes, Some((conversation_id, seq)));
    }

    /// Closes the connection after what is queued, with a WebSocket close code.
    pub fn close(&self, code: u16, reason: &str) {
        self.fill(Wake::AtOnce, |state| {
            state.close(code, reason);
            false
        });
    }

    /// Wakes the transport although nothing may wait: it may read again.
    pub fn nudge(&self) {
        (self.wake)(Wake::AtOnce);
    }

    /// Why the connection is to be closed, if it is.
    pub fn closed(&self) -> Option<u16> {
        self.state.lock().close.as_ref().map(|(code, _)| *code)
    }

    /// Frames and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.queue.len(), state.queued_bytes)
    }

    /// Sends of this connection that are not answered yet.
    pub fn open_answers(&self) -> u64 {
        let state = self.state.lock();
        state.orders.values().map(|order| order.begun.saturating_sub(order.answered)).sum()
    }

    fn fill(&self, wake: Wake, fill: impl FnOnce(&mut State) -> bool) {
        let todo = {
            let mut state = self.state.lock();
            let release_later = fill(&mut state);
            state.todo(wake, release_later)
        };
        if let Some(how) = todo.wake {
            (self.wake)(how);
        }
        if todo.release_later {
            let (state, wake, wait) = (Arc::clone(&self.state), Arc::clone(&self.wake), self.order_wait);
            self.runtime.spawn(async move {
                let mut waiting = true;
                while waiting {
                    tokio::time::sleep(wait).await;
                    let todo = {
                        let mut state = state.lock();
                        waiting = state.release();
                        state.todo(Wake::AtOnce, false)
                    };
                    if let Some(how) = todo.wake {
                        wake(how);
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            orders: BTreeMap::new(),
            close: None,
            woken: None,
            release_armed: false,
            bounds: Bounds { frames: 100, bytes: 10_000, conversations: 4 },
        }
    }

    fn frame(seq: u64) -> OutFrame {
        OutFrame { bytes: Bytes::from(seq.to_string()), message: Some((1, seq)) }
    }

    fn seqs(state: &mut State) -> Vec<u64> {
        let drained = state.drain(usize::MAX);
        drained.frames.iter().filter_map(|frame| frame.message.map(|(_, seq)| seq)).collect()
    }

    #[test]
    fn a_push_waits_for_the_one_before_it() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        assert!(state.put(1, 7, frame(7), Origin::Other), "7 is held");
        state.put(1, 6, frame(6), Origin::Other);
        assert_eq!(seqs(&mut state), [5, 6, 7]);
    }

    #[test]
    fn a_push_waits_for_the_answer_to_an_earlier_send() {
        let mut state = state();
        state.order(1).begun += 1;
        assert!(state.put(1, 6, frame(6), Origin::Other), "the answer may stand for 5");
        state.put(1, 5, frame(5), Origin::Answer);
        assert_eq!(seqs(&mut state), [5, 6]);
    }

    #[test]
    fn what_a_lost_one_holds_up_is_released_and_the_late_one_dropped() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        state.put(1, 7, frame(7), Origin::Other);
        state.release();
        state.put(1, 6, frame(6), Origin::Other);
        state.put(1, 8, frame(8), Origin::Other);
        assert_eq!(seqs(&mut state), [5, 7, 8]);
    }

    #[test]
    fn what_is_held_goes_out_before_the_close() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        state.order(1).begun += 1;
        assert!(state.put(1, 7, frame(7), Origin::Answer), "6 is on its way");
        state.close(1001, "the node is leaving");
        assert_eq!(seqs(&mut state), [5, 7]);
    }

    #[test]
    fn what_may_belong_behind_a_late_answer_waits_for_it() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        state.order(1).begun += 1;
        state.put(1, 7, frame(7), Origin::Other);
        assert!(state.release(), "6 may be the send's");
        assert_eq!(seqs(&mut state), [5]);
        state.put(1, 6, frame(6), Origin::Answer);
        assert_eq!(seqs(&mut state), [6, 7]);
        // What began after a push can't belong before it.
        state.put(1, 9, frame(9), Origin::Other);
        state.order(1).begun += 1;
        assert!(!state.release());
        assert_eq!(seqs(&mut state), [9]);
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up_on() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        state.order(1).begun += 1;
        state.put(1, 7, frame(7), Origin::Other);
        let waits = (1..=ANSWER_WAITS).take_while(|_| state.release()).count();
        assert_eq!(waits + 1, ANSWER_WAITS as usize);
        assert_eq!(seqs(&mut state), [5, 7]);
    }

    #[test]
    fn the_answer_to_a_send_takes_the_place_of_its_message() {
        let mut state = state();
        state.put(1, 5, frame(5), Origin::Other);
        state.order(1).begun += 1;
        assert!(state.put(1, 6, frame(6), Origin::Own), "it may be the send's");
        state.put(1, 7, frame(7), Origin::Other);
        let answer = OutFrame { bytes: Bytes::from_static(b"answer"), message: None };
        state.put(1, 6, answer.clone(), Origin::Answer);
        state.put(1, 6, frame(6), Origin::Own);
        assert_eq!(state.drain(usize::MAX).frames, [frame(5), answer, frame(7)]);
        // With nothing unanswered it is another session's.
        state.put(1, 8, frame(8), Origin::Own);
        assert_eq!(seqs(&mut state), [8]);
    }

    #[test]
    fn a_reader_too_slow_is_closed_and_its_memory_given_back() {
        let mut state = state();
        for seq in 1..200 {
            state.put(1, seq, frame(seq), Origin::Other);
        }
        let drained = state.drain(usize::MAX);
        assert!(drained.frames.is_empty());
        assert_eq!(drained.close.map(|(code, _)| code), Some(TOO_SLOW));
    }

    #[test]
    fn it_wakes_once_until_it_is_drained() {
        let mut state = state();
        let wakes = |state: &mut State, wake| state.todo(wake, false).wake == Some(wake);
        state.push(frame(1));
        assert!(wakes(&mut state, Wake::InTurn));
        state.push(frame(2));
        assert!(!wakes(&mut state, Wake::InTurn));
        let first = state.drain(1);
        assert!(first.more && !wakes(&mut state, Wake::AtOnce), "the transport drains on by itself");
        assert!(!state.drain(1).more);
        assert!(!wakes(&mut state, Wake::AtOnce), "there is nothing to write");
        state.push(frame(3));
        assert!(wakes(&mut state, Wake::AtOnce));
    }

    #[test]
    fn what_cannot_wait_does_not_wait_behind_what_can() {
        let mut state = state();
        state.push(frame(1));
        assert_eq!(state.todo(Wake::InTurn, false).wake, Some(Wake::InTurn));
        state.push(frame(2));
        assert_eq!(state.todo(Wake::AtOnce, false).wake, Some(Wake::AtOnce));
        state.push(frame(3));
        assert_eq!(state.todo(Wake::InTurn, false).wake, None);
        assert_eq!(state.todo(Wake::AtOnce, false).wake, None);
    }

    proptest! {
        #[test]
        fn any_arrival_order_goes_out_in_seq_order_without_doubles(
            arrivals in prop::collection::vec((1u64..20, any::<bool>()), 0..60),
            releases in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut state = state();
            let mut out = Vec::new();
            for ((seq, begin_send), release) in arrivals.into_iter().zip(releases) {
                if begin_send {
                    state.order(1).begun += 1;
                    state.put(1, seq + 20, frame(seq + 20), Origin::Other);
                    state.put_unordered(1, OutFrame { bytes: Bytes::new(), message: None });
                }
                state.put(1, seq, frame(seq), Origin::Other);
                if release {
                    state.release();
                }
                out.extend(seqs(&mut state));
            }
            state.release();
            out.extend(seqs(&mut state));
            prop_assert!(out.is_sorted_by(|a, b| a < b), "{out:?}");
        }
    }
}
