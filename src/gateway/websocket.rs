//! WebSocket: one actix actor a socket, at home ([`super::home`]) or on the worker that its connection came to. It decodes frames and hands them to
//! the session; the session's outbox wakes it to write. Before there is a session it goes by [`SignIn`].
//!
//! Only this file knows `actix-web-actors`. Its contexts stop running while a client does not read, so nothing here
//! keeps time for a live session: the session owns the heartbeat and the bounds, and cuts the socket from outside.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix::prelude::*;
use actix_http::ws::{Codec, Item};
use actix_web::http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING};
use actix_web::web::{ServiceConfig, get};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::Stream;
use futures_util::task::AtomicWaker;

use super::Edge;
use super::connection::{BadFrame, BadFrames, Closing, Credentials, LiveSession, Peer, SignIn, Step};
use super::cut::Cut;
use super::error::{CLOSE_PROTOCOL_ERROR, CLOSE_TOO_BIG, close_code};
use super::home::waker;
use super::http::extract::{ApiError, OpenSocket, authenticate, bearer, edge_of};
use super::http::resource;
use super::takeover::{Outgoing, Takeover};
use super::tcp::RESUME_AFTER;
use super::turns::Ring;
use super::websocket_gate::{Fault, Gate, Gated};
use crate::actors::session::{Socket, Transport};
use crate::domain::Error;
use crate::protocol::codec::{Format, decode_client, encode};
use crate::protocol::v1::ServerFrame;

/// The subprotocols, the default first.
const PROTOCOLS: [(&str, Format); 2] =
    [("rookery.v1+json", Format::Json), ("rookery.v1+proto", Format::Proto)];
/// How long a client has to answer our close frame before its connection is closed.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// The longest close reason that a frame holds, in bytes.
const REASON_MAX: usize = 123;

/// The route.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/ws").route(get().to(upgrade)));
}

/// The handshake. The rest of the connection's life is not the HTTP server's: see [`Takeover`].
async fn upgrade(request: HttpRequest) -> Result<HttpResponse, actix_web::Error> {
    let edge = edge_of(&request);
    let format = negotiate(&request)?;
    // Counted before the token is checked: see [`Edge::open`].
    let forgettings = edge.services.accounts.forgettings();
    let known = match bearer(&request) {
        Some(token) => Some(authenticate(&edge, token).await.map_err(ApiError::from)?),
        None => None,
    };
    let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
    let refused = |why: &str| {
        ApiError::from(Error::invalid("", format!("the request is no WebSocket handshake: {why}")))
    };
    let mut response =
        ws::handshake_with_protocols(&request, &names).map_err(|error| refused(&error.to_string()))?.finish();
    let headers = request.headers();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_body || !Takeover::is_offered(&request) {
        return Err(refused("it has a body, or asks for another upgrade too").into());
    }
    let peer = Peer {
        transport: Transport::WebSocket,
        format,
        address: request.peer_addr().map_or_else(String::new, |address| address.to_string()),
    };
    let known = known.map(|identity| Credentials::Known(identity, forgettings));
    let cut = request.conn_data::<Arc<OpenSocket>>().and_then(|open| open.cut.clone());
    let home = edge.home.clone();
    let begin = move |incoming| -> Outgoing {
        let gate = Gate::default();
        let max = edge.config.gateway.frame_bytes_max;
        let socket = SocketActor::new(edge, peer, known, cut, gate.clone());
        let codec = Codec::new().max_size(max);
        Box::pin(WebsocketContext::with_codec(socket, Gated::new(incoming, gate, max), codec))
    };
    response.extensions_mut().insert(Takeover::new(home, begin));
    Ok(response)
}

/// The format that the client names first of those that there are; JSON if it names none.
fn negotiate(request: &HttpRequest) -> Result<Format, ApiError> {
    let mut named = false;
    for value in request.headers().get_all(SEC_WEBSOCKET_PROTOCOL) {
        for name in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            named = true;
            if let Some((_, format)) = PROTOCOLS.iter().find(|(known, _)| *known == name) {
                return Ok(*format);
            }
        }
    }
    if named {
        let message = "none of the subprotocols named is known; name rookery.v1+json or rookery.v1+proto";
        return Err(Error::invalid("Sec-WebSocket-Protocol", message).into());
    }
    Ok(Format::Json)
}

