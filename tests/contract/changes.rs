//! What edits, recalls and reactions make of earlier messages, stored with them.

use rookery::domain::changes::{apply, is_change};
use rookery::protocol::MessageKind;
use rookery::protocol::v1::{Attachment, Message};
use rookery::storage::{StoreError, Stores};

use crate::fixture::{group, message};

/// An entry about a message.
fn entry(id: u64, seq: u64, by: u64, kind: MessageKind, target_seq: u64) -> Message {
    let (text, emoji) = match kind {
        MessageKind::Edit => (format!("edited by {seq} \"{{}}\" 鸟"), String::new()),
        MessageKind::Reaction => (String::new(), "👍🏽".to_owned()),
        MessageKind::System => ("pinned a message".to_owned(), String::new()),
        _ => (String::new(), String::new()),
    };
    Message { kind: kind as i32, target_seq, text, emoji, ..message(id, seq, by, &format!("e{seq}")) }
}

async fn read(stores: &Stores, id: u64) -> Vec<Message> {
    stores.messages.after(id, 0, 10_000).await.expect("they are read")
}

/// A log as it must be read, entry by entry.
#[derive(Default)]
struct Model(Vec<Message>);

impl Model {
    fn append(&mut self, entries: &[Message]) {
        for entry in entries {
            self.0.push(entry.clone());
            if !is_change(entry) {
                continue;
            }
            apply(&mut self.0[entry.target_seq as usize - 1], entry);
            if entry.kind() == MessageKind::Recall {
                let is_edit = |other: &&mut Message| {
                    other.target_seq == entry.target_seq && other.kind() == MessageKind::Edit
                };
                self.0.iter_mut().filter(is_edit).for_each(|edit| edit.text.clear());
            }
        }
    }
}

pub async fn messages_are_what_their_log_has_made_of_them(stores: &Stores) {
    let mut model = Model::default();
    let file =
        Attachment { name: "\"reacted\" \\ 'x'.png".to_owned(), size: 1 << 40, ..Attachment::default() };
    let written: Vec<Message> = (1..=12)
        .map(|seq| match seq % 3 {
            0 => Message {
                attachments: vec![file.clone()],
                mentions: vec![(1 << 53) - 1],
                ..message(1, seq, 1, &format!("m{seq}"))
            },
            _ => message(1, seq, 1, &format!("m{seq}")),
        })
        .collect();
    stores.messages.append(&written).await.expect("they are stored");
    model.append(&written);
    // The same sequence each time, without a pattern that the eye would find.
    let mut dice = 7u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut seq = 12;
    for _ in 0..40 {
        let mut batch = Vec::new();
        for _ in 0..=roll(6) {
            seq += 1;
            let target = 1 + roll(12);
            batch.push(match roll(12) {
                0 => entry(1, seq, 1, MessageKind::Recall, target),
                1..=4 => entry(1, seq, 1, MessageKind::Edit, target),
                5 => message(1, seq, 2, &format!("m{seq}")),
                // Such as the room says of pins.
                6 => entry(1, seq, 2, MessageKind::System, target),
                number => Message {
                    emoji: ["👍", "❤️", "x"][roll(3) as usize].to_owned(),
                    recalled: number > 9,
                    ..entry(1, seq, 1 + roll(4), MessageKind::Reaction, target)
                },
            });
        }
        stores.messages.append(&batch).await.expect("they are stored");
        model.append(&batch);
        assert_eq!(read(stores, 1).await, model.0);
    }
    let page = stores.messages.before(1, 9, 4, 3).await.expect("they are read");
    assert_eq!(page, model.0[5..8]);
}

pub async fn what_is_not_stored_changes_nothing(stores: &Stores) {
    let first = message(1, 1, 1, "a");
    stores.messages.append(std::slice::from_ref(&first)).await.expect("it is stored");
    for kind in [MessageKind::Edit, MessageKind::Recall, MessageKind::Reaction] {
        // The second of the two has a name that is taken.
        let batch = [entry(1, 2, 1, kind, 1), message(1, 3, 1, "a")];
        assert_eq!(stores.messages.append(&batch).await, Err(StoreError::Exists), "{kind:?}");
        assert_eq!(read(stores, 1).await, std::slice::from_ref(&first), "{kind:?}");
    }
    // Of another conversation's message of the same seq nothing changes either.
    stores.messages.append(&[message(2, 1, 1, "a")]).await.expect("it is stored");
    stores.messages.append(&[entry(2, 2, 1, MessageKind::Edit, 1)]).await.expect("it is stored");
    assert_eq!(read(stores, 1).await, [first]);
}

pub async fn of_many_who_react_the_first_are_named_and_all_are_counted(stores: &Stores) {
    stores.messages.append(&[message(1, 1, 1, "a")]).await.expect("it is stored");
    let reactions: Vec<Message> = (2..=131).map(|seq| entry(1, seq, seq, MessageKind::Reaction, 1)).collect();
    stores.messages.append(&reactions).await.expect("they are stored");
    let found = stores.messages.after(1, 0, 1).await.expect("it is read").remove(0);
    let [reaction] = found.reactions.as_slice() else { panic!("one emoji: {:?}", found.reactions) };
    assert_eq!((reaction.count, reaction.emoji.as_str()), (130, "👍🏽"));
    assert_eq!(reaction.user_ids, (2..=101).collect::<Vec<_>>());
}

pub async fn the_list_shows_messages_and_counts_them_only(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    stores.messages.append(&[message(id, 1, 1, "a"), message(id, 2, 1, "b")]).await.expect("they are stored");
    let mut seq = 2;
    for kind in [MessageKind::Edit, MessageKind::Reaction, MessageKind::Recall] {
        seq += 1;
        stores.messages.append(&[entry(id, seq, 1, kind, 1)]).await.expect("it is stored");
        for row in [
            stores.conversations.conversation_of(2, id).await.expect("it is read").expect("they are in it"),
            stores.conversations.conversations_of(2, 0, None, 9).await.expect("it is read").remove(0),
        ] {
            // What was taken back is nothing to read any more.
            let unread = if kind == MessageKind::Recall { 1 } else { 2 };
            assert_eq!((row.newest, row.unread), ((seq, 1_000_000 + seq), unread), "{kind:?}");
            assert_eq!(row.last_message, Some(message(id, 2, 1, "b")), "{kind:?}");
            assert_eq!(row.activity_ms(), 1_000_000 + seq, "{kind:?}: whoever is away learns of it");
        }
    }
    stores.messages.append(&[entry(id, 6, 1, MessageKind::Edit, 2)]).await.expect("it is stored");
    stores.messages.append(&[entry(id, 7, 2, MessageKind::Reaction, 2)]).await.expect("it is stored");
    let row = stores.conversations.conversation_of(2, id).await.expect("it is read").expect("there");
    let preview = row.last_message.expect("there is one");
    assert_eq!((preview.seq, preview.edited_at_ms, preview.reactions.len()), (2, 1_000_006, 1));
    // Where nothing but entries about messages is near, the newest is better than none.
    let many: Vec<Message> = (8..=1100).map(|seq| entry(id, seq, 2, MessageKind::Reaction, 2)).collect();
    stores.messages.append(&many).await.expect("they are stored");
    let row = stores.conversations.conversation_of(2, id).await.expect("it is read").expect("there");
    assert_eq!(row.last_message.map(|message| message.seq), Some(1100));
}
