//! Membership: listing, adding, removing, joining, leaving; and what each lets one see.

use rookery::client::Transport;
use rookery::protocol::MessageKind;
use rookery::protocol::v1::Conversation;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use serde_json::json;

use crate::live::{Live, a_text};
use crate::world::{Answer, Person, World, items, number};

impl Person {
    /// The members of a conversation with their roles, in the order of their ids.
    async fn lists_members(&self, id: u64) -> Vec<(u64, String)> {
        let page = self.gets(&format!("/conversations/{id}/members?limit=200")).await.is(200);
        let row = |row: &serde_json::Value| {
            (number(row, "user_id"), row["role"].as_str().expect("a word").to_owned())
        };
        let mut rows: Vec<_> = items(&page).iter().map(row).collect();
        rows.sort();
        rows
    }

    async fn adds(&self, id: u64, others: &[&Person]) -> Answer {
        let ids: Vec<u64> = others.iter().map(|other| other.id).collect();
        self.posts(&format!("/conversations/{id}/members"), json!({"user_ids": ids})).await
    }

    async fn joins(&self, id: u64) -> Answer {
        self.posts(&format!("/conversations/{id}/join"), json!({})).await
    }

    async fn leaves(&self, id: u64) -> Answer {
        self.posts(&format!("/conversations/{id}/leave"), json!({})).await
    }

    async fn removes(&self, id: u64, other: &Person) -> Answer {
        self.deletes(&format!("/conversations/{id}/members/{}", other.id)).await
    }
}

impl Live {
    /// The next news that one is no longer a member somewhere.
    async fn hears_of_removal(&mut self) -> Conversation {
        self.hears("news of a removal", |event| match event {
            Body::Conversation(news) if news.removed => Some(news),
            _ => None,
        })
        .await
    }
}

/// A stranger's answer.
#[track_caller]
fn is_closed_to_strangers(answer: Answer) {
    answer.is_refused(403, "permission_denied");
}

async fn three() -> (Person, Person, Person) {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    (ada, bob, world.person("cleo").await)
}

#[tokio::test]
async fn the_member_list_names_everybody_with_a_role() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob, &cleo]).await;
    let expected =
        vec![(ada.id, "owner".to_owned()), (bob.id, "member".to_owned()), (cleo.id, "member".to_owned())];
    for person in [&ada, &bob, &cleo] {
        assert_eq!(person.lists_members(id).await, expected);
    }
    let (mut listed, mut cursor) = (0, String::new());
    loop {
        let page = ada.gets(&format!("/conversations/{id}/members?limit=1&cursor={cursor}")).await.is(200);
        listed += items(&page).len();
        cursor = page["next_cursor"].as_str().expect("a string").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(listed, 3);
}

#[tokio::test]
async fn who_is_added_hears_of_it_and_of_all_that_follows() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let mut cleo_live = cleo.opens(Transport::WebSocketJson).await;
    let mut bob_live = bob.opens(Transport::Tcp).await;
    ada.adds(id, &[&cleo]).await.succeeds();
    let news = cleo_live.hears_of_conversation(id).await;
    assert!(!news.removed && news.member_count == 3, "{news:?}");
    // Everybody's log tells of it.
    let told = bob_live.hears_a_message().await;
    assert_eq!(told.kind(), MessageKind::System);
    let sent = ada.opens(Transport::Tcp).await.says(id, "welcome").await;
    let heard = cleo_live.hears_a_text().await;
    assert_eq!((heard.seq, heard.text.as_str()), (sent.seq, "welcome"));
    // Adding somebody again changes nothing.
    ada.adds(id, &[&cleo]).await;
    assert_eq!(ada.lists_members(id).await.len(), 3);
    assert_eq!(number(&ada.sees(id).await, "member_count"), 3);
}

#[tokio::test]
async fn an_unknown_or_doubled_id_refuses_the_whole_addition() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let path = format!("/conversations/{id}/members");
    ada.posts(&path, json!({"user_ids": [cleo.id, 4_000_000_000_u64]})).await.is_refused(404, "not_found");
    ada.posts(&path, json!({"user_ids": [cleo.id, cleo.id]}))
        .await
        .is_refused(400, "invalid_argument")
        .naming("user_ids");
    ada.posts(&path, json!({"user_ids": []})).await.is_refused(400, "invalid_argument").naming("user_ids");
    ada.posts(&path, json!({})).await.is_refused(400, "invalid_argument").naming("user_ids");
    assert_eq!(ada.lists_members(id).await.len(), 2);
    is_closed_to_strangers(cleo.adds(id, &[&cleo]).await);
}

#[tokio::test]
async fn who_joins_an_open_group_may_speak_and_sees_it_from_then_on() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[]).await;
    let ada_live = ada.opens(Transport::Tcp).await;
    let before = ada_live.says(id, "before").await;
    bob.joins(id).await.succeeds();
    let bob_live = bob.opens(Transport::WebSocketProto).await;
    let sent = bob_live.says(id, "hello").await;
    assert!(sent.seq > before.seq);
    assert_eq!(bob.reads_texts(id).await, ["hello"]);
    assert_eq!(ada.reads_texts(id).await, ["before", "hello"]);
    let seen = bob.sees(id).await;
    assert!(number(&seen, "first_seq") > before.seq, "{seen}");
    assert_eq!(number(&seen, "unread"), 0, "{seen}");
    // To join again is no harm.
    let count = number(&ada.sees(id).await, "member_count");
    bob.joins(id).await;
    assert_eq!((number(&ada.sees(id).await, "member_count"), count), (2, 2));
}

