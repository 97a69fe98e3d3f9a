//! Whole nodes on one thread, but for their sockets: sessions whose frames are decoded here and whose outboxes are
//! drained here, dispatch, rooms, writers, directory, fan-out and links, over the stores in memory.
//!
//! The clock stands still while anything can run, so that no timer comes into what is measured, and numbers come from
//! a seed, so that every run does the same.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery::actors::Actors;
use rookery::actors::session::{OpenSession, Session, Socket, Transport};
use rookery::cluster::{Address, Cluster};
use rookery::config::Config;
use rookery::gateway::dispatch::Dispatch;
use rookery::protocol::JoinPolicy;
use rookery::protocol::codec::{self, Format};
use rookery::services::{Messages, Operations, Parts, Services};
use rookery::storage::cache::{Cache, CachedStores};
use rookery::storage::memory::MemoryStores;
use rookery::storage::{AccountStore as _, ConversationStore as _, NewGroup, UserRecord};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::frames::{self, STORED_AT_MS};
use crate::wire::Wire;

/// What a scene's numbers come from.
const SEED: u64 = 42;
/// How long anything may take by the scene's clock, which moves only when nothing can run: longer means that a frame
/// is missing.
const PATIENCE: Duration = Duration::from_secs(30);
/// What passes between two rounds, so that what waits for a timer is done with.
const PAUSE: Duration = Duration::from_secs(5);

/// The nodes and their runtime.
pub struct Scene {
    runtime: Runtime,
    nodes: Vec<Actors>,
    memory: MemoryStores,
    /// All of them, in the order in which they were opened.
    seats: Vec<Seat>,
    woken: Arc<Woken>,
    batch_bytes: usize,
}

/// A signed-in client.
#[derive(Clone)]
pub struct Seat {
    session: Session,
}

/// Seats whose outboxes have something, by their place in [`Scene::seats`].
#[derive(Default)]
struct Woken {
    places: Mutex<Vec<usize>>,
    some: Notify,
}

impl Scene {
    /// A cluster of so many nodes that runs.
    pub fn start(nodes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        let (memory, wire) = (MemoryStores::default(), Wire::default());
        let nodes: Vec<Actors> = runtime.block_on(async {
            rookery::clock::simulate(STORED_AT_MS);
            rookery::chance::simulate(SEED);
            let configs = (0..nodes).map(|number| config(number, nodes));
            futures_util::future::join_all(configs.map(|config| node(config, &memory, &wire))).await
        });
        let batch_bytes = Config::default().gateway.write_batch_bytes;
        let scene = Self { runtime, nodes, memory, seats: Vec::new(), woken: Arc::default(), batch_bytes };
        scene.pause();
        scene
    }

    /// Signs so many new users in, each by one session on one of the nodes in turn.
    pub fn sign_in(&mut self, count: usize, format: Format) -> Vec<Seat> {
        let before = self.seats.len();
        for place in before..before + count {
            let seat = self.runtime.block_on(self.seat(place, format));
            self.seats.push(seat);
        }
        self.pause();
        self.seats[before..].to_vec()
    }

    async fn seat(&self, place: usize, format: Format) -> Seat {
        let user = UserRecord { username: frames::client_id(), ..UserRecord::default() };
        let user = self.memory.create_user(user).await.expect("the name is new");
        let open = OpenSession {
            user_id: user.id,
            device_id: user.id,
            device_name: String::new(),
            transport: Transport::WebSocket,
            format,
            reply_to: 0,
            token: String::new(),
            peer_address: String::new(),
        };
        let woken = Arc::clone(&self.woken);
        let socket = Socket { wake: Box::new(move |_| woken.wake(place)), cut: Box::new(|| {}) };
        let node = &self.nodes[place % self.nodes.len()];
        let session = node.sessions().open(open, socket).await.expect("the node takes sessions");
        Seat { session }
    }

    /// A group of these, in which the first may send.
    pub fn group(&self, seats: &[Seat]) -> u64 {
        let user_ids: Vec<u64> = seats.iter().map(|seat| seat.session.user_id()).collect();
        let group = NewGroup {
            owner_id: user_ids[0],
            name: "rooks".to_owned(),
            description: String::new(),
            join_policy: JoinPolicy::Open,
            member_ids: user_ids[1..].to_vec(),
            now_ms: STORED_AT_MS,
            client_id: String::new(),
        };
        self.runtime.block_on(self.memory.create_group(group)).expect("memory takes groups").id
    }

    /// The direct conversation of two.
    pub fn direct(&self, one: &Seat, other: &Seat) -> u64 {
        let (one, other) = (one.session.user_id(), other.session.user_id());
        let made = self.runtime.block_on(self.memory.direct(one, other, STORED_AT_MS));
        made.expect("memory takes conversations").0.id
    }

