//! The end of connections: by the client, by a stopping node, and where there are too many.

use std::sync::Arc;

use reqwest::Method;
use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use crate::live::a_text;
use crate::threads::SHAPES;
use crate::world::{Answer, World, eventually, within};

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered_and_its_session_ends() {
    let ada = World::shared().person("ada").await;
    let mut socket = ada.opens_raw().await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("good night") };
    socket.says_message(Message::Close(Some(goodbye))).await;
    assert_eq!(socket.is_closed().await, Some(1000));
}

#[tokio::test]
async fn a_plain_request_for_the_socket_is_refused_as_a_request() {
    let world = World::shared();
    let answer = Answer::of("/ws", world.request(Method::GET, "/ws")).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(answer.body["error"]["code"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn a_stopping_node_answers_what_it_has_taken_sends_its_clients_away_and_ends_well() {
    futures_util::future::join_all(SHAPES.map(stops_well)).await;
}

async fn stops_well(actor_threads: &str) {
    let world = World::with(&[("node.actor_threads", actor_threads)]);
    let ada = world.person("ada").await;
    let id = ada.founds_a_group("club", &[]).await;
    let mut socket = ada.opens_raw().await;
    let mut live = ada.opens(Transport::Tcp).await;
    let mut line = world.registers("ann").await;
    let mut replies = Vec::new();
    for at in 0..200 {
        let send = Request::Send(a_text(id, &format!("{at}")));
        replies.push(live.connection.post(send).await.expect("the connection is open"));
    }
    // The first answer shows that all of them are on their way in.
    let mut replies = replies.into_iter();
    within("sent", replies.next().expect("200 were sent")).await.expect("stored");
    let node = Arc::clone(&world.node);
    let drains = tokio::task::spawn_blocking(move || node.drain());
    let away = socket.hears_event("go_away").await;
    assert!(away["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{away}");
    assert_eq!(away["address"], "", "there is no other node: {away}");
    live.hears("go_away", |event| match event {
        Body::GoAway(away) => Some(away),
        _ => None,
    })
    .await;
    for reply in replies {
        within("an answer", reply).await.expect("what was taken is finished");
    }
    assert!(matches!(socket.is_closed().await, Some(1001)));
    live.sees_the_close().await;
    while let Some(said) = line.reads_or_ends().await {
        assert!(said.starts_with("-ERR "), "{said}");
    }
    assert!(within("the node's end", drains).await.expect("waiting does not panic"), "it exits with 0");
}

#[tokio::test]
async fn one_socket_too_many_is_refused_and_harms_none_of_the_others() {
    let world = World::with(&[("gateway.connections_max", "6")]);
    let ada = world.person("ada").await;
    let id = ada.founds_a_group("club", &[]).await;
    let live = ada.opens(Transport::Tcp).await;
    let mut line = world.registers("ann").await;
    // One HTTP connection is kept open by the client; these fill the rest and go beyond.
    let mut more = Vec::new();
    for _ in 0..6 {
        more.push(world.dials("tcp").await);
    }
    // The last of them was one too many: it is closed without a word, as TCP frames know none before hello.
    let last = more.last_mut().expect("six were opened");
    assert_eq!(crate::raw::reads_frame(last).await, None);
    let mut refused = world.dials("line").await;
    let mut said = String::new();
    within("a refusal", tokio::io::AsyncReadExt::read_to_string(&mut refused, &mut said))
        .await
        .expect("text");
    assert!(said.starts_with("-ERR ") && said.contains("too many"), "{said}");
    live.says(id, "still here").await;
    assert!(line.pulls().await.is_empty());
    // Operators get in all the same, and who asks whether the node lives is not told that it doesn't.
    let fresh = reqwest::Client::new();
    for (kind, path, status) in [
        ("admin", "/healthz", 200),
        ("http", "/healthz", 200),
        ("http", "/readyz", 200),
        ("http", "/api/docs", 503),
    ] {
        let answer = fresh.get(format!("http://{}{path}", world.node.address(kind))).send();
        let answer = within("an answer", answer).await.expect("the node answers");
        assert_eq!(answer.status().as_u16(), status, "{kind} {path}");
    }
    drop((more, fresh));
    eventually("room again", async || {
        let mut socket = world.dials("line").await;
        let mut greeting = [0; 4];
        let read =
            within("a greeting", tokio::io::AsyncReadExt::read_exact(&mut socket, &mut greeting)).await;
        (read.is_ok() && &greeting[..3] == b"+OK").then_some(())
    })
    .await;
}
