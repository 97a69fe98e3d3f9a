//! One writer: writes at its pace, takes the answers, and keeps account of what was stored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::checker::{Stamp, Written};
use super::lean::{Destination, Link};
use super::measure::Recorder;

/// Unanswered messages of one writer in the open loop; beyond, its messages are skipped and counted as such.
const UNANSWERED_MAX: usize = 1000;
/// Pause of a closed-loop writer after a refusal that names none.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// A writer. It has no task: its connection's reader hands it the answers, and in the open loop a clock says when.
pub(super) struct Writer {
    pub(super) link: Arc<Link>,
    pub(super) user_id: u64,
    pub(super) to: Destination,
    pub(super) payload: usize,
    pub(super) run: u32,
    /// Unanswered messages of the closed loop; `None`: it is [`Self::fire`] that says when.
    pub(super) in_flight: Option<usize>,
    /// Messages after which it has written enough; `None`: until `writing` ends.
    pub(super) quota: Option<u64>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) written: Arc<Mutex<Written>>,
    /// Turns false when no more is to be written.
    pub(super) writing: Arc<AtomicBool>,
    pub(super) state: Mutex<State>,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    /// Number and due time, in the order written, which is nearly always that of the answers.
    unanswered: VecDeque<(u64, u64)>,
    paused: bool,
    closed: bool,
}

impl Writer {
    /// In the closed loop: writes as many as may be unanswered.
    pub(super) fn fill(&self) {
        let Some(in_flight) = self.in_flight else { return };
        let mut state = self.state.lock();
        while !state.paused && state.unanswered.len() < in_flight && self.may_write(&state) {
            self.write(&mut state, self.recorder.now_us());
        }
    }

    /// In the open loop: writes the message that was due at `due_us`, however many are unanswered.
    pub(super) fn fire(&self, due_us: u64) {
        let mut state = self.state.lock();
        if !self.may_write(&state) {
            return;
        }
        if state.unanswered.len() >= UNANSWERED_MAX || !self.link.has_room() {
            self.recorder.skipped();
            return;
        }
        // From when it was due, not from when it got its turn: a slow server must not hide its delay.
        self.write(&mut state, due_us);
        drop(state);
        self.link.flush();
    }

    fn may_write(&self, state: &State) -> bool {
        self.writing.load(Ordering::Relaxed)
            && !state.closed
            && self.quota.is_none_or(|quota| state.next < quota)
            && (self.in_flight.is_none() || self.link.has_room())
    }

    fn write(&self, state: &mut State, due_us: u64) {
        let number = state.next;
        state.next += 1;
        state.unanswered.push_back((number, due_us));
        self.link.message(self.to, self.user_id, Stamp { run: self.run, number, due_us }, self.payload);
    }

    /// The server says that a message is stored.
    pub(super) fn stored(&self, number: u64, now_us: u64) {
        let Some(due_us) = self.take(number) else { return };
        self.written.lock().stored(number);
        self.recorder.acked_at(due_us, now_us);
    }

    /// The server refuses a message. In the closed loop nothing is written for as long as it asks.
    pub(super) fn refused(self: &Arc<Self>, number: u64, retry_after_ms: u64) {
        if self.take(number).is_none() {
            return;
        }
        self.recorder.refused();
        if self.in_flight.is_some() && !std::mem::replace(&mut self.state.lock().paused, true) {
            let writer = Arc::clone(self);
            tokio::spawn(async move {
                let asked = REFUSED_PAUSE.max(Duration::from_millis(retry_after_ms));
                // Writers that were refused together must not come back together.
                tokio::time::sleep(asked.mul_f64(rand::random_range(1.0..1.25))).await;
                writer.state.lock().paused = false;
                writer.fill();
                writer.link.flush();
            });
        }
    }

    fn take(&self, number: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let at = state.unanswered.iter().position(|(asked, _)| *asked == number)?;
        state.unanswered.remove(at).map(|(_, due_us)| due_us)
    }

    /// The connection is gone.
    pub(super) fn closed(&self) {
        self.state.lock().closed = true;
    }

    /// Whether nothing more is to be waited for: all written has been answered, or never will be.
    pub(super) fn is_answered(&self) -> bool {
        let state = self.state.lock();
        state.closed || (state.unanswered.is_empty() && self.quota.is_none_or(|quota| state.next >= quota))
    }

    /// How many it has written, and how many of them were not answered.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.next, state.unanswered.len() as u64)
    }
}
