//! The commands of the binary.

pub mod admin;
pub mod chat;
pub mod config;
mod descriptors;
pub mod load;
pub mod migrate;
pub mod serve;
pub mod up;

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// What the binary does.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run a local cluster of several nodes, with an embedded database
    Up(up::UpArgs),
    /// Chat in this terminal
    Chat(chat::ChatArgs),
    /// Run one node of a cluster
    Serve(serve::ServeArgs),
    /// Put load on nodes of this machine, and check and measure what comes of it
    ///
    /// Every message carries its sender, number and time, and every receiver checks for loss, doubles and order; a
    /// fault makes the command fail. With --rate (open loop) a message's time counts from when it was due, so that a
    /// slow server can't hide its delay; without it, each user writes when it is answered (closed loop). Talks to
    /// loopback addresses only.
    Load(Box<load::args::LoadArgs>),
    /// Look at a running cluster, and drain its nodes
    Admin(admin::AdminArgs),
    /// Show and check the configuration
    Config(config::ConfigArgs),
    /// Bring the database's tables up to date
    Migrate(migrate::MigrateArgs),
}

/// Runs a command to its end. An error is printed with its causes.
pub fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Up(args) => block_on(up::run(args)),
        Command::Chat(args) => block_on(chat::run(args)),
        Command::Load(args) => block_on(load::run(*args)),
        Command::Admin(args) => block_on(admin::run(args)),
        Command::Config(args) => config::run(&args),
        Command::Migrate(args) => block_on(migrate::run(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Runs a command on a thread for each core.
fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    run_on(&mut Builder::new_multi_thread(), command)
}

/// Runs a command on a runtime, whose first thread may have local tasks.
fn run_on(runtime: &mut Builder, command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = runtime.enable_all().build().context("the async runtime could not start")?;
    let outcome = LocalSet::new().block_on(&runtime, command);
    // A blocking task (a password hash, a read of the terminal) must not hold up the end.
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::print_stderr, reason = "a command line tells its user what went wrong")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("rookery: {error:#}");
    ExitCode::FAILURE
}
