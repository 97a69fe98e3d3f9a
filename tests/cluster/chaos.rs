//! The short form of `rookery load chaos`: some rounds of mixed faults with its own judge, on both nets, and the trial of a
//! stopped peer's memory.
//!
//! The long form is the command itself. Timings depend on the machine and are not judged here, but for the deadlines by
//! which everything must be well again.

use std::path::PathBuf;
use std::time::Duration;

use rookery::cli::load::chaos::fault::Fault;
use rookery::cli::load::chaos::{self, ChaosArgs, NetKind};

use crate::process::Rookery;
use crate::world::{ROOKERY, folder, seed, within};

/// How long a run of three rounds may take on a slow machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

/// A small run: few enough sends for a slow machine that has other tests to run meanwhile.
fn small(net: NetKind, faults: &[Fault], seed: u64) -> ChaosArgs {
    ChaosArgs {
        rounds: faults.len(),
        faults: faults.to_vec(),
        seed: Some(seed),
        fault_seconds: 4.0,
        rate: Some(60.0),
        users: 8,
        rooms: 12,
        net,
        executable: Some(PathBuf::from(ROOKERY)),
        ..ChaosArgs::defaults()
    }
}

async fn nothing_is_broken(args: ChaosArgs) {
    let playing = chaos::play(&args, std::future::pending());
    let report = within(TEST_TIMEOUT, "rounds of faults", playing).await.expect("the run can be played");
    assert!(report.ok, "{}", report.table());
    assert_eq!(report.rounds.len(), args.rounds);
    assert!(report.counts.acked > 0 && report.counts.live > 0 && report.counts.by_sync > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_out_of_order_whatever_is_cut_killed_or_stopped() {
    let faults = [Fault::Partition, Fault::Kill, Fault::Stop, Fault::OneWay];
    nothing_is_broken(small(NetKind::Auto, &faults, seed())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_out_of_order_behind_proxies_either() {
    let faults = [Fault::Split, Fault::Delay, Fault::Kill];
    nothing_is_broken(small(NetKind::Proxies, &faults, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_it_played_and_leaves_nothing_behind() {
    let folder = folder();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).expect("the folder is ours");
    let environment = [("TMPDIR", temporary.to_str().expect("the path is UTF-8"))];
    let arguments = [
        "load",
        "--chaos",
        "--net",
        "proxies",
        "--nodes",
        "2",
        "--rounds",
        "1",
        "--faults",
        "kill",
        "--seed",
        "7",
        "--rate",
        "40",
        "--users",
        "4",
        "--rooms",
        "4",
        "--fault-seconds",
        "2",
        "--json",
        "report.json",
    ];
    let running = Rookery::run(folder.path(), &arguments, &environment);
    let (status, said) = within(TEST_TIMEOUT, "the command", running).await;
    assert!(status.success(), "{said}");
    assert!(said.contains("seed 7") && said.contains("round 1/1 kill n"), "{said}");
    assert!(said.contains("0 lost, 0 doubled, 0 out of order"), "{said}");
    let json = std::fs::read_to_string(folder.path().join("report.json")).expect("the report is written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("the report is JSON");
    assert_eq!((&json["ok"], &json["kinds"]["kill"]["rounds"]), (&true.into(), &1.into()), "{json}");
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("the folder is ours").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_node_stays_bounded_while_a_peer_stands_still() {
    // The peer is not noticed here, so that nothing but the bounds of what waits for it keeps the others small: four
    // lanes of 1 MiB and as much in open questions, and what the allocator keeps. With the default bounds (16 MiB each) a
    // node grows by 60 MiB and more in this time.
    let set = [
        "cluster.down_after=10m",
        "cluster.suspect_after=9m",
        "cluster.io_timeout=10m",
        "cluster.item_bytes_max=1048576",
        "cluster.lane_queue_bytes=1048576",
    ];
    let args = ChaosArgs {
        rate: Some(250.0),
        text_bytes: 32 * 1024,
        stop_seconds: 14,
        memory_limit_mib: 32,
        mariadb: true,
        set: set.map(str::to_owned).into(),
        quiet: true,
        ..small(NetKind::Proxies, &[Fault::Stop], 1)
    };
    let trial = chaos::memory::trial(&args);
    let report = within(TEST_TIMEOUT, "a stopped peer", trial).await.expect("the trial can be made");
    assert!(report.ok, "{report:#?}");
}
