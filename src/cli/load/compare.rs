//! Two servers, or two settings of one, in turns on one machine: what drifts hits both alike.
//!
//! The order is A B B A A B B A …, each run with nodes and a database of its own. A ratio is the median over pairs of
//! neighbours.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args as _, FromArgMatches as _};

use super::args::{LoadArgs, RUNS_MAX, Scenario};
use super::launch::LaunchArgs;
use super::launch::{Plan, key_and_value};
use super::machine;
use super::report::files::Comparison;
use super::report::series::Series;
use super::runs::run_once;

/// Runs of each side without --runs.
const RUNS: usize = 5;
/// Most sides: more would be too long apart to be neighbours.
const SIDES_MAX: usize = 8;

/// Run one scenario against several programs or settings in turns, and show the ratios.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// A name for each side, in order. Default: the names of the programs, else a and b.
    #[arg(long = "label", value_name = "NAME")]
    pub labels: Vec<String>,
    /// A key of the configuration on the first side alone.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub config_a: Vec<(String, String)>,
    /// The same on the second.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub config_b: Vec<(String, String)>,
    /// Nodes on the second side, where not as many as by --launch.
    #[arg(long, value_name = "NODES")]
    pub launch_b: Option<usize>,
    /// The second side's database, where it is another than --database.
    #[arg(long, value_name = "DATABASE")]
    pub database_b: Option<String>,
    /// Options that the second side's scenario has besides, in one word: '--transport tcp'.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub arguments_b: Option<String>,
    /// The scenario with all its options, behind "--".
    #[arg(last = true, required = true, value_name = "SCENARIO")]
    pub scenario: Vec<String>,
}

/// One of those compared.
#[derive(Debug)]
struct Side {
    label: String,
    plan: Plan,
    args: LoadArgs,
}

/// Runs everything; the outcome of each side.
pub(super) async fn run(
    args: &CompareArgs,
    launch: &LaunchArgs,
    runs: Option<usize>,
) -> anyhow::Result<Comparison> {
    let runs = runs.unwrap_or(RUNS);
    if runs == 0 || runs > RUNS_MAX {
        bail!("--runs must be 1 to {RUNS_MAX}");
    }
    let sides = sides(args, launch)?;
    let (date, command) = (machine::date(), machine::command_line());
    let mut series: Vec<Series> =
        sides.iter().map(|side| Series { label: side.label.clone(), runs: Vec::new() }).collect();
    for run in 0..runs {
        for at in order(run, sides.len()) {
            let side = &sides[at];
            announce(&format!("run {} of {runs}, {}", run + 1, side.label));
            let report = Box::pin(run_once(&side.args, Some(&side.plan))).await;
            series[at].runs.push(report.with_context(|| format!("a run of {} failed", side.label))?);
        }
    }
    Ok(Comparison::new(date, command, series))
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
fn announce(text: &str) {
    eprintln!("{text}");
}

/// Forward in one round and backward in the next.
fn order(round: usize, sides: usize) -> Vec<usize> {
    let forward = 0..sides;
    if round.is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

fn sides(args: &CompareArgs, launch: &LaunchArgs) -> anyhow::Result<Vec<Side>> {
    let count = launch.binaries.len().max(2);
    if count > SIDES_MAX || args.labels.len() > count {
        bail!("at most {SIDES_MAX} sides can be compared, and a label is for one of them");
    }
    let sides = (0..count).map(|at| side(args, launch, at));
    let sides: Vec<Side> = sides.collect::<anyhow::Result<_>>()?;
    for (at, side) in sides.iter().enumerate() {
        if sides[at + 1..].iter().any(|other| other.label == side.label) {
            bail!("two sides are called '{}'; name them with --label", side.label);
        }
    }
    Ok(sides)
}

fn side(args: &CompareArgs, launch: &LaunchArgs, at: usize) -> anyhow::Result<Side> {
    let second = at == 1;
    // A single program is on all sides.
    let binary: Option<PathBuf> = launch.binaries.get(at).or(launch.binaries.first()).cloned();
    let own = match at {
        0 => &args.config_a[..],
        1 => &args.config_b[..],
        _ => &[],
    };
    let database = launch.database.clone().unwrap_or_else(|| "sqlite".to_owned());
    let plan = Plan {
        nodes: args.launch_b.filter(|_| second).or(launch.launch).unwrap_or(1),
        database: args.database_b.clone().filter(|_| second).unwrap_or(database),
        config: launch.config.iter().chain(own).cloned().collect(),
        binary,
        stored: launch.stored.unwrap_or(0),
    };
    plan.check()?;
    let more = args.arguments_b.iter().filter(|_| second).flat_map(|words| words.split_whitespace());
    let words = args.scenario.iter().map(String::as_str).chain(more);
    let name = args.labels.get(at).cloned().unwrap_or_else(|| label_of(launch, at));
    Ok(Side { label: name, plan, args: scenario(words)? })
}

fn label_of(launch: &LaunchArgs, at: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(at).unwrap_or(25).min(25));
    let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
    match (launch.binaries.len(), launch.binaries.get(at).and_then(name)) {
        (0 | 1, _) | (_, None) => letter.to_string(),
        (_, Some(name)) => {
            let same = launch.binaries.iter().filter(|other| other.file_name().is_some_and(|n| *n == *name));
            if same.count() > 1 { letter.to_string() } else { name }
        }
    }
}

/// The arguments behind "--" are those of `rookery load`.
fn scenario<'a>(words: impl Iterator<Item = &'a str>) -> anyhow::Result<LoadArgs> {
    let command = LoadArgs::augment_args(clap::Command::new("rookery load"));
    let matches = command
        .try_get_matches_from(std::iter::once("rookery load").chain(words))
        .context("what is behind \"--\" is no scenario")?;
    let args = LoadArgs::from_arg_matches(&matches).context("what is behind \"--\" is no scenario")?;
    if args.scenario.is_of_its_own() {
        bail!("what is behind \"--\" must be a scenario of load");
    }
    if args.launch.is_given() {
        bail!("servers are started by `compare`: --launch and its kin go before \"--\"");
    }
    if args.json.is_some() || args.html.is_some() || args.runs.is_some() {
        bail!("--json, --html and --runs go before \"--\"");
    }
    Ok(args)
}

