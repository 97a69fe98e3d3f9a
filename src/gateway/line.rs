//! TCP lines: one task a connection, which reads commands one by one, answers each, and writes live lines between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Edge;
use super::connection::{LiveSession, Peer};
use super::error::error_line;
use super::home::waker;
use super::listener::{Accepted, Bound, Stopping, linger, start as listen, stopped};
use crate::actors::session::{Socket, Transport};
use crate::domain::ranges::SeqRanges;
use crate::domain::{Error, Result};
use crate::protocol::codec::Format;
use crate::protocol::line::{self, Command, msg_id};
use crate::protocol::{ErrorCode, JoinPolicy, v1};
use crate::services::Identity;
use crate::services::conversations::GroupRequest;
use reader::{LineReader, Read};

mod reader;

/// A person types more slowly than a program says hello: a line connection has this many times `gateway.hello_timeout`.
const SIGN_IN_FACTOR: u32 = 30;
/// Wrong passwords in a row that end a connection.
const WRONG_PASSWORDS_MAX: u32 = 20;
/// Lines written live are stored as given within this time.
const GIVEN_FLUSH: Duration = Duration::from_millis(250);
/// Conversations of which a connection remembers what it has written.
const WRITTEN_MAX: usize = 4096;
/// Ranges of seqs that it remembers of one: the newest.
const WRITTEN_RANGES_MAX: usize = 64;
/// Friends that GETFRIENDS names at most.
const FRIENDS_MAX: usize = 5000;
/// Contacts read at a time.
const CONTACTS_PAGE: u32 = 500;

/// Listens on `gateway.line_listen`.
pub fn start(edge: Edge) -> std::io::Result<Bound> {
    let address = edge.config.gateway.line_listen.clone();
    listen(edge, &address, serve)
}

async fn serve(edge: Arc<Edge>, accepted: Accepted) {
    let Accepted { stream, address, permit, stopping } = accepted;
    let (mut read, write) = stream.into_split();
    let admitted = permit.is_some();
    let mut connection = Connection {
        deadline: Instant::now() + edge.config.gateway.hello_timeout * SIGN_IN_FACTOR,
        address: address.to_string(),
        write,
        signed_in: None,
        wrong_passwords: 0,
        edge,
    };
    if admitted {
        connection.talk(&mut read, stopping).await;
    } else {
        let _ = connection.say("-ERR too many connections are open; try again later, or another node").await;
    }
    connection.sign_out().await;
    if connection.write.shutdown().await.is_ok() {
        linger(&mut read).await;
    }
}

/// The connection is to be closed; there is nothing more to say.
struct Over;

/// One line connection.
struct Connection {
    edge: Arc<Edge>,
    address: String,
    write: OwnedWriteHalf,
    signed_in: Option<SignedIn>,
    wrong_passwords: u32,
    deadline: Instant,
}

/// Somebody signed in on it.
struct SignedIn {
    session: LiveSession,
    wake: Arc<Notify>,
    cut: Arc<Notify>,
    /// Per conversation, what PULLs on this connection have read and what was written live: what comes again is dropped. After
    /// a link was lost, and by a conversation's new owner, young messages are pushed once more: nobody knows who had them.
    written: HashMap<u64, SeqRanges>,
    /// When what was noted as given is to be stored.
    flush_at: Option<Instant>,
}

impl SignedIn {
    /// Notes what is written of a conversation; whether the last of it is new.
    fn writes(&mut self, conversation_id: u64, first_seq: u64, last_seq: u64) -> bool {
        if self.written.len() >= WRITTEN_MAX && !self.written.contains_key(&conversation_id) {
            return true;
        }
        let written = self.written.entry(conversation_id).or_default();
        let is_new = !written.contains(last_seq);
        if first_seq <= last_seq {
            written.insert(first_seq, last_seq);
            written.keep_newest(WRITTEN_RANGES_MAX);
        }
        is_new
    }
}

