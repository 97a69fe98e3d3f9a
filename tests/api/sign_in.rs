//! The beginning of a connection: hello, login, the token in the upgrade request, and how much patience there is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rookery::client::{ClientError, Transport};
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::{Hello, Ping};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::live::{Live, a_text_to};
use crate::raw::{Upgrade, reads_frame};
use crate::world::{PASSWORD, TRANSPORTS, World, items, number, within};

#[tokio::test]
async fn hello_is_welcomed_with_all_that_a_client_needs() {
    for transport in TRANSPORTS {
        let ada = World::shared().person("ada").await;
        let welcome = ada.opens(transport).await.welcome;
        assert_eq!((welcome.user_id, welcome.device_id), (ada.id, ada.device_id), "{transport:?}");
        assert!(welcome.session_id > 0 && welcome.session_id < 1 << 53, "{welcome:?}");
        assert_eq!(welcome.node, ada.world.node.address("name"));
        assert_eq!((welcome.heartbeat_ms, welcome.max_frame_bytes), (30_000, 1024 * 1024));
        assert_eq!((welcome.token.as_str(), welcome.version.is_empty()), ("", false));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        assert!(welcome.server_time_ms.abs_diff(now) < 60_000, "{welcome:?}");
    }
}

#[tokio::test]
async fn login_makes_a_new_device_whose_token_works_everywhere_at_once() {
    for transport in TRANSPORTS {
        let ada = World::shared().person("ada").await;
        let (connection, events) = ada.world.connects(transport).await;
        let welcome = connection.login(&ada.name, PASSWORD, "a tablet").await.expect("the password is right");
        assert_eq!(welcome.user_id, ada.id);
        assert_ne!(welcome.device_id, ada.device_id);
        let elsewhere = crate::world::Person {
            token: welcome.token.clone(),
            device_id: welcome.device_id,
            ..ada.clone()
        };
        let devices = elsewhere.gets("/sessions").await.is(200);
        let named: Vec<_> =
            items(&devices).iter().filter(|device| device["device_name"] == "a tablet").collect();
        assert_eq!(named.len(), 1, "{devices}");
        assert_eq!(number(named[0], "device_id"), welcome.device_id);
        // A name says nothing about who is asked: the same name makes another device.
        let (again, _events) = ada.world.connects(transport).await;
        let second =
            again.login(&ada.name.to_uppercase(), PASSWORD, "a tablet").await.expect("any case will do");
        assert_ne!(second.device_id, welcome.device_id);
        drop(events);
    }
}

#[tokio::test]
async fn hello_may_be_tried_three_times() {
    for transport in TRANSPORTS {
        let ada = World::shared().person("ada").await;
        let (connection, _events) = ada.world.connects(transport).await;
        for bad in ["", "nonsense"] {
            match connection.hello(bad).await {
                Err(ClientError::Refused(error)) => assert_eq!(error.code, ErrorCode::Unauthenticated),
                other => panic!("{transport:?} {bad:?} should be refused: {other:?}"),
            }
        }
        let welcome = connection.hello(&ada.token).await.expect("the third try is good");
        assert_eq!(welcome.user_id, ada.id);

        let (connection, mut events) = ada.world.connects(transport).await;
        for _ in 0..3 {
            // The third refusal may come as an answer or as the close alone.
            assert!(connection.login(&ada.name, "wrong password", "").await.is_err());
        }
        within("the close", async { while events.next().await.is_some() {} }).await;
        let close = within("the close", connection.closed()).await;
        let code = if transport == Transport::Tcp { None } else { Some(4401) };
        assert_eq!(close.code, code, "{transport:?} {close}");
    }
}

#[tokio::test]
async fn anything_but_hello_and_login_is_refused_before_them() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let (connection, _events) = ada.world.connects(transport).await;
        for request in [Request::Ping(Ping {}), Request::Send(a_text_to(&bob, "sneaky"))] {
            match connection.request(request).await {
                Err(ClientError::Refused(error)) => assert_eq!(error.code, ErrorCode::Unauthenticated),
                other => panic!("{transport:?} should be refused: {other:?}"),
            }
        }
        connection.hello(&ada.token).await.expect("the token is good");
        assert!(items(&bob.gets("/conversations").await.is(200)).is_empty(), "nothing was stored");
    }
}

#[tokio::test]
async fn a_second_hello_is_refused_and_closes_nothing() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let live: Live = ada.opens(transport).await;
        live.is_refused(Request::Hello(Hello { token: bob.token.clone() })).await;
        let sent = live.sends(a_text_to(&bob, "still me")).await;
        let heard = bob.gets(&format!("/conversations/{}/messages", sent.conversation_id)).await.is(200);
        assert_eq!(number(&items(&heard)[0], "sender_id"), ada.id, "{transport:?}");
    }
}

#[tokio::test]
async fn a_token_in_the_upgrade_request_is_welcomed_without_asking() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let upgrade = Upgrade { bearer: Some(&ada.token), ..Upgrade::default() };
    let Ok(mut socket) = ada.world.tries_to_upgrade(upgrade).await else { panic!("the token is good") };
    let welcome = socket.hears().await;
    assert_eq!(number(&welcome["welcome"], "user_id"), ada.id, "{welcome}");
    assert!(welcome.get("reply_to").is_none_or(|id| id == 0), "nobody asked: {welcome}");
    bob.posts(&format!("/users/{}/messages", ada.id), json!({"client_id": "k", "text": "hi"}))
        .await
        .succeeds();
    assert_eq!(socket.hears_event("message").await["text"], "hi");

    let upgrade = Upgrade { bearer: Some("nonsense"), ..Upgrade::default() };
    let Err(refusal) = ada.world.tries_to_upgrade(upgrade).await else { panic!("a bad token was taken") };
    assert_eq!(refusal.status(), 401);
}

