//! `/conversations/{id}/members` and `/bans`: listing, adding, roles and silence, removing, banning.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::extract::{
    ApiResult, Body, Caller, Id, List, Page, Query, TwoIds, UserIds, list, list_by_id, number,
};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::MemberRole;
use crate::protocol::json::lenient;
use crate::services::conversations::Member;
use crate::services::rooms::About;
use crate::storage::BanRecord;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/members").route(get().to(members)).route(post().to(add)))
        .service(
            resource("/conversations/{id}/members/{user_id}")
                .route(patch().to(change))
                .route(delete().to(remove)),
        )
        .service(resource("/conversations/{id}/transfer").route(post().to(transfer)))
        .service(resource("/conversations/{id}/bans").route(get().to(bans)))
        .service(
            resource("/conversations/{id}/bans/{user_id}").route(put().to(ban)).route(delete().to(unban)),
        );
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(members, add, remove, change, transfer, bans, ban, unban))]
pub struct Rows;

/// One who takes part in a conversation.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
struct Row {
    user_id: u64,
    username: String,
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
    #[schema(value_type = MemberRole)]
    role: &'static str,
    joined_at_ms: u64,
    /// 0: not silenced.
    silenced_until_ms: u64,
    delivered_seq: u64,
    read_seq: u64,
}

impl From<Member> for Row {
    fn from(member: Member) -> Self {
        let Member { record, user } = member;
        Self {
            user_id: record.user_id,
            username: user.username,
            display_name: user.display_name,
            avatar_file_id: user.avatar_file_id,
            role: record.role.as_str_name(),
            joined_at_ms: record.joined_at_ms,
            silenced_until_ms: record.silenced_until_ms,
            delivered_seq: record.delivered_seq,
            read_seq: record.read_seq,
        }
    }
}

/// A conversation's members.
#[utoipa::path(
    get, path = "/conversations/{id}/members", params(Page),
    responses(
        (status = 200, description = "By user id.", body = List<Row>),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
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
    Ok(list(members.into_iter().map(Row::from).collect(), next.unwrap_or_default()))
}

/// Adds members to a group.
///
/// One bad id refuses the whole call.
#[utoipa::path(
    post, path = "/conversations/{id}/members", request_body = UserIds,
    responses(
        (status = 204, description = "All of them are members."),
        (status = 403, description = "The caller's role or a user's privacy forbids it."),
        (status = 404, description = "There is no such conversation or user."),
        (status = 412, description = "The caller has blocked a user, the group would be too large, or the conversation is direct."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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

/// Removes a member from a group.
#[utoipa::path(
    delete, path = "/conversations/{id}/members/{user_id}",
    responses(
        (status = 204, description = "Removed; the caller itself: left."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or member."),
        (status = 412, description = "A direct conversation can't be left."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn remove(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    edge.on_main(async move { conversations.remove_member(caller.user_id, id, user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangeMember)]
#[serde(default)]
struct Change {
    /// `owner` hands the group over.
    #[schema(value_type = Option<MemberRole>)]
    role: Option<String>,
    /// Unix time; 0 ends a silence.
    #[serde(deserialize_with = "number")]
    silenced_until_ms: Option<u64>,
}

/// Sets a member's role, silences it, or both.
#[utoipa::path(
    patch, path = "/conversations/{id}/members/{user_id}", request_body = Change,
    responses(
        (status = 200, description = "The member, changed.", body = Row),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or member."),
        (status = 412, description = "The conversation is direct or dissolved, or it would be without an owner."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn change(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(id, user_id): TwoIds,
    Body(body): Body<Change>,
) -> ApiResult {
    let word = |word: String| {
        MemberRole::from_str_name(&word)
            .ok_or_else(|| Error::invalid("role", "role is owner, admin or member"))
    };
    let role = body.role.map(word).transpose()?;
    set(edge, caller.user_id, id, user_id, role, body.silenced_until_ms).await
}

/// Hands a group over; `user_id` is the new owner.
#[utoipa::path(
    post, path = "/conversations/{id}/transfer", request_body = UserIds,
    responses(
        (status = 200, description = "The member, changed.", body = Row),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or member."),
        (status = 412, description = "The conversation is direct or dissolved, or it would be without an owner."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn transfer(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Body(body): Body<UserIds>,
) -> ApiResult {
    if body.user_id == 0 {
        return Err(Error::invalid("user_id", "user_id is missing; name the new owner").into());
    }
    set(edge, caller.user_id, id, body.user_id, Some(MemberRole::Owner), None).await
}

async fn set(
    edge: Data<Edge>,
    by: u64,
    id: u64,
    user_id: u64,
    role: Option<MemberRole>,
    silenced_until_ms: Option<u64>,
) -> ApiResult {
    let services = edge.services.clone();
    let member = edge
        .on_main(async move {
            services.groups.change_member(by, id, user_id, role, silenced_until_ms).await?;
            services.conversations.member(by, id, user_id).await
        })
        .await?;
    Ok(HttpResponse::Ok().json(Row::from(member)))
}

/// One who can't come back.
#[derive(Serialize, ToSchema)]
struct Banned {
    user_id: u64,
    username: String,
    display_name: String,
    /// 0: none.
    avatar_file_id: u64,
    banned_by: u64,
    reason: String,
    created_at_ms: u64,
}

impl From<About<BanRecord>> for Banned {
    fn from(row: About<BanRecord>) -> Self {
        let (ban, user) = (row.record, row.user);
        let (username, display_name, avatar_file_id) = user
            .map_or_else(Default::default, |user| (user.username, user.display_name, user.avatar_file_id));
        Self {
            user_id: ban.user_id,
            username,
            display_name,
            avatar_file_id,
            banned_by: ban.banned_by,
            reason: ban.reason,
            created_at_ms: ban.created_at_ms,
        }
    }
}

/// Who is banned from a group.
#[utoipa::path(
    get, path = "/conversations/{id}/bans", params(Page),
    responses(
        (status = 200, description = "By user id.", body = List<Banned>),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "It is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn bans(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let groups = edge.services.groups.clone();
    let rows =
        edge.on_main(async move { groups.bans(caller.user_id, id, after_id, limit + 1).await }).await?;
    Ok(list_by_id(rows, limit, |row| row.record.user_id, Banned::from))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
struct Ban {
    #[serde(deserialize_with = "lenient")]
    reason: String,
}

/// Removes a user, who can't come back until the ban is taken back.
#[utoipa::path(
    put, path = "/conversations/{id}/bans/{user_id}", request_body = Ban,
    responses(
        (status = 204, description = "It stands."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or user."),
        (status = 412, description = "The conversation is direct or dissolved, or has too many bans."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn ban(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(id, user_id): TwoIds,
    Body(body): Body<Ban>,
) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.ban(caller.user_id, id, user_id, body.reason).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a ban back.
#[utoipa::path(
    delete, path = "/conversations/{id}/bans/{user_id}",
    responses(
        (status = 204, description = "Taken back."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation or ban."),
        (status = 412, description = "The conversation is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn unban(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.unban(caller.user_id, id, user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
