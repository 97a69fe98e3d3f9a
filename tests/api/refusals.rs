//! What is refused, and how: every error has its status, its code, a sentence, and does no harm.

use reqwest::Method;
use rookery::protocol::codec::{Format, decode_server};
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::{ErrorCode, v1};
use serde_json::{Value, json};

use crate::raw::{reads_frame, writes_frame};
use crate::world::{Answer, World, items, number};

/// The calls of the first part, with a conversation's id for `C` and a user's for `U`.
const CALLS: [(Method, &str); 24] = [
    (Method::GET, "/sessions"),
    (Method::DELETE, "/sessions/current"),
    (Method::DELETE, "/sessions/1"),
    (Method::GET, "/users/me"),
    (Method::PATCH, "/users/me"),
    (Method::DELETE, "/users/me"),
    (Method::PUT, "/users/me/password"),
    (Method::GET, "/users/U"),
    (Method::GET, "/users?query=a"),
    (Method::GET, "/contacts"),
    (Method::POST, "/contacts"),
    (Method::POST, "/contacts/U/accept"),
    (Method::POST, "/contacts/U/decline"),
    (Method::DELETE, "/contacts/U"),
    (Method::GET, "/conversations"),
    (Method::GET, "/conversations/C"),
    (Method::POST, "/conversations"),
    (Method::GET, "/conversations/C/members"),
    (Method::POST, "/conversations/C/members"),
    (Method::DELETE, "/conversations/C/members/U"),
    (Method::POST, "/conversations/C/join"),
    (Method::POST, "/conversations/C/leave"),
    (Method::GET, "/conversations/C/messages"),
    (Method::POST, "/conversations/C/messages"),
];

#[tokio::test]
async fn every_call_wants_a_token_that_is_good() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for (method, path) in CALLS {
        let path = path.replace('C', &id.to_string()).replace('U', &bob.id.to_string());
        for token in [None, Some(""), Some("nonsense"), Some("ünicode"), Some(&"x".repeat(4000)[..])] {
            let what = format!("{method} {path} with {:.20}", token.unwrap_or("no token"));
            let mut request = ada.world.request(method.clone(), &format!("/api/v1{path}"));
            if let Some(token) = token {
                request = request.header("Authorization", format!("Bearer {token}").into_bytes());
            }
            Answer::of(&what, request.json(&json!({}))).await.is_refused(401, "unauthenticated");
        }
    }
    for scheme in ["Basic dTpw", "Bearer", &ada.token] {
        let request = ada.world.request(Method::GET, "/api/v1/users/me").header("Authorization", scheme);
        Answer::of(scheme, request).await.is_refused(401, "unauthenticated");
    }
    // Nothing of it did anything.
    assert_eq!(number(&ada.sees(id).await, "member_count"), 2);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused_in_the_same_form() {
    let ada = World::shared().person("ada").await;
    for path in ["/nothing", "/users/me/nothing", "/conversations/1/nothing", "/", ""] {
        ada.gets(path).await.is_refused(404, "not_found");
    }
    let request = ada.world.request(Method::GET, "/api/v2/users/me");
    Answer::of("another version", request).await.is_refused(404, "not_found");
    for (method, path) in [
        (Method::DELETE, "/users"),
        (Method::PUT, "/sessions"),
        (Method::POST, "/users/me"),
        (Method::PATCH, "/contacts"),
        (Method::PUT, "/conversations/1/messages"),
    ] {
        let answer = ada.world.asks(method.clone(), path, Some(&ada.token), Some(json!({}))).await;
        assert!(matches!(answer.status, 404 | 405), "{method} {path}: {answer:?}");
        assert!(answer.body["error"]["code"].is_string(), "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/api/v1/conversations/{id}/messages");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"text\"",
        "not json",
        "{\"client_id\": \"k\", \"text\": \"x\"} and more",
        "{\"client_id\": \"k\", \"text\": 7}",
        "{\"client_id\": \"k\", \"text\": [\"x\"]}",
        "{\"client_id\": \"k\", \"text\": \"x\", \"mentions\": 7}",
        "{\"client_id\": \"k\", \"text\": \"x\", \"reply_to_seq\": -1}",
        "{\"client_id\": \"k\", \"text\": \"x\", \"reply_to_seq\": 1e99}",
        "{\"client_id\": \"k\", \"text\": \"x\", \"mentions\": [\"me\"]}",
        "{\"client_id\": \"k\", \"text\": \"x\", \"kind\": \"telepathy\"}",
        "{\"client_id\": \"k\", \"text\": \"\\ud800\"}",
    ] {
        let request = ada.world.request(Method::POST, &path).bearer_auth(&ada.token).body(body);
        Answer::of(body, request.header("Content-Type", "application/json"))
            .await
            .is_refused(400, "invalid_argument");
    }
    let request =
        ada.world.request(Method::POST, &path).bearer_auth(&ada.token).body(&b"{\"text\": \"\xff\"}"[..]);
    Answer::of("not UTF-8", request).await.is_refused(400, "invalid_argument");
    // Deep nesting is no way to the stack's end.
    let deep = "[".repeat(100_000);
    let request =
        ada.world.request(Method::POST, &path).bearer_auth(&ada.token).body(format!("{{\"x\": {deep}"));
    Answer::of("deep", request).await.is_refused(400, "invalid_argument");
    assert!(bob.reads_texts(id).await.is_empty(), "nothing was stored");
}

