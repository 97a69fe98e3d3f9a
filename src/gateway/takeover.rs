//! WebSocket connections after their handshake: taken out of the HTTP server, whose dispatcher would keep two buffers of
//! 8 KiB for each of them as long as it lives. The handshake is a request as any other, answered by the same app; when
//! its handler leaves a [`Takeover`] in the response, the socket becomes a task of its own, on the same worker or at its
//! [`Home`], which moves bytes between the socket and the WebSocket context and holds no buffer while it is idle.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_codec::{Encoder as _, Framed};
use actix_http::body::{BodySize, MessageBody, to_bytes_limited};
use actix_http::h1::{Codec, Message};
use actix_http::{ConnectionType, HttpMessage as _, Request, Response};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::rt::net::TcpStream;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;

use super::home::Home;
use super::http::extract::OpenSocket;
use super::listener::linger;

/// Read at a time, into a buffer that the sockets of a thread share.
const READ_BYTES: usize = 16 * 1024;
/// The largest body of a refused handshake.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A socket, shared by the one task that reads and writes it.
#[derive(Clone)]
struct Wire(Rc<RefCell<TcpStream>>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(context)
    }
}

/// What a client sends after its handshake.
pub struct Incoming {
    wire: Wire,
    /// What came in one packet with the handshake.
    begun: Bytes,
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))));
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            Poll::Ready(match ready!(Pin::new(&mut self.wire).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => None,
                Ok(()) => Some(Ok(Bytes::copy_from_slice(buffer.filled()))),
                Err(error) => Some(Err(PayloadError::Io(error))),
            })
        })
    }
}

/// What is to be written, until the connection is to be closed.
pub type Outgoing = Pin<Box<dyn Stream<Item = Result<Bytes, actix_web::Error>>>>;

/// Begins the life of a socket by what the client sends.
type Begin = Box<dyn FnOnce(Incoming) -> Outgoing + Send>;

/// What becomes of the socket after the handshake, left in the response's extensions.
pub struct Takeover {
    home: Option<Home>,
    begin: Begin,
}

impl Takeover {
    /// `begin` is given what the client sends; it is called at `home`, or on the worker where there is none.
    pub fn new(home: Option<Home>, begin: impl FnOnce(Incoming) -> Outgoing + Send + 'static) -> Self {
        Self { home, begin: Box::new(begin) }
    }

    /// Whether the socket of the request can be taken over: it asks for a WebSocket and nothing else.
    pub fn is_offered(request: &HttpRequest) -> bool {
        request.extensions().get::<Offer>().is_some()
    }
}

/// Marks a request whose socket can be taken over.
struct Offer;

/// Counts the sockets that were taken over and are open.
#[derive(Clone)]
pub struct Taken(Arc<watch::Sender<usize>>);

/// One of them.
struct OneTaken(Taken);

impl Default for Taken {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Taken {
    fn one(&self) -> OneTaken {
        self.0.send_modify(|open| *open += 1);
        OneTaken(self.clone())
    }

    /// Waits until all have closed, at most for `limit`.
    pub async fn all_closed(&self, limit: Duration) {
        let mut open = self.0.subscribe();
        let waited = tokio::time::timeout(limit, open.wait_for(|open| *open == 0)).await;
        if waited.is_err() {
            let open = *self.0.borrow();
            tracing::debug!(target: "rookery::gateway", open, "WebSockets did not close in time");
        }
    }
}

impl Drop for OneTaken {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// Answers a request for an upgrade by `app`, and takes the socket over if its handler says so. A refusal ends the
/// connection, as what follows it is no HTTP.
pub async fn answer<B: MessageBody + 'static>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    request: Request,
    connection: Framed<TcpStream, Codec>,
    taken: &Taken,
) -> Result<(), Infallible> {
    let parts = connection.into_parts();
    let (mut codec, mut socket) = (parts.codec, parts.io);
    // The connection's place among the open sockets, and that by which it is cut, go with the socket.
    let open = request.conn_data::<Arc<OpenSocket>>().cloned();
    request.extensions_mut().insert(Offer);
    let mut response = match app.call(request).await {
        Ok(response) => response.into_parts().1.map_into_boxed_body(),
        Err(error) => HttpResponse::from_error(error),
    };
    let takeover = response.extensions_mut().remove::<Takeover>();
    let (mut head, body) = Response::from(response).into_parts();
    let body = match takeover {
        Some(_) => Bytes::new(),
        None => {
            head.head_mut().set_connection_type(ConnectionType::Close);
            to_bytes_limited(body, REFUSAL_BYTES_MAX).await.ok().and_then(Result::ok).unwrap_or_default()
        }
    };
    // Answers to earlier requests of the same connection may still wait there.
    let mut bytes = parts.write_buf;
    let size = BodySize::Sized(body.len() as u64);
    let written = match codec.encode(Message::Item((head, size)), &mut bytes) {
        Ok(()) => {
            bytes.extend_from_slice(&body);
            socket.write_all(&bytes).await
        }
        Err(error) => Err(error),
    };
    match takeover {
        Some(takeover) if written.is_ok() => {
            let begun = Bytes::copy_from_slice(&parts.read_buf);
            settle(takeover, socket, begun, open, taken.one());
        }
        _ => close(socket).await,
    }
    Ok(())
}

/// Brings the socket to where it lives from now on.
fn settle(
    Takeover { home, begin }: Takeover,
    socket: TcpStream,
    begun: Bytes,
    open: Option<Arc<OpenSocket>>,
    taken: OneTaken,
) {
    let Some(home) = home else { return live(begin, socket, begun, open, taken) };
    // Another runtime watches the socket from now on.
    let moved = match socket.into_std() {
        Ok(socket) => Moved { open, socket },
        Err(error) => return failed(&error),
    };
    home.begin(move || {
        let Moved { open, socket } = moved;
        match TcpStream::from_std(socket) {
            Ok(socket) => live(begin, socket, begun, open, taken),
            Err(error) => failed(&error),
        }
    });
}

fn failed(error: &io::Error) {
    tracing::warn!(target: "rookery::gateway", %error, "a WebSocket could not be moved to its home and is closed");
}

/// Makes the socket a task of its own: with the handshake's future the dispatcher ends, and what it holds.
fn live(begin: Begin, socket: TcpStream, begun: Bytes, open: Option<Arc<OpenSocket>>, taken: OneTaken) {
    let wire = Wire(Rc::new(RefCell::new(socket)));
    let outgoing = begin(Incoming { wire: wire.clone(), begun });
    actix_rt::spawn(run(wire, outgoing, open, taken));
}

/// A socket between two runtimes. Should it be dropped there, `open` goes first.
struct Moved {
    open: Option<Arc<OpenSocket>>,
    socket: std::net::TcpStream,
}

/// The life of a socket that was taken over: writes what its context has to say. While the client does not read, the
/// context stands still. Should the task be dropped with its runtime, `open` goes before the socket, as parameters are
/// dropped from the last to the first.
async fn run(mut wire: Wire, mut outgoing: Outgoing, open: Option<Arc<OpenSocket>>, taken: OneTaken) {
    while let Some(Ok(bytes)) = outgoing.next().await {
        if wire.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // The actor ends before its socket.
    drop(outgoing);
    if let Some(open) = &open {
        open.forget();
    }
    Box::pin(close(wire)).await;
    // Its place among the open sockets is free only now.
    drop((open, taken));
}

async fn close(mut wire: impl AsyncRead + AsyncWrite + Unpin) {
    if wire.shutdown().await.is_ok() {
        linger(&mut wire).await;
    }
}
