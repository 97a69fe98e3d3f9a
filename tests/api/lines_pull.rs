//! `PULL`: each message is given once, over reconnects and whatever was given live.

use rookery::client::Transport;
use serde_json::json;

use crate::line_client::Line;
use crate::world::{World, eventually, items};

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[tokio::test]
async fn what_was_missed_is_given_once_with_the_real_ids_in_order() {
    let world = World::shared();
    let (mut ann, mut cid) = (world.registers("ann").await, world.registers("cid").await);
    let ben = world.registers("ben").await;
    let (ben_name, ben_uid) = (ben.name.clone(), ben.uid);
    let group = ann.founds("tea").await;
    let mut ben = ben;
    ben.joins(group).await;
    ben.hangs_up().await;
    let mut expected = Vec::new();
    for at in 0..5 {
        expected.push((ann.sends(ben_uid, &format!("direct {at}")).await, 0, format!("direct {at}")));
        expected.push((
            ann.sends_to_group(group, &format!("group {at}")).await,
            group,
            format!("group {at}"),
        ));
        expected.push((cid.sends(ben_uid, &format!("cid {at}")).await, 0, format!("cid {at}")));
    }
    let mut ben = world.logs_in(&ben_name).await;
    let given = ben.pulls().await;
    let mut got: Vec<_> = given.iter().map(|line| (line.id, line.group, line.text.clone())).collect();
    // Per conversation in order.
    for prefix in ["direct", "group", "cid"] {
        let of = |texts: Vec<String>| {
            texts.into_iter().filter(|text| text.starts_with(prefix)).collect::<Vec<_>>()
        };
        let in_order: Vec<String> = (0..5).map(|at| format!("{prefix} {at}")).collect();
        assert_eq!(of(got.iter().map(|row| row.2.clone()).collect()), in_order);
    }
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    assert!(ben.pulls().await.is_empty(), "nothing the second time");
    ben.hangs_up().await;
    assert!(world.logs_in(&ben_name).await.pulls().await.is_empty(), "nor on another connection");
}

#[tokio::test]
async fn login_gives_nothing_that_is_stored_by_itself() {
    let world = World::shared();
    let (mut ann, ben) = (world.registers("ann").await, world.registers("ben").await);
    let name = ben.name.clone();
    let uid = ben.uid;
    ben.hangs_up().await;
    ann.sends(uid, "stored").await;
    let mut ben = world.logs_in(&name).await;
    let live = ann.sends(uid, "live").await;
    assert_eq!(ben.hears().await.id, live, "the first line is the live one");
    assert_eq!(texts(&ben.pulls().await), ["stored"], "and PULL gives the other one only");
    assert!(ben.pulls().await.is_empty());
}

#[tokio::test]
async fn what_was_given_live_is_not_given_again_even_after_a_reconnect() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let (name, uid) = (ben.name.clone(), ben.uid);
    for turn in 0..3 {
        ann.sends(uid, &format!("live {turn}")).await;
        assert_eq!(ben.hears().await.text, format!("live {turn}"));
        // Goes at once: what it was given must still be known.
        ben.hangs_up().await;
        ann.sends(uid, &format!("missed {turn}")).await;
        ben = world.logs_in(&name).await;
        assert_eq!(texts(&ben.pulls().await), [format!("missed {turn}")]);
    }
    assert!(ben.pulls().await.is_empty());
}

