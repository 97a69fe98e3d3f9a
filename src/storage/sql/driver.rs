//! Reads that go to the driver: prepared statements whose values are numbers, and columns by their place.
//!
//! By SeaORM's entities each call builds its statement anew, and each row looks up its columns by name; a device that
//! comes back pays for that with every conversation and every message. What a statement costs in the driver is also its
//! columns, which are described anew in each answer: those are read that are needed.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use sea_orm::sqlx::mysql::MySqlRow;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::sqlite::SqliteRow;
use sea_orm::sqlx::{self, AssertSqlSafe, MySql, Row as _, SqlSafeStr, Sqlite};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr};
use tokio::time::{Duration, Instant};

use super::ladder::STATEMENT_KEYS;

/// A kept connection that was idle for longer goes back to the pool, which tries it before use.
const TRUSTED_IDLE: Duration = Duration::from_millis(250);

/// Connections to MySQL that one kind of request keeps between its uses, past the pool, which copies some 36 KiB of futures
/// each time that it gives one out and takes it back; the newest is taken first. Of SQLite none are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    connections: Arc<Mutex<Vec<Idle>>>,
    max: usize,
}

/// A connection, and since when it is idle.
type Idle = (PoolConnection<MySql>, Instant);

impl Kept {
    /// Keeps a quarter of the pool's connections at most: the rest is for other requests.
    pub fn of_pool(connections_max: u32) -> Self {
        Self { connections: Arc::default(), max: connections_max as usize / 4 }
    }

    /// Gives all of them back to their pool.
    pub fn clear(&self) {
        self.connections.lock().clear();
    }

    /// Keeps a connection on which no answer is due.
    pub fn put(&self, connection: PoolConnection<MySql>) {
        let mut kept = self.connections.lock();
        if kept.len() < self.max {
            kept.push((connection, Instant::now()));
        }
    }

    /// One of them, or one of the pool's.
    pub async fn take(&self, pool: &sqlx::MySqlPool) -> Result<PoolConnection<MySql>, DbErr> {
        let kept = self.connections.lock().pop();
        match kept {
            Some((connection, since)) if since.elapsed() < TRUSTED_IDLE => Ok(connection),
            // Dropping it gives it back.
            _ => Box::pin(pool.acquire()).await.map_err(not_reached),
        }
    }
}

/// A connection for some reads, one after the other. One that is dropped instead of [`Reads::end`]ed goes back to its
/// pool, which sees to the answer that is still due.
pub struct Reads {
    connection: Connection,
    kept: Kept,
}

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    MySql(PoolConnection<MySql>),
}

impl Reads {
    /// On a connection of the reading pool.
    pub async fn begin(db: &DatabaseConnection, kept: Kept) -> Result<Self, DbErr> {
        let connection = match db.get_database_backend() {
            DbBackend::Sqlite => {
                let acquired = Box::pin(db.get_sqlite_connection_pool().acquire()).await;
                Connection::Sqlite(acquired.map_err(not_reached)?)
            }
            _ => Connection::MySql(kept.take(db.get_mysql_connection_pool()).await?),
        };
        Ok(Self { connection, kept })
    }

    /// Leaves the connection to those who come next.
    pub fn end(self) {
        if let Connection::MySql(connection) = self.connection {
            self.kept.put(connection);
        }
    }

    /// The rows of a statement with these values, each read by `read`.
    pub async fn rows<T>(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[i64],
        read: impl FnMut(&dyn Columns) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, DbErr> {
        /// The same for either driver: their types have no common ground that is shorter.
        macro_rules! fetch {
            ($connection:expr, $read:ident) => {{
                let mut query = sqlx::query(sql);
                for value in values {
                    query = query.bind(*value);
                }
                let rows = query.fetch_all(&mut **$connection).await.map_err(failed)?;
                let mut read = $read;
                rows.iter().map(|row| read(row)).collect::<Result<Vec<T>, _>>().map_err(failed)
            }};
        }
        match &mut self.connection {
            Connection::Sqlite(connection) => fetch!(connection, read),
            Connection::MySql(connection) => fetch!(connection, read),
        }
    }
}

/// The columns of a row, by their place.
pub trait Columns {
    /// An id, seq, time or count.
    fn int(&self, at: usize) -> Result<i64, sqlx::Error>;
    /// The same, or null.
    fn maybe_int(&self, at: usize) -> Result<Option<i64>, sqlx::Error>;
    /// The number of an enum's value.
    fn word(&self, at: usize) -> Result<i16, sqlx::Error>;
    /// Yes or no.
    fn flag(&self, at: usize) -> Result<bool, sqlx::Error>;
    /// A text.
    fn text(&self, at: usize) -> Result<String, sqlx::Error>;
    /// The same, or null.
    fn maybe_text(&self, at: usize) -> Result<Option<String>, sqlx::Error>;
    /// Bytes, or null.
    fn maybe_bytes(&self, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

macro_rules! columns_of {
    ($row:ty) => {
        impl Columns for $row {
            fn int(&self, at: usize) -> Result<i64, sqlx::Error> {
                self.try_get(at)
            }
            fn maybe_int(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
                self.try_get(at)
            }
            fn word(&self, at: usize) -> Result<i16, sqlx::Error> {
                self.try_get(at)
            }
            fn flag(&self, at: usize) -> Result<bool, sqlx::Error> {
                self.try_get(at)
            }
            fn text(&self, at: usize) -> Result<String, sqlx::Error> {
                self.try_get(at)
            }
            fn maybe_text(&self, at: usize) -> Result<Option<String>, sqlx::Error> {
                self.try_get(at)
            }
            fn maybe_bytes(&self, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
                self.try_get(at)
            }
        }
    };
}

columns_of!(MySqlRow);
columns_of!(SqliteRow);

/// The texts of a statement for each number of keys, made once: a prepared statement is found by its text.
pub struct Texts {
    texts: [OnceLock<Arc<str>>; STATEMENT_KEYS + 1],
}

impl Texts {
    /// None yet.
    pub const fn new() -> Self {
        Self { texts: [const { OnceLock::new() }; STATEMENT_KEYS + 1] }
    }

    /// The text for so many keys, always made by the same `make`.
    pub fn of(&self, keys: usize, make: impl FnOnce(usize) -> String) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(match self.texts.get(keys) {
            Some(text) => Arc::clone(text.get_or_init(|| make(keys).into())),
            None => make(keys).into(),
        })
    }
}

/// A connection could not be had.
pub fn not_reached(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}
