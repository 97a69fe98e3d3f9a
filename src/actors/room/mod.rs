//! Room actors: the only sequencers of their conversations' logs.

pub mod actor;
pub mod changes;
#[cfg(test)]
mod changes_tests;
mod cursors;
mod describe;
mod discipline;
mod joining;
#[cfg(test)]
mod lane_tests;
mod leaving;
pub(super) mod loading;
mod members;
#[cfg(test)]
mod move_tests;
mod news;
#[cfg(test)]
mod news_tests;
mod pins;
mod readers;
mod recent;
mod sending;
mod settings;
mod settle;
pub mod state;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
pub(in crate::actors) mod testing;
#[cfg(test)]
mod tests;
mod typing;

use std::sync::Arc;

use ractor::ActorRuntime;
use tokio::time::Instant;

use self::actor::{Asked, RoomActor, RoomArguments, RoomMessage, Waiter};
use super::overload::Overload;
use super::registry::Vitals;
use super::{Actors, AnyReply};
use crate::cluster::{Address, ReplyTo, Turn};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    AddMembers, Describe, Expire, Forward, Inspect, Join, Leave, Opened, Pin, ReaderList, Readers,
    RemoveMember, Reply, Request, RoomRequest, SayOwed, reply, request, room_reply, room_request,
};
use crate::protocol::v1;

/// Asks rooms, on whichever node they live. Cheap to clone. Every method may answer `not_found`, `permission_denied`,
/// `unavailable` or `deadline_exceeded` (within `cluster.ask_timeout`).
#[derive(Clone)]
pub struct Rooms {
    actors: Actors,
}

impl Rooms {
    pub(super) fn new(actors: Actors) -> Self {
        Self { actors }
    }

    /// What their node refuses as too much.
    pub fn overload(&self) -> &Arc<Overload> {
        self.actors.overload()
    }

    /// A direct conversation was made, and its first message is soon to follow.
    pub fn born(&self, conversation_id: u64, users: (u64, u64), now_ms: u64) {
        if self.actors.cluster().owns(&Address::room(conversation_id)) {
            self.actors.inner.newborns.put(conversation_id, users, now_ms);
        }
    }

    /// Stores a message and tells the members.
    pub async fn send(&self, by: u64, send: v1::Send) -> Result<v1::Sent> {
        let (reply, answer) = ReplyTo::channel();
        self.post_send(by, 0, send, reply);
        answer.await
    }

    /// The same without waiting: sends of one caller to one conversation are taken in the order of these calls.
    /// `session_id` is the sender's own session, which gets no push of the message.
    pub fn post_send(&self, by: u64, session_id: u64, send: v1::Send, reply: ReplyTo<v1::Sent>) {
        let conversation_id = send.conversation_id;
        self.post_entry(by, session_id, conversation_id, room_request::Command::Send(send), reply);
    }

    /// The same for any command that makes an entry of the log: a send, an edit, a recall, a reaction.
    pub fn post_entry(
        &self,
        by: u64,
        session_id: u64,
        conversation_id: u64,
        command: room_request::Command,
        reply: ReplyTo<v1::Sent>,
    ) {
        // One continuation, not one in another, as this is what every message takes.
        let reply = ReplyTo::new(move |answer: Result<Reply>| {
            reply.send(answer.and_then(|answer| match room_reply_of(answer)? {
                room_reply::Reply::Sent(sent) => Ok(sent),
                _ => Err(surprised()),
            }));
        });
        let request = RoomRequest { user_id: by, session_id, command: Some(command) };
        self.actors.ask_room(conversation_id, request, reply);
    }

    /// All up to seq were delivered to a device of `by`.
    pub async fn delivered(&self, by: u64, cursor: v1::Cursor) -> Result<()> {
        self.ask_done(by, cursor.conversation_id, room_request::Command::Delivered(cursor)).await
    }

    /// All up to seq were read by `by`.
    pub async fn read(&self, by: u64, cursor: v1::Cursor) -> Result<()> {
        self.ask_done(by, cursor.conversation_id, room_request::Command::Read(cursor)).await
    }

    /// A command that answers with nothing but its success, without waiting.
    pub fn post_done(
        &self,
        by: u64,
        session_id: u64,
        conversation_id: u64,
        command: room_request::Command,
        reply: ReplyTo<()>,
    ) {
        let reply = ReplyTo::new(move |answer: Result<room_reply::Reply>| reply.send(answer.map(|_| ())));
        self.post(by, session_id, conversation_id, command, reply);
    }

    /// The first act of a new group: stores its `system` message and tells the members.
    pub async fn opened(&self, by: u64, conversation_id: u64) -> Result<()> {
        self.ask_done(by, conversation_id, room_request::Command::Opened(Opened {})).await
    }

