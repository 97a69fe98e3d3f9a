//! Blocks and privacy: who may write to whom, ask whom and add whom, over every transport.

use reqwest::Method;
use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::{Send, TypingState};
use rookery::protocol::{ContactState, ErrorCode};
use serde_json::{Value, json};

use crate::live::{a_text, a_text_to};
use crate::world::{Person, TRANSPORTS, World, items, number, unique};

impl Person {
    async fn blocks(&self, other: &Person) {
        self.puts(&format!("/blocks/{}", other.id), json!({})).await.is(204);
    }

    async fn lifts_the_block_of(&self, other: &Person) {
        self.deletes(&format!("/blocks/{}", other.id)).await.is(204);
    }

    async fn befriends(&self, other: &Person) {
        self.posts("/contacts", json!({"user_id": other.id})).await.is(201);
        other.posts(&format!("/contacts/{}/accept", self.id), json!({})).await.is(200);
    }

    async fn sets_privacy(&self, setting: &str, word: &str) -> Value {
        self.patches("/users/me/privacy", json!({setting: word})).await.is(200)
    }

    /// What becomes of a direct message by every way there is: `None` is "sent".
    async fn tries_to_write_to(
        &self,
        other: &Person,
        known: Option<u64>,
    ) -> Vec<(String, Option<ErrorCode>)> {
        let mut outcomes = Vec::new();
        for transport in TRANSPORTS {
            let live = self.opens(transport).await;
            let mut sends = vec![("to_user_id", a_text_to(other, "hey"))];
            sends.extend(known.map(|id| ("conversation_id", a_text(id, "hey"))));
            for (way, send) in sends {
                let outcome = match live.connection.send(send).await {
                    Ok(_) => None,
                    Err(rookery::client::ClientError::Refused(error)) => Some(error.code),
                    Err(error) => panic!("{error}"),
                };
                outcomes.push((format!("{transport:?} {way}"), outcome));
            }
        }
        let mut paths = vec![format!("/users/{}/messages", other.id)];
        paths.extend(known.map(|id| format!("/conversations/{id}/messages")));
        for path in paths {
            let answer =
                self.posts(&path, json!({"client_id": format!("c{}", unique()), "text": "hey"})).await;
            let code = (answer.status >= 300).then(|| {
                let word = answer.body["error"]["code"].as_str().expect("an error has a code");
                ErrorCode::from_str_name(word).expect("a code of the protocol")
            });
            outcomes.push((path, code));
        }
        outcomes
    }

    #[track_caller]
    fn check(outcomes: Vec<(String, Option<ErrorCode>)>, expected: Option<ErrorCode>) {
        for (way, outcome) in outcomes {
            assert_eq!(outcome, expected, "{way}");
        }
    }
}

const DENIED: Option<ErrorCode> = Some(ErrorCode::PermissionDenied);

#[tokio::test]
async fn a_block_stops_direct_messages_both_ways_until_it_is_lifted() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, None);
    let before = ada.reads_texts(id).await.len();
    ada.blocks(&bob).await;
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, DENIED);
    let own = Some(ErrorCode::FailedPrecondition);
    Person::check(ada.tries_to_write_to(&bob, Some(id)).await, own);
    assert_eq!(ada.reads_texts(id).await.len(), before, "what is refused is not stored");
    let typing = TypingState { conversation_id: id, active: true };
    let error = bob.opens(Transport::Tcp).await.is_refused(Request::Typing(typing)).await;
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    ada.lifts_the_block_of(&bob).await;
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, None);
}

#[tokio::test]
async fn lines_are_blocked_too() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let mut line = world.registers("bob").await;
    let bob = world.signs_in(&line.name).await;
    ada.blocks(&bob).await;
    let said = line.asks(&format!("SEND {} hello", ada.id)).await;
    assert!(said.starts_with("-ERR ") && said != "-ERR failed", "{said}");
    let said = line.asks(&format!("ADDFRIEND {}", ada.id)).await;
    assert!(said.starts_with("-ERR "), "{said}");
    ada.lifts_the_block_of(&bob).await;
    assert!(line.asks(&format!("SEND {} hello", ada.id)).await.starts_with("+OK "));
}

#[tokio::test]
async fn nobody_makes_himself_a_friend_of_one_to_whom_friends_are_more_than_others() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let mut line = world.registers("bob").await;
    for setting in ["who_may_add", "who_may_write", "who_sees_last_seen"] {
        ada.patches("/users/me/privacy", json!({(setting): "contacts"})).await.succeeds();
        let said = line.asks(&format!("ADDFRIEND {}", ada.id)).await;
        assert!(said.starts_with("-ERR ") && said.contains("contact request"), "{setting}: {said}");
        ada.patches("/users/me/privacy", json!({(setting): "everyone"})).await.succeeds();
    }
    assert_eq!(line.asks(&format!("ADDFRIEND {}", ada.id)).await, "+OK friend added");
}

#[tokio::test]
async fn a_refused_first_message_makes_no_conversation() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    ada.blocks(&bob).await;
    Person::check(bob.tries_to_write_to(&ada, None).await, DENIED);
    bob.posts("/conversations", json!({"user_id": ada.id})).await.is_refused(403, "permission_denied");
    assert!(items(&bob.gets("/conversations").await.is(200)).is_empty());
    assert!(items(&ada.gets("/conversations").await.is(200)).is_empty());
}

