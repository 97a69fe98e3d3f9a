//! The reading half of a connection, and what is asked and waited for on it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout};

use super::frames::{self, Opcode, Piece};
use super::link::Link;
use super::scan::{self, Incoming, LineAnswer};
use super::{ASK_TAG, Credentials, Framing};
use crate::client::{ClientError, Close};
use crate::domain::Error;
use crate::protocol::ErrorCode;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// What one read takes at most, in bytes. One buffer a thread, so that it may be large.
const READ_BYTES: usize = 128 * 1024;
/// How long one answer may take where one is waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The reading half of a connection.
#[derive(Debug)]
pub(in crate::cli::load) struct Inlet {
    pub(in crate::cli::load) link: Arc<Link>,
    read: OwnedReadHalf,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    /// The parts of a fragmented frame.
    parts: Vec<u8>,
    /// Nothing has been read since the greeting.
    greeted: bool,
}

thread_local! {
    /// What is read into. Connections keep only what is left of a frame.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

impl Inlet {
    /// Of a connection that has been greeted; `rest` came behind the greeting.
    pub(in crate::cli::load) fn new(stream: TcpStream, framing: Framing, rest: Vec<u8>) -> Self {
        let (read, write) = stream.into_split();
        let link = Arc::new(Link::new(write, framing));
        Self { link, read, rest, parts: Vec::new(), greeted: true }
    }

    /// Waits for bytes, and hands over all that they hold. `Err`: the end of the connection. Cancel-safe.
    pub(in crate::cli::load) async fn turn(&mut self, mut take: impl FnMut(Incoming)) -> Result<(), Close> {
        poll_fn(|cx| self.poll_turn(cx, &mut take)).await
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut impl FnMut(Incoming),
    ) -> Poll<Result<(), Close>> {
        if std::mem::take(&mut self.greeted) && !self.rest.is_empty() {
            // Frames may have come together with the greeting.
            let rest = std::mem::take(&mut self.rest);
            self.split(&rest, take)?;
            return Poll::Ready(Ok(()));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let kept = self.rest.len();
            if buffer.len() < kept + READ_BYTES {
                buffer.resize(kept + READ_BYTES, 0);
            }
            let mut room = ReadBuf::new(&mut buffer[kept..]);
            ready!(Pin::new(&mut self.read).poll_read(cx, &mut room))
                .map_err(|error| Close::broken(error.to_string()))?;
            let got = room.filled().len();
            if got == 0 {
                return Poll::Ready(Err(Close::broken("the server closed the connection")));
            }
            buffer[..kept].copy_from_slice(&self.rest);
            self.rest = Vec::new();
            Poll::Ready(self.split(&buffer[..kept + got], take))
        })
    }

    /// Hands over all whole frames, and keeps what is left.
    fn split(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Incoming)) -> Result<(), Close> {
        let framing = self.link.framing();
        while let Some((length, piece)) = frames::split(bytes, framing)? {
            match piece {
                Piece::Frame(frame) => take(self.numbered(scan::scan(frame, framing)?)),
                Piece::Part(part, last) => {
                    self.parts.extend_from_slice(part);
                    if self.parts.len() > frames::FRAME_BYTES_MAX {
                        return Err(Close::broken("the server sent a frame in parts, and far too many"));
                    }
                    if last {
                        take(scan::scan(&std::mem::take(&mut self.parts), framing)?);
                    }
                }
                Piece::Ping(payload) => {
                    self.link.control(Opcode::Pong, payload);
                    self.link.flush();
                }
                Piece::Pong => {}
                Piece::Close(close) => return Err(close),
            }
            bytes = &bytes[length..];
        }
        self.rest = bytes.to_vec();
        Ok(())
    }

    /// With the numbers that the askers gave: on the wire they are higher by one, since 0 wants no answer.
    fn numbered(&self, incoming: Incoming) -> Incoming {
        let own = |reply_to: u64| reply_to.wrapping_sub(1);
        match incoming {
            Incoming::Sent { reply_to, conversation_id, seq } => {
                Incoming::Sent { reply_to: own(reply_to), conversation_id, seq }
            }
            Incoming::Done { reply_to } => Incoming::Done { reply_to: own(reply_to) },
            Incoming::Refused { reply_to, error } => Incoming::Refused { reply_to: own(reply_to), error },
            Incoming::Answer { reply_to, body } => Incoming::Answer { reply_to: own(reply_to), body },
            Incoming::Line(LineAnswer::Sent { msg_id }) => {
                let (conversation_id, seq) = scan::place_of(msg_id);
                Incoming::Sent { reply_to: self.link.oldest_asked(), conversation_id, seq }
            }
            Incoming::Line(LineAnswer::Refused(error)) => {
                Incoming::Refused { reply_to: self.link.oldest_asked(), error }
            }
            Incoming::Line(LineAnswer::Ok(text)) => {
                // Its number stays in the queue for nobody; `ask_line` alone asks for such.
                self.link.oldest_asked();
                Incoming::Line(LineAnswer::Ok(text))
            }
            other => other,
        }
    }

    /// Asks one thing and waits for its answer; what else arrives meanwhile goes to `take`. Not for lines.
    pub(in crate::cli::load) async fn ask(
        &mut self,
        request: Request,
        mut take: impl FnMut(Incoming),
    ) -> Result<Option<Body>, ClientError> {
        let link = Arc::clone(&self.link);
        link.request(ASK_TAG, request);
        link.flush();
        let mut answer = None;
        let until = Instant::now() + ASK_TIMEOUT;
        while answer.is_none() {
            let turn = self.turn(|incoming| match incoming {
                Incoming::Answer { reply_to: ASK_TAG, body } => answer = Some(Ok(Some(*body))),
                Incoming::Done { reply_to: ASK_TAG } => answer = Some(Ok(None)),
                Incoming::Refused { reply_to: ASK_TAG, error } => {
                    answer = Some(Err(ClientError::Refused(error)));
                }
                other => take(other),
            });
            ended_by(until, turn).await?;
        }
        answer.expect("the loop ends with an answer")
    }

    /// Signs in, and gives the user's number.
    pub(in crate::cli::load) async fn sign_in(&mut self, who: Credentials<'_>) -> Result<u64, ClientError> {
        if self.link.framing() == Framing::Line {
            return self.log_in(who).await;
        }
        match self.ask(Request::Hello(v1::Hello { token: who.token.to_owned() }), drop).await? {
            Some(Body::Welcome(welcome)) => Ok(welcome.user_id),
            other => Err(ClientError::Protocol(format!("hello was answered with {other:?}"))),
        }
    }

    async fn log_in(&mut self, who: Credentials<'_>) -> Result<u64, ClientError> {
        self.link.command(ASK_TAG, &format!("LOGIN {} {}", who.username, who.password));
        self.link.flush();
        let mut answer = None;
        let until = Instant::now() + ASK_TIMEOUT;
        while answer.is_none() {
            let turn = self.turn(|incoming| match incoming {
                Incoming::Line(LineAnswer::Ok(text)) => answer = Some(Ok(text)),
                Incoming::Refused { error, .. } => answer = Some(Err(error)),
                _ => {}
            });
            ended_by(until, turn).await?;
        }
        let text = answer.expect("the loop ends with an answer").map_err(refused_line)?;
        text.strip_prefix("uid=")
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| ClientError::Protocol(format!("LOGIN was answered with '{text}'")))
    }

    /// Cuts the connection off, as a broken network does: the server gets no goodbye.
    pub(in crate::cli::load) fn cut(self) {
        // A reset also leaves no port behind in TIME_WAIT. Where it can't be had, the connection just closes.
        let _ = self.read.as_ref().set_zero_linger();
    }

    /// Says goodbye, and waits for the server's, for a second at most.
    pub(in crate::cli::load) async fn close(mut self) {
        let link = Arc::clone(&self.link);
        match link.framing() {
            Framing::WsJson | Framing::WsProto => link.control(Opcode::Close, &1000_u16.to_be_bytes()),
            Framing::Line => link.put(b"QUIT", None),
            Framing::Tcp => {}
        }
        link.flush();
        let goodbye = async {
            if link.framing() == Framing::Tcp {
                // A TCP frame can't say goodbye: the end of the stream does. The other half is dropped with the task.
                let _ = nix::sys::socket::shutdown(
                    std::os::fd::AsRawFd::as_raw_fd(self.read.as_ref()),
                    nix::sys::socket::Shutdown::Write,
                );
            }
            while self.turn(drop).await.is_ok() {}
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

/// A refused line has no code; what is wrong for good says so in words.
fn refused_line(error: Error) -> ClientError {
    let for_good =
        ["password", "not login", "no user", "usage"].iter().any(|word| error.message.contains(word));
    let code = if for_good { ErrorCode::Unauthenticated } else { ErrorCode::ResourceExhausted };
    ClientError::Refused(Error::new(code, error.message.to_string()))
}

async fn ended_by<T>(until: Instant, turn: impl Future<Output = Result<T, Close>>) -> Result<T, ClientError> {
    match tokio::time::timeout_at(until, turn).await {
        Ok(turned) => turned.map_err(ClientError::Closed),
        Err(_) => Err(ClientError::Timeout(ASK_TIMEOUT.as_millis() as u64)),
    }
}
