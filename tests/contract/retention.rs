//! [`rookery::storage::RetentionStore`].

use rookery::domain::search_terms::{Query, terms};
use rookery::protocol::MessageKind;
use rookery::protocol::v1::{Conversation, Marks, Message};
use rookery::storage::retention::LogEnds;
use rookery::storage::search::{Find, IndexState, IndexStep, IndexedMessage};
use rookery::storage::{ClientKey, PinRecord, RoomWrite, SettingsChange, Stores};

use crate::fixture::{change, group, message};

async fn log(stores: &Stores, id: u64) -> Vec<Message> {
    stores.messages.after(id, 0, 1000).await.expect("it is read")
}

fn seqs(log: &[Message]) -> Vec<u64> {
    log.iter().map(|message| message.seq).collect()
}

fn entry(id: u64, seq: u64, kind: MessageKind, target_seq: u64) -> Message {
    let emoji = if kind == MessageKind::Reaction { "👍".to_owned() } else { String::new() };
    Message { kind: kind as i32, target_seq, emoji, ..message(id, seq, 2, &format!("e{seq}")) }
}

async fn ends(stores: &Stores, id: u64) -> LogEnds {
    stores.retention.logs(id - 1, false, 1).await.expect("it is read")[0]
}

async fn index_state(stores: &Stores, id: u64) -> IndexState {
    stores.search.index_states(&[id]).await.expect("it is read")[0]
}

/// A step that puts these messages in, each under the word `word`.
fn step(from: IndexState, seqs: std::ops::RangeInclusive<u64>) -> IndexStep {
    let (low_seq, high_seq) = (*seqs.start(), *seqs.end());
    let indexed = |seq| IndexedMessage {
        seq,
        sender_id: 1,
        kind: 0,
        created_at_ms: 1_000_000 + seq,
        terms: terms("word"),
    };
    IndexStep { from, low_seq, high_seq, messages: seqs.map(indexed).collect() }
}

async fn found(stores: &Stores, id: u64) -> Vec<u64> {
    let find = Find {
        user_id: 2,
        conversation_ids: vec![id],
        lookups: Query::parse("word").expect("there is a word").lookups().to_vec(),
        limit: 100,
        ..Find::default()
    };
    stores.search.find(&find).await.expect("it is read").into_iter().map(|at| at.seq).collect()
}

pub async fn what_is_removed_takes_along_all_that_hangs_on_it(stores: &Stores) {
    let (id, other) = (group(stores, &[2], 10).await.id, group(stores, &[2], 10).await.id);
    let mut batch: Vec<Message> = (1..=7).map(|seq| message(id, seq, 1, &format!("c{seq}"))).collect();
    batch[3].marks = Some(Box::new(Marks { expires_at_ms: 77, ..Marks::default() }));
    batch.push(entry(id, 8, MessageKind::Edit, 3));
    batch.push(entry(id, 9, MessageKind::Reaction, 2));
    batch.push(entry(id, 10, MessageKind::Reaction, 7));
    stores.messages.append(&batch).await.expect("stored");
    stores.messages.append(&[message(other, 1, 1, "o")]).await.expect("stored");
    for seq in [2, 7] {
        let pin = PinRecord { conversation_id: id, seq, user_id: 1, pinned_at_ms: 5 };
        stores.marks.pin(pin).await.expect("pinned");
        stores.marks.hide(2, id, &[seq], 5).await.expect("hidden");
    }
    stores.marks.hide(2, other, &[1], 5).await.expect("hidden");
    let all = step(index_state(stores, id).await, 1..=10);
    assert_eq!(stores.search.index(&all).await, Ok(true));
    let before = ends(stores, id).await;
    assert_eq!((before.oldest_seq, before.oldest_ms, before.newest_seq), (1, 1_000_001, 10));

    // Whoever goes on after a crash begins anew: each call by itself leaves a log without a gap.
    let mut calls = 0;
    while stores.retention.remove_before(id, 6, 2).await.expect("removed") {
        calls += 1;
        let left = seqs(&log(stores, id).await);
        assert!(left.windows(2).all(|pair| pair[1] == pair[0] + 1) && left.last() == Some(&10), "{left:?}");
        assert!(calls < 20, "it comes to an end");
    }
    assert!(calls > 1, "no call does more than it was told to");

    let left = log(stores, id).await;
    assert_eq!(seqs(&left), [6, 7, 8, 9, 10]);
    assert_eq!(left[2].text, "", "the text of an edit is that of the message");
    assert_eq!((left[1].reactions.len(), left[0].text.as_str()), (1, "text 6"));
    assert_eq!(stores.marks.pins(id).await.expect("read").len(), 1);
    assert_eq!(stores.marks.hidden(2, id, 0, 9).await, Ok(vec![7]));
    assert_eq!(stores.marks.expired(100, (0, 0, 0), 9).await, Ok(Vec::new()));
    assert_eq!(found(stores, id).await, [10, 9, 8, 7, 6]);
    assert_eq!(stores.messages.last_seq(id).await, Ok(10));
    assert_eq!(stores.messages.at(&[(id, 2), (id, 7)]).await.map(|found| seqs(&found)), Ok(vec![7]));
    assert!(stores.messages.seq_at(id, 0).await.is_ok_and(|seq| seq <= 6));
    assert_eq!(stores.messages.seq_at(id, 1_000_007).await, Ok(7));
    let row = stores.conversations.conversation_of(2, id).await.expect("read").expect("there");
    assert_eq!(row.unread, 1, "6; what was hidden is none, nor are entries");
    let shown = Conversation::from(row);
    assert_eq!((shown.first_seq, shown.last_seq), (6, 10));
    // A name is known as long as its message.
    let key = |name: &str| ClientKey { conversation_id: id, sender_id: 1, client_id: name.to_owned() };
    let stored = stores.messages.stored(&[key("c5"), key("c6")]).await.expect("read");
    assert_eq!(stored, [(key("c6"), 6, 1_000_006)]);
    stores.messages.append(&[message(id, 11, 1, "c5")]).await.expect("the name is free");
    // The other conversation is as it was.
    assert_eq!(seqs(&log(stores, other).await), [1]);
    assert_eq!(stores.marks.hidden(2, other, 0, 9).await, Ok(vec![1]));
}