#[tokio::test]
async fn a_repeat_of_what_was_stored_before_the_block_gets_its_answer() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let live = bob.opens(Transport::WebSocketProto).await;
    let send: Send = a_text_to(&ada, "before");
    let first = live.sends(send.clone()).await;
    ada.blocks(&bob).await;
    let again = live.sends(send).await;
    assert_eq!((again.seq, again.duplicate), (first.seq, true));
    let error = live.is_refused(Request::Send(a_text_to(&ada, "after"))).await;
    assert_eq!(error.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_block_ends_a_friendship_and_both_sides_hear_what_concerns_them() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    ada.befriends(&bob).await;
    let mut ada_live = ada.on_another_device().await.opens(Transport::WebSocketJson).await;
    let mut bob_live = bob.opens(Transport::Tcp).await;
    ada.blocks(&bob).await;
    assert_eq!(ada_live.hears_of_contact(bob.id).await.state(), ContactState::Blocked);
    assert_eq!(bob_live.hears_of_contact(ada.id).await.state(), ContactState::Removed);
    for person in [&ada, &bob] {
        assert!(items(&person.gets("/contacts").await.is(200)).is_empty());
    }
    let blocked = ada.gets("/blocks").await.is(200);
    assert_eq!(items(&blocked).len(), 1);
    assert_eq!(number(&items(&blocked)[0], "user_id"), bob.id);
    assert_eq!(items(&blocked)[0]["username"], bob.name.as_str());
    assert!(items(&bob.gets("/blocks").await.is(200)).is_empty(), "nobody is told that it is blocked");

    bob.posts("/contacts", json!({"user_id": ada.id})).await.is_refused(403, "permission_denied");
    ada.posts("/contacts", json!({"user_id": bob.id})).await.is_refused(412, "failed_precondition");
    ada.blocks(&bob).await;
    ada.lifts_the_block_of(&bob).await;
    assert_eq!(ada_live.hears_of_contact(bob.id).await.state(), ContactState::Removed);
    ada.deletes(&format!("/blocks/{}", bob.id)).await.is_refused(404, "not_found");
    ada.befriends(&bob).await;
}

#[tokio::test]
async fn blocks_of_nobody_and_of_oneself_are_refused() {
    let ada = World::shared().person("ada").await;
    ada.puts("/blocks/4000000000", json!({})).await.is_refused(404, "not_found");
    ada.puts(&format!("/blocks/{}", ada.id), json!({})).await.is_refused(400, "invalid_argument");
    ada.puts("/blocks/x", json!({})).await.is_refused(400, "invalid_argument");
    let world = World::shared();
    world.asks(Method::GET, "/blocks", None, None).await.is_refused(401, "unauthenticated");
}

#[tokio::test]
async fn privacy_says_who_may_write() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let defaults = ada.gets("/users/me/privacy").await.is(200);
    let everyone =
        json!({"who_may_write": "everyone", "who_may_add": "everyone", "who_sees_last_seen": "everyone"});
    assert_eq!(defaults, everyone);
    let set = ada.sets_privacy("who_may_write", "contacts").await;
    assert_eq!(
        (set["who_may_write"].as_str(), set["who_may_add"].as_str()),
        (Some("contacts"), Some("everyone"))
    );
    Person::check(bob.tries_to_write_to(&ada, None).await, DENIED);
    ada.befriends(&bob).await;
    Person::check(bob.tries_to_write_to(&ada, None).await, None);
    let id = ada.direct_with(&bob).await;
    ada.sets_privacy("who_may_write", "nobody").await;
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, DENIED);
    Person::check(ada.tries_to_write_to(&bob, Some(id)).await, None);
    ada.sets_privacy("who_may_write", "contacts").await;
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, None);
    bob.deletes(&format!("/contacts/{}", ada.id)).await.is(204);
    Person::check(bob.tries_to_write_to(&ada, Some(id)).await, DENIED);
    let wrong = ada.patches("/users/me/privacy", json!({"who_may_write": "friends"})).await;
    wrong.is_refused(400, "invalid_argument").naming("who_may_write");
}

#[tokio::test]
async fn privacy_says_who_may_add() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let eve = world.person("eve").await;
    ada.sets_privacy("who_may_add", "contacts").await;
    let group = |name: &str| json!({"kind": "group", "name": name, "member_ids": [ada.id, eve.id]});
    bob.posts("/conversations", group("a")).await.is_refused(403, "permission_denied").naming("member_ids");
    assert!(
        items(&eve.gets("/conversations").await.is(200)).is_empty(),
        "one refusal refuses the whole call"
    );
    let id = bob.founds_a_group("b", &[&eve]).await;
    let members = format!("/conversations/{id}/members");
    bob.posts(&members, json!({"user_id": ada.id})).await.is_refused(403, "permission_denied");
    // Anybody may still ask to become a contact, or nobody new ever could.
    ada.befriends(&bob).await;
    bob.posts(&members, json!({"user_id": ada.id})).await.is(204);
    ada.sets_privacy("who_may_add", "nobody").await;
    bob.posts("/conversations", group("c")).await.is_refused(403, "permission_denied");
    eve.posts("/contacts", json!({"user_id": ada.id})).await.is_refused(403, "permission_denied");
    // But one who is asked may answer.
    ada.posts("/contacts", json!({"user_id": eve.id})).await.is(201);
    eve.posts("/contacts", json!({"user_id": ada.id})).await.is(201);
    // Joining is one's own doing.
    let open = eve.founds_a_group("open", &[]).await;
    ada.posts(&format!("/conversations/{open}/join"), json!({})).await.is(200);
}
