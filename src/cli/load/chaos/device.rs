//! A device: one signed-in client on a raw connection, which reports all it sees to the ledger.
//!
//! It repairs nothing behind the ledger's back. It does what the protocol asks of a client: pipelines sends, repeats by
//! `client_id` what has no answer or was refused for now, goes elsewhere when its node fails it, and syncs after each
//! sign-in and at each gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::ledger::{Broken, Ledger, client_id};
use crate::cli::up::Addresses;
use crate::client::connection::Incoming;
use crate::client::{ClientError, Connection, ConnectionOptions, Events, Transport};
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// How long a connection may take to be made, and to be signed in.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
const HELLO_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause before the next node is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Shortest pause before a refused send is repeated.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// Refusals in a row that make a device go elsewhere.
const REFUSALS_MAX: usize = 6;
/// Sends without an answer on one connection.
const WINDOW: usize = 64;
/// Commands that wait to be taken.
const COMMANDS_MAX: usize = 1024;
/// How often a device looks whether its node lives.
const PING_EVERY: Duration = Duration::from_millis(700);
/// After `go_away`, how long answers are awaited.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// Pause before a refused sync is repeated.
const SYNC_PAUSE: Duration = Duration::from_millis(300);
/// Tags of requests that are no sends; those have the numbers below.
const TAG_SYNC: u64 = 1 << 40;
const TAG_PING: u64 = 1 << 41;

/// Where clients find nodes, dead ones included: a client doesn't know which live.
pub type Endpoints = Arc<RwLock<Vec<Addresses>>>;

/// How a send names its conversation.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// By id.
    Conversation(u64),
    /// A direct one by its peer.
    User(u64),
}

/// Who a device is and how it behaves.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its place.
    pub at: usize,
    /// Its access token.
    pub token: String,
    /// How it connects.
    pub transport: Transport,
    /// The node that it prefers.
    pub home: usize,
    /// How long it waits for an answer before it goes elsewhere.
    pub patience: Duration,
    /// Places and conversation ids of its user's rooms.
    pub rooms: Vec<(usize, u64)>,
    /// All nodes.
    pub endpoints: Endpoints,
    /// Who is told.
    pub ledger: Arc<Ledger>,
}

/// What a device is told to do.
#[derive(Clone, Copy, Debug)]
enum Command {
    Send { number: u32, target: Target },
    GoHome,
    Sync,
}

/// A running device.
#[derive(Debug)]
pub struct Device {
    /// Its place.
    pub at: usize,
    commands: mpsc::Sender<Command>,
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Device {
    /// Starts it; it signs in by itself. It ends when `stop` is true and all its sends are answered.
    pub fn start(spec: Spec, stop: watch::Receiver<bool>) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (at, waiting) = (spec.at, Arc::default());
        let task = Task {
            turn: spec.home,
            go_to: None,
            commands: receiver,
            pending: BTreeMap::new(),
            waiting: Arc::clone(&waiting),
            stop,
            spec,
        };
        Self { at, commands, waiting, task: tokio::spawn(task.run()) }
    }

