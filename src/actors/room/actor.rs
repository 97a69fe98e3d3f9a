//! The actor of a conversation. Identity: `room/{conversation_id}`. Owns the order of its log: nobody else gives seqs,
//! and where two activations do, the database's unique keys decide. Never asks another actor; waits for storage only
//! to load, to learn the log's truth, and to change who is a member, within storage's own deadlines: groups and
//! cursors are stored by lanes that tell it when they are done. Dies when it has been idle, or when another node owns
//! it ([`super::leaving`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::time::Instant;

use super::changes::entry_of;
use super::cursors::Cursors;
use super::describe::Telling;
use super::discipline::Pace;
use super::joining::Askers;
use super::leaving::{Leaving, Wish};
use super::news::InDoubt;
use super::recent::Recent;
use super::state::{Effect, Phase, Room};
use super::typing::Typists;
use crate::actors::registry::Vitals;
use crate::actors::{Actors, AnyReply};
use crate::clock;
use crate::domain::{Error, Result};
use crate::protocol::ErrorCode;
use crate::protocol::cluster::{
    Done, Forward, Reply, RoomReply, RoomRequest, reply, room_reply, room_request,
};
use crate::storage::StoreResult;

/// A request and who waits for its answer.
pub struct Asked {
    /// What is asked.
    pub request: RoomRequest,
    /// Who waits.
    pub waiter: Waiter,
    /// By how many moving rooms it has been handed on, as far as this one knows.
    pub handovers: u32,
    /// It was open to another node and has come home: it is older than what the room has taken since it moved.
    pub home: bool,
}

/// Who waits for an answer, and how long.
pub struct Waiter {
    /// Takes the answer.
    pub reply: AnyReply,
    /// Since when it waits on this node.
    pub since: Instant,
    /// From here on nobody hopes for it any more.
    pub deadline: Instant,
}

impl Waiter {
    /// Answers.
    pub fn answer(self, answer: Result<Reply>) {
        self.reply.send(answer);
    }

    /// Whether nobody hopes for an answer any more.
    pub fn is_late(&self) -> bool {
        self.deadline <= Instant::now()
    }
}

/// What a room takes.
#[expect(
    clippy::large_enum_variant,
    reason = "a request is moved into a mailbox once; a box would be an allocation for each"
)]
pub enum RoomMessage {
    /// From any node.
    Request(Asked),
    /// The writer's word on the group in flight.
    GroupDone(StoreResult<()>),
    /// The cursor lane's word on the cursors in flight.
    CursorsDone(StoreResult<()>),
    /// Store the cursors that were `read` to, and tell of receipts.
    Flush,
    /// Store the other moved cursors.
    FlushLazily,
    /// Tell members how the conversation looks now.
    Describe,
    /// A change that was not confirmed has been carried out by now, or never will be.
    DoubtOver,
    /// Somebody may have typed for too long.
    TypingOver,
    /// See who has waited for too long, and try again what storage did not take.
    Sweep,
    /// A link or a node was lost or has come back: push again what was stored since then, Unix milliseconds.
    PushAgain(u64),
    /// What was handed on under this mark is answered.
    Answered(u64),
    /// Nothing has happened for long.
    Passivate,
    /// Another node may be the owner.
    Retire,
    /// The node is about to stop.
    Finish,
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

/// How often deadlines are looked at while somebody waits.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The state of the actor: the room once it is loaded, and the timers around it.
pub struct RoomState {
    pub(super) actors: Actors,
    pub(super) vitals: Arc<Vitals>,
    pub(super) myself: ActorRef<RoomMessage>,
    pub(super) room: Option<Room<Waiter>>,
    /// Storage is away: until when nobody need ask it again, and what it said.
    pub(super) away: Option<(Instant, Error)>,
    pub(super) leaving: Leaving,
    /// Storage may hold another membership than we do: to be read again before the next request.
    pub(super) stale: bool,
    /// When the membership was read, and at which [`Actors::doubts`].
    pub(super) members_read: Option<(Instant, u64)>,
    pub(super) cursors: Cursors,
    pub(super) recent: Recent,
    pub(super) pace: Pace,
    sweep_armed: bool,
    /// Receipts to tell of, by user: the session that moved the cursor.
    pub(super) receipts: BTreeMap<u64, u64>,
    /// Who is to be told how the conversation looks, once for all changes of a moment.
    pub(super) describe_to: Vec<u64>,
    pub(super) describe_armed: bool,
    pub(super) telling: Arc<Mutex<Telling>>,
    /// Changes of the group that were not confirmed.
    pub(super) in_doubt: Vec<InDoubt>,
    pub(super) typists: Typists,
    pub(super) askers: Askers,
    /// Changes that said something, so that they are said in their order.
    pub(super) said: u32,
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
            leaving: Leaving::default(),
            stale: false,
            members_read: None,
            cursors: Cursors::default(),
            recent: Recent::default(),
            pace: Pace::default(),
            sweep_armed: false,
            receipts: BTreeMap::new(),
            describe_to: Vec::new(),
            describe_armed: false,
            telling: Arc::default(),
            in_doubt: Vec::new(),
            typists: Typists::default(),
            askers: Askers::default(),
            said: 0,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<RoomMessage>,
        message: RoomMessage,
        state: &mut RoomState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        if let Some(message) = state.handle_now(message) {
            // What may wait for storage is a large future and rare; ractor moves the one that this function makes.
            Box::pin(state.handle_waiting(message)).await;
        }
        state.arm_sweep();
        Ok(())
    }
}

