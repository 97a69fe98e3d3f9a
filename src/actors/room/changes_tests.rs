//! What a room admits of edits, recalls and reactions, and that it judges anew what another activation has overtaken.

use super::changes::{ChangeRules, entry_of};
use super::state::{Bounds, Effect, Loaded, Room};
use crate::domain::Error;
use crate::protocol::cluster::room_request::Command;
use crate::protocol::v1::{Edit, Message, React, Recall, Sent};
use crate::protocol::{ConversationKind, ErrorCode, JoinPolicy, MemberRole};
use crate::storage::{ConversationRecord, MemberRecord, RoomRules};

const ROOM: u64 = 7;

fn conversation(kind: ConversationKind) -> ConversationRecord {
    ConversationRecord {
        id: ROOM,
        kind,
        name: String::new(),
        description: String::new(),
        avatar_file_id: 0,
        owner_id: 1,
        join_policy: JoinPolicy::Open,
        rules: RoomRules::default(),
        created_at_ms: 0,
        updated_at_ms: 0,
    }
}

/// User 1 owns it, 2 and 3 are admins, 4 and 5 members.
fn members() -> Vec<MemberRecord> {
    let role = |user_id| match user_id {
        1 => MemberRole::Owner,
        2 | 3 => MemberRole::Admin,
        _ => MemberRole::Member,
    };
    let member = |user_id| MemberRecord {
        conversation_id: ROOM,
        user_id,
        role: role(user_id),
        first_seq: 1,
        ..MemberRecord::default()
    };
    (1..=5).map(member).collect()
}

/// What storage says: message 1 by `sender_id`, sent at the time 1000.
fn loaded(target: Message, last_seq: u64) -> Loaded {
    Loaded {
        conversation: conversation(ConversationKind::Group),
        members: members(),
        last_seq,
        unpushed: Vec::new(),
        stored: Vec::new(),
        targets: vec![target],
    }
}

fn written(sender_id: u64) -> Message {
    Message { seq: 1, sender_id, text: "hello".into(), created_at_ms: 1000, ..Message::default() }
}

fn room(sender_id: u64) -> Room<u32> {
    let changes =
        ChangeRules { edit_window_ms: 500, recall_window_ms: 100, reactions_max: 2, retention_ms: 0 };
    let bounds = Bounds { pending_sends: 8, group_messages: 3, recent_sends: 8, changes };
    let mut room = Room::new(loaded(written(sender_id), 1), bounds);
    room.targets.learn(written(sender_id));
    room
}

fn edit(client_id: &str) -> Command {
    Command::Edit(Edit { target_seq: 1, client_id: client_id.into(), text: "x".into(), ..Edit::default() })
}

fn recall(client_id: &str) -> Command {
    Command::Recall(Recall { target_seq: 1, client_id: client_id.into(), ..Recall::default() })
}

fn react(client_id: &str, emoji: &str) -> Command {
    let (client_id, emoji) = (client_id.into(), emoji.into());
    Command::React(React { target_seq: 1, client_id, emoji, ..React::default() })
}

/// Asks for a change; the code of the refusal.
fn asks(room: &mut Room<u32>, by: u64, command: Command, now_ms: u64) -> Result<(), ErrorCode> {
    let entry = entry_of(by, command).expect("a change");
    room.change(0, entry, 9, now_ms).map(|_| ()).map_err(|(_, error)| error.code)
}

/// Stores what waits; the answers.
fn stores(room: &mut Room<u32>) -> Vec<Result<Sent, Error>> {
    room.next_group(2000).expect("something waits");
    let answer = |effect| match effect {
        Effect::Answer(_, answer) => Some(answer),
        Effect::Push(..) => None,
    };
    room.stored().into_iter().filter_map(answer).collect()
}

#[test]
fn every_role_takes_back_what_the_table_says() {
    use MemberRole::{Admin, Member, Owner};
    let rank = |role: MemberRole| role as i32;
    for (by, role) in [(1, Owner), (2, Admin), (4, Member)] {
        for (of, theirs) in [(1, Owner), (2, Admin), (3, Admin), (4, Member), (5, Member), (99, Member)] {
            let mut room = room(of);
            // Long after the window of senders.
            let got = asks(&mut room, by, recall("a"), 9000);
            let wanted = match (by == of, role) {
                (true, Member) => Err(ErrorCode::FailedPrecondition),
                (true, _) => Ok(()),
                (false, Member) => Err(ErrorCode::PermissionDenied),
                (false, role) if rank(role) > rank(theirs) => Ok(()),
                (false, _) => Err(ErrorCode::PermissionDenied),
            };
            assert_eq!(got, wanted, "user {by} takes back what user {of} wrote");
        }
    }
}

#[test]
fn windows_are_kept() {
    for (at_ms, edits, recalls) in
        [(1100, true, true), (1101, true, false), (1500, true, false), (1501, false, false)]
    {
        let not = Err(ErrorCode::FailedPrecondition);
        assert_eq!(asks(&mut room(4), 4, edit("a"), at_ms), if edits { Ok(()) } else { not });
        assert_eq!(asks(&mut room(4), 4, recall("a"), at_ms), if recalls { Ok(()) } else { not });
        assert_eq!(asks(&mut room(4), 5, react("a", "x"), at_ms), Ok(()));
    }
}

