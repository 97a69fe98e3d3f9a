//! Tables, brought up to date at start. One set of migrations runs on both databases; see `m0001_spine`.
//!
//! Several nodes may start at once on one database: a lock lets one of them migrate while the others wait. With
//! SQLite it is a lock on a file beside the database, which the kernel releases when its process ends; with MySQL it
//! is GET_LOCK on the connection that migrates, which the server releases when the connection ends. Every statement
//! may be repeated, so that a migration that was cut off is completed by the next start.

mod m0001_spine;
mod m0002_people;
mod m0003_rooms;
mod m0004_messages;
mod m0005_search;
mod m0006_listing;
mod m0007_life;
mod m0008_member_count;
mod m0009_gaps;
mod m0010_cursors;
mod tables;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::time::Instant;

use super::failure::Failure;
use super::pools::{Location, create_parent, open_single};
use crate::config::StorageConfig;
use crate::storage::{StoreError, StoreResult};

/// How long a node waits for another one that migrates.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// Pause between two tries for the lock of a file.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// All migrations, oldest first. They are never changed, only added to.
struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_spine::Migration),
            Box::new(m0002_people::Migration),
            Box::new(m0003_rooms::Migration),
            Box::new(m0004_messages::Migration),
            Box::new(m0005_search::Migration),
            Box::new(m0006_listing::Migration),
            Box::new(m0007_life::Migration),
            Box::new(m0008_member_count::Migration),
            Box::new(m0009_gaps::Migration),
            Box::new(m0010_cursors::Migration),
        ]
    }
}

/// Creates the SQLite file and its folder where they are missing, and applies the migrations that the database has
/// not seen. [`StoreError::Invalid`]: the database belongs to a newer version; nothing was changed.
pub async fn migrate(config: &StorageConfig) -> StoreResult<()> {
    let file = Location::of(config)?.file();
    let _file_lock = match &file {
        Some(file) => {
            create_parent(file)?;
            let lock = lock_beside(file).await?;
            is_writable(file)?;
            Some(lock)
        }
        None => None,
    };
    let db = open_single(config).await?;
    let outcome = match tokio::time::timeout(2 * LOCK_WAIT, migrate_on(&db)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::Unavailable("migrating the database took too long".to_owned())),
    };
    // The connection's end gives MySQL's lock back.
    if let Err(error) = db.close().await {
        tracing::debug!(target: "rookery::storage", %error, "the migrating connection did not close");
    }
    outcome
}

async fn migrate_on(db: &DatabaseConnection) -> StoreResult<()> {
    let failed = |error: DbErr| Failure::of(&error).into_store_error(false, &error);
    if db.get_database_backend() == DbBackend::MySql {
        take_server_lock(db).await?;
    }
    let known: BTreeSet<String> =
        Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let applied = Migrator::get_migration_models(db).await.map_err(failed)?;
    let unknown: Vec<String> =
        applied.into_iter().map(|row| row.version).filter(|version| !known.contains(version)).collect();
    if !unknown.is_empty() {
        return Err(StoreError::Invalid(format!(
            "the database was migrated by a newer version (it has {}, which this one, {}, does not know); \
             run that version of rookery or a later one, or name another database in storage.url",
            unknown.join(", "),
            crate::protocol::VERSION,
        )));
    }
    Migrator::up(db, None).await.map_err(failed)
}

/// SQLite would open a file that can't be written all the same, and the first send would be the first to learn of it.
fn is_writable(file: &Path) -> StoreResult<()> {
    match File::options().append(true).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Unavailable(format!(
            "the database file {} can't be written: {error}",
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// Locks `FILE.lock`, which stays; the lock ends with the handle.
async fn lock_beside(file: &Path) -> StoreResult<File> {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    let path = Path::new(&path);
    let unusable = |error: std::io::Error| {
        StoreError::Unavailable(format!("the lock file {} can't be used: {error}", path.display()))
    };
    let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(unusable)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "another process has been migrating for {LOCK_WAIT:?}; it holds {}",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
}

/// Takes a lock of the server, named by the database because such names are the server's, and hashed because they
/// are short.
async fn take_server_lock(db: &DatabaseConnection) -> StoreResult<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::MySql,
        "SELECT CAST(GET_LOCK(CONCAT('rookery ', MD5(DATABASE())), ?) AS SIGNED)",
        [i64::try_from(LOCK_WAIT.as_secs()).unwrap_or(i64::MAX).into()],
    );
    let failed = |error: DbErr| Failure::of(&error).into_store_error(false, &error);
    let row = db.query_one_raw(statement).await.map_err(failed)?;
    let taken: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose().map_err(failed)?.flatten();
    if taken == Some(1) {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!("another node has been migrating the database for {LOCK_WAIT:?}")))
}
