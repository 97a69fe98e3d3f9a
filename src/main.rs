//! The one binary: `rookery serve | up | chat | load | config | migrate`.

use std::process::ExitCode;

use clap::Parser;
use rookery::cli::Command;

/// Compared in turns with glibc's allocator and jemalloc: docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An instant-messaging server whose every node is the same.
#[derive(Parser)]
#[command(name = "rookery", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    rookery::cli::run(Arguments::parse().command)
}
