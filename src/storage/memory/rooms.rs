//! [`RoomStore`] in maps.

use async_trait::async_trait;

use super::MemoryStores;
use super::state::State;
use crate::protocol::MemberRole;
use crate::storage::{
    BanRecord, Condition, InviteRecord, JoinRequestRecord, Listed, MemberRecord, RoomChange, RoomStore,
    RoomWrite, SAYINGS_MAX, Saying, SettingsChange, StoreResult, Unmet,
};

impl State {
    fn holds(&self, change: &RoomChange, condition: &Condition) -> Result<(), Unmet> {
        let id = change.conversation_id;
        let role = |user_id: u64| {
            let member = self.members.get(&(id, user_id)).filter(|member| member.removed_at_ms == 0);
            member.map(|member| member.role)
        };
        let unmet = match condition {
            Condition::Role(user_id, wanted) => {
                (role(*user_id) != Some(*wanted)).then_some(Unmet::Membership(*user_id))
            }
            Condition::NoMember(user_id) => role(*user_id).map(|_| Unmet::Membership(*user_id)),
            Condition::Alone(user_id) => self
                .members_of(id)
                .find(|other| other.removed_at_ms == 0 && other.user_id != *user_id)
                .map(|other| Unmet::Membership(other.user_id)),
            Condition::NotBanned(user_ids) => user_ids
                .iter()
                .find(|user_id| self.bans.contains_key(&(id, **user_id)))
                .map(|user_id| Unmet::Banned(*user_id)),
            Condition::Banned(user_id) => {
                (!self.bans.contains_key(&(id, *user_id))).then_some(Unmet::NotBanned(*user_id))
            }
            Condition::Requested(user_id) => {
                (!self.join_requests.contains_key(&(id, *user_id))).then_some(Unmet::NotRequested(*user_id))
            }
            Condition::Below(listed, max) => {
                let range = (id, 0)..=(id, u64::MAX);
                let rows = match listed {
                    Listed::Requests => self.join_requests.range(range).count(),
                    Listed::Bans => self.bans.range(range).count(),
                    Listed::Invites => {
                        self.invites_of(id).filter(|invite| invite.is_good(change.now_ms)).count()
                    }
                    Listed::Members => self.members_of(id).filter(|row| row.removed_at_ms == 0).count(),
                };
                (rows as u64 >= *max).then_some(Unmet::Full(*listed))
            }
            Condition::JoinPolicy(policy) => {
                let holds = self.conversations.get(&id).is_some_and(|row| row.join_policy == *policy);
                (!holds).then_some(Unmet::Settings)
            }
            Condition::HistoryOpen(is_open) => {
                let holds = self.conversations.get(&id).is_some_and(|row| row.rules.history_open == *is_open);
                (!holds).then_some(Unmet::Settings)
            }
        };
        unmet.map_or(Ok(()), Err)
    }

