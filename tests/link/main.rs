//! Nodes as processes, linked over loopback: membership, routing and failure as users would meet them. The test binary
//! starts itself again as the nodes (see `node.rs`), because `ractor`'s registries are process-wide.

mod cluster;
mod encrypted;
mod faults;
mod node;
mod proxy;
mod strangers;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cluster::{Nodes, within};

/// Runs a node if this process was started as one; else there is nothing to test here.
#[test]
fn node_process() {
    node::run_if_asked();
}

#[test]
fn three_nodes_with_one_seed_form_one_view() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    for name in ["a", "b", "c"] {
        assert_eq!(nodes.get(name).ask_line("owners 1000"), nodes.get("a").ask_line("owners 1000"));
    }
}

#[test]
fn nodes_that_start_at_once_with_each_other_as_seeds_form_one_view() {
    let mut nodes = Nodes::new();
    // Ports that were free a moment ago; nobody else takes loopback ports at random here.
    let ports: Vec<u16> = (0..5)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"))
        .collect::<Vec<_>>()
        .iter()
        .map(|listener| listener.local_addr().expect("it is bound").port())
        .collect();
    let seeds: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    for (name, address) in ["a", "b", "c", "d", "e"].into_iter().zip(&seeds) {
        nodes.spawn(name, |config| {
            config.cluster.listen = address.clone();
            config.cluster.seeds = seeds.clone();
        });
    }
    nodes.await_view(&["a", "b", "c", "d", "e"], "a:up b:up c:up d:up e:up", Duration::from_secs(5));
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(nodes.get(name).counter("links_ready"), 4, "one link to each other node, made once");
    }
}

#[test]
fn questions_reach_the_owner_in_order_and_come_back() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    for name in ["a", "c"] {
        let report = nodes.get(name).flood(16, 10_000);
        assert_eq!((report.ok, report.failed), (10_000, 0), "{report:?}");
        assert_eq!(report.owners, ["a", "b", "c"], "all nodes own some of 16 keys");
    }
    nodes.check_order();
    for name in ["a", "b", "c"] {
        assert_eq!(nodes.get(name).counter("envelopes_stale"), 0);
        assert_eq!(nodes.get(name).counter("envelopes_missing"), 0);
    }
}

#[test]
fn messages_reach_the_owner_and_nodes_are_asked_by_name() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    nodes.get("a").ask_line("tell 300");
    within(Duration::from_secs(2), "all messages arrive", || {
        let told = |name| nodes.get(name).ask_line("told").parse::<u32>().expect("it is a number");
        told("a") + told("b") + told("c") == 300
    });
    assert_eq!(nodes.get("a").ask_line("ask_node c"), "c was asked by a");
    assert_eq!(nodes.get("a").ask_line("ask_node a"), "a was asked by a");
    assert!(nodes.get("a").ask_line("ask_node z").starts_with("Unavailable"));
}

#[test]
fn an_answer_finds_its_way_when_the_question_was_forwarded() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    assert_eq!(nodes.get("a").ask_line("big 3000000"), "ok 3000000");
    assert!(nodes.get("a").ask_line("big 5000000").starts_with("ResourceExhausted"));
}

#[test]
fn a_killed_node_is_dropped_within_a_second_and_its_questions_go_elsewhere() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    nodes.get("a").say("stream 24");
    nodes.get("c").await_traffic();
    let killed = Instant::now();
    nodes.kill("c");
    nodes.await_view(&["a", "b"], "a:up b:up c:down", Duration::from_secs(1));
    let noticed = killed.elapsed();
    let report = nodes.get("a").stop_stream();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.longest < Duration::from_secs(2), "{report:?}");
    nodes.check_order();
    nodes.note(format!("a killed node was dropped after {noticed:?}, longest question {:?}", report.longest));
}

#[test]
fn a_stopped_node_is_dropped_and_comes_back() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    let links = nodes.get("b").counter("links_ready");
    nodes.get("a").say("stream 24");
    nodes.get("c").await_traffic();
    nodes.signal("c", "STOP");
    nodes.await_view(&["a", "b"], "a:up b:up c:down", Duration::from_secs(4));
    nodes.signal("c", "CONT");
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(8));
    assert_eq!(nodes.get("b").counter("links_ready"), links + 1, "it came back by a new link");
    let report = nodes.get("a").stop_stream();
    assert_eq!(report.failed, 0, "{report:?}");
    nodes.check_order();
}

#[test]
fn a_node_that_restarts_under_its_name_joins_at_once() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    let seed = nodes.get("a").address().to_owned();
    let before = nodes.get("a").ask_line("incarnation c");
    nodes.kill("c");
    nodes.spawn("c", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(2));
    within(Duration::from_secs(2), "the new incarnation is known", || {
        ["a", "b"].iter().all(|name| nodes.get(name).ask_line("incarnation c") != before)
    });
    // The seed itself, on its own port: nobody else has it as a peer to dial but through what they know.
    nodes.kill("a");
    nodes.spawn("a", |config| config.cluster.listen = seed.clone());
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(5));
}

