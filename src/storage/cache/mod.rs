//! The cache in front of the database: this process's memory (`local`), then Redis where one is configured (`remote`),
//! then the store. [`CachedStores`] puts it before the store traits; what is read through it:
//!
//! | key | what | read by | why an old entry permits nothing |
//! | --- | --- | --- | --- |
//! | `user:id:{id}`, `user:info:{name}` | a profile, no password hash | profiles shown: `/users`, names in lists | signing in, checking tokens and whether an account is disabled read the database |
//! | `user:exists:{name}` | whether the name is taken | sign-up, before the costly hash | the unique key decides; names are never freed |
//! | `user:friends:{id}` | a contact list | the list shown | requests, acceptances and blocks read both rows from the database |
//! | `group:info:{id}` | a conversation's record | the reason given to who is refused already | the refusal was decided by the database |
//! | `group:members:{id}` | who is in it, without cursors | the page of a member list | the asker and every row of the page are read from the database, by key |
//!
//! Never cached: memberships that permit (`member`, `members_among`), cursors, logs, conversation lists (they move with
//! every message, so `user:groups` has no reader), devices and tokens (`services::tokens` has its own memory), and
//! everything that rooms and writers read. Sending touches nothing here.
//!
//! **No old entry after a write has answered.** After the commit a write deletes in Redis (value and readers' tokens,
//! see `remote`), then raises the key's generation here (see `local`), then tells every node and waits until they
//! confirm, or until their memory has expired ([`CacheConfig::local_ttl`]). A write that could not tell Redis says so
//! to the other nodes, which then don't use these keys in Redis until they have deleted them. What remains: a node
//! that is cut off from the writer's node, but not from Redis or the database, may show an old profile for as long as
//! Redis keeps what the writer could not delete; nothing above lets that permit anything.

mod breaker;
mod codec;
mod counters;
pub mod keys;
mod local;
mod missed;
mod people;
pub mod presence;
mod redis;
mod remote;
mod retention;
mod rooms;
mod stores;

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::counters::{add, count};
use self::keys::{Key, NEGATIVE_TTL};
use self::local::{Loaded, Local, jittered};
use self::remote::{LookUp, Remote, Token};
use super::StoreResult;
use crate::config::{CacheConfig, ConfigError};

pub use self::counters::CacheCounters;
pub use self::stores::CachedStores;

/// Tells the other nodes what to forget; answers whether all of them confirmed within the time given.
pub type TellNodes = Arc<dyn Fn(Vec<String>, Duration) -> BoxFuture<'static, bool> + Send + Sync>;

/// What stands before a key that the teller could not delete in Redis.
const UNTOLD: char = '!';
/// The longest list that is cached, in rows; longer ones are read from the database each time.
pub const LIST_MAX: usize = 1000;
/// When a write's outcome is unknown, it is over after this at the latest; what it touches is forgotten again then.
const UNSETTLED_PAUSE: Duration = Duration::from_secs(10);

/// A node's cache. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    local: Local,
    local_ttl: Duration,
    remote: Option<Remote>,
    nodes: OnceLock<TellNodes>,
    counters: Arc<CacheCounters>,
}

/// What can be cached.
pub trait Cached: Any + Send + Sync + Serialize + DeserializeOwned {
    /// How many rows it is, for the bound of the memory.
    fn rows(&self) -> usize;
    /// Whether it says that something is absent, which is believed for a shorter time.
    fn is_absence(&self) -> bool;
}

