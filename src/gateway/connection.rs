//! A connection before it has a session, whatever it runs on: what its first frames may be, how often it may try to
//! sign in, and how many bad frames it may send. [`SignIn`] and [`BadFrames`] decide and do no I/O.

use std::sync::Arc;
use std::time::Duration;

use super::Edge;
use super::error::{CLOSE_NOT_SIGNED_IN, CLOSE_PROTOCOL_ERROR};
use crate::actors::session::{OpenSession, Session, Socket, Transport};
use crate::config::GatewayConfig;
use crate::domain::{Error, Result};
use crate::protocol::codec::{DecodeError, Format};
use crate::protocol::salvage::{Salvaged, salvage_id};
use crate::protocol::v1::client_frame::Request;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ClientFrame, ServerFrame};
use crate::services::Identity;

/// What a client signs in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `hello`.
    Token(String),
    /// `login`.
    Password {
        /// The account's name.
        username: String,
        /// Its password.
        password: String,
        /// What the new device is called.
        device_name: String,
        /// What it runs on.
        platform: String,
    },
    /// The token of the upgrade request, checked already, and the count of forgettings before that.
    Known(Identity, u64),
}

impl Credentials {
    /// The count of forgettings before they were checked, where they were.
    fn forgettings(&self) -> Option<u64> {
        match self {
            Self::Known(_, forgettings) => Some(*forgettings),
            _ => None,
        }
    }
}

/// Why a connection is ended: a WebSocket close code and a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// One of the protocol's close codes.
    pub code: u16,
    /// For people.
    pub reason: String,
}

impl Closing {
    /// With this code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// What to do about a frame that arrived before the session.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write the answer, if any, and read on.
    Answer(Option<ServerFrame>),
    /// Check these, then open a session, or tell [`SignIn::refused`].
    Check {
        /// The frame's id, which `welcome` or the error answers.
        id: u64,
        /// What to check.
        credentials: Credentials,
    },
    /// Write the answer, if any, and close.
    Close(Option<ServerFrame>, Closing),
}

/// The sign-in phase of one connection.
#[derive(Debug)]
pub struct SignIn {
    tries_left: u32,
    bad: BadFrames,
}

impl SignIn {
    /// A new connection.
    pub fn new(config: &GatewayConfig) -> Self {
        Self { tries_left: config.hello_tries.max(1), bad: BadFrames::new(config.bad_frames_max) }
    }

    /// A frame arrived.
    pub fn frame(&mut self, frame: ClientFrame) -> Step {
        self.bad.good();
        let id = frame.id;
        let error = match frame.request {
            Some(Request::Hello(hello)) => {
                return Step::Check { id, credentials: Credentials::Token(hello.token) };
            }
            Some(Request::Login(login)) => {
                let credentials = Credentials::Password {
                    username: login.username,
                    password: login.password,
                    device_name: login.device_name,
                    platform: login.platform,
                };
                return Step::Check { id, credentials };
            }
            Some(_) => Error::unauthenticated("the connection is not signed in; send hello or login first"),
            None => {
                Error::invalid("", "the frame holds no request that this server knows; send hello or login")
            }
        };
        Step::Answer(answer(id, error))
    }

    /// Something arrived that was no frame.
    pub fn bad_frame(&mut self, bad: BadFrame) -> Step {
        match self.bad.bad(bad) {
            (frame, None) => Step::Answer(frame),
            (frame, Some(closing)) => Step::Close(frame, closing),
        }
    }

    /// The credentials of frame `id` were refused.
    pub fn refused(&mut self, id: u64, error: Error) -> Step {
        self.tries_left -= 1;
        let frame = answer(id, error);
        if self.tries_left == 0 {
            Step::Close(frame, Closing::new(CLOSE_NOT_SIGNED_IN, "too many failed tries to sign in"))
        } else {
            Step::Answer(frame)
        }
    }

    /// The time to sign in is over.
    pub fn timed_out(limit: Duration) -> Closing {
        Closing::new(CLOSE_NOT_SIGNED_IN, format!("not signed in within {} s", limit.as_secs()))
    }
}

/// Something that was no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrame {
    salvaged: Salvaged,
    field: String,
    why: String,
}

impl BadFrame {
    /// These bytes could not be decoded.
    pub fn undecodable(bytes: &[u8], format: Format, error: &DecodeError) -> Self {
        Self { salvaged: salvage_id(bytes, format), field: error.field().to_owned(), why: error.to_string() }
    }

