//! Membership, placement and routing: how an address becomes an answer, on whichever node its actor lives.
//!
//! From the outside in: [`Cluster`] is the handle that everyone else uses. [`routing`] decides where a message goes, by
//! the [`view`] and its [`placement`]; [`pending`] holds the open questions and [`gate`] the order of those that come
//! home. A [`link`] carries items in [`lanes`] to a peer, over a [`transport`] and a [`stream`] of ours. The transport is
//! `ractor_cluster` ([`server`] and its [`router`] actors), the [`network`] below the streams is [`tcp`], or [`tls`] over
//! it. The [`manager`] task decides which nodes ([`membership`]) and links ([`slots`]) there are, who is alive
//! ([`detector`]), and whom to dial ([`targets`]); [`handshake`] and [`preamble`] are what is said before a stream becomes
//! a link.

pub mod address;
pub mod counters;
mod detector;
mod gate;
mod handshake;
mod inbox;
pub mod lanes;
mod link;
mod listener;
mod manager;
pub mod membership;
pub mod network;
mod pending;
pub mod placement;
mod preamble;
pub mod refusals;
pub mod reply;
mod router;
mod routing;
mod seldom;
mod server;
mod slots;
pub mod stream;
mod targets;
mod tcp;
mod tls;
pub mod transport;
pub mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock;
use crate::config::{ClusterConfig, Config};
use crate::protocol::cluster::{LinkSetting, NodeReply, NodeRequest, Reply, Request};

use counters::Counters;
use handshake::Handshaker;
use manager::{Event, Manager};
use network::{Listener, Network};
use routing::Routing;
use server::RactorCluster;
use tcp::Tcp;
use tls::Tls;
use transport::{LocalNode, Transport};

pub use address::{Address, Kind};
pub use gate::Turn;
pub use reply::ReplyTo;
pub use server::LOG_FILTER;
pub use view::{NodeInfo, NodeState, NodeView, View, ViewNode};

/// What takes the messages that reach this node: the registry of its actors. No method may block, and each may be
/// called from any task. For one address, calls come in the order in which one sender sent.
///
/// A question that reaches an actor is put into its mailbox in one step with a look at [`Turn::is_over`]: if it is,
/// other nodes may have owned the address meanwhile, and it is given back to find its way anew.
pub trait Inbound: Send + Sync + 'static {
    /// A message for an actor that this node owns.
    fn tell(&self, to: Address, request: Request);
    /// A question to an actor that this node owns; given back if the turn is over. An actor that finds itself no longer
    /// the owner passes it to [`Cluster::hand_on`].
    fn ask(
        &self,
        to: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)>;
    /// Whether an actor that this node does not own is still active here. Then questions go to it by
    /// [`Inbound::ask_held`], so that none overtakes those that it has not handed on yet.
    fn holds(&self, _to: &Address) -> bool {
        false
    }
    /// A question to an actor that [`Inbound::holds`]; given back if there is none any more, or if the turn is over.
    /// `handovers`: by how many moving actors it has been handed on before; the actor passes it to [`Cluster::hand_on`].
    fn ask_held(
        &self,
        _to: Address,
        request: Request,
        _handovers: u32,
        reply: ReplyTo<Reply>,
        _turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        Some((request, reply))
    }
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
pub struct Cluster {
    routing: Arc<Routing>,
    shared: Arc<Shared>,
}

