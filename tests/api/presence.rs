//! Who is there, as others are told: statuses, watching, last seen, over every framed transport and REST.

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Presence, SetPresence, WatchPresence};
use rookery::protocol::{ErrorCode, PresenceStatus};
use serde_json::json;

use crate::live::Live;
use crate::world::{Person, TRANSPORTS, World, eventually, items, number};

/// A node on which one is soon offline.
fn world() -> World {
    World::with(&[("presence.offline_grace", "1s"), ("presence.gather", "20ms")])
}

impl Live {
    /// Watches these and no others; how they look.
    async fn watches(&self, users: &[&Person]) -> Vec<Presence> {
        let watch = WatchPresence { user_ids: users.iter().map(|user| user.id).collect() };
        let answer = self.connection.request(Request::WatchPresence(watch)).await.expect("a good request");
        match answer {
            Body::PresencePage(page) => page.users,
            other => panic!("{other:?}"),
        }
    }

    async fn is(&self, status: PresenceStatus, text: &str) {
        let said = SetPresence { status: status as i32, text: text.to_owned() };
        self.does(Request::SetPresence(said)).await;
    }

    /// The next news of a user.
    async fn hears_how_is(&mut self, user: &Person) -> Presence {
        let id = user.id;
        self.hears("a presence event", |event| match event {
            Body::Presence(presence) if presence.user_id == id => Some(presence),
            _ => None,
        })
        .await
    }

    /// News of a user until it looks like this.
    async fn hears_that_is(&mut self, user: &Person, status: PresenceStatus) -> Presence {
        loop {
            let presence = self.hears_how_is(user).await;
            if presence.status() == status {
                return presence;
            }
        }
    }
}

impl Person {
    /// How a user looks by REST: status, text, last seen.
    async fn sees_how_is(&self, user: &Person) -> (String, String, u64) {
        let page = self.gets(&format!("/presence?user_ids={}", user.id)).await.is(200);
        let row = &items(&page)[0];
        assert_eq!(number(row, "user_id"), user.id);
        let word = |name: &str| row[name].as_str().expect("a string").to_owned();
        (word("status"), word("text"), number(row, "last_seen_ms"))
    }
}

#[tokio::test]
async fn watchers_are_told_who_comes_says_something_and_goes() {
    let world = world();
    for transport in TRANSPORTS {
        let (ada, bob) = world.two("ada", "bob").await;
        let mut ada_live = ada.opens(transport).await;
        let page = ada_live.watches(&[&bob]).await;
        assert_eq!(page, [Presence { user_id: bob.id, ..Presence::default() }]);
        let bob_live = bob.opens(transport).await;
        let come = ada_live.hears_how_is(&bob).await;
        assert_eq!((come.status(), come.text.as_str()), (PresenceStatus::Online, ""));
        assert!(come.last_seen_ms > 0);
        bob_live.is(PresenceStatus::Busy, "in a meeting").await;
        let busy = ada_live.hears_how_is(&bob).await;
        assert_eq!((busy.status(), busy.text.as_str()), (PresenceStatus::Busy, "in a meeting"));
        assert_eq!(ada.sees_how_is(&bob).await.0, "busy");
        drop(bob_live);
        let gone = ada_live.hears_how_is(&bob).await;
        assert_eq!((gone.status(), gone.text.as_str()), (PresenceStatus::Offline, ""));
        let (status, text, seen) = ada.sees_how_is(&bob).await;
        assert_eq!((status.as_str(), text.as_str()), ("offline", ""));
        assert!(seen >= come.last_seen_ms, "{seen}");
        // What was said holds until something else is.
        let bob_live = bob.opens(transport).await;
        assert_eq!(ada_live.hears_how_is(&bob).await.status(), PresenceStatus::Busy);
        drop(bob_live);
    }
}

