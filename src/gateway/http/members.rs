//! `/conversations/{id}/members`: listing, adding, removing.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post};
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, TwoIds, UserIds, list};
use super::resource;
use crate::gateway::Edge;
use crate::services::conversations::Member;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/members").route(get().to(members)).route(post().to(add)))
        .service(resource("/conversations/{id}/members/{user_id}").route(delete().to(remove)));
}

fn member_json(member: &Member) -> Value {
    let Member { record, user } = member;
    json!({
        "user_id": record.user_id,
        "username": user.username,
        "display_name": user.display_name,
        "avatar_file_id": user.avatar_file_id,
        "role": record.role.as_str_name(),
        "joined_at_ms": record.joined_at_ms,
        "delivered_seq": record.delivered_seq,
        "read_seq": record.read_seq,
    })
}

async fn members(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Query(page): Query<Page>,
) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let conversations = edge.services.conversations.clone();
    let (members, more) =
        edge.on_main(async move { conversations.members(caller.user_id, id, after_id, limit).await }).await?;
    let next = members.last().filter(|_| more).map(|member| member.record.user_id.to_string());
    Ok(list(members.iter().map(member_json).collect(), next.unwrap_or_default()))
}

async fn add(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Body(mut body): Body<UserIds>,
) -> ApiResult {
    if body.user_id != 0 {
        body.user_ids.push(body.user_id);
    }
    let conversations = edge.services.conversations.clone();
    edge.on_main(async move { conversations.add_members(caller.user_id, id, body.user_ids).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn remove(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    edge.on_main(async move { conversations.remove_member(caller.user_id, id, user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
