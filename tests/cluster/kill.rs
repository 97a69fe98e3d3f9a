//! A node dies by kill -9 and another joins, under traffic of sixty users over all transports: no acknowledged message
//! is lost, doubled or moved, and everybody ends with the same logs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rookery::client::Transport;

use crate::device::{Device, sync_from_zero};
use crate::line::LineClient;
use crate::mariadb_server::MariaDb;
use crate::people::{self, PASSWORD, People};
use crate::world::{Cluster, seed, within};

/// Users with devices; one more is offline all the time.
const USERS: usize = 60;
/// Sends of each, apart from repeats.
const STEPS: usize = 40;
/// How long the whole may take on a slow machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_on_mariadb_when_a_node_is_killed_and_another_joins() {
    let cluster = Cluster::on(3, MariaDb::shared().await.database().await).await;
    within(TEST_TIMEOUT, "traffic, a kill, a newcomer, verdict", a_node_is_killed_and_another_joins(cluster))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_on_sqlite_when_a_node_is_killed_and_another_joins() {
    let cluster = Cluster::on_sqlite(3).await;
    within(TEST_TIMEOUT, "traffic, a kill, a newcomer, verdict", a_node_is_killed_and_another_joins(cluster))
        .await;
}

#[expect(clippy::print_stderr, reason = "a test shows how much it has judged")]
async fn a_node_is_killed_and_another_joins(mut cluster: Cluster) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let rest = cluster.rest();
    let mut people = People::new(&cluster, seed, USERS + 1).await;
    let offline = USERS;
    // Groups of 3, 10 and 30 whose members are on all nodes; the one who is offline is in one of each size.
    for at in 0..8 {
        let mut members: Vec<usize> = (0..3).map(|step| (at * 7 + step * 20) % USERS).collect();
        members.extend((at == 0).then_some(offline));
        people.group(&rest, &members).await;
    }
    for at in 0..4 {
        let mut members: Vec<usize> = (0..10).map(|step| (at * 15 + step * 4) % USERS).collect();
        members.extend((at == 0).then_some(offline));
        people.group(&rest, &members).await;
    }
    for at in 0..2 {
        let mut members: Vec<usize> = (0..30).map(|step| at + step * 2).collect();
        members.extend((at == 0).then_some(offline));
        people.group(&rest, &members).await;
    }
    let devices = people.devices(0..USERS, 3).await;
    // Second devices of some users, which only listen, at another node.
    let mut listeners = Vec::new();
    for at in (0..USERS).step_by(10) {
        let mut spec = people.spec(at, Transport::Tcp, at + 1);
        spec.token = people.all[at].another_token(&rest).await;
        listeners.push(Device::start(spec).await);
    }

    let mut traffic = people.traffic(&devices, STEPS, 75);
    traffic.reached(25).await;
    let victim = random.random_range(0..3);
    let acked = people.checker.acked_so_far();
    cluster.kill9(victim).await.expect("the node can be killed");
    let newcomer = cluster.add().await.expect("a fourth node joins");
    people.endpoints.add(cluster.node(newcomer).addresses());
    let survivors: Vec<usize> = (0..4).filter(|at| *at != victim).collect();
    cluster.see_each_other(&survivors).await;
    let joined = people.checker.acked_so_far();
    traffic.finish().await;
    people.all_are_reached_live(&devices).await;
    for listener in listeners {
        listener.stop().await;
    }
    people::stop(devices).await;
    let summary = people.judge(&survivors).await;
    eprintln!(
        "{summary:?}; killed at {acked} acks, the fourth had joined at {joined}; {}",
        people.describe_troubles()
    );
    assert_eq!(
        summary.acked,
        USERS * STEPS + people.groups.len(),
        "every send is acknowledged in the end, and none twice as new"
    );

    // The one who was away gets all of it by PULL on a line connection too, once.
    let person = &people.all[offline];
    let endpoint = people.endpoints.get(newcomer, Transport::Tcp);
    let synced = sync_from_zero(&endpoint, Transport::Tcp, &person.token, &people.checker).await;
    assert!(synced.expect("the offline user can sync") > 0);
    let expected = people.checker.texts_from_others(person.user_id);
    let mut line = LineClient::connect(&cluster.node(newcomer).addresses().line).await;
    line.login(&person.username, PASSWORD).await;
    let pulled = line.pull().await;
    let given: Vec<(u64, u64)> =
        pulled.iter().map(|message| (message.conversation_id, message.seq)).collect();
    assert_eq!(pulled.len(), expected.len(), "PULL gives as many messages as sync (seed {seed})");
    for message in &pulled {
        let text = expected.get(&(message.conversation_id, message.seq));
        assert_eq!(text, Some(&message.text), "{message:?} (seed {seed})");
    }
    for (before, after) in given.iter().zip(given.iter().skip(1)) {
        assert!(before.0 != after.0 || before.1 < after.1, "PULL keeps the order: {before:?}, {after:?}");
    }
    assert_eq!(line.pull().await, [], "a second PULL gives nothing");
    line.quit().await;
    // Nor at another node, later.
    let mut line = LineClient::connect(&cluster.node(survivors[0]).addresses().line).await;
    line.login(&person.username, PASSWORD).await;
    assert_eq!(line.pull().await, [], "nor does another node give it again");
    assert_eq!(cluster.shutdown().await, Vec::<String>::new());
}
