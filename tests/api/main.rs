//! One node as its clients see it: every test speaks the public protocol to a running binary, and knows nothing of
//! its insides. `world` holds what tests are told in: people, their devices, and what they do.

#[allow(dead_code, reason = "shared with the storage tests, which use the rest")]
#[path = "../support/mariadb.rs"]
mod mariadb;
#[path = "../support/mysql_proxy.rs"]
mod mysql_proxy;
#[path = "../support/node.rs"]
mod node;
#[allow(dead_code, reason = "shared with the storage tests, which use the rest")]
#[path = "../support/tiny_disk.rs"]
mod tiny_disk;

mod accounts;
mod blocks;
mod chat;
mod client_rest;
mod contacts;
mod conversations;
mod described;
mod devices;
mod duplicates;
mod flood;
mod frames;
mod history;
mod json_frames;
mod kept_out;
mod life;
mod line_client;
mod lines;
mod lines_pull;
mod live;
mod members;
mod messages_edit;
mod messages_marks;
mod openapi;
mod operators;
mod outage;
mod outage_commits;
mod outage_faults;
mod outage_figures;
mod outage_scene;
mod overload;
mod permissions;
mod preferences;
mod presence;
mod races;
mod raw;
mod receipts;
mod refusals;
mod retention;
mod rooms;
mod rooms_large;
mod rooms_writing;
mod search;
mod sign_in;
mod sign_off;
mod slow_reader;
mod sync;
mod threads;
mod two_nodes;
mod web_page;
mod world;
