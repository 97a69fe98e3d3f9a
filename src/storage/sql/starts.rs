//! What the first messages of conversations need, in few statements for many: who may write to whom, which direct
//! conversations there are, the making of those there are not, and what their rooms begin with.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::Values;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, EntityTrait as _,
    QueryFilter as _, QueryResult, Statement, Value,
};
use tokio::time::Instant;

use super::SqlStores;
use super::conversations::direct_key;
use super::convert::{all, int, new_member, uint};
use super::entity::{conversation, member, message};
use super::ladder::{cut, padded};
use super::listing::{marks, now_s, statement};
use super::messages::whole;
use crate::domain::privacy::{Audience, Relation};
use crate::protocol::v1::Message;
use crate::protocol::{ContactState, ConversationKind, JoinPolicy, MemberRole};
use crate::storage::starts::{MEMBERS_TOGETHER, Opening, first_member};
use crate::storage::{ConversationRecord, MemberRecord, PrivacyRecord, StoreError, StoreResult};

/// Pairs of one statement that names each of them: three conditions are made of one.
const PAIRS_TOGETHER: usize = 32;
/// Times that conversations are looked for and made, where others make the same.
const TRIES: usize = 4;
/// Members of a conversation that are read in one statement with it, with the conversation in each row.
const MEMBERS_JOINED: i64 = 4;
/// What a row of [`acquaintances_query`] says: they are friends.
const FRIENDS: i64 = 0;
/// The first blocks the second.
const BLOCKS: i64 = 1;
const MESSAGE_COLUMNS: &str = "conversation_id, seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, \
                               emoji, extra, created_at_ms";

impl SqlStores {
    /// How the first of each pair stands to the second, and the settings of the second, in their order.
    pub(super) async fn read_acquaintances(
        &self,
        pairs: &[(u64, u64)],
    ) -> StoreResult<Vec<(Relation, PrivacyRecord)>> {
        let mut relations: HashMap<(i64, i64), Relation> = HashMap::new();
        let mut settings: HashMap<i64, PrivacyRecord> = HashMap::new();
        for some in pairs.chunks(PAIRS_TOGETHER) {
            for list in &padded(some) {
                let query = &acquaintances_query(self.database.backend(), list);
                let rows = self.database.read(|db| async move { five(&db, query.clone()).await }).await?;
                for [user, other, what, may_add, last_seen] in rows {
                    match what {
                        FRIENDS => relations.entry((user, other)).or_default().friends = true,
                        BLOCKS => {
                            relations.entry((user, other)).or_default().blocks = true;
                            relations.entry((other, user)).or_default().blocked = true;
                        }
                        _ => {
                            settings.insert(user, privacy_of(user, [other, may_add, last_seen]));
                        }
                    }
                }
            }
        }
        let acquaintance = |(user, other): &(u64, u64)| {
            let unset = PrivacyRecord { user_id: *other, ..PrivacyRecord::default() };
            let relation = relations.get(&(int(*user), int(*other))).copied().unwrap_or_default();
            (relation, settings.get(&int(*other)).copied().unwrap_or(unset))
        };
        Ok(pairs.iter().map(acquaintance).collect())
    }

    /// The direct conversation of each pair, and whether there is such a user as the second, in their order.
    pub(super) async fn read_meetings(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Option<u64>, bool)>> {
        let wanted: Vec<(String, i64)> =
            pairs.iter().map(|(user, other)| (direct_key(*user, *other), int(*other))).collect();
        let mut directs: HashMap<String, u64> = HashMap::new();
        let mut users: HashSet<i64> = HashSet::new();
        for list in &padded(&wanted) {
            let query = &meetings_query(self.database.backend(), list);
            let rows: Vec<(Option<String>, i64)> = self
                .database
                .read(|db| async move {
                    let rows = db.query_all_raw(query.clone()).await?;
                    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
                })
                .await?;
            for (key, id) in rows {
                match key {
                    Some(key) => drop(directs.insert(key, uint(id))),
                    None => drop(users.insert(id)),
                }
            }
        }
        let meeting = |(key, other): &(String, i64)| (directs.get(key).copied(), users.contains(other));
        Ok(wanted.iter().map(meeting).collect())
    }

