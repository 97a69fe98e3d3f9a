//! Messages that wait for their time, and messages whose time is over. Both are kept in the database; every node looks there
//! at intervals for what is due in the rooms that it owns, so a node that ends leaves its share to the next owners. That two
//! nodes find the same is harmless: a scheduled message has its `client_id`, an expiry is an entry of a fixed name.

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
        tokio::spawn(async move {
            let mut rounds = tokio::time::interval(interval);
            rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                rounds.tick().await;
                if let Err(error) = this.round(now_ms()).await {
                    tracing::debug!(target: "rookery::timers", %error, "what is due waits for the next round");
                }
            }
        });
    }

    async fn round(&self, now_ms: u64) -> Result<()> {
        let mut failures = 0;
        let mut after = (0, 0);
        for _ in 0..PAGES_MAX {
            let page = self.marks.due(now_ms, after, PAGE).await?;
            for record in &page {
                if self.messages.rooms.is_here(record.send.conversation_id) {
                    bear(&mut failures, self.send(record).await)?;
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
            after = (last.send_at_ms, last.id);
        }
        after = (0, 0);
        for _ in 0..PAGES_MAX {
            let page = self.marks.expired(now_ms, after, PAGE).await?;
            for &(conversation_id, seq) in &page {
                if self.messages.rooms.is_here(conversation_id) {
                    bear(&mut failures, self.expire(conversation_id, seq).await)?;
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
        if !record.claimed && !self.marks.claim(record.id).await? {
            return Ok(());
        }
        let send = Send { send_at_ms: 0, ..record.send.clone() };
        match self.messages.send(record.user_id, send).await {
            Ok(_) => self.marks.finish(record.id).await?,
            Err(error) if error.is_retryable() => {
                // Refused and not stored, by this try and by none before: its sender may still think better of it.
                if error.code == ErrorCode::ResourceExhausted && !record.claimed {
                    self.marks.release(record.id).await?;
                }
                return Err(error);
            }
            Err(error) => self.marks.note_failure(record.id, &error.message).await?,
        }
        Ok(())
    }

    async fn expire(&self, conversation_id: u64, seq: u64) -> Result<()> {
        match self.messages.rooms.expire(conversation_id, seq).await {
            // The entry takes the time out of the database with what it stores.
            Ok(sent) if !sent.duplicate => Ok(()),
            Err(error) if error.is_retryable() || error.code == ErrorCode::Internal => Err(error),
            // It was emptied before, or went with its account.
            _ => Ok(self.marks.forget_expiry(conversation_id, seq).await?),
        }
    }
}

/// One that fails for now is left to the next round and holds up no other; when many do, the rest would fare no better.
pub(super) fn bear(failures: &mut usize, outcome: Result<()>) -> Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    *failures += 1;
    if *failures < FAILURES_MAX { Ok(()) } else { Err(error) }
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
