//! What each frame of a signed-in client does: one table for all socket kinds.

use async_trait::async_trait;

use crate::actors::session::{Handler, Session};
use crate::cluster::ReplyTo;
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_request;
use crate::protocol::codec;
use crate::protocol::v1::client_frame::Request;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{
    ClientFrame, Ok as Done, Pong, Send, Sent, ServerFrame, TypingState, WatchPresence,
};
use crate::services::accounts::Accounts;
use crate::services::changes::Change;
use crate::services::messages::Messages;
use crate::services::{Presences, Schedule, Services};

/// Handles the frames of all sessions of a node.
pub struct Dispatch {
    messages: Messages,
    rooms: crate::actors::room::Rooms,
    accounts: Accounts,
    presence: Presences,
    schedule: Schedule,
    /// Bytes of the largest frame, which bounds pages.
    frame_bytes_max: usize,
}

impl Dispatch {
    /// Over these services.
    pub fn new(services: &Services, rooms: crate::actors::room::Rooms, frame_bytes_max: usize) -> Self {
        Self {
            messages: services.messages.clone(),
            rooms,
            accounts: services.accounts.clone(),
            presence: services.presence.clone(),
            schedule: services.schedule.clone(),
            frame_bytes_max,
        }
    }

    /// Answers how the users look, and only then lets events of them follow.
    async fn watch(&self, session: &Session, id: u64, watch: WatchPresence) {
        match self.presence.watch(session.id(), session.user_id(), &watch.user_ids).await {
            Ok(page) => {
                session.answer(id, Body::PresencePage(page.clone()));
                self.presence.begin(session.id(), &page);
            }
            Err(error) => session.answer(id, Body::Error(error.into())),
        }
    }

    /// Posts a send. Its answer goes straight from the room to the outbox, in the conversation's order.
    async fn send(&self, session: &Session, id: u64, send: Send) {
        if Schedule::is_for_later(&send) {
            let kept = self.schedule.add(session.user_id(), send).await.map(Body::Scheduled);
            return session.answer(id, kept.unwrap_or_else(|error| Body::Error(error.into())));
        }
        let reply = |conversation_id| answer_to(session, id, conversation_id);
        if let Err(error) = self.messages.post(session.user_id(), session.id(), send, reply).await {
            session.answer(id, Body::Error(error.into()));
        }
    }

    /// Posts a change of a message, which is an entry of the log as a send is.
    async fn change(&self, session: &Session, id: u64, change: Change) {
        let reply = |conversation_id| answer_to(session, id, conversation_id);
        let posted = self.messages.post_change(session.user_id(), session.id(), change, reply).await;
        if let Err(error) = posted {
            session.answer(id, Body::Error(error.into()));
        }
    }

    /// Posts a send that needs no waiting; gives the send back if its conversation has to be looked up.
    fn send_now(&self, session: &Session, id: u64, send: Send) -> Option<Send> {
        let reply = |conversation_id| answer_to(session, id, conversation_id);
        match self.messages.post_now(session.user_id(), session.id(), send, reply) {
            Ok(left) => left,
            Err(error) => {
                session.answer(id, Body::Error(error.into()));
                None
            }
        }
    }

    /// Lets the others know who writes; whether that may be was looked at.
    fn typing(&self, session: &Session, id: u64, typing: TypingState) {
        self.post(session, id, typing.conversation_id, room_request::Command::Typing(typing));
    }

    /// Posts a command that is answered by `ok`.
    fn post(&self, session: &Session, id: u64, conversation_id: u64, command: room_request::Command) {
        let answered = session.clone();
        session.posts();
        let reply = ReplyTo::new(move |answer| {
            answered.posted_is_answered();
            let body = match answer {
                Ok(()) => Body::Ok(Done {}),
                Err(error) => Body::Error(Error::into(error)),
            };
            answered.answer(id, body);
        });
        self.rooms.post_done(session.user_id(), session.id(), conversation_id, command, reply);
    }
}

