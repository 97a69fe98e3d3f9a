//! What holds in a group, who decides it, how one gets in, and how it ends.

use std::time::{Duration, SystemTime};

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Conversation, SyncRequest};
use rookery::protocol::{ErrorCode, MessageKind};
use serde_json::{Value, json};

use crate::live::{Live, a_text};
use crate::world::{Answer, Person, World, eventually, items, number};

/// A time that does not come.
pub const FOR_EVER: u64 = 9_000_000_000_000_000;

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    now.as_millis() as u64
}

impl Person {
    pub async fn changes_room(&self, id: u64, change: Value) -> Answer {
        self.patches(&format!("/conversations/{id}"), change).await
    }

    pub async fn changes_member(&self, id: u64, other: &Person, change: Value) -> Answer {
        self.patches(&format!("/conversations/{id}/members/{}", other.id), change).await
    }

    pub async fn wants_into(&self, id: u64) -> Answer {
        self.posts(&format!("/conversations/{id}/join"), json!({})).await
    }

    pub async fn makes_a_code(&self, id: u64, body: Value) -> String {
        let invite = self.posts(&format!("/conversations/{id}/invites"), body).await.is(201);
        assert_eq!((number(&invite, "conversation_id"), number(&invite, "uses")), (id, 0), "{invite}");
        invite["code"].as_str().expect("a code is a string").to_owned()
    }

    pub async fn uses_code(&self, code: &str) -> Answer {
        self.posts(&format!("/invites/{code}"), json!({})).await
    }

    async fn lists_of_room(&self, id: u64, what: &str) -> Vec<Value> {
        let page = self.gets(&format!("/conversations/{id}/{what}?limit=200")).await.is(200);
        items(&page).clone()
    }

    /// The roles of the members, by id.
    pub async fn knows_roles(&self, id: u64) -> Vec<(u64, String)> {
        let role = |row: &Value| (number(row, "user_id"), row["role"].as_str().expect("a word").to_owned());
        let mut roles: Vec<_> = self.lists_of_room(id, "members").await.iter().map(role).collect();
        roles.sort();
        roles
    }
}

impl Live {
    /// News of a conversation that is as it should be.
    pub async fn hears_room(&mut self, id: u64, is: impl Fn(&Conversation) -> bool) -> Conversation {
        self.hears("news of the conversation", |event| match event {
            Body::Conversation(news) if news.conversation_id == id && is(&news) => Some(news),
            _ => None,
        })
        .await
    }
}

async fn three() -> (Person, Person, Person) {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    (ada, bob, world.person("cleo").await)
}

#[tokio::test]
async fn settings_are_changed_told_and_kept() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let mut bob_live = bob.opens(Transport::WebSocketProto).await;
    let table = [
        ("name", json!("The Club"), "renamed the group to The Club"),
        ("description", json!("what we do"), "changed the description"),
        ("avatar_file_id", json!(7), "changed the picture"),
        ("join_policy", json!("approval"), "lets in those who ask"),
        ("announcement", json!("tonight at eight"), "announced: tonight at eight"),
        ("read_only", json!(true), "made the group read-only"),
        ("slow_mode_seconds", json!(30), "set slow mode"),
        ("silence_all", json!(true), "silenced all"),
        ("history_open", json!(true), "opened the past"),
    ];
    for (field, value, _) in &table {
        let seen = ada.changes_room(id, json!({*field: value})).await.is(200);
        assert_eq!(seen[field], *value, "{seen}");
    }
    // What the log says and how the conversation is now: the last of either may come first.
    let mut untold: Vec<&str> = table.iter().map(|(_, _, told)| *told).collect();
    let mut shown = false;
    bob_live
        .hears("what was changed, and how it is now", |event| {
            match event {
                Body::Message(message) => {
                    assert_eq!((message.kind(), message.sender_id), (MessageKind::System, ada.id));
                    untold.retain(|told| !message.text.starts_with(told));
                }
                Body::Conversation(news) if news.conversation_id == id => {
                    shown |= news.history_open && news.silence_all && news.slow_mode_seconds == 30;
                }
                _ => {}
            }
            (untold.is_empty() && shown).then_some(())
        })
        .await;
    // What is absent or null stays.
    let before = bob.sees(id).await;
    ada.changes_room(id, json!({"name": null, "read_only": null, "slow_mode_seconds": null})).await.is(200);
    let after = bob.sees(id).await;
    for (field, value, _) in &table {
        assert_eq!((&after[field], &before[field]), (value, value), "{field}");
    }
    // To change nothing is told to nobody.
    ada.changes_room(id, json!({"name": "The Club", "read_only": true})).await.is(200);
    assert_eq!(number(&bob.sees(id).await, "last_seq"), number(&before, "last_seq"));
    let listed = bob.gets("/conversations").await.is(200);
    let listed = items(&listed).iter().find(|row| row["conversation_id"] == id).expect("it is listed");
    assert_eq!(listed["announcement"], "tonight at eight");
}

