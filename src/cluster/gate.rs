//! Keeps the order of what reaches this node's own actors while questions come home.
//!
//! When a view makes this node the owner of addresses whose questions are still open elsewhere, those questions are
//! delivered here. A newer question for the same address, asked at the same moment, must not overtake them. So the
//! gate closes before such a view is published, and what comes meanwhile queues behind; then the queue is delivered in
//! order, without a lock held, until it is empty and the gate opens. Closed moments are rare and take microseconds:
//! open, the gate costs one atomic load.
//!
//! A thread may stand still between the look at the view by which it chose a way, and the step by which a question takes
//! it, while views come and go. So the way is chosen for a [`Turn`], which the next view ends, and whoever takes the
//! question in (the registry of actors, the shard of open questions) looks at it under the lock that decides the order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// The time from one view to the next. What was decided in a turn that is over has to be decided anew.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The count of closings, and what it was. None: whoever delivers is the one by whom turns end.
    closings: Option<(&'a AtomicU64, u64)>,
    home: bool,
}

impl Turn<'_> {
    /// A turn that does not end.
    pub fn endless() -> Self {
        Self { closings: None, home: false }
    }

    /// The same, of a question that was open to another node and has come home.
    pub fn homeward() -> Self {
        Self { closings: None, home: true }
    }

    /// Whether there may be another view.
    pub fn is_over(&self) -> bool {
        self.closings.is_some_and(|(closings, was)| closings.load(Ordering::Acquire) != was)
    }

    /// Whether the question was open to another node: it is older than whatever this node took meanwhile.
    pub fn is_homeward(&self) -> bool {
        self.home
    }
}

/// A gate for deliveries of one kind. Only one task may close and drain it.
pub struct Gate<T> {
    closed: AtomicBool,
    /// How often it has been closed.
    closings: AtomicU64,
    queue: Mutex<VecDeque<T>>,
    limit: usize,
}

impl<T> Gate<T> {
    /// An open gate that queues at most `limit` deliveries while it is closed.
    pub fn new(limit: usize) -> Self {
        Self {
            closed: AtomicBool::new(false),
            closings: AtomicU64::new(0),
            queue: Mutex::new(VecDeque::new()),
            limit,
        }
    }

    /// The turn that begins no later than now.
    pub fn turn(&self) -> Turn<'_> {
        let was = self.closings.load(Ordering::Acquire);
        Turn { closings: Some((&self.closings, was)), home: false }
    }

    /// Whether deliveries queue. True as long as one that the caller made before waits here.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Passes a delivery that is to be made now, or keeps it. `Err` gives it back because too much waits.
    pub fn pass(&self, delivery: T) -> Result<Option<T>, T> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(Some(delivery));
        }
        let mut queue = self.queue.lock();
        if !self.closed.load(Ordering::Acquire) {
            return Ok(Some(delivery));
        }
        if queue.len() >= self.limit {
            return Err(delivery);
        }
        queue.push_back(delivery);
        Ok(None)
    }

    /// From now on deliveries queue, behind whatever is put into the queue while the guard is held. The turn ends.
    pub fn close(&self) -> MutexGuard<'_, VecDeque<T>> {
        let queue = self.queue.lock();
        self.closed.store(true, Ordering::Release);
        // Whoever begins the next turn sees the gate closed.
        self.closings.fetch_add(1, Ordering::Release);
        queue
    }

    /// Delivers all that is queued, and opens.
    pub fn drain(&self, mut deliver: impl FnMut(T)) {
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let next = queue.pop_front();
                if next.is_none() {
                    self.closed.store(false, Ordering::Release);
                }
                next
            };
            match next {
                Some(delivery) => deliver(delivery),
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_gate_passes_everything() {
        let gate = Gate::new(2);
        assert_eq!(gate.pass(1), Ok(Some(1)));
    }

    #[test]
    fn what_comes_while_it_is_closed_follows_what_came_home() {
        let gate = Gate::new(10);
        gate.close().extend([1, 2]);
        assert_eq!(gate.pass(3), Ok(None));
        let mut seen = Vec::new();
        gate.drain(|delivery| {
            seen.push(delivery);
            if delivery == 2 {
                assert_eq!(gate.pass(4), Ok(None), "a delivery may cause another");
            }
        });
        assert_eq!(seen, [1, 2, 3, 4]);
        assert_eq!(gate.pass(5), Ok(Some(5)));
    }

    #[test]
    fn a_turn_ends_when_the_gate_closes() {
        let gate = Gate::<u32>::new(1);
        let turn = gate.turn();
        assert!(!turn.is_over());
        drop(gate.close());
        assert!(turn.is_over());
        assert!(!gate.turn().is_over(), "the next has begun");
        gate.drain(|_| {});
        assert!(!Turn::endless().is_over());
    }

    #[test]
    fn a_closed_gate_is_bounded() {
        let gate = Gate::new(1);
        drop(gate.close());
        assert_eq!(gate.pass(1), Ok(None));
        assert_eq!(gate.pass(2), Err(2));
    }

    #[test]
    fn no_thread_overtakes_itself() {
        let gate = Gate::new(usize::MAX);
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for number in 0..20_000_u32 {
                    if let Ok(Some(number)) = gate.pass(number) {
                        seen.lock().push(number);
                    }
                }
            });
            while !sender.is_finished() {
                drop(gate.close());
                gate.drain(|number| seen.lock().push(number));
            }
        });
        let seen = seen.into_inner();
        assert_eq!(seen.len(), 20_000);
        assert!(seen.is_sorted(), "an item was overtaken");
    }
}
