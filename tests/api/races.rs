//! Two who do what only one of them can: over two nodes on one database, so that the room is another node's for one of
//! them at least, and which node that is changes from room to room.

use std::collections::BTreeSet;

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use serde_json::json;

use crate::live::a_text;
use crate::two_nodes::{by, two_nodes};
use crate::world::{Answer, Person, World, number};

/// Rooms tried: the owner of half of them is either node.
const ROUNDS: usize = 6;

struct Scene {
    second: World,
    ada: Person,
    bob: Person,
    cleo: Person,
    /// The same by the other node.
    bob_there: Person,
    cleo_there: Person,
}

impl Scene {
    async fn opens() -> Self {
        let (first, second) = two_nodes(&[]).await;
        let (ada, bob) = first.two("ada", "bob").await;
        let cleo = first.person("cleo").await;
        let (bob_there, cleo_there) = (by(&second, &bob), by(&second, &cleo));
        Self { second, ada, bob, cleo, bob_there, cleo_there }
    }
}

fn path(id: u64, rest: &str) -> String {
    format!("/conversations/{id}{rest}")
}

/// How it is refused to act on what has just changed.
#[track_caller]
fn is_a_clear_refusal(answer: &Answer) {
    assert!(matches!(answer.status, 403 | 404 | 412), "{} answered {}", answer.what, answer.text);
}

#[tokio::test]
async fn of_two_admins_neither_removes_the_other() {
    let scene = Scene::opens().await;
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[&scene.bob, &scene.cleo]).await;
        for admin in [&scene.bob, &scene.cleo] {
            scene.ada.changes_member(id, admin, json!({"role": "admin"})).await.is(200);
        }
        let (on_cleo, on_bob) = (
            path(id, &format!("/members/{}", scene.cleo.id)),
            path(id, &format!("/members/{}", scene.bob.id)),
        );
        let (one, other) = tokio::join!(scene.bob.deletes(&on_cleo), scene.cleo_there.deletes(&on_bob));
        one.is_refused(403, "permission_denied");
        other.is_refused(403, "permission_denied");
        assert_eq!(scene.ada.knows_roles(id).await.len(), 3);
    }
}

/// The owner takes the admin's role away while the admin removes the other member: both orders are fine, a mix is not.
#[tokio::test]
async fn one_who_is_an_admin_no_more_removes_nobody() {
    let scene = Scene::opens().await;
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[&scene.bob, &scene.cleo]).await;
        scene.ada.changes_member(id, &scene.bob, json!({"role": "admin"})).await.is(200);
        let on_cleo = path(id, &format!("/members/{}", scene.cleo.id));
        let (demoted, removed) = tokio::join!(
            scene.ada.changes_member(id, &scene.bob, json!({"role": "member"})),
            scene.bob_there.deletes(&on_cleo)
        );
        demoted.is(200);
        let members = scene.ada.knows_roles(id).await.len();
        if removed.status == 204 {
            assert_eq!(members, 2);
        } else {
            removed.is_refused(403, "permission_denied");
            assert_eq!(members, 3);
        }
        scene.bob_there.deletes(&on_cleo).await.is_refused(403, "permission_denied");
    }
}

#[tokio::test]
async fn two_owners_there_are_never() {
    let scene = Scene::opens().await;
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[&scene.bob, &scene.cleo]).await;
        let ada_there = by(&scene.second, &scene.ada);
        let (one, other) = tokio::join!(
            scene.ada.changes_member(id, &scene.bob, json!({"role": "owner"})),
            ada_there.changes_member(id, &scene.cleo, json!({"role": "owner"}))
        );
        let done = [&one, &other].into_iter().filter(|answer| answer.status == 200).count();
        assert_eq!(done, 1, "{one:?} {other:?}");
        let roles = scene.ada.knows_roles(id).await;
        let owners: Vec<u64> =
            roles.iter().filter(|(_, role)| role == "owner").map(|(user_id, _)| *user_id).collect();
        assert_eq!(owners, [number(&scene.ada.sees(id).await, "owner_id")], "{roles:?}");
    }
}

