//! What the messages carry, and whether a receiver got each once and in order. Pure.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::domain::ranges::SeqRanges;

/// Shortest text that has room for what a message carries, in bytes.
pub(super) const PAYLOAD_MIN: usize = 56;
/// What every text begins with.
const MARK: &[u8] = b"rookery-load ";

/// What a message carries. The sender is the message's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells runs against one database apart.
    pub(super) run: u32,
    /// From 0, by writer and conversation.
    pub(super) number: u64,
    /// When it was due, in microseconds since the run's start.
    pub(super) due_us: u64,
}

/// Writes the text of a message, `bytes` long.
pub(super) fn write(stamp: Stamp, bytes: usize, text: &mut String) {
    let Stamp { run, number, due_us } = stamp;
    text.clear();
    text.push_str("rookery-load ");
    std::fmt::Write::write_fmt(text, format_args!("{run} {number} {due_us} "))
        .expect("writing to a String can't fail");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
}

/// Writes the `client_id` of a message: unique also among the runs of one user.
pub(super) fn write_client_id(stamp: Stamp, user_id: u64, client_id: &mut String) {
    client_id.clear();
    std::fmt::Write::write_fmt(client_id, format_args!("{:x}-{user_id:x}-{:x}", stamp.run, stamp.number))
        .expect("writing to a String can't fail");
}

/// What a text carries; `None`: not a text of ours.
pub(super) fn read(text: &[u8]) -> Option<Stamp> {
    let mut rest = text.strip_prefix(MARK)?;
    let mut number = || {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Up to 19 digits fit.
        if digits == 0 || digits > 19 || rest.get(digits) != Some(&b' ') {
            return None;
        }
        let value = rest[..digits].iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        rest = &rest[digits + 1..];
        Some(value)
    };
    Some(Stamp { run: u32::try_from(number()?).ok()?, number: number()?, due_us: number()? })
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
    received: u64,
    doubled: u64,
    out_of_order: u64,
}

/// A receiver's verdict, or the sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
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
    /// A message arrived. `seq_goes_back`: its conversation had been further.
    pub(super) fn take(&mut self, number: u64, seq_goes_back: bool) {
        self.received += 1;
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

/// What one receiver got of one conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    last_seq: u64,
    /// By writer.
    streams: Vec<(u64, Checker)>,
}

impl Inbox {
    /// Of these writers, whose [`Written`] are asked for in the same order.
    pub(super) fn of(writers: impl IntoIterator<Item = u64>) -> Self {
        Self { last_seq: 0, streams: writers.into_iter().map(|id| (id, Checker::default())).collect() }
    }

    /// A message arrived; whether it is of one of the writers.
    pub(super) fn take(&mut self, sender_id: u64, number: u64, seq: u64) -> bool {
        let seq_goes_back = seq <= self.last_seq;
        self.last_seq = self.last_seq.max(seq);
        let Some((_, stream)) = self.streams.iter_mut().find(|(id, _)| *id == sender_id) else {
            return false;
        };
        stream.take(number, seq_goes_back);
        true
    }

    /// Whether all that was stored has arrived.
    pub(super) fn is_complete<'a>(&self, written: impl IntoIterator<Item = &'a Mutex<Written>>) -> bool {
        self.streams.iter().zip(written).all(|((_, stream), written)| stream.is_complete(&written.lock()))
    }

    pub(super) fn verdict<'a>(&self, written: impl IntoIterator<Item = &'a Mutex<Written>>) -> Verdict {
        let mut sum = Verdict::default();
        for ((_, stream), written) in self.streams.iter().zip(written) {
            sum.add(stream.verdict(&written.lock()));
        }
        sum
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
        let mut inbox = Inbox::of([7]);
        arrivals.iter().for_each(|number| assert!(inbox.take(7, *number, number + 1)));
        inbox.streams.remove(0).1
    }

    #[test]
    fn a_text_carries_what_it_must() {
        let stamp = Stamp { run: u32::MAX, number: 12, due_us: 3_600_000_000 };
        let mut text = String::from("old");
        write(stamp, PAYLOAD_MIN, &mut text);
        assert_eq!(text.len(), PAYLOAD_MIN);
        assert_eq!(read(text.as_bytes()), Some(stamp));
        for other in ["hello", "rookery-load ", "rookery-load 1 2", "rookery-load 1 2 x"] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_conversations_order_holds_over_all_its_writers() {
        let mut inbox = Inbox::of([7, 8]);
        assert!(inbox.take(7, 0, 1) && inbox.take(8, 0, 3) && inbox.take(7, 1, 2));
        assert!(!inbox.take(9, 0, 4), "nobody asked about this writer");
        let both = [Mutex::new(written(&[0, 1])), Mutex::new(written(&[0]))];
        assert!(inbox.is_complete(&both));
        let verdict = inbox.verdict(&both);
        assert_eq!(verdict, Verdict { received: 3, out_of_order: 1, ..Verdict::default() });
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
