//! The JSON framing to the letter, and what a connection does about frames that are none.

use futures_util::SinkExt as _;
use rookery::client::Transport;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::raw::{Came, Upgrade, reads_frame, writes_frame};
use crate::world::{World, number, within};

/// `{"id": 0, "ping": {}}` and the like have no answer; this has.
fn ping(id: u64) -> Value {
    json!({"id": id, "ping": {}})
}

/// Every number of 64 bits is a number, and nothing is null.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => number.is_u64(),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(fields) => fields.values().all(is_plain),
        Value::Bool(_) | Value::String(_) => true,
    }
}

#[tokio::test]
async fn answers_and_events_have_the_names_and_forms_of_the_protocol() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (mut ada_socket, mut bob_socket) = (ada.opens_raw().await, bob.opens_raw().await);
    let send = json!({"id": 7, "send": {"to_user_id": bob.id, "client_id": "k1", "text": "hello"}});
    let answer = ada_socket.asks(send).await;
    assert!(is_plain(&answer), "{answer}");
    let sent = &answer["sent"];
    assert_eq!((&sent["client_id"], &sent["seq"]), (&json!("k1"), &json!(1)), "{answer}");
    assert!(number(sent, "created_at_ms") > 1_700_000_000_000, "{answer}");
    assert_ne!(sent["duplicate"], true, "{answer}");

    let message = bob_socket.hears_event("message").await;
    assert!(is_plain(&message), "{message}");
    assert_eq!(message["kind"], "text", "{message}");
    assert_eq!(number(&message, "sender_id"), ada.id);
    assert_eq!(number(&message, "conversation_id"), number(sent, "conversation_id"));

    let page = bob_socket.asks(json!({"id": 8, "sync": {}})).await;
    assert!(is_plain(&page), "{page}");
    let listed = &page["sync_page"]["conversations"][0];
    assert_eq!((&listed["kind"], number(listed, "unread")), (&json!("direct"), 1), "{page}");
    assert_eq!(listed["last_message"]["text"], "hello", "{page}");
    assert!(page["sync_page"]["sync_token"].as_str().is_some_and(|token| !token.is_empty()), "{page}");

    let error =
        ada_socket.asks(json!({"id": 9, "send": {"conversation_id": number(sent, "conversation_id")}})).await;
    assert!(is_plain(&error), "{error}");
    assert_eq!(error["error"]["code"], "invalid_argument", "{error}");
    assert!(error["error"]["field"].is_string() && error["error"]["message"].is_string(), "{error}");
    assert_eq!(ada_socket.asks(ping(10)).await, json!({"reply_to": 10, "pong": {}}));
}

#[tokio::test]
async fn what_can_not_be_taken_is_named_with_what_can() {
    let mut socket = World::shared().person("ada").await.opens_raw().await;
    for (request, field, hint) in [
        (json!({"set_presence": {"status": "bogus"}}), "status", "away"),
        (json!({"set_presence": {"status": 7.5}}), "status", "away"),
        (json!({"send": {"conversation_id": "x"}}), "conversation_id", "whole number"),
        (json!({"send": {"attachments": [{"size": []}]}}), "size", "whole number"),
        (json!({"send": 7}), "send", "expected"),
        (json!({"read": {}}), "conversation_id", "conversation_id"),
        (json!({"history": {"conversation_id": 0}}), "conversation_id", "conversation_id"),
    ] {
        let mut frame = request.clone();
        frame["id"] = json!(5);
        let answer = socket.asks(frame).await;
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!("invalid_argument"), &json!(field)),
            "{request}: {answer}"
        );
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains(hint)),
            "{request}: {answer}"
        );
    }
}

#[tokio::test]
async fn numbers_may_be_strings_null_is_the_default_and_unknown_fields_are_ignored() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let mut socket = ada.opens_raw().await;
    let frame = json!({
        "id": "41", "shoe_size": {"eu": [43]},
        "send": {
            "to_user_id": bob.id.to_string(), "conversation_id": null, "client_id": "k", "text": "hi", "kind": null,
            "attachments": null, "mentions": [bob.id.to_string(), ada.id], "reply_to_seq": "0", "colour": "red",
        },
    });
    let answer = socket.asks(json!({"id": 40, "ping": {"unknown": 1}})).await;
    assert!(answer["pong"].is_object(), "{answer}");
    socket.says(frame).await;
    let answer = socket.hears_answer(41).await;
    let id = number(&answer["sent"], "conversation_id");
    let history =
        socket.asks(json!({"id": 42, "history": {"conversation_id": id.to_string(), "limit": "5"}})).await;
    let message = &history["history_page"]["messages"][0];
    assert_eq!(message["mentions"], json!([bob.id, ada.id]), "{history}");
    // A null request is an absent one.
    let answer = socket.asks(json!({"id": 43, "hello": null, "ping": {}})).await;
    assert!(answer["pong"].is_object(), "{answer}");
}

