//! What a run comes to: figures by kind of fault, counts, and the verdict; for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::fault::Fault;
use super::ledger::{Counts, Violation};
use super::round::RoundReport;

/// Violations shown to people; the JSON has more.
const SHOWN: usize = 20;

/// Middle and worst of some times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// The median.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
}

impl Times {
    /// `None` of none.
    pub fn of(times: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = times.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (median, worst) = (sorted.get(sorted.len() / 2)?, sorted.last()?);
        Some(Self { median_ms: *median, worst_ms: *worst })
    }
}

/// The rounds of one kind of fault.
#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    /// How many.
    pub rounds: usize,
    /// Over rounds: until the last pair of a node and a room that the fault concerned was served again, from the fault's
    /// beginning; for outages of the database from its end.
    pub acked_again: Option<Times>,
    /// Until pushes were complete again, from the same moment.
    pub live_again: Option<Times>,
    /// Until pushes were complete again, from the fault's end.
    pub live_after_end: Option<Times>,
    /// From the fault's end until every device had had a push of a message of later from each of its rooms.
    pub ways_after_end: Option<Times>,
    /// Rounds at whose end single pushes were still missed or late; they are not in the figures of live delivery.
    pub noisy: usize,
    /// The longest way of a message to its `sent`, repeats included.
    pub slowest_ack: Option<Times>,
    /// Sends refused for now.
    pub refused: u64,
    /// Sends without an answer.
    pub unanswered: u64,
    /// Pushes that live connections missed.
    pub holes: u64,
    /// Broken promises.
    pub broken: u64,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct ChaosReport {
    /// What all was drawn from.
    pub seed: u64,
    /// On what net.
    pub net: String,
    /// On what kind of database.
    pub database: String,
    /// Nodes at the start.
    pub nodes: usize,
    /// Rounds wished for.
    pub rounds_asked: usize,
    /// All of it, in seconds.
    pub seconds: f64,
    /// Counts over all rounds.
    pub counts: Counts,
    /// Sends that were due and not made, since too many waited.
    pub skipped: u64,
    /// By kind of fault.
    pub kinds: BTreeMap<String, KindReport>,
    /// Each round.
    pub rounds: Vec<RoundReport>,
    /// Sends refused during planned moves, which should refuse none.
    pub refused_in_planned: u64,
    /// How often each refusal was given.
    pub reasons: BTreeMap<String, u64>,
    /// What was broken, as far as it is kept in words.
    pub violations: Vec<Violation>,
    /// Whether every promise was kept and every round was played.
    pub ok: bool,
}

impl ChaosReport {
    /// Sums the rounds up by kind.
    pub fn by_kind(rounds: &[RoundReport]) -> BTreeMap<String, KindReport> {
        let mut kinds: BTreeMap<Fault, Vec<&RoundReport>> = BTreeMap::new();
        for round in rounds {
            kinds.entry(round.fault).or_default().push(round);
        }
        let report = |(fault, rounds): (Fault, Vec<&RoundReport>)| {
            let sum = |count: fn(&RoundReport) -> u64| rounds.iter().map(|round| count(round)).sum();
            let times = |time: fn(&RoundReport) -> Option<f64>| {
                Times::of(rounds.iter().filter_map(|round| time(round)))
            };
            let kind = KindReport {
                rounds: rounds.len(),
                acked_again: times(|round| round.acked_again_ms),
                live_again: times(|round| round.live_again_ms),
                live_after_end: times(|round| round.live_after_end_ms),
                ways_after_end: times(|round| round.ways_after_end_ms),
                noisy: rounds.iter().filter(|round| round.live_again_ms.is_none()).count(),
                slowest_ack: times(|round| Some(round.slowest_ack_ms)),
                refused: sum(|round| round.refused),
                unanswered: sum(|round| round.unanswered),
                holes: sum(|round| round.holes),
                broken: sum(|round| round.broken),
            };
            (fault.name(), kind)
        };
        kinds.into_iter().map(report).collect()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string doesn't fail.
        let _ = writeln!(
            out,
            "{} of {} rounds on {} nodes, {}, {}; seed {}; {:.0} s",
            self.rounds.len(),
            self.rounds_asked,
            self.nodes,
            self.database,
            self.net,
            self.seed,
            self.seconds
        );
        let _ = writeln!(
            out,
            "{:<10} {:>6} {:>6} {:>17} {:>17} {:>17} {:>17} {:>17} {:>8} {:>10} {:>7}",
            "fault",
            "rounds",
            "noisy",
            "acked again ms",
            "live again ms",
            "live after end",
            "ways after end",
            "slowest ack ms",
            "refused",
            "unanswered",
            "broken"
        );
        for (name, kind) in &self.kinds {
            let shown = |times: Option<Times>| match times {
                Some(Times { median_ms, worst_ms }) => format!("{median_ms:.0} / {worst_ms:.0}"),
                None => "-".to_owned(),
            };
            let _ = writeln!(
                out,
                "{:<10} {:>6} {:>6} {:>17} {:>17} {:>17} {:>17} {:>17} {:>8} {:>10} {:>7}",
                name,
                kind.rounds,
                kind.noisy,
                shown(kind.acked_again),
                shown(kind.live_again),
                shown(kind.live_after_end),
                shown(kind.ways_after_end),
                shown(kind.slowest_ack),
                kind.refused,
                kind.unanswered,
                kind.broken
            );
        }
        let _ = writeln!(out, "(median / worst over the rounds of a kind)");
        let Counts { acked, duplicates, live, by_sync, holes, refused, unanswered, connections, broken } =
            &self.counts;
        let _ = writeln!(
            out,
            "{acked} messages acknowledged ({duplicates} repeats answered as such), {live} pushed live, {by_sync} by sync; \
             {holes} pushes missed, {refused} sends refused for now, {unanswered} unanswered, {} not made; \
             {connections} connections",
            self.skipped
        );
        if self.refused_in_planned > 0 {
            let _ = writeln!(
                out,
                "{} of them in planned moves, which should refuse none",
                self.refused_in_planned
            );
        }
        for (reason, times) in &self.reasons {
            let _ = writeln!(out, "  refused {times} times: {reason}");
        }
        if self.ok {
            let _ = writeln!(out, "0 lost, 0 doubled, 0 out of order, 0 gaps, 0 missing");
            return out;
        }
        if broken.is_empty() {
            let _ = writeln!(out, "nothing is broken, but not all rounds were played");
            return out;
        }
        let _ = writeln!(out, "BROKEN: {broken:?}");
        for Violation { round, what, text } in self.violations.iter().take(SHOWN) {
            let _ = writeln!(out, "  round {round}, {what:?}: {text}");
        }
        if let Some(first) = self.violations.first() {
            let _ = writeln!(
                out,
                "again: --seed {} --first-round {} (with the same other arguments)",
                self.seed,
                first.round.max(1)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_worst_are_found() {
        assert_eq!(Times::of([3.0, 1.0, 2.0]), Some(Times { median_ms: 2.0, worst_ms: 3.0 }));
        assert_eq!(Times::of([]), None);
    }
}
