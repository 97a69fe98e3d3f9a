//! `rookery config check`: what the file, the environment and the defaults come to.

use std::path::PathBuf;

use crate::config::Config;

/// Arguments of `rookery config`.
#[derive(clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(clap::Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print every key as it will be used, secrets blotted out
    Check {
        /// The file to read; without it `cluster.toml` in this folder, where there is one
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Check { config } = &args.command;
    let config = Config::load(config.as_deref())?;
    print!("{}", config.redacted_toml());
    Ok(())
}
