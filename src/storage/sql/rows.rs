//! The reading of logs, as sync and history do it.

use std::collections::HashMap;

use sea_orm::DbErr;
use sea_orm::sqlx;

use super::driver::{Columns, Reads, Texts};
use super::entity::message::Model;
use super::ladder::padded;

/// A message's columns beside its conversation, in the order of [`message`].
pub const COLUMNS: [&str; 10] = [
    "seq",
    "sender_id",
    "client_id",
    "kind",
    "text",
    "reply_to_seq",
    "target_seq",
    "emoji",
    "extra",
    "created_at_ms",
];
/// With the conversation, the last seq before those wanted, and how many.
const AFTER: &str = "SELECT seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, emoji, extra, \
                     created_at_ms FROM messages WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?";
/// With the conversation, the first seq, the first seq behind those wanted, and how many.
const BEFORE: &str = "SELECT seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, emoji, extra, \
                      created_at_ms FROM messages WHERE conversation_id = ? AND seq >= ? AND seq < ? \
                      ORDER BY seq DESC LIMIT ?";
/// With the conversations. The key's last entry for each: a look-up, however long the log is.
static NEWEST: Texts = Texts::new();
/// With conversation, last seq before those wanted, and last seq of those wanted, for each.
static RANGES: Texts = Texts::new();

/// Rows with `after_seq < seq`, oldest first.
pub async fn after(
    reads: &mut Reads,
    conversation_id: i64,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<Model>, DbErr> {
    let values = [conversation_id, after_seq, i64::from(limit)];
    reads.rows(AFTER, &values, |row| message(conversation_id, row, 0)).await
}

/// The newest rows with `first_seq <= seq < before_seq`, oldest first.
pub async fn before(
    reads: &mut Reads,
    conversation_id: i64,
    before_seq: i64,
    first_seq: i64,
    limit: u32,
) -> Result<Vec<Model>, DbErr> {
    let values = [conversation_id, first_seq, before_seq, i64::from(limit)];
    let mut rows = reads.rows(BEFORE, &values, |row| message(conversation_id, row, 0)).await?;
    rows.reverse();
    Ok(rows)
}

/// The rows behind these places, (conversation, seq), each conversation's oldest first, `limit` in all at most. Many
/// conversations are read in one statement as long as what there is in them fits; one with more has a statement of its own.
pub async fn tails(reads: &mut Reads, places: &[(i64, i64)], limit: u32) -> Result<Vec<Model>, DbErr> {
    if let [(conversation_id, seq)] = places {
        return after(reads, *conversation_id, *seq, limit).await;
    }
    let newest = newest(reads, places).await?;
    let behind = |(id, seq): &(i64, i64)| newest.get(id).map_or(0, |newest| newest - seq).max(0);
    let mut waiting = places.iter().copied().filter(|place| behind(place) > 0).peekable();
    let mut rows = Vec::new();
    while let Some(first) = waiting.peek().copied() {
        let left = i64::from(limit) - rows.len() as i64;
        if left <= 0 {
            break;
        }
        let mut together = Vec::new();
        let mut count = 0;
        while let Some(place) = waiting.next_if(|place| count + behind(place) <= left) {
            count += behind(&place);
            together.push((place.0, place.1, place.1 + behind(&place)));
        }
        if together.is_empty() {
            waiting.next();
            rows.extend(after(reads, first.0, first.1, left as u32).await?);
        } else {
            rows.extend(ranges(reads, &together).await?);
        }
    }
    Ok(rows)
}

/// The newest seq of each of the conversations that have any.
async fn newest(reads: &mut Reads, places: &[(i64, i64)]) -> Result<HashMap<i64, i64>, DbErr> {
    let mut found = HashMap::new();
    for list in padded(places) {
        let sql = NEWEST.of(list.len(), |keys| {
            let select = |at| {
                format!(
                    "SELECT * FROM (SELECT conversation_id, seq FROM messages WHERE conversation_id = ? \
                     ORDER BY conversation_id DESC, seq DESC LIMIT 1) AS n{at}"
                )
            };
            (0..keys).map(select).collect::<Vec<_>>().join(" UNION ALL ")
        });
        let ids: Vec<i64> = list.iter().map(|(id, _)| *id).collect();
        found.extend(reads.rows(sql, &ids, |row| Ok((row.int(0)?, row.int(1)?))).await?);
    }
    Ok(found)
}

/// The rows of these conversations with `after_seq < seq <= last_seq`, in the order given.
async fn ranges(reads: &mut Reads, ranges: &[(i64, i64, i64)]) -> Result<Vec<Model>, DbErr> {
    let mut rows = Vec::new();
    for list in padded(ranges) {
        let sql = RANGES.of(list.len(), |keys| {
            let any = vec!["(conversation_id = ? AND seq > ? AND seq <= ?)"; keys].join(" OR ");
            format!("SELECT {}, conversation_id FROM messages WHERE {any}", COLUMNS.join(", "))
        });
        let values: Vec<i64> = list.iter().flat_map(|(id, after, last)| [*id, *after, *last]).collect();
        rows.extend(reads.rows(sql, &values, |row| message(row.int(COLUMNS.len())?, row, 0)).await?);
    }
    let places: HashMap<i64, usize> = ranges.iter().enumerate().map(|(at, (id, ..))| (*id, at)).collect();
    rows.sort_unstable_by_key(|row| (places.get(&row.conversation_id).copied(), row.seq));
    Ok(rows)
}

/// A message whose [`COLUMNS`] begin at `from`.
pub fn message(conversation_id: i64, row: &dyn Columns, from: usize) -> Result<Model, sqlx::Error> {
    Ok(Model {
        conversation_id,
        seq: row.int(from)?,
        sender_id: row.int(from + 1)?,
        client_id: row.maybe_bytes(from + 2)?,
        kind: row.word(from + 3)?,
        text: row.text(from + 4)?,
        reply_to_seq: row.int(from + 5)?,
        target_seq: row.int(from + 6)?,
        emoji: row.text(from + 7)?,
        extra: row.maybe_text(from + 8)?,
        created_at_ms: row.int(from + 9)?,
    })
}
