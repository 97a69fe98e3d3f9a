//! Conversations by REST: creating, listing, reading, writing.

use std::collections::BTreeSet;

use rookery::client::Transport;
use serde_json::{Value, json};

use crate::world::{World, eventually, items, number};

#[tokio::test]
async fn a_group_is_created_with_its_members_who_hear_of_it() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let cleo = world.person("cleo").await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let body = json!({
        "kind": "group", "name": "Engines", "description": "of all sorts", "join_policy": "approval",
        "member_ids": [bob.id, cleo.id.to_string()],
    });
    let group = ada.posts("/conversations", body).await.is(201);
    let id = number(&group, "conversation_id");
    assert_eq!((&group["kind"], &group["name"]), (&json!("group"), &json!("Engines")), "{group}");
    assert_eq!((&group["description"], &group["join_policy"]), (&json!("of all sorts"), &json!("approval")));
    assert_eq!((number(&group, "owner_id"), number(&group, "member_count")), (ada.id, 3), "{group}");
    assert_eq!(group["role"], "owner", "{group}");

    let news = bob_live.hears_of_conversation(id).await;
    assert_eq!((news.name.as_str(), news.member_count), ("Engines", 3));
    let seen = cleo.sees(id).await;
    assert_eq!((&seen["name"], &seen["role"]), (&json!("Engines"), &json!("member")), "{seen}");
    // Its log begins with the story of its creation.
    let first = eventually("the story is stored", async || {
        let log = cleo.gets(&format!("/conversations/{id}/messages")).await.is(200);
        items(&log).first().cloned()
    })
    .await;
    assert_eq!((number(&first, "seq"), &first["kind"]), (1, &json!("system")), "{first}");
}

#[tokio::test]
async fn a_group_that_names_a_bad_member_is_not_created_at_all() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let group = |member_ids: Value| json!({"kind": "group", "name": "Nobody's", "member_ids": member_ids});
    ada.posts("/conversations", group(json!([bob.id, 4_000_000_000_u64]))).await.is_refused(404, "not_found");
    ada.posts("/conversations", group(json!([bob.id, bob.id])))
        .await
        .is_refused(400, "invalid_argument")
        .naming("member_ids");
    ada.posts("/conversations", group(json!([ada.id])))
        .await
        .is_refused(400, "invalid_argument")
        .naming("member_ids");
    ada.posts("/conversations", group(json!([-1]))).await.is_refused(400, "invalid_argument");
    ada.posts("/conversations", group(json!("all"))).await.is_refused(400, "invalid_argument");
    let many: Vec<u64> = (1..=1001).collect();
    ada.posts("/conversations", group(json!(many)))
        .await
        .is_refused(400, "invalid_argument")
        .naming("member_ids");
    for person in [ada, bob] {
        assert!(items(&person.gets("/conversations").await.is(200)).is_empty());
    }
}

