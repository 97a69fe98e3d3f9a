//! The actor of a conversation. Identity: `room/{conversation_id}`. Owns the order of its log: nobody else gives seqs,
//! and where two activations do, the database's unique keys decide. Never asks another actor; waits for storage only
//! within storage's own deadlines. Dies when it has been idle, or when another node owns it.
//!
//! It ends in two steps, so that nothing is lost between two activations: once nothing is in flight it leaves the
//! registry and hands what is queued to the next activation; then its own last message stops it, and whatever was cast
//! before that is handed on too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::time::Instant;

use super::state::{Bounds, Effect, Loaded, Phase, Room};
use crate::actors::registry::Vitals;
use crate::actors::{Actors, AnyReply};
use crate::clock;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{Done, Reply, RoomReply, RoomRequest, reply, room_reply, room_request};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{Message, Receipt, Send as SendRequest, ServerFrame, TypingState};
use crate::protocol::{ConversationKind, ErrorCode};
use crate::storage::{StoreError, StoreResult};

/// What a room takes.
pub enum RoomMessage {
    /// From any node.
    Request(RoomRequest, AnyReply),
    /// The writer's word on the group in flight.
    GroupDone(StoreResult<()>),
    /// Store the cursors that were `read` to, and tell of receipts.
    Flush,
    /// Store the other moved cursors.
    FlushLazily,
    /// Tell members how the conversation looks now.
    Describe,
    /// Nothing has happened for long.
    Passivate,
    /// Another node is the owner.
    Retire,
    /// The last message.
    Stop,
}

impl ractor::Message for RoomMessage {}

/// The behaviour.
pub struct RoomActor;

/// What a room is born with.
pub struct RoomArguments {
    /// Its node's actors.
    pub actors: Actors,
    /// Its own vitals.
    pub vitals: Arc<Vitals>,
}

/// Newest messages that a fresh activation reads, to know repeats of them and to push the young ones again.
const LOAD_MESSAGES: u32 = 64;
/// Most messages that a reload pushes; more are left to sync.
const REPUSH_MAX: u32 = 500;

/// After storage failed, requests that need it are refused with the same answer for this long. Else those that waited in
/// the mailbox meanwhile would each wait for storage anew, one behind the other.
const AWAY_PAUSE: Duration = Duration::from_millis(250);

/// The state of the actor: the room once it is loaded, and the timers around it.
pub struct RoomState {
    pub(super) actors: Actors,
    pub(super) vitals: Arc<Vitals>,
    pub(super) myself: ActorRef<RoomMessage>,
    pub(super) room: Option<Room<AnyReply>>,
    /// Storage is away: until when nobody need ask it again, and what it said.
    away: Option<(Instant, Error)>,
    /// Told to end once nothing is in flight.
    retiring: bool,
    /// Out of the registry: everything goes to the next activation.
    retired: bool,
    /// What came while the last group was in flight, for the next activation.
    held: Vec<(RoomRequest, AnyReply)>,
    /// Storage may hold another membership than we do: to be read again before the next request.
    pub(super) stale: bool,
    flush_armed: bool,
    lazy_flush_armed: bool,
    /// Answered when their cursors are stored.
    readers: Vec<AnyReply>,
    /// Receipts to tell of, by user: the session that moved the cursor.
    receipts: BTreeMap<u64, u64>,
    /// Who is to be told how the conversation looks, once for all changes of a moment.
    pub(super) describe_to: Vec<u64>,
}

