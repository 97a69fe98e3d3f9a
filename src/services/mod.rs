//! What REST, sockets and lines all call.

pub mod messages;
pub mod operations;
