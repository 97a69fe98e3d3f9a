//! Two caches, as of two nodes, with a database of numbers: each key's number only grows, so that a reader can tell an
//! old value from a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rookery::config::CacheConfig;
use rookery::storage::cache::keys::Key;
use rookery::storage::cache::{Cache, Cached};
use serde::{Deserialize, Serialize};

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Asks again and again until it holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks again and again until there is something.
pub async fn eventually_some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What decides a test that throws dice: `ROOKERY_CACHE_SEED`, else chance. It is printed.
#[expect(clippy::print_stderr, reason = "a failed test shows how to play it again")]
pub fn seed() -> u64 {
    let named = std::env::var("ROOKERY_CACHE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = named.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("again with ROOKERY_CACHE_SEED={seed}");
    seed
}

fn dice(seed: u64) -> Arc<Mutex<StdRng>> {
    Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))
}

/// What is cached here.
#[derive(Debug, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Cached for Version {
    fn rows(&self) -> usize {
        1
    }
    fn is_absence(&self) -> bool {
        false
    }
}

/// Numbers that only grow, and which of them writers have been told are stored.
pub struct Database {
    stored: Vec<AtomicU64>,
    answered: Vec<AtomicU64>,
    pub reads: AtomicU64,
}

impl Database {
    pub fn new(keys: usize) -> Arc<Self> {
        let zeros = || (0..keys).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { stored: zeros(), answered: zeros(), reads: AtomicU64::new(0) })
    }
}

/// A node's cache over the shared database.
#[derive(Clone)]
pub struct Side {
    pub cache: Cache,
    pub database: Arc<Database>,
    /// How long the database takes to answer after it has read, in milliseconds at most.
    pub dawdles_ms: u64,
    dice: Arc<Mutex<StdRng>>,
}

pub fn key(at: usize) -> Key {
    Key { name: format!("version:{at}"), ttl: Duration::from_secs(1800) }
}

/// The defaults with this Redis; short pauses, so that tests don't take long.
pub fn config(url: &str) -> CacheConfig {
    let breaker_open_max = Duration::from_millis(300);
    CacheConfig { url: url.to_owned(), breaker_open_max, ..CacheConfig::default() }
}

/// For those to whom Redis always answers, however busy this machine is: nobody takes it for away.
pub fn patient(url: &str) -> CacheConfig {
    CacheConfig { redis_wait: Duration::from_secs(5), ..config(url) }
}

impl Side {
    pub fn over(database: &Arc<Database>, config: &CacheConfig) -> Self {
        let cache = Cache::start(config).expect("the configuration is valid");
        Self { cache, database: Arc::clone(database), dawdles_ms: 0, dice: dice(0) }
    }

    /// The database takes its time, by these dice.
    pub fn dawdles(self, at_most_ms: u64, seed: u64) -> Self {
        Self { dawdles_ms: at_most_ms, dice: dice(seed), ..self }
    }

    /// What the cache says; it must not be older than what was stored when this was asked.
    pub async fn reads(&self, at: usize) -> u64 {
        let floor = self.database.answered[at].load(Ordering::SeqCst);
        let load = async {
            self.database.reads.fetch_add(1, Ordering::SeqCst);
            let version = self.database.stored[at].load(Ordering::SeqCst);
            if self.dawdles_ms > 0 {
                let pause = self.dice.lock().random_range(0..=self.dawdles_ms);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Ok(Version(version))
        };
        let version = self.cache.read(key(at), load).await.expect("the database always answers").0;
        assert!(version >= floor, "key {at}: {version} was read after {floor} had been stored");
        version
    }

    /// The same of the first so many keys, asked for together.
    pub async fn reads_together(&self, keys: usize) -> Vec<u64> {
        let keys: Vec<Key> = (0..keys).map(key).collect();
        let load = async |places: &[usize]| {
            self.database.reads.fetch_add(1, Ordering::SeqCst);
            Ok(places.iter().map(|at| Version(self.database.stored[*at].load(Ordering::SeqCst))).collect())
        };
        let versions = self.cache.read_many(&keys, load).await.expect("the database always answers");
        versions.iter().map(|version| version.0).collect()
    }

    /// Stores the next number.
    pub async fn writes(&self, at: usize) -> u64 {
        let version = self.database.stored[at].fetch_add(1, Ordering::SeqCst) + 1;
        self.cache.invalidate(&[key(at)]).await;
        self.database.answered[at].fetch_max(version, Ordering::SeqCst);
        version
    }

    pub fn breaker(&self) -> String {
        self.cache.json()["breaker"].as_str().expect("a word").to_owned()
    }

    pub async fn is_connected(&self) {
        eventually("Redis is in use", || self.breaker() == "closed").await;
    }

    /// A number that the admin endpoint shows.
    pub fn counts(&self, pointer: &str) -> u64 {
        self.cache.json().pointer(pointer).and_then(serde_json::Value::as_u64).expect("a counter")
    }

    /// Waits until Redis has stored something new, after `fills` of them.
    pub async fn has_filled_more_than(&self, fills: u64) {
        eventually("Redis has what was read", || self.counts("/redis/fills") > fills).await;
    }
}

/// Joins two sides as nodes of a cluster are; while `cut` is set they can't reach each other.
pub fn join(a: &Side, b: &Side) -> Arc<AtomicBool> {
    let cut: Arc<AtomicBool> = Arc::default();
    for (from, to) in [(a, b), (b, a)] {
        let (to, cut) = (to.cache.clone(), Arc::clone(&cut));
        from.cache.connect(Arc::new(move |keys, _limit| {
            let (to, cut) = (to.clone(), Arc::clone(&cut));
            Box::pin(async move {
                tokio::task::yield_now().await;
                if cut.load(Ordering::SeqCst) {
                    return false;
                }
                keys.iter().for_each(|key| to.forget(key));
                true
            })
        }));
    }
    cut
}

/// How late this machine's timers are while something is measured.
pub struct Lateness {
    worst_us: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Lateness {
    pub fn watch() -> Self {
        let worst_us: Arc<AtomicU64> = Arc::default();
        let worst = Arc::clone(&worst_us);
        let task = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                worst.fetch_max(began.elapsed().as_micros() as u64, Ordering::SeqCst);
            }
        });
        Self { worst_us, task }
    }

    /// The worst so far.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.load(Ordering::SeqCst))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.task.abort();
    }
}