#[tokio::test]
async fn nobody_is_in_a_group_that_was_dissolved_while_they_joined() {
    let scene = Scene::opens().await;
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[&scene.cleo]).await;
        let group = path(id, "");
        let (ended, joined) = tokio::join!(scene.ada.deletes(&group), scene.bob_there.wants_into(id));
        ended.is(204);
        if joined.status != 200 {
            is_a_clear_refusal(&joined);
        }
        for person in [&scene.bob, &scene.bob_there, &scene.cleo_there] {
            let live = person.opens(Transport::Tcp).await;
            let error = live.is_refused(Request::Send(a_text(id, "anybody?"))).await;
            assert!(!error.is_retryable(), "{error:?}");
            let list = person.gets("/conversations").await.is(200);
            assert!(crate::world::items(&list).iter().all(|row| row["conversation_id"] != id), "{list}");
        }
    }
}

#[tokio::test]
async fn when_owner_and_heir_leave_at_once_the_group_has_one_owner() {
    let scene = Scene::opens().await;
    for round in 0..ROUNDS {
        let third = round % 2 == 0;
        let members: Vec<&Person> = if third { vec![&scene.bob, &scene.cleo] } else { vec![&scene.bob] };
        let id = scene.ada.founds_a_group("club", &members).await;
        scene.ada.changes_member(id, &scene.bob, json!({"role": "admin"})).await.is(200);
        let leave = path(id, "/leave");
        let (one, other) =
            tokio::join!(scene.ada.posts(&leave, json!({})), scene.bob_there.posts(&leave, json!({})));
        one.is(204);
        other.is(204);
        if third {
            assert_eq!(scene.cleo_there.knows_roles(id).await, [(scene.cleo.id, "owner".to_owned())]);
            assert_eq!(number(&scene.cleo.sees(id).await, "owner_id"), scene.cleo.id);
        } else {
            // The last one has ended it.
            scene.cleo.wants_into(id).await.is_refused(412, "failed_precondition");
        }
    }
}

#[tokio::test]
async fn the_last_use_of_a_code_lets_in_one() {
    let scene = Scene::opens().await;
    let mut guests = Vec::new();
    for _ in 0..6 {
        guests.push(scene.second.person("guest").await);
    }
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[]).await;
        let code = scene.ada.makes_a_code(id, json!({"uses_max": 2})).await;
        guests[0].uses_code(&code).await.is(200);
        let uses = guests[1..].iter().enumerate().map(|(at, guest)| {
            let guest = if at % 2 == 0 { guest.clone() } else { by(&scene.ada.world, guest) };
            let code = code.clone();
            async move { (guest.id, guest.uses_code(&code).await) }
        });
        let answers = futures_util::future::join_all(uses).await;
        let mut let_in: BTreeSet<u64> = [scene.ada.id, guests[0].id].into();
        for (guest, answer) in answers {
            if answer.status == 200 {
                let_in.insert(guest);
            } else {
                answer.is_refused(412, "failed_precondition");
            }
        }
        assert_eq!(let_in.len(), 3, "the last use is one");
        let members: BTreeSet<u64> =
            scene.ada.knows_roles(id).await.into_iter().map(|(user_id, _)| user_id).collect();
        assert_eq!(members, let_in);
    }
}

#[tokio::test]
async fn one_who_is_banned_while_joining_is_out() {
    let scene = Scene::opens().await;
    for _ in 0..ROUNDS {
        let id = scene.ada.founds_a_group("club", &[]).await;
        let ban = path(id, &format!("/bans/{}", scene.bob.id));
        let (banned, joined) = tokio::join!(scene.ada.puts(&ban, json!({})), scene.bob_there.wants_into(id));
        banned.is(204);
        if joined.status != 200 {
            is_a_clear_refusal(&joined);
        }
        assert_eq!(scene.ada.knows_roles(id).await, [(scene.ada.id, "owner".to_owned())]);
        scene.bob_there.wants_into(id).await.is_refused(403, "permission_denied");
    }
}
