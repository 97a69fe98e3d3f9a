//! Users and sessions by REST: signing up, in and out, profiles, devices.

use reqwest::Method;
use rookery::client::Transport;
use rookery::protocol::ErrorCode;
use serde_json::{Value, json};

use crate::world::{PASSWORD, TRANSPORTS, World, items, number, unique};

async fn signs_up(world: &World, body: Value) -> crate::world::Answer {
    world.asks(Method::POST, "/users", None, Some(body)).await
}

async fn signs_in(world: &World, username: &str, password: &str) -> crate::world::Answer {
    let body = json!({"username": username, "password": password, "device_name": "x"});
    world.asks(Method::POST, "/sessions", None, Some(body)).await
}

#[tokio::test]
async fn signing_up_gives_the_user_and_signing_in_a_token() {
    let world = World::shared();
    let name = format!("Ada.{}", unique());
    let body = json!({"username": name, "password": PASSWORD, "display_name": "Ada Lovelace"});
    let user = signs_up(&world, body).await.is(201);
    assert_eq!((&user["username"], &user["display_name"]), (&json!(name), &json!("Ada Lovelace")));
    assert_eq!((number(&user, "avatar_file_id"), &user["bio"]), (0, &json!("")));
    assert!(user.get("password").is_none() && user.get("password_hash").is_none(), "{user}");

    let session = signs_in(&world, &name, PASSWORD).await.is(201);
    assert_eq!(number(&session, "user_id"), number(&user, "user_id"));
    assert!(number(&session, "expires_at_ms") > 1_700_000_000_000, "{session}");
    let token = session["token"].as_str().expect("a token");
    let me = world.asks(Method::GET, "/users/me", Some(token), None).await.is(200);
    assert_eq!(me, user);
    let path = format!("/users/{}", number(&user, "user_id"));
    assert_eq!(world.asks(Method::GET, &path, Some(token), None).await.is(200), user);
}

#[tokio::test]
async fn a_user_without_a_display_name_is_shown_by_its_username() {
    let world = World::shared();
    let name = format!("plain{}", unique());
    let user = signs_up(&world, json!({"username": name, "password": PASSWORD})).await.is(201);
    assert_eq!(user["display_name"], name);
}

#[tokio::test]
async fn a_name_is_taken_in_any_case() {
    let world = World::shared();
    let name = format!("Zoë{}", unique());
    signs_up(&world, json!({"username": name, "password": PASSWORD})).await.is(201);
    for taken in [name.clone(), name.to_uppercase(), name.to_lowercase()] {
        let answer = signs_up(&world, json!({"username": taken, "password": PASSWORD})).await;
        answer.is_refused(409, "already_exists");
        signs_in(&world, &taken, PASSWORD).await.is(201);
    }
}

