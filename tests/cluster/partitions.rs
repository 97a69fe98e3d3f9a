//! What each side of a cut network does: those that reach the database serve, those that don't refuse; after it heals
//! everybody has everything, with no restart and no operator.
//!
//! The nodes stand behind proxies that can hold back what passes between two of them, in each direction by itself, and
//! between each of them and the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rookery::cli::load::chaos::net::{Net as _, Place, Proxies, Way};
use rookery::client::{ClientError, Connection, Transport};
use rookery::protocol::ErrorCode;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::checker::Target;
use crate::device::{Device, send_to, sign_in};
use crate::mariadb_server::MariaDb;
use crate::people::{self, People};
use crate::world::{Cluster, VIEW_TIMEOUT, eventually, folder, seed, within};

const NODES: usize = 3;
const USERS: usize = 12;
/// Rooms of all users, of which each node must own one at least.
const ROOMS_MAX: usize = 30;
/// How long a send may take to be acknowledged again on a side that serves: `cluster.down_after`, and slack for a slow
/// machine.
const SERVES_AGAIN: Duration = Duration::from_secs(20);
/// How long a refusal may take: `cluster.ask_timeout` and `writer.settle_timeout`, and slack.
const REFUSED_WITHIN: Duration = Duration::from_secs(14);
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

/// Nodes behind proxies, users on all of them, and a connection of each of three users to the node of the same place.
struct World {
    // Dropped in this order: the nodes before what they stand behind.
    cluster: Cluster,
    net: Proxies,
    people: People,
    devices: Vec<Arc<Device>>,
    /// By node.
    connections: Vec<Connection>,
    /// A room that each node owns, by node.
    rooms: Vec<u64>,
    pids: Vec<Option<u32>>,
    number: usize,
}

impl World {
    async fn on_sqlite() -> Self {
        let folder = folder();
        let url = format!("sqlite://{}", folder.path().join("rookery.db").display());
        Self::new(url, Some(folder)).await
    }

    async fn on_mariadb() -> Self {
        Self::new(MariaDb::shared().await.database().await, None).await
    }

    async fn new(url: String, folder: Option<TempDir>) -> Self {
        let mut net = Proxies::start(NODES).await.expect("loopback takes listeners");
        let server = url.strip_prefix("mysql://root@").and_then(|rest| rest.split('/').next());
        if let Some(server) = server {
            net.attach_database(server).await.expect("loopback takes listeners");
        }
        let mut options = Cluster::options(url.clone());
        options.settings = (0..NODES)
            .map(|at| {
                let (mut setting, database) = net.setting(at);
                if let (Some(server), Some(own)) = (server, database) {
                    setting.database_url = Some(url.replacen(server, &own, 1));
                }
                setting
            })
            .collect();
        let cluster = Cluster::with(NODES, options, folder).await;
        let rest = cluster.rest();
        let mut people = People::new(&cluster, seed(), USERS).await;
        let everybody: Vec<usize> = (0..USERS).collect();
        let mut rooms: BTreeMap<usize, u64> = BTreeMap::new();
        for _ in 0..ROOMS_MAX {
            if rooms.len() == NODES {
                break;
            }
            let room = people.group(&rest, &everybody).await;
            rooms.entry(cluster.owner_of_room(0, room).await).or_insert(room);
        }
        assert_eq!(rooms.len(), NODES, "of {ROOMS_MAX} rooms each node owns some");
        let mut connections = Vec::new();
        for at in 0..NODES {
            let endpoint = people.endpoints.get(at, Transport::WebSocketJson);
            let token = people.all[at].another_token(&rest).await;
            let signed_in = sign_in(&endpoint, Transport::WebSocketJson, &token).await;
            // The events are dropped: what comes live is the devices' to take.
            connections.push(signed_in.expect("the node signs us in").0);
        }
        let devices = people.devices(0..USERS, NODES).await;
        let pids = cluster.nodes().iter().map(|node| node.pid()).collect();
        let rooms = rooms.into_values().collect();
        Self { cluster, net, people, devices, connections, rooms, pids, number: 0 }
    }

    async fn cut(&mut self, a: Place, b: Place, way: Way) {
        self.net.cut(a, b, way).await.expect("proxies can always be cut");
    }

    /// One try of a new message by the user at node `from` to the room that node `owner` owned at first.
    async fn try_once(&mut self, from: usize, owner: usize) -> (String, Result<(), ClientError>) {
        self.number += 1;
        let what = format!("cut-{}", self.number);
        let tried = self.send(from, owner, &what).await;
        (what, tried)
    }

    async fn send(&self, from: usize, owner: usize, what: &str) -> Result<(), ClientError> {
        let (target, sender) = (Target::Conversation(self.rooms[owner]), self.people.all[from].user_id);
        self.people.checker.attempt(sender, target, what, what);
        let sent = self.connections[from].send(send_to(target, what, what)).await?;
        self.people.checker.acked(None, sender, target, &sent);
        Ok(())
    }

