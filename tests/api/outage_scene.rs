//! A conversation of two on a node whose database can be harmed, and a record of every send and its answer.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rookery::client::{ClientError, Transport};
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Send, Sent};

use crate::live::{Live, a_text};
use crate::world::{Person, World, eventually, items, number};

/// An answer must come within this, whatever the database does.
pub const ANSWER: Duration = Duration::from_secs(15);

/// The conversation, and what its database is (`D`).
pub struct Scene<D> {
    pub database: D,
    pub world: World,
    pub ada: Person,
    pub live: Live,
    pub id: u64,
    /// Bytes that each text is made longer by.
    pub weight: usize,
    /// Every send ever made.
    pub sends: Vec<Send>,
    /// The first good answer to each, by client id.
    pub acknowledged: HashMap<String, Sent>,
    /// Answers that were refusals, and those of them that said `unavailable`.
    pub refused: usize,
    pub unavailable: usize,
}

impl<D> Scene<D> {
    /// On a node of its own at this URL of the database.
    pub async fn on(database: D, url: &str) -> Self {
        let world = World::with(&[("storage.url", url)]);
        let (ada, bob) = world.two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let live = ada.opens(Transport::Tcp).await;
        Self {
            database,
            world,
            ada,
            live,
            id,
            weight: 0,
            sends: Vec::new(),
            acknowledged: HashMap::new(),
            refused: 0,
            unavailable: 0,
        }
    }

    /// Sends so many at once, does `meanwhile` after some, and waits for every answer.
    /// How long the slowest answer took, counted from `meanwhile` on.
    pub async fn sends_many(&mut self, count: usize, meanwhile: impl AsyncFnOnce(&mut D)) -> Duration {
        let mut replies = Vec::new();
        for _ in 0..count / 2 {
            replies.push(self.posts().await);
        }
        meanwhile(&mut self.database).await;
        let began = Instant::now();
        for _ in count / 2..count {
            replies.push(self.posts().await);
        }
        let answers = futures_util::future::join_all(replies);
        let answers =
            tokio::time::timeout(ANSWER, answers).await.expect("every send is answered in bounded time");
        let slowest = began.elapsed();
        for answer in answers {
            self.is_answered(answer);
        }
        slowest
    }

    /// Makes a send; its answer is still to come.
    async fn posts(&mut self) -> BoxFuture<'static, Result<Body, ClientError>> {
        let send = a_text(self.id, &format!("message {}{}", self.sends.len(), "x".repeat(self.weight)));
        let reply = self.live.connection.post(Request::Send(send.clone())).await.expect("open");
        self.sends.push(send);
        Box::pin(reply)
    }

    /// Makes a send and waits for its answer; whether it was acknowledged.
    pub async fn sends_one(&mut self) -> bool {
        let answer = self.posts().await.await;
        self.is_answered(answer)
    }

    /// Repeats the newest send; whether it was acknowledged.
    pub async fn repeats_the_last(&mut self) -> bool {
        let send = self.sends.last().expect("there is one").clone();
        let answer = self.live.connection.request(Request::Send(send)).await;
        self.is_answered(answer)
    }

    fn is_answered(&mut self, answer: Result<Body, ClientError>) -> bool {
        match answer {
            Ok(Body::Sent(sent)) => {
                self.is_acknowledged(sent);
                true
            }
            Err(ClientError::Refused(error)) => {
                assert!(is_passing(error.code), "{error:?}");
                assert!(error.code != ErrorCode::Unavailable || error.retry_after_ms > 0, "{error:?}");
                self.refused += 1;
                self.unavailable += usize::from(error.code == ErrorCode::Unavailable);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_acknowledged(&mut self, sent: Sent) {
        let first = self.acknowledged.entry(sent.client_id.clone()).or_insert_with(|| sent.clone());
        assert_eq!((first.seq, first.created_at_ms), (sent.seq, sent.created_at_ms), "an answer changed");
    }

    /// Repeats whatever has no good answer until it has one.
    pub async fn repeats_until_all_are_acknowledged(&mut self) {
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
    pub async fn holds_each_message_exactly_once(&self) {
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
