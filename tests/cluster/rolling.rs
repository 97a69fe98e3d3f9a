//! Planned ends: all nodes restarted one by one under traffic, and clients that stay on a node that goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery::client::connection::Incoming;
use rookery::client::{Connection, Transport};
use rookery::protocol::v1::{self, client_frame::Request, message_kind, server_frame::Body};

use crate::checker::Target;
use crate::device::{send_to, sign_in};
use crate::mariadb_server::MariaDb;
use crate::people::{self, People, Person, TRANSPORTS};
use crate::process::Rookery;
use crate::world::{Cluster, folder, seed, within};

const USERS: usize = 12;
const STEPS: usize = 60;
const NODES: usize = 3;
/// Sends that a client which stays has under way at most.
const UNDER_WAY: usize = 16;
/// Messages of one page of history.
const PAGE: u32 = 200;
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_refuses_no_send_and_loses_nothing() {
    within(TEST_TIMEOUT, "a rolling restart under traffic", rolling_restart()).await;
}

#[expect(clippy::print_stderr, reason = "a test shows how much it has judged")]
async fn rolling_restart() {
    let seed = seed();
    let mut cluster = Cluster::on(NODES, MariaDb::shared().await.database().await).await;
    let rest = cluster.rest();
    let mut people = People::new(&cluster, seed, USERS).await;
    for at in 0..4 {
        let members: Vec<usize> = (0..5).map(|step| (at + step * 2) % USERS).collect();
        people.group(&rest, &members).await;
    }
    let devices = people.devices(0..USERS, NODES).await;
    let mut traffic = people.traffic(&devices, STEPS, 25);
    for at in 0..NODES {
        traffic.allow(25 + at * 25);
        traffic.reached(10 + at * 25).await;
        let status = if at == 0 {
            // The first by an operator's word to another node, which waits until it has gone.
            let name = cluster.node(at).name().to_owned();
            let other = cluster.node(1).addresses().admin.clone();
            let folder = folder();
            let order = ["admin", "drain", &name, "--admin", &other];
            let (done, said) = Rookery::run(folder.path(), &order, &[]).await;
            assert!(done.success() && said.contains("has gone after"), "{done}: {said}");
            cluster.node(at).exited().await
        } else {
            cluster.terminate(at).await.expect("the node ends within the grace")
        };
        assert!(status.success(), "a drained node exits 0, and this one ended with {status}");
        cluster.start_again(at).await.expect("the node starts again");
        cluster.see_each_other(&(0..NODES).collect::<Vec<_>>()).await;
    }
    traffic.finish().await;
    people.all_are_reached_live(&devices).await;
    people::stop(devices).await;
    let summary = people.judge(&[0, 1, 2]).await;
    eprintln!("{summary:?}; {}", people.describe_troubles());
    assert_eq!(summary.acked, USERS * STEPS + people.groups.len());
    let refused = people.troubles.refused.load(Ordering::Relaxed);
    let unanswered = people.troubles.unanswered.load(Ordering::Relaxed);
    assert_eq!((refused, unanswered), (0, 0), "{}", people.describe_troubles());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_took_before_it_went_it_has_answered() {
    within(TEST_TIMEOUT, "clients stay on a node that goes", async {
        let mut cluster = Cluster::on_sqlite(2).await;
        let rest = cluster.rest();
        let mut people = People::new(&cluster, seed(), TRANSPORTS.len() + 1).await;
        let reader = TRANSPORTS.len();
        let mut staying = Vec::new();
        for (at, transport) in TRANSPORTS.into_iter().enumerate() {
            let room = people.group(&rest, &[at, reader]).await;
            let endpoint = people.endpoints.get(0, transport);
            let person = people.all[at].clone();
            staying.push((room, tokio::spawn(stay(endpoint, transport, person, room))));
        }
        let status = cluster.terminate(0).await.expect("the node ends within the grace");
        assert!(status.success(), "a drained node exits 0, and this one ended with {status}");
        let endpoint = people.endpoints.get(1, Transport::WebSocketJson);
        let token = &people.all[reader].token;
        let (connection, events, _) =
            sign_in(&endpoint, Transport::WebSocketJson, token).await.expect("the other node signs us in");
        drop(events);
        for (room, client) in staying {
            let answered = client.await.expect("the client ends with its connection");
            let stored = client_ids(&connection, room).await;
            assert!(!answered.is_empty(), "it was served before the node went");
            let silent: Vec<&String> = stored.difference(&answered).collect();
            assert!(silent.is_empty(), "stored in {room} and never answered: {silent:?}");
        }
        connection.close().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_drains_a_node_from_the_command_line() {
    within(TEST_TIMEOUT, "rookery admin", async {
        let cluster = Cluster::on_sqlite(2).await;
        let admin = [0, 1].map(|at| cluster.node(at).addresses().admin.clone());
        let folder = folder();
        let run = async |arguments: &[&str]| {
            let arguments: Vec<&str> = ["admin"].iter().chain(arguments).copied().collect();
            let (status, said) = Rookery::run(folder.path(), &arguments, &[]).await;
            (status.success(), said)
        };
        let (done, said) = run(&["drain", "n9", "--admin", &admin[0]]).await;
        assert!(!done && said.contains("no node is called n9"), "{said}");
        // A node that is asked to drain itself takes its admin endpoint along.
        let (done, said) = run(&["drain", "n2", "--admin", &admin[1]]).await;
        assert!(done && said.contains("n2 has gone after"), "{said}");
        assert!(cluster.node(1).exited().await.success());
        let (done, said) = run(&["nodes", "--admin", &admin[0]]).await;
        assert!(done && said.lines().any(|line| line.starts_with("n2") && line.contains("down")), "{said}");
        let (done, said) = run(&["drain", "n2", "--admin", &admin[0]]).await;
        assert!(!done && said.contains("n2 is down already"), "{said}");
        let (done, said) = run(&["nodes", "--admin", &admin[1]]).await;
        assert!(!done && said.contains("no admin endpoint answers at"), "{said}");
        cluster.end().await;
    })
    .await;
}

/// Sends without pause, deaf to `go_away`, until the node closes; the client ids that were acknowledged.
async fn stay(endpoint: String, transport: Transport, person: Person, room: u64) -> BTreeSet<String> {
    let signed_in = sign_in(&endpoint, transport, &person.token).await;
    let (connection, mut events, _) = signed_in.expect("the node signs us in");
    let mut under_way: BTreeMap<u64, String> = BTreeMap::new();
    let mut answered = BTreeSet::new();
    for tag in 1.. {
        while under_way.len() >= UNDER_WAY || connection.room() == 0 {
            let Some(incoming) = events.next_incoming().await else { return answered };
            note(incoming, &mut under_way, &mut answered);
        }
        let client_id = format!("{}-{tag}", person.username);
        let send = send_to(Target::Conversation(room), &client_id, &client_id);
        under_way.insert(tag, client_id);
        if connection.post_tagged(tag, Request::Send(send)).await.is_err() {
            break;
        }
    }
    while let Some(incoming) = events.next_incoming().await {
        note(incoming, &mut under_way, &mut answered);
    }
    answered
}

fn note(incoming: Incoming, under_way: &mut BTreeMap<u64, String>, answered: &mut BTreeSet<String>) {
    if let Incoming::Answer { tag, result } = incoming {
        let client_id = under_way.remove(&tag).expect("each request is answered once");
        if matches!(result, Ok(Body::Sent(_))) {
            answered.insert(client_id);
        }
    }
}

/// The client ids, which are the texts, of all that was sent to a room, as a member sees it in its history.
async fn client_ids(connection: &Connection, room: u64) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut before_seq = 0;
    loop {
        let request = v1::HistoryRequest {
            conversation_id: room,
            before_seq,
            limit: PAGE,
            ..v1::HistoryRequest::default()
        };
        let page = connection.history(request).await.expect("history answers a member");
        let texts = page.messages.iter().filter(|message| message.kind() == message_kind::Kind::Text);
        found.extend(texts.map(|message| message.text.clone()));
        match page.messages.iter().map(|message| message.seq).min() {
            Some(first) if first > 1 => before_seq = first,
            _ => return found,
        }
    }
}
