//! The plots of a run, or of several over each other: rates, times, percentiles, CPU and memory.

use super::plot::{Line, Plot};
use super::scale::Scale;
use super::series::Series;
use super::{Brief, Report, Sample, Second};

/// Shares at which the axis of a percentile curve has ticks.
const SHARES: [(f64, &str); 7] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// The plots that these runs have data for, without captions.
pub(super) fn plots(all: &[Series]) -> Vec<(Plot, String)> {
    let runs: Vec<(&str, &Report)> =
        all.iter().filter_map(|series| Some((series.label.as_str(), series.middle()?))).collect();
    let plots = [
        rates(&runs),
        latencies(&runs, Way::Ack),
        latencies(&runs, Way::Receive),
        curves(&runs),
        cores(&runs),
        memory(&runs),
    ];
    plots.into_iter().flatten().map(|plot| (plot, String::new())).collect()
}

/// A name for a line: what it shows, of which series if there are several.
fn named(runs: &[(&str, &Report)], label: &str, what: &str) -> String {
    if runs.len() == 1 { what.to_owned() } else { format!("{label}: {what}") }
}

fn over_time(title: &str, y_name: &str, lines: Vec<Line>, fitting: bool) -> Option<Plot> {
    let lines: Vec<Line> =
        lines.into_iter().filter(|line| line.points.iter().any(|(_, value)| *value > 0.0)).collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(at, _)| *at).fold(0.0, f64::max);
    if lines.is_empty() {
        return None;
    }
    let values = points().map(|(_, value)| *value);
    let y = if fitting { Scale::fitting(values) } else { Scale::from_zero(values) };
    Some(Plot {
        title: title.to_owned(),
        x_name: "seconds since measuring began".to_owned(),
        y_name: y_name.to_owned(),
        x: Scale::exact(0.0, end),
        y,
        lines,
    })
}

fn points(report: &Report, of: impl Fn(&Second) -> f64) -> Vec<(f64, f64)> {
    report.series.iter().map(|second| (second.at, of(second))).collect()
}

fn rates(runs: &[(&str, &Report)]) -> Option<Plot> {
    let a_second = |count: u64, second: &Second| count as f64 / second.seconds.max(f64::EPSILON);
    let mut lines = Vec::new();
    for (at, (label, run)) in runs.iter().enumerate() {
        let messages = points(run, |second| a_second(second.messages, second));
        let deliveries = points(run, |second| a_second(second.deliveries, second));
        let refused = points(run, |second| a_second(second.refused, second));
        let several = runs.len() > 1;
        // Where each message is delivered once, both lines are one.
        let same = run.deliveries.abs_diff(run.messages) * 100 < run.messages.max(1);
        let colour = |own: usize| if several { at } else { own };
        lines.push(Line {
            name: named(runs, label, "messages"),
            colour: colour(0),
            points: messages,
            ..Line::default()
        });
        if !same {
            let name = named(runs, label, "deliveries");
            lines.push(Line {
                name,
                colour: colour(2),
                dashed: several,
                points: deliveries,
                ..Line::default()
            });
        }
        if !several {
            lines.push(Line { name: "refused".to_owned(), colour: 3, points: refused, ..Line::default() });
        }
    }
    over_time("Throughput", "a second", lines, false)
}

#[derive(Clone, Copy)]
enum Way {
    Ack,
    Receive,
}

