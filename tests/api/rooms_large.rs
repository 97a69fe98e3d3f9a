//! A room of 100,000 members, most of whom are rows in the database and nobody's: what is done in it costs in proportion to
//! those who are there.

use std::time::Duration;

use rookery::client::Transport;
use rookery::config::StorageConfig;
use rookery::protocol::MemberRole;
use rookery::storage::sql::SqlStores;
use rookery::storage::{MemberRecord, RoomChange, RoomWrite};
use serde_json::json;

use crate::world::{World, items, number};

/// With the two who are there, the most that a room has.
const ABSENT: u64 = 99_997;
/// Rows of one transaction.
const AT_ONCE: usize = 20_000;
/// Ids that no account has.
const FIRST_ID: u64 = 1_000_000;

#[tokio::test]
async fn a_room_of_a_hundred_thousand_is_opened_written_to_and_governed() {
    let mut world = World::with(&[]);
    let (ada, bob) = world.two("ada", "bob").await;
    let cleo = world.person("cleo").await;
    let id = ada.founds_a_group("everybody", &[&bob]).await;
    fills(&world, id).await;
    // The room was loaded when it was small.
    let names = [&ada, &bob, &cleo].map(|person| person.name.clone());
    drop((ada, bob, cleo));
    world.restarts();
    let (ada, bob) = (world.signs_in(&names[0]).await, world.signs_in(&names[1]).await);
    let cleo = world.signs_in(&names[2]).await;
    let ada_live = ada.opens(Transport::Tcp).await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;

    let sent = ada_live.says(id, "hello, everybody").await;
    let heard = bob_live.hears_a_text().await;
    assert_eq!((heard.seq, heard.text.as_str()), (sent.seq, "hello, everybody"));
    bob_live.has_read(id, sent.seq).await;
    assert_eq!(number(&ada.sees(id).await, "member_count"), ABSENT + 2);

    // Paged, by id.
    let page = ada.gets(&format!("/conversations/{id}/members?limit=2")).await.is(200);
    assert_eq!(items(&page).len(), 2, "{page}");
    // One more is let in, and then it is full.
    cleo.wants_into(id).await.is(200);
    let dora = world.person("dora").await;
    dora.wants_into(id).await.is_refused(412, "failed_precondition");
    ada.changes_member(id, &bob, json!({"role": "admin"})).await.is(200);
    bob_live.hears_room(id, |news| news.role == 1).await;
    let last = cleo.opens(Transport::Tcp).await.says(id, "am I in?").await;
    assert_eq!(bob_live.hears_a_text().await.seq, last.seq);
    assert_eq!(last.seq, sent.seq + 1, "of members nothing is said in the log of so large a room");

    // And over.
    ada.deletes(&format!("/conversations/{id}")).await.is(204);
    bob_live.hears_room(id, |news| news.removed && news.dissolved).await;
}

/// Adds members past the server, as a migration from elsewhere would.
async fn fills(world: &World, id: u64) {
    let config = StorageConfig {
        url: world.node.database_url(),
        request_timeout: Duration::from_secs(60),
        ..StorageConfig::default()
    };
    let stores = SqlStores::connect(&config).await.expect("the node has made it");
    let ids: Vec<u64> = (FIRST_ID..FIRST_ID + ABSENT).collect();
    for some in ids.chunks(AT_ONCE) {
        let row = |user_id: &u64| MemberRecord {
            conversation_id: id,
            user_id: *user_id,
            role: MemberRole::Member,
            first_seq: 1,
            joined_at_ms: 1,
            updated_at_ms: 1,
            ..MemberRecord::default()
        };
        let writes = vec![RoomWrite::Add(some.iter().map(row).collect())];
        let change = RoomChange { conversation_id: id, now_ms: 1, conditions: Vec::new(), writes };
        let outcome = stores.stores().rooms.change_room(&change).await;
        assert_eq!(outcome, Ok(None));
    }
    stores.close().await;
}
