//! Groups: who is in them, what holds in them, and how one gets in.

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Page, Rest, list, percent_encode};
use crate::protocol::v1;

/// A member of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Who.
    pub user_id: u64,
    /// `owner, admin` or `member`.
    pub role: String,
    /// May not write until then; 0: may.
    pub silenced_until_ms: u64,
}

/// One who wants to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinRequest {
    /// Who.
    pub user_id: u64,
    /// The account's name.
    pub username: String,
    /// What the request says.
    pub message: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// A code that lets into a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invite {
    /// What [`Rest::use_invite`] takes.
    pub code: String,
    /// Into which group.
    pub conversation_id: u64,
    /// Unix time, milliseconds; 0: never.
    pub expires_at_ms: u64,
    /// 0: as often as one likes.
    pub uses_max: u64,
    /// How often it was used.
    pub uses: u64,
}

/// One who may not come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ban {
    /// Who.
    pub user_id: u64,
    /// The account's name.
    pub username: String,
    /// By whom.
    pub banned_by: u64,
    /// Why; may be empty.
    pub reason: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// Settings of a group to change; `None` leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupChange {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_file_id: Option<u64>,
    /// `open, approval` or `invite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_policy: Option<String>,
    /// Shown above the room; empty takes it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announcement: Option<String>,
    /// Only the owner and admins write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// What a member has to wait between two messages; 0: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_mode_seconds: Option<u64>,
    /// Those who are only members may not write for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_all: Option<bool>,
    /// New members see the room from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_open: Option<bool>,
    /// Older messages are removed for good; 0: as long as all are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
}

impl Rest {
    /// `GET /conversations/{id}/members`: one page.
    pub async fn members(&self, conversation_id: u64, cursor: &str) -> Answer<Page<Member>> {
        let path = list(&format!("/conversations/{conversation_id}/members"), cursor);
        self.call(Method::GET, &path, None).await
    }

    /// `POST /conversations/{id}/members`: adds users.
    pub async fn add_members(&self, conversation_id: u64, user_ids: &[u64]) -> Answer<()> {
        let body = json!({"user_ids": user_ids});
        self.call_empty(Method::POST, &format!("/conversations/{conversation_id}/members"), Some(&body)).await
    }

    /// `DELETE /conversations/{id}/members/{user_id}`.
    pub async fn remove_member(&self, conversation_id: u64, user_id: u64) -> Answer<()> {
        let path = format!("/conversations/{conversation_id}/members/{user_id}");
        self.call_empty(Method::DELETE, &path, None).await
    }

    /// `PATCH /conversations/{id}`: an object of the settings to change.
    pub async fn change_conversation(
        &self,
        conversation_id: u64,
        change: &serde_json::Value,
    ) -> Answer<v1::Conversation> {
        self.call(Method::PATCH, &format!("/conversations/{conversation_id}"), Some(change)).await
    }

    /// `DELETE /conversations/{id}`: ends a group for all.
    pub async fn dissolve(&self, conversation_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/conversations/{conversation_id}"), None).await
    }

    /// `PATCH /conversations/{id}/members/{user_id}`: an object of `role` and `silenced_until_ms`.
    pub async fn change_member(
        &self,
        conversation_id: u64,
        user_id: u64,
        change: &serde_json::Value,
    ) -> Answer<Member> {
        let path = format!("/conversations/{conversation_id}/members/{user_id}");
        self.call(Method::PATCH, &path, Some(change)).await
    }

    /// `PUT /conversations/{id}/bans/{user_id}`.
    pub async fn ban(&self, conversation_id: u64, user_id: u64, reason: &str) -> Answer<()> {
        let path = format!("/conversations/{conversation_id}/bans/{user_id}");
        self.call_empty(Method::PUT, &path, Some(&json!({"reason": reason}))).await
    }

    /// `DELETE /conversations/{id}/bans/{user_id}`.
    pub async fn unban(&self, conversation_id: u64, user_id: u64) -> Answer<()> {
        let path = format!("/conversations/{conversation_id}/bans/{user_id}");
        self.call_empty(Method::DELETE, &path, None).await
    }

