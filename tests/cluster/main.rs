//! Clusters of real processes and what befalls them: kills, freezes, cuts, newcomers, drains, strangers, bad input.
//!
//! Everything is judged from outside, by the public protocols: [`checker`] holds the promises against a record of its
//! own. Each test has its own nodes on free ports, which end with the test process, however it ends.

mod bad_input;
mod chaos;
mod checker;
mod database;
mod device;
mod drain;
mod heal;
mod join;
mod kill;
mod line;
#[path = "../support/mariadb.rs"]
#[allow(dead_code, reason = "shared with the tests of the stores, which use the rest")]
mod mariadb_server;
mod operators;
mod partitions;
mod people;
mod process;
mod repeats;
mod rolling;
mod strangers;
mod takeover;
mod up;
mod world;
