//! `/users/me/erase` and `/users/me/export`: the end of an account, and what it takes along.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, ServiceConfig, get, post};
use futures_util::stream;
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/users/me/erase").route(post().to(erase)))
        .service(resource("/users/me/export").route(get().to(export)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(erase, export))]
pub struct Rows;

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct Erase {
    #[schema(required = true)]
    #[serde(deserialize_with = "lenient")]
    password: String,
}

/// Ends the account for good.
///
/// Its messages stay as from a deleted user, or are emptied, as the deployment has it.
#[utoipa::path(
    post, path = "/users/me/erase", request_body = Erase,
    responses(
        (status = 204, description = "The account is gone, and its name is free."),
        (status = 403, description = "The password is wrong."),
        (status = 429, description = "Too many passwords wait to be checked."),
    ),
)]
async fn erase(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Erase>) -> ApiResult {
    let life = edge.services.life.clone();
    edge.on_main(async move { life.erase(&caller, &body.password).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The caller's own data, as lines of JSON.
#[utoipa::path(
    get, path = "/users/me/export",
    responses(
        (
            status = 200, description = "Objects with a `type`, one a line; the last is `end`, without which it is not whole.",
            body = String, content_type = "application/x-ndjson"
        ),
        (status = 429, description = "Too many exports are under way."),
    ),
)]
async fn export(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let life = edge.services.life.clone();
    let lines = edge.on_main(async move { life.export(&caller).await }).await?;
    let body = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(line), lines))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/x-ndjson"))
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"rookery-export.jsonl\""))
        .streaming(Box::pin(body)))
}
