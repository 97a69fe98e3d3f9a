//! The stores in maps, for simulation and tests. What they hold ends with the process.
//!
//! They keep the same contract as the databases (`tests/contract`). [`MemoryStores::fail_next`] makes them fail the way a
//! database may: certainly, or leaving open whether a write was stored.

mod conversations;
mod marks;
mod people;
mod retention;
mod rooms;
mod search;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::state::State;
use super::{
    AccountStore, ClientKey, ContactRecord, ContactStore, DeviceRecord, MessageStore, ProfileChange,
    StoreError, StoreResult, Stores, UserRecord,
};
use crate::domain::limits::username_key;
use crate::protocol::ContactState;
use crate::protocol::v1::Message;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`StoreError::Unavailable`]: nothing is stored, nothing is read.
    Unavailable,
    /// [`StoreError::Unsettled`] though the write was stored. Reads don't fail so.
    UnsettledStored,
    /// [`StoreError::Unsettled`], and the write was not stored. Reads don't fail so.
    UnsettledLost,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// What the next calls meet, and how many of them.
    fault: Option<(Fault, u32)>,
}

/// The stores. Cheap to clone; all clones share their maps.
#[derive(Clone, Default)]
pub struct MemoryStores {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryStores {
    /// As the rest of the node uses them.
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            accounts: this.clone(),
            contacts: this.clone(),
            conversations: this.clone(),
            people: this.clone(),
            rooms: this.clone(),
            marks: this.clone(),
            retention: this.clone(),
            messages: this.clone(),
            search: this,
        }
    }

    /// Lets the next `calls` calls fail; replaces an earlier fault. [`Fault::Unavailable`] meets every call, the
    /// others meet writes and let reads through. 0: no fault.
    pub fn fail_next(&self, calls: u32, fault: Fault) {
        self.inner.lock().fault = (calls > 0).then_some((fault, calls));
    }

    /// A call that changes nothing.
    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> StoreResult<T> {
        let mut inner = self.inner.lock();
        match inner.fault {
            Some((Fault::Unavailable, _)) => Err(inner.next_fault()),
            _ => Ok(read(&inner.state)),
        }
    }

    /// A call that changes something. `write` leaves the state as it was where it returns an error.
    fn write<T>(&self, write: impl FnOnce(&mut State) -> StoreResult<T>) -> StoreResult<T> {
        let mut inner = self.inner.lock();
        match inner.fault {
            None => write(&mut inner.state),
            Some((Fault::Unavailable | Fault::UnsettledLost, _)) => Err(inner.next_fault()),
            Some((Fault::UnsettledStored, _)) => {
                write(&mut inner.state)?;
                Err(inner.next_fault())
            }
        }
    }
}

impl Inner {
    /// The error of the fault that is due, which is then due once less.
    fn next_fault(&mut self) -> StoreError {
        let Some((fault, calls)) = self.fault.take() else {
            return StoreError::Invalid("no fault is due".to_owned());
        };
        self.fault = (calls > 1).then(|| (fault, calls - 1));
        match fault {
            Fault::Unavailable => StoreError::Unavailable("a fault of the test".to_owned()),
            Fault::UnsettledStored | Fault::UnsettledLost => {
                StoreError::Unsettled("a fault of the test".to_owned())
            }
        }
    }
}

#[async_trait]
impl AccountStore for MemoryStores {
    async fn create_user(&self, mut user: UserRecord) -> StoreResult<UserRecord> {
        self.write(|state| {
            let key = username_key(&user.username);
            if state.usernames.contains_key(&key) {
                return Err(StoreError::Exists);
            }
            user.id = state.next_id();
            state.usernames.insert(key, user.id);
            state.users.insert(user.id, user.clone());
            Ok(user)
        })
    }

    async fn user(&self, user_id: u64) -> StoreResult<Option<UserRecord>> {
        self.read(|state| state.users.get(&user_id).cloned())
    }

