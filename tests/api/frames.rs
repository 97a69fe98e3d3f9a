//! Every frame of the protocol's first part, on every framed transport.

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, HistoryRequest, Ping, Send, SyncRequest, TypingState};
use rookery::protocol::{ConversationKind, ErrorCode, MessageKind};
use serde_json::json;

use crate::live::{Live, a_text, a_text_to};
use crate::world::{Person, TRANSPORTS, World, number, within};

/// Two people with an open connection each, and their conversation.
struct Talk {
    ada: Person,
    ada_live: Live,
    bob: Person,
    bob_live: Live,
    id: u64,
}

impl Talk {
    async fn over(transport: Transport) -> Self {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let (ada_live, bob_live) = (ada.opens(transport).await, bob.opens(transport).await);
        Self { ada, ada_live, bob, bob_live, id }
    }
}

#[tokio::test]
async fn a_message_reaches_the_peer_and_the_senders_other_device_and_not_the_sending_session() {
    for from in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let mut ada_live = ada.opens(from).await;
        for to in TRANSPORTS {
            let mut ada_elsewhere = ada.on_another_device().await.opens(to).await;
            let mut bob_live = bob.opens(to).await;
            let send = Send { mentions: vec![bob.id], ..a_text_to(&bob, "Grüße 🐦\n\"quoted\"") };
            let sent = ada_live.sends(send.clone()).await;
            assert_eq!(sent.client_id, send.client_id, "from {from:?} to {to:?}");
            assert!(sent.conversation_id > 0 && sent.seq > 0 && sent.created_at_ms > 0 && !sent.duplicate);
            for heard in [bob_live.hears_a_message().await, ada_elsewhere.hears_a_message().await] {
                assert_eq!((heard.conversation_id, heard.seq), (sent.conversation_id, sent.seq));
                assert_eq!((heard.sender_id, &heard.client_id), (ada.id, &send.client_id));
                assert_eq!((&heard.text, &heard.mentions), (&send.text, &send.mentions));
                assert_eq!((heard.kind(), heard.created_at_ms), (MessageKind::Text, sent.created_at_ms));
            }
            // Pushes come in seq order: had the sending session got its own message, it would come before this one.
            let answer = bob_live.says(sent.conversation_id, "the answer").await;
            let heard = ada_live.hears_a_message().await;
            assert_eq!((heard.seq, heard.sender_id), (answer.seq, bob.id), "from {from:?} to {to:?}");
        }
    }
}

#[tokio::test]
async fn every_sendable_kind_and_attachment_arrives_as_it_was_sent() {
    use rookery::protocol::v1::Attachment;
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        let file = Attachment {
            file_id: 0,
            name: "a picture.png".into(),
            mime: "image/png".into(),
            size: 9_007_199_254_740_991,
            width: 640,
            height: 480,
        };
        for kind in [
            MessageKind::Image,
            MessageKind::Audio,
            MessageKind::Video,
            MessageKind::File,
            MessageKind::Custom,
        ] {
            let send = Send { kind: kind as i32, attachments: vec![file.clone()], ..a_text(talk.id, "see") };
            // A server may insist that a file exists; what it takes must arrive whole.
            let sent = talk.ada_live.sends(send).await;
            let heard = talk.bob_live.hears_a_message().await;
            assert_eq!((heard.seq, heard.kind(), &heard.attachments), (sent.seq, kind, &vec![file.clone()]));
        }
        let system = Send { kind: MessageKind::System as i32, ..a_text(talk.id, "I am the server") };
        assert_eq!(talk.ada_live.is_refused(Request::Send(system)).await.code, ErrorCode::InvalidArgument);
    }
}

#[tokio::test]
async fn a_reply_names_what_it_answers() {
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        let question = talk.ada_live.says(talk.id, "what time is it?").await;
        talk.bob_live.hears_a_message().await;
        talk.bob_live.sends(Send { reply_to_seq: question.seq, ..a_text(talk.id, "noon") }).await;
        assert_eq!(talk.ada_live.hears_a_message().await.reply_to_seq, question.seq);
    }
}