#[tokio::test]
async fn a_reconnect_makes_no_noise_and_the_last_device_counts() {
    let world = World::with(&[("presence.offline_grace", "8s"), ("presence.gather", "20ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let mut ada_live = ada.opens(Transport::WebSocketJson).await;
    let first = bob.opens(Transport::Tcp).await;
    let second = bob.on_another_device().await.opens(Transport::WebSocketProto).await;
    ada_live.watches(&[&bob]).await;
    drop(first);
    drop(second);
    let back = bob.opens(Transport::Tcp).await;
    // The next news is the one after all that: nothing was told of the moment away.
    back.is(PresenceStatus::Away, "").await;
    assert_eq!(ada_live.hears_how_is(&bob).await.status(), PresenceStatus::Away);
    drop(back);
    assert_eq!(ada_live.hears_how_is(&bob).await.status(), PresenceStatus::Offline);
}

#[tokio::test]
async fn news_do_not_wait_for_the_grace_of_one_who_reconnects() {
    // Longer than any test waits.
    let world = World::with(&[("presence.offline_grace", "1h"), ("presence.gather", "20ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let mut ada_live = ada.opens(Transport::Tcp).await;
    let first = bob.opens(Transport::Tcp).await;
    ada_live.watches(&[&bob]).await;
    first.connection.close().await;
    let second = bob.opens(Transport::WebSocketJson).await;
    second.is(PresenceStatus::Busy, "back").await;
    assert_eq!(ada_live.hears_that_is(&bob, PresenceStatus::Busy).await.text, "back");
}

#[tokio::test]
async fn one_who_is_invisible_looks_offline_to_all_others() {
    let world = world();
    let (ada, bob) = world.two("ada", "bob").await;
    let mut ada_live = ada.opens(Transport::WebSocketJson).await;
    let mut bob_phone = bob.opens(Transport::Tcp).await;
    let bob_desk = bob.on_another_device().await.opens(Transport::WebSocketJson).await;
    assert_eq!(ada_live.watches(&[&bob]).await[0].status(), PresenceStatus::Online);
    bob_desk.is(PresenceStatus::Invisible, "not here").await;
    assert_eq!(
        bob_phone.hears_how_is(&bob).await.status(),
        PresenceStatus::Invisible,
        "one's own devices know"
    );
    let gone = ada_live.hears_how_is(&bob).await;
    assert_eq!((gone.status(), gone.text.as_str()), (PresenceStatus::Offline, ""));
    let (status, text, seen) = ada.sees_how_is(&bob).await;
    assert_eq!((status.as_str(), text.as_str()), ("offline", ""));
    assert!(seen > 0);
    assert_eq!(bob.sees_how_is(&bob).await.0, "invisible");
    assert_eq!(ada.sees_how_is(&bob).await.2, seen, "and is not seen meanwhile");
    bob_desk.is(PresenceStatus::Online, "").await;
    assert_eq!(ada_live.hears_how_is(&bob).await.status(), PresenceStatus::Online);
}

#[tokio::test]
async fn a_block_hides_both_from_each_other_at_once_and_until_it_is_lifted() {
    let world = world();
    let (ada, bob) = world.two("ada", "bob").await;
    let mut ada_live = ada.opens(Transport::WebSocketJson).await;
    let mut bob_live = bob.opens(Transport::Tcp).await;
    assert_eq!(ada_live.watches(&[&bob]).await[0].status(), PresenceStatus::Online);
    assert_eq!(bob_live.watches(&[&ada]).await[0].status(), PresenceStatus::Online);
    ada.puts(&format!("/blocks/{}", bob.id), json!({})).await.is(204);
    for (live, user) in [(&mut ada_live, &bob), (&mut bob_live, &ada)] {
        let hidden = live.hears_how_is(user).await;
        assert_eq!((hidden.status(), hidden.last_seen_ms), (PresenceStatus::Offline, 0));
    }
    let nothing = ("offline".to_owned(), String::new(), 0);
    assert_eq!(ada.sees_how_is(&bob).await, nothing);
    assert_eq!(bob.sees_how_is(&ada).await, nothing);
    ada.deletes(&format!("/blocks/{}", bob.id)).await.is(204);
    bob_live.hears_that_is(&ada, PresenceStatus::Online).await;
    ada_live.hears_that_is(&bob, PresenceStatus::Online).await;
}

#[tokio::test]
async fn last_seen_is_for_those_whom_privacy_lets_see_it() {
    let world = world();
    let (ada, bob) = world.two("ada", "bob").await;
    drop(bob.opens(Transport::Tcp).await);
    eventually("bob was seen", async || (ada.sees_how_is(&bob).await.2 > 0).then_some(())).await;
    let set = |word: &str| json!({"who_sees_last_seen": word});
    bob.patches("/users/me/privacy", set("contacts")).await.is(200);
    assert_eq!(ada.sees_how_is(&bob).await.2, 0);
    ada.posts("/contacts", json!({"user_id": bob.id})).await.is(201);
    bob.posts(&format!("/contacts/{}/accept", ada.id), json!({})).await.is(200);
    assert!(ada.sees_how_is(&bob).await.2 > 0);
    bob.patches("/users/me/privacy", set("nobody")).await.is(200);
    assert_eq!(ada.sees_how_is(&bob).await.2, 0);
    assert!(bob.sees_how_is(&bob).await.2 > 0);
}

#[tokio::test]
async fn a_new_set_replaces_the_one_before() {
    let world = world();
    let ada = world.person("ada").await;
    let (bob, eve) = world.two("bob", "eve").await;
    let mut live = ada.opens(Transport::WebSocketProto).await;
    live.watches(&[&bob]).await;
    assert_eq!(live.watches(&[&eve, &eve]).await.len(), 1);
    let bob_live = bob.opens(Transport::Tcp).await;
    let eve_live = eve.opens(Transport::Tcp).await;
    bob_live.is(PresenceStatus::Away, "").await;
    eve_live.is(PresenceStatus::Away, "").await;
    let told = live
        .hears("that eve is away", |event| match event {
            Body::Presence(presence) if presence.user_id == bob.id => panic!("bob is not watched any more"),
            Body::Presence(presence) => (presence.status() == PresenceStatus::Away).then_some(presence),
            _ => None,
        })
        .await;
    assert_eq!(told.user_id, eve.id);
    assert!(live.watches(&[]).await.is_empty());
}

#[tokio::test]
async fn too_many_and_wrong_words_are_refused_and_change_nothing() {
    let world = World::with(&[("presence.watches_max", "1500"), ("presence.gather", "20ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let mut live = ada.opens(Transport::WebSocketJson).await;
    live.watches(&[&bob]).await;
    let watch = |from: u64, count: u64| {
        Request::WatchPresence(WatchPresence { user_ids: (from..from + count).collect() })
    };
    let error = live.is_refused(watch(1, 1001)).await;
    assert_eq!((error.code, error.field.as_ref()), (ErrorCode::InvalidArgument, "user_ids"));
    let other = bob.opens(Transport::Tcp).await;
    other.connection.request(watch(1_000_000, 1000)).await.expect("there is room for these");
    let error = live.is_refused(watch(2_000_000, 1000)).await;
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    assert!(error.retry_after_ms > 0);
    for status in [PresenceStatus::Offline as i32, 99] {
        let error = other.is_refused(Request::SetPresence(SetPresence { status, text: String::new() })).await;
        assert_eq!((error.code, error.field.as_ref()), (ErrorCode::InvalidArgument, "status"));
    }
    let long = SetPresence { status: PresenceStatus::Busy as i32, text: "x".repeat(141) };
    assert_eq!(other.is_refused(Request::SetPresence(long)).await.field, "text");
    ada.gets("/presence?user_ids=1,x").await.is_refused(400, "invalid_argument").naming("user_ids");
    assert!(items(&ada.gets("/presence").await.is(200)).is_empty());
    // The earlier set of the one who was refused still stands.
    other.is(PresenceStatus::Away, "").await;
    assert_eq!(live.hears_that_is(&bob, PresenceStatus::Away).await.user_id, bob.id);
}
