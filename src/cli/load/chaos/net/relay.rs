//! A TCP relay that can hold bytes back, in each direction by itself.
//!
//! A proxy can't drop packets: what is cut is held, as TCP would keep and repeat it, and goes on when the cut ends. Loss
//! is what TCP makes of it: now and then everything waits for a repeat.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Place, Weather};

/// Connections through one relay at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way; beyond, the relay stops reading, as a full pipe does.
const CHUNKS_MAX: usize = 64;
/// How long the relay tries to reach the other end.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost packet is repeated after this long (the shortest that Linux waits), or after twice that.
const REPEAT: Duration = Duration::from_millis(200);
/// Pause after a failed accept, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who dialled, by the addresses of the connection as the dialler has them: its own, and the one dialled.
pub(super) type WhoDialled = Arc<dyn Fn(SocketAddr, SocketAddr) -> Option<Place> + Send + Sync>;

/// The path that a relay is part of.
pub(super) struct Path {
    pub(super) from: WhoDialled,
    pub(super) to: Place,
}

/// A running relay. Dropping it ends it and its connections.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    task: AbortHandle,
}

impl Relay {
    /// Listens at `listen` and leads to `target`. Without a path and a weather it only relays.
    pub(super) async fn start(
        listen: SocketAddr,
        target: String,
        path: Option<Path>,
        weather: Option<watch::Receiver<Weather>>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("{listen} can't be bound"))?;
        let address = listener.local_addr().context("a bound listener has an address")?;
        let task = tokio::spawn(accept(listener, target, path, weather)).abort_handle();
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    path: Option<Path>,
    weather: Option<watch::Receiver<Weather>>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let path = path.map(Arc::new);
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (target, path, weather) = (target.clone(), path.clone(), weather.clone());
        connections.spawn(async move {
            let _permit = permit;
            serve(client, target, path, weather).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    target: String,
    path: Option<Arc<Path>>,
    weather: Option<watch::Receiver<Weather>>,
) {
    let route = match path {
        Some(path) => {
            let (Ok(dialler), Ok(dialled)) = (client.peer_addr(), client.local_addr()) else { return };
            let who = Arc::clone(&path);
            let found = tokio::task::spawn_blocking(move || (who.from)(dialler, dialled)).await;
            // One that is gone already, or a stranger.
            let Ok(Some(from)) = found else { return };
            Some((from, path.to))
        }
        None => None,
    };
    let gate = |way: Option<(Place, Place)>| Gate { way, weather: weather.clone() };
    let mut there = gate(route);
    // A cut path connects nobody.
    there.open().await;
    let Ok(Ok(server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(&target)).await else { return };
    // Failing to do so costs time only.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let back = gate(route.map(|(from, to)| (to, from)));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::join!(pump(client_read, server_write, there), pump(server_read, client_write, back));
}

/// What stands in the way of one direction.
struct Gate {
    way: Option<(Place, Place)>,
    weather: Option<watch::Receiver<Weather>>,
}

impl Gate {
    /// Waits while the way is cut.
    async fn open(&mut self) {
        if let (Some((from, to)), Some(weather)) = (self.way, &mut self.weather) {
            // An error means that the net has ended, and with it this relay.
            let _ = weather.wait_for(|weather| !weather.is_cut(from, to)).await;
        }
    }

    /// How much later than now bytes arrive that are read now, and how fast they may be written.
    fn trouble(&self) -> (Duration, u64) {
        let (Some((Place::Node(from), Place::Node(_))), Some(weather)) = (self.way, &self.weather) else {
            return (Duration::ZERO, 0);
        };
        let weather = weather.borrow();
        let bad = weather.bad_links.get(&from).copied();
        let mut delay = bad.map_or(Duration::ZERO, |bad| bad.delay);
        if rand::random_range(0..100) < weather.loss {
            delay += REPEAT;
            // And the repeat may be lost too.
            if rand::random_range(0..100) < weather.loss {
                delay += REPEAT * 2;
            }
        }
        (delay, bad.map_or(0, |bad| bad.bytes_per_second))
    }
}

async fn pump(mut from: OwnedReadHalf, to: OwnedWriteHalf, mut gate: Gate) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let writer = write(to, receiver);
    let reader = async {
        let mut due = Instant::now();
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            // A broken connection ends as a closed one does: the other side sees the end.
            let read = from.read_buf(&mut chunk).await.unwrap_or(0);
            gate.open().await;
            if read == 0 {
                return drop(sender);
            }
            let (delay, bytes_per_second) = gate.trouble();
            // Nothing overtakes in a stream.
            due = due.max(Instant::now() + delay);
            if let Some(nanos) = (read as u64 * 1_000_000_000).checked_div(bytes_per_second) {
                due += Duration::from_nanos(nanos);
            }
            if sender.send((due, chunk.freeze())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reader, writer);
}

async fn write(mut to: OwnedWriteHalf, mut chunks: mpsc::Receiver<(Instant, Bytes)>) {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    // The end is told behind all that was read.
    let _ = to.shutdown().await;
}