#[tokio::test]
async fn a_request_without_id_or_with_id_0_has_no_answer_not_even_an_error() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (mut socket, mut bob_socket) = (ada.opens_raw().await, bob.opens_raw().await);
    for frame in [
        json!({"ping": {}}),
        json!({"id": 0, "ping": {}}),
        json!({"id": null, "ping": {}}),
        json!({"id": 0, "send": {"text": "to nobody"}}),
        json!({"read": {"conversation_id": 999_999_999, "seq": 1}}),
        json!({"id": 0, "sync": {}}),
        json!({"id": 0, "send": {"to_user_id": bob.id, "client_id": "k", "text": "it still arrives"}}),
    ] {
        socket.says(frame).await;
    }
    assert_eq!(bob_socket.hears_event("message").await["text"], "it still arrives");
    socket.says(ping(5)).await;
    // Events may come; an answer or an error must not, which `hears_answer` checks by its reply_to.
    loop {
        let frame = socket.hears().await;
        assert!(frame.get("error").is_none(), "an error nobody asked for: {frame}");
        if frame["reply_to"] == 5 {
            break;
        }
        assert!(frame.get("conversation").is_some(), "nothing but news may come: {frame}");
    }
}

#[tokio::test]
async fn a_frame_may_come_in_fragments() {
    let ada = World::shared().person("ada").await;
    let mut socket = ada.opens_raw().await;
    let text = json!({"id": 3, "ping": {"note": "Grüße"}}).to_string();
    let parts: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
    for (at, part) in parts.iter().enumerate() {
        let code = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(Bytes::copy_from_slice(part), OpCode::Data(code), at + 1 == parts.len());
        socket.says_message(Message::Frame(frame)).await;
        if at == 1 {
            // Control frames may stand between fragments.
            socket.says_message(Message::Ping(Bytes::from_static(b"there?"))).await;
        }
    }
    let mut pong_came = false;
    loop {
        match socket.next().await {
            Came::Pong => pong_came = true,
            Came::Text(text) if text.contains("\"pong\"") => break,
            other => panic!("neither pong: {other:?}"),
        }
    }
    assert!(pong_came, "a WebSocket ping is answered");
}

#[tokio::test]
async fn the_other_kind_of_message_is_a_bad_frame_and_closes_nothing_by_itself() {
    let ada = World::shared().person("ada").await;
    let mut json_socket = ada.opens_raw().await;
    json_socket.says_message(Message::Binary(Bytes::from_static(b"\x08\x07\x7a\x00"))).await;
    let answer = json_socket.hears().await;
    assert_eq!(answer["error"]["code"], "invalid_argument", "{answer}");
    assert!(json_socket.asks(ping(1)).await["pong"].is_object());

    let upgrade = Upgrade { subprotocols: Some("rookery.v1+proto"), bearer: Some(&ada.token) };
    let Ok(mut proto_socket) = ada.world.tries_to_upgrade(upgrade).await else { panic!("refused") };
    assert!(matches!(proto_socket.next().await, Came::Binary(_)), "welcome comes without asking");
    proto_socket.says(ping(1)).await;
    assert!(matches!(proto_socket.next().await, Came::Binary(_)), "an error comes");
    // id 7 and an empty field 15 (ping); reply_to 7 and an empty field 8 (pong).
    proto_socket.says_message(Message::Binary(Bytes::from_static(b"\x08\x07\x7a\x00"))).await;
    let Came::Binary(answer) = proto_socket.next().await else { panic!("a binary answer") };
    assert_eq!(answer, b"\x08\x07\x42\x00");
}

#[tokio::test]
async fn bytes_on_tcp_are_those_of_the_protocol() {
    let ada = World::shared().person("ada").await;
    let mut stream = ada.world.dials("tcp").await;
    // id 1, field 2 (hello) with field 1 (token).
    let token = ada.token.as_bytes();
    let length = |bytes: usize| u8::try_from(bytes).expect("tokens are short");
    assert!(token.len() < 120, "one byte of length is enough below 128");
    let hello = [&[0x08, 1, 0x12, length(token.len() + 2), 0x0a, length(token.len())], token].concat();
    writes_frame(&mut stream, &hello).await;
    let welcome = reads_frame(&mut stream).await.expect("welcome");
    assert_eq!(welcome[..3], [0x08, 1, 0x12], "reply_to 1, field 2 (welcome)");
    // Two frames in one write, and one byte by byte.
    let ping = [0, 0, 0, 4, 0x08, 7, 0x7a, 0];
    stream.write_all(&[ping, ping].concat()).await.expect("the connection is open");
    for byte in ping {
        stream.write_all(&[byte]).await.expect("the connection is open");
        stream.flush().await.expect("the connection is open");
    }
    for _ in 0..3 {
        assert_eq!(reads_frame(&mut stream).await.expect("pong"), [0x08, 7, 0x42, 0]);
    }
}