impl RoomState {
    /// Handles a message that needs no waiting, as nearly all that a room in use gets; gives any other back.
    fn handle_now(&mut self, message: RoomMessage) -> Option<RoomMessage> {
        if !self.leaving.stays() || !self.is_settled() {
            return Some(message);
        }
        match message {
            RoomMessage::Request(asked) => {
                let by = asked.request.user_id;
                if asked.waiter.is_late()
                    || asked.home
                    || self.room.as_ref().is_none_or(|room| room.member(by).is_none())
                {
                    return Some(RoomMessage::Request(asked));
                }
                if asked.request.command.as_ref().is_some_and(may_wait) {
                    return Some(RoomMessage::Request(asked));
                }
                self.vitals.handle(clock::now_ms());
                self.carry_out(asked);
            }
            RoomMessage::GroupDone(Ok(())) => self.group_stored(),
            other => return Some(other),
        }
        None
    }

    async fn handle_waiting(&mut self, message: RoomMessage) {
        match message {
            RoomMessage::Request(asked) => {
                self.vitals.handle(clock::now_ms());
                self.take_in(asked).await;
            }
            RoomMessage::GroupDone(outcome) => self.group_done(outcome).await,
            RoomMessage::CursorsDone(outcome) => self.cursors_done(outcome),
            RoomMessage::Flush => self.flush(),
            RoomMessage::FlushLazily => self.flush_lazily(),
            RoomMessage::Describe => self.describe_members(),
            RoomMessage::DoubtOver => self.look_again().await,
            RoomMessage::TypingOver => self.typing_over(),
            RoomMessage::Sweep => self.sweep().await,
            RoomMessage::PushAgain(since_ms) => {
                self.vitals.handle(self.vitals.last_active_ms());
                self.push_again(since_ms);
            }
            RoomMessage::Answered(mark) => self.leaving.answered(mark),
            RoomMessage::Passivate => {
                self.vitals.handle(self.vitals.last_active_ms());
                let still_idle = clock::now_ms().saturating_sub(self.vitals.last_active_ms())
                    > self.actors.inner.config.room.idle_timeout.as_millis() as u64;
                if still_idle {
                    self.end_when_idle(Wish::Idle).await;
                }
            }
            RoomMessage::Retire => {
                self.vitals.handle(self.vitals.last_active_ms());
                self.retire().await;
            }
            RoomMessage::Finish => {
                self.vitals.handle(self.vitals.last_active_ms());
                self.end_when_idle(Wish::Finish).await;
            }
        }
        self.proceed().await;
    }

    pub(super) fn conversation_id(&self) -> u64 {
        self.vitals.address.key
    }

    /// Carries out a request. Only for [`super::leaving::Stay::Here`].
    pub(super) async fn request(&mut self, asked: Asked) {
        if asked.waiter.is_late() {
            return asked.waiter.answer(Err(too_late()));
        }
        if let Err(error) = self.settle().await {
            return asked.waiter.answer(Err(error));
        }
        use room_request::Command;
        if !matches!(
            asked.request.command,
            Some(Command::Join(_) | Command::Inspect(_) | Command::Expire(_) | Command::SayOwed(_)) | None
        ) && let Err(error) = self.look_for(asked.request.user_id).await
        {
            return asked.waiter.answer(Err(error));
        }
        if !asked.request.command.as_ref().is_some_and(may_wait) {
            return self.carry_out(asked);
        }
        let Asked { request, waiter, .. } = asked;
        let Some(command) = request.command else { return };
        match entry_of(request.user_id, command) {
            Ok(entry) => self.change_message(request.session_id, entry, waiter).await,
            Err(command) => {
                let outcome = match *command {
                    Command::Pin(pin) => self.pin(request.user_id, pin).await.map(|()| done()),
                    Command::SayOwed(_) => self.say_owed().await.map(|()| done()),
                    command => self.change(request.user_id, command).await.map(room),
                };
                self.pump();
                waiter.answer(outcome);
            }
        }
    }

