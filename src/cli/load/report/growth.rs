//! How a cost grows with something: one plot from many reports.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::Report;
use super::files::{read_all, write_text};
use super::metrics::{METRICS, by_key, parameter};
use super::page;
use super::plot::{Line, Plot};
use super::scale::Scale;
use super::series::{Series, Spread, number};

/// Draw how figures grow with the connections, members, rooms, nodes or stored messages of several reports.
#[derive(Clone, Debug, clap::Args)]
pub struct GrowthArgs {
    /// Reports that `rookery load --json` wrote.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What it grows with: connections, nodes, payload, a number of the scenario (members, rooms, pairs …), or what was
    /// noted (--note stored=1000000).
    #[arg(long, value_name = "NAME")]
    pub x: String,
    /// Which figures, with commas between; those of one unit share a plot.
    #[arg(long, value_delimiter = ',', default_value = "cpu_us_per_message", value_name = "NAME,…")]
    pub y: Vec<String>,
    /// Write plots as SVG: one to this file, more of them to files with the figure's name behind this one's.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The title of the plot.
    #[arg(long)]
    pub title: Option<String>,
}

/// A plot, its name for a file, and a sentence that says what it shows.
struct Drawn {
    name: String,
    plot: Plot,
    sentence: String,
}

/// Draws, writes the files, and gives the sentences.
pub(in crate::cli::load) fn run(args: &GrowthArgs, html: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let (all, _) = read_all(&args.files)?;
    let drawn = draw(&all, &args.x, &args.y, args.title.as_deref())?;
    if let Some(file) = &args.svg {
        for one in &drawn {
            let file = if drawn.len() == 1 { file.clone() } else { with_name(file, &one.name) };
            write_text(&file, &(one.plot.file() + "\n"))?;
        }
    }
    let sentences: Vec<String> = drawn.iter().map(|one| one.sentence.clone()).collect();
    if let Some(file) = html {
        let title = args.title.clone().unwrap_or_else(|| format!("Growth with {}", args.x));
        let mut body = format!("<h1>{}</h1>", super::plot::escape(&title));
        let plots: Vec<(Plot, String)> = drawn.into_iter().map(|one| (one.plot, one.sentence)).collect();
        page::write_plots(&mut body, &plots).context("a page can't be written")?;
        write_text(file, &page::page(&title, &body))?;
    }
    Ok(sentences)
}

/// `a/plot.svg` and `rate` → `a/plot-rate.svg`.
fn with_name(file: &Path, name: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-{name}.svg"))
}

/// One figure of a report: its name for people, its unit, and where it is.
struct Figure<'a> {
    key: &'a str,
    name: String,
    unit: String,
    of: Reading<'a>,
}

/// How it is read from a report.
type Reading<'a> = Box<dyn Fn(&Report) -> Option<f64> + 'a>;

fn figure<'a>(key: &'a str, runs: &[&Report]) -> anyhow::Result<Figure<'a>> {
    if let Some(metric) = by_key(key) {
        let (name, unit) = (metric.name.to_owned(), metric.unit.to_owned());
        return Ok(Figure { key, name, unit, of: Box::new(metric.of) });
    }
    // A figure of the scenario's own.
    let own = runs.iter().flat_map(|run| &run.figures).find(|figure| figure.name == key);
    let Some(own) = own else {
        let known: Vec<&str> = METRICS.iter().map(|metric| metric.key).collect();
        bail!(
            "no report has '{key}'; there are {}, and the scenarios' own figures by name",
            known.join(", ")
        );
    };
    let of = move |run: &Report| run.figures.iter().find(|one| one.name == key).map(|one| one.value);
    Ok(Figure { key, name: key.to_owned(), unit: own.unit.clone().into_owned(), of: Box::new(of) })
}

