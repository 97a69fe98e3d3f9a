//! What becomes of a link when the network or the peer fails in a way that TCP does not tell.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rookery::config::Config;

use crate::cluster::{Nodes, within};
use crate::proxy::{Flow, Proxy, Way};

/// `cluster.down_after` is 3 s; a node that is late itself counts slower, and this machine may be busy.
const NOTICED_MAX: Duration = Duration::from_secs(6);
/// A dial that hangs since before the healing takes `handshake_timeout`, and the pause after it `redial_max`.
const HEALED_MAX: Duration = Duration::from_secs(15);

/// Which of the two nodes is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    FromA,
    FromB,
    Both,
}

/// Nodes `a` and `b`, and a network between them. `a` dials.
struct Pair {
    nodes: Nodes,
    to_a: Proxy,
    to_b: Proxy,
}

impl Pair {
    fn start(set: impl Fn(&mut Config)) -> Self {
        let mut pair = Self { nodes: Nodes::new(), to_a: Proxy::new(), to_b: Proxy::new() };
        for name in ["a", "b"] {
            pair.start_node(name, 0, &set);
        }
        pair.await_both_up(Duration::from_secs(10));
        pair
    }

    /// Starts a node whose clock begins at `clock_ms`, and lets what is addressed to it pass to it.
    fn start_node(&mut self, name: &str, clock_ms: u64, set: impl Fn(&mut Config)) {
        let (seed, proxy) = (self.to_a.address(), if name == "a" { &self.to_a } else { &self.to_b });
        self.nodes.start_at(name, clock_ms, |config| {
            config.cluster.advertise = proxy.address();
            config.cluster.seeds = vec![seed, self.to_b.address()];
            set(config);
        });
        proxy.lead_to(self.nodes.get(name).address());
    }

    fn await_both_up(&self, limit: Duration) {
        self.nodes.await_view(&["a", "b"], "a:up b:up", limit);
    }

    /// What either node sends is lost on the way, or is not even taken from its socket.
    fn break_(&self, lost: Lost, flow: Flow) {
        if lost != Lost::FromB {
            self.to_b.set(Way::There, flow);
            self.to_a.set(Way::Back, flow);
        }
        if lost != Lost::FromA {
            self.to_b.set(Way::Back, flow);
            self.to_a.set(Way::There, flow);
        }
    }

    /// The end of a connection is not told across.
    fn keep_ends(&self) {
        self.to_a.keep_ends(true);
        self.to_b.keep_ends(true);
    }

    fn heal(&self) {
        self.to_a.heal();
        self.to_b.heal();
    }

    fn counter(&self, name: &str, counter: &str) -> u64 {
        self.nodes.get(name).counter(counter)
    }

    /// Waits until `name` takes the other for dead, and says how long after `began_ms` it was suspect and down.
    fn await_down(&self, name: &str, began_ms: u64) -> (Duration, Duration) {
        let (other, view) = if name == "a" { ("b", "a:up b:down") } else { ("a", "a:down b:up") };
        self.nodes.await_view(&[name], view, NOTICED_MAX);
        let since = |state| {
            let mut at = None;
            within(Duration::from_secs(5), "the node has written its history", || {
                at = self.nodes.get(name).when(other, state, began_ms);
                at.is_some()
            });
            Duration::from_millis(at.expect("it is some").saturating_sub(began_ms))
        };
        let times = (since("suspect"), since("down"));
        self.nodes.note(format!("{name}: suspect after {:?}, down after {:?}", times.0, times.1));
        times
    }

