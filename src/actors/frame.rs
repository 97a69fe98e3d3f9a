//! An event on its way to many sockets: encoded once per node and format, and shared.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::protocol::codec::{self, Format};
use crate::protocol::v1::ServerFrame;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ConversationKind, line};

/// An event and its encodings, made when first asked for.
pub struct SharedFrame {
    frame: ServerFrame,
    conversation_kind: ConversationKind,
    json: OnceLock<Bytes>,
    proto: OnceLock<Bytes>,
    prefixed: OnceLock<Bytes>,
    line: OnceLock<Option<Bytes>>,
}

impl SharedFrame {
    /// An event; `conversation_kind` matters for messages only.
    pub fn new(frame: ServerFrame, conversation_kind: ConversationKind) -> Self {
        Self {
            frame,
            conversation_kind,
            json: OnceLock::new(),
            proto: OnceLock::new(),
            prefixed: OnceLock::new(),
            line: OnceLock::new(),
        }
    }

    /// The frame itself.
    pub fn frame(&self) -> &ServerFrame {
        &self.frame
    }

    /// For a message: its conversation, seq and sender.
    pub fn message(&self) -> Option<(u64, u64, u64)> {
        match &self.frame.body {
            Some(Body::Message(message)) => Some((message.conversation_id, message.seq, message.sender_id)),
            _ => None,
        }
    }

    /// The bytes for a socket; `None` where the format has no word for this event.
    pub fn bytes(&self, format: Format) -> Option<Bytes> {
        let cell = match format {
            Format::Json => &self.json,
            Format::Proto => &self.proto,
            Format::ProtoPrefixed => &self.prefixed,
            Format::Line => return self.line.get_or_init(|| self.line()).clone(),
        };
        Some(cell.get_or_init(|| codec::encode(&self.frame, format)).clone())
    }

    fn line(&self) -> Option<Bytes> {
        match &self.frame.body {
            Some(Body::Message(message)) => {
                line::message_line(message, self.conversation_kind).map(Bytes::from)
            }
            _ => None,
        }
    }
}
