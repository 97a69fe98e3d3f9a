//! Edits, recalls and reactions, told once for all ways by which they are asked for: every framed transport, and REST.

use rookery::client::{ClientError, Transport};
use rookery::domain::Error;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, Edit, HistoryRequest, Message, React, Recall, Sent, SyncRequest};
use rookery::protocol::{ErrorCode, MessageKind};
use serde_json::{Value, json};

use crate::live::{Live, a_text};
use crate::world::{Person, TRANSPORTS, World, items, number, unique};

/// One who changes messages, by one way or another.
pub enum Hand {
    Frames(Live),
    Rest(Person),
}

/// The ways.
pub async fn hands(person: &Person) -> Vec<Hand> {
    let mut hands = vec![Hand::Rest(person.clone())];
    for transport in TRANSPORTS {
        hands.push(Hand::Frames(person.on_another_device().await.opens(transport).await));
    }
    hands
}

fn named() -> String {
    format!("c{}", unique())
}

pub fn edit(conversation_id: u64, target_seq: u64, text: &str) -> Request {
    Request::Edit(Edit { conversation_id, target_seq, client_id: named(), text: text.to_owned() })
}

pub fn recall(conversation_id: u64, target_seq: u64) -> Request {
    Request::Recall(Recall { conversation_id, target_seq, client_id: named() })
}

pub fn react(conversation_id: u64, target_seq: u64, emoji: &str, remove: bool) -> Request {
    let emoji = emoji.to_owned();
    Request::React(React { conversation_id, target_seq, client_id: named(), emoji, remove })
}

impl Hand {
    /// Asks for a change; `sent` or the error's code.
    pub async fn tries(&self, change: Request) -> Result<Sent, ErrorCode> {
        match self {
            Self::Frames(live) => match live.connection.request(change).await {
                Ok(Body::Sent(sent)) => Ok(sent),
                Err(ClientError::Refused(Error { code, .. })) => Err(code),
                other => panic!("neither sent nor refused: {other:?}"),
            },
            Self::Rest(person) => {
                let answer = match change {
                    Request::Edit(edit) => {
                        let path = path_of(edit.conversation_id, edit.target_seq, "");
                        person.patches(&path, json!({"text": edit.text, "client_id": edit.client_id})).await
                    }
                    Request::Recall(recall) => {
                        let path = path_of(recall.conversation_id, recall.target_seq, "");
                        person.deletes(&format!("{path}?client_id={}", recall.client_id)).await
                    }
                    Request::React(react) => {
                        let path = path_of(
                            react.conversation_id,
                            react.target_seq,
                            &format!("/reactions/{}?client_id={}", react.emoji, react.client_id),
                        );
                        match react.remove {
                            true => person.deletes(&path).await,
                            false => person.puts(&path, json!({})).await,
                        }
                    }
                    other => panic!("no change: {other:?}"),
                };
                if answer.status == 200 {
                    return Ok(serde_json::from_value(answer.body).expect("`sent`"));
                }
                let code = answer.body["error"]["code"].as_str().unwrap_or_default();
                Err(ErrorCode::from_str_name(code).unwrap_or_else(|| panic!("{}", answer.text)))
            }
        }
    }

    /// The same, when it must go well.
    #[track_caller]
    pub fn changes(&self, change: Request) -> impl Future<Output = Sent> {
        let what = format!("{change:?}");
        async move { self.tries(change).await.unwrap_or_else(|code| panic!("{what}: {code:?}")) }
    }
}

pub fn path_of(conversation_id: u64, seq: u64, rest: &str) -> String {
    format!("/conversations/{conversation_id}/messages/{seq}{rest}")
}

impl Person {
    /// A message as history has it, by REST.
    pub async fn sees_message(&self, conversation_id: u64, seq: u64) -> Value {
        let path = format!("/conversations/{conversation_id}/messages?before_seq={}&limit=1", seq + 1);
        let page = self.gets(&path).await.is(200);
        items(&page).first().unwrap_or_else(|| panic!("no message {seq}: {page}")).clone()
    }

    /// Sends by REST; the seq.
    pub async fn writes(&self, conversation_id: u64, text: &str) -> u64 {
        let body = json!({"client_id": named(), "text": text});
        let path = format!("/conversations/{conversation_id}/messages");
        number(&self.posts(&path, body).await.is(201), "seq")
    }
}

