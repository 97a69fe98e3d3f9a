//! What the first messages of conversations need, in few statements for many: who may write to whom, which direct
//! conversations there are, the making of those there are not, and what their rooms begin with.

use std::collections::HashMap;

use sea_orm::sea_query::Values;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QueryResult, Statement, Value,
};
use tokio::time::Instant;

use super::SqlStores;
use super::conversations::direct_key;
use super::convert::{all, int, new_member, uint};
use super::entity::{conversation, member, message};
use super::ladder::{cut, padded};
use super::listing::{marks, now_s, statement};
use super::messages::whole;
use crate::domain::privacy::Relation;
use crate::protocol::v1::Message;
use crate::protocol::{ContactState, ConversationKind, JoinPolicy, MemberRole};
use crate::storage::starts::{MEMBERS_TOGETHER, Opening, first_member};
use crate::storage::{ConversationRecord, MemberRecord, StoreError, StoreResult};

/// Pairs of one statement that names each of them: three conditions are made of one.
const PAIRS_TOGETHER: usize = 32;
/// Times that conversations are looked for and made, where others make the same.
const TRIES: usize = 4;
const MESSAGE_COLUMNS: &str = "conversation_id, seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, \
                               emoji, extra, created_at_ms";

impl SqlStores {
    /// How the first of each pair stands to the second, in their order.
    pub(super) async fn read_relations(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<Relation>> {
        let mut found: HashMap<(i64, i64), Relation> = HashMap::new();
        for some in pairs.chunks(PAIRS_TOGETHER) {
            for list in &padded(some) {
                let query = &relations_query(self.database.backend(), list);
                let rows =
                    self.database.read(|db| async move { db.query_all_raw(query.clone()).await }).await?;
                for row in rows {
                    let (user, other, what) = triple(&row)?;
                    if what == 0 {
                        found.entry((user, other)).or_default().friends = true;
                    } else {
                        found.entry((user, other)).or_default().blocks = true;
                        found.entry((other, user)).or_default().blocked = true;
                    }
                }
            }
        }
        let relation = |(a, b): &(u64, u64)| found.get(&(int(*a), int(*b))).copied().unwrap_or_default();
        Ok(pairs.iter().map(relation).collect())
    }

    /// The direct conversations of these pairs, in their order.
    pub(super) async fn find_directs(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<Option<u64>>> {
        let keys: Vec<String> = pairs.iter().map(|(a, b)| direct_key(*a, *b)).collect();
        let mut found: HashMap<String, u64> = HashMap::new();
        for list in &padded(&keys) {
            let query = &by_keys(self.database.backend(), list);
            let rows = self.database.read(|db| async move { ids_by_key(&db, query.clone()).await }).await?;
            found.extend(rows);
        }
        Ok(keys.iter().map(|key| found.get(key).copied()).collect())
    }

    /// The direct conversations of pairs of which hardly one has one: whether it was made now.
    pub(super) async fn found_directs(
        &self,
        pairs: &[(u64, u64)],
        now_ms: u64,
    ) -> StoreResult<Vec<(u64, bool)>> {
        let mut wanted: Vec<(u64, u64)> = pairs.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if let Some((user, _)) = wanted.iter().find(|(a, b)| a == b) {
            return Err(StoreError::Invalid(format!("user {user} has no direct conversation with itself")));
        }
        let mut known: HashMap<(u64, u64), (u64, bool)> = HashMap::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                // Another node was first with one of them, and all were rolled back.
                for (pair, id) in wanted.iter().zip(self.find_directs(&wanted).await?) {
                    known.extend(id.map(|id| (*pair, (id, false))));
                }
                wanted.retain(|pair| !known.contains_key(pair));
            }
            match self.insert_directs(&wanted, now_ms).await {
                Ok(made) => {
                    known.extend(made.into_iter().map(|(pair, id)| (pair, (id, true))));
                    break;
                }
                Err(StoreError::Exists) if attempt + 1 < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        let answer = |(a, b): &(u64, u64)| known.get(&(*a.min(b), *a.max(b))).copied();
        let answers: Option<Vec<(u64, bool)>> = pairs.iter().map(answer).collect();
        answers.ok_or_else(|| StoreError::Unavailable("a conversation came and went".to_owned()))
    }

    /// Makes direct conversations, of which none is there: [`StoreError::Exists`] if one is, and then none is made. Their
    /// messages are soon to follow, so they begin awake ([`super::listing`]).
    async fn insert_directs(&self, pairs: &[(u64, u64)], now_ms: u64) -> StoreResult<Vec<((u64, u64), u64)>> {
        let awake_since = Instant::now();
        let backend = self.database.backend();
        let keys: &Vec<String> = &pairs.iter().map(|(a, b)| direct_key(*a, *b)).collect();
        let lease_s = self.awake.lease_s();
        let ids: HashMap<String, u64> = self
            .database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let mut ids = HashMap::new();
                for run in cut(keys, |_| 0) {
                    transaction.execute_raw(insert_query(backend, run, now_ms, lease_s)).await?;
                    ids.extend(ids_by_key(&transaction, by_keys(backend, run)).await?);
                }
                insert_members(&transaction, pairs, &ids, now_ms).await?;
                attempt.commit(transaction).await?;
                Ok(ids)
            })
            .await?;
        let made: Vec<((u64, u64), u64)> =
            pairs.iter().zip(keys).filter_map(|(pair, key)| Some((*pair, *ids.get(key)?))).collect();
        let made_ids: Vec<i64> = made.iter().map(|(_, id)| int(*id)).collect();
        self.awake.begin(&made_ids, awake_since);
        Ok(made)
    }