    /// Repeats a message until it is acknowledged.
    async fn until_acked(&self, from: usize, owner: usize, what: &str, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            match self.send(from, owner, what).await {
                Ok(()) => return,
                Err(error) if error.may_repeat() && Instant::now() < deadline => {
                    let pause = Duration::from_millis(error.retry_after_ms().clamp(20, 500));
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    panic!(
                        "'{what}' from n{} to a room of n{} is not acknowledged: {error}",
                        from + 1,
                        owner + 1
                    )
                }
            }
        }
    }

    /// From each of these nodes to a room of each node, a message is acknowledged in time.
    async fn all_serve(&mut self, from: &[usize], limit: Duration) {
        self.number += 1;
        let name = format!("serve-{}", self.number);
        let world = &*self;
        let pairs = from.iter().flat_map(|from| (0..NODES).map(move |owner| (*from, owner)));
        let each = pairs.map(|(from, owner)| {
            let what = format!("{name}-{from}-{owner}");
            async move { world.until_acked(from, owner, &what, limit).await }
        });
        futures_util::future::join_all(each).await;
    }

    /// The net heals: everybody is reached live again and has everything, by the same processes.
    async fn heals(mut self) {
        self.net.heal().await.expect("proxies can always be healed");
        let all: Vec<usize> = (0..NODES).collect();
        self.cluster.see_each_other(&all).await;
        self.all_serve(&all, SERVES_AGAIN).await;
        self.people.all_are_reached_live(&self.devices).await;
        let pids: Vec<Option<u32>> = self.cluster.nodes().iter().map(|node| node.pid()).collect();
        assert_eq!(pids, self.pids, "no node was restarted");
        for connection in &self.connections {
            connection.close().await;
        }
        people::stop(self.devices).await;
        self.people.judge(&all).await;
        self.cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_partition_serve_and_become_whole_again() {
    within(TEST_TIMEOUT, "a partition", async {
        let mut world = World::on_sqlite().await;
        for other in [1, 2] {
            world.cut(Place::Node(0), Place::Node(other), Way::Both).await;
        }
        // All rooms from both sides: each side takes over those that the other owned, and the unique keys arbitrate.
        world.all_serve(&[0, 1, 2], SERVES_AGAIN).await;
        world.cluster.see_each_other(&[0]).await;
        world.cluster.see_each_other(&[1, 2]).await;
        world.all_serve(&[0, 1, 2], SERVES_AGAIN).await;
        world.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_by_a_node_that_cannot_reach_another_goes_there_straight_as_well() {
    within(TEST_TIMEOUT, "a cut between two of three nodes", async {
        let mut world = World::on_sqlite().await;
        world.cut(Place::Node(0), Place::Node(1), Way::Both).await;
        for (at, other) in [(0, 1), (1, 0)] {
            let (admin, name) = (world.cluster.admin(at), world.cluster.node(other).name().to_owned());
            eventually(VIEW_TIMEOUT, "the node beyond the cut is down", || async {
                let states = admin.states().await.ok()?;
                (states.get(&name).map(String::as_str) == Some("down")).then_some(())
            })
            .await;
        }
        // Users' shards are spread over all nodes, so some of those at one end of the cut are at the other.
        let room = Target::Conversation(world.rooms[2]);
        let sent = world.devices[2].send(room, "by the third", "by the third").await;
        world.people.reaches_all_live(&world.devices, world.rooms[2], sent.seq).await;
        world.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_heard_and_one_that_hears_nothing_are_cut_off_by_both_sides() {
    within(TEST_TIMEOUT, "drops in one direction", async {
        let mut world = World::on_sqlite().await;
        for node_speaks in [true, false] {
            for other in [1, 2] {
                let (node, other) = (Place::Node(0), Place::Node(other));
                let (from, to) = if node_speaks { (other, node) } else { (node, other) };
                world.cut(from, to, Way::There).await;
            }
            world.all_serve(&[0, 1, 2], SERVES_AGAIN).await;
            world.cluster.see_each_other(&[0]).await;
            world.cluster.see_each_other(&[1, 2]).await;
            world.all_serve(&[0, 1, 2], SERVES_AGAIN).await;
            world.net.heal().await.expect("proxies can always be healed");
            world.cluster.see_each_other(&[0, 1, 2]).await;
        }
        world.heals().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_reach_the_database_refuses_in_time_and_the_others_serve() {
    within(TEST_TIMEOUT, "a node without its database", async {
        let mut world = World::on_mariadb().await;
        for away in [vec![0], vec![1, 2]] {
            for at in &away {
                world.cut(Place::Node(*at), Place::Database, Way::Both).await;
            }
            for at in &away {
                let (what, refused) = refused_in_time(&mut world, *at).await;
                assert_eq!(refused.code(), ErrorCode::Unavailable, "{what}: {refused}");
                assert!(refused.retry_after_ms() > 0, "{what}: when to try again is told: {refused}");
            }
            // The rooms of nodes that reach it, from there.
            let serving: Vec<usize> = (0..NODES).filter(|at| !away.contains(at)).collect();
            for at in &serving {
                let what = format!("still-served-{at}-{}", away.len());
                world.until_acked(*at, *at, &what, SERVES_AGAIN).await;
            }
            world.net.heal().await.expect("proxies can always be healed");
            // What was refused, or not acknowledged, is the client's to repeat.
            world.all_serve(&[0, 1, 2], SERVES_AGAIN).await;
        }
        world.heals().await;
    })
    .await;
}

/// A send through a node to a room of its own, which must come to a refusal and not to an ack.
async fn refused_in_time(world: &mut World, at: usize) -> (String, ClientError) {
    let began = Instant::now();
    let (what, tried) = world.try_once(at, at).await;
    let took = began.elapsed();
    let refused = match tried {
        Ok(()) => panic!("'{what}' was acknowledged by n{}, which does not reach the database", at + 1),
        Err(error) => error,
    };
    assert!(took < REFUSED_WITHIN, "the refusal took {took:?}: {refused}");
    (what, refused)
}