#[tokio::test]
async fn only_open_groups_are_joined_without_asking() {
    let (ada, bob, cleo) = three().await;
    for policy in ["approval", "invite"] {
        let body = json!({"kind": "group", "name": "closed", "join_policy": policy});
        let id = number(&ada.posts("/conversations", body).await.is(201), "conversation_id");
        let answer = bob.joins(id).await;
        assert!(!matches!(answer.status, 200 | 201 | 204), "{answer:?}");
        assert_eq!(ada.lists_members(id).await.len(), 1);
    }
    let direct = ada.direct_with(&bob).await;
    let answer = cleo.joins(direct).await;
    assert!(matches!(answer.status, 403 | 404 | 412 | 400), "{answer:?}");
    ada.joins(4_000_000_000).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn who_leaves_hears_nothing_more_and_may_not_speak() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let direct = ada.direct_with(&bob).await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let ada_live = ada.opens(Transport::Tcp).await;
    bob.leaves(id).await.succeeds();
    assert_eq!(bob_live.hears_of_removal().await.conversation_id, id);
    ada_live.says(id, "is he gone?").await;
    ada_live.says(direct, "come back").await;
    let heard = bob_live.hears_a_text().await;
    assert_eq!(heard.text, "come back", "what follows his leaving is not for him");
    bob_live.is_refused(Request::Send(a_text(id, "I am not here"))).await;
    is_closed_to_strangers(bob.gets(&format!("/conversations/{id}/messages")).await);
    is_closed_to_strangers(bob.gets(&format!("/conversations/{id}/members")).await);
    let list = bob.gets("/conversations").await.is(200);
    assert!(items(&list).iter().all(|listed| number(listed, "conversation_id") != id), "{list}");
    assert_eq!(ada.lists_members(id).await, [(ada.id, "owner".to_owned())]);
    assert_eq!(number(&ada.sees(id).await, "member_count"), 1);
    // And back again: what was said meanwhile is not shown.
    bob.joins(id).await.succeeds();
    ada_live.says(id, "he is back").await;
    assert_eq!(bob.reads_texts(id).await.last().map(String::as_str), Some("he is back"));
    assert!(!bob.reads_texts(id).await.contains(&"is he gone?".to_owned()));
}

#[tokio::test]
async fn only_those_who_may_remove_a_member() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob, &cleo]).await;
    bob.removes(id, &cleo).await.is_refused(403, "permission_denied");
    bob.removes(id, &ada).await.is_refused(403, "permission_denied");
    assert_eq!(ada.lists_members(id).await.len(), 3);
    let mut cleo_live = cleo.opens(Transport::WebSocketProto).await;
    ada.removes(id, &cleo).await.succeeds();
    assert_eq!(cleo_live.hears_of_removal().await.conversation_id, id);
    assert_eq!(ada.lists_members(id).await.len(), 2);
    cleo_live.is_refused(Request::Send(a_text(id, "but"))).await;
    let answer = ada.removes(id, &cleo).await;
    assert!(matches!(answer.status, 404 | 204), "{answer:?}");
    // To remove oneself is to leave.
    bob.removes(id, &bob).await.succeeds();
    assert_eq!(ada.lists_members(id).await.len(), 1);
}

#[tokio::test]
async fn a_direct_conversation_can_be_neither_left_nor_joined_by_others() {
    let (ada, bob, cleo) = three().await;
    let id = ada.direct_with(&bob).await;
    let answer = ada.adds(id, &[&cleo]).await;
    assert!(matches!(answer.status, 400 | 403 | 412), "{answer:?}");
    let answer = ada.removes(id, &bob).await;
    assert!(matches!(answer.status, 400 | 403 | 412), "{answer:?}");
    let answer = ada.leaves(id).await;
    assert!(matches!(answer.status, 400 | 403 | 412), "{answer:?}");
    assert_eq!(number(&ada.sees(id).await, "member_count"), 2);
}

#[tokio::test]
async fn a_group_goes_on_when_its_owner_leaves() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob, &cleo]).await;
    let answer = ada.leaves(id).await;
    if answer.status < 300 {
        // Then somebody must own it.
        let owners = bob.lists_members(id).await.into_iter().filter(|(_, role)| role == "owner").count();
        assert_eq!(owners, 1, "{:?}", bob.lists_members(id).await);
        assert_ne!(number(&bob.sees(id).await, "owner_id"), ada.id);
    } else {
        answer.is_refused(412, "failed_precondition");
    }
    bob.opens(Transport::Tcp).await.says(id, "we go on").await;
}

#[tokio::test]
async fn strangers_learn_nothing_of_a_conversation() {
    let (ada, bob, eve) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    for path in ["", "/messages", "/members"] {
        is_closed_to_strangers(eve.gets(&format!("/conversations/{id}{path}")).await);
    }
    let body = json!({"client_id": "k", "text": "let me in"});
    is_closed_to_strangers(eve.posts(&format!("/conversations/{id}/messages"), body).await);
    is_closed_to_strangers(eve.leaves(id).await);
}