#[tokio::test]
async fn settings_that_can_not_be_are_refused_by_name() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[]).await;
    let table = [
        ("name", json!(" ")),
        ("name", json!("x".repeat(65))),
        ("description", json!("x".repeat(1025))),
        ("announcement", json!("x".repeat(2049))),
        ("join_policy", json!("closed")),
        ("slow_mode_seconds", json!(6 * 3600 + 1)),
        ("avatar_file_id", json!(1u64 << 53)),
    ];
    for (field, value) in table {
        ada.changes_room(id, json!({field: value})).await.is_refused(400, "invalid_argument").naming(field);
    }
    let member = format!("/conversations/{id}/members/{}", ada.id);
    ada.patches(&member, json!({"role": "king"})).await.is_refused(400, "invalid_argument").naming("role");
    ada.patches(&member, json!({})).await.is_refused(400, "invalid_argument").naming("role");
    let invites = format!("/conversations/{id}/invites");
    let past = json!({"expires_at_ms": 1000});
    ada.posts(&invites, past).await.is_refused(400, "invalid_argument").naming("expires_at_ms");
    let both = json!({"expires_at_ms": FOR_EVER, "expires_in_seconds": 5});
    ada.posts(&invites, both).await.is_refused(400, "invalid_argument").naming("expires_at_ms");
    // None of it is there in direct conversations.
    let direct = ada.direct_with(&bob).await;
    for (method, path) in [("patch", ""), ("delete", ""), ("post", "/invites")] {
        let method = method.to_uppercase().parse().expect("a method");
        let path = format!("/conversations/{direct}{path}");
        let answer = ada.world.asks(method, &path, Some(&ada.token), Some(json!({}))).await;
        answer.is_refused(412, "failed_precondition");
    }
    ada.changes_member(direct, &bob, json!({"role": "admin"})).await.is_refused(412, "failed_precondition");
    ada.changes_room(4_000_000_000, json!({"name": "x"})).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn roles_are_given_taken_and_handed_over() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob, &cleo]).await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let member = ada.changes_member(id, &bob, json!({"role": "admin"})).await.is(200);
    assert_eq!((&member["role"], number(&member, "user_id")), (&json!("admin"), bob.id));
    bob_live.hears_room(id, |news| news.role == 1).await;
    bob.changes_member(id, &cleo, json!({"silenced_until_ms": FOR_EVER})).await.is(200);
    ada.changes_member(id, &bob, json!({"role": "member"})).await.is(200);
    bob.changes_member(id, &cleo, json!({"silenced_until_ms": 0})).await.is_refused(403, "permission_denied");
    let nobody = World::shared().person("nobody").await;
    ada.changes_member(id, &nobody, json!({"role": "admin"})).await.is_refused(404, "not_found");
    // The owner stays the owner until another one is.
    ada.changes_member(id, &ada, json!({"role": "member"})).await.is_refused(412, "failed_precondition");
    ada.changes_member(id, &ada, json!({"role": "owner"})).await.is(200);
    // Cleo is silenced, which no owner is.
    ada.posts(&format!("/conversations/{id}/transfer"), json!({"user_id": cleo.id})).await.is(200);
    let roles =
        [(ada.id, "admin"), (bob.id, "member"), (cleo.id, "owner")].map(|(id, role)| (id, role.to_owned()));
    assert_eq!(bob.knows_roles(id).await, roles);
    assert_eq!(number(&bob.sees(id).await, "owner_id"), cleo.id);
    cleo.opens(Transport::Tcp).await.says(id, "mine").await;
    ada.changes_room(id, json!({"name": "still mine"})).await.is(200);
    ada.deletes(&format!("/conversations/{id}")).await.is_refused(403, "permission_denied");
    cleo.changes_member(id, &bob, json!({"role": "owner"})).await.is(200);
    assert_eq!(number(&bob.sees(id).await, "owner_id"), bob.id);
}

