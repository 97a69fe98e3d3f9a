//! `/blocks`: whom the caller has blocked.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, put};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Caller, Id, List, Page, Query, list_by_id};
use super::resource;
use crate::gateway::Edge;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/blocks").route(get().to(blocks)))
        .service(resource("/blocks/{user_id}").route(put().to(block)).route(delete().to(unblock)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(blocks, block, unblock))]
pub struct Rows;

/// A user whom the caller has blocked.
#[derive(Serialize, ToSchema)]
struct Blocked {
    user_id: u64,
    created_at_ms: u64,
    username: String,
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
}

/// The users whom the caller has blocked.
#[utoipa::path(
    get, path = "/blocks", params(Page),
    responses((status = 200, description = "By user id.", body = List<Blocked>)),
)]
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
                Blocked {
                    user_id: block.blocked_id,
                    created_at_ms: block.created_at_ms,
                    username: user.map_or_else(String::new, |user| user.username.clone()),
                    display_name: user.map_or_else(String::new, |user| user.display_name.clone()),
                    avatar_file_id: user.map_or(0, |user| user.avatar_file_id),
                }
            };
            Ok(blocks.iter().map(row).collect::<Vec<_>>())
        })
        .await?;
    Ok(list_by_id(rows, limit, |row| row.user_id, |row| row))
}

/// Blocks a user, and ends what contact there was.
///
/// Nobody is told that it is blocked.
#[utoipa::path(
    put, path = "/blocks/{user_id}",
    responses(
        (status = 204, description = "It stands, on all nodes."),
        (status = 404, description = "Nobody has this id."),
        (status = 412, description = "The list is full."),
    ),
)]
async fn block(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.block(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lifts a block.
#[utoipa::path(
    delete, path = "/blocks/{user_id}",
    responses(
        (status = 204, description = "Lifted."),
        (status = 404, description = "The caller has not blocked this user."),
    ),
)]
async fn unblock(edge: Data<Edge>, Caller(caller): Caller, Id(other): Id) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    edge.on_main(async move { contacts.unblock(caller.user_id, other).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
