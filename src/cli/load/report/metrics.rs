//! The figures of a report that can be compared and drawn, by name.

use super::{Process, Report};

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
    /// It says how, and not how well: a faster server uses more cores.
    Neither,
}

/// One figure.
pub(super) struct Metric {
    /// Its name on the command line.
    pub(super) key: &'static str,
    /// What it is called for people.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// `None`: the report has no such figure.
    pub(super) of: fn(&Report) -> Option<f64>,
}

const fn metric(
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    better: Better,
    of: fn(&Report) -> Option<f64>,
) -> Metric {
    Metric { key, name, unit, better, of }
}

/// All that every scenario may have, in the order of tables.
pub(super) const METRICS: [Metric; 19] = [
    metric("messages_per_second", "messages", "/s", Better::Higher, |r| above_zero(r.messages_per_second)),
    metric("deliveries_per_second", "deliveries", "/s", Better::Higher, |r| {
        above_zero(r.deliveries_per_second)
    }),
    metric("cpu_us_per_message", "CPU a message, server and database", "µs", Better::Lower, |r| {
        by_message(r, &["server", "database"])
    }),
    metric("server_cpu_us_per_message", "CPU a message, server", "µs", Better::Lower, |r| {
        by_message(r, &["server"])
    }),
    metric("database_cpu_us_per_message", "CPU a message, database", "µs", Better::Lower, |r| {
        by_message(r, &["database"])
    }),
    metric("total_cpu_us_per_message", "CPU a message, this load included", "µs", Better::Lower, |r| {
        by_message(r, &["server", "database", "this load"])
    }),
    metric("server_cpu_us_per_delivery", "CPU a delivery, server", "µs", Better::Lower, |r| {
        by_delivery(r, &["server"])
    }),
    metric("total_cpu_us_per_delivery", "CPU a delivery, this load included", "µs", Better::Lower, |r| {
        by_delivery(r, &["server", "database", "this load"])
    }),
    metric("ack_p50_ms", "send → ack, P50", "ms", Better::Lower, |r| ms(r.send_to_ack.p50_us)),
    metric("ack_p99_ms", "send → ack, P99", "ms", Better::Lower, |r| ms(r.send_to_ack.p99_us)),
    metric("receive_p50_ms", "send → receive, P50", "ms", Better::Lower, |r| ms(r.send_to_receive.p50_us)),
    metric("receive_p99_ms", "send → receive, P99", "ms", Better::Lower, |r| ms(r.send_to_receive.p99_us)),
    metric("server_cores", "cores in use, server", "", Better::Neither, |r| {
        of_role(r, &["server"], |process| Some(process.cores))
    }),
    metric("server_waits_per_message", "waits of a thread a message, server", "", Better::Lower, |r| {
        let waits = of_role(r, &["server"], |process| Some(process.counts.voluntary_switches as f64))?;
        above_zero(waits / r.messages.max(1) as f64).filter(|_| r.messages > 0)
    }),
    metric("server_writes_per_message", "write calls a message, server", "", Better::Lower, |r| {
        let writes = of_role(r, &["server"], |process| Some(process.counts.write_calls as f64))?;
        above_zero(writes / r.messages.max(1) as f64).filter(|_| r.messages > 0)
    }),
    metric("server_memory_mb", "memory, server", "MB", Better::Lower, |r| {
        of_role(r, &["server"], |process| Some(process.memory_bytes as f64 / 1e6))
    }),
    metric("server_kib_per_connection", "memory a connection, server", "KiB", Better::Lower, |r| {
        let servers = r.processes.iter().filter(|process| process.role == "server");
        let each: Vec<f64> = servers.filter_map(|process| process.memory_bytes_per_connection).collect();
        (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64 / 1024.0)
    }),
    metric("database_memory_mb", "memory, database", "MB", Better::Lower, |r| {
        of_role(r, &["database"], |process| Some(process.memory_bytes as f64 / 1e6))
    }),
    metric("load_cores", "cores in use, this load", "", Better::Neither, |r| {
        of_role(r, &["this load"], |process| Some(process.cores))
    }),
];

/// A metric by its key.
pub(super) fn by_key(key: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.key == key)
}

/// What a cost may grow with: a field of the report, or one of its parameters.
pub(super) fn parameter(report: &Report, key: &str) -> Option<f64> {
    match key {
        "connections" => Some(report.connections as f64),
        "nodes" => Some(report.nodes as f64),
        "payload" => Some(report.payload_bytes as f64),
        _ => report.parameters.get(key).copied(),
    }
}

fn above_zero(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn ms(us: u64) -> Option<f64> {
    (us > 0).then_some(us as f64 / 1000.0)
}

/// The sum over the processes of these roles; `None` where there is none, or none has it.
fn of_role(report: &Report, roles: &[&str], value: impl Fn(&Process) -> Option<f64>) -> Option<f64> {
    let of_role = report.processes.iter().filter(|process| roles.contains(&process.role.as_str()));
    of_role.filter_map(value).reduce(|sum, more| sum + more)
}

fn by_message(report: &Report, roles: &[&str]) -> Option<f64> {
    of_role(report, roles, |process| process.cpu_us_per_message)
}

fn by_delivery(report: &Report, roles: &[&str]) -> Option<f64> {
    of_role(report, roles, |process| process.cpu_us_per_delivery)
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn costs_of_several_processes_add_up() {
        let mut report = example();
        let value = |report: &Report, key: &str| by_key(key).and_then(|metric| (metric.of)(report));
        assert_eq!(value(&report, "cpu_us_per_message"), Some(65.0));
        report.processes.push(report.processes[0].clone());
        assert_eq!(value(&report, "server_cpu_us_per_message"), Some(100.0));
        assert_eq!(value(&report, "server_writes_per_message"), Some(4.0));
        assert_eq!(value(&Report::default(), "cpu_us_per_message"), None);
        assert_eq!(value(&Report::default(), "messages_per_second"), None);
    }

    #[test]
    fn keys_are_unique() {
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[at + 1..].iter().all(|other| other.key != metric.key), "{}", metric.key);
        }
    }

    #[test]
    fn a_cost_grows_with_fields_and_parameters() {
        assert_eq!(parameter(&example(), "connections"), Some(10.0));
        assert_eq!(parameter(&example(), "pairs"), Some(5.0));
        assert_eq!(parameter(&example(), "stored"), None);
    }
}
