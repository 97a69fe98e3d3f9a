//! [`rookery::storage::SearchStore`].

use rookery::domain::search_terms::{Query, terms};
use rookery::protocol::v1::Message;
use rookery::storage::Stores;
use rookery::storage::search::{Find, FoundAt, IndexState, IndexStep, IndexedMessage};

use crate::fixture::{add_members, group, member, message, remove_member};

/// How far the index of a conversation reaches.
async fn state(stores: &Stores, id: u64) -> IndexState {
    stores.search.index_states(&[id]).await.expect("it is read")[0]
}

fn indexed(seq: u64, sender_id: u64, text: &str) -> IndexedMessage {
    IndexedMessage { seq, sender_id, kind: 0, created_at_ms: 1_000_000 + seq, terms: terms(text) }
}

/// Stores messages of these texts by user 1 from seq 1 on, and indexes them.
async fn says(stores: &Stores, id: u64, texts: &[&str]) {
    let seqs = 1..=texts.len() as u64;
    let log: Vec<Message> = seqs.clone().map(|seq| message(id, seq, 1, &format!("c{seq}"))).collect();
    stores.messages.append(&log).await.expect("they are stored");
    let messages = seqs.zip(texts).map(|(seq, text)| indexed(seq, 1, text)).collect();
    let step =
        IndexStep { from: state(stores, id).await, low_seq: 1, high_seq: texts.len() as u64, messages };
    assert_eq!(stores.search.index(&step).await, Ok(true));
}

fn find(ids: &[u64], query: &str) -> Find {
    Find {
        user_id: 2,
        conversation_ids: ids.to_vec(),
        lookups: Query::parse(query).expect("there is a word").lookups().to_vec(),
        limit: 10,
        ..Find::default()
    }
}

async fn seqs(stores: &Stores, find: &Find) -> Vec<u64> {
    let found: Vec<FoundAt> = stores.search.find(find).await.expect("it is read");
    found.into_iter().map(|at| at.seq).collect()
}

pub async fn messages_are_found_by_all_terms_of_a_query(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let texts = ["we meet at ten", "明天去北京开会", "Meeting 北京", "", "at the station"];
    says(stores, id, &texts).await;
    for (query, wanted) in [
        ("meet", vec![3, 1]),
        ("at", vec![5, 1]),
        ("at ten", vec![1]),
        ("北京", vec![3, 2]),
        ("京", vec![3, 2]),
        ("去北京", vec![2]),
        ("meeting 北京", vec![3]),
        ("absent", vec![]),
    ] {
        // A beginning behind a whole term is left to the text.
        let found = seqs(stores, &find(&[id], query)).await;
        let of_texts =
            |seq: &u64| Query::parse(query).expect("there is a word").matches(texts[*seq as usize - 1]);
        let meant: Vec<u64> = found.into_iter().filter(of_texts).collect();
        assert_eq!(meant, wanted, "{query}");
    }
}

pub async fn what_is_found_is_filtered_and_paged_newest_first(stores: &Stores) {
    let (a, b) = (group(stores, &[2], 10).await.id, group(stores, &[2], 10).await.id);
    says(stores, a, &["word"; 7]).await;
    says(stores, b, &["word"; 5]).await;
    let mut paged = Vec::new();
    let mut page = Find { limit: 5, ..find(&[a, b], "word") };
    loop {
        let found = stores.search.find(&page).await.expect("it is read");
        let Some(last) = found.last() else { break };
        page.behind = Some(*last);
        paged.extend(found);
    }
    assert_eq!(paged.len(), 12);
    assert!(paged.windows(2).all(|two| two[0] > two[1]), "newest first, each once: {paged:?}");
    let between = Find { from_ms: 1_000_003, to_ms: 1_000_005, ..find(&[a], "wor") };
    assert_eq!(seqs(stores, &between).await, [4, 3]);
    assert_eq!(seqs(stores, &Find { sender_id: 1, ..find(&[b], "word") }).await.len(), 5);
    assert!(seqs(stores, &Find { sender_id: 9, ..find(&[b], "word") }).await.is_empty());
    assert_eq!(seqs(stores, &Find { kind: Some(0), ..find(&[b], "word") }).await.len(), 5);
    assert!(seqs(stores, &Find { kind: Some(1), ..find(&[b], "word") }).await.is_empty());
}

