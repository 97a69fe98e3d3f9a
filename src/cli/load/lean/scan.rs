//! What a frame says, read no further than a writer or receiver needs.
//!
//! Messages and `sent` are most of what arrives, and of a message only its place, its sender and the head of its text
//! matter here; so those are read where they lie, without an allocation. Everything else is decoded by the codec.

use std::borrow::Cow;

use serde::Deserialize;

use super::Framing;
use crate::cli::load::checker::{self, Stamp};
use crate::client::Close;
use crate::domain::Error;
use crate::protocol::ErrorCode;
use crate::protocol::codec::{self, Format};
use crate::protocol::v1::server_frame::Body;

/// Bits of a line protocol's message number that hold the seq; see `protocol::line`.
const LINE_SEQ_BITS: u32 = 24;

/// What arrived.
#[derive(Debug)]
pub(in crate::cli::load) enum Incoming {
    /// A message was stored.
    Sent { reply_to: u64, conversation_id: u64, seq: u64 },
    /// A message was delivered. `stamp`: what a writer of this tool put on it.
    Message { conversation_id: u64, seq: u64, sender_id: u64, stamp: Option<Stamp> },
    /// `ok` or `pong`.
    Done { reply_to: u64 },
    /// An error.
    Refused { reply_to: u64, error: Error },
    /// Any other answer.
    Answer { reply_to: u64, body: Box<Body> },
    /// An event that nobody here looks into: receipts, typing, presence, conversations and the like.
    Event,
    /// On lines: an answer without a number of its own; it belongs to the oldest question.
    Line(LineAnswer),
}

/// An answer of the line protocol.
#[derive(Debug)]
pub(in crate::cli::load) enum LineAnswer {
    /// `+OK msg_id=…` or `+OK group_msg_id=…`.
    Sent { msg_id: u64 },
    /// `-ERR …`
    Refused(Error),
    /// Another `+OK …`.
    Ok(String),
}

/// Reads one frame.
pub(super) fn scan(frame: &[u8], framing: Framing) -> Result<Incoming, Close> {
    match framing {
        Framing::Line => Ok(scan_line(frame)),
        Framing::WsJson => scan_json(frame),
        Framing::Tcp | Framing::WsProto => scan_proto(frame).unwrap_or_else(|| decode(frame, Format::Proto)),
    }
}

/// By the codec.
fn decode(frame: &[u8], format: Format) -> Result<Incoming, Close> {
    let frame = codec::decode_server(frame, format)
        .map_err(|error| Close::broken(format!("the server sent no frame: {error}")))?;
    Ok(match (frame.reply_to, frame.body) {
        (reply_to, Some(Body::Sent(sent))) => {
            Incoming::Sent { reply_to, conversation_id: sent.conversation_id, seq: sent.seq }
        }
        (_, Some(Body::Message(message))) => Incoming::Message {
            conversation_id: message.conversation_id,
            seq: message.seq,
            sender_id: message.sender_id,
            stamp: checker::read(message.text.as_bytes()),
        },
        (reply_to, Some(Body::Ok(_) | Body::Pong(_))) => Incoming::Done { reply_to },
        (reply_to, Some(Body::Error(error))) => Incoming::Refused { reply_to, error: error.into() },
        (0, _) | (_, None) => Incoming::Event,
        (reply_to, Some(body)) => Incoming::Answer { reply_to, body: Box::new(body) },
    })
}

/// One field of a protobuf message: its number, and its value.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// The fields of a protobuf message, as far as they are numbers and byte strings; ends at anything else.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for at in 0..10 {
            let byte = *self.0.get(at)?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    /// `Some(None)`: the bytes are not understood.
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = (|| {
            let key = self.varint()?;
            match key & 7 {
                0 => Some(Field::Number(key >> 3, self.varint()?)),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    let (bytes, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    Some(Field::Bytes(key >> 3, bytes))
                }
                _ => None,
            }
        })();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The fields of `ServerFrame` that are looked into, by `proto/client.proto`.
