//! Nodes that may not or can't meet: another cookie, another setting, a seed that is not there yet.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use rookery::client::Rest;

use crate::people::Person;
use crate::process::Rookery;
use crate::world::{Admin, VIEW_TIMEOUT, eventually, folder, within};

const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Waits until the node sees exactly these nodes, in these states.
async fn sees(node: &Rookery, expected: &[(&str, &str)]) {
    let admin = Admin::at(&node.address("admin").await);
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect();
    eventually(VIEW_TIMEOUT, format!("a view of {expected:?}"), || async {
        (admin.states().await.ok()? == expected).then_some(())
    })
    .await;
}

async fn ends_well(mut node: Rookery) {
    node.signal(Signal::SIGTERM);
    let status = node.ends().await;
    assert!(status.success(), "{status}");
}

/// Starts two nodes that differ in one key, the second with the first as its seed; both must refuse, and log why with
/// these words.
async fn do_not_join(key: &str, values: [&str; 2], why: &str) {
    let (folder_a, folder_b) = (folder(), folder());
    let any_port = ("ROOKERY__CLUSTER__LISTEN", "127.0.0.1:0");
    let a = Rookery::serve(folder_a.path(), &["--name", "a"], &[any_port, (key, values[0])]).await;
    let address = a.address("cluster").await;
    let arguments = ["--name", "b", "--seed", &address];
    let b = Rookery::serve(folder_b.path(), &arguments, &[any_port, (key, values[1])]).await;
    // Each says so once, with what to mend; the one who dialled names the address, the other the one who came.
    let said_by_b = b.line_with(&["WARN", "is refused", why]).await;
    assert!(said_by_b.contains(&address), "{said_by_b}");
    let said_by_a = a.line_with(&["WARN", "is refused", why]).await;
    assert!(said_by_a.contains("'b'"), "{said_by_a}");
    for secret in values {
        assert!(!said_by_a.contains(&format!("{secret}'")) && !said_by_b.contains(&format!("{secret}'")));
    }
    sees(&a, &[("a", "up")]).await;
    sees(&b, &[("b", "up")]).await;
    ends_well(b).await;
    ends_well(a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_cookie_is_kept_out_and_both_sides_say_so() {
    let values = ["our-own-secret", "some-other-secret"];
    within(TEST_TIMEOUT, "two cookies", do_not_join("ROOKERY__CLUSTER__COOKIE", values, "cluster.cookie"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_other_shards_is_kept_out_and_both_sides_say_so() {
    let work = do_not_join("ROOKERY__PRESENCE__SHARDS", ["256", "128"], "presence.shards");
    within(TEST_TIMEOUT, "two numbers of shards", work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_without_its_seed_and_joins_when_the_seed_appears() {
    within(TEST_TIMEOUT, "a seed that comes late", async {
        let folder = folder();
        let url = format!("sqlite://{}", folder.path().join("rookery.db").display());
        // Held until the seed is to appear, so that nobody else gets the port.
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let seed = held.local_addr().expect("a bound socket has an address").to_string();
        drop(held);
        let early = Rookery::serve(
            folder.path(),
            &["--name", "early", "--seed", &seed, "--database-url", &url, "--cluster-listen", "127.0.0.1:0"],
            &[],
        )
        .await;
        let warning = early.line_with(&["WARN", "a seed can't be reached", "cluster.seeds"]).await;
        assert!(warning.contains(&seed), "{warning}");
        sees(&early, &[("early", "up")]).await;
        let rest = Rest::new([early.address("http").await]);
        let anna = Person::new(&rest, "anna").await;
        let bert = Person::new(&rest, "bert").await;

        let late = Rookery::serve(
            folder.path(),
            &["--name", "late", "--database-url", &url, "--cluster-listen", &seed],
            &[],
        )
        .await;
        // The late one has no seeds: it is the early one that dials.
        for node in [&early, &late] {
            sees(node, &[("early", "up"), ("late", "up")]).await;
        }
        let there = Rest::new([late.address("http").await]).with_token(&anna.token);
        there.direct(bert.user_id).await.expect("the late node serves the same accounts");
        ends_well(late).await;
        ends_well(early).await;
    })
    .await;
}
