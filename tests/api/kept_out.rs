//! What is kept from those whom it is not for: from those who were removed, from those who are blocked, and from those who
//! would put words into another's mouth.

use rookery::client::Transport;
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, SyncRequest};
use serde_json::json;

use crate::live::a_text;
use crate::messages_edit::{Hand, edit, hands, react};
use crate::world::{TRANSPORTS, World, items, number, unique};

#[tokio::test]
async fn one_who_is_out_of_a_group_learns_nothing_more_of_it() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = World::shared().person("eve").await;
    let id = ada.founds_a_group("club", &[&bob, &eve]).await;
    let bob_live = bob.opens(Transport::WebSocketJson).await;
    let token = bob_live.syncs(SyncRequest::default()).await.sync_token;
    ada.puts(&format!("/conversations/{id}/bans/{}", bob.id), json!({})).await.is(204);
    ada.deletes(&format!("/conversations/{id}/members/{}", eve.id)).await.is(204);
    let since = SyncRequest { since: token, ..SyncRequest::default() };
    let page = bob_live.syncs(since.clone()).await;
    let told = page.conversations.iter().find(|row| row.conversation_id == id).expect("he is told once");
    assert!(told.removed && told.last_message.is_none(), "{told:?}");
    let changes =
        json!({"name": "den", "description": "secret", "announcement": "secret", "read_only": true});
    ada.changes_room(id, changes).await.is(200);
    for outsider in [&bob, &eve] {
        outsider.gets(&format!("/conversations/{id}")).await.is_refused(403, "permission_denied");
    }
    // A token of before the ban lists it, as it was.
    let listed = bob_live.syncs(since).await.conversations;
    let left = listed.iter().find(|row| row.conversation_id == id).expect("he was removed since");
    assert!(left.removed && !left.dissolved, "{left:?}");
    assert_eq!((left.name.as_str(), left.description.as_str(), left.announcement.as_str()), ("", "", ""));
    assert_eq!((left.owner_id, left.member_count, left.read_only, left.last_seq), (0, 0, false, 0));
    assert_eq!(left.updated_at_ms, told.updated_at_ms, "what changes later is no change for him");
    ada.deletes(&format!("/conversations/{id}")).await.is(204);
    bob.gets(&format!("/conversations/{id}")).await.is_refused(403, "permission_denied");
}

#[tokio::test]
async fn one_who_is_blocked_rings_no_bell_by_pins() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let seqs = [ada.writes(id, "1").await, ada.writes(id, "2").await];
    let pin = |seq: u64| format!("/conversations/{id}/pins/{seq}");
    bob.puts(&pin(seqs[0]), json!({})).await.is(204);
    ada.puts(&format!("/blocks/{}", bob.id), json!({})).await.is(204);
    let before = number(&ada.sees(id).await, "last_seq");
    bob.puts(&pin(seqs[1]), json!({})).await.is_refused(403, "permission_denied");
    bob.deletes(&pin(seqs[0])).await.is_refused(403, "permission_denied");
    let pins = ada.gets(&format!("/conversations/{id}/pins")).await.is(200);
    assert_eq!(items(&pins).len(), 1, "{pins}");
    assert_eq!(number(&ada.sees(id).await, "last_seq"), before, "nothing was stored");
}

#[tokio::test]
async fn a_copy_of_anothers_words_can_not_be_edited() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = World::shared().person("eve").await;
    let (from, to) = (ada.direct_with(&bob).await, ada.direct_with(&eve).await);
    let seq = bob.writes(from, "I like rooks").await;
    let forward = json!({"from_conversation_id": from, "seqs": [seq], "client_id": format!("f{}", unique())});
    let copies = ada.posts(&format!("/conversations/{to}/messages/forward"), forward).await.is(200);
    let copy = number(&items(&copies)[0], "seq");
    for hand in hands(&ada).await {
        assert_eq!(hand.tries(edit(to, copy, "I hate rooks")).await, Err(ErrorCode::FailedPrecondition));
    }
    assert_eq!(eve.sees_message(to, copy).await["text"], "I like rooks");
}

