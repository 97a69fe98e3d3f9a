//! A MariaDB that dies, comes back, or falls silent while messages are appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rookery::config::StorageConfig;
use rookery::storage::{StoreError, Stores};

use crate::fixture::{message, mysql_config, opened};
use crate::mariadb_server::MariaDb;

/// How much longer than `request_timeout` a call may take, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);
/// How long anything may take to heal.
const HEALING: Duration = Duration::from_secs(20);
/// Pause of a room after a refusal.
const REPEAT_PAUSE: Duration = Duration::from_millis(2);
/// Rooms that append at once.
const ROOMS: u64 = 6;

fn hasty(config: StorageConfig) -> StorageConfig {
    StorageConfig {
        acquire_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(3),
        ..config
    }
}

/// What one room saw.
#[derive(Default)]
struct Seen {
    /// (seq, client_id) of appends that returned Ok.
    stored: Vec<(u64, String)>,
    unavailable: u32,
    unsettled: u32,
    slowest: Duration,
    wrong: Vec<StoreError>,
}

/// Appends batches of 1, 3 and 100 to one conversation until told to stop. After an uncertain append it goes on
/// behind everything it may have stored.
async fn append_on(stores: Stores, room: u64, stop: Arc<AtomicBool>, progress: Arc<AtomicU64>) -> Seen {
    let mut seen = Seen::default();
    let mut next = 1;
    let mut sizes = [1, 3, 100].into_iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        let size = sizes.next().unwrap_or(1);
        let batch: Vec<_> =
            (next..next + size).map(|seq| message(room, seq, 1, &format!("c{seq}"))).collect();
        let started = Instant::now();
        let outcome = stores.messages.append(&batch).await;
        seen.slowest = seen.slowest.max(started.elapsed());
        match outcome {
            Ok(()) => {
                seen.stored.extend(batch.into_iter().map(|message| (message.seq, message.client_id)));
                progress.fetch_add(1, Ordering::Relaxed);
                next += size;
            }
            Err(StoreError::Unavailable(_)) => {
                seen.unavailable += 1;
                // As clients do; the answer comes at once while the server is known to be away.
                tokio::time::sleep(REPEAT_PAUSE).await;
            }
            Err(StoreError::Unsettled(_)) => {
                seen.unsettled += 1;
                next += size;
            }
            Err(error) => {
                seen.wrong.push(error);
                next += size;
            }
        }
    }
    seen
}

/// Waits until the rooms have appended `more` batches from now on.
async fn progress_by(progress: &AtomicU64, more: u64) {
    let (from, deadline) = (progress.load(Ordering::Relaxed), Instant::now() + HEALING);
    while progress.load(Ordering::Relaxed) < from + more {
        assert!(Instant::now() < deadline, "appends don't go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Rooms {
    stores: Stores,
    stop: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Seen>>,
}

impl Rooms {
    fn start(stores: &Stores) -> Self {
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (1..=ROOMS)
            .map(|room| tokio::spawn(append_on(stores.clone(), room, stop.clone(), progress.clone())))
            .collect();
        Self { stores: stores.clone(), stop, progress, tasks }
    }

    /// Ends the rooms and holds what they saw against what is stored.
    async fn check(self, limit: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = 0;
        for (task, room) in self.tasks.into_iter().zip(1..) {
            let seen = task.await.expect("no panic");
            assert!(seen.wrong.is_empty(), "room {room}: {:?}", seen.wrong);
            assert!(seen.slowest <= limit, "room {room}: an append took {:?}", seen.slowest);
            failures += seen.unavailable + seen.unsettled;
            let mut read = std::collections::HashMap::new();
            let mut after = 0;
            loop {
                let page = self.stores.messages.after(room, after, 1000).await.expect("it is read");
                let Some(last) = page.last() else { break };
                after = last.seq;
                read.extend(page.into_iter().map(|message| (message.seq, message.client_id)));
            }
            for (seq, client_id) in &seen.stored {
                assert_eq!(read.get(seq), Some(client_id), "room {room} lost the acknowledged seq {seq}");
            }
            assert!(!seen.stored.is_empty());
        }
        assert!(failures > 0, "the outage was noticed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_the_server() {
    let mut server = MariaDb::start().await;
    let config = hasty(mysql_config(&server).await);
    let opened = opened(&config).await;
    let rooms = Rooms::start(&opened.stores());
    for _ in 0..3 {
        progress_by(&rooms.progress, 200).await;
        server.kill();
        assert!(opened.ping().await.is_err(), "the server is gone");
        server.restart().await;
        // The pool heals without help: every room gets through again.
        progress_by(&rooms.progress, 200).await;
        opened.ping().await.expect("it answers again");
    }
    rooms.check(config.request_timeout + SLACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_given_up_in_time_and_found_again() {
    let server = MariaDb::start().await;
    let config = hasty(mysql_config(&server).await);
    let opened = opened(&config).await;
    let rooms = Rooms::start(&opened.stores());
    progress_by(&rooms.progress, 200).await;
    server.freeze();
    let frozen = Instant::now();
    let mut last = Ok(());
    // Long enough for every room to give up at least once. The first ping may have been answered just before.
    while frozen.elapsed() < config.request_timeout + SLACK {
        let started = Instant::now();
        last = opened.ping().await;
        assert!(started.elapsed() <= config.request_timeout + SLACK);
    }
    assert!(matches!(last, Err(StoreError::Unavailable(_))), "a silent server answered {last:?}");
    server.thaw();
    progress_by(&rooms.progress, 200).await;
    rooms.check(config.request_timeout + SLACK).await;
}
