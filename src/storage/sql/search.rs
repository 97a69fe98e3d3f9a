//! [`SearchStore`]: an inverted index in plain tables, the same on either database (decision 12).
//!
//! `search_terms` has a row for each term of each message, under (conversation, term, seq): what a conversation has of a
//! term is one range of the key. `search_messages` has a row for each message: what results are filtered and ordered by,
//! and the terms, so that they can be taken out again when the text they came from is gone. `search_positions` says how
//! far the index reaches; every change of it goes through its `edition`, which orders those who index the same.

use std::fmt::Write as _;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Statement, Value};

use super::SqlStores;
use super::convert::{int, uint};
use super::ladder::{cut, padded};
use crate::storage::search::{Find, FoundAt, IndexState, IndexStep, IndexedMessage, SearchStore};
use crate::storage::{StoreError, StoreResult};

/// Between the terms of a message; no term has it.
const BETWEEN: char = '\n';
/// Messages taken out of the index in one transaction, at most.
const FORGOTTEN_AT_ONCE: usize = 100;
/// Bytes of their terms, at most, but for the first of them: some thousands of rows.
const FORGOTTEN_BYTES: i64 = 32 * 1024;

#[async_trait]
impl SearchStore for SqlStores {
    async fn index_states(&self, conversation_ids: &[u64]) -> StoreResult<Vec<IndexState>> {
        let ids: Vec<i64> = conversation_ids.iter().map(|id| int(*id)).collect();
        let mut states = Vec::new();
        for list in padded(&ids) {
            let sql = format!(
                "SELECT c.id, p.low_seq, p.high_seq, p.edition, \
                 (SELECT m.seq FROM messages m WHERE m.conversation_id = c.id ORDER BY m.seq DESC LIMIT 1) \
                 FROM conversations c LEFT JOIN search_positions p ON p.conversation_id = c.id \
                 WHERE c.id IN ({})",
                marks(list.len())
            );
            let statement = &self.statement(sql, list.into_iter().map(Value::from));
            let rows =
                self.database
                    .read(|db| async move {
                        db.query_all_raw(statement.clone()).await?.iter().map(state).collect()
                    })
                    .await?;
            let rows: Vec<IndexState> = rows;
            states.extend(rows);
        }
        Ok(states)
    }

