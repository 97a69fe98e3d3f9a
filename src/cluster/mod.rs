//! Membership, placement and routing: how an address becomes an answer, on whichever node its actor lives.

pub mod address;
pub mod placement;
pub mod reply;
pub mod view;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::config::ClusterConfig;
use crate::domain::Error;
use crate::protocol::cluster::{NodeReply, NodeRequest, Reply, Request};

pub use address::{Address, Kind};
pub use reply::ReplyTo;
pub use view::{NodeInfo, NodeState, NodeView, View, ViewNode};

/// What takes the messages that reach this node: the registry of its actors. No method may block, and each may be
/// called from any task. For one address, calls come in the order in which one sender sent.
pub trait Inbound: Send + Sync + 'static {
    /// A message for an actor that this node owns.
    fn tell(&self, to: Address, request: Request);
    /// A question to an actor that this node owns. An actor that finds itself no longer the owner may pass it to
    /// [`Cluster::ask`] again, with the same reply.
    fn ask(&self, to: Address, request: Request, reply: ReplyTo<Reply>);
    /// A message for the node itself, from the node named.
    fn tell_node(&self, from: &str, request: NodeRequest);
    /// A question to the node itself, from the node named.
    fn ask_node(&self, from: &str, request: NodeRequest, reply: ReplyTo<NodeReply>);
    /// Live sessions and active rooms, for the other nodes' admin pages.
    fn load(&self) -> (u64, u64);
}

/// Why a node can't take part in a cluster; the text says how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClusterError(pub String);

/// This node's part in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    name: String,
    incarnation: u64,
    local_address: SocketAddr,
    advertise: String,
    view: RwLock<Arc<View>>,
    views: watch::Sender<Arc<View>>,
    inbound: OnceLock<Arc<dyn Inbound>>,
}

impl Cluster {
    /// Binds the listener for other nodes. `name` empty: `node-PORT`. Nothing is accepted before [`Cluster::start`].
    pub async fn bind(config: &ClusterConfig, name: &str) -> Result<Self, ClusterError> {
        let listener = tokio::net::TcpListener::bind(&config.listen)
            .await
            .map_err(|error| ClusterError(format!("cluster.listen '{}': {error}", config.listen)))?;
        let local_address =
            listener.local_addr().map_err(|error| ClusterError(format!("cluster.listen: {error}")))?;
        let name = if name.is_empty() { format!("node-{}", local_address.port()) } else { name.to_owned() };
        let advertise =
            if config.advertise.is_empty() { local_address.to_string() } else { config.advertise.clone() };
        let view = Arc::new(View::new(0, Vec::new(), &name));
        Ok(Self(Arc::new(Shared {
            name,
            incarnation: unix_ms(),
            local_address,
            advertise,
            view: RwLock::new(view.clone()),
            views: watch::Sender::new(view),
            inbound: OnceLock::new(),
        })))
    }

    /// What this node says of itself, so far as the cluster knows it; the caller adds its other addresses.
    pub fn info(&self) -> NodeInfo {
        NodeInfo {
            name: self.0.name.clone(),
            incarnation: self.0.incarnation,
            cluster_address: self.0.advertise.clone(),
            version: crate::protocol::VERSION.to_owned(),
            ..NodeInfo::default()
        }
    }

    /// Takes part: accepts and dials links, and hands what arrives to `inbound`. The view holds this node from here.
    pub async fn start(&self, inbound: Arc<dyn Inbound>, info: NodeInfo) -> Result<(), ClusterError> {
        if self.0.inbound.set(inbound).is_err() {
            return Err(ClusterError("the cluster has been started before".to_owned()));
        }
        let me = ViewNode { info: Arc::new(info), state: NodeState::Up, since_ms: unix_ms() };
        let view = Arc::new(View::new(1, vec![me], &self.0.name));
        *self.0.view.write() = view.clone();
        self.0.views.send_replace(view);
        Ok(())
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// When this process started, in Unix milliseconds.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Where the listener for other nodes is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.0.local_address
    }

    /// The present view.
    pub fn view(&self) -> Arc<View> {
        self.0.view.read().clone()
    }

    /// The view and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.0.views.subscribe()
    }

    /// The nodes with their live figures.
    pub fn nodes(&self) -> Vec<NodeView> {
        Vec::new()
    }

    /// Whether this node owns the address, by its own view.
    pub fn owns(&self, address: &Address) -> bool {
        self.0.view.read().owned_here(address)
    }

    /// Sends to the owner of the address, wherever it is. At most once: dropped (and counted) if the owner can't be
    /// reached or too much waits for it.
    pub fn tell(&self, to: Address, request: Request) {
        if let Some(inbound) = self.0.inbound.get()
            && self.owns(&to)
        {
            inbound.tell(to, request);
        }
    }

    /// Asks the owner of the address, wherever it is, and again whoever owns it next, until `deadline` has passed;
    /// then the answer is `deadline_exceeded`. The same request may be executed twice. For one address, requests
    /// reach the owner in the order of these calls.
    pub fn ask(&self, to: Address, request: Request, deadline: Duration, reply: ReplyTo<Reply>) {
        let _ = deadline;
        match self.0.inbound.get() {
            Some(inbound) if self.owns(&to) => inbound.ask(to, request, reply),
            _ => reply.send(Err(Error::unavailable("no node that owns this can be reached; try again"))),
        }
    }

    /// Sends to the node named, which may be this one. At most once.
    pub fn tell_node(&self, node: &str, request: NodeRequest) {
        if let Some(inbound) = self.0.inbound.get()
            && node == self.0.name
        {
            inbound.tell_node(&self.0.name, request);
        }
    }

    /// Asks the node named, which may be this one.
    pub fn ask_node(&self, node: &str, request: NodeRequest, deadline: Duration, reply: ReplyTo<NodeReply>) {
        let _ = deadline;
        match self.0.inbound.get() {
            Some(inbound) if node == self.0.name => inbound.ask_node(&self.0.name, request, reply),
            _ => reply.send(Err(Error::unavailable("the node can't be reached; try again"))),
        }
    }

    /// Announces to all nodes that this one will stop: it owns nothing from then on. Returns when they have confirmed
    /// or a short deadline has passed. This node goes on forwarding until [`Cluster::shutdown`].
    pub async fn leave(&self) {}

    /// Cuts all links and ends everything; open questions are answered `unavailable`.
    pub async fn shutdown(&self) {}
}

/// Unix time in milliseconds.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
