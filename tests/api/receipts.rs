//! Who has read what, what is unread, and who types.

use std::collections::{BTreeMap, BTreeSet};

use rookery::client::Transport;
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, Message, Send, SyncRequest, TypingState};
use serde_json::json;

use crate::live::{Live, a_text};
use crate::messages_edit::{edit, path_of, react, recall};
use crate::world::{Person, TRANSPORTS, World, number, within};

#[tokio::test]
async fn a_small_room_names_who_has_read() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let (bob, eve) = world.two("bob", "eve").await;
    let late = world.person("late").await;
    let id = ada.founds_a_group("club", &[&bob, &eve]).await;
    let first = ada.writes(id, "one").await;
    let second = ada.writes(id, "two").await;
    late.posts(&format!("/conversations/{id}/join"), json!({})).await.is(200);
    for transport in TRANSPORTS {
        bob.opens(transport).await.has_read(id, first).await;
        eve.opens(transport).await.has_got(id, second).await;
        let seen = ada.gets(&path_of(id, first, "/readers")).await.is(200);
        assert_eq!((&seen["read"], &seen["delivered"]), (&json!([bob.id]), &json!([bob.id, eve.id])));
        assert_eq!((number(&seen, "read_count"), number(&seen, "delivered_count")), (1, 2));
        let seen = bob.gets(&path_of(id, second, "/readers")).await.is(200);
        assert_eq!((&seen["read"], &seen["delivered"]), (&json!([]), &json!([eve.id])), "{seen}");
    }
    late.gets(&path_of(id, first, "/readers")).await.is_refused(404, "not_found");
    ada.gets(&path_of(id, 999, "/readers")).await.is_refused(404, "not_found");
    let stranger = world.person("stranger").await;
    stranger.gets(&path_of(id, first, "/readers")).await.is_refused(403, "permission_denied");
}

#[tokio::test]
async fn a_large_room_counts_them() {
    let world = World::with(&[("room.small_room", "2")]);
    let ada = world.person("ada").await;
    let (bob, eve) = world.two("bob", "eve").await;
    let id = ada.founds_a_group("club", &[&bob, &eve]).await;
    let seq = ada.writes(id, "one").await;
    bob.opens(Transport::Tcp).await.has_read(id, seq).await;
    let seen = ada.gets(&path_of(id, seq, "/readers")).await.is(200);
    assert_eq!((number(&seen, "read_count"), seen.get("read")), (1, None), "{seen}");
}

#[tokio::test]
async fn a_reply_and_its_mentions_must_be_there_for_the_sender() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let (bob, eve) = world.two("bob", "eve").await;
    let stranger = world.person("stranger").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let seq = ada.writes(id, "one").await;
    eve.posts(&format!("/conversations/{id}/join"), json!({})).await.is(200);
    for transport in TRANSPORTS {
        let (ada_live, bob_live, eve_live) =
            (ada.opens(transport).await, bob.opens(transport).await, eve.opens(transport).await);
        let reply = |reply_to_seq| Send { reply_to_seq, ..a_text(id, "yes") };
        let mention = |mentions: &[u64]| Send { mentions: mentions.to_vec(), ..a_text(id, "you") };
        bob_live.sends(reply(seq)).await;
        bob_live.sends(mention(&[ada.id, eve.id])).await;
        ada_live.sends(mention(&[0])).await;
        for (who, send, code, field) in [
            (&bob_live, reply(1 << 40), ErrorCode::InvalidArgument, "reply_to_seq"),
            (&eve_live, reply(seq), ErrorCode::InvalidArgument, "reply_to_seq"),
            (&bob_live, mention(&[ada.id, stranger.id]), ErrorCode::InvalidArgument, "mentions"),
            (&bob_live, mention(&[0]), ErrorCode::PermissionDenied, ""),
        ] {
            let error = who.is_refused(Request::Send(send)).await;
            assert_eq!((error.code, &*error.field), (code, field));
        }
    }
    // Once stored, a repeat is answered though the one mentioned has left, and though the room has forgotten it.
    let live = bob.opens(Transport::Tcp).await;
    let send = Send { mentions: vec![eve.id], ..a_text(id, "bye") };
    let sent = live.sends(send.clone()).await;
    eve.posts(&format!("/conversations/{id}/leave"), json!({})).await.is(204);
    for _ in 0..600 {
        live.says(id, "more").await;
    }
    assert_eq!(live.sends(send).await.seq, sent.seq);
}