    /// The users of direct conversations, in the order of their ids. `Some(None)`: it is a group; `None`: there is none.
    pub(super) async fn read_pairs(&self, ids: &[u64]) -> StoreResult<Vec<Option<Option<(u64, u64)>>>> {
        let keys: Vec<i64> = ids.iter().map(|id| int(*id)).collect();
        let mut found: HashMap<i64, Option<(u64, u64)>> = HashMap::new();
        let backend = self.database.backend();
        for list in &padded(&keys) {
            let sql =
                format!("SELECT id, kind, direct_key FROM conversations WHERE id IN ({})", marks(list.len()));
            let query = &statement(backend, sql, list.iter().copied());
            let rows = self.database.read(|db| async move { db.query_all_raw(query.clone()).await }).await?;
            for row in rows {
                let (id, pair) = pair_of(&row).map_err(unreadable)?;
                found.insert(id, pair);
            }
        }
        Ok(keys.iter().map(|id| found.get(id).copied()).collect())
    }

    /// What rooms begin with, in the order of their ids.
    pub(super) async fn read_openings(&self, ids: &[u64]) -> StoreResult<Vec<Opening>> {
        let keys: Vec<i64> = ids.iter().map(|id| int(*id)).collect();
        let mut conversations: HashMap<u64, ConversationRecord> = HashMap::new();
        let mut small: Vec<i64> = Vec::new();
        for list in &padded(&keys) {
            let rows = self
                .database
                .read(|db| async move {
                    let some = conversation::Column::Id.is_in(list.iter().copied());
                    conversation::Entity::find().filter(some).all(&db).await
                })
                .await?;
            for row in rows {
                if row.member_count <= MEMBERS_TOGETHER as i64 {
                    small.push(row.id);
                }
                let record = ConversationRecord::try_from(row).map_err(unreadable)?;
                conversations.insert(record.id, record);
            }
        }
        let mut members: HashMap<u64, Vec<MemberRecord>> =
            small.iter().map(|id| (uint(*id), Vec::new())).collect();
        for list in &padded(&small) {
            let rows = self
                .database
                .read(|db| async move {
                    let rows = member::Entity::find()
                        .filter(member::Column::ConversationId.is_in(list.iter().copied()))
                        .filter(member::Column::RemovedAtMs.eq(0))
                        .order_by_asc(member::Column::ConversationId)
                        .order_by_asc(member::Column::UserId)
                        .all(&db)
                        .await?;
                    all::<_, MemberRecord>(rows)
                })
                .await?;
            for row in rows {
                members.entry(row.conversation_id).or_default().push(row);
            }
        }
        let opening = |id: &u64| Opening {
            conversation: conversations.get(id).cloned(),
            members: members.get(id).cloned(),
        };
        Ok(ids.iter().map(opening).collect())
    }

