//! Shutting an actix connection down from outside, without a file descriptor of its own.
//!
//! A duplicate of each socket would be simpler, but then a node runs out of descriptors at half as many connections.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, shutdown};
use parking_lot::Mutex;

/// By which a session shuts its socket down, from any thread. Holds the descriptor's number only: whoever owns the
/// connection calls [`Cut::forget`] before it closes the socket, as the number may be another socket's then.
pub struct Cut(Mutex<Option<Target>>);

#[derive(Clone, Copy)]
struct Target {
    fd: RawFd,
    peer: SocketAddr,
}

impl Cut {
    /// For an open socket that is connected to `peer`.
    pub fn new(socket: &impl AsRawFd, peer: SocketAddr) -> Self {
        Self(Mutex::new(Some(Target { fd: socket.as_raw_fd(), peer })))
    }

    /// Shuts the socket down both ways; nothing once it was forgotten. Does not block.
    pub fn cut(&self) {
        // The lock is held to the end: while it is, the owner waits in `forget`, so that the number stays ours.
        let target = self.0.lock();
        let Some(Target { fd, peer }) = *target else { return };
        // Should the owner have lost the socket in a way that we don't see, the number may be a later connection's.
        let is_ours = getpeername::<SockaddrStorage>(fd).is_ok_and(|now| is_same(&now, peer));
        if is_ours {
            // A socket that the client has reset meanwhile can't be shut down, which is as well.
            let _ = shutdown(fd, Shutdown::Both);
        }
    }

    /// The socket is about to close: from now on nothing is cut.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

fn is_same(found: &SockaddrStorage, peer: SocketAddr) -> bool {
    match peer {
        SocketAddr::V4(peer) => found
            .as_sockaddr_in()
            .is_some_and(|found| found.ip() == *peer.ip() && found.port() == peer.port()),
        SocketAddr::V6(peer) => found
            .as_sockaddr_in6()
            .is_some_and(|found| found.ip() == *peer.ip() && found.port() == peer.port()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("the listener is there");
        let (server, peer) = listener.accept().expect("a client waits");
        (server, client, peer)
    }

    #[test]
    fn a_cut_ends_the_connection_while_its_owner_still_holds_it() {
        let (server, mut client, peer) = pair();
        Cut::new(&server, peer).cut();
        assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
    }

    #[test]
    fn a_forgotten_socket_is_not_cut() {
        let (mut server, mut client, peer) = pair();
        let cut = Cut::new(&server, peer);
        cut.forget();
        cut.cut();
        server.write_all(b"x").expect("the socket is open");
        assert_eq!(client.read(&mut [0; 1]).expect("a byte"), 1);
    }

    #[test]
    fn a_descriptor_that_has_become_another_connection_is_not_cut() {
        let (server, mut client, _) = pair();
        let stranger = SocketAddr::from(([127, 0, 0, 1], 1));
        Cut::new(&server, stranger).cut();
        client.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let error = client.read(&mut [0; 1]).expect_err("neither bytes nor an end");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
}
