//! Sockets that have pushes to write, each in its turn. On a node that runs on one thread, a message to a thousand
//! members would keep that thread in a thousand writes before anybody else's message is read. So few sockets at a time
//! write, and what others wait for comes between: requests are taken, stored and answered. What meanwhile comes for a
//! socket leaves in the same write, which is what makes busy rooms cheap.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Fewest sockets that write before the rest of the node has its turn.
const AT_ONCE_MIN: usize = 16;
/// One of so many of those waiting writes at once, where that is more: so the turns that a socket waits for grow with the
/// logarithm of how many are before it.
const ONE_IN: usize = 8;

/// By which a socket is told to write.
pub trait Ring: Send + Sync {
    /// Drain the outbox soon. Called from any thread, and once too often now and then.
    fn ring(&self);
}

impl Ring for Notify {
    fn ring(&self) {
        self.notify_one();
    }
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Arc<dyn Ring>>>,
    someone: Notify,
}

impl Turns {
    /// An empty queue, tended on the current runtime until that ends.
    pub fn start() -> Self {
        let queue = Arc::<Queue>::default();
        tokio::spawn(tend(Arc::clone(&queue)));
        Self(queue)
    }

    /// Lets a socket write when all that wait already have. A socket waits once: an outbox asks once until it is drained.
    pub fn wait(&self, socket: Arc<dyn Ring>) {
        let mut waiting = self.0.waiting.lock();
        waiting.push_back(socket);
        if waiting.len() == 1 {
            drop(waiting);
            self.0.someone.notify_one();
        }
    }
}

async fn tend(queue: Arc<Queue>) {
    let mut next: Vec<Arc<dyn Ring>> = Vec::new();
    loop {
        let more = {
            let mut waiting = queue.waiting.lock();
            let turn = (waiting.len() / ONE_IN).max(AT_ONCE_MIN).min(waiting.len());
            next.extend(waiting.drain(..turn));
            !waiting.is_empty()
        };
        next.drain(..).for_each(|socket| socket.ring());
        if more {
            // Comes back when all that is ready has run and the kernel was asked for more.
            tokio::task::yield_now().await;
        } else {
            queue.someone.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Says its number when it is its turn.
    struct Socket(usize, mpsc::UnboundedSender<usize>);

    impl Ring for Socket {
        fn ring(&self) {
            let _ = self.1.send(self.0);
        }
    }

    #[tokio::test]
    async fn all_have_their_turn_in_order_and_others_come_between() {
        let (turns, (told, mut tell)) = (Turns::start(), mpsc::unbounded_channel());
        let many = 10 * AT_ONCE_MIN * ONE_IN;
        (0..many).for_each(|at| turns.wait(Arc::new(Socket(at, told.clone()))));
        let (mut next, mut turns_taken) = (0, 0);
        while next < many {
            // This task is one of the others: it runs once a turn.
            tokio::task::yield_now().await;
            let before = next;
            while let Ok(at) = tell.try_recv() {
                assert_eq!(at, next, "first come, first served");
                next += 1;
            }
            turns_taken += usize::from(next > before);
        }
        // ln 10 / ln (8/7) = 17.3 until the rest is as many as eight turns of sixteen.
        assert!((20..=30).contains(&turns_taken), "{turns_taken} turns for {many} sockets");
        // Nobody is forgotten after a rest.
        turns.wait(Arc::new(Socket(many, told)));
        assert_eq!(tell.recv().await, Some(many));
    }
}
