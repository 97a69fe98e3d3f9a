//! Rooms that move, and rooms of which there are two.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::actor::RoomMessage;
use super::testing::{Answers, Node, PATIENCE, eventually, group};
use crate::cluster::refusals::{Refusals, Standing};
use crate::cluster::{Address, ReplyTo, Turn};
use crate::config::Config;
use crate::protocol::ErrorCode;
use crate::protocol::cluster::{AddMembers, Register, Request, RoomRequest, request, room_request};
use crate::protocol::v1::Send;
use crate::storage::memory::MemoryStores;
use crate::storage::{MemberRecord, RoomChange, RoomWrite};

/// The view turns to and fro while the log is held up at times: pipelined sends are stored once, in their order, and
/// none is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_sends_keep_their_order_while_a_room_moves_to_and_fro() {
    let memory = MemoryStores::default();
    let node = Node::start("mover", &memory).await;
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let room = group(&memory, 1, vec![2]).await;
        let answers = Answers::default();
        let mut sent = 0;
        for _ in 0..random.random_range(5..40) {
            match random.random_range(0..10) {
                0..5 => {
                    for _ in 0..random.random_range(1..4) {
                        answers.post(&node, 1, room, sent);
                        sent += 1;
                    }
                }
                5 | 6 => node.owns_all(random.random()),
                7 => drop(node.door.send(random.random())),
                8 => tokio::task::yield_now().await,
                _ => tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await,
            }
        }
        node.door.send(true).expect("the log listens");
        node.owns_all(true);
        answers.post(&node, 1, room, sent);
        for (number, answer) in answers.all(sent as usize + 1).await {
            assert!(answer.is_ok(), "seed {seed}: send {number} was refused: {answer:?}");
        }
        let texts: Vec<u32> =
            node.log_of(room).await.iter().map(|message| message.text.parse().expect("a number")).collect();
        assert_eq!(texts, (0..=sent).collect::<Vec<_>>(), "seed {seed}");
    }
    node.cluster.shutdown().await;
}

/// As long as a room has something to finish it stays in the registry, and what comes goes behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_stays_until_it_has_handed_everything_on() {
    let memory = MemoryStores::default();
    let node = Node::start("stayer", &memory).await;
    let room = group(&memory, 1, vec![]).await;
    let answers = Answers::default();
    node.door.send(false).expect("the log listens");
    answers.post(&node, 1, room, 0);
    eventually("it is on its way to the log", || node.groups.load(Ordering::Relaxed) == 1).await;
    node.owns_all(false);
    answers.post(&node, 1, room, 1);
    assert!(node.is_active(room), "its first send is not stored yet");
    node.door.send(true).expect("the log listens");
    eventually("the room is handed over", || !node.is_active(room)).await;
    // Now it waits for a way to the other node, and what comes goes there too.
    answers.post(&node, 1, room, 2);
    assert!(node.log_of(room).await.iter().all(|message| message.text != "2"));
    assert!(!node.is_active(room));
    node.owns_all(true);
    let order: Vec<u32> = answers.all(3).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(order, [0, 1, 2]);
    node.cluster.shutdown().await;
}

/// A send whose session has a refusal that its node has not heard of, as it was lost with a link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_behind_a_refusal_that_was_not_heard_of_is_refused() {
    let memory = MemoryStores::default();
    let node = Node::start("refuser", &memory).await;
    let room = group(&memory, 1, vec![]).await;
    let refusals = Arc::new(Refusals::default());
    let send_of = |user_id, number: u64, heard| {
        let send = Send { conversation_id: room, client_id: number.to_string(), ..Send::default() };
        let command = Some(room_request::Command::Send(send));
        let request = RoomRequest { user_id, session_id: 8 + user_id, command };
        let whole = Request { request: Some(request::Request::Room(request.clone())) };
        let standing = Standing::of(Address::room(room), &whole, &refusals, heard);
        let (reply, answer) = ReplyTo::channel();
        let reply = reply.with_standing(standing.clone());
        assert!(node.actors.cast_room(room, request, reply, Turn::endless()).is_none());
        (standing.expect("it is a session's send"), answer)
    };
    let send = |number, heard| send_of(1, number, heard);
    let (first, answer) = send(1, 0);
    answer.await.expect("nothing was refused");
    // Something between the two is.
    let number = first.refuse(|number| number);
    for heard in [0, number] {
        let (_, answer) = send(2, heard);
        let code = answer.await.map(|_| ()).map_err(|error| error.code);
        assert_eq!(code, if heard == 0 { Err(ErrorCode::Unavailable) } else { Ok(()) });
    }
    assert_eq!(node.log_of(room).await.len(), 2);
    // One who is no member is told so, whatever was heard of; and what it sends is not stored when it has become one, before
    // the refusal has been heard of.
    for number in [3, 4] {
        let (_, answer) = send_of(2, number, number - 3);
        assert_eq!(answer.await.map(|_| ()).map_err(|error| error.code), Err(ErrorCode::PermissionDenied));
    }
    let add = room_request::Command::AddMembers(AddMembers { user_ids: vec![2] });
    let (reply, added) = ReplyTo::channel();
    let request = RoomRequest { user_id: 1, session_id: 0, command: Some(add) };
    assert!(node.actors.cast_room(room, request, reply, Turn::endless()).is_none());
    added.await.expect("it is added");
    let (_, answer) = send_of(2, 5, number);
    assert_eq!(answer.await.map(|_| ()).map_err(|error| error.code), Err(ErrorCode::Unavailable));
    node.cluster.shutdown().await;
}

