//! The clock of open loops, finer than the runtime's timers.
//!
//! Those round up to whole milliseconds, and since a message's time counts from when it was due, that would be added
//! to what the server is said to take. A thread that sleeps is woken within some tens of microseconds, and does what
//! is due by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Longest sleep, so that the end is noticed.
const NAP: Duration = Duration::from_millis(20);

/// A thread that does things when they are due. It ends with this.
pub(in crate::cli::load) struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Begins now. `due` says when thing number 0, 1, 2 … is due, from the beginning, never less than before; `None`
    /// ends it. `fire` does it, and is told when it was due; what it spawns goes to `runtime`.
    pub(in crate::cli::load) fn start(
        runtime: &Handle,
        mut due: impl FnMut(u64) -> Option<Duration> + Send + 'static,
        mut fire: impl FnMut(u64, Instant) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, runtime) = (Arc::clone(&stop), runtime.clone());
        let thread = std::thread::Builder::new()
            .name("load-pacer".to_owned())
            .spawn(move || {
                let _context = runtime.enter();
                let began = Instant::now();
                for number in 0.. {
                    let Some(due) = due(number).map(|due| began + due) else { return };
                    loop {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let left = due.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        std::thread::sleep(left.min(NAP));
                    }
                    fire(number, due);
                }
            })
            .context("a thread can't be started")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_done_once_in_order_and_never_early() {
        let (sender, mut fired) = tokio::sync::mpsc::unbounded_channel();
        let due = |number| (number < 4).then(|| Duration::from_micros(700 * number));
        let pacer = Pacer::start(&Handle::current(), due, move |number, due| {
            sender.send((number, due, Instant::now())).expect("the test waits");
        })
        .expect("there is a thread to be had");
        for wanted in 0..4 {
            let (number, due, at) = fired.recv().await.expect("four are due");
            assert!(number == wanted && at >= due, "{number} due {due:?} at {at:?}");
        }
        assert!(fired.recv().await.is_none(), "it ends by itself");
        drop(pacer);
    }
}
