//! The composition root: the only file that sees everything. Starts a node in the order in which its parts depend on
//! each other, and drains it in the reverse one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::actors::Actors;
use crate::actors::session::Transport;
use crate::cluster::{Cluster, NodeInfo, NodeState};
use crate::config::Config;
use crate::gateway::dispatch::Dispatch;
use crate::gateway::home::Home;
use crate::gateway::{self, Edge};
use crate::protocol::cluster::SessionRecord;
use crate::services::indexer::Indexer;
use crate::services::{Messages, Operations, Parts, Services};
use crate::storage::cache::presence::{PresenceCopy, Route};
use crate::storage::cache::{Cache, CachedStores};
use crate::storage::sql::{self, Settler, SqlStores};

/// A running node.
pub struct Node {
    cluster: Cluster,
    actors: Actors,
    gateway: gateway::Running,
    stores: SqlStores,
    indexer: Indexer,
    settler: Option<Settler>,
    addresses: Addresses,
    grace_period: Duration,
}

/// Where a node listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    name: String,
    http: String,
    tcp: String,
    line: String,
    admin: String,
    cluster: String,
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, http, tcp, line, admin, cluster } = self;
        write!(f, "name={name} http={http} tcp={tcp} line={line} admin={admin} cluster={cluster}")
    }
}

/// The part of the grace period that clients have to leave by themselves.
const LEAVE_BY_THEMSELVES: Duration = Duration::from_secs(3);
/// The part of it that answers to the others have.
const ANSWERS_DUE: Duration = Duration::from_secs(3);
/// How often a draining node looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(20);

impl Node {
    /// Opens the database, binds the ports, joins the cluster and serves. WebSockets live at `home`, where there is one.
    /// An error says what to mend.
    pub async fn start(config: Config, home: Option<Home>) -> anyhow::Result<Self> {
        let stores = sql::open(&config.storage).await.map_err(|error| {
            anyhow::anyhow!("storage.url {}: {error}", crate::config::without_password(&config.storage.url))
        })?;
        let cache = Cache::start(&config.cache)?;
        let cluster = Cluster::bind(&config).await?;
        let cached = CachedStores::over(stores.stores(), cache.clone());
        let actors = Actors::new(cluster.name(), &config, cached.arbiters());
        let services = services(&config, &actors, &stores, &cached, cache)?;
        services.schedule.start(config.messages.timer_interval);
        services.sayings.start();
        services.life.start();
        services.retention.start(config.messages.retention_interval);
        let dispatch = Dispatch::new(&services, actors.rooms(), config.gateway.frame_bytes_max);
        actors.connect(cluster.clone(), Arc::new(dispatch));
        let (grace_period, search) = (config.node.grace_period, config.search.clone());
        let (settle_interval, settle_share) = (config.storage.settle_interval, config.storage.settle_share);
        let gateway = gateway::start(Edge::new(config, services, actors.sessions()).with_home(home))?;
        let addresses = Addresses {
            name: cluster.name().to_owned(),
            http: gateway.http.to_string(),
            tcp: gateway.tcp.to_string(),
            line: gateway.line.to_string(),
            admin: gateway.admin.to_string(),
            cluster: cluster.info().cluster_address,
        };
        let info = NodeInfo {
            http_address: addresses.http.clone(),
            tcp_address: addresses.tcp.clone(),
            line_address: addresses.line.clone(),
            admin_address: addresses.admin.clone(),
            ..cluster.info()
        };
        cluster.start(Arc::new(actors.clone()), info).await?;
        let indexer = Indexer::start(&search, actors.clone(), cached.arbiters());
        let settler = (!settle_interval.is_zero())
            .then(|| Settler::start(stores.clone(), settle_interval, settle_share));
        tracing::info!(%addresses, "serving");
        Ok(Self { cluster, actors, gateway, stores, indexer, settler, addresses, grace_period })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns when an operator has told this node to drain; then call [`Node::drain`].
    pub async fn drain_ordered(&self) {
        self.actors.drain_ordered().await;
    }

    /// Leaves the cluster, hands its actors over, sends its clients elsewhere, and stops; within `node.grace_period`.
    pub async fn drain(mut self) {
        self.indexer.stop();
        self.settler = None;
        let deadline = Instant::now() + self.grace_period;
        self.cluster.leave().await;
        self.actors.drain_sessions("the node is stopping", self.other_addresses());
        let patience = (Instant::now() + LEAVE_BY_THEMSELVES).min(deadline);
        wait_until(patience, || self.actors.counts().0 == 0).await;
        // Those who stay are sent off when all that was taken from them is answered.
        let answered = (Instant::now() + ANSWERS_DUE).min(deadline);
        wait_until(answered, || self.actors.ebb_sessions()).await;
        self.actors.close_sessions(1001, "the node is stopping; reconnect to another one");
        // The last node of a cluster owns its rooms to the end: they store their cursors when they are told to go.
        wait_until(deadline, || {
            self.actors.retire_rooms();
            self.actors.counts().1 == 0
        })
        .await;
        let (_, rooms, _) = self.actors.counts();
        if rooms > 0 {
            tracing::warn!(
                rooms,
                "the grace period ended before all rooms were handed over; their logs are complete"
            );
        }
        self.gateway.stop().await;
        self.actors.flush_seen().await;
        self.cluster.shutdown().await;
        self.stores.close().await;
    }

    /// Names another node's address of the same transport, a different one each time.
    fn other_addresses(&self) -> impl Fn(Transport) -> String {
        let view = self.cluster.view();
        let own = self.cluster.name();
        let others: Vec<Arc<NodeInfo>> = view
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Up && node.info.name != own)
            .map(|node| Arc::clone(&node.info))
            .collect();
        let turn = AtomicUsize::new(0);
        move |transport| {
            let Some(node) = others.get(turn.fetch_add(1, Ordering::Relaxed) % others.len().max(1)) else {
                return String::new();
            };
            match transport {
                Transport::WebSocket => node.http_address.clone(),
                Transport::Tcp => node.tcp_address.clone(),
                Transport::Line => node.line_address.clone(),
            }
        }
    }
}

