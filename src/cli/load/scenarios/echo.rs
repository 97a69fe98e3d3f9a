//! `ping` and `pong`: what a connection and the framing cost, with nothing stored and nobody else told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::time::timeout;

use super::super::DRAIN;
use super::super::args::EchoArgs;
use super::super::lean::{IDLE_TAG, Incoming, Inlet};
use super::super::measure::Recorder;
use super::super::people;
use super::super::report::Report;
use super::{Run, announce, count_close};
use crate::client::Close;

pub(super) async fn echo(run: &Run, args: &EchoArgs) -> anyhow::Result<Report> {
    announce(&format!("signing up {} users …", args.connections));
    let people = people::sign_up(&run.args, args.connections).await?;
    let online = people::connect(run, &people, 0, |at| at).await?;
    let asking = Arc::new(AtomicBool::new(true));
    let wrong = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for one in online {
        let echoing = Echo {
            inlet: one.inlet,
            depth: args.in_flight,
            bytes: args.frame_bytes,
            recorder: Arc::clone(&run.recorder),
            asking: Arc::clone(&asking),
            wrong: Arc::clone(&wrong),
        };
        tasks.push(run.pool.on(one.at).spawn(echo_on(echoing)));
    }
    let mut report = run.measure("echo", args.connections, || false).await;
    asking.store(false, Ordering::Relaxed);
    for task in tasks {
        let abort = task.abort_handle();
        let Ok(ended) = timeout(DRAIN, task).await else {
            abort.abort();
            count_close(&mut report, &Close::broken("no answer came to the last pings"));
            continue;
        };
        let (asked, unanswered, closed) = ended.context("a connection's task has failed")?;
        report.written += asked;
        report.unanswered += unanswered;
        if let Some(close) = closed {
            count_close(&mut report, &close);
        }
    }
    report.payload_bytes = args.frame_bytes;
    report.figure("echoes", report.messages_per_second, "a second");
    // An answer that nobody asked for, or out of its order.
    report.checked.out_of_order = wrong.load(Ordering::Relaxed);
    report.checked.received = report.written - report.unanswered;
    Ok(report)
}

struct Echo {
    inlet: Inlet,
    depth: usize,
    bytes: usize,
    recorder: Arc<Recorder>,
    asking: Arc<AtomicBool>,
    wrong: Arc<AtomicU64>,
}

/// How many were asked, how many of them not answered, and why the connection ended if it did.
type Ended = (u64, u64, Option<Close>);

async fn echo_on(mut echo: Echo) -> Ended {
    let mut asked = 0_u64;
    let mut answered = 0_u64;
    // When each that is under way was asked, by its number modulo the depth.
    let mut asked_at = vec![0_u64; echo.depth];
    loop {
        let now_us = echo.recorder.now_us();
        let asking = echo.asking.load(Ordering::Relaxed);
        while asking && asked - answered < echo.depth as u64 {
            asked_at[(asked % echo.depth as u64) as usize] = now_us;
            echo.inlet.link.ping(asked, echo.bytes);
            asked += 1;
        }
        if asked == answered {
            return (asked, 0, None);
        }
        echo.inlet.link.flush();
        let mut arrived_us = None;
        let recorder = &echo.recorder;
        let turn = echo.inlet.turn(|incoming| {
            let now_us = *arrived_us.get_or_insert_with(|| recorder.now_us());
            if let Incoming::Done { reply_to } = incoming
                && reply_to == answered
            {
                recorder.acked_at(asked_at[(answered % asked_at.len() as u64) as usize], now_us);
                answered += 1;
            } else if !matches!(incoming, Incoming::Event | Incoming::Done { reply_to: IDLE_TAG }) {
                echo.wrong.fetch_add(1, Ordering::Relaxed);
            }
        });
        // The end of the run has a limit for all; a timer for each turn would be part of what is measured.
        if let Err(close) = turn.await {
            return (asked, asked - answered, Some(close));
        }
    }
}
