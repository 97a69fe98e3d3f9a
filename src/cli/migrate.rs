//! `rookery migrate`: brings the database's tables up to date without starting a node.

use std::path::PathBuf;

use anyhow::Context;

use crate::config::Config;
use crate::storage::sql;

/// Arguments of `rookery migrate`.
#[derive(clap::Args)]
pub struct MigrateArgs {
    /// The file to read; without it `cluster.toml` in this folder, where there is one
    #[arg(long)]
    config: Option<PathBuf>,
    /// Instead of storage.url
    #[arg(long)]
    database_url: Option<String>,
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "a command line tells its user that it is done")]
pub async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(url) = args.database_url {
        config.storage.url = url;
        config.check()?;
    }
    sql::migrate(&config.storage).await.context("the tables could not be brought up to date")?;
    println!("the tables are up to date");
    Ok(())
}
