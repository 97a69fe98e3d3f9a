//! Who may write when: read-only rooms, silence, slow mode; and that a repeat of what is stored is answered all the same.

use rookery::client::Transport;
use rookery::domain::Error;
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::client_frame::Request;
use serde_json::{Value, json};

use crate::live::{Live, a_text};
use crate::rooms::FOR_EVER;
use crate::world::{Person, TRANSPORTS, World, unique};

struct Club {
    ada: Person,
    admin: Person,
    bob: Person,
    id: u64,
}

impl Club {
    async fn meets_on(world: &World) -> Self {
        let (ada, bob) = world.two("ada", "bob").await;
        let admin = world.person("admin").await;
        let id = ada.founds_a_group("club", &[&bob, &admin]).await;
        ada.changes_member(id, &admin, json!({"role": "admin"})).await.is(200);
        Self { ada, admin, bob, id }
    }

    async fn is(&self, change: Value) {
        self.ada.changes_room(self.id, change).await.is(200);
    }
}

impl Live {
    async fn may_not_say(&self, id: u64) -> Error {
        self.is_refused(Request::Send(a_text(id, "may I?"))).await
    }
}

#[tokio::test]
async fn who_may_not_write_is_told_why_on_every_transport() {
    let club = Club::meets_on(&World::shared()).await;
    let id = club.id;
    let states = [
        (json!({"read_only": true}), json!({"read_only": false}), "read-only"),
        (json!({"silence_all": true}), json!({"silence_all": false}), "silenced"),
    ];
    for transport in TRANSPORTS {
        let bob = club.bob.opens(transport).await;
        for (shut, open, why) in &states {
            let known = a_text(id, "known");
            let first = bob.sends(known.clone()).await;
            club.is(shut.clone()).await;
            let error = bob.may_not_say(id).await;
            assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
            assert!(error.message.contains(why), "{error:?}");
            let again = bob.sends(known).await;
            assert!(again.duplicate && again.seq == first.seq, "{again:?}");
            club.ada.opens(transport).await.says(id, "I may").await;
            club.admin.opens(transport).await.says(id, "I may too").await;
            club.is(open.clone()).await;
            bob.says(id, "and now I may").await;
        }
        club.ada.changes_member(id, &club.bob, json!({"silenced_until_ms": FOR_EVER})).await.is(200);
        let error = bob.may_not_say(id).await;
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
        assert!(error.message.contains(&FOR_EVER.to_string()), "it says until when: {error:?}");
        assert_eq!(club.bob.sees(id).await["silenced_until_ms"], json!(FOR_EVER));
        club.ada.changes_member(id, &club.bob, json!({"silenced_until_ms": 0})).await.is(200);
        bob.says(id, "at last").await;
    }
    // And over REST.
    club.is(json!({"read_only": true})).await;
    let path = format!("/conversations/{id}/messages");
    let body = json!({"client_id": "rest", "text": "hey"});
    club.bob.posts(&path, body).await.is_refused(403, "permission_denied");
}

/// The room forgets the names of old sends; the log does not.
#[tokio::test]
async fn an_old_repeat_is_answered_though_its_sender_may_not_write() {
    let world = World::with(&[("room.recent_sends", "2")]);
    let club = Club::meets_on(&world).await;
    let bob = club.bob.opens(Transport::WebSocketProto).await;
    let known = a_text(club.id, "known");
    let first = bob.sends(known.clone()).await;
    for _ in 0..4 {
        bob.says(club.id, "more").await;
    }
    club.is(json!({"silence_all": true})).await;
    let again = bob.sends(known).await;
    assert!(again.duplicate && again.seq == first.seq, "{again:?}");
    bob.may_not_say(club.id).await;
}

#[tokio::test]
async fn silence_holds_for_one_who_leaves_and_comes_back() {
    let club = Club::meets_on(&World::shared()).await;
    club.ada.changes_member(club.id, &club.bob, json!({"silenced_until_ms": FOR_EVER})).await.is(200);
    club.bob.posts(&format!("/conversations/{}/leave", club.id), json!({})).await.is(204);
    club.bob.wants_into(club.id).await.is(200);
    let error = club.bob.opens(Transport::Tcp).await.may_not_say(club.id).await;
    assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
}

#[tokio::test]
async fn slow_mode_lets_one_wait_and_says_how_long() {
    let club = Club::meets_on(&World::shared()).await;
    let id = club.id;
    club.bob.opens(Transport::Tcp).await.says(id, "before it was slow").await;
    club.is(json!({"slow_mode_seconds": 3600})).await;
    let bob = club.bob.opens(Transport::WebSocketJson).await;
    let known = a_text(id, "one");
    // Two at once: one of them is too many.
    let (first, second) =
        tokio::join!(bob.connection.send(known.clone()), bob.connection.send(a_text(id, "two")));
    let first = first.expect("the first one may");
    assert!(second.is_err(), "{second:?}");
    let error = bob.may_not_say(id).await;
    assert_eq!(error.code, ErrorCode::ResourceExhausted, "{error:?}");
    assert!(error.retry_after_ms > 3_000_000 && error.retry_after_ms <= 3_600_000, "{error:?}");
    let again = bob.sends(known).await;
    assert!(again.duplicate && again.seq == first.seq, "{again:?}");
    let body = json!({"client_id": format!("k{}", unique()), "text": "three"});
    club.bob
        .posts(&format!("/conversations/{id}/messages"), body)
        .await
        .is_refused(429, "resource_exhausted");
    for exempt in [&club.ada, &club.admin] {
        let live = exempt.opens(Transport::Tcp).await;
        live.says(id, "one").await;
        live.says(id, "two").await;
    }
    club.is(json!({"slow_mode_seconds": 0})).await;
    bob.says(id, "free").await;
}

#[tokio::test]
async fn slow_mode_ends_for_each_when_the_pause_is_over() {
    let club = Club::meets_on(&World::shared()).await;
    club.is(json!({"slow_mode_seconds": 2})).await;
    let bob = club.bob.opens(Transport::Tcp).await;
    bob.says(club.id, "one").await;
    let error = bob.may_not_say(club.id).await;
    tokio::time::sleep(std::time::Duration::from_millis(error.retry_after_ms)).await;
    bob.says(club.id, "two, after what I was told to wait").await;
}

/// Many have written since: the room that starts again looks back for as long as the pause is.
#[tokio::test]
async fn slow_mode_is_known_to_a_room_that_starts_again() {
    let mut world = World::with(&[]);
    let club = Club::meets_on(&world).await;
    club.is(json!({"slow_mode_seconds": 3600})).await;
    let bob = club.bob.opens(Transport::Tcp).await;
    bob.says(club.id, "one").await;
    let ada = club.ada.opens(Transport::Tcp).await;
    for number in 0..80 {
        ada.says(club.id, &number.to_string()).await;
    }
    let (id, name) = (club.id, club.bob.name.clone());
    drop((bob, ada, club));
    world.restarts();
    let bob = world.signs_in(&name).await.opens(Transport::Tcp).await;
    let error = bob.may_not_say(id).await;
    assert_eq!(error.code, ErrorCode::ResourceExhausted, "{error:?}");
}
