//! `rookery load`: generates load over the public protocol, checks every delivery, and says what it cost.
//!
//! One process plays all the users. `people` signs them up and connects them, `lean` is the client that they use,
//! `sender` and `receiver` play one side each, `checker` judges what arrives. `scenarios` says who does what and when.
//! `measure` keeps times, `sampler` watches processes, `report` shows both. `launch` brings servers along, `runs` and
//! `compare` repeat it all.

use std::time::Duration;

use anyhow::bail;

pub mod args;
pub mod chaos;
mod checker;
pub mod compare;
pub mod fill;
mod gapless;
pub mod launch;
mod lean;
mod machine;
mod measure;
mod people;
mod process;
mod receiver;
mod report;
mod runs;
mod sampler;
mod scenarios;
mod sender;

use args::{LoadArgs, Scenario};

/// How long answers and deliveries are awaited after the last message.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the command and prints its report. An error if deliveries were lost, doubled or out of order.
pub async fn run(args: LoadArgs) -> anyhow::Result<()> {
    if let Scenario::Chaos(chaos) = args.scenario {
        // It loads no server but those that it starts.
        return Box::pin(chaos::run(*chaos, args.json)).await;
    }
    if let Scenario::Fill(fill) = args.scenario {
        let Some(url) = args.database_url else { bail!("--database-url must name the database to fill") };
        return Box::pin(fill::run(fill, &url)).await;
    }
    Box::pin(runs::run(args)).await
}
