//! The network under the cluster: a port that takes connections, and connections to other nodes' ports.
//!
//! A [`Connection`] is bytes in both directions and a way to end it from outside. What wraps one (encryption) makes
//! another of it, with the same end; what carries bytes otherwise than [`Tcp`](super::tcp::Tcp) does is another
//! [`Network`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection is read from.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// What a connection is written to.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Where nodes find each other. Addresses are host:port.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Takes a port; 0 as port takes a free one.
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>>;
    /// Connects to a port. [`io::ErrorKind::ConnectionRefused`] means that nobody listens there, and only that: a node
    /// that was there is taken for dead. Has no deadline of its own.
    async fn connect(&self, address: &str) -> io::Result<Connection>;
}

/// A port of this node.
#[async_trait]
pub trait Listener: Send + 'static {
    /// Where it is bound.
    fn local_address(&self) -> io::Result<SocketAddr>;
    /// The next connection, and where it comes from. An error is the system's and passes; the port stays. Dropped
    /// while it waits, it loses no connection.
    async fn accept(&mut self) -> io::Result<(Connection, SocketAddr)>;
}

/// Ends a connection from outside.
pub trait Cut: Send + Sync + 'static {
    /// Ends both directions at once, whoever waits for them; what is still on its way is thrown away, and the peer
    /// sees the end too, if the network lets it. Doing it again changes nothing.
    fn cut(&self);
    /// Whether bytes have arrived that have not been read yet, so far as that can be known.
    fn has_unread(&self) -> bool {
        false
    }
}

/// Bytes to and from another node. When it and its [`Cut`] are dropped, it ends.
pub struct Connection {
    reader: ReadHalf,
    writer: WriteHalf,
    end: Arc<dyn Cut>,
}

impl Connection {
    /// Of its two directions, and what ends both.
    pub fn new(reader: ReadHalf, writer: WriteHalf, end: Arc<dyn Cut>) -> Self {
        Self { reader, writer, end }
    }

    /// What ends it, for what is made of it.
    pub fn end(&self) -> Arc<dyn Cut> {
        self.end.clone()
    }

    /// The two directions, and what ends both.
    pub fn into_parts(self) -> (ReadHalf, WriteHalf, Arc<dyn Cut>) {
        (self.reader, self.writer, self.end)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, out)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
