//! The stores, in the words of the domain. `sql` keeps them in SQLite or MySQL/MariaDB by SeaORM, `memory` in maps
//! for simulation; `cache` stands in front of either. One contract suite (`tests/contract`) holds all of them to what
//! stands here.
//!
//! Every method returns [`StoreError::Unavailable`] when it certainly stored nothing and [`StoreError::Unsettled`]
//! when it may have stored: the caller of a write settles that by reading back.

pub mod cache;
mod marks;
pub mod memory;
mod people;
pub mod retention;
mod rooms;
pub mod search;
pub mod sql;
pub mod starts;
mod view;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

pub use self::marks::{MarkStore, PinRecord, ScheduledRecord};
pub use self::people::{
    BlockRecord, Draft, LateErasure, PeopleStore, PreferenceChange, PreferenceRecord, PresenceRecord,
    PrivacyRecord,
};
pub use self::retention::RetentionStore;
pub use self::rooms::{
    BanRecord, Condition, InviteRecord, JoinRequestRecord, Listed, RoomChange, RoomRules, RoomStore,
    RoomWrite, SAYINGS_MAX, SAYS_CREATED, Saying, SettingsChange, Unmet,
};
pub use self::search::SearchStore;
use self::starts::{MEMBERS_TOGETHER, Opening};
pub use self::view::{veil, veil_from_hider};
use crate::protocol::v1::Message;
use crate::protocol::{ContactState, ConversationKind, JoinPolicy, MemberRole};

/// Why a store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A unique key is taken. Nothing was stored.
    #[error("it exists already")]
    Exists,
    /// The database did not take the request. Nothing was stored.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database did not say whether it stored.
    #[error("the database did not confirm the write: {0}")]
    Unsettled(String),
    /// The database holds, or refused, something that should not be: a bug, or a database of a newer version.
    #[error("the database can't be used: {0}")]
    Invalid(String),
}

/// The result of a store's method.
pub type StoreResult<T> = Result<T, StoreError>;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserRecord {
    /// `user_id`: 1 and up.
    pub id: u64,
    /// As it was signed up; unique by its [`crate::domain::limits::username_key`].
    pub username: String,
    /// Shown to others.
    pub display_name: String,
    /// 0: none.
    pub avatar_file_id: u64,
    /// A line about oneself.
    pub bio: String,
    /// PHC string of the Argon2id hash.
    pub password_hash: String,
    /// Disabled by the operators: no sign-in.
    pub disabled: bool,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// The changes of `PATCH /users/me`; `None` leaves the field.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// New display name.
    pub display_name: Option<String>,
    /// New avatar.
    pub avatar_file_id: Option<u64>,
    /// New bio.
    pub bio: Option<String>,
}

/// A signed-in client. Its token is stored as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceRecord {
    /// `device_id`: 1 and up.
    pub id: u64,
    /// Whose it is.
    pub user_id: u64,
    /// As the client named it.
    pub name: String,
    /// What it runs on, as the client named it; may be empty.
    pub platform: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
    /// When its token was last used to sign in, to the minute or so.
    pub last_seen_ms: u64,
    /// The token is refused from here on.
    pub expires_at_ms: u64,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The hash that was asked for.
    pub token_hash: String,
    /// The device it was given to.
    pub device: DeviceRecord,
    /// The account may not sign in.
    pub disabled: bool,
}

/// What one user is to another, from `user_id`'s side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRecord {
    /// Whose list it is in.
    pub user_id: u64,
    /// Who is listed.
    pub contact_id: u64,
    /// `requested` (by `user_id`), `invited` (by `contact_id`), `friend` or `blocked`.
    pub state: ContactState,
    /// What the request said.
    pub message: String,
    /// Unix time, milliseconds.
    pub updated_at_ms: u64,
}

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

    /// When anything in it last changed, the asker's own preferences included.
    pub fn changed_ms(&self) -> u64 {
        self.activity_ms().max(self.preferences.changed_at_ms)
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
}

