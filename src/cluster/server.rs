//! The transport that nodes run on: this node's `ractor_cluster` server and its routers.
//!
//! The server's own listener is bound to a loopback port that nobody is told of, as it would let one silent client block
//! it; links come only from our own listener, as external streams. It runs isolated: discovery is by gossip. Its logs
//! print whole payloads at debug level: [`LOG_FILTER`] belongs into every log filter.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, NodeSessionMessage};
use tokio::task::JoinHandle;

use super::ClusterError;
use super::preamble;
use super::router::{Router, RouterMessage, Routers};
use super::seldom::Seldom;
use super::stream::LinkStream;
use super::transport::{Lanes, LocalNode, Session, Sessions, Transport};
use super::view::NodeInfo;

/// What to add to any log filter, after the user's own: `ractor_cluster` prints payloads at debug level, and a line for
/// each step of a link at info level.
pub const LOG_FILTER: &str = "ractor=warn,ractor_cluster=error";

/// Most bytes of a frame of `ractor_cluster` beyond the largest item: its own and the envelope's heads.
const FRAME_ROOM_BYTES: u64 = 64 * 1024;

/// Sessions of `ractor_cluster`.
pub struct RactorCluster;

#[async_trait]
impl Transport for RactorCluster {
    async fn start(&self, node: LocalNode) -> Result<Arc<dyn Sessions>, ClusterError> {
        Ok(Arc::new(Server::start(node).await?))
    }
}

/// What carries the links: made anew when it dies.
#[derive(Clone)]
struct Server(Arc<Inner>);

struct Inner {
    node: LocalNode,
    actor: Mutex<Option<ActorRef<NodeServerMessage>>>,
    routers: Mutex<Vec<ActorRef<RouterMessage>>>,
    stopping: AtomicBool,
}

/// What is made anew when it dies.
#[derive(Clone, Copy)]
enum Part {
    Router(usize),
    Links,
}

impl Sessions for Server {
    fn open(&self, stream: LinkStream, is_server: bool) -> bool {
        let actor = self.0.actor.lock();
        let actor = actor.as_ref().expect("start() returns only when there is one, and nobody takes it out");
        actor
            .cast(NodeServerMessage::ConnectionOpenedExternal { stream: Box::new(stream), is_server })
            .is_ok()
    }

    fn lanes(&self, peer: &NodeInfo, session: u64) -> Option<Box<dyn Lanes>> {
        let routers = Routers::of(&peer.name, peer.incarnation, self.0.node.lanes(), session)?;
        Some(Box::new(routers))
    }

    fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        if let Some(actor) = &*self.0.actor.lock() {
            actor.stop(None);
        }
        for router in self.0.routers.lock().iter() {
            router.stop(None);
        }
    }
}

impl Session for ActorRef<NodeSessionMessage> {
    fn stop(&self) {
        self.get_cell().stop(Some("link cut".to_owned()));
    }
}

impl Server {
    /// Starts the server and all routers.
    async fn start(node: LocalNode) -> Result<Self, ClusterError> {
        let server = Self(Arc::new(Inner {
            node,
            actor: Mutex::new(None),
            routers: Mutex::default(),
            stopping: AtomicBool::new(false),
        }));
        for lane in 0..server.0.node.lanes() {
            server.keep(Part::Router(lane), server.start_router(lane).await?);
        }
        server.keep(Part::Links, server.start_links().await?);
        Ok(server)
    }

    async fn start_links(&self) -> Result<JoinHandle<()>, ClusterError> {
        let node = &self.0.node;
        // The incarnation in the name keeps a half-open link of a former process from blocking this one.
        let name = format!("{}#{}", node.name(), node.incarnation());
        let config = node.config();
        let cookie = preamble::inner_cookie(&config.cookie);
        // The host name is part of what ractor_cluster takes for an address when it looks for links to itself; with
        // the real one, two nodes with the same port on two hosts could not link.
        let server = NodeServer::new(0, cookie, name.clone(), name, None, Some(NodeConnectionMode::Isolated))
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .with_max_inbound_frame_size(config.item_bytes_max as u64 + FRAME_ROOM_BYTES);
        let (actor, ended) = Actor::spawn(None, server, ())
            .await
            .map_err(|error| ClusterError(format!("the server for links can't start: {error}")))?;
        let subscription = Subscription { node: node.clone(), seldom: Seldom::default() };
        actor
            .cast(NodeServerMessage::SubscribeToEvents {
                id: "rookery".to_owned(),
                subscription: Box::new(subscription),
            })
            .map_err(|error| ClusterError(format!("the server for links has died: {error}")))?;
        *self.0.actor.lock() = Some(actor);
        Ok(ended)
    }

    async fn start_router(&self, lane: usize) -> Result<JoinHandle<()>, ClusterError> {
        let router = Router { node: self.0.node.clone(), lane };
        let (actor, ended) = Actor::spawn(None, router, ())
            .await
            .map_err(|error| ClusterError(format!("a router can't start: {error}")))?;
        let mut routers = self.0.routers.lock();
        match routers.get_mut(lane) {
            Some(router) => *router = actor,
            None => routers.push(actor),
        }
        Ok(ended)
    }

    /// Makes a part anew whenever it has died, and tells the manager.
    fn keep(&self, part: Part, mut ended: JoinHandle<()>) {
        let server = self.clone();
        tokio::spawn(async move {
            loop {
                // Whether it ended or panicked, it is gone.
                let _ = ended.await;
                if server.is_stopping() {
                    return;
                }
                let started = match part {
                    Part::Router(lane) => server.start_router(lane).await,
                    Part::Links => server.start_links().await,
                };
                match started {
                    Ok(next) => ended = next,
                    Err(error) => {
                        tracing::error!(target: "rookery::cluster", "{error}; this node must be restarted");
                        return;
                    }
                }
                server.0.node.reset(match part {
                    Part::Router(_) => "router",
                    Part::Links => "server for links",
                });
            }
        });
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }
}

/// The label of a link's stream, by which its session's events are known.
pub fn label(epoch: u64) -> String {
    format!("link-{epoch}")
}

fn epoch_of(session: &NodeServerSessionInformation) -> Option<u64> {
    session.peer_addr.strip_prefix("link-")?.parse().ok()
}

/// Passes session events on to the manager; runs inside the server and must not block it.
struct Subscription {
    node: LocalNode,
    seldom: Seldom,
}

impl NodeEventSubscription for Subscription {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        match epoch_of(&session) {
            Some(epoch) => self.node.session_opened(epoch, Box::new(session.actor)),
            None => {
                session.actor.get_cell().stop(Some("not a link".to_owned()));
                if self.seldom.allows("stray") {
                    tracing::warn!(
                        target: "rookery::cluster", from = %session.peer_addr,
                        "a connection to ractor_cluster's own port was dropped; links come over cluster.listen"
                    );
                }
            }
        }
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        if let Some(epoch) = epoch_of(&session) {
            self.node.session_ended(epoch);
        }
    }

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        if let Some(epoch) = epoch_of(&session) {
            self.node.session_ready(epoch, session.node_id);
        }
    }
}
