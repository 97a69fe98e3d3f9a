//! `SEND` to `+OK` on one line connection with one request outstanding, beside what a commit takes.
//!
//! With the database's address given, the very statement by which the server stores a message runs there, too, in
//! turns with the messages and from the same process, so that both are measured in the same weather.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::DRAIN;
use super::super::args::LineLatencyArgs;
use super::super::checker::{self, Stamp, Written};
use super::super::lean::{Destination, Incoming, Inlet};
use super::super::measure::{Recorder, Stopwatch};
use super::super::people;
use super::super::receiver::{Player, Receiver};
use super::super::report::{Operation, Report};
use super::{Run, announce, count_close, wait_until};
use crate::client::Close;
use crate::config::StorageConfig;
use crate::protocol::v1;
use crate::storage::Stores;
use crate::storage::sql::SqlStores;

/// Messages, and then commits, in one turn.
const TURN: usize = 10;

pub(super) async fn line_latency(run: &Run, args: &LineLatencyArgs) -> anyhow::Result<Report> {
    // The second two never write; it is in their conversation that commits are timed.
    let people = people::sign_up(&run.args, 4).await?;
    let (talking, silent) = people.split_at(2);
    let mut online = people::connect(run, talking, 0, |_| 0).await?;
    let (receiver, writer) = (online.pop(), online.pop());
    let (Some(receiver), Some(writer)) = (receiver, writer) else { bail!("two people were asked for") };
    let written: Arc<Mutex<Written>> = Arc::default();
    let checking = Arc::new(Receiver::of([(writer.user_id, Arc::clone(&written))]));
    let closed: Arc<Mutex<Option<Close>>> = Arc::default();
    let (over, is_over) = watch::channel(false);
    let to = Destination::User(receiver.user_id);
    let listening = Player {
        inlet: receiver.inlet,
        run: run.number,
        recorder: Arc::clone(&run.recorder),
        writer: None,
        receiver: Some(Arc::clone(&checking)),
        closed: Arc::clone(&closed),
    };
    let listening = run.pool.on(receiver.at).spawn(listening.run(is_over));
    let commits = Arc::new(Stopwatch::new());
    let writing = Arc::new(AtomicBool::new(true));
    let talk = Talk {
        inlet: writer.inlet,
        user_id: writer.user_id,
        to,
        run: run.number,
        payload: run.args.payload,
        recorder: Arc::clone(&run.recorder),
        written,
        writing: Arc::clone(&writing),
        probe: None,
        commits: Arc::clone(&commits),
    };
    announce("one message at a time …");
    // On the same thread, so that a commit and an answer are seen with the same delay.
    let database = args.database_url.clone();
    let pair = [silent[0].user_id, silent[1].user_id];
    let talking = run.pool.on(writer.at).spawn(async move {
        let mut talk = talk;
        if let Some(url) = database {
            talk.probe = Some(Probe::open(&url, pair).await?);
        }
        talk.run().await
    });
    let mut report = run.measure("line-latency", 2, || talking.is_finished()).await;
    writing.store(false, Ordering::Relaxed);
    report.written = talking.await.context("the writer's task has failed")??;
    wait_until(DRAIN, || checking.is_complete()).await;
    over.send_replace(true);
    listening.await.context("the receiver's task has failed")?;
    report.checked = checking.verdict();
    if let Some(close) = &*closed.lock() {
        count_close(&mut report, close);
    }
    let send = report.send_to_ack.p50_us as f64 / 1000.0;
    report.figure("SEND to +OK, P50", send, "ms");
    if args.database_url.is_some() {
        let times = commits.times();
        let commit = times.p50_us as f64 / 1000.0;
        report.figure("commit of one message, P50", commit, "ms");
        report.figure("SEND beyond the commit, P50", send - commit, "ms");
        report.operations.push(Operation {
            name: "commit".into(),
            share_percent: 50.0,
            done: times.count,
            refused: 0,
            times,
        });
    }
    Ok(report)
}

/// The writer.
struct Talk {
    inlet: Inlet,
    user_id: u64,
    to: Destination,
    run: u32,
    payload: usize,
    recorder: Arc<Recorder>,
    written: Arc<Mutex<Written>>,
    writing: Arc<AtomicBool>,
    probe: Option<Probe>,
    commits: Arc<Stopwatch>,
}

impl Talk {
    /// Gives how many messages it has written.
    async fn run(mut self) -> anyhow::Result<u64> {
        let mut number = 0;
        while self.writing.load(Ordering::Relaxed) {
            for _ in 0..TURN {
                self.send(number).await?;
                number += 1;
            }
            for _ in 0..TURN {
                let Some(probe) = &mut self.probe else { break };
                let began_us = self.recorder.now_us();
                probe.commit(self.run, self.payload).await?;
                if self.recorder.is_measuring() {
                    self.commits.took_us(self.recorder.now_us() - began_us);
                }
            }
        }
        Ok(number)
    }

    async fn send(&mut self, number: u64) -> anyhow::Result<()> {
        let due_us = self.recorder.now_us();
        let stamp = Stamp { run: self.run, number, due_us };
        self.inlet.link.message(self.to, self.user_id, stamp, self.payload);
        self.inlet.link.flush();
        let mut answer = None;
        while answer.is_none() {
            let turn = self.inlet.turn(|incoming| match incoming {
                Incoming::Sent { .. } => answer = Some(Ok(())),
                Incoming::Refused { error, .. } => answer = Some(Err(error)),
                _ => {}
            });
            if let Err(close) = turn.await {
                bail!("the line connection ended: {close}");
            }
        }
        match answer.expect("the loop ends with an answer") {
            Ok(()) => {
                self.recorder.acked(due_us);
                self.written.lock().stored(number);
            }
            Err(error) => {
                self.recorder.refused();
                bail!("a SEND was refused: {error}");
            }
        }
        Ok(())
    }
}

/// Stores messages as the server does, in a conversation that nobody looks at.
struct Probe {
    stores: Stores,
    conversation_id: u64,
    sender_id: u64,
    seq: u64,
}

impl Probe {
    /// In the conversation of two users who are not online.
    async fn open(url: &str, [a, b]: [u64; 2]) -> anyhow::Result<Self> {
        let config = StorageConfig { url: url.to_owned(), ..StorageConfig::default() };
        let stores = SqlStores::connect(&config).await.context("--database-url can't be reached")?.stores();
        let known = stores.accounts.user(a).await.context("--database-url can't be read")?;
        if known.is_none() {
            bail!("--database-url is not the server's database: it does not have the user just signed up");
        }
        let now_ms = crate::clock::now_ms();
        let (conversation, _) =
            stores.conversations.direct(a, b, now_ms).await.context("a conversation can't be made")?;
        let seq = stores.messages.last_seq(conversation.id).await.context("the log can't be read")?;
        Ok(Self { stores, conversation_id: conversation.id, sender_id: a, seq })
    }

    async fn commit(&mut self, run: u32, bytes: usize) -> anyhow::Result<()> {
        self.seq += 1;
        let stamp = Stamp { run, number: self.seq, due_us: 0 };
        let mut message = v1::Message {
            conversation_id: self.conversation_id,
            seq: self.seq,
            sender_id: self.sender_id,
            created_at_ms: crate::clock::now_ms(),
            ..v1::Message::default()
        };
        checker::write(stamp, bytes, &mut message.text);
        checker::write_client_id(stamp, self.sender_id, &mut message.client_id);
        self.stores.messages.append(&[message]).await.context("a row can't be stored")
    }
}