    /// Adds users (who exist) to a group; `by` is its owner or an admin.
    pub async fn add_members(&self, by: u64, conversation_id: u64, user_ids: Vec<u64>) -> Result<()> {
        let command = room_request::Command::AddMembers(AddMembers { user_ids });
        self.ask_done(by, conversation_id, command).await
    }

    /// Removes a member from a group.
    pub async fn remove_member(&self, by: u64, conversation_id: u64, user_id: u64) -> Result<()> {
        let command = room_request::Command::RemoveMember(RemoveMember { user_id });
        self.ask_done(by, conversation_id, command).await
    }

    /// Joins a group, or asks to where its owner and admins decide; whether it was only asked. Already a member: nothing
    /// changes.
    pub async fn join(&self, by: u64, conversation_id: u64, join: Join) -> Result<bool> {
        joining::is_requested(self.ask(by, conversation_id, room_request::Command::Join(join)).await?)
    }

    /// A change of a group that answers with nothing but its success. What it may be refused for beside the caller's
    /// role: `not_found` (there is no such member, request, ban or code), `failed_precondition` (a list is full, or the
    /// group is dissolved or none).
    pub async fn change(&self, by: u64, conversation_id: u64, command: room_request::Command) -> Result<()> {
        self.ask_done(by, conversation_id, command).await
    }

    /// Leaves a group. The owner passes ownership to the oldest admin, else to the oldest member; with the last member the
    /// group ends.
    pub async fn leave(&self, by: u64, conversation_id: u64) -> Result<()> {
        self.ask_done(by, conversation_id, room_request::Command::Leave(Leave {})).await
    }

    /// The conversation as `by` sees it, cursors in memory included.
    pub async fn describe(&self, by: u64, conversation_id: u64) -> Result<v1::Conversation> {
        match self.ask(by, conversation_id, room_request::Command::Describe(Describe {})).await? {
            room_reply::Reply::Conversation(conversation) => Ok(conversation),
            _ => Err(surprised()),
        }
    }

    /// Whether this node is to look after the room.
    pub fn is_here(&self, conversation_id: u64) -> bool {
        self.actors.cluster().owns(&Address::room(conversation_id))
    }

    /// Stores a copy of another message.
    pub async fn forward(&self, by: u64, send: v1::Send, from: v1::ForwardedFrom) -> Result<v1::Sent> {
        let (reply, answer) = ReplyTo::channel();
        let conversation_id = send.conversation_id;
        let command = room_request::Command::Forward(Forward { send: Some(send), from: Some(from) });
        self.post_entry(by, 0, conversation_id, command, reply);
        answer.await
    }

    /// Empties a message that has expired. `failed_precondition`, `not_found`: nothing is left to be done.
    pub async fn expire(&self, conversation_id: u64, seq: u64) -> Result<v1::Sent> {
        let (reply, answer) = ReplyTo::channel();
        let command = room_request::Command::Expire(Expire { seq });
        self.post_entry(0, 0, conversation_id, command, reply);
        answer.await
    }

    /// Lets a group say what it has kept to be said of changes of itself, and its log has not got.
    pub async fn say_owed(&self, conversation_id: u64) -> Result<()> {
        self.ask_done(0, conversation_id, room_request::Command::SayOwed(SayOwed {})).await
    }

    /// Pins a message in its conversation, or takes the pin off.
    pub async fn pin(&self, by: u64, conversation_id: u64, seq: u64, remove: bool) -> Result<()> {
        self.ask_done(by, conversation_id, room_request::Command::Pin(Pin { seq, remove })).await
    }

    /// Whom a message by `sender_id` has reached, and who has read it.
    pub async fn readers(
        &self,
        by: u64,
        conversation_id: u64,
        seq: u64,
        sender_id: u64,
    ) -> Result<ReaderList> {
        let command = room_request::Command::Readers(Readers { seq, sender_id });
        match self.ask(by, conversation_id, command).await? {
            room_reply::Reply::Readers(list) => Ok(list),
            _ => Err(surprised()),
        }
    }

    /// The actor's own view of itself, as JSON; activates the room if need be.
    pub async fn inspect(&self, conversation_id: u64) -> Result<String> {
        match self.ask(0, conversation_id, room_request::Command::Inspect(Inspect {})).await? {
            room_reply::Reply::Inspection(json) => Ok(json),
            _ => Err(surprised()),
        }
    }

    async fn ask_done(&self, by: u64, conversation_id: u64, command: room_request::Command) -> Result<()> {
        self.ask(by, conversation_id, command).await.map(|_| ())
    }

