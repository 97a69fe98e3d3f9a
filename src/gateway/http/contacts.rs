//! `/contacts`: friends and requests both ways.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, list_by_id};
use super::resource;
use crate::gateway::Edge;
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

fn contact_json(contact: &ContactRecord, user: Option<&UserRecord>) -> Value {
    json!({
        "user_id": contact.contact_id,
        "state": contact.state.as_str_name(),
        "message": contact.message,
        "updated_at_ms": contact.updated_at_ms,
        "username": user.map_or("", |user| &user.username),
        "display_name": user.map_or("", |user| &user.display_name),
        "avatar_file_id": user.map_or(0, |user| user.avatar_file_id),
    })
}

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
                .map(|contact| {
                    let user = users.iter().find(|user| user.id == contact.contact_id);
                    let json = contact_json(&contact, user);
                    (contact.contact_id, json)
                })
                .collect::<Vec<_>>())
        })
        .await?;
    Ok(list_by_id(rows, limit, |row| row.0, |row| row.1))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    #[serde(deserialize_with = "lenient")]
    user_id: u64,
    #[serde(deserialize_with = "lenient")]
    message: String,
}

async fn request(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Request>) -> ApiResult {
    let services = edge.services.clone();
    let contact = edge
        .on_main(async move {
            let contact = services.contacts.request(caller.user_id, body.user_id, &body.message).await?;
            let user = services.accounts.user(body.user_id).await?;
            Ok(contact_json(&contact, Some(&user)))
        })
        .await?;
    Ok(HttpResponse::Created().json(contact))
}

async fn accept(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let services = edge.services.clone();
    let contact = edge
        .on_main(async move {
            let contact = services.contacts.accept(caller.user_id, other).await?;
            let user = services.accounts.user(other).await?;
            Ok(contact_json(&contact, Some(&user)))
        })
        .await?;
    Ok(HttpResponse::Ok().json(contact))
}

async fn decline(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.decline(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn remove(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.remove(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
