//! What is a user's own: the account and its end, devices, privacy, blocks, preferences and drafts.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Page, Rest, User, list};
use crate::client::error::ClientError;
use crate::protocol::v1;

/// A signed-in client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its number.
    pub device_id: u64,
    /// As it named itself.
    pub device_name: String,
    /// What it runs on; may be empty.
    pub platform: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
    /// When it was last there, about.
    pub last_seen_ms: u64,
    /// When it must sign in again.
    pub expires_at_ms: u64,
    /// It is the one that asks.
    pub current: bool,
}

/// A user who is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// Who.
    pub user_id: u64,
    /// The account's name.
    pub username: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// Who may do what with the caller: each `everyone, contacts` or `nobody`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Privacy {
    /// Direct messages.
    pub who_may_write: String,
    /// To groups.
    pub who_may_add: String,
    /// `last_seen_ms` in presence.
    pub who_sees_last_seen: String,
}

/// The same to change; `None` leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrivacyChange {
    /// Direct messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who_may_write: Option<String>,
    /// To groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who_may_add: Option<String>,
    /// `last_seen_ms` in presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who_sees_last_seen: Option<String>,
}

/// What is shown of an account, to change; `None` leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProfileChange {
    /// What it is shown as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_file_id: Option<u64>,
    /// About itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
}

/// The caller's view of a conversation, to change; `None` leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PreferenceChange {
    /// Nothing is notified until then, Unix milliseconds; 0 ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted_until_ms: Option<u64>,
    /// Above the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Apart from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Not listed until its next message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<bool>,
    /// To be come back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_unread: Option<bool>,
    /// `all, mentions` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<String>,
}

fn body(change: &impl Serialize) -> Value {
    serde_json::to_value(change).expect("a change is plain data")
}

impl Rest {
    /// `GET /sessions`: the caller's devices.
    pub async fn devices(&self) -> Answer<Page<Device>> {
        self.call(Method::GET, "/sessions", None).await
    }

    /// `DELETE /sessions/{device_id}`: signs a device out.
    pub async fn sign_out_device(&self, device_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/sessions/{device_id}"), None).await
    }

    /// `DELETE /sessions`: signs all other devices out, `current`: this one too.
    pub async fn sign_out_all(&self, current: bool) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/sessions?current={current}"), None).await
    }

    /// `PATCH /users/me`.
    pub async fn change_profile(&self, change: &ProfileChange) -> Answer<User> {
        self.call(Method::PATCH, "/users/me", Some(&body(change))).await
    }

    /// `PUT /users/me/password`: signs the other devices out.
    pub async fn change_password(&self, old_password: &str, new_password: &str) -> Answer<()> {
        let body = json!({"old_password": old_password, "new_password": new_password});
        self.call_empty(Method::PUT, "/users/me/password", Some(&body)).await
    }

    /// `DELETE /users/me`: disables the account.
    pub async fn disable_account(&self) -> Answer<()> {
        self.call_empty(Method::DELETE, "/users/me", None).await
    }

    /// `POST /users/me/erase`: ends the account for good.
    pub async fn erase_account(&self, password: &str) -> Answer<()> {
        self.call_empty(Method::POST, "/users/me/erase", Some(&json!({"password": password}))).await
    }

    /// `GET /users/me/export`: all that is kept of the caller, an object a line of the answer, all in memory. An error where it
    /// did not come whole.
    pub async fn export(&self) -> Answer<Vec<Value>> {
        let (_, bytes) = self.exchange(Method::GET, "/users/me/export", None).await?;
        let lines: Result<Vec<Value>, _> = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect();
        match lines {
            Ok(lines) if lines.last().is_some_and(|last| last["type"] == "end") => Ok(lines),
            _ => Err(ClientError::Protocol("the export broke off before its end; ask again".to_owned())),
        }
    }

    /// `GET /users/me/privacy`.
    pub async fn privacy(&self) -> Answer<Privacy> {
        self.call(Method::GET, "/users/me/privacy", None).await
    }

    /// `PATCH /users/me/privacy`.
    pub async fn change_privacy(&self, change: &PrivacyChange) -> Answer<Privacy> {
        self.call(Method::PATCH, "/users/me/privacy", Some(&body(change))).await
    }

    /// `GET /blocks`: one page.
    pub async fn blocks(&self, cursor: &str) -> Answer<Page<Blocked>> {
        self.call(Method::GET, &list("/blocks", cursor), None).await
    }

    /// `PUT /blocks/{user_id}`.
    pub async fn block(&self, user_id: u64) -> Answer<()> {
        self.call_empty(Method::PUT, &format!("/blocks/{user_id}"), None).await
    }

    /// `DELETE /blocks/{user_id}`.
    pub async fn unblock(&self, user_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/blocks/{user_id}"), None).await
    }

    /// `PUT /conversations/{id}/preferences`: the conversation as the caller has it then.
    pub async fn prefer(&self, conversation_id: u64, change: &PreferenceChange) -> Answer<v1::Conversation> {
        let path = format!("/conversations/{conversation_id}/preferences");
        self.call(Method::PUT, &path, Some(&body(change))).await
    }

    /// `PUT /conversations/{id}/draft`: keeps what the caller has begun to write, for all its devices; nothing discards it.
    pub async fn keep_draft(&self, conversation_id: u64, text: &str, reply_to_seq: u64) -> Answer<()> {
        let body = json!({"text": text, "reply_to_seq": reply_to_seq});
        self.call_empty(Method::PUT, &format!("/conversations/{conversation_id}/draft"), Some(&body)).await
    }

    /// `DELETE /conversations/{id}/draft`.
    pub async fn discard_draft(&self, conversation_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/conversations/{conversation_id}/draft"), None).await
    }

    /// `GET /presence`: how users are, in the order asked.
    pub async fn presences(&self, user_ids: &[u64]) -> Answer<Page<v1::Presence>> {
        let ids: Vec<String> = user_ids.iter().map(u64::to_string).collect();
        self.call(Method::GET, &format!("/presence?user_ids={}", ids.join(",")), None).await
    }
}
