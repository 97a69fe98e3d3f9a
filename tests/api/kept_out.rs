//! What is kept from those whom it is not for: from those who were removed, from those who are blocked, and from those who
//! would put words into another's mouth.

use rookery::client::Transport;
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::SyncRequest;
use serde_json::json;

use crate::messages_edit::{edit, hands};
use crate::world::{World, items, number, unique};

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