/// What only starting and stopping needs.
struct Shared {
    local_address: SocketAddr,
    advertise: String,
    settings: Vec<LinkSetting>,
    events: mpsc::UnboundedSender<Event>,
    start: Mutex<Option<Start>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What [`Cluster::bind`] leaves to [`Cluster::start`].
struct Start {
    listener: Box<dyn Listener>,
    network: Arc<dyn Network>,
    tls: Option<Tls>,
    transport: Arc<dyn Transport>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Cluster {
    /// Binds the listener for other nodes. An empty `node.name` becomes `node-PORT`. Nothing is accepted before
    /// [`Cluster::start`].
    pub async fn bind(config: &Config) -> Result<Self, ClusterError> {
        Self::bind_on(config, Arc::new(Tcp), Arc::new(RactorCluster)).await
    }

    /// [`Cluster::bind`] on another network and transport.
    pub async fn bind_on(
        config: &Config,
        network: Arc<dyn Network>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, ClusterError> {
        let cluster = &config.cluster;
        check(cluster)?;
        let tls = Tls::load(cluster)?;
        let listener = network
            .bind(&cluster.listen)
            .await
            .map_err(|error| ClusterError(format!("cluster.listen '{}': {error}", cluster.listen)))?;
        let local_address =
            listener.local_address().map_err(|error| ClusterError(format!("cluster.listen: {error}")))?;
        let advertise = match cluster.advertise.as_str() {
            "" if local_address.ip().is_unspecified() => {
                return Err(ClusterError(format!(
                    "cluster.listen is '{}', which other nodes can't dial; set cluster.advertise to the host:port \
                     that they can",
                    cluster.listen
                )));
            }
            "" => local_address.to_string(),
            advertise => advertise.to_owned(),
        };
        let name = match config.node.name.as_str() {
            "" => format!("node-{}", local_address.port()),
            name => name.to_owned(),
        };
        let setting = |key: &str, value| LinkSetting { key: key.to_owned(), value };
        let settings = vec![
            setting("cluster.lanes", cluster.lanes as u64),
            setting("presence.shards", config.presence.shards),
        ];
        let (events, receiver) = mpsc::unbounded_channel();
        let routing = Arc::new(Routing::new(&name, clock::now_ms(), cluster.clone(), events.clone()));
        let shared = Arc::new(Shared {
            local_address,
            advertise,
            settings,
            events,
            start: Mutex::new(Some(Start { listener, network, tls, transport, events: receiver })),
            tasks: Mutex::default(),
        });
        Ok(Self { routing, shared })
    }

    /// What this node says of itself, so far as the cluster knows it; the caller adds its other addresses.
    pub fn info(&self) -> NodeInfo {
        NodeInfo {
            name: self.name().to_owned(),
            incarnation: self.incarnation(),
            cluster_address: self.shared.advertise.clone(),
            version: crate::protocol::VERSION.to_owned(),
            ..NodeInfo::default()
        }
    }

    /// Takes part: accepts and dials links, and hands what arrives to `inbound`. The view holds this node from here,
    /// `joining` until the seeds have been reached or tried (at most 1.5 s), then `up`. `info` is [`Cluster::info`] with
    /// the other addresses added.
    pub async fn start(&self, inbound: Arc<dyn Inbound>, info: NodeInfo) -> Result<(), ClusterError> {
        let start = self.shared.start.lock().take();
        let (Some(start), true) = (start, self.routing.set_inbound(inbound)) else {
            return Err(ClusterError("the cluster has been started before".to_owned()));
        };
        let info = NodeInfo {
            name: self.name().to_owned(),
            incarnation: self.incarnation(),
            cluster_address: self.shared.advertise.clone(),
            ..info
        };
        let events = self.shared.events.clone();
        let node = LocalNode::new(self.routing.clone(), events.clone());
        let sessions = start.transport.start(node).await?;
        let tls = start.tls.is_some();
        let handshaker = Arc::new(Handshaker::new(
            start.network,
            start.tls,
            info.clone(),
            self.shared.settings.clone(),
            self.routing.clone(),
            events.clone(),
        ));
        tracing::info!(
            target: "rookery::cluster", node = %info.name, incarnation = info.incarnation,
            listen = %self.shared.local_address, advertise = %info.cluster_address, tls,
            seeds = ?self.routing.config().seeds, "this node takes part in the cluster"
        );
        let manager = Manager::new(info, self.routing.clone(), handshaker.clone(), sessions, events);
        let mut views = self.watch();
        let tasks = [
            tokio::spawn(manager.run(start.events)),
            tokio::spawn(listener::keep_accepting(start.listener, handshaker)),
            tokio::spawn(self.routing.clone().keep_sweeping()),
        ];
        self.shared.tasks.lock().extend(tasks.iter().map(tokio::task::JoinHandle::abort_handle));
        // The sender lives in the routing that this handle holds.
        let _ = views.wait_for(|view| !view.nodes.is_empty()).await;
        Ok(())
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        self.routing.name()
    }

    /// When this process bound its listener, in Unix milliseconds.
    pub fn incarnation(&self) -> u64 {
        self.routing.incarnation()
    }

    /// Where the listener for other nodes is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// The present view.
    pub fn view(&self) -> Arc<View> {
        self.routing.view()
    }

    /// The view and its changes. When a change is seen here, questions have been sent to their new owners already.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.routing.watch()
    }

    /// Makes this the view, as if nodes had come or gone.
    #[cfg(test)]
    pub(crate) fn imagine(&self, nodes: Vec<ViewNode>) {
        self.routing.publish(View::new(self.view().version + 1, nodes, self.name()));
    }

    /// The ready links: their numbers, never used twice, by the name of the node.
    pub fn links(&self) -> BTreeMap<String, u64> {
        self.routing.links().iter().map(|link| (link.peer.name.clone(), link.epoch)).collect()
    }

    /// Tells the others which nodes the actors here reach, by which links: those that they have taken up. Others send
    /// round this node what they would have sent by it to nodes that it does not reach.
    pub fn say_reached(&self, links: &BTreeMap<String, u64>) {
        self.routing.say_reached(links);
    }

    /// What each linked node has said by [`Cluster::say_reached`] last, by its name.
    pub fn reached_by_others(&self) -> BTreeMap<String, Arc<BTreeMap<String, u64>>> {
        self.routing.links().iter().map(|link| (link.peer.name.clone(), link.reached())).collect()
    }

    /// The nodes with their live figures, by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        let load = self.routing.inbound().map_or((0, 0), |inbound| inbound.load());
        let node = |node: &ViewNode| {
            let link = self.routing.link_to(&node.info.name);
            let (sessions, rooms) = match &link {
                Some(link) => link.load(),
                None if node.info.name == self.name() => load,
                None => (0, 0),
            };
            NodeView {
                info: NodeInfo::clone(&node.info),
                state: node.state,
                since_ms: node.since_ms,
                rtt_us: link.as_ref().and_then(|link| link.rtt()),
                queued_items: link.as_ref().map_or(0, |link| link.queued()),
                queued_bytes: link.as_ref().map_or(0, |link| link.queued_bytes()),
                sessions,
                rooms,
            }
        };
        self.view().nodes.iter().map(node).collect()
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.routing.counters
    }

