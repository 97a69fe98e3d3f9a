//! [`MarkStore`]: what is hidden, pinned, scheduled and about to expire.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement, Value};

use super::SqlStores;
use super::convert::{int, uint};
use super::driver::{Columns, Texts};
use super::ladder::padded;
use crate::storage::{MarkStore, PinRecord, ScheduledRecord, StoreResult};

/// With the user; and conversation, first and last seq for each.
static HIDDEN: Texts = Texts::new();
const SCHEDULED: &str = "SELECT id, user_id, send_at_ms, body, failure, claimed FROM scheduled";

impl SqlStores {
    /// One statement that changes something; how many rows it touched.
    pub(super) async fn execute(&self, sql: &str, values: Vec<Value>) -> StoreResult<u64> {
        let statement = &Statement::from_sql_and_values(self.database.backend(), sql, values);
        self.database
            .write(|attempt| async move {
                Ok(attempt.single().execute_raw(statement.clone()).await?.rows_affected())
            })
            .await
    }

    /// One statement that changes nothing.
    pub(super) async fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        of: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> StoreResult<Vec<T>> {
        let (statement, of) = (&Statement::from_sql_and_values(self.database.backend(), sql, values), &of);
        self.database
            .read(|db| async move { db.query_all_raw(statement.clone()).await?.iter().map(of).collect() })
            .await
    }

    /// The beginning of an INSERT that leaves what is there.
    fn insert_new(&self) -> &'static str {
        match self.database.backend() {
            DbBackend::MySql => "INSERT IGNORE INTO",
            _ => "INSERT OR IGNORE INTO",
        }
    }
}

/// A number of a row.
pub(super) fn number(row: &QueryResult, at: usize) -> Result<u64, DbErr> {
    row.try_get_by_index::<i64>(at).map(uint)
}

fn scheduled(row: &QueryResult) -> Result<ScheduledRecord, DbErr> {
    let body: String = row.try_get_by_index(3)?;
    Ok(ScheduledRecord {
        id: number(row, 0)?,
        user_id: number(row, 1)?,
        send_at_ms: number(row, 2)?,
        send: serde_json::from_str(&body).map_err(|error| DbErr::Json(error.to_string()))?,
        failure: row.try_get_by_index(4)?,
        claimed: row.try_get_by_index(5)?,
    })
}

#[async_trait]
impl MarkStore for SqlStores {
    async fn hide(&self, user_id: u64, conversation_id: u64, seqs: &[u64], now_ms: u64) -> StoreResult<()> {
        for list in padded(seqs) {
            let rows = vec!["(?, ?, ?, ?)"; list.len()].join(", ");
            let sql = format!(
                "{} hidden (user_id, conversation_id, seq, hidden_at_ms) VALUES {rows}",
                self.insert_new()
            );
            let row = |seq: u64| [user_id, conversation_id, seq, now_ms].map(|value| Value::from(int(value)));
            self.execute(&sql, list.into_iter().flat_map(row).collect()).await?;
        }
        Ok(())
    }

