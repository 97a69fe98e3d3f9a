//! What the first message of a conversation needs of the stores, for many at once. Each has a form that asks one by one,
//! for stores in which that costs nothing.

use super::{ConversationRecord, ConversationRow, MemberRecord, PreferenceRecord, RoomRules};
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};

/// Members up to which a room's are read together with those of others.
pub const MEMBERS_TOGETHER: usize = 200;

/// What a room begins with, beside its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The conversation; `None`: there is none.
    pub conversation: Option<ConversationRecord>,
    /// Who has not left, by user id. `None`: more than [`MEMBERS_TOGETHER`], to be read alone.
    pub members: Option<Vec<MemberRecord>>,
}

/// A direct conversation as it is made.
pub fn new_direct(id: u64, now_ms: u64) -> ConversationRecord {
    ConversationRecord {
        id,
        kind: ConversationKind::Direct,
        name: String::new(),
        description: String::new(),
        avatar_file_id: 0,
        owner_id: 0,
        join_policy: JoinPolicy::Invite,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        rules: RoomRules::default(),
    }
}

/// A member from the conversation's beginning.
pub fn first_member(conversation_id: u64, user_id: u64, role: MemberRole, now_ms: u64) -> MemberRecord {
    MemberRecord {
        conversation_id,
        user_id,
        role,
        first_seq: 1,
        joined_at_ms: now_ms,
        updated_at_ms: now_ms,
        ..MemberRecord::default()
    }
}

/// How a direct conversation that was just made looks to one of its users: nothing of it need be read.
pub fn new_direct_row(id: u64, user_id: u64, other_id: u64, now_ms: u64) -> ConversationRow {
    let member = |user_id| first_member(id, user_id, MemberRole::Member, now_ms);
    ConversationRow {
        conversation: new_direct(id, now_ms),
        member: member(user_id),
        peer: Some(member(other_id)),
        member_count: 2,
        newest: (0, 0),
        last_message: None,
        unread: 0,
        preferences: PreferenceRecord::default(),
        pending_requests: 0,
    }
}
