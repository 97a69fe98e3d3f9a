//! A member's own view of a conversation: preferences and drafts, on all of its devices.

use rookery::client::Transport;
use rookery::protocol::NotificationLevel;
use rookery::protocol::v1::SyncRequest;
use rookery::protocol::v1::server_frame::Body;
use serde_json::{Value, json};

use crate::live::Live;
use crate::world::{Person, TRANSPORTS, World, items, number};

impl Person {
    async fn prefers(&self, conversation_id: u64, wanted: Value) -> Value {
        self.puts(&format!("/conversations/{conversation_id}/preferences"), wanted).await.is(200)
    }

    async fn drafts(&self, conversation_id: u64, draft: Value) {
        self.puts(&format!("/conversations/{conversation_id}/draft"), draft).await.is(204);
    }

    /// The conversation as the list has it.
    async fn lists_conversation(&self, conversation_id: u64) -> Value {
        let page = self.gets("/conversations").await.is(200);
        let row = items(&page).iter().find(|row| number(row, "conversation_id") == conversation_id);
        row.expect("it is listed").clone()
    }
}

impl Live {
    /// News of a conversation until a field of it is this: its founding may be told late.
    async fn hears_that_it_is(&mut self, conversation_id: u64, name: &str, wanted: &Value) {
        self.hears(name, |event| match event {
            Body::Conversation(news) if news.conversation_id == conversation_id => {
                let news = serde_json::to_value(news).expect("JSON");
                (&news[name] == wanted).then_some(())
            }
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn every_preference_is_told_to_the_users_devices_and_to_nobody_else() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let cases = [
        ("muted_until_ms", json!(4_102_444_800_000u64), json!(0)),
        ("pinned", json!(true), json!(false)),
        ("archived", json!(true), json!(false)),
        ("hidden", json!(true), json!(false)),
        ("notifications", json!("mentions"), json!("all")),
    ];
    for transport in TRANSPORTS {
        let mut other = ada.on_another_device().await.opens(transport).await;
        for (name, wanted, default) in &cases {
            let answer = ada.prefers(id, json!({*name: wanted})).await;
            assert_eq!(&answer[*name], wanted, "{name}");
            assert_eq!(&ada.lists_conversation(id).await[*name], wanted, "{name}");
            other.hears_that_it_is(id, name, wanted).await;
            assert_eq!(&bob.sees(id).await[*name], default, "{name} is each member's own");
            let answer = ada.prefers(id, json!({*name: default})).await;
            assert_eq!(&answer[*name], default, "{name}");
            other.hears_that_it_is(id, name, default).await;
        }
    }
}

#[tokio::test]
async fn what_is_not_named_stays_and_the_list_keeps_its_order() {
    let ada = World::shared().person("ada").await;
    let older = ada.founds_a_group("older", &[]).await;
    let newer = ada.founds_a_group("newer", &[]).await;
    ada.prefers(older, json!({"pinned": true, "notifications": "none"})).await;
    let after = ada.prefers(older, json!({"archived": true})).await;
    assert_eq!((&after["pinned"], &after["notifications"]), (&json!(true), &json!("none")));
    let page = ada.gets("/conversations").await.is(200);
    let ids: Vec<u64> = items(&page).iter().map(|row| number(row, "conversation_id")).collect();
    assert_eq!(ids, [newer, older], "the order is that of what happened in them");
}

#[tokio::test]
async fn a_device_that_was_away_learns_of_preferences_by_sync() {
    let ada = World::shared().person("ada").await;
    let id = ada.founds_a_group("club", &[]).await;
    let live = ada.opens(Transport::WebSocketProto).await;
    let first = live.syncs(SyncRequest::default()).await;
    assert_eq!(first.conversations.len(), 1);
    ada.prefers(id, json!({"notifications": "none"})).await;
    ada.drafts(id, json!({"text": "dear all", "reply_to_seq": 1})).await;
    let next = live.syncs(SyncRequest { since: first.sync_token, ..SyncRequest::default() }).await;
    assert_eq!(next.conversations.len(), 1, "{next:?}");
    let changed = &next.conversations[0];
    assert_eq!(changed.notifications(), NotificationLevel::None);
    let draft = changed.draft.as_ref().expect("there is one");
    assert_eq!((draft.text.as_str(), draft.reply_to_seq), ("dear all", 1));
    assert!(draft.updated_at_ms > 0);
    let last = live.syncs(SyncRequest { since: next.sync_token, ..SyncRequest::default() }).await;
    assert!(last.conversations.is_empty(), "what was told is not told again: {last:?}");
}

#[tokio::test]
async fn what_is_hidden_comes_back_with_the_next_message() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    assert_eq!(ada.prefers(id, json!({"hidden": true})).await["hidden"], true, "also one without messages");
    bob.posts(&format!("/conversations/{id}/messages"), json!({"client_id": "a", "text": "hi"}))
        .await
        .is(201);
    assert_eq!(ada.sees(id).await["hidden"], false);
    assert_eq!(ada.prefers(id, json!({"hidden": true})).await["hidden"], true);
    assert_eq!(bob.sees(id).await["hidden"], false);
}

#[tokio::test]
async fn a_draft_follows_its_user_from_device_to_device() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let mut desk = ada.on_another_device().await.opens(Transport::WebSocketJson).await;
    ada.drafts(id, json!({"text": "half a sen"})).await;
    let draft = desk.hears_of_conversation(id).await.draft.expect("there is one");
    assert_eq!(draft.text, "half a sen");
    assert_eq!(ada.lists_conversation(id).await["draft"]["text"], "half a sen");
    assert!(bob.sees(id).await["draft"].is_null(), "nobody else sees it");
    ada.drafts(id, json!({})).await;
    assert_eq!(desk.hears_of_conversation(id).await.draft, None);
    ada.drafts(id, json!({"text": "again"})).await;
    desk.hears_of_conversation(id).await;
    ada.deletes(&format!("/conversations/{id}/draft")).await.is(204);
    assert_eq!(desk.hears_of_conversation(id).await.draft, None);
}

#[tokio::test]
async fn those_who_are_no_members_and_wrong_values_are_refused() {
    let (ada, eve) = World::shared().two("ada", "eve").await;
    let id = ada.founds_a_group("club", &[]).await;
    for path in ["preferences", "draft"] {
        let of = |id: u64| format!("/conversations/{id}/{path}");
        eve.puts(&of(id), json!({})).await.is_refused(403, "permission_denied");
        ada.puts(&of(4_000_000_000), json!({})).await.is_refused(404, "not_found");
    }
    let preferences = format!("/conversations/{id}/preferences");
    for (field, value) in [("notifications", json!("some")), ("muted_until_ms", json!(1u64 << 53))] {
        let answer = ada.puts(&preferences, json!({field: value, "pinned": true})).await;
        answer.is_refused(400, "invalid_argument").naming(field);
    }
    assert_eq!(ada.sees(id).await["pinned"], false, "what is refused changes nothing");
    let long = json!({"text": "x".repeat(4097)});
    let answer = ada.puts(&format!("/conversations/{id}/draft"), long).await;
    answer.is_refused(400, "invalid_argument").naming("text");
}