mod server_frame {
    pub(super) const REPLY_TO: u64 = 1;
    pub(super) const SENT: u64 = 3;
    pub(super) const OK: u64 = 7;
    pub(super) const PONG: u64 = 8;
    pub(super) const MESSAGE: u64 = 10;
    /// Events from here on, `notice` included, are nothing to this tool.
    pub(super) const FIRST_EVENT: u64 = 11;
}

/// `None`: not one of the kinds that are read here, or not understood.
fn scan_proto(frame: &[u8]) -> Option<Result<Incoming, Close>> {
    let mut reply_to = 0;
    let mut incoming = None;
    for field in Fields(frame) {
        match field? {
            Field::Number(server_frame::REPLY_TO, number) => reply_to = number,
            Field::Bytes(server_frame::SENT, sent) => {
                let (mut conversation_id, mut seq) = (0, 0);
                for field in Fields(sent) {
                    match field? {
                        Field::Number(1, number) => conversation_id = number,
                        Field::Number(2, number) => seq = number,
                        _ => {}
                    }
                }
                incoming = Some(Incoming::Sent { reply_to, conversation_id, seq });
            }
            Field::Bytes(server_frame::MESSAGE, message) => incoming = Some(scan_message(message)?),
            Field::Bytes(server_frame::OK | server_frame::PONG, _) => {
                incoming = Some(Incoming::Done { reply_to });
            }
            Field::Bytes(kind, _) if kind >= server_frame::FIRST_EVENT => incoming = Some(Incoming::Event),
            Field::Number(..) => {}
            Field::Bytes(..) => return None,
        }
    }
    // Whatever the order in which they stood.
    if let Some(Incoming::Sent { reply_to: own, .. } | Incoming::Done { reply_to: own }) = &mut incoming {
        *own = reply_to;
    }
    incoming.map(Ok)
}

fn scan_message(message: &[u8]) -> Option<Incoming> {
    let (mut conversation_id, mut seq, mut sender_id, mut stamp) = (0, 0, 0, None);
    for field in Fields(message) {
        match field? {
            Field::Number(1, number) => conversation_id = number,
            Field::Number(2, number) => seq = number,
            Field::Number(3, number) => sender_id = number,
            Field::Bytes(6, text) => stamp = checker::read(text),
            _ => {}
        }
    }
    Some(Incoming::Message { conversation_id, seq, sender_id, stamp })
}