#[tokio::test]
async fn who_asks_is_let_in_or_not_by_those_who_decide() {
    let (ada, bob, cleo) = three().await;
    let dora = World::shared().person("dora").await;
    let id = ada.founds_a_group("club", &[&dora]).await;
    ada.changes_room(id, json!({"join_policy": "approval"})).await.is(200);
    let mut ada_live = ada.opens(Transport::Tcp).await;
    let path = format!("/conversations/{id}/join");
    let answer = bob.posts(&path, json!({"message": "I caw"})).await.is(202);
    assert_eq!((&answer["state"], number(&answer, "conversation_id")), (&json!("requested"), id));
    ada_live.hears_room(id, |news| news.pending_requests == 1).await;
    cleo.posts(&path, json!({})).await.is(202);
    ada_live.hears_room(id, |news| news.pending_requests == 2).await;
    bob.posts(&path, json!({"message": "I caw loudly"})).await.is(202);
    assert_eq!(number(&ada.sees(id).await, "pending_requests"), 2, "one asks once");
    assert_eq!(number(&dora.sees(id).await, "pending_requests"), 0, "members are not told");
    let requests = ada.lists_of_room(id, "requests").await;
    let named: Vec<_> = requests.iter().map(|row| (number(row, "user_id"), row["message"].clone())).collect();
    assert_eq!(named, [(bob.id, json!("I caw loudly")), (cleo.id, json!(""))]);
    assert_eq!(requests[0]["username"], json!(bob.name));
    let first = ada.gets(&format!("/conversations/{id}/requests?limit=1")).await.is(200);
    let next = first["next_cursor"].as_str().expect("a string");
    let second = ada.gets(&format!("/conversations/{id}/requests?limit=1&cursor={next}")).await.is(200);
    assert_eq!((number(&items(&second)[0], "user_id"), &second["next_cursor"]), (cleo.id, &json!("")));
    bob.gets(&format!("/conversations/{id}/messages")).await.is_refused(403, "permission_denied");
    // In, and out.
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let requests = format!("/conversations/{id}/requests");
    ada.posts(&format!("{requests}/{}/accept", bob.id), json!({})).await.is(204);
    bob_live.hears_room(id, |news| !news.removed && news.member_count == 3).await;
    bob_live.says(id, "here I am").await;
    ada.posts(&format!("{requests}/{}/accept", bob.id), json!({})).await.is_refused(404, "not_found");
    ada.posts(&format!("{requests}/{}/decline", cleo.id), json!({})).await.is(204);
    ada.posts(&format!("{requests}/{}/accept", cleo.id), json!({})).await.is_refused(404, "not_found");
    assert!(ada.lists_of_room(id, "requests").await.is_empty());
    ada_live.hears_room(id, |news| news.pending_requests == 0).await;
    // Asked again, and taken back; somebody else's can't be.
    cleo.posts(&path, json!({})).await.is(202);
    let own = format!("{requests}/{}/decline", cleo.id);
    dora.posts(&own, json!({})).await.is_refused(403, "permission_denied");
    cleo.posts(&own, json!({})).await.is(204);
    cleo.posts(&own, json!({})).await.is_refused(404, "not_found");
    // One who is added has nothing to ask for any more.
    cleo.posts(&path, json!({})).await.is(202);
    ada.posts(&format!("/conversations/{id}/members"), json!({"user_id": cleo.id})).await.is(204);
    assert!(ada.lists_of_room(id, "requests").await.is_empty());
    cleo.posts(&path, json!({})).await.is(200);
}

#[tokio::test]
async fn a_code_lets_in_as_often_and_as_long_as_it_says() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[]).await;
    ada.changes_room(id, json!({"join_policy": "invite"})).await.is(200);
    bob.wants_into(id).await.is_refused(403, "permission_denied");
    let once = ada.makes_a_code(id, json!({"uses_max": 1})).await;
    let seen = bob.uses_code(&once).await.is(200);
    assert_eq!((number(&seen, "conversation_id"), number(&seen, "member_count")), (id, 2), "{seen}");
    bob.uses_code(&once).await.is(200);
    cleo.uses_code(&once).await.is_refused(412, "failed_precondition");
    let short = ada.makes_a_code(id, json!({"expires_in_seconds": 1})).await;
    eventually("the code expires", async || {
        let listed = ada.lists_of_room(id, "invites").await;
        listed.iter().all(|row| row["code"] != json!(short)).then_some(())
    })
    .await;
    cleo.uses_code(&short).await.is_refused(412, "failed_precondition");
    let in_an_hour = now_ms() + 3_600_000;
    let many = ada.makes_a_code(id, json!({"expires_at_ms": in_an_hour})).await;
    let listed = ada.lists_of_room(id, "invites").await;
    assert_eq!((listed.len(), &listed[0]["code"]), (1, &json!(many)), "{listed:?}");
    assert_eq!(number(&listed[0], "expires_at_ms"), in_an_hour);
    ada.deletes(&format!("/conversations/{id}/invites/{many}")).await.is(204);
    ada.deletes(&format!("/conversations/{id}/invites/{many}")).await.is_refused(404, "not_found");
    cleo.uses_code(&many).await.is_refused(404, "not_found");
    cleo.uses_code("nosuchcode").await.is_refused(404, "not_found");
    // It opens rooms where one would have to ask, too.
    ada.changes_room(id, json!({"join_policy": "approval"})).await.is(200);
    let code = ada.makes_a_code(id, json!({})).await;
    cleo.uses_code(&code).await.is(200);
    cleo.opens(Transport::Tcp).await.says(id, "in").await;
    assert_eq!(number(&ada.lists_of_room(id, "invites").await[0], "uses"), 1);
}

