//! The operators' endpoint: JSON under `/admin/v1/`, on a listener of its own.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Edge;
use super::http::extract::{ApiError, ApiResult, Query, bearer};
use super::http::{Bound, Guests, health, resource, serve};
use crate::domain::Error;
use crate::services::operations::ActorQuery;

/// Operators are few.
const WORKERS: usize = 1;

/// Listens on `admin.listen`.
pub fn start(edge: Edge) -> std::io::Result<Bound> {
    let address = edge.config.admin.listen.clone();
    serve(edge, ("admin", Guests::Operators), &address, WORKERS, |edge| {
        let edge = edge.clone();
        move |service: &mut ServiceConfig| routes(service, &edge)
    })
}

fn routes(service: &mut ServiceConfig, edge: &Edge) {
    service
        .app_data(Data::new(edge.clone()))
        .app_data(web::PayloadConfig::new(edge.config.gateway.body_bytes_max))
        .configure(health)
        .service(
            web::scope("/admin/v1")
                .wrap(from_fn(authorised))
                .service(resource("/nodes").route(get().to(nodes)))
                .service(resource("/nodes/{name}").route(get().to(node)))
                .service(resource("/nodes/{name}/drain").route(post().to(drain)))
                .service(resource("/actors").route(get().to(actors)))
                .service(resource("/actors/{kind}/{key}").route(get().to(actor)))
                .service(resource("/placement").route(get().to(placement)))
                .service(resource("/cache").route(get().to(cache)))
                .default_service(web::to(unknown)),
        )
        .default_service(web::to(unknown));
}

/// Asks for the bearer token where `admin.token` is set.
async fn authorised(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let edge = request.app_data::<Data<Edge>>().expect("every app of this crate holds its edge").clone();
    let expected = &edge.config.admin.token;
    if !expected.is_empty() && !bearer(request.request()).is_some_and(|given| same(&given, expected)) {
        let error = Error::unauthenticated("the admin endpoint wants Authorization: Bearer with admin.token");
        return Err(ApiError::from(error).into());
    }
    next.call(request).await
}

/// Compares hashes, so that the time taken tells nothing of the token.
fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(expected)
}

async fn unknown(request: HttpRequest) -> ApiResult {
    let message = format!("there is no {} here; the operators' calls are under /admin/v1", request.path());
    Err(ApiError::from(Error::not_found(message)))
}

async fn nodes(edge: Data<Edge>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let nodes = edge.on_main(async move { operations.nodes().await }).await?;
    Ok(HttpResponse::Ok().json(nodes))
}

async fn node(edge: Data<Edge>, name: web::Path<String>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let node = edge.on_main(async move { operations.node(&name).await }).await?;
    Ok(HttpResponse::Ok().json(node))
}

/// Accepted: the node drains from here on, and its state tells how far it is.
async fn drain(edge: Data<Edge>, name: web::Path<String>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let node = edge.on_main(async move { operations.drain(&name).await }).await?;
    Ok(HttpResponse::Accepted().json(node))
}

async fn actors(edge: Data<Edge>, Query(query): Query<ActorQuery>) -> ApiResult {
    let operations = edge.services.operations.clone();
    let actors = edge.on_main(async move { operations.actors(query).await }).await?;
    Ok(HttpResponse::Ok().json(actors))
}

async fn actor(edge: Data<Edge>, address: web::Path<(String, String)>) -> ApiResult {
    let (kind, key) = address.into_inner();
    let key = key
        .parse()
        .map_err(|_| Error::invalid("key", format!("'{key}' is no key; keys are whole numbers")))?;
    let operations = edge.services.operations.clone();
    let actor = edge.on_main(async move { operations.actor(&kind, key).await }).await?;
    Ok(HttpResponse::Ok().json(actor))
}

async fn cache(edge: Data<Edge>) -> ApiResult {
    Ok(HttpResponse::Ok().json(edge.services.cache.json()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Placement {
    kind: String,
    key: Option<u64>,
}

async fn placement(edge: Data<Edge>, Query(query): Query<Placement>) -> ApiResult {
    let key = query.key.ok_or_else(|| Error::invalid("key", "key is missing; name the actor's number"))?;
    let operations = edge.services.operations.clone();
    let placement = edge.on_main(async move { operations.placement(&query.kind, key).await }).await?;
    Ok(HttpResponse::Ok().json(placement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_only_when_it_is() {
        assert!(same("secret", "secret"));
        assert!(!same("secre", "secret"));
        assert!(!same("", "secret"));
    }
}
