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
use super::leaving::{Leaving, Stay, Wish};
use super::news::InDoubt;
use super::recent::Recent;
use super::state::{Bounds, Effect, Loaded, Phase, Room};
use super::typing::Typists;
use crate::actors::overload::Shed;
use crate::actors::registry::Vitals;
use crate::actors::{Actors, AnyReply};
use crate::clock;
use crate::cluster::refusals;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    Done, Forward, Reply, RoomReply, RoomRequest, reply, room_reply, room_request,
};
use crate::protocol::v1::{ForwardedFrom, Message, Send as SendRequest, Sent};
use crate::protocol::{ErrorCode, MessageKind};
use crate::storage::{ClientKey, StoreError, StoreResult};

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

/// Most messages that a reload pushes; more are left to sync.
const REPUSH_MAX: u32 = 500;

/// After storage failed, requests that need it are refused with the same answer for this long. Else those that waited in
/// the mailbox meanwhile would each wait for storage anew, one behind the other.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// How often deadlines are looked at while somebody waits.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// One who is not a member by our memory is refused without a look into storage only if that is no older than this:
/// another activation may have added him.
const DENIAL_AGE_MAX: Duration = Duration::from_secs(1);

/// The state of the actor: the room once it is loaded, and the timers around it.
pub struct RoomState {
    pub(super) actors: Actors,
    pub(super) vitals: Arc<Vitals>,
    pub(super) myself: ActorRef<RoomMessage>,
    pub(super) room: Option<Room<Waiter>>,
    /// Storage is away: until when nobody need ask it again, and what it said.
    away: Option<(Instant, Error)>,
    pub(super) leaving: Leaving,
    /// Storage may hold another membership than we do: to be read again before the next request.
    pub(super) stale: bool,
    /// When the membership was read, and at which [`Actors::doubts`].
    members_read: Option<(Instant, u64)>,
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

    /// Carries out a request. Only for [`Stay::Here`].
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

    /// Whether the room is loaded and knows the truth of its log and membership.
    fn is_settled(&self) -> bool {
        let phase = self.room.as_ref().map(Room::phase);
        let doubts = self.actors.doubts();
        matches!(phase, Some(Phase::Settled | Phase::InFlight))
            && !self.stale
            && self.members_read.is_some_and(|(_, then)| then == doubts)
    }