/// Two nodes that don't know of each other, both sure to own the room, as the two sides of a partition are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_activations_at_once_keep_the_rules_of_the_log() {
    const SENDS: u32 = 200;
    let memory = MemoryStores::default();
    let nodes = [Node::start("left", &memory).await, Node::start("right", &memory).await];
    let room = group(&memory, 1, vec![2, 3]).await;
    let answers = [Answers::default(), Answers::default(), Answers::default()];
    for number in 0..SENDS {
        answers[0].post(&nodes[0], 1, room, number);
        answers[1].post(&nodes[1], 2, room, number);
        // One who is connected to both sides repeats each send on the other.
        answers[2].post(&nodes[number as usize % 2], 3, room, number);
        answers[2].post(&nodes[(number as usize + 1) % 2], 3, room, number);
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(nodes.iter().all(|node| node.is_active(room)), "both have the room");
    let mut acknowledged = Vec::new();
    for (at, count) in [(0, SENDS), (1, SENDS), (2, 2 * SENDS)] {
        for (number, answer) in answers[at].all(count as usize).await {
            acknowledged.push((at as u64 + 1, number, answer.expect("no send is refused").seq));
        }
    }
    let log = nodes[0].log_of(room).await;
    let seqs: Vec<u64> = log.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=3 * u64::from(SENDS)).collect::<Vec<_>>(), "no gap and no seq twice");
    let names: BTreeSet<(u64, &str)> = log.iter().map(|m| (m.sender_id, m.client_id.as_str())).collect();
    assert_eq!(names.len(), log.len(), "one name, one message");
    for (by, number, seq) in acknowledged {
        let message = &log[seq as usize - 1];
        assert_eq!((message.sender_id, &message.text), (by, &number.to_string()), "an ack tells the truth");
    }
    for by in [1, 2] {
        let own: Vec<u32> = log
            .iter()
            .filter(|message| message.sender_id == by)
            .map(|message| message.text.parse().expect("a number"))
            .collect();
        assert!(own.is_sorted(), "the sends of one session keep their order");
    }
    for node in nodes {
        node.cluster.shutdown().await;
    }
}

/// The same as fast as threads can: what was handed on comes home while later sends wait in the mailbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_home_goes_before_what_came_later() {
    const SENDS: u32 = 3000;
    let memory = MemoryStores::default();
    // Only the order is judged, however slow the machine is.
    let patient = |config: &mut Config| config.cluster.ask_timeout = 2 * PATIENCE;
    let node = Arc::new(Node::start_with("flapper", &memory, patient).await);
    let room = group(&memory, 1, vec![]).await;
    let answers = Answers::default();
    // Gone when this test ends, whichever way: a runtime waits for its blocking tasks, so one that goes on until all is
    // answered would hang a test that has failed before.
    let (runs, ends) = mpsc::channel::<()>();
    let flapper = {
        let (node, done) = (node.clone(), answers.0.clone());
        tokio::task::spawn_blocking(move || {
            let mut random = StdRng::seed_from_u64(1);
            let is_over = || ends.try_recv() == Err(mpsc::TryRecvError::Disconnected);
            while done.lock().len() < SENDS as usize && !is_over() {
                node.owns_all(random.random_bool(0.7));
                std::thread::sleep(Duration::from_micros(random.random_range(0..300)));
            }
        })
    };
    for number in 0..SENDS {
        answers.post(&node, 1, room, number);
        if number % 64 == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    let refused: Vec<_> =
        answers.all(SENDS as usize).await.into_iter().filter(|(_, answer)| answer.is_err()).collect();
    assert_eq!(refused, []);
    flapper.await.expect("the flapper ends");
    drop(runs);
    let texts: Vec<u32> =
        node.log_of(room).await.iter().map(|message| message.text.parse().expect("a number")).collect();
    let wrong = texts.iter().enumerate().find(|(at, number)| *at as u32 != **number);
    assert_eq!((texts.len(), wrong), (SENDS as usize, None));
    node.cluster.shutdown().await;
}

