//! A client that stops reading costs the node little and itself nothing: it is closed, and sync brings what it missed.

use futures_util::StreamExt as _;
use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::{Cursor, SyncRequest};
use tokio::io::AsyncReadExt as _;

use crate::live::a_text;
use crate::world::{Answer, World, eventually, within};

/// Many times what the kernel and an outbox hold, together with the size.
const MESSAGES: u64 = 2500;
/// Sent at once; what waits of them for one who reads stays far below an outbox's bounds.
const BURST: u64 = 50;
/// Bytes of each text.
const SIZE: usize = 24 * 1024;
/// Most that the node may grow by: the outboxes of the slow, and what a debug build and its allocator take.
const GROWTH_KIB: u64 = 48 * 1024;

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_catches_up_by_sync() {
    let world = World::with(&[]);
    let ada = world.person("ada").await;
    let (lazy, lazier, laziest) =
        (world.person("lazy").await, world.person("lazy").await, world.registers("lazy").await);
    let laziest = world.signs_in(&laziest.name).await;
    let busy = world.person("busy").await;
    let id = ada.founds_a_group("club", &[&lazy, &lazier, &laziest, &busy]).await;
    // Nobody reads these sockets from here on.
    let mut websocket = lazy.opens_raw().await;
    let mut tcp = world.dials("tcp").await;
    let token = lazier.token.as_bytes();
    let length = |bytes: usize| u8::try_from(bytes).expect("tokens are short");
    let hello = [&[0x08, 1, 0x12, length(token.len() + 2), 0x0a, length(token.len())], token].concat();
    crate::raw::writes_frame(&mut tcp, &hello).await;
    let lines = world.logs_in(&laziest.name).await;
    // This one reads, and must not suffer from the others.
    let mut reader = busy.opens(Transport::WebSocketProto).await;
    let before = world.node.resident_kib();

    let speaker = ada.opens(Transport::Tcp).await;
    let text = "x".repeat(SIZE);
    let (mut most, mut last) = (0, 0);
    for _ in 0..MESSAGES / BURST {
        let mut replies = Vec::new();
        for _ in 0..BURST {
            let send = Request::Send(a_text(id, &text));
            replies.push(speaker.connection.post(send).await.expect("the connection is open"));
        }
        for reply in replies {
            within("sent", reply).await.expect("stored, whoever reads or does not");
        }
        for _ in 0..BURST {
            let seq = reader.hears_a_text().await.seq;
            assert!(last == 0 || seq == last + 1, "{seq} after {last}");
            last = seq;
        }
        most = most.max(world.node.resident_kib());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more than before");

    // The node has let go of them though they never read a byte.
    eventually("the end of the slow sessions", async || {
        let path = "/admin/v1/actors?kind=session";
        let answer = Answer::of(path, world.operator_request(reqwest::Method::GET, path)).await.is(200);
        (crate::world::items(&answer).len() == 2).then_some(())
    })
    .await;
    // What they find when they look again: the beginning, then the end of the connection.
    let mut got = 0;
    let code = within("the end", async {
        loop {
            match websocket.socket.next().await {
                Some(Ok(tokio_tungstenite::tungstenite::Message::Close(frame))) => {
                    break frame.map(|frame| frame.code.into());
                }
                Some(Ok(_)) => got += 1,
                Some(Err(_)) | None => break None,
            }
        }
    })
    .await;
    assert!(got < MESSAGES, "it can't have had all");
    assert!(matches!(code, None | Some(4429)), "{code:?}");
    let mut chunk = vec![0; 65536];
    within("the end", async { while !matches!(tcp.read(&mut chunk).await, Ok(0) | Err(_)) {} }).await;
    drop(lines);

    // Back again, they miss nothing.
    for (person, transport) in [(&lazy, Transport::WebSocketJson), (&lazier, Transport::Tcp)] {
        let live = person.opens(transport).await;
        let mut at = 0;
        loop {
            let cursors = vec![Cursor { conversation_id: id, seq: at }];
            let page = live.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await;
            for message in &page.messages {
                assert_eq!(message.seq, at + 1);
                at = message.seq;
            }
            if !page.more {
                break;
            }
        }
        assert_eq!(at, last);
    }
}

/// Answers are bounded too: one who asks and asks and never reads is slowed or closed, not served from memory.
#[tokio::test]
async fn a_client_that_asks_and_never_reads_costs_no_memory() {
    let world = World::with(&[]);
    let ada = world.person("ada").await;
    let id = ada.founds_a_group("club", &[]).await;
    let live = ada.opens(Transport::Tcp).await;
    for _ in 0..40 {
        live.says(id, &"x".repeat(20_000)).await;
    }
    let before = world.node.resident_kib();
    let mut greedy = ada.opens_raw().await;
    let ask = serde_json::json!({"id": 7, "history": {"conversation_id": id, "limit": 200}}).to_string();
    let mut most = before;
    for at in 0..3000 {
        let message = tokio_tungstenite::tungstenite::Message::text(ask.clone());
        // Writing stops when the server reads no more, or ends when it has closed.
        let write = futures_util::SinkExt::send(&mut greedy.socket, message);
        match tokio::time::timeout(std::time::Duration::from_secs(3), write).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
        if at % 50 == 0 {
            most = most.max(world.node.resident_kib());
        }
    }
    eventually("an end of the node's growth", async || {
        let now = world.node.resident_kib();
        let still = now <= most;
        most = most.max(now);
        still.then_some(())
    })
    .await;
    let grown = most.saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more than before");
    live.says(id, "others are served").await;
}
