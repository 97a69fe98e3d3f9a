//! How a request runs on the pools: under a deadline and only while the database is there, repeated where that is safe,
//! its failure sorted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use tokio::time::{Instant, timeout_at};

use super::append;
use super::away::{Hold, Reach};
use super::driver::{Kept, Reads};
use super::failure::Failure;
use crate::config::StorageConfig;
use crate::protocol::v1::Message;
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

/// How long a write waits for SQLite's lock while another process is known to keep it.
const KEPT_OUT_WAIT: Duration = Duration::from_millis(200);

/// A database and how it is asked.
#[derive(Debug)]
pub struct Database {
    reach: Arc<Reach>,
    backend: DbBackend,
    request_timeout: Duration,
    busy_timeout: Duration,
    /// A write has waited for SQLite's lock in vain, and none has got it since: the next ones wait for
    /// [`KEPT_OUT_WAIT`] only.
    kept_out: AtomicBool,
}

/// One try of a write.
pub struct Attempt {
    write: DatabaseConnection,
    kept: Kept,
    /// Set before anything is sent that may commit.
    sent: Arc<AtomicBool>,
}

impl Attempt {
    /// The connection for a write of a single statement, which commits by itself.
    pub fn single(&self) -> &DatabaseConnection {
        self.sent.store(true, Ordering::Release);
        &self.write
    }

    /// The same for a statement of which nobody need know whether it was carried out, as it may be again.
    pub fn plain(&self) -> &DatabaseConnection {
        &self.write
    }

    /// Appends messages: all or none.
    pub async fn append(&self, runs: &[&[Message]]) -> Result<(), DbErr> {
        append::append(&self.write, &self.kept, &self.sent, runs).await
    }

    /// Begins a transaction. SQLite takes its write lock here, so that nothing later fails for want of it.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.write.begin_with_options(options).await
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
        let reach = Reach::open(config)?;
        let backend = reach.hold()?.pools.write.get_database_backend();
        let (request_timeout, busy_timeout) = (config.request_timeout, config.busy_timeout);
        Ok(Self { reach, backend, request_timeout, busy_timeout, kept_out: AtomicBool::new(false) })
    }

    /// Which of the two kinds it is.
    pub fn backend(&self) -> DbBackend {
        self.backend
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
        self.reach.close().await;
    }

    /// Runs a request that changes nothing. It never ends in [`StoreError::Unsettled`].
    pub async fn read<T, F, Fut>(&self, run: F) -> StoreResult<T>
    where
        F: Fn(DatabaseConnection) -> Fut,
        Fut: Future<Output = Result<T, DbErr>>,
    {
        let sent = Arc::new(AtomicBool::new(false));
        self.run(&sent, |hold| run(hold.pools.read.clone())).await
    }

    /// The same for reads of lists and logs, one after the other on one connection. `run` gives the connection back with
    /// what it has read.
    pub async fn read_on<T, F, Fut>(&self, run: F) -> StoreResult<T>
    where
        F: Fn(Reads) -> Fut,
        Fut: Future<Output = Result<(Reads, T), DbErr>>,
    {
        let sent = Arc::new(AtomicBool::new(false));
        let (reads, read) = self
            .run(&sent, |hold| {
                let begun = (hold.pools.read.clone(), hold.pools.kept_reads.clone());
                let run = &run;
                async move { run(Reads::begin(&begun.0, begun.1).await?).await }
            })
            .await?;
        reads.end();
        Ok(read)
    }

    /// Runs a request that changes something. It may run several times, each time only when the time before
    /// certainly stored nothing.
    pub async fn write<T, F, Fut>(&self, run: F) -> StoreResult<T>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, DbErr>>,
    {
        let sent = Arc::new(AtomicBool::new(false));
        self.run(&sent, |hold| {
            sent.store(false, Ordering::Release);
            run(Attempt {
                write: hold.pools.write.clone(),
                kept: hold.pools.kept.clone(),
                sent: Arc::clone(&sent),
            })
        })
        .await
    }

    /// Runs a request once or several times. `sent`: what it has begun may have been committed.
    async fn run<T, Fut>(&self, sent: &AtomicBool, run: impl Fn(&Hold) -> Fut) -> StoreResult<T>
    where
        Fut: Future<Output = Result<T, DbErr>>,
    {
        let started = Instant::now();
        let unanswered = |cause: String| match sent.load(Ordering::Acquire) {
            true => StoreError::Unsettled(cause),
            false => StoreError::Unavailable(cause),
        };
        for round in 0.. {
            let mut hold = match self.reach.hold() {
                Ok(hold) => hold,
                Err(error) => {
                    // A caller that repeats at once must not keep the thread from those who watch for the return.
                    tokio::task::yield_now().await;
                    return Err(error);
                }
            };
            let request = timeout_at(started + self.request_timeout, run(&hold));
            let outcome = tokio::select! {
                // An answer that is there counts, also of a database that went away right after it.
                biased;
                outcome = request => outcome,
                cause = hold.given_up() => return Err(unanswered(cause)),
            };
            let error = match outcome {
                Ok(Ok(value)) => {
                    self.reach.answered();
                    if sent.load(Ordering::Acquire) {
                        self.kept_out.store(false, Ordering::Relaxed);
                    }
                    return Ok(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    self.reach.doubt();
                    return Err(unanswered(self.too_late()));
                }
            };
            let failure = Failure::of(&error);
            match failure {
                Failure::NotReached | Failure::Lost => self.reach.doubt(),
                Failure::ReadOnly => self.reach.look_again(),
                _ => self.reach.answered(),
            }
            let sent = sent.load(Ordering::Acquire);
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
            Failure::Busy if started.elapsed() < self.busy_wait() => {
                Some(Duration::from_micros(rand::random_range(0..BUSY_PAUSE_US)))
            }
            Failure::Busy => {
                self.kept_out.store(true, Ordering::Relaxed);
                None
            }
            Failure::Lost if !sent && round < LOST_REPEATS && !late => Some(Duration::ZERO),
            _ => None,
        }
    }

    fn busy_wait(&self) -> Duration {
        let longest = self.busy_timeout.min(self.request_timeout / 5 * 4);
        if self.kept_out.load(Ordering::Relaxed) { longest.min(KEPT_OUT_WAIT) } else { longest }
    }

    fn too_late(&self) -> String {
        format!("no answer within {:?} (storage.request_timeout)", self.request_timeout)
    }
}