#[tokio::test]
async fn who_is_banned_comes_back_by_no_way_until_it_is_taken_back() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let code = ada.makes_a_code(id, json!({})).await;
    let mut bob_live = bob.opens(Transport::WebSocketProto).await;
    let ban = format!("/conversations/{id}/bans/{}", bob.id);
    ada.puts(&ban, json!({"reason": "cawing"})).await.is(204);
    bob_live.hears_room(id, |news| news.removed).await;
    bob_live.is_refused(Request::Send(a_text(id, "but"))).await;
    let bans = ada.lists_of_room(id, "bans").await;
    assert_eq!(bans.len(), 1);
    assert_eq!((number(&bans[0], "user_id"), number(&bans[0], "banned_by")), (bob.id, ada.id));
    assert_eq!((&bans[0]["reason"], &bans[0]["username"]), (&json!("cawing"), &json!(bob.name)));
    ada.puts(&ban, json!({})).await.is(204);
    let members = format!("/conversations/{id}/members");
    let refuses_all = async || {
        bob.wants_into(id).await.is_refused(403, "permission_denied");
        bob.uses_code(&code).await.is_refused(403, "permission_denied");
        let both = json!({"user_ids": [cleo.id, bob.id]});
        ada.posts(&members, both).await.is_refused(412, "failed_precondition").naming("user_ids");
    };
    refuses_all().await;
    ada.changes_room(id, json!({"join_policy": "approval"})).await.is(200);
    refuses_all().await;
    assert_eq!(ada.knows_roles(id).await.len(), 1, "one bad id refuses the whole call");
    ada.deletes(&ban).await.is(204);
    ada.deletes(&ban).await.is_refused(404, "not_found");
    bob.uses_code(&code).await.is(200);
    // One who has asked and is banned is not to be let in either.
    cleo.wants_into(id).await.is(202);
    ada.puts(&format!("/conversations/{id}/bans/{}", cleo.id), json!({})).await.is(204);
    let accept = format!("/conversations/{id}/requests/{}/accept", cleo.id);
    ada.posts(&accept, json!({})).await.is_refused(404, "not_found");
    ada.puts(&format!("/conversations/{id}/bans/4000000000"), json!({})).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn a_dissolved_group_is_over_for_everybody() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let code = ada.makes_a_code(id, json!({})).await;
    let mut bob_live = bob.opens(Transport::WebSocketJson).await;
    let sent = bob_live.sends(a_text(id, "before")).await;
    let token = bob_live.syncs(SyncRequest::default()).await.sync_token;
    let known = a_text(id, "known");
    bob_live.sends(known.clone()).await;
    ada.deletes(&format!("/conversations/{id}")).await.is(204);
    let news = bob_live.hears_room(id, |news| news.removed).await;
    assert!(news.dissolved && news.name == "club", "{news:?}");
    for person in [&ada, &bob] {
        let live = person.opens(Transport::Tcp).await;
        let error = live.is_refused(Request::Send(a_text(id, "after"))).await;
        assert_eq!(error.code, ErrorCode::FailedPrecondition, "{error:?}");
        assert!(error.message.contains("dissolved"), "{error:?}");
        let list = person.gets("/conversations").await.is(200);
        assert!(items(&list).iter().all(|row| row["conversation_id"] != id), "{list}");
    }
    // What was stored before is stored.
    let again = bob_live.sends(known).await;
    assert!(again.duplicate && again.seq == sent.seq + 1, "{again:?}");
    let page = bob_live.syncs(SyncRequest { since: token, ..SyncRequest::default() }).await;
    let listed = page.conversations.iter().find(|row| row.conversation_id == id).expect("it is told");
    assert!(listed.removed && listed.dissolved, "{listed:?}");
    cleo.wants_into(id).await.is_refused(412, "failed_precondition");
    for person in [&ada, &cleo] {
        let own = format!("/conversations/{id}/requests/{}/decline", person.id);
        person.posts(&own, json!({})).await.is_refused(412, "failed_precondition");
    }
    cleo.uses_code(&code).await.is_refused(404, "not_found");
    ada.changes_room(id, json!({"name": "x"})).await.is_refused(412, "failed_precondition");
    ada.deletes(&format!("/conversations/{id}")).await.is_refused(412, "failed_precondition");
}

