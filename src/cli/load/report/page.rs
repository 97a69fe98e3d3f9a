//! Reports as one HTML page that needs nothing else: figures, plots, and what they were made with.

use std::fmt::Write as _;

use super::overview::plots;
use super::plot::{Plot, STYLE, escape};
use super::series::{self, Pairing, Series, number, ratio_words, spread};
use super::{Operation, Report};

/// A ratio nearer to 1 than this is no difference that a run can show.
const NOISE: f64 = 0.03;

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1f2430;--soft:#667085;--rule:#e4e7ec;--good:#0f7a53;\
--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--paper:#0e1116;--card:#14171d;--ink:#e6e9ef;--soft:#98a2b3;--rule:#2b313c;\
--good:#4cc79a;--bad:#f0788c}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{max-width:1180px;margin:0 auto;padding:32px 20px 60px}h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}\
h2{font-size:17px;margin:34px 0 12px}.soft{color:var(--soft)}p{margin:4px 0}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin:22px 0}\
.card,figure,.sheet{background:var(--card);border:1px solid var(--rule);border-radius:10px}\
.card{padding:14px 16px}.card b{display:block;font-size:25px;font-weight:650;letter-spacing:-.01em;\
font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));gap:14px}\
figure{margin:0;padding:8px 6px 4px}figure svg{display:block;width:100%;height:auto}\
figcaption{color:var(--soft);font-size:13px;padding:0 12px 10px}\
.sheet{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:7px 14px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}\
table.tight{font-size:13.5px}.tight th,.tight td{padding:6px 9px}.tight th{font-size:12px}\
tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:600;font-size:13px}\
th:first-child,td:first-child{text-align:left}.good{color:var(--good);font-weight:600}\
.bad{color:var(--bad);font-weight:600}.verdict{padding:12px 16px;margin:14px 0}\
pre{margin:0;padding:12px 16px;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}";

/// The page of these series. There is at least one run.
pub(in crate::cli::load) fn of(title: &str, all: &[Series], pairing: Pairing) -> String {
    let mut body = String::new();
    // Writing to a String can't fail.
    let _ = write_body(&mut body, title, all, pairing);
    page(title, &body)
}

/// A page around this.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n\
         <style>{PAGE_STYLE}{STYLE}</style>\n<main>\n{body}\n</main>\n</html>\n",
        escape(title)
    )
}

fn write_body(out: &mut String, title: &str, all: &[Series], pairing: Pairing) -> std::fmt::Result {
    let Some(first) = all.iter().find_map(Series::middle) else {
        return write!(out, "<h1>{}</h1><p>There is no run.</p>", escape(title));
    };
    writeln!(out, "<h1>{}</h1>", escape(title))?;
    writeln!(out, "<p class=\"soft\">{}</p>", escape(&subtitle(first)))?;
    writeln!(out, "<p class=\"soft\">{}</p>", escape(&machine(first)))?;
    let one = all.len() == 1;
    if one {
        write_cards(out, &all[0], pairing)?;
    }
    write_verdict(out, all)?;
    if !one || all[0].runs.len() > 1 {
        write_lines(out, all, pairing)?;
    }
    let plots = plots(all);
    if !plots.is_empty() {
        write!(out, "<h2>Over the run</h2>")?;
        if all.iter().any(|series| series.runs.len() > 1) {
            write!(out, "<p class=\"soft\">Of several runs, the one with the middle rate is drawn.</p>")?;
        }
        write_plots(out, &plots)?;
    }
    if one {
        write_times(out, first)?;
        write_operations(out, first)?;
        write_processes(out, first)?;
    }
    write!(out, "<h2>Commands</h2><div class=\"sheet\"><pre>")?;
    let mut commands: Vec<&str> =
        all.iter().flat_map(|one| &one.runs).map(|run| run.command.as_str()).collect();
    commands.dedup();
    for command in commands {
        writeln!(out, "{}", escape(command))?;
    }
    write!(out, "</pre></div>")
}

fn subtitle(report: &Report) -> String {
    let mut parts = vec![
        format!("{} over {}", report.scenario, report.transport),
        format!("{} connections", number_whole(report.connections as f64)),
        format!("{} node(s)", report.nodes),
        format!("{} bytes a message", report.payload_bytes),
        format!("{:.0} s measured", report.seconds),
    ];
    parts.extend((!report.date.is_empty()).then(|| report.date.clone()));
    parts.join(" · ")
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    if machine.cores == 0 {
        return "The machine is not known.".to_owned();
    }
    let mut parts = vec![
        format!("{} × {}", machine.cores, machine.cpu),
        format!("{:.0} GB memory", machine.memory_bytes as f64 / 1e9),
        format!("Linux {}", machine.kernel),
        format!("rookery {}", machine.rookery),
    ];
    parts.extend(machine.commit.as_ref().map(|commit| format!("commit {commit}")));
    parts.extend(machine.database.clone());
    parts.push(format!("load before: {:.2}", machine.load_before));
    parts.join(" · ")
}