#[test]
fn what_waits_counts_for_what_comes_behind_it() {
    let mut room = room(4);
    assert_eq!(asks(&mut room, 4, edit("a"), 1000), Ok(()));
    for (name, emoji) in [("b", "x"), ("c", "y"), ("d", "x")] {
        assert_eq!(asks(&mut room, 5, react(name, emoji), 1000), Ok(()));
    }
    assert_eq!(asks(&mut room, 5, react("e", "z"), 1000), Err(ErrorCode::FailedPrecondition));
    assert_eq!(asks(&mut room, 4, recall("f"), 1000), Ok(()));
    assert_eq!(asks(&mut room, 4, edit("g"), 1000), Err(ErrorCode::FailedPrecondition));
    assert_eq!(asks(&mut room, 4, edit("a"), 1000), Ok(()), "a repeat waits for the first");
    assert_eq!(stores(&mut room).len(), 4, "the repeat too");
    assert_eq!(asks(&mut room, 5, react("h", "x"), 1000), Err(ErrorCode::FailedPrecondition));
    assert_eq!(stores(&mut room).len(), 2);
    assert_eq!(asks(&mut room, 4, edit("i"), 1000), Err(ErrorCode::FailedPrecondition));
    assert_eq!(asks(&mut room, 4, edit("a"), 1000), Ok(()), "a repeat of what is stored is answered");
}

#[test]
fn a_refused_group_leaves_the_message_as_it_was() {
    let mut room = room(4);
    assert_eq!(asks(&mut room, 4, recall("a"), 1000), Ok(()));
    room.next_group(2000).expect("it waits");
    assert_eq!(asks(&mut room, 4, edit("b"), 1000), Err(ErrorCode::FailedPrecondition), "it may be stored");
    room.refused(&Error::unavailable("away"));
    assert_eq!(asks(&mut room, 4, edit("c"), 1000), Ok(()));
}

#[test]
fn what_another_activation_has_overtaken_is_judged_again() {
    let mut room = room(4);
    assert_eq!(asks(&mut room, 4, edit("a"), 1000), Ok(()));
    room.next_group(2000).expect("it waits");
    assert_eq!(asks(&mut room, 5, react("b", "x"), 1000), Ok(()));
    // Another activation took the seq, for a recall.
    room.unsettle();
    assert_eq!(room.pending_targets(), [1]);
    let gone = Message { recalled: true, text: String::new(), ..written(4) };
    let effects = room.reload(loaded(gone, 2));
    let codes: Vec<Option<ErrorCode>> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Answer(_, Err(error)) => Some(error.code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [Some(ErrorCode::FailedPrecondition); 2]);
    assert_eq!((room.pending(), room.next_group(3000)), (0, None), "nothing of it is stored");
}

#[test]
fn a_room_that_moves_hands_on_what_was_asked() {
    let mut room = room(4);
    let commands = [edit("a"), react("b", "x"), recall("c")];
    for command in commands.clone() {
        assert_eq!(asks(&mut room, 4, command, 1000), Ok(()));
    }
    let queued: Vec<Command> = room.take_queue().into_iter().map(|(_, _, command, _)| command).collect();
    assert_eq!(queued, commands);
}

#[test]
fn in_a_direct_conversation_each_takes_back_their_own() {
    let mut record = loaded(written(4), 1);
    record.conversation = conversation(ConversationKind::Direct);
    let changes = ChangeRules { recall_window_ms: 100, ..ChangeRules::default() };
    let mut room =
        Room::new(record, Bounds { pending_sends: 8, group_messages: 3, recent_sends: 8, changes });
    room.targets.learn(written(4));
    assert_eq!(
        asks(&mut room, 1, recall("a"), 1000),
        Err(ErrorCode::PermissionDenied),
        "whatever the row says"
    );
    assert_eq!(asks(&mut room, 4, recall("b"), 9000), Err(ErrorCode::FailedPrecondition));
    assert_eq!(asks(&mut room, 4, recall("c"), 1050), Ok(()));
}

/// It is about to be removed: an entry about it would outlive it.
#[test]
fn nothing_is_done_to_what_is_too_old_though_it_is_still_there() {
    let commands = || [edit("e"), recall("r"), react("x", "👍")];
    // The group keeps messages for 60 s, all are kept for 30 s, or both: the shorter time holds.
    for (own_s, all_ms, kept_ms) in [(60, 0, 60_000), (0, 30_000, 30_000), (60, 30_000, 30_000)] {
        for command in commands() {
            let mut room = room(1);
            room.bounds.changes = ChangeRules {
                edit_window_ms: 0,
                recall_window_ms: 0,
                retention_ms: all_ms,
                ..room.bounds.changes
            };
            let rules = RoomRules { retention_seconds: own_s, ..RoomRules::default() };
            room.put_conversation(ConversationRecord { rules, ..room.conversation().clone() });
            let too_late = asks(&mut room, 1, command.clone(), 1000 + kept_ms);
            assert_eq!(too_late, Err(ErrorCode::NotFound), "{command:?}");
            assert_eq!(asks(&mut room, 1, command, 999 + kept_ms), Ok(()));
        }
    }
}
