//! The REST calls that clients need, with typed answers; see section 5 of the protocol page and `docs/rest.md`.
//!
//! Here are the calls by which everything begins, and how a call is made; the others are by subject: `rooms`, `messages`,
//! `own` (what is a user's own).

mod messages;
mod own;
mod rooms;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::messages::{Forwarded, Found, Kept, Pin, Readers, Search, Submitted};
pub use self::own::{Blocked, Device, PreferenceChange, Privacy, PrivacyChange, ProfileChange};
pub use self::rooms::{Ban, GroupChange, Invite, JoinRequest, Member};
use super::error::{ClientError, Close};
use crate::domain::Error;
use crate::protocol::ErrorCode;
use crate::protocol::v1;

/// How long connecting to a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one call may take. Sign-up waits for a password hash, and under load for its turn.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest part of an answer that isn't this protocol's shown in an error, in characters.
const SHOWN_MAX: usize = 200;

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Its number.
    pub user_id: u64,
    /// What it signs in with.
    pub username: String,
    /// What it is shown as.
    pub display_name: String,
    /// Its picture; 0: none.
    pub avatar_file_id: u64,
    /// About itself.
    pub bio: String,
}

/// A new device's access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignedIn {
    /// The access token.
    pub token: String,
    /// Who.
    pub user_id: u64,
    /// As which device.
    pub device_id: u64,
    /// Until when.
    pub expires_at_ms: u64,
}

/// A friend, or a request in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contact {
    /// The other user.
    pub user_id: u64,
    /// `requested, invited, friend, removed` or `blocked`.
    pub state: String,
    /// What the request said.
    pub message: String,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// To be sent as `cursor` for the next page; empty: this was the last.
    pub next_cursor: String,
}

/// The body of every error.
#[derive(Deserialize)]
struct ErrorBody {
    error: v1::Error,
}

/// REST at any of some nodes. Cheap to clone but for the list of nodes.
#[derive(Debug)]
pub struct Rest {
    http: reqwest::Client,
    endpoints: Vec<String>,
    current: AtomicUsize,
    token: Option<String>,
}

impl Clone for Rest {
    fn clone(&self) -> Self {
        Self {
            http: self.http.clone(),
            endpoints: self.endpoints.clone(),
            current: AtomicUsize::new(self.current.load(Ordering::Relaxed)),
            token: self.token.clone(),
        }
    }
}

