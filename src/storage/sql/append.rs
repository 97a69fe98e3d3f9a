//! The append of messages: a prepared multi-row INSERT, on connections that stay with the writers.
//!
//! This is the statement that every message pays for, so it goes to the driver without SeaORM's entities and without
//! the pool: by those a row cost 25,000 instructions (columns, values and strings made and dropped for each row, and
//! some 36 KiB of futures copied for each connection taken and given back), by this a tenth.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use sea_orm::sqlx::{
    self, Arguments, AssertSqlSafe, Connection as _, Database, Encode, MySqlConnection, SqliteConnection,
    Type,
};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr};

use super::changes;
use super::convert::{extra_json, int};
use super::driver::{Kept, not_reached};
use super::ladder::STATEMENT_ROWS;
use crate::protocol::v1::Message;

/// What a row weighs beside its texts, roughly, in bytes.
const ROW_BYTES: usize = 256;
const COLUMNS: &str = "INSERT INTO `messages` (`conversation_id`, `seq`, `sender_id`, `client_id`, `kind`, `text`, \
                       `reply_to_seq`, `target_seq`, `emoji`, `extra`, `created_at_ms`) VALUES ";
const ROW: &str = "(?,?,?,?,?,?,?,?,?,?,?)";
/// Parameters of a row.
const ROW_PARAMETERS: usize = 11;

/// The bytes of a row, roughly.
pub fn bytes(message: &Message) -> usize {
    let attachments = message.attachments.iter().map(|file| ROW_BYTES + file.name.len() + file.mime.len());
    ROW_BYTES + message.text.len() + attachments.sum::<usize>() + 20 * message.mentions.len()
}

/// Appends runs of messages, each as long as a rung of the ladder: all or none. `sent` is set before anything is sent
/// that may commit.
pub async fn append(
    write: &DatabaseConnection,
    kept: &Kept,
    sent: &AtomicBool,
    runs: &[&[Message]],
) -> Result<(), DbErr> {
    if write.get_database_backend() == DbBackend::Sqlite {
        let mut connection =
            Box::pin(write.get_sqlite_connection_pool().acquire()).await.map_err(not_reached)?;
        return sqlite(&mut connection, sent, runs).await.map_err(failed);
    }
    // Until it is put back it belongs to this future: one that is given up returns it to the pool, which sees to the
    // answer that is still due.
    let mut connection = kept.take(write.get_mysql_connection_pool()).await?;
    mysql(&mut connection, sent, runs).await.map_err(failed)?;
    kept.put(connection);
    Ok(())
}

async fn mysql(
    connection: &mut MySqlConnection,
    sent: &AtomicBool,
    runs: &[&[Message]],
) -> Result<(), sqlx::Error> {
    // A single statement is a transaction by itself, without the round trips of BEGIN and COMMIT.
    let changes = changes::any(runs);
    if let ([run], false) = (runs, changes) {
        sent.store(true, Ordering::Release);
        return insert_mysql(connection, run).await;
    }
    let mut transaction = connection.begin().await?;
    for run in runs {
        insert_mysql(&mut transaction, run).await?;
    }
    if changes {
        changes::apply_mysql(&mut transaction, runs).await?;
    }
    sent.store(true, Ordering::Release);
    transaction.commit().await
}

async fn sqlite(
    connection: &mut SqliteConnection,
    sent: &AtomicBool,
    runs: &[&[Message]],
) -> Result<(), sqlx::Error> {
    let changes = changes::any(runs);
    if let ([run], false) = (runs, changes) {
        sent.store(true, Ordering::Release);
        return insert_sqlite(connection, run).await;
    }
    // Takes the write lock here, so that nothing later fails for want of it.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for run in runs {
        insert_sqlite(&mut transaction, run).await?;
    }
    if changes {
        changes::apply_sqlite(&mut transaction, runs).await?;
    }
    sent.store(true, Ordering::Release);
    transaction.commit().await
}

async fn insert_mysql(connection: &mut MySqlConnection, run: &[Message]) -> Result<(), sqlx::Error> {
    let arguments: sqlx::mysql::MySqlArguments = arguments(run)?;
    let statement = sqlx::query_with(AssertSqlSafe(statement(run.len())), arguments);
    statement.execute(connection).await.map(|_| ())
}

async fn insert_sqlite(connection: &mut SqliteConnection, run: &[Message]) -> Result<(), sqlx::Error> {
    let arguments: sqlx::sqlite::SqliteArguments = arguments(run)?;
    let statement = sqlx::query_with(AssertSqlSafe(statement(run.len())), arguments);
    statement.execute(connection).await.map(|_| ())
}

/// The statement for so many rows, the same text each time.
fn statement(rows: usize) -> Arc<str> {
    static STATEMENTS: [OnceLock<Arc<str>>; STATEMENT_ROWS + 1] =
        [const { OnceLock::new() }; STATEMENT_ROWS + 1];
    let make = || (COLUMNS.to_owned() + &vec![ROW; rows].join(",")).into();
    STATEMENTS.get(rows).map_or_else(make, |statement| Arc::clone(statement.get_or_init(make)))
}

/// The rows' values in the statement's order. What later entries make of a message (`changes`) is not part.
fn arguments<A: Arguments>(run: &[Message]) -> Result<A, sqlx::Error>
where
    i16: for<'q> Encode<'q, A::Database> + Type<A::Database>,
    i64: for<'q> Encode<'q, A::Database> + Type<A::Database>,
    for<'q> &'q str: Encode<'q, A::Database> + Type<A::Database>,
    for<'q> Option<&'q [u8]>: Encode<'q, A::Database> + Type<A::Database>,
    for<'q> Option<&'q str>: Encode<'q, A::Database> + Type<A::Database>,
    A::Database: Database,
{
    let mut values = A::default();
    values.reserve(ROW_PARAMETERS * run.len(), run.iter().map(bytes).sum());
    for message in run {
        let extra = extra_json(message);
        let client_id = (!message.client_id.is_empty()).then_some(message.client_id.as_bytes());
        values.add(int(message.conversation_id)).map_err(sqlx::Error::Encode)?;
        values.add(int(message.seq)).map_err(sqlx::Error::Encode)?;
        values.add(int(message.sender_id)).map_err(sqlx::Error::Encode)?;
        values.add(client_id).map_err(sqlx::Error::Encode)?;
        values.add(message.kind as i16).map_err(sqlx::Error::Encode)?;
        values.add(message.text.as_str()).map_err(sqlx::Error::Encode)?;
        values.add(int(message.reply_to_seq)).map_err(sqlx::Error::Encode)?;
        values.add(int(message.target_seq)).map_err(sqlx::Error::Encode)?;
        values.add(message.emoji.as_str()).map_err(sqlx::Error::Encode)?;
        values.add(extra.as_deref()).map_err(sqlx::Error::Encode)?;
        values.add(int(message.created_at_ms)).map_err(sqlx::Error::Encode)?;
    }
    Ok(values)
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}
