//! `/conversations/{id}/messages` and `/users/{id}/messages`: history and sending.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller, Id, Query, bad_cursor};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::v1::{HistoryRequest, Message, Scheduled, Send, Sent};
use crate::services::Schedule;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/conversations/{id}/messages").route(get().to(history)).route(post().to(send)))
        .service(resource("/users/{id}/messages").route(post().to(send_direct)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(history, send, send_direct))]
pub struct Rows;

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct History {
    /// The newest messages before this one; 0 or absent: before none, so the newest of all.
    before_seq: Option<u64>,
    /// The oldest messages after this one. Not together with `before_seq`.
    after_seq: Option<u64>,
    /// The messages around this one. Only one of these four is named.
    around_seq: Option<u64>,
    /// The messages from this time on, Unix milliseconds.
    at_ms: Option<u64>,
    /// Most messages, up to 200.
    limit: Option<u32>,
    /// An earlier `next_cursor`, which leads on in the same direction.
    cursor: String,
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
struct Messages {
    /// The oldest first.
    items: Vec<Message>,
    /// Whether there are more in the direction asked for.
    more: bool,
    /// Where the next page begins; empty at the end.
    next_cursor: String,
    /// With `around_seq` and `at_ms`: where the page before this one lies; empty at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    older_cursor: Option<String>,
}

/// Which way a list of messages goes on; the first letter of its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Older,
    Newer,
    /// From a page in the middle: two cursors, of which the newer one is the next.
    Both,
}

impl History {
    /// The request, and where its next page lies.
    fn request(&self, conversation_id: u64) -> Result<(HistoryRequest, Way), Error> {
        let mut request =
            HistoryRequest { conversation_id, limit: self.limit.unwrap_or(0), ..HistoryRequest::default() };
        if self.cursor.is_empty() && (self.around_seq.unwrap_or(0) != 0 || self.at_ms.unwrap_or(0) != 0) {
            request.around_seq = self.around_seq.unwrap_or(0);
            request.at_ms = self.at_ms.unwrap_or(0);
            request.before_seq = self.before_seq.unwrap_or(0);
            request.after_seq = self.after_seq.unwrap_or(0);
            return Ok((request, Way::Both));
        }
        let way = match (self.cursor.as_str(), self.before_seq.unwrap_or(0), self.after_seq.unwrap_or(0)) {
            ("", before_seq, 0) => {
                request.before_seq = before_seq;
                Way::Older
            }
            ("", 0, after_seq) => {
                request.after_seq = after_seq;
                Way::Newer
            }
            ("", ..) => {
                return Err(Error::invalid("after_seq", "name before_seq or after_seq, not both"));
            }
            (cursor, ..) => {
                let (way, seq) = cursor.split_at_checked(1).ok_or_else(bad_cursor)?;
                let seq: u64 = seq.parse().map_err(|_| bad_cursor())?;
                match way {
                    "b" => {
                        request.before_seq = seq;
                        Way::Older
                    }
                    "a" => {
                        request.after_seq = seq;
                        Way::Newer
                    }
                    _ => return Err(bad_cursor()),
                }
            }
        };
        Ok((request, way))
    }
}

/// The cursor behind a page; empty at the end.
fn next_cursor(messages: &[Message], more: bool, way: Way) -> String {
    let way = if way == Way::Both { Way::Newer } else { way };
    match (way, more, messages) {
        (Way::Older, true, [first, ..]) => format!("b{}", first.seq),
        (Way::Newer, true, [.., last]) => format!("a{}", last.seq),
        _ => String::new(),
    }
}

/// A conversation's messages.
#[utoipa::path(
    get, path = "/conversations/{id}/messages", params(History),
    responses(
        (status = 200, description = "The oldest first within the page.", body = Messages),
        (status = 403, description = "The caller is no member."),
        (status = 404, description = "There is no such conversation."),
    ),
)]
async fn history(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Query(query): Query<History>,
) -> ApiResult {
    let (request, way) = query.request(id)?;
    let messages = edge.services.messages.clone();
    let max_bytes = edge.config.gateway.frame_bytes_max;
    let page =
        edge.on_main(async move { messages.history(caller.user_id, request, max_bytes).await }).await?;
    let (next_cursor, older_cursor) = match way {
        Way::Both => (
            next_cursor(&page.messages, page.more_newer, Way::Newer),
            Some(next_cursor(&page.messages, page.more_older, Way::Older)),
        ),
        way => (next_cursor(&page.messages, page.more, way), None),
    };
    let page = Messages { items: page.messages, more: page.more, next_cursor, older_cursor };
    Ok(HttpResponse::Ok().json(page))
}