#[tokio::test]
async fn what_one_has_hidden_comes_back_by_no_way() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = World::shared().person("eve").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    ada.changes_room(id, json!({"join_policy": "approval"})).await.is(200);
    let mut live = ada.opens(Transport::Tcp).await;
    let seq = bob.writes(id, "secret").await;
    ada.posts(&format!("/conversations/{id}/messages/hide"), json!({"seqs": [seq]})).await.is(204);
    // An event that tells of something else shows the last message too.
    eve.wants_into(id).await.is(202);
    let news = live.hears_room(id, |news| news.pending_requests == 1).await;
    let last = news.last_message.expect("there is one");
    assert_eq!((last.seq, last.text.as_str()), (seq, ""));
    assert!(last.marks.is_some_and(|marks| marks.hidden));
    // An edit says it once more.
    let edited = Hand::Rest(bob.clone()).changes(edit(id, seq, "secret!")).await;
    let told = live
        .hears("the edit", |event| match event {
            Body::Message(entry) if entry.target_seq == seq => Some(entry),
            _ => None,
        })
        .await;
    assert_eq!((told.seq, told.text.as_str()), (edited.seq, ""), "live too");
    assert!(told.marks.is_some_and(|marks| marks.hidden));
    for transport in TRANSPORTS {
        let cursors = vec![Cursor { conversation_id: id, seq: seq - 1 }];
        let page = ada.opens(transport).await.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await;
        assert_eq!(page.messages.last().map(|entry| entry.seq), Some(edited.seq));
        assert!(page.messages.iter().all(|entry| !entry.text.contains("secret")), "{:?}", page.messages);
    }
    assert_eq!(ada.sees_message(id, edited.seq).await["text"], "");
    assert_eq!(bob.sees_message(id, edited.seq).await["text"], "secret!");
}

#[tokio::test]
async fn a_line_device_is_not_given_what_its_user_has_hidden() {
    let world = World::shared();
    let (mut ann, ben) = (world.registers("ann").await, world.registers("ben").await);
    let (name, uid) = (ben.name.clone(), ben.uid);
    ben.hangs_up().await;
    for text in ["secret", "plain"] {
        ann.sends(uid, text).await;
    }
    let there = world.signs_in(&name).await;
    let list = there.gets("/conversations").await.is(200);
    let id = number(&items(&list)[0], "conversation_id");
    there.posts(&format!("/conversations/{id}/messages/hide"), json!({"seqs": [1]})).await.is(204);
    let mut ben = world.logs_in(&name).await;
    let given: Vec<String> = ben.pulls().await.into_iter().map(|line| line.text).collect();
    assert_eq!(given, ["plain"]);
}

#[tokio::test]
async fn a_reaction_makes_nobody_wait_for_a_message_in_slow_mode() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (cid, dan) = World::shared().two("cid", "dan").await;
    let id = ada.founds_a_group("club", &[&bob, &cid, &dan]).await;
    let seq = ada.writes(id, "hello").await;
    ada.changes_room(id, json!({"slow_mode_seconds": 3600})).await.is(200);
    for (person, transport) in [&bob, &cid, &dan].into_iter().zip(TRANSPORTS) {
        let live = person.opens(transport).await;
        // Both on their way at once.
        let (reacted, sent) = tokio::join!(
            live.connection.request(react(id, seq, "👍", false)),
            live.connection.send(a_text(id, "hi")),
        );
        assert!(reacted.is_ok() && sent.is_ok(), "{transport:?}: {reacted:?} {sent:?}");
        assert!(live.connection.send(a_text(id, "again")).await.is_err(), "{transport:?}: a message does");
    }
}

#[tokio::test]
async fn any_number_is_a_cursor() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let lists = ["hidden", "members", "requests", "bans"].map(|list| format!("/conversations/{id}/{list}"));
    let lists = lists.into_iter().chain(["/scheduled", "/contacts", "/blocks"].map(str::to_owned));
    for list in lists {
        for cursor in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 53) - 1] {
            let page = ada.gets(&format!("{list}?cursor={cursor}")).await.is(200);
            assert_eq!(items(&page).len(), 0, "{list} behind {cursor}: {page}");
        }
    }
}
