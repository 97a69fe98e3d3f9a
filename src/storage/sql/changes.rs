//! What edits, recalls and reactions do to the messages that they name: statements of the transaction that stores them,
//! so that a message's row is its current state whatever crashes; and the reactions of a page of messages.
//!
//! The rules are those of [`crate::domain::changes::apply`]. A row whose `extra` is [`ERASED`] was taken back and stays so.

use std::collections::HashMap;

use sea_orm::sqlx::{self, MySqlConnection, SqliteConnection};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr, Statement, Value};

use super::convert::{ERASED, int, uint};
use super::ladder::padded;
use crate::domain::changes::is_change;
use crate::domain::limits::REACTORS_SHOWN;
use crate::protocol::MessageKind;
use crate::protocol::v1::{Message, Reaction};

const NOTE_EDIT: &str = "INSERT INTO edits (conversation_id, target_seq, seq) VALUES (?, ?, ?)";
const EDIT: &str = "UPDATE messages SET text = ?, \
     extra = JSON_SET(COALESCE(extra, '{}'), '$.edited_at_ms', ?) \
     WHERE conversation_id = ? AND seq = ? AND (extra IS NULL OR extra <> ?)";
const EMPTY: &str = "UPDATE messages SET text = '', extra = ? WHERE conversation_id = ? AND seq = ?";
/// Their entries are emptied one by one: by `IN (SELECT …)`, MariaDB before 11.1 and MySQL before 8.0.21 would go through the
/// whole conversation, and lock it.
const EDITS_OF: &str = "SELECT seq FROM edits WHERE conversation_id = ? AND target_seq = ?";
const EMPTY_EDIT: &str = "UPDATE messages SET text = '' WHERE conversation_id = ? AND seq = ?";
const NOTE_EXPIRY: &str = "INSERT INTO expiries (conversation_id, seq, expires_at_ms) VALUES (?, ?, ?)";
const FORGET_EXPIRY: &str = "DELETE FROM expiries WHERE conversation_id = ? AND seq = ?";
const UNPIN: &str = "DELETE FROM pins WHERE conversation_id = ? AND seq = ?";
const TAKE_ALL_OFF: &str = "DELETE FROM reactions WHERE conversation_id = ? AND target_seq = ?";
/// A `system` message says what its group had to say under this name.
const SAID: &str = "DELETE FROM sayings WHERE conversation_id = ? AND client_id = ?";
const MARK_REACTED: &str = "UPDATE messages SET extra = JSON_SET(COALESCE(extra, '{}'), '$.reacted', 1) \
     WHERE conversation_id = ? AND seq = ? AND (extra IS NULL OR extra <> ?)";
/// Nothing is put on a message that was taken back, and what is there stays as it was. A look at whether it is there, in
/// the same statement, would lock the gap in which it would be: two that both look into one gap, for neighbouring
/// messages or conversations, would wait for each other.
macro_rules! put_on {
    ($insert:literal) => {
        concat!(
            $insert,
            " INTO reactions (conversation_id, target_seq, emoji, user_id, seq) \
             SELECT conversation_id, seq, ?, ?, ? FROM messages \
             WHERE conversation_id = ? AND seq = ? AND (extra IS NULL OR extra <> ?)"
        )
    };
}
const TAKE_OFF: &str =
    "DELETE FROM reactions WHERE conversation_id = ? AND target_seq = ? AND emoji = ? AND user_id = ?";

/// The same for either driver: their types have no common ground that is shorter.
macro_rules! apply {
    ($connection:expr, $entry:expr, $insert:literal) => {{
        let (connection, entry): (_, &Message) = ($connection, $entry);
        let (id, target) = (int(entry.conversation_id), int(entry.target_seq));
        let (seq, by, emoji) = (int(entry.seq), int(entry.sender_id), entry.emoji.as_bytes());
        match entry.kind() {
            MessageKind::Edit => {
                sqlx::query(NOTE_EDIT).bind(id).bind(target).bind(seq).execute(&mut *connection).await?;
                sqlx::query(EDIT)
                    .bind(entry.text.as_str())
                    .bind(int(entry.created_at_ms))
                    .bind(id)
                    .bind(target)
                    .bind(ERASED)
                    .execute(&mut *connection)
                    .await?;
            }
            MessageKind::Recall => {
                let emptied = sqlx::query(EMPTY).bind(ERASED).bind(id).bind(target);
                emptied.execute(&mut *connection).await?;
                let edits = sqlx::query_scalar::<_, i64>(EDITS_OF).bind(id).bind(target);
                for edit in edits.fetch_all(&mut *connection).await? {
                    sqlx::query(EMPTY_EDIT).bind(id).bind(edit).execute(&mut *connection).await?;
                }
                for clean_up in [TAKE_ALL_OFF, UNPIN, FORGET_EXPIRY] {
                    sqlx::query(clean_up).bind(id).bind(target).execute(&mut *connection).await?;
                }
            }
            MessageKind::Reaction if entry.recalled => {
                let off = sqlx::query(TAKE_OFF).bind(id).bind(target).bind(emoji).bind(by);
                off.execute(&mut *connection).await?;
            }
            MessageKind::Reaction => {
                let mark = sqlx::query(MARK_REACTED).bind(id).bind(target).bind(ERASED);
                mark.execute(&mut *connection).await?;
                sqlx::query(put_on!($insert))
                    .bind(emoji)
                    .bind(by)
                    .bind(seq)
                    .bind(id)
                    .bind(target)
                    .bind(ERASED)
                    .execute(&mut *connection)
                    .await?;
            }
            MessageKind::System => {
                let said = sqlx::query(SAID).bind(id).bind(entry.client_id.as_bytes());
                said.execute(&mut *connection).await?;
            }
            _ => {
                if let Some(at_ms) = expiry(entry) {
                    let note = sqlx::query(NOTE_EXPIRY).bind(id).bind(seq).bind(int(at_ms));
                    note.execute(&mut *connection).await?;
                }
            }
        }
    }};
}

