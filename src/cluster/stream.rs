//! The byte stream under a link: a TCP socket with deadlines, which can be cut from outside.
//!
//! `ractor_cluster` never gives up on a socket that is silent or does not take what is written, so the stream does:
//! a read that waits, or a write that makes no progress, for longer than `cluster.io_timeout` fails. Reads go through
//! a buffer, because `ractor_cluster` reads a frame in two steps. Writes need none: it writes whole batches.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes read from the socket in one go.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The socket of a link, shared by both directions and by whoever may cut it.
pub struct Socket {
    tcp: TcpStream,
    opened: Instant,
    heard_ms: AtomicU64,
}

impl Socket {
    /// Takes the socket over.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, opened: Instant::now(), heard_ms: AtomicU64::new(0) }
    }

    /// How long ago the last bytes arrived.
    pub fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard)
    }

    /// Ends both directions at once; what the kernel still holds is thrown away and the peer sees a reset.
    pub fn cut(&self) {
        let socket = SockRef::from(&self.tcp);
        // Fails only on a socket that is gone already, and then there is nothing to end.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn heard(&self) {
        self.heard_ms.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// What `ractor_cluster` is given as the stream of a link.
pub struct LinkStream {
    /// The socket.
    pub socket: Arc<Socket>,
    /// `cluster.io_timeout`.
    pub io_timeout: Duration,
    /// By which session events are told apart.
    pub label: String,
}

impl ClusterBidiStream for LinkStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let reader = Reader {
            socket: self.socket.clone(),
            io_timeout: self.io_timeout,
            idle: Box::pin(tokio::time::sleep(self.io_timeout)),
            last: Instant::now(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            filled: 0,
            taken: 0,
        };
        let writer = Writer {
            socket: self.socket,
            io_timeout: self.io_timeout,
            stall: Box::pin(tokio::time::sleep(self.io_timeout)),
            stalled: false,
        };
        (Box::new(reader), Box::new(writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }

    fn local_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

struct Reader {
    socket: Arc<Socket>,
    io_timeout: Duration,
    /// Armed lazily: set again only when it fires, not at each read.
    idle: Pin<Box<Sleep>>,
    last: Instant,
    buffer: Box<[u8]>,
    filled: usize,
    taken: usize,
}

impl Reader {
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.socket.tcp.poll_read_ready(context)?.is_ready() {
                match self.socket.tcp.try_read(&mut self.buffer) {
                    Ok(count) => {
                        (self.taken, self.filled) = (0, count);
                        self.last = Instant::now();
                        self.socket.heard();
                        return Poll::Ready(Ok(()));
                    }
                    // The readiness was stale; asking again registers for the next.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            ready!(self.idle.as_mut().poll(context));
            let deadline = self.last + self.io_timeout;
            if Instant::now() >= deadline {
                let silence = self.io_timeout;
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("nothing arrived for {silence:?} (cluster.io_timeout)"),
                )));
            }
            self.idle.as_mut().reset(deadline);
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.filled {
            ready!(self.poll_fill(context))?;
        }
        let count = out.remaining().min(self.filled - self.taken);
        out.put_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

struct Writer {
    socket: Arc<Socket>,
    io_timeout: Duration,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.socket.tcp.poll_write_ready(context)?.is_ready() {
                match self.socket.tcp.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    done => {
                        self.stalled = false;
                        return Poll::Ready(done);
                    }
                }
            }
            if !self.stalled {
                self.stalled = true;
                let deadline = Instant::now() + self.io_timeout;
                self.stall.as_mut().reset(deadline);
            }
            ready!(self.stall.as_mut().poll(context));
            let stall = self.io_timeout;
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the peer took nothing for {stall:?} (cluster.io_timeout)"),
            )));
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.socket.tcp).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(io_timeout: Duration) -> (TcpStream, Arc<Socket>, BoxRead, BoxWrite) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("the listener is bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = Arc::new(Socket::new(server.expect("the client dials").0));
        let stream = LinkStream { socket: socket.clone(), io_timeout, label: "link-1".to_owned() };
        let (reader, writer) = Box::new(stream).split();
        (client.expect("the listener accepts"), socket, reader, writer)
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let (mut client, socket, mut reader, mut writer) = pair(Duration::from_secs(5)).await;
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let mut received = vec![0; sent.len()];
        let (wrote, read) = tokio::join!(client.write_all(&sent), reader.read_exact(&mut received));
        wrote.expect("the link reads");
        read.expect("the client writes");
        assert_eq!(sent, received);
        assert!(socket.silent_for() < Duration::from_secs(1));
        let (wrote, read) = tokio::join!(writer.write_all(&sent), client.read_exact(&mut received));
        wrote.expect("the client reads");
        read.expect("the link writes");
    }

    #[tokio::test]
    async fn silence_ends_a_read() {
        let (_client, _, mut reader, _writer) = pair(Duration::from_millis(50)).await;
        let error = reader.read_u8().await.expect_err("nobody writes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_ends_a_write() {
        let (_client, _, _reader, mut writer) = pair(Duration::from_millis(50)).await;
        let error = writer.write_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_cut_ends_a_blocked_writer_and_a_waiting_reader() {
        let (_client, socket, mut reader, mut writer) = pair(Duration::from_secs(60)).await;
        let write = tokio::spawn(async move { writer.write_all(&vec![0; 64 << 20]).await });
        let read = tokio::spawn(async move { reader.read_u8().await });
        tokio::task::yield_now().await;
        socket.cut();
        write.await.expect("no panic").expect_err("the socket was cut");
        read.await.expect("no panic").expect_err("the socket was cut");
    }
}
