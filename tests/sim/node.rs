//! A node: everything that a process holds but sockets, `ractor_cluster` and SQL.
//!
//! All nodes share one thread and one runtime, so a crash can't be the end of a process. It is the loss of everything
//! by which a node can act on others: its connections, its way to the database and its clients. What its tasks do
//! from then on reaches nobody, and they are dropped with the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery::actors::Actors;
use rookery::cluster::Cluster;
use rookery::config::Config;
use rookery::gateway::Edge;
use rookery::gateway::dispatch::Dispatch;
use rookery::services::{Messages, Operations, Parts, Services};
use rookery::storage::cache::Cache;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::network::address;
use crate::stores::NodeStores;
use crate::transport::SimTransport;
use crate::world::World;

/// Whether one life of a node is over.
#[derive(Default)]
pub struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Returns when it is over.
    pub async fn end(&self) {
        while !self.is_over() {
            self.ended.notified().await;
        }
    }

    fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.ended.notify_waiters();
    }
}

/// One life of a node.
pub struct Node {
    pub index: usize,
    pub life: Arc<Life>,
    pub cluster: Cluster,
    pub actors: Actors,
    pub edge: Edge,
    draining: AtomicBool,
}

/// The name of a node.
pub fn name(index: usize) -> String {
    format!("n{index}")
}

/// The configuration of all nodes: the defaults, with what only delays the end of a run made shorter.
pub fn config(index: usize, nodes: usize) -> Config {
    let mut config = Config::default();
    config.node.name = name(index);
    config.cluster.listen = address(index).to_string();
    config.cluster.seeds =
        (0..nodes).filter(|other| *other != index).map(|other| address(other).to_string()).collect();
    config.cluster.lanes = 2;
    config.presence.shards = 8;
    config.presence.rebuild_window = Duration::from_secs(2);
    config.presence.announce_interval = Duration::from_secs(10);
    config.cluster.redial_max = Duration::from_secs(1);
    config.room.idle_timeout = Duration::from_secs(4);
    config.session.idle_timeout = Duration::from_secs(1);
    config.room.cursor_lazy_flush = Duration::from_secs(1);
    // The kernel's timers know nothing of this world's clock.
    config.writer.linger = Duration::ZERO;
    config.accounts.argon2_memory_kib = 8;
    config.accounts.argon2_passes = 1;
    config
}

impl Node {
    /// Starts a life as `serve` does.
    pub async fn start(world: &Arc<World>, index: usize) -> Arc<Self> {
        let life = Arc::new(Life::default());
        let config = config(index, world.node_count);
        let transport = SimTransport {
            life: life.clone(),
            rng: parking_lot::Mutex::new(world.rng.lock().fork()),
            late_percent: world.late_percent,
        };
        let network = world.net.of(index, life.clone());
        let cluster = Cluster::bind_on(&config, network, Arc::new(transport))
            .await
            .expect("a simulated port can be bound");
        let stores = NodeStores {
            memory: world.memory.clone(),
            weather: world.weather.clone(),
            oracle: world.oracle.clone(),
            life: life.clone(),
            node: index,
        }
        .stores();
        let actors = Actors::new(cluster.name(), &config, stores.clone());
        let messages = Messages::new(&config, stores.clone(), actors.rooms(), actors.events());
        // Read straight from the stores: the cache's memory keeps real time, which would make a seed's trace differ.
        let cache = Cache::start(&config.cache).expect("a cache in memory needs nothing");
        let forgetful = actors.presence();
        cache.connect(Arc::new(move |keys, limit| {
            let presence = forgetful.clone();
            Box::pin(async move { presence.forget(keys, limit).await })
        }));
        let parts = Parts {
            readers: stores.clone(),
            arbiters: stores.clone(),
            cache,
            events: actors.events(),
            presence: actors.presence(),
            rooms: actors.rooms(),
            messages,
            operations: Operations::new(&config.admin, actors.clone(), stores),
        };
        let services = Services::new(parts, &config).expect("the hash can be computed");
        let dispatch = Dispatch::new(&services, actors.rooms(), config.gateway.frame_bytes_max);
        actors.connect(cluster.clone(), Arc::new(dispatch));
        let edge = Edge::new(config, services, actors.sessions());
        let node = Arc::new(Self { index, life, cluster, actors, edge, draining: AtomicBool::new(false) });
        world.trace.note(format_args!("n{index} starts as {}", node.cluster.incarnation()));
        let started = node.clone();
        // It waits for its own first view, which an early crash may keep from coming.
        tokio::spawn(async move {
            let inbound = Arc::new(started.actors.clone());
            started.cluster.start(inbound, started.cluster.info()).await.expect("it starts once");
        });
        node
    }

    /// Whether clients may come.
    pub fn takes_clients(&self) -> bool {
        !self.life.is_over() && !self.draining.load(Ordering::Relaxed)
    }

    /// The process dies. `told`: its system closes its connections; else it is gone without a word.
    pub fn crash(self: &Arc<Self>, world: &World, told: bool) {
        let how = if told { "is killed" } else { "goes dark" };
        world.trace.note(format_args!("n{} {how}", self.index));
        world.net.crash(self.index, told);
        self.life.finish();
        self.put_out();
    }

    /// What runs on for nothing is stopped, as far as it can be.
    fn put_out(self: &Arc<Self>) {
        let node = self.clone();
        tokio::spawn(async move { node.cluster.shutdown().await });
    }

    /// Leaves in good order, as `rookery::node::Node::drain` does.
    pub async fn drain(self: &Arc<Self>, world: &World) {
        world.trace.note(format_args!("n{} drains", self.index));
        self.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(20);
        self.cluster.leave().await;
        self.actors.drain_sessions("the node is stopping", |_| String::new());
        let patience = Instant::now() + Duration::from_secs(3);
        self.until(patience, || self.actors.counts().0 == 0).await;
        let answered = Instant::now() + Duration::from_secs(3);
        self.until(answered, || self.actors.ebb_sessions()).await;
        self.actors.close_sessions(1001, "the node is stopping; reconnect to another one");
        self.until(deadline, || {
            self.actors.retire_rooms();
            self.actors.counts().1 == 0
        })
        .await;
        if self.life.is_over() {
            return;
        }
        self.cluster.shutdown().await;
        world.trace.note(format_args!("n{} has left", self.index));
        world.net.crash(self.index, true);
        self.life.finish();
    }

    async fn until(&self, deadline: Instant, holds: impl Fn() -> bool) {
        while !self.life.is_over() && !holds() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
