//! A room without its actor: from sends to what has to be answered and pushed.

use rookery::actors::room::state::{Bounds, Effect, Loaded, Room};
use rookery::config::Config;
use rookery::protocol::v1::Send;
use rookery::protocol::{ConversationKind, JoinPolicy};
use rookery::storage::{ConversationRecord, MemberRecord, RoomRules};

use crate::frames;

const CONVERSATION: u64 = 42;

/// A room whose members are 1 to `members`.
pub fn room(members: u64) -> Room<u64> {
    let conversation = ConversationRecord {
        id: CONVERSATION,
        kind: if members == 2 { ConversationKind::Direct } else { ConversationKind::Group },
        name: String::new(),
        description: String::new(),
        avatar_file_id: 0,
        owner_id: 0,
        join_policy: JoinPolicy::Open,
        rules: RoomRules::default(),
        created_at_ms: frames::STORED_AT_MS,
        updated_at_ms: frames::STORED_AT_MS,
    };
    let member = |user_id| MemberRecord {
        conversation_id: CONVERSATION,
        user_id,
        first_seq: 1,
        joined_at_ms: frames::STORED_AT_MS,
        ..MemberRecord::default()
    };
    let members = (1..=members).map(member).collect();
    let loaded = Loaded {
        conversation,
        members,
        last_seq: 0,
        unpushed: Vec::new(),
        stored: Vec::new(),
        targets: Vec::new(),
    };
    Room::new(loaded, Bounds::of(&Config::default()))
}

/// Sends that form one group.
pub fn sends(count: usize) -> Vec<Send> {
    let text = frames::text(frames::TEXT_BYTES);
    (0..count).map(|_| frames::send(CONVERSATION, &text)).collect()
}

/// Takes them, lets their group leave, and hears that it is stored. The group and the effects are given back.
pub fn plan_and_commit(
    room: &mut Room<u64>,
    sends: Vec<Send>,
) -> (Option<Vec<rookery::protocol::v1::Message>>, Vec<Effect<u64>>) {
    for send in sends {
        let refused = room.send(1, 1, send, 1);
        assert!(refused.is_none(), "the bounds of a room are wider than a measured group");
    }
    let group = room.next_group(frames::STORED_AT_MS);
    (group, room.stored())
}
