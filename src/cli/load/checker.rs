//! What the messages carry, and whether a receiver got each once and in order. Pure.

use std::collections::BTreeSet;

use crate::domain::ranges::SeqRanges;

/// Shortest text that has room for what a message carries, in bytes.
pub(super) const PAYLOAD_MIN: usize = 48;
/// What every text begins with.
const MARK: &str = "rookery-load";

/// The text of message `number` (from 0) of a writer, due at `due_us` since the run's start; `bytes` long.
pub(super) fn text(number: u64, due_us: u64, bytes: usize) -> String {
    let mut text = format!("{MARK} {number} {due_us} ");
    while text.len() < bytes {
        text.push('x');
    }
    text
}

/// Number and due time; `None`: not a text of ours.
pub(super) fn read(text: &str) -> Option<(u64, u64)> {
    let mut words = text.strip_prefix(MARK)?.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// A writer's messages by what became of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    stored: SeqRanges,
    last_stored: Option<u64>,
}

impl Written {
    /// The server has said `sent`.
    pub(super) fn stored(&mut self, number: u64) {
        self.stored.insert(number, number);
        self.last_stored = self.last_stored.max(Some(number));
    }

    fn is_stored(&self, number: u64) -> bool {
        self.stored.contains(number)
    }
}

/// What one receiver got of one writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Checker {
    /// The lowest number not yet expected.
    next: u64,
    /// Passed over.
    missing: BTreeSet<u64>,
    last_seq: Option<u64>,
    received: u64,
    doubled: u64,
    out_of_order: u64,
}

/// A receiver's verdict, or the sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Verdict {
    /// Deliveries, doubles included.
    pub(super) received: u64,
    /// Stored by the server's own word, and never delivered.
    pub(super) lost: u64,
    /// Delivered more than once.
    pub(super) doubled: u64,
    /// Delivered behind a later one.
    pub(super) out_of_order: u64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
    }
}

impl Checker {
    /// A message arrived.
    pub(super) fn take(&mut self, number: u64, seq: u64) {
        self.received += 1;
        let seq_goes_back = self.last_seq.is_some_and(|last| seq <= last);
        self.last_seq = self.last_seq.max(Some(seq));
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            self.out_of_order += u64::from(seq_goes_back);
        } else if self.missing.remove(&number) {
            self.out_of_order += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Whether all that was stored has arrived.
    pub(super) fn is_complete(&self, written: &Written) -> bool {
        written.last_stored.is_none_or(|last| last < self.next)
            && !self.missing.iter().any(|number| written.is_stored(*number))
    }

    pub(super) fn verdict(&self, written: &Written) -> Verdict {
        let behind = match written.last_stored {
            Some(last) => (self.next..=last).filter(|number| written.is_stored(*number)).count(),
            None => 0,
        };
        let passed_over = self.missing.iter().filter(|number| written.is_stored(**number)).count();
        Verdict {
            received: self.received,
            lost: (behind + passed_over) as u64,
            doubled: self.doubled,
            out_of_order: self.out_of_order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(numbers: &[u64]) -> Written {
        let mut written = Written::default();
        numbers.iter().for_each(|number| written.stored(*number));
        written
    }

    fn checked(arrivals: &[u64]) -> Checker {
        let mut checker = Checker::default();
        arrivals.iter().for_each(|number| checker.take(*number, number + 1));
        checker
    }

    #[test]
    fn a_text_carries_its_number_and_time() {
        let text = text(12, 3_600_000_000, PAYLOAD_MIN);
        assert_eq!(text.len(), PAYLOAD_MIN);
        assert_eq!(read(&text), Some((12, 3_600_000_000)));
        assert_eq!(read("hello"), None);
    }

    #[test]
    fn all_in_order_is_without_fault() {
        let checker = checked(&[0, 1, 2]);
        let written = written(&[0, 1, 2]);
        assert!(checker.is_complete(&written));
        assert_eq!(checker.verdict(&written), Verdict { received: 3, ..Verdict::default() });
    }

    #[test]
    fn losses_doubles_and_disorder_are_told_apart() {
        let checker = checked(&[0, 2, 1, 2, 5]);
        // 3 was refused and so isn't lost; 4 was passed over; 6 never came.
        let written = written(&[0, 1, 2, 4, 5, 6]);
        assert!(!checker.is_complete(&written));
        let verdict = checker.verdict(&written);
        assert_eq!(verdict, Verdict { received: 5, lost: 2, doubled: 1, out_of_order: 1 });
    }
}
