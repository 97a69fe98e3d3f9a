//! Messages that are kept for a time only: every node looks at intervals for those that are older, in the rooms that it
//! owns, and removes them for good.
//!
//! How long is said by `[messages] retention` for all conversations, and by a group for itself; the shorter time holds. A
//! node that ends leaves the rest to the next owner, who finds it by looking: nothing is remembered but in the database.
//! That two nodes do the same is harmless.

use std::time::Duration;

use super::messages::Messages;
use super::timers::Round;
use crate::actors::room::Rooms;
use crate::clock::now_ms;
use crate::config::MessagesConfig;
use crate::domain::Result;
use crate::storage::retention::LogEnds;
use crate::storage::{RoomRules, Stores};

/// Conversations looked at by one statement.
const PAGE: u32 = 200;
/// Pages of a round; the next one goes on behind them.
const PAGES_MAX: usize = 50;
/// Rows that one statement removes, at most.
const ROWS_AT_ONCE: u32 = 500;
/// Steps of a round, each of which removes so many messages.
const STEPS_MAX: usize = 400;
/// Steps for one conversation in a round, so that a long log does not keep others waiting.
const STEPS_OF_LOG: usize = 20;

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct Retention {
    stores: Stores,
    rooms: Rooms,
    all_ms: u64,
}

/// How far the rounds of a node have come.
#[derive(Default)]
struct Place {
    /// The last conversation that was looked at; 0: none since the beginning.
    after_id: u64,
    /// Steps left in this round.
    steps: usize,
}

impl Retention {
    /// Over these stores, which decide.
    pub fn new(stores: Stores, messages: &Messages, config: &MessagesConfig) -> Self {
        let all_ms = u64::try_from(config.retention.as_millis()).unwrap_or(u64::MAX);
        Self { stores, rooms: messages.rooms.clone(), all_ms }
    }

    /// Removes what is too old in the rooms of this node, again and again, as long as the node runs.
    pub fn start(&self, interval: Duration) {
        let this = self.clone();
        tokio::spawn(async move {
            let mut rounds = tokio::time::interval(interval);
            rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut place = Place::default();
            loop {
                rounds.tick().await;
                if let Err(error) = this.round(&mut place, now_ms()).await {
                    tracing::debug!(target: "rookery::timers", %error, "what is too old waits for the next round");
                }
            }
        });
    }

    async fn round(&self, place: &mut Place, now_ms: u64) -> Result<()> {
        place.steps = STEPS_MAX;
        let mut round = Round::default();
        for _ in 0..PAGES_MAX {
            // Where all are kept for ever, only those with a rule of their own matter.
            let page = self.stores.retention.logs(place.after_id, self.all_ms == 0, PAGE).await?;
            for log in &page {
                if place.steps == 0 {
                    return Ok(());
                }
                place.after_id = log.conversation_id;
                if self.rooms.is_here(log.conversation_id) {
                    round.bear(log.conversation_id, self.shorten(log, &mut place.steps, now_ms).await)?;
                }
            }
            if page.len() < PAGE as usize {
                place.after_id = 0;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes what is too old of one log, as far as the round's steps go.
    async fn shorten(&self, log: &LogEnds, steps: &mut usize, now_ms: u64) -> Result<()> {
        let rules = RoomRules { retention_seconds: log.retention_seconds, ..RoomRules::default() };
        let kept_ms = rules.kept_ms(self.all_ms);
        let Some(horizon_ms) = now_ms.checked_sub(kept_ms).filter(|_| kept_ms != 0) else { return Ok(()) };
        let is_done = log.newest_is_empty && log.oldest_seq == log.newest_seq;
        if log.newest_seq == 0 || log.oldest_ms > horizon_ms || is_done {
            return Ok(());
        }
        let id = log.conversation_id;
        let cut = self.stores.messages.seq_at(id, horizon_ms.saturating_add(1)).await?;
        for _ in 0..STEPS_OF_LOG {
            if *steps == 0 {
                return Ok(());
            }
            *steps -= 1;
            if !self.stores.retention.remove_before(id, cut, ROWS_AT_ONCE).await? {
                break;
            }
        }
        if cut > log.newest_seq && !log.newest_is_empty {
            // It keeps its place until another follows.
            self.stores.retention.empty(id, log.newest_seq).await?;
        }
        Ok(())
    }
}
