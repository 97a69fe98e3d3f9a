//! [`rookery::storage::MarkStore`].

use rookery::protocol::MessageKind;
use rookery::protocol::v1::{ForwardedFrom, Marks, Message, Send};
use rookery::storage::{PinRecord, ScheduledRecord, Stores};

use crate::fixture::message;

fn recall(id: u64, seq: u64, target_seq: u64) -> Message {
    let kind = MessageKind::Recall as i32;
    Message { kind, target_seq, text: String::new(), ..message(id, seq, 1, &format!("r{seq}")) }
}

pub async fn what_a_user_hides_is_hidden_from_that_user(stores: &Stores) {
    let marks = &stores.marks;
    let many: Vec<u64> = (1..=300).filter(|seq| seq % 3 == 0).collect();
    marks.hide(1, 7, &many, 10).await.expect("hidden");
    marks.hide(1, 7, &[3, 4], 20).await.expect("one of them a second time");
    marks.hide(1, 8, &[5], 20).await.expect("hidden");
    marks.hide(2, 7, &[1], 30).await.expect("hidden");
    assert_eq!(marks.hidden_since(1, 11, 9).await, Ok(vec![(20, 7, 4), (20, 8, 5)]), "3 was before");
    assert_eq!(marks.hidden_since(1, 10, 2).await, Ok(vec![(10, 7, 3), (10, 7, 6)]));
    assert_eq!(marks.hidden_since(2, 0, 9).await, Ok(vec![(30, 7, 1)]));
    assert_eq!(marks.hidden_since(2, 31, 9).await, Ok(Vec::new()));
    assert_eq!(marks.hidden(1, 7, 0, 4).await, Ok(vec![3, 4, 6, 9]));
    assert_eq!(marks.hidden(1, 7, 298, 4).await, Ok(vec![300]));
    assert_eq!(marks.hidden(2, 8, 0, 4).await, Ok(Vec::new()));
    let mut found = marks.hidden_among(1, &[(7, 1), (7, 3), (8, 5), (7, 9), (9, 5)]).await.expect("read");
    found.sort_unstable();
    assert_eq!(found, [(7, 3), (7, 9), (8, 5)], "what lies between is not asked for");
    assert_eq!(marks.hidden_among(1, &[]).await, Ok(Vec::new()));
    marks.hide(2, 7, &[3], 30).await.expect("hidden");
    let mut hiders = marks.hiders(7, 3, 9).await.expect("read");
    hiders.sort_unstable();
    assert_eq!(hiders, [1, 2]);
    assert_eq!(marks.hiders(7, 3, 1).await.map(|hiders| hiders.len()), Ok(1));
    assert_eq!(marks.hiders(8, 3, 9).await, Ok(Vec::new()));
    // More conversations than one statement names.
    let wide: Vec<(u64, u64)> = (1..=300).map(|id| (id, 5)).collect();
    assert_eq!(marks.hidden_among(1, &wide).await, Ok(vec![(8, 5)]));
}

pub async fn a_pin_is_put_once_and_goes_with_its_message(stores: &Stores) {
    let pin = |seq, user_id| PinRecord { conversation_id: 1, seq, user_id, pinned_at_ms: 5 };
    stores.messages.append(&[message(1, 1, 1, "a"), message(1, 2, 1, "b")]).await.expect("stored");
    assert_eq!(stores.marks.pin(pin(2, 1)).await, Ok(true));
    assert_eq!(stores.marks.pin(pin(2, 9)).await, Ok(false), "the first stays");
    assert_eq!(stores.marks.pin(pin(1, 1)).await, Ok(true));
    assert_eq!(stores.marks.pins(1).await, Ok(vec![pin(1, 1), pin(2, 1)]));
    assert_eq!(stores.marks.pins(2).await, Ok(Vec::new()));
    stores.messages.append(&[recall(1, 3, 2)]).await.expect("stored");
    assert_eq!(stores.marks.pins(1).await, Ok(vec![pin(1, 1)]));
    assert_eq!(stores.marks.unpin(1, 1).await, Ok(true));
    assert_eq!(stores.marks.unpin(1, 1).await, Ok(false));
}

fn record(user_id: u64, client_id: &str, send_at_ms: u64) -> ScheduledRecord {
    ScheduledRecord {
        user_id,
        send_at_ms,
        send: Send {
            conversation_id: 7,
            client_id: client_id.to_owned(),
            text: "later 鸟".to_owned(),
            mentions: vec![3],
            ..Send::default()
        },
        ..ScheduledRecord::default()
    }
}

