//! [`ConversationStore`] in maps.

use async_trait::async_trait;

use super::MemoryStores;
use super::state::State;
use crate::clock::now_ms;
use crate::domain::changes::is_change;
use crate::protocol::{ConversationKind, MemberRole};
use crate::storage::starts::new_direct;
use crate::storage::{
    ConversationRecord, ConversationRow, ConversationStore, CursorAdvance, MemberRecord, NewGroup,
    PREVIEW_BACK, RoomRules, Saying, StoreError, StoreResult, cursors_ms,
};

impl State {
    /// Adds a conversation and its members from its beginning.
    fn create(&mut self, record: ConversationRecord, members: &[(u64, MemberRole)]) -> ConversationRecord {
        let record = ConversationRecord { id: self.next_id(), ..record };
        for (user_id, role) in members {
            let member = MemberRecord {
                conversation_id: record.id,
                user_id: *user_id,
                role: *role,
                first_seq: 1,
                joined_at_ms: record.created_at_ms,
                updated_at_ms: record.created_at_ms,
                ..MemberRecord::default()
            };
            self.members.entry((record.id, *user_id)).or_insert(member);
        }
        self.conversations.insert(record.id, record.clone());
        record
    }

    fn row(&self, member: &MemberRecord) -> Option<ConversationRow> {
        let conversation = self.conversations.get(&member.conversation_id)?.clone();
        let id = conversation.id;
        let is_present = member.removed_at_ms == 0;
        let newest = self.newest(id, member.first_seq).filter(|_| is_present);
        let newest_at = newest.map_or((0, 0), |entry| (entry.seq, entry.created_at_ms));
        let back = newest_at.0.saturating_sub(PREVIEW_BACK).max(member.first_seq);
        let written = self.messages.range((id, back)..=(id, u64::MAX)).rev().map(|(_, message)| message);
        let last_message = newest
            .map(|newest| written.into_iter().find(|message| !is_change(message)).unwrap_or(newest))
            .map(Self::shown);
        let floor = member.read_seq.saturating_add(1).max(member.first_seq);
        let others = self
            .messages
            .range((id, floor)..=(id, u64::MAX))
            .filter(|(_, message)| is_present && message.sender_id != member.user_id)
            .filter(|(_, message)| !is_change(message) && !message.recalled)
            .filter(|((_, seq), _)| !self.hidden.contains_key(&(member.user_id, id, *seq)))
            .count();
        let peer = (conversation.kind == ConversationKind::Direct)
            .then(|| self.members_of(id).find(|other| other.user_id != member.user_id).cloned())
            .flatten();
        Some(ConversationRow {
            conversation,
            member: member.clone(),
            peer,
            member_count: self.members_of(id).filter(|other| other.removed_at_ms == 0).count() as u64,
            newest: newest_at,
            last_message,
            unread: others as u64,
            preferences: self.preferences.get(&(member.user_id, id)).cloned().unwrap_or_default(),
            pending_requests: if member.role == MemberRole::Member || !is_present {
                0
            } else {
                self.join_requests.range((id, 0)..=(id, u64::MAX)).count() as u64
            },
        })
    }
}

#[async_trait]
impl ConversationStore for MemoryStores {
    async fn create_group(&self, group: NewGroup) -> StoreResult<ConversationRecord> {
        self.write(|state| {
            let name = (group.owner_id, group.client_id);
            if !name.1.is_empty() && state.created_as.contains_key(&name) {
                return Err(StoreError::Exists);
            }
            let record = ConversationRecord {
                id: 0,
                kind: ConversationKind::Group,
                name: group.name,
                description: group.description,
                avatar_file_id: 0,
                owner_id: group.owner_id,
                join_policy: group.join_policy,
                created_at_ms: group.now_ms,
                updated_at_ms: group.now_ms,
                rules: RoomRules::default(),
            };
            let mut others = group.member_ids.clone();
            others.retain(|id| *id != group.owner_id);
            let saying = Saying::created(group.owner_id, &record.name, others, group.now_ms);
            let mut members = vec![(group.owner_id, MemberRole::Owner)];
            members.extend(group.member_ids.iter().map(|id| (*id, MemberRole::Member)));
            let record = state.create(record, &members);
            state.sayings.insert((record.id, saying.client_id.clone()), saying);
            if !name.1.is_empty() {
                state.created_as.insert(name, record.id);
            }
            Ok(record)
        })
    }

    async fn created_as(&self, owner_id: u64, client_id: &str) -> StoreResult<Option<ConversationRecord>> {
        self.read(|state| {
            let id = state.created_as.get(&(owner_id, client_id.to_owned()))?;
            state.conversations.get(id).cloned()
        })
    }

    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)> {
        if a == b {
            return Err(StoreError::Invalid(format!("user {a} has no direct conversation with itself")));
        }
        let key = (a.min(b), a.max(b));
        let find = |state: &State| state.conversations.get(state.directs.get(&key)?).cloned();
        if let Some(there) = self.read(find)? {
            return Ok((there, false));
        }
        self.write(|state| {
            if let Some(there) = find(state) {
                return Ok((there, false));
            }
            let record = new_direct(0, now_ms);
            let record = state.create(record, &[(key.0, MemberRole::Member), (key.1, MemberRole::Member)]);
            state.directs.insert(key, record.id);
            Ok((record, true))
        })
    }

    async fn conversation(&self, conversation_id: u64) -> StoreResult<Option<ConversationRecord>> {
        self.read(|state| state.conversations.get(&conversation_id).cloned())
    }

    async fn members(&self, conversation_id: u64) -> StoreResult<Vec<MemberRecord>> {
        self.read(|state| {
            state.members_of(conversation_id).filter(|member| member.removed_at_ms == 0).cloned().collect()
        })
    }

    async fn member(&self, conversation_id: u64, user_id: u64) -> StoreResult<Option<MemberRecord>> {
        self.read(|state| state.members.get(&(conversation_id, user_id)).cloned())
    }

    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()> {
        let news_ms = cursors_ms(now_ms());
        self.write(|state| {
            for cursor in cursors {
                if let Some(member) = state.members.get_mut(&(cursor.conversation_id, cursor.user_id)) {
                    member.delivered_seq = member.delivered_seq.max(cursor.delivered_seq);
                    member.read_seq = member.read_seq.max(cursor.read_seq);
                    if cursor.is_news {
                        member.cursors_ms = member.cursors_ms.max(news_ms);
                    }
                }
            }
            Ok(())
        })
    }

    async fn conversations_of(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>> {
        self.read(|state| {
            let mut rows: Vec<ConversationRow> = state
                .members
                .values()
                .filter(|member| member.user_id == user_id)
                .filter(|member| member.removed_at_ms == 0 || changed_since_ms != 0)
                .filter_map(|member| state.row(member))
                .filter(|row| row.changed_ms() >= changed_since_ms)
                .filter(|row| before.is_none_or(|place| (row.activity_ms(), row.conversation.id) < place))
                .collect();
            rows.sort_by_key(|row| std::cmp::Reverse((row.activity_ms(), row.conversation.id)));
            rows.truncate(limit as usize);
            rows
        })
    }

    async fn conversation_of(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        self.read(|state| state.row(state.members.get(&(conversation_id, user_id))?))
    }
}
