//! What changes in a group: its settings, who is in it and what they may, who wants in, who is invited and who is
//! banned. A change is a list of conditions and a list of writes, carried out whole or not at all, so that what a room
//! decided by its memory holds in the database too, also where two activations decide at once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ConversationRecord, MemberRecord, StoreResult};
use crate::protocol::{JoinPolicy, MemberRole};

/// What holds in a group, beside its name and who may join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomRules {
    /// Shown above the room; may be empty.
    pub announcement: String,
    /// Only the owner and admins write.
    pub read_only: bool,
    /// What a member has to wait between two messages; 0: nothing.
    pub slow_mode_seconds: u64,
    /// Those who are only members may not write for now.
    pub silence_all: bool,
    /// New members see the room from its beginning.
    pub history_open: bool,
    /// 0, or when it was ended for all, Unix milliseconds: nothing changes any more, and nobody is a member.
    pub dissolved_at_ms: u64,
    /// How long messages are kept; 0: as long as those of all conversations.
    pub retention_seconds: u64,
    /// Messages before this seq were removed, or are about to be, as they were too old; 0: none.
    pub floor_seq: u64,
}

impl RoomRules {
    /// How long messages are kept, in milliseconds, where those of all conversations are for so long: the shorter of the two;
    /// 0: for ever.
    pub fn kept_ms(&self, all_ms: u64) -> u64 {
        match (all_ms, self.retention_seconds.saturating_mul(1000)) {
            (0, own_ms) => own_ms,
            (all_ms, 0) => all_ms,
            (all_ms, own_ms) => all_ms.min(own_ms),
        }
    }
}

/// Changes of a group's settings; `None` leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// New avatar.
    pub avatar_file_id: Option<u64>,
    /// Who may join from now on.
    pub join_policy: Option<JoinPolicy>,
    /// See [`RoomRules`].
    pub announcement: Option<String>,
    /// See [`RoomRules`].
    pub read_only: Option<bool>,
    /// See [`RoomRules`].
    pub slow_mode_seconds: Option<u64>,
    /// See [`RoomRules`].
    pub silence_all: Option<bool>,
    /// See [`RoomRules`]. `true` lets those who are members see the beginning too.
    pub history_open: Option<bool>,
    /// See [`RoomRules`].
    pub retention_seconds: Option<u64>,
}

impl ConversationRecord {
    /// The record as it is after a change.
    pub fn change(&mut self, change: &SettingsChange) {
        fn put<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *place = value.clone();
            }
        }
        put(&mut self.name, &change.name);
        put(&mut self.description, &change.description);
        put(&mut self.avatar_file_id, &change.avatar_file_id);
        put(&mut self.join_policy, &change.join_policy);
        let rules = &mut self.rules;
        put(&mut rules.announcement, &change.announcement);
        put(&mut rules.read_only, &change.read_only);
        put(&mut rules.slow_mode_seconds, &change.slow_mode_seconds);
        put(&mut rules.silence_all, &change.silence_all);
        put(&mut rules.history_open, &change.history_open);
        put(&mut rules.retention_seconds, &change.retention_seconds);
    }
}

/// One who wants to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequestRecord {
    /// What.
    pub conversation_id: u64,
    /// Who.
    pub user_id: u64,
    /// What the request says.
    pub message: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// One who may not come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanRecord {
    /// Where.
    pub conversation_id: u64,
    /// Who.
    pub user_id: u64,
    /// By whom.
    pub banned_by: u64,
    /// Why; may be empty.
    pub reason: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// A code that lets in who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InviteRecord {
    /// Unique among all rooms.
    pub code: String,
    /// Into which room.
    pub conversation_id: u64,
    /// Who made it.
    pub created_by: u64,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
    /// It is good before this, Unix milliseconds; 0: for ever.
    pub expires_at_ms: u64,
    /// How often it may be used; 0: as often as one likes.
    pub uses_max: u64,
    /// How often it was.
    pub uses: u64,
}

impl InviteRecord {
    /// Whether it still lets somebody in.
    pub fn is_good(&self, now_ms: u64) -> bool {
        (self.uses_max == 0 || self.uses < self.uses_max)
            && (self.expires_at_ms == 0 || now_ms < self.expires_at_ms)
    }
}

/// Lists of a room that have a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Requests to join.
    Requests,
    /// Bans.
    Bans,
    /// Invite codes that are still good.
    Invites,
    /// Members who have not left.
    Members,
}

/// Sayings of one group that are read at once; of more, the oldest.
pub const SAYINGS_MAX: u64 = 200;
/// The `client_id` under which a group says that it was created.
pub const SAYS_CREATED: &str = "system-created";

/// What a group has to say of a change of itself. It is kept with the change, and goes when the log has a `system` message of
/// its name, so that it is said once whatever crashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saying {
    /// The name of the message that says it.
    pub client_id: String,
    /// In whose name.
    pub by: u64,
    /// What.
    pub text: String,
    /// Whom it is about.
    pub about: Vec<u64>,
    /// Which message it is about; 0: none.
    pub target_seq: u64,
    /// When it was changed, Unix time, milliseconds.
    pub created_at_ms: u64,
}

