//! Messages to users who are offline, who then all come online and fetch them by sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::sync::Barrier;
use tokio::time::Instant;

use super::super::args::{BacklogArgs, Pace};
use super::super::checker::{self, Inbox, Written};
use super::super::lean::{Destination, Inlet};
use super::super::people::{self, Online};
use super::super::report::Report;
use super::play::{Cast, Circle};
use super::{Costs, Run, announce, frame, progress, wait_until};
use crate::client::ClientError;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// How long storing may take.
const STORE_LIMIT: Duration = Duration::from_secs(600);
/// Pages of one user's list of conversations or messages; more is a server that never comes to an end.
const PAGES_MAX: usize = 100_000;

pub(super) async fn backlog(run: &Run, args: &BacklogArgs) -> anyhow::Result<Report> {
    let all = args.users as u64 * args.messages;
    announce(&format!("signing up {} users …", args.users * 2));
    let people = people::sign_up(&run.args, args.users * 2).await?;
    let (writers, offline) = people.split_at(args.users);
    // Conversations are made beforehand, so that only the storing is measured, and the fetching knows where to begin.
    let mut conversations = HashMap::new();
    for (writer, receiver) in writers.iter().zip(offline) {
        let conversation = people::patiently(|| writer.rest.direct(receiver.user_id)).await?;
        conversations.insert(receiver.user_id, (conversation.conversation_id, conversation.last_seq));
    }
    let online = people::connect(run, writers, 0, |at| at).await?;
    announce(&format!("storing {all} messages …"));
    let costs = Costs::begin(&run.args, Some(&run.recorder));
    run.recorder.measure(true);
    let mut progress = progress::Progress::begin(&run.args);
    let circles = online
        .into_iter()
        .zip(offline)
        .map(|(writer, receiver)| Circle {
            destination: Destination::User(receiver.user_id),
            people: vec![writer],
            writers: 1,
            writers_receive: false,
        })
        .collect();
    let pace = Pace { rate: None, in_flight: args.in_flight };
    let began = Instant::now();
    let cast = Cast::enter(run, circles, pace, Some(args.messages));
    let ticked = Mutex::new(&mut progress);
    let stored = wait_until(STORE_LIMIT, || {
        ticked.lock().tick(&run.recorder);
        cast.writers.iter().all(|writer| writer.is_answered())
    })
    .await;
    let storing = began.elapsed();
    if !stored {
        bail!("the messages were not all stored within {} s", STORE_LIMIT.as_secs());
    }
    let written: Vec<Arc<Mutex<Written>>> =
        cast.writers.iter().map(|writer| Arc::clone(&writer.written)).collect();
    let mut report = frame(&run.args, "backlog", args.users);
    report.seconds = storing.as_secs_f64();
    run.count(&mut report);
    costs.end(&mut report, None).await;
    cast.leave(run, &mut report).await?;

    announce("fetching …");
    let came = Instant::now();
    let online = people::connect(run, offline, args.users, |at| at + 1).await?;
    let costs = Costs::begin(&run.args, None);
    let fetching = fetch_all(run, args, online, &conversations).await?;
    let mut spent = frame(&run.args, "backlog", args.users);
    costs.end(&mut spent, None).await;
    let from_connect = came.elapsed();
    run.recorder.measure(false);
    for (fetched, written) in fetching.inboxes.iter().zip(&written) {
        report.checked.add(fetched.verdict([written.as_ref()]));
    }
    let fetched = report.checked.received;
    report.deliveries = fetched;
    report.deliveries_per_second = fetched as f64 / fetching.took.as_secs_f64();
    report.figure("stored", report.messages_per_second, "a second");
    report.figure("fetched by sync", report.deliveries_per_second, "a second");
    report.figure("fetched, connecting included", fetched as f64 / from_connect.as_secs_f64(), "a second");
    for (role, name) in [
        ("server", "fetching: server CPU"),
        ("database", "fetching: database CPU"),
        ("this load", "fetching: this load's CPU"),
    ] {
        let used: f64 =
            spent.processes.iter().filter(|one| one.role == role).map(|one| one.cpu_seconds).sum();
        report.figure(name, used * 1e6 / fetched.max(1) as f64, "µs a message");
    }
    Ok(report)
}

/// What all receivers have fetched, in their order.
struct Fetched {
    inboxes: Vec<Inbox>,
    took: Duration,
}

async fn fetch_all(
    run: &Run,
    args: &BacklogArgs,
    online: Vec<Online>,
    conversations: &HashMap<u64, (u64, u64)>,
) -> anyhow::Result<Fetched> {
    // All begin together, with everybody connected.
    let ready = Arc::new(Barrier::new(online.len() + 1));
    let tasks: Vec<_> = online
        .into_iter()
        .map(|one| {
            let (conversation_id, seq) = conversations.get(&one.user_id).copied().unwrap_or_default();
            let fetch = Fetch { inlet: one.inlet, page: args.page, run: run.number, conversation_id, seq };
            let ready = Arc::clone(&ready);
            run.pool.on(one.at).spawn(async move {
                ready.wait().await;
                let inbox = fetch.run().await?;
                anyhow::Ok((inbox, Instant::now()))
            })
        })
        .collect();
    ready.wait().await;
    let began = Instant::now();
    let mut fetched = Fetched { inboxes: Vec::new(), took: Duration::ZERO };
    for task in tasks {
        let (inbox, done) = task.await.context("a receiver's task has failed")??;
        fetched.took = fetched.took.max(done.saturating_duration_since(began));
        fetched.inboxes.push(inbox);
    }
    Ok(fetched)
}

/// One receiver's way through sync.
struct Fetch {
    inlet: Inlet,
    page: u32,
    run: u32,
    conversation_id: u64,
    /// What it has of the conversation already.
    seq: u64,
}

impl Fetch {
    /// Asks for the list, as a client does that has been away, and then for the messages.
    async fn run(mut self) -> anyhow::Result<Inbox> {
        let list = v1::SyncRequest { limit: self.page, ..v1::SyncRequest::default() };
        let page = self.sync(list).await?;
        let listed = page.conversations.iter().any(|one| one.conversation_id == self.conversation_id);
        if !listed {
            bail!("sync does not list conversation {}, whose messages were stored", self.conversation_id);
        }
        let mut inbox = None;
        for _ in 0..PAGES_MAX {
            let cursor = v1::Cursor { conversation_id: self.conversation_id, seq: self.seq };
            let request =
                v1::SyncRequest { cursors: vec![cursor], limit: self.page, ..v1::SyncRequest::default() };
            let page = self.sync(request).await?;
            for message in &page.messages {
                self.seq = self.seq.max(message.seq);
                if let Some(stamp) = checker::read(message.text.as_bytes()).filter(|s| s.run == self.run) {
                    // The only writer of the conversation.
                    let inbox = inbox.get_or_insert_with(|| Inbox::of([message.sender_id]));
                    inbox.take(message.sender_id, stamp.number, message.seq);
                }
            }
            if !page.more {
                return Ok(inbox.unwrap_or_else(|| Inbox::of([0])));
            }
        }
        bail!("sync did not come to an end within {PAGES_MAX} pages")
    }

    async fn sync(&mut self, request: v1::SyncRequest) -> Result<v1::SyncPage, ClientError> {
        match self.inlet.ask(Request::Sync(request), drop).await? {
            Some(Body::SyncPage(page)) => Ok(page),
            other => Err(ClientError::Protocol(format!("sync was answered with {other:?}"))),
        }
    }
}
