//! Where a user's conversations stand in its list, without looking at all of them (decision 13).
//!
//! The list is ordered by what happened last, which for most conversations is long ago. So each membership keeps its place,
//! `listed_ms`, in an index of its user's, as long as the conversation is *settled*: nothing can be stored in it without
//! unsettling it first. Of conversations that aren't, `listed_ms` is [`UNKNOWN`], which comes first in the index, and the
//! log is asked.
//!
//! - **Waking.** Before it appends to a conversation, a process makes sure that it is unsettled until [`LEASE`] from now by
//!   the database's clock, and remembers that for somewhat less by its own: one small transaction for the first message of
//!   a conversation in some minutes, and nothing for the others. An append that took so long that this may not have been
//!   enough wakes again before it is answered.
//! - **Changes** of a conversation or of who is in it unsettle it within their own transaction ([`unsettle`]). So must
//!   whatever takes a log's newest message away or changes its time.
//! - **Settling** is in [`super::settling`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use sea_orm::sqlx::AssertSqlSafe;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::SqlStores;
use super::convert::int;
use super::driver::Reads;
use super::ladder::padded;
use crate::protocol::v1::Message;
use crate::storage::StoreResult;

/// The place of a membership whose conversation is not settled. Later than any time, below 2^53.
pub const UNKNOWN: i64 = (1 << 53) - 1;
/// How long a conversation that was written to stays unsettled. A process relies on four fifths of it: so much less that no
/// statement of its own can be under way when the lease ends.
const LEASE: Duration = Duration::from_secs(600);
/// The part of the lease that a process does not rely on: the most that an append may take.
const SPARE: u32 = 5;
/// Conversations remembered to be awake. With more, each is woken anew.
const REMEMBERED_MAX: usize = 200_000;

/// What a process knows of waking and settling.
#[derive(Debug)]
pub struct Awake {
    /// Until when a conversation certainly is.
    until: DashMap<i64, Instant, RandomState>,
    /// One settles at a time, so that settling takes one connection at most.
    pub settling: Semaphore,
    lease: Duration,
}

impl Default for Awake {
    fn default() -> Self {
        Self::leasing(LEASE)
    }
}

impl Awake {
    fn leasing(lease: Duration) -> Self {
        Self { until: DashMap::default(), settling: Semaphore::new(1), lease }
    }

    fn is(&self, conversation_id: i64, now: Instant) -> bool {
        self.until.get(&conversation_id).is_some_and(|until| *until > now)
    }

    /// How long a lease is, in seconds.
    pub fn lease_s(&self) -> u64 {
        self.lease.as_secs()
    }

    /// These conversations were given a lease by the database after `since`.
    pub fn begin(&self, conversation_ids: &[i64], since: Instant) {
        self.remember(conversation_ids, since + self.lease - self.lease / SPARE);
    }

    fn remember(&self, conversation_ids: &[i64], until: Instant) {
        if self.until.len() + conversation_ids.len() > REMEMBERED_MAX {
            let now = Instant::now();
            self.until.retain(|_, until| *until > now);
            if self.until.len() + conversation_ids.len() > REMEMBERED_MAX {
                self.until.clear();
            }
        }
        for id in conversation_ids {
            self.until.insert(*id, until);
        }
    }
}

/// The candidates for a page.
pub struct Candidates {
    /// Of which the log must be asked; some of them are among the others too.
    pub unknown: Vec<i64>,
    /// The others.
    pub known: Vec<i64>,
    /// There may be more settled ones behind these.
    pub is_cut: bool,
}

/// What a page is asked for.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub user_id: i64,
    pub changed_since_ms: i64,
    pub before: Option<(i64, i64)>,
    pub limit: u32,
}

impl Wanted {
    /// Whether a place (activity, conversation) comes on this page or a later one.
    pub fn is_behind(&self, place: (i64, i64)) -> bool {
        self.before.is_none_or(|before| place < before)
    }
}

impl SqlStores {
    /// The same stores with another lease, in whole seconds: for tests, which can't wait so long.
    pub fn leasing(self, lease: Duration) -> Self {
        Self { awake: Arc::new(Awake::leasing(lease)), ..self }
    }

