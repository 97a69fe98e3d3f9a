//! A small server of the protocol for this module's tests: one log in memory, any transport, faults on demand.
//! It stores, dedupes, pushes and answers sync as the protocol says, and nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Upgrade, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::domain::Error;
use crate::protocol::codec::{self, Format};
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// Messages in a page of sync, so that paging is exercised.
const PAGE: usize = 3;
/// The server's clock stands still.
pub(crate) const NOW_MS: u64 = 1_000;

/// What the server holds; tests change it while it runs.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) logs: BTreeMap<u64, Vec<v1::Message>>,
    sinks: Vec<(u64, mpsc::UnboundedSender<Out>)>,
    /// Pushes to swallow before the next one goes out.
    pub(crate) lose_pushes: usize,
    /// Sends that are stored and then answered by cutting the connection.
    pub(crate) cut_after_store: usize,
    /// Sends that are refused with `unavailable`.
    pub(crate) refuse_sends: usize,
    /// Syncs that are refused with `unavailable`, and the pause that they ask for.
    pub(crate) refuse_syncs: usize,
    pub(crate) sync_pause_ms: u64,
    /// The tokens that syncs have named.
    pub(crate) since: Vec<String>,
    /// `read`s that are answered by cutting the connection.
    pub(crate) cut_reads: usize,
    pub(crate) read: BTreeMap<u64, u64>,
    /// `watch_presence`s that are refused with `unavailable`.
    pub(crate) refuse_watches: usize,
    pub(crate) heartbeat_ms: u64,
    pub(crate) connections: usize,
    pub(crate) pings: usize,
    pub(crate) delivered: BTreeMap<u64, u64>,
}

enum Out {
    Frame(Box<v1::ServerFrame>),
    Close(u16),
}

/// A running server; it ends with this handle.
pub(crate) struct TestServer {
    pub(crate) address: String,
    pub(crate) inner: Arc<Mutex<Inner>>,
    _tasks: JoinSet<()>,
}

impl TestServer {
    pub(crate) async fn start(transport: super::Transport) -> Self {
        Self::start_with(transport, Arc::default()).await
    }

    /// Another node over the same log.
    pub(crate) async fn start_with(transport: super::Transport, inner: Arc<Mutex<Inner>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&inner);
        let node = address.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, transport, Arc::clone(&shared), node.clone()));
            }
        });
        Self { address, inner, _tasks: tasks }
    }

    /// Stores a message of another user, and pushes it unless pushes are to be lost.
    pub(crate) fn write(&self, conversation_id: u64, text: &str) -> u64 {
        self.inner.lock().append(conversation_id, 2, "", text, None).0
    }

    pub(crate) fn push(&self, body: Body) {
        for (_, sink) in &self.inner.lock().sinks {
            let _ =
                sink.send(Out::Frame(Box::new(v1::ServerFrame { reply_to: 0, body: Some(body.clone()) })));
        }
    }

    pub(crate) fn close_all(&self, code: u16) {
        for (_, sink) in self.inner.lock().sinks.drain(..) {
            let _ = sink.send(Out::Close(code));
        }
    }
}

impl Inner {
    fn append(
        &mut self,
        id: u64,
        sender_id: u64,
        client_id: &str,
        text: &str,
        from: Option<u64>,
    ) -> (u64, bool) {
        let log = self.logs.entry(id).or_default();
        if let Some(old) = log.iter().find(|m| !client_id.is_empty() && m.client_id == client_id) {
            return (old.seq, true);
        }
        let message = v1::Message {
            conversation_id: id,
            seq: log.len() as u64 + 1,
            sender_id,
            client_id: client_id.to_owned(),
            text: text.to_owned(),
            ..v1::Message::default()
        };
        log.push(message.clone());
        let seq = message.seq;
        if self.lose_pushes > 0 {
            self.lose_pushes -= 1;
        } else {
            for (_, sink) in self.sinks.iter().filter(|(session, _)| Some(*session) != from) {
                let body = Some(Body::Message(message.clone()));
                let _ = sink.send(Out::Frame(Box::new(v1::ServerFrame { reply_to: 0, body })));
            }
        }
        (seq, false)
    }

    fn sync(&self, request: &v1::SyncRequest) -> v1::SyncPage {
        let mut page = v1::SyncPage::default();
        if request.cursors.is_empty() {
            "token".clone_into(&mut page.sync_token);
        }
        for (id, log) in &self.logs {
            match request.cursors.iter().find(|cursor| cursor.conversation_id == *id) {
                None => page.conversations.push(v1::Conversation {
                    conversation_id: *id,
                    first_seq: 1,
                    last_seq: log.len() as u64,
                    ..v1::Conversation::default()
                }),
                Some(cursor) => {
                    for message in &log[(cursor.seq as usize).min(log.len())..] {
                        if page.messages.len() == PAGE {
                            page.more = true;
                            break;
                        }
                        page.messages.push(message.clone());
                    }
                }
            }
        }
        page
    }

