//! Conversations, their members, and each member's list of them.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::starts::{MEMBERS_TOGETHER, Opening};
use super::{PreferenceRecord, RoomRules, StoreResult};
use crate::protocol::v1::Message;
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};

/// A conversation, without what is each member's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRecord {
    /// `conversation_id`: 1 and up.
    pub id: u64,
    /// Direct or group.
    pub kind: ConversationKind,
    /// Empty for direct.
    pub name: String,
    /// Empty for direct.
    pub description: String,
    /// 0: none.
    pub avatar_file_id: u64,
    /// 0 for direct.
    pub owner_id: u64,
    /// Of groups.
    pub join_policy: JoinPolicy,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
    /// Last change of the record or of its membership; messages don't move it.
    pub updated_at_ms: u64,
    /// What holds in a group.
    pub rules: RoomRules,
}

/// One user's membership of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemberRecord {
    /// Of which conversation.
    pub conversation_id: u64,
    /// Who.
    pub user_id: u64,
    /// Owner, admin or member.
    pub role: MemberRole,
    /// The first seq that the member may see.
    pub first_seq: u64,
    /// All up to here were delivered to one of the user's devices.
    pub delivered_seq: u64,
    /// All up to here were read.
    pub read_seq: u64,
    /// Unix time, milliseconds.
    pub joined_at_ms: u64,
    /// 0, or when the user left or was removed: the row stays so that other devices learn it by sync.
    pub removed_at_ms: u64,
    /// The member's own preference.
    pub muted_until_ms: u64,
    /// The member's own preference.
    pub pinned: bool,
    /// Last change of this row but for the cursors.
    pub updated_at_ms: u64,
    /// May not write before this, Unix milliseconds. Kept when the user leaves and comes back.
    pub silenced_until_ms: u64,
    /// When what the user's lists show of cursors last changed by reading: the user's own, or those of the other side of a
    /// direct conversation; see [`cursors_ms`].
    pub cursors_ms: u64,
}

/// How exactly a membership says when it was read in, milliseconds: rounded up, so that an index that lists are read by changes
/// no more often, however often somebody reads. A list may show a conversation once more than it need.
pub const CURSORS_GRAIN_MS: u64 = 10_000;

/// What [`MemberRecord::cursors_ms`] becomes where something is read at `now_ms` (Unix milliseconds).
pub fn cursors_ms(now_ms: u64) -> u64 {
    (now_ms / CURSORS_GRAIN_MS + 1) * CURSORS_GRAIN_MS
}

/// A group to create.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Becomes the owner and a member.
    pub owner_id: u64,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Who may join.
    pub join_policy: JoinPolicy,
    /// The other first members, without the owner.
    pub member_ids: Vec<u64>,
    /// By which the owner knows it, one group for each; may be empty.
    pub client_id: String,
    /// Unix time, milliseconds.
    pub now_ms: u64,
}

/// A row of a user's conversation list.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationRow {
    /// The conversation.
    pub conversation: ConversationRecord,
    /// The asker's membership.
    pub member: MemberRecord,
    /// The other side of a direct conversation.
    pub peer: Option<MemberRecord>,
    /// Members who have not left.
    pub member_count: u64,
    /// Seq and time of the newest entry that the asker may see; 0: none.
    pub newest: (u64, u64),
    /// The newest message that the asker may see: no edit, recall or reaction, if there is one not far behind the newest
    /// entry.
    pub last_message: Option<Message>,
    /// Others' messages after the asker's `read_seq`; edits, recalls and reactions are none.
    pub unread: u64,
    /// The asker's own preferences, beside those in `member`.
    pub preferences: PreferenceRecord,
    /// Requests to join that wait; 0 for one who is no owner or admin.
    pub pending_requests: u64,
}

impl ConversationRow {
    /// The list's order, newest first: when something last happened in it. Of what one has left, only that one has left.
    pub fn activity_ms(&self) -> u64 {
        if self.member.removed_at_ms != 0 {
            return self.member.updated_at_ms;
        }
        self.newest.1.max(self.conversation.updated_at_ms).max(self.member.updated_at_ms)
    }

