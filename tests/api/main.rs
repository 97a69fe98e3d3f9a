//! One node as its clients see it: every test speaks the public protocol to a running binary, and knows nothing of
//! its insides. `world` holds what tests are told in: people, their devices, and what they do.

#[allow(dead_code, reason = "shared with the storage tests, which use the rest")]
#[path = "../support/mariadb.rs"]
mod mariadb;
#[path = "../support/node.rs"]
mod node;

mod accounts;
mod contacts;
mod conversations;
mod duplicates;
mod frames;
mod json_frames;
mod line_client;
mod lines;
mod lines_pull;
mod live;
mod members;
mod operators;
mod outage;
mod raw;
mod refusals;
mod sign_in;
mod sign_off;
mod slow_reader;
mod sync;
mod web_page;
mod world;