    async fn index(&self, step: &IndexStep) -> StoreResult<bool> {
        let outcome = self
            .database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                if !self.claim(&transaction, step).await? {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                let id = int(step.from.conversation_id);
                let seqs: Vec<i64> = step.messages.iter().map(|message| int(message.seq)).collect();
                let replaces = seqs.iter().any(|seq| {
                    (int(step.from.low_seq)..=int(step.from.high_seq)).contains(seq) && step.from.edition > 0
                });
                if replaces {
                    for list in padded(&seqs) {
                        let condition = format!("seq IN ({})", marks(list.len()));
                        self.take_out(
                            &transaction,
                            id,
                            &condition,
                            list.into_iter().map(Value::from).collect(),
                        )
                        .await?;
                    }
                }
                // What was removed since it was read does not come back.
                let floor = self.floor_of(&transaction, id).await?;
                let there = step.messages.iter().filter(|message| message.seq >= floor);
                self.put_in(&transaction, id, there).await?;
                attempt.commit(transaction).await?;
                Ok(true)
            })
            .await;
        match outcome {
            // Somebody else began the conversation's index at the same moment.
            Err(StoreError::Exists) => Ok(false),
            outcome => outcome,
        }
    }

    async fn forget(
        &self,
        conversation_id: u64,
        sender_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()> {
        let id = int(conversation_id);
        let mut from = int(from_seq);
        loop {
            // As many seqs as have rows, so that a transaction stays small however large the gaps and the texts are.
            let next = self
                .database
                .write(|attempt| async move {
                    let transaction = attempt.begin().await?;
                    let bump = "UPDATE search_positions SET edition = edition + 1 WHERE conversation_id = ?";
                    transaction.execute_raw(self.statement(bump.to_owned(), [id.into()])).await?;
                    let mut condition = "seq >= ? AND seq < ?".to_owned();
                    let mut values: Vec<Value> = vec![from.into(), int(to_seq).into()];
                    if sender_id != 0 {
                        condition.push_str(" AND sender_id = ?");
                        values.push(int(sender_id).into());
                    }
                    let sql = format!(
                        "SELECT seq, LENGTH(terms) FROM search_messages WHERE conversation_id = ? AND {condition} \
                         ORDER BY seq LIMIT {}",
                        FORGOTTEN_AT_ONCE + 1
                    );
                    let asked = std::iter::once(id.into()).chain(values.clone());
                    let rows = transaction.query_all_raw(self.statement(sql, asked)).await?;
                    let next = first_left(&rows)?;
                    if let Some(next) = next {
                        values[1] = next.into();
                    }
                    self.take_out(&transaction, id, &condition, values).await?;
                    attempt.commit(transaction).await?;
                    Ok(next)
                })
                .await?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    async fn find(&self, find: &Find) -> StoreResult<Vec<FoundAt>> {
        let Some((first, others)) = find.lookups.split_first() else { return Ok(Vec::new()) };
        let ids: Vec<i64> = find.conversation_ids.iter().map(|id| int(*id)).collect();
        let mut found: Vec<FoundAt> = Vec::new();
        for list in padded(&ids) {
            // Leads from the memberships to the one range of the key that each of them has.
            let mut sql = String::from("SELECT ");
            sql.push_str(if first.is_prefix { "DISTINCT " } else { "" });
            let _ = write!(
                sql,
                "s.created_at_ms, s.conversation_id, s.seq FROM members m \
                 JOIN search_terms t ON t.conversation_id = m.conversation_id \
                 JOIN search_messages s ON s.conversation_id = t.conversation_id AND s.seq = t.seq \
                 WHERE m.conversation_id IN ({}) AND m.user_id = ? AND m.removed_at_ms = 0 AND t.seq >= m.first_seq",
                marks(list.len())
            );
            let mut values: Vec<Value> = list.into_iter().map(Value::from).collect();
            values.push(int(find.user_id).into());
            if first.is_prefix {
                sql.push_str(" AND t.term >= ? AND t.term < ?");
                values.extend([first.term.as_bytes().to_vec().into(), behind_all(&first.term).into()]);
            } else {
                sql.push_str(" AND t.term = ?");
                values.push(first.term.as_bytes().to_vec().into());
            }
            for other in others.iter().filter(|other| !other.is_prefix) {
                sql.push_str(
                    " AND EXISTS (SELECT 1 FROM search_terms o WHERE o.conversation_id = t.conversation_id \
                     AND o.term = ? AND o.seq = t.seq)",
                );
                values.push(other.term.as_bytes().to_vec().into());
            }
            let mut filter = |condition: &str, value: i64| {
                sql.push_str(condition);
                values.push(value.into());
            };
            if find.sender_id != 0 {
                filter(" AND s.sender_id = ?", int(find.sender_id));
            }
            if let Some(kind) = find.kind {
                filter(" AND s.kind = ?", i64::from(kind));
            }
            if find.from_ms != 0 {
                filter(" AND s.created_at_ms >= ?", int(find.from_ms));
            }
            if find.to_ms != 0 {
                filter(" AND s.created_at_ms < ?", int(find.to_ms));
            }
            if let Some(behind) = find.behind {
                let (at, id, seq) = (int(behind.created_at_ms), int(behind.conversation_id), int(behind.seq));
                filter(" AND (s.created_at_ms < ?", at);
                filter(" OR (s.created_at_ms = ?", at);
                filter(" AND (s.conversation_id < ?", id);
                filter(" OR (s.conversation_id = ?", id);
                filter(" AND s.seq < ?))))", seq);
            }
            sql.push_str(" ORDER BY s.created_at_ms DESC, s.conversation_id DESC, s.seq DESC LIMIT ?");
            values.push(find.limit.into());
            let statement = &self.statement(sql, values);
            let rows: Vec<FoundAt> = self
                .database
                .read(|db| async move {
                    db.query_all_raw(statement.clone()).await?.iter().map(found_at).collect()
                })
                .await?;
            found.extend(rows);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(find.limit as usize);
        Ok(found)
    }
}

impl SqlStores {
    fn statement(&self, sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(self.database.backend(), sql, values)
    }

    /// Moves the position, and so locks the conversation's index until the transaction ends; `false`: it is not where the
    /// step says.
    async fn claim(&self, transaction: &DatabaseTransaction, step: &IndexStep) -> Result<bool, DbErr> {
        let (id, low, high) = (int(step.from.conversation_id), int(step.low_seq), int(step.high_seq));
        let (sql, values): (&str, Vec<Value>) = match step.from.edition {
            0 => (
                "INSERT INTO search_positions (low_seq, high_seq, edition, conversation_id) VALUES (?, ?, 1, ?)",
                vec![low.into(), high.into(), id.into()],
            ),
            edition => (
                "UPDATE search_positions SET low_seq = ?, high_seq = ?, edition = edition + 1 \
                 WHERE conversation_id = ? AND edition = ?",
                vec![low.into(), high.into(), id.into(), int(edition).into()],
            ),
        };
        let done = transaction.execute_raw(self.statement(sql.to_owned(), values)).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Takes messages out: their rows say under which terms they stand.
    async fn take_out(
        &self,
        transaction: &DatabaseTransaction,
        conversation_id: i64,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<(), DbErr> {
        let values: Vec<Value> = std::iter::once(conversation_id.into()).chain(values).collect();
        let wanted = format!("FROM search_messages WHERE conversation_id = ? AND {condition}");
        let rows = transaction
            .query_all_raw(self.statement(format!("SELECT seq, terms {wanted}"), values.clone()))
            .await?;
        let mut keys: Vec<(Vec<u8>, i64)> = Vec::new();
        for row in &rows {
            let (seq, terms): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            keys.extend(terms.split(BETWEEN).map(|term| (term.as_bytes().to_vec(), seq)));
        }
        // In the order of the key, in which all take their locks.
        keys.sort_unstable();
        for list in padded(&keys) {
            let sql = format!(
                "DELETE FROM search_terms WHERE conversation_id = ? AND ({})",
                vec!["(term = ? AND seq = ?)"; list.len()].join(" OR ")
            );
            let pairs = list.into_iter().flat_map(|(term, seq)| [Value::from(term), Value::from(seq)]);
            let values: Vec<Value> = std::iter::once(conversation_id.into()).chain(pairs).collect();
            transaction.execute_raw(self.statement(sql, values)).await?;
        }
        if !rows.is_empty() {
            transaction.execute_raw(self.statement(format!("DELETE {wanted}"), values)).await?;
        }
        Ok(())
    }

    /// Before which seq the messages of a conversation were removed, or are about to be.
    async fn floor_of(&self, transaction: &DatabaseTransaction, conversation_id: i64) -> Result<u64, DbErr> {
        let sql = "SELECT floor_seq FROM conversations WHERE id = ?".to_owned();
        let row = transaction.query_one_raw(self.statement(sql, [conversation_id.into()])).await?;
        row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0).map(uint))
    }

    async fn put_in<'a>(
        &self,
        transaction: &DatabaseTransaction,
        conversation_id: i64,
        messages: impl Iterator<Item = &'a IndexedMessage>,
    ) -> Result<(), DbErr> {
        let found: Vec<&IndexedMessage> = messages.filter(|message| !message.terms.is_empty()).collect();
        let bytes =
            |message: &&IndexedMessage| message.terms.iter().map(|term| term.len() + 1).sum::<usize>();
        for run in cut(&found, bytes) {
            let sql = format!(
                "INSERT INTO search_messages (conversation_id, seq, sender_id, kind, created_at_ms, terms) VALUES {}",
                vec!["(?,?,?,?,?,?)"; run.len()].join(",")
            );
            let values = run.iter().flat_map(|message| {
                [
                    Value::from(conversation_id),
                    int(message.seq).into(),
                    int(message.sender_id).into(),
                    i16::try_from(message.kind).unwrap_or(i16::MAX).into(),
                    int(message.created_at_ms).into(),
                    message.terms.join("\n").into(),
                ]
            });
            transaction.execute_raw(self.statement(sql, values)).await?;
        }
        let mut rows: Vec<(&str, i64)> = found
            .iter()
            .flat_map(|message| message.terms.iter().map(|term| (term.as_str(), int(message.seq))))
            .collect();
        // Neighbours in the key go into the same pages.
        rows.sort_unstable();
        for run in cut(&rows, |_| 0) {
            let sql = format!(
                "INSERT INTO search_terms (conversation_id, term, seq) VALUES {}",
                vec!["(?,?,?)"; run.len()].join(",")
            );
            let values = run.iter().flat_map(|(term, seq)| {
                [Value::from(conversation_id), term.as_bytes().to_vec().into(), Value::from(*seq)]
            });
            transaction.execute_raw(self.statement(sql, values)).await?;
        }
        Ok(())
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(",")
}

/// The first key behind all that begin with `term`: no UTF-8 has this byte.
fn behind_all(term: &str) -> Vec<u8> {
    let mut bytes = term.as_bytes().to_vec();
    bytes.push(0xFF);
    bytes
}

/// The first seq that one transaction leaves to the next, of rows of (seq, bytes of terms).
fn first_left(rows: &[QueryResult]) -> Result<Option<i64>, DbErr> {
    let mut bytes = 0;
    for (at, row) in rows.iter().enumerate() {
        let (seq, its_bytes): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        bytes += its_bytes;
        if at > 0 && (at == FORGOTTEN_AT_ONCE || bytes > FORGOTTEN_BYTES) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

fn state(row: &QueryResult) -> Result<IndexState, DbErr> {
    let at = |index: usize| -> Result<u64, DbErr> {
        let value: Option<i64> = row.try_get_by_index(index)?;
        Ok(value.map_or(0, uint))
    };
    Ok(IndexState {
        conversation_id: at(0)?,
        low_seq: at(1)?,
        high_seq: at(2)?,
        edition: at(3)?,
        last_seq: at(4)?,
    })
}

fn found_at(row: &QueryResult) -> Result<FoundAt, DbErr> {
    let at = |index: usize| row.try_get_by_index::<i64>(index).map(uint);
    Ok(FoundAt { created_at_ms: at(0)?, conversation_id: at(1)?, seq: at(2)? })
}