#[test]
fn a_wrong_cookie_is_refused_and_said_on_both_sides() {
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    nodes.start("b", |config| {
        config.cluster.seeds = vec![seed.clone()];
        config.cluster.cookie = "another".to_owned();
    });
    for name in ["a", "b"] {
        within(Duration::from_secs(3), "the cookie is named in the log", || {
            nodes.get(name).log_has(&["WARN", "cluster.cookie"])
        });
    }
    nodes.await_view(&["a"], "a:up", Duration::from_secs(1));
    nodes.await_view(&["b"], "b:up", Duration::from_secs(2));
}

#[test]
fn other_lanes_and_a_name_taken_twice_are_refused_and_said_on_both_sides() {
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    nodes.start("b", |config| {
        config.cluster.seeds = vec![seed.clone()];
        config.cluster.lanes = 7;
    });
    nodes.start("c", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "c"], "a:up c:up", Duration::from_secs(3));
    nodes.start_as("c", "another-c", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.start_as("a", "another-a", |config| config.cluster.seeds = vec![seed.clone()]);
    for (name, word) in [
        ("a", "cluster.lanes"),
        ("b", "cluster.lanes"),
        ("another-c", "node.name"),
        ("another-a", "node.name"),
    ] {
        within(Duration::from_secs(3), "the reason is named in the log", || {
            nodes.get(name).log_has(&["WARN", word])
        });
    }
    within(Duration::from_secs(3), "the seed names both", || {
        nodes.get("a").log_has(&["WARN", "named 'a'"]) && nodes.get("a").log_has(&["WARN", "named 'c'"])
    });
    nodes.await_view(&["a", "c"], "a:up c:up", Duration::from_secs(1));
}

#[test]
fn a_silent_client_on_the_port_blocks_nobody_and_is_dropped() {
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    let mut silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(&seed).expect("the node listens")).collect();
    let mut stranger = TcpStream::connect(&seed).expect("the node listens");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the node reads");
    let asked = Instant::now();
    nodes.start("b", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "b"], "a:up b:up", Duration::from_secs(2));
    assert!(asked.elapsed() < Duration::from_secs(2), "the silent ones were waited for");
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(6))).expect("it is not zero");
        let end = stream.read(&mut [0; 64]);
        assert!(matches!(end, Ok(0) | Err(_)), "the node says nothing to a stranger");
        assert!(asked.elapsed() < Duration::from_secs(6), "it was not dropped at the deadline");
    }
}

#[test]
fn an_unreachable_seed_is_named_in_the_log_and_found_once_it_is_there() {
    let mut nodes = Nodes::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let seed = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    nodes.start("b", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["b"], "b:up", Duration::from_secs(1));
    assert!(nodes.get("b").log_has(&["WARN", "seed", &seed]));
    nodes.start("a", |config| config.cluster.listen = seed.clone());
    nodes.await_view(&["a", "b"], "a:up b:up", Duration::from_secs(5));
}

#[test]
fn leaving_moves_ownership_at_once_and_refuses_nothing() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    nodes.get("a").say("stream 24");
    nodes.get("c").await_traffic();
    nodes.get("c").ask_line("leave");
    // It has returned, so all others have confirmed.
    for name in ["a", "b", "c"] {
        assert!(nodes.get(name).ask_line("owners 1000").starts_with("a:"));
        assert!(!nodes.get(name).ask_line("owners 1000").contains("c:"));
        assert_eq!(nodes.get(name).ask_line("view"), "a:up b:up c:leaving");
    }
    let through = nodes.get("c").flood(16, 1000);
    assert_eq!((through.ok, through.failed), (1000, 0), "it still forwards its own clients' questions");
    nodes.get("c").ask_line("shutdown");
    nodes.await_view(&["a", "b"], "a:up b:up c:down", Duration::from_secs(1));
    let report = nodes.get("a").stop_stream();
    assert_eq!(report.failed, 0, "{report:?}");
}

#[test]
fn a_node_that_joins_under_load_takes_over_in_order() {
    let mut nodes = Nodes::new();
    nodes.start("b", |_| {});
    let seed = nodes.get("b").address().to_owned();
    nodes.start("a", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "b"], "a:up b:up", Duration::from_secs(5));
    nodes.get("a").say("stream 24");
    nodes.get("b").await_traffic();
    nodes.start("c", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(5));
    nodes.get("c").await_traffic();
    let report = nodes.get("a").stop_stream();
    assert_eq!(report.failed, 0, "{report:?}");
    nodes.check_order();
}

/// Not a check: measures. `cargo test --release --test link -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, for a release build"]
fn how_fast_questions_travel() {
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    nodes.start("b", |config| config.cluster.seeds = vec![seed.clone()]);
    nodes.await_view(&["a", "b"], "a:up b:up", Duration::from_secs(5));
    for window in [1, 16, 256, 2048] {
        let line = nodes.get("a").ask_line(&format!("measure {window}"));
        nodes.note(format!("{window} in flight: {line}"));
    }
    let line = nodes.get("a").ask_line("measure_local");
    nodes.note(format!("local: {line}"));
}
