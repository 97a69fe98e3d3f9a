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
    Load(Box<load::LoadArgs>),
    /// Look at a running cluster, and drain its nodes
    Admin(admin::AdminArgs),
    /// Show and check the configuration
    Config(config::ConfigArgs),
    /// Bring the database's tables up to date
    Migrate(migrate::MigrateArgs),
}

/// Runs a command to its end. An error is printed with its causes.
pub fn run(command: Command) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(command, Command::Serve(_)) && std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(actor_threads());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!(error).context("the async runtime could not start")),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Chat(args) => chat::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Load(args) => load::run(*args).await,
            Command::Admin(args) => admin::run(args).await,
            Command::Config(args) => config::run(&args),
            Command::Migrate(args) => migrate::run(args).await,
        }
    });
    // A blocking task (a password hash, a read of the terminal) must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Threads of a node for all but its edges, which have `gateway.http_workers` of their own. Half the cores: with one for
/// each, threads that find nothing to do are woken by every hop of a message (docs/performance.md).
fn actor_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

#[expect(clippy::print_stderr, reason = "a command line tells its user what went wrong")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("rookery: {error:#}");
    ExitCode::FAILURE
}