impl Rest {
    /// Calls without a token, to the first of `endpoints` (host:port) that can be reached.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // Nodes are named by address; a proxy of the surroundings has no business here.
            .no_proxy()
            .build()
            .expect("the settings above are valid, and no TLS back end has to be loaded");
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self { http, endpoints, current: AtomicUsize::new(0), token: None }
    }

    /// The same nodes, as the device of this token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// `POST /users`: makes an account. An empty `display_name` leaves it to the server.
    pub async fn sign_up(&self, username: &str, password: &str, display_name: &str) -> Answer<User> {
        let body = json!({"username": username, "password": password, "display_name": display_name});
        self.call(Method::POST, "/users", Some(&body)).await
    }

    /// `POST /sessions`: makes a device with a token.
    pub async fn sign_in(&self, username: &str, password: &str, device_name: &str) -> Answer<SignedIn> {
        self.sign_in_on(username, password, device_name, "").await
    }

    /// The same, naming what the device runs on: where users have one device a platform, it replaces that of the same one.
    pub async fn sign_in_on(
        &self,
        username: &str,
        password: &str,
        device_name: &str,
        platform: &str,
    ) -> Answer<SignedIn> {
        let body = json!({
            "username": username, "password": password, "device_name": device_name, "platform": platform,
        });
        self.call(Method::POST, "/sessions", Some(&body)).await
    }

    /// `DELETE /sessions/current`: the token ends.
    pub async fn sign_out(&self) -> Answer<()> {
        self.call_empty(Method::DELETE, "/sessions/current", None).await
    }

    /// `GET /users/me`.
    pub async fn me(&self) -> Answer<User> {
        self.call(Method::GET, "/users/me", None).await
    }

    /// `GET /users/{id}`.
    pub async fn user(&self, user_id: u64) -> Answer<User> {
        self.call(Method::GET, &format!("/users/{user_id}"), None).await
    }

    /// `GET /users?query=`: users by the beginning of a name.
    pub async fn search_users(&self, query: &str) -> Answer<Page<User>> {
        self.call(Method::GET, &format!("/users?query={}", percent_encode(query)), None).await
    }

    /// The user of exactly this name, regardless of case; `not_found` if there is none.
    pub async fn user_by_name(&self, username: &str) -> Answer<User> {
        let wanted = crate::domain::limits::username_key(username);
        let found = self.search_users(username).await?.items;
        found
            .into_iter()
            .find(|user| crate::domain::limits::username_key(&user.username) == wanted)
            .ok_or_else(|| {
                let message = format!("there is no user '{username}'; check the spelling");
                ClientError::Refused(Error::not_found(message))
            })
    }

    /// `GET /contacts`: one page.
    pub async fn contacts(&self, cursor: &str) -> Answer<Page<Contact>> {
        self.call(Method::GET, &list("/contacts", cursor), None).await
    }

    /// `POST /contacts`: asks a user to be friends, or accepts that user's own request; `state` tells which.
    pub async fn add_contact(&self, user_id: u64, message: &str) -> Answer<Contact> {
        let body = json!({"user_id": user_id, "message": message});
        let (_, bytes) = self.exchange(Method::POST, "/contacts", Some(&body)).await?;
        let asked = || Contact { user_id, state: "requested".to_owned(), ..Contact::default() };
        Ok(serde_json::from_slice(&bytes)
            .ok()
            .filter(|c: &Contact| !c.state.is_empty())
            .unwrap_or_else(asked))
    }

    /// `POST /contacts/{user_id}/accept`.
    pub async fn accept_contact(&self, user_id: u64) -> Answer<()> {
        self.call_empty(Method::POST, &format!("/contacts/{user_id}/accept"), None).await
    }

    /// `POST /contacts/{user_id}/decline`.
    pub async fn decline_contact(&self, user_id: u64) -> Answer<()> {
        self.call_empty(Method::POST, &format!("/contacts/{user_id}/decline"), None).await
    }

    /// `DELETE /contacts/{user_id}`.
    pub async fn remove_contact(&self, user_id: u64) -> Answer<()> {
        self.call_empty(Method::DELETE, &format!("/contacts/{user_id}"), None).await
    }

    /// `GET /conversations`: one page, newest first.
    pub async fn conversations(&self, cursor: &str) -> Answer<Page<v1::Conversation>> {
        self.call(Method::GET, &list("/conversations", cursor), None).await
    }

    /// `GET /conversations/{id}`.
    pub async fn conversation(&self, conversation_id: u64) -> Answer<v1::Conversation> {
        self.call(Method::GET, &format!("/conversations/{conversation_id}"), None).await
    }

    /// `POST /conversations` of kind group; `join_policy` is `open, approval` or `invite`.
    pub async fn create_group(
        &self,
        name: &str,
        description: &str,
        join_policy: &str,
        member_ids: &[u64],
    ) -> Answer<v1::Conversation> {
        let body = json!({
            "kind": "group", "name": name, "description": description, "join_policy": join_policy,
            "member_ids": member_ids,
        });
        self.call(Method::POST, "/conversations", Some(&body)).await
    }

    /// `POST /conversations` of kind direct: the one with this user, made if need be.
    pub async fn direct(&self, user_id: u64) -> Answer<v1::Conversation> {
        let body = json!({"kind": "direct", "user_id": user_id});
        self.call(Method::POST, "/conversations", Some(&body)).await
    }

    /// `GET /conversations/{id}/messages`: the messages before `before_seq` (0: the newest).
    pub async fn messages(
        &self,
        conversation_id: u64,
        before_seq: u64,
        limit: u32,
    ) -> Answer<Page<v1::Message>> {
        let path = format!(
            "/conversations/{conversation_id}/messages?limit={limit}{}",
            if before_seq == 0 { String::new() } else { format!("&before_seq={before_seq}") }
        );
        self.call(Method::GET, &path, None).await
    }

    /// `POST /conversations/{id}/messages`, or to a user where `conversation_id` is 0.
    pub async fn send(&self, send: &v1::Send) -> Answer<v1::Sent> {
        let path = match send.conversation_id {
            0 => format!("/users/{}/messages", send.to_user_id),
            id => format!("/conversations/{id}/messages"),
        };
        let body = serde_json::to_value(send).expect("a generated type is plain data");
        self.call(Method::POST, &path, Some(&body)).await
    }

    /// Any call, for what has no method here. `path` follows `/api/v1`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Answer<T> {
        let (status, bytes) = self.exchange(method, path, body).await?;
        parsed(path, status, &bytes)
    }

    /// A call whose answer has no body, or none of interest.
    pub async fn call_empty(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Answer<()> {
        self.exchange(method, path, body).await.map(drop)
    }

    /// Sends to the current node; when it can't be reached, so that nothing was sent, to the next ones.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Answer<(StatusCode, Vec<u8>)> {
        let first = self.current.load(Ordering::Relaxed);
        let mut unreachable = ClientError::Unreachable {
            endpoint: "the server".to_owned(),
            reason: "no address was given".to_owned(),
        };
        for try_number in 0..self.endpoints.len() {
            let at = (first + try_number) % self.endpoints.len();
            let endpoint = &self.endpoints[at];
            let mut request = self.http.request(method.clone(), format!("http://{endpoint}/api/v1{path}"));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(response) => {
                    self.current.store(at, Ordering::Relaxed);
                    return read(response).await;
                }
                Err(error) if error.is_connect() => {
                    unreachable =
                        ClientError::Unreachable { endpoint: endpoint.clone(), reason: root_cause(&error) };
                }
                Err(error) if error.is_timeout() => {
                    return Err(ClientError::Timeout(CALL_TIMEOUT.as_millis() as u64));
                }
                Err(error) => return Err(ClientError::Closed(Close::broken(root_cause(&error)))),
            }
        }
        Err(unreachable)
    }
}

