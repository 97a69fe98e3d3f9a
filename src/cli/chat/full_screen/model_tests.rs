//! What the model makes of events and answers.

use super::*;

fn group(id: u64, name: &str) -> v1::Conversation {
    let mut conversation =
        v1::Conversation { conversation_id: id, name: name.into(), ..v1::Conversation::default() };
    conversation.set_kind(ConversationKind::Group);
    conversation
}

fn message(conversation_id: u64, seq: u64, sender_id: u64, text: &str) -> v1::Message {
    v1::Message {
        conversation_id,
        seq,
        sender_id,
        text: text.into(),
        created_at_ms: seq * 1000,
        ..v1::Message::default()
    }
}

fn entry(seq: u64, kind: MessageKind, target_seq: u64, text: &str) -> v1::Message {
    let mut entry = v1::Message { target_seq, emoji: text.into(), ..message(9, seq, 2, text) };
    entry.set_kind(kind);
    entry
}

fn model() -> Model {
    let mut model = Model::new(1);
    model.take(Event::Conversation(group(9, "rust")), Instant::now());
    model
}

#[test]
fn unread_counts_what_is_not_looked_at() {
    let (mut model, now) = (model(), Instant::now());
    let effects = model.take(Event::Message(message(9, 1, 2, "a")), now);
    assert_eq!(effects, [Effect::LookUp(2), Effect::Ring]);
    model.take(Event::Message(message(9, 2, 2, "b")), now);
    model.take(Event::Message(entry(3, MessageKind::Edit, 1, "a!")), now);
    assert_eq!(model.rooms[&9].unread, 2, "a change is no message");
    let effects = model.show(9);
    let read = Effect::MarkRead(v1::Cursor { conversation_id: 9, seq: 3 });
    assert!(effects.contains(&read), "{effects:?}");
    assert_eq!(model.rooms[&9].unread, 0);
    let effects = model.take(Event::Message(message(9, 4, 2, "c")), now);
    assert_eq!(effects, [Effect::MarkRead(v1::Cursor { conversation_id: 9, seq: 4 })]);
}

#[test]
fn what_is_taken_back_before_it_is_read_is_not_unread() {
    let (mut model, now) = (model(), Instant::now());
    for (seq, sender_id) in [(1, 1), (2, 2), (3, 3)] {
        model.take(Event::Message(message(9, seq, sender_id, "x")), now);
    }
    assert_eq!(model.rooms[&9].unread, 2);
    for seq in [4, 5] {
        model.take(Event::Message(entry(seq, MessageKind::Recall, 2, "")), now);
        assert_eq!(model.rooms[&9].unread, 1, "it is taken back once");
    }
    model.take(Event::Message(entry(6, MessageKind::Recall, 1, "")), now);
    assert_eq!(model.rooms[&9].unread, 1, "that was read");
    // What the server has counted without is not taken off again.
    let listed = v1::Conversation { unread: 3, read_seq: 1, last_seq: 12, ..group(9, "rust") };
    model.take(Event::Conversation(listed), now);
    model.take(Event::Message(entry(12, MessageKind::Recall, 3, "")), now);
    assert_eq!(model.rooms[&9].unread, 3);
    // Of what is not held only the server knows.
    let effects = model.take(Event::Message(entry(13, MessageKind::Recall, 8, "")), now);
    assert!(effects.contains(&Effect::Describe(9)), "{effects:?}");
    let hidden = v1::Hidden { conversation_id: 9, seqs: vec![10] };
    assert_eq!(model.take(Event::Hidden(hidden), now), [Effect::Describe(9)]);
}

#[test]
fn the_server_s_count_is_not_counted_again() {
    let (mut model, now) = (Model::new(1), Instant::now());
    let listed = v1::Conversation { unread: 2, last_seq: 2, ..group(9, "rust") };
    model.take(Event::Conversation(listed), now);
    for seq in 1..=3 {
        model.take(Event::Message(message(9, seq, 2, "x")), now);
    }
    assert_eq!(model.rooms[&9].unread, 3);
    let receipt = v1::Receipt { conversation_id: 9, user_id: 1, read_seq: 3, delivered_seq: 3 };
    model.take(Event::Receipt(receipt), now);
    assert_eq!(model.rooms[&9].unread, 0, "read on another device");
}