#[tokio::test]
async fn a_group_needs_a_name_a_known_kind_and_a_known_policy() {
    let ada = World::shared().person("ada").await;
    for (body, field) in [
        (json!({"kind": "group"}), "name"),
        (json!({"kind": "group", "name": "  "}), "name"),
        (json!({"kind": "group", "name": "x".repeat(10_000)}), "name"),
        (json!({"kind": "group", "name": "x", "description": "x".repeat(100_000)}), "description"),
        (json!({"kind": "party", "name": "x"}), "kind"),
    ] {
        ada.posts("/conversations", body).await.is_refused(400, "invalid_argument").naming(field);
    }
    let body = json!({"kind": "group", "name": "x", "join_policy": "bribery"});
    ada.posts("/conversations", body).await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_direct_conversation_is_created_once_and_is_the_same_for_both() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let direct = |id: u64| json!({"kind": "direct", "user_id": id});
    let made = ada.posts("/conversations", direct(bob.id)).await.is(201);
    let again = ada.posts("/conversations", direct(bob.id)).await.is(200);
    let from_bob = bob.posts("/conversations", direct(ada.id)).await.is(200);
    let id = number(&made, "conversation_id");
    assert_eq!((number(&again, "conversation_id"), number(&from_bob, "conversation_id")), (id, id));
    assert_eq!((number(&made, "peer_user_id"), number(&from_bob, "peer_user_id")), (bob.id, ada.id));
    assert_eq!((&made["kind"], number(&made, "last_seq")), (&json!("direct"), 0), "{made}");
    ada.posts("/conversations", direct(ada.id)).await.is_refused(400, "invalid_argument").naming("user_id");
    ada.posts("/conversations", direct(0)).await.is_refused(400, "invalid_argument").naming("user_id");
    ada.posts("/conversations", direct(4_000_000_000)).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn the_list_is_newest_first_and_comes_page_by_page() {
    let ada = World::shared().person("ada").await;
    let mut created = Vec::new();
    for at in 0..7 {
        created.push(ada.founds_a_group(&format!("club {at}"), &[]).await);
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.gets(&format!("/conversations?limit=3&cursor={cursor}")).await.is(200);
        assert!(items(&page).len() <= 3);
        listed.extend(items(&page).iter().map(|listed| number(listed, "conversation_id")));
        cursor = page["next_cursor"].as_str().expect("a string").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), created.iter().copied().collect());
    assert_eq!(listed.len(), created.len(), "none twice");
    let all = ada.gets("/conversations").await.is(200);
    let activity: Vec<u64> = items(&all)
        .iter()
        .map(|listed| number(&listed["last_message"], "created_at_ms").max(number(listed, "updated_at_ms")))
        .collect();
    assert!(activity.is_sorted_by(|newer, older| newer >= older), "{activity:?}");
    ada.gets("/conversations?cursor=nonsense").await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_message_sent_by_rest_reaches_everybodys_sockets_and_all_of_the_senders() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let mut ada_live = ada.opens(Transport::WebSocketProto).await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let body = json!({"client_id": "k", "kind": "text", "text": "by REST", "mentions": [bob.id.to_string()]});
    let sent = ada.posts(&format!("/conversations/{id}/messages"), body).await.is(201);
    assert_eq!((number(&sent, "conversation_id"), number(&sent, "seq")), (id, 1), "{sent}");
    assert_eq!((&sent["client_id"], &sent["duplicate"]), (&json!("k"), &json!(false)), "{sent}");
    for live in [&mut ada_live, &mut bob_live] {
        let heard = live.hears_a_message().await;
        assert_eq!(
            (heard.text.as_str(), heard.sender_id, heard.mentions.as_slice()),
            ("by REST", ada.id, &[bob.id][..])
        );
    }
    let direct = json!({"client_id": "k2", "text": "to a user"});
    let sent = ada.posts(&format!("/users/{}/messages", bob.id), direct).await.is(201);
    assert_eq!((number(&sent, "conversation_id"), number(&sent, "seq")), (id, 2), "{sent}");
}

#[tokio::test]
async fn history_by_rest_goes_both_ways_and_page_by_page() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let live = ada.opens(Transport::Tcp).await;
    for at in 1..=9 {
        live.says(id, &format!("{at}")).await;
    }
    let path = format!("/conversations/{id}/messages");
    let seqs = |page: &Value| items(page).iter().map(|item| number(item, "seq")).collect::<Vec<_>>();
    let newest = seqs(&bob.gets(&format!("{path}?limit=2")).await.is(200));
    assert_eq!(newest.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([8, 9]));
    let before = seqs(&bob.gets(&format!("{path}?before_seq=4&limit=2")).await.is(200));
    assert_eq!(before.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]));
    assert_eq!(seqs(&bob.gets(&format!("{path}?after_seq=4&limit=2")).await.is(200)), [5, 6]);
    for start in ["", "&after_seq=1"] {
        let (mut listed, mut query) = (Vec::new(), format!("{path}?limit=2{start}"));
        loop {
            let page = bob.gets(&query).await.is(200);
            listed.extend(seqs(&page));
            let cursor = page["next_cursor"].as_str().expect("a string");
            if cursor.is_empty() {
                break;
            }
            query = format!("{path}?limit=2&cursor={cursor}");
        }
        let expected: BTreeSet<u64> = if start.is_empty() { (1..=9).collect() } else { (2..=9).collect() };
        assert_eq!(listed.len(), expected.len(), "none twice: {listed:?}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    bob.gets(&format!("{path}?before_seq=3&after_seq=1")).await.is_refused(400, "invalid_argument");
    bob.gets(&format!("{path}?before_seq=-3")).await.is_refused(400, "invalid_argument");
    bob.gets(&format!("{path}?limit=many")).await.is_refused(400, "invalid_argument");
    bob.gets(&format!("{path}?cursor=nonsense")).await.is_refused(400, "invalid_argument");
}
