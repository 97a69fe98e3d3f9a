//! One user's connection while it plays: hands answers to its writer, and has what is pushed checked.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::checker::{Inbox, Verdict, Written};
use super::lean::{Incoming, Inlet};
use super::measure::Recorder;
use super::sender::Writer;
use crate::client::Close;

/// What a receiver has got of the conversation that it looks at, for others to see.
pub(super) struct Receiver {
    inbox: Mutex<Inbox>,
    /// Of the inbox's writers, in its order.
    writers: Vec<Arc<Mutex<Written>>>,
}

impl Receiver {
    /// Of the writers with these numbers.
    pub(super) fn of(writers: impl IntoIterator<Item = (u64, Arc<Mutex<Written>>)>) -> Self {
        let (ids, writers): (Vec<u64>, Vec<_>) = writers.into_iter().unzip();
        Self { inbox: Mutex::new(Inbox::of(ids)), writers }
    }

    /// Whether all that was stored has come.
    pub(super) fn is_complete(&self) -> bool {
        self.inbox.lock().is_complete(self.writers.iter().map(AsRef::as_ref))
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.inbox.lock().verdict(self.writers.iter().map(AsRef::as_ref))
    }
}

/// One user who plays.
pub(super) struct Player {
    pub(super) inlet: Inlet,
    pub(super) run: u32,
    pub(super) recorder: Arc<Recorder>,
    pub(super) writer: Option<Arc<Writer>>,
    pub(super) receiver: Option<Arc<Receiver>>,
    /// Why the connection ended, if it did.
    pub(super) closed: Arc<Mutex<Option<Close>>>,
}

impl Player {
    /// Plays until `over` turns true or the connection ends.
    pub(super) async fn run(mut self, mut over: watch::Receiver<bool>) {
        // An error means that the run is gone, and so over.
        let mut over = pin!(async move { drop(over.wait_for(|over| *over).await) });
        if let Some(writer) = &self.writer {
            writer.fill();
            writer.link.flush();
        }
        loop {
            // One look at the clock for all that one read brings.
            let mut now_us = None;
            let (run, recorder) = (self.run, &self.recorder);
            let (writer, receiver) = (&self.writer, &self.receiver);
            let turn = self.inlet.turn(|incoming| {
                let now_us = *now_us.get_or_insert_with(|| recorder.now_us());
                match incoming {
                    Incoming::Message { seq, sender_id, stamp: Some(stamp), .. } if stamp.run == run => {
                        if let Some(receiver) = receiver
                            && receiver.inbox.lock().take(sender_id, stamp.number, seq)
                        {
                            recorder.delivered_at(stamp.due_us, now_us);
                        }
                    }
                    Incoming::Sent { reply_to, .. } => {
                        if let Some(writer) = writer {
                            writer.stored(reply_to, now_us);
                        }
                    }
                    Incoming::Refused { reply_to, error } => {
                        if let Some(writer) = writer {
                            writer.refused(reply_to, error.retry_after_ms);
                        }
                    }
                    // Membership, receipts and the like.
                    _ => {}
                }
            });
            tokio::select! {
                biased;
                turned = turn => if let Err(close) = turned {
                    *self.closed.lock() = Some(close);
                    if let Some(writer) = &self.writer {
                        writer.closed();
                    }
                    return;
                },
                () = &mut over => return,
            }
            if let Some(writer) = &self.writer {
                writer.fill();
                writer.link.flush();
            }
        }
    }
}
