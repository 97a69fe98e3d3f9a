//! Connections that break in the middle of a commit, or fall silent. Whether the server had it or not, the answer is the
//! truth, and there is one message.

use std::time::{Duration, Instant};

use crate::mariadb::MariaDb;
use crate::mysql_proxy::{Fate, MySqlProxy, Point};
use crate::outage_scene::Scene;

/// Sends at once, so that a group of many statements, and so a transaction, is among what is stored.
const MANY: usize = 400;

/// A node that reaches its database by a proxy that cuts.
async fn behind_a_proxy() -> Scene<(MariaDb, MySqlProxy)> {
    let server = MariaDb::start().await;
    let proxy = MySqlProxy::start(server.port()).await;
    let url = proxy.url(&server.database().await, server.port());
    Scene::on((server, proxy), &url).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_whose_commit_is_cut_off_is_answered_truly_and_stored_once() {
    let mut scene = behind_a_proxy().await;
    for fate in [Fate::Done, Fate::Lost, Fate::Running] {
        for _ in 0..5 {
            let cuts = scene.database.1.cuts();
            scene.database.1.cut_next(Point::Insert, fate);
            // The server is there, so the node can find out, and does: the sender sees nothing of it.
            assert!(scene.sends_one().await, "{fate:?}: the send is acknowledged");
            assert_eq!(scene.database.1.cuts(), cuts + 1, "{fate:?}: it was cut");
            scene.holds_each_message_exactly_once().await;
            assert!(scene.repeats_the_last().await, "{fate:?}: so is its repeat, in the same way");
        }
    }
    scene.holds_each_message_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_whose_transaction_is_cut_off_at_commit_are_answered_truly_and_stored_once() {
    let mut scene = behind_a_proxy().await;
    for fate in [Fate::Done, Fate::Lost, Fate::Running] {
        for _ in 0..3 {
            let cuts = scene.database.1.cuts();
            scene.database.1.cut_next(Point::Commit, fate);
            while scene.database.1.cuts() == cuts {
                scene.sends_many(MANY, async |_| {}).await;
            }
            scene.repeats_until_all_are_acknowledged().await;
            scene.holds_each_message_exactly_once().await;
        }
    }
}

/// The connection breaks with the server itself: nobody can find out, so nobody is told that it was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_cut_off_by_the_servers_death_is_not_acknowledged_and_its_repeat_tells_the_truth() {
    let mut scene = behind_a_proxy().await;
    for fate in [Fate::Done, Fate::Lost] {
        let cuts = scene.database.1.cuts();
        scene.database.1.cut_next(Point::Insert, fate);
        scene.database.1.ends_with_the_cut();
        assert!(!scene.sends_one().await, "{fate:?}: nobody can know");
        assert_eq!(scene.database.1.cuts(), cuts + 1, "{fate:?}: it was cut");
        scene.database.1.goes_on();
        scene.repeats_until_all_are_acknowledged().await;
        let newest = scene.acknowledged[&scene.sends.last().expect("there is one").client_id].clone();
        assert_eq!(newest.duplicate, fate == Fate::Done, "{fate:?}: {newest:?}");
        scene.holds_each_message_exactly_once().await;
    }
}

/// Longest time without an acknowledgement after all connections fell silent: until the server is asked in vain and
/// reached anew (2 s), and slack for a machine that does other things. One by one it would be 2 s for each of them.
const SILENCE: Duration = Duration::from_millis(2000 + 6000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fall_silent_are_all_thrown_away_at_once() {
    let mut scene = behind_a_proxy().await;
    for _ in 0..3 {
        // Many are busy, and have been used just now.
        scene.sends_many(MANY, async |database| database.1.forgets_connections()).await;
        let began = Instant::now();
        while !scene.sends_one().await {
            assert!(began.elapsed() < SILENCE, "{:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let reads = (0..16).map(|_| scene.ada.gets("/conversations"));
        for answer in futures_util::future::join_all(reads).await {
            answer.is(200);
        }
        assert!(began.elapsed() < SILENCE, "{:?}", began.elapsed());
        scene.repeats_until_all_are_acknowledged().await;
        scene.holds_each_message_exactly_once().await;
    }
}