/// Users and their devices.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Stores a user (its `id` is ignored) and returns it with its id. [`StoreError::Exists`]: the name is taken.
    async fn create_user(&self, user: UserRecord) -> StoreResult<UserRecord>;
    /// By id.
    async fn user(&self, user_id: u64) -> StoreResult<Option<UserRecord>>;
    /// Those of the ids that exist, in any order.
    async fn users(&self, user_ids: &[u64]) -> StoreResult<Vec<UserRecord>>;
    /// By name, regardless of case.
    async fn user_by_name(&self, username: &str) -> StoreResult<Option<UserRecord>>;
    /// Whether there is a user of this name, regardless of case.
    async fn user_exists(&self, username: &str) -> StoreResult<bool> {
        Ok(self.user_by_name(username).await?.is_some())
    }
    /// Users who are not disabled, whose username begins with `query` or whose display name contains it, regardless of
    /// case, by id above `after_id`.
    async fn search_users(&self, query: &str, after_id: u64, limit: u32) -> StoreResult<Vec<UserRecord>>;
    /// Changes a profile; `None`: no such user.
    async fn change_profile(&self, user_id: u64, change: ProfileChange) -> StoreResult<Option<UserRecord>>;
    /// Replaces the password's hash.
    async fn set_password(&self, user_id: u64, password_hash: &str) -> StoreResult<()>;
    /// Disables or enables sign-in.
    async fn set_disabled(&self, user_id: u64, disabled: bool) -> StoreResult<()>;
    /// Stores a device (its `id` is ignored) under the hash of its token and returns it with its id.
    async fn create_device(&self, device: DeviceRecord, token_hash: &str) -> StoreResult<DeviceRecord>;
    /// The device that a token belongs to.
    async fn device_by_token(&self, token_hash: &str) -> StoreResult<Option<DeviceRecord>>;
    /// Those of the tokens, by hash, that belong to a device of a user who is there, in any order.
    async fn owners_of_tokens(&self, token_hashes: &[String]) -> StoreResult<Vec<TokenOwner>> {
        let mut owners = Vec::new();
        for token_hash in token_hashes {
            let Some(device) = self.device_by_token(token_hash).await? else { continue };
            let Some(user) = self.user(device.user_id).await? else { continue };
            owners.push(TokenOwner { token_hash: token_hash.clone(), device, disabled: user.disabled });
        }
        Ok(owners)
    }
    /// All devices of a user, by id.
    async fn devices(&self, user_id: u64) -> StoreResult<Vec<DeviceRecord>>;
    /// Removes a device, and with it its token; whether there was one.
    async fn delete_device(&self, user_id: u64, device_id: u64) -> StoreResult<bool>;
    /// Notes that a device signed in.
    async fn touch_device(&self, device_id: u64, now_ms: u64) -> StoreResult<()>;
    /// The same for several. Some may be noted when this fails.
    async fn touch_devices(&self, device_ids: &[u64], now_ms: u64) -> StoreResult<()> {
        for device_id in device_ids {
            self.touch_device(*device_id, now_ms).await?;
        }
        Ok(())
    }
    /// Per conversation, the ranges that the user's line device has been given, as [`crate::domain::ranges`] writes them.
    async fn line_given(&self, user_id: u64) -> StoreResult<Vec<(u64, String)>>;
    /// Replaces those ranges for the conversations named.
    async fn set_line_given(&self, user_id: u64, given: &[(u64, String)]) -> StoreResult<()>;
}

/// Contact lists. Each relation is two rows, one from either side; both change in one transaction.
#[async_trait]
pub trait ContactStore: Send + Sync {
    /// The row of `user_id` about `contact_id`.
    async fn contact(&self, user_id: u64, contact_id: u64) -> StoreResult<Option<ContactRecord>>;
    /// The rows of a user by contact id above `after_id`.
    async fn contacts(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ContactRecord>>;
    /// Writes both sides, replacing what was there.
    async fn put_contacts(&self, rows: &[ContactRecord; 2]) -> StoreResult<()>;
    /// Removes both sides; whether there was one.
    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool>;
}

/// Conversations and their members.
#[async_trait]
pub trait ConversationStore: Send + Sync {
    /// Stores a group and its members in one transaction. [`StoreError::Exists`]: its owner has created one under this
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
    /// than [`ROSTER_MAX`] rows mean that it is not whole, and to be read by [`RoomStore::members_page`].
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
    /// Moves cursors forward; a cursor behind the stored one changes nothing.
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
}

/// Rows of a roster that are cached.
pub const ROSTER_MAX: usize = 1000;
/// How far behind the newest entry of a log its newest message is looked for, in seqs: a message may have been followed by
/// many reactions.
pub const PREVIEW_BACK: u64 = 1000;

/// What identifies a send to its sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// In which conversation.
    pub conversation_id: u64,
    /// By whom.
    pub sender_id: u64,
    /// Under which name.
    pub client_id: String,
}