#[tokio::test]
async fn a_change_is_an_entry_for_everybody_and_the_message_is_what_it_makes_of_it() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for hand in hands(&ada).await {
        let seq = ada.writes(id, "frist").await;
        let mut bob_live = bob.opens(Transport::WebSocketProto).await;
        let edited = hand.changes(edit(id, seq, "first")).await;
        let heard = bob_live.hears_a_message().await;
        assert_eq!((heard.kind(), heard.seq, heard.target_seq), (MessageKind::Edit, edited.seq, seq));
        assert_eq!((heard.text.as_str(), heard.sender_id), ("first", ada.id));
        let seen = bob.sees_message(id, seq).await;
        assert_eq!((&seen["text"], number(&seen, "edited_at_ms")), (&json!("first"), edited.created_at_ms));
        assert_eq!((&seen["kind"], &seen["recalled"]), (&json!("text"), &json!(false)));

        let put_on = hand.changes(react(id, seq, "👍", false)).await;
        let heard = bob_live.hears_a_message().await;
        assert_eq!((heard.kind(), heard.seq, heard.target_seq), (MessageKind::Reaction, put_on.seq, seq));
        assert_eq!((heard.emoji.as_str(), heard.recalled), ("👍", false));
        let seen = bob.sees_message(id, seq).await;
        assert_eq!(seen["reactions"], json!([{"emoji": "👍", "user_ids": [ada.id], "count": 1}]));
        hand.changes(react(id, seq, "👍", true)).await;
        let heard = bob_live.hears_a_message().await;
        assert!(heard.recalled && heard.kind() == MessageKind::Reaction, "{heard:?}");
        assert_eq!(bob.sees_message(id, seq).await["reactions"], json!([]));

        let recalled = hand.changes(recall(id, seq)).await;
        let heard = bob_live.hears_a_message().await;
        assert_eq!((heard.kind(), heard.seq, heard.target_seq), (MessageKind::Recall, recalled.seq, seq));
        // By sync and by history, on every framing: nothing of the text is left, in the edit's own entry neither.
        for transport in TRANSPORTS {
            let live = bob.on_another_device().await.opens(transport).await;
            let cursors = vec![Cursor { conversation_id: id, seq: seq - 1 }];
            let synced = live.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await.messages;
            let request = HistoryRequest { conversation_id: id, after_seq: seq - 1, ..Default::default() };
            assert_eq!(synced, live.looks_back(request).await.messages);
            let kinds: Vec<(MessageKind, u64)> = synced.iter().map(|m| (m.kind(), m.target_seq)).collect();
            let [text, edit, on, off, recall] = [
                MessageKind::Text,
                MessageKind::Edit,
                MessageKind::Reaction,
                MessageKind::Reaction,
                MessageKind::Recall,
            ];
            assert_eq!(kinds, [(text, 0), (edit, seq), (on, seq), (off, seq), (recall, seq)]);
            assert!(synced[0].recalled && synced.iter().all(|message| message.text.is_empty()), "{synced:?}");
        }
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_whatever_has_happened_since() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for hand in hands(&ada).await {
        let seq = ada.writes(id, "one").await;
        let (two, off) = (edit(id, seq, "two"), react(id, seq, "👍", true));
        let first = hand.changes(two.clone()).await;
        hand.changes(react(id, seq, "👍", false)).await;
        let second = hand.changes(off.clone()).await;
        let gone = recall(id, seq);
        let third = hand.changes(gone.clone()).await;
        // More than a room remembers.
        for _ in 0..3 {
            for (change, first) in [(&two, &first), (&off, &second), (&gone, &third)] {
                let again = hand.changes(change.clone()).await;
                assert_eq!(again, Sent { duplicate: true, ..first.clone() });
            }
        }
        assert_eq!(number(&ada.sees(id).await, "last_seq"), third.seq, "a repeat stores nothing");
    }
}