/// A room that starts anew pushes young messages again, as its last owner may have died before it did.
#[tokio::test]
async fn what_a_room_pushes_again_is_given_once() {
    let world = World::with(&[("room.idle_timeout", "50ms")]);
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let mut given = Vec::new();
    for turn in 0..2 {
        ann.sends(ben.uid, &format!("live {turn}")).await;
        let line = ben.hears().await;
        let rooms = format!("/admin/v1/actors?kind=room&key={}", line.id >> 24);
        given.push(line.text);
        eventually("the room has left memory", async || {
            let list = world.operator_gets(&rooms).await.is(200);
            items(&list).is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(given, ["live 0", "live 1"]);
    assert!(ben.pulls().await.is_empty());
}

#[tokio::test]
async fn ones_own_messages_are_never_given() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let group = ann.founds("tea").await;
    ann.sends(ben.uid, "mine").await;
    ann.sends_to_group(group, "mine too").await;
    assert!(ann.pulls().await.is_empty());
    // Nor those of one's other devices.
    let rest = world.signs_in(&ann.name).await;
    let body = json!({"client_id": "k", "text": "mine by REST"});
    rest.posts(&format!("/users/{}/messages", ben.uid), body).await.is(201);
    assert_eq!((ben.hears().await.text, ben.hears().await.text), ("mine".into(), "mine by REST".into()));
    assert!(ann.pulls().await.is_empty());
}

#[tokio::test]
async fn what_other_transports_have_read_is_still_given_to_the_line_device() {
    let world = World::shared();
    let (grace, mut ann) = (world.person("grace").await, world.registers("ann").await);
    let mut live = grace.opens(Transport::WebSocketJson).await;
    ann.sends(grace.id, "hello").await;
    let heard = live.hears_a_message().await;
    live.has_read(heard.conversation_id, heard.seq).await;
    let mut line = world.logs_in(&grace.name).await;
    assert_eq!(texts(&line.pulls().await), ["hello"]);
    assert!(line.pulls().await.is_empty());
}

#[tokio::test]
async fn a_newcomer_is_not_given_what_was_said_before_it_joined() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let group = ann.founds("tea").await;
    ann.sends_to_group(group, "before ben").await;
    ben.joins(group).await;
    let (name, _) = (ben.name.clone(), ben.uid);
    ben.hangs_up().await;
    ann.sends_to_group(group, "after ben").await;
    assert_eq!(texts(&world.logs_in(&name).await.pulls().await), ["after ben"]);
}

#[tokio::test]
async fn hundreds_of_messages_are_pulled_whole_from_many_conversations() {
    let world = World::shared();
    let ben = world.registers("ben").await;
    let (name, uid) = (ben.name.clone(), ben.uid);
    ben.hangs_up().await;
    const SENDERS: usize = 4;
    const EACH: usize = 260;
    let mut expected = Vec::new();
    for _ in 0..SENDERS {
        let mut sender = world.registers("s").await;
        let lines: String = (0..EACH).map(|at| format!("SEND {uid} {at}\n")).collect();
        sender.writes(lines.as_bytes()).await;
        for at in 0..EACH {
            let id = crate::line_client::value_of(&sender.reads_answer().await, "+OK msg_id=");
            expected.push((sender.uid, at, id));
        }
    }
    let mut ben = world.logs_in(&name).await;
    let given = ben.pulls().await;
    let mut got: Vec<_> = given
        .iter()
        .map(|line| (line.from, line.text.parse::<usize>().expect("a number"), line.id))
        .collect();
    for sender in expected.iter().map(|row| row.0) {
        assert!(got.iter().filter(|row| row.0 == sender).map(|row| row.1).is_sorted());
    }
    got.sort_unstable();
    expected.sort_unstable();
    assert!(got == expected, "{} of {} were given", got.len(), expected.len());
    assert!(ben.pulls().await.is_empty());
}

#[tokio::test]
async fn a_pull_amid_live_messages_gives_each_exactly_once() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    const ALL: usize = 300;
    let uid = ben.uid;
    let talks = async {
        for at in 0..ALL {
            ann.sends(uid, &at.to_string()).await;
        }
    };
    let pulls = async {
        let mut given = Vec::new();
        while given.len() < ALL {
            given.extend(ben.pulls().await);
            assert!(given.len() <= ALL, "some were given twice");
        }
        given
    };
    let ((), given) = tokio::join!(talks, pulls);
    let mut numbers: Vec<usize> = given.iter().map(|line| line.text.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..ALL).collect::<Vec<_>>());
    assert!(ben.pulls().await.is_empty());
}

#[tokio::test]
async fn what_was_given_survives_a_restart_of_the_node() {
    let mut world = World::with(&[]);
    let (mut ann, ben) = (world.registers("ann").await, world.registers("ben").await);
    let (ben_name, ben_uid) = (ben.name.clone(), ben.uid);
    ben.hangs_up().await;
    ann.sends(ben_uid, "first").await;
    let mut ben = world.logs_in(&ben_name).await;
    assert_eq!(texts(&ben.pulls().await), ["first"]);
    // A PULL is marked as given right behind its answer, so that before the next command it has been.
    assert!(ben.pulls().await.is_empty());
    drop(ben);
    ann.sends(ben_uid, "second").await;
    drop(ann);
    world.restarts();
    let mut ben = world.logs_in(&ben_name).await;
    assert_eq!(texts(&ben.pulls().await), ["second"]);
    assert!(ben.pulls().await.is_empty());
}

#[tokio::test]
async fn what_was_hidden_on_another_device_is_not_given() {
    let world = World::shared();
    let (grace, mut ann) = (world.person("grace").await, world.registers("ann").await);
    let mut live = grace.opens(Transport::Tcp).await;
    let mut heard = Vec::new();
    for text in ["one", "two", "three"] {
        ann.sends(grace.id, text).await;
        heard.push(live.hears_a_message().await);
    }
    let path = format!("/conversations/{}/messages/hide", heard[1].conversation_id);
    grace.posts(&path, json!({"seqs": [heard[1].seq]})).await.is(204);
    let mut line = world.logs_in(&grace.name).await;
    assert_eq!(texts(&line.pulls().await), ["one", "three"]);
    assert!(line.pulls().await.is_empty());
}