    /// When anything in it last changed, what was read and the asker's own preferences included.
    pub fn changed_ms(&self) -> u64 {
        self.activity_ms().max(self.shown_ms())
    }

    /// The same but for its log.
    pub fn set_ms(&self) -> u64 {
        if self.member.removed_at_ms != 0 {
            return self.changed_ms();
        }
        self.shown_ms().max(self.conversation.updated_at_ms).max(self.member.updated_at_ms)
    }

    /// When what only the asker's list shows last changed.
    fn shown_ms(&self) -> u64 {
        self.preferences.changed_at_ms.max(self.member.cursors_ms)
    }
}

/// Where a conversation stands in a user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPlace {
    /// Which.
    pub conversation_id: u64,
    /// See [`ConversationRow::activity_ms`].
    pub activity_ms: u64,
    /// See [`ConversationRow::changed_ms`].
    pub changed_ms: u64,
    /// See [`ConversationRow::set_ms`].
    pub set_ms: u64,
    /// The newest entry that the user may see; 0: none.
    pub last_seq: u64,
}

/// A conversation of a list of which the reader knows some.
#[derive(Clone, Debug, PartialEq)]
pub enum ListRow {
    /// With all that is shown of it.
    Whole(Box<ConversationRow>),
    /// One that the reader knows.
    Place(ListPlace),
}

impl ListRow {
    /// Its place.
    pub fn place(&self) -> ListPlace {
        match self {
            Self::Place(place) => *place,
            Self::Whole(row) => ListPlace {
                conversation_id: row.conversation.id,
                activity_ms: row.activity_ms(),
                changed_ms: row.changed_ms(),
                set_ms: row.set_ms(),
                last_seq: if row.member.removed_at_ms == 0 { row.newest.0 } else { 0 },
            },
        }
    }

    /// Its row, if it has one.
    pub fn whole(self) -> Option<ConversationRow> {
        match self {
            Self::Whole(row) => Some(*row),
            Self::Place(_) => None,
        }
    }
}

/// A member's cursors to keep; they never move backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorAdvance {
    /// Of which conversation.
    pub conversation_id: u64,
    /// Whose.
    pub user_id: u64,
    /// New lower bound of `delivered_seq`.
    pub delivered_seq: u64,
    /// New lower bound of `read_seq`.
    pub read_seq: u64,
    /// Something that the user's lists show has changed by reading, and not by a message that they show anyway.
    pub is_news: bool,
}

