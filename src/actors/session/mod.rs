//! Sessions: one a live connection of a device. A small record stands as long as the connection; the actor that handles
//! its frames begins with the first one and passivates when none comes for a while.

pub mod actor;
pub mod outbox;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

pub use self::actor::Handler;
use self::actor::Seat;
pub use self::outbox::{Drained, OutFrame, Outbox, Wake};
use super::Actors;
use super::registry::Vitals;
use crate::cluster::Address;
use crate::domain::{Error, Result};
use crate::protocol::codec::{self, Format};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ClientFrame, GoAway, ServerFrame, Welcome};
use crate::protocol::{VERSION, cluster::SessionRecord};
use crate::{chance, clock};

/// What a connection runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// TCP frames.
    Tcp,
    /// TCP lines.
    Line,
}

impl Transport {
    /// The word of the admin endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Tcp => "tcp",
            Self::Line => "line",
        }
    }
}

/// A signed-in connection that wants a session.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Who signed in.
    pub user_id: u64,
    /// As which device.
    pub device_id: u64,
    /// Its name.
    pub device_name: String,
    /// Over what.
    pub transport: Transport,
    /// How its frames are written.
    pub format: Format,
    /// The `id` of the hello or login; `welcome` answers it (0: unasked).
    pub reply_to: u64,
    /// For `welcome.token`: filled after login only.
    pub token: String,
    /// The client's address, for logs.
    pub peer_address: String,
}

/// What the session may do to its socket. Both are called from any thread and must not block.
pub struct Socket {
    /// The outbox has something: drain it. Called once until the next [`Outbox::drain`], and once more if what came first
    /// could wait and this can't.
    pub wake: Box<dyn Fn(Wake) + Send + Sync>,
    /// The client does not read, or was told to go: shut the socket down, even in the middle of a frame.
    pub cut: Box<dyn Fn() + Send + Sync>,
}

/// Opens and finds the sessions of this node. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    actors: Actors,
}

/// How long a connection that was told to close may take before its socket is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Time that each frame of a session earns its actor to stay without frames, up to `session.idle_timeout`. Most
/// connections ask once what they missed and then listen: thousands that come in one minute must not all have actors.
const EARNED_MS: u64 = 1000;

/// The close code of a session whose actor has failed.
const BROKEN: u16 = 1011;

/// Silence of this many heartbeats ends a connection, in tenths.
const HEARTBEATS_TENTHS: u64 = 25;

impl Sessions {
    pub(super) fn new(actors: Actors) -> Self {
        Self { actors }
    }

    /// Starts a session. When this returns, its user's presence shard knows it, so that live push has begun, and the
    /// outbox begins with `welcome` (not for [`Format::Line`]).
    pub async fn open(&self, open: OpenSession, socket: Socket) -> Result<Session> {
        let actors = &self.actors;
        if actors.is_draining() {
            return Err(Error::unavailable("this node is leaving; connect to another one"));
        }
        let session = self.start(&open, socket)?;
        // Also when the caller stops waiting, as its connection was lost.
        let unopened = Unopened(Some(session.clone()));
        if open.format != Format::Line {
            let welcome = self.welcome(&session, &open);
            session.outbox().push(codec::encode(&welcome, open.format));
        }
        actors.inner.sessions.insert(session.clone());
        let limit = actors.inner.config.session.register_timeout;
        if let Err(error) = actors.announce(&session, limit).await {
            tracing::warn!(user_id = open.user_id, %error, "a session could not be registered");
            return Err(Error::unavailable("the presence directory did not answer; connect again"));
        }
        unopened.keep();
        Ok(session)
    }

    /// A live session of this node.
    pub fn get(&self, session_id: u64) -> Option<Session> {
        self.actors.inner.sessions.get(session_id)
    }

    fn start(&self, open: &OpenSession, socket: Socket) -> Result<Session> {
        let inner = &self.actors.inner;
        if inner.handler.get().is_none() {
            return Err(Error::unavailable("the node is still starting"));
        }
        // 52 random bits: unique in the cluster without asking anybody, and exact in JavaScript.
        let id = (chance::bits() >> 12).max(1);
        let config = &inner.config.session;
        let bounds = outbox::Bounds {
            frames: config.outbox_frames,
            bytes: config.outbox_bytes,
            conversations: config.ordered_conversations,
        };
        Ok(Session(Arc::new(Inner {
            id,
            // What only the welcome needs is not kept.
            open: OpenSession { token: String::new(), ..open.clone() },
            outbox: Outbox::new(bounds, config.order_wait, socket.wake, inner.runtime.clone()),
            cut: socket.cut,
            seat: Mutex::default(),
            vitals: Arc::new(Vitals::new(Address::session(id), id)),
            inbox_limit: config.inbox_frames as u64,
            since_ms: clock::now_ms(),
            last_seen: AtomicU64::new(clock::now_ms()),
            number: AtomicU64::new(0),
            closing_since: Mutex::new(None),
            closed: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            posted: AtomicU64::new(0),
            ebbing: AtomicBool::new(false),
            actors: self.actors.clone(),
        })))
    }

