//! An event on its way to many sockets: encoded once for each format, and shared. Between nodes it travels as protobuf
//! clients get it, so that a node that only passes it on, or whose clients speak protobuf, never takes it apart.

use std::sync::OnceLock;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::protocol::cluster::Deliver;
use crate::protocol::codec::{self, Format, PREFIX_BYTES};
use crate::protocol::v1::ServerFrame;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ConversationKind, line};

/// An event and its encodings, made when first asked for.
pub struct SharedFrame {
    message: Option<InLog>,
    conversation_kind: ConversationKind,
    /// As another node has sent it: part of all that came with it. A socket that waits for its reader must not hold that.
    passed: Option<Bytes>,
    /// `None`: another node sent what is no frame.
    frame: OnceLock<Option<ServerFrame>>,
    json: OnceLock<Option<Bytes>>,
    proto: OnceLock<Bytes>,
    prefixed: OnceLock<Bytes>,
    line: OnceLock<Option<Bytes>>,
}

/// Where a message stands, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InLog {
    /// The conversation that it is in.
    pub conversation_id: u64,
    /// Its place there.
    pub seq: u64,
    /// Who sent it; 0: the server.
    pub sender_id: u64,
}

impl SharedFrame {
    /// An event of this node; `conversation_kind` matters for messages only.
    pub fn new(frame: ServerFrame, conversation_kind: ConversationKind) -> Self {
        let message = match &frame.body {
            Some(Body::Message(message)) => Some(InLog {
                conversation_id: message.conversation_id,
                seq: message.seq,
                sender_id: message.sender_id,
            }),
            _ => None,
        };
        Self { frame: OnceLock::from(Some(frame)), ..Self::unknown(message, conversation_kind) }
    }

    /// An event that another node delivers.
    pub fn of(deliver: &Deliver) -> Self {
        let message = (deliver.seq != 0).then_some(InLog {
            conversation_id: deliver.conversation_id,
            seq: deliver.seq,
            sender_id: deliver.sender_id,
        });
        let shared = Self::unknown(message, deliver.conversation_kind());
        Self { passed: Some(deliver.event.clone()), ..shared }
    }

    fn unknown(message: Option<InLog>, conversation_kind: ConversationKind) -> Self {
        Self {
            message,
            conversation_kind,
            passed: None,
            frame: OnceLock::new(),
            json: OnceLock::new(),
            proto: OnceLock::new(),
            prefixed: OnceLock::new(),
            line: OnceLock::new(),
        }
    }

    /// The delivery of it by another node: [`SharedFrame::of`] makes the same of it.
    pub fn deliver(&self, user_ids: Vec<u64>, except_session_id: u64) -> Deliver {
        let message = self.message.unwrap_or(InLog { conversation_id: 0, seq: 0, sender_id: 0 });
        Deliver {
            user_ids,
            except_session_id,
            event: self.passed.clone().unwrap_or_else(|| self.proto()),
            conversation_kind: self.conversation_kind as i32,
            conversation_id: message.conversation_id,
            seq: message.seq,
            sender_id: message.sender_id,
        }
    }

    /// For a message: where it stands.
    pub fn message(&self) -> Option<InLog> {
        self.message
    }

    /// The bytes for a socket; `None` where the format has no word for this event.
    pub fn bytes(&self, format: Format) -> Option<Bytes> {
        match format {
            Format::Json => self.json.get_or_init(|| self.json()).clone(),
            Format::Proto => Some(self.proto()),
            Format::ProtoPrefixed => Some(self.prefixed.get_or_init(|| self.prefixed()).clone()),
            Format::Line => self.line.get_or_init(|| self.line()).clone(),
        }
    }

    fn frame(&self) -> Option<&ServerFrame> {
        let decode = || {
            let decoded = codec::decode_cluster(self.passed.as_ref()?);
            decoded.inspect_err(|error| tracing::warn!(%error, "an event of another node can't be read")).ok()
        };
        self.frame.get_or_init(decode).as_ref()
    }

