//! `GET /search`.

use serde_json::{Value, json};

use crate::world::{Answer, Person, World, eventually, items, number, unique};

impl Person {
    async fn says(&self, conversation_id: u64, text: &str) -> u64 {
        let body = json!({"client_id": unique().to_string(), "text": text});
        number(&self.posts(&format!("/conversations/{conversation_id}/messages"), body).await.is(201), "seq")
    }

    async fn searches(&self, wanted: &[(&str, &str)]) -> Answer {
        let request = self.world.request(reqwest::Method::GET, "/api/v1/search");
        Answer::of("/search", request.bearer_auth(&self.token).query(wanted)).await
    }

    /// Texts found, newest first.
    async fn finds(&self, wanted: &[(&str, &str)]) -> Vec<String> {
        // On a busy machine a search may end before it has looked at all; asked again it goes on from there.
        eventually("a complete answer", async || {
            let page = self.searches(wanted).await.is(200);
            (page["complete"] == true).then(|| texts(&page))
        })
        .await
    }
}

fn texts(page: &Value) -> Vec<String> {
    items(page).iter().filter_map(|item| item["text"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn any_part_of_a_chinese_text_and_any_beginning_of_a_word_is_found() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for text in ["我们明天去北京开会", "订单ABC123已发货", "Meeting at Ten", "don't forget 😀"]
    {
        ada.says(id, text).await;
    }
    for (query, wanted) in [
        ("北京", "我们明天去北京开会"),
        ("明天去", "我们明天去北京开会"),
        ("会", "我们明天去北京开会"),
        ("单abc", "订单ABC123已发货"),
        ("123已发", "订单ABC123已发货"),
        ("meet", "Meeting at Ten"),
        ("TEN meeting", "Meeting at Ten"),
        ("don't", "don't forget 😀"),
        ("😀", "don't forget 😀"),
    ] {
        for person in [&ada, &bob] {
            assert_eq!(person.finds(&[("query", query)]).await, [wanted], "{query}");
            let here = [("query", query), ("conversation_id", &id.to_string())];
            assert_eq!(person.finds(&here).await, [wanted], "{query}");
        }
    }
    for query in ["eeting", "京北", "meeting eleven"] {
        assert_eq!(ada.finds(&[("query", query)]).await, Vec::<String>::new(), "{query}");
    }
}

#[tokio::test]
async fn what_is_found_is_filtered_and_paged_newest_first() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let direct = ada.direct_with(&bob).await;
    let group = ada.founds_a_group("rooks", &[&bob]).await;
    for at in 0..6 {
        ada.says(direct, &format!("word {at} direct")).await;
        bob.says(group, &format!("word {at} group")).await;
    }
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ada.searches(&[("query", "word"), ("limit", "5"), ("cursor", &cursor)]).await.is(200);
        paged.extend(items(&page).clone());
        cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    let places: Vec<(u64, u64, u64)> = paged
        .iter()
        .map(|item| (number(item, "created_at_ms"), number(item, "conversation_id"), number(item, "seq")))
        .collect();
    assert_eq!(places.len(), 12);
    assert!(places.windows(2).all(|two| two[0] > two[1]), "{places:?}");
    let (group_id, ada_id, middle_ms) = (group.to_string(), ada.id.to_string(), places[6].0.to_string());
    assert_eq!(ada.finds(&[("query", "word"), ("conversation_id", &group_id)]).await.len(), 6);
    assert_eq!(bob.finds(&[("query", "word"), ("sender_id", &ada_id)]).await.len(), 6);
    assert_eq!(ada.finds(&[("query", "word"), ("kind", "file")]).await.len(), 0);
    assert_eq!(ada.finds(&[("query", "word"), ("kind", "text")]).await.len(), 12);
    let (newer, older) = (
        ada.finds(&[("query", "word"), ("from_ms", &middle_ms)]).await.len(),
        ada.finds(&[("query", "word"), ("to_ms", &middle_ms)]).await.len(),
    );
    assert_eq!(newer + older, 12);
    assert!(newer >= 7, "{newer} are not older than the seventh");
}

#[tokio::test]
async fn nobody_finds_what_it_may_not_see() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let (cid, eve) = world.two("cid", "eve").await;
    let id = ada.founds_a_group("rooks", &[&bob]).await;
    let here = id.to_string();
    ada.says(id, "a secret of two").await;
    cid.posts(&format!("/conversations/{id}/join"), json!({})).await.succeeds();
    ada.says(id, "a secret of three").await;
    assert_eq!(bob.finds(&[("query", "secret")]).await, ["a secret of three", "a secret of two"]);
    assert_eq!(cid.finds(&[("query", "secret")]).await, ["a secret of three"]);
    assert_eq!(eve.finds(&[("query", "secret")]).await, Vec::<String>::new());
    let asked = [("query", "secret"), ("conversation_id", here.as_str())];
    eve.searches(&asked).await.is_refused(403, "permission_denied");
    bob.posts(&format!("/conversations/{id}/leave"), json!({})).await.succeeds();
    assert_eq!(bob.finds(&[("query", "secret")]).await, Vec::<String>::new());
    bob.searches(&asked).await.is_refused(403, "permission_denied");
}

#[tokio::test]
async fn what_can_t_be_searched_for_is_refused() {
    let ada = World::shared().person("ada").await;
    for (wanted, field) in [
        (vec![("query", "")], "query"),
        (vec![("query", " !? ")], "query"),
        (vec![("query", &"x".repeat(201) as &str)], "query"),
        (vec![("query", "a"), ("kind", "system")], "kind"),
        (vec![("query", "a"), ("kind", "nonsense")], "kind"),
        (vec![("query", "a"), ("cursor", "nonsense")], "cursor"),
    ] {
        ada.searches(&wanted).await.is_refused(400, "invalid_argument").naming(field);
    }
    ada.searches(&[("query", "a"), ("conversation_id", "4611686018427")]).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn the_index_follows_without_being_asked_and_goes_with_an_erased_account() {
    let world = World::with(&[("search.index_interval", "50ms"), ("accounts.erase_messages", "remove")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for at in 0..350 {
        ada.says(id, &format!("word {at}")).await;
    }
    // A bound of one step a search would not get there; only that all is found tells.
    eventually("all is found", async || {
        let page = bob.searches(&[("query", "word"), ("limit", "200")]).await.is(200);
        (page["complete"] == true && items(&page).len() == 200).then_some(())
    })
    .await;
    ada.posts("/users/me/erase", json!({"password": crate::world::PASSWORD})).await.is(204);
    assert_eq!(bob.finds(&[("query", "word")]).await, Vec::<String>::new());
}