#[tokio::test]
async fn of_many_who_want_a_name_at_once_one_gets_it() {
    let world = World::shared();
    let name = format!("wanted{}", unique());
    let all = (0..8).map(|_| signs_up(&world, json!({"username": name, "password": PASSWORD})));
    let mut statuses: Vec<u16> =
        futures_util::future::join_all(all).await.into_iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn names_and_passwords_have_rules() {
    let world = World::shared();
    let fresh = || format!("ok{}", unique());
    for name in ["", " ", "a b", "-a", ".a", "_a", "a/b", "a\nb", "a@b", &"x".repeat(33)] {
        let answer = signs_up(&world, json!({"username": name, "password": PASSWORD})).await;
        answer.is_refused(400, "invalid_argument").naming("username");
    }
    for password in ["", "12345", &"x".repeat(257)] {
        let answer = signs_up(&world, json!({"username": fresh(), "password": password})).await;
        answer.is_refused(400, "invalid_argument").naming("password");
    }
    for (name, password) in [
        (format!("7_.-{}", unique()), "123456".to_owned()),
        (format!("{:x>32}", unique()), "x".repeat(256)),
        (fresh(), "pässwörd with spaces ".to_owned()),
    ] {
        signs_up(&world, json!({"username": name, "password": password})).await.is(201);
        signs_in(&world, &name, &password).await.is(201);
    }
    let long = json!({"username": fresh(), "password": PASSWORD, "display_name": "x".repeat(10_000)});
    signs_up(&world, long).await.is_refused(400, "invalid_argument").naming("display_name");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_refused_alike() {
    let world = World::shared();
    let ada = world.person("ada").await;
    let wrong = signs_in(&world, &ada.name, "not the password").await;
    let unknown = signs_in(&world, "nobody-has-this-name", PASSWORD).await;
    let odd = signs_in(&world, "no such / name", PASSWORD).await;
    assert_eq!(wrong.body, unknown.body);
    for answer in [wrong, unknown, odd] {
        answer.is_refused(401, "unauthenticated");
    }
    signs_in(&world, &ada.name, &format!("{PASSWORD} ")).await.is_refused(401, "unauthenticated");
    signs_in(&world, &ada.name, "").await.is_refused(401, "unauthenticated");
}

#[tokio::test]
async fn each_sign_in_is_a_device_and_the_list_says_which_is_this_one() {
    let ada = World::shared().person("ada").await;
    let second = ada.on_another_device().await;
    assert_ne!(ada.device_id, second.device_id);
    let list = second.gets("/sessions").await.is(200);
    let mut ids: Vec<u64> = items(&list).iter().map(|device| number(device, "device_id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, [ada.device_id, second.device_id]);
    for device in items(&list) {
        assert_eq!(device["device_name"], "a phone", "{device}");
        assert_eq!(device["current"], json!(number(device, "device_id") == second.device_id), "{device}");
        assert!(device.get("token").is_none(), "{device}");
    }
}

#[tokio::test]
async fn signing_out_here_ends_the_token_and_the_live_connections_at_once() {
    for transport in TRANSPORTS {
        let ada = World::shared().person("ada").await;
        let live = ada.opens(transport).await;
        let second = ada.on_another_device().await;
        let second_live = second.opens(transport).await;
        ada.deletes("/sessions/current").await.is(204);
        ada.gets("/users/me").await.is_refused(401, "unauthenticated");
        let close = live.sees_the_close().await;
        let code = if transport == Transport::Tcp { None } else { Some(4401) };
        assert_eq!(close.code, code, "{transport:?} {close}");
        // The token opens nothing any more.
        let (connection, _events) = ada.world.connects(transport).await;
        let error = connection.hello(&ada.token).await.expect_err("a dead token");
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
        // The other device goes on.
        let id = second.founds_a_group("still here", &[]).await;
        second_live.says(id, "hello").await;
        ada.deletes("/sessions/current").await.is_refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn signing_out_there_ends_that_device_only_and_only_ones_own() {
    let (ada, eve) = World::shared().two("ada", "eve").await;
    let second = ada.on_another_device().await;
    let second_live = second.opens(Transport::WebSocketJson).await;
    let path = format!("/sessions/{}", second.device_id);
    eve.deletes(&path).await.is_refused(404, "not_found");
    second.gets("/users/me").await.is(200);
    ada.deletes(&path).await.is(204);
    assert_eq!(second_live.sees_the_close().await.code, Some(4401));
    second.gets("/users/me").await.is_refused(401, "unauthenticated");
    ada.gets("/users/me").await.is(200);
    ada.deletes(&path).await.is_refused(404, "not_found");
    assert_eq!(items(&ada.gets("/sessions").await.is(200)).len(), 1);
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_device_is_signed_out_for_a_new_one() {
    let world = World::with(&[("accounts.devices_max", "3")]);
    let first = world.person("ada").await;
    let live = first.opens(Transport::WebSocketProto).await;
    for _ in 0..3 {
        first.on_another_device().await;
    }
    assert_eq!(live.sees_the_close().await.code, Some(4401));
    first.gets("/users/me").await.is_refused(401, "unauthenticated");
}

#[tokio::test]
async fn users_are_found_by_the_beginning_of_a_name_page_by_page() {
    let (ada, stem) = (World::shared().person("ada").await, format!("find{}x", unique()));
    let mut ids = Vec::new();
    for at in 0..5 {
        let body = json!({"username": format!("{stem}{at}"), "password": PASSWORD});
        ids.push(number(&signs_up(&ada.world, body).await.is(201), "user_id"));
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            ada.gets(&format!("/users?query={}&limit=2&cursor={cursor}", stem.to_uppercase())).await.is(200);
        assert!(items(&page).len() <= 2);
        found.extend(items(&page).iter().map(|user| number(user, "user_id")));
        cursor = page["next_cursor"].as_str().expect("a string").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!(found, ids);
    // What a pattern language would take for a wildcard is a letter like any other.
    for odd in ["_", "%25", "\\"] {
        assert!(items(&ada.gets(&format!("/users?query={stem}{odd}")).await.is(200)).is_empty(), "{odd}");
    }
    ada.gets("/users?query=").await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_profile_is_changed_by_its_owner_and_seen_by_others() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let change = json!({"display_name": "Ada L. 🐦", "bio": "numbers\nand engines"});
    ada.patches("/users/me", change).await.is(200);
    let seen = bob.gets(&format!("/users/{}", ada.id)).await.is(200);
    assert_eq!((&seen["display_name"], &seen["bio"]), (&json!("Ada L. 🐦"), &json!("numbers\nand engines")));
    // What is not named stays.
    ada.patches("/users/me", json!({"bio": ""})).await.is(200);
    let seen = bob.gets(&format!("/users/{}", ada.id)).await.is(200);
    assert_eq!((&seen["display_name"], &seen["bio"]), (&json!("Ada L. 🐦"), &json!("")));
    ada.patches("/users/me", json!({"display_name": ""})).await.is_refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_new_password_replaces_the_old_one() {
    let ada = World::shared().person("ada").await;
    let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});
    ada.puts("/users/me/password", change("wrong one", "another one"))
        .await
        .is_refused(403, "permission_denied");
    ada.puts("/users/me/password", change(PASSWORD, "short")).await.is_refused(400, "invalid_argument");
    ada.puts("/users/me/password", change(PASSWORD, "another one")).await.is(204);
    signs_in(&ada.world, &ada.name, PASSWORD).await.is_refused(401, "unauthenticated");
    signs_in(&ada.world, &ada.name, "another one").await.is(201);
    // Who changed it stays signed in.
    ada.gets("/users/me").await.is(200);
}

#[tokio::test]
async fn a_deleted_account_is_signed_out_everywhere_and_can_not_come_back() {
    let ada = World::shared().person("ada").await;
    let live = ada.on_another_device().await.opens(Transport::WebSocketJson).await;
    ada.deletes("/users/me").await.is(204);
    assert_eq!(live.sees_the_close().await.code, Some(4401));
    ada.gets("/users/me").await.is_refused(401, "unauthenticated");
    let answer = signs_in(&ada.world, &ada.name, PASSWORD).await;
    assert!([401, 403].contains(&answer.status), "{answer:?}");
}
