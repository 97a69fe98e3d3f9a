//! More than the database takes: sends are refused soon, with a time to try again, and counted; and then stored.

use std::time::Duration;

use reqwest::Method;
use rookery::client::{ClientError, Transport};
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::Send;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use sea_orm::sqlx::{AssertSqlSafe, Executor as _};

use crate::live::a_text;
use crate::mariadb::MariaDb;
use crate::world::{Answer, World, eventually, number};

/// Conversations: more than writers.
const ROOMS: usize = 6;
/// `overload.wait_max`: the database gives up waiting for a lock after two seconds.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// One that is refused at the edge waits for nothing; the database's own refusals take ten times as long.
const AT_ONCE: Duration = WAIT_MAX;

async fn sheds(world: &World, reason: &str) -> u64 {
    let nodes = world.operator_request(Method::GET, "/admin/v1/nodes");
    let list = Answer::of("/admin/v1/nodes", nodes).await.is(200);
    number(&list["counters"], reason)
}

#[tokio::test]
async fn while_the_database_stands_still_sends_are_refused_soon_and_stored_when_they_are_repeated() {
    let server = MariaDb::start().await;
    let url = server.database().await;
    let world = World::with(&[
        ("storage.url", url.as_str()),
        ("overload.wait_max", &format!("{}ms", WAIT_MAX.as_millis())),
    ]);
    let ada = world.person("ada").await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(ada.founds_a_group("rooks", &[]).await);
    }
    let live = ada.opens(Transport::Tcp).await;
    assert_eq!(sheds(&world, "sheds_writers").await, 0);
    let mut operator = server.connect().await.expect("it answers");
    let database = url.rsplit('/').next().expect("it has a name");
    let lock = AssertSqlSafe(format!("LOCK TABLES {database}.messages WRITE"));
    operator.execute(lock).await.expect("it is locked");
    let sends: Vec<Send> = rooms.iter().map(|room| a_text(*room, "stored once")).collect();
    let (last, waiting) = sends.split_last().expect("there are some");
    let refused = eventually("a send is refused because the writers are behind", async || {
        for send in waiting {
            // Two are with the writers, and the others wait for those; their answers are nobody's matter.
            drop(live.connection.post(Request::Send(send.clone())).await.expect("open"));
        }
        // One that is let in waits for the database: its answer is nobody's matter either.
        let answer = live.connection.request(Request::Send(last.clone()));
        let error = match tokio::time::timeout(AT_ONCE, answer).await.ok()? {
            Err(ClientError::Refused(error)) => error,
            answer => panic!("nothing can be stored: {answer:?}"),
        };
        (sheds(&world, "sheds_writers").await > 0).then_some(error)
    })
    .await;
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.retry_after_ms > 0, "{refused:?}");
    operator.execute("UNLOCK TABLES").await.expect("it is unlocked");
    for send in &sends {
        is_stored(&live, send).await;
    }
    for room in rooms {
        let texts = ada.reads_texts(room).await;
        assert_eq!(texts.iter().filter(|text| *text == "stored once").count(), 1, "{texts:?}");
    }
}

/// Repeats a send until it is acknowledged, however soon.
async fn is_stored(live: &crate::live::Live, send: &Send) {
    eventually("it is stored", async || match live.connection.request(Request::Send(send.clone())).await {
        Ok(Body::Sent(_)) => Some(()),
        Err(ClientError::Refused(error)) => {
            assert!(error.retry_after_ms > 0 || error.code == ErrorCode::DeadlineExceeded, "{error:?}");
            None
        }
        answer => panic!("{answer:?}"),
    })
    .await;
}
