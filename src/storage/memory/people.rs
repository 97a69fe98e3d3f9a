//! [`PeopleStore`] in maps.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::MemoryStores;
use super::state::State;
use crate::domain::changes::{empty, is_written};
use crate::domain::limits::username_key;
use crate::domain::privacy::Relation;
use crate::protocol::{ContactState, MessageKind, PresenceStatus};
use crate::storage::{
    BlockRecord, Draft, LateErasure, PeopleStore, PreferenceChange, PresenceRecord, PrivacyChange,
    PrivacyRecord, StoreError, StoreResult, UserRecord,
};

impl State {
    fn relation(&self, user_id: u64, other: u64) -> Relation {
        let contact = self.contacts.get(&(user_id, other));
        Relation {
            friends: contact.is_some_and(|contact| contact.state == ContactState::Friend),
            blocks: self.blocks.contains_key(&(user_id, other)),
            blocked: self.blocks.contains_key(&(other, user_id)),
        }
    }

    fn is_present(&self, conversation_id: u64, user_id: u64) -> bool {
        self.members.get(&(conversation_id, user_id)).is_some_and(|member| member.removed_at_ms == 0)
    }
}

#[async_trait]
impl PeopleStore for MemoryStores {
    async fn privacies(&self, user_ids: &[u64]) -> StoreResult<Vec<PrivacyRecord>> {
        let ids: BTreeSet<&u64> = user_ids.iter().collect();
        self.read(|state| ids.into_iter().filter_map(|id| state.privacies.get(id).copied()).collect())
    }

    async fn change_privacy(&self, user_id: u64, change: PrivacyChange) -> StoreResult<()> {
        self.write(|state| {
            let new = PrivacyRecord { user_id, ..PrivacyRecord::default() };
            change.apply(state.privacies.entry(user_id).or_insert(new));
            Ok(())
        })
    }

    async fn presences(&self, user_ids: &[u64]) -> StoreResult<Vec<PresenceRecord>> {
        let ids: BTreeSet<&u64> = user_ids.iter().collect();
        self.read(|state| ids.into_iter().filter_map(|id| state.presences.get(id).cloned()).collect())
    }

    async fn set_presence(
        &self,
        user_id: u64,
        status: PresenceStatus,
        text: &str,
        now_ms: u64,
    ) -> StoreResult<()> {
        self.write(|state| {
            let (was, seen) =
                state.presences.get(&user_id).map_or((None, 0), |old| (Some(old.status), old.last_seen_ms));
            let unseen = was == Some(PresenceStatus::Invisible) && status == PresenceStatus::Invisible;
            let last_seen_ms = if unseen { seen } else { seen.max(now_ms) };
            let record = PresenceRecord { user_id, status, text: text.to_owned(), last_seen_ms };
            state.presences.insert(user_id, record);
            Ok(())
        })
    }

    async fn note_seen(&self, seen: &[(u64, u64)]) -> StoreResult<()> {
        self.write(|state| {
            for &(user_id, at_ms) in seen {
                let record = state.presences.entry(user_id).or_insert_with(|| PresenceRecord {
                    user_id,
                    status: PresenceStatus::Online,
                    text: String::new(),
                    last_seen_ms: 0,
                });
                if record.status != PresenceStatus::Invisible {
                    record.last_seen_ms = record.last_seen_ms.max(at_ms);
                }
            }
            Ok(())
        })
    }

    async fn block(&self, block: BlockRecord) -> StoreResult<bool> {
        self.write(|state| {
            let (user_id, other) = (block.user_id, block.blocked_id);
            state.contacts.remove(&(user_id, other));
            state.contacts.remove(&(other, user_id));
            let is_new = !state.blocks.contains_key(&(user_id, other));
            state.blocks.entry((user_id, other)).or_insert(block);
            Ok(is_new)
        })
    }

    async fn unblock(&self, user_id: u64, blocked_id: u64) -> StoreResult<bool> {
        self.write(|state| Ok(state.blocks.remove(&(user_id, blocked_id)).is_some()))
    }

