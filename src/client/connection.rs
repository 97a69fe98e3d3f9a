//! One connection to one node: requests with correlated answers, and the stream of events.
//!
//! One task owns the socket, and reads and writes in the same poll, so that a connection costs one task, two small
//! channels and its buffers. Nothing here retries: see `reconnecting` for that.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::error::{ClientError, Close};
use super::wire::{Read, Transport, Wire};
use crate::protocol::codec::{self, Format};
use crate::protocol::v1::{self, ClientFrame, client_frame::Request, server_frame::Body};

/// Requests handed over and not yet written; more make the callers wait.
const OUTGOING_MAX: usize = 64;
/// Requests written and not yet answered; more stay unwritten until answers come.
const UNANSWERED_MAX: usize = 65_536;
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// A side that heard nothing for this many heartbeats closes, by the protocol; in halves: 5 is 2.5.
const SILENT_HALF_HEARTBEATS: u32 = 5;

/// How a connection is made.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Framing.
    pub transport: Transport,
    /// The source address; `None`: the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// A token for the WebSocket upgrade request; `welcome` then comes as the first event.
    pub bearer: Option<String>,
    /// Events that wait to be taken. When they are this many, the connection stops reading, answers included.
    pub event_capacity: usize,
    /// How long connecting may take, the WebSocket handshake included.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Whether to ping by `welcome.heartbeat_ms` and to end a silent connection.
    pub heartbeat: bool,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            transport: Transport::default(),
            local_address: None,
            bearer: None,
            event_capacity: 256,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            heartbeat: true,
        }
    }
}

/// A handle to a live connection. Cheap to clone; when the last clone is gone, the connection closes.
#[derive(Clone, Debug)]
pub struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    close: Arc<OnceLock<Close>>,
    request_timeout: Duration,
}

/// What the server says unasked, in order. Dropping it throws events away and leaves the connection open.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Box<Incoming>>,
    close: Arc<OnceLock<Close>>,
}

/// What arrives in [`Events`].
#[derive(Debug)]
pub enum Incoming {
    /// An event.
    Event(Body),
    /// The answer to a request of [`Connection::post_tagged`], in its place among the events.
    Answer {
        /// The request's tag.
        tag: u64,
        /// The answer.
        result: Result<Body, ClientError>,
    },
}

#[derive(Debug)]
enum Outgoing {
    Request(Box<Request>, Waiter),
    Raw(Bytes),
    Close,
}

/// Where an answer goes.
#[derive(Debug)]
enum Waiter {
    Nobody,
    Once(oneshot::Sender<Result<Box<Body>, ClientError>>),
    Tagged(u64),
}

/// The answer to one request, to be awaited at any time; the request is under way without it.
#[derive(Debug)]
pub struct Reply {
    answer: oneshot::Receiver<Result<Box<Body>, ClientError>>,
    close: Arc<OnceLock<Close>>,
}

impl Future for Reply {
    type Output = Result<Body, ClientError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.answer).poll(cx)) {
            Ok(answer) => answer.map(|body| *body),
            Err(_) => Err(ClientError::Closed(close_in(&self.close))),
        })
    }
}

impl Connection {
    /// Connects to `endpoint` (host:port). The first request must be [`Self::hello`] or [`Self::login`].
    pub async fn connect(endpoint: &str, options: &ConnectionOptions) -> Result<(Self, Events), ClientError> {
        let connecting =
            Wire::connect(endpoint, options.transport, options.local_address, options.bearer.as_deref());
        let wire = timeout(options.connect_timeout, connecting).await.map_err(|_| {
            let reason = format!("no connection within {} ms", options.connect_timeout.as_millis());
            ClientError::Unreachable { endpoint: endpoint.to_owned(), reason }
        })??;
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        let (event_sender, events) = mpsc::channel(options.event_capacity);
        let close = Arc::new(OnceLock::new());
        let now = Instant::now();
        let task = Task {
            wire,
            format: options.transport.format(),
            requests,
            events: event_sender,
            waiting: HashMap::new(),
            next_id: 1,
            unflushed: false,
            last_heard: now,
            last_sent: now,
            heartbeat_allowed: options.heartbeat,
            heartbeat: None,
            close: Arc::clone(&close),
        };
        tokio::spawn(task.run());
        let connection =
            Self { outgoing, close: Arc::clone(&close), request_timeout: options.request_timeout };
        Ok((connection, Events { events, close }))
    }

    /// Signs in by token.
    pub async fn hello(&self, token: &str) -> Result<v1::Welcome, ClientError> {
        self.welcome(Request::Hello(v1::Hello { token: token.to_owned() })).await
    }

    /// Signs in by password, as a new device; the welcome holds its token.
    pub async fn login(
        &self,
        username: &str,
        password: &str,
        device_name: &str,
    ) -> Result<v1::Welcome, ClientError> {
        let login = v1::Login {
            username: username.to_owned(),
            password: password.to_owned(),
            device_name: device_name.to_owned(),
            platform: String::new(),
        };
        self.welcome(Request::Login(login)).await
    }

