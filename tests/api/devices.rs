//! A user's devices: listing them, signing them out, and deployments that allow few of them.

use reqwest::Method;
use rookery::client::Transport;
use rookery::protocol::v1::Login;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use serde_json::{Value, json};

use crate::live::Live;
use crate::two_nodes::{by, two_nodes};
use crate::world::{PASSWORD, Person, TRANSPORTS, World, items, number};

impl World {
    /// A new device of an account, on a platform.
    async fn signs_in_on(&self, name: &str, platform: &str) -> Person {
        let body =
            json!({"username": name, "password": PASSWORD, "device_name": "mine", "platform": platform});
        let session = self.asks(Method::POST, "/sessions", None, Some(body)).await.is(201);
        Person {
            world: self.clone(),
            name: name.to_owned(),
            id: number(&session, "user_id"),
            device_id: number(&session, "device_id"),
            token: session["token"].as_str().expect("a token").to_owned(),
        }
    }
}

impl Person {
    async fn lists_devices(&self) -> Vec<Value> {
        items(&self.gets("/sessions").await.is(200)).clone()
    }

    async fn is_out(&self) {
        self.gets("/users/me").await.is_refused(401, "unauthenticated");
    }

    async fn is_in(&self) {
        self.gets("/users/me").await.is(200);
    }
}

impl Live {
    async fn closes_with(self, code: u16) {
        // TCP frames know no codes: it just ends.
        if let Some(seen) = self.sees_the_close().await.code {
            assert_eq!(seen, code);
        }
    }
}

#[tokio::test]
async fn devices_are_listed_and_all_others_signed_out_at_once() {
    for transport in TRANSPORTS {
        let phone = World::shared().person("ada").await;
        let desk = phone.world.signs_in_on(&phone.name, " Desktop ").await;
        let tablet = phone.on_another_device().await;
        let devices = phone.lists_devices().await;
        assert_eq!(devices.len(), 3);
        let of_desk = devices.iter().find(|row| number(row, "device_id") == desk.device_id).expect("listed");
        assert_eq!((&of_desk["platform"], &of_desk["current"]), (&json!("desktop"), &json!(false)));
        let (stays, goes, goes_too) =
            (phone.opens(transport).await, desk.opens(transport).await, tablet.opens(transport).await);
        phone.deletes("/sessions").await.is(204);
        desk.is_out().await;
        tablet.is_out().await;
        goes.closes_with(4401).await;
        goes_too.closes_with(4401).await;
        assert_eq!(phone.lists_devices().await.len(), 1);
        stays.syncs(Default::default()).await;
        phone.deletes("/sessions?current=true").await.is(204);
        phone.is_out().await;
        stays.closes_with(4401).await;
    }
}

#[tokio::test]
async fn where_one_device_is_allowed_the_newest_replaces_the_one_before() {
    let world = World::with(&[("accounts.device_policy", "single")]);
    for transport in TRANSPORTS {
        let old = world.person("ada").await;
        let live = old.opens(transport).await;
        let new = world.signs_in_on(&old.name, "phone").await;
        old.is_out().await;
        live.closes_with(4409).await;
        new.is_in().await;
        // By the frame too.
        let live = new.opens(transport).await;
        let (connection, _events) = world.connects(transport).await;
        let login = Login {
            username: new.name.clone(),
            password: PASSWORD.to_owned(),
            device_name: "by frame".to_owned(),
            platform: "web".to_owned(),
        };
        let answer = connection.request(Request::Login(login)).await.expect("the password is right");
        assert!(matches!(answer, Body::Welcome(_)), "{answer:?}");
        live.closes_with(4409).await;
        new.is_out().await;
    }
}

#[tokio::test]
async fn where_one_device_a_platform_is_allowed_others_stay() {
    let world = World::with(&[("accounts.device_policy", "one_per_platform")]);
    let nameless = world.person("ada").await;
    let phone = world.signs_in_on(&nameless.name, "phone").await;
    let web = world.signs_in_on(&nameless.name, "web").await;
    let live = phone.opens(Transport::WebSocketJson).await;
    let new_phone = world.signs_in_on(&nameless.name, "Phone").await;
    phone.is_out().await;
    live.closes_with(4409).await;
    for stays in [&nameless, &web, &new_phone] {
        stays.is_in().await;
    }
    // Lines are a platform of their own, and one device.
    let mut line = world.logs_in(&nameless.name).await;
    let mut second = world.logs_in(&nameless.name).await;
    assert!(line.pulls().await.is_empty() && second.pulls().await.is_empty());
    web.is_in().await;
}

#[tokio::test]
async fn a_crowd_of_sign_ins_leaves_one_device() {
    let world = World::with(&[("accounts.device_policy", "single")]);
    let ada = world.person("ada").await;
    let crowd = (0..8).map(|_| world.signs_in_on(&ada.name, "phone"));
    let crowd: Vec<Person> = futures_util::future::join_all(crowd).await;
    let newest = crowd.iter().max_by_key(|person| person.device_id).expect("eight signed in");
    newest.is_in().await;
    assert_eq!(newest.lists_devices().await.len(), 1);
    for person in crowd.iter().filter(|person| person.device_id != newest.device_id) {
        person.is_out().await;
    }
}

#[tokio::test]
async fn a_devices_second_connection_replaces_the_first_on_whichever_node() {
    let (first, second) = two_nodes(&[("accounts.one_connection", "true")]).await;
    let mut people = Vec::new();
    // Their shards are on both nodes.
    for _ in 0..4 {
        people.push(first.person("ada").await);
    }
    for (at, person) in people.iter().enumerate() {
        let transport = TRANSPORTS[at % TRANSPORTS.len()];
        let other_device = person.on_another_device().await.opens(transport).await;
        let one = person.opens(transport).await;
        let two = by(&second, person).opens(transport).await;
        one.closes_with(4409).await;
        let three = by(&second, person).opens(TRANSPORTS[(at + 1) % TRANSPORTS.len()]).await;
        two.closes_with(4409).await;
        let four = person.opens(transport).await;
        three.closes_with(4409).await;
        // The newest goes on, and so does another device; the token is as good as before.
        for live in [&four, &other_device] {
            live.syncs(Default::default()).await;
        }
        person.is_in().await;
    }
    // The line connections of a user are one device, which may have several.
    let name = &people[0].name;
    let (mut line, mut another) = (first.logs_in(name).await, second.logs_in(name).await);
    assert!(line.pulls().await.is_empty() && another.pulls().await.is_empty());
    assert!(line.pulls().await.is_empty(), "it is still there");
}
