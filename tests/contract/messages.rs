//! [`rookery::storage::MessageStore`].

use rookery::protocol::MessageKind;
use rookery::protocol::v1::{Attachment, Message, Reaction};
use rookery::storage::{ClientKey, StoreError, Stores};

use crate::fixture::message;

fn key(conversation_id: u64, sender_id: u64, client_id: &str) -> ClientKey {
    ClientKey { conversation_id, sender_id, client_id: client_id.to_owned() }
}

async fn seqs(stores: &Stores, conversation_id: u64) -> Vec<u64> {
    let messages = stores.messages.after(conversation_id, 0, 10_000).await.expect("they are read");
    messages.into_iter().map(|message| message.seq).collect()
}

pub async fn every_field_comes_back(stores: &Stores) {
    let full = Message {
        kind: MessageKind::Image as i32,
        attachments: vec![
            Attachment {
                file_id: 3,
                name: "图 \"1\".png".to_owned(),
                mime: "image/png".to_owned(),
                size: 1 << 40,
                width: 640,
                height: 480,
            },
            Attachment::default(),
        ],
        reply_to_seq: 1,
        mentions: vec![(1 << 53) - 1, 2],
        ..message(1, 2, 5, "full")
    };
    let reaction = Message {
        kind: MessageKind::Reaction as i32,
        target_seq: 2,
        emoji: "👩‍👩‍👧‍👦".to_owned(),
        text: String::new(),
        ..message(1, 3, 5, "reaction")
    };
    let plain = message(1, 1, (1 << 53) - 1, "plain");
    stores.messages.append(&[plain.clone(), full.clone(), reaction.clone()]).await.expect("they are stored");
    let reacted = Reaction { emoji: reaction.emoji.clone(), user_ids: vec![5], count: 1 };
    let full = Message { reactions: vec![reacted], ..full };
    assert_eq!(stores.messages.after(1, 0, 10).await, Ok(vec![plain, full, reaction]));

    let derived = Message {
        edited_at_ms: 9,
        recalled: true,
        reactions: vec![Reaction { emoji: "x".to_owned(), user_ids: vec![1], count: 1 }],
        ..message(1, 4, 5, "derived")
    };
    stores.messages.append(&[derived]).await.expect("it is stored");
    assert_eq!(stores.messages.after(1, 3, 10).await, Ok(vec![message(1, 4, 5, "derived")]));
}

pub async fn any_text_comes_back(stores: &Stores) {
    let texts = [
        String::new(),
        " spaces at both ends  ".to_owned(),
        "emoji 😀🦜👩🏽‍🚀, 中文字符, العربية, e\u{301}".to_owned(),
        "quotes ' \" ` \\ % _ ; -- \r\n\t\0 end".to_owned(),
        "x".repeat(64 * 1024),
        "界".repeat(64 * 1024 / 3),
        "🦜".repeat(64 * 1024 / 4),
    ];
    let messages: Vec<Message> = texts
        .iter()
        .zip(1..)
        .map(|(text, seq)| Message { text: text.clone(), ..message(1, seq, 1, &format!("鸟 🦜 {seq}")) })
        .collect();
    stores.messages.append(&messages).await.expect("they are stored");
    let read = stores.messages.after(1, 0, 100).await.expect("they are read");
    for (stored, sent) in read.iter().zip(&messages) {
        assert!(stored == sent, "the text of seq {} came back different", sent.seq);
    }
    assert_eq!(read.len(), messages.len());
}

pub async fn an_append_is_all_or_none(stores: &Stores) {
    stores.messages.append(&[]).await.expect("nothing is stored");
    stores.messages.append(&[message(1, 1, 1, "a")]).await.expect("it is stored");
    // Large enough for several statements, with the seq that is taken at the very end.
    let mut batch: Vec<Message> = (1..=300).map(|seq| message(2, seq, 1, &format!("b{seq}"))).collect();
    batch.push(message(1, 1, 1, "c"));
    assert_eq!(stores.messages.append(&batch).await, Err(StoreError::Exists));
    assert_eq!(stores.messages.last_seq(2).await, Ok(0));
    batch.pop();
    stores.messages.append(&batch).await.expect("they are stored");
    assert_eq!(stores.messages.last_seq(2).await, Ok(300));
    let doubled = [message(3, 1, 1, "d"), message(3, 1, 1, "e")];
    assert_eq!(stores.messages.append(&doubled).await, Err(StoreError::Exists));
    assert_eq!(seqs(stores, 3).await, Vec::<u64>::new());
}