#[tokio::test]
async fn what_json_allows_is_taken() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/conversations/{id}/messages");
    for body in [
        json!({"client_id": "1", "text": "x", "mentions": [bob.id.to_string()], "reply_to_seq": "0"}),
        json!({"client_id": "2", "text": "x", "kind": null, "attachments": null, "mentions": null}),
        json!({"client_id": "3", "text": "x", "flavour": {"sweet": [1, 2, 3]}}),
        json!({"client_id": "4", "text": "x", "conversation_id": id.to_string(), "to_user_id": 0}),
    ] {
        ada.posts(&path, body).await.is(201);
    }
    // A Content-Type of one's own is nobody's business.
    let request = ada
        .world
        .request(Method::POST, &format!("/api/v1{path}"))
        .bearer_auth(&ada.token)
        .body(r#"{"client_id": "5", "text": "x"}"#);
    Answer::of("without Content-Type", request).await.is(201);
}

#[tokio::test]
async fn messages_that_can_not_be_are_refused_by_field() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let here = format!("/conversations/{id}/messages");
    let good = json!({"client_id": "k", "text": "x"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, field) in [
        (with("text", json!("")), "text"),
        (with("text", json!("x".repeat(64 * 1024 + 1))), "text"),
        (with("client_id", json!("")), "client_id"),
        (with("client_id", json!("x".repeat(65))), "client_id"),
        (with("client_id", json!("system-created")), "client_id"),
        (with("client_id", json!(["x"])), "client_id"),
        (with("reply_to_seq", json!("many")), "reply_to_seq"),
        (with("attachments", json!([{"size": -1}])), "size"),
        (with("kind", json!("bogus")), "kind"),
        (with("kind", json!([])), "kind"),
        (json!({"text": "x"}), "client_id"),
        (with("kind", json!("system")), "kind"),
    ] {
        ada.posts(&here, body).await.is_refused(400, "invalid_argument").naming(field);
    }
    ada.posts("/conversations/4000000000/messages", good.clone()).await.is_refused(404, "not_found");
    ada.posts("/users/4000000000/messages", good.clone()).await.is_refused(404, "not_found");
    ada.posts(&format!("/users/{}/messages", ada.id), good.clone()).await.is_refused(400, "invalid_argument");
    assert!(items(&ada.gets(&here).await.is(200)).is_empty(), "nothing was stored");
}