fn draw(all: &[Series], x: &str, keys: &[String], title: Option<&str>) -> anyhow::Result<Vec<Drawn>> {
    let runs: Vec<&Report> = all.iter().flat_map(|series| &series.runs).collect();
    if runs.iter().all(|run| parameter(run, x).is_none()) {
        let mut known: Vec<&str> =
            runs.iter().flat_map(|run| run.parameters.keys()).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        bail!("no report says its '{x}'; they say connections, nodes, payload, {}", known.join(", "));
    }
    let figures: Vec<Figure<'_>> =
        keys.iter().map(|key| figure(key, &runs)).collect::<anyhow::Result<_>>()?;
    let mut units: Vec<&str> = Vec::new();
    for figure in &figures {
        if !units.contains(&figure.unit.as_str()) {
            units.push(&figure.unit);
        }
    }
    let groups = groups_of(&runs);
    let mut drawn = Vec::new();
    for unit in units {
        let of_unit: Vec<&Figure<'_>> = figures.iter().filter(|figure| figure.unit == unit).collect();
        let mut lines = Vec::new();
        for (group, members) in &groups {
            for figure in &of_unit {
                let mut line = line_of(members, x, figure);
                line.name = match (groups.len(), of_unit.len()) {
                    (1, _) => figure.name.clone(),
                    (_, 1) => group.clone(),
                    _ => format!("{group}: {}", figure.name),
                };
                line.colour = lines.len();
                if !line.points.is_empty() {
                    lines.push(line);
                }
            }
        }
        let Some(first) = of_unit.first() else { continue };
        if lines.is_empty() {
            bail!("no report has both '{x}' and '{}'", first.key);
        }
        drawn.push(drawn_of(x, first, lines, title));
    }
    Ok(drawn)
}

/// Reports that belong on one line: of one scenario and one database. Named by what tells them apart.
fn groups_of<'a>(runs: &[&'a Report]) -> Vec<(String, Vec<&'a Report>)> {
    let key = |run: &Report| {
        let database = run.machine.database.as_deref().unwrap_or_default();
        let database = database.split(' ').next().unwrap_or_default().to_owned();
        (run.scenario.clone(), database)
    };
    let mut groups: Vec<((String, String), Vec<&Report>)> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|(other, _)| *other == key(run)) {
            Some((_, members)) => members.push(run),
            None => groups.push((key(run), vec![run])),
        }
    }
    let several = groups.iter().any(|((scenario, _), _)| *scenario != groups[0].0.0);
    let named = groups.iter().map(|((scenario, database), members)| {
        let name = match (several, database.is_empty()) {
            (true, false) => format!("{scenario}, {database}"),
            (true, true) => scenario.clone(),
            (false, _) => database.clone(),
        };
        (name, members.clone())
    });
    named.collect()
}

/// A point for each x: the median of its runs, with their ends.
fn line_of(runs: &[&Report], x: &str, figure: &Figure<'_>) -> Line {
    let mut values: Vec<(f64, f64)> =
        runs.iter().filter_map(|run| Some((parameter(run, x)?, (figure.of)(run)?))).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut line = Line::default();
    for at in values.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let Some(Spread { median, min, max }) = Spread::of(at.iter().map(|(_, value)| *value)) else {
            continue;
        };
        line.points.push((at[0].0, median));
        if at.len() > 1 {
            line.bars.push((at[0].0, min, max));
        }
    }
    line
}

fn drawn_of(x: &str, figure: &Figure<'_>, lines: Vec<Line>, title: Option<&str>) -> Drawn {
    let sentence = lines.iter().map(|line| sentence(x, line, &figure.unit)).collect::<Vec<_>>().join(" ");
    let points = || lines.iter().flat_map(|line| &line.points);
    let tops = lines.iter().flat_map(|line| &line.bars).map(|(_, _, most)| *most);
    let mut x_scale = Scale::fitting(points().map(|(at, _)| *at));
    x_scale.mark(points().map(|(at, _)| *at));
    let y = Scale::from_zero(points().map(|(_, value)| *value).chain(tops));
    let whole = if lines.len() == 1 { lines[0].name.clone() } else { figure.name.clone() };
    let plot = Plot {
        title: title.map_or_else(|| format!("{whole}, by {x}"), str::to_owned),
        x_name: x.to_owned(),
        y_name: if figure.unit.is_empty() { whole } else { figure.unit.clone() },
        x: x_scale,
        y,
        lines,
    };
    Drawn { name: figure.key.replace(' ', "-"), plot, sentence }
}

