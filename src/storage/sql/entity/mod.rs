//! The tables as SeaORM sees them, one file a table. All integers are `i64` or `i16`, which both databases have;
//! `super::convert` turns them into the domain's.

pub mod ban;
pub mod block;
pub mod contact;
pub mod conversation;
pub mod device;
pub mod invite;
pub mod join_request;
pub mod line_given;
pub mod member;
pub mod message;
pub mod preference;
pub mod presence;
pub mod privacy;
pub mod saying;
pub mod user;
