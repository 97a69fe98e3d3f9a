//! `/conversations`: creating, listing, changing, dissolving and leaving.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, patch, post};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Page, Query, list, number};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::cluster::ChangeRoom;
use crate::protocol::json::lenient;
use crate::protocol::v1::Conversation;
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

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(conversations, conversation, create, leave, change, dissolve))]
pub struct Rows;

/// The caller's conversations, the newest first.
#[utoipa::path(
    get, path = "/conversations", params(Page),
    responses((status = 200, description = "Each with its last message.", body = List<Conversation>)),
)]
async fn conversations(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    let limit = page.limit();
    let (items, next_cursor) =
        edge.on_main(async move { conversations.list(caller.user_id, &page.cursor, limit).await }).await?;
    Ok(list(items, next_cursor))
}

/// One conversation.
#[utoipa::path(
    get, path = "/conversations/{id}",
    responses(
        (status = 200, description = "As the caller sees it.", body = Conversation),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn conversation(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    let conversation = edge.on_main(async move { conversations.get(caller.user_id, id).await }).await?;
    Ok(HttpResponse::Ok().json(conversation))
}

#[derive(Default, Deserialize, ToSchema)]
#[schema(as = CreateConversation)]
#[serde(default)]
struct Create {
    /// Without it: direct where a user is named, else a group.
    #[schema(value_type = Option<ConversationKind>)]
    kind: Option<String>,
    /// The other user of a direct conversation.
    #[serde(deserialize_with = "lenient")]
    user_id: u64,
    /// A group's name; it must have one.
    #[schema(max_length = 64, example = "Engines")]
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[schema(max_length = 1024)]
    #[serde(deserialize_with = "lenient")]
    description: String,
    #[schema(value_type = JoinPolicy)]
    #[serde(with = "crate::protocol::json::words::join_policy")]
    join_policy: i32,
    /// The first members but for the caller.
    #[schema(max_items = 1000)]
    #[serde(deserialize_with = "lenient")]
    member_ids: Vec<u64>,
    /// Of a group: a name of the caller's choice, by which a repeat answers with the group of the first call.
    #[schema(max_length = 64)]
    #[serde(deserialize_with = "lenient")]
    client_id: String,
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

/// Creates a group, or opens the direct conversation with a user.
///
/// One bad member id refuses the whole call.
#[utoipa::path(
    post, path = "/conversations", request_body = Create,
    responses(
        (status = 200, description = "The direct conversation that there was, or the group of an earlier call of this `client_id`.", body = Conversation),
        (status = 201, description = "The new conversation.", body = Conversation),
        (status = 403, description = "A user's privacy forbids it, or one has blocked the caller."),
        (status = 404, description = "A user does not exist; `field` says which list."),
        (status = 412, description = "The caller has blocked a user, or the group would be too large."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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
                client_id: body.client_id,
            };
            edge.on_main(async move { conversations.create_group(by, request).await }).await?
        }
    };
    let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(conversation))
}

/// Leaves a group.
///
/// An owner's group passes to an heir; with the last member it ends.
#[utoipa::path(
    post, path = "/conversations/{id}/leave",
    responses(
        (status = 204, description = "Left."),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "A direct conversation can't be left."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn leave(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let conversations = edge.services.conversations.clone();
    edge.on_main(async move { conversations.leave(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangeConversation)]
#[serde(default)]
struct Change {
    #[schema(max_length = 64, example = "Engines")]
    name: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[serde(deserialize_with = "number")]
    avatar_file_id: Option<u64>,
    #[schema(value_type = Option<JoinPolicy>)]
    join_policy: Option<String>,
    /// Shown above the room.
    #[schema(max_length = 2048)]
    announcement: Option<String>,
    /// Only the owner and admins write.
    read_only: Option<bool>,
    /// What a member has to wait between two messages; 0: nothing.
    #[schema(maximum = 21600)]
    #[serde(deserialize_with = "number")]
    slow_mode_seconds: Option<u64>,
    /// Those who are only members may not write for now.
    silence_all: Option<bool>,
    /// New members see the room from its beginning.
    history_open: Option<bool>,
    /// Older messages are removed for good; 0: as long as those of all conversations. No longer than those.
    #[schema(maximum = 3153600000_u64)]
    #[serde(deserialize_with = "number")]
    retention_seconds: Option<u64>,
}

/// Changes a group.
#[utoipa::path(
    patch, path = "/conversations/{id}", request_body = Change,
    responses(
        (status = 200, description = "As the caller sees it now.", body = Conversation),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "It is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
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
        retention_seconds: body.retention_seconds,
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

/// Ends a group for all.
#[utoipa::path(
    delete, path = "/conversations/{id}",
    responses(
        (status = 204, description = "Dissolved; its log stays."),
        (status = 403, description = "The caller is not the owner."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "It is direct, or was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn dissolve(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let groups = edge.services.groups.clone();
    edge.on_main(async move { groups.dissolve(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