/// The parts of a JSON frame that are read here; any other part makes it a case for the codec.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonFrame<'a> {
    reply_to: u64,
    sent: Option<JsonSent>,
    #[serde(borrow)]
    message: Option<JsonMessage<'a>>,
    ok: Option<serde::de::IgnoredAny>,
    pong: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonSent {
    conversation_id: u64,
    seq: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonMessage<'a> {
    conversation_id: u64,
    seq: u64,
    sender_id: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

fn scan_json(frame: &[u8]) -> Result<Incoming, Close> {
    match serde_json::from_slice(frame) {
        Ok(JsonFrame { reply_to, sent: Some(sent), .. }) => {
            Ok(Incoming::Sent { reply_to, conversation_id: sent.conversation_id, seq: sent.seq })
        }
        Ok(JsonFrame { message: Some(message), .. }) => Ok(Incoming::Message {
            conversation_id: message.conversation_id,
            seq: message.seq,
            sender_id: message.sender_id,
            stamp: checker::read(message.text.as_bytes()),
        }),
        Ok(JsonFrame { reply_to, ok: Some(_), .. } | JsonFrame { reply_to, pong: Some(_), .. }) => {
            Ok(Incoming::Done { reply_to })
        }
        _ => decode(frame, Format::Json),
    }
}

fn scan_line(line: &[u8]) -> Incoming {
    if let Some(rest) = line.strip_prefix(b"+OK ") {
        let msg_id = rest.strip_prefix(b"msg_id=").or_else(|| rest.strip_prefix(b"group_msg_id="));
        return Incoming::Line(match msg_id.and_then(number) {
            Some(msg_id) => LineAnswer::Sent { msg_id },
            None => LineAnswer::Ok(String::from_utf8_lossy(rest).into_owned()),
        });
    }
    if let Some(reason) = line.strip_prefix(b"-ERR") {
        let reason = String::from_utf8_lossy(reason.trim_ascii()).into_owned();
        // Lines have no codes. A refusal for now only is worth another try, and so is taken for one.
        return Incoming::Line(LineAnswer::Refused(Error::new(ErrorCode::Unavailable, reason)));
    }
    // MSG id=41 from=5 ts=1700000000000 text=…
    let head = line.split(|byte| *byte == b' ').take_while(|word| !word.starts_with(b"text="));
    let (mut id, mut sender_id, mut length) = (None, 0, 0);
    for word in head {
        length += word.len() + 1;
        if let Some(value) = word.strip_prefix(b"id=") {
            id = number(value);
        } else if let Some(value) = word.strip_prefix(b"from=") {
            sender_id = number(value).unwrap_or(0);
        }
    }
    let Some(id) = id else { return Incoming::Event };
    let text = line.get(length..).and_then(|text| text.strip_prefix(b"text=")).unwrap_or_default();
    let (conversation_id, seq) = place_of(id);
    Incoming::Message { conversation_id, seq, sender_id, stamp: checker::read(text) }
}

/// Conversation and seq in a line protocol's message number.
pub(in crate::cli::load) fn place_of(msg_id: u64) -> (u64, u64) {
    (msg_id >> LINE_SEQ_BITS, msg_id & ((1 << LINE_SEQ_BITS) - 1))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::line::{message_line, msg_id};
    use crate::protocol::{ConversationKind, v1};

    fn text() -> String {
        let mut text = String::new();
        checker::write(Stamp { run: 7, number: 12, due_us: 34 }, 60, &mut text);
        text
    }

    fn frame(reply_to: u64, body: Body) -> v1::ServerFrame {
        v1::ServerFrame { reply_to, body: Some(body) }
    }

    fn message() -> v1::Message {
        v1::Message { conversation_id: 3, seq: 9, sender_id: 5, text: text(), ..v1::Message::default() }
    }

    #[test]
    fn both_formats_are_read_alike() {
        let sent = v1::Sent { conversation_id: 3, seq: 9, client_id: "c".into(), ..v1::Sent::default() };
        let refused = v1::Error { message: "no".into(), ..v1::Error::default() };
        let frames = [
            (frame(4, Body::Sent(sent)), "Sent { reply_to: 4, conversation_id: 3, seq: 9 }"),
            (
                frame(0, Body::Message(message())),
                "Message { conversation_id: 3, seq: 9, sender_id: 5, \
                 stamp: Some(Stamp { run: 7, number: 12, due_us: 34 }) }",
            ),
            (frame(5, Body::Pong(v1::Pong {})), "Done { reply_to: 5 }"),
            (frame(0, Body::Typing(v1::Typing::default())), "Event"),
            (frame(6, Body::Error(refused)), "Refused { reply_to: 6"),
            (frame(6, Body::HistoryPage(v1::HistoryPage::default())), "Answer { reply_to: 6"),
        ];
        for (frame, wanted) in frames {
            for framing in [Framing::WsJson, Framing::WsProto] {
                let bytes = codec::encode(&frame, framing.format());
                let read = scan(&bytes, framing).expect("it is a frame");
                assert!(format!("{read:?}").starts_with(wanted), "{framing:?}: {read:?}");
            }
        }
    }

    #[test]
    fn lines_are_read() {
        let line = message_line(&message(), ConversationKind::Group).expect("a text is given");
        let Incoming::Message { conversation_id: 3, seq: 9, sender_id: 5, stamp: Some(stamp) } =
            scan_line(line.as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!(stamp.number, 12);
        assert_eq!(place_of(msg_id(3, 9)), (3, 9));
        assert!(matches!(scan_line(b"+OK group_msg_id=41"), Incoming::Line(LineAnswer::Sent { msg_id: 41 })));
        assert!(matches!(scan_line(b"-ERR busy"), Incoming::Line(LineAnswer::Refused(_))));
    }

    #[test]
    fn nonsense_is_no_frame() {
        assert!(scan(&[0xff; 3], Framing::WsProto).is_err());
        assert!(scan(b"{", Framing::WsJson).is_err());
    }
}
