//! `/users/me/erase` and `/users/me/export`: the end of an account, and what it takes along.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, ServiceConfig, get, post};
use futures_util::stream;
use serde::Deserialize;

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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Erase {
    #[serde(deserialize_with = "lenient")]
    password: String,
}

async fn erase(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Erase>) -> ApiResult {
    let life = edge.services.life.clone();
    edge.on_main(async move { life.erase(&caller, &body.password).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

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