#[tokio::test]
async fn the_sender_is_told_what_the_peer_got_and_read() {
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        let sent = talk.ada_live.says(talk.id, "one").await;
        talk.bob_live.hears_a_message().await;

        talk.bob_live.has_got(talk.id, sent.seq).await;
        let receipt = talk.ada_live.hears_a_receipt_of(talk.bob.id).await;
        assert_eq!(
            (receipt.conversation_id, receipt.delivered_seq, receipt.read_seq),
            (talk.id, sent.seq, 0)
        );

        talk.bob_live.has_read(talk.id, sent.seq).await;
        let receipt = talk.ada_live.hears_a_receipt_of(talk.bob.id).await;
        assert_eq!((receipt.delivered_seq, receipt.read_seq), (sent.seq, sent.seq), "{transport:?}");

        let seen = talk.ada.sees(talk.id).await;
        assert_eq!(number(&seen, "peer_delivered_seq"), sent.seq, "{seen}");
        assert_eq!(number(&seen, "peer_read_seq"), sent.seq, "{seen}");
    }
}

#[tokio::test]
async fn what_was_read_is_no_longer_unread_in_the_list() {
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        talk.ada_live.says(talk.id, "one").await;
        let last = talk.ada_live.says(talk.id, "two").await;
        talk.bob_live.hears_a_message().await;
        talk.bob_live.hears_a_message().await;
        assert_eq!(number(&talk.bob.sees(talk.id).await, "unread"), 2, "{transport:?}");

        talk.bob_live.has_read(talk.id, last.seq).await;
        let list = talk.bob_live.syncs(SyncRequest::default()).await;
        let seen =
            list.conversations.iter().find(|seen| seen.conversation_id == talk.id).expect("it is listed");
        assert_eq!((seen.unread, seen.read_seq, seen.last_seq), (0, last.seq, last.seq), "{transport:?}");
        assert_eq!(number(&talk.bob.sees(talk.id).await, "unread"), 0);
        // One's own messages are never unread, and sending counts as having read.
        talk.bob_live.says(talk.id, "three").await;
        let seen = talk.bob.sees(talk.id).await;
        assert_eq!((number(&seen, "unread"), number(&seen, "read_seq")), (0, last.seq + 1), "{seen}");
    }
}

#[tokio::test]
async fn cursors_move_neither_backwards_nor_beyond_the_log() {
    let talk = Talk::over(Transport::WebSocketJson).await;
    let first = talk.ada_live.says(talk.id, "one").await;
    let last = talk.ada_live.says(talk.id, "two").await;
    talk.bob_live.has_read(talk.id, last.seq).await;
    talk.bob_live.has_read(talk.id, first.seq).await;
    assert_eq!(number(&talk.bob.sees(talk.id).await, "read_seq"), last.seq);
    // A cursor beyond the last message must not swallow what comes later.
    let beyond = Cursor { conversation_id: talk.id, seq: last.seq + 1000 };
    drop(talk.bob_live.connection.request(Request::Read(beyond)).await);
    talk.ada_live.says(talk.id, "three").await;
    assert_eq!(number(&talk.bob.sees(talk.id).await, "unread"), 1);
}

