//! What operators see of a cluster: nodes, actors and placement, the same from each node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery::client::Transport;
use serde_json::Value;

use crate::device::sign_in;
use crate::people::People;
use crate::world::{Cluster, eventually, seed, within};

const NODES: usize = 3;
const USERS: usize = 6;
const GROUPS: usize = 12;
/// The default `presence.shards`.
const SHARDS: usize = 256;
/// How long the lists may take to show what has happened.
const SHOWN: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text '{key}' in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number '{key}' in {value}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_nodes_actors_and_placement_from_every_node() {
    within(TEST_TIMEOUT, "the operators' pages", look_around()).await;
}

async fn look_around() {
    let mut cluster = Cluster::on_sqlite(NODES).await;
    let names: Vec<String> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    let mut people = People::new(&cluster, seed(), USERS).await;
    let rest = cluster.rest();
    let mut rooms = Vec::new();
    for _ in 0..GROUPS {
        rooms.push(people.group(&rest, &[0, 1, 2]).await);
    }
    // A session on each node by each transport, and each room is active: it has been sent to.
    let mut connections = Vec::new();
    for at in 0..USERS {
        let endpoint = people.endpoints.get(at, Transport::WebSocketJson);
        let signed_in = sign_in(&endpoint, Transport::WebSocketJson, &people.all[at].token).await;
        connections.push(signed_in.expect("the node signs us in"));
    }
    for room in &rooms {
        let send = crate::device::send_to(crate::checker::Target::Conversation(*room), "one", "one");
        connections[0].0.send(send).await.expect("the room takes it");
    }

    the_nodes_are_listed(&cluster, &names).await;
    let sessions: BTreeMap<u64, String> =
        connections.iter().map(|(_, _, welcome)| (welcome.session_id, welcome.node.clone())).collect();
    assert_eq!(sessions.values().collect::<BTreeSet<_>>().len(), NODES, "the sessions are on all nodes");
    for asked in 0..NODES {
        the_actors_are_merged(&cluster, asked, &sessions, &rooms).await;
    }
    each_actor_tells_of_itself(&cluster, &sessions, &people, &rooms).await;
    wrong_questions_are_answered_with_what_is_wrong(&cluster).await;
    the_next_owner_is_the_one_foretold(&mut cluster, &rooms).await;
    cluster.end().await;
}

async fn the_nodes_are_listed(cluster: &Cluster, names: &[String]) {
    for asked in 0..NODES {
        let nodes = cluster.admin(asked).get("/nodes").await.expect("the nodes are listed");
        let items = nodes["items"].as_array().expect("a list has items");
        assert_eq!(items.iter().map(|node| text(node, "name")).collect::<Vec<_>>(), names);
        for (at, node) in items.iter().enumerate() {
            assert_eq!(text(node, "state"), "up");
            assert_eq!(text(node, "address"), cluster.node(at).addresses().cluster);
            assert!(number(node, "incarnation") > 0 && number(node, "since_ms") > 0);
            assert_eq!(text(node, "version"), env!("CARGO_PKG_VERSION"));
            let one = cluster.admin(asked).get(&format!("/nodes/{}", names[at])).await;
            assert_eq!(text(&one.expect("a node is shown"), "name"), names[at]);
        }
        // Its load travels with the heartbeats.
        eventually(SHOWN, "the link's round trip is known", || async {
            let nodes = cluster.admin(asked).get("/nodes").await.ok()?;
            let others = nodes["items"].as_array()?.iter().enumerate().filter(|(at, _)| *at != asked);
            others.map(|(_, node)| node["link"]["rtt_us"].as_u64()).collect::<Option<Vec<_>>>()
        })
        .await;
    }
}

async fn the_actors_are_merged(
    cluster: &Cluster,
    asked: usize,
    sessions: &BTreeMap<u64, String>,
    rooms: &[u64],
) {
    let admin = cluster.admin(asked);
    let shown = |actors: &[Value]| -> Vec<(u64, String)> {
        actors.iter().map(|actor| (number(actor, "key"), text(actor, "node").to_owned())).collect()
    };
    let expected: Vec<(u64, String)> = sessions.iter().map(|(key, node)| (*key, node.clone())).collect();
    eventually(SHOWN, "all sessions are listed", || async {
        (shown(&admin.actors("session").await) == expected).then_some(())
    })
    .await;

    let found = admin.actors("room").await;
    let keys: BTreeSet<u64> = found.iter().map(|actor| number(actor, "key")).collect();
    assert!(rooms.iter().all(|room| keys.contains(room)), "{rooms:?} are all in {keys:?}");
    let nodes: BTreeSet<&str> = found.iter().map(|actor| text(actor, "node")).collect();
    assert_eq!(nodes.len(), NODES, "the rooms are on all nodes");
    for actor in found.iter().filter(|actor| rooms.contains(&number(actor, "key"))) {
        assert!(number(actor, "messages_handled") > 0, "{actor}");
        let owner = cluster.owner_of_room(asked, number(actor, "key")).await;
        assert_eq!(text(actor, "node"), cluster.node(owner).name(), "a room is where its placement says");
    }

    let shards = admin.actors("presence").await;
    let keys: BTreeSet<u64> = shards.iter().map(|actor| number(actor, "key")).collect();
    assert!(!keys.is_empty() && keys.len() == shards.len() && keys.iter().all(|key| *key < SHARDS as u64));

    // Filters: one node, one key.
    let name = cluster.node(2).name();
    let own = admin.get(&format!("/actors?kind=session&node={name}")).await.expect("actors are listed");
    let items = own["items"].as_array().expect("a list has items");
    assert!(!items.is_empty() && items.iter().all(|actor| text(actor, "node") == name));
    let one = admin.get(&format!("/actors?kind=room&key={}", rooms[0])).await.expect("actors are listed");
    assert_eq!(shown(one["items"].as_array().expect("a list has items")).len(), 1);
}

