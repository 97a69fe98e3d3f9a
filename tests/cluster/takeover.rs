//! Rooms of a dead node serve again soon: after a kill, and when its process stands still with its sockets open.

use std::time::Duration;

use rookery::client::{Connection, Rest, Transport};
use tokio::time::Instant;

use crate::checker::Target;
use crate::device::{send_to, sign_in};
use crate::people::People;
use crate::world::{Cluster, seed, within};

/// Rooms of the lost node whose return is timed.
const ROOMS: usize = 8;
/// Rooms made to find so many on one node.
const ROOMS_MADE_MAX: usize = 80;
/// How long until each of them acknowledges again; generous, for slow machines.
const SERVES_AGAIN: Duration = Duration::from_secs(10);
/// What a node may take to be believed dead while its sockets stand: `cluster.down_after`, and slack.
const FROZEN_SERVES_AGAIN: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_a_killed_node_serve_again_within_seconds() {
    within(TEST_TIMEOUT, "rooms serve again after a kill", async {
        let mut world = World::new().await;
        world.cluster.kill9(world.lost).await.expect("the node can be killed");
        world.all_rooms_acknowledge(SERVES_AGAIN, "kill -9").await;
        world.judge().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_a_frozen_node_serve_elsewhere_and_nothing_is_doubled_when_it_wakes() {
    within(TEST_TIMEOUT, "rooms serve again after a freeze", async {
        let mut world = World::new().await;
        // Sends that reach the node just before it stands still; it may store them when it wakes.
        let under_way: Vec<_> = (0..ROOMS).map(|at| world.send(at, "under way")).collect();
        world.cluster.stop(world.lost).expect("the node can be frozen");
        world.all_rooms_acknowledge(FROZEN_SERVES_AGAIN, "a freeze").await;
        world.cluster.cont(world.lost).expect("the node can go on");
        world.cluster.see_each_other(&[0, 1, 2]).await;
        for (at, sending) in under_way.into_iter().enumerate() {
            // Whatever came of it, a repeat settles it.
            let _ = sending.await.expect("the task ends");
            world.acknowledges(at, "under way", Instant::now() + SERVES_AGAIN).await;
        }
        // It owns its rooms again, and knows of what was stored without it.
        world.all_rooms_acknowledge(SERVES_AGAIN, "its return").await;
        world.judge().await;
    })
    .await;
}

struct World {
    cluster: Cluster,
    people: People,
    /// The node that is to be lost.
    lost: usize,
    /// Rooms that it owns.
    rooms: Vec<u64>,
    connection: Connection,
    round: usize,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::on_sqlite(3).await;
        let mut people = People::new(&cluster, seed(), 2).await;
        let lost = 1;
        let rest: Rest = cluster.rest();
        let mut rooms = Vec::new();
        for _ in 0..ROOMS_MADE_MAX {
            if rooms.len() == ROOMS {
                break;
            }
            let room = people.group(&rest, &[0, 1]).await;
            if cluster.owner_of_room(0, room).await == lost {
                rooms.push(room);
            }
        }
        assert_eq!(rooms.len(), ROOMS, "a node of three owns a third of the rooms");
        let endpoint = people.endpoints.get(0, Transport::WebSocketJson);
        let signed_in = sign_in(&endpoint, Transport::WebSocketJson, &people.all[0].token).await;
        let (connection, _, _) = signed_in.expect("the node signs us in");
        let mut world = Self { cluster, people, lost, rooms, connection, round: 0 };
        world.all_rooms_acknowledge(SERVES_AGAIN, "the start").await;
        world
    }

    fn send(
        &self,
        at: usize,
        what: &str,
    ) -> tokio::task::JoinHandle<Result<rookery::protocol::v1::Sent, rookery::client::ClientError>> {
        let (target, sender) = (Target::Conversation(self.rooms[at]), self.people.all[0].user_id);
        self.people.checker.attempt(sender, target, what, what);
        let (connection, send) = (self.connection.clone(), send_to(target, what, what));
        tokio::spawn(async move { connection.send(send).await })
    }

    /// Repeats a send to one room until it is acknowledged.
    async fn acknowledges(&self, at: usize, what: &str, deadline: Instant) {
        let target = Target::Conversation(self.rooms[at]);
        loop {
            match self.send(at, what).await.expect("the task ends") {
                Ok(sent) => {
                    self.people.checker.acked(None, self.people.all[0].user_id, target, &sent);
                    return;
                }
                Err(error) if error.may_repeat() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("'{what}' is not acknowledged in room {}: {error}", self.rooms[at]),
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "the figure is what the test is for")]
    async fn all_rooms_acknowledge(&mut self, limit: Duration, after: &str) {
        self.round += 1;
        let began = Instant::now();
        let what = format!("round {}", self.round);
        let world = &*self;
        let each = (0..self.rooms.len()).map(|at| {
            let what = &what;
            async move {
                world.acknowledges(at, what, began + limit).await;
                began.elapsed()
            }
        });
        let mut took = futures_util::future::join_all(each).await;
        took.sort();
        let (first, last) = (took[0], took[took.len() - 1]);
        eprintln!("{ROOMS} rooms acknowledge after {after}: the first in {first:?}, the last in {last:?}");
        assert!(last < limit, "the last room took {last:?}");
    }

    async fn judge(self) {
        self.connection.close().await;
        let alive: Vec<usize> = (0..3).filter(|at| self.cluster.node(*at).is_running()).collect();
        self.people.judge(&alive).await;
        self.cluster.end().await;
    }
}
