//! How one gets into a group: `/conversations/{id}/join`, requests to join, and invite codes.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig, delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, TwoIds, list, list_by_id};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::services::rooms::{About, InviteRequest};
use crate::storage::{InviteRecord, JoinRequestRecord};

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/join").route(post().to(join)))
        .service(resource("/conversations/{id}/requests").route(get().to(requests)))
        .service(resource("/conversations/{id}/requests/{user_id}/accept").route(post().to(accept)))
        .service(resource("/conversations/{id}/requests/{user_id}/decline").route(post().to(decline)))
        .service(resource("/conversations/{id}/invites").route(get().to(invites)).route(post().to(invite)))
        .service(resource("/conversations/{id}/invites/{code}").route(delete().to(drop_invite)))
        .service(resource("/invites/{code}").route(post().to(use_invite)));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Join {
    #[serde(deserialize_with = "lenient")]
    message: String,
}

async fn join(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Join>) -> ApiResult {
    let services = edge.services.clone();
    let conversation = edge
        .on_main(async move {
            if services.groups.join(caller.user_id, id, body.message).await? {
                return Ok(None);
            }
            services.conversations.get(caller.user_id, id).await.map(Some)
        })
        .await?;
    Ok(match conversation {
        Some(conversation) => HttpResponse::Ok().json(conversation),
        None => HttpResponse::Accepted().json(json!({ "conversation_id": id, "state": "requested" })),
    })
}

fn request_json(row: &About<JoinRequestRecord>) -> Value {
    let (request, user) = (&row.record, row.user.as_ref());
    json!({
        "user_id": request.user_id,
        "username": user.map_or("", |user| &user.username),
        "display_name": user.map_or("", |user| &user.display_name),
        "avatar_file_id": user.map_or(0, |user| user.avatar_file_id),
        "message": request.message,
        "created_at_ms": request.created_at_ms,
    })
}

async fn requests(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Query(page): Query<Page>,
) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let groups = edge.services.groups.clone();
    let rows =
        edge.on_main(async move { groups.requests(caller.user_id, id, after_id, limit + 1).await }).await?;
    Ok(list_by_id(rows, limit, |row| row.record.user_id, |row| request_json(&row)))
}

async fn accept(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    answer(edge, caller.user_id, id, user_id, true).await
}

async fn decline(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    answer(edge, caller.user_id, id, user_id, false).await
}

async fn answer(edge: Data<Edge>, by: u64, id: u64, user_id: u64, accept: bool) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.answer(by, id, user_id, accept).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn invite_json(invite: &InviteRecord) -> Value {
    json!({
        "code": invite.code,
        "conversation_id": invite.conversation_id,
        "created_by": invite.created_by,
        "created_at_ms": invite.created_at_ms,
        "expires_at_ms": invite.expires_at_ms,
        "uses_max": invite.uses_max,
        "uses": invite.uses,
    })
}

async fn invites(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let groups = edge.services.groups.clone();
    let rows = edge.on_main(async move { groups.invites(caller.user_id, id).await }).await?;
    // A room has few of them: they are one page.
    Ok(list(rows.iter().map(invite_json).collect(), String::new()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Invite {
    #[serde(deserialize_with = "lenient")]
    expires_in_seconds: u64,
    #[serde(deserialize_with = "lenient")]
    expires_at_ms: u64,
    #[serde(deserialize_with = "lenient")]
    uses_max: u64,
}

async fn invite(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Invite>) -> ApiResult {
    let request = InviteRequest {
        expires_in_seconds: body.expires_in_seconds,
        expires_at_ms: body.expires_at_ms,
        uses_max: body.uses_max,
    };
    let groups = edge.services.groups.clone();
    let made = edge.on_main(async move { groups.invite(caller.user_id, id, request).await }).await?;
    Ok(HttpResponse::Created().json(invite_json(&made)))
}

async fn drop_invite(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    path: Path<(String, String)>,
) -> ApiResult {
    let code = path.into_inner().1;
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.drop_invite(caller.user_id, id, code).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn use_invite(edge: Data<Edge>, Caller(caller): Caller, path: Path<String>) -> ApiResult {
    let services = edge.services.clone();
    let code = path.into_inner();
    if code.is_empty() {
        return Err(Error::not_found("there is no such invite code").into());
    }
    let conversation = edge
        .on_main(async move {
            let id = services.groups.join_by_code(caller.user_id, code).await?;
            services.conversations.get(caller.user_id, id).await
        })
        .await?;
    Ok(HttpResponse::Ok().json(conversation))
}
