//! When users were last seen, on its way to storage: one write for all who left within a moment, off every path that
//! anybody waits for. It is noted by the node of the session and by that of the presence shard, so that one of them may end;
//! and of those who stay at intervals, for the case that both do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::actors::Actors;
use crate::clock;
use crate::storage::Stores;

/// How long users gather before they are written.
const GATHER: Duration = Duration::from_millis(300);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Users that wait while storage is away; more are not noted.
const WAITING_MAX: usize = 200_000;
/// Users of one write.
const BATCH: usize = 1000;
/// Of those who stay, so many parts are noted one after the other, so that their writes are spread over the interval.
const PARTS: u32 = 20;

/// Starts the task that notes those who stay; it ends with the runtime.
pub fn start_rounds(actors: Actors) {
    let interval = actors.inner.config.presence.seen_interval / PARTS;
    if interval.is_zero() {
        return;
    }
    actors.inner.runtime.clone().spawn(async move {
        let mut rounds = tokio::time::interval(interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for part in (0..u64::from(PARTS)).cycle() {
            rounds.tick().await;
            let now_ms = clock::now_ms();
            for session in actors.inner.sessions.all() {
                if session.user_id() % u64::from(PARTS) == part {
                    actors.inner.seen.note(session.user_id(), now_ms);
                }
            }
        }
    });
}

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct SeenLane {
    inner: Arc<Inner>,
}

struct Inner {
    waiting: Mutex<BTreeMap<u64, u64>>,
    wake: Notify,
    stores: Stores,
}

impl SeenLane {
    /// Starts the task that writes; it ends with the runtime.
    pub fn start(stores: &Stores) -> Self {
        let inner =
            Arc::new(Inner { waiting: Mutex::default(), wake: Notify::new(), stores: stores.clone() });
        let lane = Self { inner };
        let task = lane.clone();
        tokio::spawn(async move {
            loop {
                task.inner.wake.notified().await;
                tokio::time::sleep(GATHER).await;
                while !task.flush().await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        lane
    }

    /// A user was there until `at_ms`, Unix milliseconds. Never waits.
    pub fn note(&self, user_id: u64, at_ms: u64) {
        let mut waiting = self.inner.waiting.lock();
        if waiting.len() < WAITING_MAX || waiting.contains_key(&user_id) {
            let at = waiting.entry(user_id).or_default();
            *at = (*at).max(at_ms);
            self.inner.wake.notify_one();
        }
    }

    /// Writes what waits; whether all of it was stored.
    pub async fn flush(&self) -> bool {
        loop {
            let batch: Vec<(u64, u64)> = {
                let mut waiting = self.inner.waiting.lock();
                let batch: Vec<(u64, u64)> = waiting.iter().take(BATCH).map(|(id, at)| (*id, *at)).collect();
                for (user_id, _) in &batch {
                    waiting.remove(user_id);
                }
                batch
            };
            if batch.is_empty() {
                return true;
            }
            if let Err(error) = self.inner.stores.people.note_seen(&batch).await {
                tracing::debug!(target: "rookery::presence", %error, "last-seen times wait for storage");
                let mut waiting = self.inner.waiting.lock();
                for (user_id, at_ms) in batch {
                    let at = waiting.entry(user_id).or_default();
                    *at = (*at).max(at_ms);
                }
                return false;
            }
        }
    }
}
