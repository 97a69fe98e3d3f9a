//! Argon2id hashes of passwords: off the runtime's threads, a bounded number at once, a bounded number waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::config::AccountsConfig;
use crate::domain::{Error, Result};

/// What a caller who found the queue full is advised.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes of salt in a hash.
const SALT_BYTES: usize = 16;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    at_once: Arc<Semaphore>,
    /// Those computed and those that wait, together.
    admitted: Arc<AtomicUsize>,
    admitted_max: usize,
    /// A hash that no password has, so that an unknown user name costs what a known one does.
    decoy: Arc<str>,
}

/// One place in the queue; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    /// Computes one hash (the decoy), which takes as long as a sign-in.
    pub fn new(config: &AccountsConfig) -> Result<Self> {
        let params = Params::new(config.argon2_memory_kib, config.argon2_passes, 1, None)
            .map_err(|error| Error::internal(format!("accounts.argon2_* can't be used: {error}")))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let at_once = config.hashes_at_once.max(1);
        let decoy = hash(&argon2, &hex::encode(rand::random::<[u8; 32]>()))?;
        Ok(Self {
            argon2,
            at_once: Arc::new(Semaphore::new(at_once)),
            admitted: Arc::default(),
            admitted_max: at_once + config.hashes_waiting,
            decoy: decoy.into(),
        })
    }

    /// The PHC string of a new hash. `resource_exhausted`: too many wait already.
    pub async fn hash(&self, password: String) -> Result<String> {
        let argon2 = self.argon2.clone();
        self.run(move || hash(&argon2, &password)).await
    }

    /// Whether `password` has the hash; without a hash the same work is done and the answer is no.
    pub async fn verify(&self, password: String, expected: Option<String>) -> Result<bool> {
        let argon2 = self.argon2.clone();
        let known = expected.is_some();
        let expected = expected.unwrap_or_else(|| self.decoy.to_string());
        self.run(move || {
            let expected = PasswordHash::new(&expected).map_err(|_| {
                Error::internal("a stored password hash can't be read; set the password anew")
            })?;
            Ok(argon2.verify_password(password.as_bytes(), &expected).is_ok() && known)
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let place = Place(self.admitted.clone());
        if place.0.fetch_add(1, Ordering::Relaxed) >= self.admitted_max {
            return Err(Error::exhausted(
                "too many sign-ins wait for their password check; try again in a second",
                RETRY_AFTER,
            ));
        }
        let permit =
            self.at_once.clone().acquire_owned().await.map_err(|_| Error::internal("the queue is closed"))?;
        // The place and the permit travel with the work: a caller that gives up doesn't let another begin early.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            drop(place);
            result
        });
        done.await.map_err(|_| Error::internal("a password could not be hashed"))?
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String> {
    let failed = |error| Error::internal(format!("a password could not be hashed: {error}"));
    let salt = SaltString::encode_b64(&rand::random::<[u8; SALT_BYTES]>()).map_err(failed)?;
    Ok(argon2.hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(at_once: usize, waiting: usize) -> Passwords {
        let config = AccountsConfig {
            argon2_memory_kib: 8,
            argon2_passes: 1,
            hashes_at_once: at_once,
            hashes_waiting: waiting,
            ..AccountsConfig::default()
        };
        Passwords::new(&config).expect("the parameters are valid")
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = cheap(1, 8);
        let hash = passwords.hash("secret1".into()).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert_eq!(passwords.verify("secret1".into(), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("secret2".into(), Some(hash)).await, Ok(false));
        assert_eq!(passwords.verify("secret1".into(), None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_empties_again() {
        let passwords = cheap(1, 0);
        let held = passwords.at_once.clone().acquire_owned().await.expect("open");
        let waiting = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.hash("secret1".into()).await }
        });
        while passwords.admitted.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.hash("secret1".into()).await.expect_err("one is computed, none may wait");
        assert_eq!(refused.code, crate::protocol::ErrorCode::ResourceExhausted);
        drop(held);
        waiting.await.expect("not cancelled").expect("hashed");
        passwords.hash("secret1".into()).await.expect("there is room again");
    }
}
