//! A client that sends far ahead of its answers: what it sends waits in its socket, not in the node's memory.

use reqwest::Method;
use rookery::protocol::codec::{Format, encode};
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::{ClientFrame, Hello, SyncRequest};
use serde_json::json;
use tokio::sync::oneshot;

use crate::raw::{reads_frame, writes_frame};
use crate::world::{Answer, World, items, number};

/// Requests sent at once, each of which reads the database.
const REQUESTS: u64 = 6000;
/// `session.inbox_frames` here.
const INBOX: u64 = 16;
/// Small frames that one read of a WebSocket brings, and that come whatever is decided meanwhile.
const FRAMES_A_READ: u64 = 1200;

/// The deepest mailbox of a session until told to stop.
async fn watches_depth(world: World, mut stop: oneshot::Receiver<()>) -> u64 {
    let mut most = 0;
    let path = "/admin/v1/actors?kind=session";
    while stop.try_recv().is_err() {
        let list = Answer::of(path, world.operator_request(Method::GET, path)).await.is(200);
        most = items(&list).iter().map(|row| number(row, "mailbox_depth")).fold(most, u64::max);
    }
    most
}

fn world() -> World {
    World::with(&[("session.inbox_frames", "16")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_sent_far_ahead_wait_in_the_socket_of_a_websocket() {
    let world = world();
    let mut socket = world.person("ada").await.opens_raw().await;
    let (stop, stopped) = oneshot::channel();
    let depth = tokio::spawn(watches_depth(world.clone(), stopped));
    for id in 1..=REQUESTS {
        socket.says(json!({"id": id, "sync": {}})).await;
    }
    for id in 1..=REQUESTS {
        assert!(socket.hears_answer(id).await.get("sync_page").is_some());
    }
    stop.send(()).expect("the watcher watches");
    let most = depth.await.expect("the watcher ended well");
    assert!(most <= INBOX + FRAMES_A_READ, "{most} frames waited in the node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_sent_far_ahead_wait_in_the_socket_of_a_tcp_connection() {
    let world = world();
    let ada = world.person("ada").await;
    let mut stream = world.dials("tcp").await;
    let frame = |id, request| encode(&ClientFrame { id, request: Some(request) }, Format::Proto);
    writes_frame(&mut stream, &frame(1, Request::Hello(Hello { token: ada.token.clone() }))).await;
    reads_frame(&mut stream).await.expect("welcome");
    let (stop, stopped) = oneshot::channel();
    let depth = tokio::spawn(watches_depth(world.clone(), stopped));
    for id in 1..=REQUESTS {
        writes_frame(&mut stream, &frame(id, Request::Sync(SyncRequest::default()))).await;
    }
    for id in 1..=REQUESTS {
        reads_frame(&mut stream).await.unwrap_or_else(|| panic!("an answer to {id}"));
    }
    stop.send(()).expect("the watcher watches");
    let most = depth.await.expect("the watcher ended well");
    assert!(most <= INBOX + 1, "{most} frames waited in the node");
}
