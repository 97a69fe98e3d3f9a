//! What an error of the database means: whether it certainly stored nothing, and whether trying again may help.

use sea_orm::sqlx;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr};

use crate::storage::StoreError;

/// The kinds of failure that are handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A unique key is taken.
    Unique,
    /// Rolled back for the sake of another transaction, which may be through by now (deadlock).
    Refused,
    /// Another session kept its lock for as long as we wait for one. Rolled back.
    Locked,
    /// Another process writes to the SQLite file.
    Busy,
    /// No connection could be had: the request was never made.
    NotReached,
    /// The database answered that it can't take it for now: disk full, read-only, too many connections.
    Full,
    /// The server takes no writes: it is a replica, or has become one. Nothing was stored; another server may answer to
    /// the same name by now.
    ReadOnly,
    /// The connection broke, or the database gave up, at a time that may be before or after a commit.
    Lost,
    /// Anything else.
    Other,
}

impl Failure {
    /// Sorts an error.
    pub fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(_) => Self::NotReached,
            DbErr::Conn(RuntimeErr::SqlxError(cause)) => match of_driver(cause) {
                // A refused sign-in or an unknown database is for the operators to mend.
                Self::Other => Self::Other,
                _ => Self::NotReached,
            },
            DbErr::Conn(_) => Self::NotReached,
            DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
                of_driver(cause)
            }
            _ => Self::Other,
        }
    }

    /// The store's error. `sent`: a statement that commits may have reached the database.
    pub fn into_store_error(self, sent: bool, cause: &DbErr) -> StoreError {
        let cause = cause.to_string();
        match self {
            Self::Unique => StoreError::Exists,
            Self::Lost if sent => StoreError::Unsettled(cause),
            Self::Refused
            | Self::Locked
            | Self::Busy
            | Self::NotReached
            | Self::Full
            | Self::ReadOnly
            | Self::Lost => StoreError::Unavailable(cause),
            Self::Other => StoreError::Invalid(cause),
        }
    }
}

fn of_driver(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(cause) => {
            if let Some(cause) = cause.try_downcast_ref::<MySqlDatabaseError>() {
                of_mysql(cause.number())
            } else if cause.try_downcast_ref::<SqliteError>().is_some() {
                of_sqlite(cause.code().and_then(|code| code.parse().ok()).unwrap_or(0))
            } else {
                Failure::Other
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Failure::Lost,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Failure::NotReached,
        _ => Failure::Other,
    }
}

/// By the error numbers of MySQL and MariaDB.
fn of_mysql(number: u16) -> Failure {
    match number {
        // Duplicate key, in its variants.
        1022 | 1062 | 1169 | 1586 => Failure::Unique,
        // Deadlock, row changed since it was read, statement must be prepared again.
        1213 | 1020 | 1615 => Failure::Refused,
        // Lock wait timeout, of a row or a table.
        1205 => Failure::Locked,
        // Too many connections, threads or prepared statements, also of one user; a host refused for its broken
        // connections; a Galera node that is not ready.
        1040 | 1203 | 1226 | 1461 | 1135 | 1129 | 1047 => Failure::Full,
        // Disk or table full, out of memory.
        1021 | 1037 | 1038 | 1041 | 1114 => Failure::Full,
        1290 | 1792 | 1836 => Failure::ReadOnly,
        // A file could not be written (a full disk, most often), shutting down, connection killed or broken, query
        // interrupted or out of time, error during commit or rollback or from the engine.
        3
        | 14
        | 20
        | 1026
        | 1030
        | 1053
        | 1152
        | 1158..=1161
        | 1180
        | 1181
        | 1184
        | 1317
        | 1927
        | 1969
        | 3024
        | 4031 => Failure::Lost,
        _ => Failure::Other,
    }
}

/// By the result codes of SQLite, whose low byte is the primary one.
fn of_sqlite(code: i32) -> Failure {
    match (code, code & 0xff) {
        // Unique index and primary key.
        (2067 | 1555, _) => Failure::Unique,
        // BUSY, LOCKED.
        (_, 5 | 6) => Failure::Busy,
        // NOMEM, READONLY, INTERRUPT, FULL, CANTOPEN: rolled back.
        (_, 7 | 8 | 9 | 13 | 14) => Failure::Full,
        // IOERR: a failed fsync leaves it open whether the commit survives.
        (_, 10) => Failure::Lost,
        _ => Failure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> DbErr {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        DbErr::Exec(RuntimeErr::SqlxError(sqlx::Error::Io(broken).into()))
    }

    #[test]
    fn a_lost_connection_is_uncertain_only_after_the_commit_was_sent() {
        let failure = Failure::of(&lost());
        assert_eq!(failure, Failure::Lost);
        assert!(matches!(failure.into_store_error(false, &lost()), StoreError::Unavailable(_)));
        assert!(matches!(failure.into_store_error(true, &lost()), StoreError::Unsettled(_)));
    }

    #[test]
    fn what_was_rolled_back_is_never_uncertain() {
        for failure in
            [of_mysql(1213), of_mysql(1205), of_mysql(1021), of_sqlite(5), of_sqlite(517), of_sqlite(13)]
        {
            let error = failure.into_store_error(true, &lost());
            assert!(matches!(error, StoreError::Unavailable(_)), "{failure:?} became {error:?}");
        }
        assert_eq!(of_mysql(1062).into_store_error(true, &lost()), StoreError::Exists);
        assert_eq!(of_sqlite(1555).into_store_error(true, &lost()), StoreError::Exists);
    }

    #[test]
    fn a_failure_to_connect_is_unavailable_and_a_refused_sign_in_is_not() {
        let closed = DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout);
        assert_eq!(Failure::of(&closed), Failure::NotReached);
        assert_eq!(of_mysql(1045), Failure::Other);
    }
}
