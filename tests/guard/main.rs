//! The guard: what each step of a message costs in instructions, allocations and allocated bytes, held against
//! `limits.toml`. These figures are counted, not timed, so that a busy machine changes nothing about them.
//!
//! `cargo test --test guard` holds allocations; `cargo test --profile guard --test guard` instructions too, by `valgrind`,
//! as those of a build without optimisation say little. `UPDATE_GUARD=1` before either measures anew and writes
//! `limits.toml`; `ROOKERY_GUARD_ONLY=room` looks only at what has that in its name. See docs/performance.md.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test with a main of its own: it says what it found"
)]

mod callgrind;
mod cases;
mod limits;
mod measure;

#[path = "../../benches/hot/directories.rs"]
mod directories;
#[path = "../../benches/hot/envelopes.rs"]
mod envelopes;
#[path = "../../benches/hot/frames.rs"]
mod frames;
#[path = "../../benches/hot/outboxes.rs"]
mod outboxes;
#[path = "../../benches/hot/registries.rs"]
mod registries;
#[path = "../../benches/hot/rooms.rs"]
mod rooms;
#[path = "../../benches/hot/scene.rs"]
mod scene;
#[path = "../../benches/hot/wire.rs"]
mod wire;

use std::process::ExitCode;

use crate::limits::Limits;

/// Counts again what is in the table, and writes it down.
const UPDATE: &str = "UPDATE_GUARD";
/// Only cases with this in their names.
const ONLY: &str = "ROOKERY_GUARD_ONLY";
/// How the whole guard is run.
const COMMAND: &str = "cargo test --profile guard --test guard";

fn main() -> ExitCode {
    if !is_wanted() {
        return ExitCode::SUCCESS;
    }
    let only = std::env::var(ONLY).unwrap_or_default();
    if callgrind::is_child() {
        measure::run_counted(&only);
        return ExitCode::SUCCESS;
    }
    match guard(&only) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the arguments that `cargo test` hands to every test binary mean this one.
fn is_wanted() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("guard: test");
        return false;
    }
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    filters.peek().is_none() || filters.any(|filter| "guard".contains(filter.as_str()))
}

/// Counts and compares. The text says what was found, or what is wrong and how to mend it.
fn guard(only: &str) -> Result<String, String> {
    let optimised = !cfg!(debug_assertions);
    let update = std::env::var_os(UPDATE).is_some_and(|value| value != "0");
    if update && !only.is_empty() {
        return Err(format!("guard: the table is made as a whole; leave {ONLY} out"));
    }
    let mut counts = measure::allocations(only);
    if optimised {
        callgrind::add_instructions(&mut counts)?;
    }
    if update {
        Limits::write(&counts, Limits::read().ok().as_ref())?;
        let what = if optimised { "" } else { " but for their instructions" };
        return Ok(format!("guard: {} cases measured anew{what}; say in the commit why", counts.len()));
    }
    let report = Limits::read()?.compare(&counts, only.is_empty());
    let missing = if optimised {
        ""
    } else {
        "\nguard: instructions are held by: cargo test --profile guard --test guard"
    };
    match report.wrong.as_slice() {
        [] => Ok(format!("{}\nguard: {} cases are within their limits{missing}", report.table, counts.len())),
        wrong => Err(format!(
            "{}\nguard: the cost of a message has grown, or the table is not of this code:\n{}\n\
             Look for what is done now that was not done before{}. If it must be, measure anew and say why in the \
             commit:\n  {UPDATE}=1 {COMMAND}",
            report.table,
            wrong.join("\n"),
            if optimised {
                format!(" (where instructions go: {})", callgrind::how_to_look())
            } else {
                String::new()
            },
        )),
    }
}