    /// Has it send the planned message. `false`: too much waits already.
    pub fn send(&self, number: u32, target: Target) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = self.commands.try_send(Command::Send { number, target }).is_ok();
        if !taken {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Sends of it that have no answer yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sends it back to the node it prefers, if it is elsewhere.
    pub fn go_home(&self) {
        // One with that much to do does not move.
        let _ = self.commands.try_send(Command::GoHome);
    }

    /// Has it sync all its rooms.
    pub fn sync(&self) {
        let _ = self.commands.try_send(Command::Sync);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) {
        // A panic is told by the ledger's missing messages; there is nothing more to do about it here.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Pending {
    target: Target,
    not_before: Instant,
}

struct Task {
    spec: Spec,
    commands: mpsc::Receiver<Command>,
    /// Not yet acknowledged, by number.
    pending: BTreeMap<u32, Pending>,
    waiting: Arc<AtomicUsize>,
    stop: watch::Receiver<bool>,
    turn: usize,
    /// Where a `go_away` sent us.
    go_to: Option<String>,
}

/// Why a connection is left.
enum Leave {
    Elsewhere,
    Done,
}

/// One connection's part.
struct Live {
    connection: Connection,
    /// Sends without an answer, and when they were posted.
    in_flight: BTreeMap<u32, Instant>,
    /// The places of each send among the posts of this connection: its first post's, and its last one's.
    places: BTreeMap<u32, (u64, u64)>,
    posts: u64,
    refusals: usize,
    /// Cursors of the sync under way.
    syncing: Option<(Instant, Vec<(usize, u64)>)>,
    /// Another sync is due, not before this.
    sync_due: Option<Instant>,
    pinged: Option<Instant>,
    next_ping: Instant,
    heard: Instant,
    leaving: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let Some((connection, mut events, node)) = self.connect().await else { return };
            self.spec.ledger.connected(self.spec.at, node);
            let now = Instant::now();
            let mut live = Live {
                connection,
                in_flight: BTreeMap::new(),
                places: BTreeMap::new(),
                posts: 0,
                refusals: 0,
                syncing: None,
                sync_due: Some(now),
                pinged: None,
                next_ping: now + PING_EVERY,
                heard: now,
                leaving: None,
            };
            let leave = self.live(&mut live, &mut events, node).await;
            let unanswered: Vec<u32> = live.in_flight.keys().copied().collect();
            self.spec.ledger.disconnected(self.spec.at, &unanswered);
            drop(events);
            match leave {
                Leave::Done => {
                    live.connection.close().await;
                    return;
                }
                Leave::Elsewhere => self.turn += 1,
            }
        }
    }

