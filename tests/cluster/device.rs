//! A plain client of the tests: one device on a raw connection, which reports all it sees to the checker.
//!
//! It repairs nothing and hides nothing: what the server pushes is recorded as it comes. All it adds is what the protocol
//! asks of a client: a send without a final answer is repeated with its client_id, through another node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rookery::cli::up::Addresses;
use rookery::client::connection::Incoming;
use rookery::client::{ClientError, Connection, ConnectionOptions, Events, Transport};
use rookery::protocol::v1::{self, client_frame::Request, server_frame::Body};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::checker::{Checker, ConnectionId, Target};

/// A send without an answer for this long is repeated elsewhere.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);
/// Pause before the next node is tried, when one can't be reached or refuses for now.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Sends that wait to be taken by the device.
const COMMANDS_MAX: usize = 64;

/// Where clients find nodes, dead ones included: a client doesn't know which live.
#[derive(Clone, Default)]
pub struct Endpoints(Arc<Mutex<Vec<Addresses>>>);

impl Endpoints {
    /// Adds a node.
    pub fn add(&self, node: &Addresses) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(node.clone());
    }

    /// Node `turn`, counted around, at the port of this transport.
    pub fn get(&self, turn: usize, transport: Transport) -> String {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = &nodes[turn % nodes.len()];
        if transport == Transport::Tcp { node.tcp.clone() } else { node.http.clone() }
    }
}

/// What happened to all devices of a test together.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Sends refused for now.
    pub refused: AtomicUsize,
    /// Sends that lost their connection, or got no answer.
    pub unanswered: AtomicUsize,
    /// `go_away` events.
    pub go_aways: AtomicUsize,
    /// `go_away` events that named a node.
    pub named_nodes: AtomicUsize,
    /// How often each refusal was given.
    pub reasons: Mutex<BTreeMap<String, usize>>,
}

/// How a device connects.
#[derive(Clone)]
pub struct DeviceSpec {
    /// Who.
    pub user_id: u64,
    /// The access token.
    pub token: String,
    /// By what.
    pub transport: Transport,
    /// The node tried first.
    pub home: usize,
    /// All nodes.
    pub endpoints: Endpoints,
    /// Who is told.
    pub checker: Arc<Checker>,
    /// Who counts.
    pub troubles: Arc<Troubles>,
}

/// A running device. It ends, once all its sends are acknowledged, with [`Device::stop`].
pub struct Device {
    /// Whose it is.
    pub user_id: u64,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

struct Command {
    target: Target,
    client_id: String,
    text: String,
    done: oneshot::Sender<v1::Sent>,
}

impl Device {
    /// Connects, and returns when it has signed in.
    pub async fn start(spec: DeviceSpec) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (ready_sender, ready) = oneshot::channel();
        let user_id = spec.user_id;
        let task = tokio::spawn(
            Task {
                turn: spec.home,
                go_to: None,
                spec,
                commands: receiver,
                pending: BTreeMap::new(),
                next_tag: 1,
            }
            .run(ready_sender),
        );
        ready.await.expect("the device signs in");
        Self { user_id, commands, task }
    }

    /// Sends until acknowledged. Sends of one device leave in the order of these calls.
    pub async fn send(&self, target: Target, client_id: &str, text: &str) -> v1::Sent {
        let (done, sent) = oneshot::channel();
        let command = Command { target, client_id: client_id.to_owned(), text: text.to_owned(), done };
        assert!(self.commands.send(command).await.is_ok(), "the device runs");
        sent.await.expect("the device runs until its sends are acknowledged")
    }

    /// Ends the connection when all is acknowledged.
    pub async fn stop(self) {
        drop(self.commands);
        self.task.await.expect("the device ended in good order");
    }
}

struct Task {
    spec: DeviceSpec,
    commands: mpsc::Receiver<Command>,
    /// Not yet acknowledged, in the order of the calls.
    pending: BTreeMap<u64, Command>,
    next_tag: u64,
    turn: usize,
    /// Where a `go_away` sent us.
    go_to: Option<String>,
}

