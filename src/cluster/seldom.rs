//! Says the same thing seldom: a fault that repeats every few seconds must not fill the log.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the same line is kept back after it was written.
const KEEP_BACK: Duration = Duration::from_secs(30);
/// Most lines remembered; beyond, all are forgotten, and some lines come too often.
const REMEMBERED_MAX: usize = 256;

/// Remembers what was said when.
#[derive(Default)]
pub struct Seldom(Mutex<HashMap<String, Instant>>);

impl Seldom {
    /// Whether to say it now.
    pub fn allows(&self, line: &str) -> bool {
        self.allows_at(line, Instant::now())
    }

    fn allows_at(&self, line: &str, now: Instant) -> bool {
        let mut said = self.0.lock();
        if said.get(line).is_some_and(|at| now.duration_since(*at) < KEEP_BACK) {
            return false;
        }
        if said.len() >= REMEMBERED_MAX {
            said.clear();
        }
        said.insert(line.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_comes_once_in_a_while() {
        let seldom = Seldom::default();
        let now = Instant::now();
        assert!(seldom.allows_at("a", now));
        assert!(!seldom.allows_at("a", now));
        assert!(seldom.allows_at("b", now));
        assert!(seldom.allows_at("a", now + KEEP_BACK));
    }
}