    async fn welcome(&self, request: Request) -> Result<v1::Welcome, ClientError> {
        match self.request(request).await? {
            Body::Welcome(welcome) => Ok(welcome),
            other => Err(unexpected("welcome", &other)),
        }
    }

    /// Sends a message and waits for `sent`.
    pub async fn send(&self, send: v1::Send) -> Result<v1::Sent, ClientError> {
        match self.request(Request::Send(send)).await? {
            Body::Sent(sent) => Ok(sent),
            other => Err(unexpected("sent", &other)),
        }
    }

    /// One page of sync.
    pub async fn sync(&self, request: v1::SyncRequest) -> Result<v1::SyncPage, ClientError> {
        match self.request(Request::Sync(request)).await? {
            Body::SyncPage(page) => Ok(page),
            other => Err(unexpected("sync_page", &other)),
        }
    }

    /// One page of history.
    pub async fn history(&self, request: v1::HistoryRequest) -> Result<v1::HistoryPage, ClientError> {
        match self.request(Request::History(request)).await? {
            Body::HistoryPage(page) => Ok(page),
            other => Err(unexpected("history_page", &other)),
        }
    }

    /// Sends a request and waits for its answer; an `error` answer is [`ClientError::Refused`]. Dropping the future
    /// does not take the request back.
    pub async fn request(&self, request: Request) -> Result<Body, ClientError> {
        let exchange = async { self.post(request).await?.await };
        timeout(self.request_timeout, exchange)
            .await
            .unwrap_or(Err(ClientError::Timeout(self.request_timeout.as_millis() as u64)))
    }

    /// Sends a request; the answer is awaited apart and has no deadline. Requests leave in the order of these calls.
    pub async fn post(&self, request: Request) -> Result<Reply, ClientError> {
        let (waiter, answer) = oneshot::channel();
        self.hand_over(Outgoing::Request(Box::new(request), Waiter::Once(waiter))).await?;
        Ok(Reply { answer, close: Arc::clone(&self.close) })
    }

    /// Sends a request whose answer comes among the events, so that its order to them is kept. The end of the events
    /// means that requests without an answer by then get none.
    pub async fn post_tagged(&self, tag: u64, request: Request) -> Result<(), ClientError> {
        self.hand_over(Outgoing::Request(Box::new(request), Waiter::Tagged(tag))).await
    }

    /// How many requests can be handed over without waiting. A caller that takes the events in the same task must
    /// not wait to hand over: the connection may be waiting for it to take events.
    pub fn room(&self) -> usize {
        self.outgoing.capacity()
    }

    /// Sends a request that wants no answer (`id` 0).
    pub async fn tell(&self, request: Request) -> Result<(), ClientError> {
        self.hand_over(Outgoing::Request(Box::new(request), Waiter::Nobody)).await
    }

    /// Writes bytes as they are: one WebSocket message, or raw bytes on TCP. For tests of bad frames.
    pub async fn send_raw(&self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.hand_over(Outgoing::Raw(bytes.into())).await
    }

    async fn hand_over(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        self.outgoing.send(outgoing).await.map_err(|_| ClientError::Closed(close_in(&self.close)))
    }

    /// Closes in good order and waits for the end. Take or drop the events meanwhile: a connection that waits for room
    /// among them does nothing else.
    pub async fn close(&self) -> Close {
        // An error means that it is closed already.
        let _ = self.outgoing.send(Outgoing::Close).await;
        self.closed().await
    }

    /// Waits for the connection's end, whoever ends it.
    pub async fn closed(&self) -> Close {
        self.outgoing.closed().await;
        close_in(&self.close)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.outgoing.is_closed()
    }
}

impl Events {
    /// The next event; `None` at the connection's end. Passes over tagged answers. Cancel-safe.
    pub async fn next(&mut self) -> Option<Body> {
        loop {
            if let Incoming::Event(body) = self.next_incoming().await? {
                return Some(body);
            }
        }
    }

    /// The next event or tagged answer; `None` at the connection's end. Cancel-safe.
    pub async fn next_incoming(&mut self) -> Option<Incoming> {
        self.events.recv().await.map(|incoming| *incoming)
    }

    /// Why the connection ended; meaningful after [`Self::next`] gave `None`.
    pub fn close(&self) -> Close {
        close_in(&self.close)
    }
}

fn close_in(close: &OnceLock<Close>) -> Close {
    close.get().cloned().unwrap_or_else(|| Close::broken("the connection's task was ended"))
}

/// The error for an answer of the wrong kind.
pub(crate) fn unexpected(wanted: &str, got: &Body) -> ClientError {
    let got = format!("{got:?}");
    let kind = got.split('(').next().unwrap_or_default();
    ClientError::Protocol(format!("the answer should be {wanted} and is {kind}"))
}

/// The heartbeat, once `welcome` has said its period.
struct Heartbeat {
    period: Duration,
    next: Pin<Box<Sleep>>,
}

