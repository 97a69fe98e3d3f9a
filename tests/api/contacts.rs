//! Contacts: asking, accepting, declining, removing, as both sides see it.

use rookery::client::Transport;
use rookery::protocol::ContactState;
use serde_json::{Value, json};

use crate::live::Live;
use crate::world::{Person, World, items, number};

impl Person {
    async fn asks_to_be_friends_with(&self, other: &Person) -> Value {
        self.posts("/contacts", json!({"user_id": other.id, "message": "it's me"})).await.succeeds()
    }

    /// The state of another user in this one's list; empty: not listed.
    async fn lists(&self, other: &Person) -> String {
        let page = self.gets("/contacts").await.is(200);
        let row = items(&page).iter().find(|row| number(row, "user_id") == other.id);
        row.map_or(String::new(), |row| row["state"].as_str().expect("a word").to_owned())
    }
}

impl Live {
    async fn hears_that(&mut self, other: &Person, state: ContactState) {
        let news = self.hears_of_contact(other.id).await;
        assert_eq!(news.state(), state, "{news:?}");
    }
}

/// Two people and a live connection of each.
async fn two() -> (Person, Live, Person, Live) {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (ada_live, bob_live) = (ada.opens(Transport::WebSocketJson).await, bob.opens(Transport::Tcp).await);
    (ada, ada_live, bob, bob_live)
}

#[tokio::test]
async fn a_request_that_is_accepted_makes_friends_of_both() {
    let (ada, mut ada_live, bob, mut bob_live) = two().await;
    ada.asks_to_be_friends_with(&bob).await;
    assert_eq!((ada.lists(&bob).await, bob.lists(&ada).await), ("requested".into(), "invited".into()));
    let news = bob_live.hears_of_contact(ada.id).await;
    assert_eq!((news.state(), news.message.as_str()), (ContactState::Invited, "it's me"));
    ada_live.hears_that(&bob, ContactState::Requested).await;

    bob.posts(&format!("/contacts/{}/accept", ada.id), json!({})).await.succeeds();
    assert_eq!((ada.lists(&bob).await, bob.lists(&ada).await), ("friend".into(), "friend".into()));
    ada_live.hears_that(&bob, ContactState::Friend).await;
    bob_live.hears_that(&ada, ContactState::Friend).await;
}

#[tokio::test]
async fn a_request_that_is_declined_leaves_nothing_on_either_side() {
    let (ada, mut ada_live, bob, mut bob_live) = two().await;
    ada.asks_to_be_friends_with(&bob).await;
    bob.posts(&format!("/contacts/{}/decline", ada.id), json!({})).await.succeeds();
    assert_eq!((ada.lists(&bob).await, bob.lists(&ada).await), (String::new(), String::new()));
    ada_live.hears_that(&bob, ContactState::Requested).await;
    ada_live.hears_that(&bob, ContactState::Removed).await;
    bob_live.hears_that(&ada, ContactState::Invited).await;
    bob_live.hears_that(&ada, ContactState::Removed).await;
    bob.posts(&format!("/contacts/{}/decline", ada.id), json!({})).await.is_refused(404, "not_found");
    bob.posts(&format!("/contacts/{}/accept", ada.id), json!({})).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn a_friend_that_is_removed_is_gone_on_both_sides() {
    let (ada, _ada_live, bob, mut bob_live) = two().await;
    ada.asks_to_be_friends_with(&bob).await;
    bob.posts(&format!("/contacts/{}/accept", ada.id), json!({})).await.succeeds();
    ada.deletes(&format!("/contacts/{}", bob.id)).await.is(204);
    assert_eq!((ada.lists(&bob).await, bob.lists(&ada).await), (String::new(), String::new()));
    bob_live.hears_that(&ada, ContactState::Invited).await;
    bob_live.hears_that(&ada, ContactState::Friend).await;
    bob_live.hears_that(&ada, ContactState::Removed).await;
    ada.deletes(&format!("/contacts/{}", bob.id)).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn two_who_ask_each_other_are_friends() {
    let (ada, _ada_live, bob, _bob_live) = two().await;
    ada.asks_to_be_friends_with(&bob).await;
    bob.asks_to_be_friends_with(&ada).await;
    assert_eq!((ada.lists(&bob).await, bob.lists(&ada).await), ("friend".into(), "friend".into()));
}

#[tokio::test]
async fn one_does_not_accept_ones_own_request() {
    let (ada, _ada_live, bob, _bob_live) = two().await;
    ada.asks_to_be_friends_with(&bob).await;
    ada.posts(&format!("/contacts/{}/accept", bob.id), json!({})).await.is_refused(404, "not_found");
    ada.posts(&format!("/contacts/{}/decline", bob.id), json!({})).await.is_refused(404, "not_found");
    assert_eq!(bob.lists(&ada).await, "invited");
    // But it can be taken back.
    ada.deletes(&format!("/contacts/{}", bob.id)).await.is(204);
    assert_eq!(bob.lists(&ada).await, "");
}

#[tokio::test]
async fn requests_to_nobody_oneself_or_without_a_name_are_refused() {
    let ada = World::shared().person("ada").await;
    ada.posts("/contacts", json!({"user_id": 4_000_000_000_u64})).await.is_refused(404, "not_found");
    ada.posts("/contacts", json!({"user_id": ada.id}))
        .await
        .is_refused(400, "invalid_argument")
        .naming("user_id");
    ada.posts("/contacts", json!({})).await.is_refused(400, "invalid_argument").naming("user_id");
    ada.posts("/contacts", json!({"user_id": -5})).await.is_refused(400, "invalid_argument");
    assert!(items(&ada.gets("/contacts").await.is(200)).is_empty());
}

#[tokio::test]
async fn a_contact_list_comes_page_by_page() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        let other = world.person("friend").await;
        ada.asks_to_be_friends_with(&other).await;
        expected.push(other.id);
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.gets(&format!("/contacts?limit=2&cursor={cursor}")).await.is(200);
        assert!(items(&page).len() <= 2);
        listed.extend(items(&page).iter().map(|row| number(row, "user_id")));
        cursor = page["next_cursor"].as_str().expect("a string").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn who_is_no_contact_may_still_be_written_to() {
    let (ada, _ada_live, bob, mut bob_live) = two().await;
    let body = json!({"client_id": "k", "text": "hello stranger"});
    ada.posts(&format!("/users/{}/messages", bob.id), body).await.is(201);
    assert_eq!(bob_live.hears_a_message().await.text, "hello stranger");
}
