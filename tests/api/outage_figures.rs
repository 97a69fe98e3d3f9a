//! One fault of the database, measured round after round: how long answers take while it lasts, and how soon all is
//! well after it. Every round also judges: no false answer, and each message once.
//!
//! `ROOKERY_FAULT_ROUNDS` sets the rounds (1 unless told), `ROOKERY_FAULT_SECONDS` how long each fault lasts (6).

use std::time::{Duration, Instant};

use reqwest::Method;
use rookery::client::Connection;
use rookery::protocol::v1::{HistoryRequest, SyncRequest};
use serde_json::json;

use crate::outage_scene::Scene;
use crate::world::{PASSWORD, Person, within};

/// From here on a fault counts as known.
const KNOWN_AFTER: Duration = Duration::from_secs(3);
/// Pause between two requests of somebody who tries.
const PAUSE: Duration = Duration::from_millis(20);
/// How much longer than promised anything may take on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
/// The same for what is refused at once, so small that waiting in vain shows.
const KNOWN_SLACK: Duration = Duration::from_secs(1);
/// Of so many refusals one may be `deadline_exceeded` on a busy machine; the others say `unavailable`.
const LATE_SHARE: usize = 10;
/// Sends on their way when the fault begins.
const BURST: usize = 100;

/// What a fault is held to, without what a busy machine adds.
pub struct Promise {
    /// A send is answered within this at any time.
    pub answer: Duration,
    /// The same once the fault is known.
    pub known: Duration,
    /// Everything works again so soon after its end.
    pub back: Duration,
    /// Nothing at all can be stored while it lasts.
    pub stores_nothing: bool,
}

/// What one round showed.
#[derive(Clone, Copy, Default)]
struct Round {
    answer: Duration,
    known: Duration,
    send_back: Duration,
    reads_back: Duration,
}

/// The rounds to make.
pub fn rounds() -> usize {
    number("ROOKERY_FAULT_ROUNDS", 1)
}

/// How long a fault lasts.
fn lasting() -> Duration {
    Duration::from_secs(number("ROOKERY_FAULT_SECONDS", 6) as u64)
}

fn number(name: &str, usual: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Makes the rounds, prints a line of a table, and holds what they showed to what is promised.
pub async fn measure<D>(
    scene: &mut Scene<D>,
    name: &str,
    promise: &Promise,
    mut begin: impl AsyncFnMut(&mut D),
    mut end: impl AsyncFnMut(&mut D),
) {
    let mut all = Vec::new();
    for _ in 0..rounds() {
        all.push(round(scene, promise, &mut begin, &mut end).await);
    }
    print(name, &all);
    let (refused, unavailable) = (scene.refused, scene.unavailable);
    assert!(
        (refused - unavailable) * LATE_SHARE <= refused,
        "{name}: {unavailable} of {refused} say unavailable"
    );
    for round in all {
        assert!(round.answer <= promise.answer + SLACK, "{name}: an answer took {:?}", round.answer);
        assert!(
            round.known <= promise.known + KNOWN_SLACK,
            "{name}: known, and an answer took {:?}",
            round.known
        );
        assert!(round.send_back <= promise.back + SLACK, "{name}: sends took {:?}", round.send_back);
        assert!(round.reads_back <= promise.back + SLACK, "{name}: reads took {:?}", round.reads_back);
    }
}

async fn round<D>(
    scene: &mut Scene<D>,
    promise: &Promise,
    begin: &mut impl AsyncFnMut(&mut D),
    end: &mut impl AsyncFnMut(&mut D),
) -> Round {
    let mut round = Round::default();
    scene.sends_many(20, async |_| {}).await;
    let calm = scene.acknowledged.len();
    assert_eq!(calm, scene.sends.len(), "all is well before the fault");
    let (mut began, mut refused) = (Instant::now(), false);
    round.answer = scene
        .sends_many(BURST, async |database| {
            begin(database).await;
            began = Instant::now();
        })
        .await;
    while began.elapsed() < lasting() {
        let is_known = began.elapsed() > KNOWN_AFTER;
        let asked = Instant::now();
        let is_stored = scene.sends_one().await;
        assert!(!is_stored || !promise.stores_nothing, "an acknowledgement without a commit");
        refused |= !is_stored;
        let took = asked.elapsed();
        round.answer = round.answer.max(took);
        if is_known {
            round.known = round.known.max(took);
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert!(refused, "the fault is one");
    end(&mut scene.database).await;
    let over = Instant::now();
    let (ada, connection, id) = (scene.ada.clone(), scene.live.connection.clone(), scene.id);
    let sends = async {
        while !scene.repeats_the_last().await {
            tokio::time::sleep(PAUSE).await;
        }
        over.elapsed()
    };
    let back = async { tokio::join!(sends, reads(&ada, &connection, id, over)) };
    (round.send_back, round.reads_back) = within("everything works again", back).await;
    scene.repeats_until_all_are_acknowledged().await;
    scene.holds_each_message_exactly_once().await;
    round
}

/// Tries sync, history and sign-in until each has worked.
async fn reads(ada: &Person, connection: &Connection, id: u64, over: Instant) -> Duration {
    let sync = async {
        while connection.sync(SyncRequest::default()).await.is_err() {
            tokio::time::sleep(PAUSE).await
        }
    };
    let request = HistoryRequest { conversation_id: id, limit: 10, ..HistoryRequest::default() };
    let history = async {
        while connection.history(request).await.is_err() {
            tokio::time::sleep(PAUSE).await
        }
    };
    let sign_in = async {
        let body = json!({"username": ada.name, "password": PASSWORD, "device_name": "another phone"});
        while ada.world.asks(Method::POST, "/sessions", None, Some(body.clone())).await.status != 201 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::join!(sync, history, sign_in);
    over.elapsed()
}

#[expect(clippy::print_stderr, reason = "the figures are for people to read")]
fn print(name: &str, rounds: &[Round]) {
    let column = |of: fn(&Round) -> Duration| {
        let mut all: Vec<u128> = rounds.iter().map(|round| of(round).as_millis()).collect();
        all.sort_unstable();
        format!("{} / {}", all[all.len() / 2], all[all.len() - 1])
    };
    eprintln!(
        "\n| {name} | {} | {} | {} | {} | {} |",
        rounds.len(),
        column(|round| round.answer),
        column(|round| round.known),
        column(|round| round.send_back),
        column(|round| round.reads_back),
    );
}
