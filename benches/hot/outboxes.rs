//! An outbox between a room and a socket.

use bytes::Bytes;
use rookery::actors::session::outbox::{Bounds, Drained, Outbox};
use rookery::config::SessionConfig;

/// As a transport takes frames, in bytes at a time.
const DRAIN_BYTES: usize = 64 * 1024;

/// An outbox with the bounds of the defaults, whose transport is woken for nothing. Needs a runtime.
pub fn outbox() -> Outbox {
    let config = SessionConfig::default();
    let bounds = Bounds {
        frames: config.outbox_frames,
        bytes: config.outbox_bytes,
        conversations: config.ordered_conversations,
    };
    Outbox::new(bounds, config.order_wait, Box::new(|_| {}), tokio::runtime::Handle::current())
}

/// Pushes `count` messages of one conversation from `first_seq` on, and drains them.
pub fn push_and_drain(outbox: &Outbox, first_seq: u64, count: u64, bytes: &Bytes) -> Drained {
    for seq in first_seq..first_seq + count {
        outbox.message(1, seq, false, bytes.clone());
    }
    outbox.drain(DRAIN_BYTES)
}

/// A send's answer between two pushes: begun, answered, drained.
pub fn answer_and_drain(outbox: &Outbox, seq: u64, bytes: &Bytes) -> Drained {
    outbox.expect_answer(1);
    outbox.sent(1, seq, bytes.clone());
    outbox.drain(DRAIN_BYTES)
}
