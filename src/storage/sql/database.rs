//! The pools, and how a request runs on them: under a deadline, repeated where that is safe, its failure sorted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::pools;
use crate::config::StorageConfig;
use crate::storage::{StoreError, StoreResult};

/// Most repeats of a request that the database rolled back in favour of another.
const REFUSED_REPEATS: u32 = 6;
/// Pause before the first of them, in milliseconds; it doubles, and up to as much again is added by chance.
const REFUSED_PAUSE_MS: u64 = 2;
/// Most repeats of a request whose connection broke before anything could be committed.
const LOST_REPEATS: u32 = 2;
/// Longest pause before SQLite's write lock is tried for again, in microseconds. Short, because SQLite's own waiting
/// grows to 100 ms a turn, in which another busy process takes the lock again and again.
const BUSY_PAUSE_US: u64 = 2000;

/// A database and how it is asked.
#[derive(Debug)]
pub struct Database {
    /// For requests that change nothing.
    read: DatabaseConnection,
    /// With SQLite one connection of its own; with MySQL the same pool.
    write: DatabaseConnection,
    request_timeout: Duration,
    busy_timeout: Duration,
}

/// One try of a write.
pub struct Attempt<'a> {
    database: &'a Database,
    /// Set before anything is sent that may commit.
    sent: Arc<AtomicBool>,
}

impl<'a> Attempt<'a> {
    /// The connection for a write of a single statement, which commits by itself.
    pub fn single(&self) -> &'a DatabaseConnection {
        self.sent.store(true, Ordering::Release);
        &self.database.write
    }

    /// Begins a transaction. SQLite takes its write lock here, so that nothing later fails for want of it.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.database.write.begin_with_options(options).await
    }

    /// Ends it. A transaction that is dropped instead has stored nothing.
    pub async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), DbErr> {
        self.sent.store(true, Ordering::Release);
        transaction.commit().await
    }
}

impl Database {
    /// Opens the pools; the first connection is made with the first request.
    pub fn connect(config: &StorageConfig) -> StoreResult<Self> {
        let (read, write) = pools::open(config)?;
        Ok(Self { read, write, request_timeout: config.request_timeout, busy_timeout: config.busy_timeout })
    }

    /// Which of the two kinds it is.
    pub fn backend(&self) -> DbBackend {
        self.write.get_database_backend()
    }

    /// Whether it answers a small query. It does not ask for SQLite's one writer, which may be busy for good reason.
    pub async fn ping(&self) -> StoreResult<()> {
        self.read(|db| async move {
            let query =
                Statement::from_string(self.backend(), "SELECT version FROM seaql_migrations LIMIT 1");
            db.query_one_raw(query).await
        })
        .await?;
        Ok(())
    }

    /// Ends all connections once they are free.
    pub async fn close(&self) {
        for pool in [&self.read, &self.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::debug!(target: "rookery::storage", %error, "a pool did not close");
            }
        }
    }

    /// Runs a request that changes nothing. It never ends in [`StoreError::Unsettled`].
    pub async fn read<'a, T, F, Fut>(&'a self, run: F) -> StoreResult<T>
    where
        F: Fn(&'a DatabaseConnection) -> Fut,
        Fut: Future<Output = Result<T, DbErr>>,
    {
        let started = Instant::now();
        for round in 0.. {
            let outcome = timeout_at(started + self.request_timeout, run(&self.read)).await;
            let error = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => return Err(StoreError::Unavailable(self.too_late())),
            };
            let failure = Failure::of(&error);
            match self.pause(failure, false, round, started) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(failure.into_store_error(false, &error)),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Runs a request that changes something. It may run several times, each time only when the time before
    /// certainly stored nothing.
    pub async fn write<'a, T, F, Fut>(&'a self, run: F) -> StoreResult<T>
    where
        F: Fn(Attempt<'a>) -> Fut,
        Fut: Future<Output = Result<T, DbErr>>,
    {
        let started = Instant::now();
        for round in 0.. {
            let sent = Arc::new(AtomicBool::new(false));
            let attempt = Attempt { database: self, sent: Arc::clone(&sent) };
            let outcome = timeout_at(started + self.request_timeout, run(attempt)).await;
            let sent = sent.load(Ordering::Acquire);
            let error = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) if sent => return Err(StoreError::Unsettled(self.too_late())),
                Err(_) => return Err(StoreError::Unavailable(self.too_late())),
            };
            let failure = Failure::of(&error);
            match self.pause(failure, sent, round, started) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(failure.into_store_error(sent, &error)),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// How long to pause before a repeat; `None`: no repeat.
    fn pause(&self, failure: Failure, sent: bool, round: u32, started: Instant) -> Option<Duration> {
        // A repeat that begins late ends in a timeout, which says less than the failure at hand.
        let late = started.elapsed() > self.request_timeout / 2;
        match failure {
            Failure::Refused if round < REFUSED_REPEATS && !late => {
                let base = REFUSED_PAUSE_MS << round;
                Some(Duration::from_millis(rand::random_range(base..=2 * base)))
            }
            Failure::Busy if started.elapsed() < self.busy_timeout.min(self.request_timeout / 5 * 4) => {
                Some(Duration::from_micros(rand::random_range(0..BUSY_PAUSE_US)))
            }
            Failure::Lost if !sent && round < LOST_REPEATS && !late => Some(Duration::ZERO),
            _ => None,
        }
    }

    fn too_late(&self) -> String {
        format!("no answer within {:?} (storage.request_timeout)", self.request_timeout)
    }
}