impl Cache {
    /// The cache that the configuration describes; it connects by itself, and serves from memory meanwhile. Runs on
    /// the current runtime.
    pub fn start(config: &CacheConfig) -> Result<Self, ConfigError> {
        let counters = Arc::new(CacheCounters::default());
        let inner = Inner {
            local: Local::new(config.local_rows, config.local_ttl),
            local_ttl: config.local_ttl,
            remote: Remote::start(config, Arc::clone(&counters))?,
            nodes: OnceLock::new(),
            counters,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How writes reach the other nodes from now on; called once.
    pub fn connect(&self, nodes: TellNodes) {
        let first = self.inner.nodes.set(nodes).is_ok();
        debug_assert!(first, "the cache is connected once");
    }

    /// The counters.
    pub fn counters(&self) -> &CacheCounters {
        &self.inner.counters
    }

    /// Counters and state, as the admin endpoint shows them.
    pub fn json(&self) -> Value {
        let mut view = self.inner.counters.json();
        let (breaker, missed) = self.inner.remote.as_ref().map_or(("no redis", 0), Remote::state);
        view["breaker"] = json!(breaker);
        view["missed_keys"] = json!(missed);
        view
    }

    /// The value under a key: from memory, from Redis, or by `load`. Errors are `load`'s; Redis causes none.
    pub async fn read<T: Cached>(
        &self,
        key: Key,
        load: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<Arc<T>> {
        let inner = &self.inner;
        let since = Instant::now();
        let mut from_redis = false;
        let found = inner.local.get_or_load(&key.name, async {
            let token = match self.look_up(&[&key]).await.pop() {
                Some(Ok(value)) => {
                    from_redis = true;
                    return Ok(loaded(Arc::new(value), since));
                }
                Some(Err(token)) => token,
                None => None,
            };
            count(&inner.counters.misses);
            count(&inner.counters.loads);
            let value = Arc::new(load.await?);
            self.fill(vec![(&key, token, Arc::clone(&value))]);
            Ok(loaded(value, since))
        });
        let (value, was_here) = found.await?;
        if was_here || from_redis {
            count(if was_here { &inner.counters.local_hits } else { &inner.counters.redis_hits });
            inner.counters.hit_latency.note(since.elapsed());
        }
        Ok(value)
    }

    /// The same for many keys, in their order; what is nowhere else is loaded at once. `load` is given the places of
    /// the missing ones and answers in their order.
    pub async fn read_many<T: Cached>(
        &self,
        keys: &[Key],
        load: impl AsyncFnOnce(&[usize]) -> StoreResult<Vec<T>>,
    ) -> StoreResult<Vec<Arc<T>>> {
        let inner = &self.inner;
        let since = Instant::now();
        // Before anything is read elsewhere: a write from here on makes what is read unfit to be kept.
        let generations: Vec<u64> = keys.iter().map(|key| inner.local.generation(&key.name)).collect();
        let mut values: Vec<Option<Arc<T>>> = Vec::with_capacity(keys.len());
        for key in keys {
            let value = inner.local.get(&key.name).await;
            if value.is_some() {
                count(&inner.counters.local_hits);
                inner.counters.hit_latency.note(since.elapsed());
            }
            values.push(value);
        }
        let absent: Vec<usize> = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        let asked: Vec<&Key> = absent.iter().map(|at| &keys[*at]).collect();
        let mut missing = Vec::new();
        for (at, found) in absent.into_iter().zip(self.look_up::<T>(&asked).await) {
            match found {
                Ok(value) => {
                    let value = Arc::new(value);
                    count(&inner.counters.redis_hits);
                    inner.counters.hit_latency.note(since.elapsed());
                    let kept = loaded(Arc::clone(&value), since);
                    inner.local.insert(&keys[at].name, generations[at], kept).await;
                    values[at] = Some(value);
                }
                Err(token) => missing.push((at, token)),
            }
        }
        if !missing.is_empty() {
            add(&inner.counters.misses, missing.len() as u64);
            count(&inner.counters.loads);
            let places: Vec<usize> = missing.iter().map(|(at, _)| *at).collect();
            let mut read = Vec::with_capacity(missing.len());
            for ((at, token), value) in missing.into_iter().zip(load(&places).await?) {
                let value = Arc::new(value);
                read.push((&keys[at], token, Arc::clone(&value)));
                let kept = loaded(Arc::clone(&value), since);
                inner.local.insert(&keys[at].name, generations[at], kept).await;
                values[at] = Some(value);
            }
            self.fill(read);
        }
        Ok(values.into_iter().map(|value| value.expect("one value for each that was missing")).collect())
    }

    /// What Redis has, in the order of the keys, or leave to store what is not there.
    async fn look_up<T: Cached>(&self, keys: &[&Key]) -> Vec<Result<T, Option<Token>>> {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let Some(remote) = self.inner.remote.as_ref().filter(|_| !names.is_empty()) else {
            return names.iter().map(|_| Err(None)).collect();
        };
        let read = |(answer, name): (LookUp, &str)| {
            match answer {
            LookUp::Hit(json) => serde_json::from_str(&json).map_err(|error| {
                tracing::debug!(target: "rookery::cache", key = name, %error, "a value in Redis can't be read");
                None
            }),
            LookUp::Miss(token) => Err(token),
        }
        };
        remote.look_up(&names).await.into_iter().zip(names).map(read).collect()
    }

    /// Stores in Redis what was read after a look-up, where it gave leave to.
    fn fill<T: Cached>(&self, read: Vec<(&Key, Option<Token>, Arc<T>)>) {
        let Some(remote) = &self.inner.remote else { return };
        let encode = |(key, token, value): (_, Option<Token>, Arc<T>)| {
            let (key, token): (&Key, _) = (key, token.filter(|_| value.rows() <= LIST_MAX)?);
            let ttl = if value.is_absence() { key.ttl.min(NEGATIVE_TTL) } else { key.ttl };
            match serde_json::to_string(&*value) {
                Ok(json) => Some((key, token, json, ttl)),
                Err(error) => {
                    tracing::warn!(target: "rookery::cache", key = key.name, %error, "a value can't be written as JSON");
                    None
                }
            }
        };
        remote.fill(read.into_iter().filter_map(encode).collect());
    }

    /// Makes every node forget these keys. Returns when they have, or when their memory of them has expired.
    pub async fn invalidate(&self, keys: &[Key]) {
        let inner = &self.inner;
        count(&inner.counters.invalidations);
        let names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
        let told = match &inner.remote {
            Some(remote) => remote.invalidate(&names).await,
            None => true,
        };
        names.iter().for_each(|name| inner.local.forget(name));
        let names = if told { names } else { names.iter().map(|name| format!("{UNTOLD}{name}")).collect() };
        // Who does not confirm has read nothing before the write that lives longer than this.
        self.tell_nodes(names, inner.local_ttl).await;
    }

    /// Makes the other nodes forget, and returns when all have said so, or when `wait` is over if some have not.
    pub async fn tell_nodes(&self, names: Vec<String>, wait: Duration) {
        let Some(nodes) = self.inner.nodes.get() else { return };
        let until = tokio::time::Instant::now() + wait;
        if !nodes(names, wait).await {
            count(&self.inner.counters.unconfirmed);
            tokio::time::sleep_until(until).await;
        }
    }

    /// The same again after a while: the write may be carried out later than it failed.
    pub fn invalidate_later(&self, keys: Vec<Key>) {
        let cache = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(jittered(UNSETTLED_PAUSE)).await;
            cache.invalidate(&keys).await;
        });
    }

    /// Another node has written what stands under this key, or under a key of somebody else's, which does no harm.
    pub fn forget(&self, told: &str) {
        let name = told.strip_prefix(UNTOLD);
        if let (Some(name), Some(remote)) = (name, &self.inner.remote) {
            remote.distrust(name);
        }
        self.inner.local.forget(name.unwrap_or(told));
    }

    /// Stores plain values in Redis for other systems; whether they were. `None` deletes.
    async fn put(&self, rows: Vec<(Key, Option<String>)>) -> bool {
        match &self.inner.remote {
            Some(remote) => remote.put(rows).await,
            None => false,
        }
    }
}

fn loaded<T: Cached>(value: Arc<T>, since: Instant) -> Loaded<T> {
    let rows = value.rows();
    Loaded { rows: rows.try_into().unwrap_or(u32::MAX), keep: rows <= LIST_MAX, value, since }
}
