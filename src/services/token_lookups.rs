//! Look-ups of tokens that no memory knows, gathered: a storm of sign-ins costs the database a query for many instead of
//! two for each. When a device was last used is noted behind the answer, also for many at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::actors::gather::{Bounds, Gather};
use crate::actors::overload::{Overload, Shed};
use crate::clock::now_ms;
use crate::domain::Result;
use crate::storage::{AccountStore, TokenOwner};

/// Most tokens of one query, and devices of one note.
const TOGETHER: usize = 128;
/// Queries under way at once, so that a slow one does not hold up all.
const LANES: usize = 2;
/// Devices whose use is to be noted; beyond, it is not.
const USED_MAX: usize = 65_536;

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct TokenLookups {
    store: Arc<dyn AccountStore>,
    owners: Gather<String, Option<TokenOwner>>,
    used: Arc<Mutex<Used>>,
}

#[derive(Default)]
struct Used {
    devices: BTreeSet<u64>,
    is_noting: bool,
}

impl TokenLookups {
    /// In this store. To be called on the main runtime.
    pub fn new(store: Arc<dyn AccountStore>, overload: &Arc<Overload>) -> Self {
        let bounds = Bounds { lanes: LANES, together: TOGETHER, shed: Shed::SignIns };
        let accounts = Arc::clone(&store);
        let owners = Gather::new(overload, bounds, move |hashes: Vec<String>| {
            let accounts = Arc::clone(&accounts);
            async move {
                let owners = accounts.owners_of_tokens(&hashes).await?;
                let owners: HashMap<_, _> =
                    owners.into_iter().map(|owner| (owner.token_hash.clone(), owner)).collect();
                Ok(hashes.iter().map(|hash| owners.get(hash).cloned()).collect())
            }
        });
        Self { store, owners, used: Arc::default() }
    }

    /// Whose token has this hash.
    pub async fn owner(&self, token_hash: &str) -> Result<Option<TokenOwner>> {
        self.owners.ask(token_hash.to_owned()).await
    }

    /// Notes soon that the device was used now. Not worth failing for.
    pub fn used(&self, device_id: u64) {
        let begins = {
            let mut used = self.used.lock();
            if used.devices.len() < USED_MAX {
                used.devices.insert(device_id);
            }
            !std::mem::replace(&mut used.is_noting, true)
        };
        if begins {
            tokio::spawn(self.clone().note());
        }
    }

    async fn note(self) {
        loop {
            let device_ids: Vec<u64> = {
                let mut used = self.used.lock();
                let device_ids: Vec<u64> = used.devices.iter().take(TOGETHER).copied().collect();
                if device_ids.is_empty() {
                    used.is_noting = false;
                    return;
                }
                for device_id in &device_ids {
                    used.devices.remove(device_id);
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
    use crate::config::OverloadConfig;
    use crate::storage::memory::{Fault, MemoryStores};
    use crate::storage::{DeviceRecord, UserRecord};

    fn lookups(accounts: &Arc<dyn AccountStore>) -> TokenLookups {
        TokenLookups::new(Arc::clone(accounts), &Arc::new(Overload::new(&OverloadConfig::default())))
    }

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
        let lookups = lookups(&accounts);
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
        assert_eq!(lookups.owner("nobody").await, Ok(None));
        assert!(matches!(lookups.owner("hash7").await, Ok(Some(_))));
    }

    #[tokio::test]
    async fn the_use_of_devices_is_noted_behind_the_answers() {
        let (_, accounts) = stores_with_devices(200).await;
        let lookups = lookups(&accounts);
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