/// Sends a message to a conversation.
///
/// `conversation_id` and `to_user_id` of the body are ignored. After 500, 503, 504 or no answer it may have been stored: repeat it
/// with the same `client_id`, and it is stored once.
#[utoipa::path(
    post, path = "/conversations/{id}/messages", request_body = Send,
    responses(
        (status = 200, description = "It was sent before, under this `client_id`: the first result.", body = Sent),
        (status = 201, description = "Stored.", body = Sent),
        (status = 202, description = "Kept until `send_at_ms`.", body = Scheduled),
        (status = 403, description = "The caller is no member, or may not write here."),
        (status = 404, description = "There is no such conversation."),
        (status = 412, description = "The caller has blocked the other user."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn send(edge: Data<Edge>, Caller(caller): Caller, Id(id): Id, Body(send): Body<Send>) -> ApiResult {
    deliver(&edge, caller.user_id, Send { conversation_id: id, to_user_id: 0, ..send }).await
}

/// Sends a message to a user, and makes the direct conversation if need be.
#[utoipa::path(
    post, path = "/users/{id}/messages", request_body = Send,
    responses(
        (status = 200, description = "It was sent before, under this `client_id`: the first result.", body = Sent),
        (status = 201, description = "Stored.", body = Sent),
        (status = 202, description = "Kept until `send_at_ms`.", body = Scheduled),
        (status = 403, description = "The user's privacy forbids it, or has blocked the caller."),
        (status = 404, description = "Nobody has this id."),
        (status = 412, description = "The caller has blocked the user."),
        (status = 429, description = "Too much waits for the conversation."),
    ),
)]
async fn send_direct(
    edge: Data<Edge>,
    Caller(caller): Caller,
    Id(id): Id,
    Body(send): Body<Send>,
) -> ApiResult {
    deliver(&edge, caller.user_id, Send { conversation_id: 0, to_user_id: id, ..send }).await
}

async fn deliver(edge: &Edge, by: u64, send: Send) -> ApiResult {
    if Schedule::is_for_later(&send) {
        let schedule = edge.services.schedule.clone();
        let kept = edge.on_main(async move { schedule.add(by, send).await }).await?;
        return Ok(HttpResponse::Accepted().json(kept));
    }
    let messages = edge.services.messages.clone();
    let sent = edge.on_main(async move { messages.send(by, send).await }).await?;
    let mut response = if sent.duplicate { HttpResponse::Ok() } else { HttpResponse::Created() };
    Ok(response.json(sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Message {
        Message { seq, ..Message::default() }
    }

    #[test]
    fn a_cursor_leads_on_in_the_same_way() {
        let older = next_cursor(&[message(5), message(6)], true, Way::Older);
        let (request, way) = History { cursor: older, ..History::default() }.request(1).expect("our own");
        assert_eq!((request.before_seq, request.after_seq, way), (5, 0, Way::Older));
        let newer = next_cursor(&[message(5), message(6)], true, Way::Newer);
        let (request, way) = History { cursor: newer, ..History::default() }.request(1).expect("our own");
        assert_eq!((request.before_seq, request.after_seq, way), (0, 6, Way::Newer));
        assert_eq!(next_cursor(&[message(5)], false, Way::Older), "");
    }

    #[test]
    fn a_foreign_cursor_and_two_directions_are_refused() {
        for cursor in ["x1", "b", "bx", "ä1"] {
            assert!(History { cursor: cursor.into(), ..History::default() }.request(1).is_err(), "{cursor}");
        }
        let both = History { before_seq: Some(3), after_seq: Some(1), ..History::default() };
        assert!(both.request(1).is_err());
    }
}
