//! The people of a test and the server they use. Names say who does what: `ada.opens(Tcp)`, `bob.posts("/contacts", …)`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use rookery::client::Transport;
use serde_json::{Value, json};

use crate::described;
use crate::node::Node;

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The framed transports: what one can do, all can.
pub const TRANSPORTS: [Transport; 3] = [Transport::WebSocketJson, Transport::WebSocketProto, Transport::Tcp];
/// Everybody's password.
pub const PASSWORD: &str = "open sesame";

/// Waits for what must happen; fails with its name when it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
    }
}

/// Asks again and again until the answer is `Some`.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    within(what, async {
        loop {
            pause.tick().await;
            if let Some(value) = ask().await {
                return value;
            }
        }
    })
    .await
}

/// A number that no other call gives, for names and client ids.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A node and a way to call it.
#[derive(Clone)]
pub struct World {
    pub node: Arc<Node>,
    pub http: reqwest::Client,
}

impl World {
    /// On the node that most tests share.
    pub fn shared() -> Self {
        Self::on(Node::shared())
    }

    /// On a node of one's own.
    pub fn with(config: &[(&str, &str)]) -> Self {
        Self::on(Arc::new(Node::start(config)))
    }

    /// Kills the node and starts it again. Nobody else may hold this world.
    pub fn restarts(&mut self) {
        Arc::get_mut(&mut self.node).expect("the test's own node").restart();
    }

    fn on(node: Arc<Node>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("plain settings");
        Self { node, http }
    }

    /// A new account, signed in as one device. Its name begins with `stem`.
    pub async fn person(&self, stem: &str) -> Person {
        let name = format!("{stem}{}", unique());
        let sign_up = json!({"username": name, "password": PASSWORD, "display_name": stem});
        self.asks(Method::POST, "/users", None, Some(sign_up)).await.is(201);
        self.signs_in(&name).await
    }

    /// Two of them.
    pub async fn two(&self, first: &str, second: &str) -> (Person, Person) {
        (self.person(first).await, self.person(second).await)
    }

    /// A new device of an account.
    pub async fn signs_in(&self, name: &str) -> Person {
        let body = json!({"username": name, "password": PASSWORD, "device_name": "a phone"});
        let session = self.asks(Method::POST, "/sessions", None, Some(body)).await.is(201);
        Person {
            world: self.clone(),
            name: name.to_owned(),
            id: session["user_id"].as_u64().expect("a user has a number"),
            device_id: session["device_id"].as_u64().expect("a device has a number"),
            token: session["token"].as_str().expect("a token is a string").to_owned(),
        }
    }

    /// One REST call; `path` follows `/api/v1`. Its answer must be as the API's description says.
    pub async fn asks(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let whole = format!("/api/v1{path}");
        let mut request = self.request(method.clone(), &whole);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = Answer::of(path, request).await;
        described::check(&method, &whole, answer.status, &answer.body, &answer.text);
        answer
    }

    /// An HTTP request to be filled in by hand.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.node.address("http")))
    }

    /// The same at the operators' endpoint.
    pub fn operator_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.node.address("admin")))
    }
}

/// An account on one of its devices.
#[derive(Clone)]
pub struct Person {
    pub world: World,
    pub name: String,
    pub id: u64,
    pub device_id: u64,
    pub token: String,
}

impl Person {
    /// The same account on another, new device.
    pub async fn on_another_device(&self) -> Self {
        self.world.signs_in(&self.name).await
    }

    pub async fn gets(&self, path: &str) -> Answer {
        self.world.asks(Method::GET, path, Some(&self.token), None).await
    }

    pub async fn posts(&self, path: &str, body: Value) -> Answer {
        self.world.asks(Method::POST, path, Some(&self.token), Some(body)).await
    }

    pub async fn puts(&self, path: &str, body: Value) -> Answer {
        self.world.asks(Method::PUT, path, Some(&self.token), Some(body)).await
    }

    pub async fn patches(&self, path: &str, body: Value) -> Answer {
        self.world.asks(Method::PATCH, path, Some(&self.token), Some(body)).await
    }

    pub async fn deletes(&self, path: &str) -> Answer {
        self.world.asks(Method::DELETE, path, Some(&self.token), None).await
    }

    /// Creates an open group with these members; its conversation id.
    pub async fn founds_a_group(&self, name: &str, members: &[&Person]) -> u64 {
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        let body = json!({"kind": "group", "name": name, "join_policy": "open", "member_ids": ids});
        number(&self.posts("/conversations", body).await.is(201), "conversation_id")
    }

    /// The direct conversation with somebody, made if need be.
    pub async fn direct_with(&self, other: &Person) -> u64 {
        let body = json!({"kind": "direct", "user_id": other.id});
        number(&self.posts("/conversations", body).await.succeeds(), "conversation_id")
    }

    /// One conversation as this person sees it.
    pub async fn sees(&self, conversation_id: u64) -> Value {
        self.gets(&format!("/conversations/{conversation_id}")).await.is(200)
    }

    /// Texts of a conversation's messages, oldest first, system messages left out.
    pub async fn reads_texts(&self, conversation_id: u64) -> Vec<String> {
        let path = format!("/conversations/{conversation_id}/messages?limit=200");
        let page = self.gets(&path).await.is(200);
        let mut items: Vec<&Value> = items(&page).iter().filter(|item| item["kind"] == "text").collect();
        items.sort_by_key(|item| item["seq"].as_u64());
        items.iter().filter_map(|item| item["text"].as_str().map(str::to_owned)).collect()
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub what: String,
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// Sends the request and reads the whole answer.
    pub async fn of(what: &str, request: reqwest::RequestBuilder) -> Self {
        let response = within(what, request.send()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { what: what.to_owned(), status, retry_after, body, text }
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} answered {}", self.what, self.text);
        self.body
    }

    /// The body of an answer that must be some success.
    #[track_caller]
    pub fn succeeds(self) -> Value {
        assert!((200..300).contains(&self.status), "{} answered {} {}", self.what, self.status, self.text);
        self.body
    }

    /// The answer must be an error of this status and code, in the protocol's form, with a sentence that helps.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str) -> Refusal {
        assert_eq!(self.status, status, "{} answered {}", self.what, self.text);
        let error = &self.body["error"];
        assert_eq!(error["code"], code, "{} answered {}", self.what, self.text);
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.len() > 8, "{} gives no reason: {}", self.what, self.text);
        assert!(
            error["field"].is_string() && error["retry_after_ms"].is_u64(),
            "{}: {}",
            self.what,
            self.text
        );
        let must_wait = matches!(code, "resource_exhausted" | "unavailable");
        assert_eq!(error["retry_after_ms"] != 0, must_wait, "{}: {}", self.what, self.text);
        if status == 429 {
            assert!(self.retry_after.is_some(), "{} has no Retry-After", self.what);
        }
        Refusal { field: error["field"].as_str().unwrap_or_default().to_owned(), what: self.what.clone() }
    }
}

/// What a refusal says beside its code.
pub struct Refusal {
    field: String,
    what: String,
}

impl Refusal {
    /// It must name this field.
    #[track_caller]
    pub fn naming(&self, field: &str) {
        assert_eq!(self.field, field, "{} names the wrong field", self.what);
    }
}

/// A number of an object.
#[track_caller]
pub fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {object}"))
}

/// The items of a list's page.
#[track_caller]
pub fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}"))
}
