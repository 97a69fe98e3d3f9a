//! Presence shards: the directory of live sessions, and who watches whom.

pub mod actor;
pub(in crate::actors) mod rounds;
pub mod seen;
#[cfg(test)]
mod seen_tests;
pub mod state;
pub mod watchers;
pub mod watches;
