//! The client that stays connected: sends until stored, and an event stream with every message once and in order.
//!
//! This file is the handle and what the application sees; `driver` does the work behind it, `state` and `outbox`
//! decide.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::connection::{ConnectionOptions, unexpected};
use super::driver::{Command, Driver};
use super::error::{ClientError, Close};
pub use super::state::Start;
use crate::domain::Error;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// Commands that wait for the driver; more make the callers wait.
const COMMANDS_MAX: usize = 256;
/// Events handed over and not yet taken.
const EVENTS_MAX: usize = 256;
/// The pause before a cursor that could not be told is told again.
const CURSOR_PAUSE: Duration = Duration::from_secs(1);
/// Letters of a client_id that the client makes: 128 bits in hex.
const CLIENT_ID_BYTES: usize = 16;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// host:port of the nodes, for the transport of `connection`; tried in turn.
    pub endpoints: Vec<String>,
    /// The device's access token.
    pub token: String,
    /// Where the streams of conversations begin.
    pub start: Start,
    /// Framing, source address and timeouts. Its `bearer` is not used.
    pub connection: ConnectionOptions,
    /// Whether to confirm messages as `delivered` when they are handed to the application.
    pub confirm_delivered: bool,
    /// How often to ask for what live delivery missed without a trace; `None`: only after a reconnect.
    pub resync_interval: Option<Duration>,
}

impl ClientOptions {
    /// The defaults, for these nodes and this device.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>, token: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            token: token.into(),
            start: Start::default(),
            connection: ConnectionOptions::default(),
            confirm_delivered: true,
            resync_interval: Some(Duration::from_secs(60)),
        }
    }
}

/// What happens, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handed over once")]
pub enum Event {
    /// Signed in at a node.
    Connected {
        /// Where.
        endpoint: String,
        /// What the node said: its name, the user, the device and the session.
        welcome: v1::Welcome,
    },
    /// The connection is gone; the client is making another by itself.
    Disconnected {
        /// Where it was.
        endpoint: String,
        /// Why.
        close: Close,
    },
    /// All that the server has is given out: after each reconnect, and after [`Client::sync`], which gives this number.
    Synced(u64),
    /// A message, one's own included: per conversation each once, in seq order.
    Message(v1::Message),
    /// A conversation is new or has changed.
    Conversation(v1::Conversation),
    /// Somebody's cursors moved.
    Receipt(v1::Receipt),
    /// A contact changed.
    Contact(v1::ContactEvent),
    /// Somebody types.
    Typing(v1::Typing),
    /// Somebody's presence changed.
    Presence(v1::Presence),
    /// Messages are hidden from this user from now on, by whichever of its devices.
    Hidden(v1::Hidden),
    /// The operators' notice.
    Notice(v1::Notice),
    /// The client has ended and does not come back: the token is refused, or the device connected elsewhere.
    Ended(Error),
}

/// The application's end of the stream of [`Event`]s. Keep taking them: when thousands wait, the client stops reading.
#[derive(Debug)]
pub struct ClientEvents(mpsc::Receiver<Event>);

impl ClientEvents {
    /// The next event; `None` when the client has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// A handle to the client. Cheap to clone; when the last clone is gone, the client closes.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<Option<v1::Welcome>>,
    request_timeout: Duration,
}

/// A send that the client has taken, in its place behind the earlier ones: the answer, to be awaited at any time.
#[derive(Debug)]
pub(crate) struct Stored(oneshot::Receiver<Result<Body, ClientError>>);

impl Stored {
    /// Waits until the server has stored or finally refused it.
    pub(crate) async fn answer(self) -> Result<Body, ClientError> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Client {
    /// Starts a client, which connects by itself.
    pub fn start(options: ClientOptions) -> (Self, ClientEvents) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let (connected_sender, connected) = watch::channel(None);
        let request_timeout = options.connection.request_timeout;
        tokio::spawn(Driver::new(options, receiver, events, connected_sender).run());
        (Self { commands, connected, request_timeout }, ClientEvents(event_receiver))
    }

    /// Sends a message, and repeats it until the server has stored or finally refused it, across reconnects. An empty
    /// `client_id` is filled in. Messages to one address are stored in the order of these calls. Dropping the future
    /// does not take the message back. One for later goes by [`Self::schedule`], and is refused here.
    pub async fn send(&self, send: v1::Send) -> Result<v1::Sent, ClientError> {
        if send.send_at_ms != 0 {
            let advice = "a message for later is no message yet; use schedule(), or leave this 0";
            return Err(Error::invalid("send_at_ms", advice).into());
        }
        self.store(Request::Send(send)).await
    }

    /// Leaves a message with the server, which sends it at `send_at_ms`; repeated as [`Self::send`] is. Where that time
    /// has come already it is sent at once, and `scheduled_id` is 0.
    pub async fn schedule(&self, send: v1::Send) -> Result<v1::Scheduled, ClientError> {
        let send_at_ms = send.send_at_ms;
        if send_at_ms == 0 {
            let advice = "say when the message is to be sent; send() sends it now";
            return Err(Error::invalid("send_at_ms", advice).into());
        }
        match self.hand_over(Request::Send(send)).await?.answer().await? {
            Body::Scheduled(scheduled) => Ok(scheduled),
            Body::Sent(sent) => {
                let v1::Sent { conversation_id, client_id, .. } = sent;
                Ok(v1::Scheduled { scheduled_id: 0, conversation_id, client_id, send_at_ms })
            }
            other => Err(unexpected("scheduled", &other)),
        }
    }