/// The logs. A message that is read is as later entries of its log have made it ([`crate::domain::changes`]): what an
/// append does to earlier messages is stored with it.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Appends messages of any conversations in one transaction: all or none.
    /// [`StoreError::Exists`]: a (conversation, seq) or a (conversation, sender, client_id) is taken; nothing stored.
    async fn append(&self, messages: &[Message]) -> StoreResult<()>;
    /// How many of `waiting` messages are best appended at once, the rest being soon to follow: 1 to `waiting`.
    fn append_size(&self, waiting: usize) -> usize {
        waiting
    }
    /// How many appends can run at the same time; more would wait for each other.
    fn appends_at_once(&self) -> usize {
        usize::MAX
    }
    /// The newest seq of a conversation; 0: none.
    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64>;
    /// Those of the keys that are stored, as (key, seq, created_at_ms), in any order.
    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>>;
    /// Messages with `after_seq < seq`, oldest first.
    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>>;
    /// Messages behind each of these places (conversation, seq), of which no two are in one conversation: conversation by
    /// conversation in the order given, oldest first, and `limit` in all at most.
    async fn tails(&self, places: &[(u64, u64)], limit: u32) -> StoreResult<Vec<Message>> {
        let mut messages = Vec::new();
        for (conversation_id, seq) in places {
            let left = limit - messages.len() as u32;
            if left == 0 {
                break;
            }
            messages.extend(self.after(*conversation_id, *seq, left).await?);
        }
        Ok(messages)
    }
    /// The first seq whose message was stored at `at_ms` (Unix milliseconds) or later; behind the newest where there is
    /// none. Halves the log, as times grow with seqs: where clocks of nodes differ, it is as far off as they are.
    async fn seq_at(&self, conversation_id: u64, at_ms: u64) -> StoreResult<u64> {
        let (mut low, mut high) = (1, self.last_seq(conversation_id).await?.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            // The first that is there: older ones may have been removed.
            let there = self.after(conversation_id, middle - 1, 1).await?;
            match there.first() {
                Some(message) if message.seq < high && message.created_at_ms < at_ms => low = message.seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
    /// Those of the messages, named by conversation and seq, that there are, in any order.
    async fn at(&self, keys: &[(u64, u64)]) -> StoreResult<Vec<Message>> {
        let mut found = Vec::new();
        for (conversation_id, seq) in keys.iter().filter(|(_, seq)| *seq > 0) {
            let there = self.after(*conversation_id, seq - 1, 1).await?;
            found.extend(there.into_iter().filter(|message| message.seq == *seq));
        }
        Ok(found)
    }
    /// The newest messages of each conversation, oldest first, `limit` at most; in the order of the ids.
    async fn newest(&self, conversation_ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        let mut tails = Vec::with_capacity(conversation_ids.len());
        for id in conversation_ids {
            tails.push(self.before(*id, u64::MAX >> 1, 1, limit).await?);
        }
        Ok(tails)
    }
    /// The newest messages with `first_seq <= seq < before_seq`, oldest first.
    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>>;
}

/// All stores of a node.
#[derive(Clone)]
pub struct Stores {
    /// Users and devices.
    pub accounts: Arc<dyn AccountStore>,
    /// Contact lists.
    pub contacts: Arc<dyn ContactStore>,
    /// Conversations and members.
    pub conversations: Arc<dyn ConversationStore>,
    /// What changes in groups.
    pub rooms: Arc<dyn RoomStore>,
    /// What is each user's own.
    pub people: Arc<dyn PeopleStore>,
    /// What stands beside the logs.
    pub marks: Arc<dyn MarkStore>,
    /// What becomes too old.
    pub retention: Arc<dyn RetentionStore>,
    /// Logs.
    pub messages: Arc<dyn MessageStore>,
    /// What is found in them.
    pub search: Arc<dyn SearchStore>,
}

/// Pause between two warnings of the same outage, in milliseconds. Refused at once, requests are many.
const WARN_PAUSE_MS: u64 = 1000;

/// Whether the last warning is long enough ago.
fn may_warn() -> bool {
    static WARNED_AT_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = crate::clock::now_ms();
    let last = WARNED_AT_MS.load(Ordering::Relaxed);
    // A clock that was set back must not silence it.
    now_ms.abs_diff(last) >= WARN_PAUSE_MS
        && WARNED_AT_MS.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl From<StoreError> for crate::domain::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists => Self::exists("it exists already"),
            StoreError::Unavailable(cause) | StoreError::Unsettled(cause) => {
                if may_warn() {
                    tracing::warn!(target: "rookery::storage", %cause, "the database did not answer");
                }
                Self::unavailable("the database is away; try again, a send with the same client_id")
            }
            StoreError::Invalid(cause) => {
                tracing::error!(target: "rookery::storage", %cause, "the database can't be used");
                Self::internal(
                    "the server could not use its database; its operators find the cause in its log",
                )
            }
        }
    }
}
