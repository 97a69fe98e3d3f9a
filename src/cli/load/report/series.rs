//! Several runs of the same: medians, spreads, and the ratios between one series and another.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::metrics::{Better, METRICS};
use super::{Figure, Report};

/// Runs of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli::load) struct Series {
    pub(in crate::cli::load) label: String,
    pub(in crate::cli::load) runs: Vec<Report>,
}

/// The middle of some values, and their ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli::load) struct Spread {
    pub(in crate::cli::load) median: f64,
    pub(in crate::cli::load) min: f64,
    pub(in crate::cli::load) max: f64,
}

impl Spread {
    /// `None`: there is no value. The median of an even number is the mean of the middle two.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { median, min, max })
    }
}

/// One figure over all series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli::load) struct Line {
    /// Its key, or the name that the scenario gave it.
    pub(in crate::cli::load) key: String,
    pub(in crate::cli::load) name: String,
    pub(in crate::cli::load) unit: String,
    /// `None`: neither, or not known.
    pub(in crate::cli::load) higher_is_better: Option<bool>,
    /// One a series, in order.
    pub(in crate::cli::load) values: Vec<Option<Spread>>,
    /// Of each series but the first to the first.
    pub(in crate::cli::load) ratios: Vec<Option<Spread>>,
}

/// How ratios are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::load) enum Pairing {
    /// Run n of one side and run n of the other stood next to each other: the ratios of such pairs, as what drifts
    /// between pairs is in neither.
    Alternating,
    /// They had nothing to do with each other: the ratio of the medians.
    Apart,
}

/// All figures that any of the series has.
pub(in crate::cli::load) fn lines(series: &[Series], pairing: Pairing) -> Vec<Line> {
    let mut lines = Vec::new();
    for metric in &METRICS {
        let values = values_of(series, metric.of);
        let higher = match metric.better {
            Better::Higher => Some(true),
            Better::Lower => Some(false),
            Better::Neither => None,
        };
        lines.extend(line(metric.key, metric.name, metric.unit, higher, &values, pairing));
    }
    let mut seen: Vec<&str> = Vec::new();
    for Figure { name, unit, .. } in series.iter().flat_map(|one| &one.runs).flat_map(|run| &run.figures) {
        if seen.contains(&name.as_ref()) {
            continue;
        }
        seen.push(name);
        let values = values_of(series, |run| {
            run.figures.iter().find(|figure| figure.name == *name).map(|figure| figure.value)
        });
        lines.extend(line(name, name, unit, None, &values, pairing));
    }
    lines
}

/// For each series, the value of each run.
fn values_of(series: &[Series], of: impl Fn(&Report) -> Option<f64>) -> Vec<Vec<Option<f64>>> {
    series.iter().map(|one| one.runs.iter().map(&of).collect()).collect()
}

fn line(
    key: &str,
    name: &str,
    unit: &str,
    higher_is_better: Option<bool>,
    values: &[Vec<Option<f64>>],
    pairing: Pairing,
) -> Option<Line> {
    let spreads: Vec<Option<Spread>> =
        values.iter().map(|runs| Spread::of(runs.iter().flatten().copied())).collect();
    if spreads.iter().all(Option::is_none) {
        return None;
    }
    let ratio = |at: usize| match pairing {
        Pairing::Alternating => {
            let pairs = values[0].iter().zip(&values[at]);
            Spread::of(pairs.filter_map(|(first, other)| Some((*other)? / (*first)?)))
        }
        Pairing::Apart => {
            let ratio = spreads[at]?.median / spreads[0]?.median;
            Spread::of([ratio])
        }
    };
    Some(Line {
        key: key.to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        higher_is_better,
        ratios: (1..values.len()).map(ratio).collect(),
        values: spreads,
    })
}

/// The lines as a table for a terminal.
pub(in crate::cli::load) fn table(series: &[Series], lines: &[Line]) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_table(series, lines, &mut out);
    out
}

