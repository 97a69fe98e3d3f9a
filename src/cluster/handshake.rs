//! Both sides of the preamble, up to the moment when a stream is handed to the manager as a link.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::RngCore as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::manager::Event;
use super::network::{Connection, Network};
use super::preamble::{self, NONCE_BYTES, PreambleError, Role};
use super::routing::Routing;
use super::seldom::Seldom;
use super::slots::Wish;
use super::tls::{self, Tls};
use super::view::{NodeInfo, NodeState};
use crate::protocol::cluster::{
    LinkHello, LinkProof, LinkRefusal, LinkSetting, link_frame::Frame, link_refusal::Code,
};

/// What a dial came to.
#[derive(Debug)]
pub enum Outcome {
    /// The stream has become a link; whether it gets ready, the manager sees.
    Opened(NodeInfo),
    /// The node there will dial back.
    Knocked(NodeInfo),
    /// The address is this node's own.
    Itself,
    /// There is a link to the node there, or one is being made.
    Busy(NodeInfo),
    /// One side refused, with its words.
    Refused(LinkRefusal),
    /// Nobody listens there: the process that did is gone.
    Nobody(io::Error),
    /// Anything else.
    Failed(String),
}

/// A connection that has become a link.
pub struct Opened {
    /// This node's number of the link.
    pub epoch: u64,
    /// The peer's number of the link.
    pub peer_epoch: u64,
    /// The peer.
    pub info: NodeInfo,
    /// What it says of itself.
    pub said: NodeState,
    /// The connection, with nothing of the preamble left in it.
    pub connection: Connection,
    /// Whether this node accepted it.
    pub is_server: bool,
}

/// By name: the incarnation of a node, and its number of a link that is lost.
pub type Lost = Arc<HashMap<String, (u64, u64)>>;

/// Makes links, as many at once as are dialled and accepted.
pub struct Handshaker {
    network: Arc<dyn Network>,
    tls: Option<Tls>,
    info: NodeInfo,
    said: Mutex<NodeState>,
    settings: Vec<LinkSetting>,
    routing: Arc<Routing>,
    epochs: AtomicU64,
    /// By name: the incarnation, and its number of the last link to it.
    seen: Mutex<HashMap<String, (u64, u64)>>,
    events: mpsc::UnboundedSender<Event>,
    seldom: Seldom,
}

