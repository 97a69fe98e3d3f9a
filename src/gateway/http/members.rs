//! `/conversations/{id}/members` and `/bans`: listing, adding, roles and silence, removing, banning.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, TwoIds, UserIds, list, list_by_id, number};
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

fn member_json(member: &Member) -> Value {
    let Member { record, user } = member;
    json!({
        "user_id": record.user_id,
        "username": user.username,
        "display_name": user.display_name,
        "avatar_file_id": user.avatar_file_id,
        "role": record.role.as_str_name(),
        "joined_at_ms": record.joined_at_ms,
        "silenced_until_ms": record.silenced_until_ms,
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

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    role: Option<String>,
    #[serde(deserialize_with = "number")]
    silenced_until_ms: Option<u64>,
}

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
    Ok(HttpResponse::Ok().json(member_json(&member)))
}

fn ban_json(row: &About<BanRecord>) -> Value {
    let (ban, user) = (&row.record, row.user.as_ref());
    json!({
        "user_id": ban.user_id,
        "username": user.map_or("", |user| &user.username),
        "display_name": user.map_or("", |user| &user.display_name),
        "avatar_file_id": user.map_or(0, |user| user.avatar_file_id),
        "banned_by": ban.banned_by,
        "reason": ban.reason,
        "created_at_ms": ban.created_at_ms,
    })
}

async fn bans(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let groups = edge.services.groups.clone();
    let rows =
        edge.on_main(async move { groups.bans(caller.user_id, id, after_id, limit + 1).await }).await?;
    Ok(list_by_id(rows, limit, |row| row.record.user_id, |row| ban_json(&row)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ban {
    #[serde(deserialize_with = "lenient")]
    reason: String,
}

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

async fn unban(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, user_id): TwoIds) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.unban(caller.user_id, id, user_id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
