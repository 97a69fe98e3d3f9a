//! `/contacts`: friends and requests both ways.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Page, Query, list_by_id};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::ContactState;
use crate::protocol::json::lenient;
use crate::storage::{ContactRecord, UserRecord};

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/contacts").route(get().to(contacts)).route(post().to(request)))
        .service(resource("/contacts/{user_id}").route(delete().to(remove)))
        .service(resource("/contacts/{user_id}/accept").route(post().to(accept)))
        .service(resource("/contacts/{user_id}/decline").route(post().to(decline)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(contacts, request, accept, decline, remove))]
pub struct Rows;

/// A friend, or one who has asked or was asked.
#[derive(Serialize, ToSchema)]
struct Contact {
    user_id: u64,
    #[schema(value_type = ContactState)]
    state: &'static str,
    /// What came with the request.
    message: String,
    updated_at_ms: u64,
    username: String,
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
}

fn contact(contact: ContactRecord, user: Option<&UserRecord>) -> Contact {
    Contact {
        user_id: contact.contact_id,
        state: contact.state.as_str_name(),
        message: contact.message,
        updated_at_ms: contact.updated_at_ms,
        username: user.map_or_else(String::new, |user| user.username.clone()),
        display_name: user.map_or_else(String::new, |user| user.display_name.clone()),
        avatar_file_id: user.map_or(0, |user| user.avatar_file_id),
    }
}

/// The caller's friends, and requests both ways.
#[utoipa::path(
    get, path = "/contacts", params(Page),
    responses((status = 200, description = "By user id.", body = List<Contact>)),
)]
async fn contacts(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let services = edge.services.clone();
    let rows = edge
        .on_main(async move {
            let contacts = services.contacts.list(caller.user_id, after_id, limit + 1).await?;
            let ids: Vec<u64> = contacts.iter().map(|contact| contact.contact_id).collect();
            let users = if ids.is_empty() { Vec::new() } else { services.accounts.users(&ids).await? };
            Ok(contacts
                .into_iter()
                .map(|row| {
                    let user = users.iter().find(|user| user.id == row.contact_id);
                    contact(row, user)
                })
                .collect::<Vec<_>>())
        })
        .await?;
    Ok(list_by_id(rows, limit, |row| row.user_id, |row| row))
}

#[derive(Default, Deserialize, ToSchema)]
#[schema(as = RequestContact)]
#[serde(default)]
struct Request {
    #[schema(required = true)]
    #[serde(deserialize_with = "lenient")]
    user_id: u64,
    /// Shown to whom is asked.
    #[schema(max_length = 1024, example = "We met at the pond.")]
    #[serde(deserialize_with = "lenient")]
    message: String,
}

/// Asks a user to be a friend.
#[utoipa::path(
    post, path = "/contacts", request_body = Request,
    responses(
        (status = 201, description = "Asked; or friends at once, where the other had asked before.", body = Contact),
        (status = 403, description = "The user takes no requests, or none from the caller."),
        (status = 404, description = "Nobody has this id."),
        (status = 412, description = "The caller has blocked the user, or a list is full."),
    ),
)]
async fn request(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Request>) -> ApiResult {
    let services = edge.services.clone();
    let contact = edge
        .on_main(async move {
            let row = services.contacts.request(caller.user_id, body.user_id, &body.message).await?;
            let user = services.accounts.user(body.user_id).await?;
            Ok(contact(row, Some(&user)))
        })
        .await?;
    Ok(HttpResponse::Created().json(contact))
}

/// Accepts a request.
#[utoipa::path(
    post, path = "/contacts/{user_id}/accept",
    responses(
        (status = 200, description = "Friends.", body = Contact),
        (status = 404, description = "The user has not asked."),
        (status = 412, description = "A list is full."),
    ),
)]
async fn accept(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let services = edge.services.clone();
    let contact = edge
        .on_main(async move {
            let row = services.contacts.accept(caller.user_id, other).await?;
            let user = services.accounts.user(other).await?;
            Ok(contact(row, Some(&user)))
        })
        .await?;
    Ok(HttpResponse::Ok().json(contact))
}

/// Declines a request.
#[utoipa::path(
    post, path = "/contacts/{user_id}/decline",
    responses(
        (status = 204, description = "Declined."),
        (status = 404, description = "The user has not asked."),
    ),
)]
async fn decline(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.decline(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends a friendship, or takes back a request.
#[utoipa::path(
    delete, path = "/contacts/{user_id}",
    responses(
        (status = 204, description = "There is no contact now."),
        (status = 404, description = "The user is no contact."),
    ),
)]
async fn remove(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.remove(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