/// Where the answer to send `id` goes: the place that it has in the order of its conversation. From here on the outbox
/// expects it.
fn answer_to(session: &Session, id: u64, conversation_id: u64) -> ReplyTo<Sent> {
    session.outbox().expect_answer(conversation_id);
    session.posts();
    let session = session.clone();
    ReplyTo::new(move |answer: Result<Sent>| {
        session.posted_is_answered();
        let place = answer.as_ref().ok().filter(|sent| !sent.duplicate).map(|sent| sent.seq);
        let bytes = match id {
            0 => bytes::Bytes::new(),
            id => {
                let body = answer.map_or_else(|error| Body::Error(error.into()), Body::Sent);
                codec::encode(&ServerFrame { reply_to: id, body: Some(body) }, session.format())
            }
        };
        match place {
            Some(seq) => session.outbox().sent(conversation_id, seq, bytes),
            None => session.outbox().unsent(conversation_id, bytes),
        }
    })
}

/// Whether it is about a conversation that it does not name. Sends and changes of messages say so themselves.
fn names_no_conversation(request: &Request) -> bool {
    let named = match request {
        Request::Delivered(cursor) | Request::Read(cursor) => cursor.conversation_id,
        Request::Typing(typing) => typing.conversation_id,
        Request::History(history) => history.conversation_id,
        _ => return false,
    };
    named == 0
}

#[async_trait]
impl Handler for Dispatch {
    fn handle_now(&self, session: &Session, frame: ClientFrame) -> Option<ClientFrame> {
        let id = frame.id;
        if frame.request.as_ref().is_some_and(names_no_conversation) {
            let error =
                Error::invalid("conversation_id", "the frame names no conversation; add its conversation_id");
            session.answer(id, Body::Error(error.into()));
            return None;
        }
        match frame.request {
            Some(Request::Send(send)) => {
                let left = self.send_now(session, id, send)?;
                return Some(ClientFrame { id, request: Some(Request::Send(left)) });
            }
            Some(Request::Delivered(cursor)) => {
                let command = room_request::Command::Delivered(cursor);
                self.post(session, id, cursor.conversation_id, command);
            }
            Some(Request::Read(cursor)) => {
                self.post(session, id, cursor.conversation_id, room_request::Command::Read(cursor));
            }
            Some(Request::Typing(typing))
                if self.messages.may_write_now(session.user_id(), typing.conversation_id, 0) =>
            {
                self.typing(session, id, typing);
            }
            Some(Request::Ping(_)) => session.answer(id, Body::Pong(Pong {})),
            request => return Some(ClientFrame { id, request }),
        }
        None
    }

    async fn handle(&self, session: &Session, frame: ClientFrame) {
        let Some(frame) = self.handle_now(session, frame) else { return };
        let (id, user_id) = (frame.id, session.user_id());
        let answer = match frame.request {
            Some(Request::Send(send)) => return self.send(session, id, send).await,
            Some(Request::Typing(typing)) => {
                match self.messages.may_write_in(user_id, typing.conversation_id).await {
                    Ok(()) => return self.typing(session, id, typing),
                    Err(error) => Err(error),
                }
            }
            Some(Request::Sync(request)) => {
                self.messages.sync(user_id, request, self.frame_bytes_max).await.map(Body::SyncPage)
            }
            Some(Request::History(request)) => {
                self.messages.history(user_id, request, self.frame_bytes_max).await.map(Body::HistoryPage)
            }
            Some(Request::WatchPresence(watch)) => return self.watch(session, id, watch).await,
            Some(Request::SetPresence(said)) => self
                .presence
                .set(user_id, session.id(), said.status, &said.text)
                .await
                .map(|()| Body::Ok(Done {})),
            Some(Request::Hello(_) | Request::Login(_)) => Err(Error::precondition(
                "this connection is signed in already; open another one to sign in as somebody else",
            )),
            Some(Request::Edit(edit)) => return self.change(session, id, Change::Edit(edit)).await,
            Some(Request::Recall(recall)) => return self.change(session, id, Change::Recall(recall)).await,
            Some(Request::React(react)) => return self.change(session, id, Change::React(react)).await,
            None => Err(Error::invalid("request", "the frame names no request that this server knows")),
            // Done by `handle_now`.
            Some(Request::Delivered(_) | Request::Read(_) | Request::Ping(_)) => return,
        };
        session.answer(id, answer.unwrap_or_else(|error| Body::Error(error.into())));
    }

    fn forget(&self, cache_key: &str) {
        self.accounts.forget(cache_key);
    }
}
