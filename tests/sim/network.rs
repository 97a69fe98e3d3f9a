//! A network of hosts in memory: connections with delay and limited room, ways that can be blocked in one direction,
//! hosts that go dark. What a blocked way holds up arrives when it opens again, as TCP sends again what is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rookery::cluster::network::{Connection, Cut, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};

use crate::node::Life;
use crate::rng::Rng;

/// The port that every node listens on.
const PORT: u16 = 7946;
/// Bytes of one direction of a connection that are on their way, or not yet known to have arrived.
const ROOM_BYTES: usize = 64 * 1024;
/// After a way has opened again, what waited is sent again within so many milliseconds.
const RESEND_MS: u64 = 400;

/// host:port of a node.
pub fn address(host: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, host as u8 + 1), PORT).into()
}

fn host_of(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(address) => address.ip().octets()[3] as usize - 1,
        SocketAddr::V6(_) => usize::MAX,
    }
}

/// The whole network. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    opened: Arc<Notify>,
}

struct State {
    rng: Rng,
    ports: BTreeMap<SocketAddr, Port>,
    ports_taken: u64,
    blocked: BTreeSet<(usize, usize)>,
    dark: BTreeSet<usize>,
    /// Delay in milliseconds, from and to; the last is for ways not named.
    delays: BTreeMap<(usize, usize), (u64, u64)>,
    delay: (u64, u64),
    wires: Vec<Weak<Wire>>,
}

struct Port {
    number: u64,
    incoming: mpsc::UnboundedSender<(Connection, SocketAddr)>,
}

impl State {
    fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to)) || self.dark.contains(&from) || self.dark.contains(&to)
    }

    fn draw_delay(&mut self, from: usize, to: usize) -> Duration {
        let (low, high) = self.delays.get(&(from, to)).copied().unwrap_or(self.delay);
        Duration::from_millis(self.rng.range(low, high))
    }
}

impl Net {
    /// `delay`: of every way, in milliseconds, from and to.
    pub fn new(rng: Rng, delay: (u64, u64)) -> Self {
        let state = State {
            rng,
            ports: BTreeMap::new(),
            ports_taken: 0,
            blocked: BTreeSet::new(),
            dark: BTreeSet::new(),
            delays: BTreeMap::new(),
            delay,
            wires: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), opened: Arc::default() }
    }

    /// The network as a node on `host` has it, as long as it lives.
    pub fn of(&self, host: usize, life: Arc<Life>) -> Arc<dyn Network> {
        Arc::new(HostNet { net: self.clone(), host, life })
    }

    /// Holds up everything from one host to another.
    pub fn block(&self, from: usize, to: usize) {
        self.state.lock().blocked.insert((from, to));
    }

    /// Lets it pass again.
    pub fn unblock(&self, from: usize, to: usize) {
        self.state.lock().blocked.remove(&(from, to));
        self.resume();
    }

    /// Everything passes, at the usual pace.
    pub fn heal(&self) {
        {
            let mut state = self.state.lock();
            state.blocked.clear();
            state.delays.clear();
        }
        self.resume();
    }

    /// Delays one way by so many milliseconds; none: as usual.
    pub fn slow(&self, from: usize, to: usize, delay: Option<(u64, u64)>) {
        let mut state = self.state.lock();
        match delay {
            Some(delay) => state.delays.insert((from, to), delay),
            None => state.delays.remove(&(from, to)),
        };
    }

    /// Ends all connections between two hosts; what was on its way is lost.
    pub fn sever(&self, a: usize, b: usize) {
        for wire in self.wires() {
            if wire.hosts == [a, b] || wire.hosts == [b, a] {
                wire.lose();
            }
        }
    }

    /// A host's process has died. `told`: its system says so to the others; else it is dark until it starts again.
    pub fn crash(&self, host: usize, told: bool) {
        {
            let mut state = self.state.lock();
            state.ports.retain(|address, _| host_of(*address) != host);
            if !told {
                state.dark.insert(host);
            }
        }
        for wire in self.wires() {
            for side in 0..2 {
                if wire.hosts[side] == host {
                    wire.die(side, told);
                }
            }
        }
    }

    /// A host is there again: its system knows none of the former connections, and says so.
    pub fn revive(&self, host: usize) {
        self.state.lock().dark.remove(&host);
        for wire in self.wires() {
            for side in 0..2 {
                if wire.hosts[side] == host {
                    wire.disown(side);
                }
            }
        }
        self.resume();
    }

    fn wires(&self) -> Vec<Arc<Wire>> {
        let mut state = self.state.lock();
        state.wires.retain(|wire| wire.strong_count() > 0);
        state.wires.iter().filter_map(Weak::upgrade).collect()
    }

    fn resume(&self) {
        for wire in self.wires() {
            wire.resume();
        }
        self.opened.notify_waiters();
    }
}

