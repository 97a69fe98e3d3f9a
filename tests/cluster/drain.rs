//! A node told to stop hands over under traffic: its clients are sent elsewhere, nobody is refused, nothing is lost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::people::{self, People};
use crate::world::{Cluster, seed, within};

const USERS: usize = 15;
const STEPS: usize = 40;
const NODES: usize = 3;
/// The default `node.grace_period`.
const GRACE_PERIOD: Duration = Duration::from_secs(20);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_told_to_stop_hands_over_under_traffic() {
    within(TEST_TIMEOUT, "traffic, SIGTERM, verdict", hand_over()).await;
}

#[expect(clippy::print_stderr, reason = "a test shows how much it has judged")]
async fn hand_over() {
    let seed = seed();
    let mut cluster = Cluster::on_sqlite(NODES).await;
    let rest = cluster.rest();
    let mut people = People::new(&cluster, seed, USERS).await;
    for at in 0..4 {
        let members: Vec<usize> = (0..5).map(|step| (at + step * 3) % USERS).collect();
        people.group(&rest, &members).await;
    }
    let devices = people.devices(0..USERS, NODES).await;
    let mut traffic = people.traffic(&devices, STEPS, 75);
    traffic.reached(25).await;

    // The first node is the seed of the others; they don't need it any more.
    let told = Instant::now();
    let status = cluster.terminate(0).await.expect("the node ends within the grace");
    let took = told.elapsed();
    assert!(status.success(), "a drained node exits 0, and this one ended with {status}");
    assert!(took < GRACE_PERIOD, "draining took {took:?}");
    let on_it = (0..USERS).filter(|at| at % NODES == 0).count();
    let go_aways = people.troubles.go_aways.load(Ordering::Relaxed);
    let named = people.troubles.named_nodes.load(Ordering::Relaxed);
    assert_eq!((go_aways, named), (on_it, on_it), "each of its clients was told where to go");

    cluster.see_each_other(&[1, 2]).await;
    traffic.finish().await;
    people.all_are_reached_live(&devices).await;
    people::stop(devices).await;
    let summary = people.judge(&[1, 2]).await;
    eprintln!("{summary:?}; drained in {took:?}; {}", people.describe_troubles());
    assert_eq!(summary.acked, USERS * STEPS + people.groups.len());
    let refused = people.troubles.refused.load(Ordering::Relaxed);
    let unanswered = people.troubles.unanswered.load(Ordering::Relaxed);
    assert_eq!((refused, unanswered), (0, 0), "a planned drain refuses no send and leaves none unanswered");
    cluster.end().await;
}
