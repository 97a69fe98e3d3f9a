//! What is kept from those whom it is not for.

use rookery::client::Transport;
use rookery::protocol::v1::SyncRequest;
use serde_json::json;

use crate::world::World;

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
