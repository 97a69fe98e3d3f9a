//! What carries envelopes between two nodes that a stream joins: sessions, each with all lanes.
//!
//! The cluster opens and cuts streams, numbers envelopes and bounds what is on its way; a transport only takes a stream
//! over, finds the lanes of the other end, and hands over what comes. Nodes run on [`server`](super::server), which is
//! `ractor_cluster`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::ClusterError;
use super::manager::Event;
use super::routing::Routing;
use super::stream::LinkStream;
use super::view::NodeInfo;
use crate::config::ClusterConfig;

/// Makes this node's end of the sessions.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Starts for this node. Called once.
    async fn start(&self, node: LocalNode) -> Result<Arc<dyn Sessions>, ClusterError>;
}

/// This node's end of the sessions. What happens to one, [`LocalNode`] is told, in order.
pub trait Sessions: Send + Sync + 'static {
    /// Makes a session of a link's stream. False: it can't, and the link is to be cut.
    fn open(&self, stream: LinkStream, is_server: bool) -> bool;
    /// The peer's lanes by a session that is ready. None: it does not have them all.
    fn lanes(&self, peer: &NodeInfo, session: u64) -> Option<Box<dyn Lanes>>;
    /// Ends all.
    fn stop(&self);
}

/// A session, from its beginning.
pub trait Session: Send + Sync + 'static {
    /// Ends it. Its stream has been cut before.
    fn stop(&self);
}

/// The lanes of a peer, by one session.
pub trait Lanes: Send + Sync + 'static {
    /// Sends an encoded envelope. In order for each lane; at most once, and nothing after the session has ended. Must
    /// not block: what may be on its way is bounded by credit.
    fn send(&self, lane: usize, envelope: Vec<u8>);
}

/// What a transport knows of its node, and tells it. Cheap to clone.
#[derive(Clone)]
pub struct LocalNode {
    routing: Arc<Routing>,
    events: mpsc::UnboundedSender<Event>,
}

impl LocalNode {
    pub(super) fn new(routing: Arc<Routing>, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { routing, events }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.routing.name()
    }

    /// Its incarnation.
    pub fn incarnation(&self) -> u64 {
        self.routing.incarnation()
    }

    /// Its configuration.
    pub fn config(&self) -> &ClusterConfig {
        self.routing.config()
    }

    /// Its lanes: those of actors, and control as the last.
    pub fn lanes(&self) -> usize {
        self.routing.control_lane() + 1
    }

    /// An encoded envelope has come on a lane.
    pub fn take(&self, lane: usize, envelope: Bytes) {
        self.routing.on_envelope(lane, envelope);
    }

    /// There is a session of the link of that number.
    pub fn session_opened(&self, epoch: u64, session: Box<dyn Session>) {
        self.inform(Event::SessionOpened { epoch, session });
    }

    /// The session knows the peer's lanes; [`Sessions::lanes`] finds them by `session`.
    pub fn session_ready(&self, epoch: u64, session: u64) {
        self.inform(Event::SessionReady { epoch, session });
    }

    /// The session is over, and its stream closed.
    pub fn session_ended(&self, epoch: u64) {
        self.inform(Event::SessionEnded { epoch });
    }

    /// What all sessions need, `what`, has died and was made anew: sessions from before are of no use.
    pub fn reset(&self, what: &'static str) {
        self.inform(Event::Reset(what));
    }

    fn inform(&self, event: Event) {
        // The manager is gone only when the node is stopping.
        let _ = self.events.send(event);
    }
}
