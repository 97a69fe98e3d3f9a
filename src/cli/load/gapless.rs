//! A conversation as a member has it who comes and goes: by the protocol's rule it drops what it has, and fetches what
//! a jump leaves out. Pure.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::checker::{Inbox, Stamp, Verdict, Written};

/// Messages kept beyond a gap; later ones are left to sync.
const HELD_MAX: usize = 4096;

/// One message, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) sender_id: u64,
    /// `None`: not of this run, or the member's own.
    pub(super) stamp: Option<Stamp>,
}

/// What a member has of one conversation.
#[derive(Debug)]
pub(super) struct Gapless {
    /// All up to here has been taken.
    cursor: u64,
    /// Arrived beyond a gap.
    held: BTreeMap<u64, Item>,
    inbox: Inbox,
    /// The highest seq pushed on this connection. The server pushes in order, and nothing twice.
    pushed: u64,
    /// Pushed though pushed before on the same connection.
    doubled: u64,
    out_of_order: u64,
}

impl Gapless {
    /// Begins behind `cursor`; of these writers.
    pub(super) fn new(cursor: u64, writers: impl IntoIterator<Item = u64>) -> Self {
        Self {
            cursor,
            held: BTreeMap::new(),
            inbox: Inbox::of(writers),
            pushed: 0,
            doubled: 0,
            out_of_order: 0,
        }
    }

    /// All up to here has been taken.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// A new connection: what it pushes is judged by itself.
    pub(super) fn connected(&mut self) {
        self.pushed = 0;
    }

    /// A message was pushed, or the member's own was stored.
    pub(super) fn pushed(&mut self, seq: u64, item: Item) {
        match seq.cmp(&self.pushed) {
            std::cmp::Ordering::Greater => self.pushed = seq,
            std::cmp::Ordering::Equal => self.doubled += 1,
            std::cmp::Ordering::Less => self.out_of_order += 1,
        }
        self.take(seq, item);
    }

    /// A message came with a page of sync.
    pub(super) fn fetched(&mut self, seq: u64, item: Item) {
        self.take(seq, item);
    }

    fn take(&mut self, seq: u64, item: Item) {
        if seq <= self.cursor {
            return;
        }
        if seq > self.cursor + 1 {
            if self.held.len() < HELD_MAX {
                self.held.insert(seq, item);
            }
            return;
        }
        self.release(seq, item);
        while let Some(entry) = self.held.first_entry() {
            match *entry.key() {
                seq if seq <= self.cursor => drop(entry.remove()),
                seq if seq == self.cursor + 1 => {
                    let item = entry.remove();
                    self.release(seq, item);
                }
                _ => break,
            }
        }
    }

    fn release(&mut self, seq: u64, item: Item) {
        self.cursor = seq;
        if let Some(stamp) = item.stamp {
            self.inbox.take(item.sender_id, stamp.number, seq);
        }
    }

    /// Whether messages are known to be missing, for sync to fetch.
    pub(super) fn has_gap(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether all that was stored has arrived.
    pub(super) fn is_complete<'a>(&self, written: impl IntoIterator<Item = &'a Mutex<Written>>) -> bool {
        self.inbox.is_complete(written)
    }

    pub(super) fn verdict<'a>(&self, written: impl IntoIterator<Item = &'a Mutex<Written>>) -> Verdict {
        let mut verdict = self.inbox.verdict(written);
        verdict.doubled += self.doubled;
        verdict.out_of_order += self.out_of_order;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64) -> Item {
        Item { sender_id: 7, stamp: Some(Stamp { run: 1, number, due_us: 0 }) }
    }

    fn verdict(log: &Gapless, stored: u64) -> Verdict {
        let written: Mutex<Written> = Mutex::default();
        (0..stored).for_each(|number| written.lock().stored(number));
        log.verdict([&written])
    }

    #[test]
    fn a_gap_is_filled_by_sync_and_what_was_held_follows() {
        let mut log = Gapless::new(4, [7]);
        log.pushed(5, item(0));
        log.pushed(8, item(3));
        assert!(log.has_gap() && log.cursor() == 5);
        // Sync brings what is missing and what is there already.
        (6..=8).for_each(|seq| log.fetched(seq, item(seq - 5)));
        assert!(!log.has_gap() && log.cursor() == 8);
        assert_eq!(verdict(&log, 4), Verdict { received: 4, ..Verdict::default() });
        assert_eq!(verdict(&log, 6).lost, 2);
    }

    #[test]
    fn a_push_may_repeat_what_sync_brought_but_not_what_was_pushed() {
        let mut log = Gapless::new(0, [7]);
        log.fetched(1, item(0));
        log.pushed(1, item(0));
        assert_eq!(verdict(&log, 1), Verdict { received: 1, ..Verdict::default() });
        log.pushed(1, item(0));
        log.pushed(2, item(1));
        log.pushed(1, item(0));
        let wanted = Verdict { received: 2, doubled: 1, out_of_order: 1, ..Verdict::default() };
        assert_eq!(verdict(&log, 2), wanted);
        // On another connection it is a repeat that the protocol allows.
        log.connected();
        log.pushed(1, item(0));
        assert_eq!(verdict(&log, 2), wanted);
    }
}