async fn each_actor_tells_of_itself(
    cluster: &Cluster,
    sessions: &BTreeMap<u64, String>,
    people: &People,
    rooms: &[u64],
) {
    for asked in 0..NODES {
        let admin = cluster.admin(asked);
        let room = admin.get(&format!("/actors/room/{}", rooms[0])).await.expect("a room tells of itself");
        // The message of its creation, and the one sent.
        assert_eq!((number(&room, "seq"), number(&room, "members")), (2, 3));
        for (session_id, node) in sessions {
            let session = admin.get(&format!("/actors/session/{session_id}")).await;
            let session = session.expect("a session tells of itself, wherever it is");
            assert_eq!(text(&session, "node"), node);
            let user_id = number(&session, "user_id");
            assert!(people.all.iter().any(|person| person.user_id == user_id), "{session}");
            assert_eq!(text(&session, "transport"), "websocket");
        }
    }
    // Every user's session is in one shard, and no shard has any other.
    let mut found = 0;
    let admin = cluster.admin(0);
    for actor in admin.actors("presence").await {
        let shard = admin.get(&format!("/actors/presence/{}", number(&actor, "key"))).await;
        found += number(&shard.expect("a shard tells of itself"), "sessions");
    }
    assert_eq!(found, USERS as u64, "the presence shards together hold each session once");
}

async fn wrong_questions_are_answered_with_what_is_wrong(cluster: &Cluster) {
    let admin = cluster.admin(0);
    for (path, words) in [
        ("/actors?kind=castle", ["400", "castle"]),
        ("/actors/room/seven", ["400", "whole numbers"]),
        ("/placement?kind=room", ["400", "key"]),
        ("/placement?kind=session&key=1", ["400", "/actors"]),
        ("/nodes/nobody", ["404", "nobody"]),
        ("/actors/session/4503599627370496", ["404", "session"]),
        ("/nothing", ["404", "/admin/v1"]),
    ] {
        let error = admin.get(path).await.expect_err("the question is wrong");
        assert!(words.iter().all(|word| error.contains(word)), "{path}: {error}");
    }
}

async fn the_next_owner_is_the_one_foretold(cluster: &mut Cluster, rooms: &[u64]) {
    // What all nodes say now, of a room on a node other than the one that is asked afterwards.
    let lost = 2;
    let mut foretold: BTreeMap<u64, String> = BTreeMap::new();
    for room in rooms {
        let mut answers = Vec::new();
        for asked in 0..NODES {
            let path = format!("/placement?kind=room&key={room}");
            let answer = cluster.admin(asked).get(&path).await.expect("placement answers");
            let pair = (text(&answer, "owner").to_owned(), text(&answer, "owner_if_lost").to_owned());
            let views = answer["views"].as_array().expect("every node's view is shown");
            assert_eq!(views.len(), NODES);
            for view in views {
                let seen = (text(view, "owner").to_owned(), text(view, "owner_if_lost").to_owned());
                assert_eq!(seen, pair, "{answer}");
            }
            answers.push(pair);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let (owner, next) = answers.swap_remove(0);
        assert_ne!(owner, next);
        foretold.insert(*room, if owner == cluster.node(lost).name() { next } else { owner });
    }
    cluster.kill9(lost).await.expect("the node can be killed");
    cluster.see_each_other(&[0, 1]).await;
    for (room, expected) in foretold {
        for asked in [0, 1] {
            let owner = cluster.owner_of_room(asked, room).await;
            assert_eq!(cluster.node(owner).name(), expected, "room {room} as node {asked} sees it");
        }
    }
    let states = cluster.admin(0).states().await.expect("the nodes are listed");
    assert_eq!(states.get(cluster.node(lost).name()).map(String::as_str), Some("down"));
}
