//! `/sessions`: signing in and out. A REST session is a device, not a live connection.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post};
use serde::Deserialize;
use serde_json::json;

use super::extract::{ApiResult, Body, Caller, Id, Query, list};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(
            resource("/sessions")
                .route(post().to(sign_in))
                .route(get().to(devices))
                .route(delete().to(sign_out_all)),
        )
        .service(resource("/sessions/current").route(delete().to(sign_out_here)))
        .service(resource("/sessions/{device_id}").route(delete().to(sign_out_there)));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignIn {
    #[serde(deserialize_with = "lenient")]
    username: String,
    #[serde(deserialize_with = "lenient")]
    password: String,
    #[serde(deserialize_with = "lenient")]
    device_name: String,
    #[serde(deserialize_with = "lenient")]
    platform: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignOutAll {
    /// The caller's own device too.
    current: bool,
}

async fn sign_in(edge: Data<Edge>, Body(body): Body<SignIn>) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let signed_in = edge
        .on_main(async move {
            accounts.sign_in(&body.username, &body.password, &body.device_name, &body.platform).await
        })
        .await?;
    Ok(HttpResponse::Created().json(json!({
        "token": signed_in.token,
        "user_id": signed_in.identity.user_id,
        "device_id": signed_in.identity.device_id,
        "expires_at_ms": signed_in.identity.expires_at_ms,
    })))
}

/// All devices: `accounts.devices_max` bounds them, so that they are one page.
async fn devices(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let devices = edge.on_main(async move { accounts.devices(caller.user_id).await }).await?;
    let items = devices.into_iter().map(|device| {
        json!({
            "device_id": device.id,
            "device_name": device.name,
            "platform": device.platform,
            "created_at_ms": device.created_at_ms,
            "last_seen_ms": device.last_seen_ms,
            "expires_at_ms": device.expires_at_ms,
            "current": device.id == caller.device_id,
        })
    });
    Ok(list(items.collect(), String::new()))
}

async fn sign_out_here(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    sign_out(&edge, caller.user_id, caller.device_id).await
}

async fn sign_out_there(edge: Data<Edge>, Caller(caller): Caller, Id(device_id): Id) -> ApiResult {
    sign_out(&edge, caller.user_id, device_id).await
}

async fn sign_out_all(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Query(query): Query<SignOutAll>,
) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    edge.on_main(async move { accounts.sign_out_all(&caller, query.current).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn sign_out(edge: &Edge, user_id: u64, device_id: u64) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    edge.on_main(async move { accounts.sign_out(user_id, device_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
