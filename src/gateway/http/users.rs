//! `/users`: signing up, profiles, search.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, list_by_id};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::storage::{ProfileChange, UserRecord};

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/users").route(post().to(sign_up)).route(get().to(search)))
        .service(
            resource("/users/me")
                .route(get().to(me))
                .route(patch().to(change))
                .route(delete().to(deactivate)),
        )
        .service(resource("/users/me/password").route(put().to(change_password)))
        .service(resource("/users/{id}").route(get().to(user)));
}

/// A user as everybody sees it.
pub fn user_json(user: &UserRecord) -> Value {
    json!({
        "user_id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "avatar_file_id": user.avatar_file_id,
        "bio": user.bio,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignUp {
    #[serde(deserialize_with = "lenient")]
    username: String,
    #[serde(deserialize_with = "lenient")]
    password: String,
    #[serde(deserialize_with = "lenient")]
    display_name: String,
}

async fn sign_up(edge: Data<Edge>, Body(body): Body<SignUp>) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge
        .on_main(async move { accounts.sign_up(&body.username, &body.password, &body.display_name).await })
        .await?;
    Ok(HttpResponse::Created().json(user_json(&user)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Search {
    query: String,
    limit: Option<u32>,
    cursor: String,
}

async fn search(edge: Data<Edge>, _caller: Caller, Query(search): Query<Search>) -> ApiResult {
    let page = Page { limit: search.limit, cursor: search.cursor };
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let accounts = edge.services.accounts.clone();
    let users =
        edge.on_main(async move { accounts.search(&search.query, after_id, limit + 1).await }).await?;
    Ok(list_by_id(users, limit, |user| user.id, |user| user_json(&user)))
}

async fn me(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.user(caller.user_id).await }).await?;
    Ok(HttpResponse::Ok().json(user_json(&user)))
}

async fn user(edge: Data<Edge>, _caller: Caller, Id(id): Id) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.user(id).await }).await?;
    Ok(HttpResponse::Ok().json(user_json(&user)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    display_name: Option<String>,
    avatar_file_id: Option<LenientId>,
    bio: Option<String>,
}

/// A number, or one in a string.
#[derive(Deserialize)]
struct LenientId(#[serde(deserialize_with = "lenient")] u64);

async fn change(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Change>) -> ApiResult {
    let change = ProfileChange {
        display_name: body.display_name,
        avatar_file_id: body.avatar_file_id.map(|id| id.0),
        bio: body.bio,
    };
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.change_profile(caller.user_id, change).await }).await?;
    Ok(HttpResponse::Ok().json(user_json(&user)))
}

async fn deactivate(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    edge.on_main(async move { accounts.deactivate(caller.user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChangePassword {
    #[serde(deserialize_with = "lenient")]
    old_password: String,
    #[serde(deserialize_with = "lenient")]
    new_password: String,
}

async fn change_password(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Body(body): Body<ChangePassword>,
) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    edge.on_main(
        async move { accounts.change_password(&caller, &body.old_password, &body.new_password).await },
    )
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