struct Task {
    wire: Wire,
    format: Format,
    requests: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Box<Incoming>>,
    waiting: HashMap<u64, Waiter>,
    next_id: u64,
    unflushed: bool,
    last_heard: Instant,
    last_sent: Instant,
    heartbeat_allowed: bool,
    heartbeat: Option<Heartbeat>,
    close: Arc<OnceLock<Close>>,
}

impl Task {
    async fn run(mut self) {
        let close = loop {
            match poll_fn(|cx| self.poll_turn(cx)).await {
                Ok(frame) => {
                    self.last_heard = Instant::now();
                    if let Some(frame) = frame {
                        self.take(frame).await;
                    }
                }
                Err(close) => break close,
            }
        };
        // The reason stands before anything that waits can notice the end.
        let _ = self.close.set(close.clone());
        for (_, waiter) in self.waiting.drain() {
            if let Waiter::Once(waiter) = waiter {
                let _ = waiter.send(Err(ClientError::Closed(close.clone())));
            }
        }
        drop(self.requests);
        drop(self.events);
        let _ = timeout(GOODBYE, self.wire.close()).await;
    }

    /// Writes what there is to write, and returns with the next thing read. `Err`: the end.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        loop {
            self.poll_requests(cx)?;
            if self.unflushed && self.wire.poll_flush(cx)?.is_ready() {
                self.unflushed = false;
            }
            if let Poll::Ready(read) = self.wire.poll_read(cx) {
                return Poll::Ready(read);
            }
            let Some(heartbeat) = &mut self.heartbeat else { return Poll::Pending };
            ready!(heartbeat.next.as_mut().poll(cx));
            self.beat()?;
        }
    }

    /// Takes requests while the socket takes bytes.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Close> {
        while self.waiting.len() < UNANSWERED_MAX {
            match self.wire.poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(Outgoing::Request(request, waiter))) => self.write(*request, waiter)?,
                Poll::Ready(Some(Outgoing::Raw(bytes))) => {
                    self.wire.start_send(bytes)?;
                    self.unflushed = true;
                }
                Poll::Ready(Some(Outgoing::Close) | None) => {
                    return Err(Close { code: Some(1000), reason: "closed by us".to_owned() });
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn write(&mut self, request: Request, waiter: Waiter) -> Result<(), Close> {
        let id = match waiter {
            Waiter::Nobody => 0,
            waiter => {
                let id = self.next_id;
                self.next_id += 1;
                self.waiting.insert(id, waiter);
                id
            }
        };
        self.write_frame(&ClientFrame { id, request: Some(request) })
    }

    fn write_frame(&mut self, frame: &ClientFrame) -> Result<(), Close> {
        self.wire.start_send(codec::encode(frame, self.format))?;
        self.unflushed = true;
        self.last_sent = Instant::now();
        Ok(())
    }

    async fn take(&mut self, frame: v1::ServerFrame) {
        // A frame of a newer server, whose body this client doesn't know.
        let Some(body) = frame.body else { return };
        if let Body::Welcome(welcome) = &body
            && self.heartbeat_allowed
            && welcome.heartbeat_ms > 0
        {
            let period = Duration::from_millis(welcome.heartbeat_ms);
            self.heartbeat =
                Some(Heartbeat { period, next: Box::pin(sleep_until(Instant::now() + period / 2)) });
        }
        if frame.reply_to == 0 {
            // Waits while events are not taken, and so stops reading: that is the promise of `event_capacity`.
            // When nobody will ever take them, they are thrown away.
            let _ = self.events.send(Box::new(Incoming::Event(body))).await;
            return;
        }
        let result = match body {
            Body::Error(error) => Err(ClientError::Refused(error.into())),
            body => Ok(body),
        };
        match self.waiting.remove(&frame.reply_to) {
            Some(Waiter::Once(waiter)) => {
                // Nobody waits any more when the request was given up.
                let _ = waiter.send(result.map(Box::new));
            }
            Some(Waiter::Tagged(tag)) => {
                let _ = self.events.send(Box::new(Incoming::Answer { tag, result })).await;
            }
            // The answer to a heartbeat.
            Some(Waiter::Nobody) | None => {}
        }
    }

    /// Looks twice a period whether the server is alive and whether it must be told that we are.
    fn beat(&mut self) -> Result<(), Close> {
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(()) };
        let now = Instant::now();
        let period = heartbeat.period;
        heartbeat.next.as_mut().reset(now + period / 2);
        let silent = now - self.last_heard;
        if silent > period * SILENT_HALF_HEARTBEATS / 2 {
            return Err(Close::broken(format!("the server was silent for {} ms", silent.as_millis())));
        }
        if silent >= period / 2 || now - self.last_sent >= period / 2 {
            // With an id, so that the answer shows the server to be alive.
            let id = self.next_id;
            self.next_id += 1;
            self.write_frame(&ClientFrame { id, request: Some(Request::Ping(v1::Ping {})) })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
