//! A storm of sign-ins: connect, hello, welcome, goodbye.
//!
//! On lines the sign-in is by name and password, which the server hashes; elsewhere by token.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::super::args::SignInArgs;
use super::super::lean::{self, Framing};
use super::super::measure::Recorder;
use super::super::people::{self, Person};
use super::super::report::Report;
use super::{Run, announce};
use crate::client::ClientError;

/// Source addresses taken in turn: each of them has some 28,000 ports, which rest for a minute after use.
const SOURCES: u64 = 250;
/// Pause of a worker whose sign-in was refused, when the server names none.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// What the workers share.
struct Storm {
    endpoints: Vec<String>,
    framing: Framing,
    /// Those who are not signed in: nobody is twice at a time, or the second would end the first.
    resting: Mutex<VecDeque<Person>>,
    recorder: Arc<Recorder>,
    on: AtomicBool,
    begun: AtomicU64,
    welcomed: AtomicU64,
    wrong: AtomicU64,
}

pub(super) async fn sign_in(run: &Run, args: &SignInArgs) -> anyhow::Result<Report> {
    announce(&format!("signing up {} users …", args.users));
    let people = people::sign_up(&run.args, args.users).await?;
    let storm = Arc::new(Storm {
        endpoints: run.args.endpoints().to_vec(),
        framing: run.args.transport.into(),
        resting: Mutex::new(people.into()),
        recorder: Arc::clone(&run.recorder),
        on: AtomicBool::new(true),
        begun: AtomicU64::new(0),
        welcomed: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
    });
    // As many may say goodbye as say hello; when more do, the workers wait.
    let leaving = Arc::new(Semaphore::new(2 * args.workers));
    let workers: Vec<_> = (0..args.workers)
        .map(|at| run.pool.on(at).spawn(work(Arc::clone(&storm), Arc::clone(&leaving))))
        .collect();
    let mut report = run.measure("sign-in", args.workers, || false).await;
    storm.on.store(false, Ordering::Relaxed);
    for worker in workers {
        worker.await.context("a worker's task has failed")?;
    }
    report.payload_bytes = 0;
    report.figure("sign-ins", report.messages_per_second, "a second");
    report.written = storm.begun.load(Ordering::Relaxed);
    report.checked.received = storm.welcomed.load(Ordering::Relaxed);
    // Welcomed as somebody else.
    report.checked.lost = storm.wrong.load(Ordering::Relaxed);
    Ok(report)
}

async fn work(storm: Arc<Storm>, leaving: Arc<Semaphore>) {
    while storm.on.load(Ordering::Relaxed) {
        let Ok(goodbye) = Arc::clone(&leaving).acquire_owned().await else { return };
        let Some(person) = storm.resting.lock().pop_front() else {
            // All are on their way; those who leave come back to rest.
            drop(goodbye);
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        let at = storm.begun.fetch_add(1, Ordering::Relaxed);
        let began_us = storm.recorder.now_us();
        let source = Ipv4Addr::new(127, 0, 1, 1 + (at % SOURCES) as u8);
        let endpoint = &storm.endpoints[at as usize % storm.endpoints.len()];
        let signing_in = async {
            let mut inlet = lean::connect(endpoint, storm.framing, Some(source)).await?;
            let user_id = inlet.sign_in(person.credentials()).await?;
            Ok::<_, ClientError>((inlet, user_id))
        };
        match signing_in.await {
            Ok((inlet, user_id)) => {
                storm.recorder.acked(began_us);
                storm.welcomed.fetch_add(1, Ordering::Relaxed);
                storm.wrong.fetch_add(u64::from(user_id != person.user_id), Ordering::Relaxed);
                let storm = Arc::clone(&storm);
                tokio::spawn(async move {
                    // Takes a second at most, and holds its permit for that long.
                    inlet.close().await;
                    storm.resting.lock().push_back(person);
                    drop(goodbye);
                });
            }
            Err(error) => {
                storm.recorder.refused();
                storm.resting.lock().push_back(person);
                drop(goodbye);
                tokio::time::sleep(REFUSED_PAUSE.max(Duration::from_millis(error.retry_after_ms()))).await;
            }
        }
    }
}
