//! A network of the test's own between two nodes: one of them advertises the proxy's address, so that the link passes
//! through it, and the test decides what becomes of the bytes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// How often a direction in which nothing happens looks whether it is to do something else.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes that the kernel keeps for each socket of the proxy: little, so that what is slow here is slow at the node.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Pass,
    /// They vanish, as packets do that a firewall drops.
    Vanish,
    /// Nobody takes them from the sender's socket.
    Stop,
    /// So many pass in a second.
    Slow(usize),
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From whoever dials to the node behind the proxy.
    There,
    /// Back.
    Back,
}

struct Rules {
    /// The node behind the proxy.
    target: Option<SocketAddr>,
    there: Flow,
    back: Flow,
    /// Whether the end of a connection is kept from the other side, as when the packets that tell of it are lost.
    keeps_ends: bool,
    streams: Vec<[TcpStream; 2]>,
}

struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
    ended: AtomicBool,
    /// Connections whose dialer, and whose node behind the proxy, has not ended them.
    open: [AtomicUsize; 2],
    accepted: AtomicUsize,
}

/// See the module.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Binds a port. Connections wait until [`Proxy::lead_to`] says where they go.
    pub fn new() -> Self {
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("the system has sockets");
        // What is accepted inherits it.
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES).expect("it is a size that systems allow");
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES).expect("it is a size that systems allow");
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any_port.into()).expect("loopback has free ports");
        socket.listen(64).expect("it is bound");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("it is bound");
        let rules = Rules {
            target: None,
            there: Flow::Pass,
            back: Flow::Pass,
            keeps_ends: false,
            streams: Vec::new(),
        };
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            open: Default::default(),
            accepted: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accepting.keep_accepting(&listener));
        Self { address, shared }
    }

    /// Passes new connections on to the node there.
    pub fn lead_to(&self, target: &str) {
        self.rules().target = Some(target.parse().expect("nodes listen on addresses"));
        self.shared.changed.notify_all();
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on the bytes of that direction flow so, of all connections.
    pub fn set(&self, way: Way, flow: Flow) {
        let mut rules = self.rules();
        match way {
            Way::There => rules.there = flow,
            Way::Back => rules.back = flow,
        }
        self.shared.changed.notify_all();
    }

    /// Whether one side is told that the other has ended a connection.
    pub fn keep_ends(&self, keeps: bool) {
        self.rules().keeps_ends = keeps;
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.set(Way::There, Flow::Pass);
        self.set(Way::Back, Flow::Pass);
        self.keep_ends(false);
    }

    /// Ends all connections, as a router does that has lost its memory.
    pub fn reset(&self) {
        for stream in self.rules().streams.drain(..).flatten() {
            // Whatever is there already has ended, too.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections that the dialer has not ended.
    pub fn open_here(&self) -> usize {
        self.shared.open[0].load(Ordering::Relaxed)
    }

    /// Connections that the node behind the proxy has not ended.
    pub fn open_there(&self) -> usize {
        self.shared.open[1].load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.shared.rules.lock().expect("nobody panics with it")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.reset();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn keep_accepting(self: &Arc<Self>, listener: &TcpListener) {
        for near in listener.incoming().map_while(Result::ok) {
            let rules = self.rules.lock().expect("nobody panics with it");
            let waits = |rules: &mut Rules| rules.target.is_none() && !self.ended.load(Ordering::Relaxed);
            let rules = self.changed.wait_while(rules, waits).expect("nobody panics with it");
            let target = rules.target;
            drop(rules);
            let (Some(target), false) = (target, self.ended.load(Ordering::Relaxed)) else { return };
            self.accepted.fetch_add(1, Ordering::Relaxed);
            // A node that is gone refuses; so does the proxy then.
            if let Ok(far) = connect(target) {
                join(self, near, far);
            }
        }
    }
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

fn join(shared: &Arc<Shared>, near: TcpStream, far: TcpStream) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("the system has files");
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream.set_read_timeout(Some(LOOK_EVERY)).expect("it is not zero");
        stream.set_write_timeout(Some(LOOK_EVERY)).expect("it is not zero");
    }
    shared.rules.lock().expect("nobody panics with it").streams.push([clone(&near), clone(&far)]);
    for (way, from, to) in [(Way::There, clone(&near), clone(&far)), (Way::Back, far, near)] {
        let shared = shared.clone();
        let open = way as usize;
        shared.open[open].fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            pump(&shared, way, &from, &to);
            shared.open[open].fetch_sub(1, Ordering::Relaxed);
            let keeps = shared.rules.lock().expect("nobody panics with it").keeps_ends;
            if !keeps {
                // The other side may have ended, too.
                let _ = to.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Carries bytes until their sender ends.
fn pump(shared: &Shared, way: Way, mut from: &TcpStream, to: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let flow = {
            let rules = shared.rules.lock().expect("nobody panics with it");
            let flow = if way == Way::There { rules.there } else { rules.back };
            if flow == Flow::Stop {
                let wait = shared.changed.wait_timeout(rules, LOOK_EVERY);
                drop(wait.expect("nobody panics with it"));
            }
            flow
        };
        if flow == Flow::Stop {
            if is_reset(from) {
                return;
            }
            continue;
        }
        let most = match flow {
            // A twentieth of a second's worth at a time.
            Flow::Slow(rate) => (rate / 20).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let count = match from.read(&mut buffer[..most]) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        if flow != Flow::Vanish && !pass_on(shared, from, to, &buffer[..count]) {
            return;
        }
        if let Flow::Slow(rate) = flow {
            pause(shared, Duration::from_secs_f64(count as f64 / rate as f64));
        }
    }
}

/// Writes all. False: their sender, or the proxy, has ended. What nobody is left to take vanishes.
fn pass_on(shared: &Shared, from: &TcpStream, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.ended.load(Ordering::Relaxed) || is_reset(from) {
                    return false;
                }
            }
            Err(_) => return true,
        }
    }
    true
}

/// Whether the sender has reset the connection, which shows without a read.
fn is_reset(from: &TcpStream) -> bool {
    from.take_error().ok().flatten().is_some()
}

/// Waits so long, or until the rules change.
fn pause(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    let rules = shared.rules.lock().expect("nobody panics with it");
    let left = until.saturating_duration_since(Instant::now());
    drop(shared.changed.wait_timeout(rules, left).expect("nobody panics with it"));
}
