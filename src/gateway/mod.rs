//! The edge.
pub mod dispatch;