    fn welcome(&self, session: &Session, open: &OpenSession) -> ServerFrame {
        let gateway = &self.actors.inner.config.gateway;
        let welcome = Welcome {
            user_id: open.user_id,
            device_id: open.device_id,
            session_id: session.id(),
            token: open.token.clone(),
            node: self.actors.inner.name.clone(),
            server_time_ms: clock::now_ms(),
            heartbeat_ms: gateway.heartbeat.as_millis() as u64,
            max_frame_bytes: gateway.frame_bytes_max as u64,
            version: VERSION.to_owned(),
        };
        ServerFrame { reply_to: open.reply_to, body: Some(Body::Welcome(welcome)) }
    }

    /// Ends connections that are silent, or that were told to close and have not, and lets the actors of idle sessions
    /// go: called about once a second.
    pub(super) fn sweep(&self) {
        let now = clock::now_ms();
        let idle = self.actors.inner.config.session.idle_timeout.as_millis() as u64;
        let silence = self.actors.inner.config.gateway.heartbeat.as_millis() as u64 * HEARTBEATS_TENTHS / 10;
        for session in self.actors.inner.sessions.all() {
            if session.0.open.transport != Transport::Line
                && now.saturating_sub(session.last_seen()) > silence
            {
                session.outbox().close(4408, "nothing was heard for 2.5 heartbeats; reconnect and sync");
            }
            if session.outbox().closed().is_some() && session.close_is_overdue() {
                (session.0.cut)();
                session.close();
            }
            session.passivate_if_idle(now, idle);
        }
    }
}

/// A session of which nobody knows yet: it ends when this is dropped.
struct Unopened(Option<Session>);

impl Unopened {
    /// It is known now.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.close();
        }
    }
}

struct Inner {
    id: u64,
    open: OpenSession,
    outbox: Outbox,
    cut: Box<dyn Fn() + Send + Sync>,
    seat: Mutex<Seat>,
    vitals: Arc<Vitals>,
    inbox_limit: u64,
    since_ms: u64,
    last_seen: AtomicU64,
    number: AtomicU64,
    closing_since: Mutex<Option<Instant>>,
    closed: AtomicBool,
    paused: AtomicBool,
    posted: AtomicU64,
    /// The node is about to close the connection.
    ebbing: AtomicBool,
    actors: Actors,
}

/// A live session. Cheap to clone. Dropping the clones does not end it: call [`Session::close`].
#[derive(Clone)]
pub struct Session(Arc<Inner>);

impl Session {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Whose it is.
    pub fn user_id(&self) -> u64 {
        self.0.open.user_id
    }

    /// Of which device.
    pub fn device_id(&self) -> u64 {
        self.0.open.device_id
    }

    /// How its frames are written.
    pub fn format(&self) -> Format {
        self.0.open.format
    }

    /// Hands over a frame, to be handled after those before it; answers come by the outbox. Counts as a sign of life.
    /// `false`: more than `session.inbox_frames` wait; stop reading until the outbox wakes you.
    pub fn receive(&self, frame: ClientFrame) -> bool {
        self.touch();
        let depth = self.0.vitals.cast();
        // The counterpart of `is_settled`: either that sees the frame counted, or this sees the ebb.
        fence(Ordering::SeqCst);
        if self.0.ebbing.load(Ordering::Relaxed) {
            self.0.vitals.uncast();
            return false;
        }
        let frame = match depth {
            // Nothing is before it, so that a frame that needs no waiting takes no turn in the mailbox: most are sends,
            // which the room puts in order. It stays counted until it is handled.
            1 => match self.0.actors.inner.handler.get() {
                Some(handler) => handler.handle_now(self, frame),
                None => Some(frame),
            },
            _ => Some(frame),
        };
        let Some(frame) = frame else {
            self.0.vitals.handle(clock::now_ms());
            return self.waiting() <= self.0.inbox_limit || self.pause();
        };
        let cast = self.0.seat.lock().cast(self, frame);
        if let Err(error) = cast {
            tracing::error!(session_id = self.id(), %error, "a session can't take frames any more");
            self.outbox().close(BROKEN, "the session has failed; reconnect and sync");
        }
        depth + self.waiting() <= self.0.inbox_limit || self.pause()
    }

    fn pause(&self) -> bool {
        self.0.paused.store(true, Ordering::Release);
        false
    }

    /// Whether reading may go on.
    pub fn has_room(&self) -> bool {
        self.0.vitals.depth() + self.waiting() <= self.0.inbox_limit / 2
    }

    /// Requests that were handed on, to rooms, and are not answered yet.
    fn waiting(&self) -> u64 {
        self.0.posted.load(Ordering::Relaxed)
    }

    /// A request is handed on; to be followed by one [`Session::posted_is_answered`].
    pub fn posts(&self) {
        self.0.posted.fetch_add(1, Ordering::Relaxed);
    }

