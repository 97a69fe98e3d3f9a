//! Circles of users of which some write and all receive: what pairs, rooms and busy rooms have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::DRAIN;
use super::super::args::Pace;
use super::super::checker::{Verdict, Written};
use super::super::lean::Destination;
use super::super::lean::pacer::Pacer;
use super::super::people::Online;
use super::super::receiver::{Player, Receiver};
use super::super::report::Report;
use super::super::sender::{State, Writer};
use super::{Run, count_close, wait_until};
use crate::client::Close;

/// Users of one conversation, all online.
pub(super) struct Circle {
    pub(super) destination: Destination,
    pub(super) people: Vec<Online>,
    /// The first so many write.
    pub(super) writers: usize,
    /// Whether the writers receive, too: from each other.
    pub(super) writers_receive: bool,
}

/// The users at play.
pub(super) struct Cast {
    pub(super) writers: Vec<Arc<Writer>>,
    receivers: Vec<Arc<Receiver>>,
    closed: Vec<Arc<Mutex<Option<Close>>>>,
    tasks: Vec<JoinHandle<()>>,
    writing: Arc<AtomicBool>,
    over: watch::Sender<bool>,
    pub(super) connections: usize,
}

/// Plays the circles through warm-up, measuring and drain.
pub(super) async fn play(run: &Run, name: &str, circles: Vec<Circle>, pace: Pace) -> anyhow::Result<Report> {
    let cast = Cast::enter(run, circles, pace, None);
    let pacer = cast.pace(run, pace.rate)?;
    let mut report = run.measure(name, cast.connections, || false).await;
    cast.leave(run, &mut report).await?;
    drop(pacer);
    Ok(report)
}

impl Cast {
    /// Sets everybody to play. Closed-loop writers begin at once, and write `quota` messages where it is given.
    pub(super) fn enter(run: &Run, circles: Vec<Circle>, pace: Pace, quota: Option<u64>) -> Self {
        let writing = Arc::new(AtomicBool::new(true));
        let (over, is_over) = watch::channel(false);
        let mut cast = Self {
            writers: Vec::new(),
            receivers: Vec::new(),
            closed: Vec::new(),
            tasks: Vec::new(),
            writing: Arc::clone(&writing),
            over,
            connections: 0,
        };
        for circle in circles {
            let write = |online: &Online| Writer {
                link: Arc::clone(&online.inlet.link),
                user_id: online.user_id,
                to: circle.destination,
                payload: run.args.payload,
                run: run.number,
                in_flight: pace.rate.is_none().then_some(pace.in_flight),
                quota,
                recorder: Arc::clone(&run.recorder),
                written: Arc::default(),
                writing: Arc::clone(&writing),
                state: Mutex::new(State::default()),
            };
            let writers: Vec<Arc<Writer>> =
                circle.people.iter().take(circle.writers).map(|online| Arc::new(write(online))).collect();
            let written: Vec<(u64, Arc<Mutex<Written>>)> =
                writers.iter().map(|writer| (writer.user_id, Arc::clone(&writer.written))).collect();
            for (place, online) in circle.people.into_iter().enumerate() {
                let receives = place >= circle.writers || circle.writers_receive;
                // A writer gets `sent`, and not its own message.
                let others = written.iter().enumerate().filter(|(writer, _)| *writer != place);
                let others = others.map(|(_, writer)| writer.clone());
                let receiver = receives.then(|| Arc::new(Receiver::of(others)));
                let closed = Arc::default();
                let player = Player {
                    inlet: online.inlet,
                    run: run.number,
                    recorder: Arc::clone(&run.recorder),
                    writer: writers.get(place).cloned(),
                    receiver: receiver.clone(),
                    closed: Arc::clone(&closed),
                };
                cast.connections += 1;
                cast.receivers.extend(receiver);
                cast.closed.push(closed);
                cast.tasks.push(run.pool.on(online.at).spawn(player.run(is_over.clone())));
            }
            cast.writers.extend(writers);
        }
        cast
    }

    /// The clock of the open loop: each writer in turn, so that they are spread over the interval.
    pub(super) fn pace(&self, run: &Run, rate: Option<f64>) -> anyhow::Result<Option<Pacer>> {
        let Some(rate) = rate else { return Ok(None) };
        let (writers, writing) = (self.writers.clone(), Arc::clone(&self.writing));
        let recorder = Arc::clone(&run.recorder);
        let due = move |slot: u64| {
            writing.load(Ordering::Relaxed).then(|| Duration::from_secs_f64(slot as f64 / rate))
        };
        let fire = move |slot: u64, due: Instant| {
            writers[slot as usize % writers.len()].fire(recorder.us_of(due));
        };
        Pacer::start(run.pool.on(0), due, fire).map(Some)
    }

    /// Ends the writing, waits for what is on its way, and adds the verdict.
    pub(super) async fn leave(self, run: &Run, report: &mut Report) -> anyhow::Result<()> {
        self.writing.store(false, Ordering::Relaxed);
        wait_until(DRAIN, || self.writers.iter().all(|writer| writer.is_answered())).await;
        wait_until(DRAIN, || self.receivers.iter().all(|receiver| receiver.is_complete())).await;
        self.over.send_replace(true);
        for task in self.tasks {
            task.await.context("a player's task has failed")?;
        }
        for writer in &self.writers {
            let (written, unanswered) = writer.counts();
            report.written += written;
            report.unanswered += unanswered;
        }
        let mut sum = Verdict::default();
        for receiver in &self.receivers {
            sum.add(receiver.verdict());
        }
        report.checked = sum;
        for closed in &self.closed {
            if let Some(close) = &*closed.lock() {
                count_close(report, close);
            }
        }
        report.refused = run.recorder.refusals();
        report.skipped = run.recorder.skips();
        Ok(())
    }
}

#[cfg(test)]
#[path = "play_tests.rs"]
mod tests;
