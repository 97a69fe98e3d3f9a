//! `/users`: signing up, profiles, search.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Page, Query, list};
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

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(sign_up, search, me, change, deactivate, change_password, user))]
pub struct Rows;

/// A user as everybody sees it.
#[derive(Serialize, ToSchema)]
struct User {
    user_id: u64,
    /// Unique regardless of case.
    #[schema(example = "ada")]
    username: String,
    #[schema(example = "Ada")]
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
    bio: String,
}

impl From<UserRecord> for User {
    fn from(user: UserRecord) -> Self {
        let UserRecord { id, username, display_name, avatar_file_id, bio, .. } = user;
        Self { user_id: id, username, display_name, avatar_file_id, bio }
    }
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct SignUp {
    /// 1 to 32 letters, digits, `_`, `.` or `-`, the first a letter or digit.
    #[schema(required = true, example = "ada")]
    #[serde(deserialize_with = "lenient")]
    username: String,
    /// At least `accounts.password_min` characters.
    #[schema(required = true, max_length = 256, example = "open sesame")]
    #[serde(deserialize_with = "lenient")]
    password: String,
    /// Absent or empty: the username.
    #[schema(max_length = 64, example = "Ada")]
    #[serde(deserialize_with = "lenient")]
    display_name: String,
}

/// Signs a user up.
#[utoipa::path(
    post, path = "/users", request_body = SignUp, security(()),
    responses(
        (status = 201, description = "The new user.", body = User),
        (status = 409, description = "The username is taken."),
        (status = 429, description = "Too many passwords wait to be hashed."),
    ),
)]
async fn sign_up(edge: Data<Edge>, Body(body): Body<SignUp>) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge
        .on_main(async move { accounts.sign_up(&body.username, &body.password, &body.display_name).await })
        .await?;
    Ok(HttpResponse::Created().json(User::from(user)))
}

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Search {
    /// The beginning of a username, or a part of a display name.
    #[param(required = true, example = "ada")]
    query: String,
    /// Most items, up to 200; 0 or absent: 50.
    limit: Option<u32>,
    /// An earlier `next_cursor`; empty or absent: from the top.
    cursor: String,
}

/// Finds users by name.
#[utoipa::path(
    get, path = "/users", params(Search),
    responses((status = 200, description = "Users by id, the one of exactly this name first.", body = List<User>)),
)]
async fn search(edge: Data<Edge>, _caller: Caller, Query(search): Query<Search>) -> ApiResult {
    let page = Page { limit: search.limit, cursor: search.cursor };
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let after = (!page.cursor.is_empty()).then_some(after_id);
    let accounts = edge.services.accounts.clone();
    let (users, next) =
        edge.on_main(async move { accounts.search(&search.query, after, limit).await }).await?;
    let next = next.map(|id| id.to_string()).unwrap_or_default();
    Ok(list(users.into_iter().map(User::from).collect(), next))
}

/// The caller's own profile.
#[utoipa::path(
    get, path = "/users/me",
    responses((status = 200, description = "The caller.", body = User)),
)]
async fn me(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.user(caller.user_id).await }).await?;
    Ok(HttpResponse::Ok().json(User::from(user)))
}

/// A user's profile.
#[utoipa::path(
    get, path = "/users/{id}",
    responses(
        (status = 200, description = "The user.", body = User),
        (status = 404, description = "Nobody has this id."),
    ),
)]
async fn user(edge: Data<Edge>, _caller: Caller, Id(id): Id) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.user(id).await }).await?;
    Ok(HttpResponse::Ok().json(User::from(user)))
}

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangeProfile)]
#[serde(default)]
struct Change {
    #[schema(max_length = 64)]
    display_name: Option<String>,
    #[schema(value_type = Option<u64>)]
    avatar_file_id: Option<LenientId>,
    #[schema(max_length = 1024, example = "Counts on engines.")]
    bio: Option<String>,
}

/// A number, or one in a string.
#[derive(Deserialize, Serialize)]
struct LenientId(#[serde(deserialize_with = "lenient")] u64);

/// Changes the caller's profile.
#[utoipa::path(
    patch, path = "/users/me", request_body = Change,
    responses((status = 200, description = "The caller, changed.", body = User)),
)]
async fn change(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Change>) -> ApiResult {
    let change = ProfileChange {
        display_name: body.display_name,
        avatar_file_id: body.avatar_file_id.map(|id| id.0),
        bio: body.bio,
    };
    let accounts = edge.services.accounts.clone();
    let user = edge.on_main(async move { accounts.change_profile(caller.user_id, change).await }).await?;
    Ok(HttpResponse::Ok().json(User::from(user)))
}

/// Disables the account and signs all of its devices out.
///
/// Its messages stay; its name stays taken.
#[utoipa::path(
    delete, path = "/users/me",
    responses((status = 204, description = "Done; the token is refused from now on.")),
)]
async fn deactivate(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let accounts = edge.services.accounts.clone();
    edge.on_main(async move { accounts.deactivate(caller.user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct ChangePassword {
    #[schema(required = true)]
    #[serde(deserialize_with = "lenient")]
    old_password: String,
    #[schema(required = true, max_length = 256)]
    #[serde(deserialize_with = "lenient")]
    new_password: String,
}

/// Changes the caller's password.
#[utoipa::path(
    put, path = "/users/me/password", request_body = ChangePassword,
    responses(
        (status = 204, description = "Changed; the user's other devices are signed out."),
        (status = 403, description = "The old password is wrong."),
        (status = 429, description = "Too many passwords wait to be hashed."),
    ),
)]
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
