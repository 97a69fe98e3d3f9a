//! The copy of presence and routes in Redis, for other systems to read. Nothing here reads it. Users whose sessions
//! changed gather, and are written together off every path that anybody waits for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::counters::count;
use super::{Cache, keys};

/// Users who wait to be copied; changes of further ones are left to the next announcement.
const WAITING_MAX: usize = 200_000;
/// Users written at once.
const BATCH: usize = 500;

/// A live session, as others are told.
#[derive(Clone, Debug)]
pub struct Route {
    /// The node that holds its socket.
    pub node: String,
    /// Its number.
    pub session_id: u64,
    /// The device's.
    pub device_id: u64,
}

/// Takes notice of users whose sessions changed. Cheap to clone.
#[derive(Clone)]
pub struct PresenceCopy {
    waiting: Arc<Mutex<HashSet<u64>>>,
    cache: Cache,
}

impl PresenceCopy {
    /// Copies every `interval` what `routes` says of the users who changed (`None`: another node knows). Runs on the current runtime, as long as the
    /// process. `None`: there is no Redis.
    pub fn start(
        cache: &Cache,
        interval: Duration,
        routes: impl Fn(u64) -> Option<Vec<Route>> + Send + Sync + 'static,
    ) -> Option<Self> {
        cache.inner.remote.as_ref()?;
        let copy = Self { waiting: Arc::default(), cache: cache.clone() };
        let task = copy.clone();
        tokio::spawn(async move {
            let mut pause = tokio::time::interval(interval.max(Duration::from_millis(1)));
            pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                pause.tick().await;
                task.write(&routes).await;
            }
        });
        Some(copy)
    }

    /// The sessions of these users may have changed. Never waits.
    pub fn note(&self, user_ids: impl IntoIterator<Item = u64>) {
        let mut waiting = self.waiting.lock();
        for user_id in user_ids {
            if waiting.len() < WAITING_MAX {
                waiting.insert(user_id);
            } else {
                count(&self.cache.counters().presence_dropped);
            }
        }
    }

    async fn write(&self, routes: &impl Fn(u64) -> Option<Vec<Route>>) {
        let waiting: Vec<u64> = std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
        for user_ids in waiting.chunks(BATCH) {
            let known = user_ids.iter().filter_map(|user_id| Some((user_id, routes(*user_id)?)));
            let rows = known.flat_map(|(user_id, routes)| {
                let status = if routes.is_empty() { "offline" } else { "online" };
                let route = (!routes.is_empty()).then(|| routes_json(&routes).to_string());
                [
                    (keys::presence_route(*user_id), route),
                    (keys::user_status(*user_id), Some(json!({ "status": status }).to_string())),
                ]
            });
            let written = self.cache.put(rows.collect()).await;
            let counters = self.cache.counters();
            let counter = if written { &counters.presence_copied } else { &counters.presence_dropped };
            counter.fetch_add(user_ids.len() as u64, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

fn routes_json(routes: &[Route]) -> Value {
    let route = |route: &Route| json!({ "node": route.node, "session_id": route.session_id, "device_id": route.device_id });
    routes.iter().map(route).collect()
}