pub async fn what_is_being_sent_cannot_be_taken_back(stores: &Stores) {
    let marks = &stores.marks;
    let a = marks.schedule(record(1, "a", 10)).await.expect("kept");
    let b = marks.schedule(record(1, "b", 10)).await.expect("kept");
    assert_eq!(marks.claim(a.id).await, Ok(true));
    assert_eq!(marks.claim(a.id).await, Ok(false), "one is enough");
    let claimed = ScheduledRecord { claimed: true, ..a.clone() };
    assert_eq!(marks.unschedule(1, a.id).await, Ok(false));
    assert_eq!(marks.scheduled(1, 0, 9).await, Ok(vec![b.clone()]));
    // Whoever has claimed it may have ended.
    assert_eq!(marks.due(10, (0, 0), 9).await, Ok(vec![claimed, b.clone()]));
    marks.put_off(a.id, 15, false).await.expect("put off");
    let later = ScheduledRecord { send_at_ms: 15, ..a.clone() };
    assert_eq!(marks.scheduled(1, 0, 9).await, Ok(vec![later, b.clone()]));
    assert_eq!(marks.due(10, (0, 0), 9).await, Ok(vec![b.clone()]));
    assert_eq!(marks.claim(a.id).await, Ok(true));
    // What was refused is its sender's again, and is not begun again.
    marks.note_failure(a.id, "no").await.expect("noted");
    assert_eq!(marks.claim(a.id).await, Ok(false));
    assert_eq!(marks.unschedule(1, a.id).await, Ok(true));
    assert_eq!(marks.claim(b.id).await, Ok(true));
    marks.finish(b.id).await.expect("done");
    assert_eq!(marks.due(10, (0, 0), 9).await, Ok(Vec::new()));
    assert_eq!(marks.claim(b.id).await, Ok(false), "it is gone");
}

pub async fn what_is_scheduled_comes_due_in_the_order_of_its_time(stores: &Stores) {
    let marks = &stores.marks;
    let b = marks.schedule(record(1, "b", 20)).await.expect("kept");
    let a = marks.schedule(record(1, "a", 10)).await.expect("kept");
    let c = marks.schedule(record(2, "a", 20)).await.expect("another user's is another");
    assert_eq!(marks.schedule(record(1, "a", 99)).await, Ok(a.clone()), "the first stays");
    assert!(a.id > 0 && a.send == record(1, "a", 10).send, "{a:?}");
    assert_eq!(marks.due(9, (0, 0), 9).await, Ok(Vec::new()));
    assert_eq!(marks.due(10, (0, 0), 9).await, Ok(vec![a.clone()]));
    assert_eq!(marks.due(20, (0, 0), 2).await, Ok(vec![a.clone(), b.clone()]));
    assert_eq!(marks.due(20, (20, b.id), 2).await, Ok(vec![c.clone()]));
    assert_eq!(marks.scheduled(1, 0, 9).await.map(|list| list.len()), Ok(2));
    assert_eq!(marks.scheduled(2, c.id, 9).await, Ok(Vec::new()));
    assert_eq!(marks.unschedule(2, a.id).await, Ok(false), "not theirs");
    assert_eq!(marks.unschedule(1, a.id).await, Ok(true));
    assert_eq!(marks.unschedule(1, a.id).await, Ok(false));
    marks.note_failure(b.id, "you are not a member").await.expect("noted");
    assert_eq!(marks.due(20, (0, 0), 9).await, Ok(vec![c]), "what was refused is not tried again");
    let left = marks.scheduled(1, 0, 9).await.expect("read");
    assert_eq!(left, [ScheduledRecord { failure: "you are not a member".to_owned(), ..b }]);
}

pub async fn a_message_expires_until_it_is_emptied(stores: &Stores) {
    let from = ForwardedFrom { conversation_id: 9, seq: 3, sender_id: 4, created_at_ms: 5 };
    let marks = |expires_at_ms| Some(Box::new(Marks { expires_at_ms, ..Marks::default() }));
    let batch = [
        Message { marks: marks(50), ..message(1, 1, 1, "a") },
        message(1, 2, 1, "b"),
        Message { marks: marks(40), ..message(2, 1, 1, "c") },
        Message {
            marks: Some(Box::new(Marks { forwarded_from: Some(from), scheduled: true, ..Marks::default() })),
            ..message(2, 2, 1, "d")
        },
    ];
    stores.messages.append(&batch).await.expect("stored");
    assert_eq!(stores.messages.after(1, 0, 9).await, Ok(batch[..2].to_vec()));
    assert_eq!(stores.messages.after(2, 0, 9).await, Ok(batch[2..].to_vec()));
    let expired = async |now_ms, after, limit| stores.marks.expired(now_ms, after, limit).await;
    assert_eq!(expired(39, (0, 0, 0), 9).await, Ok(Vec::new()));
    assert_eq!(expired(40, (0, 0, 0), 9).await, Ok(vec![(40, 2, 1)]));
    assert_eq!(expired(50, (0, 0, 0), 9).await, Ok(vec![(40, 2, 1), (50, 1, 1)]), "the oldest first");
    assert_eq!(expired(50, (0, 0, 0), 1).await, Ok(vec![(40, 2, 1)]));
    assert_eq!(expired(50, (40, 2, 1), 1).await, Ok(vec![(50, 1, 1)]));
    assert_eq!(expired(50, (40, 2, 0), 9).await, Ok(vec![(40, 2, 1), (50, 1, 1)]));
    assert_eq!(expired(50, (40, 1, 7), 9).await, Ok(vec![(40, 2, 1), (50, 1, 1)]));
    stores.messages.append(&[recall(1, 3, 1)]).await.expect("stored");
    assert_eq!(expired(50, (0, 0, 0), 9).await, Ok(vec![(40, 2, 1)]));
    stores.marks.forget_expiry(2, 1).await.expect("forgotten");
    assert_eq!(expired(50, (0, 0, 0), 9).await, Ok(Vec::new()));
}
