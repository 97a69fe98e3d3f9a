//! Sizes of multi-row statements. A prepared statement is reused only when its text repeats, so lists are cut, or
//! padded, to few sizes.

/// The sizes, largest first: each at most a third larger than the next, up to 16 every one.
const RUNGS: [usize; 32] = [
    512, 384, 320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 18, 16, 14, 12, 10,
    8, 7, 6, 5, 4, 3, 2, 1,
];

/// Most rows of one statement. With the 11 columns of the widest table this is far below the limits of 32,766 (SQLite)
/// and 65,535 (MySQL) parameters.
pub const STATEMENT_ROWS: usize = RUNGS[0];

/// Most keys of one lookup.
pub const STATEMENT_KEYS: usize = 128;

/// Bytes of text after which a statement takes no further row, so that it stays far below MySQL's
/// `max_allowed_packet` (16 MiB, and 4 MiB on old servers).
const STATEMENT_BYTES: usize = 1024 * 1024;

/// Cuts `items`, whose sizes in bytes `bytes` tells, into runs with the length of a rung each.
pub fn cut<T>(mut items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut runs = Vec::new();
    while !items.is_empty() {
        let mut weight = 0;
        let fitting = items
            .iter()
            .take_while(|item| {
                weight += bytes(item);
                weight <= STATEMENT_BYTES
            })
            .count();
        let rung = RUNGS.into_iter().find(|rung| *rung <= fitting).unwrap_or(1);
        let (run, rest) = items.split_at(rung);
        runs.push(run);
        items = rest;
    }
    runs
}

/// The largest rung that `waiting` items fill. What is above it had better wait for the next statement: a second one
/// would make a transaction of the two, with two round trips more.
pub fn rung_below(waiting: usize) -> usize {
    RUNGS.into_iter().find(|rung| *rung <= waiting).unwrap_or(1)
}

/// Cuts keys of a lookup into lists of [`STATEMENT_KEYS`] at most, and fills each up to a rung by repeating its last
/// key, which finds nothing new.
pub fn padded<T: Clone>(keys: &[T]) -> Vec<Vec<T>> {
    keys.chunks(STATEMENT_KEYS)
        .map(|chunk| {
            let rung = RUNGS.into_iter().rev().find(|rung| *rung >= chunk.len()).unwrap_or(chunk.len());
            let mut list = chunk.to_vec();
            if let Some(last) = chunk.last() {
                list.resize(rung, last.clone());
            }
            list
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_the_length_of_rungs_and_hold_all_in_order() {
        for length in 0..=600usize {
            let items: Vec<usize> = (0..length).collect();
            let runs = cut(&items, |_| 10);
            assert!(runs.iter().all(|run| RUNGS.contains(&run.len())));
            assert_eq!(runs.concat(), items);
            assert!(runs.len() <= 4, "{length} takes {} statements", runs.len());
            let best = rung_below(length.max(1));
            assert!(4 * best >= 3 * length.min(STATEMENT_ROWS), "{length} leave too many behind {best}");
        }
    }

    #[test]
    fn large_rows_get_statements_of_few_rows() {
        let items = [STATEMENT_BYTES / 3; 7];
        let lengths: Vec<usize> = cut(&items, |bytes| *bytes).into_iter().map(<[usize]>::len).collect();
        assert_eq!(lengths, [3, 3, 1]);
        assert_eq!(cut(&[STATEMENT_BYTES * 2], |bytes| *bytes).len(), 1);
    }

    #[test]
    fn padding_repeats_the_last_key() {
        assert_eq!(padded(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), [vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 9]]);
        assert!(padded::<u64>(&[]).is_empty());
        assert_eq!(padded(&[7; 300]).len(), 3);
    }
}
