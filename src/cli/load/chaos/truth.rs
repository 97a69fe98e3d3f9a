//! The logs as the database has them, read past every node: the truth that everything else is held against.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::time::{Instant, sleep, timeout};

use super::ledger::{Ledger, Row};
use crate::config::StorageConfig;
use crate::storage::sql::SqlStores;

/// Rows read at once.
const PAGE: u32 = 500;
/// How long a database that has just come back may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause before a failed read is repeated.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection to the database.
pub struct Truth {
    config: StorageConfig,
    stores: Option<SqlStores>,
}

impl Truth {
    /// Connects when it is first needed.
    pub fn new(database_url: &str) -> Self {
        let config =
            StorageConfig { url: database_url.to_owned(), connections_max: 2, ..StorageConfig::default() };
        Self { config, stores: None }
    }

    /// Compares what the logs have got since the last time, and that they hold all that was told of.
    pub async fn compare(&mut self, ledger: &Ledger) -> anyhow::Result<()> {
        for (room_id, verified) in ledger.verified() {
            let told = ledger.told_up_to(room_id);
            let mut after = verified;
            loop {
                let rows = self.read(room_id, after).await?;
                let Some(last) = rows.last().map(|row| row.seq) else { break };
                ledger.verify(room_id, &rows);
                after = last;
                if rows.len() < PAGE as usize {
                    break;
                }
            }
            ledger.log_reaches(room_id, told);
        }
        Ok(())
    }

    /// Reads every log from its beginning and compares all of it once more.
    pub async fn compare_all(&mut self, ledger: &Ledger) -> anyhow::Result<()> {
        for (room_id, _) in ledger.verified() {
            let mut log: Vec<Row> = Vec::new();
            loop {
                let rows = self.read(room_id, log.last().map_or(0, |row| row.seq)).await?;
                let more = rows.len() == PAGE as usize;
                log.extend(rows);
                if !more {
                    break;
                }
            }
            ledger.verify_again(room_id, &log);
        }
        Ok(())
    }

    async fn read(&mut self, room_id: u64, after: u64) -> anyhow::Result<Vec<Row>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let attempt = timeout(PATIENCE, self.read_once(room_id, after));
            let error = match attempt.await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => error,
                Err(_) => anyhow!("no answer within {} s", PATIENCE.as_secs()),
            };
            if Instant::now() >= deadline {
                return Err(error.context("the logs can't be read from the database"));
            }
            // A connection of before a fault may be the trouble.
            self.stores = None;
            sleep(PAUSE).await;
        }
    }

    async fn read_once(&mut self, room_id: u64, after: u64) -> anyhow::Result<Vec<Row>> {
        if self.stores.is_none() {
            self.stores = Some(SqlStores::connect(&self.config).await?);
        }
        let stores = self.stores.as_ref().context("it was set just now")?.stores();
        let messages = stores.messages.after(room_id, after, PAGE).await?;
        Ok(messages.iter().map(Row::from).collect())
    }
}
