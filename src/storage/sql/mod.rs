//! The stores in SQLite or MySQL/MariaDB, by SeaORM.
//!
//! `open` brings the tables up to date and connects. Each store is a file; all go through `database`, which gives
//! every request its deadline and turns errors into what the callers need to know: certainly nothing stored, or not
//! known. Durability is the database's: SQLite with WAL and `synchronous=FULL`, MySQL with its own defaults, which
//! flush at commit. Nothing here weakens them.

mod accounts;
mod append;
mod away;
mod changes;
mod contacts;
mod conversations;
mod convert;
mod database;
mod driver;
mod entity;
mod entries;
mod failure;
pub mod fill;
mod ladder;
mod list;
mod listing;
mod marks;
mod messages;
mod migration;
mod people;
mod pools;
mod recount;
mod retention;
mod rooms;
mod rows;
mod sayings;
mod search;
mod settling;
mod starts;

use std::sync::Arc;

use self::database::Database;
use self::listing::Awake;
pub use self::migration::migrate;
pub use self::settling::Settler;
use super::{StoreResult, Stores};
use crate::config::StorageConfig;

/// The stores of one database. Cheap to clone; all clones share its connections.
#[derive(Clone, Debug)]
pub struct SqlStores {
    database: Arc<Database>,
    awake: Arc<Awake>,
}

/// Brings the tables up to date ([`migrate`]) and connects.
pub async fn open(config: &StorageConfig) -> StoreResult<SqlStores> {
    migrate(config).await?;
    SqlStores::connect(config).await
}

impl SqlStores {
    /// Connects to a database whose tables are up to date.
    pub async fn connect(config: &StorageConfig) -> StoreResult<Self> {
        let stores = Self { database: Arc::new(Database::connect(config)?), awake: Arc::default() };
        stores.ping().await?;
        Ok(stores)
    }

    /// As the rest of the node uses them.
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            accounts: this.clone(),
            contacts: this.clone(),
            conversations: this.clone(),
            people: this.clone(),
            rooms: this.clone(),
            marks: this.clone(),
            retention: this.clone(),
            messages: this.clone(),
            search: this,
        }
    }

    /// Whether the database answers, within `storage.request_timeout`.
    pub async fn ping(&self) -> StoreResult<()> {
        self.database.ping().await
    }

    /// Ends the connections once their requests are done; every later request is
    /// [`Unavailable`](super::StoreError::Unavailable).
    pub async fn close(&self) {
        self.database.close().await;
    }
}
