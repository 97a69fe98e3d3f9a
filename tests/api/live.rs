//! A device's live connection over any framed transport, told in verbs.

use rookery::client::{ClientError, Close, Connection, ConnectionOptions, Events, Transport};
use rookery::domain::Error;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{
    ContactEvent, Conversation, Cursor, HistoryPage, HistoryRequest, Message, Receipt, Send, Sent, SyncPage,
    SyncRequest, Welcome,
};

use crate::world::{PATIENCE, Person, World, unique, within};

/// Events that a connection keeps for a test that has not asked for them yet.
const EVENTS_KEPT: usize = 8192;

/// A connection that is signed in.
pub struct Live {
    pub connection: Connection,
    pub events: Events,
    pub welcome: Welcome,
    /// Keeps the node.
    _world: World,
}

impl World {
    /// A connection that has not said anything yet.
    pub async fn connects(&self, transport: Transport) -> (Connection, Events) {
        let address = match transport {
            Transport::Tcp => self.node.address("tcp"),
            Transport::WebSocketJson | Transport::WebSocketProto => self.node.address("http"),
        };
        let options = ConnectionOptions {
            transport,
            event_capacity: EVENTS_KEPT,
            request_timeout: PATIENCE,
            ..ConnectionOptions::default()
        };
        Connection::connect(address, &options).await.expect("the node takes connections")
    }
}

impl Person {
    /// Connects and says hello.
    pub async fn opens(&self, transport: Transport) -> Live {
        let (connection, events) = self.world.connects(transport).await;
        let welcome = connection.hello(&self.token).await.expect("the token is good");
        Live { connection, events, welcome, _world: self.world.clone() }
    }
}

impl Live {
    /// Sends and gets `sent`.
    pub async fn sends(&self, send: Send) -> Sent {
        self.connection.send(send).await.expect("the send is a good one")
    }

    /// Says something in a conversation.
    pub async fn says(&self, conversation_id: u64, text: &str) -> Sent {
        self.sends(a_text(conversation_id, text)).await
    }

    /// Asks for what must be refused; how it was.
    pub async fn is_refused(&self, request: Request) -> Error {
        match self.connection.request(request).await {
            Err(ClientError::Refused(error)) => error,
            other => panic!("the request should be refused: {other:?}"),
        }
    }

    /// Does what is answered by `ok`.
    pub async fn does(&self, request: Request) {
        let answer = self.connection.request(request).await.expect("the request is a good one");
        assert!(matches!(answer, Body::Ok(_)), "{answer:?}");
    }

    /// Has read a conversation up to seq.
    pub async fn has_read(&self, conversation_id: u64, seq: u64) {
        self.does(Request::Read(Cursor { conversation_id, seq })).await;
    }

    /// Has a conversation's messages up to seq.
    pub async fn has_got(&self, conversation_id: u64, seq: u64) {
        self.does(Request::Delivered(Cursor { conversation_id, seq })).await;
    }

    pub async fn syncs(&self, request: SyncRequest) -> SyncPage {
        self.connection.sync(request).await.expect("a good sync")
    }

    pub async fn looks_back(&self, request: HistoryRequest) -> HistoryPage {
        self.connection.history(request).await.expect("a good history request")
    }

    /// The next event that `wanted` takes; others are passed over.
    pub async fn hears<T>(&mut self, what: &str, mut wanted: impl FnMut(Body) -> Option<T>) -> T {
        within(what, async {
            loop {
                let Some(event) = self.events.next().await else {
                    panic!("{what}: the connection ended first: {}", self.events.close());
                };
                if let Some(value) = wanted(event) {
                    return value;
                }
            }
        })
        .await
    }

    /// The next message, whatever else comes before it.
    pub async fn hears_a_message(&mut self) -> Message {
        self.hears("a message", |event| match event {
            Body::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    /// The next message that somebody wrote, so no system message.
    pub async fn hears_a_text(&mut self) -> Message {
        self.hears("a text message", |event| match event {
            Body::Message(message) if message.kind == 0 => Some(message),
            _ => None,
        })
        .await
    }

    /// The next receipt of this user.
    pub async fn hears_a_receipt_of(&mut self, user_id: u64) -> Receipt {
        self.hears("a receipt", |event| match event {
            Body::Receipt(receipt) if receipt.user_id == user_id => Some(receipt),
            _ => None,
        })
        .await
    }

    /// The next news of this conversation.
    pub async fn hears_of_conversation(&mut self, conversation_id: u64) -> Conversation {
        self.hears("a conversation event", |event| match event {
            Body::Conversation(news) if news.conversation_id == conversation_id => Some(news),
            _ => None,
        })
        .await
    }

    /// The next contact event about this user.
    pub async fn hears_of_contact(&mut self, user_id: u64) -> ContactEvent {
        self.hears("a contact event", |event| match event {
            Body::Contact(news) if news.user_id == user_id => Some(news),
            _ => None,
        })
        .await
    }

    /// Waits for the server to close; how it did.
    pub async fn sees_the_close(self) -> Close {
        let Self { connection, mut events, .. } = self;
        within("the close", async { while events.next().await.is_some() {} }).await;
        within("the close", connection.closed()).await
    }
}

/// A text for a conversation, with a client id of its own.
pub fn a_text(conversation_id: u64, text: &str) -> Send {
    Send { conversation_id, client_id: format!("c{}", unique()), text: text.to_owned(), ..Send::default() }
}

/// A text for a user, with a client id of its own.
pub fn a_text_to(user: &Person, text: &str) -> Send {
    Send { conversation_id: 0, to_user_id: user.id, ..a_text(0, text) }
}
