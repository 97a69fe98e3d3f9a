//! A user's device: connects to any node, sends, confirms, loses its connection, comes back elsewhere, syncs, and
//! repeats what was not answered. What it has been given it keeps for the judgement at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery::actors::session::{Socket, Transport};
use rookery::client::Start;
use rookery::client::state::SyncState;
use rookery::domain::Error as DomainError;
use rookery::gateway::connection::{Credentials, LiveSession, Peer};
use rookery::protocol::ErrorCode;
use rookery::protocol::codec::{Format, decode_server};
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{ClientFrame, Cursor, Edit, Error, Message, Recall, Send, Sent};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use crate::node::Node;
use crate::rng::Rng;
use crate::world::{Phase, World};

/// What the conductor may ask of a device.
#[derive(Debug)]
pub enum Command {
    /// Send to a conversation, under this name.
    Send(u64, String),
    /// Read all that is there.
    ReadAll,
    /// Disconnect for good.
    Leave,
}

/// What others may see of a device.
#[derive(Default)]
pub struct Seen {
    /// The node and the session, while it is connected.
    pub connected: Option<(usize, u64)>,
    /// Sends without a last word.
    pub unanswered: usize,
    /// Nothing is known to be missing.
    pub synced: bool,
    /// What the user was given, by conversation and seq.
    pub given: BTreeMap<u64, BTreeMap<u64, String>>,
    /// What was pushed, by conversation and `client_id`.
    pub pushed: BTreeSet<(u64, String)>,
    /// Reads that were confirmed, by conversation.
    pub read: BTreeMap<u64, u64>,
}

/// A device as the conductor holds it.
pub struct Handle {
    pub user_id: u64,
    pub seen: Arc<Mutex<Seen>>,
    pub commands: mpsc::UnboundedSender<Command>,
}

/// Where a send goes.
#[derive(Clone, Copy, Debug)]
enum Goal {
    Conversation(u64),
    User(u64),
}

/// What an entry is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Say,
    /// Of the message with this seq.
    Edit(u64),
    Recall(u64),
}

struct Outgoing {
    goal: Goal,
    what: What,
    client_id: String,
    /// On this connection, and not answered yet.
    posted: bool,
    due: Instant,
}

/// What an answer is awaited for.
enum Purpose {
    Sync,
    Send(String),
    Read(u64, u64),
}

pub struct Device {
    world: Arc<World>,
    user_id: u64,
    label: String,
    token: String,
    rng: Rng,
    commands: mpsc::UnboundedReceiver<Command>,
    seen: Arc<Mutex<Seen>>,
    sends: u64,
    outgoing: VecDeque<Outgoing>,
    sync: SyncState,
    leaving: bool,
}

/// One connection of a device.
struct Live {
    session: LiveSession,
    number: u64,
    requests: u64,
    sends: u64,
    purposes: BTreeMap<u64, Purpose>,
    sync_due: Instant,
    hints_due: Option<Instant>,
    gone_at: Option<Instant>,
    next_act: Instant,
}

/// How long after a conversation's event its message may still be on its way.
const HINT_GRACE: Duration = Duration::from_millis(500);
/// Pause after a sync that brought nothing forward.
const STALL_PAUSE: Duration = Duration::from_millis(300);

impl Device {
    pub fn start(world: &Arc<World>, user_id: u64, label: String, token: String) -> Handle {
        let (commands, receiver) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let device = Self {
            world: world.clone(),
            user_id,
            label,
            token,
            rng: world.rng.lock().fork(),
            commands: receiver,
            seen: seen.clone(),
            sends: 0,
            outgoing: VecDeque::new(),
            sync: SyncState::new(Start::Beginning),
            leaving: false,
        };
        tokio::spawn(device.run());
        Handle { user_id, seen, commands }
    }

    async fn run(mut self) {
        while !self.leaving {
            sleep(Duration::from_millis(self.rng.range(5, 250))).await;
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            let nodes = self.world.open_nodes();
            if let Some(node) = self.rng.pick(&nodes).cloned() {
                self.connect(node).await;
            }
        }
    }