/// Conversations and their members.
#[async_trait]
pub trait ConversationStore: Send + Sync {
    /// Stores a group and its members in one transaction. [`Exists`](super::StoreError::Exists): its owner has created one under this
    /// `client_id`.
    async fn create_group(&self, group: NewGroup) -> StoreResult<ConversationRecord>;
    /// The group that a user has created under a `client_id`.
    async fn created_as(&self, owner_id: u64, client_id: &str) -> StoreResult<Option<ConversationRecord>>;
    /// The direct conversation of two different users, created if need be; whether it was.
    /// Of two concurrent calls one creates, and both return the same conversation.
    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)>;
    /// [`ConversationStore::direct`] for many pairs, of which hardly one has a conversation: the ids, in their order, and
    /// whether each was made now. Where it fails, some may have been made.
    async fn make_directs(&self, pairs: &[(u64, u64)], now_ms: u64) -> StoreResult<Vec<(u64, bool)>> {
        let mut made = Vec::with_capacity(pairs.len());
        for (a, b) in pairs {
            let (record, is_new) = self.direct(*a, *b, now_ms).await?;
            made.push((record.id, is_new));
        }
        Ok(made)
    }
    /// The two users of each direct conversation, in the order of the ids. `Some(None)`: a group; `None`: there is none.
    async fn pairs_of(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Option<Option<(u64, u64)>>>> {
        let mut pairs = Vec::with_capacity(conversation_ids.len());
        for id in conversation_ids {
            let Some(found) = self.conversation(*id).await? else {
                pairs.push(None);
                continue;
            };
            if found.kind == ConversationKind::Group {
                pairs.push(Some(None));
                continue;
            }
            let roster = self.roster(*id).await?;
            match roster.as_slice() {
                [a, b] => pairs.push(Some(Some((a.user_id, b.user_id)))),
                _ => pairs.push(None),
            }
        }
        Ok(pairs)
    }
    /// What rooms begin with, in the order of the ids.
    async fn openings(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Opening>> {
        let mut openings = Vec::with_capacity(conversation_ids.len());
        for id in conversation_ids {
            let conversation = self.conversation(*id).await?;
            let members = match &conversation {
                Some(_) => self.members(*id).await?,
                None => Vec::new(),
            };
            let members = (members.len() <= MEMBERS_TOGETHER).then_some(members);
            openings.push(Opening { conversation, members });
        }
        Ok(openings)
    }
    /// By id.
    async fn conversation(&self, conversation_id: u64) -> StoreResult<Option<ConversationRecord>>;
    /// Members who have not left, by user id.
    async fn members(&self, conversation_id: u64) -> StoreResult<Vec<MemberRecord>>;
    /// Who has not left, by user id: [`ConversationStore::members`] without what moves with every message, so that it
    /// can be cached. Cursors, `silenced_until_ms` and `updated_at_ms` are 0. Only the first [`ROSTER_MAX`] + 1: more
    /// than [`ROSTER_MAX`] rows mean that it is not whole, and to be read by [`members_page`](super::RoomStore::members_page).
    async fn roster(&self, conversation_id: u64) -> StoreResult<Arc<Vec<MemberRecord>>> {
        let members = self.members(conversation_id).await?;
        let bare = |member: MemberRecord| MemberRecord {
            delivered_seq: 0,
            read_seq: 0,
            muted_until_ms: 0,
            pinned: false,
            updated_at_ms: 0,
            silenced_until_ms: 0,
            ..member
        };
        Ok(Arc::new(members.into_iter().take(ROSTER_MAX + 1).map(bare).collect()))
    }
    /// Those of the users who are members and have not left, in any order.
    async fn members_among(&self, conversation_id: u64, user_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        let members = self.members(conversation_id).await?;
        Ok(members.into_iter().filter(|member| user_ids.contains(&member.user_id)).collect())
    }
    /// One membership, also of one who has left.
    async fn member(&self, conversation_id: u64, user_id: u64) -> StoreResult<Option<MemberRecord>>;
    /// The memberships that a user has, or had, of these conversations, in any order.
    async fn memberships(&self, user_id: u64, conversation_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        let mut found = Vec::new();
        for conversation_id in conversation_ids {
            found.extend(self.member(*conversation_id, user_id).await?);
        }
        Ok(found)
    }
    /// Moves cursors forward; a cursor behind the stored one changes nothing, but that [`MemberRecord::cursors_ms`] says that
    /// there is news.
    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()>;
    /// The conversations of a user (those left too, where `changed_since_ms` is not 0) that changed at or after
    /// `changed_since_ms`, by newest activity first; `before`: only those behind this (activity, id).
    async fn conversations_of(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>>;
    /// The same for one who has no use for the rows of `spared`, which get no more than their places.
    async fn list_sparing(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
        spared: &HashSet<u64>,
    ) -> StoreResult<Vec<ListRow>> {
        let rows = self.conversations_of(user_id, changed_since_ms, before, limit).await?;
        let listed = rows.into_iter().map(|row| ListRow::Whole(Box::new(row))).map(|row| match row.place() {
            place if spared.contains(&place.conversation_id) => ListRow::Place(place),
            _ => row,
        });
        Ok(listed.collect())
    }
    /// The conversations of a user in that list's order, without their rows: (activity, id), newest first.
    async fn order_of(&self, user_id: u64) -> StoreResult<Vec<(u64, u64)>> {
        let rows = self.conversations_of(user_id, 0, None, u32::MAX).await?;
        Ok(rows.iter().map(|row| (row.activity_ms(), row.conversation.id)).collect())
    }
    /// One row of that list.
    async fn conversation_of(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>>;
    /// Some rows of that list, those left too, in any order.
    async fn these_conversations_of(&self, user_id: u64, ids: &[u64]) -> StoreResult<Vec<ConversationRow>> {
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.conversation_of(user_id, *id).await?);
        }
        Ok(rows)
    }
}

/// Rows of a roster that are cached.
pub const ROSTER_MAX: usize = 1000;
