//! One writer: writes at its pace, takes the answers, and keeps account of what was stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::checker::{Written, text};
use super::measure::Recorder;
use super::people::Online;
use crate::client::connection::Incoming;
use crate::client::{ClientError, Close};
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// Unanswered messages of one writer in the open loop; beyond, its messages are skipped and counted as such.
const UNANSWERED_MAX: usize = 1000;
/// Pause of a closed-loop writer after a refusal that names none.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// How soon to look again whether the connection takes more.
const CONGESTED_PAUSE: Duration = Duration::from_millis(1);

/// To whom.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    User(u64),
    Conversation(u64),
}

/// When.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loop {
    /// So many unanswered at a time.
    Closed { in_flight: usize },
    /// One each interval, the first after the offset.
    Open { interval: Duration, offset: Duration },
}

/// A writer's work.
pub(super) struct Sender {
    pub(super) online: Online,
    pub(super) destination: Destination,
    pub(super) pace: Loop,
    pub(super) payload: usize,
    pub(super) recorder: Arc<Recorder>,
    pub(super) written: Arc<Mutex<Written>>,
    /// Turns true when no more is to be written.
    pub(super) stop: watch::Receiver<bool>,
}

/// How a writer ended.
pub(super) struct SenderEnd {
    /// Kept open, so that the user stays online to the end of the run.
    pub(super) _online: Online,
    pub(super) written: u64,
    pub(super) unanswered: u64,
    pub(super) closed: Option<Close>,
}

impl Sender {
    /// Writes until told to stop and until all is answered or `drain` has passed.
    pub(super) async fn run(mut self, drain: Duration) -> SenderEnd {
        let mut unanswered: HashMap<u64, u64> = HashMap::new();
        let mut number = 0;
        let mut stopped = false;
        let mut give_up = Instant::now();
        let mut pause_until: Option<Instant> = None;
        let mut next_slot = match self.pace {
            Loop::Open { offset, .. } => Instant::now() + offset,
            Loop::Closed { .. } => Instant::now(),
        };
        let closed = loop {
            if !stopped && *self.stop.borrow() {
                stopped = true;
                give_up = Instant::now() + drain;
            }
            if stopped && (unanswered.is_empty() || Instant::now() >= give_up) {
                break None;
            }
            // What is due now.
            let mut wake = give_up;
            if !stopped {
                // Without room the connection waits for us to take answers, and we must not wait for it.
                let due = match self.pace {
                    _ if self.online.connection.room() == 0 => None,
                    Loop::Closed { in_flight } => {
                        let paused = pause_until.is_some_and(|until| until > Instant::now());
                        if !paused && unanswered.len() < in_flight { Some(Instant::now()) } else { None }
                    }
                    Loop::Open { interval, .. } => {
                        let due = (next_slot <= Instant::now()).then_some(next_slot);
                        if due.is_some() {
                            next_slot += interval;
                        }
                        due
                    }
                };
                if let Some(due) = due {
                    if unanswered.len() >= UNANSWERED_MAX {
                        self.recorder.skipped();
                        continue;
                    }
                    // From when it was due, not from when it got its turn: a slow server must not hide its delay.
                    let due_us = self.recorder.us_of(due);
                    if let Err(error) = self.write(number, due_us).await {
                        break Some(close_of(error));
                    }
                    unanswered.insert(number, due_us);
                    number += 1;
                    continue;
                }
                wake = match self.pace {
                    _ if self.online.connection.room() == 0 => Instant::now() + CONGESTED_PAUSE,
                    Loop::Open { .. } => next_slot,
                    Loop::Closed { .. } => pause_until.unwrap_or_else(|| Instant::now() + drain),
                };
            }
            tokio::select! {
                incoming = self.online.events.next_incoming() => match incoming {
                    None => break Some(self.online.events.close()),
                    Some(Incoming::Event(_)) => {}
                    Some(Incoming::Answer { tag, result }) => {
                        let due_us = unanswered.remove(&tag).unwrap_or_default();
                        pause_until = self.take(tag, due_us, result);
                    }
                },
                () = sleep_until(wake) => pause_until = None,
                _ = self.stop.changed(), if !stopped => {}
            }
        };
        SenderEnd { _online: self.online, written: number, unanswered: unanswered.len() as u64, closed }
    }

    async fn write(&self, number: u64, due_us: u64) -> Result<(), ClientError> {
        let (conversation_id, to_user_id) = match self.destination {
            Destination::User(id) => (0, id),
            Destination::Conversation(id) => (id, 0),
        };
        let send = v1::Send {
            conversation_id,
            to_user_id,
            client_id: format!("{:x}-{number:x}", self.online.user_id),
            text: text(number, due_us, self.payload),
            ..v1::Send::default()
        };
        self.online.connection.post_tagged(number, Request::Send(send)).await
    }

    /// Takes an answer; gives when to go on, if there is to be a pause.
    fn take(&self, number: u64, due_us: u64, result: Result<Body, ClientError>) -> Option<Instant> {
        match result {
            Ok(Body::Sent(_)) => {
                self.written.lock().stored(number);
                self.recorder.acked(due_us);
                None
            }
            Ok(_) => {
                self.recorder.refused();
                None
            }
            Err(error) => {
                self.recorder.refused();
                Some(Instant::now() + REFUSED_PAUSE.max(Duration::from_millis(error.retry_after_ms())))
            }
        }
    }
}

fn close_of(error: ClientError) -> Close {
    match error {
        ClientError::Closed(close) => close,
        other => Close::broken(other.to_string()),
    }
}
