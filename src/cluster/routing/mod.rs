//! Routing: what is told or asked of an address goes to this node's own actors or over a link, and back.
//!
//! Locks are taken in this order, and never held while actors or askers are called: shards (by number), gate, view,
//! routes, refusals, lanes; `reached` by itself. The view and the ready links change only while all shards are locked, so whoever holds one
//! shard sees both stand still, and questions that are sent again go before newer ones.

mod arrivals;
mod changes;
mod here;
mod questions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::cluster::Inbound;
use crate::cluster::address::Address;
use crate::cluster::counters::Counters;
use crate::cluster::gate::Gate;
use crate::cluster::link::Link;
use crate::cluster::manager::Event;
use crate::cluster::pending::{Shard, ShardLimits};
use crate::cluster::view::View;
use crate::config::ClusterConfig;
use crate::domain::Error;
use crate::protocol::cluster::Heartbeat;

use here::Delivery;

/// The links, by what they are looked up by.
#[derive(Default)]
struct Routes {
    /// All links, ready or not, by the number that envelopes carry.
    by_epoch: HashMap<u64, Arc<Link>>,
    /// Ready links, by the peer's name.
    ready: BTreeMap<String, Arc<Link>>,
}

/// What all parts of a node's cluster share.
pub struct Routing {
    name: Arc<str>,
    incarnation: u64,
    started: Instant,
    config: ClusterConfig,
    inbound: OnceLock<Arc<dyn Inbound>>,
    shards: Vec<Mutex<Shard>>,
    gate: Gate<Delivery>,
    view: RwLock<Arc<View>>,
    views: watch::Sender<Arc<View>>,
    routes: RwLock<Routes>,
    /// The nodes that this one's actors reach, with the numbers of the links.
    reached: Mutex<Arc<BTreeMap<String, u64>>>,
    sweep: Notify,
    events: mpsc::UnboundedSender<Event>,
    /// What happened so far.
    pub counters: Counters,
}

impl Routing {
    /// Routes for the node of that name and incarnation. Events go to the manager.
    pub fn new(
        name: &str,
        incarnation: u64,
        config: ClusterConfig,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let view = Arc::new(View::new(0, Vec::new(), name));
        let limits = ShardLimits { questions: config.lane_queue_items, bytes: config.lane_queue_bytes };
        Self {
            name: name.into(),
            incarnation,
            started: Instant::now(),
            inbound: OnceLock::new(),
            shards: (0..config.lanes).map(|lane| Mutex::new(Shard::new(lane, limits))).collect(),
            gate: Gate::new(config.lane_queue_items),
            view: RwLock::new(view.clone()),
            views: watch::Sender::new(view),
            routes: RwLock::new(Routes::default()),
            reached: Mutex::default(),
            sweep: Notify::new(),
            events,
            counters: Counters::default(),
            config,
        }
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This node's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The configuration.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// The lane of heartbeats and gossip.
    pub fn control_lane(&self) -> usize {
        self.config.lanes
    }

    /// Sets what takes messages here. False: it has been set before.
    pub fn set_inbound(&self, inbound: Arc<dyn Inbound>) -> bool {
        self.inbound.set(inbound).is_ok()
    }

    /// What takes messages here.
    pub fn inbound(&self) -> Option<&Arc<dyn Inbound>> {
        self.inbound.get()
    }

    /// The present view.
    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// The view and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    /// Whether this node owns the address.
    pub fn owns(&self, address: &Address) -> bool {
        self.view.read().owned_here(address)
    }

    /// The ready link to the node.
    pub fn link_to(&self, node: &str) -> Option<Arc<Link>> {
        self.routes.read().ready.get(node).cloned()
    }

    /// All ready links.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.routes.read().ready.values().cloned().collect()
    }

    /// The nodes that this one's actors reach, with the numbers of the links.
    pub fn reached(&self) -> Arc<BTreeMap<String, u64>> {
        self.reached.lock().clone()
    }

    /// See [`crate::cluster::Cluster::say_reached`].
    pub fn say_reached(&self, reached: &BTreeMap<String, u64>) {
        let mut said = self.reached.lock();
        if **said != *reached {
            *said = Arc::new(reached.clone());
            // The manager is gone only when the node is stopping.
            let _ = self.events.send(Event::Reached);
        }
    }

    /// Questions to other nodes that wait for an answer.
    pub fn open_questions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().len() as u64).sum()
    }

    /// A heartbeat of this moment.
    pub fn heartbeat(&self) -> Heartbeat {
        let (sessions, rooms) = self.inbound().map_or((0, 0), |inbound| inbound.load());
        Heartbeat {
            sent_at_us: self.now_us(),
            echo_us: 0,
            view_version: self.view.read().version,
            sessions,
            rooms,
            silent_ms: 0,
        }
    }

    /// Microseconds of this process, as heartbeats carry them.
    pub fn now_us(&self) -> u64 {
        // From one, as zero says that there is none.
        self.started.elapsed().as_micros() as u64 + 1
    }
}

fn not_started() -> Error {
    Error::unavailable("this node is starting; try again")
}