    /// Whether the first node has the room of this conversation.
    pub fn is_on_first_node(&self, conversation_id: u64) -> bool {
        self.nodes[0].cluster().owns(&Address::room(conversation_id))
    }

    /// Hands over the bytes of frames, of one seat each, and drains outboxes until `frames` frames have come out
    /// together. Says how many bytes they had.
    pub fn play(&self, sends: &[(Seat, Bytes)], frames: usize) -> usize {
        self.run(async {
            for (seat, bytes) in sends {
                let frame = codec::decode_client(bytes, seat.session.format()).expect("it was just encoded");
                assert!(seat.session.receive(frame), "few frames wait");
            }
            self.drain(frames).await
        })
    }

    /// The same, one after the other: each of `sends` brings `frames` frames before the next is handed over.
    pub fn play_each(&self, sends: &[(Seat, Bytes)], frames: usize) -> usize {
        self.run(async {
            let mut bytes = 0;
            for (seat, send) in sends {
                let frame = codec::decode_client(send, seat.session.format()).expect("it was just encoded");
                assert!(seat.session.receive(frame), "few frames wait");
                bytes += self.drain(frames).await;
            }
            bytes
        })
    }

    /// Lets the clock run, so that timers are done, and throws away what came of it.
    pub fn pause(&self) {
        self.runtime.block_on(async { tokio::time::sleep(PAUSE).await });
        self.woken.take();
        for seat in &self.seats {
            seat.session.outbox().drain(usize::MAX);
            // A client's heartbeat: nobody is closed for his silence.
            seat.session.touch();
        }
    }

    fn run<T>(&self, play: impl Future<Output = T>) -> T {
        let played = async { tokio::time::timeout(PATIENCE, play).await };
        self.runtime.block_on(played).expect("every frame comes")
    }

    /// Drains whoever is woken until so many frames have come.
    async fn drain(&self, frames: usize) -> usize {
        let (mut left, mut bytes) = (frames, 0);
        while left > 0 {
            self.woken.some.notified().await;
            for place in self.woken.take() {
                let drained = self.seats[place].session.outbox().drain(self.batch_bytes);
                assert!(drained.close.is_none(), "no session is told to close");
                bytes += drained.frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
                left -= drained.frames.len();
                if drained.more {
                    self.woken.wake(place);
                }
            }
        }
        bytes
    }
}

impl Seat {
    /// The bytes of a send, with another `client_id` every time.
    pub fn send(&self, conversation_id: u64, text: &str) -> (Self, Bytes) {
        let frame = frames::send_frame(conversation_id, text);
        (self.clone(), codec::encode(&frame, self.session.format()))
    }
}

impl Woken {
    fn wake(&self, place: usize) {
        self.places.lock().push(place);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.places.lock())
    }
}

/// The defaults, but for what names the node and what only makes the start longer.
fn config(number: usize, nodes: usize) -> Config {
    let address = |number| format!("127.0.0.1:{}", 7000 + number);
    let mut config = Config::default();
    config.node.name = format!("node-{number}");
    config.cluster.listen = address(number);
    config.cluster.seeds = (0..nodes).filter(|other| *other != number).map(address).collect();
    // The kernel's timers know nothing of the paused clock.
    config.writer.linger = Duration::ZERO;
    config.accounts.argon2_memory_kib = 8;
    config.accounts.argon2_passes = 1;
    config
}

/// Starts a node as `serve` does, so far as it has no sockets; it runs when all seeds do.
async fn node(config: Config, memory: &MemoryStores, wire: &Wire) -> Actors {
    let seeds = config.cluster.seeds.len();
    let cluster = Cluster::bind_on(&config, Arc::new(wire.clone()), Arc::new(wire.clone())).await;
    let cluster = cluster.expect("each node has a port of its own");
    let cache = Cache::start(&config.cache).expect("no Redis is named");
    let cached = CachedStores::over(memory.stores(), cache.clone());
    let actors = Actors::new(cluster.name(), &config, cached.arbiters());
    let messages = Messages::new(&config, cached.readers(), actors.rooms(), actors.events());
    let parts = Parts {
        readers: cached.readers(),
        arbiters: cached.arbiters(),
        cache,
        events: actors.events(),
        presence: actors.presence(),
        rooms: actors.rooms(),
        messages,
        operations: Operations::new(&config.admin, actors.clone(), memory.stores()),
    };
    let services = Services::new(parts, &config).expect("the configuration is valid");
    let dispatch = Dispatch::new(&services, actors.rooms(), config.gateway.frame_bytes_max);
    actors.connect(cluster.clone(), Arc::new(dispatch));
    cluster.start(Arc::new(actors.clone()), cluster.info()).await.expect("it starts once");
    let mut views = cluster.watch();
    let all = views.wait_for(|view| view.up_nodes().count() == seeds + 1);
    tokio::time::timeout(PATIENCE, all).await.expect("in time").expect("the node keeps its view");
    actors
}
