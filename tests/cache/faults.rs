//! A Redis that fails costs nobody an answer, and nobody more than a moment.

use std::time::{Duration, Instant};

use crate::redis::{Proxy, Redis};
use crate::tier::{Database, Lateness, Side, config, eventually};

/// Keys of these tests; each read is of a key that this process does not remember.
const KEYS: usize = 4000;
/// The most that a request waits because of Redis.
const WAIT: Duration = Duration::from_millis(30);
/// What the machine itself may add, on top of how late its timers were seen to be.
const MARGIN: Duration = Duration::from_millis(25);

struct Reader {
    side: Side,
    next: usize,
}

impl Reader {
    async fn connected(url: &str) -> Self {
        let reader = Self::over(url);
        reader.side.is_connected().await;
        reader
    }

    fn over(url: &str) -> Self {
        Self { side: Side::over(&Database::new(KEYS), &config(url)), next: 0 }
    }

    /// Reads and writes for a while. Every call must succeed, and none may take longer than the bound: the database
    /// here takes no time, so all that a call takes is the cache's.
    async fn goes_on(&mut self, calls: usize) {
        let lateness = Lateness::watch();
        let (mut worst, mut waited) = (Duration::ZERO, 0);
        for call in 0..calls {
            let at = self.next;
            self.next = (self.next + 1) % KEYS;
            let began = Instant::now();
            if call % 10 == 9 {
                self.side.writes(at).await;
            } else {
                self.side.reads(at).await;
            }
            let took = began.elapsed();
            worst = worst.max(took);
            waited += usize::from(took > WAIT / 2);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let bound = WAIT + MARGIN + 2 * lateness.worst();
        assert!(
            worst <= bound,
            "a call took {worst:?}; {bound:?} is the bound, timers were late by {:?}",
            lateness.worst()
        );
        assert!(waited <= calls / 5, "{waited} of {calls} calls waited for Redis");
    }

    async fn comes_back(&mut self) {
        self.side.is_connected().await;
        let fills = self.side.counts("/redis/fills");
        self.goes_on(5).await;
        self.side.has_filled_more_than(fills).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_costs_nobody_an_answer_and_comes_back() {
    let mut redis = Redis::start(&[]).await;
    let mut reader = Reader::connected(&redis.url()).await;
    reader.goes_on(50).await;
    redis.kill();
    reader.goes_on(200).await;
    assert_ne!(reader.side.breaker(), "closed");
    redis.restart().await;
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_left_alone_after_one_wait() {
    let redis = Redis::start(&[]).await;
    let mut reader = Reader::connected(&redis.url()).await;
    redis.freeze();
    reader.goes_on(300).await;
    assert_ne!(reader.side.breaker(), "closed");
    let timeouts = reader.side.counts("/redis/timeouts");
    assert!(timeouts >= 1, "nobody noticed");
    reader.goes_on(100).await;
    assert_eq!(reader.side.counts("/redis/timeouts"), timeouts, "while it is left alone nobody waits");
    redis.thaw();
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_not_waited_for() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::to(redis.address()).await;
    let mut reader = Reader::connected(&proxy.url()).await;
    proxy.delays(Duration::from_millis(50));
    reader.goes_on(300).await;
    assert_ne!(reader.side.breaker(), "closed", "100 ms are too many");
    proxy.delays(Duration::ZERO);
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_filled_again() {
    let redis = Redis::start(&[]).await;
    let mut reader = Reader::connected(&redis.url()).await;
    reader.goes_on(50).await;
    for _ in 0..3 {
        redis.asks(&["FLUSHALL"]).await.expect("it answers");
        reader.goes_on(100).await;
    }
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_refuses_to_store_and_still_forgets() {
    let redis = Redis::start(&["--maxmemory-policy", "noeviction"]).await;
    let database = Database::new(KEYS);
    let a = Side::over(&database, &config(&redis.url()));
    a.is_connected().await;
    a.reads(1).await;
    a.has_filled_more_than(0).await;
    // Less than it holds already.
    redis.asks(&["CONFIG", "SET", "maxmemory", "1"]).await.expect("it answers");
    assert!(redis.asks(&["SET", "one", "more"]).await.expect("it answers").contains("OOM"));
    // What is there is still read, by one who does not remember it.
    let b = Side::over(&database, &config(&redis.url()));
    b.is_connected().await;
    b.reads(1).await;
    assert_eq!(b.counts("/redis_hits"), 1);
    // What is written is forgotten though nothing can be stored, and what is not stored is read from the database.
    a.writes(1).await;
    b.cache.forget("version:1");
    assert_eq!(b.reads(1).await, 1);
    let mut reader = Reader { side: b, next: 100 };
    let fills = reader.side.counts("/redis/fills");
    reader.goes_on(100).await;
    assert_eq!(reader.side.counts("/redis/fills"), fills, "it is full");
    assert_eq!(reader.side.breaker(), "closed", "it answers");
    redis.asks(&["CONFIG", "SET", "maxmemory", "0"]).await.expect("it answers");
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_costs_nobody_an_answer_and_can_be_put_right() {
    let redis = Redis::start(&["--requirepass", "another"]).await;
    let mut reader = Reader::over(&format!("redis://:secret@{}", redis.address()));
    reader.goes_on(100).await;
    assert_ne!(reader.side.breaker(), "closed");
    redis.asks(&["CONFIG", "SET", "requirepass", "secret"]).await.expect("it answers");
    reader.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_redis_memory_serves_alone() {
    let mut reader = Reader::over("");
    reader.goes_on(50).await;
    let reads = reader.side.counts("/database_reads/cached_kinds");
    for _ in 0..10 {
        reader.side.reads(7).await;
    }
    assert!(reader.side.counts("/database_reads/cached_kinds") <= reads + 1);
    assert_eq!(reader.side.breaker(), "no redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_nobody_can_reach_is_tried_again_and_again() {
    let mut redis = Redis::start(&[]).await;
    redis.kill();
    let mut reader = Reader::over(&redis.url());
    reader.goes_on(100).await;
    redis.restart().await;
    reader.comes_back().await;
    eventually("the operators see it", || reader.side.counts("/redis/closed") >= 1).await;
}