/// What every call gives.
pub type Answer<T> = Result<T, ClientError>;

async fn read(response: reqwest::Response) -> Answer<(StatusCode, Vec<u8>)> {
    let status = response.status();
    let bytes =
        response.bytes().await.map_err(|error| ClientError::Closed(Close::broken(root_cause(&error))))?;
    if status.is_success() {
        return Ok((status, bytes.to_vec()));
    }
    match serde_json::from_slice::<ErrorBody>(&bytes) {
        Ok(body) => Err(ClientError::Refused(body.error.into())),
        Err(_) => {
            let shown: String = String::from_utf8_lossy(&bytes).chars().take(SHOWN_MAX).collect();
            Err(ClientError::Refused(Error::new(code_of(status), format!("HTTP status {status}: {shown}"))))
        }
    }
}

fn parsed<T: DeserializeOwned>(path: &str, status: StatusCode, bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        ClientError::Protocol(format!("{path} answered {status} with a body that isn't it: {error}"))
    })
}

/// The code for an error answer without this protocol's body, as from something in between.
fn code_of(status: StatusCode) -> ErrorCode {
    match status.as_u16() {
        400 => ErrorCode::InvalidArgument,
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::AlreadyExists,
        412 => ErrorCode::FailedPrecondition,
        429 => ErrorCode::ResourceExhausted,
        502 | 503 => ErrorCode::Unavailable,
        504 => ErrorCode::DeadlineExceeded,
        _ => ErrorCode::Internal,
    }
}

/// The innermost cause, which is the one that says something.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn list(path: &str, cursor: &str) -> String {
    if cursor.is_empty() { path.to_owned() } else { format!("{path}?cursor={}", percent_encode(cursor)) }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(percent_encode("Ä b&c-1"), "%C3%84%20b%26c-1");
        assert_eq!(list("/contacts", ""), "/contacts");
        assert_eq!(list("/contacts", "a=b"), "/contacts?cursor=a%3Db");
    }

    #[test]
    fn an_error_body_is_read_as_the_domains_error() {
        let body = br#"{"error": {"code": "already_exists", "message": "taken", "field": "username"}}"#;
        let body: ErrorBody = serde_json::from_slice(body).expect("it is the protocol's own form");
        let error = Error::from(body.error);
        assert_eq!((error.code, error.message.as_ref()), (ErrorCode::AlreadyExists, "taken"));
    }
}
