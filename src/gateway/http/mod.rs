//! HTTP: the REST calls, one resource a file, and the routes of the main port.
//!
//! Handlers run on actix's single-threaded workers and do no work there but reading and writing JSON: every service
//! call goes to the main runtime by [`crate::gateway::Edge::on_main`].

mod blocks;
mod changes;
mod contacts;
mod conversations;
pub mod extract;
mod joining;
mod life;
mod marks;
mod members;
mod messages;
mod preferences;
mod presence;
mod privacy;
mod search;
mod server;
mod sessions;
mod users;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, ResponseError as _};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use self::extract::{ApiError, ApiResult};
pub use self::server::{Bound, Guests, serve};
use super::Edge;
use super::openapi::{self, Part};
use super::{web as pages, websocket};
use crate::domain::Error;

/// Listens on `gateway.http_listen`.
pub fn start(edge: Edge) -> std::io::Result<Bound> {
    let config = edge.config.gateway.clone();
    serve(edge, ("http", Guests::Users), &config.http_listen, config.http_workers, |edge| {
        let edge = edge.clone();
        move |service: &mut ServiceConfig| routes(service, &edge)
    })
}

/// Everything of the main port.
pub fn routes(service: &mut ServiceConfig, edge: &Edge) {
    service
        .app_data(Data::new(edge.clone()))
        .app_data(web::PayloadConfig::new(edge.config.gateway.body_bytes_max))
        .service(
            web::scope("/api")
                .service(web::scope("/v1").configure(rows).default_service(web::to(unknown)))
                .configure(openapi::routes)
                .default_service(web::to(unknown)),
        )
        .configure(health)
        .configure(websocket::routes)
        .configure(pages::routes)
        .default_service(web::to(unknown));
}

/// The REST calls, below `/api/v1`.
pub(super) fn rows(service: &mut ServiceConfig) {
    service
        .configure(presence::routes)
        .configure(privacy::routes)
        .configure(life::routes)
        .configure(search::routes)
        .configure(preferences::routes)
        .configure(users::routes)
        .configure(sessions::routes)
        .configure(contacts::routes)
        .configure(blocks::routes)
        .configure(conversations::routes)
        .configure(members::routes)
        .configure(joining::routes)
        .configure(messages::routes)
        .configure(marks::routes)
        .configure(changes::routes);
}

/// What the API's description is made of, group by group as its page shows them. A file that is forgotten here has
/// routes that are not described, which a test of [`super::openapi`] finds.
pub(super) fn described() -> Vec<Part> {
    macro_rules! parts {
        ($($group:literal: $($file:ident),+;)+) => {
            vec![$($(Part {
                group: $group, file: stringify!($file), below: "/api/v1", rows: $file::Rows::openapi(),
            },)+)+]
        };
    }
    let mut parts = parts! {
        "Accounts": users, privacy, life;
        "Devices": sessions;
        "Contacts and blocks": contacts, blocks;
        "Conversations": conversations, members, joining, preferences;
        "Messages": messages, changes, marks, search;
        "Presence": presence;
    };
    parts.push(Part { group: "Server", file: "server", below: "", rows: Rows::openapi() });
    parts
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(healthy, ready))]
struct Rows;

/// `/healthz` and `/readyz`, which need no token.
pub fn health(service: &mut ServiceConfig) {
    service
        .service(resource("/healthz").route(web::get().to(healthy)))
        .service(resource("/readyz").route(web::get().to(ready)));
}

/// How the node is.
#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
    /// Why it is not ready; absent where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// Whether the node runs.
#[utoipa::path(
    get, path = "/healthz", security(()),
    responses((status = 200, description = "It does.", body = Health)),
)]
async fn healthy() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok", reason: None })
}

/// Whether the node can serve clients.
#[utoipa::path(
    get, path = "/readyz", security(()),
    responses(
        (status = 200, description = "It can.", body = Health),
        (status = 503, description = "It can't, for this reason.", body = Health),
    ),
)]
async fn ready(edge: Data<Edge>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let ready = edge.on_main(async move { Ok(operations.ready().await) }).await?;
    Ok(match ready {
        Ok(()) => HttpResponse::Ok().json(Health { status: "ready", reason: None }),
        Err(reason) => {
            HttpResponse::ServiceUnavailable().json(Health { status: "not ready", reason: Some(reason) })
        }
    })
}

/// A resource that answers methods it does not have with 405 in the protocol's form.
pub fn resource(path: &str) -> actix_web::Resource {
    #[cfg(test)]
    openapi::registered(path);
    web::resource(path.to_owned()).default_service(web::to(wrong_method))
}

async fn wrong_method(request: actix_web::HttpRequest) -> HttpResponse {
    let message =
        format!("{} can't be asked with {}; see the API's description", request.path(), request.method());
    let error = ApiError::with_status(Error::invalid("", message), StatusCode::METHOD_NOT_ALLOWED);
    let mut response = error.error_response();
    if let Some(allowed) = request.match_pattern().and_then(|pattern| openapi::methods(&pattern)) {
        let allowed = header::HeaderValue::from_str(&allowed).expect("names of methods are plain");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn unknown(request: actix_web::HttpRequest) -> ApiResult {
    let message = format!("there is no {} here; the API is under /api/v1", request.path());
    Err(ApiError::from(Error::not_found(message)))
}
