//! Messages that are kept for a time only: what is left, whoever looks by whichever way.

use rookery::protocol::ErrorCode;
use rookery::protocol::v1::{Cursor, HistoryRequest, SyncRequest};
use serde_json::{Value, json};

use crate::messages_edit::{Hand, edit, hands, react};
use crate::world::{Person, TRANSPORTS, World, eventually, items, number, unique};

impl Person {
    /// Waits until nothing is left of what was written up to `seq`.
    async fn sees_gone(&self, id: u64, seq: u64) {
        eventually("it is removed", async || {
            let path = format!("/conversations/{id}/messages?limit=200");
            let page = self.gets(&path).await.is(200);
            let left = items(&page).iter().filter(|message| number(message, "seq") <= seq);
            left.into_iter().all(|message| message["text"] == "").then_some(())
        })
        .await;
        // The beginning of what members see is where the log begins.
        eventually("the log begins later", async || {
            (number(&self.sees(id).await, "first_seq") >= seq).then_some(())
        })
        .await;
    }

    async fn keeps_for(&self, id: u64, seconds: u64) -> Value {
        self.changes_room(id, json!({"retention_seconds": seconds})).await.is(200)
    }
}

#[tokio::test]
async fn each_group_keeps_its_messages_as_long_as_it_says() {
    let world = World::with(&[("messages.retention_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let brief = ada.founds_a_group("brief", &[&bob]).await;
    let long = ada.founds_a_group("long", &[&bob]).await;
    let direct = ada.direct_with(&bob).await;
    assert_eq!(number(&ada.keeps_for(long, 3600).await, "retention_seconds"), 3600);
    for id in [brief, long, direct] {
        for text in ["a secret", "a plan"] {
            ada.writes(id, text).await;
        }
    }
    let last = ada.writes(brief, "a name").await;
    bob.puts(&format!("/conversations/{brief}/pins/{last}"), json!({}))
        .await
        .is_refused(403, "permission_denied");
    ada.puts(&format!("/conversations/{brief}/pins/{last}"), json!({})).await.is(204);
    let edited = Hand::Rest(ada.clone()).changes(edit(brief, last, "another name")).await.seq;
    Hand::Rest(bob.clone()).changes(react(brief, last, "👍", false)).await;
    let sent = ada.writes(brief, "once more").await;
    assert!(number(&bob.sees(brief).await, "unread") > 0);

    assert_eq!(number(&ada.keeps_for(brief, 1).await, "retention_seconds"), 1);
    // What the room says of it is the last of the log.
    let told = sent + 1;
    eventually("the room has said so", async || {
        (number(&bob.sees(brief).await, "last_seq") == told).then_some(())
    })
    .await;
    bob.sees_gone(brief, told).await;
    // The same by every way: nothing but the place of the newest, and no seq twice.
    for transport in TRANSPORTS {
        let live = bob.opens(transport).await;
        let cursors = vec![Cursor { conversation_id: brief, seq: 0 }];
        let page = live.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await;
        assert!(!page.more && page.messages.iter().all(|m| m.text.is_empty() && m.seq >= told), "{page:?}");
        for request in [
            HistoryRequest { conversation_id: brief, ..HistoryRequest::default() },
            HistoryRequest { conversation_id: brief, before_seq: last, ..HistoryRequest::default() },
            HistoryRequest { conversation_id: brief, around_seq: 2, ..HistoryRequest::default() },
            HistoryRequest { conversation_id: brief, at_ms: 1, ..HistoryRequest::default() },
        ] {
            let page = live.looks_back(request).await;
            assert!(!page.more_older && page.messages.iter().all(|m| m.seq >= told), "{page:?}");
        }
        let row = live.syncs(SyncRequest::default()).await.conversations;
        let row = row.iter().find(|row| row.conversation_id == brief).expect("it is listed");
        assert_eq!((row.unread, row.last_seq, row.first_seq), (0, told, told), "{row:?}");
    }
    assert!(items(&bob.gets(&format!("/conversations/{brief}/pins")).await.is(200)).is_empty());
    for query in ["secret", "name", "another"] {
        let path = format!("/search?query={query}&conversation_id={brief}");
        assert!(items(&bob.gets(&path).await.is(200)).is_empty(), "{query}");
    }
    for hand in hands(&ada).await {
        for change in [edit(brief, last, "x"), react(brief, edited, "👍", false)] {
            assert_eq!(hand.tries(change).await, Err(ErrorCode::NotFound));
        }
    }
    let forward = json!({"from_conversation_id": brief, "seqs": [last], "client_id": unique().to_string()});
    bob.posts(&format!("/conversations/{direct}/messages/forward"), forward)
        .await
        .is_refused(404, "not_found");
    let export = ada.gets("/users/me/export").await;
    assert!(!export.text.contains("another name") && export.text.contains("a plan"));
    // The log goes on behind what it was.
    let next = ada.writes(brief, "news").await;
    assert_eq!(next, told + 1);
    // Others keep theirs.
    for id in [long, direct] {
        assert_eq!(bob.reads_texts(id).await, ["a secret", "a plan"]);
    }
    assert_eq!(number(&ada.keeps_for(brief, 0).await, "retention_seconds"), 0);
    ada.changes_room(brief, json!({"retention_seconds": 4e9})).await.is_refused(400, "invalid_argument");
    bob.changes_room(brief, json!({"retention_seconds": 9})).await.is_refused(403, "permission_denied");
    ada.changes_room(direct, json!({"retention_seconds": 9})).await.is_refused(412, "failed_precondition");
}

#[tokio::test]
async fn what_holds_for_all_is_shortened_by_a_group_and_not_lengthened() {
    let world = World::with(&[("messages.retention_interval", "50ms"), ("messages.retention", "5s")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let (direct, club) = (ada.direct_with(&bob).await, ada.founds_a_group("club", &[&bob]).await);
    ada.changes_room(club, json!({"retention_seconds": 6}))
        .await
        .is_refused(400, "invalid_argument")
        .naming("retention_seconds");
    ada.keeps_for(club, 1).await;
    let (seq, of_club) = (ada.writes(direct, "a secret").await, ada.writes(club, "a secret").await);
    bob.sees_gone(club, of_club).await;
    bob.sees_gone(direct, seq).await;
    assert_eq!(ada.writes(direct, "more").await, seq + 1);
    assert_eq!(bob.reads_texts(direct).await.last().map(String::as_str), Some("more"));
}

#[tokio::test]
async fn a_removal_that_is_cut_off_is_completed_and_the_log_goes_on() {
    let mut world = World::with(&[("messages.retention_interval", "20ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let live = ada.opens(TRANSPORTS[2]).await;
    let texts: Vec<String> = (0..1500).map(|at| format!("word {at}")).collect();
    let mut last = 0;
    for some in texts.chunks(100) {
        let sends = some.iter().map(|text| live.says(id, text));
        last = futures_util::future::join_all(sends).await.last().expect("there are some").seq;
    }
    Hand::Rest(bob.clone()).changes(react(id, last, "👍", false)).await;
    ada.keeps_for(id, 1).await;
    let (ada_name, bob_name) = (ada.name.clone(), bob.name.clone());
    // In the middle of it, or near: what is left is without a gap at any moment.
    eventually("the first are gone", async || {
        let page = bob.gets(&format!("/conversations/{id}/messages?after_seq=1&limit=1")).await.is(200);
        (number(&items(&page)[0], "seq") > 2).then_some(())
    })
    .await;
    drop((live, ada, bob));
    world.restarts();
    let (ada, bob) = (world.signs_in(&ada_name).await, world.signs_in(&bob_name).await);
    bob.sees_gone(id, last).await;
    let told = number(&bob.sees(id).await, "last_seq");
    assert_eq!(ada.writes(id, "we go on").await, told + 1);
    let found = bob.gets(&format!("/search?query=word&conversation_id={id}")).await.is(200);
    assert!(items(&found).is_empty(), "{found}");
}
