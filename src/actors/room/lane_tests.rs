//! Rooms whose storage is slow or away: what waits for it, for how long, and what does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::testing::{Answers, Node, PATIENCE, eventually, group};
use crate::cluster::ReplyTo;
use crate::protocol::ErrorCode;
use crate::protocol::MessageKind;
use crate::protocol::cluster::Join;
use crate::protocol::cluster::room_request::Command;
use crate::protocol::v1::{Cursor, React, Send};
use crate::storage::memory::MemoryStores;

/// Cursors that can't be stored hold up no send; whoever has read, or asks what was read, waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_send_waits_for_cursors_and_no_read_is_confirmed_before_they_are_stored() {
    let memory = MemoryStores::default();
    let node = Node::start("reader", &memory).await;
    let (rooms, room) = (node.actors.rooms(), group(&memory, 1, vec![2]).await);
    let (sends, reads) = (Answers::default(), Arc::new(Mutex::new(0)));
    sends.post(&node, 1, room, 0);
    sends.all(1).await;
    node.cursor_door.send(false).expect("the store listens");
    // Of two devices that have read as far, neither is told before it is stored.
    for _ in 0..2 {
        let reads = reads.clone();
        let reply = ReplyTo::new(move |answer| {
            assert_eq!(answer, Ok(()));
            *reads.lock() += 1;
        });
        rooms.post_done(2, 0, room, Command::Read(Cursor { conversation_id: room, seq: 1 }), reply);
    }
    let described = tokio::spawn({
        let rooms = rooms.clone();
        async move { rooms.describe(2, room).await }
    });
    for number in 1..50 {
        sends.post(&node, 1, room, number);
        sends.all(number as usize + 1).await;
    }
    let stored = async || memory.stores().conversations.member(room, 2).await.expect("memory answers");
    assert_eq!(stored().await.map(|member| member.read_seq), Some(0));
    assert!((*reads.lock(), described.is_finished()) == (0, false), "nothing is stored yet");
    node.cursor_door.send(true).expect("the store listens");
    eventually("both are told", || *reads.lock() == 2).await;
    assert_eq!(stored().await.map(|member| member.read_seq), Some(1));
    let described = described.await.expect("no panic").expect("a member is shown the conversation");
    assert_eq!(described.read_seq, 1);
    node.cluster.shutdown().await;
}

/// Who repeats himself faster than a room asks storage again doesn't keep it from asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_that_are_repeated_without_a_pause_are_taken_when_storage_is_back() {
    let memory = MemoryStores::default();
    let node = Node::start("reactor", &memory).await;
    let (rooms, room) = (node.actors.rooms(), group(&memory, 1, vec![]).await);
    let answers = Answers::default();
    answers.post(&node, 1, room, 0);
    answers.all(1).await;
    let reacts = async || {
        let react = React {
            conversation_id: room,
            target_seq: 1,
            client_id: "a".to_owned(),
            emoji: "👍".to_owned(),
            remove: false,
        };
        let (reply, answer) = ReplyTo::channel();
        rooms.post_entry(1, 1, room, Command::React(react), reply);
        answer.await
    };
    node.away.store(true, Ordering::Relaxed);
    assert_eq!(reacts().await.map_err(|error| error.code), Err(ErrorCode::Unavailable));
    node.away.store(false, Ordering::Relaxed);
    let taken = async {
        while let Err(error) = reacts().await {
            assert_eq!(error.code, ErrorCode::Unavailable);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("storage is asked again");
    node.cluster.shutdown().await;
}

/// Nobody waits for ever, wherever the room's work is stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_room_for_too_long_is_told_so() {
    let memory = MemoryStores::default();
    let limit = |config: &mut crate::config::Config| config.cluster.ask_timeout = Duration::from_millis(200);
    let node = Node::start_with("waiter", &memory, limit).await;
    let room = group(&memory, 1, vec![]).await;
    node.door.send(false).expect("the log listens");
    let answers = Answers::default();
    // The first is on its way to the log, the others wait behind it; some are kept for another node.
    for number in 0..3 {
        answers.post(&node, 1, room, number);
    }
    eventually("it is on its way to the log", || node.groups.load(Ordering::Relaxed) == 1).await;
    node.owns_all(false);
    answers.post(&node, 1, room, 3);
    for (number, answer) in answers.all(4).await {
        assert_eq!(answer.map_err(|error| error.code), Err(ErrorCode::DeadlineExceeded), "send {number}");
    }
    node.door.send(true).expect("the log listens");
    node.cluster.shutdown().await;
}

/// What the room itself has to say outlives a failure of storage, without anybody asking for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_message_is_stored_when_storage_is_back() {
    let memory = MemoryStores::default();
    let node = Node::start("speaker", &memory).await;
    let (rooms, room) = (node.actors.rooms(), group(&memory, 1, vec![]).await);
    node.away.store(true, Ordering::Relaxed);
    rooms.join(2, room, Join::default()).await.expect("the membership is stored");
    let send =
        Send { conversation_id: room, client_id: "a".to_owned(), text: "hi".to_owned(), ..Send::default() };
    let refused = rooms.send(1, send).await.expect_err("a send is refused");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    node.away.store(false, Ordering::Relaxed);
    let told = async {
        while node.log_of(room).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is stored by itself");
    let log = node.log_of(room).await;
    assert_eq!(log.iter().map(|message| message.kind()).collect::<Vec<_>>(), [MessageKind::System]);
    node.cluster.shutdown().await;
}
