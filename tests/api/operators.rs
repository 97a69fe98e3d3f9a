//! The operators' endpoint of one node, and its health.

use reqwest::Method;
use rookery::client::Transport;
use serde_json::Value;

use crate::world::{Answer, World, eventually, items, number};

impl World {
    pub async fn operator_gets(&self, path: &str) -> Answer {
        Answer::of(path, self.operator_request(Method::GET, path)).await
    }
}

#[tokio::test]
async fn a_node_says_that_it_is_healthy_and_ready_on_both_ports() {
    let world = World::shared();
    for path in ["/healthz", "/readyz"] {
        Answer::of(path, world.request(Method::GET, path)).await.is(200);
        world.operator_gets(path).await.is(200);
    }
}

#[tokio::test]
async fn the_node_lists_itself_with_all_that_the_protocol_names() {
    let world = World::shared();
    let _live = world.person("ada").await.opens(Transport::Tcp).await;
    let name = world.node.address("name").to_owned();
    let list = world.operator_gets("/admin/v1/nodes").await.is(200);
    let [node] = &items(&list)[..] else { panic!("one node: {list}") };
    for (field, value) in
        [("name", name.as_str()), ("state", "up"), ("address", world.node.address("cluster"))]
    {
        assert_eq!(node[field], value, "{node}");
    }
    assert!(number(node, "incarnation") > 1_700_000_000_000, "{node}");
    assert!(node["version"].as_str().is_some_and(|version| !version.is_empty()), "{node}");
    assert!(node["load"].is_object() && node["link"].is_object(), "{node}");
    let same = world.operator_gets(&format!("/admin/v1/nodes/{name}")).await.is(200);
    assert_eq!(same["name"], name.as_str());
    world.operator_gets("/admin/v1/nodes/nobody").await.is_refused(404, "not_found");
}

#[tokio::test]
async fn actors_are_listed_by_kind_and_key_and_show_their_own_view() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let live = ada.opens(Transport::WebSocketJson).await;
    let sent = live.says(id, "hello").await;

    let rooms = world.operator_gets(&format!("/admin/v1/actors?kind=room&key={id}")).await.is(200);
    let [row] = &items(&rooms)[..] else { panic!("one room: {rooms}") };
    assert_eq!((&row["kind"], number(row, "key")), (&Value::from("room"), id));
    assert_eq!(row["node"], world.node.address("name"));
    assert!(number(row, "messages_handled") > 0, "{row}");
    for field in ["age_ms", "mailbox_depth", "last_active_ms"] {
        number(row, field);
    }
    let room = world.operator_gets(&format!("/admin/v1/actors/room/{id}")).await.is(200);
    assert_eq!(number(&room, "seq"), sent.seq, "{room}");
    assert!(
        room["members"].as_u64() == Some(2) || room["members"].as_array().is_some_and(|all| all.len() == 2),
        "{room}"
    );

    let session_id = live.welcome.session_id;
    let session = world.operator_gets(&format!("/admin/v1/actors/session/{session_id}")).await.is(200);
    let text = session.to_string();
    assert!(text.contains(&ada.id.to_string()) && text.contains(&ada.device_id.to_string()), "{session}");
    assert!(session["transport"].is_string(), "{session}");
    let sessions =
        world.operator_gets(&format!("/admin/v1/actors?kind=session&key={session_id}")).await.is(200);
    assert_eq!(items(&sessions).len(), 1, "{sessions}");
    drop(live);
    eventually("the session's end", async || {
        let answer = world.operator_gets(&format!("/admin/v1/actors/session/{session_id}")).await;
        (answer.status == 404).then_some(())
    })
    .await;
    world.operator_gets("/admin/v1/actors/room/4000000000").await;
    world.operator_gets("/admin/v1/actors/dragon/1").await.is_refused(400, "invalid_argument");
    world.operator_gets("/admin/v1/actors/room/x").await.is_refused(400, "invalid_argument");
    world.operator_gets("/admin/v1/actors?kind=dragon").await.is_refused(400, "invalid_argument");
    world.operator_gets("/admin/v1/actors?cursor=nonsense").await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_list_of_actors_comes_page_by_page() {
    let world = World::with(&[]);
    let ada = world.person("ada").await;
    let mut rooms = Vec::new();
    for at in 0..5 {
        rooms.push(ada.founds_a_group(&format!("club {at}"), &[]).await);
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            world.operator_gets(&format!("/admin/v1/actors?kind=room&limit=2&cursor={cursor}")).await.is(200);
        assert!(items(&page).len() <= 2);
        listed.extend(items(&page).iter().map(|row| number(row, "key")));
        cursor = page["next_cursor"].as_str().expect("a string").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, rooms);
}

#[tokio::test]
async fn placement_names_the_owner_and_who_would_be_next() {
    let world = World::shared();
    let name = world.node.address("name").to_owned();
    for kind in ["room", "presence"] {
        let placement = world.operator_gets(&format!("/admin/v1/placement?kind={kind}&key=7")).await.is(200);
        assert_eq!(placement["owner"], name.as_str(), "{placement}");
        assert_eq!(placement["owner_if_lost"], "", "there is no other node: {placement}");
        assert!(placement.to_string().matches(&name).count() >= 2, "every node's view: {placement}");
    }
    world.operator_gets("/admin/v1/placement?kind=dragon&key=7").await.is_refused(400, "invalid_argument");
    world.operator_gets("/admin/v1/placement?kind=room").await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn operators_show_their_token_where_there_is_one() {
    let world = World::with(&[("admin.token", "a-secret-of-ours")]);
    let get = |path: &str| world.operator_request(Method::GET, path);
    Answer::of("no token", get("/admin/v1/nodes")).await.is_refused(401, "unauthenticated");
    Answer::of("another", get("/admin/v1/nodes").bearer_auth("a-secret"))
        .await
        .is_refused(401, "unauthenticated");
    Answer::of("the token", get("/admin/v1/nodes").bearer_auth("a-secret-of-ours")).await.is(200);
    // A user's token opens nothing here, and nothing of this is on the users' port.
    let ada = world.person("ada").await;
    Answer::of("a user", get("/admin/v1/nodes").bearer_auth(&ada.token))
        .await
        .is_refused(401, "unauthenticated");
    let request = world.request(Method::GET, "/admin/v1/nodes").bearer_auth("a-secret-of-ours");
    Answer::of("the users' port", request).await.is_refused(404, "not_found");
    // Those who watch a node's health have no token.
    Answer::of("/healthz", get("/healthz")).await.is(200);
}

#[tokio::test]
async fn unknown_operator_paths_are_refused_in_the_protocols_form() {
    let world = World::shared();
    world.operator_gets("/admin/v1/nothing").await.is_refused(404, "not_found");
    world.operator_gets("/nothing").await.is_refused(404, "not_found");
    let answer = Answer::of("POST", world.operator_request(Method::POST, "/admin/v1/nodes")).await;
    assert!(matches!(answer.status, 404 | 405), "{answer:?}");
}