/// The network as one host has it.
struct HostNet {
    net: Net,
    host: usize,
    life: Arc<Life>,
}

impl HostNet {
    async fn travel(&self, from: usize, to: usize) {
        let delay = self.net.state.lock().draw_delay(from, to);
        tokio::time::sleep(delay).await;
    }
}

#[async_trait]
impl Network for HostNet {
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut state = self.net.state.lock();
        state.ports_taken += 1;
        let number = state.ports_taken;
        state.ports.insert(address, Port { number, incoming: sender });
        Ok(Box::new(SimListener { net: self.net.clone(), address, number, incoming }))
    }

    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let (here, there) = (self.host, host_of(address));
        self.travel(here, there).await;
        loop {
            let opened = self.net.opened.notified();
            let shut = {
                let state = self.net.state.lock();
                state.is_blocked(here, there) || state.is_blocked(there, here)
            };
            if !shut {
                break;
            }
            opened.await;
        }
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
        let port = self.net.state.lock().ports.get(&address).map(|port| port.incoming.clone());
        let Some(port) = port else {
            self.travel(there, here).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let wire = Arc::new(Wire {
            net: self.net.clone(),
            hosts: [here, there],
            state: Mutex::new([Side::default(), Side::default()]),
        });
        self.net.state.lock().wires.push(Arc::downgrade(&wire));
        let mine = connection(&wire, 0);
        let from = SocketAddr::from((Ipv4Addr::new(10, 0, 0, here as u8 + 1), 40_000));
        if port.send((connection(&wire, 1), from)).is_err() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.travel(there, here).await;
        Ok(mine)
    }
}

struct SimListener {
    net: Net,
    address: SocketAddr,
    number: u64,
    incoming: mpsc::UnboundedReceiver<(Connection, SocketAddr)>,
}

#[async_trait]
impl Listener for SimListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    async fn accept(&mut self) -> io::Result<(Connection, SocketAddr)> {
        match self.incoming.recv().await {
            Some(accepted) => Ok(accepted),
            // The port was taken away: nobody comes any more.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.net.state.lock();
        if state.ports.get(&self.address).is_some_and(|port| port.number == self.number) {
            state.ports.remove(&self.address);
        }
    }
}

/// One connection. Side 0 has dialled, side 1 has accepted.
struct Wire {
    net: Net,
    hosts: [usize; 2],
    state: Mutex<[Side; 2]>,
}

/// One end, and what it has written.
#[derive(Default)]
struct Side {
    sent: VecDeque<(Instant, Chunk)>,
    /// When the last of it arrives.
    last: Option<Instant>,
    /// Bytes not known to have arrived.
    in_flight: usize,
    /// Of those, bytes that have arrived, but the way back is blocked.
    unacknowledged: usize,
    /// Waits for what the other end sends.
    reader: Option<Waker>,
    /// Waits for room.
    writer: Option<Waker>,
    /// Nothing is written or read here any more.
    cut: bool,
    /// It died without a word.
    orphan: bool,
}