/// "CPU a message: 48.9 to 60.1 µs (×1.23) with connections from 1,000 to 20,000 (×20.0)."
fn sentence(x: &str, line: &Line, unit: &str) -> String {
    let (Some((x_from, from)), Some((x_to, to))) = (line.points.first(), line.points.last()) else {
        return String::new();
    };
    let whole = |value: f64| if value < 1000.0 { format!("{value}") } else { number(value) };
    format!(
        "{}: {} to {} {unit} (×{:.2}) with {x} from {} to {} (×{}).",
        line.name,
        number(*from),
        number(*to),
        to / from,
        whole(*x_from),
        whole(*x_to),
        number(x_to / x_from)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    /// A run with so many members, at this cost.
    fn run(members: f64, cost: f64, database: &str) -> Report {
        let mut run = example();
        run.parameters.insert("members".to_owned(), members);
        run.processes.iter_mut().for_each(|process| process.cpu_us_per_message = Some(cost / 2.0));
        run.machine.database = Some(database.to_owned());
        run
    }

    fn series(runs: Vec<Report>) -> Vec<Series> {
        vec![Series { label: "a".to_owned(), runs }]
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_point_is_the_median_of_its_runs() {
        let runs = vec![
            run(1000.0, 30.0, ""),
            run(10.0, 11.0, ""),
            run(10.0, 10.0, ""),
            run(10.0, 18.0, ""),
            run(100.0, 20.0, ""),
        ];
        let drawn =
            draw(&series(runs), "members", &keys(&["cpu_us_per_message"]), None).expect("all have both");
        let line = &drawn[0].plot.lines[0];
        assert_eq!(line.points, [(10.0, 11.0), (100.0, 20.0), (1000.0, 30.0)]);
        assert_eq!(line.bars, [(10.0, 10.0, 18.0)]);
        let sentence = &drawn[0].sentence;
        assert!(
            sentence.contains("11.0 to 30.0 µs (×2.73) with members from 10 to 1,000 (×100.0)"),
            "{sentence}"
        );
    }

    #[test]
    fn databases_get_lines_and_units_get_plots() {
        let runs = vec![run(10.0, 1.0, "SQLite"), run(20.0, 2.0, "MariaDB 10"), run(10.0, 3.0, "MariaDB 10")];
        let wanted = keys(&["cpu_us_per_message", "messages_per_second", "fetched"]);
        let drawn = draw(&series(runs), "members", &wanted, None).expect("all have all");
        assert_eq!(
            drawn.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["cpu_us_per_message", "messages_per_second"]
        );
        let names: Vec<&str> = drawn[0].plot.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["SQLite", "MariaDB"]);
        assert_eq!(drawn[1].plot.lines.len(), 4, "two figures a second of two databases");
    }

    #[test]
    fn what_no_report_has_is_said_with_what_there_is() {
        let all = series(vec![run(10.0, 1.0, "")]);
        let error = |x: &str, y: &str| match draw(&all, x, &keys(&[y]), None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(
            error("stored", "cpu_us_per_message").contains("members, pairs"),
            "{}",
            error("stored", "fetched")
        );
        assert!(error("members", "nothing").contains("messages_per_second"));
    }

    #[test]
    fn files_are_written_for_each_plot() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        super::super::files::write_runs(&at("a.json"), &[run(10.0, 1.0, ""), run(20.0, 2.0, "")])
            .expect("written");
        let args = GrowthArgs {
            files: vec![at("a.json")],
            x: "members".to_owned(),
            y: keys(&["cpu_us_per_message", "messages_per_second"]),
            svg: Some(at("plot.svg")),
            title: None,
        };
        let sentences = run_all(&args, &at("page.html"));
        assert_eq!(sentences.len(), 2);
        for file in ["plot-cpu_us_per_message.svg", "plot-messages_per_second.svg", "page.html"] {
            assert!(std::fs::read_to_string(at(file)).is_ok_and(|text| text.contains("<svg")), "{file}");
        }
    }

    fn run_all(args: &GrowthArgs, html: &Path) -> Vec<String> {
        super::run(args, Some(html)).expect("the files are good")
    }
}
