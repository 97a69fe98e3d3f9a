//! What stands in for `ractor_cluster`, whose registries are one a process: envelopes framed with their lane on the
//! link's stream. As there, each lane is taken by a task of its own, so that lanes overtake each other, and what has
//! come over a session is handed over even when the session has ended meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rookery::cluster::network::{ReadHalf, WriteHalf};
use rookery::cluster::stream::LinkStream;
use rookery::cluster::transport::{Lanes, LocalNode, Session, Sessions, Transport};
use rookery::cluster::{ClusterError, NodeInfo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};

use crate::node::Life;
use crate::rng::Rng;

/// The lane of the first frame, by which each end tells that it is there.
const HELLO: u16 = u16::MAX;
/// How long an envelope waits for its router's turn at most, where it waits.
const TURN_MS: u64 = 4;

/// Makes the sessions of one life of a node.
pub struct SimTransport {
    pub life: Arc<Life>,
    pub rng: Mutex<Rng>,
    /// How many of a hundred envelopes wait for their router's turn.
    pub late_percent: u64,
}

type Outgoing = mpsc::UnboundedSender<(u16, Vec<u8>)>;

struct SimSessions {
    node: LocalNode,
    life: Arc<Life>,
    rng: Mutex<Rng>,
    late_percent: u64,
    count: AtomicU64,
    ready: Mutex<BTreeMap<u64, Outgoing>>,
}

#[async_trait]
impl Transport for SimTransport {
    async fn start(&self, node: LocalNode) -> Result<Arc<dyn Sessions>, ClusterError> {
        let sessions = SimSessions {
            node,
            life: self.life.clone(),
            rng: Mutex::new(self.rng.lock().fork()),
            late_percent: self.late_percent,
            count: AtomicU64::new(0),
            ready: Mutex::default(),
        };
        Ok(Arc::new(Shared(Arc::new(sessions))))
    }
}

struct Shared(Arc<SimSessions>);

struct SimSession(Arc<Notify>);

impl Session for SimSession {
    fn stop(&self) {
        self.0.notify_one();
    }
}

struct SimLanes(Outgoing);

impl Lanes for SimLanes {
    fn send(&self, lane: usize, envelope: Vec<u8>) {
        // The receiver is gone when the session has ended.
        let _ = self.0.send((lane as u16, envelope));
    }
}

impl Sessions for Shared {
    fn open(&self, stream: LinkStream, _is_server: bool) -> bool {
        let sessions = self.0.clone();
        let number = sessions.count.fetch_add(1, Ordering::Relaxed) + 1;
        let epoch = stream.epoch();
        let (read, write) = stream.halves();
        let (sender, outgoing) = mpsc::unbounded_channel();
        let _ = sender.send((HELLO, Vec::new()));
        let stopped = Arc::new(Notify::new());
        sessions.node.session_opened(epoch, Box::new(SimSession(stopped.clone())));
        tokio::spawn(async move {
            let lanes = sessions.routers();
            tokio::select! {
                biased;
                () = stopped.notified() => {}
                _ = sessions.receive(read, &lanes, epoch, number, sender) => {}
                _ = send(write, outgoing) => {}
            }
            sessions.ready.lock().remove(&number);
            if !sessions.life.is_over() {
                sessions.node.session_ended(epoch);
            }
        });
        true
    }

    fn lanes(&self, _peer: &NodeInfo, session: u64) -> Option<Box<dyn Lanes>> {
        let sender = self.0.ready.lock().get(&session).cloned()?;
        Some(Box::new(SimLanes(sender)))
    }

    fn stop(&self) {
        self.0.ready.lock().clear();
    }
}

impl SimSessions {
    /// A task for each lane, which takes its envelopes in order.
    fn routers(self: &Arc<Self>) -> Vec<mpsc::UnboundedSender<Vec<u8>>> {
        let router = |lane| {
            let (sender, mut envelopes) = mpsc::unbounded_channel::<Vec<u8>>();
            let sessions = self.clone();
            tokio::spawn(async move {
                while let Some(envelope) = envelopes.recv().await {
                    let turn = {
                        let mut rng = sessions.rng.lock();
                        rng.chance(sessions.late_percent).then(|| rng.range(1, TURN_MS))
                    };
                    if let Some(turn) = turn {
                        tokio::time::sleep(Duration::from_millis(turn)).await;
                    }
                    if sessions.life.is_over() {
                        return;
                    }
                    sessions.node.take(lane, envelope.into());
                }
            });
            sender
        };
        (0..self.node.lanes()).map(router).collect()
    }

    async fn receive(
        &self,
        mut read: ReadHalf,
        lanes: &[mpsc::UnboundedSender<Vec<u8>>],
        epoch: u64,
        number: u64,
        sender: Outgoing,
    ) -> io::Result<()> {
        loop {
            let length = read.read_u32().await?;
            let lane = read.read_u16().await?;
            let mut envelope = vec![0; length as usize];
            read.read_exact(&mut envelope).await?;
            if self.life.is_over() {
                return Ok(());
            }
            if lane == HELLO {
                self.ready.lock().insert(number, sender.clone());
                self.node.session_ready(epoch, number);
            } else if let Some(lane) = lanes.get(lane as usize) {
                let _ = lane.send(envelope);
            }
        }
    }
}

async fn send(mut write: WriteHalf, mut outgoing: mpsc::UnboundedReceiver<(u16, Vec<u8>)>) -> io::Result<()> {
    while let Some((lane, envelope)) = outgoing.recv().await {
        let mut frame = Vec::with_capacity(6 + envelope.len());
        frame.extend_from_slice(&(envelope.len() as u32).to_be_bytes());
        frame.extend_from_slice(&lane.to_be_bytes());
        frame.extend_from_slice(&envelope);
        write.write_all(&frame).await?;
    }
    Ok(())
}
