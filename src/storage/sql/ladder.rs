//! Sizes of multi-row statements. A prepared statement is reused only when its text repeats, so lists are cut, or
//! padded, to few sizes.

/// The sizes, largest first. Every batch up to 128 is at most three of them: 100 = 96 + 4.
const RUNGS: [usize; 16] = [128, 96, 64, 48, 32, 24, 16, 12, 8, 7, 6, 5, 4, 3, 2, 1];

/// Most rows or keys of one statement. With the 11 columns of the widest table this is far below the limits of
/// 32,766 (SQLite) and 65,535 (MySQL) parameters.
pub const STATEMENT_ROWS: usize = RUNGS[0];

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

/// Cuts keys of a lookup into lists of [`STATEMENT_ROWS`] at most, and fills each up to a rung by repeating its last
/// key, which finds nothing new.
pub fn padded<T: Clone>(keys: &[T]) -> Vec<Vec<T>> {
    keys.chunks(STATEMENT_ROWS)
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
            assert!(runs.len() <= length / STATEMENT_ROWS + 3, "{length} takes {} statements", runs.len());
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
        assert_eq!(padded(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), [vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9]]);
        assert!(padded::<u64>(&[]).is_empty());
        assert_eq!(padded(&[7; 300]).len(), 3);
    }
}
