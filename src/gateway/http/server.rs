//! Runs one actix server on threads of its own, beside the main runtime.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::h1::Codec;
use actix_http::{HttpService, Request};
use actix_service::map_config;
use actix_web::App;
use actix_web::body::MessageBody;
use actix_web::dev::{
    AppConfig, Extensions, Server, ServerHandle, ServiceFactory as _, ServiceRequest, ServiceResponse,
    fn_factory, fn_service,
};
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;

use super::extract::{ApiError, OpenSocket};
use crate::domain::Error;
use crate::gateway::Edge;
use crate::gateway::cut::Cut;
use crate::gateway::listener::{bind, tune};
use crate::gateway::takeover::{self, Taken};
use crate::protocol::ErrorCode;

/// An idle HTTP connection is closed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long the head of a connection's first request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that is to be closed may take to do so.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests under way may take after a stop, in seconds.
const SHUTDOWN_TIMEOUT_S: u64 = 5;
/// Connections of operators that a worker serves at once.
const OPERATORS_MAX: usize = 1024;
/// A request slower than this is logged.
const SLOW: Duration = Duration::from_secs(1);

/// A running actix server.
pub struct Bound {
    /// What it listens on.
    pub address: SocketAddr,
    handle: ServerHandle,
    taken: Taken,
    thread: JoinHandle<()>,
}

