//! The commands of the binary, one module each: its arguments, and `run`.

pub mod chat;
pub mod load;
pub mod up;