pub async fn a_log_keeps_the_place_of_its_newest_message(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    assert_eq!(ends(stores, id).await, LogEnds { conversation_id: id, ..LogEnds::default() });
    assert_eq!(stores.retention.remove_before(id, 9, 100).await, Ok(false), "nothing is there");
    let batch: Vec<Message> = (1..=3).map(|seq| message(id, seq, 1, &format!("c{seq}"))).collect();
    stores.messages.append(&batch).await.expect("stored");
    stores.marks.hide(2, id, &[3], 5).await.expect("hidden");
    let all = step(index_state(stores, id).await, 1..=3);
    assert_eq!(stores.search.index(&all).await, Ok(true));
    assert_eq!(stores.retention.remove_before(id, 99, 100).await, Ok(false));
    assert_eq!(log(stores, id).await, [batch[2].clone()]);
    assert!(!ends(stores, id).await.newest_is_empty);
    stores.retention.empty(id, 3).await.expect("emptied");
    let left = log(stores, id).await;
    assert_eq!((seqs(&left), left[0].text.as_str(), left[0].recalled), (vec![3], "", true));
    assert_eq!((found(stores, id).await, stores.marks.hidden(2, id, 0, 9).await), (vec![], Ok(vec![])));
    let after = ends(stores, id).await;
    assert_eq!((after.oldest_seq, after.newest_seq, after.newest_is_empty), (3, 3, true));
    let row = stores.conversations.conversation_of(2, id).await.expect("read").expect("there");
    assert_eq!((row.newest.0, row.unread), (3, 0));
    // The log goes on behind it; then it goes too.
    stores.messages.append(&[message(id, 4, 1, "c4")]).await.expect("stored");
    assert_eq!(stores.retention.remove_before(id, 4, 100).await, Ok(false));
    assert_eq!(seqs(&log(stores, id).await), [4]);
    // One of the server's words is emptied too, and not said to be taken back.
    let words = Message { kind: MessageKind::System as i32, ..message(id, 5, 1, "s") };
    stores.messages.append(&[words]).await.expect("stored");
    stores.retention.empty(id, 5).await.expect("emptied");
    let last = log(stores, id).await.pop().expect("it is there");
    assert_eq!(
        (last.text.as_str(), last.recalled, ends(stores, id).await.newest_is_empty),
        ("", false, true)
    );
}

pub async fn what_is_indexed_late_does_not_come_back(stores: &Stores) {
    for indexed_before in [false, true] {
        let id = group(stores, &[2], 10).await.id;
        let batch: Vec<Message> = (1..=4).map(|seq| message(id, seq, 1, &format!("c{seq}"))).collect();
        stores.messages.append(&batch).await.expect("stored");
        if indexed_before {
            let first = step(index_state(stores, id).await, 1..=1);
            assert_eq!(stores.search.index(&first).await, Ok(true));
        }
        // It has read the log; before it writes, the log is shortened.
        let late = step(index_state(stores, id).await, 1..=4);
        assert_eq!(stores.retention.remove_before(id, 3, 100).await, Ok(false));
        stores.search.index(&late).await.expect("taken or not");
        assert!(found(stores, id).await.iter().all(|seq| *seq >= 3), "indexed before: {indexed_before}");
        let again = step(index_state(stores, id).await, 1..=4);
        assert_eq!(stores.search.index(&again).await, Ok(true));
        assert_eq!(found(stores, id).await, [4, 3]);
    }
}

pub async fn logs_are_listed_by_conversation_and_by_rule(stores: &Stores) {
    let mut ids = Vec::new();
    for retention in [0, 60, 0, 5] {
        let id = group(stores, &[2], 10).await.id;
        let settings = SettingsChange { retention_seconds: Some(retention), ..SettingsChange::default() };
        change(stores, id, 20, vec![RoomWrite::Settings(settings)]).await;
        ids.push(id);
    }
    change(stores, ids[3], 30, vec![RoomWrite::Dissolve]).await;
    let list = async |after_id, ruled, limit| {
        let logs = stores.retention.logs(after_id, ruled, limit).await.expect("read");
        logs.iter().map(|log| (log.conversation_id, log.retention_seconds)).collect::<Vec<_>>()
    };
    assert_eq!(list(0, false, 9).await, [(ids[0], 0), (ids[1], 60), (ids[2], 0), (ids[3], 5)]);
    assert_eq!(list(ids[0], false, 2).await, [(ids[1], 60), (ids[2], 0)]);
    assert_eq!(list(0, true, 9).await, [(ids[1], 60), (ids[3], 5)], "dissolved ones too");
    assert_eq!(list(ids[1], true, 9).await, [(ids[3], 5)]);
}
