//! What the cluster counts, for the admin pages, the metrics and the tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// One count, from zero.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// Counts since the process started.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl Counters {
            /// All counts with their names.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Messages dropped because their receiver could not be reached.
    tells_unreachable;
    /// Messages dropped because too much waited for their receiver; sync brings what they told.
    tells_overflowed;
    /// Questions refused because too many, or too large ones, waited.
    asks_overflowed;
    /// Answers replaced by `unavailable` because too much waited for their asker.
    answers_overflowed;
    /// Questions whose deadline passed.
    asks_expired;
    /// Questions sent again: their owner changed, or its link did.
    asks_resent;
    /// Answers to questions that nobody waits for any more.
    answers_late;
    /// Answers that could not be sent to their asker.
    answers_lost;
    /// Messages and questions passed on because this node did not own their receiver.
    items_forwarded;
    /// Questions kept because their node took this one for the owner, which it was not.
    asks_kept;
    /// Items too large to be sent.
    items_oversized;
    /// Envelopes of a link that is over, or seen before.
    envelopes_stale;
    /// Envelopes after one that was lost; each cuts its link.
    envelopes_missing;
    /// Envelopes or items that could not be read.
    envelopes_unreadable;
    /// Links that became ready.
    links_ready;
    /// Links that ended after they were ready.
    links_lost;
    /// Times that a link began to carry less than it was given.
    links_slow;
    /// Peers taken for dead because nothing was heard of them.
    peers_silent;
    /// Peers taken for dead because they heard nothing of this node.
    peers_deaf;
    /// Streams refused, by either side.
    links_refused;
}
