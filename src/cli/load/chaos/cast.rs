//! Who takes part: users with several devices each on all nodes and transports, their rooms, and the traffic between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::people::patiently;
use super::device::{Device, Endpoints, Spec, Target};
use super::ledger::Ledger;
use super::stage::Stage;
use crate::client::{Rest, Transport};

/// Good enough for users that live for an hour.
const PASSWORD: &str = "chaos-password";
/// Sign-ups and the like under way at once.
const CALLS_AT_ONCE: usize = 8;
/// Members of a group.
const GROUP: usize = 4;
/// Sends of one device that wait for an answer before another device is asked.
const WAITING_MAX: usize = 200;
/// How long devices wait for an answer before they go elsewhere: some soon, some much later, so that connections outlive a
/// fault and must be served again.
const IMPATIENT: Duration = Duration::from_millis(2500);
const PATIENT: Duration = Duration::from_secs(12);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// How large the cast is.
#[derive(Clone, Copy, Debug)]
pub struct CastOptions {
    /// Users.
    pub users: usize,
    /// Devices of each.
    pub devices: usize,
    /// Rooms, a third of them direct ones.
    pub rooms: usize,
    /// Sends a second, all together.
    pub rate: f64,
    /// For what is drawn.
    pub seed: u64,
}

#[derive(Clone, Debug)]
struct User {
    user_id: u64,
    tokens: Vec<String>,
}

#[derive(Clone, Debug)]
struct Room {
    id: u64,
    /// Places of its users.
    members: Vec<usize>,
    is_direct: bool,
}

/// Everybody. Dropping it ends all their connections.
pub struct Cast {
    /// Who judges.
    pub ledger: Arc<Ledger>,
    /// Where clients look for nodes.
    pub endpoints: Endpoints,
    /// Conversation ids, by place.
    pub room_ids: Vec<u64>,
    devices: Arc<Vec<Device>>,
    skipped: Arc<AtomicU64>,
    stop_traffic: watch::Sender<bool>,
    stop_devices: watch::Sender<bool>,
    traffic: JoinHandle<()>,
}

impl Cast {
    /// Signs everybody up, connects them, and starts the traffic.
    pub async fn start(stage: &Stage, options: CastOptions) -> anyhow::Result<Self> {
        let rest = Rest::new(stage.cluster.http_addresses());
        // Names of other runs against the same database must not be met.
        let run: u32 = rand::random();
        let users: Vec<User> = stream::iter(0..options.users)
            .map(|at| sign_up(&rest, format!("chaos-{run:08x}-{at}"), options.devices))
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await
            .context("the users can't be made")?;
        let rooms: Vec<Room> = stream::iter(plan_rooms(options))
            .map(|(members, is_direct)| make_room(&rest, &users, members, is_direct))
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await
            .context("the rooms can't be made")?;

        let devices_of = |user: usize| user * options.devices..(user + 1) * options.devices;
        let ledger_rooms = rooms.iter().map(|room| {
            (room.id, room.members.iter().flat_map(|user| devices_of(*user)).collect::<Vec<usize>>())
        });
        let device_users: Vec<u64> =
            users.iter().flat_map(|user| vec![user.user_id; options.devices]).collect();
        let ledger = Arc::new(Ledger::new(ledger_rooms.collect(), &device_users));
        let endpoints: Endpoints = Arc::default();
        endpoints.write().extend(stage.cluster.nodes().iter().map(|node| node.addresses().clone()));
        let nodes = stage.cluster.nodes().len();
        let (stop_devices, devices_stopped) = watch::channel(false);
        let mut devices = Vec::new();
        for (user_at, user) in users.iter().enumerate() {
            let own = rooms.iter().enumerate().filter(|(_, room)| room.members.contains(&user_at));
            let own: Vec<(usize, u64)> = own.map(|(at, room)| (at, room.id)).collect();
            for (number, token) in user.tokens.iter().enumerate() {
                let at = devices.len();
                let transports = [Transport::WebSocketJson, Transport::WebSocketProto, Transport::Tcp];
                let spec = Spec {
                    at,
                    token: token.clone(),
                    transport: transports[at % transports.len()],
                    // The devices of one user on different nodes.
                    home: (user_at + number) % nodes,
                    patience: if user_at % 2 == 0 { IMPATIENT } else { PATIENT },
                    rooms: own.clone(),
                    endpoints: Arc::clone(&endpoints),
                    ledger: Arc::clone(&ledger),
                };
                devices.push(Device::start(spec, devices_stopped.clone()));
            }
        }
        let room_ids = rooms.iter().map(|room| room.id).collect();
        let devices = Arc::new(devices);
        let (stop_traffic, stopped) = watch::channel(false);
        let skipped = Arc::new(AtomicU64::new(0));
        let traffic = Traffic {
            random: StdRng::seed_from_u64(options.seed),
            rate: options.rate,
            devices_per_user: options.devices,
            users: users.iter().map(|user| user.user_id).collect(),
            rooms,
            devices: Arc::clone(&devices),
            ledger: Arc::clone(&ledger),
            skipped: Arc::clone(&skipped),
            stopped,
            next_room: 0,
        };
        let traffic = tokio::spawn(traffic.run());
        let cast =
            Self { ledger, endpoints, room_ids, devices, skipped, stop_traffic, stop_devices, traffic };
        Ok(cast)
    }