#[tokio::test]
async fn ids_in_paths_are_whole_numbers() {
    let ada = World::shared().person("ada").await;
    for id in ["x", "-1", "1.5", "+1", "0x1", "1e3", "99999999999999999999999999", "%20", "1%00"] {
        for path in
            [format!("/users/{id}"), format!("/conversations/{id}"), format!("/conversations/{id}/messages")]
        {
            let answer = ada.gets(&path).await;
            match answer.status {
                404 => answer.is_refused(404, "not_found"),
                _ => answer.is_refused(400, "invalid_argument"),
            };
        }
    }
    for id in ["0", "9007199254740993", "18446744073709551615"] {
        ada.gets(&format!("/users/{id}")).await.is_refused(404, "not_found");
        let answer = ada.gets(&format!("/conversations/{id}")).await;
        answer.is_refused(404, "not_found");
    }
    for query in ["limit=-1", "limit=x", "limit=99999999999999999999"] {
        ada.gets(&format!("/conversations?{query}"))
            .await
            .is_refused(400, "invalid_argument")
            .naming("limit");
    }
    // Too high a limit is cut, or refused; never served.
    let answer = ada.gets("/conversations?limit=1000000").await;
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_and_costs_no_memory() {
    let world = World::with(&[("gateway.body_bytes_max", "65536"), ("gateway.text_bytes_max", "32768")]);
    let ada = world.person("ada").await;
    let id = ada.founds_a_group("club", &[]).await;
    // What a young node needs anyhow it has by now.
    let first = json!({"client_id": "k0", "text": "x".repeat(20_000)});
    ada.posts(&format!("/conversations/{id}/messages"), first).await.is(201);
    let before = world.node.resident_kib();
    let text = "x".repeat(32 * 1024 * 1024);
    for path in [format!("/conversations/{id}/messages"), "/users".to_owned(), "/sessions".to_owned()] {
        let request = ada
            .world
            .request(Method::POST, &format!("/api/v1{path}"))
            .bearer_auth(&ada.token)
            .json(&json!({"client_id": "k", "text": text}));
        // The server may answer, or hang up on one who does not stop talking.
        if let Ok(response) = request.send().await {
            assert!(matches!(response.status().as_u16(), 400 | 413), "{path}: {}", response.status());
        }
    }
    let grown = world.node.resident_kib().saturating_sub(before);
    assert!(grown < 28 * 1024, "{grown} KiB more than before, as if one of the bodies had been kept");
    let small = json!({"client_id": "k", "text": "x".repeat(20_000)});
    ada.posts(&format!("/conversations/{id}/messages"), small).await.is(201);
    let large = json!({"client_id": "k2", "text": "x".repeat(70_000)});
    let answer = ada.posts(&format!("/conversations/{id}/messages"), large).await;
    assert_eq!(answer.body["error"]["code"], "invalid_argument", "{answer:?}");
    assert!(matches!(answer.status, 400 | 413), "{answer:?}");
}

#[tokio::test]
async fn malformed_protobuf_is_answered_under_its_id() {
    let ada = World::shared().person("ada").await;
    let mut stream = ada.world.dials("tcp").await;
    let hello = v1::ClientFrame {
        id: 1,
        request: Some(v1::client_frame::Request::Hello(v1::Hello { token: ada.token.clone() })),
    };
    writes_frame(&mut stream, &rookery::protocol::codec::encode(&hello, Format::Proto)).await;
    reads_frame(&mut stream).await.expect("welcome");
    for (bad, reply_to) in [
        // id 7, then field 4 (send) of two bytes that are no message.
        (&[0x08, 7, 0x22, 2, 0xff, 0xff][..], 7),
        // id 9 and a text that is not UTF-8.
        (&[0x08, 9, 0x22, 4, 0x2a, 2, 0xff, 0xfe], 9),
        // id 8, then field 4 announced longer than the frame: no frame at all, so nothing in it is believed.
        (&[0x08, 8, 0x22, 100, 1], 0),
        (&[0xff, 0xff, 0xff], 0),
    ] {
        writes_frame(&mut stream, bad).await;
        let answer = reads_frame(&mut stream).await.expect("an answer");
        let answer = decode_server(&answer, Format::Proto).expect("a frame");
        let Some(Body::Error(error)) = answer.body else { panic!("{answer:?}") };
        assert_eq!((answer.reply_to, error.code()), (reply_to, ErrorCode::InvalidArgument), "{bad:?}");
        assert!(!error.message.is_empty());
    }
    // A frame of a newer client, with fields and requests of which nobody knows: refused, not fatal.
    writes_frame(&mut stream, &[0x08, 5, 0xfa, 0x7f, 1, 0]).await;
    let answer =
        decode_server(&reads_frame(&mut stream).await.expect("an answer"), Format::Proto).expect("a frame");
    assert_eq!(answer.reply_to, 5);
    writes_frame(&mut stream, &[0x08, 6, 0x7a, 0, 0xfa, 0x7f, 1, 0]).await;
    assert_eq!(reads_frame(&mut stream).await.expect("pong"), [0x08, 6, 0x42, 0]);
    // An empty frame is a frame without request and id: no answer, and nothing breaks.
    writes_frame(&mut stream, &[]).await;
    writes_frame(&mut stream, &[0x08, 6, 0x7a, 0]).await;
    assert_eq!(reads_frame(&mut stream).await.expect("pong"), [0x08, 6, 0x42, 0]);
}