impl Handshaker {
    /// For the node that `info` describes; `settings` must be the same on all nodes.
    pub fn new(
        network: Arc<dyn Network>,
        tls: Option<Tls>,
        info: NodeInfo,
        settings: Vec<LinkSetting>,
        routing: Arc<Routing>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            network,
            tls,
            info,
            said: Mutex::new(NodeState::Joining),
            settings,
            routing,
            epochs: AtomicU64::new(0),
            seen: Mutex::default(),
            events,
            seldom: Seldom::default(),
        }
    }

    /// What this node says of itself from now on.
    pub fn set_said(&self, state: NodeState) {
        *self.said.lock() = state;
    }

    /// A link to the node has been there under that number of its own.
    pub fn note_seen(&self, name: &str, incarnation: u64, peer_epoch: u64) {
        self.seen.lock().insert(name.to_owned(), (incarnation, peer_epoch));
    }

    /// The links that have been there and are not any more, by the names of the nodes.
    pub fn lost(&self, is_linked: impl Fn(&str) -> bool) -> Lost {
        let mut lost = HashMap::clone(&self.seen.lock());
        lost.retain(|name, _| !is_linked(name));
        Arc::new(lost)
    }

    /// Dials an address. Takes at most the connect and the handshake timeout. `lost` is as of the decision to dial: a
    /// link that is made while this dial is on its way is none that has been lost.
    pub async fn dial(&self, address: &str, lost: Lost) -> Outcome {
        let limit = self.routing.config().connect_timeout;
        let connection = match timeout(limit, self.network.connect(address)).await {
            Err(_) => {
                return Outcome::Failed(format!("no connection within {limit:?} (cluster.connect_timeout)"));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Outcome::Nobody(error);
            }
            Ok(Err(error)) => return Outcome::Failed(error.to_string()),
            Ok(Ok(connection)) => connection,
        };
        let limit = self.routing.config().handshake_timeout;
        match timeout(limit, self.dial_on(connection, address, &lost)).await {
            Err(_) => Outcome::Failed(format!(
                "the process there does not answer within {limit:?} (cluster.handshake_timeout)"
            )),
            Ok(Ok(outcome)) => outcome,
            Ok(Err(PreambleError::Refused(refusal) | PreambleError::RefusedByPeer(refusal))) => {
                match refusal.code() {
                    Code::Itself => Outcome::Itself,
                    _ => Outcome::Refused(refusal),
                }
            }
            Ok(Err(error @ (PreambleError::Foreign(_) | PreambleError::Encrypted))) => {
                Outcome::Refused(preamble::refusal(Code::Other, error.to_string()))
            }
            Ok(Err(PreambleError::Io(error))) => match tls::explain(&error) {
                Some(what) => Outcome::Refused(preamble::refusal(Code::Other, what)),
                None => Outcome::Failed(error.to_string()),
            },
        }
    }

    async fn dial_on(
        &self,
        mut connection: Connection,
        address: &str,
        lost: &HashMap<String, (u64, u64)>,
    ) -> Result<Outcome, PreambleError> {
        if let Some(tls) = &self.tls {
            connection = tls.dial(connection, address).await?;
        }
        let mine = self.hello();
        let my_bytes = preamble::write(&mut connection, Frame::Hello(mine.clone())).await?;
        let (theirs, their_bytes) = preamble::read_hello(&mut connection).await?;
        if let Err(refusal) = preamble::check(&mine, &theirs) {
            preamble::refuse(&mut connection, &refusal).await;
            return Err(PreambleError::Refused(refusal));
        }
        let (peer_epoch, (info, said)) = (theirs.link_epoch, parts(theirs));
        let knock = info.name < self.info.name;
        let mut claim = None;
        if !knock {
            match self.claim(&info, mine.link_epoch, Wish::Dial).await {
                Ok(granted) => claim = Some(granted),
                Err(refusal) if refusal.code() == Code::Busy => return Ok(Outcome::Busy(info)),
                Err(refusal) => {
                    preamble::refuse(&mut connection, &refusal).await;
                    return Err(PreambleError::Refused(refusal));
                }
            }
        }
        let proof = preamble::proof(&self.routing.config().cookie, Role::Dialer, &my_bytes, &their_bytes);
        let seen_epoch = lost
            .get(&info.name)
            .filter(|(incarnation, _)| *incarnation == info.incarnation)
            .map_or(0, |(_, epoch)| *epoch);
        preamble::write(&mut connection, Frame::Proof(LinkProof { seen_epoch, ..proof })).await?;
        let (given, taken) = match preamble::read(&mut connection).await? {
            Frame::Welcome(given) if !knock => (given, true),
            Frame::KnockTaken(given) if knock => (given, false),
            _ => return Err(PreambleError::Foreign("the other side answered out of turn".to_owned())),
        };
        let expected =
            preamble::proof(&self.routing.config().cookie, Role::Acceptor, &my_bytes, &their_bytes);
        preamble::verify(&expected, &given).map_err(PreambleError::Refused)?;
        if let (true, Some(claim)) = (taken, claim) {
            let opened = Opened {
                epoch: mine.link_epoch,
                peer_epoch,
                info: info.clone(),
                said,
                connection,
                is_server: false,
            };
            claim.fulfil(opened);
            return Ok(Outcome::Opened(info));
        }
        Ok(Outcome::Knocked(info))
    }

    /// Takes a connection: it becomes a link, or is refused with words here and there.
    pub async fn accept(&self, connection: Connection, from: SocketAddr) {
        let limit = self.routing.config().handshake_timeout;
        let mut who = None;
        let result = timeout(limit, self.accept_on(connection, &mut who)).await;
        let what = match result {
            Ok(Ok(())) => return,
            // A node that dials itself finds out on its other end.
            Ok(Err(PreambleError::Refused(refusal) | PreambleError::RefusedByPeer(refusal)))
                if matches!(refusal.code(), Code::Itself | Code::Stopping) =>
            {
                return;
            }
            Ok(Err(error @ (PreambleError::Refused(_) | PreambleError::RefusedByPeer(_)))) => {
                let who = who.as_deref().unwrap_or("an unnamed node");
                format!("a link from {who} is refused: {error}")
            }
            Ok(Err(error @ (PreambleError::Foreign(_) | PreambleError::Encrypted))) => {
                format!("a connection is refused: {error}")
            }
            Ok(Err(PreambleError::Io(error))) => match tls::explain(&error) {
                Some(what) => format!("a connection is refused: {what}"),
                // The dialer has gone, or has thought better of it.
                None => return,
            },
            Err(_) => format!(
                "a connection said too little within {limit:?} (cluster.handshake_timeout) and is dropped"
            ),
        };
        self.routing.counters.links_refused.increment();
        if self.seldom.allows(&format!("{} {what}", from.ip())) {
            tracing::warn!(target: "rookery::cluster", %from, "{what}");
        }
    }

    async fn accept_on(
        &self,
        mut connection: Connection,
        who: &mut Option<String>,
    ) -> Result<(), PreambleError> {
        if let Some(tls) = &self.tls {
            connection = tls.accept(connection).await?;
        }
        let (theirs, their_bytes) = match preamble::read_hello(&mut connection).await {
            Err(error @ PreambleError::Encrypted) => {
                // To its TLS this is no TLS, which says what is wrong.
                preamble::refuse(&mut connection, &preamble::refusal(Code::Other, "no TLS here")).await;
                preamble::part(&mut connection).await;
                return Err(error);
            }
            hello => hello?,
        };
        let mine = self.hello();
        *who = theirs.member.as_ref().map(|member| format!("'{}' ({})", member.name, member.cluster_address));
        let refused = async |connection: &mut Connection, refusal: LinkRefusal| {
            preamble::refuse(connection, &refusal).await;
            PreambleError::Refused(refusal)
        };
        if let Err(refusal) = preamble::check(&mine, &theirs) {
            return Err(refused(&mut connection, refusal).await);
        }
        let my_bytes = preamble::write(&mut connection, Frame::Hello(mine.clone())).await?;
        let Frame::Proof(given) = preamble::read(&mut connection).await? else {
            return Err(PreambleError::Foreign("the other side did not prove its cookie".to_owned()));
        };
        let expected = preamble::proof(&self.routing.config().cookie, Role::Dialer, &their_bytes, &my_bytes);
        if let Err(refusal) = preamble::verify(&expected, &given) {
            return Err(refused(&mut connection, refusal).await);
        }
        let (peer_epoch, (info, said)) = (theirs.link_epoch, parts(theirs));
        let knock = self.info.name < info.name;
        let wish = if knock { Wish::Knock { seen_epoch: given.seen_epoch } } else { Wish::Accept };
        let claim = match self.claim(&info, mine.link_epoch, wish).await {
            Ok(claim) => claim,
            Err(refusal) => return Err(refused(&mut connection, refusal).await),
        };
        let proof = preamble::proof(&self.routing.config().cookie, Role::Acceptor, &their_bytes, &my_bytes);
        if knock {
            claim.forget();
            preamble::write(&mut connection, Frame::KnockTaken(proof)).await?;
            return Ok(());
        }
        preamble::write(&mut connection, Frame::Welcome(proof)).await?;
        claim.fulfil(Opened { epoch: mine.link_epoch, peer_epoch, info, said, connection, is_server: true });
        Ok(())
    }

    fn hello(&self) -> LinkHello {
        let mut nonce = vec![0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        LinkHello {
            member: Some(self.info.to_member(*self.said.lock())),
            link_epoch: self.epochs.fetch_add(1, Ordering::Relaxed) + 1,
            nonce,
            settings: self.settings.clone(),
        }
    }

    /// Asks the manager whether there may be a link, and waits until an old one has ended.
    async fn claim(&self, info: &NodeInfo, epoch: u64, wish: Wish) -> Result<Claim, LinkRefusal> {
        let (sender, receiver) = oneshot::channel();
        let stopping = || preamble::refusal(Code::Stopping, "the node is stopping");
        let claim = Claim { epoch, events: Some(self.events.clone()) };
        let event = Event::Claim { info: info.clone(), epoch, wish, answer: sender };
        self.events.send(event).map_err(|_| stopping())?;
        match receiver.await {
            Ok(Ok(())) => Ok(claim),
            Ok(Err(refusal)) => {
                claim.forget();
                Err(refusal)
            }
            Err(_) => Err(stopping()),
        }
    }
}

fn parts(hello: LinkHello) -> (NodeInfo, NodeState) {
    NodeInfo::from_member(hello.member.unwrap_or_default())
}

/// The right to make one link to one node. Dropped unused, it goes back to the manager.
struct Claim {
    epoch: u64,
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl Claim {
    fn fulfil(mut self, opened: Opened) {
        if let Some(events) = self.events.take() {
            // The manager is gone only when the node is stopping; the stream is closed then.
            let _ = events.send(Event::Opened(Box::new(opened)));
        }
    }

    fn forget(mut self) {
        self.events = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            let _ = events.send(Event::Abandoned { epoch: self.epoch });
        }
    }
}

/// Shared by the listener and the manager.
pub type SharedHandshaker = Arc<Handshaker>;
