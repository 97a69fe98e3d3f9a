//! Plain data and rules without I/O: errors, what edits do, limits of names and texts, permissions, privacy, sets of seqs.

pub mod changes;
pub mod error;
pub mod limits;
pub mod permissions;
pub mod privacy;
pub mod ranges;

pub use error::{Error, Result};
