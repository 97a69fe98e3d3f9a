//! The kinds of Redis that `cache.url` can name: a cluster, and whichever server the sentinels say.

use std::net::TcpListener;

use crate::redis::Redis;
use crate::tier::{Database, Side, config, eventually, eventually_some, join};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_serves_like_one_server() {
    // Its bus takes the port 10,000 above, which must be one.
    let redis = loop {
        let redis = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port()]).await;
        let slots = redis.asks(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        if slots.is_ok_and(|answer| answer == "OK") {
            break redis;
        }
    };
    let url = format!("redis+cluster://{}", redis.address());
    let database = Database::new(40);
    let (a, b) = (Side::over(&database, &config(&url)), Side::over(&database, &config(&url)));
    join(&a, &b);
    a.is_connected().await;
    b.is_connected().await;
    for at in 0..40 {
        a.reads(at).await;
    }
    eventually("it has them", || a.counts("/redis/fills") == 40).await;
    for at in 0..40 {
        b.reads(at).await;
        assert_eq!(b.writes(at).await, 1);
        assert_eq!((a.reads(at).await, b.reads(at).await), (1, 1));
    }
    assert!(b.counts("/redis_hits") >= 40);
    assert_eq!(b.reads_together(40).await, [1; 40]);
    assert_eq!(a.breaker(), "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_promoted_replica_remembers_is_not_believed() {
    let master = Redis::start(&[]).await;
    let (_, port) = master
        .address()
        .split_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .expect("both");
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--replica-read-only", "no"]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sentinel.conf");
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 5000\n"
    );
    std::fs::write(&file, settings).expect("a file in our own folder");
    let sentinel = Redis::sentinel(&file).await;
    let config = config(&format!("redis+sentinel://{}/main", sentinel.address()));
    let database = Database::new(4);
    let (a, b) = (Side::over(&database, &config), Side::over(&database, &config));
    join(&a, &b);
    a.is_connected().await;
    b.is_connected().await;
    a.reads(1).await;
    a.has_filled_more_than(0).await;
    let old = eventually_some("the replica has the value", || async {
        replica.asks(&["GET", "version:1"]).await.ok().filter(|value| !value.is_empty())
    })
    .await;
    assert_eq!(a.writes(1).await, 1);
    eventually_some("the replica has forgotten it", || async {
        replica.asks(&["GET", "version:1"]).await.ok().filter(String::is_empty)
    })
    .await;
    // As if the master had ended before it told the replica.
    replica.asks(&["SET", "version:1", &old]).await.expect("it answers");
    master.freeze();
    eventually("the sentinel has another master", || {
        a.counts("/redis/closed") > 1 && b.counts("/redis/closed") > 1 && a.breaker() == "closed"
    })
    .await;
    a.cache.forget("version:1");
    b.cache.forget("version:1");
    assert_eq!((a.reads(1).await, b.reads(1).await), (1, 1));
    a.has_filled_more_than(1).await;
    master.thaw();
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port().to_string()
}