impl Scenario {
    /// Whether it is a command that does not measure servers it is told of.
    pub(super) fn is_of_its_own(&self) -> bool {
        matches!(self, Self::Chaos(_) | Self::Report { .. } | Self::Growth(_) | Self::Compare(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::read;
    use super::*;

    fn compared(words: &[&str]) -> anyhow::Result<Vec<Side>> {
        let args = read(&[&["load", "compare"], words].concat());
        let Scenario::Compare(compare) = &args.scenario else { panic!("it is a comparison") };
        sides(compare, &args.launch)
    }

    #[test]
    fn runs_alternate_there_and_back() {
        let rounds: Vec<usize> = (0..4).flat_map(|round| order(round, 2)).collect();
        assert_eq!(rounds, [0, 1, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn sides_differ_in_what_was_said_only() {
        let words = "--binary old/rookery --binary new/rookery --database mariadb --config-b storage.writers=4 \
                     --config room.x=1 --launch-b 2 --arguments-b=--transport=tcp --label old -- direct --pairs 3";
        let both = compared(&words.split_whitespace().collect::<Vec<_>>()).expect("it is good");
        let [old, new] = &both[..] else { panic!("two sides: {both:?}") };
        assert_eq!((old.label.as_str(), new.label.as_str()), ("old", "b"));
        assert_eq!((old.plan.nodes, new.plan.nodes), (1, 2));
        assert_eq!((old.plan.config.len(), new.plan.config.len()), (1, 2));
        assert_eq!((old.plan.database.as_str(), new.plan.database.as_str()), ("mariadb", "mariadb"));
        assert_ne!(old.plan.binary, new.plan.binary);
        assert_ne!(old.args.transport, new.args.transport);
        assert!(matches!(new.args.scenario, Scenario::Direct(super::super::args::PairArgs { pairs: 3, .. })));
    }

    #[test]
    fn one_program_is_on_both_sides() {
        let both = compared(&["--binary", "x/rookery", "--", "idle"]).expect("it is good");
        assert_eq!(both[0].plan, both[1].plan);
        assert_eq!((both[0].label.as_str(), both[1].label.as_str()), ("a", "b"));
        let named = compared(&["--binary", "x/one", "--binary", "x/two", "--", "idle"]).expect("it is good");
        assert_eq!((named[0].label.as_str(), named[1].label.as_str()), ("one", "two"));
    }

    #[test]
    fn what_belongs_before_the_dashes_is_refused_behind_them() {
        for bad in [
            &["--", "chaos"][..],
            &["--", "idle", "--launch", "2"],
            &["--", "idle", "--json", "x"],
            &["--", "nothing"],
            &["--label", "x", "--label", "x", "--", "idle"],
        ] {
            assert!(compared(bad).is_err(), "{bad:?}");
        }
    }
}