    /// How many of a user's conversations have no place written down.
    pub async fn unsettled(&self, user_id: u64) -> StoreResult<usize> {
        let places = self.database.read(|db| async move { places(&db, int(user_id)).await }).await?;
        Ok(places.iter().filter(|(listed_ms, _)| *listed_ms == UNKNOWN).count())
    }

    /// Makes sure that the conversations of these messages are unsettled while they are appended, which begins now: the
    /// answer. Where it fails, nothing of the messages is stored.
    pub(super) async fn wake(&self, messages: &[Message]) -> StoreResult<Instant> {
        let now = Instant::now();
        let mut last = 0;
        let mut asleep = Vec::new();
        for message in messages {
            let id = int(message.conversation_id);
            if id != last && !self.awake.is(id, now) {
                asleep.push(id);
            }
            last = id;
        }
        if asleep.is_empty() {
            return Ok(now);
        }
        asleep.sort_unstable();
        asleep.dedup();
        let (asleep, lease_s) = (&asleep, self.awake.lease_s());
        if self.lengthen_unsettled(asleep, lease_s).await? {
            self.awake.begin(asleep, now);
            return Ok(now);
        }
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                for list in padded(asleep) {
                    lengthen(&transaction, list, lease_s).await?;
                }
                // Not the attempt's: whether it was done is nobody's question, as it may be done again.
                transaction.commit().await
            })
            .await?;
        self.awake.begin(asleep, now);
        Ok(now)
    }

    /// Lengthens the leases of those that are not settled, by a statement that commits by itself; whether those are all.
    async fn lengthen_unsettled(&self, conversation_ids: &[i64], lease_s: u64) -> StoreResult<bool> {
        let backend = self.database.backend();
        for list in &padded(conversation_ids) {
            // The sum keeps the index on the lease out of it: by that, far more would be locked.
            let sql = format!(
                "UPDATE conversations SET awake_until_s = {greatest}(awake_until_s, {now} + {lease_s}) \
                 WHERE id IN ({ids}) AND awake_until_s + 0 > 0",
                greatest = greatest(backend),
                now = now_s(backend),
                ids = marks(list.len()),
            );
            let query = &statement(backend, sql, list.iter().copied());
            // Rows that were found, also by MySQL, whether or not they changed.
            let found = self
                .database
                .write(|attempt| async move {
                    Ok(attempt.plain().execute_raw(query.clone()).await?.rows_affected())
                })
                .await?;
            let mut distinct = list.clone();
            distinct.dedup();
            if found < distinct.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// To be called when an append has ended, however it did, that began at `since`: a process that stood still amid it may
    /// have appended to what was settled meanwhile, which is then taken back.
    pub(super) async fn stay_awake(&self, since: Instant, messages: &[Message]) {
        if since.elapsed() < self.awake.lease / SPARE {
            return;
        }
        for message in messages {
            self.awake.until.remove(&int(message.conversation_id));
        }
        if let Err(error) = self.wake(messages).await {
            tracing::warn!(target: "rookery::storage", %error, "an append took so long that lists may miss it until the next one");
        }
    }
}

/// Unsettles those that are settled, and lengthens the leases of all.
async fn lengthen(transaction: &DatabaseTransaction, list: Vec<i64>, lease_s: u64) -> Result<(), DbErr> {
    let backend = transaction.get_database_backend();
    let settled = settled_among(transaction, &list).await?;
    if !settled.is_empty() {
        mark_unknown(transaction, &settled).await?;
    }
    let sql = format!(
        "UPDATE conversations SET awake_until_s = {greatest}(awake_until_s, {now} + {lease_s}) WHERE id IN ({ids})",
        greatest = greatest(backend),
        now = now_s(backend),
        ids = marks(list.len()),
    );
    transaction.execute_raw(statement(backend, sql, list)).await.map(drop)
}

/// Lets a conversation's places be looked up again, from within a transaction that has changed its row, and so holds it.
pub async fn unsettle(transaction: &DatabaseTransaction, conversation_id: i64) -> Result<(), DbErr> {
    let settled = settled_among(transaction, &[conversation_id]).await?;
    if settled.is_empty() {
        return Ok(());
    }
    mark_unknown(transaction, &settled).await?;
    let sql = "UPDATE conversations SET awake_until_s = 1 WHERE id = ?".to_owned();
    transaction.execute_raw(statement(transaction.get_database_backend(), sql, [conversation_id])).await?;
    Ok(())
}

/// Those that are settled; the rows of all are locked until the transaction ends. The key alone says which: were the lease
/// part of the condition, its index might be taken, and far more be locked.
async fn settled_among(transaction: &DatabaseTransaction, list: &[i64]) -> Result<Vec<i64>, DbErr> {
    let backend = transaction.get_database_backend();
    let sql = format!(
        "SELECT id, awake_until_s FROM conversations WHERE id IN ({}){}",
        marks(list.len()),
        for_update(backend)
    );
    let mut settled = Vec::new();
    for row in transaction.query_all_raw(statement(backend, sql, list.iter().copied())).await? {
        let awake_until_s: i64 = row.try_get_by_index(1)?;
        if awake_until_s == 0 {
            settled.push(row.try_get_by_index(0)?);
        }
    }
    Ok(settled)
}

async fn mark_unknown(transaction: &DatabaseTransaction, list: &[i64]) -> Result<(), DbErr> {
    let sql = format!(
        "UPDATE members SET listed_ms = {UNKNOWN} WHERE conversation_id IN ({}) AND listed_ms <> {UNKNOWN}",
        marks(list.len())
    );
    let backend = transaction.get_database_backend();
    transaction.execute_raw(statement(backend, sql, list.iter().copied())).await.map(drop)
}

/// Those that may be on a page: all whose place is unknown, and as many of the others as the page has, in one statement, so
/// that none that settles meanwhile is missed. With `changed_since_ms`, those left and those whose preferences changed too, and
/// as many as the page has of those where something was read: they may be all that the user has.
pub async fn candidates(reads: &mut Reads, wanted: &Wanted) -> Result<Candidates, DbErr> {
    let Wanted { user_id, changed_since_ms, before, limit } = *wanted;
    let mut sql = format!(
        "SELECT conversation_id, 1 FROM members WHERE user_id = ? AND removed_at_ms = 0 AND listed_ms = {UNKNOWN} \
         UNION ALL SELECT conversation_id, 0 FROM (SELECT conversation_id FROM members WHERE user_id = ? \
         AND removed_at_ms = 0 AND listed_ms < {UNKNOWN}"
    );
    let mut values = vec![user_id, user_id];
    let page = |sql: &mut String, values: &mut Vec<i64>| {
        if let Some((at_ms, id)) = before {
            sql.push_str(" AND listed_ms <= ? AND (listed_ms < ? OR conversation_id < ?)");
            values.extend([at_ms, at_ms, id]);
        }
        sql.push_str(" ORDER BY listed_ms DESC, conversation_id DESC LIMIT ?");
        values.push(i64::from(limit));
    };
    if changed_since_ms > 0 {
        sql.push_str(" AND listed_ms >= ?");
        values.push(changed_since_ms);
    }
    page(&mut sql, &mut values);
    sql.push_str(") AS settled");
    if changed_since_ms > 0 {
        sql.push_str(
            " UNION ALL SELECT conversation_id, 3 FROM (SELECT conversation_id FROM members WHERE user_id = ? \
             AND cursors_ms >= ? AND removed_at_ms = 0 AND listed_ms < ?",
        );
        values.extend([user_id, changed_since_ms, changed_since_ms]);
        page(&mut sql, &mut values);
        sql.push_str(") AS was_read");
        sql.push_str(
            " UNION ALL SELECT conversation_id, 2 FROM members WHERE user_id = ? AND removed_at_ms >= ? \
             UNION ALL SELECT conversation_id, 2 FROM preferences WHERE user_id = ? AND changed_at_ms >= ?",
        );
        values.extend([user_id, changed_since_ms, user_id, changed_since_ms]);
    }
    let mut unknown = BTreeSet::new();
    let mut known = BTreeSet::new();
    let (mut settled, mut was_read) = (0, 0);
    for (id, which) in reads.rows(AssertSqlSafe(sql), &values, |row| Ok((row.int(0)?, row.int(1)?))).await? {
        if which == 1 { &mut unknown } else { &mut known }.insert(id);
        settled += u32::from(which == 0);
        was_read += u32::from(which == 3);
    }
    Ok(Candidates {
        unknown: unknown.into_iter().collect(),
        known: known.into_iter().collect(),
        is_cut: settled >= limit || was_read >= limit,
    })
}

/// Where these conversations of a user stand now, as the log says: (activity, conversation).
pub async fn look_up(
    db: &impl ConnectionTrait,
    user_id: i64,
    conversation_ids: &[i64],
) -> Result<Vec<(i64, i64)>, DbErr> {
    let mut places = Vec::new();
    for list in padded(conversation_ids) {
        let sql = format!(
            "SELECT m.conversation_id, m.first_seq, m.updated_at_ms, c.updated_at_ms FROM members m \
             JOIN conversations c ON c.id = m.conversation_id \
             WHERE m.conversation_id IN ({}) AND m.user_id = ? AND m.removed_at_ms = 0",
            marks(list.len())
        );
        let values = list.into_iter().chain([user_id]);
        let mut floors = Vec::new();
        let mut changed = Vec::new();
        for row in db.query_all_raw(statement(db.get_database_backend(), sql, values)).await? {
            let id: i64 = row.try_get_by_index(0)?;
            let (own_ms, its_ms): (i64, i64) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            floors.push((id, row.try_get_by_index(1)?));
            changed.push((own_ms.max(its_ms), id));
        }
        let newest = newest(db, &floors).await?;
        places.extend(changed.into_iter().map(|(changed_ms, id)| {
            let sent_ms = newest.get(&id).map_or(0, |(_, created_at_ms)| *created_at_ms);
            (changed_ms.max(sent_ms), id)
        }));
    }
    Ok(places)
}

/// The whole order as far as it is known: (`listed_ms`, conversation), those unknown with [`UNKNOWN`].
pub async fn places(db: &impl ConnectionTrait, user_id: i64) -> Result<Vec<(i64, i64)>, DbErr> {
    let sql = "SELECT listed_ms, conversation_id FROM members WHERE user_id = ? AND removed_at_ms = 0";
    let rows = db.query_all_raw(statement(db.get_database_backend(), sql.to_owned(), [user_id])).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

/// Seq and time of the newest message of each conversation from a seq on: a look-up in the key for each, many in one
/// statement.
pub async fn newest(
    db: &impl ConnectionTrait,
    floors: &[(i64, i64)],
) -> Result<HashMap<i64, (i64, i64)>, DbErr> {
    let mut found = HashMap::new();
    for list in padded(floors) {
        let select = "SELECT * FROM (SELECT conversation_id, seq, created_at_ms FROM messages \
                      WHERE conversation_id = ? AND seq >= ? ORDER BY conversation_id DESC, seq DESC LIMIT 1) AS n";
        let sql: Vec<String> = (0..list.len()).map(|at| format!("{select}{at}")).collect();
        let values = list.into_iter().flat_map(|(id, floor)| [id, floor]);
        let statement = statement(db.get_database_backend(), sql.join(" UNION ALL "), values);
        for row in db.query_all_raw(statement).await? {
            found.insert(row.try_get_by_index(0)?, (row.try_get_by_index(1)?, row.try_get_by_index(2)?));
        }
    }
    Ok(found)
}

/// The first columns of the rows.
pub async fn ids(db: &impl ConnectionTrait, statement: Statement) -> Result<Vec<i64>, DbErr> {
    db.query_all_raw(statement).await?.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// A statement and its values.
pub fn statement(backend: DbBackend, sql: String, values: impl IntoIterator<Item = i64>) -> Statement {
    Statement::from_sql_and_values(backend, sql, values.into_iter().map(Value::from))
}

/// So many places of values.
pub fn marks(count: usize) -> String {
    vec!["?"; count].join(",")
}

/// The database's clock, in seconds.
pub fn now_s(backend: DbBackend) -> &'static str {
    if backend == DbBackend::MySql { "UNIX_TIMESTAMP()" } else { "CAST(strftime('%s', 'now') AS INTEGER)" }
}

/// The greatest of several values.
pub fn greatest(backend: DbBackend) -> &'static str {
    if backend == DbBackend::MySql { "GREATEST" } else { "MAX" }
}

/// SQLite's transactions hold the whole database anyway.
pub fn for_update(backend: DbBackend) -> &'static str {
    if backend == DbBackend::MySql { " FOR UPDATE" } else { "" }
}
