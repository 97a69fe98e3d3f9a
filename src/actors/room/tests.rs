//! Properties of a room against a log that behaves like a database: all or nothing, unique keys, and answers that may
//! get lost either way.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::changes::ChangeRules;
use super::state::{Bounds, Effect, Loaded, Phase, Room};
use crate::domain::Error;
use crate::protocol::v1::{Message, Send};
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};
use crate::storage::{ClientKey, ConversationRecord, MemberRecord, RoomRules, Saying};

const ROOM: u64 = 7;

fn conversation() -> ConversationRecord {
    ConversationRecord {
        id: ROOM,
        kind: ConversationKind::Group,
        name: "rooks".to_owned(),
        description: String::new(),
        avatar_file_id: 0,
        owner_id: 1,
        join_policy: JoinPolicy::Open,
        created_at_ms: 0,
        updated_at_ms: 0,
        rules: RoomRules::default(),
    }
}

fn members() -> Vec<MemberRecord> {
    let member = |user_id| MemberRecord {
        conversation_id: ROOM,
        user_id,
        role: MemberRole::Member,
        first_seq: 1,
        ..MemberRecord::default()
    };
    (1..=3).map(member).collect()
}

fn room() -> Room<u32> {
    let loaded = Loaded {
        conversation: conversation(),
        members: members(),
        last_seq: 0,
        unpushed: Vec::new(),
        stored: Vec::new(),
        targets: Vec::new(),
    };
    Room::new(
        loaded,
        Bounds { pending_sends: 8, group_messages: 3, recent_sends: 2, changes: ChangeRules::default() },
    )
}

fn send(client_id: &str) -> Send {
    Send { conversation_id: ROOM, client_id: client_id.to_owned(), text: "hi".to_owned(), ..Send::default() }
}

/// A database with one conversation.
#[derive(Default)]
struct Log {
    messages: BTreeMap<u64, Message>,
}

impl Log {
    /// All or nothing, and no key twice.
    fn append(&mut self, group: &[Message]) -> bool {
        let taken = |new: &Message| {
            self.messages.contains_key(&new.seq)
                || self
                    .messages
                    .values()
                    .any(|old| (old.sender_id, &old.client_id) == (new.sender_id, &new.client_id))
        };
        if group.iter().any(taken) {
            return false;
        }
        self.messages.extend(group.iter().map(|message| (message.seq, message.clone())));
        true
    }

    fn load(&self, room: &Room<u32>) -> Loaded {
        let keys = room.pending_keys();
        let key = |message: &Message| ClientKey {
            conversation_id: ROOM,
            sender_id: message.sender_id,
            client_id: message.client_id.clone(),
        };
        Loaded {
            conversation: conversation(),
            members: members(),
            last_seq: self.messages.keys().next_back().copied().unwrap_or(0),
            unpushed: self.messages.range(room.pushed_seq() + 1..).map(|(_, m)| m.clone()).collect(),
            stored: self
                .messages
                .values()
                .filter(|message| keys.contains(&key(message)))
                .map(|message| (key(message), message.seq, message.created_at_ms))
                .collect(),
            targets: Vec::new(),
        }
    }
}

/// What happens in a run.
#[derive(Clone, Debug)]
enum Step {
    /// A member sends under one of a few names.
    Send { user: u64, name: u8 },
    /// The next group leaves and the database answers like this.
    Store(Answer),
    /// Another activation of the room writes to the log.
    Foreign { user: u64, name: u8 },
    /// The database is away during a reload.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Truth,
    Refused,
    LostAfterStoring,
    LostBeforeStoring,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        4 => Just(Answer::Truth),
        1 => Just(Answer::Refused),
        1 => Just(Answer::LostAfterStoring),
        1 => Just(Answer::LostBeforeStoring),
    ];
    prop_oneof![
        4 => (1u64..4, 0u8..12).prop_map(|(user, name)| Step::Send { user, name }),
        4 => answer.prop_map(Step::Store),
        1 => (1u64..4, 0u8..12).prop_map(|(user, name)| Step::Foreign { user, name }),
        1 => Just(Step::GiveUp),
    ]
}

/// Everything that left the room.
#[derive(Default)]
struct Seen {
    pushed: Vec<u64>,
    answers: HashMap<u32, Result<(u64, bool), ()>>,
}

impl Seen {
    fn take(&mut self, effects: Vec<Effect<u32>>) {
        for effect in effects {
            match effect {
                Effect::Push(message, _) => self.pushed.push(message.seq),
                Effect::Answer(waiter, answer) => {
                    let answer = answer.map(|sent| (sent.seq, sent.duplicate)).map_err(|_| ());
                    assert!(
                        self.answers.insert(waiter, answer).is_none(),
                        "waiter {waiter} was answered twice"
                    );
                }
            }
        }
    }
}