fn number_whole(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0}") } else { number(value) }
}

/// The figures that one looks for first.
fn write_cards(out: &mut String, series: &Series, pairing: Pairing) -> std::fmt::Result {
    const KEYS: [&str; 9] = [
        "messages_per_second",
        "deliveries_per_second",
        "server_cpu_us_per_message",
        "database_cpu_us_per_message",
        "receive_p50_ms",
        "receive_p99_ms",
        "ack_p99_ms",
        "server_kib_per_connection",
        "server_memory_mb",
    ];
    let lines = series::lines(std::slice::from_ref(series), pairing);
    let of_scenario = lines.iter().filter(|line| line.key == line.name);
    write!(out, "<div class=\"cards\">")?;
    for line in lines.iter().filter(|line| KEYS.contains(&line.key.as_str())).chain(of_scenario) {
        let Some(Some(value)) = line.values.first() else { continue };
        let (value, unit, name) = (number(value.median), escape(&line.unit), escape(&line.name));
        write!(out, "<div class=\"card\"><b>{value} {unit}</b><span>{name}</span></div>")?;
    }
    writeln!(out, "</div>")
}

/// Whether promises were kept: the figures of a server that breaks them are worth nothing.
fn write_verdict(out: &mut String, all: &[Series]) -> std::fmt::Result {
    let runs = || all.iter().flat_map(|series| &series.runs);
    let sum = |of: fn(&Report) -> u64| runs().map(of).sum::<u64>();
    let (lost, doubled) = (sum(|run| run.checked.lost), sum(|run| run.checked.doubled));
    let (late, refused) = (sum(|run| run.checked.out_of_order), sum(|run| run.refused));
    let closed: u64 = runs().flat_map(|run| run.closed.values()).sum();
    let class = if lost + doubled + late > 0 { "bad" } else { "good" };
    let word = if lost + doubled + late > 0 { "Promises broken" } else { "Every delivery checked" };
    let received = number_whole(sum(|run| run.checked.received) as f64);
    let (unanswered, skipped) = (sum(|run| run.unanswered), sum(|run| run.skipped));
    writeln!(
        out,
        "<p class=\"sheet verdict\"><span class=\"{class}\">{word}</span>: {received} received, {lost} lost, {doubled} \
         doubled, {late} out of order; {refused} refused, {unanswered} unanswered, {skipped} skipped by the load; \
         {closed} connections closed.</p>"
    )
}

/// Medians, spreads and ratios.
fn write_lines(out: &mut String, all: &[Series], pairing: Pairing) -> std::fmt::Result {
    let lines = series::lines(all, pairing);
    write!(out, "<h2>Medians (least … most)</h2><div class=\"sheet\"><table><tr><th></th>")?;
    for (at, series) in all.iter().enumerate() {
        write!(out, "<th>{}, {} run(s)</th>", escape(&series.label), series.runs.len())?;
        if at > 0 {
            write!(out, "<th>to {}</th>", escape(&all[0].label))?;
        }
    }
    write!(out, "</tr>")?;
    for line in &lines {
        let unit = if line.unit.is_empty() { String::new() } else { format!(" [{}]", line.unit) };
        write!(out, "<tr><td>{}</td>", escape(&format!("{}{unit}", line.name)))?;
        for (at, value) in line.values.iter().enumerate() {
            write!(out, "<td>{}</td>", value.map_or_else(|| "–".to_owned(), spread))?;
            if at > 0 {
                let ratio = line.ratios.get(at - 1).copied().flatten();
                let class = ratio.map_or("", |ratio| class_of(ratio.median, line.higher_is_better));
                let shown = ratio.map_or_else(|| "–".to_owned(), ratio_words);
                write!(out, "<td class=\"{class}\">{shown}</td>")?;
            }
        }
        write!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")?;
    if all.len() > 1 {
        let how = match pairing {
            Pairing::Alternating => "Runs took turns; a ratio is the median of those of neighbours.",
            Pairing::Apart => "Runs did not take turns; a ratio is that of the medians.",
        };
        writeln!(out, "<p class=\"soft\">{how}</p>")?;
    }
    Ok(())
}

fn class_of(ratio: f64, higher_is_better: Option<bool>) -> &'static str {
    match higher_is_better {
        None => "",
        Some(_) if (ratio - 1.0).abs() < NOISE => "",
        Some(higher) if (ratio > 1.0) == higher => "good",
        Some(_) => "bad",
    }
}

pub(super) fn write_plots(out: &mut String, plots: &[(Plot, String)]) -> std::fmt::Result {
    write!(out, "<div class=\"plots\">")?;
    for (plot, caption) in plots {
        write!(out, "<figure>{}", plot.element())?;
        if !caption.is_empty() {
            write!(out, "<figcaption>{}</figcaption>", escape(caption))?;
        }
        writeln!(out, "</figure>")?;
    }
    writeln!(out, "</div>")
}

