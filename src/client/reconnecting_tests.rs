//! The reconnecting client against the test server and its faults.

use std::future::Future;
use std::sync::Arc;

use super::super::Transport;
use super::super::test_server::{NOW_MS, TestServer};
use super::*;
use crate::protocol::ErrorCode;

const DEADLINE: Duration = Duration::from_secs(20);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it happens within the deadline")
}

fn options(servers: &[&TestServer], transport: Transport) -> ClientOptions {
    let mut options = ClientOptions::new(servers.iter().map(|server| server.address.clone()), "good");
    options.connection.transport = transport;
    options
}

/// Takes events until there are `count` messages; checks that each conversation's come gapless.
async fn messages(events: &mut ClientEvents, count: usize) -> Vec<v1::Message> {
    let mut all: Vec<v1::Message> = Vec::new();
    while all.len() < count {
        match within(events.next()).await.expect("the client lives") {
            Event::Message(message) => {
                let before = all.iter().rev().find(|m| m.conversation_id == message.conversation_id);
                assert!(
                    before.is_none_or(|before| before.seq + 1 == message.seq),
                    "{message:?} after {before:?}"
                );
                all.push(message);
            }
            Event::Ended(error) => panic!("the client has ended: {error}"),
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn the_backlog_comes_first_and_then_what_is_live() {
    for transport in [Transport::WebSocketJson, Transport::WebSocketProto, Transport::Tcp] {
        let server = TestServer::start(transport).await;
        for number in 0..10 {
            server.write(number % 2 + 1, "old");
        }
        let (client, mut events) = Client::start(options(&[&server], transport));
        assert_eq!(messages(&mut events, 10).await.len(), 10);
        server.write(1, "new");
        assert_eq!(messages(&mut events, 1).await[0].text, "new");
        within(client.close()).await;
    }
}

#[tokio::test]
async fn lost_pushes_are_fetched() {
    let server = TestServer::start(Transport::Tcp).await;
    let (client, mut events) = Client::start(options(&[&server], Transport::Tcp));
    within(client.connected()).await.expect("it connects");
    within(client.sync()).await.expect("it syncs");
    server.inner.lock().lose_pushes = 7;
    for _ in 0..8 {
        server.write(1, "text");
    }
    let seqs: Vec<u64> = messages(&mut events, 8).await.iter().map(|m| m.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8]);
    // A loss at the end leaves no jump behind; an explicit sync finds it.
    server.inner.lock().lose_pushes = 1;
    server.write(1, "last");
    within(client.sync()).await.expect("it syncs");
    assert_eq!(messages(&mut events, 1).await[0].seq, 9);
}

#[tokio::test]
async fn a_send_whose_answer_was_lost_is_stored_once() {
    let server = TestServer::start(Transport::WebSocketJson).await;
    let (client, mut events) = Client::start(options(&[&server], Transport::WebSocketJson));
    server.inner.lock().cut_after_store = 2;
    server.inner.lock().refuse_sends = 2;
    let sends = (0..20).map(|number| {
        let client = client.clone();
        async move { client.send_text(5, &number.to_string()).await.expect("it is stored in the end") }
    });
    let answers = within(futures_util::future::join_all(sends)).await;
    let seqs: Vec<u64> = answers.iter().map(|sent| sent.seq).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<u64>>(), "in the order of the calls");
    let texts: Vec<String> = messages(&mut events, 20).await.into_iter().map(|m| m.text).collect();
    assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(server.inner.lock().logs[&5].len(), 20);
}

#[tokio::test]
async fn it_goes_on_at_another_node() {
    let first = TestServer::start(Transport::WebSocketProto).await;
    let second = TestServer::start_with(Transport::WebSocketProto, Arc::clone(&first.inner)).await;
    let (client, mut events) = Client::start(options(&[&first, &second], Transport::WebSocketProto));
    assert_eq!(within(client.connected()).await.expect("it connects").node, first.address);
    let (inner, address) = (Arc::clone(&first.inner), second.address.clone());
    drop(first);
    loop {
        match within(events.next()).await.expect("the client lives") {
            Event::Connected { welcome, .. } if welcome.node == address => break,
            _ => {}
        }
    }
    client.send_text(3, "from the second").await.expect("it is stored");
    assert_eq!(inner.lock().logs[&3].len(), 1);
    assert_eq!(messages(&mut events, 1).await[0].text, "from the second");
}

#[tokio::test]
async fn go_away_leads_to_the_address_given() {
    let first = TestServer::start(Transport::Tcp).await;
    let second = TestServer::start_with(Transport::Tcp, Arc::clone(&first.inner)).await;
    let (client, mut events) = Client::start(options(&[&first], Transport::Tcp));
    within(client.connected()).await.expect("it connects");
    let address = second.address.clone();
    first.push(Body::GoAway(v1::GoAway {
        reason: "drain".into(),
        retry_after_ms: 1,
        address: address.clone(),
    }));
    loop {
        match within(events.next()).await.expect("the client lives") {
            Event::Connected { endpoint, .. } if endpoint == address => break,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_refused_token_ends_the_client() {
    let server = TestServer::start(Transport::Tcp).await;
    let mut options = options(&[&server], Transport::Tcp);
    options.token = "bad".to_owned();
    let (client, mut events) = Client::start(options);
    assert!(matches!(within(events.next()).await, Some(Event::Ended(_))));
    assert!(within(events.next()).await.is_none());
    within(client.send_text(1, "late")).await.expect_err("the client has ended");
}

#[tokio::test]
async fn delivery_is_confirmed() {
    let server = TestServer::start(Transport::Tcp).await;
    let (_client, mut events) = Client::start(options(&[&server], Transport::Tcp));
    server.write(4, "a");
    server.write(4, "b");
    messages(&mut events, 2).await;
    within(async {
        while server.inner.lock().delivered.get(&4) != Some(&2) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_for_later_is_scheduled_and_no_message_yet() {
    let server = TestServer::start(Transport::WebSocketJson).await;
    let (client, mut events) = Client::start(options(&[&server], Transport::WebSocketJson));
    let later =
        |send_at_ms| v1::Send { conversation_id: 3, text: "later".into(), send_at_ms, ..v1::Send::default() };
    let kept = within(client.schedule(later(NOW_MS + 1))).await.expect("it is kept");
    assert_eq!((kept.scheduled_id, kept.conversation_id, kept.send_at_ms), (1, 3, NOW_MS + 1));
    for refused in [
        within(client.send(later(NOW_MS + 1))).await.expect_err("it is no message"),
        within(client.schedule(later(0))).await.expect_err("it has no time"),
    ] {
        assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{refused}");
    }
    // Its time has come already.
    let kept = within(client.schedule(later(NOW_MS))).await.expect("it is stored");
    assert_eq!((kept.scheduled_id, kept.client_id.len()), (0, 2 * CLIENT_ID_BYTES));
    assert_eq!(messages(&mut events, 1).await[0].text, "later");
}

#[tokio::test]
async fn one_s_own_message_says_when_it_expires() {
    let server = TestServer::start(Transport::Tcp).await;
    let (client, mut events) = Client::start(options(&[&server], Transport::Tcp));
    for expires_in_seconds in [0, 5] {
        let send = v1::Send { conversation_id: 3, expires_in_seconds, ..v1::Send::default() };
        within(client.send(send)).await.expect("it is stored");
    }
    let expire: Vec<Option<u64>> = messages(&mut events, 2)
        .await
        .into_iter()
        .map(|message| message.marks.map(|marks| marks.expires_at_ms))
        .collect();
    assert_eq!(expire, [None, Some(NOW_MS + 5000)]);
}

#[tokio::test]
async fn without_a_connection_requests_end_and_typing_is_not_told_later() {
    // Nobody listens at this address.
    let mut options = ClientOptions::new(["127.0.0.1:1"], "good");
    let typing = || Request::Typing(v1::TypingState { conversation_id: 3, active: true });
    let (client, _events) = Client::start(options.clone());
    let refused = within(client.request(typing())).await.expect_err("there is no connection");
    assert!(matches!(refused, ClientError::Closed(_)), "{refused}");
    options.connection.request_timeout = Duration::from_millis(50);
    let (client, _events) = Client::start(options);
    let late = within(client.history(3, 0, 10)).await.expect_err("there is no connection");
    assert!(matches!(late, ClientError::Timeout(50)), "{late}");
}

#[tokio::test]
async fn what_was_read_is_told_again_after_a_lost_connection() {
    let server = TestServer::start(Transport::Tcp).await;
    let (client, _events) = Client::start(options(&[&server], Transport::Tcp));
    server.inner.lock().cut_reads = 1;
    within(client.mark_read(3, 7)).await.expect("it is told in the end");
    assert_eq!(server.inner.lock().read.get(&3), Some(&7));
}

#[tokio::test]
async fn a_sync_that_is_refused_for_now_waits_as_told_and_keeps_its_token() {
    let server = TestServer::start(Transport::Tcp).await;
    let (client, mut events) = Client::start(options(&[&server], Transport::Tcp));
    within(client.sync()).await.expect("it syncs");
    {
        let mut inner = server.inner.lock();
        (inner.refuse_syncs, inner.sync_pause_ms) = (3, 100);
    }
    let began = std::time::Instant::now();
    let number = within(client.sync()).await.expect("it syncs in the end");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(server.inner.lock().since, ["token"; 3]);
    while within(events.next()).await != Some(Event::Synced(number)) {}
}