    /// Clients learn of a node's addresses.
    pub fn add_endpoint(&self, at: usize, addresses: crate::cli::up::Addresses) {
        let mut endpoints = self.endpoints.write();
        match endpoints.get_mut(at) {
            Some(known) => *known = addresses,
            None => endpoints.push(addresses),
        }
    }

    /// Devices that went elsewhere go back to the nodes they prefer.
    pub fn go_home(&self) {
        self.devices.iter().for_each(Device::go_home);
    }

    /// These devices sync all their rooms.
    pub fn sync(&self, devices: impl IntoIterator<Item = usize>) {
        devices.into_iter().filter_map(|at| self.devices.get(at)).for_each(Device::sync);
    }

    /// Sends that were due and not made, since too many waited for an answer.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Waits until everybody is signed in; `false`: not within the limit.
    pub async fn all_online(&self, limit: Duration) -> bool {
        wait_until(limit, || self.ledger.offline() == 0).await
    }

    /// Ends the traffic and waits until all sends are answered; `false`: not within the limit.
    pub async fn finish_traffic(&mut self, limit: Duration) -> bool {
        self.stop_traffic.send_replace(true);
        // A panic shows in the counts.
        let _ = (&mut self.traffic).await;
        wait_until(limit, || self.devices.iter().all(|device| device.waiting() == 0)).await
    }

    /// Ends the connections in good order.
    pub async fn end(self, limit: Duration) {
        self.stop_devices.send_replace(true);
        // Dropping `devices` ends the rest.
        let all_gone = || self.ledger.offline() == self.devices.len();
        wait_until(limit, all_gone).await;
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.traffic.abort();
    }
}

/// Looks until it holds or the limit has passed; whether it held.
pub async fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
}

async fn sign_up(rest: &Rest, username: String, devices: usize) -> anyhow::Result<User> {
    patiently(|| rest.sign_up(&username, PASSWORD, "")).await?;
    let mut user = User { user_id: 0, tokens: Vec::new() };
    for number in 0..devices {
        let name = format!("device {number}");
        let signed_in = patiently(|| rest.sign_in(&username, PASSWORD, &name)).await?;
        user.user_id = signed_in.user_id;
        user.tokens.push(signed_in.token);
    }
    Ok(user)
}

/// Members of each room, and whether it is a direct one. No two direct rooms have the same members.
fn plan_rooms(options: CastOptions) -> Vec<(Vec<usize>, bool)> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut pairs: Vec<(usize, usize)> =
        (0..options.users).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    pairs.shuffle(&mut random);
    let direct = pairs.into_iter().take(options.rooms / 3).map(|(a, b)| (vec![a, b], true));
    let mut rooms: Vec<(Vec<usize>, bool)> = direct.collect();
    while rooms.len() < options.rooms {
        let mut all: Vec<usize> = (0..options.users).collect();
        all.shuffle(&mut random);
        all.truncate(GROUP);
        rooms.push((all, false));
    }
    rooms
}

async fn make_room(
    rest: &Rest,
    users: &[User],
    members: Vec<usize>,
    is_direct: bool,
) -> anyhow::Result<Room> {
    let creator = rest.with_token(&users[members[0]].tokens[0]);
    let others: Vec<u64> = members[1..].iter().map(|at| users[*at].user_id).collect();
    let made = if is_direct {
        patiently(|| creator.direct(others[0])).await?
    } else {
        patiently(|| creator.create_group("chaos", "", "open", &others)).await?
    };
    Ok(Room { id: made.conversation_id, members, is_direct })
}

struct Traffic {
    random: StdRng,
    rate: f64,
    devices_per_user: usize,
    users: Vec<u64>,
    rooms: Vec<Room>,
    devices: Arc<Vec<Device>>,
    ledger: Arc<Ledger>,
    skipped: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
    next_room: usize,
}

impl Traffic {
    async fn run(mut self) {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !*self.stopped.borrow() {
            ticks.tick().await;
            self.send_one();
        }
    }

    /// Sends to the next room in turn; every other time to one whose recovery is being timed, from where it is awaited.
    fn send_one(&mut self) {
        let awaited = self.ledger.unanswered_pairs();
        let pair = awaited.choose(&mut self.random).copied().filter(|_| self.random.random_bool(0.5));
        let (room, node) = match pair {
            Some((room, node)) => (room, Some(node)),
            None => {
                self.next_room = (self.next_room + 1) % self.rooms.len();
                (self.next_room, None)
            }
        };
        let per_user = self.devices_per_user;
        let members = &self.rooms[room].members;
        let mut candidates: Vec<(usize, usize)> = members
            .iter()
            .flat_map(|user| (0..per_user).map(move |number| (*user, user * per_user + number)))
            .filter(|(_, device)| node.is_none_or(|node| self.ledger.node_of(*device) == Some(node)))
            .collect();
        candidates.shuffle(&mut self.random);
        let found = candidates.iter().find(|(_, device)| self.devices[*device].waiting() < WAITING_MAX);
        let Some((user, device)) = found else {
            if node.is_none() {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        let Room { id, members, is_direct } = &self.rooms[room];
        let peer = members.iter().find(|member| *member != user);
        let target = match peer {
            // A direct conversation has two addresses.
            Some(peer) if *is_direct && self.random.random_bool(0.5) => Target::User(self.users[*peer]),
            _ => Target::Conversation(*id),
        };
        let number = self.ledger.plan(*device, room);
        if !self.devices[*device].send(number, target) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