    async fn users(&self, user_ids: &[u64]) -> StoreResult<Vec<UserRecord>> {
        let mut ids = user_ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        self.read(|state| ids.iter().filter_map(|id| state.users.get(id).cloned()).collect())
    }

    async fn user_by_name(&self, username: &str) -> StoreResult<Option<UserRecord>> {
        self.read(|state| {
            let id = state.usernames.get(&username_key(username))?;
            state.users.get(id).cloned()
        })
    }

    async fn search_users(&self, query: &str, after_id: u64, limit: u32) -> StoreResult<Vec<UserRecord>> {
        let (prefix, part) = (username_key(query), query.to_lowercase());
        self.read(|state| {
            let matches = |user: &&UserRecord| {
                !user.disabled
                    && (username_key(&user.username).starts_with(&prefix)
                        || user.display_name.to_lowercase().contains(&part))
            };
            let behind = state.users.range(after_id.saturating_add(1)..).map(|(_, user)| user);
            behind.filter(matches).take(limit as usize).cloned().collect()
        })
    }

    async fn change_profile(&self, user_id: u64, change: ProfileChange) -> StoreResult<Option<UserRecord>> {
        self.write(|state| {
            let Some(user) = state.users.get_mut(&user_id) else { return Ok(None) };
            if let Some(name) = change.display_name {
                user.display_name = name;
            }
            if let Some(file_id) = change.avatar_file_id {
                user.avatar_file_id = file_id;
            }
            if let Some(bio) = change.bio {
                user.bio = bio;
            }
            Ok(Some(user.clone()))
        })
    }

    async fn set_password(&self, user_id: u64, old_hash: &str, new_hash: &str) -> StoreResult<bool> {
        self.write(|state| {
            let is_known = |hash: &str| hash == old_hash || hash == new_hash;
            let user = state.users.get_mut(&user_id).filter(|user| is_known(&user.password_hash));
            Ok(user.map(|user| user.password_hash = new_hash.to_owned()).is_some())
        })
    }

    async fn set_disabled(&self, user_id: u64, disabled: bool) -> StoreResult<()> {
        self.write(|state| {
            if let Some(user) = state.users.get_mut(&user_id) {
                user.disabled = disabled;
            }
            Ok(())
        })
    }

    async fn create_device(&self, mut device: DeviceRecord, token_hash: &str) -> StoreResult<DeviceRecord> {
        self.write(|state| {
            if state.tokens.contains_key(token_hash) {
                return Err(StoreError::Exists);
            }
            device.id = state.next_id();
            state.tokens.insert(token_hash.to_owned(), device.id);
            state.devices.insert(device.id, device.clone());
            Ok(device)
        })
    }

    async fn device_by_token(&self, token_hash: &str) -> StoreResult<Option<DeviceRecord>> {
        self.read(|state| state.devices.get(state.tokens.get(token_hash)?).cloned())
    }

    async fn devices(&self, user_id: u64) -> StoreResult<Vec<DeviceRecord>> {
        self.read(|state| {
            state.devices.values().filter(|device| device.user_id == user_id).cloned().collect()
        })
    }

    async fn delete_device(&self, user_id: u64, device_id: u64) -> StoreResult<bool> {
        self.write(|state| {
            let is_theirs = state.devices.get(&device_id).is_some_and(|device| device.user_id == user_id);
            if is_theirs {
                state.devices.remove(&device_id);
                state.tokens.retain(|_, id| *id != device_id);
            }
            Ok(is_theirs)
        })
    }

    async fn touch_device(&self, device_id: u64, now_ms: u64) -> StoreResult<()> {
        self.write(|state| {
            if let Some(device) = state.devices.get_mut(&device_id) {
                device.last_seen_ms = now_ms;
            }
            Ok(())
        })
    }