    fn proto(&self) -> Bytes {
        let encode = || match &self.passed {
            Some(passed) => Bytes::copy_from_slice(passed),
            None => self.frame().map(|frame| codec::encode(frame, Format::Proto)).unwrap_or_default(),
        };
        self.proto.get_or_init(encode).clone()
    }

    fn json(&self) -> Option<Bytes> {
        self.frame().map(|frame| codec::encode(frame, Format::Json))
    }

    fn prefixed(&self) -> Bytes {
        let Some(proto) = self.passed.as_ref().or_else(|| self.proto.get()) else {
            return self.frame().map(|frame| codec::encode(frame, Format::ProtoPrefixed)).unwrap_or_default();
        };
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + proto.len());
        out.put_u32(u32::try_from(proto.len()).expect("what nodes exchange is bounded far below 4 GiB"));
        out.extend_from_slice(proto);
        out.freeze()
    }

    fn line(&self) -> Option<Bytes> {
        match &self.frame()?.body {
            Some(Body::Message(message)) => {
                line::message_line(message, self.conversation_kind).map(Bytes::from)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1::{Message, Typing};

    const FORMATS: [Format; 4] = [Format::Json, Format::Proto, Format::ProtoPrefixed, Format::Line];

    fn message() -> ServerFrame {
        let message = Message {
            conversation_id: 7,
            seq: 41,
            sender_id: 5,
            text: "good morning".to_owned(),
            ..Message::default()
        };
        ServerFrame { reply_to: 0, body: Some(Body::Message(message)) }
    }

    fn typing() -> ServerFrame {
        let typing = Typing { conversation_id: 7, user_id: 5, active: true };
        ServerFrame { reply_to: 0, body: Some(Body::Typing(typing)) }
    }

    #[test]
    fn what_has_come_by_other_nodes_is_written_as_at_home() {
        for event in [message(), typing()] {
            let home = SharedFrame::new(event, ConversationKind::Group);
            let passed = SharedFrame::of(&home.deliver(vec![1], 0));
            let away = SharedFrame::of(&passed.deliver(vec![1, 2], 9));
            for format in FORMATS {
                assert_eq!(away.bytes(format), home.bytes(format), "{format:?}");
            }
            assert_eq!(away.message(), home.message());
        }
        let place = SharedFrame::new(message(), ConversationKind::Direct).message();
        assert_eq!(place, Some(InLog { conversation_id: 7, seq: 41, sender_id: 5 }));
    }

    #[test]
    fn what_waits_for_a_reader_does_not_hold_what_came_with_it() {
        let event = SharedFrame::new(message(), ConversationKind::Direct).proto();
        let envelope = Bytes::from([event.as_ref(), &[0; 9000]].concat());
        let event = envelope.slice(..event.len());
        let shared = SharedFrame::of(&Deliver { event, seq: 41, ..Deliver::default() });
        let waiting = FORMATS.map(|format| shared.bytes(format));
        drop(shared);
        assert!(waiting.iter().all(Option::is_some) && envelope.is_unique());
    }

    #[test]
    fn each_format_is_the_codecs() {
        for first in FORMATS {
            let shared = SharedFrame::new(message(), ConversationKind::Direct);
            // Whichever is asked for first, the others are the same.
            shared.bytes(first);
            for format in [Format::Json, Format::Proto, Format::ProtoPrefixed] {
                assert_eq!(shared.bytes(format), Some(codec::encode(&message(), format)), "{format:?}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_written_to_nobody_who_must_read_it_first() {
        let deliver = Deliver { event: Bytes::from_static(&[0xff; 9]), seq: 1, ..Deliver::default() };
        let shared = SharedFrame::of(&deliver);
        assert_eq!((shared.bytes(Format::Json), shared.bytes(Format::Line)), (None, None));
    }
}