    /// What was handed on has been answered.
    pub fn posted_is_answered(&self) {
        self.0.posted.fetch_sub(1, Ordering::Relaxed);
        self.handled();
    }

    /// Takes no more frames: what the client still sends is neither handled nor answered, and it sends that again
    /// elsewhere.
    pub(super) fn ebb(&self) {
        self.0.ebbing.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether every frame that was taken has been handled, and every send answered. Final after [`Session::ebb`].
    pub(super) fn is_settled(&self) -> bool {
        self.0.vitals.depth() == 0 && self.0.outbox.open_answers() == 0
    }

    /// A sign of life without a frame.
    pub fn touch(&self) {
        self.0.last_seen.store(clock::now_ms(), Ordering::Relaxed);
    }

    /// What waits to be written.
    pub fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    /// Queues an answer to request `reply_to`; with 0 there is none.
    pub fn answer(&self, reply_to: u64, body: Body) {
        if reply_to != 0 {
            let frame = ServerFrame { reply_to, body: Some(body) };
            self.0.outbox.push(codec::encode(&frame, self.format()));
        }
    }

    /// The socket is gone: the session leaves the directory and stops. Later calls do nothing.
    pub fn close(&self) {
        if self.0.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.actors.inner.sessions.remove(self);
        self.0.actors.withdraw(self);
        self.0.seat.lock().close();
    }

    /// Ends the actor if it has had nothing to do for `idle_ms`, or less where the session has asked little so far. The
    /// next frame starts another.
    fn passivate_if_idle(&self, now_ms: u64, idle_ms: u64) {
        let vitals = &self.0.vitals;
        if vitals.depth() > 0 {
            return;
        }
        let idle_ms = idle_ms.min(vitals.handled().saturating_mul(EARNED_MS));
        if now_ms.saturating_sub(vitals.last_active_ms()) < idle_ms {
            return;
        }
        let mut seat = self.0.seat.lock();
        // Again: a frame is counted before its bearer takes the seat, so either it is seen here or it finds nobody there.
        if vitals.depth() == 0 {
            seat.passivate();
        }
    }

    /// Whether no actor is active, so that the session costs its record only.
    pub(super) fn is_passive(&self) -> bool {
        !self.0.seat.lock().is_taken()
    }

    /// What it runs on.
    pub fn transport(&self) -> Transport {
        self.0.open.transport
    }

    /// Tells the client to reconnect, to `address` where given.
    pub(super) fn go_away(&self, reason: &str, address: String) {
        if self.format() != Format::Line {
            let away = GoAway { reason: reason.to_owned(), retry_after_ms: 0, address };
            let frame = ServerFrame { reply_to: 0, body: Some(Body::GoAway(away)) };
            self.0.outbox.push(codec::encode(&frame, self.format()));
        }
    }

    /// The node that this session lives on.
    pub fn actors(&self) -> &Actors {
        &self.0.actors
    }

    /// A frame was handled: a transport that had to stop reading is woken once half of the room is free.
    pub(super) fn handled(&self) {
        if self.0.paused.load(Ordering::Relaxed)
            && self.has_room()
            && self.0.paused.swap(false, Ordering::AcqRel)
        {
            self.0.outbox.nudge();
        }
    }

    pub(super) fn last_seen(&self) -> u64 {
        self.0.last_seen.load(Ordering::Relaxed)
    }

    pub(super) fn vitals(&self) -> &Arc<Vitals> {
        &self.0.vitals
    }

    pub(in crate::actors) fn record(&self, actors: &Actors) -> SessionRecord {
        SessionRecord {
            user_id: self.user_id(),
            session_id: self.id(),
            device_id: self.device_id(),
            node: actors.inner.name.clone(),
            incarnation: actors.cluster().incarnation(),
            device_name: self.0.open.device_name.clone(),
            number: self.0.number.load(Ordering::Relaxed),
            // The line device of a user is that of all its line connections.
            sole: actors.inner.config.accounts.one_connection && self.0.open.transport != Transport::Line,
            since_ms: self.0.since_ms,
        }
    }

    /// Which of its node's sessions it is.
    pub(super) fn set_number(&self, number: u64) {
        self.0.number.store(number, Ordering::Relaxed);
    }

    /// The actor's own view of itself, for the admin endpoint.
    pub(super) fn inspect(&self) -> serde_json::Value {
        let (frames, bytes) = self.outbox().waiting();
        json!({
            "session_id": self.id(), "user_id": self.user_id(), "device_id": self.device_id(),
            "device_name": self.0.open.device_name, "transport": self.0.open.transport.as_str(),
            "peer_address": self.0.open.peer_address, "queued_frames": frames, "queued_bytes": bytes,
            "mailbox_depth": self.0.vitals.depth(), "last_seen_ms": self.last_seen(),
            "passive": self.is_passive(),
        })
    }

    fn close_is_overdue(&self) -> bool {
        let mut since = self.0.closing_since.lock();
        since.get_or_insert_with(Instant::now).elapsed() >= CLOSE_GRACE
    }
}