impl Actor for RoomActor {
    type Msg = RoomMessage;
    type State = RoomState;
    type Arguments = RoomArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RoomMessage>,
        arguments: RoomArguments,
    ) -> std::result::Result<RoomState, ActorProcessingErr> {
        Ok(RoomState {
            actors: arguments.actors,
            vitals: arguments.vitals,
            myself,
            room: None,
            away: None,
            retiring: false,
            retired: false,
            held: Vec::new(),
            stale: false,
            flush_armed: false,
            lazy_flush_armed: false,
            readers: Vec::new(),
            receipts: BTreeMap::new(),
            describe_to: Vec::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<RoomMessage>,
        message: RoomMessage,
        state: &mut RoomState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        match message {
            RoomMessage::Request(request, reply) => {
                state.vitals.handle(clock::now_ms());
                state.request(request, reply).await;
            }
            RoomMessage::GroupDone(outcome) => state.group_done(outcome).await,
            RoomMessage::Flush => state.flush().await,
            RoomMessage::FlushLazily => {
                state.lazy_flush_armed = false;
                state.store_cursors().await;
            }
            RoomMessage::Describe => state.describe_members(),
            RoomMessage::Passivate | RoomMessage::Retire => {
                state.vitals.handle(state.vitals.last_active_ms());
                let retire = matches!(message, RoomMessage::Retire);
                let still_idle = clock::now_ms().saturating_sub(state.vitals.last_active_ms())
                    > state.actors.inner.config.room.idle_timeout.as_millis() as u64;
                if state.room.as_ref().is_some_and(|room| room.phase() == Phase::Unsettled) {
                    // Storage may be back: what was in doubt is pushed if it is there, and the room can end.
                    let _ = state.settle().await;
                }
                state.retiring |= retire || (still_idle && state.room.as_ref().is_none_or(Room::is_idle));
            }
            RoomMessage::Stop => state.myself.stop(None),
        }
        state.end_if_due().await;
        Ok(())
    }
}

impl RoomState {
    fn conversation_id(&self) -> u64 {
        self.vitals.address.key
    }

    async fn request(&mut self, request: RoomRequest, reply: AnyReply) {
        if self.retired {
            self.actors.ask_room(self.conversation_id(), request, reply);
            return;
        }
        // Nothing new is begun here any more; the next activation gets it in this order.
        if self.retiring {
            self.held.push((request, reply));
            return;
        }
        if let Err(error) = self.settle().await {
            reply.send(Err(error));
            return;
        }
        let (user_id, session_id) = (request.user_id, request.session_id);
        use room_request::Command;
        match request.command {
            Some(Command::Send(send)) => self.send(user_id, session_id, send, reply),
            Some(Command::Delivered(cursor)) => {
                reply.send(self.advance(user_id, session_id, cursor.seq, 0).map(|_| done()));
            }
            Some(Command::Read(cursor)) => match self.advance(user_id, session_id, cursor.seq, cursor.seq) {
                Ok(true) => self.readers.push(reply),
                Ok(false) => reply.send(Ok(done())),
                Err(error) => reply.send(Err(error)),
            },
            Some(Command::Typing(typing)) => reply.send(self.typing(user_id, session_id, &typing)),
            Some(Command::Describe(_)) => {
                let answer = self.describe(user_id).await;
                self.note(&answer);
                reply.send(answer);
            }
            Some(Command::Inspect(_)) => reply.send(Ok(self.inspect())),
            Some(command) => {
                let outcome = self.change_members(user_id, command).await;
                self.pump();
                reply.send(outcome.map(|()| done()));
            }
            None => reply.send(Err(Error::internal("a room request without a command"))),
        }
    }

    /// Loads the room if it is not, and learns the log's truth if it is in doubt.
    async fn settle(&mut self) -> Result<()> {
        let phase = self.room.as_ref().map(Room::phase);
        if phase == Some(Phase::InFlight) || (phase == Some(Phase::Settled) && !self.stale) {
            return Ok(());
        }
        if let Err(error) = self.present() {
            // Nobody is left waiting for what is not tried.
            let effects = self.room.as_mut().map(|room| room.give_up(&error)).unwrap_or_default();
            self.perform(effects);
            return Err(error);
        }
        let outcome = match phase {
            None => self.load().await.map(|room| self.room = Some(room)),
            Some(_) => self.reload().await,
        };
        // A room that does not exist is not worth an actor.
        self.retiring |=
            self.room.is_none() && matches!(&outcome, Err(error) if error.code == ErrorCode::NotFound);
        self.note(&outcome);
        outcome
    }

    /// Refuses while storage is known to be away.
    fn present(&self) -> Result<()> {
        match &self.away {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Learns from an answer of storage whether it is away.
    fn note<T>(&mut self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.away = None,
            Err(error) if error.is_retryable() => {
                self.away = Some((Instant::now() + AWAY_PAUSE, error.clone()))
            }
            Err(_) => {}
        }
    }

    async fn load(&mut self) -> Result<Room<AnyReply>> {
        let stores = &self.actors.inner.stores;
        let conversation_id = self.conversation_id();
        let conversation = stores.conversations.conversation(conversation_id).await?.ok_or_else(|| {
            Error::not_found(format!(
                "conversation {conversation_id} does not exist; list yours to find its id"
            ))
        })?;
        let members = stores.conversations.members(conversation_id).await?;
        let recent = stores.messages.before(conversation_id, u64::MAX >> 1, 1, LOAD_MESSAGES).await?;
        let last_seq = recent.last().map_or(0, |message| message.seq);
        let config = &self.actors.inner.config.room;
        let bounds = Bounds {
            pending_sends: config.pending_sends,
            group_messages: config.group_messages,
            recent_sends: config.recent_sends,
        };
        // The owner before us may have died between storing and pushing; sessions drop what they have had.
        let young = clock::now_ms().saturating_sub(config.repush_window.as_millis() as u64);
        let repush: Vec<Message> =
            recent.iter().filter(|message| message.created_at_ms > young).cloned().collect();
        let loaded = Loaded { conversation, members, last_seq, unpushed: recent, stored: Vec::new() };
        let room = Room::new(loaded, bounds);
        for message in repush {
            self.push_message(&room, message, 0);
        }
        Ok(room)
    }

    async fn reload(&mut self) -> Result<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        let stores = &self.actors.inner.stores;
        let conversation_id = self.vitals.address.key;
        let (pushed_seq, pending) = (room.pushed_seq(), room.pending_keys());
        let answer: StoreResult<Option<Loaded>> = async {
            let Some(conversation) = stores.conversations.conversation(conversation_id).await? else {
                return Ok(None);
            };
            let members = stores.conversations.members(conversation_id).await?;
            // What is pushed is read last, so that nothing found stored before is left out of it.
            let stored = stores.messages.stored(&pending).await?;
            let last_seq = stores.messages.last_seq(conversation_id).await?;
            let unpushed = stores.messages.after(conversation_id, pushed_seq, REPUSH_MAX).await?;
            Ok(Some(Loaded { conversation, members, last_seq, unpushed, stored }))
        }
        .await;
        let effects = match answer {
            Ok(Some(loaded)) => {
                self.stale = false;
                room.reload(loaded)
            }
            Ok(None) => room.give_up(&Error::not_found("the conversation does not exist any more")),
            Err(error) => {
                let error = Error::from(error);
                let effects = room.give_up(&error);
                self.perform(effects);
                return Err(error);
            }
        };
        self.perform(effects);
        self.pump();
        Ok(())
    }

    fn send(&mut self, user_id: u64, session_id: u64, send: SendRequest, reply: AnyReply) {
        let Some(room) = &mut self.room else { return };
        let effects = room.send(user_id, session_id, send, reply).into_iter().collect();
        self.perform(effects);
        self.pump();
    }

    /// Lets the next group leave, if it may.
    pub(super) fn pump(&mut self) {
        let Some(room) = &mut self.room else { return };
        if self.retiring {
            return;
        }
        if let Some(group) = room.next_group(clock::now_ms()) {
            let myself = self.myself.clone();
            self.actors.inner.writers.append(group, move |outcome| {
                // The room outlives its group in flight.
                let _ = myself.cast(RoomMessage::GroupDone(outcome));
            });
        }
    }

    async fn group_done(&mut self, outcome: StoreResult<()>) {
        let Some(room) = &mut self.room else { return };
        let effects = match outcome {
            Ok(()) => room.stored(),
            Err(StoreError::Exists | StoreError::Unsettled(_)) => {
                room.unsettle();
                // An error was told to everybody who waits; the next request tries again.
                let _ = self.settle().await;
                return;
            }
            Err(error) => {
                let error = Error::from(error);
                let mut effects = room.refused(&error);
                if error.is_retryable() {
                    // Those behind would only wait for the same, group after group.
                    effects.extend(room.give_up(&error));
                }
                effects
            }
        };
        self.perform(effects);
        self.pump();
    }

    fn perform(&mut self, effects: Vec<Effect<AnyReply>>) {
        for effect in effects {
            match effect {
                Effect::Answer(reply, answer) => {
                    reply.send(answer.map(|sent| room(room_reply::Reply::Sent(sent))))
                }
                Effect::Push(message, except) => {
                    if let Some(room) = &self.room {
                        self.push_message(room, message, except);
                    }
                }
            }
        }
        if self.room.as_ref().is_some_and(Room::has_dirty) {
            self.arm_lazy_flush();
        }
    }

    fn push_message(&self, room: &Room<AnyReply>, message: Message, except_session_id: u64) {
        let event = ServerFrame { reply_to: 0, body: Some(Body::Message(message)) };
        self.actors.fan_out(&room.member_ids(), except_session_id, event, room.conversation().kind);
    }

    fn advance(&mut self, user_id: u64, session_id: u64, delivered_seq: u64, read_seq: u64) -> Result<bool> {
        let Some(room) = &mut self.room else { return Ok(false) };
        let moved = room.advance(user_id, delivered_seq, read_seq, session_id)?;
        if moved {
            if room.member_ids().len() <= self.actors.inner.config.room.small_room {
                self.receipts.insert(user_id, session_id);
            }
            self.arm_flush();
            self.arm_lazy_flush();
        }
        Ok(moved)
    }

    pub(super) fn arm_flush(&mut self) {
        if !std::mem::replace(&mut self.flush_armed, true) {
            self.cast_later(self.actors.inner.config.room.cursor_flush, || RoomMessage::Flush);
        }
    }

    fn arm_lazy_flush(&mut self) {
        if !std::mem::replace(&mut self.lazy_flush_armed, true) {
            self.cast_later(self.actors.inner.config.room.cursor_lazy_flush, || RoomMessage::FlushLazily);
        }
    }

    fn cast_later(&self, after: std::time::Duration, message: impl FnOnce() -> RoomMessage + Send + 'static) {
        let myself = self.myself.clone();
        self.actors.inner.runtime.spawn(async move {
            tokio::time::sleep(after).await;
            // A room that has ended has flushed before.
            let _ = myself.cast(message());
        });
    }

    /// Tells of receipts, and stores cursors if somebody waits for that.
    async fn flush(&mut self) {
        self.flush_armed = false;
        if let Some(room) = &self.room {
            for (user_id, session_id) in std::mem::take(&mut self.receipts) {
                let Some(member) = room.member(user_id) else { continue };
                let receipt = Receipt {
                    conversation_id: member.conversation_id,
                    user_id,
                    delivered_seq: member.delivered_seq,
                    read_seq: member.read_seq,
                };
                let event = ServerFrame { reply_to: 0, body: Some(Body::Receipt(receipt)) };
                self.actors.fan_out(&room.member_ids(), session_id, event, ConversationKind::Direct);
            }
        }
        if !self.readers.is_empty() {
            self.store_cursors().await;
        }
    }

    /// Stores every moved cursor; answers those who wait for it.
    async fn store_cursors(&mut self) {
        let Some(room) = &mut self.room else { return };
        let cursors = room.take_dirty();
        let outcome = if cursors.is_empty() {
            Ok(())
        } else {
            match self.present() {
                Ok(()) => self
                    .actors
                    .inner
                    .stores
                    .conversations
                    .advance_cursors(&cursors)
                    .await
                    .map_err(Error::from),
                away => away,
            }
        };
        if outcome.is_err() {
            if let Some(room) = &mut self.room {
                room.cursors_failed(&cursors);
            }
            self.arm_lazy_flush();
        }
        if !cursors.is_empty() && self.present().is_ok() {
            self.note(&outcome);
        }
        let answer = outcome.map(|()| done());
        for reader in std::mem::take(&mut self.readers) {
            reader.send(answer.clone());
        }
    }

    fn typing(&self, user_id: u64, session_id: u64, typing: &TypingState) -> Result<Reply> {
        if let Some(room) = &self.room {
            room.require_member(user_id)?;
            if room.member_ids().len() <= self.actors.inner.config.room.small_room {
                let event = crate::protocol::v1::Typing {
                    conversation_id: self.conversation_id(),
                    user_id,
                    active: typing.active,
                };
                let event = ServerFrame { reply_to: 0, body: Some(Body::Typing(event)) };
                let others: Vec<u64> =
                    room.member_ids().iter().copied().filter(|id| *id != user_id).collect();
                self.actors.fan_out(&others, session_id, event, ConversationKind::Direct);
            }
        }
        Ok(done())
    }

    async fn describe(&mut self, user_id: u64) -> Result<Reply> {
        self.present()?;
        self.store_cursors().await;
        self.present()?;
        let stores = &self.actors.inner.stores;
        let row = stores.conversations.conversation_of(user_id, self.conversation_id()).await?;
        let row = row.ok_or_else(|| {
            Error::denied(format!("you are not a member of conversation {}", self.conversation_id()))
        })?;
        Ok(room(room_reply::Reply::Conversation(row.into())))
    }

    fn inspect(&self) -> Reply {
        let view = self.room.as_ref().map(|room| {
            json!({ "conversation_id": self.conversation_id(), "node": self.actors.node_name(),
                "seq": room.last_seq(), "members": room.member_ids().len(), "pending_writes": room.pending(),
                "phase": format!("{:?}", room.phase()).to_lowercase(),
                "activation": self.vitals.activation, "mailbox_depth": self.vitals.depth() })
        });
        room(room_reply::Reply::Inspection(view.unwrap_or_default().to_string()))
    }

    /// Ends the activation once nothing is in flight; see the module's header.
    async fn end_if_due(&mut self) {
        if !self.retiring || self.retired {
            return;
        }
        if self.room.as_ref().is_some_and(|room| room.phase() == Phase::InFlight) {
            return;
        }
        self.store_cursors().await;
        self.retired = true;
        self.actors.inner.rooms.remove(self.vitals.address, self.vitals.activation);
        if let Some(room) = &mut self.room {
            for (user_id, session_id, send, reply) in room.take_queue() {
                let command = Some(room_request::Command::Send(send));
                let request = RoomRequest { user_id, session_id, command };
                self.actors.ask_room(self.vitals.address.key, request, reply);
            }
        }
        for (request, reply) in std::mem::take(&mut self.held) {
            self.actors.ask_room(self.vitals.address.key, request, reply);
        }
        // Behind everything that was cast while the registry still named us.
        let _ = self.myself.cast(RoomMessage::Stop);
    }
}

pub(super) fn done() -> Reply {
    room(room_reply::Reply::Done(Done {}))
}

fn room(answer: room_reply::Reply) -> Reply {
    Reply { reply: Some(reply::Reply::Room(RoomReply { reply: Some(answer) })) }
}