    /// Sends a text to a conversation.
    pub async fn send_text(&self, conversation_id: u64, text: &str) -> Result<v1::Sent, ClientError> {
        self.send(v1::Send { conversation_id, text: text.to_owned(), ..v1::Send::default() }).await
    }

    /// Sends a text to a user.
    pub async fn send_text_to(&self, to_user_id: u64, text: &str) -> Result<v1::Sent, ClientError> {
        self.send(v1::Send { to_user_id, text: text.to_owned(), ..v1::Send::default() }).await
    }

    /// Edits a message of one's own; as [`Self::send`].
    pub async fn edit(&self, edit: v1::Edit) -> Result<v1::Sent, ClientError> {
        self.store(Request::Edit(edit)).await
    }

    /// Recalls a message; as [`Self::send`].
    pub async fn recall(&self, recall: v1::Recall) -> Result<v1::Sent, ClientError> {
        self.store(Request::Recall(recall)).await
    }

    /// Reacts to a message; as [`Self::send`].
    pub async fn react(&self, react: v1::React) -> Result<v1::Sent, ClientError> {
        self.store(Request::React(react)).await
    }

    async fn store(&self, request: Request) -> Result<v1::Sent, ClientError> {
        match self.hand_over(request).await?.answer().await? {
            Body::Sent(sent) => Ok(sent),
            other => Err(unexpected("sent", &other)),
        }
    }

    /// Hands a send, edit, recall or reaction over: what is handed over next is stored after it, if it goes to the same
    /// address. An empty `client_id` is filled in.
    pub(crate) async fn hand_over(&self, mut request: Request) -> Result<Stored, ClientError> {
        match &mut request {
            Request::Send(send) => fill_client_id(&mut send.client_id),
            Request::Edit(edit) => fill_client_id(&mut edit.client_id),
            Request::Recall(recall) => fill_client_id(&mut recall.client_id),
            Request::React(react) => fill_client_id(&mut react.client_id),
            _ => {}
        }
        let (waiter, answer) = oneshot::channel();
        self.command(Command::Store(Box::new(request), waiter)).await?;
        Ok(Stored(answer))
    }

    /// Confirms that the user has read up to `seq`: told again, across reconnects, until the server has taken or finally
    /// refused it.
    pub async fn mark_read(&self, conversation_id: u64, seq: u64) -> Result<(), ClientError> {
        loop {
            self.connected().await?;
            match self.request(Request::Read(v1::Cursor { conversation_id, seq })).await {
                Ok(_) => return Ok(()),
                Err(error) if error.may_repeat() && !matches!(error, ClientError::Protocol(_)) => {
                    sleep(CURSOR_PAUSE.max(Duration::from_millis(error.retry_after_ms()))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Any other request: sent once, as soon as there is a connection, and not repeated. It is given up after the
    /// connection's `request_timeout`, the wait for a connection included. Typing is of the moment: without a connection
    /// it fails at once.
    pub async fn request(&self, request: Request) -> Result<Body, ClientError> {
        let (waiter, answer) = oneshot::channel();
        let exchange = async {
            self.command(Command::Request(Box::new(request), waiter)).await?;
            answer.await.unwrap_or_else(|_| Err(ended()))
        };
        let late = || ClientError::Timeout(self.request_timeout.as_millis() as u64);
        timeout(self.request_timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// A page of history: the messages before `before_seq` (0: the newest), in seq order.
    pub async fn history(
        &self,
        conversation_id: u64,
        before_seq: u64,
        limit: u32,
    ) -> Result<v1::HistoryPage, ClientError> {
        let request = v1::HistoryRequest { conversation_id, before_seq, limit, ..Default::default() };
        match self.request(Request::History(request)).await? {
            Body::HistoryPage(page) => Ok(page),
            other => Err(unexpected("history_page", &other)),
        }
    }

    /// Asks the server for all that is new, and returns when it has been put into the event stream: all of it comes
    /// before [`Event::Synced`] with the number that is returned, or a higher one.
    pub async fn sync(&self) -> Result<u64, ClientError> {
        let (waiter, answer) = oneshot::channel();
        self.command(Command::Sync(waiter)).await?;
        answer.await.map_err(|_| ended())
    }

    /// The welcome of the live connection, once there is one.
    pub async fn connected(&self) -> Result<v1::Welcome, ClientError> {
        let mut connected = self.connected.clone();
        let welcome = connected.wait_for(Option::is_some).await.map_err(|_| ended())?;
        Ok(welcome.clone().unwrap_or_default())
    }

    /// Cuts the live connection, if there is one, so that the client reconnects. For tests.
    pub async fn cut(&self) -> Result<(), ClientError> {
        self.command(Command::Cut).await
    }

    /// Closes the client in good order. Sends without an answer get none.
    pub async fn close(&self) {
        // An error means that it has ended already.
        let _ = self.commands.send(Command::Close).await;
        self.commands.closed().await;
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| ended())
    }
}

fn ended() -> ClientError {
    ClientError::Closed(Close::broken("the client has ended"))
}

fn fill_client_id(client_id: &mut String) {
    if client_id.is_empty() {
        *client_id = new_client_id();
    }
}

/// A name for a send that no other has.
pub(crate) fn new_client_id() -> String {
    hex::encode(rand::random::<[u8; CLIENT_ID_BYTES]>())
}

#[cfg(test)]
#[path = "reconnecting_tests.rs"]
mod tests;