/// Whether storing these changes more than the log's end.
pub fn any(runs: &[&[Message]]) -> bool {
    runs.iter().any(|run| run.iter().any(says_more))
}

/// When a message expires, if it does.
fn expiry(message: &Message) -> Option<u64> {
    message.marks.as_ref().map(|marks| marks.expires_at_ms).filter(|at_ms| *at_ms != 0)
}

/// Whether it may be what a group had to say.
fn is_said(message: &Message) -> bool {
    message.kind() == MessageKind::System
}

/// Whether there is more to store of it than its own row.
fn says_more(message: &Message) -> bool {
    is_change(message) || is_said(message) || expiry(message).is_some()
}

fn changes_of<'a>(runs: &[&'a [Message]]) -> Vec<&'a Message> {
    runs.iter().flat_map(|run| run.iter()).filter(|entry| says_more(entry)).collect()
}

/// Applies those of the entries that are changes, in their order, after they were inserted.
pub async fn apply_sqlite(connection: &mut SqliteConnection, runs: &[&[Message]]) -> Result<(), sqlx::Error> {
    for entry in changes_of(runs) {
        apply!(&mut *connection, entry, "INSERT OR IGNORE");
    }
    Ok(())
}

/// The same with MySQL.
pub async fn apply_mysql(connection: &mut MySqlConnection, runs: &[&[Message]]) -> Result<(), sqlx::Error> {
    for entry in changes_of(runs) {
        apply!(&mut *connection, entry, "INSERT IGNORE");
    }
    Ok(())
}

/// Gives messages of one conversation their reactions: `reacted` are the seqs of those that may have any.
pub async fn add_reactions(
    db: &DatabaseConnection,
    messages: &mut [Message],
    reacted: &[i64],
) -> Result<(), DbErr> {
    let Some(conversation_id) = messages.first().map(|message| int(message.conversation_id)) else {
        return Ok(());
    };
    let mut found: HashMap<u64, Vec<Reaction>> = HashMap::new();
    for list in padded(reacted) {
        let marks = vec!["?"; list.len()].join(",");
        // The first users of each emoji, and the emoji in the order in which they came.
        let sql = format!(
            "SELECT target_seq, emoji, user_id, total FROM (SELECT target_seq, emoji, user_id, seq, \
             ROW_NUMBER() OVER (PARTITION BY target_seq, emoji ORDER BY seq) AS place, \
             COUNT(*) OVER (PARTITION BY target_seq, emoji) AS total, \
             MIN(seq) OVER (PARTITION BY target_seq, emoji) AS began \
             FROM reactions WHERE conversation_id = ? AND target_seq IN ({marks})) AS placed \
             WHERE place <= {REACTORS_SHOWN} ORDER BY target_seq, began, place"
        );
        let values = std::iter::once(conversation_id).chain(list).map(Value::from);
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        for row in db.query_all_raw(statement).await? {
            let target: i64 = row.try_get_by_index(0)?;
            let emoji: Vec<u8> = row.try_get_by_index(1)?;
            let (user_id, total): (i64, i64) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            let emoji =
                String::from_utf8(emoji).map_err(|_| DbErr::Type("an emoji is not UTF-8".to_owned()))?;
            let reactions = found.entry(uint(target)).or_default();
            match reactions.last_mut() {
                Some(last) if last.emoji == emoji => last.user_ids.push(uint(user_id)),
                _ => reactions.push(Reaction { emoji, user_ids: vec![uint(user_id)], count: uint(total) }),
            }
        }
    }
    for message in messages {
        if let Some(reactions) = found.remove(&message.seq) {
            message.reactions = reactions;
        }
    }
    Ok(())
}
