//! A node that stands still amid its work with the database, and what becomes of the others' sends.
//!
//! On MariaDB they go on: the server takes the locks from a transaction that stands still (`tests/contract/locks.rs`
//! shows that alone), and its rooms move. SQLite's one lock stays with its process, so that others are refused until it
//! goes on or is killed: in bounded time, and with nothing lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery::client::{Connection, Transport};
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::Instant;

use crate::checker::Target;
use crate::device::{Device, send_to, sign_in};
use crate::mariadb_server::MariaDb;
use crate::people::{self, People, TRANSPORTS};
use crate::world::{Cluster, folder, seed, within};

const USERS: usize = 12;
const STEPS: usize = 150;
const NODES: usize = 3;
/// The node that is stopped; nobody is connected to it.
const STOPPED: usize = 0;
/// How often, under the traffic.
const STOPS: usize = 3;
/// How long an answer to a send may take: `cluster.ask_timeout`, and slack for a slow machine.
const ANSWER: Duration = Duration::from_secs(8);
/// How long the traffic may take to go on: `cluster.down_after`, and slack.
const GOES_ON: Duration = Duration::from_secs(40);
/// How long a stop lasts that is to be felt.
const FELT: Duration = Duration::from_secs(9);
/// Stops until one is found to have come while the node held SQLite's lock.
const TRIES: usize = 60;
/// A lock that cannot be had for so long is not one of the other nodes', which hold it for milliseconds.
const HELD: Duration = Duration::from_millis(1500);
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on_while_a_node_stands_still_amid_its_work_with_mariadb() {
    within(TEST_TIMEOUT, "traffic, stops, verdict", async {
        let server = MariaDb::start().await;
        let mut scene = Scene::begin(Cluster::on(NODES, server.database().await).await).await;
        for stop in 0..STOPS {
            scene.traffic.reached(10 + stop * 25).await;
            scene.cluster.stop(STOPPED).expect("the node can be stopped");
            let stopped = Instant::now();
            // A quarter of all sends, those to rooms that it owned among them.
            within(GOES_ON, "the others go on", scene.traffic.reached(35 + stop * 25)).await;
            scene.says(&format!("stop {stop}: a quarter of all sends after {:?}", stopped.elapsed()));
            scene.cluster.cont(STOPPED).expect("the node can go on");
            scene.cluster.see_each_other(&[0, 1, 2]).await;
        }
        scene.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_with_sqlites_lock_refuses_others_in_time_until_it_goes_on() {
    within(TEST_TIMEOUT, "traffic, a stop, verdict", async {
        let (folder, scene) = on_sqlite().await;
        let stopped = stop_with_the_lock(&scene, folder.path()).await;
        tokio::time::sleep(FELT).await;
        scene.says(&format!("it stood still with the lock for {:?}", stopped.elapsed()));
        scene.cluster.cont(STOPPED).expect("the node can go on");
        scene.cluster.see_each_other(&[0, 1, 2]).await;
        scene.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_with_sqlites_lock_gives_it_up_when_it_is_killed() {
    within(TEST_TIMEOUT, "traffic, a stop, a kill, verdict", async {
        let (folder, mut scene) = on_sqlite().await;
        stop_with_the_lock(&scene, folder.path()).await;
        scene.cluster.kill9(STOPPED).await.expect("the node can be killed");
        let killed = Instant::now();
        let done = scene.traffic.so_far();
        within(GOES_ON, "the others go on", scene.traffic.goes_beyond(done)).await;
        scene.says(&format!("sends are acknowledged {:?} after the kill", killed.elapsed()));
        scene.cluster.start_again(STOPPED).await.expect("it starts again");
        scene.cluster.see_each_other(&[0, 1, 2]).await;
        scene.ends().await;
    })
    .await;
}

async fn on_sqlite() -> (tempfile::TempDir, Scene) {
    let folder = folder();
    let url = format!("sqlite://{}", folder.path().join("rookery.db").display());
    let scene = Scene::begin(Cluster::on(NODES, url).await).await;
    (folder, scene)
}

/// Stops the node while it holds the lock of the file.
async fn stop_with_the_lock(scene: &Scene, folder: &Path) -> Instant {
    let options =
        SqliteConnectOptions::new().filename(folder.join("rookery.db")).busy_timeout(Duration::ZERO);
    let mut other = options.connect().await.expect("the file is there");
    for _ in 0..TRIES {
        scene.cluster.stop(STOPPED).expect("the node can be stopped");
        let stopped = Instant::now();
        let mut is_held = true;
        while is_held && stopped.elapsed() < HELD {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if other.execute("BEGIN IMMEDIATE").await.is_ok() {
                other.execute("ROLLBACK").await.expect("it was begun");
                is_held = false;
            }
        }
        if is_held {
            other.close().await.expect("it closes");
            return stopped;
        }
        scene.cluster.cont(STOPPED).expect("the node can go on");
        // Until it writes again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the node never held the lock when it was stopped, {TRIES} times");
}

/// Traffic at the other nodes, and somebody who times every answer.
struct Scene {
    cluster: Cluster,
    people: People,
    devices: Vec<Arc<Device>>,
    traffic: people::Traffic,
    prober: tokio::task::JoinHandle<Probed>,
    over: Arc<AtomicBool>,
}

/// What the one who times has seen.
struct Probed {
    slowest: Duration,
    refused: usize,
    acked: usize,
}

impl Scene {
    async fn begin(cluster: Cluster) -> Self {
        let rest = cluster.rest();
        let mut people = People::new(&cluster, seed(), USERS).await;
        for at in 0..6 {
            let members: Vec<usize> = (0..6).map(|step| (at + step * 2) % USERS).collect();
            people.group(&rest, &members).await;
        }
        let room = people.group(&rest, &[0, 1]).await;
        let mut devices = Vec::new();
        for at in 0..USERS {
            let spec = people.spec(at, TRANSPORTS[at % TRANSPORTS.len()], 1 + at % (NODES - 1));
            devices.push(Arc::new(Device::start(spec).await));
        }
        let traffic = people.traffic(&devices, STEPS, 100);
        let endpoint = people.endpoints.get(1, Transport::Tcp);
        let token = people.all[0].another_token(&rest).await;
        let signed_in = sign_in(&endpoint, Transport::Tcp, &token).await;
        let (connection, _, _) = signed_in.expect("the node signs us in");
        let over = Arc::new(AtomicBool::new(false));
        let prober = tokio::spawn(probe(
            connection,
            Arc::clone(&people.checker),
            people.all[0].user_id,
            room,
            Arc::clone(&over),
        ));
        Self { cluster, people, devices, traffic, prober, over }
    }

    #[expect(clippy::print_stderr, reason = "the figures are for people to read")]
    fn says(&self, what: &str) {
        eprintln!("{what}");
    }

    /// Lets the traffic end, and judges.
    async fn ends(self) {
        within(GOES_ON, "the traffic ends", self.traffic.finish()).await;
        self.over.store(true, Ordering::Relaxed);
        let probed = self.prober.await.expect("no panic");
        people::stop(self.devices).await;
        let summary = self.people.judge(&[0, 1, 2]).await;
        let Probed { slowest, refused, acked } = probed;
        let troubles = self.people.describe_troubles();
        #[expect(clippy::print_stderr, reason = "a test shows how much it has judged")]
        {
            eprintln!(
                "{summary:?}; answers within {slowest:?}, {acked} of them acks, {refused} refusals; {troubles}"
            );
        }
        assert_eq!(summary.acked, USERS * STEPS + acked);
        assert!(slowest < ANSWER, "an answer took {slowest:?}");
        self.cluster.end().await;
    }
}

/// Sends one message after the other, each until it is acknowledged, and times every answer.
async fn probe(
    connection: Connection,
    checker: Arc<crate::checker::Checker>,
    user_id: u64,
    room: u64,
    over: Arc<AtomicBool>,
) -> Probed {
    let target = Target::Conversation(room);
    let mut probed = Probed { slowest: Duration::ZERO, refused: 0, acked: 0 };
    while !over.load(Ordering::Relaxed) {
        let client_id = format!("probe-{}", probed.acked);
        checker.attempt(user_id, target, &client_id, &client_id);
        loop {
            let asked = Instant::now();
            let answer = connection.send(send_to(target, &client_id, &client_id)).await;
            probed.slowest = probed.slowest.max(asked.elapsed());
            match answer {
                Ok(sent) => {
                    checker.acked(None, user_id, target, &sent);
                    probed.acked += 1;
                    break;
                }
                Err(error) if error.may_repeat() => probed.refused += 1,
                Err(error) => panic!("the send can't be repeated: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.close().await;
    probed
}