    /// Carries out a request that changes no membership, in a settled room.
    fn carry_out(&mut self, asked: Asked) {
        let Asked { request, waiter, .. } = asked;
        let (user_id, session_id) = (request.user_id, request.session_id);
        use room_request::Command;
        match request.command {
            Some(Command::Send(send)) => self.send(user_id, session_id, send, None, waiter),
            Some(Command::Forward(Forward { send: Some(send), from })) => {
                self.send(user_id, session_id, send, from, waiter)
            }
            Some(Command::Delivered(cursor)) => {
                waiter.answer(self.advance(user_id, session_id, cursor.seq, 0).map(|_| done()));
            }
            Some(Command::Read(cursor)) => self.read(user_id, session_id, cursor.seq, waiter),
            Some(Command::Typing(typing)) => waiter.answer(self.typing(user_id, session_id, &typing)),
            Some(Command::Describe(_)) => self.describe(user_id, waiter),
            Some(Command::Readers(asked)) => waiter.answer(self.readers(user_id, &asked)),
            Some(Command::Inspect(_)) => waiter.answer(Ok(self.inspect())),
            _ => waiter.answer(Err(Error::internal("a room request without a command"))),
        }
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect<Waiter>>) {
        for effect in effects {
            match effect {
                Effect::Answer(waiter, answer) => {
                    waiter.answer(answer.map(|sent| room(room_reply::Reply::Sent(sent))))
                }
                Effect::Push(message, except) => {
                    if let Some(room) = &self.room {
                        let (members, kind) = (room.member_ids(), room.conversation().kind);
                        self.push_message(&members, kind, message, except);
                    }
                }
            }
        }
        if self.room.as_ref().is_some_and(Room::has_dirty) {
            self.arm_lazy_flush();
        }
    }

    pub(super) fn cast_later(
        &self,
        after: std::time::Duration,
        message: impl FnOnce() -> RoomMessage + Send + 'static,
    ) {
        let myself = self.myself.clone();
        self.actors.inner.runtime.spawn(async move {
            tokio::time::sleep(after).await;
            // A room that has ended has done before what this is for.
            let _ = myself.cast(message());
        });
    }

    fn arm_sweep(&mut self) {
        let waits = self.room.as_ref().is_some_and(|room| room.pending() > 0)
            || self.leaving.waits()
            || self.cursors.waits();
        if waits && !std::mem::replace(&mut self.sweep_armed, true) {
            self.cast_later(SWEEP_EVERY, || RoomMessage::Sweep);
        }
    }

    async fn sweep(&mut self) {
        self.sweep_armed = false;
        let mut late = self.leaving.expire();
        late.extend(self.cursors.expire());
        if let Some(room) = &mut self.room {
            late.extend(room.expire(Waiter::is_late));
        }
        for waiter in late {
            waiter.answer(Err(too_late()));
        }
        if self.room.as_ref().is_some_and(|room| room.phase() == Phase::Unsettled) {
            // Whoever waits is told what came of it.
            let _ = self.settle().await;
        }
        self.pump();
    }

    fn inspect(&self) -> Reply {
        let view = self.room.as_ref().map(|room| {
            json!({ "conversation_id": self.conversation_id(), "node": self.actors.node_name(),
                "seq": room.last_seq(), "members": room.member_ids().len(), "pending_writes": room.pending(),
                "phase": format!("{:?}", room.phase()).to_lowercase(), "stay": self.leaving.stay.as_str(),
                "activation": self.vitals.activation, "mailbox_depth": self.vitals.depth() })
        });
        room(room_reply::Reply::Inspection(view.unwrap_or_default().to_string()))
    }
}

pub(super) fn done() -> Reply {
    room(room_reply::Reply::Done(Done {}))
}

pub(super) fn room(answer: room_reply::Reply) -> Reply {
    Reply { reply: Some(reply::Reply::Room(RoomReply { reply: Some(answer) })) }
}

/// Whether carrying it out may wait for storage.
fn may_wait(command: &room_request::Command) -> bool {
    use room_request::Command;
    matches!(
        command,
        Command::Opened(_)
            | Command::AddMembers(_)
            | Command::RemoveMember(_)
            | Command::Join(_)
            | Command::Leave(_)
            | Command::Edit(_)
            | Command::Recall(_)
            | Command::React(_)
            | Command::Expire(_)
            | Command::Pin(_)
            | Command::SayOwed(_)
            | Command::ChangeRoom(_)
            | Command::Dissolve(_)
            | Command::ChangeMember(_)
            | Command::AnswerRequest(_)
            | Command::Ban(_)
            | Command::Unban(_)
            | Command::MakeInvite(_)
            | Command::DropInvite(_)
    )
}

fn too_late() -> Error {
    Error::new(
        ErrorCode::DeadlineExceeded,
        "the conversation did not get to it in time; try again, a send with the same client_id",
    )
}
