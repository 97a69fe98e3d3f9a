//! What REST, sockets and lines all call.

pub mod accounts;
pub mod messages;
pub mod operations;
