//! Connection pools and the settings of each connection.
//!
//! SQLite: one connection writes, several read. Two writers of one process would only wait for each other in SQLite,
//! which is slower and less fair than to queue for the connection.
//! MySQL: one pool. A connection that was idle is tried before use, within a short time; one that comes back with an
//! answer still due must get it soon or is dropped, so that a database host that vanished can't hold the pool.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, Executor as _};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxMySqlConnector, SqlxSqliteConnector};
use tokio::time::Instant;

use super::away::{Pools, connect};
use super::driver::Kept;
use super::failure::Failure;
use crate::config::StorageConfig;
use crate::storage::{StoreError, StoreResult};

/// A MySQL connection idle for longer is tried before use. A busy pool never pays for it.
const TRUSTED_IDLE: Duration = Duration::from_millis(250);
/// How long that trial, or an answer that is still due, may take.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle MySQL connections are closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause between two tries to connect for the first time.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A MariaDB ends a transaction of ours in which nothing happens for so many seconds. Between our statements lie
/// milliseconds, and a transaction that was ended is begun again.
const IDLE_TRANSACTION_S: u32 = 1;
/// How many seconds a statement waits for a lock. More than a stopped node can hold one, and so few that a send which
/// finds its room waiting for a lock, and then waits for one itself, is still answered in time.
const LOCK_WAIT_S: u64 = 2;
/// Prepared statements kept on a connection: the ladder's sizes of the multi-row statements and all others.
const STATEMENTS_KEPT: usize = 256;
/// How long SQLite itself waits for the write lock before [`super::database`] takes over the waiting.
const SQLITE_LOCK_WAIT: Duration = Duration::from_millis(3);
/// Most SQLite readers; each is a thread.
const SQLITE_READERS_MAX: u32 = 32;

/// Which kind of database a URL names.
pub enum Location {
    /// A file.
    Sqlite(Box<SqliteConnectOptions>),
    /// A server.
    MySql(Box<MySqlConnectOptions>),
}

impl Location {
    /// Reads `storage.url`.
    pub fn of(config: &StorageConfig) -> StoreResult<Self> {
        let unreadable = |error: sqlx::Error| {
            StoreError::Invalid(format!(
                "storage.url can't be read ({error}); write sqlite://PATH or mysql://USER:PASSWORD@HOST:PORT/DATABASE"
            ))
        };
        let url = config.url.as_str();
        if url.starts_with("sqlite:") {
            if url.contains(":memory:") || url.contains("mode=memory") {
                return Err(StoreError::Invalid(
                    "storage.url names an SQLite database in memory, which nothing would outlive; name a file"
                        .to_owned(),
                ));
            }
            let options = SqliteConnectOptions::from_str(url).map_err(unreadable)?;
            return Ok(Self::Sqlite(Box::new(
                options
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(false)
                    .statement_cache_capacity(STATEMENTS_KEPT)
                    .busy_timeout(config.busy_timeout)
                    .disable_statement_logging(),
            )));
        }
        let options = MySqlConnectOptions::from_str(url).map_err(unreadable)?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(StoreError::Invalid(
                "storage.url names no database; write mysql://USER:PASSWORD@HOST:PORT/DATABASE".to_owned(),
            ));
        }
        Ok(Self::MySql(Box::new(
            options.charset("utf8mb4").statement_cache_capacity(STATEMENTS_KEPT).disable_statement_logging(),
        )))
    }

    /// The SQLite file.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(options) => Some(options.get_filename().to_owned()),
            Self::MySql(_) => None,
        }
    }
}

