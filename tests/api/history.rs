//! History around a message and from a time on; pages both ways are in `frames` and `sync`.

use rookery::protocol::v1::HistoryRequest;
use serde_json::{Value, json};

use crate::world::{Person, TRANSPORTS, World, items, number, unique};

/// Says so many texts; when each was stored.
async fn says(person: &Person, id: u64, count: usize) -> Vec<u64> {
    let mut times = Vec::new();
    for at in 0..count {
        let body = json!({"client_id": unique().to_string(), "text": format!("text {at}")});
        let sent = person.posts(&format!("/conversations/{id}/messages"), body).await.is(201);
        times.push(number(&sent, "created_at_ms"));
    }
    times
}

fn seqs(page: &Value) -> Vec<u64> {
    items(page).iter().map(|item| number(item, "seq")).collect()
}

#[tokio::test]
async fn a_page_has_the_message_asked_for_in_its_middle() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    says(&ada, id, 20).await;
    for (seq, limit, first, last) in
        [(10, 5, 8, 12), (10, 4, 9, 12), (10, 1, 10, 10), (1, 4, 1, 4), (20, 4, 19, 20), (99, 4, 19, 20)]
    {
        let path = format!("/conversations/{id}/messages?around_seq={seq}&limit={limit}");
        let page = bob.gets(&path).await.is(200);
        assert_eq!(seqs(&page), (first..=last).collect::<Vec<u64>>(), "around {seq}, {limit}");
        let cursor = |name: &str| page[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (cursor("older_cursor").is_empty(), cursor("next_cursor").is_empty()),
            (first == 1, last == 20)
        );
        for (cursor, goes_on) in [(cursor("older_cursor"), first - 1), (cursor("next_cursor"), last + 1)] {
            if !cursor.is_empty() {
                let path = format!("/conversations/{id}/messages?cursor={cursor}&limit=3");
                let there = seqs(&bob.gets(&path).await.is(200));
                assert!(there.contains(&goes_on), "{cursor} leads to {there:?}");
            }
        }
        for transport in TRANSPORTS {
            let request =
                HistoryRequest { conversation_id: id, around_seq: seq, limit, ..HistoryRequest::default() };
            let answer = bob.opens(transport).await.looks_back(request).await;
            let there: Vec<u64> = answer.messages.iter().map(|message| message.seq).collect();
            assert_eq!(there, (first..=last).collect::<Vec<u64>>(), "{transport:?}");
            assert_eq!((answer.more_older, answer.more_newer), (first > 1, last < 20));
        }
    }
}

#[tokio::test]
async fn a_page_begins_at_a_time() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let times = says(&ada, id, 12).await;
    let first_of = |at_ms: u64| times.iter().take_while(|time| **time < at_ms).count() as u64 + 1;
    for at_ms in [1, times[0], times[5], times[5] + 1, times[11]] {
        let path = format!("/conversations/{id}/messages?at_ms={at_ms}&limit=3");
        let page = bob.gets(&path).await.is(200);
        let first = first_of(at_ms);
        assert_eq!(seqs(&page), (first..=(first + 2).min(12)).collect::<Vec<u64>>(), "{at_ms}");
        for transport in TRANSPORTS {
            let request =
                HistoryRequest { conversation_id: id, at_ms, limit: 3, ..HistoryRequest::default() };
            let answer = bob.opens(transport).await.looks_back(request).await;
            assert_eq!(answer.messages.first().map(|message| message.seq), Some(first));
            assert_eq!((answer.more_older, answer.more_newer), (first > 1, first + 2 < 12));
        }
    }
    let path = format!("/conversations/{id}/messages?at_ms={}", times[11] + 1_000_000);
    assert_eq!(seqs(&bob.gets(&path).await.is(200)), Vec::<u64>::new());
}

#[tokio::test]
async fn nothing_before_joining_is_shown_around_a_message_or_from_a_time() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.founds_a_group("rooks", &[]).await;
    says(&ada, id, 6).await;
    bob.posts(&format!("/conversations/{id}/join"), json!({})).await.succeeds();
    says(&ada, id, 3).await;
    let first = number(&bob.sees(id).await, "first_seq");
    for way in ["around_seq=2", "at_ms=1"] {
        let page = bob.gets(&format!("/conversations/{id}/messages?{way}&limit=200")).await.is(200);
        assert_eq!(seqs(&page).first(), Some(&first), "{way}");
        assert_eq!(page["older_cursor"], "", "{way}");
    }
}

#[tokio::test]
async fn one_way_is_named_at_a_time() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for two in ["around_seq=2&at_ms=5", "around_seq=2&before_seq=5", "at_ms=2&after_seq=5"] {
        let path = format!("/conversations/{id}/messages?{two}");
        ada.gets(&path).await.is_refused(400, "invalid_argument");
    }
}