#[tokio::test]
async fn typing_is_shown_to_the_other_member() {
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        for active in [true, false] {
            let typing = TypingState { conversation_id: talk.id, active };
            talk.ada_live.does(Request::Typing(typing)).await;
            let heard = talk
                .bob_live
                .hears("typing", |event| match event {
                    Body::Typing(typing) => Some(typing),
                    _ => None,
                })
                .await;
            assert_eq!((heard.conversation_id, heard.user_id, heard.active), (talk.id, talk.ada.id, active));
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_one_without_id_is_not() {
    for transport in TRANSPORTS {
        let live = World::shared().person("ada").await.opens(transport).await;
        live.connection.tell(Request::Ping(Ping {})).await.expect("the connection is open");
        // The library takes an answer without a request for a broken protocol, and would close.
        let pong = live.connection.request(Request::Ping(Ping {})).await.expect("an answer");
        assert_eq!(pong, Body::Pong(rookery::protocol::v1::Pong {}), "{transport:?}");
    }
}

#[tokio::test]
async fn history_goes_both_ways_within_its_limits() {
    for transport in TRANSPORTS {
        let talk = Talk::over(transport).await;
        for text in ["1", "2", "3", "4", "5"] {
            talk.ada_live.says(talk.id, text).await;
        }
        let ask = |before_seq, after_seq, limit| {
            talk.bob_live.looks_back(HistoryRequest {
                conversation_id: talk.id,
                before_seq,
                after_seq,
                limit,
                ..HistoryRequest::default()
            })
        };
        let seqs = |page: &rookery::protocol::v1::HistoryPage| {
            page.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
        };
        let newest = ask(0, 0, 2).await;
        assert_eq!((sorted(seqs(&newest)), newest.more), (vec![4, 5], true), "{transport:?}");
        let before = ask(4, 0, 200).await;
        assert_eq!((sorted(seqs(&before)), before.more), (vec![1, 2, 3], false), "{transport:?}");
        let after = ask(0, 2, 2).await;
        assert_eq!((seqs(&after), after.more), (vec![3, 4], true), "{transport:?}");
        let rest = ask(0, 4, 2).await;
        assert_eq!((seqs(&rest), rest.more), (vec![5], false), "{transport:?}");
        let nothing = ask(0, 5, 2).await;
        assert!(nothing.messages.is_empty() && !nothing.more, "an empty page never says more");
        let nothing = ask(1, 0, 2).await;
        assert!(nothing.messages.is_empty() && !nothing.more, "an empty page never says more");
    }
}

fn sorted(mut seqs: Vec<u64>) -> Vec<u64> {
    seqs.sort_unstable();
    seqs
}

#[tokio::test]
async fn a_history_page_holds_at_most_200_messages() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let live = ada.opens(Transport::Tcp).await;
    let id = ada.direct_with(&bob).await;
    let mut replies = Vec::new();
    for number in 1..=205 {
        let send = a_text(id, &number.to_string());
        replies.push(live.connection.post(Request::Send(send)).await.expect("the connection is open"));
    }
    for reply in replies {
        within("sent", reply).await.expect("stored");
    }
    let ask = HistoryRequest { conversation_id: id, limit: 1000, ..HistoryRequest::default() };
    // A limit above the largest may be refused or cut; more than 200 must never come.
    if let Ok(page) = live.connection.history(ask).await {
        assert!(page.messages.len() <= 200 && page.more, "{}", page.messages.len());
    }
    let page = bob.gets(&format!("/conversations/{id}/messages?limit=200")).await.is(200);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(200));
}

#[tokio::test]
async fn a_first_message_makes_one_direct_conversation_for_both() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let (mut ada_live, mut bob_live) = (ada.opens(transport).await, bob.opens(transport).await);
        let there = ada_live.sends(a_text_to(&bob, "hello")).await;
        let news = bob_live.hears_of_conversation(there.conversation_id).await;
        assert_eq!((news.kind(), news.peer_user_id), (ConversationKind::Direct, ada.id));
        bob_live.hears_a_message().await;
        let back = bob_live.sends(a_text_to(&ada, "hello yourself")).await;
        assert_eq!((back.conversation_id, back.seq), (there.conversation_id, there.seq + 1));
        assert_eq!(ada_live.hears_a_message().await.text, "hello yourself");
        let again = bob.posts("/conversations", json!({"kind": "direct", "user_id": ada.id})).await;
        assert_eq!(number(&again.is(200), "conversation_id"), there.conversation_id);
    }
}

