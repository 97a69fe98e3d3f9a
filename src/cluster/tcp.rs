//! The network that nodes run on: TCP.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::network::{Connection, Cut, Listener, Network};

/// TCP, without delay for small writes.
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpListener::bind(address).await?))
    }

    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(connection(tcp))
    }
}

#[async_trait]
impl Listener for TcpListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Connection, SocketAddr)> {
        let (tcp, from) = TcpListener::accept(self).await?;
        // Fails only on a socket that is gone already, which its first read will tell.
        let _ = tcp.set_nodelay(true);
        Ok((connection(tcp), from))
    }
}

/// Bytes that the kernel takes beyond what it can send at once. What it has taken it goes on sending when the process is
/// stopped, and on a slow link megabytes of that would make a peer look alive for minutes.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Takes a socket over.
pub fn connection(tcp: TcpStream) -> Connection {
    // Where it can't be set, a slow link is known for dead later.
    let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
    let socket = Arc::new(Socket(tcp));
    Connection::new(Box::new(Half(socket.clone())), Box::new(Half(socket.clone())), socket)
}

/// The socket, shared by both directions and by whoever may cut it.
struct Socket(TcpStream);

impl Cut for Socket {
    fn cut(&self) {
        let socket = SockRef::from(&self.0);
        // Without lingering the peer sees a reset. Both fail only on a socket that is gone already, and then there is
        // nothing to end.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn has_unread(&self) -> bool {
        SockRef::from(&self.0).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }
}

/// One direction of the socket. A socket remembers one reader and one writer to be woken; no more may wait.
struct Half(Arc<Socket>);

impl AsyncRead for Half {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tcp = &self.0.0;
        loop {
            ready!(tcp.poll_read_ready(context))?;
            match tcp.try_read(out.initialize_unfilled()) {
                Ok(count) => {
                    out.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The readiness was stale; asking again registers for the next.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tcp = &self.0.0;
        loop {
            ready!(tcp.poll_write_ready(context))?;
            match tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.0).shutdown(std::net::Shutdown::Write))
    }
}