#[test]
fn changes_are_shown_at_their_targets() {
    let (mut model, now) = (model(), Instant::now());
    model.take(Event::Message(message(9, 1, 2, "helo")), now);
    model.take(Event::Message(entry(2, MessageKind::Edit, 1, "hello")), now);
    model.take(Event::Message(entry(3, MessageKind::Reaction, 1, "👍")), now);
    model.take(Event::Message(entry(4, MessageKind::Reaction, 1, "👍")), now);
    let shown = model.rooms[&9].messages[&1].clone();
    assert_eq!((shown.text.as_str(), shown.edited_at_ms), ("hello", 2000));
    assert_eq!((shown.reactions.len(), shown.reactions[0].user_ids.clone()), (1, vec![2]));
    let off = v1::Message { recalled: true, ..entry(5, MessageKind::Reaction, 1, "👍") };
    model.take(Event::Message(off), now);
    model.take(Event::Message(entry(6, MessageKind::Recall, 1, "")), now);
    let shown = &model.rooms[&9].messages[&1];
    assert!(shown.recalled && shown.text.is_empty() && shown.reactions.is_empty());
    assert_eq!(model.rooms[&9].messages.len(), 1);
}

#[test]
fn a_conversation_that_nobody_told_of_is_asked_for() {
    let (mut model, now) = (Model::new(1), Instant::now());
    let effects = model.take(Event::Message(message(7, 1, 1, "hello")), now);
    assert_eq!(effects, [Effect::Describe(7)]);
    assert_eq!(model.take(Event::Message(message(7, 2, 1, "again")), now), []);
}

#[test]
fn typing_ends_by_itself_and_with_the_message() {
    let (mut model, now) = (model(), Instant::now());
    for user_id in [2, 3] {
        model.take(Event::Typing(v1::Typing { conversation_id: 9, user_id, active: true }), now);
    }
    assert_eq!(model.rooms[&9].typing(now), [2, 3]);
    model.take(Event::Message(message(9, 1, 2, "a")), now);
    assert_eq!(model.rooms[&9].typing(now), [3]);
    assert!(model.rooms[&9].typing(now + TYPING_TIME).is_empty());
}

#[test]
fn the_past_is_asked_for_once_and_ends() {
    let mut model = model();
    let effects = model.show(9);
    assert_eq!(effects, [Effect::Older { conversation_id: 9, before_seq: 0 }]);
    assert_eq!(model.want_past(), None, "it is on its way");
    let page =
        v1::HistoryPage { messages: vec![message(9, 5, 2, "e")], more: true, ..v1::HistoryPage::default() };
    model.past(9, Some(page));
    assert_eq!(model.want_past(), Some(Effect::Older { conversation_id: 9, before_seq: 5 }));
    let page = v1::HistoryPage { messages: vec![message(9, 1, 2, "a")], ..v1::HistoryPage::default() };
    model.past(9, Some(page));
    assert_eq!(model.want_past(), None);
    assert_eq!(model.rooms[&9].messages.len(), 2);
}

#[test]
fn the_list_goes_by_the_newest_message_and_pins() {
    let (mut model, now) = (model(), Instant::now());
    model.take(Event::Conversation(group(10, "go")), now);
    model.take(Event::Conversation(v1::Conversation { pinned: true, ..group(11, "zig") }), now);
    model.take(Event::Message(message(9, 1, 2, "a")), now);
    model.take(Event::Message(message(10, 2, 2, "b")), now);
    assert_eq!(model.list(), [11, 10, 9]);
    model.show(10);
    model.step(1);
    assert_eq!(model.open, Some(9));
    model.step(1);
    assert_eq!(model.open, Some(11), "around the end");
    model.next_unread();
    assert_eq!(model.open, Some(11), "nothing is unread but what was shown");
    assert_eq!(model.find("ru"), Some(9));
    assert_eq!(model.find("10"), Some(10));
    assert_eq!(model.find("c++"), None);
}

#[test]
fn peers_are_watched_and_again_after_a_reconnect() {
    let (mut model, now) = (Model::new(1), Instant::now());
    let direct = v1::Conversation { conversation_id: 5, peer_user_id: 2, ..v1::Conversation::default() };
    model.take(Event::Conversation(direct), now);
    let connected = || Event::Connected { endpoint: "a:1".into(), welcome: v1::Welcome::default() };
    assert_eq!(model.take(connected(), now), [Effect::Watch(vec![2])]);
    assert_eq!(model.take(connected(), now), [Effect::Watch(vec![2])]);
}
