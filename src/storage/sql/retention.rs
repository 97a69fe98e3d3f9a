//! [`RetentionStore`]: statements that each touch a bounded number of rows, in an order that lets any of them be the last.
//!
//! First the conversation's `floor_seq` is raised, by which the search index takes in nothing below it any more
//! (`super::search`); then what hangs on the messages goes, then they themselves. While a message is there, the next call
//! finds it and does all of it again.

use async_trait::async_trait;
use sea_orm::{DbBackend, Value};

use super::SqlStores;
use super::convert::{ERASED, int};
use super::ladder::padded;
use super::marks::number;
use crate::storage::retention::{LogEnds, RetentionStore};
use crate::storage::{SearchStore as _, StoreResult};

/// What hangs on messages, by table and the column that names them.
const HANGING: [(&str, &str); 4] =
    [("reactions", "target_seq"), ("hidden", "seq"), ("pins", "seq"), ("expiries", "seq")];

#[async_trait]
impl RetentionStore for SqlStores {
    async fn logs(&self, after_id: u64, ruled: bool, limit: u32) -> StoreResult<Vec<LogEnds>> {
        let of = |column: &str, order: &str| {
            format!(
                "(SELECT {column} FROM messages m WHERE m.conversation_id = c.id ORDER BY m.seq {order} LIMIT 1)"
            )
        };
        let sql = format!(
            "SELECT c.id, c.retention_seconds, COALESCE({}, 0), COALESCE({}, 0), COALESCE({}, 0), COALESCE({}, 0) \
             FROM conversations c WHERE c.id > ? {} ORDER BY c.id LIMIT ?",
            of("m.seq", "ASC"),
            of("m.created_at_ms", "ASC"),
            of("m.seq", "DESC"),
            of("CASE WHEN m.extra = ? THEN 1 ELSE 0 END", "DESC"),
            if ruled { "AND c.retention_seconds > 0" } else { "" },
        );
        let values = vec![ERASED.into(), int(after_id).into(), i64::from(limit).into()];
        self.rows(&sql, values, |row| {
            Ok(LogEnds {
                conversation_id: number(row, 0)?,
                retention_seconds: number(row, 1)?,
                oldest_seq: number(row, 2)?,
                oldest_ms: number(row, 3)?,
                newest_seq: number(row, 4)?,
                newest_is_empty: number(row, 5)? != 0,
            })
        })
        .await
    }

    async fn remove_before(&self, conversation_id: u64, before_seq: u64, most: u32) -> StoreResult<bool> {
        let id = int(conversation_id);
        let sql = "SELECT seq FROM messages WHERE conversation_id = ? ORDER BY seq DESC LIMIT 1";
        let newest = self.rows(sql, vec![id.into()], |row| number(row, 0)).await?;
        let before = before_seq.min(newest.first().copied().unwrap_or(0));
        let sql = "UPDATE conversations SET floor_seq = ? WHERE id = ? AND floor_seq < ?";
        self.execute(sql, vec![int(before).into(), id.into(), int(before).into()]).await?;
        let sql =
            "SELECT seq FROM messages WHERE conversation_id = ? AND seq < ? ORDER BY seq LIMIT 1 OFFSET ?";
        let values: Vec<Value> = vec![id.into(), int(before).into(), i64::from(most).into()];
        let end = self.rows(sql, values, |row| number(row, 0)).await?.first().copied().unwrap_or(before);
        self.forget(conversation_id, 0, 1, end).await?;
        if self.remove_edits(id, int(end), most).await? >= u64::from(most) {
            return Ok(true);
        }
        for (table, column) in HANGING {
            if self.remove_some(table, column, id, int(end), most).await? >= u64::from(most) {
                return Ok(true);
            }
        }
        let sql = "DELETE FROM messages WHERE conversation_id = ? AND seq < ?";
        self.execute(sql, vec![id.into(), int(end).into()]).await?;
        Ok(end < before)
    }

    async fn empty(&self, conversation_id: u64, seq: u64) -> StoreResult<()> {
        let (id, at) = (int(conversation_id), int(seq));
        self.forget(conversation_id, 0, seq, seq.saturating_add(1)).await?;
        for (table, column) in HANGING {
            let sql = format!("DELETE FROM {table} WHERE conversation_id = ? AND {column} = ?");
            self.execute(&sql, vec![id.into(), at.into()]).await?;
        }
        let sql = "UPDATE messages SET text = '', emoji = '', reply_to_seq = 0, extra = ? \
                   WHERE conversation_id = ? AND seq = ?";
        self.execute(sql, vec![ERASED.into(), id.into(), at.into()]).await.map(drop)
    }
}

impl SqlStores {
    /// Forgets which entries edit messages before `end`, and empties the texts of those that stay: they are the messages' own.
    async fn remove_edits(&self, id: i64, end: i64, most: u32) -> StoreResult<u64> {
        let sql = "SELECT target_seq, seq FROM edits WHERE conversation_id = ? AND target_seq < ? \
                   ORDER BY target_seq, seq LIMIT ?";
        let values: Vec<Value> = vec![id.into(), end.into(), i64::from(most).into()];
        let edits = self.rows(sql, values, |row| Ok((number(row, 0)?, number(row, 1)?))).await?;
        for list in padded(&edits) {
            let marks = vec!["?"; list.len()].join(",");
            let sql = format!("UPDATE messages SET text = '' WHERE conversation_id = ? AND seq IN ({marks})");
            let seqs = list.iter().map(|(_, seq)| Value::from(int(*seq)));
            self.execute(&sql, std::iter::once(id.into()).chain(seqs).collect()).await?;
            let any = vec!["(target_seq = ? AND seq = ?)"; list.len()].join(" OR ");
            let sql = format!("DELETE FROM edits WHERE conversation_id = ? AND ({any})");
            let pairs = list.iter().flat_map(|(target, seq)| [int(*target), int(*seq)]).map(Value::from);
            self.execute(&sql, std::iter::once(id.into()).chain(pairs).collect()).await?;
        }
        Ok(edits.len() as u64)
    }

    /// Removes at most so many rows of a table that are about messages before `end`; how many.
    async fn remove_some(&self, table: &str, column: &str, id: i64, end: i64, most: u32) -> StoreResult<u64> {
        let wanted = format!("{table} WHERE conversation_id = ? AND {column} < ?");
        let sql = match self.database.backend() {
            DbBackend::MySql => format!("DELETE FROM {wanted} ORDER BY conversation_id, {column} LIMIT ?"),
            // SQLite is seldom built with a DELETE that has a LIMIT.
            _ => format!("DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {wanted} LIMIT ?)"),
        };
        self.execute(&sql, vec![id.into(), end.into(), i64::from(most).into()]).await
    }
}
