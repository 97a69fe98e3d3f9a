//! Look-ups of tokens that no memory knows. Those that come while one is under way go together in the next, without
//! waiting for company: a lone one takes no longer, and a storm of sign-ins costs the database a query for many instead
//! of two for each. When a device was last used is noted behind the answer, also for many at once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::now_ms;
use crate::domain::{Error, Result};
use crate::storage::{AccountStore, StoreError, StoreResult, TokenOwner};

/// Look-ups that wait; more are refused.
const WAITING_MAX: usize = 65_536;
/// Most tokens of one query, and devices of one note.
const TOGETHER: usize = 128;
/// Queries under way at once: one more than keeps the database busy, so that a slow one does not hold up all.
const LANES: usize = 2;
/// Devices whose use is to be noted; beyond, it is not.
const USED_MAX: usize = 65_536;

type Answer = StoreResult<Option<TokenOwner>>;

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct TokenLookups {
    store: Arc<dyn AccountStore>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    asked: VecDeque<(String, oneshot::Sender<Answer>)>,
    lanes: usize,
    used: BTreeSet<u64>,
    is_noting: bool,
}

impl TokenLookups {
    /// In this store.
    pub fn new(store: Arc<dyn AccountStore>) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Whose token has this hash. To be called on the main runtime.
    pub async fn owner(&self, token_hash: &str) -> Result<Option<TokenOwner>> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut waiting = self.waiting.lock();
            if waiting.asked.len() >= WAITING_MAX {
                return Err(Error::unavailable("too many clients sign in at this moment; try again"));
            }
            waiting.asked.push_back((token_hash.to_owned(), sender));
            let begins = waiting.lanes < LANES;
            waiting.lanes += usize::from(begins);
            begins
        };
        if begins {
            tokio::spawn(self.clone().look_up());
        }
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::unavailable("the token could not be looked up; try again")),
        }
    }

    /// Notes soon that the device was used now. Not worth failing for.
    pub fn used(&self, device_id: u64) {
        let begins = {
            let mut waiting = self.waiting.lock();
            if waiting.used.len() < USED_MAX {
                waiting.used.insert(device_id);
            }
            !std::mem::replace(&mut waiting.is_noting, true)
        };
        if begins {
            tokio::spawn(self.clone().note());
        }
    }

    /// One lane: queries until nobody waits.
    async fn look_up(self) {
        loop {
            let batch: Vec<_> = {
                let mut waiting = self.waiting.lock();
                let together = waiting.asked.len().min(TOGETHER);
                if together == 0 {
                    waiting.lanes -= 1;
                    return;
                }
                waiting.asked.drain(..together).collect()
            };
            let hashes: Vec<String> = batch.iter().map(|(hash, _)| hash.clone()).collect();
            let store = Arc::clone(&self.store);
            // A task of its own, so that a bug in a store costs a batch and not the lane.
            let query = tokio::spawn(async move { store.owners_of_tokens(&hashes).await });
            let found = query.await.unwrap_or_else(|_| Err(StoreError::Unavailable("a bug".to_owned())));
            let found = found.map(|owners| {
                owners.into_iter().map(|owner| (owner.token_hash.clone(), owner)).collect::<HashMap<_, _>>()
            });
            for (hash, asker) in batch {
                let answer = match &found {
                    Ok(owners) => Ok(owners.get(&hash).cloned()),
                    Err(error) => Err(error.clone()),
                };
                // Who has gone does not want it.
                let _ = asker.send(answer);
            }
        }
    }

    async fn note(self) {
        loop {
            let device_ids: Vec<u64> = {
                let mut waiting = self.waiting.lock();
                let device_ids: Vec<u64> = waiting.used.iter().take(TOGETHER).copied().collect();
                if device_ids.is_empty() {
                    waiting.is_noting = false;
                    return;
                }
                for device_id in &device_ids {
                    waiting.used.remove(device_id);
                }
                device_ids
            };
            let store = Arc::clone(&self.store);
            let noted = tokio::spawn(async move { store.touch_devices(&device_ids, now_ms()).await });
            if let Ok(Err(error)) = noted.await {
                tracing::debug!(target: "rookery::accounts", %error, "the last use of some devices was not noted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;
    use crate::storage::memory::{Fault, MemoryStores};
    use crate::storage::{DeviceRecord, UserRecord};

    async fn stores_with_devices(count: usize) -> (MemoryStores, Arc<dyn AccountStore>) {
        let memory = MemoryStores::default();
        let accounts = memory.stores().accounts;
        let user = UserRecord { username: "ada".to_owned(), ..UserRecord::default() };
        let user = accounts.create_user(user).await.expect("the name is free");
        for number in 0..count {
            let device = DeviceRecord { user_id: user.id, ..DeviceRecord::default() };
            accounts.create_device(device, &format!("hash{number}")).await.expect("the token is new");
        }
        (memory, accounts)
    }

    #[tokio::test]
    async fn look_ups_at_one_moment_share_a_query_and_its_fate() {
        let (memory, accounts) = stores_with_devices(300).await;
        let lookups = TokenLookups::new(accounts);
        // Everybody asks before the first query runs, as there is one thread; that query fails.
        memory.fail_next(1, Fault::Unavailable);
        let hashes: Vec<String> = (0..300).map(|number| format!("hash{number}")).collect();
        let answers = join_all(hashes.iter().map(|hash| lookups.owner(hash))).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(failed, TOGETHER, "those of one query, no more and no fewer");
        for (hash, answer) in hashes.iter().zip(&answers) {
            if let Ok(owner) = answer {
                assert_eq!(owner.as_ref().map(|owner| &owner.token_hash), Some(hash));
            }
        }
        // The lanes have come to their ends, and begin again.
        assert_eq!(lookups.waiting.lock().lanes, 0);
        assert_eq!(lookups.owner("nobody").await, Ok(None));
        assert!(matches!(lookups.owner("hash7").await, Ok(Some(_))));
    }

    #[tokio::test]
    async fn the_use_of_devices_is_noted_behind_the_answers() {
        let (_, accounts) = stores_with_devices(200).await;
        let lookups = TokenLookups::new(Arc::clone(&accounts));
        let devices = accounts.devices(1).await.expect("memory answers");
        devices.iter().for_each(|device| lookups.used(device.id));
        let all_noted = async {
            while accounts
                .devices(1)
                .await
                .expect("memory answers")
                .iter()
                .any(|device| device.last_seen_ms == 0)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all_noted).await.expect("they are noted");
    }
}
