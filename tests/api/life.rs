//! The end of an account, and what it takes along.

use rookery::client::Transport;
use rookery::protocol::ContactState;
use serde_json::{Value, json};

use crate::world::{Answer, PASSWORD, Person, World, items, number};

impl Person {
    async fn writes_in(&self, conversation_id: u64, text: &str) {
        let body = json!({"client_id": text, "text": text});
        self.posts(&format!("/conversations/{conversation_id}/messages"), body).await.is(201);
    }

    async fn erases_itself(&self, password: &str) -> Answer {
        self.posts("/users/me/erase", json!({"password": password})).await
    }

    async fn exports(&self) -> Vec<Value> {
        let answer = self.gets("/users/me/export").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Texts of a conversation's messages as others see them: text and whether it is recalled.
    async fn reads_all(&self, conversation_id: u64) -> Vec<(String, bool)> {
        let page = self.gets(&format!("/conversations/{conversation_id}/messages")).await.is(200);
        let texts = items(&page).iter().filter(|message| message["kind"] == "text");
        texts
            .map(|message| (message["text"].as_str().expect("text").to_owned(), message["recalled"] == true))
            .collect()
    }
}

/// What lines of a type hold in a field.
fn of_type<'a>(lines: &'a [Value], kind: &str, field: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).map(|line| &line[field]).collect()
}

#[tokio::test]
async fn an_erased_account_is_gone_and_what_it_wrote_stays_as_from_nobody() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let direct = ada.direct_with(&bob).await;
    let group = ada.founds_a_group("club", &[&bob]).await;
    ada.writes_in(direct, "hello bob").await;
    ada.writes_in(group, "hello all").await;
    ada.posts("/contacts", json!({"user_id": bob.id})).await.is(201);
    let live = ada.on_another_device().await.opens(Transport::WebSocketJson).await;
    let mut bob_live = bob.opens(Transport::Tcp).await;

    ada.erases_itself("wrong password").await.is_refused(403, "permission_denied").naming("password");
    ada.gets("/users/me").await.is(200);
    ada.erases_itself(PASSWORD).await.is(204);

    ada.gets("/users/me").await.is_refused(401, "unauthenticated");
    live.sees_the_close().await;
    assert_eq!(bob_live.hears_of_contact(ada.id).await.state(), ContactState::Removed);
    let sign_in = json!({"username": ada.name, "password": PASSWORD});
    bob.posts("/sessions", sign_in.clone()).await.is_refused(401, "unauthenticated");
    let left = bob.gets(&format!("/users/{}", ada.id)).await.is(200);
    assert_eq!(left["display_name"], "Deleted user");
    assert_ne!(left["username"], ada.name.as_str());
    assert_eq!(left["bio"], "");
    assert!(items(&bob.gets("/contacts").await.is(200)).is_empty());
    assert!(items(&bob.gets(&format!("/users?query={}", ada.name)).await.is(200)).is_empty());
    assert_eq!(bob.reads_all(direct).await, [("hello bob".to_owned(), false)]);
    assert_eq!(bob.reads_all(group).await, [("hello all".to_owned(), false)]);
    let club = bob.sees(group).await;
    assert_eq!(
        (number(&club, "owner_id"), number(&club, "member_count")),
        (bob.id, 1),
        "the group has an heir"
    );
    // The name is free again, for somebody else.
    let body = json!({"username": ada.name, "password": PASSWORD});
    let new = bob.posts("/users", body).await.is(201);
    assert_ne!(number(&new, "user_id"), ada.id);
}

#[tokio::test]
async fn where_messages_go_with_their_account_they_are_emptied() {
    let world = World::with(&[("accounts.erase_messages", "remove")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let direct = ada.direct_with(&bob).await;
    let left = bob.founds_a_group("left before", &[&ada]).await;
    ada.writes_in(direct, "a secret").await;
    bob.writes_in(direct, "mine").await;
    ada.writes_in(left, "another").await;
    ada.posts(&format!("/conversations/{left}/leave"), json!({})).await.is(204);
    ada.erases_itself(PASSWORD).await.is(204);
    let emptied = (String::new(), true);
    assert_eq!(bob.reads_all(direct).await, [emptied.clone(), ("mine".to_owned(), false)]);
    assert_eq!(bob.reads_all(left).await, [emptied]);
    // The log goes on without a gap.
    bob.writes_in(direct, "still here").await;
    assert_eq!(number(&bob.sees(direct).await, "last_seq"), 3);
}

#[tokio::test]
async fn an_export_holds_what_is_ones_own_and_nothing_of_others() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = ada.world.person("eve").await;
    let direct = ada.direct_with(&bob).await;
    for at in 0..210 {
        ada.writes_in(direct, &format!("mine {at}")).await;
    }
    bob.writes_in(direct, "not ada's").await;
    ada.posts("/contacts", json!({"user_id": bob.id, "message": "me"})).await.is(201);
    ada.puts(&format!("/blocks/{}", eve.id), json!({})).await.is(204);
    ada.patches("/users/me/privacy", json!({"who_may_add": "contacts"})).await.is(200);
    ada.puts(&format!("/conversations/{direct}/draft"), json!({"text": "begun"})).await.is(204);
    let lines = ada.exports().await;
    assert_eq!(of_type(&lines, "account", "username"), [&json!(ada.name)]);
    assert_eq!(of_type(&lines, "device", "device_id"), [&json!(ada.device_id)]);
    assert_eq!(of_type(&lines, "privacy", "who_may_add"), [&json!("contacts")]);
    assert_eq!(of_type(&lines, "contact", "user_id"), [&json!(bob.id)]);
    assert_eq!(of_type(&lines, "block", "user_id"), [&json!(eve.id)]);
    assert_eq!(of_type(&lines, "conversation", "conversation_id"), [&json!(direct)]);
    assert_eq!(of_type(&lines, "conversation", "draft")[0]["text"], "begun");
    let texts = of_type(&lines, "message", "text");
    assert_eq!(texts.len(), 210);
    assert_eq!((texts[0], texts[209]), (&json!("mine 0"), &json!("mine 209")));
    assert_eq!(lines.last(), Some(&json!({"type": "end"})));
    let whole = serde_json::to_string(&lines).expect("JSON");
    assert!(!whole.contains("not ada's") && !whole.contains("argon2") && !whole.contains(&ada.token));
}
