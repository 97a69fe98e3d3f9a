//! The client side of the public protocol, for the terminal client, the load tool and the tests.
//!
//! Three levels: [`Connection`] is one socket, cheap enough to hold thousands; [`Client`] reconnects, syncs, repairs
//! gaps and repeats sends, so that its event stream has every message once and in order; [`Rest`] is HTTP.
//! Nothing here knows the server's insides: only `protocol` and `domain` are used.

pub mod connection;
pub mod driver;
pub mod error;
pub mod outbox;
pub mod reconnecting;
pub mod rest;
pub mod state;
#[cfg(test)]
pub(crate) mod test_server;
pub mod wire;

pub use connection::{Connection, ConnectionOptions, Events};
pub use error::{ClientError, Close};
pub use reconnecting::{Client, ClientEvents, ClientOptions, Event, Start};
pub use rest::Rest;
pub use wire::Transport;
