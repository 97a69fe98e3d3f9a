//! A set of seqs as inclusive ranges: what a line device has been given.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Inclusive ranges, disjoint and not adjacent, in order. Its text form is `1-4,9-9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqRanges(BTreeMap<u64, u64>);

impl SeqRanges {
    /// Adds every seq from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        // Swallow the range before, if it touches, and every range that begins within or right behind.
        if let Some((&start, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.0.remove(&start);
        }
        self.0.insert(first, last);
    }

    /// Forgets the lowest ranges, so that no more than these are left.
    pub fn keep_newest(&mut self, ranges: usize) {
        while self.0.len() > ranges {
            self.0.pop_first();
        }
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: u64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, &end)| end >= seq)
    }

    /// The smallest seq above `floor` that is not in the set.
    pub fn first_missing_after(&self, floor: u64) -> u64 {
        let next = floor + 1;
        match self.0.range(..=next).next_back() {
            Some((_, &end)) if end >= next => end + 1,
            _ => next,
        }
    }

    /// The ranges in order, as (first, last).
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SeqRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{first}-{last}")?;
        }
        Ok(())
    }
}

impl FromStr for SeqRanges {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let parsed = part
                .split_once('-')
                .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
                .filter(|(first, last): &(u64, u64)| first <= last);
            let (first, last) = parsed.ok_or_else(|| format!("'{part}' is not a range such as 1-4"))?;
            ranges.insert(first, last);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_ranges_are_forgotten_first() {
        let mut ranges: SeqRanges = "1-2,4-4,6-9".parse().expect("it is one");
        ranges.keep_newest(3);
        assert_eq!(ranges.to_string(), "1-2,4-4,6-9");
        ranges.keep_newest(1);
        assert_eq!(ranges.to_string(), "6-9");
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(inserts in prop::collection::vec((1u64..60, 0u64..8), 0..40)) {
            let mut ranges = SeqRanges::default();
            let mut model = BTreeSet::new();
            for (first, more) in inserts {
                ranges.insert(first, first + more);
                model.extend(first..=first + more);
            }
            for seq in 0..80 {
                prop_assert_eq!(ranges.contains(seq), model.contains(&seq));
                let missing = (seq + 1..).find(|s| !model.contains(s));
                prop_assert_eq!(Some(ranges.first_missing_after(seq)), missing);
            }
            let parsed = ranges.to_string().parse::<SeqRanges>();
            prop_assert_eq!(parsed.as_ref(), Ok(&ranges));
        }
    }
}
