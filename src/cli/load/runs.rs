//! What a command does: one scenario once or several times, several sides in turns, or kept reports shown again.

#![expect(clippy::print_stdout, reason = "a command that prints its report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{LoadArgs, RUNS_MAX, Scenario};
use super::compare::{self, CompareArgs};
use super::launch::{self, Launched, Plan};
use super::report::series::{self, Pairing, Series};
use super::report::{Report, files, growth, page};
use super::{machine, scenarios};
use crate::cli::descriptors;

/// Runs the command. An error if deliveries were lost, doubled or out of order.
pub(super) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    match &args.scenario {
        Scenario::Report { files, title } => show(files, title.as_deref(), args.html.as_deref()),
        Scenario::Growth(growth) => {
            let sentences = growth::run(growth, args.html.as_deref())?;
            sentences.iter().for_each(|sentence| println!("{sentence}"));
            Ok(())
        }
        Scenario::Compare(compare) => until_stopped(run_compared(&args, compare)).await,
        _ => match args.launch.plan()? {
            Some(plan) => until_stopped(run_alone(&args, Some(&plan))).await,
            None => Box::pin(run_alone(&args, None)).await,
        },
    }
}

/// Ends the work when this process is told to end: what it has started goes with it.
async fn until_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be listened for")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be listened for")?;
    tokio::select! {
        done = Box::pin(work) => done,
        _ = interrupt.recv() => bail!("ended on request"),
        _ = terminate.recv() => bail!("ended on request"),
    }
}

/// The runs of one scenario.
async fn run_alone(args: &LoadArgs, plan: Option<&Plan>) -> anyhow::Result<()> {
    let count = args.runs.unwrap_or(1);
    if count == 0 || count > RUNS_MAX {
        bail!("--runs must be 1 to {RUNS_MAX}");
    }
    let mut runs = Vec::new();
    for _ in 0..count {
        let report = Box::pin(run_once(args, plan)).await?;
        println!("{}", report.table());
        runs.push(report);
    }
    if let Some(file) = &args.json {
        match (&runs[..], args.runs) {
            ([one], None) => files::write_report(file, one)?,
            (all, _) => files::write_runs(file, all)?,
        }
    }
    let all = [Series { label: runs[0].scenario.clone(), runs }];
    if count > 1 {
        println!("{}", series::table(&all, &series::lines(&all, Pairing::Apart)));
    }
    if let Some(file) = &args.html {
        files::write_text(file, &page::of(&format!("Load: {}", all[0].label), &all, Pairing::Apart))?;
    }
    fail_on_faults(&all)
}

/// The runs of several sides.
async fn run_compared(args: &LoadArgs, compare: &CompareArgs) -> anyhow::Result<()> {
    let comparison = Box::pin(compare::run(compare, &args.launch, args.runs)).await?;
    println!("{}", series::table(&comparison.sides, &comparison.results));
    if let Some(file) = &args.json {
        files::write_comparison(file, &comparison)?;
    }
    if let Some(file) = &args.html {
        let labels: Vec<&str> = comparison.sides.iter().map(|side| side.label.as_str()).collect();
        let title = format!("Compared: {}", labels.join(" and "));
        files::write_text(file, &page::of(&title, &comparison.sides, Pairing::Alternating))?;
    }
    fail_on_faults(&comparison.sides)
}

fn fail_on_faults(all: &[Series]) -> anyhow::Result<()> {
    if all.iter().flat_map(|series| &series.runs).any(Report::has_faults) {
        bail!("deliveries were lost, doubled or out of order; see the report");
    }
    Ok(())
}

/// One run of the scenario, with servers of its own if a plan says so.
pub(super) async fn run_once(args: &LoadArgs, plan: Option<&Plan>) -> anyhow::Result<Report> {
    descriptors::raise(args.connections());
    let (date, mut machine) = (machine::date(), machine::Machine::here());
    let mut args = args.clone();
    let launched = match plan {
        Some(plan) => Some(Box::pin(Launched::start(plan)).await?),
        None => None,
    };
    if let Some(launched) = &launched {
        launched.direct(&mut args);
    }
    if let Some(url) = &args.database_url {
        machine.database = machine::database_version(url).await;
    }
    if let Some(binary) = plan.and_then(|plan| plan.binary.as_deref()) {
        let version = launch::version_of(binary).await.unwrap_or_default();
        (machine.rookery, machine.commit) = (version.trim_start_matches("rookery ").to_owned(), None);
    }
    args.check()?;
    let mut report = Box::pin(scenarios::play(&args)).await?;
    report.parameters = numbers_of(&args.scenario);
    if let Some(plan) = plan {
        report.parameters.insert("stored".to_owned(), plan.stored as f64);
    }
    report.parameters.extend(args.notes.iter().cloned());
    (report.date, report.machine, report.command) = (date, machine, machine::command_line());
    if let Some(launched) = launched {
        launched.end().await.iter().for_each(|complaint| scenarios::announce(complaint));
    }
    Ok(report)
}

/// The options of a scenario that are numbers, by their names.
fn numbers_of(scenario: &Scenario) -> BTreeMap<String, f64> {
    // { "Direct": { "pairs": 250, … } }
    let value = serde_json::to_value(scenario).unwrap_or_default();
    let options = value.as_object().and_then(|of_name| of_name.values().next()?.as_object().cloned());
    options.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()
}

/// Shows kept reports: a table, and a page where one is wished for.
fn show(reports: &[PathBuf], title: Option<&str>, html: Option<&Path>) -> anyhow::Result<()> {
    let (all, pairing) = files::read_all(reports)?;
    if let [Series { runs, .. }] = &all[..]
        && let [run] = &runs[..]
    {
        println!("{}", run.table());
    } else {
        println!("{}", series::table(&all, &series::lines(&all, pairing)));
    }
    let labels: Vec<&str> = all.iter().map(|one| one.label.as_str()).collect();
    let title = title.map_or_else(|| format!("Load: {}", labels.join(", ")), str::to_owned);
    html.map_or(Ok(()), |file| files::write_text(file, &page::of(&title, &all, pairing)))
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::read;
    use super::*;

    #[test]
    fn the_numbers_of_a_scenario_are_kept() {
        let args = read(&["load", "room", "--members", "7", "--rate", "2.5"]);
        let numbers = numbers_of(&args.scenario);
        assert_eq!((numbers.get("members"), numbers.get("rate")), (Some(&7.0), Some(&2.5)), "{numbers:?}");
        let idle = numbers_of(&read(&["load", "idle", "--connections", "3"]).scenario);
        assert_eq!(idle.get("connections"), Some(&3.0));
        assert!(numbers_of(&read(&["load", "chaos"]).scenario).is_empty());
    }
}