pub async fn a_client_id_is_taken_once(stores: &Stores) {
    stores.messages.append(&[message(1, 1, 5, "same")]).await.expect("it is stored");
    assert_eq!(stores.messages.append(&[message(1, 2, 5, "same")]).await, Err(StoreError::Exists));
    let batch = [message(1, 2, 5, "new"), message(1, 3, 5, "same")];
    assert_eq!(stores.messages.append(&batch).await, Err(StoreError::Exists));
    assert_eq!(seqs(stores, 1).await, [1]);
    stores.messages.append(&[message(1, 2, 6, "same")]).await.expect("another sender's is another");
    stores.messages.append(&[message(2, 1, 5, "same")]).await.expect("another conversation's is another");
}

pub async fn client_ids_differ_by_every_byte(stores: &Stores) {
    let longest = "🦜".repeat(64);
    let ids = ["a", "A", "a ", " a", "ä", "a\u{308}", "é", "e", "ß", "ss", "1", "01", longest.as_str()];
    for (seq, id) in (1..).zip(ids) {
        stores
            .messages
            .append(&[message(1, seq, 1, id)])
            .await
            .unwrap_or_else(|error| panic!("{id:?}: {error}"));
    }
    for (seq, id) in (1..).zip(ids) {
        let found = stores.messages.stored(&[key(1, 1, id)]).await.expect("it is read");
        assert_eq!(found, [(key(1, 1, id), seq, 1_000_000 + seq)]);
    }
    assert_eq!(stores.messages.stored(&[key(1, 1, "á")]).await, Ok(Vec::new()));
}

pub async fn messages_without_client_id_dont_collide(stores: &Stores) {
    let notes = [message(1, 1, 0, ""), message(1, 2, 0, "")];
    stores.messages.append(&notes).await.expect("they are stored");
    stores.messages.append(&[message(1, 3, 0, "")]).await.expect("it is stored");
    assert_eq!(stores.messages.after(1, 0, 2).await, Ok(notes.to_vec()));
    assert_eq!(stores.messages.stored(&[key(1, 0, "")]).await, Ok(Vec::new()));
}

pub async fn one_of_many_takes_a_seq(stores: &Stores) {
    let calls: Vec<_> = (0..32u64)
        .map(|at| {
            let messages = stores.messages.clone();
            tokio::spawn(async move { messages.append(&[message(1, 1, at, "mine")]).await })
        })
        .collect();
    let mut stored = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(()) => stored += 1,
            Err(error) => assert_eq!(error, StoreError::Exists),
        }
    }
    assert_eq!(stored, 1);
    assert_eq!(seqs(stores, 1).await, [1]);
}

pub async fn a_batch_of_any_size_is_stored(stores: &Stores) {
    let mut last = 0;
    for size in [1, 2, 3, 9, 17, 50, 100, 127, 128, 129, 400, 512] {
        let batch: Vec<Message> =
            (last + 1..=last + size).map(|seq| message(1, seq, 1, &format!("c{seq}"))).collect();
        stores.messages.append(&batch).await.unwrap_or_else(|error| panic!("a batch of {size}: {error}"));
        last += size;
        assert_eq!(stores.messages.last_seq(1).await, Ok(last));
    }
    assert_eq!(seqs(stores, 1).await, (1..=last).collect::<Vec<_>>());
}

pub async fn large_batches_of_large_texts_are_stored(stores: &Stores) {
    // 32 MiB, which no single statement may carry to a server with default settings.
    let batch: Vec<Message> = (1..=512)
        .map(|seq| Message { text: "m".repeat(64 * 1024), ..message(1, seq, 1, &format!("c{seq}")) })
        .collect();
    stores.messages.append(&batch).await.expect("they are stored");
    assert_eq!(stores.messages.last_seq(1).await, Ok(512));
}

pub async fn what_is_stored_is_found_by_its_keys(stores: &Stores) {
    let batch: Vec<Message> = (1..=300).map(|seq| message(1, seq, seq % 3, &format!("c{seq}"))).collect();
    stores.messages.append(&batch).await.expect("they are stored");
    let keys: Vec<ClientKey> = (0..=301).map(|seq| key(1, seq % 3, &format!("c{seq}"))).collect();
    let mut found = stores.messages.stored(&keys).await.expect("they are read");
    found.sort_by_key(|(_, seq, _)| *seq);
    let wanted: Vec<_> =
        (1..=300).map(|seq| (key(1, seq % 3, &format!("c{seq}")), seq, 1_000_000 + seq)).collect();
    assert_eq!(found, wanted);
    assert_eq!(stores.messages.stored(&[key(1, 2, "c1"), key(2, 1, "c1")]).await, Ok(Vec::new()));
    assert_eq!(stores.messages.stored(&[]).await, Ok(Vec::new()));
}