    /// It was not even looked at.
    pub fn of_the_wrong_sort(why: &str) -> Self {
        Self { salvaged: Salvaged::Nothing, field: String::new(), why: why.to_owned() }
    }
}

/// Counts bad frames in a row, before and after the sign-in.
#[derive(Debug)]
pub struct BadFrames {
    in_a_row: u32,
    max: u32,
}

impl BadFrames {
    /// `max` in a row end the connection.
    pub fn new(max: u32) -> Self {
        Self { in_a_row: 0, max: max.max(1) }
    }

    /// A frame that could be decoded.
    pub fn good(&mut self) {
        self.in_a_row = 0;
    }

    /// One that could not: what to answer, and whether it was one too many. A frame with a readable `id` of 0 gets no
    /// answer, as any other; bytes without one get an error without `reply_to`.
    pub fn bad(&mut self, bad: BadFrame) -> (Option<ServerFrame>, Option<Closing>) {
        self.in_a_row += 1;
        let error = Error::invalid(bad.field, bad.why);
        let frame = match bad.salvaged {
            Salvaged::Id(id) => answer(id, error),
            Salvaged::Nothing => Some(ServerFrame { reply_to: 0, body: Some(Body::Error(error.into())) }),
        };
        let closing = (self.in_a_row >= self.max)
            .then(|| Closing::new(CLOSE_PROTOCOL_ERROR, format!("{} bad frames in a row", self.in_a_row)));
        (frame, closing)
    }
}

/// The error frame for request `id`; none when no answer is wanted.
fn answer(id: u64, error: Error) -> Option<ServerFrame> {
    (id != 0).then(|| ServerFrame { reply_to: id, body: Some(Body::Error(error.into())) })
}

/// A session that ends with its connection: when this is dropped, wherever that happens.
pub struct LiveSession(Session);

impl std::ops::Deref for LiveSession {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.0
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a transport knows of its connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it runs on.
    pub transport: Transport,
    /// How its frames are written.
    pub format: Format,
    /// Its address, for logs.
    pub address: String,
}

impl Edge {
    /// Checks the credentials of frame `id` and opens a session. To be run on the main runtime.
    pub async fn sign_in(
        &self,
        id: u64,
        credentials: Credentials,
        peer: Peer,
        socket: Socket,
    ) -> Result<LiveSession> {
        let accounts = &self.services.accounts;
        let forgettings = credentials.forgettings().unwrap_or_else(|| accounts.forgettings());
        let (identity, token) = match credentials {
            Credentials::Token(token) => (accounts.authenticate(&token).await?, String::new()),
            Credentials::Password { username, password, device_name, platform } => {
                let signed_in = accounts.sign_in(&username, &password, &device_name, &platform).await?;
                (signed_in.identity, signed_in.token)
            }
            Credentials::Known(identity, _) => (identity, String::new()),
        };
        let new_device = !token.is_empty();
        let opened = self.open(&identity, forgettings, id, token, peer, socket).await;
        if let (Err(error), true) = (&opened, new_device) {
            tracing::debug!(target: "rookery::gateway", %error, "no session could be opened; its new device is removed");
            // Nobody was told its token.
            let _ = accounts.sign_out(identity.user_id, identity.device_id).await;
        }
        opened
    }

    /// The same from an actix worker: what has to ask the database goes to the main runtime; a token that is remembered
    /// need not, and opens its session without leaving the worker.
    pub async fn sign_in_from_worker(
        self: Arc<Self>,
        id: u64,
        credentials: Credentials,
        peer: Peer,
        socket: Socket,
    ) -> Result<LiveSession> {
        let accounts = &self.services.accounts;
        let forgettings = credentials.forgettings().unwrap_or_else(|| accounts.forgettings());
        let known = match &credentials {
            Credentials::Token(token) => accounts.remembered(token),
            Credentials::Known(identity, _) => Some(identity.clone()),
            Credentials::Password { .. } => None,
        };
        if let Some(identity) = known {
            return self.open(&identity, forgettings, id, String::new(), peer, socket).await;
        }
        let edge = Arc::clone(&self);
        self.on_main(async move { edge.sign_in(id, credentials, peer, socket).await }).await
    }

