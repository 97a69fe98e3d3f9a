//! The cache over a real Redis that fails in every way a Redis can. `tier` drives two caches, as of two nodes, over one
//! Redis in this process; `nodes` are real nodes as their clients see them.

#[path = "../support/node.rs"]
#[allow(dead_code, reason = "shared with the API tests, which use the rest")]
mod node;
#[path = "../support/redis.rs"]
mod redis;

mod faults;
mod kinds;
mod nodes;
mod stale;
mod stores;
mod tier;
