//! What comes to the cluster port and is no node, or no node that can be talked to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::cluster::{Nodes, within};

/// `cluster.handshake_timeout`, by default.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// What a node of a release to come says first: the magic, another version, and a frame that nobody can read yet.
const OTHER_VERSION: &[u8] = b"RKRY\x00\x63\x00\x00\x00\x04\xff\xff\xff\xff";

#[test]
fn another_link_version_is_refused_and_said_by_whoever_dials_and_whoever_is_dialled() {
    let mut nodes = Nodes::new();
    let later = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let seed = later.local_addr().expect("it is bound").to_string();
    nodes.start("a", |config| config.cluster.seeds = vec![seed.clone()]);
    // The node dials: what answers is of another version.
    let (mut dialled, _) = later.accept().expect("the node dials its seed");
    dialled.write_all(OTHER_VERSION).expect("the node reads");
    let words = ["WARN", "refused", "link version", "the other 99", "releases that agree"];
    within(Duration::from_secs(10), "the dialer says what is wrong", || {
        nodes.get("a").log_has(&[&words[..], &["address=", &seed]].concat())
    });
    // The node is dialled, and tells the other side, too.
    let mut dialer = TcpStream::connect(nodes.get("a").address()).expect("the node listens");
    dialer.write_all(OTHER_VERSION).expect("the node reads");
    within(Duration::from_secs(10), "the acceptor says what is wrong", || {
        nodes.get("a").log_has(&[&words[..], &["from=127.0.0.1"]].concat())
    });
    let mut answer = Vec::new();
    dialer.set_read_timeout(Some(Duration::from_secs(10))).expect("it is not zero");
    // Closed with something unread, it may end by a reset.
    let _ = dialer.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("the other 99"), "{text:?}");
    assert!(nodes.get("a").counter("links_refused") >= 2);
}

#[test]
fn a_client_that_says_a_byte_a_second_is_dropped_at_the_deadline_and_blocks_nobody() {
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    let mut slow: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(&seed).expect("the node listens")).collect();
    let began = Instant::now();
    nodes.start("b", |config| config.cluster.seeds = vec![seed.clone()]);
    let mut bytes = OTHER_VERSION.iter().cycle();
    let mut linked_after = None;
    while !slow.is_empty() {
        let byte = *bytes.next().expect("it has no end");
        slow.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(20))).expect("it is not zero");
            // A dropped one ends, by a close or a reset; the others only have nothing to say.
            let ended = match stream.read(&mut [0; 8]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock),
            };
            !ended && stream.write_all(&[byte]).is_ok()
        });
        if linked_after.is_none() && nodes.get("b").ask_line("view") == "a:up b:up" {
            linked_after = Some(began.elapsed());
        }
        assert!(began.elapsed() < HANDSHAKE * 4, "{} are still there", slow.len());
        std::thread::park_timeout(Duration::from_millis(400));
    }
    assert!(linked_after.is_some_and(|after| after < HANDSHAKE), "{linked_after:?}");
    assert!(nodes.get("a").log_has(&["WARN", "cluster.handshake_timeout"]));
}

#[test]
fn silent_clients_on_all_places_lock_a_node_out_for_no_longer_than_the_deadline() {
    /// Twice the listener's own bound.
    const CLIENTS_MAX: usize = 512;
    let mut nodes = Nodes::new();
    nodes.start("a", |_| {});
    let seed = nodes.get("a").address().to_owned();
    let mut silent = Vec::new();
    while !nodes.get("a").log_has(&["WARN", "have not said who they are"]) {
        assert!(silent.len() < CLIENTS_MAX, "there is room for everybody");
        silent.push(TcpStream::connect(&seed).expect("the node listens"));
    }
    let began = Instant::now();
    nodes.start("b", |config| config.cluster.seeds = vec![seed.clone()]);
    // Until then its dials are closed at once; the pause after the last of them is at most `redial_max`.
    nodes.await_view(&["a", "b"], "a:up b:up", HANDSHAKE + Duration::from_secs(3) + Duration::from_secs(4));
    nodes.note(format!("let in after {:?} beside {} silent clients", began.elapsed(), silent.len()));
}
