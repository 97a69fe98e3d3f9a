//! The reading of a log, as sync and history do it: prepared statements that go to the driver, and columns by their
//! place.
//!
//! By SeaORM's entities each call builds its statement anew, and each row looks up its eleven columns by name; a device
//! that fetches its backlog pays for that with every message.

use sea_orm::sqlx::{self, ColumnIndex, Database, Decode, Row, Type};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr};

use super::entity::message::Model;

/// With the conversation, the last seq before those wanted, and how many.
const AFTER: &str = "SELECT seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, emoji, extra, \
                     created_at_ms FROM messages WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?";
/// With the conversation, the first seq, the first seq behind those wanted, and how many.
const BEFORE: &str = "SELECT seq, sender_id, client_id, kind, text, reply_to_seq, target_seq, emoji, extra, \
                      created_at_ms FROM messages WHERE conversation_id = ? AND seq >= ? AND seq < ? \
                      ORDER BY seq DESC LIMIT ?";

/// Rows with `after_seq < seq`, oldest first.
pub async fn after(
    db: &DatabaseConnection,
    conversation_id: i64,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<Model>, DbErr> {
    read(db, AFTER, conversation_id, &[after_seq, i64::from(limit)]).await
}

/// The newest rows with `first_seq <= seq < before_seq`, oldest first.
pub async fn before(
    db: &DatabaseConnection,
    conversation_id: i64,
    before_seq: i64,
    first_seq: i64,
    limit: u32,
) -> Result<Vec<Model>, DbErr> {
    let mut rows = read(db, BEFORE, conversation_id, &[first_seq, before_seq, i64::from(limit)]).await?;
    rows.reverse();
    Ok(rows)
}

/// The same for either driver: their types have no common ground that is shorter.
macro_rules! fetch {
    ($pool:expr, $sql:expr, $conversation_id:expr, $values:expr) => {{
        let mut connection = Box::pin($pool.acquire()).await.map_err(not_reached)?;
        let mut query = sqlx::query($sql).bind($conversation_id);
        for value in $values {
            query = query.bind(*value);
        }
        let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
        rows.iter().map(|row| model($conversation_id, row)).collect::<Result<Vec<Model>, _>>().map_err(failed)
    }};
}

async fn read(
    db: &DatabaseConnection,
    sql: &'static str,
    conversation_id: i64,
    values: &[i64],
) -> Result<Vec<Model>, DbErr> {
    match db.get_database_backend() {
        DbBackend::Sqlite => fetch!(db.get_sqlite_connection_pool(), sql, conversation_id, values),
        _ => fetch!(db.get_mysql_connection_pool(), sql, conversation_id, values),
    }
}

fn model<'r, R: Row>(conversation_id: i64, row: &'r R) -> Result<Model, sqlx::Error>
where
    usize: ColumnIndex<R>,
    R::Database: Database,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    i16: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Model {
        conversation_id,
        seq: row.try_get(0)?,
        sender_id: row.try_get(1)?,
        client_id: row.try_get(2)?,
        kind: row.try_get(3)?,
        text: row.try_get(4)?,
        reply_to_seq: row.try_get(5)?,
        target_seq: row.try_get(6)?,
        emoji: row.try_get(7)?,
        extra: row.try_get(8)?,
        created_at_ms: row.try_get(9)?,
    })
}

fn not_reached(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}
