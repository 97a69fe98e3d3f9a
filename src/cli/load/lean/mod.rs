//! A client as lean as a generator needs: it shares the cores with the server that it measures.
//!
//! A connection is a [`Link`] to write by, from anywhere, and an [`Inlet`] to read by, in one task. There is no task,
//! channel or timer of its own: the reader hands over what it has read in place, all frames of one read in one go, and
//! what is written in answer leaves in one write. `frames` and `scan` are the pure parts, `pool` the threads, `pacer`
//! the clock of open loops. People who chat use `crate::client`, which has all that is left out here.

pub(super) mod frames;
pub(super) mod pacer;
pub(super) mod pool;
pub(super) mod scan;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use self::frames::{Opcode, Piece};
pub(super) use self::scan::{Incoming, LineAnswer};
use super::checker::{self, Stamp};
use crate::client::{ClientError, Close};
use crate::domain::Error;
use crate::protocol::ErrorCode;
use crate::protocol::codec::{self, Format};
use crate::protocol::v1::{self, ClientFrame, client_frame::Request, server_frame::Body};

/// What one read takes at most, in bytes. One buffer a thread, so that it may be large.
const READ_BYTES: usize = 128 * 1024;
/// Unwritten bytes of one connection at which it takes no more.
const UNWRITTEN_MAX: usize = 256 * 1024;
/// How long connecting may take, the WebSocket handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one answer may take where one is waited for.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The `reply_to` that [`Inlet::ask`] waits for; far above what a run counts to, and below 2^53.
const ASK_TAG: u64 = 1 << 51;
/// Questions that nobody waits for by number, such as heartbeats, bear this one.
pub(super) const IDLE_TAG: u64 = ASK_TAG + 1;

/// How a connection is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    WsJson,
    WsProto,
    Tcp,
    Line,
}

impl Framing {
    fn format(self) -> Format {
        match self {
            Self::WsJson => Format::Json,
            Self::WsProto | Self::Tcp => Format::Proto,
            Self::Line => Format::Line,
        }
    }
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    User(u64),
    Conversation(u64),
}

/// What a user signs in with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials<'a> {
    pub(super) token: &'a str,
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

/// The writing half of a connection. When it and the [`Inlet`] are gone, the connection closes.
#[derive(Debug)]
pub(super) struct Link {
    write: OwnedWriteHalf,
    framing: Framing,
    out: Mutex<Out>,
    /// Something was sent since the last look of the heartbeat.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Out {
    unwritten: Vec<u8>,
    /// A task waits for the socket to take more.
    flushing: bool,
    /// On lines: the numbers of the questions not yet answered, oldest first.
    asked: VecDeque<u64>,
    mask: u32,
}

/// The reading half of a connection.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) link: Arc<Link>,
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
    /// The frame that is written next, whose strings keep their room, and its bytes.
    static PEN: RefCell<(ClientFrame, Vec<u8>)> = RefCell::default();
}

/// Connects to `endpoint` (host:port), from `local` if given.
pub(super) async fn connect(
    endpoint: &str,
    framing: Framing,
    local: Option<Ipv4Addr>,
) -> Result<Inlet, ClientError> {
    let connecting = async {
        let stream = open(endpoint, local).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        greet(stream, endpoint, framing).await
    };
    let late = || format!("no connection within {} ms", CONNECT_TIMEOUT.as_millis());
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(|reason| ClientError::Unreachable { endpoint: endpoint.to_owned(), reason })
}