/// The actor of one socket. Dies when the connection ends.
struct SocketActor {
    edge: Arc<Edge>,
    peer: Peer,
    phase: Phase,
    /// Ends a connection that does not sign in.
    deadline: Option<SpawnHandle>,
    /// Of the upgrade request's token.
    known: Option<Credentials>,
    bad: BadFrames,
    fragments: Option<Fragments>,
    bell: Arc<Bell>,
    /// By which the session cuts the socket.
    cut: Option<Arc<Cut>>,
    gate: Gate,
}

/// Where a connection stands.
enum Phase {
    SigningIn(SignIn),
    Live(LiveSession),
    /// A close frame was written; the client's is awaited.
    Closing,
}

/// The parts of a frame that have come so far.
struct Fragments {
    is_text: bool,
    bytes: BytesMut,
}

/// By which any thread tells the socket that its outbox has something. A message to its actor would be allocated and
/// queued for each delivery.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Ring for Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// The outbox has something.
struct Wake;

/// What the socket's context hears of its bell.
struct Rings(Arc<Bell>);

impl Stream for Rings {
    type Item = Wake;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Wake>> {
        self.0.waker.register(context.waker());
        match self.0.rung.swap(false, Ordering::Acquire) {
            true => Poll::Ready(Some(Wake)),
            false => Poll::Pending,
        }
    }
}

type Ctx = WebsocketContext<SocketActor>;

impl Actor for SocketActor {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.add_stream(Rings(Arc::clone(&self.bell)));
        let limit = self.edge.config.gateway.hello_timeout;
        self.deadline = Some(ctx.run_later(limit, move |socket, ctx| {
            if matches!(socket.phase, Phase::SigningIn(_)) {
                socket.close(SignIn::timed_out(limit), ctx);
            }
        }));
        if let Some(credentials) = self.known.take() {
            self.check(0, credentials, ctx);
        }
    }

    fn stopped(&mut self, _: &mut Ctx) {
        // Ends the session, if there is one.
        self.phase = Phase::Closing;
    }
}

impl StreamHandler<Wake> for SocketActor {
    fn handle(&mut self, _: Wake, ctx: &mut Ctx) {
        self.write(ctx);
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for SocketActor {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        self.gate.took();
        if let Phase::Closing = self.phase {
            if let Ok(Message::Close(_)) = item {
                ctx.stop();
            }
            return;
        }
        if let Phase::Live(session) = &self.phase {
            session.touch();
        }
        let too_big = |max| Closing::new(CLOSE_TOO_BIG, format!("a frame has at most {max} bytes"));
        match item {
            Ok(Message::Text(text)) => self.frame(&text.into_bytes(), true, ctx),
            Ok(Message::Binary(bytes)) => self.frame(&bytes, false, ctx),
            Ok(Message::Continuation(part)) => match self.join(part) {
                Ok(None) => {}
                Ok(Some(whole)) => self.frame(&whole.bytes, whole.is_text, ctx),
                Err(max) => self.close(too_big(max), ctx),
            },
            Ok(Message::Ping(bytes)) => ctx.pong(&bytes),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                ctx.close(reason.map(|reason| CloseReason { code: reason.code, description: None }));
                self.phase = Phase::Closing;
                ctx.stop();
            }
            Err(error) => match (self.gate.fault(), error) {
                (Some(Fault::TooBig), _) | (None, ProtocolError::Overflow) => {
                    let max = self.edge.config.gateway.frame_bytes_max;
                    self.close(too_big(max), ctx);
                }
                // Text that is not UTF-8: a whole frame, but a bad one. A lost connection comes this way too, and then
                // the stream ends next.
                (None, ProtocolError::Io(_)) => {
                    self.bad_frame(BadFrame::of_the_wrong_sort("the frame's text is not UTF-8"), ctx);
                }
                (Some(Fault::NotAFrame), _) => {
                    let why = "what was sent is no WebSocket frame, or one that is not masked";
                    self.close(Closing::new(CLOSE_PROTOCOL_ERROR, why), ctx);
                }
                (None, error) => self.close(Closing::new(CLOSE_PROTOCOL_ERROR, error.to_string()), ctx),
            },
        }
    }
}