    async fn blocks(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BlockRecord>> {
        self.read(|state| {
            let behind = state.blocks.range((user_id, after_id.saturating_add(1))..=(user_id, u64::MAX));
            behind.map(|(_, block)| *block).take(limit as usize).collect()
        })
    }

    async fn list_sizes(&self, user_id: u64) -> StoreResult<(u64, u64)> {
        self.read(|state| {
            let range = (user_id, 0)..=(user_id, u64::MAX);
            (state.contacts.range(range.clone()).count() as u64, state.blocks.range(range).count() as u64)
        })
    }

    async fn direct_of(&self, a: u64, b: u64) -> StoreResult<Option<u64>> {
        self.read(|state| state.directs.get(&(a.min(b), a.max(b))).copied())
    }

    async fn meetings(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Option<u64>, bool)>> {
        self.read(|state| {
            let meeting = |(user, other): &(u64, u64)| {
                let direct = state.directs.get(&(*user.min(other), *user.max(other))).copied();
                (direct, state.users.contains_key(other))
            };
            pairs.iter().map(meeting).collect()
        })
    }

    async fn relations(&self, user_id: u64, others: &[u64]) -> StoreResult<Vec<Relation>> {
        self.read(|state| others.iter().map(|other| state.relation(user_id, *other)).collect())
    }

    async fn set_preferences(
        &self,
        user_id: u64,
        conversation_id: u64,
        change: PreferenceChange,
        now_ms: u64,
    ) -> StoreResult<bool> {
        self.write(|state| {
            if !state.is_present(conversation_id, user_id) {
                return Ok(false);
            }
            if let Some(member) = state.members.get_mut(&(conversation_id, user_id)) {
                member.muted_until_ms = change.muted_until_ms.unwrap_or(member.muted_until_ms);
                member.pinned = change.pinned.unwrap_or(member.pinned);
            }
            let record = state.preferences.entry((user_id, conversation_id)).or_default();
            record.archived = change.archived.unwrap_or(record.archived);
            record.hidden_before_seq = change.hidden_before_seq.unwrap_or(record.hidden_before_seq);
            record.unread_before_seq = change.unread_before_seq.unwrap_or(record.unread_before_seq);
            record.notifications = change.notifications.unwrap_or(record.notifications);
            record.changed_at_ms = record.changed_at_ms.max(now_ms);
            Ok(true)
        })
    }

    async fn set_draft(&self, user_id: u64, conversation_id: u64, draft: Draft) -> StoreResult<bool> {
        self.write(|state| {
            if !state.is_present(conversation_id, user_id) {
                return Ok(false);
            }
            let record = state.preferences.entry((user_id, conversation_id)).or_default();
            record.changed_at_ms = record.changed_at_ms.max(draft.updated_at_ms);
            record.draft = draft;
            Ok(true)
        })
    }

    async fn erase_messages(
        &self,
        conversation_id: u64,
        user_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()> {
        self.write(|state| {
            if from_seq >= to_seq {
                return Ok(());
            }
            let range = (conversation_id, from_seq)..(conversation_id, to_seq);
            for (_, message) in state.messages.range_mut(range) {
                if message.sender_id != user_id {
                    continue;
                }
                if is_written(message) {
                    empty(message);
                } else if message.kind == MessageKind::Edit as i32 {
                    message.text.clear();
                }
            }
            Ok(())
        })
    }

    async fn late_erasures(&self, now_ms: u64, limit: u32) -> StoreResult<Vec<LateErasure>> {
        self.read(|state| {
            let due = state.late_erasures.values().filter(|erasure| erasure.due_at_ms <= now_ms);
            let mut due: Vec<LateErasure> = due.copied().collect();
            due.sort_by_key(|erasure| (erasure.due_at_ms, erasure.user_id));
            due.truncate(limit as usize);
            due
        })
    }

    async fn put_off_erasure(&self, erasure: LateErasure, due_at_ms: u64) -> StoreResult<bool> {
        self.write(|state| {
            let there = state.late_erasures.get_mut(&erasure.user_id);
            let there = there.filter(|there| there.due_at_ms == erasure.due_at_ms);
            Ok(there.map(|there| there.due_at_ms = due_at_ms).is_some())
        })
    }

    async fn finish_erasure(&self, user_id: u64) -> StoreResult<()> {
        self.write(|state| {
            state.late_erasures.remove(&user_id);
            Ok(())
        })
    }

    async fn erase_user(
        &self,
        user_id: u64,
        username: &str,
        display_name: &str,
        later: Option<LateErasure>,
    ) -> StoreResult<()> {
        self.write(|state| {
            let Some(old) = state.users.get(&user_id) else { return Ok(()) };
            let key = username_key(username);
            if state.usernames.get(&key).is_some_and(|id| *id != user_id) {
                return Err(StoreError::Exists);
            }
            let (old_key, created_at_ms) = (username_key(&old.username), old.created_at_ms);
            state.usernames.remove(&old_key);
            state.usernames.insert(key, user_id);
            let ended = UserRecord {
                id: user_id,
                username: username.to_owned(),
                display_name: display_name.to_owned(),
                disabled: true,
                created_at_ms,
                ..UserRecord::default()
            };
            state.users.insert(user_id, ended);
            if let Some(later) = later {
                state.late_erasures.entry(user_id).or_insert(later);
            }
            let devices = &state.devices;
            state.tokens.retain(|_, id| devices.get(id).is_none_or(|device| device.user_id != user_id));
            state.devices.retain(|_, device| device.user_id != user_id);
            state.contacts.retain(|(a, b), _| *a != user_id && *b != user_id);
            state.blocks.retain(|(a, b), _| *a != user_id && *b != user_id);
            state.privacies.remove(&user_id);
            state.presences.remove(&user_id);
            state.preferences.retain(|(owner, _), _| *owner != user_id);
            state.line_given.retain(|(owner, _), _| *owner != user_id);
            state.join_requests.retain(|(_, asker), _| *asker != user_id);
            state.scheduled.retain(|_, record| record.user_id != user_id);
            state.hidden.retain(|(owner, _, _), _| *owner != user_id);
            Ok(())
        })
    }
}