    /// Opens a session for somebody whose credentials were checked after `forgettings` was counted.
    pub async fn open(
        &self,
        identity: &Identity,
        forgettings: u64,
        reply_to: u64,
        token: String,
        peer: Peer,
        socket: Socket,
    ) -> Result<LiveSession> {
        let open = OpenSession {
            user_id: identity.user_id,
            device_id: identity.device_id,
            device_name: identity.device_name.clone(),
            transport: peer.transport,
            format: peer.format,
            reply_to,
            token,
            peer_address: peer.address,
        };
        let session = self.sessions.open(open, socket).await.map(LiveSession)?;
        // A sign-out between the check and the opening found no session to close. It is forgotten before sessions are
        // closed, so that one of the two sees the other.
        if self.services.accounts.forgettings() != forgettings {
            let (accounts, who) = (self.services.accounts.clone(), identity.clone());
            if !self.on_main(async move { accounts.is_signed_in(&who).await }).await? {
                return Err(Error::unauthenticated("this device was signed out; sign in again"));
            }
        }
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorCode;
    use crate::protocol::codec::decode_client;
    use crate::protocol::v1::{Hello, Ping};

    fn sign_in() -> SignIn {
        SignIn::new(&GatewayConfig::default())
    }

    fn frame(id: u64, request: Request) -> ClientFrame {
        ClientFrame { id, request: Some(request) }
    }

    fn code(frame: &Option<ServerFrame>) -> Option<ErrorCode> {
        match frame.as_ref()?.body.as_ref()? {
            Body::Error(error) => Some(error.code()),
            _ => None,
        }
    }

    fn bad(bytes: &[u8]) -> BadFrame {
        let error = decode_client(bytes, Format::Json).expect_err("bytes that are no frame");
        BadFrame::undecodable(bytes, Format::Json, &error)
    }

    #[test]
    fn hello_is_checked_and_anything_else_is_refused_with_its_id() {
        let mut phase = sign_in();
        let Step::Answer(refusal) = phase.frame(frame(4, Request::Ping(Ping {}))) else {
            panic!("an answer")
        };
        assert_eq!(code(&refusal), Some(ErrorCode::Unauthenticated));
        assert_eq!(refusal.map(|frame| frame.reply_to), Some(4));
        assert_eq!(phase.frame(frame(0, Request::Ping(Ping {}))), Step::Answer(None));
        let hello = frame(5, Request::Hello(Hello { token: "t".into() }));
        assert_eq!(phase.frame(hello), Step::Check { id: 5, credentials: Credentials::Token("t".into()) });
    }

    #[test]
    fn the_third_failed_hello_closes() {
        let mut phase = sign_in();
        let error = || Error::unauthenticated("no");
        assert!(matches!(phase.refused(1, error()), Step::Answer(Some(_))));
        assert_eq!(phase.refused(0, error()), Step::Answer(None));
        let Step::Close(answer, closing) = phase.refused(3, error()) else { panic!("a third try closes") };
        assert_eq!(code(&answer), Some(ErrorCode::Unauthenticated));
        assert_eq!(closing.code, 4401);
    }

    #[test]
    fn ten_bad_frames_in_a_row_close_and_a_good_one_between_forgives() {
        let mut phase = sign_in();
        for _ in 0..9 {
            assert!(matches!(phase.bad_frame(bad(b"{")), Step::Answer(Some(_))));
        }
        phase.frame(frame(1, Request::Ping(Ping {})));
        for _ in 0..9 {
            assert!(matches!(phase.bad_frame(bad(b"{")), Step::Answer(Some(_))));
        }
        let Step::Close(_, closing) = phase.bad_frame(bad(b"{")) else { panic!("ten in a row close") };
        assert_eq!(closing.code, 4400);
    }

    #[test]
    fn a_bad_frame_is_answered_under_its_id_and_one_without_id_is_not() {
        let mut counter = BadFrames::new(10);
        let (answer, _) = counter.bad(bad(br#"{"id":9,"send":7}"#));
        assert_eq!(answer.map(|frame| frame.reply_to), Some(9));
        let (answer, _) = counter.bad(bad(br#"{"send":7}"#));
        assert_eq!(answer, None);
        let (answer, _) = counter.bad(bad(b"hello"));
        assert_eq!(code(&answer), Some(ErrorCode::InvalidArgument));
    }
}
