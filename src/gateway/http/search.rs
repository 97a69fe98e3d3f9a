//! `/search`: messages of the caller's conversations.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::extract::{ApiResult, Caller, Page, Query};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;
use crate::services::search::SearchRequest;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/search").route(get().to(search)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(search))]
pub struct Rows;

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Wanted {
    /// Words to find, each by its beginning; Chinese anywhere. At most 200 characters.
    #[param(required = true)]
    query: String,
    /// Only in this conversation.
    conversation_id: u64,
    /// Only of this user.
    sender_id: u64,
    /// Only of this kind: text, image, audio, video, file or custom.
    kind: String,
    /// Not before this time.
    from_ms: u64,
    /// Before this time.
    to_ms: u64,
    /// Most messages, up to 200.
    limit: Option<u32>,
    /// An earlier `next_cursor`.
    cursor: String,
}

/// Messages that were found.
#[derive(Serialize, ToSchema)]
struct Found {
    /// The newest first, in their current state.
    items: Vec<Message>,
    /// Where the next page begins; empty at the end.
    next_cursor: String,
    /// Whether all that was asked for was searched; if not, ask again in a moment.
    complete: bool,
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

/// Finds messages in the caller's conversations.
#[utoipa::path(
    get, path = "/search", params(Wanted),
    responses(
        (status = 200, description = "What was found.", body = Found),
        (status = 403, description = "The caller is no member of the conversation named."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn search(edge: Data<Edge>, Caller(caller): Caller, Query(wanted): Query<Wanted>) -> ApiResult {
    let request = wanted.request()?;
    let search = edge.services.search.clone();
    let max_bytes = edge.config.gateway.frame_bytes_max;
    let page = edge.on_main(async move { search.search(caller.user_id, request, max_bytes).await }).await?;
    let found = Found { items: page.messages, next_cursor: page.next_cursor, complete: page.complete };
    Ok(HttpResponse::Ok().json(found))
}
