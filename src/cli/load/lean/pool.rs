//! The threads that players run on.
//!
//! Each has a runtime of its own that stays on its thread, so that waking a player is a push to a list and not a call
//! of the kernel to wake another thread. One thread is enough for a machine whose other core the server needs.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::Link;

/// Most threads of one run.
pub(in crate::cli::load) const THREADS_MAX: usize = 64;
/// In how many parts the connections get their heartbeat, one part a second: so that it is no burst, and more often
/// than the server's default asks for.
const HEART_PARTS: usize = 15;
/// Pause between two parts.
const HEART_PAUSE: Duration = Duration::from_secs(1);

/// The threads. They end with it, and with them the players.
pub(in crate::cli::load) struct Pool {
    threads: Vec<Thread>,
    held: Holder,
}

/// Keeps connections alive while nothing is sent on them. Forgets those that have ended.
#[derive(Clone, Default)]
pub(in crate::cli::load) struct Holder(Arc<Mutex<Vec<Weak<Link>>>>);

impl Holder {
    pub(in crate::cli::load) fn hold(&self, link: &Arc<Link>) {
        self.0.lock().push(Arc::downgrade(link));
    }
}

struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads, and the heartbeat of the connections that are held.
    pub(in crate::cli::load) fn start(threads: usize) -> anyhow::Result<Self> {
        let threads: Vec<Thread> = (0..threads).map(start_thread).collect::<anyhow::Result<_>>()?;
        let held = Holder::default();
        let hearts = Arc::downgrade(&held.0);
        threads[0].handle.spawn(async move {
            for second in 0_usize.. {
                tokio::time::sleep(HEART_PAUSE).await;
                let Some(held) = hearts.upgrade() else { return };
                beat(&held, second % HEART_PARTS);
            }
        });
        Ok(Self { threads, held })
    }

    /// The runtime of player number `at`.
    pub(in crate::cli::load) fn on(&self, at: usize) -> &Handle {
        &self.threads[at % self.threads.len()].handle
    }

    /// Has the connection kept alive while nothing is sent on it.
    pub(in crate::cli::load) fn hold(&self, link: &Arc<Link>) {
        self.held.hold(link);
    }

    /// For those who connect by themselves.
    pub(in crate::cli::load) fn holder(&self) -> Holder {
        self.held.clone()
    }
}

fn start_thread(at: usize) -> anyhow::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_all().build().context("a runtime can't be started")?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name(format!("load-{at}"))
        .spawn(move || {
            // An error means that the pool is gone, which is the same.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })
        .context("a thread can't be started")?;
    Ok(Thread { handle, stop: Some(stop), thread: Some(thread) })
}

fn beat(held: &Mutex<Vec<Weak<Link>>>, part: usize) {
    let links: Vec<Arc<Link>> = {
        let mut held = held.lock();
        held.retain(|link| link.strong_count() > 0);
        held.iter().skip(part).step_by(HEART_PARTS).filter_map(Weak::upgrade).collect()
    };
    links.iter().for_each(Link::beat);
}

impl Drop for Pool {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            drop(thread.stop.take());
        }
        for thread in &mut self.threads {
            if let Some(thread) = thread.thread.take() {
                // A player's panic has been reported by its own thread.
                let _ = thread.join();
            }
        }
    }
}
