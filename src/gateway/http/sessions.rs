//! `/sessions`: signing in and out. A REST session is a device, not a live connection.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Query, list};
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

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(sign_in, devices, sign_out_all, sign_out_here, sign_out_there))]
pub struct Rows;

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct SignIn {
    #[schema(required = true, example = "ada")]
    #[serde(deserialize_with = "lenient")]
    username: String,
    #[schema(required = true, example = "open sesame")]
    #[serde(deserialize_with = "lenient")]
    password: String,
    #[schema(max_length = 64, example = "a phone")]
    #[serde(deserialize_with = "lenient")]
    device_name: String,
    /// Such as phone or desktop; counts where a deployment lets a user have one device of each.
    #[schema(max_length = 32, example = "phone")]
    #[serde(deserialize_with = "lenient")]
    platform: String,
}

/// A new device's token, and what it stands for.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    token: String,
    user_id: u64,
    device_id: u64,
    expires_at_ms: u64,
}

/// One signed-in client of the caller.
#[derive(Serialize, ToSchema)]
struct Device {
    device_id: u64,
    device_name: String,
    platform: String,
    created_at_ms: u64,
    /// When its token was last used to sign in, to the minute or so.
    last_seen_ms: u64,
    /// The token is refused from here on.
    expires_at_ms: u64,
    /// The one that asks.
    current: bool,
}

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct SignOutAll {
    /// The caller's own device too.
    current: bool,
}

/// Signs in as a new device.
#[utoipa::path(
    post, path = "/sessions", request_body = SignIn, security(()),
    responses(
        (status = 201, description = "A new device.", body = SignedIn),
        (status = 401, description = "No such name, or another password."),
        (status = 403, description = "The account is disabled."),
        (status = 429, description = "Too many passwords wait to be checked."),
    ),
)]
async fn sign_in(edge: Data<Edge>, Body(body): Body<SignIn>) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let signed_in = edge
        .on_main(async move {
            accounts.sign_in(&body.username, &body.password, &body.device_name, &body.platform).await
        })
        .await?;
    Ok(HttpResponse::Created().json(SignedIn {
        token: signed_in.token,
        user_id: signed_in.identity.user_id,
        device_id: signed_in.identity.device_id,
        expires_at_ms: signed_in.identity.expires_at_ms,
    }))
}

/// The caller's devices, as one page.
#[utoipa::path(
    get, path = "/sessions",
    responses((status = 200, description = "All of them: `accounts.devices_max` bounds them.", body = List<Device>)),
)]
async fn devices(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let devices = edge.on_main(async move { accounts.devices(caller.user_id).await }).await?;
    let items = devices.into_iter().map(|device| Device {
        device_id: device.id,
        device_name: device.name,
        platform: device.platform,
        created_at_ms: device.created_at_ms,
        last_seen_ms: device.last_seen_ms,
        expires_at_ms: device.expires_at_ms,
        current: device.id == caller.device_id,
    });
    Ok(list(items.collect(), String::new()))
}

/// Signs the caller's own device out.
#[utoipa::path(
    delete, path = "/sessions/current",
    responses((status = 204, description = "Done; the token is refused from now on.")),
)]
async fn sign_out_here(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    sign_out(&edge, caller.user_id, caller.device_id).await
}

/// Signs one of the caller's devices out.
#[utoipa::path(
    delete, path = "/sessions/{device_id}",
    responses(
        (status = 204, description = "Done, on all nodes."),
        (status = 404, description = "The caller has no such device."),
    ),
)]
async fn sign_out_there(edge: Data<Edge>, Caller(caller): Caller, Id(device_id): Id) -> ApiResult {
    sign_out(&edge, caller.user_id, device_id).await
}

/// Signs all of the caller's other devices out.
#[utoipa::path(
    delete, path = "/sessions", params(SignOutAll),
    responses((status = 204, description = "Done, on all nodes.")),
)]
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
