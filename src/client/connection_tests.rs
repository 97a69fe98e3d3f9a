//! One connection over each transport, against the test server.

use super::super::test_server::TestServer;
use super::*;

const ALL: [Transport; 3] = [Transport::WebSocketJson, Transport::WebSocketProto, Transport::Tcp];

async fn connect(server: &TestServer, transport: Transport) -> (Connection, Events) {
    let options = ConnectionOptions { transport, ..ConnectionOptions::default() };
    let (connection, events) =
        Connection::connect(&server.address, &options).await.expect("the server listens");
    let welcome = connection.hello("good").await.expect("the token is good");
    assert_eq!(welcome.user_id, 1);
    (connection, events)
}

fn text(conversation_id: u64, client_id: &str) -> v1::Send {
    v1::Send { conversation_id, client_id: client_id.to_owned(), ..v1::Send::default() }
}

#[tokio::test]
async fn requests_are_answered_and_events_pushed_on_every_transport() {
    for transport in ALL {
        let server = TestServer::start(transport).await;
        let (connection, mut events) = connect(&server, transport).await;
        let first = connection.send(text(7, "a")).await.expect("it is stored");
        let again = connection.send(text(7, "a")).await.expect("it is the same");
        assert_eq!((first.seq, again.seq, again.duplicate), (1, 1, true));
        server.write(7, "hello");
        let Some(Body::Message(message)) = events.next().await else { panic!("a message was pushed") };
        assert_eq!((message.seq, message.text.as_str()), (2, "hello"));
    }
}

#[tokio::test]
async fn many_requests_are_under_way_at_once() {
    let server = TestServer::start(Transport::Tcp).await;
    let (connection, _events) = connect(&server, Transport::Tcp).await;
    let mut replies = Vec::new();
    for number in 0..500 {
        let request = Request::Send(text(1, &number.to_string()));
        replies.push(connection.post(request).await.expect("the connection is open"));
    }
    for (number, reply) in replies.into_iter().enumerate() {
        let Ok(Body::Sent(sent)) = reply.await else { panic!("each is answered by sent") };
        assert_eq!(sent.seq, number as u64 + 1);
    }
}

#[tokio::test]
async fn tagged_answers_keep_their_place_among_the_events() {
    let server = TestServer::start(Transport::WebSocketProto).await;
    let (connection, mut events) = connect(&server, Transport::WebSocketProto).await;
    server.write(1, "before");
    connection.post_tagged(42, Request::Send(text(1, "mine"))).await.expect("the connection is open");
    assert!(matches!(events.next_incoming().await, Some(Incoming::Event(Body::Message(_)))));
    let Some(Incoming::Answer { tag, result }) = events.next_incoming().await else { panic!("an answer") };
    assert_eq!(tag, 42);
    assert!(matches!(result, Ok(Body::Sent(_))));
}

#[tokio::test]
async fn an_error_answer_is_a_refusal() {
    let server = TestServer::start(Transport::WebSocketJson).await;
    let options = ConnectionOptions::default();
    let (connection, _events) = Connection::connect(&server.address, &options).await.expect("it listens");
    let error = connection.hello("bad").await.expect_err("the token is bad");
    assert!(matches!(&error, ClientError::Refused(e) if e.message == "sign in again"), "{error}");
}

#[tokio::test]
async fn the_close_code_is_told_and_ends_what_waits() {
    let server = TestServer::start(Transport::WebSocketJson).await;
    let (connection, mut events) = connect(&server, Transport::WebSocketJson).await;
    server.close_all(4429);
    assert!(events.next().await.is_none());
    assert_eq!(events.close().code, Some(4429));
    assert_eq!(connection.closed().await.reason, "as the test says");
    let error = connection.send(text(1, "late")).await.expect_err("it is closed");
    assert!(matches!(error, ClientError::Closed(_)), "{error}");
}

#[tokio::test]
async fn a_cut_connection_fails_the_request_under_way() {
    for transport in ALL {
        let server = TestServer::start(transport).await;
        let (connection, _events) = connect(&server, transport).await;
        server.inner.lock().cut_after_store = 1;
        let error = connection.send(text(1, "a")).await.expect_err("the server cuts");
        assert!(error.may_repeat(), "{error}");
        assert_eq!(server.inner.lock().logs[&1].len(), 1);
    }
}

#[tokio::test]
async fn a_quiet_connection_pings() {
    let server = TestServer::start(Transport::Tcp).await;
    // Silence of 2.5 times as long ends the connection, so a loaded machine needs a slow one.
    server.inner.lock().heartbeat_ms = 1000;
    let (connection, mut events) = connect(&server, Transport::Tcp).await;
    let pinged = async {
        // Each turn of the heartbeat is a sign that the connection lives; there are no events.
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while server.inner.lock().pings < 2 {
            look.tick().await;
        }
    };
    tokio::select! {
        () = pinged => {}
        event = events.next() => panic!("no event was to come: {event:?}"),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no pings within 30 s"),
    }
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_silent_server_ends_the_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    let options = ConnectionOptions { transport: Transport::Tcp, ..ConnectionOptions::default() };
    let (connection, _events) = Connection::connect(&address, &options).await.expect("it listens");
    let (mut stream, _) = listener.accept().await.expect("the client has connected");
    let welcome = v1::Welcome { heartbeat_ms: 10, ..v1::Welcome::default() };
    let frame = v1::ServerFrame { reply_to: 0, body: Some(Body::Welcome(welcome)) };
    let bytes = codec::encode(&frame, Format::ProtoPrefixed);
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.expect("the client reads");
    let close = timeout(Duration::from_secs(10), connection.closed()).await.expect("silence ends it");
    assert!(close.reason.contains("silent"), "{close}");
}

#[tokio::test]
async fn nobody_listening_is_said_so() {
    let options = ConnectionOptions::default();
    let error = Connection::connect("127.0.0.1:1", &options).await.expect_err("nothing listens there");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
