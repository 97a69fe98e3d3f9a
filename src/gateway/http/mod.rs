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

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;

use self::extract::{ApiError, ApiResult};
pub use self::server::{Bound, serve};
use super::Edge;
use super::{web as pages, websocket};
use crate::domain::Error;

/// Listens on `gateway.http_listen`.
pub fn start(edge: Edge) -> std::io::Result<Bound> {
    let config = edge.config.gateway.clone();
    serve(edge, "http", &config.http_listen, config.http_workers, |edge| {
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
                .service(
                    web::scope("/v1")
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
                        .configure(changes::routes)
                        .default_service(web::to(unknown)),
                )
                .default_service(web::to(unknown)),
        )
        .configure(health)
        .configure(websocket::routes)
        .configure(pages::routes)
        .default_service(web::to(unknown));
}

/// `/healthz` and `/readyz`, which need no token.
pub fn health(service: &mut ServiceConfig) {
    service
        .service(resource("/healthz").route(web::get().to(healthy)))
        .service(resource("/readyz").route(web::get().to(ready)));
}

async fn healthy() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn ready(edge: Data<Edge>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let ready = edge.on_main(async move { Ok(operations.ready().await) }).await?;
    Ok(match ready {
        Ok(()) => HttpResponse::Ok().json(json!({ "status": "ready" })),
        Err(reason) => {
            HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reason": reason }))
        }
    })
}

/// A resource that answers methods it does not have with 405 in the protocol's form.
pub fn resource(path: &str) -> actix_web::Resource {
    web::resource(path.to_owned()).default_service(web::to(wrong_method))
}

async fn wrong_method(request: actix_web::HttpRequest) -> ApiResult {
    let message =
        format!("{} can't be asked with {}; see the API's description", request.path(), request.method());
    let status = actix_web::http::StatusCode::METHOD_NOT_ALLOWED;
    Err(ApiError::with_status(Error::invalid("", message), status))
}

async fn unknown(request: actix_web::HttpRequest) -> ApiResult {
    let message = format!("there is no {} here; the API is under /api/v1", request.path());
    Err(ApiError::from(Error::not_found(message)))
}
