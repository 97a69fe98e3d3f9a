//! Rookery: a clustered instant-messaging server. See `ARCHITECTURE.md` for the map and the life of a message.
//!
//! Layers, each using only those before it: [`domain`] and [`protocol`] (plain data), [`storage`] and [`cluster`],
//! `actors`, `services`, `gateway`, `node` (the composition root). `client` and `cli` stand beside them on the
//! protocol alone. `tests/tidy.rs` holds the rules.

pub mod actors;
pub mod chance;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod node;
pub mod protocol;
pub mod services;
pub mod storage;
pub mod telemetry;