pub async fn history_is_paged_both_ways(stores: &Stores) {
    let batch: Vec<Message> = (1..=20).map(|seq| message(1, seq, 1, &format!("c{seq}"))).collect();
    stores.messages.append(&batch).await.expect("they are stored");
    let after = async |seq, limit| -> Vec<u64> {
        let page = stores.messages.after(1, seq, limit).await.expect("it is read");
        page.into_iter().map(|message| message.seq).collect()
    };
    let before = async |seq, first, limit| -> Vec<u64> {
        let page = stores.messages.before(1, seq, first, limit).await.expect("it is read");
        page.into_iter().map(|message| message.seq).collect()
    };
    assert_eq!(after(0, 3).await, [1, 2, 3]);
    assert_eq!(after(18, 9).await, [19, 20]);
    assert_eq!(after(20, 9).await, Vec::<u64>::new());
    assert_eq!(after(u64::MAX, 9).await, Vec::<u64>::new());
    assert_eq!(before(u64::MAX, 0, 3).await, [18, 19, 20]);
    assert_eq!(before(18, 1, 3).await, [15, 16, 17]);
    assert_eq!(before(5, 3, 9).await, [3, 4]);
    assert_eq!(before(3, 3, 9).await, Vec::<u64>::new());
    assert_eq!(before(2, 9, 9).await, Vec::<u64>::new());
    assert_eq!(before(1, 1, 9).await, Vec::<u64>::new());
}

pub async fn logs_of_conversations_are_apart(stores: &Stores) {
    let batch: Vec<Message> =
        (1..=40).map(|at| message(1 + at % 4, 1 + at / 4, 1, &format!("c{at}"))).collect();
    stores.messages.append(&batch).await.expect("they are stored");
    assert_eq!(stores.messages.last_seq(1).await, Ok(11));
    assert_eq!(stores.messages.last_seq(2).await, Ok(10));
    assert_eq!(stores.messages.last_seq(9).await, Ok(0));
    assert_eq!(seqs(stores, 3).await, (1..=10).collect::<Vec<_>>());
}

pub async fn tails_of_many_logs_come_together_in_the_order_asked_for(stores: &Stores) {
    let mut logs = Vec::new();
    for id in 1..=150 {
        logs.extend((1..=id % 4).map(|seq| message(id, seq, 5, &format!("t{id}-{seq}"))));
    }
    logs.extend((1..=40).map(|seq| message(200, seq, 5, &format!("long {seq}"))));
    let reaction = |id, seq| Message {
        kind: MessageKind::Reaction as i32,
        target_seq: 1,
        emoji: "👍".to_owned(),
        ..message(id, seq, 6, "r")
    };
    logs.extend([reaction(3, 4), reaction(200, 41)]);
    stores.messages.append(&logs).await.expect("they are stored");
    // From the last to the first, the long one amid them, most behind their first message, and some that hold nothing.
    let mut places: Vec<(u64, u64)> = (1..=151).rev().map(|id| (id, u64::from(id % 3 != 0))).collect();
    places.insert(75, (200, 0));
    places.push((7, 9));
    places.retain(|place| *place != (7, 1));
    let mut all = Vec::new();
    for (id, seq) in &places {
        all.extend(stores.messages.after(*id, *seq, 1000).await.expect("it is read"));
    }
    assert!(all.iter().filter(|message| !message.reactions.is_empty()).count() == 2, "{all:?}");
    for limit in [0, 1, 2, 50, all.len() - 1, all.len(), 1000] {
        let page = stores.messages.tails(&places, limit as u32).await.expect("it is read");
        assert_eq!(page, all[..limit.min(all.len())], "limit {limit}");
    }
    for (id, limit) in [(200, 3), (200, 100), (4, 5)] {
        let tail = stores.messages.tails(&[(id, 0)], limit).await;
        assert_eq!(tail, stores.messages.after(id, 0, limit).await);
    }
    assert_eq!(stores.messages.tails(&[], 9).await, Ok(Vec::new()));
}

pub async fn tails_of_logs_that_have_lost_their_beginnings_are_whole(stores: &Stores) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = crate::fixture::group(stores, &[2], 5).await.id;
        let log: Vec<Message> = (1..=30).map(|seq| message(id, seq, 1, &format!("m{seq}"))).collect();
        stores.messages.append(&log).await.expect("they are stored");
        ids.push(id);
    }
    stores.retention.remove_before(ids[1], 21, 100).await.expect("they are removed");
    let places: Vec<(u64, u64)> = ids.iter().map(|id| (*id, 0)).collect();
    for limit in [29, 35, 45, 100] {
        let page = stores.messages.tails(&places, limit).await.expect("it is read");
        let came: Vec<(u64, u64)> = page.iter().map(|one| (one.conversation_id, one.seq)).collect();
        let all = [(ids[0], 1), (ids[1], 21), (ids[2], 1)];
        let all = all.into_iter().flat_map(|(id, from)| (from..=30).map(move |seq| (id, seq)));
        assert_eq!(came, all.take(limit as usize).collect::<Vec<_>>(), "limit {limit}");
    }
}
