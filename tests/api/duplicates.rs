//! A send that is repeated is answered as the first time, however and over whatever it comes again.

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Send, Sent};
use serde_json::json;

use crate::live::{a_text, a_text_to};
use crate::world::{TRANSPORTS, World, number, within};

#[tokio::test]
async fn a_repeat_has_the_first_answer_over_every_transport_and_by_rest() {
    for first_over in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let mut bob_live = bob.opens(Transport::Tcp).await;
        let send = a_text_to(&bob, "only once");
        let first = ada.opens(first_over).await.sends(send.clone()).await;
        assert!(!first.duplicate);
        let again = Sent { duplicate: true, ..first.clone() };
        for then_over in TRANSPORTS {
            let elsewhere = ada.on_another_device().await.opens(then_over).await;
            assert_eq!(elsewhere.sends(send.clone()).await, again, "{first_over:?}, then {then_over:?}");
            // client_id is one space, however the conversation is addressed; and the first text stands.
            let other = Send { text: "something else".into(), ..addressed(&send, first.conversation_id) };
            assert_eq!(elsewhere.sends(other).await, again, "{first_over:?}, then {then_over:?}");
        }
        let body = json!({"client_id": send.client_id, "text": send.text});
        for path in [
            format!("/users/{}/messages", bob.id),
            format!("/conversations/{}/messages", first.conversation_id),
        ] {
            let answer = ada.posts(&path, body.clone()).await.succeeds();
            assert_eq!(answer["duplicate"], true, "{answer}");
            assert_eq!(number(&answer, "seq"), first.seq);
            assert_eq!(number(&answer, "created_at_ms"), first.created_at_ms);
        }
        assert_eq!(ada.reads_texts(first.conversation_id).await, ["only once"]);
        // The peer has heard it once: the next it hears is the next there is.
        assert_eq!(bob_live.hears_a_message().await.seq, first.seq);
        let next = ada.opens(first_over).await.says(first.conversation_id, "next").await;
        assert_eq!(bob_live.hears_a_message().await.seq, next.seq);
        assert_eq!(next.seq, first.seq + 1, "repeats take no seq");
    }
}

fn addressed(send: &Send, conversation_id: u64) -> Send {
    Send { conversation_id, to_user_id: 0, ..send.clone() }
}

#[tokio::test]
async fn a_client_id_is_the_senders_own_and_each_conversations_own() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (direct, group) = (ada.direct_with(&bob).await, ada.founds_a_group("club", &[&bob]).await);
    let (ada_live, bob_live) = (ada.opens(Transport::Tcp).await, bob.opens(Transport::Tcp).await);
    for (live, conversation_id) in
        [(&ada_live, direct), (&bob_live, direct), (&ada_live, group), (&bob_live, group)]
    {
        let send = Send { client_id: "same".into(), ..a_text(conversation_id, "hello") };
        assert!(!live.sends(send).await.duplicate);
    }
}

#[tokio::test]
async fn repeats_within_a_pipeline_are_answered_in_order_and_stored_once() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let live = ada.opens(Transport::WebSocketProto).await;
    let mut replies = Vec::new();
    for at in 0..60 {
        let client_id = format!("k{}", at / 3);
        let send = Send { client_id, text: format!("{}", at / 3), ..a_text(id, "") };
        replies.push(live.connection.post(Request::Send(send)).await.expect("the connection is open"));
    }
    for (at, reply) in replies.into_iter().enumerate() {
        let Ok(Body::Sent(sent)) = within("sent", reply).await else { panic!("send {at} was refused") };
        assert_eq!((sent.seq, sent.duplicate), (at as u64 / 3 + 1, at % 3 != 0), "send {at}");
    }
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(bob.reads_texts(id).await, expected);
}

#[tokio::test]
async fn one_send_repeated_by_many_connections_at_once_is_one_message() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let mut lives = Vec::new();
    for at in 0..12 {
        let device = ada.on_another_device().await;
        lives.push(device.opens(TRANSPORTS[at % TRANSPORTS.len()]).await);
    }
    for _ in 0..10 {
        let send = a_text(id, "race");
        let all = futures_util::future::join_all(lives.iter().map(|live| live.sends(send.clone()))).await;
        let firsts = all.iter().filter(|sent| !sent.duplicate).count();
        assert_eq!(firsts, 1, "{all:?}");
        assert!(all.iter().all(|sent| sent.seq == all[0].seq && sent.created_at_ms == all[0].created_at_ms));
    }
    assert_eq!(bob.reads_texts(id).await.len(), 10);
}

#[tokio::test]
async fn a_client_id_is_remembered_though_thousands_came_after() {
    // More than a room remembers, so that the answer comes from the log.
    let world = World::with(&[("room.recent_sends", "8")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let live = ada.opens(Transport::Tcp).await;
    let first_send = a_text(id, "the first");
    let first = live.sends(first_send.clone()).await;
    let mut replies = Vec::new();
    for at in 0..100 {
        let send = Request::Send(a_text(id, &format!("{at}")));
        replies.push(live.connection.post(send).await.expect("the connection is open"));
    }
    for reply in replies {
        within("sent", reply).await.expect("stored");
    }
    assert_eq!(live.sends(first_send).await, Sent { duplicate: true, ..first });
}