    async fn ask(
        &self,
        by: u64,
        conversation_id: u64,
        command: room_request::Command,
    ) -> Result<room_reply::Reply> {
        let (reply, answer) = ReplyTo::channel();
        self.post(by, 0, conversation_id, command, reply);
        answer.await
    }

    fn post(
        &self,
        user_id: u64,
        session_id: u64,
        conversation_id: u64,
        command: room_request::Command,
        reply: ReplyTo<room_reply::Reply>,
    ) {
        let request = RoomRequest { user_id, session_id, command: Some(command) };
        let reply = ReplyTo::new(move |answer: Result<Reply>| {
            reply.send(answer.and_then(room_reply_of));
        });
        self.actors.ask_room(conversation_id, request, reply);
    }
}

fn room_reply_of(answer: Reply) -> Result<room_reply::Reply> {
    match answer.reply {
        Some(reply::Reply::Room(room)) => room.reply.ok_or_else(surprised),
        _ => Err(surprised()),
    }
}

fn surprised() -> Error {
    Error::internal("a room answered as something else")
}

impl Actors {
    /// Asks a room wherever it lives.
    fn ask_room(&self, conversation_id: u64, request: RoomRequest, reply: AnyReply) {
        let limit = self.inner.config.cluster.ask_timeout;
        let request = Request { request: Some(request::Request::Room(request)) };
        self.cluster().ask(Address::room(conversation_id), request, limit, reply);
    }

    /// Casts to a room of this node, which starts if need be; given back if the turn is over.
    pub(super) fn cast_room(
        &self,
        conversation_id: u64,
        request: RoomRequest,
        reply: AnyReply,
        turn: Turn<'_>,
    ) -> Option<(RoomRequest, AnyReply)> {
        let inner = &self.inner;
        let address = Address::room(conversation_id);
        let mut asked = self.admit(address, request, 0, reply)?;
        asked.home = turn.is_homeward();
        let may_enter = |vitals: &Vitals| {
            if turn.is_homeward() {
                vitals.comes_home();
            }
            !turn.is_over()
        };
        let back = inner.rooms.cast(address, RoomMessage::Request(asked), may_enter, |vitals| {
            let _runtime = inner.runtime.enter();
            match ActorRuntime::spawn_instant(None, RoomActor, RoomArguments { actors: self.clone(), vitals })
            {
                Ok((actor, _)) => Some(actor),
                Err(error) => {
                    tracing::error!(%address, %error, "a room could not start");
                    None
                }
            }
        });
        asked_again(back)
    }

    /// Casts to a room that is still active here though another node owns it; given back if there is none, or if the
    /// turn is over.
    pub(super) fn cast_held_room(
        &self,
        conversation_id: u64,
        request: RoomRequest,
        handovers: u32,
        reply: AnyReply,
        turn: Turn<'_>,
    ) -> Option<(RoomRequest, AnyReply)> {
        let address = Address::room(conversation_id);
        let asked = self.admit(address, request, handovers, reply)?;
        asked_again(self.inner.rooms.offer(address, RoomMessage::Request(asked), || !turn.is_over()))
    }

    /// A request with its deadline, unless too many wait already. Sends that wait in the room have a bound of their own;
    /// this one is for what has not got so far.
    fn admit(
        &self,
        address: Address,
        request: RoomRequest,
        handovers: u32,
        reply: AnyReply,
    ) -> Option<Asked> {
        let config = &self.inner.config;
        if self.inner.rooms.depth(address) > 2 * config.room.pending_sends as u64 {
            let error = "too many requests wait in this conversation; send more slowly";
            reply.send(Err(Error::exhausted(error, std::time::Duration::from_millis(500))));
            return None;
        }
        if stores_a_message(&request)
            && let Err(busy) = self.inner.overload.admit_to_writers()
        {
            reply.send(Err(busy));
            return None;
        }
        let since = Instant::now();
        let deadline = since + config.cluster.ask_timeout;
        Some(Asked { request, waiter: Waiter { reply, since, deadline }, handovers, home: false })
    }
}

/// Whether it is a send, or the like.
fn stores_a_message(request: &RoomRequest) -> bool {
    use room_request::Command;
    matches!(
        request.command,
        Some(Command::Send(_) | Command::Forward(_) | Command::Edit(_) | Command::React(_))
    )
}

/// A request that was given back.
fn asked_again(back: Option<RoomMessage>) -> Option<(RoomRequest, AnyReply)> {
    match back {
        Some(RoomMessage::Request(asked)) => Some((asked.request, asked.waiter.reply)),
        _ => None,
    }
}