#[tokio::test]
async fn with_the_last_member_a_group_ends() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[]).await;
    ada.posts(&format!("/conversations/{id}/leave"), json!({})).await.is(204);
    bob.wants_into(id).await.is_refused(412, "failed_precondition");
}

#[tokio::test]
async fn the_past_is_open_to_whom_the_room_opens_it() {
    let (ada, bob, cleo) = three().await;
    let id = ada.founds_a_group("club", &[]).await;
    ada.opens(Transport::Tcp).await.says(id, "long ago").await;
    bob.wants_into(id).await.is(200);
    assert!(bob.reads_texts(id).await.is_empty());
    ada.changes_room(id, json!({"history_open": true})).await.is(200);
    assert_eq!(bob.reads_texts(id).await, ["long ago"], "who is there sees it too");
    cleo.wants_into(id).await.is(200);
    assert_eq!(cleo.reads_texts(id).await, ["long ago"]);
    let seen = cleo.sees(id).await;
    assert_eq!(number(&seen, "first_seq"), 1, "{seen}");
    // Closed again: what they have seen stays theirs.
    ada.changes_room(id, json!({"history_open": false})).await.is(200);
    assert_eq!(cleo.reads_texts(id).await, ["long ago"]);
    let dora = World::shared().person("dora").await;
    dora.wants_into(id).await.is(200);
    assert!(dora.reads_texts(id).await.is_empty());
}

#[tokio::test]
async fn a_full_room_takes_nobody_in() {
    let world = World::with(&[("room.members_max", "2")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let cleo = world.person("cleo").await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let code = ada.makes_a_code(id, json!({"uses_max": 1})).await;
    cleo.wants_into(id).await.is_refused(412, "failed_precondition");
    cleo.uses_code(&code).await.is_refused(412, "failed_precondition");
    bob.posts(&format!("/conversations/{id}/leave"), json!({})).await.is(204);
    cleo.uses_code(&code).await.is(200);
}

#[tokio::test]
async fn in_a_large_room_membership_is_told_to_those_concerned_only() {
    let world = World::with(&[("room.small_room", "2")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let (cleo, dora) = world.two("cleo", "dora").await;
    let mut bob_live = bob.opens(Transport::Tcp).await;
    let id = ada.founds_a_group("club", &[&bob, &cleo]).await;
    bob_live.hears_room(id, |news| news.member_count == 3).await;
    let mut ada_live = ada.opens(Transport::Tcp).await;
    ada_live.says(id, "all have heard of the founding").await;
    let mut dora_live = dora.opens(Transport::Tcp).await;
    dora.wants_into(id).await.is(200);
    ada_live.hears_room(id, |news| news.member_count == 4).await;
    dora_live.hears_room(id, |news| !news.removed).await;
    // Settings are told in the log, which all get; bob hears of nothing before that.
    ada.changes_room(id, json!({"name": "The Club"})).await.is(200);
    let first = bob_live
        .hears("the first thing", |event| match event {
            Body::Message(message) if message.seq > 2 => Some(message.text),
            Body::Conversation(news) => Some(format!("{news:?}")),
            _ => None,
        })
        .await;
    assert_eq!(first, "renamed the group to The Club");
    assert_eq!(number(&bob.sees(id).await, "last_seq"), 3, "the founding, a text and the name");
}

/// Times that tests wait for are generous, but a test may not wait for hours.
#[tokio::test]
async fn a_silence_ends_by_itself() {
    let (ada, bob, _) = three().await;
    let id = ada.founds_a_group("club", &[&bob]).await;
    let live = bob.opens(Transport::Tcp).await;
    let until = now_ms() + Duration::from_secs(2).as_millis() as u64;
    ada.changes_member(id, &bob, json!({"silenced_until_ms": until})).await.is(200);
    eventually("bob may write again", async || {
        let text = a_text(id, "hey");
        match live.connection.send(text).await {
            Ok(_) => {
                assert!(now_ms() + 50 >= until, "too early");
                Some(())
            }
            Err(_) => None,
        }
    })
    .await;
}
