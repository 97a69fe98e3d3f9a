//! `/blocks`: whom the caller has blocked.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, put};
use serde_json::json;

use super::extract::{ApiResult, Caller, Id, Page, Query, list_by_id};
use super::resource;
use crate::gateway::Edge;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/blocks").route(get().to(blocks)))
        .service(resource("/blocks/{user_id}").route(put().to(block)).route(delete().to(unblock)));
}

async fn blocks(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let services = edge.services.clone();
    let rows = edge
        .on_main(async move {
            let blocks = services.contacts.blocks(caller.user_id, after_id, limit + 1).await?;
            let ids: Vec<u64> = blocks.iter().map(|block| block.blocked_id).collect();
            let users = if ids.is_empty() { Vec::new() } else { services.accounts.users(&ids).await? };
            let row = |block: &crate::storage::BlockRecord| {
                let user = users.iter().find(|user| user.id == block.blocked_id);
                let json = json!({
                    "user_id": block.blocked_id,
                    "created_at_ms": block.created_at_ms,
                    "username": user.map_or("", |user| &user.username),
                    "display_name": user.map_or("", |user| &user.display_name),
                    "avatar_file_id": user.map_or(0, |user| user.avatar_file_id),
                });
                (block.blocked_id, json)
            };
            Ok(blocks.iter().map(row).collect::<Vec<_>>())
        })
        .await?;
    Ok(list_by_id(rows, limit, |row| row.0, |row| row.1))
}

async fn block(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.block(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unblock(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.unblock(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
