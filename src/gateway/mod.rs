//! The edges: HTTP and WebSocket (actix, on threads of their own), TCP frames, TCP lines, and the operators' endpoint.
//! All of them sign in by [`connection`] and call the same services.

pub mod admin;
pub mod connection;
pub mod error;
pub mod http;
pub mod line;
pub mod limit;
pub mod listener;
pub mod tcp;
pub mod web;
mod websocket;
mod websocket_gate;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::actors::session::Sessions;
use crate::config::Config;
use crate::domain::{Error, Result};
use crate::services::Services;

/// What every edge of a node needs. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    /// What is called.
    pub services: Services,
    /// Where sessions are opened.
    pub sessions: Sessions,
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Open sockets of all transports.
    pub connections: limit::Connections,
    /// The main runtime: all database work and all actors run there, never on an actix worker.
    pub runtime: Handle,
}

impl Edge {
    /// For a node. Call it within the main runtime, or pass that runtime's handle.
    pub fn new(services: Services, sessions: Sessions, config: Arc<Config>, runtime: Handle) -> Self {
        let connections = limit::Connections::new(config.gateway.connections_max);
        Self { services, sessions, config, connections, runtime }
    }

    /// Runs a service call on the main runtime and waits for it. It goes on when the caller stops waiting.
    pub async fn on_main<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(call).await.unwrap_or_else(|_| {
            Err(Error::internal("the request ended in a bug of the server; its log has the cause"))
        })
    }
}
