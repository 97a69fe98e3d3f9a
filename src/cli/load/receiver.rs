//! One receiver: takes what is pushed and has it checked.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::checker::{Checker, Written, read};
use super::measure::Recorder;
use super::people::Online;
use crate::client::Close;
use crate::protocol::v1::server_frame::Body;

/// A receiver's work.
pub(super) struct Receiver {
    pub(super) online: Online,
    pub(super) writer_id: u64,
    pub(super) recorder: Arc<Recorder>,
    pub(super) state: Arc<ReceiverState>,
    /// Turns true when the run is over.
    pub(super) stop: watch::Receiver<bool>,
}

/// What a receiver has got, for others to look at.
#[derive(Debug)]
pub(super) struct ReceiverState {
    pub(super) checker: Mutex<Checker>,
    pub(super) writer: Arc<Mutex<Written>>,
    pub(super) closed: Mutex<Option<Close>>,
}

impl ReceiverState {
    pub(super) fn new(writer: Arc<Mutex<Written>>) -> Self {
        Self { checker: Mutex::default(), writer, closed: Mutex::default() }
    }

    /// Whether nothing more is to be waited for.
    pub(super) fn is_complete(&self) -> bool {
        self.closed.lock().is_some() || self.checker.lock().is_complete(&self.writer.lock())
    }
}

impl Receiver {
    /// Receives until told to stop or cut off.
    pub(super) async fn run(mut self) {
        loop {
            let body = tokio::select! {
                body = self.online.events.next() => body,
                _ = self.stop.wait_for(|stop| *stop) => return,
            };
            match body {
                None => {
                    *self.state.closed.lock() = Some(self.online.events.close());
                    return;
                }
                Some(Body::Message(message)) if message.sender_id == self.writer_id => {
                    if let Some((number, due_us)) = read(&message.text) {
                        self.recorder.delivered(due_us);
                        self.state.checker.lock().take(number, message.seq);
                    }
                }
                // Membership, receipts and the like.
                Some(_) => {}
            }
        }
    }
}