/// Why a connection is left.
enum Leave {
    /// For another node.
    Elsewhere,
    /// The test is over.
    Done,
}

impl Task {
    async fn run(mut self, ready: oneshot::Sender<()>) {
        let mut ready = Some(ready);
        loop {
            let (connection, mut events, id) = self.connect().await;
            if let Some(ready) = ready.take() {
                // Whoever started it may have given up.
                let _ = ready.send(());
            }
            match self.live(&connection, &mut events, id).await {
                Leave::Done => {
                    drop(events);
                    connection.close().await;
                    return;
                }
                Leave::Elsewhere => self.turn += 1,
            }
        }
    }

    /// Tries node after node until one signs us in.
    async fn connect(&mut self) -> (Connection, Events, ConnectionId) {
        loop {
            let endpoint = match self.go_to.take() {
                Some(address) => address,
                None => self.spec.endpoints.get(self.turn, self.spec.transport),
            };
            match sign_in(&endpoint, self.spec.transport, &self.spec.token).await {
                Ok((connection, events, welcome)) => {
                    let label = format!("{:?} at {}", self.spec.transport, welcome.node);
                    let id = self.spec.checker.connected(self.spec.user_id, label);
                    return (connection, events, id);
                }
                Err(error) if error.may_repeat() => {}
                Err(error) => {
                    let user_id = self.spec.user_id;
                    self.spec
                        .checker
                        .complain(format!("user {user_id} can't sign in at {endpoint}: {error}"));
                }
            }
            self.turn += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn live(&mut self, connection: &Connection, events: &mut Events, id: ConnectionId) -> Leave {
        let mut in_flight: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut unsent: Vec<u64> = self.pending.keys().rev().copied().collect();
        let (mut going_away, mut over) = (false, false);
        loop {
            if going_away && in_flight.is_empty() {
                return Leave::Elsewhere;
            }
            if over && self.pending.is_empty() {
                return Leave::Done;
            }
            // Not while the connection has no room: it may be waiting for us to take events.
            while !going_away && connection.room() > 0 {
                let Some(tag) = unsent.pop() else { break };
                let request = self.request_of(tag);
                if connection.post_tagged(tag, request).await.is_err() {
                    return self.lost(&in_flight);
                }
                in_flight.insert(tag, Instant::now() + ANSWER_TIMEOUT);
            }
            let deadline = in_flight.values().min().copied();
            tokio::select! {
                incoming = events.next_incoming() => match incoming {
                    None => return self.lost(&in_flight),
                    Some(Incoming::Event(Body::Message(message))) => self.spec.checker.pushed(id, &message),
                    Some(Incoming::Event(Body::GoAway(go_away))) => {
                        self.spec.troubles.go_aways.fetch_add(1, Ordering::Relaxed);
                        if !go_away.address.is_empty() {
                            self.spec.troubles.named_nodes.fetch_add(1, Ordering::Relaxed);
                            self.go_to = Some(go_away.address);
                        }
                        going_away = true;
                    }
                    Some(Incoming::Event(_)) => {}
                    Some(Incoming::Answer { tag, result }) => {
                        in_flight.remove(&tag);
                        if self.answered(id, tag, result) {
                            continue;
                        }
                        return self.lost(&in_flight);
                    }
                },
                command = self.commands.recv(), if !going_away && !over && unsent.is_empty() => match command {
                    None => over = true,
                    Some(command) => {
                        self.pending.insert(self.next_tag, command);
                        unsent.push(self.next_tag);
                        self.next_tag += 1;
                    }
                },
                () = until(deadline) => return self.lost(&in_flight),
            }
        }
    }

    fn request_of(&self, tag: u64) -> Request {
        let Command { target, client_id, text, .. } = &self.pending[&tag];
        self.spec.checker.attempt(self.spec.user_id, *target, client_id, text);
        Request::Send(send_to(*target, client_id, text))
    }

    /// Takes the answer to a send; `false`: it was refused for now, and another node is to be tried.
    fn answered(&mut self, id: ConnectionId, tag: u64, result: Result<Body, ClientError>) -> bool {
        let user_id = self.spec.user_id;
        match result {
            Ok(Body::Sent(sent)) => {
                let command = self.pending.remove(&tag).expect("each request is answered once");
                if sent.client_id != command.client_id {
                    let complaint = format!(
                        "the send '{}' of user {user_id} was answered as '{}'",
                        command.client_id, sent.client_id
                    );
                    self.spec.checker.complain(complaint);
                }
                self.spec.checker.acked(Some(id), user_id, command.target, &sent);
                // The test may not want to know.
                let _ = command.done.send(sent);
                true
            }
            Ok(other) => {
                self.spec.checker.complain(format!("a send of user {user_id} was answered with {other:?}"));
                true
            }
            Err(error) => {
                self.spec.troubles.refused.fetch_add(1, Ordering::Relaxed);
                let mut reasons = self.spec.troubles.reasons.lock().unwrap_or_else(PoisonError::into_inner);
                *reasons.entry(error.to_string()).or_default() += 1;
                drop(reasons);
                if !error.may_repeat() {
                    self.spec.checker.complain(format!("a send of user {user_id} was refused: {error}"));
                }
                false
            }
        }
    }

    fn lost(&self, in_flight: &BTreeMap<u64, Instant>) -> Leave {
        self.spec.troubles.unanswered.fetch_add(in_flight.len(), Ordering::Relaxed);
        Leave::Elsewhere
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The frame of a send.
pub fn send_to(target: Target, client_id: &str, text: &str) -> v1::Send {
    let (conversation_id, to_user_id) = match target {
        Target::Conversation(id) => (id, 0),
        Target::User(id) => (0, id),
    };
    let (client_id, text) = (client_id.to_owned(), text.to_owned());
    v1::Send { conversation_id, to_user_id, client_id, text, ..v1::Send::default() }
}

/// A signed-in raw connection.
pub async fn sign_in(
    endpoint: &str,
    transport: Transport,
    token: &str,
) -> Result<(Connection, Events, v1::Welcome), ClientError> {
    let options = ConnectionOptions { transport, ..ConnectionOptions::default() };
    let (connection, events) = Connection::connect(endpoint, &options).await?;
    let welcome = connection.hello(token).await?;
    Ok((connection, events, welcome))
}

/// All that a device gets by sync from 0, over a connection of its own, told to the checker.
pub async fn sync_from_zero(
    endpoint: &str,
    transport: Transport,
    token: &str,
    checker: &Checker,
) -> Result<usize, ClientError> {
    let (connection, events, welcome) = sign_in(endpoint, transport, token).await?;
    // Nothing is sent any more; what may still come live is no part of sync.
    drop(events);
    let mut cursors: BTreeMap<u64, u64> = BTreeMap::new();
    let mut page = String::new();
    loop {
        let answer = connection.sync(v1::SyncRequest { page, ..v1::SyncRequest::default() }).await?;
        cursors.extend(answer.conversations.iter().map(|c| (c.conversation_id, 0)));
        page = answer.next_page;
        if page.is_empty() {
            break;
        }
    }
    let mut logs: BTreeMap<u64, Vec<v1::Message>> = cursors.keys().map(|id| (*id, Vec::new())).collect();
    let mut more = !cursors.is_empty();
    while more {
        let cursor = |(id, seq): (&u64, &u64)| v1::Cursor { conversation_id: *id, seq: *seq };
        let request =
            v1::SyncRequest { cursors: cursors.iter().map(cursor).collect(), ..v1::SyncRequest::default() };
        let answer = connection.sync(request).await?;
        for message in &answer.messages {
            let cursor = cursors.entry(message.conversation_id).or_default();
            *cursor = message.seq.max(*cursor);
            logs.entry(message.conversation_id).or_default().push(message.clone());
        }
        if answer.more && answer.messages.is_empty() {
            return Err(ClientError::Protocol("an empty sync page says more".to_owned()));
        }
        more = answer.more;
    }
    let count = logs.values().map(Vec::len).sum();
    for (conversation_id, messages) in &logs {
        checker.synced(welcome.user_id, *conversation_id, messages);
    }
    connection.close().await;
    Ok(count)
}
