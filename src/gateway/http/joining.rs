//! How one gets into a group: `/conversations/{id}/join`, requests to join, and invite codes.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig, delete, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Page, Query, TwoIds, list, list_by_id};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::protocol::v1::Conversation;
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

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(join, requests, accept, decline, invites, invite, drop_invite, use_invite))]
pub struct Rows;

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct Join {
    /// Shown to those who answer the request, where the group takes approval.
    #[schema(max_length = 1024, example = "I build engines.")]
    #[serde(deserialize_with = "lenient")]
    message: String,
}

/// What a join came to that somebody has to approve.
#[derive(Serialize, ToSchema)]
struct Asked {
    conversation_id: u64,
    #[schema(example = "requested")]
    state: &'static str,
}

/// Joins an open group, or asks to be let in.
#[utoipa::path(
    post, path = "/conversations/{id}/join", request_body = Join,
    responses(
        (status = 200, description = "As its new member sees it.", body = Conversation),
        (status = 202, description = "Asked for; the owner or an admin answers.", body = Asked),
        (status = 403, description = "The group takes an invite code, the caller is banned, or the conversation is direct."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "The group is full or dissolved, or too many wait to be let in."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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
        None => HttpResponse::Accepted().json(Asked { conversation_id: id, state: "requested" }),
    })
}

/// One who waits to be let in.
#[derive(Serialize, ToSchema)]
struct JoinRequest {
    user_id: u64,
    username: String,
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
    message: String,
    created_at_ms: u64,
}

impl From<About<JoinRequestRecord>> for JoinRequest {
    fn from(row: About<JoinRequestRecord>) -> Self {
        let (request, user) = (row.record, row.user);
        let (username, display_name, avatar_file_id) = user
            .map_or_else(Default::default, |user| (user.username, user.display_name, user.avatar_file_id));
        Self {
            user_id: request.user_id,
            username,
            display_name,
            avatar_file_id,
            message: request.message,
            created_at_ms: request.created_at_ms,
        }
    }
}

/// Who waits to be let into a group.
#[utoipa::path(
    get, path = "/conversations/{id}/requests", params(Page),
    responses(
        (status = 200, description = "By user id.", body = List<JoinRequest>),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "The conversation is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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
    Ok(list_by_id(rows, limit, |row| row.record.user_id, JoinRequest::from))
}

/// Lets one in who has asked.
#[utoipa::path(
    post, path = "/conversations/{id}/requests/{user_id}/accept",
    responses(
        (status = 204, description = "A member now."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or request."),
        (status = 412, description = "The conversation is direct, or was dissolved, or the group is full."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn accept(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    answer(edge, caller.user_id, id, user_id, true).await
}

/// Declines a request; one's own is taken back by it.
#[utoipa::path(
    post, path = "/conversations/{id}/requests/{user_id}/decline",
    responses(
        (status = 204, description = "The request is gone."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or request."),
        (status = 412, description = "The conversation is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn decline(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    answer(edge, caller.user_id, id, user_id, false).await
}

async fn answer(edge: Data<Edge>, by: u64, id: u64, user_id: u64, accept: bool) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.answer(by, id, user_id, accept).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A code that lets one in.
#[derive(Serialize, ToSchema)]
struct Code {
    code: String,
    conversation_id: u64,
    created_by: u64,
    created_at_ms: u64,
    /// 0: never.
    expires_at_ms: u64,
    /// 0: as often as one likes.
    uses_max: u64,
    uses: u64,
}

impl From<InviteRecord> for Code {
    fn from(invite: InviteRecord) -> Self {
        Self {
            code: invite.code,
            conversation_id: invite.conversation_id,
            created_by: invite.created_by,
            created_at_ms: invite.created_at_ms,
            expires_at_ms: invite.expires_at_ms,
            uses_max: invite.uses_max,
            uses: invite.uses,
        }
    }
}

/// A group's invite codes that are good, as one page.
#[utoipa::path(
    get, path = "/conversations/{id}/invites",
    responses(
        (status = 200, description = "At most 100.", body = List<Code>),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "The conversation is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn invites(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let groups = edge.services.groups.clone();
    let rows = edge.on_main(async move { groups.invites(caller.user_id, id).await }).await?;
    // A room has few of them: they are one page.
    Ok(list(rows.into_iter().map(Code::from).collect(), String::new()))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct Invite {
    /// From now; absent or 0: never.
    #[schema(example = 86400)]
    #[serde(deserialize_with = "lenient")]
    expires_in_seconds: u64,
    /// Unix time, instead of the field before.
    #[serde(deserialize_with = "lenient")]
    expires_at_ms: u64,
    /// Absent or 0: as often as one likes.
    #[serde(deserialize_with = "lenient")]
    uses_max: u64,
}

/// Makes an invite code.
#[utoipa::path(
    post, path = "/conversations/{id}/invites", request_body = Invite,
    responses(
        (status = 201, description = "The code.", body = Code),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "The conversation is direct or dissolved, or has too many codes."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn invite(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Invite>) -> ApiResult {
    let request = InviteRequest {
        expires_in_seconds: body.expires_in_seconds,
        expires_at_ms: body.expires_at_ms,
        uses_max: body.uses_max,
    };
    let groups = edge.services.groups.clone();
    let made = edge.on_main(async move { groups.invite(caller.user_id, id, request).await }).await?;
    Ok(HttpResponse::Created().json(Code::from(made)))
}

/// Takes an invite code back.
#[utoipa::path(
    delete, path = "/conversations/{id}/invites/{code}",
    params(("code" = String, Path, description = "An invite code.", example = "ABCDEFGHJKLMNPQR")),
    responses(
        (status = 204, description = "Nobody gets in by it any more."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or code."),
        (status = 412, description = "The conversation is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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

/// Joins the group of an invite code, whatever its join policy is.
#[utoipa::path(
    post, path = "/invites/{code}",
    params(("code" = String, Path, description = "An invite code.", example = "ABCDEFGHJKLMNPQR")),
    responses(
        (status = 200, description = "As its new member sees it.", body = Conversation),
        (status = 403, description = "The caller is banned."),
        (status = 404, description = "There is no such code, or it was taken back."),
        (status = 412, description = "The code is used up or expired, or the group is full or dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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
