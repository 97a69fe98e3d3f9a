//! Hiding, pinning and forwarding messages, and messages that are scheduled.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, delete, get, post, put};
use serde::Deserialize;
use serde_json::json;

use super::extract::{ApiResult, Body, Caller, Id, Page, Query, TwoIds, list, wire};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::protocol::v1::Message;
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

/// What bodies may say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
    #[serde(deserialize_with = "lenient")]
    seqs: Vec<u64>,
    #[serde(deserialize_with = "lenient")]
    from_conversation_id: u64,
    #[serde(deserialize_with = "lenient")]
    client_id: String,
}

async fn hide(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(body): Body<Wanted>) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.hide(caller.user_id, id, body.seqs).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn hidden(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Query(page): Query<Page>) -> ApiResult {
    let (limit, after) = (page.limit(), page.after_id()?);
    let messages = edge.services.messages.clone();
    let mut seqs =
        edge.on_main(async move { messages.hidden(caller.user_id, id, after + 1, limit + 1).await }).await?;
    let more = seqs.len() > limit as usize;
    seqs.truncate(limit as usize);
    let next = seqs.last().filter(|_| more).map(u64::to_string);
    Ok(list(seqs.into_iter().map(Into::into).collect(), next.unwrap_or_default()))
}

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
    Ok(HttpResponse::Ok().json(json!({ "items": sent })))
}

async fn pin(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.pin(caller.user_id, id, seq, false).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unpin(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    edge.on_main(async move { messages.pin(caller.user_id, id, seq, true).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn pins(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let messages = edge.services.messages.clone();
    let pins = edge.on_main(async move { messages.pins(caller.user_id, id).await }).await?;
    let item = |(pin, message): (PinRecord, Message)| {
        json!({
            "seq": pin.seq, "user_id": pin.user_id, "pinned_at_ms": pin.pinned_at_ms,
            "message": wire(&message),
        })
    };
    Ok(list(pins.into_iter().map(item).collect(), String::new()))
}

async fn scheduled(edge: Data<Edge>, Caller(caller): Caller, Query(page): Query<Page>) -> ApiResult {
    let (limit, after_id) = (page.limit(), page.after_id()?);
    let schedule = edge.services.schedule.clone();
    let rows = edge.on_main(async move { schedule.list(caller.user_id, after_id, limit + 1).await }).await?;
    let item = |record: ScheduledRecord| {
        json!({
            "scheduled_id": record.id, "conversation_id": record.send.conversation_id,
            "client_id": record.send.client_id, "send_at_ms": record.send_at_ms,
            "message": wire(&record.send), "failure": record.failure,
        })
    };
    Ok(super::extract::list_by_id(rows, limit, |record| record.id, item))
}

async fn cancel(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id) -> ApiResult {
    let schedule = edge.services.schedule.clone();
    edge.on_main(async move { schedule.cancel(caller.user_id, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
