//! The database taken away under sends: no false answer, no endless wait, and all is well again by itself.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::mariadb::MariaDb;
use crate::outage_scene::{ANSWER, Scene};
use crate::world::{Answer, Person, World, eventually};

/// On a server of its own.
async fn begin() -> Scene<MariaDb> {
    let server = MariaDb::start().await;
    let url = server.database().await;
    Scene::on(server, &url).await
}

/// One call with the database away.
async fn is_unavailable_soon(world: &World, person: &Person) {
    let began = Instant::now();
    let answer = person.gets("/conversations").await;
    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    let body = json!({"username": "newcomer", "password": "a password"});
    let answer = world.asks(Method::POST, "/users", None, Some(body)).await;
    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    let ready = Answer::of("/readyz", world.request(Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    let alive = Answer::of("/healthz", world.request(Method::GET, "/healthz")).await;
    assert_eq!(alive.status, 200, "a node whose database is away lives: {alive:?}");
    assert!(began.elapsed() < ANSWER, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_killed_database_loses_nothing_and_comes_back_by_itself() {
    let mut scene = begin().await;
    scene.sends_many(50, async |_| {}).await;
    assert_eq!(scene.acknowledged.len(), 50);
    // Twice, since the second time finds pools and prepared statements that have been broken once.
    for _ in 0..2 {
        scene.sends_many(400, async |database| database.kill()).await;
        let (world, ada) = (scene.world.clone(), scene.ada.clone());
        is_unavailable_soon(&world, &ada).await;
        let before = scene.acknowledged.len();
        scene.sends_many(300, async |_| {}).await;
        assert_eq!(scene.acknowledged.len(), before, "nothing can be stored now");
        scene.database.restart().await;
        scene.repeats_until_all_are_acknowledged().await;
        let ready = eventually("ready again", async || {
            let answer = Answer::of("/readyz", world.request(Method::GET, "/readyz")).await;
            (answer.status == 200).then_some(answer)
        });
        ready.await;
        scene.holds_each_message_exactly_once().await;
    }
    // The connection that was open all the while is still good.
    scene.sends_many(20, async |_| {}).await;
    scene.holds_each_message_exactly_once().await;
}

#[tokio::test]
async fn sends_that_find_the_database_gone_are_all_refused_soon_however_many_wait() {
    let mut scene = begin().await;
    scene.sends_many(20, async |_| {}).await;
    // Killed while nothing is in flight, so that the room knows its log, and every group is refused for certain.
    scene.database.kill();
    scene.sends_many(1500, async |_| {}).await;
    scene.sends_many(50, async |_| {}).await;
    // The same for questions that the room answers, between sends.
    let began = Instant::now();
    let questions = (0..10).map(|_| scene.ada.gets("/conversations"));
    let details = (0..10).map(|_| async {
        let answer = scene.ada.gets(&format!("/conversations/{}", scene.id)).await;
        assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    });
    let (lists, _) =
        tokio::join!(futures_util::future::join_all(questions), futures_util::future::join_all(details));
    assert!(lists.iter().all(|answer| matches!(answer.status, 503 | 504)));
    assert!(began.elapsed() < ANSWER, "{:?}", began.elapsed());
    scene.database.restart().await;
    scene.repeats_until_all_are_acknowledged().await;
    scene.holds_each_message_exactly_once().await;
}

#[tokio::test]
async fn a_frozen_database_is_answered_for_in_bounded_time() {
    let mut scene = begin().await;
    scene.sends_many(20, async |_| {}).await;
    scene.sends_many(100, async |database| database.freeze()).await;
    let (world, ada) = (scene.world.clone(), scene.ada.clone());
    is_unavailable_soon(&world, &ada).await;
    scene.database.thaw();
    scene.repeats_until_all_are_acknowledged().await;
    scene.sends_many(20, async |_| {}).await;
    scene.holds_each_message_exactly_once().await;
}
