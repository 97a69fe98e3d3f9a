//! `/conversations`: creating, listing, changing, dissolving and leaving.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post};
use serde::Deserialize;

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, list, number, wire};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::cluster::ChangeRoom;
use crate::protocol::json::lenient;
use crate::protocol::{ConversationKind, JoinPolicy};
use crate::services::conversations::GroupRequest;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations").route(get().to(conversations)).route(post().to(create)))
        .service(
            resource("/conversations/{id}")
                .route(get().to(conversation))
                .route(patch().to(change))
                .route(delete().to(dissolve)),
        )
        .service(resource("/conversations/{id}/leave").route(post().to(leave)));
}

async fn conversations(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    let limit = page.limit();
    let (items, next_cursor) =
        edge.on_main(async move { conversations.list(caller.user_id, &page.cursor, limit).await }).await?;
    Ok(list(items.iter().map(wire).collect(), next_cursor))
}

async fn conversation(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    let conversation = edge.on_main(async move { conversations.get(caller.user_id, id).await }).await?;
    Ok(HttpResponse::Ok().json(conversation))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    /// Without it: direct where a user is named, else a group.
    kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    user_id: u64,
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    description: String,
    #[serde(with = "crate::protocol::json::words::join_policy")]
    join_policy: i32,
    #[serde(deserialize_with = "lenient")]
    member_ids: Vec<u64>,
}

impl Create {
    fn kind(&self) -> Result<ConversationKind, Error> {
        match self.kind.as_deref() {
            None | Some("") if self.user_id != 0 => Ok(ConversationKind::Direct),
            None | Some("") => Ok(ConversationKind::Group),
            Some(word) => ConversationKind::from_str_name(word)
                .ok_or_else(|| Error::invalid("kind", "kind is neither group nor direct")),
        }
    }
}

async fn create(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Create>) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    let by = caller.user_id;
    let (conversation, created) = match body.kind()? {
        ConversationKind::Direct => {
            edge.on_main(async move { conversations.direct(by, body.user_id).await }).await?
        }
        ConversationKind::Group => {
            let request = GroupRequest {
                name: body.name,
                description: body.description,
                join_policy: JoinPolicy::try_from(body.join_policy)
                    .map_err(|_| Error::invalid("join_policy", "join_policy is open, approval or invite"))?,
                member_ids: body.member_ids,
            };
            (edge.on_main(async move { conversations.create_group(by, request).await }).await?, true)
        }
    };
    let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(conversation))
}

async fn leave(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    edge.on_main(async move { conversations.leave(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    name: Option<String>,
    description: Option<String>,
    #[serde(deserialize_with = "number")]
    avatar_file_id: Option<u64>,
    join_policy: Option<String>,
    announcement: Option<String>,
    read_only: Option<bool>,
    #[serde(deserialize_with = "number")]
    slow_mode_seconds: Option<u64>,
    silence_all: Option<bool>,
    history_open: Option<bool>,
}

async fn change(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Change>) -> ApiResult {
    let policy = |word: String| {
        JoinPolicy::from_str_name(&word)
            .map(|policy| policy as u32)
            .ok_or_else(|| Error::invalid("join_policy", "join_policy is open, approval or invite"))
    };
    let change = ChangeRoom {
        name: body.name,
        description: body.description,
        avatar_file_id: body.avatar_file_id,
        join_policy: body.join_policy.map(policy).transpose()?,
        announcement: body.announcement,
        read_only: body.read_only,
        slow_mode_seconds: body.slow_mode_seconds,
        silence_all: body.silence_all,
        history_open: body.history_open,
    };
    let services = edge.services.clone();
    let conversation = edge
        .on_main(async move {
            services.groups.change(caller.user_id, id, change).await?;
            services.conversations.get(caller.user_id, id).await
        })
        .await?;
    Ok(HttpResponse::Ok().json(conversation))
}

async fn dissolve(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.dissolve(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
