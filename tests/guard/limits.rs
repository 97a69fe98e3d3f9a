//! The table of what was measured, and the comparison with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;

use crate::measure::Counted;

/// How far a count may lie above its measured figure, of which the first part is for counts near 0.
const INSTRUCTIONS: Slack = Slack { more: 1.0, factor: 1.10 };
const ALLOCATIONS: Slack = Slack { more: 0.05, factor: 1.15 };
const BYTES: Slack = Slack { more: 4.0, factor: 1.15 };
/// A count this far below its figure is worth writing down: the limit would let the gain be lost again.
const GAIN: f64 = 0.85;

#[derive(Clone, Copy)]
struct Slack {
    more: f64,
    factor: f64,
}

impl Slack {
    fn limit(self, measured: f64) -> f64 {
        measured * self.factor + self.more
    }
}

/// `limits.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Where it was measured: instructions are those of a processor's kind and a compiler.
    machine: String,
    compiler: String,
    cases: BTreeMap<String, Measured>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    instructions: f64,
    allocations: f64,
    bytes: f64,
}

/// What a comparison found.
pub struct Report {
    /// All cases with their figures, for people.
    pub table: String,
    /// What is above its limit, a line each.
    pub wrong: Vec<String>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guard/limits.toml")
}

fn machine() -> String {
    format!("{} {}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The compiler on the path, as `cargo` names it to tests; empty if it can't be asked.
fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let told = std::process::Command::new(rustc).arg("--version").output();
    told.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned()).unwrap_or_default()
}

impl Limits {
    /// Reads the table.
    pub fn read() -> Result<Self, String> {
        let path = path();
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("guard: {}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("guard: {}: {error}", path.display()))
    }

    /// Writes what was counted as the new table. What was not counted stays as `before` has it.
    pub fn write(counts: &[Counted], before: Option<&Self>) -> Result<(), String> {
        let counted = counts.iter().all(|count| count.instructions.is_some());
        let (machine, compiler) = match before {
            Some(before) if !counted => (before.machine.clone(), before.compiler.clone()),
            _ => (machine(), compiler()),
        };
        let mut text = format!(
            "# What each step of a message costs, counted by tests/guard: written by\n\
             # `UPDATE_GUARD=1 cargo test --profile guard --test guard`, not by hand. Figures are for one unit (a message, a\n\
             # frame, a member, a delivery). A build fails above 1.10 x instructions, 1.15 x allocations or bytes.\n\
             machine = \"{machine}\"\ncompiler = \"{compiler}\"\n\n[cases]\n"
        );
        for count in counts {
            let Counted { name, allocations, bytes, .. } = count;
            let kept = before.and_then(|before| before.cases.get(*name)).map(|case| case.instructions);
            let instructions = count.instructions.or(kept).unwrap_or_default();
            writeln!(
                text,
                "{name} = {{ instructions = {instructions:.0}.0, allocations = {allocations:.2}, bytes = {bytes:.1} }}"
            )
            .expect("writing to a String can't fail");
        }
        std::fs::write(path(), text).map_err(|error| format!("guard: {}: {error}", path().display()))
    }

    /// Compares. `complete`: every case of the table has been counted.
    pub fn compare(&self, counts: &[Counted], complete: bool) -> Report {
        let mut wrong = Vec::new();
        let mut table = format!("{:<26}{:>24}{:>22}{:>24}\n", "", "instructions", "allocations", "bytes");
        for count in counts {
            let Some(measured) = self.cases.get(count.name) else {
                wrong.push(format!("  {}: not in tests/guard/limits.toml yet", count.name));
                continue;
            };
            let mut row = format!("{:<26}", count.name);
            let mut hold = |what: &str, width: usize, now: Option<f64>, measured: f64, slack: Slack| {
                let Some(now) = now else {
                    write!(row, "{:>width$}", "-").expect("writing to a String can't fail");
                    return;
                };
                let percent = if measured > 0.0 { (now / measured - 1.0) * 100.0 } else { 0.0 };
                let cell = format!("{} ({percent:+.1} %)", short(now));
                write!(row, "{cell:>width$}").expect("writing to a String can't fail");
                if now > slack.limit(measured) {
                    wrong.push(format!(
                        "  {}: {} {what} where there were {}, {percent:+.1} %; the limit is {}",
                        count.name,
                        short(now),
                        short(measured),
                        short(slack.limit(measured))
                    ));
                }
                if measured > slack.more && now < measured * GAIN {
                    row.push('*');
                }
            };
            hold("instructions", 24, count.instructions, measured.instructions, INSTRUCTIONS);
            hold("allocations", 22, Some(count.allocations), measured.allocations, ALLOCATIONS);
            hold("bytes allocated", 24, Some(count.bytes), measured.bytes, BYTES);
            table.push_str(row.trim_end());
            table.push('\n');
        }
        if table.contains('*') {
            table.push_str("* less than the table says: measure anew, so that it stays so\n");
        }
        if complete {
            let gone = self.cases.keys().filter(|name| !counts.iter().any(|count| count.name == *name));
            wrong.extend(
                gone.map(|name| format!("  {name}: in tests/guard/limits.toml, but counted no more")),
            );
        }
        let counted = counts.iter().any(|count| count.instructions.is_some());
        if counted && !wrong.is_empty() && (self.machine != machine() || self.compiler != compiler()) {
            wrong.push(format!(
                "  (the table is of {} and {}; this is {} and {}, whose instructions may differ)",
                self.machine,
                self.compiler,
                machine(),
                compiler()
            ));
        }
        Report { table, wrong }
    }
}

/// A figure with as many digits as one wants to read.
fn short(figure: f64) -> String {
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