    /// A whole connection.
    async fn connect(&mut self, node: Arc<Node>) {
        let (wake, cut) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (waker, cutter) = (wake.clone(), cut.clone());
        let socket = Socket {
            wake: Box::new(move |_| waker.notify_one()),
            cut: Box::new(move || cutter.notify_one()),
        };
        let peer = Peer { transport: Transport::Tcp, format: Format::Proto, address: self.label.clone() };
        let sign_in = node.edge.sign_in(1, Credentials::Token(self.token.clone()), peer, socket);
        let session = tokio::select! {
            biased;
            () = node.life.end() => return,
            opened = sign_in => match opened {
                Ok(session) => session,
                Err(error) => {
                    self.world.trace.note(format_args!("{} is not let in by n{}: {}", self.label, node.index, code(&error)));
                    return;
                }
            },
        };
        let number = self.world.oracle.connection();
        let id = session.id();
        self.world.trace.note(format_args!("{} is c{number} on n{}, session {id}", self.label, node.index));
        {
            let mut seen = self.seen.lock();
            seen.connected = Some((node.index, session.id()));
            seen.synced = false;
        }
        self.sync.connected();
        for outgoing in &mut self.outgoing {
            (outgoing.posted, outgoing.due) = (false, Instant::now());
        }
        let now = Instant::now();
        let mut live = Live {
            session,
            number,
            requests: 1,
            sends: 0,
            purposes: BTreeMap::new(),
            sync_due: now,
            hints_due: None,
            gone_at: None,
            next_act: now + Duration::from_millis(self.rng.range(1, 400)),
        };
        let why = self.talk(&node, &mut live, &wake, &cut).await;
        self.seen.lock().connected = None;
        self.world.trace.note(format_args!("{} loses c{number}: {why}", self.label));
        // Dropping it closes the session, unless there is nobody to close it any more.
    }