enum Chunk {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Side {
    fn push(&mut self, at: Instant, chunk: Chunk) {
        // Nothing overtakes on one connection.
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        self.sent.push_back((at, chunk));
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Wire {
    fn arrival(&self, side: usize) -> Instant {
        Instant::now() + self.net.state.lock().draw_delay(self.hosts[side], self.hosts[1 - side])
    }

    /// This end throws away what it has sent, and resets.
    fn cut(&self, side: usize) {
        let at = self.arrival(side);
        let mut state = self.state.lock();
        if std::mem::replace(&mut state[side].cut, true) {
            return;
        }
        state[side].sent.clear();
        state[side].push(at, Chunk::Reset);
        state[side].wake();
        state[1 - side].wake();
    }

    /// This end's process has died.
    fn die(&self, side: usize, told: bool) {
        let at = self.arrival(side);
        let mut state = self.state.lock();
        if std::mem::replace(&mut state[side].cut, true) {
            return;
        }
        if told {
            state[side].push(at, Chunk::End);
        } else {
            state[side].orphan = true;
        }
        state[side].wake();
        state[1 - side].wake();
    }

    /// This end's system has started again and answers what still comes with a reset.
    fn disown(&self, side: usize) {
        let at = self.arrival(side);
        let mut state = self.state.lock();
        if std::mem::take(&mut state[side].orphan) {
            state[side].sent.clear();
            state[side].push(at, Chunk::Reset);
            state[1 - side].wake();
        }
    }

    /// Both ends are reset.
    fn lose(&self) {
        for side in 0..2 {
            let at = self.arrival(side);
            let mut state = self.state.lock();
            state[side].sent.clear();
            state[side].push(at, Chunk::Reset);
            state[1 - side].wake();
        }
    }

    /// A way may have opened: what waited is sent again after a while.
    fn resume(&self) {
        for side in 0..2 {
            let (open, back_open, wait) = {
                let mut net = self.net.state.lock();
                let (from, to) = (self.hosts[side], self.hosts[1 - side]);
                let wait = Duration::from_millis(net.rng.range(0, RESEND_MS));
                (!net.is_blocked(from, to), !net.is_blocked(to, from), wait)
            };
            let mut state = self.state.lock();
            let sender = &mut state[side];
            if open {
                let first = Instant::now() + wait;
                for (at, _) in &mut sender.sent {
                    *at = (*at).max(first);
                }
                sender.last = sender.last.map(|last| last.max(first));
            }
            if back_open {
                sender.in_flight -= std::mem::take(&mut sender.unacknowledged);
            }
            state[0].wake();
            state[1].wake();
        }
    }
}

/// One end of a connection, shared by its two directions and what cuts it. It closes when all are dropped.
struct End {
    wire: Arc<Wire>,
    side: usize,
}

impl Cut for End {
    fn cut(&self) {
        self.wire.cut(self.side);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let at = self.wire.arrival(self.side);
        let mut state = self.wire.state.lock();
        let side = &mut state[self.side];
        if !std::mem::replace(&mut side.cut, true) {
            side.push(at, Chunk::End);
            state[1 - self.side].wake();
        }
    }
}

fn connection(wire: &Arc<Wire>, side: usize) -> Connection {
    let end = Arc::new(End { wire: wire.clone(), side });
    let reader = Reader { end: end.clone(), wait: Box::pin(tokio::time::sleep(Duration::ZERO)) };
    Connection::new(Box::new(reader), Box::new(Writer(end.clone())), end)
}

struct Reader {
    end: Arc<End>,
    wait: Pin<Box<Sleep>>,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let (here, there) = (self.end.side, 1 - self.end.side);
            let wire = &self.end.wire;
            let (held_up, back_open) = {
                let net = wire.net.state.lock();
                let (here, there) = (wire.hosts[here], wire.hosts[there]);
                (net.is_blocked(there, here), !net.is_blocked(here, there))
            };
            let due = {
                let mut state = wire.state.lock();
                if state[here].cut {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                state[here].reader = Some(context.waker().clone());
                let sender = &mut state[there];
                if held_up {
                    return Poll::Pending;
                }
                match sender.sent.front_mut() {
                    None => return Poll::Pending,
                    Some((at, _)) if *at > Instant::now() => *at,
                    Some((_, Chunk::End)) => return Poll::Ready(Ok(())),
                    Some((_, Chunk::Reset)) => {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                    }
                    Some((_, Chunk::Bytes(bytes))) => {
                        let count = bytes.len().min(out.remaining());
                        out.put_slice(&bytes[..count]);
                        bytes.drain(..count);
                        if bytes.is_empty() {
                            sender.sent.pop_front();
                        }
                        if back_open {
                            sender.in_flight -= count;
                            if let Some(writer) = sender.writer.take() {
                                writer.wake();
                            }
                        } else {
                            sender.unacknowledged += count;
                        }
                        return Poll::Ready(Ok(()));
                    }
                }
            };
            self.wait.as_mut().reset(due);
            ready!(self.wait.as_mut().poll(context));
        }
    }
}

struct Writer(Arc<End>);

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (wire, side) = (&self.0.wire, self.0.side);
        let at = wire.arrival(side);
        let mut state = wire.state.lock();
        if state[side].cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state[side].in_flight >= ROOM_BYTES {
            state[side].writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state[side].in_flight += bytes.len();
        state[side].push(at, Chunk::Bytes(bytes.to_vec()));
        if let Some(reader) = state[1 - side].reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (wire, side) = (&self.0.wire, self.0.side);
        let at = wire.arrival(side);
        let mut state = wire.state.lock();
        if !state[side].cut {
            state[side].push(at, Chunk::End);
            state[1 - side].wake();
        }
        Poll::Ready(Ok(()))
    }
}