fn write_table(series: &[Series], lines: &[Line], out: &mut String) -> std::fmt::Result {
    const VALUE: usize = 34;
    const RATIO: usize = 22;
    write!(out, "{:<44}", "median (least … most)")?;
    for (at, one) in series.iter().enumerate() {
        let runs = one.runs.len();
        let head = format!("{}, {runs} run{}", one.label, if runs == 1 { "" } else { "s" });
        write!(out, "{head:>VALUE$}")?;
        if at > 0 {
            write!(out, "{:>RATIO$}", format!("to {}", series[0].label))?;
        }
    }
    writeln!(out)?;
    for line in lines {
        let unit = if line.unit.is_empty() { String::new() } else { format!(" [{}]", line.unit) };
        write!(out, "{:<44}", format!("{}{unit}", line.name))?;
        for (at, value) in line.values.iter().enumerate() {
            write!(out, "{:>VALUE$}", value.map_or_else(|| "-".to_owned(), spread))?;
            if at > 0 {
                let ratio = line.ratios.get(at - 1).copied().flatten();
                write!(out, "{:>RATIO$}", ratio.map_or_else(|| "-".to_owned(), ratio_words))?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A spread for people: "21,485 (21,478 … 23,651)".
pub(super) fn spread(of: Spread) -> String {
    let Spread { median, min, max } = of;
    if min.total_cmp(&max).is_eq() {
        return number(median);
    }
    format!("{} ({} … {})", number(median), number(min), number(max))
}

/// A ratio likewise: "×1.05 (1.01 … 1.10)".
pub(super) fn ratio_words(of: Spread) -> String {
    let Spread { median, min, max } = of;
    if min.total_cmp(&max).is_eq() {
        format!("×{median:.2}")
    } else {
        format!("×{median:.2} ({min:.2} … {max:.2})")
    }
}

/// Three or more significant digits, thousands apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size < 10.0 {
        return format!("{value:.2}");
    }
    if size < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", size);
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Series {
    /// The run that stands for all in plots: the one whose rate is in the middle.
    pub(super) fn middle(&self) -> Option<&Report> {
        let mut runs: Vec<&Report> = self.runs.iter().collect();
        runs.sort_by(|a, b| a.messages_per_second.total_cmp(&b.messages_per_second));
        runs.get(runs.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_the_values() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(&[f64::NAN, 5.0]).map(|spread| spread.max), Some(5.0));
        assert_eq!(spread(&[]), None);
    }

    fn series(label: &str, rates: &[f64]) -> Series {
        let run = |rate: &f64| Report { messages_per_second: *rate, ..example() };
        Series { label: label.to_owned(), runs: rates.iter().map(run).collect() }
    }

    #[test]
    fn ratios_are_of_neighbours_where_runs_alternate() {
        // The machine became twice as slow in the second run, and 1.1 stays 1.1.
        let both = [series("a", &[1000.0, 500.0, 900.0]), series("b", &[1100.0, 550.0, 990.0])];
        let rate = |pairing| {
            let lines = lines(&both, pairing);
            let line = lines.iter().find(|line| line.key == "messages_per_second");
            line.and_then(|line| line.ratios[0]).expect("both sides have a rate")
        };
        let Spread { median, min, max } = rate(Pairing::Alternating);
        assert!([median, min, max].iter().all(|ratio| (ratio - 1.1).abs() < 1e-9), "{median} {min} {max}");
        assert!((rate(Pairing::Apart).median - 1.1).abs() < 1e-9);
        let skewed = [series("a", &[1000.0, 500.0]), series("b", &[550.0, 1100.0])];
        let apart = lines(&skewed, Pairing::Apart);
        assert!((apart[0].ratios[0].expect("a ratio").median - 1.1).abs() < 1e-9);
        let alternating = lines(&skewed, Pairing::Alternating)[0].ratios[0].expect("a ratio");
        assert!((alternating.min - 0.55).abs() < 1e-9 && (alternating.max - 2.2).abs() < 1e-9);
    }

    #[test]
    fn a_scenarios_own_figures_are_compared_too() {
        let lines = lines(&[series("a", &[1.0]), series("b", &[1.0])], Pairing::Apart);
        let fetched = lines.iter().find(|line| line.key == "fetched").expect("it is in both");
        assert_eq!((fetched.unit.as_str(), fetched.ratios[0].map(|ratio| ratio.median)), ("/s", Some(1.0)));
        let table = table(&[series("a", &[1.0]), series("b", &[1.0])], &lines);
        assert!(table.contains("fetched [/s]") && table.contains("×1.00"), "{table}");
    }

    #[test]
    fn a_side_without_a_figure_has_no_ratio() {
        let mut none = series("b", &[0.0]);
        none.runs[0].figures.clear();
        let lines = lines(&[series("a", &[1.0]), none], Pairing::Alternating);
        let rate = lines.iter().find(|line| line.key == "messages_per_second").expect("one side has it");
        assert!(rate.values[1].is_none() && rate.ratios[0].is_none(), "{rate:?}");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(21_485.3), "21,485");
        assert_eq!(number(1_000_000.0), "1,000,000");
        assert_eq!(number(48.94), "48.9");
        assert_eq!(number(-1.234), "-1.23");
        assert_eq!(spread(Spread { median: 2.0, min: 1.0, max: 3.0 }), "2.00 (1.00 … 3.00)");
    }

    #[test]
    fn the_middle_run_stands_for_all() {
        let middle = |rates: &[f64]| series("a", rates).middle().map(|run| run.messages_per_second);
        assert_eq!(middle(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(middle(&[2.0, 1.0]), Some(1.0));
        assert_eq!(middle(&[]), None);
    }
}