/// The pools, without a connection yet.
pub fn open(config: &StorageConfig) -> StoreResult<Pools> {
    match Location::of(config)? {
        Location::Sqlite(options) => {
            let readers = SqlitePoolOptions::new()
                .max_connections(config.connections_max.clamp(1, SQLITE_READERS_MAX))
                .acquire_timeout(config.acquire_timeout)
                .idle_timeout(IDLE_TIMEOUT)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone().pragma("query_only", "ON"));
            let writer = SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(config.acquire_timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_release(|connection, _| {
                    Box::pin(async move {
                        // What was not committed is being rolled back. A full disk makes SQLite roll back by itself, then
                        // the driver's own fails, and it takes every later transaction for one within another: a
                        // rollback would leave that open, and what is appended after it would never be committed.
                        if connection.is_in_transaction() {
                            connection.ping().await?;
                        }
                        Ok(!connection.is_in_transaction())
                    })
                })
                .connect_lazy_with(options.busy_timeout(SQLITE_LOCK_WAIT));
            Ok(Pools {
                read: SqlxSqliteConnector::from_sqlx_sqlite_pool(readers),
                write: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
                kept: Kept::of_pool(0),
                kept_reads: Kept::of_pool(0),
            })
        }
        Location::MySql(options) => {
            let pool = mysql_pool(config).connect_lazy_with(*options);
            let pool = SqlxMySqlConnector::from_sqlx_mysql_pool(pool);
            Ok(Pools {
                read: pool.clone(),
                write: pool,
                kept: Kept::of_pool(config.connections_max),
                kept_reads: Kept::of_pool(config.connections_max),
            })
        }
    }
}

/// A pool of a single connection that stays the same, for migrations: their lock belongs to it. SQLite's file and
/// its folder are created, and its journal is set to WAL, which the file remembers.
pub async fn open_single(config: &StorageConfig) -> StoreResult<DatabaseConnection> {
    match Location::of(config)? {
        Location::Sqlite(options) => {
            let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(config.acquire_timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_lazy_with(options);
            Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
        }
        Location::MySql(options) => {
            reachable(config, &options).await?;
            let pool = mysql_pool(config).max_connections(1).idle_timeout(None).connect_lazy_with(*options);
            Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
        }
    }
}

/// Creates the folder of a file.
pub fn create_parent(file: &Path) -> StoreResult<()> {
    let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|error| {
        StoreError::Unavailable(format!("the folder {} can't be created: {error}", parent.display()))
    })
}

fn mysql_pool(config: &StorageConfig) -> MySqlPoolOptions {
    let session = session(config);
    MySqlPoolOptions::new()
        .max_connections(config.connections_max.max(1))
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let session = sqlx::AssertSqlSafe(session.clone());
            Box::pin(async move { connection.execute(session).await.map(|_| ()) })
        })
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for >= TRUSTED_IDLE {
                    within_trial(connection.ping()).await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            // Returns at once unless an answer is still due, as after a request that ran out of time.
            Box::pin(async move { within_trial(connection.flush()).await.map(|()| true) })
        })
}

/// What each connection to a server is told first.
fn session(config: &StorageConfig) -> String {
    let patience = config.request_timeout.as_secs().max(1);
    // The server gives up waiting for a lock, of a row or of a table, before we give up waiting for the server, because
    // its answer is certain and ours is not.
    let lock_wait = patience.saturating_sub(1).clamp(1, LOCK_WAIT_S);
    // A node that is stopped in the middle of a transaction holds locks for which all others wait. MariaDB ends such a
    // transaction for us (other servers take this for a remark); half a statement is not waited for either.
    let idle = format!("/*M!100301 , idle_transaction_timeout = {IDLE_TRANSACTION_S} */");
    // Strict mode refuses what does not fit instead of cutting it off. A server may be set to begin sessions without
    // autocommit, where nothing would ever be stored.
    format!(
        "SET SESSION autocommit = 1, innodb_lock_wait_timeout = {lock_wait}, \
         lock_wait_timeout = {lock_wait}, \
         net_read_timeout = {patience}, net_write_timeout = {patience}, \
         sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES') {idle}"
    )
}

/// Waits until the server takes a connection, for `storage.acquire_timeout` at most, so that a node that can't start
/// says why: a pool would only say that its time is up.
async fn reachable(config: &StorageConfig, options: &MySqlConnectOptions) -> StoreResult<()> {
    let deadline = Instant::now() + config.acquire_timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match connect(options, left).await {
            Ok(connection) => return connection.close().await.or(Ok(())),
            Err(error) => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
        };
        let failure = Failure::of(&error);
        if failure == Failure::Other || left <= CONNECT_PAUSE {
            return Err(match failure.into_store_error(false, &error) {
                StoreError::Unavailable(cause) => StoreError::Unavailable(format!(
                    "the server at {}:{} takes no connection: {cause}",
                    options.get_host(),
                    options.get_port()
                )),
                error => error,
            });
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

async fn within_trial(answer: impl Future<Output = Result<(), sqlx::Error>>) -> Result<(), sqlx::Error> {
    match tokio::time::timeout(TRIAL_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
