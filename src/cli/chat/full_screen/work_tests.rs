//! The tasks against the client's test server.

use super::*;
use crate::client::reconnecting::new_client_id;
use crate::client::test_server::TestServer;
use crate::client::{ClientEvents, ClientOptions, Transport};

const DEADLINE: Duration = Duration::from_secs(20);

async fn worker(server: &TestServer) -> (Worker, Tellings, ClientEvents) {
    let mut options = ClientOptions::new([server.address.clone()], "good");
    options.connection.transport = Transport::Tcp;
    let (client, events) = Client::start(options);
    let (worker, tellings) = Worker::new(Rest::new(["127.0.0.1:1"]), client);
    (worker, tellings, events)
}

async fn told(tellings: &mut Tellings) -> Told {
    tokio::time::timeout(DEADLINE, tellings.next())
        .await
        .expect("within the deadline")
        .expect("the tasks live")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_is_stored_in_its_order() {
    let server = TestServer::start(Transport::Tcp).await;
    let (worker, mut tellings, _events) = worker(&server).await;
    for number in 0..SENDS_MAX {
        let (text, client_id) = (number.to_string(), new_client_id());
        let send = v1::Send { conversation_id: 3, text, client_id, ..v1::Send::default() };
        assert!(worker.store(Outgoing::Request(Request::Send(send))));
    }
    for _ in 0..SENDS_MAX {
        assert!(matches!(told(&mut tellings).await, Told::Stored(_)));
    }
    let stored: Vec<String> =
        server.inner.lock().logs[&3].iter().map(|message| message.text.clone()).collect();
    assert_eq!(stored, (0..SENDS_MAX).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_that_was_refused_for_now_is_asked_again() {
    let server = TestServer::start(Transport::Tcp).await;
    let (worker, mut tellings, _events) = worker(&server).await;
    server.inner.lock().refuse_watches = 2;
    worker.watch(vec![2, 3]);
    let Told::Presences(users) = told(&mut tellings).await else { panic!("it is told who is how") };
    assert_eq!(users.iter().map(|user| user.user_id).collect::<Vec<_>>(), [2, 3]);
}
