//! Settling: the places of conversations in which nothing happens any more are written down ([`super::listing`]).
//!
//! A conversation is due when its lease has run out. Each node has a [`Settler`], which looks for those every
//! `storage.settle_interval` and writes down a few in each transaction, with the conversations' rows locked: whoever wants
//! to wake one of them waits that long. After each transaction it rests for so long that it works no more than
//! `storage.settle_share` percent of its time. Nodes that come to the same conversations at the same time lose a moment,
//! as what is due is looked at again under the lock. Who reads a list with many unknown places has those settled that are
//! due, without waiting for it.
//!
//! Rooms with more than [`SETTLED_MEMBERS_MAX`] members never settle: a member has few of those, and each of their members
//! would be a row to write.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbErr};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::SqlStores;
use super::database::Attempt;
use super::ladder::padded;
use super::listing::{for_update, greatest, ids, marks, newest, now_s, statement};
use crate::storage::StoreResult;

/// `awake_until_s` of a conversation that never settles.
const NEVER: i64 = (1 << 53) - 1;
/// Members of the largest conversation that settles.
const SETTLED_MEMBERS_MAX: i64 = 200;
/// Conversations of one transaction.
const AT_ONCE: usize = 32;
/// Memberships written in one transaction; one conversation may have more.
const MEMBERS_AT_ONCE: i64 = 400;
/// Steps of [`SqlStores::recount_next`] in a round.
const RECOUNTS_A_ROUND: usize = 20;
/// Conversations without a place in a list from which on its reader has those settled that are due. Fewer are no burden
/// to the list, and are left to the sweep.
const MANY: usize = 512;

/// The place in the order of those that are due: when the lease ran out, and the conversation.
type Due = (i64, i64);

/// Settles what is due, as long as it lives.
#[derive(Debug)]
pub struct Settler {
    task: JoinHandle<()>,
}

impl Settler {
    /// Begins. `interval`: how often to look; `share`: percent of the time to work, 1 to 100.
    pub fn start(stores: SqlStores, interval: Duration, share: u32) -> Self {
        Self { task: tokio::spawn(sweep(stores, interval, share)) }
    }

    /// Ends. What is under way is carried out or not.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn sweep(stores: SqlStores, interval: Duration, share: u32) {
    let mut behind = (0, 0);
    let mut counted = 0;
    loop {
        // Nodes that were started together spread out.
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.75..1.25))).await;
        loop {
            let began = Instant::now();
            match stores.settle_next(behind).await {
                // The next round looks again at those that would not settle.
                Ok(None) => {
                    behind = (0, 0);
                    break;
                }
                Ok(Some(last)) => behind = last,
                Err(error) => {
                    tracing::debug!(target: "rookery::storage", %error, "the order of lists could not be written down");
                    break;
                }
            }
            tokio::time::sleep(rest(began.elapsed(), share)).await;
        }
        // What counts members goes on where it was; when it is through, it begins anew.
        for _ in 0..RECOUNTS_A_ROUND {
            let began = Instant::now();
            match stores.recount_next(counted).await {
                Ok(last) => counted = last.unwrap_or(0),
                Err(error) => {
                    tracing::debug!(target: "rookery::storage", %error, "members were not counted");
                    break;
                }
            }
            if counted == 0 {
                break;
            }
            tokio::time::sleep(rest(began.elapsed(), share)).await;
        }
    }
}

/// How long to rest after so much work.
fn rest(worked: Duration, share: u32) -> Duration {
    let share = share.clamp(1, 100);
    worked * (100 - share) / share
}

impl SqlStores {
    /// Settles all that is due, without rest; how many transactions that took. For tests, and for databases that nobody
    /// uses yet.
    pub async fn settle_all(&self) -> StoreResult<u64> {
        let mut behind = (0, 0);
        let mut steps = 0;
        while let Some(last) = self.settle_next(behind).await? {
            behind = last;
            steps += 1;
        }
        Ok(steps)
    }

    /// Settles the next conversations behind this place that are due, as many as one transaction takes; the last of them.
    /// `None`: there are none.
    async fn settle_next(&self, behind: Due) -> StoreResult<Option<Due>> {
        // Those who read lists have a turn too; it is soon over.
        let Ok(_turn) = self.awake.settling.acquire().await else { return Ok(None) };
        let due = self.due(behind).await?;
        let conversation_ids: Vec<i64> = due.iter().map(|(_, id)| *id).collect();
        let taken = self.settle_some(&conversation_ids).await?;
        Ok(taken.checked_sub(1).and_then(|last| due.get(last)).copied())
    }

