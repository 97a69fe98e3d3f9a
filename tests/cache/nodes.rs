//! Real nodes with a real Redis, as their clients and operators see them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use rookery::client::{Connection, ConnectionOptions, Events, Transport};
use serde_json::{Value, json};

use crate::node::Node;
use crate::redis::Redis;
use crate::tier::PATIENCE;

const PASSWORD: &str = "open sesame";

/// A node and a way to call it.
#[derive(Clone)]
struct World {
    node: Arc<Node>,
    http: reqwest::Client,
}

#[derive(Clone)]
struct Person {
    world: World,
    name: String,
    id: u64,
    token: String,
}

impl World {
    fn with(config: &[(&str, &str)]) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("plain settings");
        Self { node: Arc::new(Node::start(config)), http }
    }

    /// A second node on the first one's database.
    fn beside(first: &Self, config: &[(&str, &str)]) -> Self {
        let seeds = format!("[\"{}\"]", first.node.address("cluster"));
        let database = first.node.database_url();
        let more = [("cluster.seeds", seeds.as_str()), ("storage.url", database.as_str())];
        Self::with(&[config, &more].concat())
    }

    async fn calls(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let mut request =
            self.http.request(method, format!("http://{}/api/v1{path}", self.node.address("http")));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    async fn person(&self, name: &str) -> Person {
        let body = json!({"username": name, "password": PASSWORD, "device_name": "a phone"});
        let (status, answer) = self.calls(Method::POST, "/users", "", Some(body.clone())).await;
        assert_eq!(status, 201, "{answer}");
        let (status, session) = self.calls(Method::POST, "/sessions", "", Some(body)).await;
        assert_eq!(status, 201, "{session}");
        let token = session["token"].as_str().expect("a token").to_owned();
        Person {
            world: self.clone(),
            name: name.to_owned(),
            id: session["user_id"].as_u64().expect("an id"),
            token,
        }
    }

    /// What the operators see of the cache.
    async fn cache(&self) -> Value {
        let request = self.http.get(format!("http://{}/admin/v1/cache", self.node.address("admin")));
        request.send().await.expect("the admin endpoint answers").json().await.expect("JSON")
    }

    async fn waits_for_the_cache(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let cache = self.cache().await;
            if holds(&cache) {
                return cache;
            }
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {cache}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn uses_redis(&self) {
        self.waits_for_the_cache("Redis is in use", |cache| cache["breaker"] == "closed").await;
    }
}

impl Person {
    /// The same person at another node.
    fn at(&self, world: &World) -> Self {
        Self { world: world.clone(), ..self.clone() }
    }

    async fn gets(&self, path: &str) -> Value {
        let (status, answer) = self.world.calls(Method::GET, path, &self.token, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn changes(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.world.calls(method, path, &self.token, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn bio_of(&self, other: &Self) -> Value {
        self.gets(&format!("/users/{}", other.id)).await["bio"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_succeeds_whatever_becomes_of_redis() {
    let mut redis = Redis::start(&[]).await;
    let world = World::with(&[("cache.url", &redis.url()), ("cache.breaker_open_max", "300ms")]);
    world.uses_redis().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut version = 0;
    let mut go_on = async |rounds: usize| {
        for _ in 0..rounds {
            version += 1;
            ada.changes(Method::PATCH, "/users/me", json!({"bio": version.to_string()})).await;
            assert_eq!(bob.bio_of(&ada).await, version.to_string());
            bob.gets("/contacts").await;
            bob.changes(Method::POST, "/contacts", json!({"user_id": ada.id})).await;
            let contacts = ada.gets("/contacts").await;
            assert_eq!(contacts["items"][0]["username"], bob.name.as_str(), "{contacts}");
        }
    };
    go_on(5).await;
    redis.freeze();
    go_on(10).await;
    redis.thaw();
    world.uses_redis().await;
    go_on(5).await;
    redis.kill();
    go_on(10).await;
    redis.restart().await;
    world.uses_redis().await;
    redis.asks(&["FLUSHALL"]).await.expect("it answers");
    go_on(5).await;
    let key = format!("user:id:{}", ada.id);
    let began = Instant::now();
    // Read until this node asks Redis again, and has stored what it read.
    while redis.asks(&["GET", &key]).await.expect("it answers").is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing is stored: {}", world.cache().await);
        bob.bio_of(&ada).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stored: Value =
        serde_json::from_str(&redis.asks(&["GET", &key]).await.expect("it answers")).expect("JSON");
    assert_eq!(stored["value"]["username"], "ada", "other systems can read it: {stored}");
    assert!(stored["value"].get("password_hash").is_none(), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_on_one_node_is_seen_on_the_other_at_once() {
    let redis = Redis::start(&[]).await;
    let redis_url = redis.url();
    // Memory that would be trusted for long, so that nothing is seen because it has expired.
    let config = [("cache.url", redis_url.as_str()), ("cache.local_ttl", "60s")];
    let first = World::with(&config);
    let second = World::beside(&first, &config);
    first.uses_redis().await;
    second.uses_redis().await;
    let (ada, bob, eve) = (first.person("ada").await, first.person("bob").await, first.person("eve").await);
    let bob_there = bob.at(&second);
    await_both(&first, &second).await;
    for version in 0..20 {
        ada.changes(Method::PATCH, "/users/me", json!({"bio": version.to_string()})).await;
        assert_eq!(bob_there.bio_of(&ada).await, version.to_string());
        assert_eq!(bob.bio_of(&ada).await, version.to_string());
    }
    let before = second.cache().await;
    for _ in 0..10 {
        bob_there.bio_of(&ada).await;
    }
    let after = second.cache().await;
    assert!(after["local_hits"].as_u64() >= before["local_hits"].as_u64().map(|hits| hits + 10), "{after}");

    // Members: who is removed reads nothing any more, and is in no list, on either node.
    let group = json!({"kind": "group", "name": "rooks", "member_ids": [bob.id, eve.id]});
    let id =
        ada.changes(Method::POST, "/conversations", group).await["conversation_id"].as_u64().expect("an id");
    let members = format!("/conversations/{id}/members");
    let count = |page: Value| page["items"].as_array().map_or(0, Vec::len);
    assert_eq!(count(bob_there.gets(&members).await), 3);
    let eve_there = eve.at(&second);
    eve_there.gets(&format!("/conversations/{id}/messages")).await;
    let (status, _) = first.calls(Method::DELETE, &format!("{members}/{}", eve.id), &ada.token, None).await;
    assert_eq!(status, 204);
    assert_eq!(count(bob_there.gets(&members).await), 2);
    for path in [format!("/conversations/{id}/messages"), members] {
        let (status, answer) = second.calls(Method::GET, &path, &eve.token, None).await;
        assert!([403, 404].contains(&status), "{path}: {status} {answer}");
    }

    // A token that is signed out on one node opens nothing on the other.
    eve_there.gets("/users/me").await;
    let (status, _) = first.calls(Method::DELETE, "/sessions/current", &eve.token, None).await;
    assert_eq!(status, 204);
    assert_eq!(second.calls(Method::GET, "/users/me", &eve.token, None).await.0, 401);
}

/// Waits until each of two nodes sees the other up.
async fn await_both(first: &World, second: &World) {
    for world in [first, second] {
        let began = Instant::now();
        loop {
            let request = world.http.get(format!("http://{}/admin/v1/nodes", world.node.address("admin")));
            let nodes: Value = request.send().await.expect("it answers").json().await.expect("JSON");
            let up = nodes["items"]
                .as_array()
                .map_or(0, |nodes| nodes.iter().filter(|node| node["state"] == "up").count());
            if up == 2 {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{nodes}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn opens(person: &Person) -> (Connection, Events) {
    let options = ConnectionOptions { transport: Transport::WebSocketJson, ..ConnectionOptions::default() };
    let address = person.world.node.address("http");
    let opened = Connection::connect(address, &options).await.expect("the node takes connections");
    opened.0.hello(&person.token).await.expect("signed in");
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_asks_redis_nothing_and_presence_is_copied_to_it() {
    let redis = Redis::start(&[]).await;
    let world = World::with(&[("cache.url", &redis.url()), ("cache.presence_copy_interval", "50ms")]);
    world.uses_redis().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (connection, events) = opens(&ada).await;
    let route = format!("presence:route:{}", ada.id);
    let began = Instant::now();
    let routes = loop {
        let routes = redis.asks(&["GET", &route]).await.expect("it answers");
        if !routes.is_empty() {
            break routes;
        }
        assert!(began.elapsed() < PATIENCE, "no route is copied: {}", world.cache().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let routes: Value = serde_json::from_str(&routes).expect("JSON");
    assert_eq!(routes[0]["node"], world.node.address("name"), "{routes}");
    let status = format!("user:status:{}", ada.id);
    assert!(redis.asks(&["GET", &status]).await.expect("it answers").contains("online"));
    let ttl: i64 = redis.asks(&["TTL", &route]).await.expect("it answers").parse().expect("seconds");
    assert!((1..=90).contains(&ttl), "{ttl}");

    let send = |number: u32| rookery::protocol::v1::Send {
        to_user_id: bob.id,
        client_id: format!("message-{number}"),
        text: "hello".into(),
        kind: rookery::protocol::MessageKind::Text as i32,
        ..Default::default()
    };
    connection.send(send(0)).await.expect("stored");
    let requests = |cache: &Value| cache["redis"]["requests"].as_u64().expect("a counter");
    let before = world.cache().await;
    for number in 1..=50 {
        connection.send(send(number)).await.expect("stored");
    }
    let after = world.cache().await;
    assert_eq!(requests(&after), requests(&before), "sending leaves Redis alone");
    assert_eq!(after["database_reads"]["cached_kinds"], before["database_reads"]["cached_kinds"]);

    drop((connection, events));
    let began = Instant::now();
    while !redis.asks(&["GET", &route]).await.expect("it answers").is_empty() {
        assert!(began.elapsed() < PATIENCE, "the route stays: {}", world.cache().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(redis.asks(&["GET", &status]).await.expect("it answers").contains("offline"));
}

/// A hundred requests as a client's screens make them: mostly names and pictures of others, contact lists, member
/// lists, a few histories and conversation lists, and a change now and then. Answers how many reads the database had.
async fn a_mixed_hour(world: &World, rounds: usize) -> (u64, Value) {
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(world.person(&format!("person{number}")).await);
    }
    let ids: Vec<u64> = people[1..].iter().map(|person| person.id).collect();
    for person in &people[1..] {
        person.changes(Method::POST, "/contacts", json!({"user_id": people[0].id})).await;
    }
    let group = json!({"kind": "group", "name": "rooks", "member_ids": ids});
    let id = people[0].changes(Method::POST, "/conversations", group).await["conversation_id"]
        .as_u64()
        .expect("an id");
    let reads = |cache: &Value| {
        let reads = &cache["database_reads"];
        reads["cached_kinds"].as_u64().expect("a counter")
            + reads["never_cached"].as_u64().expect("a counter")
    };
    let before = reads(&world.cache().await);
    for round in 0..rounds {
        for step in 0..100 {
            let by = &people[(round + step) % people.len()];
            let other = &people[(round * 3 + step * 7) % people.len()];
            match step {
                0..=63 => drop(by.gets(&format!("/users/{}", other.id)).await),
                64..=85 => drop(by.gets("/contacts").await),
                86..=92 => drop(by.gets(&format!("/conversations/{id}/members")).await),
                93..=95 => drop(by.gets(&format!("/conversations/{id}/messages")).await),
                96..=98 => drop(by.gets("/conversations").await),
                _ => drop(by.changes(Method::PATCH, "/users/me", json!({"bio": format!("{round}")})).await),
            }
        }
    }
    let cache = world.cache().await;
    (reads(&cache) - before, cache)
}

#[expect(clippy::print_stderr, reason = "the figures are what this test is read for")]
#[tokio::test(flavor = "multi_thread")]
async fn the_cache_spares_the_database_four_reads_of_five() {
    const ROUNDS: usize = 6;
    let redis = Redis::start(&[]).await;
    let with = World::with(&[("cache.url", &redis.url())]);
    with.uses_redis().await;
    let (reads_with, cache) = a_mixed_hour(&with, ROUNDS).await;
    drop(with);
    let without = World::with(&[("cache.local_rows", "0"), ("cache.local_ttl", "0s")]);
    let (reads_without, _) = a_mixed_hour(&without, ROUNDS).await;
    let ratio = cache["hit_ratio"].as_f64().expect("a ratio");
    eprintln!("{reads_with} reads with the cache, {reads_without} without; {ratio:.3} hits; {cache}");
    assert!(reads_with * 5 <= reads_without, "{reads_with} reads with the cache, {reads_without} without");
    assert!(ratio >= 0.9, "{ratio} of the look-ups hit: {cache}");
}