    /// Nothing is left of the link at `name`: no socket, and nothing that waits to be sent.
    fn check_nothing_is_left(&self, name: &str) {
        let node = self.nodes.get(name);
        let (port, other) =
            if name == "a" { (self.to_b.port(), "b") } else { (self.nodes.get("b").port(), "a") };
        // Dials come and go meanwhile, each with a socket; but there is no time without one if the link has its own.
        within(Duration::from_secs(10), "the link's socket is gone", || node.sockets_at(port) == 0);
        assert_eq!(node.ask_line(&format!("queued {other}")), "0");
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

/// Breaks the link in that way; both nodes must notice in time, and come together again once it is healed.
fn both_notice(lost: Lost, flow: Flow, ends_are_lost: bool) {
    let pair = Pair::start(|_| {});
    let links = [pair.counter("a", "links_ready"), pair.counter("b", "links_ready")];
    pair.nodes.get("a").say("flow b 400 1000");
    if ends_are_lost {
        pair.keep_ends();
    }
    let began_ms = now_ms();
    pair.break_(lost, flow);
    for name in ["a", "b"] {
        let (suspect, down) = pair.await_down(name, began_ms);
        assert!(suspect < down && suspect >= Duration::from_millis(400), "{name}: {suspect:?}");
        assert!(down >= Duration::from_secs(2), "{name} was hasty: {down:?}");
    }
    for name in ["a", "b"] {
        pair.check_nothing_is_left(name);
        assert_eq!(pair.counter(name, "links_lost"), 1, "{name}");
    }
    within(Duration::from_secs(5), "the proxy sees both ends of the link closed", || {
        // Dials hang in it, too.
        pair.to_b.open_here() < pair.to_b.accepted() && pair.to_b.open_there() < pair.to_b.accepted()
    });
    let noticed = |name| (pair.counter(name, "peers_silent"), pair.counter(name, "peers_deaf"));
    match lost {
        Lost::FromA if ends_are_lost => assert_eq!((noticed("a"), noticed("b")), ((0, 1), (1, 0))),
        Lost::FromB if ends_are_lost => assert_eq!((noticed("a"), noticed("b")), ((1, 0), (0, 1))),
        // The one that heard nothing may have been quicker, and then the other was told by the end of the link.
        _ => assert!(noticed("a") != (0, 0) || noticed("b") != (0, 0)),
    }
    pair.heal();
    pair.await_both_up(HEALED_MAX);
    for (name, before) in ["a", "b"].into_iter().zip(links) {
        assert_eq!(pair.counter(name, "links_ready"), before + 1, "{name}: by one new link");
        assert_eq!(pair.counter(name, "envelopes_stale"), 0, "{name}: nothing of the old link came through");
    }
    let report = pair.nodes.get("a").stop_flow();
    assert!(report.ok > 0, "{report:?}");
}

#[test]
fn what_is_lost_from_the_dialer_ends_the_link_on_both_sides() {
    both_notice(Lost::FromA, Flow::Vanish, true);
}

#[test]
fn what_is_lost_from_the_acceptor_ends_the_link_on_both_sides() {
    both_notice(Lost::FromB, Flow::Vanish, true);
}

#[test]
fn what_is_lost_in_both_directions_ends_the_link_on_both_sides() {
    both_notice(Lost::Both, Flow::Vanish, true);
}

#[test]
fn a_socket_that_nobody_empties_ends_the_link_on_both_sides() {
    both_notice(Lost::FromA, Flow::Stop, false);
}

#[test]
fn a_stopped_peer_is_cut_off_and_comes_back_by_a_new_link() {
    let pair = Pair::start(|_| {});
    pair.nodes.get("a").say("flow b 2000 1000");
    let began_ms = now_ms();
    pair.nodes.signal("b", "STOP");
    pair.await_down("a", began_ms);
    pair.check_nothing_is_left("a");
    assert_eq!((pair.counter("a", "peers_silent"), pair.counter("a", "links_lost")), (1, 1));
    pair.nodes.signal("b", "CONT");
    pair.await_both_up(HEALED_MAX);
    assert_eq!(pair.counter("a", "links_ready"), 2);
    assert_eq!(pair.counter("b", "peers_silent") + pair.counter("b", "peers_deaf"), 0, "it blames nobody");
    assert_eq!(pair.counter("b", "envelopes_stale"), 0, "nothing of the old link is delivered");
    assert!(pair.nodes.get("a").stop_flow().ok > 0);
}

#[test]
fn a_peer_that_stops_behind_a_slow_link_does_not_live_on_in_buffers() {
    let pair = Pair::start(|_| {});
    pair.break_(Lost::FromB, Flow::Slow(64 * 1024));
    pair.nodes.get("b").say("flow a 2000 2000");
    within(Duration::from_secs(20), "there is a backlog", || pair.counter("b", "links_slow") > 0);
    let began = Instant::now();
    pair.nodes.signal("b", "STOP");
    // What was on its way still arrives: 128 KiB from the node's kernel, and what the proxy's sockets hold.
    pair.nodes.await_view(&["a"], "a:up b:down", Duration::from_secs(25));
    pair.nodes.note(format!("down after {:?}", began.elapsed()));
    pair.nodes.signal("b", "CONT");
}

#[test]
fn a_reset_link_is_made_again_at_once_and_nobody_is_down() {
    let pair = Pair::start(|_| {});
    let began_ms = now_ms();
    pair.to_b.reset();
    within(Duration::from_secs(3), "there is a new link", || {
        ["a", "b"].iter().all(|name| pair.counter(name, "links_ready") == 2)
    });
    pair.await_both_up(Duration::from_secs(3));
    assert_eq!(pair.nodes.get("a").when("b", "down", began_ms), None);
    assert_eq!(pair.nodes.get("b").when("a", "down", began_ms), None);
}

#[test]
fn a_slow_link_is_noticed_gives_pressure_and_takes_nobody_for_dead() {
    let pair = Pair::start(|config| {
        config.cluster.item_bytes_max = 1 << 20;
        config.cluster.lane_queue_bytes = 1 << 20;
    });
    pair.break_(Lost::FromA, Flow::Slow(64 * 1024));
    let began_ms = now_ms();
    // Ten seconds of it would take minutes to pass.
    pair.nodes.get("a").say("flow b 2000 2000");
    within(Duration::from_secs(20), "the link is slow", || pair.counter("a", "links_slow") > 0);
    within(Duration::from_secs(20), "there is pressure", || {
        pair.counter("a", "tells_overflowed") > 1000 && pair.counter("a", "asks_overflowed") > 300
    });
    assert!(pair.nodes.get("a").log_has(&["WARN", "node=b", "the link is slow"]));
    let before = pair.nodes.get("a").memory();
    let began = Instant::now();
    within(Duration::from_secs(20), "six more seconds pass", || began.elapsed() > Duration::from_secs(6));
    let grown = pair.nodes.get("a").memory().saturating_sub(before);
    assert!(grown < 8 << 20, "it grew by {grown} bytes");
    for (name, other) in [("a", "b"), ("b", "a")] {
        assert_eq!(pair.nodes.get(name).when(other, "suspect", began_ms), None, "{name}");
        assert_eq!(pair.counter(name, "links_lost"), 0, "{name}");
    }
    pair.heal();
    let report = pair.nodes.get("a").stop_flow();
    assert!(report.failed > 0 && report.errors.contains("Unavailable"), "{report:?}");
    within(Duration::from_secs(20), "what waited has passed", || {
        pair.nodes.get("a").ask_line("queued b") == "0"
    });
    assert_eq!(pair.nodes.get("b").counter("envelopes_missing"), 0);
}

#[test]
fn a_stopped_peer_costs_bounded_memory_even_while_its_link_stands() {
    let pair = Pair::start(|config| {
        // So that it is the bounds that hold, and not the end of the link.
        config.cluster.suspect_after = Duration::from_secs(100);
        config.cluster.down_after = Duration::from_secs(120);
        config.cluster.io_timeout = Duration::from_secs(120);
        config.cluster.item_bytes_max = 1 << 20;
        config.cluster.lane_queue_bytes = 2 << 20;
    });
    pair.nodes.signal("b", "STOP");
    pair.nodes.get("a").say("flow b 5000 1024");
    // Four lanes of 2 MiB, as much for open questions, 8 MiB on their way, and their allocator's waste.
    let (mut began, mut full) = (Instant::now(), None);
    within(Duration::from_secs(40), "ten seconds pass in which it does not grow", || {
        let overflowed = pair.counter("a", "tells_overflowed");
        if full.is_none() && overflowed > 5000 {
            (began, full) = (Instant::now(), Some(pair.nodes.get("a").memory()));
        }
        full.is_some() && began.elapsed() > Duration::from_secs(10)
    });
    let grown = pair.nodes.get("a").memory().saturating_sub(full.expect("it was full"));
    assert!(grown < 8 << 20, "it grew by {grown} bytes");
    assert!(pair.counter("a", "asks_overflowed") > 0);
    let queued: u64 = pair.nodes.get("a").ask_line("queued b").parse().expect("it is a number");
    assert!(queued <= 5 * (2 << 20), "{queued} bytes wait");
    pair.nodes.signal("b", "CONT");
    within(Duration::from_secs(30), "what waited has passed", || {
        let before = pair.counter("a", "tells_overflowed");
        pair.nodes.get("a").ask_line("view") == "a:up b:up" && pair.counter("a", "tells_overflowed") == before
    });
    let report = pair.nodes.get("a").stop_flow();
    assert!(report.errors.contains("Unavailable"), "{report:?}");
}

/// Kills a node in a way that the other does not notice, as when its host loses power, and starts it again at once.
fn restarts_behind_a_half_open_link(name: &str, other: &str) {
    let mut pair = Pair::start(|_| {});
    let incarnation = |pair: &Pair| pair.nodes.get(other).ask_line(&format!("incarnation {name}"));
    let before = incarnation(&pair);
    let began_ms = now_ms();
    pair.keep_ends();
    pair.nodes.kill(name);
    pair.start_node(name, 0, |_| {});
    pair.heal();
    pair.await_both_up(Duration::from_secs(10));
    within(Duration::from_secs(5), "the new process is known", || incarnation(&pair) != before);
    // The new one came before the old one's silence was noticed, and replaced it.
    assert_eq!(pair.counter(other, "peers_silent"), 0);
    assert_eq!(pair.nodes.get(other).when(name, "down", began_ms), None);
    assert_eq!((pair.counter(other, "links_ready"), pair.counter(other, "links_lost")), (2, 1));
    assert!(!pair.nodes.get(other).log_has(&["two nodes are named"]), "it took the new one for another node");
    assert!(pair.nodes.get(other).flood(16, 1000).failed == 0);
}

#[test]
fn an_acceptor_that_restarts_behind_a_half_open_link_is_let_in_at_once() {
    restarts_behind_a_half_open_link("b", "a");
}

#[test]
fn a_dialer_that_restarts_behind_a_half_open_link_is_let_in_at_once() {
    restarts_behind_a_half_open_link("a", "b");
}

#[test]
fn a_node_that_restarts_after_its_clock_went_back_is_let_in_at_once() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    let seed = nodes.get("b").address().to_owned();
    let number = |nodes: &Nodes, at: &str, of: &str| -> u64 {
        nodes.get(at).ask_line(&format!("incarnation {of}")).parse().expect("it is a number")
    };
    // Both a node that dials the others, and one that is dialled.
    for (name, others) in [("a", ["b", "c"]), ("c", ["a", "b"])] {
        let before = number(&nodes, others[0], name);
        nodes.kill(name);
        let clock_ms = before - 3_600_000;
        nodes.start_at(name, clock_ms, |config| config.cluster.seeds = vec![seed.clone()]);
        nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(10));
        within(Duration::from_secs(5), "the process of the earlier clock is known", || {
            others.iter().all(|other| number(&nodes, other, name) < before - 3_000_000)
        });
        assert!(number(&nodes, name, name) >= clock_ms);
        let report = nodes.get(name).flood(16, 1000);
        assert_eq!((report.ok, report.failed), (1000, 0), "{report:?}");
    }
}