    /// Those of the conversations that are due are settled in the background, if they are [`MANY`], unless that is being
    /// done for others.
    pub(super) fn settle_many_later(&self, conversation_ids: Vec<i64>) {
        if conversation_ids.len() < MANY {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let Ok(_turn) = this.awake.settling.try_acquire() else { return };
            if let Err(error) = this.settle_those(&conversation_ids).await {
                tracing::debug!(target: "rookery::storage", %error, "the order of a list could not be written down");
            }
        });
    }

    async fn settle_those(&self, conversation_ids: &[i64]) -> StoreResult<()> {
        for list in &padded(conversation_ids) {
            let mut due = self.due_among(list).await?;
            while !due.is_empty() {
                let taken = self.settle_some(&due).await?;
                due.drain(..taken.max(1));
            }
        }
        Ok(())
    }

    async fn due(&self, behind: Due) -> StoreResult<Vec<Due>> {
        let backend = self.database.backend();
        let sql = &format!(
            "SELECT awake_until_s, id FROM conversations WHERE awake_until_s > 0 AND awake_until_s >= ? \
             AND awake_until_s < {} AND (awake_until_s > ? OR id > ?) ORDER BY awake_until_s, id LIMIT {AT_ONCE}",
            now_s(backend)
        );
        let (until_s, id) = behind;
        self.database
            .read(|db| async move {
                let rows = db.query_all_raw(statement(backend, sql.clone(), [until_s, until_s, id])).await?;
                rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
            })
            .await
    }

    async fn due_among(&self, conversation_ids: &[i64]) -> StoreResult<Vec<i64>> {
        let backend = self.database.backend();
        let sql = &format!(
            "SELECT id FROM conversations WHERE id IN ({}) AND awake_until_s > 0 AND awake_until_s < {} ORDER BY id",
            marks(conversation_ids.len()),
            now_s(backend)
        );
        self.database
            .read(|db| async move {
                ids(&db, statement(backend, sql.clone(), conversation_ids.iter().copied())).await
            })
            .await
    }

    /// Settles the first of these, as many as one transaction takes: how many.
    async fn settle_some(&self, conversation_ids: &[i64]) -> StoreResult<usize> {
        let first = conversation_ids.get(..AT_ONCE).unwrap_or(conversation_ids);
        if first.is_empty() {
            return Ok(0);
        }
        let counts = &self.members_of(first).await?;
        let count = |id: &i64| counts.get(id).copied().unwrap_or(0);
        let mut written = 0;
        let fitting = first
            .iter()
            .take_while(|id| {
                written += if count(id) > SETTLED_MEMBERS_MAX { 1 } else { count(id) };
                written <= MEMBERS_AT_ONCE
            })
            .count();
        let some = first.get(..fitting.max(1)).unwrap_or(first);
        let (large, small): (Vec<i64>, Vec<i64>) =
            some.iter().partition(|id| count(id) > SETTLED_MEMBERS_MAX);
        let (large, small) = (&large, &small);
        self.database.write(|attempt| settle(attempt, small, large)).await?;
        Ok(some.len())
    }

    async fn members_of(&self, conversation_ids: &[i64]) -> StoreResult<HashMap<i64, i64>> {
        let backend = self.database.backend();
        let sql = &format!(
            "SELECT conversation_id, COUNT(*) FROM members WHERE conversation_id IN ({}) GROUP BY conversation_id",
            marks(conversation_ids.len())
        );
        self.database
            .read(|db| async move {
                let values = conversation_ids.iter().copied();
                let rows = db.query_all_raw(statement(backend, sql.clone(), values)).await?;
                rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
            })
            .await
    }
}

/// Writes down the places in these conversations, and that these others are too large for it, as far as they are due now.
async fn settle(attempt: Attempt, small: &[i64], large: &[i64]) -> Result<(), DbErr> {
    let transaction = attempt.begin().await?;
    let backend = transaction.get_database_backend();
    let both: Vec<i64> = small.iter().chain(large).copied().collect();
    // Locks; and by the key alone, as in `listing`.
    let sql = format!(
        "SELECT id, CASE WHEN awake_until_s > 0 AND awake_until_s < {} THEN 1 ELSE 0 END FROM conversations \
         WHERE id IN ({}){}",
        now_s(backend),
        marks(both.len()),
        for_update(backend)
    );
    let mut due = Vec::new();
    for row in transaction.query_all_raw(statement(backend, sql, both)).await? {
        let is_due: i64 = row.try_get_by_index(1)?;
        if is_due == 1 {
            due.push(row.try_get_by_index::<i64>(0)?);
        }
    }
    let (large, small): (Vec<i64>, Vec<i64>) = due.into_iter().partition(|id| large.contains(id));
    let floors: Vec<(i64, i64)> = small.iter().map(|id| (*id, 0)).collect();
    // The transaction's first look at anything without a lock: it sees all that was stored before the locks were taken.
    let newest = newest(&transaction, &floors).await?;
    for id in &small {
        let (seq, at_ms) = newest.get(id).copied().unwrap_or((0, 0));
        let sql = format!(
            "UPDATE members SET listed_ms = {}(updated_at_ms, \
             (SELECT c.updated_at_ms FROM conversations c WHERE c.id = members.conversation_id), \
             CASE WHEN first_seq <= ? THEN ? ELSE 0 END) WHERE conversation_id = ?",
            greatest(backend)
        );
        transaction.execute_raw(statement(backend, sql, [seq, at_ms, *id])).await?;
    }
    for (list, until_s) in [(small, 0), (large, NEVER)] {
        if !list.is_empty() {
            let sql = format!(
                "UPDATE conversations SET awake_until_s = {until_s} WHERE id IN ({})",
                marks(list.len())
            );
            transaction.execute_raw(statement(backend, sql, list)).await?;
        }
    }
    // Not the attempt's: what was done is no longer due if it is done again.
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_the_share_of_the_time_that_it_may_be() {
        let worked = Duration::from_millis(10);
        assert_eq!(rest(worked, 5), Duration::from_millis(190));
        assert_eq!(rest(worked, 100), Duration::ZERO);
        assert_eq!(rest(worked, 0), rest(worked, 1), "never nothing at all");
    }
}
