//! `/search`: messages of the caller's conversations.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get};
use serde::Deserialize;
use serde_json::json;

use super::extract::{ApiResult, Caller, Page, Query, wire};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::MessageKind;
use crate::services::search::SearchRequest;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/search").route(get().to(search)));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
    query: String,
    conversation_id: u64,
    sender_id: u64,
    kind: String,
    from_ms: u64,
    to_ms: u64,
    limit: Option<u32>,
    cursor: String,
}

impl Wanted {
    fn request(self) -> Result<SearchRequest, Error> {
        let kind = match self.kind.as_str() {
            "" => None,
            word => match MessageKind::from_str_name(word) {
                Some(kind) if kind < MessageKind::System => Some(kind as i32),
                _ => {
                    return Err(Error::invalid(
                        "kind",
                        "what is found is of kind text, image, audio, video, file or custom",
                    ));
                }
            },
        };
        let page = Page { limit: self.limit, cursor: self.cursor };
        Ok(SearchRequest {
            limit: page.limit(),
            query: self.query,
            conversation_id: self.conversation_id,
            sender_id: self.sender_id,
            kind,
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            cursor: page.cursor,
        })
    }
}

async fn search(edge: Data<Edge>, Caller(caller): Caller, Query(wanted): Query<Wanted>) -> ApiResult {
    let request = wanted.request()?;
    let search = edge.services.search.clone();
    let max_bytes = edge.config.gateway.frame_bytes_max;
    let page = edge.on_main(async move { search.search(caller.user_id, request, max_bytes).await }).await?;
    Ok(HttpResponse::Ok().json(json!({
        "items": page.messages.iter().map(wire).collect::<Vec<_>>(),
        "next_cursor": page.next_cursor,
        "complete": page.complete,
    })))
}