    /// The newest messages of these conversations, oldest first, in the order of their ids.
    pub(super) async fn read_tails(&self, ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        let mut keys: Vec<i64> = ids.iter().map(|id| int(*id)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut found: HashMap<u64, Vec<Message>> = HashMap::new();
        for list in &padded(&keys) {
            let mut distinct = list.clone();
            distinct.dedup();
            let query = &tails_query(self.database.backend(), list, distinct.len(), limit);
            let logs = self
                .database
                .read(|db| async move {
                    let rows = db.query_all_raw(query.clone()).await?;
                    let mut logs: HashMap<i64, Vec<message::Model>> = HashMap::new();
                    for row in rows {
                        let row = message_of(&row)?;
                        logs.entry(row.conversation_id).or_default().push(row);
                    }
                    let mut whole_logs = Vec::with_capacity(logs.len());
                    for (id, mut rows) in logs {
                        rows.sort_unstable_by_key(|row| row.seq);
                        rows.dedup_by_key(|row| row.seq);
                        // Its reactions are looked up by conversation; few have any.
                        whole_logs.push((uint(id), whole(&db, rows).await?));
                    }
                    Ok(whole_logs)
                })
                .await?;
            found.extend(logs);
        }
        Ok(ids.iter().map(|id| found.get(id).cloned().unwrap_or_default()).collect())
    }
}

/// (user, other, 0: is a friend; 1: blocks), for pairs from either side.
fn relations_query(backend: DbBackend, pairs: &[(u64, u64)]) -> Statement {
    let any = |condition: &str| vec![condition; pairs.len()].join(" OR ");
    let sql = format!(
        "SELECT user_id, contact_id, 0 FROM contacts WHERE ({}) AND state = {} \
         UNION ALL SELECT user_id, blocked_id, 1 FROM blocks WHERE {}",
        any("(user_id = ? AND contact_id = ?)"),
        ContactState::Friend as i16,
        any("(user_id = ? AND blocked_id = ?) OR (user_id = ? AND blocked_id = ?)")
    );
    let contacts = pairs.iter().flat_map(|(a, b)| [int(*a), int(*b)]);
    let blocks = pairs.iter().flat_map(|(a, b)| [int(*a), int(*b), int(*b), int(*a)]);
    statement(backend, sql, contacts.chain(blocks))
}

fn triple(row: &QueryResult) -> StoreResult<(i64, i64, i64)> {
    let read = |at| row.try_get_by_index::<i64>(at).map_err(|error| StoreError::Invalid(error.to_string()));
    Ok((read(0)?, read(1)?, read(2)?))
}

fn by_keys(backend: DbBackend, keys: &[String]) -> Statement {
    let sql = format!("SELECT direct_key, id FROM conversations WHERE direct_key IN ({})", marks(keys.len()));
    Statement::from_sql_and_values(backend, sql, keys.iter().map(|key| Value::from(key.as_str())))
}

async fn ids_by_key(
    db: &impl sea_orm::ConnectionTrait,
    query: Statement,
) -> Result<Vec<(String, u64)>, DbErr> {
    let rows = db.query_all_raw(query).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, uint(row.try_get_by_index(1)?)))).collect()
}