/// What the connection waits for.
enum Event {
    Line(Read),
    Live,
    Flush,
    Alive,
    Ended(&'static str),
}

impl Connection {
    async fn talk(&mut self, read: &mut OwnedReadHalf, mut stopping: Stopping) {
        let mut lines = LineReader::new(self.edge.config.gateway.line_bytes_max);
        let mut alive = tokio::time::interval(self.edge.config.gateway.heartbeat);
        if self.say(&format!("+OK welcome. Commands: {}", line::COMMANDS)).await.is_err() {
            return;
        }
        loop {
            let event = match &self.signed_in {
                None => tokio::select! {
                    read = lines.next(read) => Event::Line(read),
                    () = stopped(&mut stopping) => Event::Ended("the node stops; connect to another"),
                    () = tokio::time::sleep_until(self.deadline) => Event::Ended("not signed in in time; connect again"),
                },
                Some(session) => tokio::select! {
                    read = lines.next(read) => Event::Line(read),
                    () = stopped(&mut stopping) => Event::Ended("the node stops; connect to another"),
                    () = session.wake.notified() => Event::Live,
                    () = session.cut.notified() => return,
                    () = until(session.flush_at) => Event::Flush,
                    _ = alive.tick() => Event::Alive,
                },
            };
            let done = match event {
                Event::Line(Read::Line(line)) => self.handle(&line).await,
                Event::Line(Read::NotText) => {
                    self.say("-ERR the line is not UTF-8; send text in UTF-8").await
                }
                Event::Line(Read::TooLong) => {
                    let max = self.edge.config.gateway.line_bytes_max;
                    let _ = self.say(&format!("-ERR line too long; {max} bytes is the most")).await;
                    Err(Over)
                }
                Event::Line(Read::Ended) => Err(Over),
                Event::Live => self.write_live().await,
                Event::Flush => {
                    self.flush_given().await;
                    Ok(())
                }
                // Nothing is heard from a person who only reads: the kernel's probes watch over the socket.
                Event::Alive => {
                    if let Some(signed_in) = &self.signed_in {
                        signed_in.session.touch();
                    }
                    Ok(())
                }
                Event::Ended(reason) => {
                    let _ = self.say(&line::error_line(reason)).await;
                    Err(Over)
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn handle(&mut self, text: &str) -> Result<(), Over> {
        let command = match line::parse(text) {
            Ok(command) => command,
            Err(reason) => {
                let about_signing_in =
                    reason.starts_with("usage: LOGIN") || reason.starts_with("usage: REGISTER");
                let reason = if self.signed_in.is_some() || about_signing_in { &reason } else { "not login" };
                return self.say(&line::error_line(reason)).await;
            }
        };
        let answer = match (command, self.signed_in.as_ref().map(|signed_in| signed_in.session.user_id())) {
            (Command::Quit, _) => return Err(Over),
            (Command::Help, _) => Ok(format!("+OK commands: {}", line::COMMANDS)),
            (Command::Register { username, password }, _) => self.register(&username, &password).await,
            (Command::Login { username, password }, _) => self.login(&username, &password).await,
            (_, None) => Ok(line::error_line("not login")),
            (Command::Pull, Some(user_id)) => return self.pull(user_id).await,
            (Command::Logout, Some(_)) => {
                self.sign_out().await;
                Ok("+OK logout success".to_owned())
            }
            (Command::Send { user_id: to, text }, Some(by)) => {
                let send = v1::Send { to_user_id: to, text, ..v1::Send::default() };
                self.send(by, send).await.map(|id| format!("+OK msg_id={id}"))
            }
            (Command::SendGroup { group_id, text }, Some(by)) => {
                let send = v1::Send { conversation_id: group_id, text, ..v1::Send::default() };
                self.send(by, send).await.map(|id| format!("+OK group_msg_id={id}"))
            }
            (command, Some(by)) => manage(&self.edge, by, command).await,
        };
        self.say(&answer.unwrap_or_else(|error| error_line(&error))).await?;
        if self.wrong_passwords >= WRONG_PASSWORDS_MAX {
            return Err(Over);
        }
        Ok(())
    }

    async fn register(&mut self, username: &str, password: &str) -> Result<String> {
        let accounts = self.edge.services.accounts.clone();
        let user = accounts.sign_up(username, password, "").await?;
        let forgettings = accounts.forgettings();
        let identity = accounts.line_device(&user).await?;
        self.open(identity, forgettings).await
    }

    async fn login(&mut self, username: &str, password: &str) -> Result<String> {
        let accounts = self.edge.services.accounts.clone();
        let forgettings = accounts.forgettings();
        match accounts.sign_in_line(username, password).await {
            Ok(identity) => self.open(identity, forgettings).await,
            Err(error) => {
                self.wrong_passwords += u32::from(error.code == ErrorCode::Unauthenticated);
                Err(error)
            }
        }
    }

    /// Opens a session for somebody; who was signed in on this connection before is signed out.
    async fn open(&mut self, identity: Identity, forgettings: u64) -> Result<String> {
        self.sign_out().await;
        let (wake, cut) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let socket = Socket {
            wake: waker(self.edge.home.as_ref(), wake.clone()),
            cut: Box::new({
                let cut = cut.clone();
                move || cut.notify_one()
            }),
        };
        let peer = Peer { transport: Transport::Line, format: Format::Line, address: self.address.clone() };
        let session = self.edge.open(&identity, forgettings, 0, String::new(), peer, socket).await?;
        // Whatever came while it was opened is looked at without being woken.
        wake.notify_one();
        self.wrong_passwords = 0;
        self.signed_in = Some(SignedIn { session, wake, cut, written: HashMap::new(), flush_at: None });
        Ok(format!("+OK uid={}", identity.user_id))
    }

    async fn sign_out(&mut self) {
        self.flush_given().await;
        self.deadline = Instant::now() + self.edge.config.gateway.hello_timeout * SIGN_IN_FACTOR;
        self.signed_in = None;
    }

    /// Sends with a `client_id` of our own, since a line names none; so it is also for us to repeat it once when it may
    /// or may not have been stored.
    async fn send(&mut self, by: u64, send: v1::Send) -> Result<u64> {
        let send = v1::Send { client_id: hex::encode(rand::random::<[u8; 16]>()), ..send };
        let messages = self.edge.services.messages.clone();
        let sent = match messages.send(by, send.clone()).await {
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded) => {
                messages.send(by, send).await?
            }
            other => other?,
        };
        // One's own messages are never given.
        self.note_given(sent.conversation_id, sent.seq);
        if let Some(signed_in) = &mut self.signed_in {
            signed_in.writes(sent.conversation_id, sent.seq, sent.seq);
        }
        Ok(msg_id(sent.conversation_id, sent.seq))
    }

    async fn pull(&mut self, user_id: u64) -> Result<(), Over> {
        let lines = self.edge.services.lines.clone();
        let mut pull = match lines.pull(user_id).await {
            Ok(pull) => pull,
            Err(error) => return self.say(&error_line(&error)).await,
        };
        loop {
            match pull.next_page().await {
                Ok(page) if page.more => self.say_all(&page.lines).await?,
                Ok(_) => break,
                // The lines written are not marked as given: the next PULL gives them again.
                Err(error) => return self.say(&error_line(&error)).await,
            }
        }
        self.say("+OK pull_done").await?;
        if let Some(signed_in) = &mut self.signed_in {
            for (conversation_id, seq) in pull.read_up_to() {
                signed_in.writes(conversation_id, 1, seq);
            }
        }
        if let Err(error) = pull.done().await {
            tracing::warn!(target: "rookery::line", user_id, %error, "what was pulled is not marked yet");
        }
        Ok(())
    }

    /// Writes the live lines that wait.
    async fn write_live(&mut self) -> Result<(), Over> {
        let batch = self.edge.config.gateway.write_batch_bytes;
        loop {
            let Some(signed_in) = &mut self.signed_in else { return Ok(()) };
            let drained = signed_in.session.outbox().drain(batch);
            let own = signed_in.session.user_id();
            let mut bytes = BytesMut::new();
            for frame in &drained.frames {
                let is_new = frame.message.is_none_or(|(id, seq)| signed_in.writes(id, seq, seq));
                if is_new && !frame.bytes.is_empty() && line::sender_of(&frame.bytes) != Some(own) {
                    bytes.put_slice(&frame.bytes);
                    bytes.put_u8(b'\n');
                }
            }
            self.put(&bytes).await?;
            for (conversation_id, seq) in drained.frames.iter().filter_map(|frame| frame.message) {
                self.note_given(conversation_id, seq);
            }
            if let Some((_, reason)) = drained.close {
                let _ = self.say(&line::error_line(&format!("closed: {reason}"))).await;
                return Err(Over);
            }
            if !drained.more {
                return Ok(());
            }
        }
    }

    fn note_given(&mut self, conversation_id: u64, seq: u64) {
        if let Some(signed_in) = &mut self.signed_in {
            self.edge.services.lines.note(signed_in.session.user_id(), conversation_id, seq);
            signed_in.flush_at.get_or_insert_with(|| Instant::now() + GIVEN_FLUSH);
        }
    }

    async fn flush_given(&mut self) {
        let Some(signed_in) = &mut self.signed_in else { return };
        if signed_in.flush_at.take().is_none() {
            return;
        }
        let user_id = signed_in.session.user_id();
        if let Err(error) = self.edge.services.lines.flush(user_id).await {
            tracing::warn!(target: "rookery::line", user_id, %error, "lines given are not stored as given yet");
            signed_in.flush_at = Some(Instant::now() + GIVEN_FLUSH);
        }
    }

    async fn say(&mut self, line: &str) -> Result<(), Over> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.put(&bytes).await
    }

    async fn say_all(&mut self, lines: &[String]) -> Result<(), Over> {
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        self.put(&bytes).await
    }

    /// Writes, unless the client does not read for too long or the session wants the socket closed.
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Over> {
        if bytes.is_empty() {
            return Ok(());
        }
        let limit = self.edge.config.gateway.tcp_user_timeout;
        let cut = self.signed_in.as_ref().map(|signed_in| signed_in.cut.clone());
        let cut = async move {
            match cut {
                Some(cut) => cut.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            written = self.write.write_all(bytes) => written.map_err(|_| Over),
            () = cut => Err(Over),
            () = tokio::time::sleep(limit) => Err(Over),
        }
    }
}

/// The commands that are neither about signing in nor about messages.
async fn manage(edge: &Edge, by: u64, command: Command) -> Result<String> {
    let services = &edge.services;
    match command {
        Command::AddFriend { user_id } => {
            services.contacts.befriend(by, user_id).await?;
            Ok("+OK friend added".to_owned())
        }
        Command::GetFriends => {
            let ids: Vec<String> = friends(edge, by).await?.iter().map(u64::to_string).collect();
            Ok(format!("+OK friends: {}", ids.join(",")))
        }
        Command::CreateGroup { name, description } => {
            let request =
                GroupRequest { name, description, join_policy: JoinPolicy::Open, ..GroupRequest::default() };
            let (group_id, _) = services.conversations.create_group_id(by, request).await?;
            Ok(format!("+OK group_id={group_id}"))
        }
        Command::JoinGroup { group_id } => {
            if services.groups.join(by, group_id, String::new()).await? {
                return Err(Error::precondition(
                    "the group's owner and admins have been asked; you are in once they let you in",
                ));
            }
            Ok("+OK joined group".to_owned())
        }
        other => Err(Error::internal(format!("{} was not handled", line::command_line(&other)))),
    }
}

async fn friends(edge: &Edge, by: u64) -> Result<Vec<u64>> {
    let mut friends = Vec::new();
    let mut after_id = 0;
    while friends.len() < FRIENDS_MAX {
        let page = edge.services.contacts.list(by, after_id, CONTACTS_PAGE).await?;
        let ended = page.len() < CONTACTS_PAGE as usize;
        after_id = page.last().map_or(0, |contact| contact.contact_id);
        let is_friend =
            |contact: &crate::storage::ContactRecord| contact.state == crate::protocol::ContactState::Friend;
        friends.extend(page.iter().filter(|contact| is_friend(contact)).map(|contact| contact.contact_id));
        if ended {
            break;
        }
    }
    Ok(friends)
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