#[test]
fn a_seed_that_is_another_address_of_a_linked_node_does_not_end_its_link() {
    let mut nodes = Nodes::new();
    let alias = Proxy::new();
    nodes.start("a", |_| {});
    let seeds = vec![nodes.get("a").address().to_owned(), alias.address()];
    nodes.start("b", |config| config.cluster.seeds = seeds.clone());
    nodes.await_view(&["a", "b"], "a:up b:up", Duration::from_secs(10));
    within(Duration::from_secs(10), "nobody answers at the other address", || {
        nodes.get("b").log_has(&["WARN", &alias.address(), "does not answer"])
    });
    // From here on it is the same node that does. The first connection has been given up meanwhile.
    alias.lead_to(nodes.get("a").address());
    within(Duration::from_secs(15), "it is dialled again", || alias.accepted() >= 2);
    within(Duration::from_secs(10), "the dials end", || alias.open_here() == 0);
    for name in ["a", "b"] {
        assert_eq!((nodes.get(name).counter("links_ready"), nodes.get(name).counter("links_lost")), (1, 0));
    }
}

#[test]
fn a_router_or_the_server_that_dies_is_replaced_and_the_links_are_made_anew() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    nodes.get("a").say("stream 24");
    nodes.get("c").await_traffic();
    for (times, kill) in ["kill_router 1", "kill_router 4", "kill_server c"].into_iter().enumerate() {
        nodes.get("a").ask_line(kill);
        // Of `a` both links, and one of each other node.
        within(Duration::from_secs(10), "the links are made anew", || {
            let ready = |name: &str| nodes.get(name).counter("links_ready");
            ready("a") >= 4 + 2 * times as u64 && nodes.get("a").counter("links_lost") >= 2 + 2 * times as u64
        });
        nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(10));
    }
    assert!(nodes.get("a").log_has(&["ERROR", "the router has died"]));
    assert!(nodes.get("a").log_has(&["ERROR", "the server for links has died"]));
    let report = nodes.get("a").stop_stream();
    assert_eq!(report.failed, 0, "{report:?}");
    let report = nodes.get("b").flood(16, 1000);
    assert_eq!((report.ok, report.failed), (1000, 0), "{report:?}");
    nodes.check_order();
}

#[test]
fn eight_busy_threads_beside_three_nodes_under_load_take_nobody_down() {
    let mut nodes = Nodes::new();
    nodes.start_three();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        nodes.get(from).say(&format!("flow {to} 2000 500"));
    }
    let began_ms = now_ms();
    let until = Instant::now() + Duration::from_secs(15);
    let hogs: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut sum = 0_u64;
                while Instant::now() < until {
                    sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
                }
            })
        })
        .collect();
    for hog in hogs {
        hog.join().expect("it only counts");
    }
    for name in ["a", "b", "c"] {
        for other in ["a", "b", "c"] {
            assert_eq!(nodes.get(name).when(other, "down", began_ms), None, "{name} took {other} for dead");
            if let Some(at) = nodes.get(name).when(other, "suspect", began_ms) {
                nodes.note(format!("{name} suspected {other} after {} ms", at - began_ms));
            }
        }
        assert_eq!(nodes.get(name).counter("links_lost"), 0);
    }
}
