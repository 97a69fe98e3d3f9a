//! `/conversations/{id}/messages/{seq}` and its reactions: edit, take back, react.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig, delete, get, patch, put};
use serde::Deserialize;
use serde_json::json;

use super::extract::{ApiResult, Body, Caller, Query, TwoIds};
use super::resource;
use crate::gateway::Edge;
use crate::protocol::json::lenient;
use crate::protocol::v1::{Edit, React, Recall};
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

/// What a body may say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
    #[serde(deserialize_with = "lenient")]
    client_id: String,
    #[serde(deserialize_with = "lenient")]
    text: String,
}

/// The same name in the query string, for those whose library sends no body with a DELETE.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
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

async fn put_on(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(conversation_id, target_seq): TwoIds,
    path: Path<(String, String, String)>,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    let client_id = name(body.client_id, query.client_id);
    // Decoded, as the numbers before it need not be.
    let (_, _, emoji) = path.into_inner();
    let react = React { conversation_id, target_seq, client_id, emoji, remove: false };
    carry_out(&edge, caller.user_id, Change::React(react)).await
}

async fn take_off(
    edge: Data<Edge>,
    Caller(caller): Caller,
    TwoIds(conversation_id, target_seq): TwoIds,
    path: Path<(String, String, String)>,
    Query(query): Query<Named>,
    Body(body): Body<Wanted>,
) -> ApiResult {
    let client_id = name(body.client_id, query.client_id);
    // Decoded, as the numbers before it need not be.
    let (_, _, emoji) = path.into_inner();
    let react = React { conversation_id, target_seq, client_id, emoji, remove: true };
    carry_out(&edge, caller.user_id, Change::React(react)).await
}

async fn carry_out(edge: &Edge, by: u64, change: Change) -> ApiResult {
    let messages = edge.services.messages.clone();
    let sent = edge.on_main(async move { messages.change(by, change).await }).await?;
    Ok(HttpResponse::Ok().json(sent))
}

async fn readers(edge: Data<Edge>, Caller(caller): Caller, TwoIds(id, seq): TwoIds) -> ApiResult {
    let messages = edge.services.messages.clone();
    let list = edge.on_main(async move { messages.readers(caller.user_id, id, seq).await }).await?;
    let mut body = json!({
        "conversation_id": id, "seq": seq, "read_count": list.read_count,
        "delivered_count": list.delivered_count,
    });
    if !list.counts_only {
        body["read"] = list.read.into();
        body["delivered"] = list.delivered.into();
    }
    Ok(HttpResponse::Ok().json(body))
}