fn latencies(runs: &[(&str, &Report)], way: Way) -> Option<Plot> {
    let brief = |second: &Second| -> Brief {
        match way {
            Way::Ack => second.send_to_ack,
            Way::Receive => second.send_to_receive,
        }
    };
    let of = |run: &Report, us: fn(Brief) -> u64| {
        let all = points(run, |second| us(brief(second)) as f64 / 1000.0);
        // A second in which nothing came has no time.
        all.into_iter().filter(|(_, ms)| *ms > 0.0).collect::<Vec<_>>()
    };
    let mut lines = Vec::new();
    for (at, (label, run)) in runs.iter().enumerate() {
        let line = |what: &str, colour: usize, dashed: bool, points: Vec<(f64, f64)>| Line {
            name: named(runs, label, what),
            colour,
            dashed,
            points,
            ..Line::default()
        };
        if runs.len() == 1 {
            lines.push(line("P50", 0, false, of(run, |brief| brief.p50_us)));
            lines.push(line("P99", 1, false, of(run, |brief| brief.p99_us)));
            lines.push(line("max", 7, true, of(run, |brief| brief.max_us)));
        } else {
            lines.push(line("P50", at, false, of(run, |brief| brief.p50_us)));
            lines.push(line("P99", at, true, of(run, |brief| brief.p99_us)));
        }
    }
    let title = match way {
        Way::Ack => "Send → ack",
        Way::Receive => "Send → receive",
    };
    over_time(title, "milliseconds", lines, true)
}

/// Which share came within which time. The axis gives each nine the same room.
fn curves(runs: &[(&str, &Report)]) -> Option<Plot> {
    let mut lines = Vec::new();
    for (at, (label, run)) in runs.iter().enumerate() {
        let several = runs.len() > 1;
        for (what, colour, curve, times) in [
            ("send → ack", 0, &run.send_to_ack_curve, run.send_to_ack),
            ("send → receive", 1, &run.send_to_receive_curve, run.send_to_receive),
        ] {
            // The last of n stands at 1 - 1/n; all of them have no place on this axis.
            let last = nines(1.0 - 1.0 / times.count.max(2) as f64);
            let points: Vec<(f64, f64)> =
                curve.iter().map(|(share, us)| (nines(*share).min(last), *us as f64 / 1000.0)).collect();
            if points.len() > 1 {
                let colour = if several { at } else { colour };
                let name = named(runs, label, what);
                lines.push(Line {
                    name,
                    colour,
                    dashed: several && what == "send → ack",
                    points,
                    ..Line::default()
                });
            }
        }
    }
    let end = lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at).fold(0.0, f64::max);
    let ms: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|(_, ms)| *ms).collect();
    (!lines.is_empty()).then(|| Plot {
        title: "Percentiles".to_owned(),
        x_name: "share of all that came within this time".to_owned(),
        y_name: "milliseconds".to_owned(),
        x: Scale::with_ticks(
            0.0,
            end,
            SHARES.map(|(share, label)| (nines(share), label.to_owned())).to_vec(),
        ),
        y: Scale::fitting(ms),
        lines,
    })
}

/// 0.9 → 1, 0.99 → 2; without bound towards 1.
fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-12).log10()
}

fn cores(runs: &[(&str, &Report)]) -> Option<Plot> {
    over_time("CPU", "cores in use", by_process(runs, |sample| sample.cores), false)
}

fn memory(runs: &[(&str, &Report)]) -> Option<Plot> {
    over_time("Memory", "MB resident", by_process(runs, |sample| sample.memory_bytes as f64 / 1e6), false)
}

fn by_process(runs: &[(&str, &Report)], of: fn(&Sample) -> f64) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, (label, run)) in runs.iter().enumerate() {
        for (place, process) in run.process_names().iter().enumerate() {
            let several = runs.len() > 1;
            // Of several series, the load itself is left out for clarity.
            if several && process == "this load" {
                continue;
            }
            let values = run
                .series
                .iter()
                .filter_map(|second| second.processes.get(place).map(|sample| (second.at, of(sample))));
            lines.push(Line {
                name: named(runs, label, process),
                colour: if several { at } else { place },
                dashed: several && process.starts_with("database"),
                points: values.collect(),
                ..Line::default()
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_has_the_same_room() {
        assert!((nines(0.9) - 1.0).abs() < 1e-9 && (nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(0.0).abs() < 1e-9 && nines(1.0).is_finite());
    }
}
