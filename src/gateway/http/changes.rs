//! `/conversations/{id}/messages/{seq}` and its reactions: edit, take back, react.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig, delete, get, patch, put};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Query, TwoIds};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::protocol::v1::{Edit, React, Recall, Sent};
use crate::services::changes::Change;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(
            resource("/conversations/{id}/messages/{seq}").route(patch().to(edit)).route(delete().to(recall)),
        )
        .service(resource("/conversations/{id}/messages/{seq}/readers").route(get().to(readers)))
        .service(
            resource("/conversations/{id}/messages/{seq}/reactions/{emoji}")
                .route(put().to(put_on))
                .route(delete().to(take_off)),
        );
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(edit, recall, readers, put_on, take_off))]
pub struct Rows;

/// What a body may say.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangeMessage)]
#[serde(default)]
struct Wanted {
    /// The client's own name for the change; without it a repeat is another one.
    #[schema(max_length = 64)]
    #[serde(deserialize_with = "lenient")]
    client_id: String,
    /// Of an edit: the new text.
    #[schema(example = "Good evening")]
    #[serde(deserialize_with = "lenient")]
    text: String,
}

/// The same name in the query string, for those whose library sends no body with a DELETE.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Named {
    /// As in the body.
    client_id: String,
    /// Of a DELETE: `me`, or all.
    r#for: String,
}

/// The name that the client chose for this, or one that nothing else has: then a repeat is another entry.
fn name(body: String, query: String) -> String {
    match (body.is_empty(), query.is_empty()) {
        (false, _) => body,
        (true, false) => query,
        (true, true) => format!("rest-{:032x}", rand::random::<u128>()),
    }
}

/// Edits a message.
#[utoipa::path(
    patch, path = "/conversations/{id}/messages/{seq}", params(Named), request_body = Wanted,
    responses(
        (status = 200, description = "The entry of the log; a repeat gets the first.", body = Sent),
        (status = 403, description = "The message is not the caller's, or the caller may not write here."),
        (status = 404, description = "There is no such message for the caller."),
        (status = 412, description = "It is no text, was taken back, or it is too late."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn edit(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(conversation_id, target_seq): TwoIds,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    let client_id = name(body.client_id, query.client_id);
    let edit = Edit { conversation_id, target_seq, client_id, text: body.text };
    carry_out(&edge, caller.user_id, Change::Edit(edit)).await
}

/// Takes a message back; with `for=me` hides it from the caller alone.
#[utoipa::path(
    delete, path = "/conversations/{id}/messages/{seq}", params(Named), request_body = Wanted,
    responses(
        (status = 200, description = "The entry of the log; a repeat gets the first.", body = Sent),
        (status = 204, description = "Hidden from the caller."),
        (status = 403, description = "The caller's role does not allow it, or the caller is no member."),
        (status = 404, description = "There is no such message for the caller."),
        (status = 412, description = "It is none that can be taken back, or it is too late."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn recall(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(conversation_id, target_seq): TwoIds,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    if query.r#for == "me" {
        let messages = edge.services.messages.clone();
        let seqs = vec![target_seq];
        edge.on_main(async move { messages.hide(caller.user_id, conversation_id, seqs).await }).await?;
        return Ok(HttpResponse::NoContent().finish());
    }
    let client_id = name(body.client_id, query.client_id);
    let recall = Recall { conversation_id, target_seq, client_id };
    carry_out(&edge, caller.user_id, Change::Recall(recall)).await
}

/// Puts a reaction on a message.
#[utoipa::path(
    put, path = "/conversations/{id}/messages/{seq}/reactions/{emoji}", params(("emoji" = String, Path, description = "The emoji, percent-encoded.", example = "👍"), Named), request_body = Wanted,
    responses(
        (status = 200, description = "The entry of the log; a repeat gets the first.", body = Sent),
        (status = 403, description = "The caller is no member, or may not write here."),
        (status = 404, description = "There is no such message for the caller."),
        (status = 412, description = "It is none for reactions, was taken back, or has too many."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn put_on(
    edge: Data<Edge>,
    Caller(caller): Caller,
    ids: TwoIds,
    path: Emoji,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    react(&edge, caller.user_id, ids, path, name(body.client_id, query.client_id), false).await
}

/// Takes a reaction off.
#[utoipa::path(
    delete, path = "/conversations/{id}/messages/{seq}/reactions/{emoji}", params(("emoji" = String, Path, description = "The emoji, percent-encoded.", example = "👍"), Named), request_body = Wanted,
    responses(
        (status = 200, description = "The entry of the log; a repeat gets the first.", body = Sent),
        (status = 403, description = "The caller is no member, or may not write here."),
        (status = 404, description = "There is no such message for the caller."),
        (status = 412, description = "It is none for reactions, or was taken back."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn take_off(
    edge: Data<Edge>,
    Caller(caller): Caller,
    ids: TwoIds,
    path: Emoji,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    react(&edge, caller.user_id, ids, path, name(body.client_id, query.client_id), true).await
}

/// The last part of the path, decoded, as the numbers before it need not be.
type Emoji = Path<(String, String, String)>;

async fn react(
    edge: &Edge,
    by: u64,
    TwoIds(conversation_id, target_seq): TwoIds,
    path: Emoji,
    client_id: String,
    remove: bool,
) -> ApiResult {
    let (_, _, emoji) = path.into_inner();
    let react = React { conversation_id, target_seq, client_id, emoji, remove };
    carry_out(edge, by, Change::React(react)).await
}

async fn carry_out(edge: &Edge, by: u64, change: Change) -> ApiResult {
    let messages = edge.services.messages.clone();
    let sent = edge.on_main(async move { messages.change(by, change).await }).await?;
    Ok(HttpResponse::Ok().json(sent))
}

/// Who has read a message, and to whom it was delivered.
#[derive(Serialize, ToSchema)]
struct Readers {
    conversation_id: u64,
    seq: u64,
    read_count: u64,
    delivered_count: u64,
    /// User ids; absent in large rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    read: Option<Vec<u64>>,
    /// User ids; absent in large rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    delivered: Option<Vec<u64>>,
}

/// Who has read a message.
#[utoipa::path(
    get, path = "/conversations/{id}/messages/{seq}/readers",
    responses(
        (status = 200, description = "Without the sender and those who joined later.", body = Readers),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such message for the caller."),
        (status = 412, description = "The conversation was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn readers(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    let list = edge.on_main(async move { messages.readers(caller.user_id, id, seq).await }).await?;
    let whole = !list.counts_only;
    Ok(HttpResponse::Ok().json(Readers {
        conversation_id: id,
        seq,
        read_count: list.read_count,
        delivered_count: list.delivered_count,
        read: whole.then_some(list.read),
        delivered: whole.then_some(list.delivered),
    }))
}
