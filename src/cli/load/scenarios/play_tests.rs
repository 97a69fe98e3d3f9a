//! A room played against a server that can be told to lose what it should push.

use clap::{Args as _, FromArgMatches as _};

use super::*;
use crate::cli::load::args::LoadArgs;
use crate::cli::load::lean::pool::Pool;
use crate::cli::load::lean::{self, Credentials, Framing};
use crate::cli::load::measure::Recorder;
use crate::client::Transport;
use crate::client::test_server::TestServer;

async fn play_one_room(server: &TestServer, pace: Pace) -> Report {
    let command = LoadArgs::augment_args(clap::Command::new("load"));
    let arguments = ["load", "--seconds", "1", "--warm-up", "0", "room"];
    let matches = command.try_get_matches_from(arguments).expect("the arguments are good");
    let args = LoadArgs::from_arg_matches(&matches).expect("the arguments are complete");
    let run = Run {
        args: Arc::new(args),
        pool: Pool::start(1).expect("there is a thread to be had"),
        recorder: Arc::new(Recorder::new()),
        number: 7,
    };
    let mut people = Vec::new();
    for at in 0..3 {
        let address = server.address.clone();
        let connecting = async move {
            let mut inlet = lean::connect(&address, Framing::Tcp, None).await.expect("it listens");
            let good = Credentials { token: "good", username: "", password: "" };
            let user_id = inlet.sign_in(good).await.expect("the token is good");
            Online { user_id, at, inlet }
        };
        people.push(run.pool.on(at).spawn(connecting).await.expect("it does not panic"));
    }
    let destination = Destination::Conversation(1);
    let circle = Circle { destination, people, writers: 1, writers_receive: false };
    let report = play(&run, "room", vec![circle], pace).await.expect("no task fails");
    tokio::task::spawn_blocking(move || drop(run)).await.expect("the threads end");
    report
}

#[tokio::test]
async fn a_closed_loop_is_counted_and_without_fault() {
    let server = TestServer::start(Transport::Tcp).await;
    let report = play_one_room(&server, Pace { rate: None, in_flight: 2 }).await;
    assert!(!report.has_faults() && report.closed.is_empty(), "{}", report.table());
    assert!(report.messages > 10, "{}", report.table());
    assert_eq!(report.checked.received, 2 * report.written, "{}", report.table());
    assert_eq!(report.unanswered, 0);
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_losses_are_seen() {
    let server = TestServer::start(Transport::Tcp).await;
    server.inner.lock().lose_pushes = 3;
    let report = play_one_room(&server, Pace { rate: Some(100.0), in_flight: 1 }).await;
    // However late the clock's thread is woken, what is due is written.
    assert!((80..=140).contains(&report.written), "{}", report.table());
    assert_eq!(report.checked.lost, 2 * 3, "{}", report.table());
}