impl Saying {
    /// What a new group says.
    pub fn created(owner_id: u64, name: &str, others: Vec<u64>, now_ms: u64) -> Self {
        Self {
            client_id: SAYS_CREATED.to_owned(),
            by: owner_id,
            text: format!("created the group {name}"),
            about: others,
            target_seq: 0,
            created_at_ms: now_ms,
        }
    }
}

/// What must hold for a change to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The user is a member of this role.
    Role(u64, MemberRole),
    /// The user is no member.
    NoMember(u64),
    /// The user is the only member.
    Alone(u64),
    /// None of the users is banned.
    NotBanned(Vec<u64>),
    /// The user is banned.
    Banned(u64),
    /// The user has asked to join.
    Requested(u64),
    /// The list has fewer rows than this.
    Below(Listed, u64),
    /// Users join in this way.
    JoinPolicy(JoinPolicy),
    /// Whether new members see the room from its beginning.
    HistoryOpen(bool),
}

/// A part of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomWrite {
    /// Changes settings.
    Settings(SettingsChange),
    /// Sets a member's role, and with `owner` also the conversation's `owner_id`.
    Role(u64, MemberRole),
    /// A member may not write before this time, Unix milliseconds.
    Silence(u64, u64),
    /// Adds members, or brings back those who had left, with the `first_seq` and role given: their cursors,
    /// preferences and silence stay. Those who are members already stay as they are. Requests of theirs end.
    Add(Vec<MemberRecord>),
    /// Marks a membership as removed.
    Remove(u64),
    /// Keeps a request to join; of one who has asked before, the message is replaced.
    Ask(JoinRequestRecord),
    /// Ends a request to join.
    Unask(u64),
    /// Bans a user, whose request to join ends; one who is banned already stays so.
    Ban(BanRecord),
    /// Takes a ban back.
    Unban(u64),
    /// Keeps a new code, and drops those that are not good any more.
    Invite(InviteRecord),
    /// Counts a use of a code of this room; [`Unmet::Invite`] if it is not good.
    UseInvite(String),
    /// Drops a code of this room; [`Unmet::Invite`] if there is none.
    DropInvite(String),
    /// Moves the `updated_at_ms` of memberships, so that sync tells their users.
    Touch(Vec<u64>),
    /// Keeps what the room has to say of the change; what is kept under that name already stays.
    Say(Saying),
    /// Ends the room for all: the log stays, members are marked as removed, requests and codes go.
    Dissolve,
}

impl RoomWrite {
    /// Whether members see the conversation changed by it, so that its `updated_at_ms` moves.
    pub fn shows(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Role(..) | Self::Add(_) | Self::Remove(_) | Self::Dissolve)
    }
}

/// A change of one room, whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomChange {
    /// Of which room.
    pub conversation_id: u64,
    /// Unix time, milliseconds.
    pub now_ms: u64,
    /// What must hold, beside the room being there.
    pub conditions: Vec<Condition>,
    /// What is changed, in this order.
    pub writes: Vec<RoomWrite>,
}

/// Why a change was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The room was dissolved, or never was.
    Gone,
    /// A user's membership is another than was thought.
    Membership(u64),
    /// The room's settings are others than was thought.
    Settings,
    /// A user is banned.
    Banned(u64),
    /// A user is not banned.
    NotBanned(u64),
    /// A user has not asked to join, or not any more.
    NotRequested(u64),
    /// A list is full.
    Full(Listed),
    /// A code is not good.
    Invite,
}

/// What changes in groups, and the lists that show it.
#[async_trait]
pub trait RoomStore: Send + Sync {
    /// Carries out a change in one transaction, or says why not; then nothing was changed.
    async fn change_room(&self, change: &RoomChange) -> StoreResult<Option<Unmet>>;
    /// Members who have not left, by user id above `after_id`.
    async fn members_page(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<MemberRecord>>;
    /// Requests to join, by user id above `after_id`.
    async fn join_requests(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<JoinRequestRecord>>;
    /// Bans, by user id above `after_id`.
    async fn bans(&self, conversation_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BanRecord>>;
    /// The codes of a room, oldest first.
    async fn invites(&self, conversation_id: u64) -> StoreResult<Vec<InviteRecord>>;
    /// What a room has to say that its log has not got yet, oldest first, [`SAYINGS_MAX`] at most.
    async fn sayings(&self, conversation_id: u64) -> StoreResult<Vec<Saying>>;
    /// Rooms above `after_id` that have had something to say since before `before_ms`, by id.
    async fn owing(&self, before_ms: u64, after_id: u64, limit: u32) -> StoreResult<Vec<u64>>;
    /// A code.
    async fn invite(&self, code: &str) -> StoreResult<Option<InviteRecord>>;
}
