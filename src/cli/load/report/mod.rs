//! What a run came to: the data, as JSON keeps it.
//!
//! `table` and `page` (with the plots of `overview`) show it to people, `series` holds several runs against each other,
//! `growth` draws a cost over what it grows with. All are made from these data alone, so that a kept file can be shown again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checker::Verdict;
use super::machine::Machine;
use super::measure::{Brief, Curve, Times};
use super::process::Counts;

pub(super) mod files;
pub(super) mod growth;
mod json;
mod metrics;
mod overview;
pub(super) mod page;
mod plot;
mod scale;
pub(super) mod series;
mod table;

/// The report of one run. Files of older versions lack fields, which then are zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    pub(super) scenario: String,
    pub(super) transport: String,
    /// When it began, UTC.
    pub(super) date: String,
    /// As it was given.
    pub(super) command: String,
    pub(super) nodes: usize,
    pub(super) connections: usize,
    pub(super) payload_bytes: usize,
    /// The scenario's numbers by the names of its options, and those that were noted (`--note`).
    pub(super) parameters: BTreeMap<String, f64>,
    pub(super) seconds: f64,
    /// Messages answered with `sent` while measuring, and what each second had of them.
    pub(super) messages: u64,
    pub(super) messages_per_second: f64,
    /// The same of deliveries to receivers.
    pub(super) deliveries: u64,
    pub(super) deliveries_per_second: f64,
    pub(super) send_to_ack: Times,
    pub(super) send_to_receive: Times,
    /// Over the whole run, warm-up included.
    pub(super) checked: Verdict,
    pub(super) written: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// Messages of the open loop that their writer was too far behind to write.
    pub(super) skipped: u64,
    /// Connections that ended during the run, by reason.
    pub(super) closed: BTreeMap<String, u64>,
    /// What only this scenario has to say, in its order.
    pub(super) figures: Vec<Figure>,
    /// What was done beside or as messages, by kind, with times where it has any.
    pub(super) operations: Vec<Operation>,
    pub(super) processes: Vec<Process>,
    pub(super) machine: Machine,
    pub(super) send_to_ack_curve: Curve,
    pub(super) send_to_receive_curve: Curve,
    /// Second by second, while measuring.
    pub(super) series: Vec<Second>,
}

/// A figure that only some scenario has, such as "stored a second".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: Cow<'static, str>,
    pub(super) value: f64,
    pub(super) unit: Cow<'static, str>,
}

/// One kind of thing that the users did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) name: Cow<'static, str>,
    /// Its share of all that was done, in per cent, as the blend wants it.
    pub(super) share_percent: f64,
    pub(super) done: u64,
    pub(super) refused: u64,
    /// From its due time to its answer.
    pub(super) times: Times,
}

/// What one process cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) role: String,
    pub(super) pid: u32,
    pub(super) cpu_seconds: f64,
    /// Of these, in its own code and in the kernel.
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    /// Cores in use on average.
    pub(super) cores: f64,
    pub(super) cpu_us_per_message: Option<f64>,
    pub(super) cpu_us_per_delivery: Option<f64>,
    pub(super) memory_bytes: u64,
    pub(super) memory_growth_bytes: i64,
    /// For idle connections: growth by connection, if this process holds an equal share of them.
    pub(super) memory_bytes_per_connection: Option<f64>,
    /// What the kernel counted.
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// One second of the run, more or less.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Second {
    /// Its end, in seconds since measuring began.
    pub(super) at: f64,
    /// How long it really was.
    pub(super) seconds: f64,
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    pub(super) refused: u64,
    pub(super) send_to_ack: Brief,
    pub(super) send_to_receive: Brief,
    /// In the order of the report's processes.
    pub(super) processes: Vec<Sample>,
}

/// One process in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Cores in use.
    pub(super) cores: f64,
    pub(super) memory_bytes: u64,
}

impl Second {
    /// Takes in what came right after it. Percentiles stay as they are: those of a rest can't be merged.
    pub(super) fn absorb(&mut self, rest: Self) {
        let (own, more) = (self.seconds, rest.seconds);
        self.at = rest.at;
        self.seconds += more;
        self.messages += rest.messages;
        self.deliveries += rest.deliveries;
        self.refused += rest.refused;
        for (brief, other) in
            [(&mut self.send_to_ack, rest.send_to_ack), (&mut self.send_to_receive, rest.send_to_receive)]
        {
            if brief.max_us == 0 {
                *brief = other;
            }
            brief.max_us = brief.max_us.max(other.max_us);
        }
        for (sample, other) in self.processes.iter_mut().zip(rest.processes) {
            sample.cores = (sample.cores * own + other.cores * more) / self.seconds.max(f64::EPSILON);
            sample.memory_bytes = other.memory_bytes;
        }
    }
}