    async fn hidden_since(
        &self,
        user_id: u64,
        since_ms: u64,
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>> {
        let sql = "SELECT hidden_at_ms, conversation_id, seq FROM hidden WHERE user_id = ? AND hidden_at_ms >= ? \
                   ORDER BY hidden_at_ms, conversation_id, seq LIMIT ?";
        let values = vec![int(user_id).into(), int(since_ms).into(), i64::from(limit).into()];
        self.rows(sql, values, |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?))).await
    }

    async fn hidden(
        &self,
        user_id: u64,
        conversation_id: u64,
        from_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<u64>> {
        let sql = "SELECT seq FROM hidden WHERE user_id = ? AND conversation_id = ? AND seq >= ? \
                   ORDER BY seq LIMIT ?";
        let values = vec![
            int(user_id).into(),
            int(conversation_id).into(),
            int(from_seq).into(),
            i64::from(limit).into(),
        ];
        self.rows(sql, values, |row| number(row, 0)).await
    }

    async fn hiders(&self, conversation_id: u64, seq: u64, limit: u32) -> StoreResult<Vec<u64>> {
        let sql = "SELECT user_id FROM hidden WHERE conversation_id = ? AND seq = ? LIMIT ?";
        let values = vec![int(conversation_id).into(), int(seq).into(), i64::from(limit).into()];
        self.rows(sql, values, |row| number(row, 0)).await
    }

    async fn hidden_among(&self, user_id: u64, messages: &[(u64, u64)]) -> StoreResult<Vec<(u64, u64)>> {
        // By conversation and the range of the messages: users hide little.
        let mut ranges: Vec<(i64, i64, i64)> = Vec::new();
        let mut at: HashMap<u64, usize> = HashMap::new();
        for &(id, seq) in messages {
            let range = *at.entry(id).or_insert_with(|| {
                ranges.push((int(id), int(seq), int(seq)));
                ranges.len() - 1
            });
            let (_, from, to) = &mut ranges[range];
            (*from, *to) = ((*from).min(int(seq)), (*to).max(int(seq)));
        }
        let ranges = &ranges;
        let mut found = self
            .database
            .read_on(|mut reads| async move {
                let mut found = Vec::new();
                for list in padded(ranges) {
                    let sql = HIDDEN.of(list.len(), |keys| {
                        let any = vec!["(conversation_id = ? AND seq BETWEEN ? AND ?)"; keys].join(" OR ");
                        format!("SELECT conversation_id, seq FROM hidden WHERE user_id = ? AND ({any})")
                    });
                    let mut values = vec![int(user_id)];
                    values.extend(list.iter().flat_map(|(id, from, to)| [*id, *from, *to]));
                    let key = |row: &dyn Columns| Ok((uint(row.int(0)?), uint(row.int(1)?)));
                    found.extend(reads.rows(sql, &values, key).await?);
                }
                Ok((reads, found))
            })
            .await?;
        if !found.is_empty() {
            let asked: HashSet<&(u64, u64)> = messages.iter().collect();
            found.retain(|key| asked.contains(key));
        }
        Ok(found)
    }

    async fn pin(&self, pin: PinRecord) -> StoreResult<bool> {
        let sql = format!(
            "{} pins (conversation_id, seq, user_id, pinned_at_ms) VALUES (?, ?, ?, ?)",
            self.insert_new()
        );
        let values = [pin.conversation_id, pin.seq, pin.user_id, pin.pinned_at_ms];
        Ok(self.execute(&sql, values.map(|value| int(value).into()).into()).await? > 0)
    }

    async fn unpin(&self, conversation_id: u64, seq: u64) -> StoreResult<bool> {
        let sql = "DELETE FROM pins WHERE conversation_id = ? AND seq = ?";
        Ok(self.execute(sql, vec![int(conversation_id).into(), int(seq).into()]).await? > 0)
    }

    async fn pins(&self, conversation_id: u64) -> StoreResult<Vec<PinRecord>> {
        let sql = "SELECT conversation_id, seq, user_id, pinned_at_ms FROM pins \
                   WHERE conversation_id = ? ORDER BY seq";
        let pin = |row: &QueryResult| {
            Ok(PinRecord {
                conversation_id: number(row, 0)?,
                seq: number(row, 1)?,
                user_id: number(row, 2)?,
                pinned_at_ms: number(row, 3)?,
            })
        };
        self.rows(sql, vec![int(conversation_id).into()], pin).await
    }

    async fn schedule(&self, record: ScheduledRecord) -> StoreResult<ScheduledRecord> {
        let sql = format!(
            "{} scheduled (user_id, conversation_id, client_id, send_at_ms, body, failed, failure, claimed) \
             VALUES (?, ?, ?, ?, ?, ?, '', ?)",
            self.insert_new()
        );
        let body = serde_json::to_string(&record.send).expect("a send is plain data");
        let (user_id, id) = (int(record.user_id), int(record.send.conversation_id));
        let client_id = record.send.client_id.as_bytes().to_vec();
        let values = vec![
            user_id.into(),
            id.into(),
            client_id.clone().into(),
            int(record.send_at_ms).into(),
            body.into(),
            false.into(),
            false.into(),
        ];
        self.execute(&sql, values).await?;
        let sql = format!("{SCHEDULED} WHERE user_id = ? AND conversation_id = ? AND client_id = ?");
        let kept = self.rows(&sql, vec![user_id.into(), id.into(), client_id.into()], scheduled).await?;
        // It may have been sent or taken out since.
        Ok(kept.into_iter().next().unwrap_or(record))
    }

    async fn scheduled(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ScheduledRecord>> {
        let sql = format!("{SCHEDULED} WHERE user_id = ? AND id > ? AND claimed = ? ORDER BY id LIMIT ?");
        let values = vec![int(user_id).into(), int(after_id).into(), false.into(), i64::from(limit).into()];
        self.rows(&sql, values, scheduled).await
    }

    async fn due(&self, now_ms: u64, after: (u64, u64), limit: u32) -> StoreResult<Vec<ScheduledRecord>> {
        let sql = format!(
            "{SCHEDULED} WHERE failed = ? AND send_at_ms <= ? \
             AND (send_at_ms > ? OR (send_at_ms = ? AND id > ?)) ORDER BY send_at_ms, id LIMIT ?"
        );
        let values = vec![
            false.into(),
            int(now_ms).into(),
            int(after.0).into(),
            int(after.0).into(),
            int(after.1).into(),
            i64::from(limit).into(),
        ];
        self.rows(&sql, values, scheduled).await
    }

    async fn unschedule(&self, user_id: u64, id: u64) -> StoreResult<bool> {
        let sql = "DELETE FROM scheduled WHERE user_id = ? AND id = ? AND claimed = ?";
        Ok(self.execute(sql, vec![int(user_id).into(), int(id).into(), false.into()]).await? > 0)
    }

    async fn claim(&self, id: u64) -> StoreResult<bool> {
        let sql = "UPDATE scheduled SET claimed = ? WHERE id = ? AND failed = ? AND claimed = ?";
        Ok(self.execute(sql, vec![true.into(), int(id).into(), false.into(), false.into()]).await? > 0)
    }

    async fn put_off(&self, id: u64, send_at_ms: u64, claimed: bool) -> StoreResult<()> {
        let sql = "UPDATE scheduled SET send_at_ms = ?, claimed = ? WHERE id = ?";
        self.execute(sql, vec![int(send_at_ms).into(), claimed.into(), int(id).into()]).await.map(drop)
    }

    async fn finish(&self, id: u64) -> StoreResult<()> {
        self.execute("DELETE FROM scheduled WHERE id = ?", vec![int(id).into()]).await.map(drop)
    }

    async fn note_failure(&self, id: u64, failure: &str) -> StoreResult<()> {
        let sql = "UPDATE scheduled SET failed = ?, failure = ?, claimed = ? WHERE id = ?";
        self.execute(sql, vec![true.into(), failure.into(), false.into(), int(id).into()]).await.map(drop)
    }

    async fn expired(
        &self,
        now_ms: u64,
        after: (u64, u64, u64),
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>> {
        let sql = "SELECT expires_at_ms, conversation_id, seq FROM expiries \
                   WHERE expires_at_ms BETWEEN ? AND ? \
                   AND (expires_at_ms > ? OR conversation_id > ? OR (conversation_id = ? AND seq > ?)) \
                   ORDER BY expires_at_ms, conversation_id, seq LIMIT ?";
        let (at_ms, id, seq) = (int(after.0), int(after.1), int(after.2));
        let values = [at_ms, int(now_ms), at_ms, id, id, seq, i64::from(limit)];
        let values = values.map(Value::from).into();
        self.rows(sql, values, |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?))).await
    }

    async fn forget_expiry(&self, conversation_id: u64, seq: u64) -> StoreResult<()> {
        let sql = "DELETE FROM expiries WHERE conversation_id = ? AND seq = ?";
        self.execute(sql, vec![int(conversation_id).into(), int(seq).into()]).await.map(drop)
    }
}