    /// Questions to other nodes that wait for an answer.
    pub fn open_questions(&self) -> u64 {
        self.routing.open_questions()
    }

    /// Whether this node owns the address, by its own view.
    pub fn owns(&self, address: &Address) -> bool {
        self.routing.owns(address)
    }

    /// Sends to the owner of the address, wherever it is. At most once: dropped (and counted) if the owner can't be
    /// reached or too much waits for it.
    pub fn tell(&self, to: Address, request: Request) {
        self.routing.tell(to, request);
    }

    /// Asks the owner of the address, wherever it is, and again whoever owns it next, until `deadline` has passed;
    /// then the answer is `deadline_exceeded`. The same request may be executed twice. For one address, requests
    /// reach the owner in the order of these calls. If this node is the owner, its actor gets the request and `reply` as
    /// they are, and keeps the deadline itself.
    pub fn ask(&self, to: Address, request: Request, deadline: Duration, reply: ReplyTo<Reply>) {
        self.routing.ask(to, request, deadline, reply);
    }

    /// An actor that moves hands a question on to the owner of its address, in the order of these calls. Given back if this
    /// node is the owner (again), or if the turn is over. See [`Inbound::ask_held`] for `handovers`.
    pub fn hand_on(
        &self,
        to: Address,
        request: Request,
        deadline: Instant,
        handovers: u32,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Result<(), Box<(Request, ReplyTo<Reply>)>> {
        self.routing.hand_on(to, request, deadline, handovers, reply, turn)
    }

    /// The time until the view changes again; it begins before this call returns.
    pub fn turn(&self) -> Turn<'_> {
        self.routing.turn()
    }

    /// Sends to the node named, which may be this one. At most once; in order.
    pub fn tell_node(&self, node: &str, request: NodeRequest) {
        self.routing.tell_node(node, 0, request);
    }

    /// Sends to the node named. In order for each `key` only, so that keys don't wait for each other.
    pub fn tell_node_keyed(&self, node: &str, key: u64, request: NodeRequest) {
        self.routing.tell_node(node, key, request);
    }

    /// Asks the node named, which may be this one. `unavailable` if it is not in the cluster or goes down.
    pub fn ask_node(&self, node: &str, request: NodeRequest, deadline: Duration, reply: ReplyTo<NodeReply>) {
        self.routing.ask_node(node, request, deadline, reply);
    }

    /// Announces to all nodes that this one will stop: it owns nothing from then on, unless it is the last. Returns when
    /// they have confirmed or a second has passed. This node goes on forwarding until [`Cluster::shutdown`].
    pub async fn leave(&self) {
        self.order(Event::Leave).await;
    }

    /// Cuts all links and ends everything; open questions are answered `unavailable`.
    pub async fn shutdown(&self) {
        self.order(Event::Stop).await;
        for task in self.shared.tasks.lock().drain(..) {
            task.abort();
        }
    }

    async fn order(&self, event: impl FnOnce(oneshot::Sender<()>) -> Event) {
        let (done, wait) = oneshot::channel();
        // Before the start and after the end there is nobody to do it, and nothing to be done.
        if self.shared.start.lock().is_none() && self.shared.events.send(event(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

/// Checks what only the cluster can know to be wrong.
fn check(cluster: &ClusterConfig) -> Result<(), ClusterError> {
    const LANES_MAX: usize = 1 << pending::LANE_BITS;
    const ITEM_BYTES_MAX: usize = 64 << 20;
    if !(1..=LANES_MAX).contains(&cluster.lanes) {
        return Err(ClusterError(format!("cluster.lanes is {}; take 1 to {LANES_MAX}", cluster.lanes)));
    }
    if cluster.lane_queue_bytes < cluster.item_bytes_max {
        return Err(ClusterError(
            "cluster.lane_queue_bytes is below cluster.item_bytes_max, so that one item could fill a lane; take more"
                .to_owned(),
        ));
    }
    if cluster.item_bytes_max > ITEM_BYTES_MAX {
        return Err(ClusterError(format!("cluster.item_bytes_max is above {ITEM_BYTES_MAX}; take less")));
    }
    Ok(())
}
