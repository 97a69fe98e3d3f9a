//! `/conversations/{id}/preferences` and `…/draft`: the member's own view of a conversation.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, put};
use serde::{Deserialize, Deserializer};
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::NotificationLevel;
use crate::protocol::json::lenient;
use crate::protocol::v1::Conversation;
use crate::services::preferences::Preferences;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/preferences").route(put().to(prefer)))
        .service(resource("/conversations/{id}/draft").route(put().to(keep)).route(delete().to(discard)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(prefer, keep, discard))]
pub struct Rows;

/// A number, or one in a string; `null` is 0.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    lenient(deserializer).map(Some)
}

/// Those that are not named stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangePreferences)]
#[serde(default)]
struct Wanted {
    /// Unix time; 0 ends it.
    #[serde(deserialize_with = "number")]
    muted_until_ms: Option<u64>,
    pinned: Option<bool>,
    archived: Option<bool>,
    hidden: Option<bool>,
    marked_unread: Option<bool>,
    #[schema(value_type = Option<NotificationLevel>)]
    notifications: Option<String>,
}

/// Changes the caller's own preferences of a conversation.
#[utoipa::path(
    put, path = "/conversations/{id}/preferences", request_body = Wanted,
    responses(
        (status = 200, description = "The conversation, with all preferences.", body = Conversation),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn prefer(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Wanted>) -> ApiResult {
    let level = |word: String| {
        NotificationLevel::from_str_name(&word)
            .ok_or_else(|| Error::invalid("notifications", "notifications is all, mentions or none"))
    };
    let wanted = Preferences {
        muted_until_ms: body.muted_until_ms,
        pinned: body.pinned,
        archived: body.archived,
        hidden: body.hidden,
        marked_unread: body.marked_unread,
        notifications: body.notifications.map(level).transpose()?,
    };
    let own = edge.services.own_views.clone();
    let conversation = edge.on_main(async move { own.prefer(caller.user_id, id, wanted).await }).await?;
    Ok(HttpResponse::Ok().json(conversation))
}

/// Nothing in either discards the draft.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = KeepDraft)]
#[serde(default)]
struct Draft {
    #[schema(max_length = 4096)]
    #[serde(deserialize_with = "lenient")]
    text: String,
    #[serde(deserialize_with = "lenient")]
    reply_to_seq: u64,
}

/// Keeps what the caller has begun to write.
#[utoipa::path(
    put, path = "/conversations/{id}/draft", request_body = Draft,
    responses(
        (status = 204, description = "Kept, and told to all of the caller's sessions."),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn keep(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Draft>) -> ApiResult {
    let own = edge.services.own_views.clone();
    edge.on_main(async move { own.draft(caller.user_id, id, body.text, body.reply_to_seq).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Discards the draft.
#[utoipa::path(
    delete, path = "/conversations/{id}/draft",
    responses(
        (status = 204, description = "There is none now."),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn discard(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let own = edge.services.own_views.clone();
    edge.on_main(async move { own.draft(caller.user_id, id, String::new(), 0).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
