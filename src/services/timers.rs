//! Messages that wait for their time, and messages whose time is over. Both are kept in the database; every node looks there
//! at intervals for what is due in the rooms that it owns, so a node that ends leaves its share to the next owners. That two
//! nodes find the same is harmless: a scheduled message has its `client_id`, an expiry is an entry of a fixed name.
//!
//! What waits for one conversation holds up no other's: it is put off by as long as the refusal says, or passed over for the
//! rest of the round. Expiries have a loop of their own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::messages::Messages;
use crate::clock::now_ms;
use crate::config::MessagesConfig;
use crate::domain::{Error, Result};
use crate::protocol::ErrorCode;
use crate::protocol::v1::{Scheduled, Send};
use crate::storage::{MarkStore, ScheduledRecord};

/// Rows read at a time.
const PAGE: u32 = 200;
/// Most pages of a round; what is left comes with the next.
const PAGES_MAX: usize = 20;
/// After so many failures a round ends.
const FAILURES_MAX: usize = 10;
/// How long what is refused for now is put off at least.
const PUT_OFF_MS: u64 = 1000;

/// What users have scheduled, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Schedule {
    marks: Arc<dyn MarkStore>,
    messages: Messages,
    most: usize,
    ahead_ms: u64,
}

impl Schedule {
    /// Over these.
    pub fn new(marks: Arc<dyn MarkStore>, messages: Messages, config: &MessagesConfig) -> Self {
        let (most, ahead_ms) = (config.scheduled_max, config.schedule_ahead.as_millis() as u64);
        Self { marks, messages, most, ahead_ms }
    }

    /// Whether a send is for later.
    pub fn is_for_later(send: &Send) -> bool {
        send.send_at_ms > now_ms()
    }

    /// Keeps a send until its time. It is checked as if it were sent now, and again when it is.
    pub async fn add(&self, by: u64, send: Send) -> Result<Scheduled> {
        if send.send_at_ms - now_ms().min(send.send_at_ms) > self.ahead_ms {
            let days = self.ahead_ms / (24 * 3600 * 1000);
            return Err(Error::invalid(
                "send_at_ms",
                format!("a message can be scheduled {days} days ahead; choose an earlier time"),
            ));
        }
        let send = self.messages.resolve(by, 0, send).await?;
        self.messages.member(by, send.conversation_id).await?;
        if self.marks.scheduled(by, 0, self.most as u32).await?.len() >= self.most {
            return Err(Error::precondition(format!(
                "{} messages are scheduled already; take one of them back first",
                self.most
            )));
        }
        let record =
            ScheduledRecord { user_id: by, send_at_ms: send.send_at_ms, send, ..ScheduledRecord::default() };
        Ok(shown(&self.marks.schedule(record).await?))
    }

    /// What the caller has scheduled, by id above `after_id`.
    pub async fn list(&self, by: u64, after_id: u64, limit: u32) -> Result<Vec<ScheduledRecord>> {
        Ok(self.marks.scheduled(by, after_id, limit).await?)
    }

    /// Takes one back: then it is not sent. `not_found`: it is not there, is being sent, or was sent.
    pub async fn cancel(&self, by: u64, id: u64) -> Result<()> {
        if self.marks.unschedule(by, id).await? {
            return Ok(());
        }
        Err(Error::not_found(format!("nothing is scheduled under {id}; it may be being sent, or have been")))
    }

    /// Does what is due in the rooms of this node, again and again, as long as the node runs.
    pub fn start(&self, interval: Duration) {
        let this = self.clone();
        tokio::spawn(again_and_again(interval, async move || this.send_due(now_ms()).await));
        let this = self.clone();
        tokio::spawn(again_and_again(interval, async move || this.empty_expired(now_ms()).await));
    }

