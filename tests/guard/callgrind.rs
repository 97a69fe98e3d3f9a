//! Counting instructions: this program runs itself under callgrind, which writes a file for every counted round.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Counted, ROUNDS};

/// Tells the program that it runs under callgrind.
const CHILD: &str = "ROOKERY_GUARD_CHILD";
/// The one function that is counted, as callgrind writes names. In full: `--dump-after` takes no patterns.
const COUNTED: &str = "guard::measure::rookery_guard_counted";
/// The C library picks its copying and searching by the processor: the plainest that all have, so that counts of
/// different machines agree. Names that a version of the library does not know it ignores.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-AVX512F,\
                               -AVX512VL,-EVEX";

/// Whether this process is the one that is looked at.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guard")
}

/// Where to look for what grew.
pub fn how_to_look() -> String {
    format!("callgrind_annotate {}/counted.N, one file a round in the order of the table", folder().display())
}

/// Adds the instructions of every case.
pub fn add_instructions(counts: &mut [Counted]) -> Result<(), String> {
    let folder = folder();
    // What an earlier run left is not ours to read.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("guard: {}: {error}", folder.display()))?;
    let myself = std::env::current_exe().map_err(|error| format!("guard: its own program: {error}"))?;
    let status = Command::new("valgrind")
        .args(["-q", "--tool=callgrind", "--collect-atstart=no", "--separate-threads=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", folder.join("counted").display()))
        .arg(myself)
        .env(CHILD, "1")
        .env("GLIBC_TUNABLES", PLAIN_PROCESSOR)
        .status()
        .map_err(|error| {
            format!("guard: valgrind, which counts the instructions, can't be run ({error}); install it")
        })?;
    if !status.success() {
        return Err(format!("guard: valgrind ended with {status}; what it said is above"));
    }
    for (number, count) in counts.iter_mut().enumerate() {
        let rounds = (0..ROUNDS).map(|round| total(&folder, number * ROUNDS + round + 1));
        let least = rounds.collect::<Result<Vec<u64>, String>>()?.into_iter().min().unwrap_or_default();
        count.instructions = Some(least as f64 / count.units as f64);
    }
    Ok(())
}

/// The total of one round.
fn total(folder: &Path, number: usize) -> Result<u64, String> {
    let path = folder.join(format!("counted.{number}"));
    let unreadable = |why: &str| {
        format!(
            "guard: callgrind counted no round {number} ({}: {why}); is its --dump-after another one?",
            path.display()
        )
    };
    let text = fs::read_to_string(&path).map_err(|error| unreadable(&error.to_string()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    match total.and_then(|total| total.trim().parse().ok()) {
        None | Some(0) => Err(unreadable("it has no total")),
        Some(total) => Ok(total),
    }
}
