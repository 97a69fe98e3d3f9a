//! The byte stream under a link: a connection with deadlines, which can be cut from outside.
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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::network::{Connection, Cut, ReadHalf, WriteHalf};

/// Bytes read from the connection in one go.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What a link keeps of its connection: when it was heard, and what ends it.
pub struct Socket {
    end: Arc<dyn Cut>,
    opened: Instant,
    heard_ms: AtomicU64,
}

impl Socket {
    /// How long ago the last bytes arrived.
    pub fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard)
    }

    /// Whether bytes have arrived that nobody has read yet.
    pub fn has_unread(&self) -> bool {
        self.end.has_unread()
    }

    /// Ends both directions at once; what is still on its way is thrown away.
    pub fn cut(&self) {
        self.end.cut();
    }

    fn heard(&self) {
        self.heard_ms.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// The stream of a link, for what makes a session of it.
pub struct LinkStream {
    epoch: u64,
    reader: Reader,
    writer: Writer,
}

impl LinkStream {
    /// Takes the connection of the link of that number over. `io_timeout` is `cluster.io_timeout`.
    pub fn new(epoch: u64, connection: Connection, io_timeout: Duration) -> Self {
        let (reader, writer, end) = connection.into_parts();
        let socket = Arc::new(Socket { end, opened: Instant::now(), heard_ms: AtomicU64::new(0) });
        let reader = Reader {
            inner: reader,
            socket,
            io_timeout,
            idle: Box::pin(tokio::time::sleep(io_timeout)),
            last: Instant::now(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            filled: 0,
            taken: 0,
        };
        let writer = Writer {
            inner: writer,
            io_timeout,
            stall: Box::pin(tokio::time::sleep(io_timeout)),
            stalled: false,
        };
        Self { epoch, reader, writer }
    }

    /// The link's number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the link keeps.
    pub(super) fn socket(&self) -> Arc<Socket> {
        self.reader.socket.clone()
    }

    /// Its two directions. A read or write that waits for too long fails.
    pub fn halves(self) -> (ReadHalf, WriteHalf) {
        (Box::new(self.reader), Box::new(self.writer))
    }
}

impl ClusterBidiStream for LinkStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        self.halves()
    }

    fn peer_label(&self) -> Option<String> {
        Some(super::server::label(self.epoch))
    }

    fn local_label(&self) -> Option<String> {
        Some(super::server::label(self.epoch))
    }
}

struct Reader {
    inner: ReadHalf,
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
        let mut into = ReadBuf::new(&mut self.buffer);
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, &mut into) {
            read?;
            (self.taken, self.filled) = (0, into.filled().len());
            self.last = Instant::now();
            self.socket.heard();
            return Poll::Ready(Ok(()));
        }
        loop {
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
    inner: WriteHalf,
    io_timeout: Duration,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
}

impl Writer {
    /// Passes a result on; if there is none, says when that has taken too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = false;
            return result;
        }
        if !self.stalled {
            self.stalled = true;
            let deadline = Instant::now() + self.io_timeout;
            self.stall.as_mut().reset(deadline);
        }
        ready!(self.stall.as_mut().poll(context));
        let stall = self.io_timeout;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the peer took nothing for {stall:?} (cluster.io_timeout)"),
        )))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.unless_stalled(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.unless_stalled(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.unless_stalled(context, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cluster::tcp;

    async fn pair(io_timeout: Duration) -> (TcpStream, Arc<Socket>, ReadHalf, WriteHalf) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("the listener is bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let stream = LinkStream::new(1, tcp::connection(server.expect("the client dials").0), io_timeout);
        let socket = stream.socket();
        let (reader, writer) = stream.halves();
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
