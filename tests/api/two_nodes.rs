//! Two nodes on one database: what one of them is told holds on the other when the call is answered.

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Presence, SetPresence, WatchPresence};
use rookery::protocol::{ErrorCode, PresenceStatus};
use serde_json::json;

use crate::live::{Live, a_text_to};
use crate::messages_edit::{Hand, edit, recall};
use crate::world::{Person, World, eventually, items, unique};

/// Two nodes that know each other.
pub async fn two_nodes(config: &[(&str, &str)]) -> (World, World) {
    let first = World::with(config);
    let seeds = format!("[\"{}\"]", first.node.address("cluster"));
    let database = first.node.database_url();
    let more = [("cluster.seeds", seeds.as_str()), ("storage.url", database.as_str())];
    let second = World::with(&[config, &more].concat());
    for world in [&first, &second] {
        eventually("both are up", async || {
            let request = world.operator_request(reqwest::Method::GET, "/admin/v1/nodes");
            let nodes = crate::world::Answer::of("/nodes", request).await.is(200);
            let up = items(&nodes).iter().filter(|node| node["state"] == "up").count();
            (up == 2).then_some(())
        })
        .await;
    }
    (first, second)
}

/// The same device by another node.
pub fn by(world: &World, person: &Person) -> Person {
    Person { world: world.clone(), ..person.clone() }
}

impl Live {
    async fn hears_status_of(&mut self, user: &Person, status: PresenceStatus) -> Presence {
        let id = user.id;
        self.hears("a status", |event| match event {
            Body::Presence(presence) if presence.user_id == id && presence.status() == status => {
                Some(presence)
            }
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn a_block_by_one_node_holds_on_the_other_when_it_is_answered() {
    let (first, second) = two_nodes(&[]).await;
    let (ada, bob) = first.two("ada", "bob").await;
    let bob_live = by(&second, &bob).opens(Transport::WebSocketProto).await;
    for _ in 0..5 {
        // The other node remembers that bob may.
        bob_live.sends(a_text_to(&ada, "hey")).await;
        ada.puts(&format!("/blocks/{}", bob.id), json!({})).await.is(204);
        let error = bob_live.is_refused(Request::Send(a_text_to(&ada, "hey"))).await;
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        ada.deletes(&format!("/blocks/{}", bob.id)).await.is(204);
        bob_live.sends(a_text_to(&ada, "hey")).await;
        ada.patches("/users/me/privacy", json!({"who_may_write": "nobody"})).await.is(200);
        let error = bob_live.is_refused(Request::Send(a_text_to(&ada, "hey"))).await;
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        ada.patches("/users/me/privacy", json!({"who_may_write": "everyone"})).await.is(200);
    }
}

#[tokio::test]
async fn presence_is_told_from_node_to_node_and_survives_the_end_of_one() {
    let quick =
        [("presence.offline_grace", "1s"), ("presence.gather", "20ms"), ("presence.rebuild_window", "2s")];
    let (first, second) = two_nodes(&quick).await;
    let mut users = Vec::new();
    // Their shards are on both nodes.
    for _ in 0..6 {
        users.push(first.person("user").await);
    }
    let ada = first.person("ada").await;
    let mut watching = ada.opens(Transport::WebSocketJson).await;
    let watch = WatchPresence { user_ids: users.iter().map(|user| user.id).collect() };
    watching.connection.request(Request::WatchPresence(watch)).await.expect("a good request");
    let mut lives = Vec::new();
    for user in &users {
        let live = by(&second, user).opens(Transport::Tcp).await;
        watching.hears_status_of(user, PresenceStatus::Online).await;
        let said = SetPresence { status: PresenceStatus::Busy as i32, text: format!("{}", unique()) };
        live.does(Request::SetPresence(said.clone())).await;
        assert_eq!(watching.hears_status_of(user, PresenceStatus::Busy).await.text, said.text);
        lives.push(live);
    }
    // The node goes without a word, and half of the shards and all of the sessions with it.
    drop(lives);
    drop(second);
    let mut left: Vec<u64> = users.iter().map(|user| user.id).collect();
    while !left.is_empty() {
        let gone = watching
            .hears("that they are gone", |event| match event {
                Body::Presence(presence) if presence.status() == PresenceStatus::Offline => Some(presence),
                _ => None,
            })
            .await;
        left.retain(|id| *id != gone.user_id);
    }
    let _back = users[0].opens(Transport::Tcp).await;
    watching.hears_status_of(&users[0], PresenceStatus::Busy).await;
}

#[tokio::test]
async fn one_who_is_kicked_is_out_on_the_other_node_when_the_sign_in_is_answered() {
    let (first, second) = two_nodes(&[("accounts.device_policy", "single")]).await;
    let mut ada = first.person("ada").await;
    for _ in 0..5 {
        let there = by(&second, &ada);
        let live = there.opens(Transport::WebSocketJson).await;
        there.gets("/users/me").await.is(200);
        ada = ada.on_another_device().await;
        there.gets("/users/me").await.is_refused(401, "unauthenticated");
        assert_eq!(live.sees_the_close().await.code, Some(4409));
    }
    let there = by(&second, &ada);
    let live = there.opens(Transport::WebSocketJson).await;
    ada.deletes("/sessions?current=true").await.is(204);
    there.gets("/users/me").await.is_refused(401, "unauthenticated");
    assert_eq!(live.sees_the_close().await.code, Some(4401));
}

/// Two devices edit one message by two nodes at once, and a third takes it back: the room gives them an order, and the
/// message is what that order makes of it.
#[tokio::test]
async fn edits_and_recalls_by_two_nodes_have_one_order() {
    let (first, second) = two_nodes(&[]).await;
    let (ada, bob) = first.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let here = Hand::Rest(ada.clone());
    let there = Hand::Frames(by(&second, &ada).opens(Transport::WebSocketProto).await);
    for round in 0..20 {
        let seq = ada.writes(id, "hello").await;
        let edits = async |hand: &Hand, text: &str| hand.tries(edit(id, seq, text)).await;
        let (a, b) = tokio::join!(edits(&here, "by the first"), edits(&there, "by the second"));
        let (a, b) = (a.expect("edited"), b.expect("edited"));
        let wanted = if a.seq > b.seq { "by the first" } else { "by the second" };
        for world in [&first, &second] {
            assert_eq!(by(world, &bob).sees_message(id, seq).await["text"], wanted, "round {round}");
        }
        let gone = async { here.tries(recall(id, seq)).await };
        let (gone, late) = tokio::join!(gone, edits(&there, "late"));
        let gone = gone.expect("taken back");
        match late {
            Ok(late) => assert!(late.seq < gone.seq, "an edit behind the recall is stored"),
            Err(code) => assert_eq!(code, ErrorCode::FailedPrecondition),
        }
        for world in [&first, &second] {
            let seen = by(world, &bob).sees_message(id, seq).await;
            assert_eq!((&seen["recalled"], &seen["text"]), (&json!(true), &json!("")), "round {round}");
        }
    }
}