#[tokio::test]
async fn who_does_not_sign_in_in_time_is_closed_with_4401() {
    let world = World::with(&[("gateway.hello_timeout", "600ms")]);
    let ada = world.person("ada").await;
    let began = Instant::now();
    let mut silent = world.upgrades().await;
    let mut silent_tcp = world.dials("tcp").await;
    let mut chatty = world.upgrades().await;
    // Somebody who is signed in stays.
    let mut patient = ada.opens_raw().await;
    chatty.says(json!({"id": 1, "ping": {}})).await;
    assert_eq!(chatty.hears().await["error"]["code"], "unauthenticated");
    assert_eq!(silent.is_closed().await, Some(4401));
    assert_eq!(chatty.is_closed().await, Some(4401), "frames that are not hello buy no time");
    within("the end", async { while reads_frame(&mut silent_tcp).await.is_some() {} }).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(10), "{took:?}");
    assert!(patient.asks(json!({"id": 2, "ping": {}})).await["pong"].is_object());
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_two_and_a_half_heartbeats_and_any_frame_is_a_sign_of_life() {
    let world = World::with(&[("gateway.heartbeat", "400ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let mut silent_tcp = {
        let (connection, events) = (ada.opens(Transport::Tcp).await.connection, ());
        drop((connection, events));
        // A raw socket that says hello and then nothing, so that no library answers for it.
        let mut stream = world.dials("tcp").await;
        let token = ada.token.as_bytes();
        let length = |bytes: usize| u8::try_from(bytes).expect("tokens are short");
        let hello = [&[0x08, 1, 0x12, length(token.len() + 2), 0x0a, length(token.len())], token].concat();
        crate::raw::writes_frame(&mut stream, &hello).await;
        reads_frame(&mut stream).await.expect("welcome");
        stream
    };
    let mut alive = bob.opens_raw().await;
    let mut pause = tokio::time::interval(Duration::from_millis(200));
    let began = Instant::now();
    // 2.5 heartbeats are 1 s; the one that speaks lives on well beyond.
    let ended = async { while reads_frame(&mut silent_tcp).await.is_some() {} };
    tokio::pin!(ended);
    let mut silent_ended_after = None;
    while silent_ended_after.is_none() || began.elapsed() < Duration::from_millis(2500) {
        assert!(began.elapsed() < Duration::from_secs(15), "the silent one still lives");
        tokio::select! {
            () = &mut ended, if silent_ended_after.is_none() => silent_ended_after = Some(began.elapsed()),
            _ = pause.tick() => alive.says(json!({"ping": {}})).await,
        }
    }
    let after = silent_ended_after.expect("the loop waited for it");
    assert!(after >= Duration::from_millis(900), "{after:?} is before 2.5 heartbeats");
    assert!(alive.asks(json!({"id": 2, "ping": {}})).await["pong"].is_object());
}

/// A handshake as bytes, with a header of one's choice.
fn handshake(header: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: rookery\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n\r\n"
    )
}

/// A text frame of a client, with a mask of zeros.
fn masked(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | 126];
    bytes.extend_from_slice(&u16::try_from(text.len()).expect("a short text").to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// All that comes until `last` is in it, or the connection ends.
async fn hears_until(socket: &mut TcpStream, last: &str) -> String {
    let mut bytes = Vec::new();
    within(last, async {
        while !String::from_utf8_lossy(&bytes).contains(last) {
            if socket.read_buf(&mut bytes).await.expect("the connection stands") == 0 {
                break;
            }
        }
    })
    .await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let mut socket = world.dials("http").await;
    // A request, the handshake and two frames in one packet, the second cut.
    let mut bytes = b"GET /healthz HTTP/1.1\r\nHost: rookery\r\n\r\n".to_vec();
    bytes.extend(handshake("Upgrade: websocket").into_bytes());
    bytes.extend(masked(&format!(
        r#"{{"id": 1, "hello": {{"token": "{}"}}}}{}"#,
        ada.token,
        " ".repeat(200)
    )));
    let ping = masked(&format!(r#"{{"id": 2, "ping": {{}}}}{}"#, " ".repeat(200)));
    bytes.extend_from_slice(&ping[..50]);
    socket.write_all(&bytes).await.expect("it is sent");
    let heard = hears_until(&mut socket, "welcome").await;
    let order = ["HTTP/1.1 200", r#""ok""#, "HTTP/1.1 101", "welcome"].map(|part| heard.find(part));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{heard}");
    socket.write_all(&ping[50..]).await.expect("it is sent");
    hears_until(&mut socket, "pong").await;
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_and_the_node_lives() {
    let world = World::shared();
    let odd = ["Upgrade: websocket\r\nContent-Length: 2", "Upgrade: h2c, websocket", "Upgrade: h2c"];
    for header in odd {
        let mut socket = world.dials("http").await;
        socket.write_all(handshake(header).as_bytes()).await.expect("it is sent");
        let heard = hears_until(&mut socket, "invalid_argument").await;
        assert!(heard.starts_with("HTTP/1.1 400"), "{header}: {heard}");
    }
    let mut socket = world.dials("http").await;
    let elsewhere = handshake("Upgrade: websocket").replace("/ws", "/api/v1/users/me");
    socket.write_all(elsewhere.as_bytes()).await.expect("it is sent");
    let heard = hears_until(&mut socket, "unauthenticated").await;
    assert!(heard.starts_with("HTTP/1.1 401") && heard.contains("connection: close"), "{heard}");
    // Nothing behind it is a request: the connection ends.
    hears_until(&mut socket, "its end").await;
    world.is_alive().await;
}