    fn may_apply(&self, change: &RoomChange, write: &RoomWrite) -> Result<(), Unmet> {
        let own = |code: &String| {
            self.invites.get(code).filter(|invite| invite.conversation_id == change.conversation_id)
        };
        match write {
            RoomWrite::UseInvite(code) if !own(code).is_some_and(|own| own.is_good(change.now_ms)) => {
                Err(Unmet::Invite)
            }
            RoomWrite::DropInvite(code) if own(code).is_none() => Err(Unmet::Invite),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, change: &RoomChange, write: &RoomWrite) {
        let (id, now_ms) = (change.conversation_id, change.now_ms);
        match write {
            RoomWrite::Settings(settings) => self.change_settings(id, settings),
            RoomWrite::Role(user_id, role) => {
                self.change_member(id, *user_id, |member| {
                    (member.role, member.updated_at_ms) = (*role, now_ms);
                });
                if let Some(conversation) = self.conversations.get_mut(&id)
                    && *role == MemberRole::Owner
                {
                    conversation.owner_id = *user_id;
                }
            }
            RoomWrite::Silence(user_id, until_ms) => self.change_member(id, *user_id, |member| {
                (member.silenced_until_ms, member.updated_at_ms) = (*until_ms, now_ms);
            }),
            RoomWrite::Add(records) => {
                for record in records {
                    self.add_member(id, record);
                }
            }
            RoomWrite::Remove(user_id) => self.change_member(id, *user_id, |member| {
                (member.removed_at_ms, member.updated_at_ms) = (now_ms, now_ms);
            }),
            RoomWrite::Ask(request) => {
                let request = JoinRequestRecord { conversation_id: id, ..request.clone() };
                let message = request.message.clone();
                self.join_requests.entry((id, request.user_id)).or_insert(request).message = message;
            }
            RoomWrite::Unask(user_id) => {
                self.join_requests.remove(&(id, *user_id));
            }
            RoomWrite::Ban(record) => {
                let record = BanRecord { conversation_id: id, ..record.clone() };
                self.join_requests.remove(&(id, record.user_id));
                self.bans.entry((id, record.user_id)).or_insert(record);
            }
            RoomWrite::Unban(user_id) => {
                self.bans.remove(&(id, *user_id));
            }
            RoomWrite::Invite(record) => {
                self.invites.retain(|_, invite| invite.conversation_id != id || invite.is_good(now_ms));
                let record = InviteRecord { conversation_id: id, ..record.clone() };
                self.invites.insert(record.code.clone(), record);
            }
            RoomWrite::UseInvite(code) => {
                if let Some(invite) = self.invites.get_mut(code) {
                    invite.uses += 1;
                }
            }
            RoomWrite::DropInvite(code) => {
                self.invites.remove(code);
            }
            RoomWrite::Touch(user_ids) => {
                for user_id in user_ids {
                    self.change_member(id, *user_id, |member| member.updated_at_ms = now_ms);
                }
            }
            RoomWrite::Say(saying) => {
                self.sayings.entry((id, saying.client_id.clone())).or_insert_with(|| saying.clone());
            }
            RoomWrite::Dissolve => {
                if let Some(conversation) = self.conversations.get_mut(&id) {
                    conversation.rules.dissolved_at_ms = now_ms;
                }
                let range = (id, 0)..=(id, u64::MAX);
                for (_, member) in self.members.range_mut(range).filter(|(_, row)| row.removed_at_ms == 0) {
                    (member.removed_at_ms, member.updated_at_ms) = (now_ms, now_ms);
                }
                self.join_requests.retain(|key, _| key.0 != id);
                self.invites.retain(|_, invite| invite.conversation_id != id);
            }
        }
    }

    fn change_settings(&mut self, id: u64, change: &SettingsChange) {
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.change(change);
        }
        if change.history_open == Some(true) {
            let range = (id, 0)..=(id, u64::MAX);
            for (_, member) in self.members.range_mut(range).filter(|(_, row)| row.removed_at_ms == 0) {
                member.first_seq = 1;
            }
        }
    }

    /// Changes the row of one who has not left.
    fn change_member(&mut self, id: u64, user_id: u64, change: impl FnOnce(&mut MemberRecord)) {
        if let Some(row) = self.members.get_mut(&(id, user_id)).filter(|row| row.removed_at_ms == 0) {
            change(row);
        }
    }

    fn add_member(&mut self, id: u64, record: &MemberRecord) {
        let key = (id, record.user_id);
        self.join_requests.remove(&key);
        let mut record = MemberRecord { conversation_id: id, removed_at_ms: 0, ..record.clone() };
        match self.members.get(&key) {
            Some(old) if old.removed_at_ms == 0 => return,
            Some(old) => {
                record.delivered_seq = record.delivered_seq.max(old.delivered_seq);
                record.read_seq = record.read_seq.max(old.read_seq);
                record.muted_until_ms = old.muted_until_ms;
                record.pinned = old.pinned;
                record.silenced_until_ms = old.silenced_until_ms;
            }
            None => {}
        }
        self.members.insert(key, record);
    }

