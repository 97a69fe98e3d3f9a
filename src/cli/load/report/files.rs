//! Reports in files: one run, several runs of the same, or a comparison.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::series::{Line, Pairing, Series, lines};
use super::{Report, json};

/// Largest file read, in bytes: an hour's run of many processes is some MB.
const FILE_MAX: u64 = 256 << 20;

/// Runs of several sides in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli::load) struct Comparison {
    pub(in crate::cli::load) date: String,
    pub(in crate::cli::load) command: String,
    /// Medians and ratios, for whoever reads the file; made from the sides.
    pub(in crate::cli::load) results: Vec<Line>,
    pub(in crate::cli::load) sides: Vec<Series>,
}

impl Comparison {
    /// Of sides whose runs took turns.
    pub(in crate::cli::load) fn new(date: String, command: String, sides: Vec<Series>) -> Self {
        Self { date, command, results: lines(&sides, Pairing::Alternating), sides }
    }
}

/// What a file holds.
#[derive(Debug)]
pub(in crate::cli::load) enum Contents {
    /// Runs of one thing; a single one, too.
    Runs(Vec<Report>),
    Comparison(Comparison),
}

/// Reads a file that this tool has written.
pub(in crate::cli::load) fn read(file: &Path) -> anyhow::Result<Contents> {
    let name = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{name} can't be read"))?.len();
    if size > FILE_MAX {
        bail!("{name} has more than {} MiB", FILE_MAX >> 20);
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} can't be read"))?;
    contents(&text).with_context(|| format!("{name} is no report of `rookery load`"))
}

fn contents(text: &str) -> anyhow::Result<Contents> {
    let value: Value = serde_json::from_str(text).context("it is not JSON")?;
    let is_report = |value: &Value| value.get("scenario").is_some_and(Value::is_string);
    match &value {
        Value::Array(runs) if !runs.is_empty() && runs.iter().all(is_report) => {
            Ok(Contents::Runs(serde_json::from_value(value)?))
        }
        Value::Object(fields) if fields.contains_key("sides") => {
            Ok(Contents::Comparison(serde_json::from_value(value)?))
        }
        report if is_report(report) => Ok(Contents::Runs(vec![serde_json::from_value(value)?])),
        _ => bail!("it has neither a scenario nor sides"),
    }
}

/// Reads several files as series of one set: a file of runs is one, labelled by its name; a comparison is its sides.
/// Files by the names NAME-1.json, NAME-2.json and so on are runs of one series, NAME.
pub(in crate::cli::load) fn read_all(files: &[impl AsRef<Path>]) -> anyhow::Result<(Vec<Series>, Pairing)> {
    let mut all: Vec<Series> = Vec::new();
    let mut pairing = Pairing::Apart;
    for file in files {
        let file = file.as_ref();
        match read(file)? {
            Contents::Comparison(comparison) => {
                if files.len() == 1 {
                    pairing = Pairing::Alternating;
                }
                all.extend(comparison.sides);
            }
            Contents::Runs(mut runs) => {
                let label = label_of(file);
                match all.iter_mut().find(|series| series.label == label) {
                    Some(series) => series.runs.append(&mut runs),
                    None => all.push(Series { label, runs }),
                }
            }
        }
    }
    Ok((all, pairing))
}

/// The file's name without its ending and its number.
fn label_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem.rsplit_once('-') {
        // A long number is a count that the file is named after: idle-10000.
        Some((name, number)) if number.len() <= 2 && number.parse::<u8>().is_ok() => name.to_owned(),
        _ => stem,
    }
}

/// Writes a report as JSON, a line for each second.
pub(in crate::cli::load) fn write_report(file: &Path, report: &Report) -> anyhow::Result<()> {
    write(file, report, 2)
}

/// Writes runs of one thing likewise.
pub(in crate::cli::load) fn write_runs(file: &Path, runs: &[Report]) -> anyhow::Result<()> {
    write(file, &runs, 3)
}

/// Writes a comparison likewise.
pub(in crate::cli::load) fn write_comparison(file: &Path, comparison: &Comparison) -> anyhow::Result<()> {
    write(file, comparison, 6)
}

fn write(file: &Path, value: &impl Serialize, depth: usize) -> anyhow::Result<()> {
    write_text(file, &json::text(value, depth).context("the report can't be written as JSON")?)
}

/// Writes a text, in a folder that is made where there is none.
pub(in crate::cli::load) fn write_text(file: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    }
    std::fs::write(file, text).with_context(|| format!("{} can't be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn each_kind_of_file_is_told_by_what_it_holds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join("below").join(name);
        write_report(&at("one-1.json"), &example()).expect("the folder is made");
        write_report(&at("one-2.json"), &example()).expect("it can be written");
        write_runs(&at("runs-10000.json"), &[example(), example(), example()]).expect("it can be written");
        let side = |label: &str| Series { label: label.to_owned(), runs: vec![example()] };
        let comparison = Comparison::new(String::new(), String::new(), vec![side("a"), side("b")]);
        write_comparison(&at("both.json"), &comparison).expect("it can be written");

        let files = ["one-1.json", "one-2.json", "runs-10000.json", "both.json"].map(at);
        let (all, pairing) = read_all(&files).expect("all are reports");
        let shape: Vec<(&str, usize)> = all.iter().map(|one| (one.label.as_str(), one.runs.len())).collect();
        assert_eq!(shape, [("one", 2), ("runs-10000", 3), ("a", 1), ("b", 1)]);
        assert_eq!(pairing, Pairing::Apart);
        assert_eq!(all[0].runs[0], example());
        let (_, pairing) = read_all(&[at("both.json")]).expect("it is a comparison");
        assert_eq!(pairing, Pairing::Alternating);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["{}", "[]", "[{}]", "7", "no json", r#"{"sides": 3}"#] {
            assert!(contents(text).is_err(), "{text}");
        }
    }
}
