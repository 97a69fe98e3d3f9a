//! Hiding, pinning and forwarding messages, and messages that are scheduled.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post, put};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, List, Page, Query, TwoIds, list, list_by_id};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::protocol::v1::{Message, Send, Sent};
use crate::storage::{PinRecord, ScheduledRecord};

/// The routes. They go before those of single messages, whose seq would take their words.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/messages/hide").route(post().to(hide)))
        .service(resource("/conversations/{id}/messages/forward").route(post().to(forward)))
        .service(resource("/conversations/{id}/hidden").route(get().to(hidden)))
        .service(resource("/conversations/{id}/pins").route(get().to(pins)))
        .service(resource("/conversations/{id}/pins/{seq}").route(put().to(pin)).route(delete().to(unpin)))
        .service(resource("/scheduled").route(get().to(scheduled)))
        .service(resource("/scheduled/{id}").route(delete().to(cancel)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(hide, hidden, forward, pin, unpin, pins, scheduled, cancel))]
pub struct Rows;

/// Messages, and of a forward where they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = NamedMessages)]
#[serde(default)]
struct Wanted {
    #[schema(required = true, max_items = 100)]
    #[serde(deserialize_with = "lenient")]
    seqs: Vec<u64>,
    /// Of a forward.
    #[serde(deserialize_with = "lenient")]
    from_conversation_id: u64,
    /// Of a forward.
    #[schema(max_length = 58, example = "f1")]
    #[serde(deserialize_with = "lenient")]
    client_id: String,
}

/// Hides messages from the caller alone.
#[utoipa::path(
    post, path = "/conversations/{id}/messages/hide", request_body = Wanted,
    responses(
        (status = 204, description = "Hidden, on all of the caller's devices."),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation, or message for the caller."),
        (status = 412, description = "The conversation was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn hide(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Wanted>) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.hide(caller.user_id, id, body.seqs).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What the caller has hidden from itself.
#[utoipa::path(
    get, path = "/conversations/{id}/hidden", params(Page),
    responses(
        (status = 200, description = "Seqs.", body = List<u64>),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn hidden(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Query(page): Query<Page>) -> ApiResult {
    let (limit, after) = (page.limit(), page.after_id()?);
    let messages = edge.services.messages.clone();
    let mut seqs = edge
        .on_main(async move { messages.hidden(caller.user_id, id, after.saturating_add(1), limit + 1).await })
        .await?;
    let more = seqs.len() > limit as usize;
    seqs.truncate(limit as usize);
    let next = seqs.last().filter(|_| more).map(u64::to_string);
    Ok(list(seqs, next.unwrap_or_default()))
}

/// What copies came to, in the order of the originals.
#[derive(Serialize, ToSchema)]
struct Forwarded {
    items: Vec<Sent>,
}

/// Copies messages to a conversation.
#[utoipa::path(
    post, path = "/conversations/{id}/messages/forward", request_body = Wanted,
    responses(
        (status = 200, description = "Stored.", body = Forwarded),
        (status = 403, description = "The caller is no member, or may not write here."),
        (status = 404, description = "There is no such conversation, or message for the caller."),
        (status = 412, description = "One of the messages can't be forwarded."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn forward(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Body(body): Body<Wanted>,
) -> ApiResult {
    let messages = edge.services.messages.clone();
    let sent = edge
        .on_main(async move {
            let from = body.from_conversation_id;
            messages.forward(caller.user_id, id, from, body.seqs, &body.client_id).await
        })
        .await?;
    Ok(HttpResponse::Ok().json(Forwarded { items: sent }))
}

/// Pins a message for all.
#[utoipa::path(
    put, path = "/conversations/{id}/pins/{seq}",
    responses(
        (status = 204, description = "Pinned."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation, or message for the caller."),
        (status = 412, description = "It is none that can be pinned, or there are too many pins."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn pin(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.pin(caller.user_id, id, seq, false).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a pin off.
#[utoipa::path(
    delete, path = "/conversations/{id}/pins/{seq}",
    responses(
        (status = 204, description = "It is not pinned."),
        (status = 403, description = "The caller's role does not allow it."),
        (status = 404, description = "There is no such conversation, or message for the caller."),
        (status = 412, description = "The conversation was dissolved."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn unpin(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.pin(caller.user_id, id, seq, true).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A message that is pinned.
#[derive(Serialize, ToSchema)]
struct Pin {
    seq: u64,
    /// Who pinned it.
    user_id: u64,
    pinned_at_ms: u64,
    message: Message,
}

/// A send that is kept until its time.
#[derive(Serialize, ToSchema)]
struct Kept {
    scheduled_id: u64,
    conversation_id: u64,
    client_id: String,
    send_at_ms: u64,
    message: Send,
    /// Why it was refused when its time came; empty: it was not.
    failure: String,
}

/// The pinned messages, as one page.
#[utoipa::path(
    get, path = "/conversations/{id}/pins",
    responses(
        (status = 200, description = "By seq.", body = List<Pin>),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn pins(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let messages = edge.services.messages.clone();
    let pins = edge.on_main(async move { messages.pins(caller.user_id, id).await }).await?;
    let item = |(pin, message): (PinRecord, Message)| Pin {
        seq: pin.seq,
        user_id: pin.user_id,
        pinned_at_ms: pin.pinned_at_ms,
        message,
    };
    Ok(list(pins.into_iter().map(item).collect(), String::new()))
}

/// The caller's sends that are kept until their time.
#[utoipa::path(
    get, path = "/scheduled", params(Page),
    responses(
        (status = 200, description = "By id.", body = List<Kept>),
    ),
)]
async fn scheduled(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let schedule = edge.services.schedule.clone();
    let rows = edge.on_main(async move { schedule.list(caller.user_id, after_id, limit + 1).await }).await?;
    let item = |record: ScheduledRecord| Kept {
        scheduled_id: record.id,
        conversation_id: record.send.conversation_id,
        client_id: record.send.client_id.clone(),
        send_at_ms: record.send_at_ms,
        message: record.send,
        failure: record.failure,
    };
    Ok(list_by_id(rows, limit, |record| record.id, item))
}

/// Takes a scheduled send back.
#[utoipa::path(
    delete, path = "/scheduled/{id}",
    responses(
        (status = 204, description = "It will not be sent."),
        (status = 404, description = "The caller has no such send."),
    ),
)]
async fn cancel(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let schedule = edge.services.schedule.clone();
    edge.on_main(async move { schedule.cancel(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
