//! Plain data and rules without I/O: errors, what edits do, limits of names and texts, permissions, privacy, words to
//! search for, sets of seqs.

pub mod changes;
pub mod error;
pub mod limits;
pub mod permissions;
pub mod privacy;
pub mod ranges;
pub mod search_terms;

pub use error::{Error, Result};