/// Membership as the other side of a partition has changed it, in a room so large that its log does not tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_activation_did_to_the_membership_is_found_out() {
    let memory = MemoryStores::default();
    let node = Node::start("left", &memory).await;
    let room = group(&memory, 1, vec![2]).await;
    let (rooms, other) = (node.actors.rooms(), memory.stores().rooms);
    let send = |number: u32| Send {
        conversation_id: room,
        client_id: number.to_string(),
        text: "hi".to_owned(),
        ..Send::default()
    };
    let member = |user_id| MemberRecord { conversation_id: room, user_id, ..MemberRecord::default() };
    rooms.send(2, send(0)).await.expect("a member may send");
    let change = async |writes: Vec<RoomWrite>| {
        let change = RoomChange { conversation_id: room, now_ms: 5, conditions: Vec::new(), writes };
        assert_eq!(other.change_room(&change).await, Ok(None));
    };
    change(vec![RoomWrite::Remove(2), RoomWrite::Add(vec![member(3)])]).await;
    rooms.send(2, send(1)).await.expect("nobody has told the room");
    // A link is made: whatever the room remembers is in doubt.
    node.actors.inner.doubts.fetch_add(1, Ordering::Relaxed);
    let refused = rooms.send(2, send(2)).await.expect_err("one who was removed may not send");
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    rooms.send(3, send(3)).await.expect("one who was added may");
    // Without any sign, one who was added is refused for a second at most.
    change(vec![RoomWrite::Add(vec![member(4)])]).await;
    let accepted = async {
        while rooms.send(4, send(4)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted).await.expect("one who was added may send soon");
    node.cluster.shutdown().await;
}

/// A session that missed the pushes, as those behind a lost link do, gets the young ones again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn young_messages_are_pushed_again() {
    let memory = MemoryStores::default();
    let node = Node::start("pusher", &memory).await;
    let room = group(&memory, 1, vec![2]).await;
    let answers = Answers::default();
    for number in 0..3 {
        answers.post(&node, 1, room, number);
    }
    answers.all(3).await;
    let session = node.session_of(2).await;
    node.actors.inner.rooms.cast_if_active(Address::room(room), RoomMessage::PushAgain(0));
    let mut seqs = Vec::new();
    eventually("they are pushed again", || {
        let frames = session.outbox().drain(usize::MAX).frames;
        seqs.extend(frames.iter().filter_map(|frame| frame.message.map(|(_, seq)| seq)));
        seqs == [1, 2, 3]
    })
    .await;
    node.cluster.shutdown().await;
}

/// A send that was stored, whose answer was lost, and whose sender has left before it is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_one_who_has_left_gets_the_first_result() {
    let memory = MemoryStores::default();
    let nodes = [Node::start("first", &memory).await, Node::start("second", &memory).await];
    let room = group(&memory, 1, vec![2]).await;
    let send = |number: u32| Send {
        conversation_id: room,
        client_id: number.to_string(),
        text: "hi".to_owned(),
        ..Send::default()
    };
    let [first, second] = nodes.each_ref().map(|node| node.actors.rooms());
    let stored = first.send(2, send(0)).await.expect("a member may send");
    first.leave(2, room).await.expect("a member may leave");
    let again = second.send(2, send(0)).await.expect("it is stored");
    assert_eq!((again.seq, again.duplicate), (stored.seq, true));
    let refused = second.send(2, send(1)).await.expect_err("one who has left may not send");
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    for node in nodes {
        node.cluster.shutdown().await;
    }
}

/// The end of a session that its shard was not told of, or was told of too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_ended_does_not_stay_in_the_directory() {
    let memory = MemoryStores::default();
    let node = Node::start("ghosts", &memory).await;
    let (lasting, ending) = (node.session_of(2).await, node.session_of(2).await);
    let (directory, shard) = (&node.actors.inner.directory, node.actors.inner.directory.shard_of(2));
    let record = ending.record(&node.actors);
    ending.close();
    eventually("it is withdrawn", || directory.sessions_of(2).len() == 1).await;
    // Its registration, held up on the way.
    directory.register(shard, Register { sessions: vec![record], ..Register::default() });
    assert_eq!(directory.sessions_of(2).len(), 2);
    node.actors.announce_again(shard);
    eventually("the announcement ends it", || directory.sessions_of(2).len() == 1).await;
    assert_eq!(directory.sessions_of(2)[0].session_id, lasting.id());
    node.cluster.shutdown().await;
}
