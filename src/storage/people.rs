//! What belongs to one user and to no conversation's log: privacy, presence, blocks, the preferences and drafts of
//! conversations, and the end of an account.

use async_trait::async_trait;

use super::StoreResult;
use crate::domain::privacy::{Audience, Relation};
use crate::protocol::{NotificationLevel, PresenceStatus};

/// Who may do what to a user. Users who never said so have no record: everybody may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivacyRecord {
    /// Whose.
    pub user_id: u64,
    /// Who may send direct messages.
    pub who_may_write: Audience,
    /// Who may add the user to groups; with [`Audience::Nobody`], nobody may ask to be a contact either.
    pub who_may_add: Audience,
    /// Who is told when the user was last online.
    pub who_sees_last_seen: Audience,
}

/// Changes of a user's privacy; `None` leaves a setting.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrivacyChange {
    /// See [`PrivacyRecord::who_may_write`].
    pub who_may_write: Option<Audience>,
    /// See [`PrivacyRecord::who_may_add`].
    pub who_may_add: Option<Audience>,
    /// See [`PrivacyRecord::who_sees_last_seen`].
    pub who_sees_last_seen: Option<Audience>,
}

impl From<PrivacyRecord> for PrivacyChange {
    /// To all of these settings.
    fn from(record: PrivacyRecord) -> Self {
        Self {
            who_may_write: Some(record.who_may_write),
            who_may_add: Some(record.who_may_add),
            who_sees_last_seen: Some(record.who_sees_last_seen),
        }
    }
}

impl PrivacyChange {
    /// What becomes of a record.
    pub fn apply(self, record: &mut PrivacyRecord) {
        record.who_may_write = self.who_may_write.unwrap_or(record.who_may_write);
        record.who_may_add = self.who_may_add.unwrap_or(record.who_may_add);
        record.who_sees_last_seen = self.who_sees_last_seen.unwrap_or(record.who_sees_last_seen);
    }
}

/// What a user has said of being there. A user without a record is `online` while connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRecord {
    /// Whose.
    pub user_id: u64,
    /// `online`, `away`, `busy` or `invisible`: what holds while the user is connected.
    pub status: PresenceStatus,
    /// A line beside it.
    pub text: String,
    /// When the user was last there for all to see. Unix time, milliseconds; 0: never.
    pub last_seen_ms: u64,
}

/// A block of one user by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRecord {
    /// Who has blocked.
    pub user_id: u64,
    /// Whom.
    pub blocked_id: u64,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// A member's own preferences of a conversation that are not in the membership itself, and the draft. Kept when the user
/// leaves and comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreferenceRecord {
    /// Put away from the main list.
    pub archived: bool,
    /// 0, or one more than the newest seq when the user hid the conversation: a later message shows it again.
    pub hidden_before_seq: u64,
    /// 0, or one more than `read_seq` when the user marked the conversation as unread: to read further takes it off.
    pub unread_before_seq: u64,
    /// What the user is notified of.
    pub notifications: NotificationLevel,
    /// What the user has begun to write.
    pub draft: Draft,
    /// Last change of any preference, `muted_until_ms` and `pinned` included. It counts for incremental sync, and not
    /// for the order of the list.
    pub changed_at_ms: u64,
}

/// A message that was begun and not sent. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Its text.
    pub text: String,
    /// The message that it answers; 0: none.
    pub reply_to_seq: u64,
    /// Unix time, milliseconds; 0: none was ever kept.
    pub updated_at_ms: u64,
}

/// Changes of a member's preferences; `None` leaves one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreferenceChange {
    /// Unix time, milliseconds; 0: not muted.
    pub muted_until_ms: Option<u64>,
    /// At the top of the list.
    pub pinned: Option<bool>,
    /// Put away from the main list.
    pub archived: Option<bool>,
    /// See [`PreferenceRecord::hidden_before_seq`].
    pub hidden_before_seq: Option<u64>,
    /// See [`PreferenceRecord::unread_before_seq`].
    pub unread_before_seq: Option<u64>,
    /// What the user is notified of.
    pub notifications: Option<NotificationLevel>,
}

/// Of an account that was erased: what it had sent last may have been stored later, and is to be emptied too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateErasure {
    /// Whose account it was.
    pub user_id: u64,
    /// What was stored before this was emptied with the account, Unix time, milliseconds.
    pub since_ms: u64,
    /// When it is to be done, Unix time, milliseconds.
    pub due_at_ms: u64,
}

