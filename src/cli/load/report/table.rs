//! A report as a table for a terminal.

use std::fmt::Write as _;

use super::{Figure, Operation, Report};
use crate::cli::load::checker::Verdict;

/// The whole of it.
pub(super) fn of(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "{} over {}: {} connections, {} node(s), {} bytes a message, {:.1} s measured",
        report.scenario,
        report.transport,
        report.connections,
        report.nodes,
        report.payload_bytes,
        report.seconds
    )?;
    let machine = &report.machine;
    if machine.cores > 0 {
        write!(out, "on {} × {}, Linux {}", machine.cores, machine.cpu, machine.kernel)?;
        if let Some(database) = &machine.database {
            write!(out, ", {database}")?;
        }
        writeln!(out, "; load before: {:.2}", machine.load_before)?;
    }
    if report.written > 0 {
        write_messages(report, out)?;
    }
    write_own_figures(report, out)?;
    for (reason, count) in &report.closed {
        writeln!(out, "closed: {count} connections: {reason}")?;
    }
    write_processes(report, out)
}

fn write_messages(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out)?;
    writeln!(out, "{:<16} {:>12} {:>12}", "", "count", "a second")?;
    for (name, count, rate) in [
        ("messages", report.messages, report.messages_per_second),
        ("deliveries", report.deliveries, report.deliveries_per_second),
    ] {
        writeln!(out, "{name:<16} {count:>12} {rate:>12.0}")?;
    }
    writeln!(out)?;
    let header = ["p50", "p90", "p99", "p99.9", "max"].map(|name| format!("{name:>10}")).concat();
    writeln!(out, "{:<16}{header}", "milliseconds")?;
    for (name, times) in [("send to ack", report.send_to_ack), ("send to receive", report.send_to_receive)] {
        let values = [times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us]
            .map(|us| format!("{:>10.3}", us as f64 / 1000.0))
            .concat();
        writeln!(out, "{name:<16}{values}")?;
    }
    writeln!(out)?;
    let Verdict { received, lost, doubled, out_of_order } = report.checked;
    writeln!(
        out,
        "checked: {} written, {received} received, {lost} lost, {doubled} doubled, {out_of_order} out of order",
        report.written
    )?;
    writeln!(
        out,
        "refused: {}, unanswered: {}, skipped by us: {}",
        report.refused, report.unanswered, report.skipped
    )
}

/// What only this scenario has.
fn write_own_figures(report: &Report, out: &mut String) -> std::fmt::Result {
    for Figure { name, value, unit } in &report.figures {
        writeln!(out, "{name:<34} {value:>14.3} {unit}")?;
    }
    if report.operations.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:<22} {:>8} {:>10} {:>8} {:>10} {:>10} {:>10}",
        "operation", "share %", "done", "refused", "p50 ms", "p99 ms", "max ms"
    )?;
    for operation in &report.operations {
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

fn write_processes(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.processes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:<10} {:>7} {:>8} {:>7} {:>10} {:>11} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "process",
        "CPU s",
        "kernel %",
        "cores",
        "µs/message",
        "µs/delivery",
        "MB",
        "MB grown",
        "KB/conn",
        "waits/s",
        "reads/s",
        "writes/s"
    )?;
    let a_second = |count: u64| count as f64 / report.seconds.max(f64::EPSILON);
    for (process, name) in report.processes.iter().zip(report.process_names()) {
        let optional =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        writeln!(
            out,
            "{:<10} {:>7.2} {:>8.0} {:>7.2} {:>10} {:>11} {:>9.1} {:>9.1} {:>8} {:>8.0} {:>8.0} {:>8.0}",
            name,
            process.cpu_seconds,
            100.0 * process.system_seconds / process.cpu_seconds.max(f64::EPSILON),
            process.cores,
            optional(process.cpu_us_per_message),
            optional(process.cpu_us_per_delivery),
            process.memory_bytes as f64 / 1e6,
            process.memory_growth_bytes as f64 / 1e6,
            optional(process.memory_bytes_per_connection.map(|bytes| bytes / 1e3)),
            a_second(process.counts.voluntary_switches),
            a_second(process.counts.read_calls),
            a_second(process.counts.write_calls),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
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

    #[test]
    fn a_full_table_names_processes_and_own_figures() {
        let table = example().table();
        for words in ["on 2 × A CPU", "server", "database", "fetched", "60000.000 /s", "50.0"] {
            assert!(table.contains(words), "{words} is missing in\n{table}");
        }
    }
}
