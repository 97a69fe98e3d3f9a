//! Sends that have no answer yet: their order per conversation, and when each goes out (again). Pure: no I/O, and the
//! clock is given in milliseconds.
//!
//! One send per conversation is under way at a time: a second one could be stored while the first is refused for now,
//! and the order would be lost. Who needs more throughput in one conversation uses [`super::Connection`].

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use super::error::ClientError;
use crate::protocol::v1::client_frame::Request;
use crate::protocol::v1::server_frame::Body;

/// Sends that may wait; more are refused with `resource_exhausted`.
pub const PENDING_MAX: usize = 10_000;
/// Answered tries of one send, after which its error is final. Lost connections don't count.
const ATTEMPTS_MAX: u32 = 50;
/// First pause before a refused send is repeated, in milliseconds; it doubles.
const PAUSE_MIN_MS: u64 = 50;
/// Longest such pause, in milliseconds.
const PAUSE_MAX_MS: u64 = 3_000;

/// Up to this part of a pause is added to it, by what the send is called.
const JITTER_PART: u64 = 4;

/// What keeps its order among each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Conversation(u64),
    Peer(u64),
}

#[derive(Debug)]
struct Pending {
    lane: Lane,
    request: Request,
    in_flight: bool,
    attempts: u32,
    not_before_ms: u64,
}

/// What an answer came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Outcome {
    /// The send is over; the body is `sent` or, of a send for later, `scheduled`.
    Settled(Request, Result<Body, ClientError>),
    /// It will be repeated.
    Repeats,
    /// An answer to nothing that waits.
    Stray,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Outbox {
    next: u64,
    pending: HashMap<u64, Pending>,
    /// Per lane what waits, in order; a lane without sends is not here.
    lanes: HashMap<Lane, VecDeque<u64>>,
}

impl Outbox {
    /// Queues a send, edit, recall or reaction, and gives its number.
    pub fn push(&mut self, request: Request) -> u64 {
        self.next += 1;
        let lane = lane_of(&request);
        let pending = Pending { lane, request, in_flight: false, attempts: 0, not_before_ms: 0 };
        self.pending.insert(self.next, pending);
        self.lanes.entry(lane).or_default().push_back(self.next);
        self.next
    }

    /// Sends without a final answer.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        self.pending.values().any(|pending| pending.in_flight)
    }

    /// What is to be sent now, `most` at most: the first of each lane, unless it is under way or has to wait.
    pub fn take_due(&mut self, now_ms: u64, most: usize) -> Vec<(u64, Request)> {
        let mut due: Vec<u64> = Vec::new();
        for queue in self.lanes.values() {
            let Some(number) = queue.front() else { continue };
            if let Some(pending) = self.pending.get(number)
                && !pending.in_flight
                && pending.not_before_ms <= now_ms
            {
                due.push(*number);
            }
        }
        // The order of the calls, across conversations too.
        due.sort_unstable();
        due.truncate(most);
        let mut requests = Vec::with_capacity(due.len());
        for number in due {
            if let Some(pending) = self.pending.get_mut(&number) {
                pending.in_flight = true;
                requests.push((number, pending.request.clone()));
            }
        }
        requests
    }

    /// When something that waits for its time may be sent.
    pub fn next_due_ms(&self) -> Option<u64> {
        let fronts = self.lanes.values().filter_map(|queue| self.pending.get(queue.front()?));
        fronts.filter(|pending| !pending.in_flight).map(|pending| pending.not_before_ms).min()
    }

    /// Takes an answer.
    pub fn answered(&mut self, number: u64, result: Result<Body, ClientError>, now_ms: u64) -> Outcome {
        let Some(pending) = self.pending.get_mut(&number) else { return Outcome::Stray };
        let result = match result {
            Ok(body @ (Body::Sent(_) | Body::Scheduled(_))) => Ok(body),
            Ok(other) => Err(super::connection::unexpected("sent", &other)),
            Err(error) => Err(error),
        };
        if let Err(error) = &result
            && error.may_repeat()
            && !matches!(error, ClientError::Protocol(_))
            && pending.attempts + 1 < ATTEMPTS_MAX
        {
            let doubled = PAUSE_MIN_MS << pending.attempts.min(10);
            let pause = doubled.min(PAUSE_MAX_MS).max(error.retry_after_ms());
            // Those who were refused together must not come back together.
            let pause = pause + jitter_ms(&pending.request, pause / JITTER_PART);
            pending.in_flight = false;
            pending.attempts += 1;
            pending.not_before_ms = now_ms + pause;
            return Outcome::Repeats;
        }
        match self.remove(number) {
            Some(pending) => Outcome::Settled(pending.request, result),
            None => Outcome::Stray,
        }
    }

    /// The connection is gone: what was under way will be repeated on the next one, in order.
    pub fn disconnected(&mut self) {
        for pending in self.pending.values_mut() {
            pending.in_flight = false;
            pending.not_before_ms = 0;
        }
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        if let Some(queue) = self.lanes.get_mut(&pending.lane) {
            queue.retain(|other| *other != number);
            if queue.is_empty() {
                self.lanes.remove(&pending.lane);
            }
        }
        Some(pending)
    }
}