async fn open(endpoint: &str, local: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match local {
        Some(_) => lookup_host(endpoint).await?.filter(SocketAddr::is_ipv4).collect(),
        None => Vec::new(),
    };
    // Of IPv6's loopback there is one address only, and so no choice.
    let Some(local) = local.filter(|_| !addresses.is_empty()) else {
        return TcpStream::connect(endpoint).await;
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(local.into(), 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What comes before the first frame: the WebSocket handshake, or the line protocol's greeting.
async fn greet(mut stream: TcpStream, endpoint: &str, framing: Framing) -> Result<Inlet, String> {
    let mut rest = Vec::new();
    if matches!(framing, Framing::WsJson | Framing::WsProto) {
        let request = frames::upgrade_request(endpoint, framing, rand::random());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    }
    let greeted = match framing {
        Framing::Tcp => 0,
        Framing::WsJson | Framing::WsProto => read_until(&mut stream, &mut rest, frames::upgraded).await?,
        Framing::Line => {
            read_until(&mut stream, &mut rest, |bytes| {
                if bytes.starts_with(b"-") {
                    return Err(String::from_utf8_lossy(bytes).trim().to_owned());
                }
                Ok(bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1))
            })
            .await?
        }
    };
    rest.drain(..greeted);
    let (read, write) = stream.into_split();
    let out = Mutex::new(Out { mask: rand::random(), ..Out::default() });
    let link = Arc::new(Link { write, framing, out, busy: AtomicBool::new(true) });
    Ok(Inlet { link, read, rest, parts: Vec::new(), greeted: true })
}

async fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Result<Option<usize>, String>,
) -> Result<usize, String> {
    loop {
        if let Some(end) = end(bytes)? {
            return Ok(end);
        }
        match stream.read_buf(bytes).await {
            Ok(0) => return Err("the server closed the connection before it was ready".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Link {
    /// Whether more may be written: the server takes what it is sent.
    pub(super) fn has_room(&self) -> bool {
        self.out.lock().unwritten.len() < UNWRITTEN_MAX
    }

    /// Writes a message; its answer bears `number`. It leaves with [`Self::flush`].
    pub(super) fn message(&self, to: Destination, from: u64, stamp: Stamp, bytes: usize) {
        self.message_tagged(stamp.number, to, from, stamp, bytes);
    }

    /// [`Self::message`] whose answer bears another number than the message.
    pub(super) fn message_tagged(&self, number: u64, to: Destination, from: u64, stamp: Stamp, bytes: usize) {
        if self.framing == Framing::Line {
            PEN.with_borrow_mut(|(frame, payload)| {
                let send = send_of(frame);
                checker::write(stamp, bytes, &mut send.text);
                payload.clear();
                let (command, id) = match to {
                    Destination::User(id) => ("SEND", id),
                    Destination::Conversation(id) => ("SENDGROUP", id),
                };
                // Writing to a Vec can't fail.
                let _ = io::Write::write_fmt(payload, format_args!("{command} {id} {}", send.text));
                self.put(payload, Some(number));
            });
            return;
        }
        PEN.with_borrow_mut(|(frame, payload)| {
            frame.id = number + 1;
            let send = send_of(frame);
            (send.conversation_id, send.to_user_id) = match to {
                Destination::User(id) => (0, id),
                Destination::Conversation(id) => (id, 0),
            };
            checker::write_client_id(stamp, from, &mut send.client_id);
            checker::write(stamp, bytes, &mut send.text);
            payload.clear();
            codec::encode_behind(frame, self.framing.format(), payload);
            self.put(payload, None);
        });
    }

    /// Writes a request; its answer bears `number`. It leaves with [`Self::flush`]. Not for lines.
    pub(super) fn request(&self, number: u64, request: Request) {
        let frame = ClientFrame { id: number + 1, request: Some(request) };
        PEN.with_borrow_mut(|(_, payload)| {
            payload.clear();
            codec::encode_behind(&frame, self.framing.format(), payload);
            self.put(payload, None);
        });
    }

    /// Writes a `ping` as a frame of at least `bytes`, filled up by a field that the protocol does not know and so
    /// ignores. Its answer bears `number`. It leaves with [`Self::flush`]. Not for lines.
    pub(super) fn ping(&self, number: u64, bytes: usize) {
        PEN.with_borrow_mut(|(_, payload)| {
            payload.clear();
            let frame = ClientFrame { id: number + 1, request: Some(Request::Ping(v1::Ping {})) };
            codec::encode_behind(&frame, self.framing.format(), payload);
            let missing = bytes.saturating_sub(payload.len());
            match self.framing {
                Framing::WsJson if missing >= 8 => {
                    payload.pop();
                    payload.extend_from_slice(b",\"x\":\"");
                    payload.resize(payload.len() + missing - 7, b'x');
                    payload.extend_from_slice(b"\"}");
                }
                // Field 100, a string: two bytes of key, one of length.
                Framing::WsProto | Framing::Tcp if (3..=130).contains(&missing) => {
                    payload.extend_from_slice(&[0xa2, 0x06, (missing - 3) as u8]);
                    payload.resize(payload.len() + missing - 3, b'x');
                }
                _ => {}
            }
            self.put(payload, None);
        });
    }

    /// Writes a command line; its answer bears `number`.
    fn command(&self, number: u64, line: &str) {
        self.put(line.as_bytes(), Some(number));
        self.flush_detached();
    }

    fn put(&self, payload: &[u8], asked: Option<u64>) {
        let mut out = self.out.lock();
        // Any mask will do that a proxy can't foresee; a new one for each frame, by an LCG (Numerical Recipes).
        out.mask = out.mask.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mask = out.mask;
        frames::wrap(payload, self.framing, mask, &mut out.unwritten);
        out.asked.extend(asked);
    }

    /// Sends what was written. Waits for nothing: what the socket does not take now leaves by a task of its own.
    pub(super) fn flush(self: &Arc<Self>) {
        if self.flush_now() {
            return;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move { while !link.flush_some() && link.write.writable().await.is_ok() {} });
    }

    /// For callers that write little and wait for the answer.
    fn flush_detached(&self) {
        self.flush_now();
    }

    /// Whether nothing is left that a new task must see to.
    fn flush_now(&self) -> bool {
        let mut out = self.out.lock();
        if out.unwritten.is_empty() || out.flushing {
            return true;
        }
        self.busy.store(true, Ordering::Relaxed);
        out.flushing = !write_some(&self.write, &mut out.unwritten);
        !out.flushing
    }

    /// For the task: whether all is out, or the connection is.
    fn flush_some(&self) -> bool {
        let mut out = self.out.lock();
        out.flushing = !write_some(&self.write, &mut out.unwritten);
        !out.flushing
    }

    /// Shows the server that we are there, if nothing else did since the last call.
    fn beat(self: &Arc<Self>) {
        if self.framing != Framing::Line && !self.busy.swap(false, Ordering::Relaxed) {
            self.ping(IDLE_TAG, 0);
            self.flush();
            self.busy.store(false, Ordering::Relaxed);
        }
    }

    /// The question that an answer line belongs to.
    fn oldest_asked(&self) -> u64 {
        self.out.lock().asked.pop_front().unwrap_or(IDLE_TAG)
    }
}

/// Whether all is written. An error shows itself to the reader, so that here it ends the writing.
fn write_some(write: &OwnedWriteHalf, unwritten: &mut Vec<u8>) -> bool {
    let mut written = 0;
    while written < unwritten.len() {
        match write.try_write(&unwritten[written..]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                unwritten.drain(..written);
                return false;
            }
            Err(_) => break,
        }
    }
    unwritten.clear();
    true
}

fn send_of(frame: &mut ClientFrame) -> &mut v1::Send {
    if !matches!(frame.request, Some(Request::Send(_))) {
        frame.request = Some(Request::Send(v1::Send::default()));
    }
    match &mut frame.request {
        Some(Request::Send(send)) => send,
        _ => unreachable!("it was put there above"),
    }
}

impl Inlet {
    /// Waits for bytes, and hands over all that they hold. `Err`: the end of the connection. Cancel-safe.
    pub(super) async fn turn(&mut self, mut take: impl FnMut(Incoming)) -> Result<(), Close> {
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
        let framing = self.link.framing;
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
                    let mut out = self.link.out.lock();
                    let mask = out.mask;
                    frames::wrap_web_socket(Opcode::Pong, payload, mask, &mut out.unwritten);
                    drop(out);
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
    pub(super) async fn ask(
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
    pub(super) async fn sign_in(&mut self, who: Credentials<'_>) -> Result<u64, ClientError> {
        if self.link.framing == Framing::Line {
            return self.log_in(who).await;
        }
        match self.ask(Request::Hello(v1::Hello { token: who.token.to_owned() }), drop).await? {
            Some(Body::Welcome(welcome)) => Ok(welcome.user_id),
            other => Err(ClientError::Protocol(format!("hello was answered with {other:?}"))),
        }
    }

    async fn log_in(&mut self, who: Credentials<'_>) -> Result<u64, ClientError> {
        self.link.command(ASK_TAG, &format!("LOGIN {} {}", who.username, who.password));
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
    pub(super) fn cut(self) {
        // A reset also leaves no port behind in TIME_WAIT. Where it can't be had, the connection just closes.
        let _ = self.read.as_ref().set_zero_linger();
    }

    /// Says goodbye, and waits for the server's, for a second at most.
    pub(super) async fn close(mut self) {
        let link = Arc::clone(&self.link);
        match link.framing {
            Framing::WsJson | Framing::WsProto => {
                let mut out = link.out.lock();
                let mask = out.mask;
                frames::wrap_web_socket(Opcode::Close, &1000_u16.to_be_bytes(), mask, &mut out.unwritten);
            }
            Framing::Line => link.put(b"QUIT", None),
            Framing::Tcp => {}
        }
        link.flush();
        let goodbye = async {
            if link.framing == Framing::Tcp {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Transport;
    use crate::client::test_server::TestServer;

    const GOOD: Credentials<'static> = Credentials { token: "good", username: "", password: "" };

    #[tokio::test]
    async fn every_framing_of_frames_signs_in_and_sends() {
        for (transport, framing) in [
            (Transport::WebSocketJson, Framing::WsJson),
            (Transport::WebSocketProto, Framing::WsProto),
            (Transport::Tcp, Framing::Tcp),
        ] {
            let server = TestServer::start(transport).await;
            let mut inlet = connect(&server.address, framing, None).await.expect("it listens");
            assert!(inlet.sign_in(GOOD).await.expect("the token is good") > 0);
            for number in 0..50 {
                let stamp = Stamp { run: 1, number, due_us: 0 };
                inlet.link.message(Destination::Conversation(1), 1, stamp, 200);
            }
            inlet.link.flush();
            let mut answered = 0;
            while answered < 50 {
                inlet
                    .turn(|incoming| {
                        if let Incoming::Sent { reply_to, .. } = incoming {
                            assert_eq!(reply_to, answered);
                            answered += 1;
                        }
                    })
                    .await
                    .expect("the server stays");
            }
            inlet.close().await;
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let error = connect("127.0.0.1:1", Framing::Tcp, None).await.expect_err("nothing listens there");
        assert!(error.to_string().contains("127.0.0.1:1 can't be reached"), "{error}");
    }
}