impl SocketActor {
    fn new(
        edge: Arc<Edge>,
        peer: Peer,
        known: Option<Credentials>,
        cut: Option<Arc<Cut>>,
        gate: Gate,
    ) -> Self {
        Self {
            phase: Phase::SigningIn(SignIn::new(&edge.config.gateway)),
            deadline: None,
            bad: BadFrames::new(edge.config.gateway.bad_frames_max),
            fragments: None,
            bell: Arc::default(),
            edge,
            peer,
            known,
            cut,
            gate,
        }
    }

    /// Adds a fragment; the whole once it is there. The error is the most bytes that a frame may have.
    fn join(&mut self, part: Item) -> Result<Option<Fragments>, usize> {
        let (bytes, is_last) = match part {
            Item::FirstText(bytes) => {
                self.fragments = Some(Fragments { is_text: true, bytes: BytesMut::new() });
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.fragments = Some(Fragments { is_text: false, bytes: BytesMut::new() });
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let max = self.edge.config.gateway.frame_bytes_max;
        // The decoder lets no fragment come without a first one.
        let Some(fragments) = &mut self.fragments else { return Ok(None) };
        if fragments.bytes.len() + bytes.len() > max {
            self.fragments = None;
            return Err(max);
        }
        fragments.bytes.extend_from_slice(&bytes);
        Ok(if is_last { self.fragments.take() } else { None })
    }

    /// A whole frame arrived.
    fn frame(&mut self, bytes: &[u8], is_text: bool, ctx: &mut Ctx) {
        let format = self.peer.format;
        if is_text != (format == Format::Json) {
            let why = match format {
                Format::Json => "the frame is a binary message; rookery.v1+json takes text messages",
                _ => "the frame is a text message; rookery.v1+proto takes binary messages",
            };
            return self.bad_frame(BadFrame::of_the_wrong_sort(why), ctx);
        }
        let frame = match decode_client(bytes, format) {
            Ok(frame) => frame,
            Err(error) => return self.bad_frame(BadFrame::undecodable(bytes, format, &error), ctx),
        };
        match &mut self.phase {
            Phase::Live(session) => {
                self.bad.good();
                if !session.receive(frame) {
                    self.gate.shut();
                    // The outbox wakes us when there is room; should it have nothing to say, this does.
                    ctx.run_later(RESUME_AFTER, Self::resume);
                }
            }
            Phase::SigningIn(sign_in) => {
                let step = sign_in.frame(frame);
                self.take(step, ctx);
            }
            Phase::Closing => {}
        }
    }

    /// Reads on once the session has room.
    fn resume(&mut self, ctx: &mut Ctx) {
        match &self.phase {
            Phase::Live(session) if !session.has_room() => {
                ctx.run_later(RESUME_AFTER, Self::resume);
            }
            _ => self.gate.open(),
        }
    }

    fn bad_frame(&mut self, bad: BadFrame, ctx: &mut Ctx) {
        match &mut self.phase {
            Phase::Live(session) => {
                let (answer, closing) = self.bad.bad(bad);
                if let Some(answer) = answer {
                    session.outbox().push(encode(&answer, self.peer.format));
                }
                if let Some(closing) = closing {
                    self.write(ctx);
                    self.close(closing, ctx);
                }
            }
            Phase::SigningIn(sign_in) => {
                let step = sign_in.bad_frame(bad);
                self.take(step, ctx);
            }
            Phase::Closing => {}
        }
    }

    fn take(&mut self, step: Step, ctx: &mut Ctx) {
        match step {
            Step::Answer(frame) => self.answer(frame, ctx),
            Step::Check { id, credentials } => self.check(id, credentials, ctx),
            Step::Close(frame, closing) => {
                self.answer(frame, ctx);
                self.close(closing, ctx);
            }
        }
    }

    /// Checks credentials and opens a session. Meanwhile the context handles nothing else, so that frames sent behind
    /// the hello wait their turn.
    fn check(&mut self, id: u64, credentials: Credentials, ctx: &mut Ctx) {
        let bell = Arc::clone(&self.bell);
        let cut = self.cut.clone();
        let socket = Socket {
            wake: waker(self.edge.home.as_ref(), bell),
            cut: Box::new(move || {
                if let Some(cut) = &cut {
                    cut.cut();
                }
            }),
        };
        let (edge, peer) = (self.edge.clone(), self.peer.clone());
        let was_known = matches!(credentials, Credentials::Known(..));
        self.gate.shut();
        let checked = async move { edge.sign_in_from_worker(id, credentials, peer, socket).await };
        ctx.wait(checked.into_actor(self).map(move |checked, socket, ctx| {
            socket.gate.open();
            socket.checked(id, was_known, checked, ctx);
        }));
    }

    fn checked(&mut self, id: u64, was_known: bool, checked: Result<LiveSession, Error>, ctx: &mut Ctx) {
        match (checked, &mut self.phase) {
            (Ok(session), Phase::SigningIn(_)) => {
                self.phase = Phase::Live(session);
                // Its timer would be held as long as it was to run.
                if let Some(deadline) = self.deadline.take() {
                    ctx.cancel_future(deadline);
                }
                self.write(ctx);
            }
            // Closed meanwhile; dropping the session ends it.
            (Ok(_), _) => {}
            (Err(error), _) if was_known => {
                self.close(Closing::new(close_code(error.code), error.message), ctx);
            }
            (Err(error), Phase::SigningIn(sign_in)) => {
                let step = sign_in.refused(id, error);
                self.take(step, ctx);
            }
            (Err(_), _) => {}
        }
    }

    fn answer(&self, frame: Option<ServerFrame>, ctx: &mut Ctx) {
        if let Some(frame) = frame {
            put(self.peer.format, encode(&frame, self.peer.format), ctx);
        }
    }

    /// Writes a batch of what the outbox has. What is more goes with the next poll, which comes when the client has
    /// read enough: so it stays in the outbox, where it is counted.
    fn write(&mut self, ctx: &mut Ctx) {
        let Phase::Live(session) = &self.phase else { return };
        if session.has_room() {
            self.gate.open();
        }
        let drained = session.outbox().drain(self.edge.config.gateway.write_batch_bytes);
        for frame in drained.frames {
            put(self.peer.format, frame.bytes, ctx);
        }
        if let Some((code, reason)) = drained.close {
            self.close(Closing { code, reason }, ctx);
        } else if drained.more {
            let next = tokio::task::yield_now();
            ctx.spawn(next.into_actor(self).map(|(), socket, ctx| socket.write(ctx)));
        }
    }

    /// Writes a close frame and waits a moment for the client's.
    fn close(&mut self, closing: Closing, ctx: &mut Ctx) {
        if let Phase::Closing = self.phase {
            return;
        }
        // Ends the session, if there is one.
        self.phase = Phase::Closing;
        tracing::debug!(target: "rookery::gateway", address = self.peer.address, code = closing.code, reason = closing.reason, "WebSocket closed");
        let mut reason = closing.reason;
        if reason.len() > REASON_MAX {
            let end = (0..=REASON_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(end);
        }
        ctx.close(Some(CloseReason { code: CloseCode::from(closing.code), description: Some(reason) }));
        self.gate.open();
        ctx.run_later(CLOSE_WAIT, |_, ctx| ctx.stop());
    }
}

/// Writes one frame.
fn put(format: Format, bytes: Bytes, ctx: &mut Ctx) {
    if format != Format::Json {
        return ctx.binary(bytes);
    }
    match ByteString::try_from(bytes.clone()) {
        Ok(text) => ctx.text(text),
        Err(_) => ctx.binary(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn asked(names: &[&str]) -> Result<Format, ApiError> {
        let mut request = TestRequest::default();
        for name in names {
            request = request.append_header((SEC_WEBSOCKET_PROTOCOL, *name));
        }
        negotiate(&request.to_http_request())
    }

    #[test]
    fn the_first_known_subprotocol_is_taken_and_json_without_one() {
        assert_eq!(asked(&[]).ok(), Some(Format::Json));
        assert_eq!(asked(&["rookery.v1+proto"]).ok(), Some(Format::Proto));
        assert_eq!(asked(&["mqtt, rookery.v1+json"]).ok(), Some(Format::Json));
        assert_eq!(asked(&["mqtt", "rookery.v1+proto, rookery.v1+json"]).ok(), Some(Format::Proto));
        assert!(asked(&["mqtt"]).is_err());
    }
}
