//! What happened, in order: its end to be shown, the whole of it as a hash, by which two runs are compared.

use std::collections::VecDeque;
use std::fmt::Display;

use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Events shown of a run that failed.
const TAIL: usize = 120;

pub struct Trace {
    began: Instant,
    shown: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    hash: Xxh3,
    events: u64,
    tail: VecDeque<String>,
    violation: Option<String>,
}

impl Trace {
    /// `shown`: print everything as it happens.
    pub fn new(shown: bool) -> Self {
        Self { began: Instant::now(), shown, inner: Mutex::default() }
    }

    /// Simulated milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Something happened.
    pub fn note(&self, what: impl Display) {
        let line = format!("{:>6} {what}", self.now_ms());
        if self.shown {
            show(&line);
        }
        let mut inner = self.inner.lock();
        inner.hash.update(line.as_bytes());
        inner.events += 1;
        if inner.tail.len() == TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    /// A rule is broken. The first one counts.
    pub fn violated(&self, rule: impl Display) {
        self.note(format_args!("VIOLATION {rule}"));
        self.inner.lock().violation.get_or_insert_with(|| rule.to_string());
    }

    /// The rule that was broken.
    pub fn violation(&self) -> Option<String> {
        self.inner.lock().violation.clone()
    }

    /// The hash of all events, and how many there were.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.hash.digest(), inner.events)
    }

    /// The last events.
    pub fn tail(&self) -> String {
        self.inner.lock().tail.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

#[expect(clippy::print_stderr, reason = "who replays a seed wants to see it")]
fn show(line: &str) {
    eprintln!("{line}");
}
