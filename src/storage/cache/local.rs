//! The cache in this process: moka, bounded by rows, with lifetimes that differ a little so that entries which came
//! together don't end together.
//!
//! An entry is kept under its key *and* the key's generation. Forgetting raises the generation, so that what was
//! being read at that moment ends up under the old one, where nobody looks; readers who come later don't join it.
//! Keys share generations by hash: forgetting one may forget others, never too few.

use std::any::Any;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::storage::StoreResult;

/// Generations of all keys; 32 KiB.
const GENERATIONS: usize = 4096;

/// What was read, to be kept.
pub struct Loaded<T> {
    /// The value.
    pub value: Arc<T>,
    /// When its reading began: it lives from then on.
    pub since: Instant,
    /// How many rows it is.
    pub rows: u32,
    /// `false`: given to those who wait for it, but not kept.
    pub keep: bool,
}

#[derive(Clone)]
struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    until: Instant,
    rows: u32,
}

struct UntilItEnds;

impl Expiry<(String, u64), Entry> for UntilItEnds {
    fn expire_after_create(&self, _key: &(String, u64), entry: &Entry, now: Instant) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }
}

/// The process's own cache.
pub struct Local {
    entries: Cache<(String, u64), Entry>,
    generations: Vec<AtomicU64>,
    hasher: RandomState,
    ttl: Duration,
}

impl Local {
    /// Holds about `rows` rows, each value for at most `ttl`.
    pub fn new(rows: u64, ttl: Duration) -> Self {
        let entries = Cache::builder()
            .max_capacity(rows)
            .weigher(|_, entry: &Entry| entry.rows.saturating_add(1))
            .expire_after(UntilItEnds)
            .build();
        let generations = (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect();
        Self { entries, generations, hasher: RandomState::new(), ttl }
    }

    /// The generation of a key: to be taken before reading elsewhere what is to be kept.
    pub fn generation(&self, key: &str) -> u64 {
        self.slot(key).load(Ordering::SeqCst)
    }

    /// From here on nothing read before is given out.
    pub fn forget(&self, key: &str) {
        self.slot(key).fetch_add(1, Ordering::SeqCst);
    }

    /// The value, if it is here.
    pub async fn get<T: Any + Send + Sync>(&self, key: &str) -> Option<Arc<T>> {
        let place = (key.to_owned(), self.generation(key));
        self.entries.get(&place).await?.value.downcast().ok()
    }

    /// Keeps a value that was read under this generation.
    pub async fn insert<T: Any + Send + Sync>(&self, key: &str, generation: u64, loaded: Loaded<T>) {
        self.entries.insert((key.to_owned(), generation), self.entry(loaded)).await;
    }

    /// The value, from here or by `load`, which runs once for all who ask meanwhile; whether it was here, or another's
    /// load brought it. An error reaches all who waited, and is not kept.
    pub async fn get_or_load<T: Any + Send + Sync>(
        &self,
        key: &str,
        load: impl Future<Output = StoreResult<Loaded<T>>>,
    ) -> StoreResult<(Arc<T>, bool)> {
        let place = (key.to_owned(), self.generation(key));
        let load = async { load.await.map(|loaded| self.entry(loaded)) };
        let found = self.entries.entry(place).or_try_insert_with(load).await;
        let found = found.map_err(|error| (*error).clone())?;
        let was_here = !found.is_fresh();
        let value = found.into_value().value.downcast();
        Ok((value.expect("a key's kind decides the type of its value"), was_here))
    }

    fn entry<T: Any + Send + Sync>(&self, loaded: Loaded<T>) -> Entry {
        let lives = if loaded.keep { jittered(self.ttl) } else { Duration::ZERO };
        Entry { value: loaded.value, until: loaded.since + lives, rows: loaded.rows }
    }

    fn slot(&self, key: &str) -> &AtomicU64 {
        &self.generations[self.hasher.hash_one(key) as usize % GENERATIONS]
    }
}

/// Between four fifths of a lifetime and all of it.
pub(super) fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(rand::random_range(0.8..=1.0))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Barrier;

    use super::*;
    use crate::storage::StoreError;

    fn local() -> Local {
        Local::new(100, Duration::from_secs(60))
    }

    fn loaded(value: u32) -> StoreResult<Loaded<u32>> {
        Ok(Loaded { value: Arc::new(value), since: Instant::now(), rows: 1, keep: true })
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_load() {
        let (local, loads) = (local(), AtomicU64::new(0));
        let barrier = Barrier::new(2);
        let asks = (0..20).map(|_| {
            local.get_or_load("a", async {
                loads.fetch_add(1, Ordering::SeqCst);
                barrier.wait().await;
                loaded(1)
            })
        });
        let all = futures_util::future::join_all(asks);
        let (answers, _) = tokio::join!(all, barrier.wait());
        assert!(answers.into_iter().all(|answer| *answer.expect("it was loaded").0 == 1));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_was_being_read_when_it_was_forgotten_is_not_given_out() {
        let local = local();
        let old = local.get_or_load("a", async {
            local.forget("a");
            loaded(1)
        });
        assert_eq!(*old.await.expect("loaded").0, 1, "who asked before the write may see what was before it");
        assert_eq!(local.get::<u32>("a").await, None);
        let (new, was_here) = local.get_or_load("a", async { loaded(2) }).await.expect("loaded");
        assert_eq!((*new, was_here), (2, false));
    }

    #[tokio::test]
    async fn errors_and_what_is_not_to_be_kept_are_not() {
        let local = local();
        let failed = local.get_or_load::<u32>("a", async { Err(StoreError::Exists) }).await;
        assert_eq!(failed.err(), Some(StoreError::Exists));
        let once = Loaded { value: Arc::new(7u32), since: Instant::now(), rows: 1, keep: false };
        assert_eq!(*local.get_or_load("a", async { Ok(once) }).await.expect("loaded").0, 7);
        assert_eq!(local.get::<u32>("a").await, None);
    }
}