fn services(
    config: &Config,
    actors: &Actors,
    stores: &SqlStores,
    cached: &CachedStores,
    cache: Cache,
) -> anyhow::Result<Services> {
    let messages = Messages::new(config, cached.readers(), actors.rooms(), actors.events());
    let operations = Operations::new(&config.admin, actors.clone(), stores.stores());
    let presence = actors.presence();
    cache.connect(Arc::new(move |keys, limit| {
        let presence = presence.clone();
        Box::pin(async move { presence.forget(keys, limit).await })
    }));
    copy_presence(config, actors, &cache);
    let parts = Parts {
        readers: cached.readers(),
        arbiters: cached.arbiters(),
        cache,
        events: actors.events(),
        presence: actors.presence(),
        rooms: actors.rooms(),
        messages,
        operations,
    };
    Ok(Services::new(parts, config)?)
}

/// Copies who is online to Redis, where there is one, for other systems to read.
fn copy_presence(config: &Config, actors: &Actors, cache: &Cache) {
    let directory = actors.presence().directory();
    let known = Arc::clone(&directory);
    let routes = move |user_id| {
        let sessions = known.known_sessions_of(user_id)?;
        let route = |record: SessionRecord| Route {
            node: record.node,
            session_id: record.session_id,
            device_id: record.device_id,
        };
        Some(sessions.into_iter().map(route).collect())
    };
    if let Some(copy) = PresenceCopy::start(cache, config.cache.presence_copy_interval, routes) {
        directory.observe(Box::new(move |user_ids| copy.note(user_ids.iter().copied())));
    }
}

/// Waits until the condition holds or the deadline has come.
async fn wait_until(deadline: Instant, holds: impl Fn() -> bool) {
    while !holds() && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}
