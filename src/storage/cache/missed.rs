//! The keys that were written while Redis could not be told: until they are deleted there, this node neither reads nor
//! fills them. Bounded; when it overflows, nothing in Redis is trusted until a new epoch has begun. No I/O, no clock.

use std::collections::HashMap;

/// The log.
#[derive(Debug)]
pub struct Missed {
    /// Key → the number of the note that was made last.
    keys: HashMap<String, u64>,
    notes: u64,
    limit: usize,
    overflowed: bool,
}

impl Missed {
    /// An empty log of at most `limit` keys.
    pub fn new(limit: usize) -> Self {
        Self { keys: HashMap::new(), notes: 0, limit, overflowed: false }
    }

    /// Notes keys that Redis still has to forget.
    pub fn note<'a>(&mut self, keys: impl IntoIterator<Item = &'a String>) {
        for key in keys {
            self.notes += 1;
            if let Some(note) = self.keys.get_mut(key) {
                *note = self.notes;
            } else if self.keys.len() < self.limit {
                self.keys.insert(key.clone(), self.notes);
            } else {
                self.overflowed = true;
            }
        }
    }

    /// Whether what Redis has under this key may be old.
    pub fn holds(&self, key: &str) -> bool {
        self.overflowed || (!self.keys.is_empty() && self.keys.contains_key(key))
    }

    /// Whether Redis has forgotten everything it had to.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.overflowed
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a new epoch is needed.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Starts over before a new epoch begins, which does away with all that was noted so far.
    pub fn begin_epoch(&mut self) {
        self.keys.clear();
        self.overflowed = false;
    }

    /// The new epoch did not come about.
    pub fn epoch_failed(&mut self) {
        self.overflowed = true;
    }

    /// Some of the keys, to be deleted in Redis and then given to [`Missed::settle`].
    pub fn batch(&self, most: usize) -> Vec<(String, u64)> {
        self.keys.iter().take(most).map(|(key, note)| (key.clone(), *note)).collect()
    }

    /// These were deleted in Redis. A key noted again meanwhile stays.
    pub fn settle(&mut self, deleted: &[(String, u64)]) {
        for (key, note) in deleted {
            if self.keys.get(key) == Some(note) {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_key_noted_while_it_is_deleted_stays() {
        let mut missed = Missed::new(10);
        missed.note(&keys(&["a", "b"]));
        let batch = missed.batch(10);
        missed.note(&keys(&["a"]));
        missed.settle(&batch);
        assert!(missed.holds("a") && !missed.holds("b"));
        missed.settle(&missed.batch(10));
        assert!(missed.is_empty());
    }

    #[test]
    fn more_than_it_holds_makes_everything_doubtful_until_a_new_epoch() {
        let mut missed = Missed::new(2);
        missed.note(&keys(&["a", "b", "a", "b"]));
        assert!(!missed.has_overflowed() && !missed.holds("c"));
        missed.note(&keys(&["c"]));
        assert!(missed.has_overflowed() && missed.holds("anything"));
        missed.begin_epoch();
        missed.note(&keys(&["d"]));
        assert!(!missed.holds("a") && missed.holds("d"));
        missed.epoch_failed();
        assert!(missed.holds("a"));
    }
}