    async fn line_given(&self, user_id: u64) -> StoreResult<Vec<(u64, String)>> {
        self.read(|state| {
            let of_user = state.line_given.range((user_id, 0)..=(user_id, u64::MAX));
            of_user.map(|((_, conversation_id), ranges)| (*conversation_id, ranges.clone())).collect()
        })
    }

    async fn set_line_given(&self, user_id: u64, given: &[(u64, String)]) -> StoreResult<()> {
        self.write(|state| {
            for (conversation_id, ranges) in given {
                state.line_given.insert((user_id, *conversation_id), ranges.clone());
            }
            Ok(())
        })
    }
}

#[async_trait]
impl ContactStore for MemoryStores {
    async fn contact(&self, user_id: u64, contact_id: u64) -> StoreResult<Option<ContactRecord>> {
        self.read(|state| state.contacts.get(&(user_id, contact_id)).cloned())
    }

    async fn contacts(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ContactRecord>> {
        self.read(|state| {
            let behind = state.contacts.range((user_id, after_id.saturating_add(1))..=(user_id, u64::MAX));
            behind.map(|(_, record)| record.clone()).take(limit as usize).collect()
        })
    }

    async fn put_contacts(&self, rows: &[ContactRecord; 2]) -> StoreResult<()> {
        self.write(|state| {
            for row in rows {
                let there = state.contacts.get(&(row.user_id, row.contact_id)).map(|old| old.state);
                let makes_friends = matches!(
                    (row.state, there),
                    (ContactState::Requested, Some(ContactState::Invited | ContactState::Friend))
                        | (ContactState::Invited, Some(ContactState::Requested | ContactState::Friend))
                );
                let mut row = row.clone();
                if makes_friends {
                    row.state = ContactState::Friend;
                    row.message.clear();
                }
                state.contacts.insert((row.user_id, row.contact_id), row);
            }
            Ok(())
        })
    }

    async fn accept_contacts(&self, user_id: u64, contact_id: u64, now_ms: u64) -> StoreResult<bool> {
        self.write(|state| {
            let mut found = false;
            for sides in [(user_id, contact_id), (contact_id, user_id)] {
                if let Some(row) = state.contacts.get_mut(&sides)
                    && row.state != ContactState::Blocked
                {
                    (row.state, row.updated_at_ms, found) = (ContactState::Friend, now_ms, true);
                    row.message.clear();
                }
            }
            Ok(found)
        })
    }

    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool> {
        self.write(|state| {
            let mine = state.contacts.remove(&(user_id, contact_id)).is_some();
            let theirs = state.contacts.remove(&(contact_id, user_id)).is_some();
            Ok(mine || theirs)
        })
    }
}

#[async_trait]
impl MessageStore for MemoryStores {
    async fn append(&self, messages: &[Message]) -> StoreResult<()> {
        self.write(|state| state.append(messages))
    }

    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64> {
        self.read(|state| state.newest(conversation_id, 0).map_or(0, |message| message.seq))
    }

    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>> {
        self.read(|state| {
            let find = |key: &ClientKey| {
                let seq = *state.client_keys.get(key)?;
                let message = state.messages.get(&(key.conversation_id, seq))?;
                Some((key.clone(), seq, message.created_at_ms))
            };
            keys.iter().filter_map(find).collect()
        })
    }

    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>> {
        self.read(|state| {
            let from = (conversation_id, after_seq.saturating_add(1));
            let behind = state.messages.range(from..=(conversation_id, u64::MAX));
            behind.map(|(_, message)| State::shown(message)).take(limit as usize).collect()
        })
    }

    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        self.read(|state| {
            if first_seq >= before_seq {
                return Vec::new();
            }
            let range = state.messages.range((conversation_id, first_seq)..(conversation_id, before_seq));
            let mut page: Vec<Message> =
                range.rev().map(|(_, message)| State::shown(message)).take(limit as usize).collect();
            page.reverse();
            page
        })
    }
}
