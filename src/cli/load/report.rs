//! What a run came to, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::checker::Verdict;
use super::measure::Times;

/// The report of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) scenario: String,
    pub(super) transport: String,
    pub(super) nodes: usize,
    pub(super) connections: usize,
    pub(super) payload_bytes: usize,
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
    pub(super) processes: Vec<Process>,
    /// What only this scenario has to say, in its order.
    pub(super) figures: Vec<Figure>,
    /// What was done beside or as messages, by kind, with times where it has any.
    pub(super) operations: Vec<Operation>,
}

/// A figure that only some scenario has, such as "stored a second".
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

/// One kind of thing that the users did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Its share of all that was done, in per cent, as the blend wants it.
    pub(super) share_percent: f64,
    pub(super) done: u64,
    pub(super) refused: u64,
    /// From its due time to its answer.
    pub(super) times: Times,
}

/// What one process cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Process {
    pub(super) role: String,
    pub(super) pid: u32,
    pub(super) cpu_seconds: f64,
    /// Cores in use on average.
    pub(super) cores: f64,
    pub(super) cpu_us_per_message: Option<f64>,
    pub(super) cpu_us_per_delivery: Option<f64>,
    pub(super) memory_bytes: u64,
    pub(super) memory_growth_bytes: i64,
    /// For idle connections: growth by connection, if this process holds an equal share of them.
    pub(super) memory_bytes_per_connection: Option<f64>,
}

impl Report {
    /// Adds a figure of the scenario's own.
    pub(super) fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name, value, unit });
    }

    /// Whether the server broke a promise.
    pub(super) fn has_faults(&self) -> bool {
        self.checked.lost + self.checked.doubled + self.checked.out_of_order > 0
    }

    /// The report for people.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = self.write_table(&mut out);
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{} over {}: {} connections, {} node(s), {} bytes a message, {:.1} s measured",
            self.scenario, self.transport, self.connections, self.nodes, self.payload_bytes, self.seconds
        )?;
        if self.written > 0 {
            writeln!(out)?;
            writeln!(out, "{:<16} {:>12} {:>12}", "", "count", "a second")?;
            for (name, count, rate) in [
                ("messages", self.messages, self.messages_per_second),
                ("deliveries", self.deliveries, self.deliveries_per_second),
            ] {
                writeln!(out, "{name:<16} {count:>12} {rate:>12.0}")?;
            }
            writeln!(out)?;
            let header = ["p50", "p90", "p99", "p99.9", "max"].map(|name| format!("{name:>10}")).concat();
            writeln!(out, "{:<16}{header}", "milliseconds")?;
            for (name, times) in
                [("send to ack", self.send_to_ack), ("send to receive", self.send_to_receive)]
            {
                let values = [times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us]
                    .map(|us| format!("{:>10.3}", us as f64 / 1000.0))
                    .concat();
                writeln!(out, "{name:<16}{values}")?;
            }
            writeln!(out)?;
            let Verdict { received, lost, doubled, out_of_order } = self.checked;
            writeln!(
                out,
                "checked: {} written, {received} received, {lost} lost, {doubled} doubled, {out_of_order} out of order",
                self.written
            )?;
            writeln!(
                out,
                "refused: {}, unanswered: {}, skipped by us: {}",
                self.refused, self.unanswered, self.skipped
            )?;
        }
        self.write_own_figures(out)?;
        for (reason, count) in &self.closed {
            writeln!(out, "closed: {count} connections: {reason}")?;
        }
        if !self.processes.is_empty() {
            writeln!(out)?;
            writeln!(
                out,
                "{:<10} {:>8} {:>8} {:>8} {:>12} {:>12} {:>10} {:>10} {:>14}",
                "process",
                "pid",
                "CPU s",
                "cores",
                "µs/message",
                "µs/delivery",
                "MB",
                "MB grown",
                "KB/connection"
            )?;
        }
        for process in &self.processes {
            let optional =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
            writeln!(
                out,
                "{:<10} {:>8} {:>8.2} {:>8.2} {:>12} {:>12} {:>10.1} {:>10.1} {:>14}",
                process.role,
                process.pid,
                process.cpu_seconds,
                process.cores,
                optional(process.cpu_us_per_message),
                optional(process.cpu_us_per_delivery),
                process.memory_bytes as f64 / 1e6,
                process.memory_growth_bytes as f64 / 1e6,
                optional(process.memory_bytes_per_connection.map(|bytes| bytes / 1e3)),
            )?;
        }
        Ok(())
    }
}

impl Report {
    /// What only this scenario has.
    fn write_own_figures(&self, out: &mut String) -> std::fmt::Result {
        for Figure { name, value, unit } in &self.figures {
            writeln!(out, "{name:<34} {value:>14.3} {unit}")?;
        }
        if self.operations.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        writeln!(
            out,
            "{:<22} {:>8} {:>10} {:>8} {:>10} {:>10} {:>10}",
            "operation", "share %", "done", "refused", "p50 ms", "p99 ms", "max ms"
        )?;
        for operation in &self.operations {
            let Operation { name, share_percent, done, refused, times } = operation;
            let ms = [times.p50_us, times.p99_us, times.max_us].map(|us| us as f64 / 1000.0);
            writeln!(
                out,
                "{name:<22} {share_percent:>8.1} {done:>10} {refused:>8} {:>10.3} {:>10.3} {:>10.3}",
                ms[0], ms[1], ms[2]
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_matters() {
        let report = Report {
            scenario: "direct".to_owned(),
            written: 10,
            messages: 10,
            checked: Verdict { received: 9, lost: 1, ..Verdict::default() },
            ..Report::default()
        };
        assert!(report.has_faults());
        let table = report.table();
        assert!(table.contains("10 written, 9 received, 1 lost, 0 doubled, 0 out of order"), "{table}");
    }
}