    /// The answer; `None`: cut the connection.
    fn answer(&mut self, session: u64, node: &str, request: Request) -> Option<Body> {
        Some(match request {
            Request::Hello(hello) if hello.token == "good" => Body::Welcome(v1::Welcome {
                user_id: 1,
                session_id: session,
                node: node.to_owned(),
                heartbeat_ms: self.heartbeat_ms,
                ..v1::Welcome::default()
            }),
            Request::Hello(_) => Body::Error(Error::unauthenticated("sign in again").into()),
            Request::Send(_) if self.refuse_sends > 0 => {
                self.refuse_sends -= 1;
                Body::Error(v1::Error {
                    retry_after_ms: 1,
                    ..Error::unavailable("the database is away").into()
                })
            }
            Request::Send(send) if send.send_at_ms > NOW_MS => Body::Scheduled(v1::Scheduled {
                scheduled_id: 1,
                conversation_id: send.conversation_id,
                client_id: send.client_id,
                send_at_ms: send.send_at_ms,
            }),
            Request::Send(send) => {
                let id = send.conversation_id;
                let (seq, duplicate) = self.append(id, 1, &send.client_id, &send.text, Some(session));
                if self.cut_after_store > 0 {
                    self.cut_after_store -= 1;
                    return None;
                }
                let client_id = send.client_id;
                Body::Sent(v1::Sent { conversation_id: id, seq, client_id, duplicate, created_at_ms: NOW_MS })
            }
            Request::Sync(request) if self.refuse_syncs > 0 => {
                self.refuse_syncs -= 1;
                self.since.push(request.since);
                let retry_after_ms = self.sync_pause_ms;
                Body::Error(v1::Error { retry_after_ms, ..Error::unavailable("the database is away").into() })
            }
            Request::Sync(request) => Body::SyncPage(self.sync(&request)),
            Request::Read(_) if self.cut_reads > 0 => {
                self.cut_reads -= 1;
                return None;
            }
            Request::Read(cursor) => {
                self.read.insert(cursor.conversation_id, cursor.seq);
                Body::Ok(v1::Ok {})
            }
            Request::WatchPresence(_) if self.refuse_watches > 0 => {
                self.refuse_watches -= 1;
                Body::Error(Error::unavailable("the shard is moving").into())
            }
            Request::WatchPresence(watch) => {
                let user = |user_id| v1::Presence { user_id, ..v1::Presence::default() };
                Body::PresencePage(v1::PresencePage { users: watch.user_ids.into_iter().map(user).collect() })
            }
            Request::Delivered(cursor) => {
                self.delivered.insert(cursor.conversation_id, cursor.seq);
                Body::Ok(v1::Ok {})
            }
            Request::Ping(_) => {
                self.pings += 1;
                Body::Pong(v1::Pong {})
            }
            _ => Body::Ok(v1::Ok {}),
        })
    }
}

async fn serve(stream: TcpStream, transport: super::Transport, inner: Arc<Mutex<Inner>>, node: String) {
    let (sink, mut outgoing) = mpsc::unbounded_channel::<Out>();
    let session = {
        let mut inner = inner.lock();
        inner.connections += 1;
        inner.connections as u64
    };
    let handle = |bytes: &[u8]| -> bool {
        let frame = codec::decode_client(bytes, transport.format()).expect("the client writes frames");
        let mut inner = inner.lock();
        let Some(request) = frame.request else { return true };
        let hello = matches!(request, Request::Hello(_));
        let Some(body) = inner.answer(session, &node, request) else { return false };
        if hello && matches!(body, Body::Welcome(_)) {
            inner.sinks.push((session, sink.clone()));
        }
        if frame.id != 0 {
            let _ = sink.send(Out::Frame(Box::new(v1::ServerFrame { reply_to: frame.id, body: Some(body) })));
        }
        true
    };
    match transport.format() {
        Format::ProtoPrefixed => {
            let (mut reader, mut writer) = stream.into_split();
            let mut incoming = Vec::new();
            let mut chunk = [0_u8; 1024];
            loop {
                tokio::select! {
                    read = reader.read(&mut chunk) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(length) => incoming.extend_from_slice(&chunk[..length]),
                    },
                    out = outgoing.recv() => match out {
                        Some(Out::Frame(frame)) => {
                            let bytes = codec::encode(&*frame, Format::ProtoPrefixed);
                            if writer.write_all(&bytes).await.is_err() { return }
                        }
                        _ => return,
                    },
                }
                while let Some(prefix) = incoming.first_chunk::<4>() {
                    let end = 4 + u32::from_be_bytes(*prefix) as usize;
                    if incoming.len() < end {
                        break;
                    }
                    let frame: Vec<u8> = incoming.drain(..end).collect();
                    if !handle(&frame[4..]) {
                        return;
                    }
                }
            }
        }
        format => {
            // The signature is the library's.
            #[allow(clippy::result_large_err, reason = "the library's callback type")]
            let echo = |upgrade: &Upgrade, mut response: Response| {
                if let Some(name) = upgrade.headers().get("Sec-WebSocket-Protocol") {
                    response.headers_mut().insert("Sec-WebSocket-Protocol", name.clone());
                }
                Ok(response)
            };
            let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, echo).await else { return };
            loop {
                tokio::select! {
                    message = socket.next() => match message {
                        Some(Ok(message)) if message.is_text() || message.is_binary() => {
                            if !handle(&message.into_data()) { return }
                        }
                        Some(Ok(_)) => {}
                        _ => return,
                    },
                    out = outgoing.recv() => match out {
                        Some(Out::Frame(frame)) => {
                            let bytes = codec::encode(&*frame, format);
                            if socket.send(web_socket_message(bytes, format)).await.is_err() { return }
                        }
                        Some(Out::Close(code)) => {
                            let frame = CloseFrame { code: CloseCode::from(code), reason: "as the test says".into() };
                            let _ = socket.close(Some(frame)).await;
                        }
                        None => return,
                    },
                }
            }
        }
    }
}

fn web_socket_message(bytes: Bytes, format: Format) -> tokio_tungstenite::tungstenite::Message {
    match format {
        Format::Json => String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8").into(),
        _ => bytes.into(),
    }
}