impl Bound {
    /// Stops accepting, lets requests under way end within a few seconds, and ends the threads.
    pub async fn stop(self) {
        // The workers know nothing of the sockets that were taken over.
        self.handle.pause().await;
        self.taken.all_closed(Duration::from_secs(SHUTDOWN_TIMEOUT_S)).await;
        self.handle.stop(true).await;
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// For whom a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    /// Users: their sockets count, and no more than `gateway.connections_max` are served.
    Users,
    /// Operators, who must get in above all when users fill the node: their sockets take no user's place.
    Operators,
}

/// Starts a server named `name` on `address`, with the routes that `routes` makes for each worker.
pub fn serve<R, C>(
    edge: Edge,
    (name, guests): (&str, Guests),
    address: &str,
    workers: usize,
    routes: R,
) -> io::Result<Bound>
where
    R: Fn(&Edge) -> C + Clone + Send + 'static,
    C: FnOnce(&mut ServiceConfig) + 'static,
{
    let listener = bind(address)?;
    let address = listener.local_addr()?;
    let (started, start) = std::sync::mpsc::sync_channel(1);
    let taken = Taken::default();
    let counted = taken.clone();
    let name_of_service = name.to_owned();
    let thread = std::thread::Builder::new().name(format!("actix-{name}")).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            match bind_workers(edge, (&name_of_service, guests), listener, workers, routes, counted) {
                Ok(server) => {
                    let _ = started.send(Ok(server.handle()));
                    if let Err(error) = server.await {
                        tracing::error!(target: "rookery::gateway", %error, "an HTTP server ended");
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    })?;
    let handle =
        start.recv().map_err(|_| io::Error::other("the server's thread ended before it began"))??;
    Ok(Bound { address, handle, taken, thread })
}

/// What `actix_web::HttpServer` would make of the app, and a service beside it for upgrades, which `HttpServer` has no
/// setting for.
fn bind_workers<R, C>(
    edge: Edge,
    (name, guests): (&str, Guests),
    listener: std::net::TcpListener,
    workers: usize,
    routes: R,
    taken: Taken,
) -> io::Result<Server>
where
    R: Fn(&Edge) -> C + Clone + Send + 'static,
    C: FnOnce(&mut ServiceConfig) + 'static,
{
    let address = listener.local_addr()?;
    let connections_max = match guests {
        // Our own count answers 503; this one only keeps a worker from being given more than all.
        Guests::Users => edge.config.gateway.connections_max.saturating_add(1024),
        Guests::Operators => OPERATORS_MAX,
    };
    let server = Server::build()
        .workers(workers.max(1))
        .max_concurrent_connections(connections_max)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let server = server.listen(name, listener, move || {
        let (connected, stopping, taken) = (edge.clone(), stopping.clone(), taken.clone());
        let (edge, routes) = (edge.clone(), routes.clone());
        let app = move || {
            map_config(App::new().wrap(from_fn(observe)).configure(routes(&edge)), |()| AppConfig::default())
        };
        let upgraded = app.clone();
        let upgrades = fn_factory(move || {
            let (app, taken) = (upgraded().new_service(()), taken.clone());
            async move {
                let app = Rc::new(app.await?);
                Ok::<_, ()>(fn_service(move |(request, connection): (Request, Framed<TcpStream, Codec>)| {
                    let (app, taken) = (app.clone(), taken.clone());
                    async move { takeover::answer(&*app, request, connection, &taken).await }
                }))
            }
        });
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .local_addr(address)
            .on_connect_ext(move |socket: &TcpStream, extensions: &mut Extensions| {
                on_connect(&connected, guests, socket, extensions);
            })
            .upgrade(upgrades)
            .finish(app())
            .tcp()
    })?;
    Ok(server.run())
}

/// Tunes a new socket, counts it, and keeps that by which a WebSocket can be cut from outside.
fn on_connect(edge: &Edge, guests: Guests, stream: &TcpStream, extensions: &mut Extensions) {
    tune(stream, edge.config.gateway.tcp_user_timeout);
    // Without a peer the client is gone already, and there is nothing to cut.
    let cut = stream.peer_addr().ok().map(|peer| Arc::new(Cut::new(stream, peer)));
    let permit = if guests == Guests::Users { edge.connections.take() } else { None };
    let is_too_many = guests == Guests::Users && permit.is_none();
    extensions.insert(Arc::new(OpenSocket { permit, is_too_many, cut }));
}

/// Around every request: refuses those of one socket too many, turns errors of actix's own into the protocol's form,
/// and logs what was slow or failed.
async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let began = std::time::Instant::now();
    // A node that is full is neither dead nor unready: who asks for that is answered.
    let is_probe = matches!(request.path(), "/readyz" | "/healthz");
    if !is_probe && request.conn_data::<Arc<OpenSocket>>().is_some_and(|socket| socket.is_too_many) {
        let error = Error::unavailable("too many connections are open; try again later, or another node");
        let mut response = request.error_response(ApiError::from(error));
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        return Ok(response);
    }
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let response = match next.call(request).await {
        Ok(response) => in_our_form(response.map_into_boxed_body()),
        Err(error) if error.as_error::<ApiError>().is_some() => return Err(error),
        Err(error) => return Err(in_our_form_error(&error).into()),
    };
    let (status, took) = (response.status(), began.elapsed());
    // A node that is not ready says so to whoever asks it; that is an answer, not a failure.
    if is_probe {
        tracing::debug!(target: "rookery::gateway", %path, status = status.as_u16(), ?took, "probe");
    } else if status.is_server_error() || (took > SLOW && status != StatusCode::SWITCHING_PROTOCOLS) {
        tracing::warn!(target: "rookery::gateway", %method, path, status = status.as_u16(), ?took, "a request was slow or failed");
    } else {
        tracing::debug!(target: "rookery::gateway", %method, path, status = status.as_u16(), ?took, "request");
    }
    Ok(response)
}

/// An error that one of actix's own parts made a response of.
fn in_our_form(response: ServiceResponse) -> ServiceResponse {
    match response.response().error() {
        Some(error) if error.as_error::<ApiError>().is_none() => {
            let ours = in_our_form_error(error);
            let (request, _) = response.into_parts();
            ServiceResponse::from_err(ours, request)
        }
        _ => response,
    }
}

fn in_our_form_error(error: &actix_web::Error) -> ApiError {
    let status = error.as_response_error().status_code();
    let code = match status.as_u16() {
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        429 => ErrorCode::ResourceExhausted,
        400..=499 => ErrorCode::InvalidArgument,
        503 => ErrorCode::Unavailable,
        504 => ErrorCode::DeadlineExceeded,
        _ => ErrorCode::Internal,
    };
    ApiError::with_status(Error::new(code, format!("the request can't be taken: {error}")), status)
}
