//! No old value returns: what a write that has answered replaced is not read again, on either node, whatever happened
//! to Redis and between the nodes meanwhile. [`Side::reads`] checks every single read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::redis::{Proxy, Redis};
use crate::tier::{Database, PATIENCE, Side, Version, config, eventually, join, key, patient, seed};

const KEYS: usize = 16;

/// Two connected sides that reach each other.
async fn pair(redis: &Redis) -> (Side, Side) {
    let database = Database::new(KEYS);
    let config = patient(&redis.url());
    let (a, b) = (Side::over(&database, &config), Side::over(&database, &config));
    join(&a, &b);
    a.is_connected().await;
    b.is_connected().await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_the_other_sees_at_once() {
    let redis = Redis::start(&[]).await;
    let (a, b) = pair(&redis).await;
    for _ in 0..200 {
        let version = a.writes(1).await;
        assert_eq!((a.reads(1).await, b.reads(1).await), (version, version));
        let version = b.writes(1).await;
        assert_eq!((a.reads(1).await, b.reads(1).await), (version, version));
    }
    assert!(a.counts("/redis/fills") + b.counts("/redis/fills") > 0, "Redis took part");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_together_is_asked_for_and_stored_together() {
    const MANY: usize = 150;
    let redis = Redis::start(&[]).await;
    let database = Database::new(MANY);
    let sides = [(); 2].map(|()| Side::over(&database, &patient(&redis.url())));
    let [a, b] = &sides;
    join(a, b);
    a.is_connected().await;
    b.is_connected().await;
    let versions = join_all((0..MANY).map(|at| a.writes(at))).await;
    assert_eq!((a.reads_together(MANY).await, database.reads.load(Ordering::SeqCst)), (versions.clone(), 1));
    eventually("all are stored", || a.counts("/redis/fills") == MANY as u64).await;
    let asked = b.counts("/redis/requests");
    assert_eq!(b.reads_together(MANY).await, versions);
    assert_eq!((b.counts("/redis_hits"), b.counts("/redis/requests")), (MANY as u64, asked + 1));
    // One that was written is found by its token, the others by their values.
    let version = a.writes(100).await;
    let again = Side::over(&database, &patient(&redis.url()));
    again.is_connected().await;
    assert_eq!(again.reads_together(MANY).await[100], version);
    assert_eq!((again.counts("/redis_hits"), again.counts("/misses")), (MANY as u64 - 1, 1));
    assert_eq!(database.reads.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_write_is_not_stored_after_it() {
    let redis = Redis::start(&[]).await;
    let (a, b) = pair(&redis).await;
    // B reads the old value from the database, and holds it.
    let (read, go_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (b_cache, has_read, may_go_on) = (b.cache.clone(), Arc::clone(&read), Arc::clone(&go_on));
    let reader = tokio::spawn(async move {
        let load = async {
            has_read.notify_one();
            may_go_on.notified().await;
            Ok(Version(0))
        };
        b_cache.read(key(1), load).await.expect("loaded").0
    });
    read.notified().await;
    let refused = b.counts("/redis/fills_refused");
    assert_eq!(a.writes(1).await, 1);
    // A reader that comes later joins nobody who began before the write.
    let fills = b.counts("/redis/fills");
    assert_eq!(tokio::time::timeout(PATIENCE, b.reads(1)).await.expect("it waits for nobody"), 1);
    b.has_filled_more_than(fills).await;
    redis.asks(&["DEL", "version:1"]).await.expect("it answers");
    go_on.notify_one();
    assert_eq!(reader.await.expect("it ends"), 0, "it asked before the write");
    eventually("its filling is refused", || b.counts("/redis/fills_refused") > refused).await;
    assert_eq!(redis.asks(&["GET", "version:1"]).await.expect("it answers"), "", "nothing old was stored");
    assert_eq!((a.reads(1).await, b.reads(1).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_redis_remembers_is_not_believed() {
    let mut redis = Redis::start(&[]).await;
    let (a, b) = pair(&redis).await;
    assert_eq!(a.reads(1).await, 0);
    a.has_filled_more_than(0).await;
    redis.asks(&["SAVE"]).await.expect("it answers");
    let version = a.writes(1).await;
    redis.kill();
    redis.restart().await;
    let old = redis.asks(&["GET", "version:1"]).await.expect("it answers");
    assert!(old.contains("\"value\":0"), "the old value is back in Redis: {old}");
    eventually("both have seen the restart", || {
        a.counts("/redis/closed") > 1 && b.counts("/redis/closed") > 1 && a.breaker() == "closed"
    })
    .await;
    a.cache.forget("version:1");
    b.cache.forget("version:1");
    assert_eq!((a.reads(1).await, b.reads(1).await), (version, version));
}

/// A can't reach Redis, while B can and the old value is still there.
async fn cut_off_writer(missed_keys: usize) -> (Redis, Proxy, Side, Side, Arc<AtomicBool>) {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::to(redis.address()).await;
    let database = Database::new(KEYS);
    let config_of_a = rookery::config::CacheConfig { missed_keys, ..config(&proxy.url()) };
    let (a, b) = (Side::over(&database, &config_of_a), Side::over(&database, &patient(&redis.url())));
    let cut = join(&a, &b);
    a.is_connected().await;
    b.is_connected().await;
    for at in 0..KEYS {
        b.reads(at).await;
    }
    eventually("Redis has them", || b.counts("/redis/fills") == KEYS as u64).await;
    proxy.delays(Duration::from_secs(3));
    (redis, proxy, a, b, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_redis_deletes_what_the_writer_could_not() {
    let (redis, proxy, a, b, _cut) = cut_off_writer(100).await;
    assert_eq!(a.writes(1).await, 1);
    assert_eq!(b.reads(1).await, 1, "Redis still had the old value, or had just forgotten it");
    eventually("B has deleted it", || b.counts("/missed_keys") == 0).await;
    let now = redis.asks(&["GET", "version:1"]).await.expect("it answers");
    assert!(!now.contains("\"value\":0"), "{now}");
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_redis_was_away_is_deleted_before_it_is_used_again() {
    let (_redis, proxy, a, b, cut) = cut_off_writer(100).await;
    // Nobody else hears of the write.
    cut.store(true, Ordering::SeqCst);
    // The first ones find out that Redis is away; the others know.
    futures_util::future::join_all((0..2).map(|at| a.writes(at))).await;
    assert_ne!(a.breaker(), "closed");
    futures_util::future::join_all((2..KEYS).map(|at| a.writes(at))).await;
    for at in 0..KEYS {
        assert_eq!(a.reads(at).await, 1);
    }
    assert_eq!(a.counts("/missed_keys"), KEYS as u64);
    proxy.delays(Duration::ZERO);
    a.is_connected().await;
    for at in 0..KEYS {
        a.cache.forget(&key(at).name);
        b.cache.forget(&key(at).name);
        assert_eq!((a.reads(at).await, b.reads(at).await), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_writes_than_are_remembered_begin_a_new_epoch() {
    let (_redis, proxy, a, b, cut) = cut_off_writer(3).await;
    cut.store(true, Ordering::SeqCst);
    // The first ones find out that Redis is away; the others know.
    futures_util::future::join_all((0..2).map(|at| a.writes(at))).await;
    assert_ne!(a.breaker(), "closed");
    futures_util::future::join_all((2..KEYS).map(|at| a.writes(at))).await;
    proxy.delays(Duration::ZERO);
    a.is_connected().await;
    assert!(a.counts("/redis/epochs") >= 1);
    for at in 0..KEYS {
        a.cache.forget(&key(at).name);
        assert_eq!(a.reads(at).await, 1);
    }
    // B looks every second which epoch it is.
    eventually("B has seen the new epoch", || b.counts("/redis/closed") > 1 && b.breaker() == "closed").await;
    for at in 0..KEYS {
        b.cache.forget(&key(at).name);
        assert_eq!(b.reads(at).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_confirm_holds_a_write_up_until_its_memory_has_expired() {
    let database = Database::new(KEYS);
    let (c, d) = (Side::over(&database, &config("")), Side::over(&database, &config("")));
    let cut = join(&c, &d);
    d.reads(1).await;
    cut.store(true, Ordering::SeqCst);
    let began = std::time::Instant::now();
    c.writes(1).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "local_ttl is the bound: {:?}", began.elapsed());
    assert_eq!(d.reads(1).await, 1, "it can't have been told");
    // Who confirms is not waited for, however long memory is trusted.
    let redis = Redis::start(&[]).await;
    let database = Database::new(KEYS);
    let trusting = rookery::config::CacheConfig { local_ttl: 10 * PATIENCE, ..patient(&redis.url()) };
    let (a, b) = (Side::over(&database, &trusting), Side::over(&database, &trusting));
    join(&a, &b);
    a.is_connected().await;
    b.is_connected().await;
    b.reads(1).await;
    tokio::time::timeout(PATIENCE, a.writes(1)).await.expect("it does not wait");
    assert_eq!(b.reads(1).await, 1);
}

/// Writers and readers on both nodes, who go on whatever happens.
#[tokio::test(flavor = "multi_thread")]
async fn no_old_value_returns_whatever_happens_to_redis() {
    let mut redis = Redis::start(&[]).await;
    let proxy = Proxy::to(redis.address()).await;
    let database = Database::new(KEYS);
    let seed = seed();
    let a = Side::over(&database, &config(&proxy.url())).dawdles(3, seed);
    let b = Side::over(&database, &config(&redis.url())).dawdles(3, seed.wrapping_add(1));
    join(&a, &b);
    let done = Arc::new(AtomicBool::new(false));
    let mut people = Vec::new();
    for (of_side, side) in [&a, &b].into_iter().enumerate() {
        for number in 0..5 {
            let (side, done) = (side.clone(), Arc::clone(&done));
            let mut dice = StdRng::seed_from_u64(seed.wrapping_add(2 + 5 * of_side as u64 + number));
            people.push(tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let at = dice.random_range(0..KEYS);
                    if number == 0 {
                        side.writes(at).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    } else {
                        side.reads(at).await;
                    }
                }
            }));
        }
    }
    let (pause, short) = (Duration::from_millis(300), Duration::from_millis(40));
    for _ in 0..2 {
        a.is_connected().await;
        b.is_connected().await;
        tokio::time::sleep(pause).await;
        redis.asks(&["SAVE"]).await.expect("it answers");
        tokio::time::sleep(pause).await;
        redis.kill();
        tokio::time::sleep(pause).await;
        redis.restart().await;
        a.is_connected().await;
        b.is_connected().await;
        redis.freeze();
        tokio::time::sleep(pause).await;
        redis.thaw();
        // Thawed at once again and again: half of what is asked is answered too late.
        for _ in 0..5 {
            redis.freeze();
            tokio::time::sleep(short).await;
            redis.thaw();
            tokio::time::sleep(short).await;
        }
        redis.asks(&["FLUSHALL"]).await.expect("it answers");
        proxy.delays(Duration::from_millis(60));
        tokio::time::sleep(pause).await;
        proxy.delays(Duration::ZERO);
    }
    a.is_connected().await;
    b.is_connected().await;
    eventually("it was used", || {
        let from_redis = [&a, &b].map(|side| side.counts("/redis_hits"));
        let hits = a.counts("/local_hits") + b.counts("/local_hits") + from_redis.iter().sum::<u64>();
        // Who has seen an old value has ended.
        hits > 1000 && from_redis.iter().all(|hits| *hits > 0)
            || people.iter().any(|person| person.is_finished())
    })
    .await;
    done.store(true, Ordering::SeqCst);
    for person in people {
        person.await.expect("no read was old");
    }
    assert!(a.counts("/redis/opened") > 2, "the faults were felt");
}
