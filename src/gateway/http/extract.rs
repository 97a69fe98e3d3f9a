//! What handlers take from requests and what errors become: the JSON body, the caller, numbers in paths, pages.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::Error;
use crate::gateway::Edge;
use crate::gateway::cut::Cut;
use crate::gateway::error::http_status;
use crate::gateway::limit::ConnectionPermit;
use crate::protocol::json::{from_slice, lenient};
use crate::protocol::v1;
use crate::services::Identity;

/// What handlers return.
pub type ApiResult = Result<HttpResponse, ApiError>;

/// What every refusal is answered with.
#[derive(Serialize, ToSchema)]
pub struct Refusal {
    error: v1::Error,
}

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError {
    error: Error,
    status: StatusCode,
}

impl ApiError {
    /// With another status than the code's: for what HTTP itself has a status for.
    pub fn with_status(error: Error, status: StatusCode) -> Self {
        Self { error, status }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = http_status(error.code);
        Self { error, status }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        let error = &self.error;
        if error.retry_after_ms > 0 {
            // Whole seconds, rounded up: the header knows no smaller unit.
            response.insert_header((header::RETRY_AFTER, error.retry_after_ms.div_ceil(1000).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(Refusal { error: error.clone().into() })
    }
}

/// The JSON body, whatever its Content-Type says; an empty body is an empty object.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            let bytes = bytes.await.map_err(|error| body_error(&error))?;
            parse_body(&bytes).map(Body).map_err(ApiError::from)
        })
    }
}

fn body_error(error: &actix_web::Error) -> ApiError {
    let status = error.as_response_error().status_code();
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too large; send less in one request".to_owned(),
        _ => format!("the body could not be read: {error}"),
    };
    ApiError::with_status(Error::invalid("", message), status)
}

/// Reads a body: an object (or nothing), leniently as the protocol says.
pub fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    if bytes.trim_ascii().first() != Some(&b'{') {
        return Err(Error::invalid(
            "",
            "the body is not a JSON object; send one such as {\"name\": \"value\"}",
        ));
    }
    from_slice(bytes).map_err(|error| {
        let why = format!("the body is not valid JSON for this request: {error}");
        Error::invalid(error.field, why)
    })
}

/// The signed-in caller, by `Authorization: Bearer`.
pub struct Caller(pub Identity);

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let edge = edge_of(request);
        let token = bearer(request);
        Box::pin(async move {
            let token = token.ok_or_else(|| {
                Error::unauthenticated(
                    "the request names no token; send the header Authorization: Bearer TOKEN",
                )
            })?;
            authenticate(&edge, token).await.map(Caller).map_err(ApiError::from)
        })
    }
}

/// Who a token speaks for: from memory where possible, without leaving the worker's thread.
pub async fn authenticate(edge: &Edge, token: String) -> Result<Identity, Error> {
    if let Some(identity) = edge.services.accounts.remembered(&token) {
        return Ok(identity);
    }
    let accounts = edge.services.accounts.clone();
    edge.on_main(async move { accounts.authenticate(&token).await }).await
}

/// The token of the `Authorization` header.
pub fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The edge that a request came to.
pub fn edge_of(request: &HttpRequest) -> Arc<Edge> {
    Arc::clone(request.app_data::<Data<Edge>>().expect("every app of this crate holds its edge"))
}

/// What the connection of a request holds as long as it is open.
pub struct OpenSocket {
    /// Its place among the open sockets, where they are counted.
    pub permit: Option<ConnectionPermit>,
    /// There are too many already.
    pub is_too_many: bool,
    /// By which it can be shut down from outside; `None`: the client was gone at once.
    pub cut: Option<Arc<Cut>>,
}

impl OpenSocket {
    /// The socket is about to close: nobody may cut its descriptor any more, which may be another connection's then.
    pub fn forget(&self) {
        if let Some(cut) = &self.cut {
            cut.forget();
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A query string, read leniently: numbers that can't be read are errors, unknown keys are ignored.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parsed = actix_web::web::Query::<T>::from_query(request.query_string());
        ready(
            parsed
                .map(|query| Self(query.into_inner()))
                .map_err(|error| ApiError::from(unreadable::<T>(request.query_string(), &error.to_string()))),
        )
    }
}

/// Which parameter of a query string can't be taken, and why.
fn unreadable<T: DeserializeOwned>(query: &str, why: &str) -> Error {
    let why = why.strip_prefix("Query deserialize error: ").unwrap_or(why);
    // The reader does not say which: the one that can't be read alone either.
    let wrong = query.split('&').find(|pair| actix_web::web::Query::<T>::from_query(pair).is_err());
    let (name, value) = wrong.and_then(|pair| pair.split_once('=')).unwrap_or_default();
    let message = match name {
        "" => format!("the query string can't be read: {why}; /api/docs says what it takes"),
        name => format!("the query parameter {name} can't be '{value}': {why}; /api/docs says what it takes"),
    };
    Error::invalid(name.to_owned(), message)
}

/// One number of the path.
pub struct Id(pub u64);

/// Two numbers of the path.
pub struct TwoIds(pub u64, pub u64);

impl FromRequest for Id {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(path_number(request, 0).map(Self))
    }
}

