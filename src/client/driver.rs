//! The task behind [`super::Client`]: connects, feeds `state` and `outbox`, and passes on what they say.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connection::{Connection, Events, Incoming};
use super::error::{ClientError, Close};
use super::outbox::{Outbox, Outcome, PENDING_MAX};
use super::reconnecting::{ClientOptions, Event};
use super::state::SyncState;
use crate::domain::Error;
use crate::protocol::ErrorCode;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// Events that wait for the application before the driver stops reading from the server.
const BACKLOG_MAX: usize = 4096;
/// Requests that wait for a connection or an answer; more are refused.
const REQUESTS_MAX: usize = 4096;
/// First pause after all endpoints have failed once; it doubles.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// Longest pause between rounds over the endpoints.
const RECONNECT_MAX: Duration = Duration::from_secs(3);
/// A connection that lived this long was a good one.
const LASTING: Duration = Duration::from_secs(2);
/// First pause after a sync that brought nothing it should have; it doubles.
const STALL_MIN: Duration = Duration::from_millis(50);
/// Longest such pause.
const STALL_MAX: Duration = Duration::from_secs(2);
/// How long the messages of which a `conversation` event spoke may take to arrive before they are fetched.
const HINT_GRACE: Duration = Duration::from_secs(1);
/// Confirmations of delivery are gathered for this long.
const CONFIRM_PAUSE: Duration = Duration::from_millis(100);
/// After `go_away` and its `retry_after_ms`, answers are awaited for this long at most.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// How long closing a connection may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How soon to look again whether the connection takes more requests.
const CONGESTED_PAUSE: Duration = Duration::from_millis(2);
/// The close code that means: the same device has connected elsewhere.
const CLOSE_REPLACED: u16 = 4409;

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Store(Box<Request>, oneshot::Sender<Result<Body, ClientError>>),
    Request(Box<Request>, oneshot::Sender<Result<Body, ClientError>>),
    Sync(oneshot::Sender<u64>),
    Cut,
    Close,
}

/// What a tagged answer belongs to.
#[derive(Debug)]
enum Purpose {
    Sync,
    Store(u64),
    Request(oneshot::Sender<Result<Body, ClientError>>),
}

/// Why a live connection was left.
enum Left {
    Lost(Close),
    /// `go_away`, or asked to by the handle: go to this address, or anywhere.
    Moved(String),
    Closed,
    Ended(Error),
}

type WaitingRequest = (Request, oneshot::Sender<Result<Body, ClientError>>);

pub(crate) struct Driver {
    options: ClientOptions,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    connected: watch::Sender<Option<v1::Welcome>>,
    state: SyncState,
    outbox: Outbox,
    store_waiters: HashMap<u64, oneshot::Sender<Result<Body, ClientError>>>,
    /// Requests that wait for a connection.
    requests: VecDeque<WaitingRequest>,
    sync_waiters: Vec<oneshot::Sender<u64>>,
    backlog: VecDeque<Event>,
    /// Syncs begun by a connection or by request, and the last one that was announced as done.
    syncs: u64,
    synced: u64,
    /// The endpoint to try next, and one that goes before it.
    next_endpoint: usize,
    preferred: Option<String>,
    /// Connections that failed or did not last, since one that did.
    failures: usize,
    epoch: Instant,
    closing: bool,
}

/// One live connection's part of the driver.
struct Live {
    connection: Connection,
    user_id: u64,
    next_tag: u64,
    purposes: HashMap<u64, Purpose>,
    /// When the oldest unanswered sync or send left; an answer resets it.
    waiting_since: Option<Instant>,
    next_sync: Instant,
    /// How often in turn a sync was refused for now.
    put_off: u32,
    next_resync: Option<Instant>,
    hints_due: Option<Instant>,
    /// Conversations whose delivery is to be confirmed, and when.
    confirm: HashMap<u64, u64>,
    confirm_due: Option<Instant>,
    /// `go_away` has come: where to, and not before when.
    leaving: Option<(String, Instant)>,
}