fn insert_query(backend: DbBackend, keys: &[String], now_ms: u64, lease_s: u64) -> Statement {
    let now_ms = int(now_ms);
    let row = format!(
        "({}, ?, '', '', 0, 0, {}, ?, ?, 2, {} + {lease_s})",
        ConversationKind::Direct as i16,
        JoinPolicy::Invite as i16,
        now_s(backend)
    );
    let sql = format!(
        "INSERT INTO conversations (kind, direct_key, name, description, avatar_file_id, owner_id, join_policy, \
         created_at_ms, updated_at_ms, member_count, awake_until_s) VALUES {}",
        vec![row; keys.len()].join(", ")
    );
    let values = keys.iter().flat_map(|key| [Value::from(key.as_str()), now_ms.into(), now_ms.into()]);
    Statement { sql, values: Some(Values(values.collect())), db_backend: backend }
}

async fn insert_members(
    transaction: &DatabaseTransaction,
    pairs: &[(u64, u64)],
    ids: &HashMap<String, u64>,
    now_ms: u64,
) -> Result<(), DbErr> {
    let mut rows = Vec::with_capacity(2 * pairs.len());
    for (a, b) in pairs {
        let id = ids.get(&direct_key(*a, *b)).copied();
        let id = id.ok_or_else(|| DbErr::RecordNotInserted)?;
        rows.extend([*a, *b].map(|user_id| first_member(id, user_id, MemberRole::Member, now_ms)));
    }
    for run in cut(&rows, |_| 0) {
        member::Entity::insert_many(run.iter().map(new_member)).exec_without_returning(transaction).await?;
    }
    Ok(())
}

fn pair_of(row: &QueryResult) -> Result<(i64, Option<(u64, u64)>), DbErr> {
    let (id, kind): (i64, i16) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if kind != ConversationKind::Direct as i16 {
        return Ok((id, None));
    }
    let key: Option<String> = row.try_get_by_index(2)?;
    let pair = key.as_deref().and_then(|key| key.split_once(':'));
    let pair = pair.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    pair.map(|pair| (id, Some(pair)))
        .ok_or_else(|| DbErr::Type("a direct conversation names no pair".to_owned()))
}

/// The newest of each conversation: a look-up in the key for each. MySQL would make a table of each subquery that has a
/// name, SQLite takes no parentheses.
fn tails_query(backend: DbBackend, ids: &[i64], distinct: usize, limit: u32) -> Statement {
    let newest = format!(
        "SELECT {MESSAGE_COLUMNS} FROM messages WHERE conversation_id = ? \
         ORDER BY conversation_id DESC, seq DESC LIMIT ?"
    );
    let parts: Vec<String> = (0..ids.len())
        .map(|at| match backend {
            DbBackend::MySql => format!("({newest})"),
            _ => format!("SELECT * FROM ({newest}) AS n{at}"),
        })
        .collect();
    // What only fills the list up brings nothing twice.
    let limit_of = |at: usize| if at < distinct { i64::from(limit) } else { 0 };
    let values = ids.iter().enumerate().flat_map(|(at, id)| [*id, limit_of(at)]);
    statement(backend, parts.join(" UNION ALL "), values)
}

fn message_of(row: &QueryResult) -> Result<message::Model, DbErr> {
    Ok(message::Model {
        conversation_id: row.try_get_by_index(0)?,
        seq: row.try_get_by_index(1)?,
        sender_id: row.try_get_by_index(2)?,
        client_id: row.try_get_by_index(3)?,
        kind: row.try_get_by_index(4)?,
        text: row.try_get_by_index(5)?,
        reply_to_seq: row.try_get_by_index(6)?,
        target_seq: row.try_get_by_index(7)?,
        emoji: row.try_get_by_index(8)?,
        extra: row.try_get_by_index(9)?,
        created_at_ms: row.try_get_by_index(10)?,
    })
}

fn unreadable(error: DbErr) -> StoreError {
    StoreError::Invalid(error.to_string())
}