    async fn find_directs(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<Option<u64>>> {
        let found = self.read_meetings(pairs).await?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
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
                    let made = transaction.execute_raw(insert_query(backend, run, now_ms, lease_s)).await?;
                    match run {
                        [key] => drop(ids.insert(key.clone(), made.last_insert_id())),
                        // Those of one statement need not follow each other.
                        run => ids.extend(ids_by_key(&transaction, by_keys(backend, run)).await?),
                    }
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
        let mut found: HashMap<u64, (ConversationRecord, Vec<MemberRecord>)> = HashMap::new();
        let mut counts: HashMap<u64, i64> = HashMap::new();
        for list in &padded(&keys) {
            let query = &openings_query(self.database.backend(), list);
            let rows = self.database.read(|db| async move { db.query_all_raw(query.clone()).await }).await?;
            for row in rows {
                let (record, count, member) = opening_of(&row).map_err(unreadable)?;
                counts.insert(record.id, count);
                found.entry(record.id).or_insert_with(|| (record, Vec::new())).1.extend(member);
            }
        }
        // Their conversation in each row would be too much.
        let middling: Vec<i64> = counts
            .iter()
            .filter(|(_, count)| (MEMBERS_JOINED + 1..=MEMBERS_TOGETHER as i64).contains(*count))
            .map(|(id, _)| int(*id))
            .collect();
        for list in &padded(&middling) {
            let rows = self
                .database
                .read(|db| async move {
                    let rows = member::Entity::find()
                        .filter(member::Column::ConversationId.is_in(list.iter().copied()))
                        .filter(member::Column::RemovedAtMs.eq(0))
                        .all(&db)
                        .await?;
                    all::<_, MemberRecord>(rows)
                })
                .await?;
            for row in rows {
                if let Some((_, members)) = found.get_mut(&row.conversation_id) {
                    members.push(row);
                }
            }
        }
        for (_, members) in found.values_mut() {
            members.sort_unstable_by_key(|member| member.user_id);
            // Of an id that was asked for twice.
            members.dedup_by_key(|member| member.user_id);
        }
        let opening = |id: &u64| match found.get(id) {
            Some((record, members)) => {
                let is_large = counts.get(id).is_some_and(|count| *count > MEMBERS_TOGETHER as i64);
                Opening { conversation: Some(record.clone()), members: (!is_large).then(|| members.clone()) }
            }
            None => Opening { conversation: None, members: None },
        };
        Ok(ids.iter().map(opening).collect())
    }

    /// The newest messages of these conversations, oldest first, in the order of their ids.
    pub(super) async fn read_newest(&self, ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        let mut keys: Vec<i64> = ids.iter().map(|id| int(*id)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut found: HashMap<u64, Vec<Message>> = HashMap::new();
        for list in &padded(&keys) {
            let mut distinct = list.clone();
            distinct.dedup();
            let query = &newest_query(self.database.backend(), list, distinct.len(), limit);
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

/// (user, other, [`FRIENDS`] or [`BLOCKS`]), the latter from either side; (user, and the three settings around 2).
fn acquaintances_query(backend: DbBackend, pairs: &[(u64, u64)]) -> Statement {
    let any = |condition: &str| vec![condition; pairs.len()].join(" OR ");
    let sql = format!(
        "SELECT user_id, contact_id, {FRIENDS}, 0, 0 FROM contacts WHERE ({contacts}) AND state = {friend} \
         UNION ALL SELECT user_id, blocked_id, {BLOCKS}, 0, 0 FROM blocks WHERE {blocks} \
         UNION ALL SELECT user_id, who_may_write, 2, who_may_add, who_sees_last_seen FROM privacy \
         WHERE user_id IN ({others})",
        contacts = any("(user_id = ? AND contact_id = ?)"),
        friend = ContactState::Friend as i16,
        blocks = any("(user_id = ? AND blocked_id = ?) OR (user_id = ? AND blocked_id = ?)"),
        others = marks(pairs.len())
    );
    let contacts = pairs.iter().flat_map(|(a, b)| [int(*a), int(*b)]);
    let blocks = pairs.iter().flat_map(|(a, b)| [int(*a), int(*b), int(*b), int(*a)]);
    let others = pairs.iter().map(|(_, b)| int(*b));
    statement(backend, sql, contacts.chain(blocks).chain(others))
}

async fn five(db: &impl sea_orm::ConnectionTrait, query: Statement) -> Result<Vec<[i64; 5]>, DbErr> {
    let mut rows = Vec::new();
    for row in db.query_all_raw(query).await? {
        let mut values = [0; 5];
        for (at, value) in values.iter_mut().enumerate() {
            *value = row.try_get_by_index(at)?;
        }
        rows.push(values);
    }
    Ok(rows)
}

fn privacy_of(user_id: i64, settings: [i64; 3]) -> PrivacyRecord {
    let [who_may_write, who_may_add, who_sees_last_seen] =
        settings.map(|setting| Audience::from_number(setting.try_into().unwrap_or_default()));
    PrivacyRecord { user_id: uint(user_id), who_may_write, who_may_add, who_sees_last_seen }
}

/// (key, conversation), and (null, user).
fn meetings_query(backend: DbBackend, wanted: &[(String, i64)]) -> Statement {
    let marks = marks(wanted.len());
    let sql = format!(
        "SELECT direct_key, id FROM conversations WHERE direct_key IN ({marks}) \
         UNION ALL SELECT NULL, id FROM users WHERE id IN ({marks})"
    );
    let keys = wanted.iter().map(|(key, _)| Value::from(key.as_str()));
    let users = wanted.iter().map(|(_, user)| Value::from(*user));
    Statement::from_sql_and_values(backend, sql, keys.chain(users))
}

/// A row for each member of small rooms, and one for each other room. The members are looked for by an expression that
/// is no room's id where there are many: a condition on the count would be looked at behind reading all of them.
fn openings_query(backend: DbBackend, ids: &[i64]) -> Statement {
    let sql = format!(
        "SELECT c.id, c.kind, c.direct_key, c.name, c.description, c.avatar_file_id, c.owner_id, c.join_policy, \
         c.created_at_ms, c.updated_at_ms, c.announcement, c.read_only, c.slow_mode_seconds, c.silence_all, \
         c.history_open, c.dissolved_at_ms, c.retention_seconds, c.floor_seq, c.member_count, \
         m.user_id, m.role, m.first_seq, m.delivered_seq, m.read_seq, m.joined_at_ms, m.removed_at_ms, \
         m.muted_until_ms, m.pinned, m.updated_at_ms, m.silenced_until_ms, m.cursors_ms \
         FROM conversations c LEFT JOIN members m \
         ON m.conversation_id = CASE WHEN c.member_count <= {MEMBERS_JOINED} THEN c.id ELSE 0 END \
         AND m.removed_at_ms = 0 WHERE c.id IN ({})",
        marks(ids.len())
    );
    statement(backend, sql, ids.iter().copied())
}

fn opening_of(row: &QueryResult) -> Result<(ConversationRecord, i64, Option<MemberRecord>), DbErr> {
    let conversation = conversation::Model {
        id: row.try_get_by_index(0)?,
        kind: row.try_get_by_index(1)?,
        direct_key: row.try_get_by_index(2)?,
        name: row.try_get_by_index(3)?,
        description: row.try_get_by_index(4)?,
        avatar_file_id: row.try_get_by_index(5)?,
        owner_id: row.try_get_by_index(6)?,
        join_policy: row.try_get_by_index(7)?,
        created_at_ms: row.try_get_by_index(8)?,
        updated_at_ms: row.try_get_by_index(9)?,
        announcement: row.try_get_by_index(10)?,
        read_only: row.try_get_by_index(11)?,
        slow_mode_seconds: row.try_get_by_index(12)?,
        silence_all: row.try_get_by_index(13)?,
        history_open: row.try_get_by_index(14)?,
        dissolved_at_ms: row.try_get_by_index(15)?,
        retention_seconds: row.try_get_by_index(16)?,
        floor_seq: row.try_get_by_index(17)?,
        member_count: row.try_get_by_index(18)?,
    };
    let member = match row.try_get_by_index::<Option<i64>>(19)? {
        Some(user_id) => Some(MemberRecord::try_from(member::Model {
            conversation_id: conversation.id,
            user_id,
            role: row.try_get_by_index(20)?,
            first_seq: row.try_get_by_index(21)?,
            delivered_seq: row.try_get_by_index(22)?,
            read_seq: row.try_get_by_index(23)?,
            joined_at_ms: row.try_get_by_index(24)?,
            removed_at_ms: row.try_get_by_index(25)?,
            muted_until_ms: row.try_get_by_index(26)?,
            pinned: row.try_get_by_index(27)?,
            updated_at_ms: row.try_get_by_index(28)?,
            silenced_until_ms: row.try_get_by_index(29)?,
            cursors_ms: row.try_get_by_index(30)?,
        })?),
        None => None,
    };
    let count = conversation.member_count;
    Ok((conversation.try_into()?, count, member))
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
fn newest_query(backend: DbBackend, ids: &[i64], distinct: usize, limit: u32) -> Statement {
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
