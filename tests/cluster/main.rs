//! Clusters of real processes and what befalls them: kills, newcomers, drains, strangers, bad input.
//!
//! Everything is judged from outside, by the public protocols: [`checker`] holds the promises against a record of its
//! own. Each test has its own nodes on free ports, which end with the test process, however it ends.

mod checker;
mod device;
mod kill;
mod line;
#[path = "../support/mariadb.rs"]
mod mariadb_server;
mod people;
mod world;