    /// Tries node after node until one signs us in; the last is its place. `None`: the run is over.
    async fn connect(&mut self) -> Option<(Connection, Events, usize)> {
        loop {
            if *self.stop.borrow() && self.pending.is_empty() {
                return None;
            }
            while let Ok(command) = self.commands.try_recv() {
                self.take_command(command);
            }
            let endpoint = self.go_to.take().unwrap_or_else(|| self.endpoint(self.turn));
            match self.sign_in(&endpoint).await {
                Ok((connection, events, welcome)) => {
                    match welcome.node.strip_prefix('n').and_then(|number| number.parse::<usize>().ok()) {
                        Some(number @ 1..) => return Some((connection, events, number - 1)),
                        _ => self.complain(format!("a welcome of a node '{}'", welcome.node)),
                    }
                }
                Err(error) if error.may_repeat() => {}
                Err(error) => {
                    self.complain(format!("device {} can't sign in at {endpoint}: {error}", self.spec.at))
                }
            }
            self.turn += 1;
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Node `turn`, counted around, at the port of our transport.
    fn endpoint(&self, turn: usize) -> String {
        let nodes = self.spec.endpoints.read();
        let node = &nodes[turn % nodes.len()];
        if self.spec.transport == Transport::Tcp { node.tcp.clone() } else { node.http.clone() }
    }

    async fn sign_in(&self, endpoint: &str) -> Result<(Connection, Events, v1::Welcome), ClientError> {
        let options = ConnectionOptions {
            transport: self.spec.transport,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: HELLO_TIMEOUT,
            // Its events are all taken at once; a fault must not hide behind a full queue.
            event_capacity: COMMANDS_MAX,
            ..ConnectionOptions::default()
        };
        let (connection, events) = Connection::connect(endpoint, &options).await?;
        let welcome = connection.hello(&self.spec.token).await?;
        Ok((connection, events, welcome))
    }

    async fn live(&mut self, live: &mut Live, events: &mut Events, node: usize) -> Leave {
        loop {
            let now = Instant::now();
            if live.leaving.is_some_and(|until| live.in_flight.is_empty() || now >= until) {
                return Leave::Elsewhere;
            }
            if *self.stop.borrow() && self.pending.is_empty() {
                return Leave::Done;
            }
            if self.node_fails_us(live, now) {
                return Leave::Elsewhere;
            }
            if live.leaving.is_none() && !self.write(live, now).await {
                return Leave::Elsewhere;
            }
            let wake = self.next_wake(live, now);
            tokio::select! {
                incoming = events.next_incoming() => {
                    live.heard = Instant::now();
                    match incoming {
                        None => return Leave::Elsewhere,
                        Some(Incoming::Event(event)) => self.take_event(live, event),
                        Some(Incoming::Answer { tag, result }) => self.take_answer(live, tag, result),
                    }
                },
                command = self.commands.recv() => match command {
                    Some(Command::Sync) => live.sync_due = Some(now),
                    Some(Command::GoHome) if live.leaving.is_none() && node != self.spec.home => {
                        live.leaving = Some(now + LEAVE_GRACE);
                        self.go_to = Some(self.endpoint(self.spec.home));
                    }
                    Some(command) => self.take_command(command),
                    // The run has dropped us.
                    None => return Leave::Done,
                },
                changed = self.stop.changed() => if changed.is_err() { return Leave::Done },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        if let Command::Send { number, target } = command {
            self.pending.insert(number, Pending { target, not_before: Instant::now() });
        }
    }

    /// Whether it is time to go elsewhere.
    fn node_fails_us(&self, live: &Live, now: Instant) -> bool {
        let patience = self.spec.patience;
        let oldest = live.in_flight.values().copied().min();
        let unanswered = [oldest, live.pinged, live.syncing.as_ref().map(|(since, _)| *since)];
        unanswered.into_iter().flatten().any(|since| now - since > patience)
            || (live.refusals >= REFUSALS_MAX && live.in_flight.is_empty())
    }

    /// Writes what is due and has room. `false`: the connection is gone.
    async fn write(&mut self, live: &mut Live, now: Instant) -> bool {
        // Never waits for room: the connection may be waiting for us to take events.
        if now >= live.next_ping && live.pinged.is_none() && live.connection.room() > 0 {
            live.next_ping = now + PING_EVERY;
            live.pinged = Some(now);
            if live.connection.post_tagged(TAG_PING, Request::Ping(v1::Ping {})).await.is_err() {
                return false;
            }
        }
        if live.syncing.is_none()
            && live.sync_due.is_some_and(|due| due <= now)
            && live.connection.room() > 0
            && !self.begin_sync(live, now).await
        {
            return false;
        }
        let due: Vec<(u32, Target)> = self
            .pending
            .iter()
            .filter(|(number, pending)| pending.not_before <= now && !live.in_flight.contains_key(number))
            .map(|(number, pending)| (*number, pending.target))
            .take(WINDOW.saturating_sub(live.in_flight.len()))
            .collect();
        for (number, target) in due {
            if live.connection.room() == 0 {
                break;
            }
            self.spec.ledger.posted(self.spec.at, number);
            let send = send_to(target, &client_id(self.spec.at, number));
            if live.connection.post_tagged(u64::from(number), Request::Send(send)).await.is_err() {
                return false;
            }
            live.in_flight.insert(number, now);
            live.places.entry(number).or_insert((live.posts, live.posts)).1 = live.posts;
            live.posts += 1;
        }
        true
    }

    async fn begin_sync(&self, live: &mut Live, now: Instant) -> bool {
        let rooms: Vec<usize> = self.spec.rooms.iter().map(|(room, _)| *room).collect();
        let cursors = self.spec.ledger.cursors(self.spec.at, &rooms);
        let cursor = |((_, id), (_, seq)): (&(usize, u64), &(usize, u64))| v1::Cursor {
            conversation_id: *id,
            seq: *seq,
        };
        let request = v1::SyncRequest {
            cursors: self.spec.rooms.iter().zip(&cursors).map(cursor).collect(),
            ..v1::SyncRequest::default()
        };
        live.sync_due = None;
        live.syncing = Some((now, cursors));
        live.connection.post_tagged(TAG_SYNC, Request::Sync(request)).await.is_ok()
    }

    fn next_wake(&self, live: &Live, now: Instant) -> Instant {
        let mut wake = live.next_ping.max(now + Duration::from_millis(5)).min(now + PING_EVERY);
        if live.syncing.is_none()
            && let Some(due) = live.sync_due
        {
            wake = wake.min(due.max(now + Duration::from_millis(2)));
        }
        let waits = self.pending.iter().filter(|(number, _)| !live.in_flight.contains_key(number));
        if let Some(first) = waits.map(|(_, pending)| pending.not_before).min() {
            // Due already, and so held back by a full window or connection.
            wake = wake.min(first.max(now + Duration::from_millis(2)));
        }
        live.leaving.map_or(wake, |until| wake.min(until))
    }

    fn take_event(&mut self, live: &mut Live, event: Body) {
        match event {
            Body::Message(message) => {
                let lacks = self.spec.ledger.pushed(self.spec.at, &message);
                if lacks && live.sync_due.is_none() {
                    live.sync_due = Some(Instant::now());
                }
            }
            Body::GoAway(go_away) => {
                live.leaving = Some(Instant::now() + LEAVE_GRACE);
                self.go_to = Some(go_away.address).filter(|address| !address.is_empty());
            }
            _ => {}
        }
    }

    fn take_answer(&mut self, live: &mut Live, tag: u64, result: Result<Body, ClientError>) {
        match tag {
            TAG_PING => live.pinged = None,
            TAG_SYNC => self.take_sync(live, result),
            number => {
                // The tags below are the numbers of sends.
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                live.in_flight.remove(&number);
                match result {
                    Ok(Body::Sent(sent)) => {
                        live.refusals = 0;
                        let places = live.places.remove(&number).unwrap_or_default();
                        self.spec.ledger.acked(self.spec.at, number, places, &sent);
                        if self.pending.remove(&number).is_some() {
                            self.waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    Ok(other) => self.complain(format!("a send was answered with {other:?}")),
                    Err(error) => {
                        live.refusals += 1;
                        self.spec.ledger.refused(self.spec.at, number, &error);
                        let pause = Duration::from_millis(error.retry_after_ms()).max(REFUSED_PAUSE);
                        if let Some(pending) = self.pending.get_mut(&number) {
                            pending.not_before = Instant::now() + pause;
                        }
                    }
                }
            }
        }
    }

    fn take_sync(&mut self, live: &mut Live, result: Result<Body, ClientError>) {
        let Some((_, cursors)) = live.syncing.take() else { return };
        match result {
            Ok(Body::SyncPage(page)) => {
                let new = self.spec.ledger.synced(self.spec.at, &cursors, &page.messages);
                if page.more && page.messages.is_empty() {
                    self.complain("an empty sync page says that there is more".to_owned());
                } else if page.more {
                    // What came live meanwhile may have made all of a page old; that is not the end.
                    let pause = if new == 0 { SYNC_PAUSE } else { Duration::ZERO };
                    live.sync_due = Some(Instant::now() + pause);
                }
            }
            Ok(other) => self.complain(format!("a sync was answered with {other:?}")),
            Err(error) => {
                let pause = Duration::from_millis(error.retry_after_ms()).max(SYNC_PAUSE);
                live.sync_due = Some(Instant::now() + pause);
                if !error.may_repeat() {
                    self.complain(format!("a sync was refused for good: {error}"));
                }
            }
        }
    }

    fn complain(&self, text: String) {
        self.spec.ledger.broken(Broken::Protocol, text);
    }
}

fn send_to(target: Target, client_id: &str) -> v1::Send {
    let (conversation_id, to_user_id) = match target {
        Target::Conversation(id) => (id, 0),
        Target::User(id) => (0, id),
    };
    let (client_id, text) = (client_id.to_owned(), format!("text of {client_id}"));
    v1::Send { conversation_id, to_user_id, client_id, text, ..v1::Send::default() }
}