    fn invites_of(&self, id: u64) -> impl Iterator<Item = &InviteRecord> {
        self.invites.values().filter(move |invite| invite.conversation_id == id)
    }
}

#[async_trait]
impl RoomStore for MemoryStores {
    async fn change_room(&self, change: &RoomChange) -> StoreResult<Option<Unmet>> {
        self.write(|state| {
            let there = state.conversations.get(&change.conversation_id);
            if there.is_none_or(|there| there.rules.dissolved_at_ms != 0) {
                return Ok(Some(Unmet::Gone));
            }
            let conditions = change.conditions.iter().map(|condition| state.holds(change, condition));
            let writes = change.writes.iter().map(|write| state.may_apply(change, write));
            if let Err(unmet) = conditions.chain(writes).collect::<Result<(), Unmet>>() {
                return Ok(Some(unmet));
            }
            for write in &change.writes {
                state.apply(change, write);
            }
            if let Some(conversation) = state.conversations.get_mut(&change.conversation_id)
                && change.writes.iter().any(RoomWrite::shows)
            {
                conversation.updated_at_ms = conversation.updated_at_ms.max(change.now_ms);
            }
            Ok(None)
        })
    }

    async fn members_page(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<MemberRecord>> {
        let from = (conversation_id, after_id.saturating_add(1));
        self.read(|state| {
            let rows = state.members.range(from..=(conversation_id, u64::MAX)).map(|(_, row)| row);
            rows.filter(|row| row.removed_at_ms == 0).take(limit as usize).cloned().collect()
        })
    }

    async fn join_requests(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<JoinRequestRecord>> {
        let from = (conversation_id, after_id.saturating_add(1));
        self.read(|state| {
            let rows = state.join_requests.range(from..=(conversation_id, u64::MAX)).map(|(_, row)| row);
            rows.take(limit as usize).cloned().collect()
        })
    }

    async fn bans(&self, conversation_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BanRecord>> {
        let from = (conversation_id, after_id.saturating_add(1));
        self.read(|state| {
            let rows = state.bans.range(from..=(conversation_id, u64::MAX)).map(|(_, row)| row);
            rows.take(limit as usize).cloned().collect()
        })
    }

    async fn invites(&self, conversation_id: u64) -> StoreResult<Vec<InviteRecord>> {
        self.read(|state| {
            let mut rows: Vec<InviteRecord> = state.invites_of(conversation_id).cloned().collect();
            rows.sort_by(|a, b| (a.created_at_ms, &a.code).cmp(&(b.created_at_ms, &b.code)));
            rows
        })
    }

    async fn sayings(&self, conversation_id: u64) -> StoreResult<Vec<Saying>> {
        self.read(|state| {
            let range = (conversation_id, String::new())..(conversation_id + 1, String::new());
            let mut rows: Vec<Saying> = state.sayings.range(range).map(|(_, row)| row.clone()).collect();
            rows.sort_by(|a, b| (a.created_at_ms, &a.client_id).cmp(&(b.created_at_ms, &b.client_id)));
            rows.truncate(SAYINGS_MAX as usize);
            rows
        })
    }

    async fn owing(&self, before_ms: u64, after_id: u64, limit: u32) -> StoreResult<Vec<u64>> {
        self.read(|state| {
            let rows = state.sayings.range((after_id + 1, String::new())..);
            let mut ids: Vec<u64> =
                rows.filter(|(_, row)| row.created_at_ms < before_ms).map(|((id, _), _)| *id).collect();
            ids.dedup();
            ids.truncate(limit as usize);
            ids
        })
    }

    async fn invite(&self, code: &str) -> StoreResult<Option<InviteRecord>> {
        self.read(|state| state.invites.get(code).cloned())
    }
}
