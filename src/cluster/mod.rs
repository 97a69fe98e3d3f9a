//! Membership, placement and routing: how an address becomes an answer, on whichever node its actor lives.

pub mod address;
pub mod placement;
pub mod reply;

pub use address::{Address, Kind};
pub use reply::ReplyTo;