#[tokio::test]
async fn a_bad_frame_is_answered_under_its_id_and_closes_nothing() {
    let ada = World::shared().person("ada").await;
    let mut socket = ada.opens_raw().await;
    for (bad, reply_to) in [
        (r#"{"id": 11, "send": {"conversation_id": -1, "client_id": "k", "text": "x"}}"#, Some(11)),
        (r#"{"id": 12, "send": {"conversation_id": 1.5, "client_id": "k", "text": "x"}}"#, Some(12)),
        (r#"{"id": 13, "send": {"conversation_id": "seven", "client_id": "k", "text": "x"}}"#, Some(13)),
        (r#"{"id": 14, "send": {"to_user_id": 1, "client_id": 5, "text": {}}}"#, Some(14)),
        (r#"{"id": 15, "send": [1, 2]}"#, Some(15)),
        (
            r#"{"id": 16, "send": {"kind": "telepathy", "to_user_id": 1, "client_id": "k", "text": "x"}}"#,
            Some(16),
        ),
        (r#"{"id": 17, "fly": {}}"#, Some(17)),
        (r#"{"id": 18}"#, Some(18)),
        ("this is no JSON", None),
        ("[]", None),
        ("", None),
    ] {
        socket.says_text(bad).await;
        let answer = socket.hears().await;
        assert_eq!(answer["error"]["code"], "invalid_argument", "{bad}: {answer}");
        assert_eq!(answer["reply_to"].as_u64().filter(|id| *id != 0), reply_to, "{bad}: {answer}");
        assert!(socket.asks(ping(99)).await["pong"].is_object(), "after {bad}");
    }
}

#[tokio::test]
async fn ten_bad_frames_in_a_row_close_and_a_good_one_between_forgives() {
    let ada = World::shared().person("ada").await;
    let mut socket = ada.opens_raw().await;
    for _ in 0..3 {
        for _ in 0..9 {
            socket.says_text("no JSON").await;
            assert!(socket.hears().await["error"].is_object());
        }
        assert!(socket.asks(ping(1)).await["pong"].is_object());
    }
    for _ in 0..10 {
        socket.says_text("no JSON").await;
    }
    assert_eq!(socket.is_closed().await, Some(4400));

    for transport in [Transport::WebSocketProto, Transport::Tcp] {
        let live = ada.opens(transport).await;
        for _ in 0..10 {
            let bad: &[u8] = b"\xff\xff\xff\xff";
            let framed =
                if transport == Transport::Tcp { [&[0, 0, 0, 4], bad].concat() } else { bad.to_vec() };
            drop(live.connection.send_raw(framed).await);
        }
        let close = live.sees_the_close().await;
        let code = if transport == Transport::Tcp { None } else { Some(4400) };
        assert_eq!(close.code, code, "{transport:?} {close}");
    }
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_with_1009_and_one_below_does_not() {
    let ada = World::shared().person("ada").await;
    let mut socket = ada.opens_raw().await;
    let frame_of = |bytes: usize| {
        let mut frame = String::with_capacity(bytes);
        frame.push_str(r#"{"id":2,"ping":{},"x":""#);
        frame.extend(std::iter::repeat_n('x', bytes - frame.len() - 2));
        frame + "\"}"
    };
    socket.says_text(&frame_of(1024 * 1024)).await;
    assert!(socket.hears_answer(2).await["pong"].is_object(), "1 MiB is within the limit");
    drop(socket.socket.send(Message::text(frame_of(1024 * 1024 + 1))).await);
    assert_eq!(socket.is_closed().await, Some(1009));

    // The same in fragments, none of which is too large.
    let mut socket = ada.opens_raw().await;
    for at in 0..20 {
        let code = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(Bytes::from(vec![b' '; 100_000]), OpCode::Data(code), at == 19);
        if socket.socket.send(Message::Frame(frame)).await.is_err() {
            break;
        }
    }
    assert_eq!(socket.is_closed().await, Some(1009));

    let mut stream = ada.world.dials("tcp").await;
    stream.write_all(&u32::MAX.to_be_bytes()).await.expect("the connection is open");
    // An error may be said before the end, but the end must come.
    within("the end", async { while reads_frame(&mut stream).await.is_some() {} }).await;
    ada.world.is_alive().await;
}

#[tokio::test]
async fn the_subprotocol_is_the_first_known_one_of_the_clients_and_json_when_it_names_none() {
    let ada = World::shared().person("ada").await;
    for (offered, chosen, is_json) in [
        (None, None, true),
        (Some("rookery.v1+json"), Some("rookery.v1+json"), true),
        (Some("rookery.v1+proto"), Some("rookery.v1+proto"), false),
        (Some("soap, rookery.v1+proto"), Some("rookery.v1+proto"), false),
        (Some("rookery.v1+json, rookery.v1+proto"), Some("rookery.v1+json"), true),
        (Some("rookery.v1+proto,rookery.v1+json"), Some("rookery.v1+proto"), false),
    ] {
        let upgrade = Upgrade { subprotocols: offered, bearer: Some(&ada.token) };
        let Ok(mut socket) = ada.world.tries_to_upgrade(upgrade).await else {
            panic!("{offered:?} was refused")
        };
        assert_eq!(socket.subprotocol.as_deref(), chosen, "{offered:?}");
        let welcome = socket.next().await;
        assert_eq!(matches!(welcome, Came::Text(_)), is_json, "{offered:?}: {welcome:?}");
    }
}