/// Up to `most`, the same for each try of a send.
fn jitter_ms(request: &Request, most: u64) -> u64 {
    let client_id = match request {
        Request::Send(send) => send.client_id.as_str(),
        Request::Edit(edit) => edit.client_id.as_str(),
        Request::Recall(recall) => recall.client_id.as_str(),
        Request::React(react) => react.client_id.as_str(),
        _ => "",
    };
    let mut hasher = DefaultHasher::new();
    client_id.hash(&mut hasher);
    hasher.finish() % (most + 1)
}

fn lane_of(request: &Request) -> Lane {
    match request {
        Request::Send(send) if send.conversation_id == 0 => Lane::Peer(send.to_user_id),
        Request::Send(send) => Lane::Conversation(send.conversation_id),
        Request::Edit(edit) => Lane::Conversation(edit.conversation_id),
        Request::Recall(recall) => Lane::Conversation(recall.conversation_id),
        Request::React(react) => Lane::Conversation(react.conversation_id),
        // Nothing else is queued; such requests would share one lane.
        _ => Lane::Conversation(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Error;
    use crate::protocol::v1::Send;

    fn send(conversation_id: u64, client_id: &str) -> Request {
        Request::Send(Send { conversation_id, client_id: client_id.to_owned(), ..Send::default() })
    }

    fn due(outbox: &mut Outbox, now_ms: u64) -> Vec<u64> {
        outbox.take_due(now_ms, usize::MAX).into_iter().map(|(number, _)| number).collect()
    }

    fn sent() -> Result<Body, ClientError> {
        Ok(Body::Sent(crate::protocol::v1::Sent::default()))
    }

    #[test]
    fn a_conversation_has_one_send_under_way_and_others_do_not_wait_for_it() {
        let mut outbox = Outbox::default();
        let (a, b, c) = (outbox.push(send(1, "a")), outbox.push(send(1, "b")), outbox.push(send(2, "c")));
        assert_eq!(due(&mut outbox, 0), [a, c]);
        assert!(due(&mut outbox, 0).is_empty());
        assert!(matches!(outbox.answered(a, sent(), 0), Outcome::Settled(_, Ok(_))));
        assert_eq!(due(&mut outbox, 0), [b]);
    }

    #[test]
    fn a_send_refused_for_now_is_repeated_before_later_ones() {
        let mut outbox = Outbox::default();
        let (a, b) = (outbox.push(send(1, "a")), outbox.push(send(1, "b")));
        assert_eq!(due(&mut outbox, 0), [a]);
        let refusal = Err(ClientError::Refused(Error::unavailable("away")));
        assert!(matches!(outbox.answered(a, refusal, 1000), Outcome::Repeats));
        assert!(due(&mut outbox, 1499).is_empty(), "retry_after_ms is 500");
        let again_ms = outbox.next_due_ms().expect("it waits for its time");
        assert!((1500..=1625).contains(&again_ms), "a quarter is added at most: {again_ms}");
        assert_eq!(due(&mut outbox, again_ms), [a]);
        assert!(matches!(outbox.answered(a, sent(), again_ms), Outcome::Settled(_, Ok(_))));
        assert_eq!(due(&mut outbox, again_ms), [b]);
    }

    #[test]
    fn what_was_refused_together_is_not_repeated_together() {
        let times: std::collections::BTreeSet<u64> = (1..=100)
            .map(|conversation_id| {
                let mut outbox = Outbox::default();
                let a = outbox.push(send(conversation_id, &format!("a{conversation_id}")));
                due(&mut outbox, 0);
                let refusal = Err(ClientError::Refused(Error::unavailable("busy")));
                assert!(matches!(outbox.answered(a, refusal, 0), Outcome::Repeats));
                outbox.next_due_ms().expect("it waits for its time")
            })
            .collect();
        assert!(times.len() > 30, "{times:?}");
    }

    #[test]
    fn a_final_refusal_lets_the_next_one_go() {
        let mut outbox = Outbox::default();
        let (a, b) = (outbox.push(send(1, "a")), outbox.push(send(1, "b")));
        due(&mut outbox, 0);
        let refusal = Err(ClientError::Refused(Error::denied("no")));
        assert!(matches!(outbox.answered(a, refusal, 0), Outcome::Settled(_, Err(_))));
        assert_eq!(due(&mut outbox, 0), [b]);
    }

    #[test]
    fn a_lost_connection_repeats_what_was_under_way() {
        let mut outbox = Outbox::default();
        let (a, b) = (outbox.push(send(1, "a")), outbox.push(send(2, "b")));
        due(&mut outbox, 0);
        outbox.disconnected();
        assert!(!outbox.in_flight());
        assert_eq!(due(&mut outbox, 0), [a, b]);
        assert!(matches!(outbox.answered(99, sent(), 0), Outcome::Stray));
    }
}
