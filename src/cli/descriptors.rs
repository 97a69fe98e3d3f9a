//! How many files the process may have open: each connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are no client's: the database, links, listeners, logs, pipes.
const OWN: u64 = 256;

/// Raises the soft limit of open files to the hard one, which a process may do by itself, and says in the log how many
/// that is; warns if they are fewer than `connections_max` needs.
pub fn raise(connections_max: usize) {
    let bound = match raised() {
        Ok(bound) => bound,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be read or raised");
            return;
        }
    };
    if is_enough(bound, connections_max) {
        tracing::info!(open_files_max = bound, connections_max, "limit of open files");
    } else {
        tracing::warn!(
            open_files_max = bound,
            connections_max,
            "more connections are allowed than the system lets this process open files; raise the hard limit \
             (`ulimit -Hn`, LimitNOFILE= of its service) or lower gateway.connections_max"
        );
    }
}

fn raised() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

fn is_enough(bound: u64, connections_max: usize) -> bool {
    bound >= (connections_max as u64).saturating_add(OWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_enough_with_some_to_spare() {
        assert!(is_enough(10_000 + OWN, 10_000));
        assert!(!is_enough(10_000, 10_000));
        assert!(!is_enough(u64::MAX - 1, usize::MAX));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let bound = raised().expect("a process may raise its own soft limit");
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((bound, bound)));
    }
}