    /// Loads the room if it is not, learns the log's truth if it is in doubt, and the membership if that is.
    pub(super) async fn settle(&mut self) -> Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        // Read before storage is: what comes into doubt meanwhile stays so.
        let doubts = self.actors.doubts();
        let phase = self.room.as_ref().map(Room::phase);
        if let Err(error) = self.present() {
            // Nobody is left waiting for what is not tried.
            let effects = self.room.as_mut().map(|room| room.give_up(&error)).unwrap_or_default();
            self.perform(effects);
            if self.room.is_none() {
                self.leaving.wish = Some(Wish::Nothing);
            }
            return Err(error);
        }
        let outcome = match phase {
            None => self.load().await.map(|room| self.room = Some(room)),
            Some(Phase::Unsettled) => self.reload().await,
            Some(_) => self.refresh().await,
        };
        if outcome.is_ok() {
            self.stale = false;
            self.members_read = Some((Instant::now(), doubts));
        }
        // A room that does not exist is not worth an actor, nor is one of which nothing could be read: there are more
        // numbers that somebody may name than actors that a node can hold.
        if self.room.is_none() && outcome.is_err() {
            self.leaving.wish = Some(Wish::Nothing);
        }
        self.note(&outcome);
        outcome
    }

    /// Makes sure that one who is not a member by our memory is none by storage's either.
    async fn look_for(&mut self, user_id: u64) -> Result<()> {
        let known = self.room.as_ref().is_some_and(|room| room.member(user_id).is_some());
        let fresh = self.members_read.is_some_and(|(at, _)| at.elapsed() < DENIAL_AGE_MAX);
        if known || fresh {
            return Ok(());
        }
        self.present()?;
        let stores = &self.actors.inner.stores;
        let member = stores.conversations.member(self.conversation_id(), user_id).await.map_err(Error::from);
        self.note(&member);
        if member?.is_some_and(|member| member.removed_at_ms == 0) {
            self.stale = true;
            self.settle().await?;
        }
        Ok(())
    }

    /// Refuses while storage is known to be away.
    pub(super) fn present(&self) -> Result<()> {
        match &self.away {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Learns from an answer of storage whether it is away.
    pub(super) fn note<T>(&mut self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.away = None,
            Err(error) if error.is_retryable() => {
                self.away = Some((Instant::now() + AWAY_PAUSE, error.clone()))
            }
            Err(_) => {}
        }
    }

    async fn load(&mut self) -> Result<Room<Waiter>> {
        let actors = self.actors.clone();
        let stores = &actors.inner.stores;
        let conversation_id = self.conversation_id();
        let read = match actors.inner.newborns.take(conversation_id) {
            Some(new) => new,
            None => actors.inner.loads.ask(conversation_id).await?,
        };
        let conversation = read.opening.conversation.ok_or_else(|| {
            Error::not_found(format!(
                "conversation {conversation_id} does not exist; list yours to find its id"
            ))
        })?;
        let members = match read.opening.members {
            Some(members) => members,
            None => stores.conversations.members(conversation_id).await?,
        };
        let recent = read.tail;
        self.pace = Pace::load(stores, &conversation, &recent).await?;
        let last_seq = recent.last().map_or(0, |message| message.seq);
        let bounds = Bounds::of(&actors.inner.config);
        // The owner before us may have died between storing and pushing; sessions drop what they have had.
        let young = self.young_ms();
        let repush: Vec<Message> =
            recent.iter().filter(|message| message.created_at_ms > young).cloned().collect();
        let loaded = Loaded {
            conversation,
            members,
            last_seq,
            unpushed: recent,
            stored: Vec::new(),
            targets: Vec::new(),
        };
        let room = Room::new(loaded, bounds);
        for message in repush {
            self.push_message(&room.member_ids(), room.conversation().kind, message, 0);
        }
        Ok(room)
    }

    /// Reads the membership again.
    async fn refresh(&mut self) -> Result<()> {
        let actors = self.actors.clone();
        let stores = &actors.inner.stores;
        let conversation_id = self.conversation_id();
        // After a fault all rooms in use do this: most connections are left to the writers.
        let _turn = actors.inner.refreshes.acquire().await;
        let conversation = stores.conversations.conversation(conversation_id).await?;
        let members = stores.conversations.members(conversation_id).await?;
        let conversation =
            conversation.ok_or_else(|| Error::not_found("the conversation does not exist any more"))?;
        let landed = self.landed(&conversation, &members);
        let Some(room) = &mut self.room else { return Ok(()) };
        let effects = room.refresh(conversation, members);
        self.perform(effects);
        self.tell_landed(landed);
        Ok(())
    }

    async fn reload(&mut self) -> Result<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        let stores = &self.actors.inner.stores;
        let conversation_id = self.vitals.address.key;
        let (pushed_seq, pending) = (room.pushed_seq(), room.pending_keys());
        let changed = room.pending_targets();
        let answer: StoreResult<Option<Loaded>> = async {
            let Some(conversation) = stores.conversations.conversation(conversation_id).await? else {
                return Ok(None);
            };
            let members = stores.conversations.members(conversation_id).await?;
            // What is pushed is read last, so that nothing found stored before is left out of it.
            let stored = stores.messages.stored(&pending).await?;
            let last_seq = stores.messages.last_seq(conversation_id).await?;
            let mut targets = Vec::new();
            for seq in changed {
                targets.extend(stores.messages.after(conversation_id, seq - 1, 1).await?);
            }
            let unpushed = stores.messages.after(conversation_id, pushed_seq, REPUSH_MAX).await?;
            Ok(Some(Loaded { conversation, members, last_seq, unpushed, stored, targets }))
        }
        .await;
        let mut landed = Vec::new();
        let effects = match answer {
            Ok(Some(loaded)) => {
                landed = self.landed(&loaded.conversation, &loaded.members);
                self.room.as_mut().map(|room| room.reload(loaded)).unwrap_or_default()
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
        self.tell_landed(landed);
        self.pump();
        Ok(())
    }

    fn send(
        &mut self,
        user_id: u64,
        session_id: u64,
        send: SendRequest,
        forwarded_from: Option<ForwardedFrom>,
        waiter: Waiter,
    ) {
        // Its client has waited for long enough to try again, and what it says then is stored instead.
        let overload = &self.actors.inner.overload;
        if overload.is_late(waiter.since) {
            return waiter.answer(Err(overload.shed(Shed::Room)));
        }
        if let Err(error) = self.may_write(user_id, &send.client_id) {
            return self.refuse(user_id, send.client_id, error, waiter);
        }
        let Some(room) = &mut self.room else { return };
        if let Err(error) = room.admits_references(user_id, &send) {
            return self.refuse(user_id, send.client_id, error, waiter);
        }
        // Looked at here, when it takes its place in the order: the earlier one may have been refused while both waited. Not
        // before, so that what is refused for good is not told to try again.
        if waiter.reply.is_void() {
            return waiter.answer(Err(refusals::void()));
        }
        let effects = room.send_copy(user_id, session_id, send, forwarded_from, waiter).into_iter().collect();
        self.perform(effects);
        self.pump();
    }

    /// Changes a message by an entry about it. The room waits for the message if it has not had to do with it lately, as later
    /// entries must be judged behind this one.
    async fn change_message(&mut self, session_id: u64, mut entry: Message, waiter: Waiter) {
        entry.conversation_id = self.conversation_id();
        let (by, target_seq) = (entry.sender_id, entry.target_seq);
        let Some(room) = &self.room else { return };
        if by != 0
            && let Err(error) = room.require_member(by)
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        // To edit is to write, but for the pauses of slow mode.
        if entry.kind() == MessageKind::Edit
            && let Err(error) = self.may_write(by, &entry.client_id)
            && error.code != ErrorCode::ResourceExhausted
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        if entry.kind() == MessageKind::Reaction
            && let Err(error) = self.may_react(by, &entry.client_id)
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        let known = room.targets.knows(target_seq) || room.repeated(by, &entry.client_id).is_some();
        if !known && (1..=room.last_seq()).contains(&target_seq) {
            let log = self.actors.inner.stores.messages.clone();
            let found = match self.present() {
                Ok(()) => log.after(self.conversation_id(), target_seq - 1, 1).await.map_err(Error::from),
                Err(away) => Err(away),
            };
            self.note(&found);
            match (found, &mut self.room) {
                (Ok(found), Some(room)) => found.into_iter().for_each(|target| room.targets.learn(target)),
                (Err(error), _) => return waiter.answer(Err(error)),
                _ => return,
            }
        }
        let Some(room) = &mut self.room else { return };
        if waiter.reply.is_void() {
            return waiter.answer(Err(refusals::void()));
        }
        let client_id = entry.client_id.clone();
        match room.change(session_id, entry, waiter, clock::now_ms()) {
            Ok(effect) => {
                self.perform(effect.into_iter().collect());
                self.pump();
            }
            Err((waiter, error)) if error.is_retryable() || by == 0 => waiter.answer(Err(error)),
            Err((waiter, error)) => self.refuse(by, client_id, error, waiter),
        }
    }

    /// Refuses what would be stored, unless it repeats something that was when it was still allowed; off the room's own
    /// task, so that those who are refused hold up nobody.
    fn refuse(&self, user_id: u64, client_id: String, error: Error, waiter: Waiter) {
        // What its session has sent since must not be stored meanwhile: the refusal may get lost, and this one be asked again
        // when it is allowed.
        if let Some(standing) = waiter.reply.standing() {
            standing.condemn();
        }
        let Ok(turn) = Arc::clone(&self.actors.inner.denials).try_acquire_owned() else {
            let error = "too much that is not allowed is asked; try again in a moment";
            return waiter.answer(Err(Error::exhausted(error, SWEEP_EVERY)));
        };
        let (actors, conversation_id) = (self.actors.clone(), self.conversation_id());
        self.actors.inner.runtime.spawn(async move {
            let _turn = turn;
            let stores = &actors.inner.stores;
            let key = ClientKey { conversation_id, sender_id: user_id, client_id };
            let found = match stores.conversations.member(conversation_id, user_id).await {
                Ok(Some(_)) => stores.messages.stored(std::slice::from_ref(&key)).await,
                other => other.map(|_| Vec::new()),
            };
            waiter.answer(match found {
                Ok(found) => match found.first() {
                    Some((_, seq, created_at_ms)) => Ok(room(room_reply::Reply::Sent(Sent {
                        conversation_id,
                        seq: *seq,
                        client_id: key.client_id,
                        created_at_ms: *created_at_ms,
                        duplicate: true,
                    }))),
                    None => Err(error),
                },
                Err(away) => Err(away.into()),
            });
        });
    }

    /// Lets the next group leave, if it may. A room that moves begins nothing new but what only it can say.
    pub(super) fn pump(&mut self) {
        let Some(room) = &mut self.room else { return };
        match self.leaving.stay {
            Stay::Here => {}
            Stay::Finishing if room.has_announcement() => {}
            _ => return,
        }
        if let Some(group) = room.next_group(clock::now_ms()) {
            let myself = self.myself.clone();
            self.actors.inner.writers.append(group, move |outcome| {
                // The room outlives its group in flight.
                let _ = myself.cast(RoomMessage::GroupDone(outcome));
            });
        }
    }

    fn group_stored(&mut self) {
        let effects = self.room.as_mut().map(Room::stored).unwrap_or_default();
        self.perform(effects);
        self.pump();
    }

    async fn group_done(&mut self, outcome: StoreResult<()>) {
        let Some(room) = &mut self.room else { return };
        match outcome {
            Ok(()) => self.group_stored(),
            Err(StoreError::Exists | StoreError::Unsettled(_)) => {
                room.unsettle();
                // An error was told to everybody who waits; the next request tries again.
                let _ = self.settle().await;
            }
            Err(error) => {
                let error = Error::from(error);
                let mut effects = room.refused(&error);
                if error.is_retryable() {
                    // Those behind would only wait for the same, group after group.
                    effects.extend(room.give_up(&error));
                }
                if matches!(self.leaving.stay, Stay::Finishing) {
                    room.drop_announcements();
                }
                self.perform(effects);
                // What is left, the room's own, is tried again by the sweep; what waited behind a group that was refused
                // for its own fault, now.
                let at_fault = !error.is_retryable();
                self.note::<()>(&Err(error));
                if at_fault {
                    self.pump();
                }
            }
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