    async fn talk(&mut self, node: &Arc<Node>, live: &mut Live, wake: &Notify, cut: &Notify) -> &'static str {
        loop {
            self.work(live);
            if self.leaving || live.gone_at.is_some_and(|at| Instant::now() >= at) {
                return "it goes";
            }
            let next = [Some(live.next_act), live.hints_due, live.gone_at, Some(self.next_due(live))];
            let next = next.into_iter().flatten().min().unwrap_or(live.next_act);
            tokio::select! {
                biased;
                () = node.life.end() => return "the node is gone",
                () = cut.notified() => return "it is cut",
                () = wake.notified() => {
                    sleep(Duration::from_millis(self.rng.range(0, 2))).await;
                    if node.life.is_over() {
                        return "the node is gone";
                    }
                    if self.drain(live) {
                        return "it is closed";
                    }
                }
                command = self.commands.recv() => if let Some(command) = command {
                    self.obey(command);
                    if let Phase::Calm = self.world.phase() {
                        self.read_if_asked(live);
                    }
                },
                () = sleep_until(next) => {
                    if Instant::now() >= live.next_act {
                        live.next_act = Instant::now() + Duration::from_millis(self.rng.range(40, 2000));
                        if self.world.phase() == Phase::Wild && self.act(node, live) {
                            return "it drops the connection";
                        }
                    }
                }
            }
        }
    }

    fn next_due(&self, live: &Live) -> Instant {
        let far = Instant::now() + Duration::from_secs(1);
        let sends = self.outgoing.iter().filter(|outgoing| !outgoing.posted).map(|outgoing| outgoing.due);
        let sync = (live.sync_due > Instant::now()).then_some(live.sync_due);
        sends.chain(sync).min().unwrap_or(far).max(Instant::now() + Duration::from_millis(1))
    }

    /// Does what is due: hints, syncs and sends.
    fn work(&mut self, live: &mut Live) {
        let now = Instant::now();
        if live.hints_due.is_some_and(|due| now >= due) {
            live.hints_due = None;
            self.sync.confirm_hints();
        }
        if now >= live.sync_due
            && let Some(request) = self.sync.next_request()
        {
            self.post(live, Some(Purpose::Sync), Request::Sync(request));
        }
        if live.gone_at.is_none() {
            self.post_sends(live, now);
        }
        let mut seen = self.seen.lock();
        seen.synced = self.sync.is_synced();
        seen.unanswered = self.outgoing.len();
    }

    fn post_sends(&mut self, live: &mut Live, now: Instant) {
        let mut due = Vec::new();
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| !outgoing.posted && outgoing.due <= now) {
            outgoing.posted = true;
            due.push((outgoing.goal, outgoing.what, outgoing.client_id.clone()));
        }
        for (goal, what, client_id) in due {
            live.sends += 1;
            let text = text_of(what, &client_id);
            let says = what == What::Say;
            self.world.oracle.sending(self.user_id, &client_id, &text, says, live.number, live.sends);
            let (conversation_id, to_user_id) = match goal {
                Goal::Conversation(id) => (id, 0),
                Goal::User(id) => (0, id),
            };
            let purpose = Some(Purpose::Send(client_id.clone()));
            let request = match what {
                What::Say => {
                    Request::Send(Send { conversation_id, to_user_id, client_id, text, ..Send::default() })
                }
                What::Edit(target_seq) => {
                    Request::Edit(Edit { conversation_id, target_seq, client_id, text })
                }
                What::Recall(target_seq) => {
                    Request::Recall(Recall { conversation_id, target_seq, client_id })
                }
            };
            self.post(live, purpose, request);
        }
    }

    fn post(&mut self, live: &mut Live, purpose: Option<Purpose>, request: Request) {
        let mut id = 0;
        if let Some(purpose) = purpose {
            live.requests += 1;
            id = live.requests;
            live.purposes.insert(id, purpose);
        }
        // The simulated devices never have more under way than a session takes.
        live.session.receive(ClientFrame { id, request: Some(request) });
    }

    /// Something that a user does. True: the connection is dropped.
    fn act(&mut self, node: &Arc<Node>, live: &mut Live) -> bool {
        match self.rng.range(0, 99) {
            0..60 => {
                let mut goal = self.choose_goal();
                for _ in 0..self.rng.range(1, 5) {
                    if self.rng.chance(20) {
                        goal = self.choose_goal();
                    }
                    if let Some(goal) = goal {
                        self.queue(goal);
                    }
                }
            }
            60..70 => self.read_one(live),
            70..75 => self.change_some(),
            75..82 => return true,
            82..90 => self.change_group(node),
            _ => {}
        }
        false
    }

    fn choose_goal(&mut self) -> Option<Goal> {
        if self.rng.chance(20) {
            let others: Vec<u64> =
                self.world.users().into_iter().filter(|user_id| *user_id != self.user_id).collect();
            return self.rng.pick(&others).map(|user_id| Goal::User(*user_id));
        }
        let groups = self.world.groups();
        self.rng.pick(&groups).map(|id| Goal::Conversation(*id))
    }

    fn queue(&mut self, goal: Goal) {
        self.queue_as(goal, What::Say);
    }

    fn queue_as(&mut self, goal: Goal, what: What) {
        self.sends += 1;
        let client_id = format!("{}-{}", self.label, self.sends);
        self.outgoing.push_back(Outgoing { goal, what, client_id, posted: false, due: Instant::now() });
    }

    /// Edits some messages of the user's own, or takes them back, without waiting for one before the next. Other devices of
    /// the user do the same to the same ones.
    fn change_some(&mut self) {
        let own: Vec<(u64, u64)> = {
            let seen = self.seen.lock();
            let all = seen.given.iter().flat_map(|(id, given)| given.iter().map(move |entry| (id, entry)));
            let mine = |client_id: &str| self.world.oracle.is_said_by(self.user_id, client_id);
            all.filter(|(_, (_, client_id))| mine(client_id)).map(|(id, (seq, _))| (*id, *seq)).collect()
        };
        for _ in 0..self.rng.range(1, 4) {
            // Late ones, so that several meet.
            let from = own.len().saturating_sub(4);
            let Some((id, seq)) = self.rng.pick(&own[from..]).copied() else { return };
            let what = if self.rng.chance(25) { What::Recall(seq) } else { What::Edit(seq) };
            self.queue_as(Goal::Conversation(id), what);
        }
    }

    fn read_one(&mut self, live: &mut Live) {
        let known: Vec<u64> = self.seen.lock().given.keys().copied().collect();
        if let Some(id) = self.rng.pick(&known).copied() {
            self.read(live, id);
        }
    }

    fn read(&mut self, live: &mut Live, conversation_id: u64) {
        let Some(seq) = self.sync.cursor(conversation_id).filter(|seq| *seq > 0) else { return };
        let read = Request::Read(Cursor { conversation_id, seq });
        self.post(live, Some(Purpose::Read(conversation_id, seq)), read);
    }

    fn change_group(&mut self, node: &Arc<Node>) {
        let groups = self.world.groups();
        let Some(group) = self.rng.pick(&groups).copied() else { return };
        let users = self.world.users();
        let other = self.rng.pick(&users).copied().unwrap_or(self.user_id);
        let what = self.rng.range(0, 9);
        let (world, by, services) = (self.world.clone(), self.user_id, node.edge.services.clone());
        tokio::spawn(async move {
            let (name, outcome) = match what {
                0..5 => ("adds", services.conversations.add_members(by, group, vec![other]).await),
                5..8 => ("joins", services.groups.join(by, group, String::new()).await.map(|_| ())),
                _ => ("leaves", services.conversations.leave(by, group).await),
            };
            let outcome = outcome.map_or_else(|error| code(&error), |()| "ok".to_owned());
            world.trace.note(format_args!("u{by} {name} (u{other}) in {group}: {outcome}"));
        });
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Send(conversation_id, client_id) => {
                let goal = Goal::Conversation(conversation_id);
                let what = What::Say;
                self.outgoing.push_back(Outgoing {
                    goal,
                    what,
                    client_id,
                    posted: false,
                    due: Instant::now(),
                });
                self.seen.lock().unanswered = self.outgoing.len();
            }
            Command::ReadAll => self.world.trace.note(format_args!("{} reads all", self.label)),
            Command::Leave => self.leaving = true,
        }
    }

    /// At the end everything is read, as often as it takes.
    fn read_if_asked(&mut self, live: &mut Live) {
        for id in self.world.memberships(self.user_id) {
            self.read(live, id);
        }
    }

    /// Takes what the session has for its socket. True: it closes.
    fn drain(&mut self, live: &mut Live) -> bool {
        loop {
            let drained = live.session.outbox().drain(64 * 1024);
            for frame in drained.frames {
                let frame = decode_server(&frame.bytes, Format::Proto).expect("the server writes frames");
                if let Some(body) = frame.body {
                    self.take(live, frame.reply_to, body);
                }
            }
            if drained.close.is_some() {
                return true;
            }
            if !drained.more {
                return false;
            }
        }
    }

    fn take(&mut self, live: &mut Live, reply_to: u64, body: Body) {
        match body {
            Body::Message(message) => {
                self.world.oracle.pushed(live.number, &message);
                self.seen.lock().pushed.insert((message.conversation_id, message.client_id.clone()));
                let messages = self.sync.live(message);
                self.give(live, messages);
            }
            Body::Conversation(conversation) => {
                let messages = self.sync.conversation(&conversation);
                self.give(live, messages);
                live.hints_due.get_or_insert(Instant::now() + HINT_GRACE);
            }
            Body::GoAway(_) => {
                live.gone_at = Some(Instant::now() + Duration::from_millis(self.rng.range(50, 2500)));
            }
            body => match (live.purposes.remove(&reply_to), body) {
                (Some(Purpose::Send(client_id)), Body::Sent(sent)) => self.sent(live, &client_id, sent),
                (Some(Purpose::Send(client_id)), Body::Error(error)) => self.unsent(&client_id, &error),
                (Some(Purpose::Sync), Body::SyncPage(page)) => {
                    let outcome = self.sync.page(page);
                    self.give(live, outcome.messages);
                    self.pause_sync(live);
                }
                (Some(Purpose::Sync), _) => {
                    self.sync.refused();
                    self.pause_sync(live);
                }
                (Some(Purpose::Read(conversation_id, seq)), Body::Ok(_)) => {
                    self.world.trace.note(format_args!("{} has read {conversation_id}/{seq}", self.label));
                    let mut seen = self.seen.lock();
                    let read = seen.read.entry(conversation_id).or_default();
                    *read = seq.max(*read);
                }
                _ => {}
            },
        }
    }

    fn pause_sync(&self, live: &mut Live) {
        if self.sync.stalls() > 0 {
            live.sync_due = Instant::now() + STALL_PAUSE;
        }
    }

    fn sent(&mut self, live: &mut Live, client_id: &str, sent: Sent) {
        let what = self.outgoing.iter().find(|outgoing| outgoing.client_id == client_id);
        let what = what.map_or(What::Say, |outgoing| outgoing.what);
        self.outgoing.retain(|outgoing| outgoing.client_id != client_id);
        self.world.oracle.acknowledged(
            self.user_id,
            live.number,
            sent.conversation_id,
            sent.seq,
            client_id,
            sent.duplicate,
        );
        let message = Message {
            conversation_id: sent.conversation_id,
            seq: sent.seq,
            sender_id: self.user_id,
            client_id: client_id.to_owned(),
            text: text_of(what, client_id),
            created_at_ms: sent.created_at_ms,
            ..Message::default()
        };
        let messages = self.sync.live(message);
        self.give(live, messages);
    }

    fn unsent(&mut self, client_id: &str, error: &Error) {
        let may_be_stored = matches!(
            error.code(),
            ErrorCode::Unavailable | ErrorCode::DeadlineExceeded | ErrorCode::Internal
        );
        if may_be_stored || error.code() == ErrorCode::ResourceExhausted {
            let why = &error.message;
            self.world.trace.note(format_args!("{} is told to repeat {client_id}: {why}", self.label));
            self.world.oracle.told_to_repeat(self.user_id, client_id, may_be_stored);
            let due = Instant::now() + Duration::from_millis(self.rng.range(20, 800));
            for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.client_id == client_id) {
                (outgoing.posted, outgoing.due) = (false, due);
            }
        } else {
            self.outgoing.retain(|outgoing| outgoing.client_id != client_id);
            self.world.oracle.refused(self.user_id, client_id, error.code().as_str_name());
        }
    }

    /// The user is given messages.
    fn give(&mut self, live: &mut Live, messages: Vec<Message>) {
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for message in messages {
            self.world.oracle.shown(&message);
            let mut seen = self.seen.lock();
            let given = seen.given.entry(message.conversation_id).or_default();
            let before = given.last_key_value().map_or(0, |(seq, _)| *seq);
            if message.seq <= before {
                self.world.trace.violated(format_args!(
                    "a device is given a conversation in order and nothing twice: {} gets {}/{} after {before}",
                    self.label, message.conversation_id, message.seq
                ));
            }
            given.insert(message.seq, message.client_id);
            newest.insert(message.conversation_id, message.seq);
        }
        for (conversation_id, seq) in newest {
            if self.rng.chance(50) {
                self.post(live, None, Request::Delivered(Cursor { conversation_id, seq }));
            }
        }
    }
}

/// Each send's text tells which it is.
fn text(client_id: &str) -> String {
    format!("the text of {client_id}")
}

/// What an entry says.
fn text_of(what: What, client_id: &str) -> String {
    if let What::Recall(_) = what { String::new() } else { text(client_id) }
}

fn code(error: &DomainError) -> String {
    format!("{:?}", error.code)
}