impl FromRequest for TwoIds {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(path_number(request, 0).and_then(|first| Ok(Self(first, path_number(request, 1)?))))
    }
}

fn path_number(request: &HttpRequest, at: usize) -> Result<u64, ApiError> {
    let (name, value) = request.match_info().iter().nth(at).unwrap_or(("id", ""));
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { value.parse().ok() } else { None };
    number.ok_or_else(|| {
        ApiError::from(Error::invalid(
            name.to_owned(),
            format!("'{value}' in the path is no id; ids are whole numbers"),
        ))
    })
}

/// `limit` and `cursor` of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct Page {
    /// Most items, up to 200; 0 or absent: 50.
    pub limit: Option<u32>,
    /// An earlier `next_cursor`; empty or absent: from the top.
    pub cursor: String,
}

/// Items of a list when no limit is named.
const PAGE_DEFAULT: u32 = 50;
/// Most items of a list.
const PAGE_MAX: u32 = 200;

impl Page {
    /// How many items to give.
    pub fn limit(&self) -> u32 {
        match self.limit {
            None | Some(0) => PAGE_DEFAULT,
            Some(limit) => limit.min(PAGE_MAX),
        }
    }

    /// The cursor of lists that go by id: the last id of the page before.
    pub fn after_id(&self) -> Result<u64, Error> {
        if self.cursor.is_empty() {
            return Ok(0);
        }
        self.cursor.parse().map_err(|_| bad_cursor())
    }
}

/// A cursor that no answer held.
pub fn bad_cursor() -> Error {
    Error::invalid("cursor", "cursor is none that was given; leave it out to begin at the top")
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct List<T> {
    items: Vec<T>,
    /// Where the next page begins; empty at the end.
    next_cursor: String,
}

/// A list's answer.
pub fn list<T: Serialize>(items: Vec<T>, next_cursor: String) -> HttpResponse {
    HttpResponse::Ok().json(List { items, next_cursor })
}

/// A list by id: one item more than the limit was asked for, to know whether there are more.
pub fn list_by_id<T, I: Serialize>(
    mut rows: Vec<T>,
    limit: u32,
    id: impl Fn(&T) -> u64,
    item: impl Fn(T) -> I,
) -> HttpResponse {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|row| id(row).to_string()) } else { None };
    list(rows.into_iter().map(item).collect(), next.unwrap_or_default())
}

/// A number, or one in a string, for fields that may be absent; `null` is absence too.
pub fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Number(u64);
    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            lenient(deserializer).map(Self)
        }
    }
    Ok(Option::<Number>::deserialize(deserializer)?.map(|number| number.0))
}

/// A body or list of user ids.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct UserIds {
    /// Several.
    #[serde(deserialize_with = "lenient", alias = "member_ids")]
    pub user_ids: Vec<u64>,
    /// Or one.
    #[serde(deserialize_with = "lenient")]
    pub user_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorCode;

    #[test]
    fn a_body_is_read_leniently() {
        let ids: UserIds =
            parse_body(br#"{"user_ids": [1, "2"], "user_id": null, "else": {}}"#).expect("read");
        assert_eq!((ids.user_ids, ids.user_id), (vec![1, 2], 0));
        let ids: UserIds = parse_body(b" ").expect("nothing is an empty object");
        assert!(ids.user_ids.is_empty());
        for bad in [&b"[]"[..], b"{", b"null", b"{\"user_id\": \"x\"}"] {
            let error = parse_body::<UserIds>(bad).expect_err("no such body");
            assert_eq!(error.code, ErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn a_page_has_bounds() {
        assert_eq!(Page::default().limit(), PAGE_DEFAULT);
        assert_eq!(Page { limit: Some(1_000_000), ..Page::default() }.limit(), PAGE_MAX);
        assert!(Page { cursor: "x".into(), ..Page::default() }.after_id().is_err());
    }

    #[test]
    fn the_bearer_scheme_is_known_in_any_case() {
        let request = actix_web::test::TestRequest::default()
            .insert_header((header::AUTHORIZATION, "bearer abc"))
            .to_http_request();
        assert_eq!(bearer(&request).as_deref(), Some("abc"));
        let request = actix_web::test::TestRequest::default()
            .insert_header((header::AUTHORIZATION, "Basic abc"))
            .to_http_request();
        assert_eq!(bearer(&request), None);
    }

    #[actix_web::test]
    async fn an_error_has_the_protocol_s_shape() {
        let error = ApiError::from(Error::unavailable("away"));
        let response = error.error_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers().get("retry-after").map(|value| value.as_bytes()), Some(&b"1"[..]));
        let body = actix_web::body::to_bytes(response.into_body()).await.expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["code"], "unavailable");
        assert_eq!(body["error"]["message"], "away");
        assert_eq!(body["error"]["field"], "");
    }
}
