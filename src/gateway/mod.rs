//! The edges: HTTP and WebSocket (actix, on threads of their own), TCP frames, TCP lines, and the operators' endpoint.
//! All of them sign in by [`connection`] and call the same services.

pub mod admin;
pub mod connection;
mod cut;
pub mod dispatch;
pub mod error;
pub mod home;
pub mod http;
pub mod limit;
pub mod line;
pub mod listener;
mod openapi;
mod takeover;
pub mod tcp;
mod turns;
pub mod web;
mod websocket;
mod websocket_gate;

use std::net::SocketAddr;
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
    /// Where WebSockets go after their handshake; `None`: they stay on the worker that made it.
    pub home: Option<home::Home>,
}

impl Edge {
    /// For a node whose WebSockets stay on their workers. To be called on the main runtime.
    pub fn new(config: Config, services: Services, sessions: Sessions) -> Self {
        let connections = limit::Connections::new(config.gateway.connections_max);
        Self {
            services,
            sessions,
            config: Arc::new(config),
            connections,
            runtime: Handle::current(),
            home: None,
        }
    }

    /// The same with a home for WebSockets.
    pub fn with_home(self, home: Option<home::Home>) -> Self {
        Self { home, ..self }
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

/// All edges of a node, running.
pub struct Running {
    /// HTTP and WebSocket.
    pub http: SocketAddr,
    /// TCP frames.
    pub tcp: SocketAddr,
    /// TCP lines.
    pub line: SocketAddr,
    /// The operators' endpoint.
    pub admin: SocketAddr,
    tokio: [listener::Bound; 2],
    actix: [http::Bound; 2],
}

/// Why an edge could not start.
#[derive(Debug, thiserror::Error)]
#[error("gateway: {key} can't be listened on: {cause}")]
pub struct StartError {
    key: &'static str,
    cause: std::io::Error,
}

/// Starts all edges; each has its address when this returns.
pub fn start(edge: Edge) -> Result<Running, StartError> {
    let failed = |key| move |cause| StartError { key, cause };
    let tcp = tcp::start(edge.clone()).map_err(failed("gateway.tcp_listen"))?;
    let line = line::start(edge.clone()).map_err(failed("gateway.line_listen"))?;
    let http = http::start(edge.clone()).map_err(failed("gateway.http_listen"))?;
    let admin = admin::start(edge).map_err(failed("admin.listen"))?;
    Ok(Running {
        http: http.address,
        tcp: tcp.address,
        line: line.address,
        admin: admin.address,
        tokio: [tcp, line],
        actix: [http, admin],
    })
}

impl Running {
    /// Stops taking connections, ends those there are, and waits for that within a few seconds.
    pub async fn stop(self) {
        let stop_tokio = futures_util::future::join_all(self.tokio.map(listener::Bound::stop));
        let stop_actix = futures_util::future::join_all(self.actix.map(http::Bound::stop));
        tokio::join!(stop_tokio, stop_actix);
    }
}