pub async fn only_members_find_and_only_from_their_first_seq_on(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    says(stores, id, &["word"; 4]).await;
    add_members(stores, &[member(id, 3, 3, 20)]).await;
    let by = async |user_id| seqs(stores, &Find { user_id, ..find(&[id], "word") }).await;
    assert_eq!(by(2).await, [4, 3, 2, 1]);
    assert_eq!(by(3).await, [4, 3]);
    assert!(by(9).await.is_empty());
    remove_member(stores, id, 2, 30).await;
    assert!(by(2).await.is_empty());
}

pub async fn steps_of_two_who_index_the_same_exclude_each_other(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let fresh = state(stores, id).await;
    assert_eq!((fresh.edition, fresh.last_seq, fresh.is_complete()), (0, 0, true));
    stores
        .messages
        .append(&[message(id, 1, 1, "c1"), message(id, 2, 1, "c2")])
        .await
        .expect("they are stored");
    let before = state(stores, id).await;
    assert!(!before.is_complete());
    let step = IndexStep { from: before, low_seq: 2, high_seq: 2, messages: vec![indexed(2, 1, "two")] };
    let (one, other) = tokio::join!(stores.search.index(&step), stores.search.index(&step));
    assert_eq!([one, other].iter().filter(|done| **done == Ok(true)).count(), 1, "{before:?}");
    let then = state(stores, id).await;
    assert_eq!((then.low_seq, then.high_seq, then.edition), (2, 2, 1));
    // One that was begun before is not taken any more, nor one that began before something was forgotten.
    let older = IndexStep { from: then, low_seq: 1, high_seq: 2, messages: vec![indexed(1, 1, "one")] };
    stores.search.forget(id, 9, 1, 100).await.expect("nothing is");
    assert_eq!(stores.search.index(&older).await, Ok(false));
    assert!(seqs(stores, &find(&[id], "one")).await.is_empty());
    let again = IndexStep { from: state(stores, id).await, ..older };
    assert_eq!(stores.search.index(&again).await, Ok(true));
    assert!(state(stores, id).await.is_complete());
    assert_eq!(seqs(stores, &find(&[id], "one")).await, [1]);
}

pub async fn what_is_indexed_anew_or_forgotten_leaves_nothing_behind(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let texts: Vec<String> = (1..=250).map(|seq| format!("common number{seq}")).collect();
    says(stores, id, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let from = state(stores, id).await;
    let changed = vec![indexed(1, 1, "edited common"), indexed(2, 1, "")];
    let step = IndexStep { from, low_seq: 1, high_seq: from.high_seq, messages: changed };
    assert_eq!(stores.search.index(&step).await, Ok(true));
    assert_eq!(seqs(stores, &find(&[id], "edited")).await, [1]);
    assert!(!seqs(stores, &find(&[id], "number1")).await.contains(&1));
    assert!(!seqs(stores, &find(&[id], "number2")).await.contains(&2));
    stores.search.forget(id, 9, 1, 1000).await.expect("nothing of theirs is there");
    let all = Find { limit: 1000, ..find(&[id], "common") };
    assert_eq!(seqs(stores, &all).await.len(), 249);
    stores.search.forget(id, 1, 1, 241).await.expect("they are forgotten");
    assert_eq!(seqs(stores, &all).await, (241..=250).rev().collect::<Vec<_>>());
    stores.search.forget(id, 0, 1, 1000).await.expect("they are forgotten");
    assert!(seqs(stores, &all).await.is_empty());
}

pub async fn a_place_in_the_log_is_found_by_its_time(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    assert_eq!(stores.messages.seq_at(id, 5).await, Ok(1));
    let log: Vec<Message> = (1..=21).map(|seq| message(id, seq, 1, &format!("c{seq}"))).collect();
    stores.messages.append(&log).await.expect("they are stored");
    for at in 1..=22 {
        assert_eq!(stores.messages.seq_at(id, 1_000_000 + at).await, Ok(at));
    }
    assert_eq!(stores.messages.seq_at(id, 0).await, Ok(1));
    assert_eq!(stores.messages.seq_at(id, u64::MAX).await, Ok(22));
    let mut there = stores.messages.at(&[(id, 3), (id, 99), (id, 7), (id, 0)]).await.expect("they are read");
    there.sort_by_key(|message| message.seq);
    assert_eq!(there, [log[2].clone(), log[6].clone()]);
}
