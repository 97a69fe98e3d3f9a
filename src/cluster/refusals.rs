//! The refusals that a node has given over one lane of one link, so that none of them is lost with the link.
//!
//! A send that was refused has left the order of its session, and later ones are stored without it. But a refusal can be
//! lost: the link carries in one direction only, and then ends. Its asker asks again, and the send would be stored behind
//! those later ones. So refusals have numbers, each question says which one its asker had heard of last when it was sent,
//! and a send of a session that has a refusal of which its asker had not heard is void: it is refused as well. What a
//! session's sends are stored after is therefore stored already, or heard of as refused, or refused together with them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::address::Address;
use crate::domain::Error;
use crate::protocol::cluster::{Request, request, room_request};

/// Refusals remembered for a lane of a link. A question whose asker has not heard of one that is forgotten is void,
/// whosever it is: a thousand refusals within one way there and back are an overload.
const REMEMBERED_MAX: usize = 1024;

/// What is stored in order: what is sent to a conversation by a session.
type Order = (u64, u64);

/// Whether it is one of those that a session has stored in their order: sends, and changes of what was sent.
fn makes_an_entry(command: &room_request::Command) -> bool {
    use room_request::Command;
    matches!(command, Command::Send(_) | Command::Edit(_) | Command::Recall(_) | Command::React(_))
}

/// Refusals given over a lane of a link.
#[derive(Default)]
pub struct Refusals {
    /// The number of the newest; 0: none yet.
    newest: AtomicU64,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    /// Number and order, from the oldest.
    queue: VecDeque<(u64, Order)>,
    /// The newest of each order.
    by_order: HashMap<Order, u64>,
    /// The newest that is forgotten.
    forgotten: u64,
}

impl Remembered {
    fn add(&mut self, order: Order, number: u64) {
        if self.queue.len() >= REMEMBERED_MAX
            && let Some((number, order)) = self.queue.pop_front()
        {
            self.forgotten = number;
            if self.by_order.get(&order) == Some(&number) {
                self.by_order.remove(&order);
            }
        }
        self.queue.push_back((number, order));
        self.by_order.insert(order, number);
    }
}

impl Refusals {
    fn next(&self, remembered: &mut Remembered, order: Order) -> u64 {
        let number = self.newest.load(Ordering::Relaxed) + 1;
        remembered.add(order, number);
        self.newest.store(number, Ordering::Release);
        number
    }
}

/// A send of another node's session: where its refusal is counted, and what its asker knew.
#[derive(Clone)]
pub struct Standing {
    refusals: Arc<Refusals>,
    order: Order,
    /// The last refusal that the asker had heard of.
    heard: u64,
}

impl Standing {
    /// Of a request that came over the lane with these refusals. None: the order of such requests is not promised.
    pub fn of(to: Address, request: &Request, refusals: &Arc<Refusals>, heard: u64) -> Option<Self> {
        match &request.request {
            Some(request::Request::Room(room))
                if room.session_id > 0 && room.command.as_ref().is_some_and(makes_an_entry) =>
            {
                Some(Self { refusals: refusals.clone(), order: (to.key, room.session_id), heard })
            }
            _ => None,
        }
    }

    /// Whether an earlier send of the session was refused and the asker had not heard of it.
    pub fn is_void(&self) -> bool {
        if self.refusals.newest.load(Ordering::Acquire) <= self.heard {
            return false;
        }
        let remembered = self.refusals.remembered.lock();
        let last = remembered.by_order.get(&self.order).copied().unwrap_or_default();
        last.max(remembered.forgotten) > self.heard
    }

    /// It will be refused: nothing of its session passes from now on, before the refusal itself is given.
    pub fn condemn(&self) {
        self.refusals.next(&mut self.refusals.remembered.lock(), self.order);
    }

    /// Refuses it: `send` says so under a number, and no other refusal is sent meanwhile. `send` takes no lock but those
    /// of lanes.
    pub fn refuse<R>(&self, send: impl FnOnce(u64) -> R) -> R {
        let mut remembered = self.refusals.remembered.lock();
        let number = self.refusals.next(&mut remembered, self.order);
        send(number)
    }
}

/// What a send is told that is void.
pub fn void() -> Error {
    Error::unavailable("an earlier send of this session was refused; try again, with the same client_id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::RoomRequest;
    use crate::protocol::v1::Send;

    fn standing(refusals: &Arc<Refusals>, session_id: u64, heard: u64) -> Standing {
        let command = Some(room_request::Command::Send(Send::default()));
        let room = RoomRequest { session_id, command, ..RoomRequest::default() };
        let request = Request { request: Some(request::Request::Room(room)) };
        Standing::of(Address::room(3), &request, refusals, heard).expect("a send of a session")
    }

    #[test]
    fn what_follows_a_refusal_is_void_until_that_is_heard_of() {
        let refusals = Arc::new(Refusals::default());
        let first = standing(&refusals, 7, 0);
        assert!(!first.is_void());
        assert_eq!(first.refuse(|number| number), 1);
        let second = standing(&refusals, 7, 0);
        assert!(second.is_void() && !standing(&refusals, 8, 0).is_void(), "each session has its own order");
        assert!(!standing(&refusals, 7, 1).is_void(), "its asker has heard of it");
        // The refusal of what was void is one as well.
        assert_eq!(second.refuse(|number| number), 2);
        assert!(standing(&refusals, 7, 1).is_void());
        assert!(!standing(&refusals, 7, 2).is_void());
    }

    #[test]
    fn what_is_condemned_lets_nothing_pass_before_its_refusal_is_heard_of() {
        let refusals = Arc::new(Refusals::default());
        let first = standing(&refusals, 7, 0);
        first.condemn();
        assert!(standing(&refusals, 7, 0).is_void());
        let number = first.refuse(|number| number);
        assert!(standing(&refusals, 7, number - 1).is_void());
        assert!(!standing(&refusals, 7, number).is_void());
    }

    #[test]
    fn what_is_forgotten_makes_void_whosever_it_is() {
        let refusals = Arc::new(Refusals::default());
        for session in 1..=REMEMBERED_MAX as u64 + 1 {
            standing(&refusals, session, 0).refuse(|_| ());
        }
        let remembered = refusals.remembered.lock();
        assert_eq!((remembered.queue.len(), remembered.by_order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        drop(remembered);
        assert!(standing(&refusals, 1, 0).is_void());
        assert!(!standing(&refusals, 1, 1).is_void());
        assert!(standing(&refusals, 9_999, 0).is_void());
        assert!(!standing(&refusals, 9_999, 1).is_void());
    }
}
