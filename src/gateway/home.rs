//! Where WebSockets live after their handshake. On a node whose actors have a thread of their own alone, that thread is
//! the sockets' home too: a frame reaches its session, its room and the writers, and their answers reach the socket,
//! without a thread being woken. With more threads for actors, sockets stay on the worker that made their handshake.
//!
//! What a socket needs is moved to its home by a channel, as an actix context can't be: it is made there. At home, the
//! sockets of all transports write what is pushed to them in turn ([`Turns`]).

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::turns::{Ring, Turns};
use crate::actors::session::Wake;

/// Something to be begun on the home's thread; it may spawn local tasks there.
type Arrival = Box<dyn FnOnce() + Send>;

/// The way to the thread. Cheap to clone; the home takes nothing any more when the last clone is gone.
#[derive(Clone)]
pub struct Home {
    arrivals: mpsc::UnboundedSender<Arrival>,
    turns: Turns,
}

impl Home {
    /// The current thread, where it runs everything: `None` on a runtime of several threads. On a runtime of one, to be
    /// called within its [`tokio::task::LocalSet`].
    pub fn here() -> Option<Self> {
        if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        // Bounded by the open sockets, which `gateway.connections_max` bounds: each comes once.
        let (arrivals, mut arrived) = mpsc::unbounded_channel::<Arrival>();
        spawn_local(async move {
            while let Some(begin) = arrived.recv().await {
                begin();
            }
        });
        Some(Self { arrivals, turns: Turns::start() })
    }

    /// Runs `begin` on the home's thread soon; dropped there or here if the node is ending.
    pub fn begin(&self, begin: impl FnOnce() + Send + 'static) {
        let _ = self.arrivals.send(Box::new(begin));
    }
}

/// What an outbox calls to have a socket write: at once, or, where the socket lives at `home`, in its turn.
pub fn waker(home: Option<&Home>, socket: Arc<dyn Ring>) -> Box<dyn Fn(Wake) + Send + Sync> {
    let turns = home.map(|home| home.turns.clone());
    Box::new(move |wake| match &turns {
        Some(turns) if wake == Wake::InTurn => turns.wait(Arc::clone(&socket)),
        _ => socket.ring(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn what_arrives_from_another_thread_begins_on_the_homes_own() {
        let local = LocalSet::new();
        let began = local.run_until(async {
            let home = Home::here().expect("the tests' runtime has one thread");
            let (told, tell) = oneshot::channel();
            let worker = thread::spawn(move || {
                home.begin(move || {
                    spawn_local(async move { told.send(thread::current().id()) });
                });
            });
            let began = tell.await.expect("it begins");
            worker.join().expect("the worker ends");
            began
        });
        assert_eq!(began.await, thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_threads_are_nobodys_home() {
        assert!(Home::here().is_none());
    }
}
