//! Messages that stand: changing, hiding, pinning, forwarding and finding them; and those that wait for their time.

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Page, Rest, list, percent_encode};
use crate::protocol::v1;

/// What became of a send.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// It is stored.
    Sent(v1::Sent),
    /// It is kept until its time.
    Scheduled(v1::Scheduled),
}

/// A message that is pinned.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pin {
    /// Which.
    pub seq: u64,
    /// Who pinned it.
    pub user_id: u64,
    /// Unix time, milliseconds.
    pub pinned_at_ms: u64,
    /// As it is now.
    pub message: v1::Message,
}

/// A send that is kept until its time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// What [`Rest::cancel_scheduled`] takes.
    pub scheduled_id: u64,
    /// Where to.
    pub conversation_id: u64,
    /// Its name.
    pub client_id: String,
    /// Unix time, milliseconds.
    pub send_at_ms: u64,
    /// The send.
    pub message: v1::Send,
    /// Why it was refused when its time came; empty: it was not.
    pub failure: String,
}

/// What copies came to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Forwarded {
    /// In the order of the originals.
    pub items: Vec<v1::Sent>,
}

/// Whom a message has reached, its sender left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Readers {
    /// How many have read it.
    pub read_count: u64,
    /// How many have it.
    pub delivered_count: u64,
    /// Who has read it; in small rooms only.
    pub read: Vec<u64>,
    /// Who has it; in small rooms only.
    pub delivered: Vec<u64>,
}

/// What to search for; what is 0 or empty is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Search {
    /// Words, all of which must be there.
    pub query: String,
    /// In which conversation.
    #[serde(skip_serializing_if = "is_zero")]
    pub conversation_id: u64,
    /// From whom.
    #[serde(skip_serializing_if = "is_zero")]
    pub sender_id: u64,
    /// Of which kind, such as `image`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Not older, Unix milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub from_ms: u64,
    /// Older than this, Unix milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub to_ms: u64,
    /// An earlier `next_cursor`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cursor: String,
}

/// What was found, newest first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// As they are now.
    pub items: Vec<v1::Message>,
    /// Empty at the end.
    pub next_cursor: String,
    /// Everything was looked at; else a repeat may find more.
    pub complete: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn of(conversation_id: u64, seq: u64, rest: &str) -> String {
    format!("/conversations/{conversation_id}/messages/{seq}{rest}")
}

impl Rest {
    /// `POST /conversations/{id}/messages` (or to a user, where `conversation_id` is 0), now or, with `send_at_ms`, later.
    pub async fn submit(&self, send: &v1::Send) -> Answer<Submitted> {
        let path = match send.conversation_id {
            0 => format!("/users/{}/messages", send.to_user_id),
            id => format!("/conversations/{id}/messages"),
        };
        let body = serde_json::to_value(send).expect("a generated type is plain data");
        let (status, bytes) = self.exchange(Method::POST, &path, Some(&body)).await?;
        Ok(match status {
            StatusCode::ACCEPTED => Submitted::Scheduled(super::parsed(&path, status, &bytes)?),
            _ => Submitted::Sent(super::parsed(&path, status, &bytes)?),
        })
    }

    /// `GET /scheduled`: one page of the caller's sends that wait for their time.
    pub async fn scheduled(&self, cursor: &str) -> Answer<Page<Kept>> {
        self.call(Method::GET, &list("/scheduled", cursor), None).await
    }

    /// `DELETE /scheduled/{id}`: it is not sent. `not_found`: it is too late, or there is none.
    pub async fn cancel_scheduled(&self, scheduled_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/scheduled/{scheduled_id}"), None).await
    }

    /// `PATCH /conversations/{id}/messages/{seq}`: another text.
    pub async fn edit(&self, edit: &v1::Edit) -> Answer<v1::Sent> {
        let body = json!({"text": edit.text, "client_id": edit.client_id});
        self.call(Method::PATCH, &of(edit.conversation_id, edit.target_seq, ""), Some(&body)).await
    }

    /// `DELETE /conversations/{id}/messages/{seq}`: takes it back for all.
    pub async fn recall(&self, recall: &v1::Recall) -> Answer<v1::Sent> {
        let name = format!("?client_id={}", percent_encode(&recall.client_id));
        self.call(Method::DELETE, &of(recall.conversation_id, recall.target_seq, &name), None).await
    }

    /// `PUT` or `DELETE /conversations/{id}/messages/{seq}/reactions/{emoji}`.
    pub async fn react(&self, react: &v1::React) -> Answer<v1::Sent> {
        let (emoji, name) = (percent_encode(&react.emoji), percent_encode(&react.client_id));
        let rest = format!("/reactions/{emoji}?client_id={name}");
        let method = if react.remove { Method::DELETE } else { Method::PUT };
        self.call(method, &of(react.conversation_id, react.target_seq, &rest), None).await
    }

    /// `GET /conversations/{id}/messages/{seq}/readers`.
    pub async fn readers(&self, conversation_id: u64, seq: u64) -> Answer<Readers> {
        self.call(Method::GET, &of(conversation_id, seq, "/readers"), None).await
    }

    /// `POST /conversations/{id}/messages/hide`: from the caller alone.
    pub async fn hide(&self, conversation_id: u64, seqs: &[u64]) -> Answer<()> {
        let path = format!("/conversations/{conversation_id}/messages/hide");
        self.call_empty(Method::POST, &path, Some(&json!({"seqs": seqs}))).await
    }

    /// `GET /conversations/{id}/hidden`: one page of seqs.
    pub async fn hidden(&self, conversation_id: u64, cursor: &str) -> Answer<Page<u64>> {
        self.call(Method::GET, &list(&format!("/conversations/{conversation_id}/hidden"), cursor), None).await
    }

    /// `GET /conversations/{id}/pins`.
    pub async fn pins(&self, conversation_id: u64) -> Answer<Page<Pin>> {
        self.call(Method::GET, &format!("/conversations/{conversation_id}/pins"), None).await
    }

    /// `PUT /conversations/{id}/pins/{seq}`: for all.
    pub async fn pin(&self, conversation_id: u64, seq: u64) -> Answer<()> {
        self.call_empty(Method::PUT, &format!("/conversations/{conversation_id}/pins/{seq}"), None).await
    }

    /// `DELETE /conversations/{id}/pins/{seq}`.
    pub async fn unpin(&self, conversation_id: u64, seq: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/conversations/{conversation_id}/pins/{seq}"), None).await
    }

    /// `POST /conversations/{id}/messages/forward`: copies messages of another conversation. A repeat with the same `client_id`
    /// (at most 58 characters) makes no second copies.
    pub async fn forward(
        &self,
        conversation_id: u64,
        from_conversation_id: u64,
        seqs: &[u64],
        client_id: &str,
    ) -> Answer<Vec<v1::Sent>> {
        let path = format!("/conversations/{conversation_id}/messages/forward");
        let body =
            json!({"from_conversation_id": from_conversation_id, "seqs": seqs, "client_id": client_id});
        let copies: Forwarded = self.call(Method::POST, &path, Some(&body)).await?;
        Ok(copies.items)
    }

    /// `GET /search`: messages of the caller's conversations.
    pub async fn search(&self, search: &Search) -> Answer<Found> {
        let mut path = format!("/search?query={}", percent_encode(&search.query));
        let wanted = serde_json::to_value(search).expect("plain data");
        for (name, value) in wanted.as_object().into_iter().flatten().filter(|(name, _)| *name != "query") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            path.push_str(&format!("&{name}={}", percent_encode(&value)));
        }
        self.call(Method::GET, &path, None).await
    }
}