impl Live {
    async fn hears_typing(&mut self) -> (u64, bool) {
        self.hears("typing", |event| match event {
            Body::Typing(typing) => Some((typing.user_id, typing.active)),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn who_does_not_say_so_again_has_stopped_typing() {
    let world = World::with(&[("messages.typing_timeout", "300ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for transport in TRANSPORTS {
        let mut bob_live = bob.opens(transport).await;
        let ada_live = ada.opens(transport).await;
        ada_live.does(Request::Typing(TypingState { conversation_id: id, active: true })).await;
        assert_eq!(bob_live.hears_typing().await, (ada.id, true));
        // The client is gone without a word.
        drop(ada_live);
        assert_eq!(bob_live.hears_typing().await, (ada.id, false));
    }
    // One who says so again, and then stops, has stopped once.
    let (mut bob_live, ada_live) = (bob.opens(Transport::Tcp).await, ada.opens(Transport::Tcp).await);
    for active in [true, true, false] {
        ada_live.does(Request::Typing(TypingState { conversation_id: id, active })).await;
        assert_eq!(bob_live.hears_typing().await, (ada.id, active));
    }
    // Carol's typing, which began later, ends by itself: by then ada's would have ended once more.
    let carol = world.person("carol").await;
    let with_carol = carol.direct_with(&bob).await;
    let carol_live = carol.opens(Transport::Tcp).await;
    carol_live.does(Request::Typing(TypingState { conversation_id: with_carol, active: true })).await;
    assert_eq!(bob_live.hears_typing().await, (carol.id, true));
    assert_eq!(bob_live.hears_typing().await, (carol.id, false), "nothing came between");
    ada_live.does(Request::Typing(TypingState { conversation_id: id, active: true })).await;
    assert_eq!(bob_live.hears_typing().await, (ada.id, true), "nothing came between");
}

#[tokio::test]
async fn a_conversation_is_marked_unread_until_more_is_read() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/conversations/{id}/preferences");
    for transport in TRANSPORTS {
        let seq = ada.writes(id, "hello").await;
        let mut live = bob.on_another_device().await.opens(transport).await;
        live.has_read(id, seq).await;
        let marked = bob.puts(&path, json!({"marked_unread": true})).await.is(200);
        assert_eq!((&marked["marked_unread"], number(&marked, "unread")), (&json!(true), 0));
        assert!(live.hears_of_conversation(id).await.marked_unread);
        assert_eq!(ada.sees(id).await["marked_unread"], false, "it is each one's own");
        live.has_read(id, seq).await;
        assert_eq!(bob.sees(id).await["marked_unread"], true, "nothing more was read");
        let next = ada.writes(id, "hello again").await;
        live.has_read(id, next).await;
        assert_eq!(bob.sees(id).await["marked_unread"], false);
        bob.puts(&path, json!({"marked_unread": true})).await.is(200);
        assert_eq!(bob.puts(&path, json!({"marked_unread": false})).await.is(200)["marked_unread"], false);
    }
}

/// What a conversation must show to its two members.
#[derive(Default)]
struct Model {
    /// By seq, from 1: who wrote it; 0: an entry about another, or what was taken back.
    log: Vec<u64>,
    read: BTreeMap<u64, u64>,
    /// What a user has hidden, by user and seq.
    hidden: BTreeSet<(u64, u64)>,
}

impl Model {
    fn unread(&self, user_id: u64) -> u64 {
        let read = self.read.get(&user_id).copied().unwrap_or(0) as usize;
        let behind = (1..).zip(&self.log).skip(read).filter(|(_, by)| **by != 0 && **by != user_id);
        behind.filter(|(seq, _)| !self.hidden.contains(&(user_id, *seq))).count() as u64
    }

    fn reads(&mut self, user_id: u64, seq: u64) {
        let read = self.read.entry(user_id).or_default();
        *read = seq.max(*read);
    }
}

/// Several devices of two users write, read (backwards too), edit, take back, hide and react as a fixed sequence of dice has it;
/// after each act every device is told what a model of a few lines says.
#[tokio::test]
async fn unread_is_right_on_every_device_whatever_they_do() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let mut devices: Vec<(Person, Live)> = Vec::new();
    for (at, who) in [&ada, &ada, &bob, &bob, &bob].into_iter().enumerate() {
        let device = who.on_another_device().await;
        let live = device.opens(TRANSPORTS[at % 3]).await;
        devices.push((device, live));
    }
    let mut model = Model::default();
    let mut dice = 11u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    for step in 0..150 {
        let (who, live) = &devices[roll(5)];
        let mine: Vec<u64> =
            (1..).zip(&model.log).filter(|(_, by)| **by == who.id).map(|(seq, _)| seq).collect();
        let any = 1 + roll(model.log.len().max(1)) as u64;
        let own = mine.get(roll(mine.len().max(1))).copied();
        let change = match (roll(12), own) {
            (0..=3, _) => {
                let seq = live.says(id, "hello").await.seq;
                model.log.push(who.id);
                model.reads(who.id, seq);
                None
            }
            (4..=6, _) if !model.log.is_empty() => {
                live.has_read(id, any).await;
                model.reads(who.id, any);
                None
            }
            (7, Some(own)) => Some(edit(id, own, "edited")),
            (8..=9, Some(own)) => Some(recall(id, own)),
            (10, _) if !model.log.is_empty() => {
                who.posts(&format!("/conversations/{id}/messages/hide"), json!({"seqs": [any]}))
                    .await
                    .is(204);
                model.hidden.insert((who.id, any));
                None
            }
            (_, _) if !model.log.is_empty() => Some(react(id, any, "👍", roll(2) == 0)),
            _ => None,
        };
        if let Some(change) = change {
            let gone = match &change {
                Request::Recall(recall) => Some(recall.target_seq),
                _ => None,
            };
            // Of what was taken back nothing can be changed; that is refused and stores nothing.
            if matches!(within("an answer", live.connection.request(change)).await, Ok(Body::Sent(_))) {
                model.log.push(0);
                if let Some(seq) = gone {
                    model.log[seq as usize - 1] = 0;
                }
            }
        }
        for who in [&ada, &bob] {
            assert_eq!(
                number(&who.sees(id).await, "unread"),
                model.unread(who.id),
                "{} in step {step}",
                who.name
            );
        }
        if step % 10 == 0 {
            for (who, live) in &devices {
                let cursors = vec![Cursor { conversation_id: id, seq: 0 }];
                let listed = live.syncs(SyncRequest::default()).await.conversations;
                let row = listed.iter().find(|row| row.conversation_id == id).expect("it is listed");
                assert_eq!(row.unread, model.unread(who.id), "{} in step {step}", who.name);
                // Who counts by what it has itself comes to the same.
                let log = live.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await.messages;
                let counts = |m: &&Message| {
                    m.kind < 7 && !m.recalled && !m.marks.as_ref().is_some_and(|marks| marks.hidden)
                };
                let own = log.iter().filter(|m| m.seq > row.read_seq && m.sender_id != who.id).filter(counts);
                assert_eq!(own.count() as u64, row.unread, "{} in step {step}", who.name);
            }
        }
    }
}
