//! Listening sockets: bound before anything is started, so that port 0 is known, and the accept loop of the TCP edges.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Edge;
use super::limit::ConnectionPermit;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// How long after its last byte a connection is probed by the kernel; three unanswered probes end it.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Pause between the kernel's probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Pause after a failed accept (out of file descriptors, usually), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed accepts are logged at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(5);
/// How long connections may take to end after [`Bound::stop`].
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long, and how much, is read and dropped after the last write, so that the kernel doesn't answer unread bytes
/// with a reset that destroys what was written.
const LINGER: Duration = Duration::from_secs(1);

/// Binds `address` (`host:port`; port 0: the kernel chooses).
pub fn bind(address: &str) -> io::Result<std::net::TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no host:port"));
    for address in std::net::ToSocketAddrs::to_socket_addrs(address)? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failure)
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node takes its port again while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what every client socket has: no delay, the kernel's own deadline for unacknowledged bytes, and probes.
pub fn tune(socket: &impl AsFd, user_timeout: Duration) {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(user_timeout)))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(target: "rookery::gateway", %error, "a client socket could not be tuned");
    }
}

/// Turns true once the edge stops.
pub type Stopping = watch::Receiver<bool>;

/// Waits until the edge stops.
pub async fn stopped(stopping: &mut Stopping) {
    // The sender's end means the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// A connection just accepted.
pub struct Accepted {
    /// Its socket, tuned.
    pub stream: TcpStream,
    /// The client's address.
    pub address: SocketAddr,
    /// Its place among the open sockets; `None`: there are too many, so say so and close.
    pub permit: Option<ConnectionPermit>,
    /// Turns true once the edge stops.
    pub stopping: Stopping,
}

/// A running edge of tokio's.
pub struct Bound {
    /// What it listens on.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Bound {
    /// Stops accepting, tells all connections to end, and waits for them a little.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }
}

/// Listens on `address` and runs `serve` for each connection, on the edge's main runtime.
pub fn start<F>(
    edge: Edge,
    address: &str,
    serve: impl Fn(Arc<Edge>, Accepted) -> F + Send + Sync + 'static,
) -> io::Result<Bound>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = bind(address)?;
    let address = listener.local_addr()?;
    let (stop, stopping) = watch::channel(false);
    let runtime = edge.runtime.clone();
    let _entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let accepting = runtime.spawn(accept(Arc::new(edge), listener, stopping, Arc::new(serve)));
    Ok(Bound { address, stop, accepting })
}

async fn accept<F, S>(
    edge: Arc<Edge>,
    listener: tokio::net::TcpListener,
    mut stopping: Stopping,
    serve: Arc<S>,
) where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<Edge>, Accepted) -> F + Send + Sync + 'static,
{
    let user_timeout = edge.config.gateway.tcp_user_timeout;
    let told = stopping.clone();
    let mut connections = JoinSet::new();
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stopping) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                tune(&stream, user_timeout);
                let permit = edge.connections.take();
                let accepted = Accepted { stream, address, permit, stopping: told.clone() };
                connections.spawn(serve(edge.clone(), accepted));
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
                    complained = Some(Instant::now());
                    complain(&error);
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
        tracing::debug!(target: "rookery::gateway", open = connections.len(), "connections did not end in time");
    }
    // Dropping the set ends the rest.
}

/// Says why nothing is accepted. The loop tries on, so that it mends itself once there are descriptors again.
fn complain(error: &io::Error) {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        tracing::error!(target: "rookery::gateway", %error, "no connection can be accepted: the limit of open files is reached; trying on until some are closed");
    } else {
        tracing::warn!(target: "rookery::gateway", %error, "a connection could not be accepted");
    }
}

/// Reads and drops what still comes, until the client closes or a moment has passed. The write side must be shut down.
pub async fn linger(read: &mut (impl AsyncRead + Unpin)) {
    let drop_all = async {
        // On the heap: it would be part of every connection's task from its beginning.
        let mut sink = vec![0; 4096];
        while matches!(read.read(&mut sink).await, Ok(read) if read > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drop_all).await;
}