fn settle(room: &mut Room<u32>, log: &Log, seen: &mut Seen) {
    if room.phase() == Phase::Unsettled {
        let loaded = log.load(room);
        seen.take(room.reload(loaded));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_acknowledged_send_is_in_the_log_once_and_pushed_once_in_order(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut room, mut log, mut seen) = (room(), Log::default(), Seen::default());
        let mut sends: HashMap<u32, (u64, String)> = HashMap::new();
        let away = Error::unavailable("away");
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { user, name } => {
                    settle(&mut room, &log, &mut seen);
                    let client_id = format!("m{name}");
                    sends.insert(at as u32, (user, client_id.clone()));
                    let effects = room.send(user, 0, send(&client_id), at as u32);
                    seen.take(effects.into_iter().collect());
                }
                Step::Store(answer) => {
                    settle(&mut room, &log, &mut seen);
                    let Some(group) = room.next_group(at as u64) else { continue };
                    match answer {
                        Answer::Truth => {
                            if log.append(&group) {
                                seen.take(room.stored());
                            } else {
                                room.unsettle();
                            }
                        }
                        Answer::Refused => seen.take(room.refused(&away)),
                        Answer::LostAfterStoring => {
                            log.append(&group);
                            room.unsettle();
                        }
                        Answer::LostBeforeStoring => room.unsettle(),
                    }
                }
                Step::Foreign { user, name } => {
                    let seq = log.messages.keys().next_back().map_or(1, |last| last + 1);
                    log.append(&[Message {
                        conversation_id: ROOM,
                        seq,
                        sender_id: user,
                        client_id: format!("m{name}"),
                        created_at_ms: at as u64,
                        ..Message::default()
                    }]);
                }
                Step::GiveUp => {
                    if room.phase() == Phase::Unsettled {
                        seen.take(room.give_up(&away));
                    }
                }
            }
        }
        // Everything that waits is stored in the end.
        for _ in 0..40 {
            settle(&mut room, &log, &mut seen);
            match room.next_group(1000) {
                Some(group) if log.append(&group) => seen.take(room.stored()),
                Some(_) => room.unsettle(),
                None => break,
            }
        }
        prop_assert_eq!(room.pending(), 0);
        prop_assert_eq!(seen.answers.len(), sends.len(), "every send is answered");
        let seqs: Vec<u64> = log.messages.keys().copied().collect();
        prop_assert_eq!(&seqs, &(1..=seqs.len() as u64).collect::<Vec<_>>(), "the log has no gap");
        let mut first_results: HashMap<(u64, String), u64> = HashMap::new();
        for (waiter, (user, client_id)) in &sends {
            if let Ok((seq, _)) = seen.answers[waiter] {
                let stored = &log.messages[&seq];
                prop_assert_eq!((stored.sender_id, &stored.client_id), (*user, client_id));
                let first = first_results.entry((*user, client_id.clone())).or_insert(seq);
                prop_assert_eq!(*first, seq, "one name, one message");
            }
        }
        prop_assert!(seen.pushed.is_sorted_by(|a, b| a < b), "pushed {:?}", seen.pushed);
        let pushed_from = seen.pushed.first().copied().unwrap_or(1);
        let pushed_to = room.pushed_seq();
        prop_assert_eq!(seen.pushed.clone(), (pushed_from..=pushed_to).take(seen.pushed.len()).collect::<Vec<_>>());
    }
}

#[test]
fn a_repeat_gets_the_first_result_and_stores_nothing() {
    let mut room = room();
    let mut seen = Seen::default();
    seen.take(room.send(1, 0, send("a"), 1).into_iter().collect());
    seen.take(room.send(1, 0, send("a"), 2).into_iter().collect());
    assert_eq!(room.next_group(5).map(|group| group.len()), Some(1));
    seen.take(room.stored());
    seen.take(room.send(1, 0, send("a"), 3).into_iter().collect());
    assert_eq!(seen.answers[&1], Ok((1, false)));
    assert_eq!(seen.answers[&2], Ok((1, true)));
    assert_eq!(seen.answers[&3], Ok((1, true)));
    assert_eq!(room.next_group(6), None);
}

#[test]
fn cursors_never_move_backwards_nor_past_the_log() {
    let mut room = room();
    room.send(1, 0, send("a"), 1);
    room.next_group(5);
    room.stored();
    assert_eq!(room.advance(2, 9, 0, 0).ok(), Some(true));
    assert_eq!(room.member(2).map(|member| (member.delivered_seq, member.read_seq)), Some((1, 0)));
    assert_eq!(room.advance(2, 0, 1, 0).ok(), Some(true));
    assert_eq!(room.advance(2, 0, 0, 0).ok(), Some(false));
    assert_eq!(room.member(2).map(|member| member.read_seq), Some(1));
    assert!(room.advance(9, 1, 1, 0).is_err(), "one who is not a member has no cursors");
}

#[test]
fn a_full_room_refuses_and_keeps_what_it_took() {
    let mut room = room();
    let mut refused = 0;
    for at in 0..20u32 {
        if let Some(Effect::Answer(_, Err(error))) = room.send(1, 0, send(&format!("m{at}")), at) {
            assert_eq!(error.code, crate::protocol::ErrorCode::ResourceExhausted);
            refused += 1;
        }
    }
    assert_eq!((refused, room.pending()), (12, 8));
}

#[test]
fn what_is_said_for_one_who_is_away_is_not_read_by_it() {
    let mut room = room();
    let read = |room: &Room<u32>| room.member(1).map(|member| member.read_seq);
    let scheduled = Send { send_at_ms: 5, ..send("later") };
    room.send(1, 0, scheduled, 1);
    // It stays marked, also on its way to another activation.
    let (_, _, command, _) = room.take_queue().remove(0);
    let crate::protocol::cluster::room_request::Command::Send(moved) = command else { panic!("{command:?}") };
    assert_ne!(moved.send_at_ms, 0);
    room.send(1, 0, moved, 1);
    let text = "renamed the group".to_owned();
    room.announce(Saying { by: 1, text, client_id: "s".to_owned(), ..Saying::default() });
    room.next_group(5);
    room.stored();
    assert_eq!((room.last_seq(), read(&room)), (2, Some(0)));
    room.send(1, 0, send("now"), 2);
    room.next_group(6);
    room.stored();
    assert_eq!(read(&room), Some(3), "whoever writes has read");
}