#[tokio::test]
async fn a_conversation_is_made_once_though_both_begin_it_at_the_same_moment() {
    for _ in 0..5 {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let (ada_live, bob_live) =
            (ada.opens(Transport::Tcp).await, bob.opens(Transport::WebSocketJson).await);
        let (there, back) = tokio::join!(
            ada_live.sends(a_text_to(&bob, "first!")),
            bob_live.sends(a_text_to(&ada, "no, me!"))
        );
        assert_eq!(there.conversation_id, back.conversation_id);
        assert_ne!(there.seq, back.seq);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_by_code_and_field_and_close_nothing() {
    for transport in TRANSPORTS {
        let talk = Talk::over(transport).await;
        let stranger = World::shared().person("eve").await;
        let theirs = stranger.direct_with(&talk.bob).await;
        let good = a_text(talk.id, "x");
        let nobody = 4_000_000_000_000_000;
        let cases = [
            (Send { text: String::new(), ..good.clone() }, ErrorCode::InvalidArgument, "text"),
            (Send { text: "x".repeat(64 * 1024 + 1), ..good.clone() }, ErrorCode::InvalidArgument, "text"),
            (Send { client_id: String::new(), ..good.clone() }, ErrorCode::InvalidArgument, "client_id"),
            (Send { client_id: "x".repeat(65), ..good.clone() }, ErrorCode::InvalidArgument, "client_id"),
            (Send { conversation_id: 0, ..good.clone() }, ErrorCode::InvalidArgument, "conversation_id"),
            (Send { to_user_id: talk.bob.id, ..good.clone() }, ErrorCode::InvalidArgument, "to_user_id"),
            (Send { kind: MessageKind::Edit as i32, ..good.clone() }, ErrorCode::InvalidArgument, "kind"),
            (Send { conversation_id: nobody, ..good.clone() }, ErrorCode::NotFound, ""),
            (Send { conversation_id: theirs, ..good.clone() }, ErrorCode::PermissionDenied, ""),
            (Send { conversation_id: 0, to_user_id: nobody, ..good.clone() }, ErrorCode::NotFound, ""),
            (
                Send { conversation_id: 0, to_user_id: talk.ada.id, ..good.clone() },
                ErrorCode::InvalidArgument,
                "to_user_id",
            ),
        ];
        for (send, code, field) in cases {
            let error = talk.ada_live.is_refused(Request::Send(send)).await;
            assert_eq!((error.code, error.field.as_ref()), (code, field), "{transport:?} {error}");
        }
        let elsewhere = Cursor { conversation_id: theirs, seq: 1 };
        let nowhere = Cursor { conversation_id: nobody, seq: 1 };
        for (request, code) in [
            (Request::Read(elsewhere), ErrorCode::PermissionDenied),
            (Request::Delivered(nowhere), ErrorCode::NotFound),
            (
                Request::Typing(TypingState { conversation_id: theirs, active: true }),
                ErrorCode::PermissionDenied,
            ),
            (
                Request::History(HistoryRequest { conversation_id: theirs, ..HistoryRequest::default() }),
                ErrorCode::PermissionDenied,
            ),
            (
                Request::History(HistoryRequest { conversation_id: nobody, ..HistoryRequest::default() }),
                ErrorCode::NotFound,
            ),
        ] {
            let what = format!("{request:?}");
            let error = talk.ada_live.is_refused(request).await;
            assert_eq!(error.code, code, "{transport:?} {what}: {error}");
        }
        // Nothing of it was stored: the log begins with what is good.
        let sent = talk.ada_live.sends(good).await;
        assert_eq!(sent.seq, 1, "{transport:?}");
    }
}

#[tokio::test]
async fn a_text_of_exactly_64_kib_goes_through_everywhere() {
    for transport in TRANSPORTS {
        let mut talk = Talk::over(transport).await;
        // Characters that JSON writes as six bytes are the worst case for a frame.
        let text = "\u{1}".repeat(64 * 1024);
        let sent = talk.ada_live.says(talk.id, &text).await;
        let heard = talk.bob_live.hears_a_message().await;
        assert_eq!((heard.seq, heard.text.len()), (sent.seq, text.len()), "{transport:?}");
        assert!(heard.text == text);
    }
}
