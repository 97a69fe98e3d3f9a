//! Links between the nodes of a scene: streams in memory instead of TCP, and envelopes on them as they are instead of
//! `ractor_cluster`, whose registries are one a process.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rookery::cluster::network::{Connection, Cut, Listener, Network, ReadHalf, WriteHalf};
use rookery::cluster::stream::LinkStream;
use rookery::cluster::transport::{Lanes, LocalNode, Session, Sessions, Transport};
use rookery::cluster::{ClusterError, NodeInfo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What may be on its way in one direction of a stream, in bytes.
const STREAM_BYTES: usize = 1 << 20;
/// The lane of the first frame, by which each end tells that it is there.
const HELLO: u16 = u16::MAX;

type Arrival = (Connection, SocketAddr);

/// The network of all nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wire {
    ports: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Arrival>>>>,
}

struct Port {
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

/// Nothing is cut in a scene.
struct Uncut;

impl Cut for Uncut {
    fn cut(&self) {}
}

#[async_trait]
impl Network for Wire {
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        self.ports.lock().insert(address.to_owned(), sender);
        let address = address.parse().map_err(io::Error::other)?;
        Ok(Box::new(Port { address, arrivals }))
    }

    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let port = self.ports.lock().get(address).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, there) = tokio::io::duplex(STREAM_BYTES);
        let connection = |stream| {
            let (read, write) = tokio::io::split(stream);
            Connection::new(Box::new(read), Box::new(write), Arc::new(Uncut))
        };
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        port.send((connection(there), from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(connection(here))
    }
}

#[async_trait]
impl Listener for Port {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    async fn accept(&mut self) -> io::Result<Arrival> {
        match self.arrivals.recv().await {
            Some(arrival) => Ok(arrival),
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Transport for Wire {
    async fn start(&self, node: LocalNode) -> Result<Arc<dyn Sessions>, ClusterError> {
        Ok(Arc::new(End { node: Arc::new(node), numbers: AtomicU64::new(1), ready: Arc::default() }))
    }
}

type Outgoing = mpsc::UnboundedSender<(u16, Vec<u8>)>;
type Ready = Arc<Mutex<BTreeMap<u64, Outgoing>>>;

/// A node's end of all its sessions.
struct End {
    node: Arc<LocalNode>,
    numbers: AtomicU64,
    ready: Ready,
}

struct Running(AbortHandle);

impl Session for Running {
    fn stop(&self) {
        self.0.abort();
    }
}

struct Sending(Outgoing);

impl Lanes for Sending {
    fn send(&self, lane: usize, envelope: Vec<u8>) {
        // The receiver goes with the session.
        let _ = self.0.send((lane as u16, envelope));
    }
}

impl Sessions for End {
    fn open(&self, stream: LinkStream, _is_server: bool) -> bool {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let epoch = stream.epoch();
        let (read, write) = stream.halves();
        let (sender, outgoing) = mpsc::unbounded_channel();
        let _ = sender.send((HELLO, Vec::new()));
        let (node, ready) = (Arc::clone(&self.node), Arc::clone(&self.ready));
        let session = tokio::spawn(async move {
            let receiving = receive(read, &node, &ready, epoch, number, sender);
            // Either ends with the stream, which in a scene ends with the runtime.
            let _ = tokio::join!(receiving, send(write, outgoing));
        });
        self.node.session_opened(epoch, Box::new(Running(session.abort_handle())));
        true
    }

    fn lanes(&self, _: &NodeInfo, session: u64) -> Option<Box<dyn Lanes>> {
        let sender = self.ready.lock().get(&session).cloned()?;
        Some(Box::new(Sending(sender)))
    }

    fn stop(&self) {
        self.ready.lock().clear();
    }
}

/// Takes frames: length, lane, envelope.
async fn receive(
    mut read: ReadHalf,
    node: &LocalNode,
    ready: &Ready,
    epoch: u64,
    number: u64,
    sender: Outgoing,
) -> io::Result<()> {
    loop {
        let length = read.read_u32().await?;
        let lane = read.read_u16().await?;
        let mut envelope = vec![0; length as usize];
        read.read_exact(&mut envelope).await?;
        if lane == HELLO {
            ready.lock().insert(number, sender.clone());
            node.session_ready(epoch, number);
        } else {
            node.take(lane.into(), envelope.into());
        }
    }
}

async fn send(mut write: WriteHalf, mut outgoing: mpsc::UnboundedReceiver<(u16, Vec<u8>)>) -> io::Result<()> {
    while let Some((lane, envelope)) = outgoing.recv().await {
        write.write_u32(envelope.len() as u32).await?;
        write.write_u16(lane).await?;
        write.write_all(&envelope).await?;
    }
    Ok(())
}