impl Driver {
    pub(crate) fn new(
        options: ClientOptions,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        connected: watch::Sender<Option<v1::Welcome>>,
    ) -> Self {
        let state = SyncState::new(options.start);
        Self {
            options,
            commands,
            events,
            connected,
            state,
            outbox: Outbox::default(),
            store_waiters: HashMap::new(),
            requests: VecDeque::new(),
            sync_waiters: Vec::new(),
            backlog: VecDeque::new(),
            syncs: 0,
            synced: 0,
            next_endpoint: 0,
            preferred: None,
            failures: 0,
            epoch: Instant::now(),
            closing: false,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.options.endpoints.is_empty() {
            self.end(Error::invalid("endpoints", "name at least one host:port to connect to")).await;
            return;
        }
        loop {
            let (endpoint, connection, events, welcome) = match self.connect().await {
                Ok(connected) => connected,
                Err(Left::Ended(error)) => return self.end(error).await,
                Err(_) => return,
            };
            self.connected.send_replace(Some(welcome.clone()));
            self.syncs += 1;
            let user_id = welcome.user_id;
            self.backlog.push_back(Event::Connected { endpoint: endpoint.clone(), welcome });
            let since = Instant::now();
            let left = self.live(connection, events, user_id).await;
            self.failures = if since.elapsed() >= LASTING { 0 } else { self.failures + 1 };
            self.connected.send_replace(None);
            self.outbox.disconnected();
            let close = match left {
                Left::Closed => return,
                Left::Ended(error) => return self.end(error).await,
                Left::Lost(close) => close,
                Left::Moved(address) => {
                    self.preferred = (!address.is_empty()).then_some(address);
                    Close { code: Some(1001), reason: "the node asked us to go elsewhere".to_owned() }
                }
            };
            self.backlog.push_back(Event::Disconnected { endpoint, close });
        }
    }

    /// Says that it is over, as far as somebody listens.
    async fn end(mut self, error: Error) {
        for (_, waiter) in self.store_waiters.drain() {
            let _ = waiter.send(Err(error.clone().into()));
        }
        for (_, waiter) in self.requests.drain(..) {
            let _ = waiter.send(Err(error.clone().into()));
        }
        self.commands.close();
        self.backlog.push_back(Event::Ended(error));
        for event in self.backlog {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Tries the endpoints in turn until one takes us.
    async fn connect(&mut self) -> Result<(String, Connection, Events, v1::Welcome), Left> {
        loop {
            let endpoint = self.preferred.take().unwrap_or_else(|| {
                let endpoint = self.options.endpoints[self.next_endpoint].clone();
                self.next_endpoint = (self.next_endpoint + 1) % self.options.endpoints.len();
                endpoint
            });
            let pause = reconnect_pause(self.failures / self.options.endpoints.len());
            let attempt = attempt(endpoint.clone(), self.options.clone(), pause);
            match self.meanwhile(Box::pin(attempt)).await.ok_or(Left::Closed)? {
                Ok((connection, events, welcome)) => return Ok((endpoint, connection, events, welcome)),
                Err(ClientError::Refused(error))
                    if matches!(error.code, ErrorCode::Unauthenticated | ErrorCode::PermissionDenied) =>
                {
                    return Err(Left::Ended(error));
                }
                Err(error) => {
                    tracing::debug!(endpoint, %error, "connecting failed");
                    self.failures += 1;
                }
            }
        }
    }

    /// Waits for `work`, and takes commands and hands out events while it does. `None`: the client is to close.
    async fn meanwhile<T>(&mut self, mut work: impl Future<Output = T> + Unpin) -> Option<T> {
        let application = self.events.clone();
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                permit = application.reserve(), if !self.backlog.is_empty() => hand_out(permit, &mut self.backlog),
                command = self.commands.recv() => self.take_command(command, None),
            }
            if self.closing {
                return None;
            }
        }
    }

    async fn live(&mut self, connection: Connection, mut events: Events, user_id: u64) -> Left {
        let now = Instant::now();
        let mut live = Live {
            connection,
            user_id,
            next_tag: 0,
            purposes: HashMap::new(),
            waiting_since: None,
            next_sync: now,
            put_off: 0,
            next_resync: self.options.resync_interval.map(|interval| now + interval),
            hints_due: None,
            confirm: HashMap::new(),
            confirm_due: None,
            leaving: None,
        };
        self.state.connected();
        let application = self.events.clone();
        let left = loop {
            if let Err(left) = self.work(&mut live).await {
                break left;
            }
            let wake = self.next_wake(&live);
            tokio::select! {
                permit = application.reserve(), if !self.backlog.is_empty() => hand_out(permit, &mut self.backlog),
                incoming = events.next_incoming(), if self.backlog.len() < BACKLOG_MAX => match incoming {
                    Some(incoming) => self.take(&mut live, incoming),
                    None => {
                        let close = events.close();
                        break match close.code {
                            Some(CLOSE_REPLACED) => Left::Ended(Error::precondition(
                                "this device has connected elsewhere; sign in again to have a device of your own")),
                            _ => match live.leaving.take() {
                                Some((address, _)) => Left::Moved(address),
                                None => Left::Lost(close),
                            },
                        };
                    }
                },
                command = self.commands.recv() => self.take_command(command, Some(&live.connection)),
                () = sleep_until(wake) => {}
            }
        };
        // What is unanswered has none to come. The connection must not wait for anybody to take its events while it closes.
        drop(events);
        let _ = timeout(CLOSE_GRACE, live.connection.close()).await;
        for (_, purpose) in live.purposes {
            if let Purpose::Request(waiter) = purpose {
                let close = Close::broken("the connection was lost; ask again");
                let _ = waiter.send(Err(ClientError::Closed(close)));
            }
        }
        left
    }

    /// Does all that is due.
    async fn work(&mut self, live: &mut Live) -> Result<(), Left> {
        let now = Instant::now();
        if self.closing {
            return Err(Left::Closed);
        }
        if let Some((address, not_before)) = &live.leaving {
            let answered = live.purposes.is_empty();
            if now >= *not_before && (answered || now >= *not_before + LEAVE_GRACE) {
                return Err(Left::Moved(address.clone()));
            }
        }
        let patience = self.options.connection.request_timeout;
        if live.waiting_since.is_some_and(|since| now >= since + patience) {
            let reason = format!("the node left requests unanswered for {} ms", patience.as_millis());
            return Err(Left::Lost(Close::broken(reason)));
        }
        if live.hints_due.is_some_and(|due| now >= due) {
            live.hints_due = None;
            self.state.confirm_hints();
        }
        if live.next_resync.is_some_and(|due| now >= due) {
            live.next_resync = self.options.resync_interval.map(|interval| now + interval);
            self.state.want_list();
        }
        if now >= live.next_sync
            && live.connection.room() > 0
            && let Some(request) = self.state.next_request()
        {
            live.post(Purpose::Sync, Request::Sync(request)).await?;
        }
        if self.state.is_synced() {
            if self.synced < self.syncs {
                self.synced = self.syncs;
                self.backlog.push_back(Event::Synced(self.synced));
            }
            for waiter in self.sync_waiters.drain(..) {
                let _ = waiter.send(self.synced);
            }
        }
        if live.confirm_due.is_some_and(|due| now >= due) {
            let now_due: Vec<u64> = live.confirm.keys().copied().take(live.connection.room()).collect();
            for conversation_id in now_due {
                let seq = live.confirm.remove(&conversation_id).unwrap_or_default();
                let cursor = v1::Cursor { conversation_id, seq };
                live.connection.tell(Request::Delivered(cursor)).await.map_err(lost)?;
            }
            live.confirm_due = (!live.confirm.is_empty()).then(|| now + CONFIRM_PAUSE);
        }
        if live.leaving.is_none() {
            let room = live.connection.room();
            for (number, request) in self.outbox.take_due(self.now_ms(), room) {
                live.post(Purpose::Store(number), request).await?;
            }
            while live.connection.room() > 0
                && let Some((request, waiter)) = self.requests.pop_front()
            {
                if waiter.is_closed() {
                    continue;
                }
                live.post(Purpose::Request(waiter), request).await?;
            }
        }
        Ok(())
    }

    /// The next moment at which [`Self::work`] has something to do by itself.
    fn next_wake(&self, live: &Live) -> Instant {
        let now = Instant::now();
        let sends = self.outbox.next_due_ms().map(|ms| self.epoch + Duration::from_millis(ms));
        let leave = live.leaving.as_ref().map(|(_, at)| if *at > now { *at } else { *at + LEAVE_GRACE });
        let patience = live.waiting_since.map(|since| since + self.options.connection.request_timeout);
        let sync = (live.next_sync > now).then_some(live.next_sync);
        let sends = if live.leaving.is_some() { None } else { sends };
        let wake = [sends, leave, patience, sync, live.next_resync, live.hints_due, live.confirm_due]
            .into_iter()
            .flatten()
            .min()
            // Any far moment: there is nothing to wake up for.
            .unwrap_or(now + RECONNECT_MAX);
        // What is due and still here waits for room in the connection, which must not be asked without a pause.
        if live.connection.room() == 0 { wake.max(now + CONGESTED_PAUSE) } else { wake }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take_command(&mut self, command: Option<Command>, connection: Option<&Connection>) {
        match command {
            None | Some(Command::Close) => self.closing = true,
            Some(Command::Store(request, waiter)) if self.outbox.len() >= PENDING_MAX => {
                drop(request);
                let refusal = "too many sends wait for an answer; wait for some of them";
                let _ = waiter.send(Err(Error::exhausted(refusal, RECONNECT_MAX).into()));
            }
            Some(Command::Store(request, waiter)) => {
                let number = self.outbox.push(*request);
                self.store_waiters.insert(number, waiter);
            }
            Some(Command::Request(request, waiter))
                if connection.is_none() && matches!(*request, Request::Typing(_)) =>
            {
                let close = Close::broken("there is no connection, and typing is not told later");
                let _ = waiter.send(Err(ClientError::Closed(close)));
            }
            Some(Command::Request(_, waiter)) if self.requests.len() >= REQUESTS_MAX => {
                let refusal = "too many requests wait for a connection; wait for some of them";
                let _ = waiter.send(Err(Error::exhausted(refusal, RECONNECT_MAX).into()));
            }
            Some(Command::Request(request, waiter)) => self.requests.push_back((*request, waiter)),
            Some(Command::Sync(waiter)) => {
                self.state.want_list();
                self.syncs += 1;
                self.sync_waiters.push(waiter);
            }
            Some(Command::Cut) => {
                if let Some(connection) = connection.cloned() {
                    tokio::spawn(async move { connection.close().await });
                }
            }
        }
    }

    fn take(&mut self, live: &mut Live, incoming: Incoming) {
        match incoming {
            Incoming::Event(body) => self.take_event(live, body),
            Incoming::Answer { tag, result } => {
                let Some(purpose) = live.purposes.remove(&tag) else { return };
                let waiting = live.purposes.values().any(|p| !matches!(p, Purpose::Request(_)));
                live.waiting_since = waiting.then(Instant::now);
                match purpose {
                    Purpose::Request(waiter) => {
                        // Nobody waits any more when the caller gave up.
                        let _ = waiter.send(result);
                    }
                    Purpose::Sync => self.take_sync(live, result),
                    Purpose::Store(number) => self.take_store(live, number, result),
                }
            }
        }
    }

    fn take_sync(&mut self, live: &mut Live, result: Result<Body, ClientError>) {
        match result {
            Ok(Body::SyncPage(page)) => {
                let outcome = self.state.page(page);
                self.backlog.extend(outcome.conversations.into_iter().map(Event::Conversation));
                self.backlog.extend(outcome.hidden.into_iter().map(Event::Hidden));
                self.give(live, outcome.messages);
            }
            // The server can't answer now; what we believe may well be so.
            Err(error) if error.may_repeat() && !matches!(error, ClientError::Protocol(_)) => {
                tracing::debug!(%error, "sync is put off");
                self.state.put_off();
                let doubled = STALL_MIN * (1 << live.put_off.min(8));
                let asked = Duration::from_millis(error.retry_after_ms());
                live.put_off += 1;
                live.next_sync = Instant::now() + doubled.min(STALL_MAX).max(asked);
                return;
            }
            other => {
                tracing::debug!(answer = ?other.err(), "sync was refused");
                self.state.refused();
            }
        }
        live.put_off = 0;
        if self.state.stalls() > 0 {
            let doubled = STALL_MIN * (1 << self.state.stalls().min(8));
            live.next_sync = Instant::now() + doubled.min(STALL_MAX);
        }
    }

    fn take_store(&mut self, live: &mut Live, number: u64, result: Result<Body, ClientError>) {
        let now_ms = self.now_ms();
        let Outcome::Settled(request, result) = self.outbox.answered(number, result, now_ms) else { return };
        // What is kept for later becomes a message when it is sent, which the server tells.
        if let Ok(Body::Sent(sent)) = &result {
            match request {
                Request::Send(send) => {
                    let messages = self.state.live(own_message(live.user_id, send, sent));
                    self.give(live, messages);
                }
                // What an edit, recall or reaction looks like in the log is the server's to say.
                _ => self.state.exists(sent.conversation_id, sent.seq),
            }
        }
        if let Some(waiter) = self.store_waiters.remove(&number) {
            let _ = waiter.send(result);
        }
    }

    fn take_event(&mut self, live: &mut Live, body: Body) {
        let event = match body {
            Body::Message(message) => {
                let messages = self.state.live(message);
                self.give(live, messages);
                return;
            }
            Body::Conversation(conversation) => {
                let messages = self.state.conversation(&conversation);
                self.backlog.push_back(Event::Conversation(conversation));
                self.give(live, messages);
                live.hints_due.get_or_insert(Instant::now() + HINT_GRACE);
                return;
            }
            Body::GoAway(go_away) => {
                let not_before = Instant::now() + Duration::from_millis(go_away.retry_after_ms);
                live.leaving = Some((go_away.address, not_before));
                return;
            }
            Body::Receipt(receipt) => Event::Receipt(receipt),
            Body::Contact(contact) => Event::Contact(contact),
            Body::Typing(typing) => Event::Typing(typing),
            Body::Presence(presence) => Event::Presence(presence),
            Body::Hidden(hidden) => {
                self.state.hide(&hidden);
                Event::Hidden(hidden)
            }
            Body::Notice(notice) => Event::Notice(notice),
            // An error about a frame without an id, and answers without a question: nothing to do about them.
            _ => return,
        };
        self.backlog.push_back(event);
    }

    fn give(&mut self, live: &mut Live, messages: Vec<v1::Message>) {
        for message in messages {
            if self.options.confirm_delivered && message.sender_id != live.user_id {
                live.confirm.insert(message.conversation_id, message.seq);
                live.confirm_due.get_or_insert(Instant::now() + CONFIRM_PAUSE);
            }
            self.backlog.push_back(Event::Message(message));
        }
    }
}

impl Live {
    async fn post(&mut self, purpose: Purpose, request: Request) -> Result<(), Left> {
        self.next_tag += 1;
        if !matches!(purpose, Purpose::Request(_)) {
            self.waiting_since.get_or_insert(Instant::now());
        }
        self.purposes.insert(self.next_tag, purpose);
        self.connection.post_tagged(self.next_tag, request).await.map_err(lost)
    }
}

fn lost(error: ClientError) -> Left {
    match error {
        ClientError::Closed(close) => Left::Lost(close),
        other => Left::Lost(Close::broken(other.to_string())),
    }
}

async fn attempt(
    endpoint: String,
    options: ClientOptions,
    pause: Duration,
) -> Result<(Connection, Events, v1::Welcome), ClientError> {
    sleep(pause).await;
    let (connection, events) = Connection::connect(&endpoint, &options.connection).await?;
    let welcome = connection.hello(&options.token).await?;
    Ok((connection, events, welcome))
}

/// The pause after `rounds` vain rounds over all endpoints: doubled each round, and spread, so that clients of a node
/// that died do not come back at one moment.
fn reconnect_pause(rounds: usize) -> Duration {
    if rounds == 0 {
        return Duration::ZERO;
    }
    let doubled = RECONNECT_MIN * (1 << (rounds - 1).min(8));
    doubled.min(RECONNECT_MAX).mul_f64(rand::random_range(0.5..1.0))
}

/// Moves one event to the application; when it doesn't listen any more, all are thrown away.
fn hand_out(
    permit: Result<mpsc::Permit<'_, Event>, mpsc::error::SendError<()>>,
    backlog: &mut VecDeque<Event>,
) {
    match (permit, backlog.pop_front()) {
        (Ok(permit), Some(event)) => permit.send(event),
        _ => backlog.clear(),
    }
}

/// Our own message as the log has it; the session that sent it gets no push.
fn own_message(user_id: u64, send: v1::Send, sent: &v1::Sent) -> v1::Message {
    let expires_at_ms = match send.expires_in_seconds {
        0 => 0,
        seconds => sent.created_at_ms.saturating_add(seconds.saturating_mul(1000)),
    };
    let marks = v1::Marks { expires_at_ms, ..v1::Marks::default() };
    v1::Message {
        marks: (expires_at_ms != 0).then(|| Box::new(marks)),
        conversation_id: sent.conversation_id,
        seq: sent.seq,
        sender_id: user_id,
        client_id: send.client_id,
        kind: send.kind,
        text: send.text,
        attachments: send.attachments,
        reply_to_seq: send.reply_to_seq,
        mentions: send.mentions,
        created_at_ms: sent.created_at_ms,
        ..v1::Message::default()
    }
}