    async fn send_due(&self, now_ms: u64) -> Result<()> {
        let mut round = Round::default();
        let mut after = (0, 0);
        for _ in 0..PAGES_MAX {
            let page = self.marks.due(now_ms, after, PAGE).await?;
            for record in &page {
                let id = record.send.conversation_id;
                if self.messages.rooms.is_here(id) && round.has_not_failed(id) {
                    round.bear(id, self.send(record).await)?;
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
            after = (last.send_at_ms, last.id);
        }
        Ok(())
    }

    async fn empty_expired(&self, now_ms: u64) -> Result<()> {
        let mut round = Round::default();
        let mut after = (0, 0, 0);
        for _ in 0..PAGES_MAX {
            let page = self.marks.expired(now_ms, after, PAGE).await?;
            for &(_, id, seq) in &page {
                if self.messages.rooms.is_here(id) && round.has_not_failed(id) {
                    round.bear(id, self.expire(id, seq).await)?;
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
            after = *last;
        }
        Ok(())
    }

    /// Sends what is due. It is claimed before, so that its sender is not told that it was taken back when it is sent all the
    /// same; a claim that was made before is made for good, whoever made it. One that is refused for good stays, with the
    /// reason, for its sender to see.
    async fn send(&self, record: &ScheduledRecord) -> Result<()> {
        let account = self.messages.stores.accounts.user(record.user_id).await?;
        if account.is_none_or(|user| user.disabled) {
            return Ok(self.marks.note_failure(record.id, "the account is deactivated").await?);
        }
        if !record.claimed && !self.marks.claim(record.id).await? {
            return Ok(());
        }
        let send = Send { send_at_ms: record.send_at_ms, ..record.send.clone() };
        match self.messages.send_scheduled(record.user_id, send).await {
            Ok(_) => Ok(self.marks.finish(record.id).await?),
            // Refused for now: a slow room, or too much at once.
            Err(error) if error.code == ErrorCode::ResourceExhausted => {
                let at_ms = now_ms() + error.retry_after_ms.max(PUT_OFF_MS);
                // Not stored by this try and by none before: its sender may still think better of it.
                Ok(self.marks.put_off(record.id, at_ms, record.claimed).await?)
            }
            Err(error) if error.is_retryable() || error.code == ErrorCode::Internal => Err(error),
            Err(error) => Ok(self.marks.note_failure(record.id, &error.message).await?),
        }
    }

    async fn expire(&self, conversation_id: u64, seq: u64) -> Result<()> {
        match self.messages.rooms.expire(conversation_id, seq).await {
            // The entry takes the time out of the database with what it stores.
            Ok(sent) if !sent.duplicate => return Ok(()),
            Err(error) if error.is_retryable() || error.code == ErrorCode::Internal => return Err(error),
            _ => {}
        }
        // It was emptied before, or went with its account. Or its room's clock is behind: then its time comes.
        let kept = self.messages.stores.messages.at(&[(conversation_id, seq)]).await?;
        if kept.iter().all(|message| message.recalled) {
            self.marks.forget_expiry(conversation_id, seq).await?;
        }
        Ok(())
    }
}

/// Does it now and at intervals, for ever.
pub(super) async fn again_and_again(interval: Duration, mut round: impl AsyncFnMut() -> Result<()>) {
    let mut rounds = tokio::time::interval(interval);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = round().await {
            tracing::debug!(target: "rookery::timers", %error, "what is due waits for the next round");
        }
    }
}

/// What failed in a round. A conversation that fails is passed over, which also keeps what is sent there in its order; when
/// many do, the rest would fare no better.
#[derive(Default)]
pub(super) struct Round {
    failed: HashSet<u64>,
}

impl Round {
    fn has_not_failed(&self, conversation_id: u64) -> bool {
        !self.failed.contains(&conversation_id)
    }

    pub(super) fn bear(&mut self, conversation_id: u64, outcome: Result<()>) -> Result<()> {
        let Err(error) = outcome else { return Ok(()) };
        self.failed.insert(conversation_id);
        if self.failed.len() < FAILURES_MAX { Ok(()) } else { Err(error) }
    }
}

/// One as clients see it.
pub fn shown(record: &ScheduledRecord) -> Scheduled {
    Scheduled {
        scheduled_id: record.id,
        conversation_id: record.send.conversation_id,
        client_id: record.send.client_id.clone(),
        send_at_ms: record.send_at_ms,
    }
}