fn write_times(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.send_to_ack.count + report.send_to_receive.count == 0 {
        return Ok(());
    }
    write!(
        out,
        "<h2>Times</h2><div class=\"sheet\"><table><tr><th>milliseconds</th><th>count</th><th>P50</th><th>P90</th>\
         <th>P99</th><th>P99.9</th><th>max</th></tr>"
    )?;
    for (name, times) in [("send → ack", report.send_to_ack), ("send → receive", report.send_to_receive)]
    {
        write!(out, "<tr><td>{name}</td><td>{}</td>", number_whole(times.count as f64))?;
        for us in [times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us] {
            write!(out, "<td>{:.3}</td>", us as f64 / 1000.0)?;
        }
        write!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn write_operations(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.operations.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<h2>Operations</h2><div class=\"sheet\"><table><tr><th></th><th>share %</th><th>done</th><th>refused</th>\
         <th>P50 ms</th><th>P99 ms</th><th>max ms</th></tr>"
    )?;
    for Operation { name, share_percent, done, refused, times } in &report.operations {
        write!(
            out,
            "<tr><td>{}</td><td>{share_percent:.1}</td><td>{done}</td><td>{refused}</td>",
            escape(name)
        )?;
        for us in [times.p50_us, times.p99_us, times.max_us] {
            write!(out, "<td>{:.3}</td>", us as f64 / 1000.0)?;
        }
        write!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn write_processes(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.processes.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<h2>Processes</h2><div class=\"sheet\"><table class=\"tight\"><tr><th></th><th>cores</th><th>CPU user s</th>\
         <th>CPU kernel s</th><th>µs a message</th><th>µs a delivery</th><th>MB</th><th>MB grown</th>\
         <th>waits /s</th><th>preempted /s</th><th>read calls /s</th><th>write calls /s</th>\
         <th>disk MB written</th></tr>"
    )?;
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let a_second = |count: u64| number_whole(count as f64 / report.seconds.max(f64::EPSILON));
    for (process, name) in report.processes.iter().zip(report.process_names()) {
        write!(
            out,
            "<tr><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{}</td><td>{}</td><td>{:.1}</td>\
             <td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td></tr>",
            escape(&name),
            process.cores,
            process.user_seconds,
            process.system_seconds,
            optional(process.cpu_us_per_message),
            optional(process.cpu_us_per_delivery),
            process.memory_bytes as f64 / 1e6,
            process.memory_growth_bytes as f64 / 1e6,
            a_second(process.counts.voluntary_switches),
            a_second(process.counts.involuntary_switches),
            a_second(process.counts.read_calls),
            a_second(process.counts.write_calls),
            process.counts.disk_write_bytes as f64 / 1e6,
        )?;
    }
    writeln!(out, "</table></div>")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    fn series(label: &str, runs: usize) -> Series {
        Series { label: label.to_owned(), runs: vec![example(); runs] }
    }

    #[test]
    fn a_page_of_one_run_has_all_plots_and_tables() {
        let page = of("a <run>", &[series("run", 1)], Pairing::Apart);
        for words in [
            "a &lt;run&gt;",
            "Throughput",
            "Send → ack",
            "Send → receive",
            "Percentiles",
            "CPU",
            "Memory",
            "rookery load direct --pairs 5",
            "2 × A CPU",
            "Every delivery checked",
            "60,000 /s",
        ] {
            assert!(page.contains(words), "{words} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(
            !page.contains("http://") || page.matches("http://").count() == page.matches("xmlns").count()
        );
        assert!(!page.contains("NaN") && !page.contains("inf"), "a value can't be drawn");
    }

    #[test]
    fn several_series_are_overlaid_and_held_against_the_first() {
        let mut both = [series("old", 3), series("new", 3)];
        both[1].runs.iter_mut().for_each(|run| run.messages_per_second *= 2.0);
        let page = of("two", &both, Pairing::Alternating);
        assert!(page.contains("old: P99") && page.contains("new: P99"));
        assert!(page.contains("<td class=\"good\">×2.00</td>"), "twice the rate is better");
    }

    #[test]
    fn broken_promises_are_said_first() {
        let mut broken = series("run", 1);
        broken.runs[0].checked.lost = 3;
        let page = of("broken", &[broken], Pairing::Apart);
        assert!(page.contains("Promises broken") && page.contains("3 lost"));
    }

    #[test]
    fn a_run_without_messages_or_seconds_has_a_page() {
        let report = Report { scenario: "idle".to_owned(), ..Report::default() };
        let page = of("idle", &[Series { label: "idle".to_owned(), runs: vec![report] }], Pairing::Apart);
        assert!(page.contains("<h1>idle</h1>") && !page.contains("<svg"));
        assert!(of("none", &[], Pairing::Apart).contains("There is no run."));
    }

    #[test]
    fn a_ratio_within_the_noise_is_neither_good_nor_bad() {
        assert_eq!(class_of(1.02, Some(true)), "");
        assert_eq!(class_of(1.2, Some(true)), "good");
        assert_eq!(class_of(1.2, Some(false)), "bad");
        assert_eq!(class_of(1.2, None), "");
    }
}
