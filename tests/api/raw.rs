//! Sockets without a client library in between, for what only bytes can show.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::world::{Person, World, within};

/// A WebSocket, message by message.
pub struct RawSocket {
    pub socket: WebSocketStream<TcpStream>,
    pub subprotocol: Option<String>,
    /// Keeps the node.
    _world: World,
}

/// What came.
#[derive(Debug)]
pub enum Came {
    Text(String),
    Binary(Vec<u8>),
    Pong,
    /// With the close code, if there was one.
    Closed(Option<u16>),
}

/// How an upgrade may differ.
#[derive(Default)]
pub struct Upgrade<'a> {
    pub subprotocols: Option<&'a str>,
    pub bearer: Option<&'a str>,
}

impl World {
    /// Opens `/ws`; an upgrade that is refused is its HTTP answer.
    pub async fn tries_to_upgrade(
        &self,
        upgrade: Upgrade<'_>,
    ) -> Result<RawSocket, Response<Option<Vec<u8>>>> {
        let address = self.node.address("http");
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a good address");
        let headers = request.headers_mut();
        if let Some(names) = upgrade.subprotocols {
            headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_str(names).expect("plain names"));
        }
        if let Some(token) = upgrade.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("plain characters");
            headers.insert("Authorization", value);
        }
        let stream = TcpStream::connect(address).await.expect("the node takes connections");
        match within("the upgrade", tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, response)) => {
                let name = response.headers().get("Sec-WebSocket-Protocol");
                let subprotocol = name.map(|name| name.to_str().expect("plain characters").to_owned());
                Ok(RawSocket { socket, subprotocol, _world: self.clone() })
            }
            Err(tungstenite::Error::Http(response)) => Err(*response),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Opens a JSON socket, not signed in.
    pub async fn upgrades(&self) -> RawSocket {
        match self.tries_to_upgrade(Upgrade::default()).await {
            Ok(socket) => socket,
            Err(response) => panic!("the upgrade was refused: {response:?}"),
        }
    }

    /// Opens a TCP connection to one of the node's addresses.
    pub async fn dials(&self, what: &str) -> TcpStream {
        TcpStream::connect(self.node.address(what)).await.expect("the node takes connections")
    }

    /// Whether the node still serves: after each attack it must.
    pub async fn is_alive(&self) {
        let answer = within("/healthz", self.operator_request(Method::GET, "/healthz").send()).await;
        assert_eq!(answer.expect("the node answers").status(), 200);
    }
}

impl Person {
    /// A JSON socket that is signed in.
    pub async fn opens_raw(&self) -> RawSocket {
        let mut socket = self.world.upgrades().await;
        socket.says(json!({"id": 1, "hello": {"token": self.token}})).await;
        let welcome = socket.hears().await;
        assert_eq!(welcome["reply_to"], 1, "{welcome}");
        assert!(welcome["welcome"].is_object(), "{welcome}");
        socket
    }
}

impl RawSocket {
    pub async fn says(&mut self, frame: Value) {
        self.says_text(&frame.to_string()).await;
    }

    pub async fn says_text(&mut self, text: &str) {
        self.says_message(Message::Text(Utf8Bytes::from(text))).await;
    }

    pub async fn says_message(&mut self, message: Message) {
        self.socket.send(message).await.expect("the socket is open");
    }

    /// Whatever comes next.
    pub async fn next(&mut self) -> Came {
        loop {
            match within("something on the socket", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Came::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => return Came::Binary(bytes.to_vec()),
                Some(Ok(Message::Pong(_))) => return Came::Pong,
                Some(Ok(Message::Close(frame))) => return Came::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return Came::Closed(None),
            }
        }
    }

    /// The next frame, which must be JSON.
    pub async fn hears(&mut self) -> Value {
        match self.next().await {
            Came::Text(text) => serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")),
            other => panic!("a JSON frame should come: {other:?}"),
        }
    }

    /// The answer to request `id`; events before it are passed over.
    pub async fn hears_answer(&mut self, id: u64) -> Value {
        loop {
            let frame = self.hears().await;
            if frame["reply_to"] == id {
                return frame;
            }
            assert!(frame.get("reply_to").is_none(), "an answer to something else: {frame}");
        }
    }

    /// Sends a request and gets its answer.
    pub async fn asks(&mut self, frame: Value) -> Value {
        let id = frame["id"].as_u64().expect("a request that wants an answer");
        self.says(frame).await;
        self.hears_answer(id).await
    }

    /// The next event of this name; others are passed over.
    pub async fn hears_event(&mut self, name: &str) -> Value {
        loop {
            let mut frame = self.hears().await;
            if let Some(event) = frame.get_mut(name) {
                return event.take();
            }
        }
    }

    /// Waits for the close; its code.
    pub async fn is_closed(&mut self) -> Option<u16> {
        loop {
            if let Came::Closed(code) = self.next().await {
                return code;
            }
        }
    }
}

/// Sends a TCP frame.
pub async fn writes_frame(stream: &mut TcpStream, frame: &[u8]) {
    let length = u32::try_from(frame.len()).expect("test frames are small");
    stream.write_all(&[&length.to_be_bytes()[..], frame].concat()).await.expect("the connection is open");
}

/// Reads a TCP frame; `None` when the server has closed instead.
pub async fn reads_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = within("a frame", stream.read_u32()).await.ok()?;
    let mut frame = vec![0; length as usize];
    within("a frame", stream.read_exact(&mut frame)).await.ok()?;
    Some(frame)
}
