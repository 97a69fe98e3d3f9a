//! The frames that the measurements use: of one shape, so that figures of different subjects can be compared.

use std::sync::atomic::{AtomicU64, Ordering};

use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{ClientFrame, Message, Send, Sent, ServerFrame};

/// The text of most messages, in bytes: that of the load tool's.
pub const TEXT_BYTES: usize = 200;
/// When all messages were stored, in Unix milliseconds.
pub const STORED_AT_MS: u64 = 1_700_000_000_000;

/// Words, as people write them: no letter that JSON or the line protocol has to escape.
pub fn text(bytes: usize) -> String {
    "the rook flies over the tower and home again ".chars().cycle().take(bytes).collect()
}

/// Another one with every call, of one length.
pub fn client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A message as a client sends it.
pub fn send(conversation_id: u64, text: &str) -> Send {
    Send { conversation_id, client_id: client_id(), text: text.to_owned(), ..Send::default() }
}

/// The same in its frame.
pub fn send_frame(conversation_id: u64, text: &str) -> ClientFrame {
    ClientFrame { id: 7, request: Some(Request::Send(send(conversation_id, text))) }
}

/// A message as it is stored.
pub fn message(conversation_id: u64, seq: u64, text: &str) -> Message {
    Message {
        conversation_id,
        seq,
        sender_id: 1,
        client_id: client_id(),
        text: text.to_owned(),
        created_at_ms: STORED_AT_MS,
        ..Message::default()
    }
}

/// The same as it is pushed.
pub fn message_frame(message: Message) -> ServerFrame {
    ServerFrame { reply_to: 0, body: Some(Body::Message(message)) }
}

/// The answer to a send.
pub fn sent_frame(conversation_id: u64, seq: u64) -> ServerFrame {
    let sent =
        Sent { conversation_id, seq, client_id: client_id(), created_at_ms: STORED_AT_MS, duplicate: false };
    ServerFrame { reply_to: 7, body: Some(Body::Sent(sent)) }
}