/// What may not be changed, and by whom; each refusal leaves the log as it was.
#[tokio::test]
async fn what_is_refused_stores_nothing() {
    let world = World::with(&[("messages.reactions_max", "2")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let late = world.person("late").await;
    let stranger = world.person("eve").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let seq = ada.writes(id, "hello").await;
    let taken_back = ada.writes(id, "oh no").await;
    Hand::Rest(ada.clone()).changes(recall(id, taken_back)).await;
    let picture = json!({"client_id": named(), "kind": "image", "attachments": [{"name": "a.png"}]});
    let path = format!("/conversations/{id}/messages");
    let picture = number(&ada.posts(&path, picture).await.is(201), "seq");
    for emoji in ["👍", "👎"] {
        Hand::Rest(ada.clone()).changes(react(id, seq, emoji, false)).await;
    }
    late.posts(&format!("/conversations/{id}/join"), json!({})).await.is(200);
    let entry = number(&ada.sees(id).await, "last_seq") - 1;
    use ErrorCode::{
        FailedPrecondition as Not, InvalidArgument as Bad, NotFound as Absent, PermissionDenied as Denied,
    };
    let cases = [
        ("another's", &bob, edit(id, seq, "x"), Denied),
        ("another's, by one who is only a member", &bob, recall(id, seq), Denied),
        ("by a stranger", &stranger, edit(id, seq, "x"), Denied),
        ("by a stranger", &stranger, react(id, seq, "🐦", false), Denied),
        ("from before one joined", &late, react(id, seq, "🐦", false), Absent),
        ("not there", &ada, edit(id, 1 << 40, "x"), Absent),
        ("not there", &ada, recall(id, 999), Absent),
        ("taken back", &ada, edit(id, taken_back, "x"), Not),
        ("taken back", &ada, recall(id, taken_back), Not),
        ("taken back", &bob, react(id, taken_back, "🐦", false), Not),
        ("a system message", &ada, recall(id, 1), Not),
        ("a system message", &bob, react(id, 1, "🐦", false), Not),
        ("an entry about another", &ada, react(id, entry, "🐦", false), Not),
        ("a picture", &ada, edit(id, picture, "x"), Not),
        ("a third emoji", &bob, react(id, seq, "🐦", false), Not),
        ("nothing", &ada, edit(id, seq, ""), Bad),
        ("too long", &ada, edit(id, seq, &"x".repeat(70_000)), Bad),
        ("no emoji", &bob, react(id, seq, &"🐦".repeat(17), false), Bad),
        ("a word", &bob, react(id, seq, "ok", false), Bad),
        ("no seq", &ada, edit(id, 0, "x"), Bad),
    ];
    let before = (ada.gets(&path).await.is(200), number(&ada.sees(id).await, "last_seq"));
    for (what, who, change, wanted) in cases {
        for hand in hands(who).await {
            assert_eq!(hand.tries(change.clone()).await, Err(wanted), "{what}: {change:?}");
        }
    }
    assert_eq!((ada.gets(&path).await.is(200), number(&ada.sees(id).await, "last_seq")), before);
}

#[tokio::test]
async fn windows_close_for_senders_and_never_for_admins() {
    let world = World::with(&[("messages.edit_window", "1ms"), ("messages.recall_window", "1ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let seq = bob.writes(id, "hello").await;
    let (by_ada, by_bob) = (Hand::Rest(ada.clone()), Hand::Rest(bob.clone()));
    // The time of a message is that of the node, so a request later it is more than a millisecond old; soon, at least.
    crate::world::eventually("the window closes", async || {
        by_bob.tries(edit(id, seq, "hello again")).await.is_err().then_some(())
    })
    .await;
    assert_eq!(by_bob.tries(recall(id, seq)).await, Err(ErrorCode::FailedPrecondition));
    by_ada.changes(recall(id, seq)).await;
}

/// Who may take back whose message, by role.
#[tokio::test]
async fn a_message_is_taken_back_by_its_sender_and_by_higher_roles() {
    let world = World::shared();
    let owner = world.person("owner").await;
    let (member, other) = world.two("member", "other").await;
    let id = owner.founds_a_group("club", &[&member, &other]).await;
    let cases = [
        (&owner, &member, Ok(())),
        (&owner, &owner, Ok(())),
        (&member, &member, Ok(())),
        (&member, &owner, Err(ErrorCode::PermissionDenied)),
        (&member, &other, Err(ErrorCode::PermissionDenied)),
    ];
    for (by, of, wanted) in cases {
        let seq = of.writes(id, "hello").await;
        let got = Hand::Rest(by.clone()).tries(recall(id, seq)).await.map(|_| ());
        assert_eq!(got, wanted, "{} takes back what {} wrote", by.name, of.name);
    }
    // One who has left has no role any more.
    let seq = other.writes(id, "goodbye").await;
    other.posts(&format!("/conversations/{id}/leave"), json!({})).await.is(204);
    Hand::Rest(owner.clone()).changes(recall(id, seq)).await;
}

#[tokio::test]
async fn an_edit_behind_a_recall_is_refused_however_close_they_are() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let live = ada.opens(transport).await;
        for round in 0..20 {
            let seq = live.says(id, "hello").await.seq;
            // Both are under way before either is stored.
            let (first, second) = match round % 2 {
                0 => (recall(id, seq), edit(id, seq, "late")),
                _ => (edit(id, seq, "in time"), recall(id, seq)),
            };
            let first = live.connection.post(first).await.expect("open");
            let second = live.connection.post(second).await.expect("open");
            assert!(matches!(first.await, Ok(Body::Sent(_))));
            match (round % 2, second.await) {
                (0, Err(ClientError::Refused(error))) => {
                    assert_eq!(error.code, ErrorCode::FailedPrecondition)
                }
                (1, Ok(Body::Sent(_))) => {}
                (_, other) => panic!("{other:?}"),
            }
            let seen = bob.sees_message(id, seq).await;
            assert_eq!((&seen["recalled"], &seen["text"]), (&json!(true), &json!("")));
        }
    }
}

#[tokio::test]
async fn entries_about_messages_are_not_unread_and_not_the_preview() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let hand = Hand::Rest(ada.clone());
    let first = ada.writes(id, "one").await;
    let second = ada.writes(id, "two").await;
    hand.changes(edit(id, first, "uno")).await;
    hand.changes(react(id, first, "👍", false)).await;
    let last = hand.changes(edit(id, second, "due")).await.seq;
    let seen = bob.sees(id).await;
    assert_eq!((number(&seen, "unread"), number(&seen, "last_seq")), (2, last), "{seen}");
    assert_eq!(seen["last_message"]["text"], "due", "{seen}");
    // To react is not to have read.
    Hand::Rest(bob.clone()).changes(react(id, first, "🐦", false)).await;
    let seen = bob.sees(id).await;
    assert_eq!((number(&seen, "unread"), number(&seen, "read_seq")), (2, 0), "{seen}");
    bob.writes(id, "three").await;
    assert_eq!(number(&bob.sees(id).await, "unread"), 0, "to write is");
    // One who was away learns of an edit by sync.
    let live = bob.opens(Transport::Tcp).await;
    let token = live.syncs(SyncRequest::default()).await.sync_token;
    hand.changes(edit(id, first, "un")).await;
    let page = live.syncs(SyncRequest { since: token, ..SyncRequest::default() }).await;
    assert!(page.conversations.iter().any(|row| row.conversation_id == id), "{page:?}");
}

#[tokio::test]
async fn one_who_may_not_write_may_not_edit_or_react_but_take_back() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let (mine, theirs) = (bob.writes(id, "hello").await, ada.writes(id, "hello").await);
    let hand = Hand::Rest(bob.clone());
    let edited = edit(id, mine, "hello!");
    let first = hand.changes(edited.clone()).await;
    ada.puts(&format!("/blocks/{}", bob.id), json!({})).await.is(204);
    assert_eq!(hand.tries(edit(id, mine, "you!")).await, Err(ErrorCode::PermissionDenied));
    assert_eq!(hand.tries(react(id, theirs, "👎", false)).await, Err(ErrorCode::PermissionDenied));
    assert_eq!(hand.changes(edited).await, Sent { duplicate: true, ..first });
    hand.changes(recall(id, mine)).await;
}

#[tokio::test]
async fn changes_pipelined_with_sends_keep_their_order() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let target = ada.writes(id, "0").await;
    let mut bob_live = bob.opens(Transport::WebSocketProto).await;
    let live = ada.opens(Transport::Tcp).await;
    let mut replies = Vec::new();
    for at in 1..=100 {
        let request = match at % 2 {
            0 => Request::Send(a_text(id, &at.to_string())),
            _ => edit(id, target, &at.to_string()),
        };
        replies.push(live.connection.post(request).await.expect("open"));
    }
    for reply in replies {
        assert!(matches!(reply.await, Ok(Body::Sent(_))));
    }
    for at in 1..=100 {
        let heard: Message = bob_live.hears_a_message().await;
        assert_eq!((heard.seq, heard.text), (target + at, at.to_string()));
    }
    assert_eq!(bob.sees_message(id, target).await["text"], "99");
}