/// See the module's header.
#[async_trait]
pub trait PeopleStore: Send + Sync {
    /// The settings of those of the users who have any, in any order.
    async fn privacies(&self, user_ids: &[u64]) -> StoreResult<Vec<PrivacyRecord>>;
    /// Changes a user's settings.
    async fn change_privacy(&self, user_id: u64, change: PrivacyChange) -> StoreResult<()>;
    /// What those of the users who have said anything said, in any order.
    async fn presences(&self, user_ids: &[u64]) -> StoreResult<Vec<PresenceRecord>>;
    /// Replaces a user's status and text. The user was seen at `now_ms`, unless it was invisible and stays so.
    async fn set_presence(
        &self,
        user_id: u64,
        status: PresenceStatus,
        text: &str,
        now_ms: u64,
    ) -> StoreResult<()>;
    /// Notes when users were seen, as (user, Unix milliseconds). Never backwards, and not for those who are invisible.
    async fn note_seen(&self, seen: &[(u64, u64)]) -> StoreResult<()>;
    /// Blocks a user and ends what contact there was, in one transaction; whether it was not blocked before.
    async fn block(&self, block: BlockRecord) -> StoreResult<bool>;
    /// Lifts a block; whether there was one.
    async fn unblock(&self, user_id: u64, blocked_id: u64) -> StoreResult<bool>;
    /// Whom a user has blocked, by id above `after_id`.
    async fn blocks(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BlockRecord>>;
    /// How many rows a user's contact list has, and how many users it has blocked.
    async fn list_sizes(&self, user_id: u64) -> StoreResult<(u64, u64)>;
    /// The direct conversation of two users, if there is one.
    async fn direct_of(&self, a: u64, b: u64) -> StoreResult<Option<u64>>;
    /// How a user stands to the others, from the user's side, in the order of `others`.
    async fn relations(&self, user_id: u64, others: &[u64]) -> StoreResult<Vec<Relation>>;
    /// The direct conversation of each pair, and whether there is such a user as the second, in their order.
    async fn meetings(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Option<u64>, bool)>>;
    /// How the first of each pair stands to the second, and the settings of the second, in their order.
    async fn acquaintances(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Relation, PrivacyRecord)>> {
        let mut acquaintances = Vec::with_capacity(pairs.len());
        for (user, other) in pairs {
            let relation = self.relations(*user, &[*other]).await?.pop().unwrap_or_default();
            let privacy = self.privacies(&[*other]).await?.pop();
            let unset = PrivacyRecord { user_id: *other, ..PrivacyRecord::default() };
            acquaintances.push((relation, privacy.unwrap_or(unset)));
        }
        Ok(acquaintances)
    }
    /// Changes preferences of one who has not left; whether there is such a member.
    async fn set_preferences(
        &self,
        user_id: u64,
        conversation_id: u64,
        change: PreferenceChange,
        now_ms: u64,
    ) -> StoreResult<bool>;
    /// Replaces the draft of one who has not left, which moves `changed_at_ms` too; whether there is such a member.
    async fn set_draft(&self, user_id: u64, conversation_id: u64, draft: Draft) -> StoreResult<bool>;
    /// Empties what a user wrote in a conversation at `from_seq <= seq < to_seq`: texts and attachments go, and the
    /// message counts as recalled. Seqs and client ids stay, and entries without words: recalls and reactions.
    async fn erase_messages(
        &self,
        conversation_id: u64,
        user_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()>;
    /// Ends an account for good, in one transaction: devices, contacts, blocks, privacy, presence, preferences, drafts, what
    /// it has hidden and what it has scheduled go;
    /// the user stays disabled and without a password, under these names, for its memberships and messages to name. What is to
    /// be done `later` is kept with that.
    async fn erase_user(
        &self,
        user_id: u64,
        username: &str,
        display_name: &str,
        later: Option<LateErasure>,
    ) -> StoreResult<()>;
    /// What is to be done by now of accounts that were erased, in the order of its time.
    async fn late_erasures(&self, now_ms: u64, limit: u32) -> StoreResult<Vec<LateErasure>>;
    /// Puts one off from the time that it has to this one; `false`: somebody else has, or has done it.
    async fn put_off_erasure(&self, erasure: LateErasure, due_at_ms: u64) -> StoreResult<bool>;
    /// One is done.
    async fn finish_erasure(&self, user_id: u64) -> StoreResult<()>;
}
