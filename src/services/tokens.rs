//! Access tokens: how they are made and hashed, and the cache that spares the database most requests' look-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
// It follows the simulation's clock, so that a slow machine plays a seed no other way.
use tokio::time::Instant;

use crate::config::{AccountsConfig, Config};
use crate::storage::cache::Cache as StoreCache;

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user_id: u64,
    /// The signed-in client.
    pub device_id: u64,
    /// Its name.
    pub device_name: String,
    /// The token is refused from here on. Unix time, milliseconds.
    pub expires_at_ms: u64,
}

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// The longest token that is looked at; ours have 64 characters.
const TOKEN_LENGTH_MAX: usize = 256;

/// A new token, as 64 hexadecimal digits.
pub fn new_token() -> String {
    hex::encode(rand::random::<[u8; TOKEN_BYTES]>())
}

/// What is stored of a token: its SHA-256 in hexadecimal. `None`: no token of ours looks like this.
pub fn token_hash(token: &str) -> Option<String> {
    (!token.is_empty() && token.len() <= TOKEN_LENGTH_MAX).then(|| hex::encode(Sha256::digest(token)))
}

/// The key by which nodes tell each other to forget a device.
pub fn device_cache_key(device_id: u64) -> String {
    format!("device:{device_id}")
}

/// A moment before the database is asked.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    forgotten: u64,
    since: Instant,
}

/// How nodes make each other forget. A sign-out is answered when every other node has forgotten the token, or when
/// those that did not say so must have noticed that they hear nothing from this one, and no longer trust their memory.
#[derive(Clone)]
pub struct Forgetting {
    cache: StoreCache,
    /// The most that a sign-out waits.
    wait: Duration,
    /// How old what a node remembers may be while it does not hear all the others.
    cut_off_age: Duration,
}

impl Forgetting {
    /// By way of the node's cache.
    pub fn new(cache: StoreCache, config: &Config) -> Self {
        let cut_off_age = config.cache.local_ttl;
        Self { cache, wait: config.cluster.suspect_after + cut_off_age, cut_off_age }
    }

    /// Makes the other nodes forget these keys.
    pub async fn everywhere(&self, keys: Vec<String>) {
        self.cache.tell_nodes(keys, self.wait).await;
    }

    /// Another node has asked for it.
    pub fn here(&self, key: &str) {
        self.cache.forget(key);
    }

    /// How old what is remembered may be on a node that has heard everybody for this long, or does not. What it read while
    /// it was cut off may have been revoked without its being told, so that counts no longer than it did then.
    pub fn age_max(&self, whole_for: Option<Duration>) -> Duration {
        whole_for.unwrap_or_default().max(self.cut_off_age)
    }
}

/// Devices of recently used tokens. In two steps, token to device and device to identity, because a sign-out names the
/// device and nobody keeps its token.
#[derive(Clone)]
pub struct TokenCache {
    devices: Cache<String, u64>,
    /// With the moment before the database was asked.
    identities: Cache<u64, (Identity, Instant)>,
    /// Counts forgettings: what was read from the database before one is not remembered after it.
    forgotten: Arc<AtomicU64>,
}

impl TokenCache {
    /// An empty cache of `accounts.token_cache` entries, each trusted for `accounts.token_cache_ttl`.
    pub fn new(config: &AccountsConfig) -> Self {
        Self {
            devices: Cache::builder()
                .max_capacity(config.token_cache)
                .time_to_live(config.token_cache_ttl)
                .build(),
            identities: Cache::builder()
                .max_capacity(config.token_cache)
                .time_to_live(config.token_cache_ttl)
                .build(),
            forgotten: Arc::default(),
        }
    }

    /// Who the token speaks for, where that is remembered, no older than `age_max`, and has not expired.
    pub fn get(&self, token_hash: &str, now_ms: u64, age_max: Duration) -> Option<Identity> {
        let device_id = self.devices.get(token_hash)?;
        let (identity, since) = self.identities.get(&device_id)?;
        (identity.expires_at_ms > now_ms && since.elapsed() < age_max).then_some(identity)
    }

    /// To be taken before the database is asked, and given to [`Self::remember`] with what it said.
    pub fn epoch(&self) -> Epoch {
        Epoch { forgotten: self.forgotten.load(Ordering::Acquire), since: Instant::now() }
    }

    /// Remembers, unless anything was forgotten since `epoch`.
    pub fn remember(&self, token_hash: &str, identity: &Identity, epoch: Epoch) {
        let is_over = || self.forgotten.load(Ordering::Acquire) != epoch.forgotten;
        if is_over() {
            return;
        }
        self.devices.insert(token_hash.to_owned(), identity.device_id);
        self.identities.insert(identity.device_id, (identity.clone(), epoch.since));
        // A forgetting between the check and the insertion would have missed it.
        if is_over() {
            self.identities.invalidate(&identity.device_id);
        }
    }

    /// The database knows no such token.
    pub fn refused(&self, token_hash: &str) {
        self.devices.invalidate(token_hash);
    }

    /// Changes with everything that is forgotten.
    pub fn forgettings(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Forgets a device, which may never have been known. Foreign keys are ignored.
    pub fn forget(&self, cache_key: &str) {
        if let Some(device_id) = cache_key.strip_prefix("device:").and_then(|id| id.parse::<u64>().ok()) {
            self.forgotten.fetch_add(1, Ordering::AcqRel);
            self.identities.invalidate(&device_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { user_id: 1, device_id: 2, device_name: "phone".into(), expires_at_ms: 1000 }
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_or_is_forgotten() {
        let cache = TokenCache::new(&AccountsConfig::default());
        cache.remember("hash", &identity(), cache.epoch());
        assert_eq!(cache.get("hash", 999, Duration::MAX), Some(identity()));
        assert_eq!(cache.get("hash", 1000, Duration::MAX), None);
        assert_eq!(cache.get("hash", 999, Duration::ZERO), None, "a node that is cut off asks the database");
        cache.forget(&device_cache_key(2));
        assert_eq!(cache.get("hash", 999, Duration::MAX), None);
    }

    #[test]
    fn what_was_read_before_a_sign_out_is_not_remembered_after_it() {
        let cache = TokenCache::new(&AccountsConfig::default());
        let epoch = cache.epoch();
        cache.forget(&device_cache_key(2));
        cache.remember("hash", &identity(), epoch);
        assert_eq!(cache.get("hash", 0, Duration::MAX), None);
    }

    #[test]
    fn what_was_read_while_cut_off_is_not_trusted_after_the_heal() {
        let config = Config::default();
        let forgetting =
            Forgetting::new(StoreCache::start(&config.cache).expect("no Redis is named"), &config);
        let local = config.cache.local_ttl;
        assert_eq!(forgetting.age_max(None), local, "cut off");
        assert_eq!(forgetting.age_max(Some(Duration::ZERO)), local, "just whole again");
        let minute = Duration::from_secs(60);
        assert_eq!(forgetting.age_max(Some(minute)), minute);
    }

    #[test]
    fn tokens_differ_and_only_their_hash_is_kept() {
        let token = new_token();
        assert_eq!(token.len(), 64);
        assert_ne!(token, new_token());
        assert_ne!(token_hash(&token), Some(token));
        assert_eq!(token_hash(""), None);
        assert_eq!(token_hash(&"x".repeat(257)), None);
    }
}