    /// `POST /conversations/{id}/join`, with what a request says where one is needed; whether it came to a request only.
    pub async fn ask_to_join(&self, conversation_id: u64, message: &str) -> Answer<bool> {
        let body = json!({"message": message});
        let path = format!("/conversations/{conversation_id}/join");
        let (status, _) = self.exchange(Method::POST, &path, Some(&body)).await?;
        Ok(status == StatusCode::ACCEPTED)
    }

    /// The same without a word.
    pub async fn join(&self, conversation_id: u64) -> Answer<bool> {
        self.ask_to_join(conversation_id, "").await
    }

    /// `GET /conversations/{id}/requests`: one page of those who want to join.
    pub async fn join_requests(&self, conversation_id: u64, cursor: &str) -> Answer<Page<JoinRequest>> {
        self.call(Method::GET, &list(&format!("/conversations/{conversation_id}/requests"), cursor), None)
            .await
    }

    /// `POST /conversations/{id}/requests/{user_id}/accept` or `…/decline`.
    pub async fn answer_join_request(&self, conversation_id: u64, user_id: u64, accept: bool) -> Answer<()> {
        let word = if accept { "accept" } else { "decline" };
        let path = format!("/conversations/{conversation_id}/requests/{user_id}/{word}");
        self.call_empty(Method::POST, &path, None).await
    }

    /// `POST /conversations/{id}/invites`: a code; 0: it does not expire, or may be used as often as one likes.
    pub async fn make_invite(
        &self,
        conversation_id: u64,
        expires_in_seconds: u64,
        uses_max: u64,
    ) -> Answer<Invite> {
        let body = json!({"expires_in_seconds": expires_in_seconds, "uses_max": uses_max});
        self.call(Method::POST, &format!("/conversations/{conversation_id}/invites"), Some(&body)).await
    }

    /// `DELETE /conversations/{id}/invites/{code}`.
    pub async fn drop_invite(&self, conversation_id: u64, code: &str) -> Answer<()> {
        let path = format!("/conversations/{conversation_id}/invites/{}", percent_encode(code));
        self.call_empty(Method::DELETE, &path, None).await
    }

    /// `POST /invites/{code}`: joins the group of a code.
    pub async fn use_invite(&self, code: &str) -> Answer<v1::Conversation> {
        self.call(Method::POST, &format!("/invites/{}", percent_encode(code)), None).await
    }

    /// `POST /conversations/{id}/leave`.
    pub async fn leave(&self, conversation_id: u64) -> Answer<()> {
        self.call_empty(Method::POST, &format!("/conversations/{conversation_id}/leave"), None).await
    }

    /// The same, by field.
    pub async fn change_group(&self, conversation_id: u64, change: &GroupChange) -> Answer<v1::Conversation> {
        let change = serde_json::to_value(change).expect("settings are plain data");
        self.change_conversation(conversation_id, &change).await
    }

    /// `POST /conversations/{id}/transfer`: another member becomes the owner, the caller an admin.
    pub async fn transfer(&self, conversation_id: u64, user_id: u64) -> Answer<Member> {
        let path = format!("/conversations/{conversation_id}/transfer");
        self.call(Method::POST, &path, Some(&json!({"user_id": user_id}))).await
    }

    /// `PATCH /conversations/{id}/members/{user_id}`: `owner, admin` or `member`.
    pub async fn set_role(&self, conversation_id: u64, user_id: u64, role: &str) -> Answer<Member> {
        self.change_member(conversation_id, user_id, &json!({"role": role})).await
    }

    /// `PATCH /conversations/{id}/members/{user_id}`: it may not write until then, Unix milliseconds; 0 ends it.
    pub async fn silence(&self, conversation_id: u64, user_id: u64, until_ms: u64) -> Answer<Member> {
        self.change_member(conversation_id, user_id, &json!({"silenced_until_ms": until_ms})).await
    }

    /// `GET /conversations/{id}/bans`: one page.
    pub async fn bans(&self, conversation_id: u64, cursor: &str) -> Answer<Page<Ban>> {
        self.call(Method::GET, &list(&format!("/conversations/{conversation_id}/bans"), cursor), None).await
    }

    /// `GET /conversations/{id}/invites`: the codes that are good.
    pub async fn invites(&self, conversation_id: u64) -> Answer<Page<Invite>> {
        self.call(Method::GET, &format!("/conversations/{conversation_id}/invites"), None).await
    }
}
