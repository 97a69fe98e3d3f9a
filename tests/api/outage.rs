//! The database taken away under sends: no false answer, no endless wait, and all is well again by itself.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use reqwest::Method;
use rookery::client::{ClientError, Transport};
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Send, Sent};
use serde_json::json;

use crate::live::{Live, a_text};
use crate::mariadb::MariaDb;
use crate::world::{Answer, Person, World, eventually, items, number};

/// An answer must come within this, whatever the database does.
const ANSWER: Duration = Duration::from_secs(15);

/// A conversation of two on a node whose database can be taken away.
struct Scene {
    database: MariaDb,
    world: World,
    ada: Person,
    live: Live,
    id: u64,
    /// Every send ever made.
    sends: Vec<Send>,
    /// The first good answer to each, by client id.
    acknowledged: HashMap<String, Sent>,
}

impl Scene {
    async fn begin() -> Self {
        let database = MariaDb::start().await;
        let world = World::with(&[("storage.url", &database.database().await)]);
        let (ada, bob) = world.two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let live = ada.opens(Transport::Tcp).await;
        Self { database, world, ada, live, id, sends: Vec::new(), acknowledged: HashMap::new() }
    }

    /// Sends so many at once, does `meanwhile` after some, and waits for every answer.
    async fn sends_many(&mut self, count: usize, mut meanwhile: impl FnMut(&mut MariaDb)) {
        let mut replies = Vec::new();
        for at in 0..count {
            let send = a_text(self.id, &format!("message {}", self.sends.len()));
            replies.push(self.live.connection.post(Request::Send(send.clone())).await.expect("open"));
            self.sends.push(send);
            if at == count / 2 {
                meanwhile(&mut self.database);
            }
        }
        let answers = futures_util::future::join_all(replies);
        let answers =
            tokio::time::timeout(ANSWER, answers).await.expect("every send is answered in bounded time");
        for answer in answers {
            match answer {
                Ok(Body::Sent(sent)) => self.is_acknowledged(sent),
                Err(ClientError::Refused(error)) => {
                    assert!(is_passing(error.code), "{error:?}");
                    assert!(error.code != ErrorCode::Unavailable || error.retry_after_ms > 0, "{error:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn is_acknowledged(&mut self, sent: Sent) {
        let first = self.acknowledged.entry(sent.client_id.clone()).or_insert_with(|| sent.clone());
        assert_eq!((first.seq, first.created_at_ms), (sent.seq, sent.created_at_ms), "an answer changed");
    }

    /// Repeats whatever has no good answer until it has one.
    async fn repeats_until_all_are_acknowledged(&mut self) {
        for send in self.sends.clone() {
            if self.acknowledged.contains_key(&send.client_id) {
                continue;
            }
            let sent = eventually("an answer after the database is back", async || {
                match self.live.connection.send(send.clone()).await {
                    Ok(sent) => Some(sent),
                    Err(ClientError::Refused(error)) if is_passing(error.code) => None,
                    Err(error) => panic!("{error}"),
                }
            })
            .await;
            self.is_acknowledged(sent);
        }
    }

    /// The log holds each message exactly once, where its answer said.
    async fn holds_each_message_exactly_once(&self) {
        let (mut log, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/conversations/{}/messages?limit=200&cursor={cursor}", self.id);
            let page = self.ada.gets(&path).await.is(200);
            for message in items(&page) {
                let client_id = message["client_id"].as_str().expect("a string").to_owned();
                assert_eq!(log.insert(number(message, "seq"), client_id), None, "a seq came twice");
            }
            cursor = page["next_cursor"].as_str().expect("a string").to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(log.len(), self.sends.len(), "each message once");
        assert!(log.keys().copied().eq(1..=self.sends.len() as u64), "no gaps");
        for (client_id, sent) in &self.acknowledged {
            assert_eq!(log.get(&sent.seq), Some(client_id), "what was acknowledged stands where it was said");
        }
    }
}

/// The codes after which a send is to be repeated.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unavailable
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Internal
            | ErrorCode::ResourceExhausted
    )
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
    let mut scene = Scene::begin().await;
    scene.sends_many(50, |_| {}).await;
    assert_eq!(scene.acknowledged.len(), 50);
    // Twice, since the second time finds pools and prepared statements that have been broken once.
    for _ in 0..2 {
        scene.sends_many(400, MariaDb::kill).await;
        let (world, ada) = (scene.world.clone(), scene.ada.clone());
        is_unavailable_soon(&world, &ada).await;
        let before = scene.acknowledged.len();
        scene.sends_many(300, |_| {}).await;
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
    scene.sends_many(20, |_| {}).await;
    scene.holds_each_message_exactly_once().await;
}

#[tokio::test]
async fn sends_that_find_the_database_gone_are_all_refused_soon_however_many_wait() {
    let mut scene = Scene::begin().await;
    scene.sends_many(20, |_| {}).await;
    // Killed while nothing is in flight, so that the room knows its log, and every group is refused for certain.
    scene.database.kill();
    scene.sends_many(1500, |_| {}).await;
    scene.sends_many(50, |_| {}).await;
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
    let mut scene = Scene::begin().await;
    scene.sends_many(20, |_| {}).await;
    scene.sends_many(100, |database| database.freeze()).await;
    let (world, ada) = (scene.world.clone(), scene.ada.clone());
    is_unavailable_soon(&world, &ada).await;
    scene.database.thaw();
    scene.repeats_until_all_are_acknowledged().await;
    scene.sends_many(20, |_| {}).await;
    scene.holds_each_message_exactly_once().await;
}
