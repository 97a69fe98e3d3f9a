//! Session actors: one a live connection.

use bytes::Bytes;

use crate::domain::Result;
use crate::protocol::codec::Format;
use crate::protocol::v1::ClientFrame;

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
    /// The outbox has something: drain it soon. Called once until the next [`Outbox::drain`].
    pub wake: Box<dyn Fn() + Send + Sync>,
    /// The client does not read, or was told to go: shut the socket down, even in the middle of a frame.
    pub cut: Box<dyn Fn() + Send + Sync>,
}

/// Opens and finds the sessions of this node. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {}

impl Sessions {
    /// Starts a session. When this returns, its user's presence shard knows it, so that live push has begun, and the
    /// outbox begins with `welcome` (not for [`Format::Line`]).
    pub async fn open(&self, open: OpenSession, socket: Socket) -> Result<Session> {
        let _ = (open, socket);
        todo!()
    }
}

/// A live session. Dropping the last clone that a connection holds does not end it: call [`Session::close`].
#[derive(Clone)]
pub struct Session {}

impl Session {
    /// Its number.
    pub fn id(&self) -> u64 {
        todo!()
    }
    /// Whose it is.
    pub fn user_id(&self) -> u64 {
        todo!()
    }
    /// Of which device.
    pub fn device_id(&self) -> u64 {
        todo!()
    }
    /// Hands over a frame, to be handled after those before it; answers come by the outbox. Counts as a sign of life.
    /// `false`: more than `session.inbox_frames` wait; stop reading until the outbox wakes you.
    pub fn receive(&self, frame: ClientFrame) -> bool {
        let _ = frame;
        todo!()
    }
    /// A sign of life without a frame.
    pub fn touch(&self) {}
    /// What waits to be written.
    pub fn outbox(&self) -> &Outbox {
        todo!()
    }
    /// The socket is gone: the session leaves the directory and stops.
    pub fn close(&self) {}
}

/// What waits to be written to one socket: bounded, in order, filled from any thread.
pub struct Outbox {}

/// A frame as it goes out.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Encoded in the session's format. For lines: without the line's end.
    pub bytes: Bytes,
    /// For a message: its conversation and seq.
    pub message: Option<(u64, u64)>,
}

/// What a drain yields.
#[derive(Debug, Default)]
pub struct Drained {
    /// In order.
    pub frames: Vec<OutFrame>,
    /// After the frames, close with this WebSocket close code and reason.
    pub close: Option<(u16, String)>,
    /// More waits: drain again.
    pub more: bool,
}

impl Outbox {
    /// Takes frames of about `max_bytes` together, at least one if any waits.
    pub fn drain(&self, max_bytes: usize) -> Drained {
        let _ = max_bytes;
        todo!()
    }
    /// Queues a frame of the transport's own (an error about bytes that were no frame).
    pub fn push(&self, bytes: Bytes) {
        let _ = bytes;
        todo!()
    }
}