impl Report {
    /// Adds a figure of the scenario's own.
    pub(super) fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.into() });
    }

    /// Whether the server broke a promise.
    pub(super) fn has_faults(&self) -> bool {
        self.checked.lost + self.checked.doubled + self.checked.out_of_order > 0
    }

    /// The report for people.
    pub(super) fn table(&self) -> String {
        table::of(self)
    }

    /// The names of the processes: their role, with a number where several have it.
    pub(super) fn process_names(&self) -> Vec<String> {
        let count = |role: &str| self.processes.iter().filter(|process| process.role == role).count();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let names = self.processes.iter().map(|process| {
            let number = seen.entry(&process.role).or_default();
            *number += 1;
            if count(&process.role) > 1 { format!("{} {number}", process.role) } else { process.role.clone() }
        });
        names.collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report with something in every field.
    pub(super) fn example() -> Report {
        let second = |at: u64| Second {
            at: at as f64,
            seconds: 1.0,
            messages: 900 + 20 * at,
            deliveries: 900 + 20 * at,
            refused: u64::from(at == 2),
            send_to_ack: Brief { p50_us: 900, p99_us: 5_000 + 100 * at, max_us: 9_000 },
            send_to_receive: Brief { p50_us: 1_000, p99_us: 6_000, max_us: 9_500 },
            processes: vec![
                Sample { cores: 0.1, memory_bytes: 80_000_000 },
                Sample { cores: 0.05, memory_bytes: 200_000_000 },
            ],
        };
        let process = |role: &str, us: f64| Process {
            role: role.to_owned(),
            pid: 7,
            cpu_seconds: us / 100.0,
            user_seconds: us / 200.0,
            system_seconds: us / 200.0,
            cores: us / 1000.0,
            cpu_us_per_message: Some(us),
            cpu_us_per_delivery: Some(us),
            memory_bytes: 80_000_000,
            memory_growth_bytes: -4096,
            memory_bytes_per_connection: None,
            counts: Counts { voluntary_switches: 10_000, write_calls: 20_000, ..Counts::default() },
        };
        Report {
            scenario: "direct".to_owned(),
            transport: "WsProto".to_owned(),
            date: "2026-01-31T12:00:00Z".to_owned(),
            command: "rookery load direct --pairs 5".to_owned(),
            nodes: 1,
            connections: 10,
            payload_bytes: 200,
            parameters: BTreeMap::from([("pairs".to_owned(), 5.0)]),
            seconds: 10.0,
            messages: 10_000,
            messages_per_second: 1_000.0,
            deliveries: 10_000,
            deliveries_per_second: 1_000.0,
            send_to_ack: Times {
                count: 10_000,
                p50_us: 900,
                p90_us: 2_000,
                p99_us: 5_000,
                p999_us: 8_000,
                max_us: 9_000,
            },
            send_to_receive: Times {
                count: 10_000,
                p50_us: 1_000,
                p90_us: 2_500,
                p99_us: 6_000,
                p999_us: 9_000,
                max_us: 9_500,
            },
            checked: Verdict { received: 12_000, ..Verdict::default() },
            written: 12_000,
            refused: 1,
            figures: vec![Figure { name: "fetched".into(), value: 60_000.0, unit: "/s".into() }],
            processes: vec![process("server", 50.0), process("database", 15.0)],
            machine: Machine { cpu: "A CPU".to_owned(), cores: 2, ..Machine::default() },
            send_to_ack_curve: vec![(0.0, 500), (0.5, 900), (0.9, 2_000), (0.99, 5_000), (1.0, 9_000)],
            send_to_receive_curve: vec![(0.0, 600), (0.5, 1_000), (0.99, 6_000), (1.0, 9_500)],
            series: (1..=10).map(second).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_report_comes_back_from_json_as_it_was() {
        let report = example();
        let json = serde_json::to_string(&report).expect("it is plain data");
        let back: Report = serde_json::from_str(&json).expect("it was just written");
        assert_eq!(back, report);
    }

    #[test]
    fn a_report_of_the_first_version_is_read() {
        let json = r#"{"scenario": "direct", "messages": 5, "send_to_ack": {"count": 5, "p50_us": 1, "p90_us": 1,
            "p99_us": 1, "p999_us": 1, "max_us": 2}, "processes": [{"role": "server", "pid": 3, "cpu_seconds": 1.5,
            "cores": 0.1, "cpu_us_per_message": 4.0, "cpu_us_per_delivery": null, "memory_bytes": 1,
            "memory_growth_bytes": 0, "memory_bytes_per_connection": null}]}"#;
        let report: Report = serde_json::from_str(json).expect("what is new may be missing");
        assert_eq!((report.messages, report.processes[0].cpu_us_per_message), (5, Some(4.0)));
        assert_eq!(report.processes[0].counts, Counts::default());
    }

    #[test]
    fn processes_of_one_role_are_told_apart() {
        let process = |role: &str| Process { role: role.to_owned(), ..Process::default() };
        let report = Report {
            processes: vec![process("server"), process("server"), process("database")],
            ..Report::default()
        };
        assert_eq!(report.process_names(), ["server 1", "server 2", "database"]);
    }

    #[test]
    fn a_second_takes_in_its_rest() {
        let mut second = example().series[0].clone();
        let mut rest = second.clone();
        (rest.seconds, rest.at, rest.processes[0].cores) = (0.25, 1.25, 0.6);
        rest.send_to_ack.max_us = 20_000;
        second.absorb(rest);
        assert_eq!((second.messages, second.at, second.seconds), (1840, 1.25, 1.25));
        assert_eq!(second.send_to_ack.max_us, 20_000);
        assert!((second.processes[0].cores - 0.2).abs() < 1e-9, "{second:?}");
    }
}
