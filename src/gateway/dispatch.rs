//! What each frame of a signed-in client does: one table for all socket kinds.

use async_trait::async_trait;

use crate::actors::session::{Handler, Session};
use crate::cluster::ReplyTo;
use crate::domain::Error;
use crate::protocol::cluster::room_request;
use crate::protocol::codec;
use crate::protocol::v1::client_frame::Request;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ClientFrame, Ok as Done, Pong, Send, ServerFrame};
use crate::services::accounts::Accounts;
use crate::services::messages::Messages;

/// Handles the frames of all sessions of a node.
pub struct Dispatch {
    messages: Messages,
    rooms: crate::actors::room::Rooms,
    accounts: Accounts,
    /// Bytes of the largest frame, which bounds pages.
    frame_bytes_max: usize,
}

impl Dispatch {
    /// Over these services.
    pub fn new(
        messages: Messages,
        rooms: crate::actors::room::Rooms,
        accounts: Accounts,
        frame_bytes_max: usize,
    ) -> Self {
        Self { messages, rooms, accounts, frame_bytes_max }
    }

    /// Posts a send. Its answer goes straight from the room to the outbox, in the conversation's order.
    async fn send(&self, session: &Session, id: u64, send: Send) {
        let answered = session.clone();
        let reply = |conversation_id: u64| {
            session.outbox().expect_answer(conversation_id);
            ReplyTo::new(move |answer| {
                let body = match &answer {
                    Ok(sent) => Body::Sent(crate::protocol::v1::Sent::clone(sent)),
                    Err(error) => Body::Error(Error::clone(error).into()),
                };
                let bytes = match id {
                    0 => bytes::Bytes::new(),
                    id => codec::encode(&ServerFrame { reply_to: id, body: Some(body) }, answered.format()),
                };
                match answer {
                    Ok(sent) if !sent.duplicate => answered.outbox().sent(conversation_id, sent.seq, bytes),
                    _ => answered.outbox().unsent(conversation_id, bytes),
                }
            })
        };
        if let Err(error) = self.messages.post(session.user_id(), session.id(), send, reply).await {
            session.answer(id, Body::Error(error.into()));
        }
    }

    /// Posts a command that is answered by `ok`.
    fn post(&self, session: &Session, id: u64, conversation_id: u64, command: room_request::Command) {
        let answered = session.clone();
        let reply = ReplyTo::new(move |answer| {
            let body = match answer {
                Ok(()) => Body::Ok(Done {}),
                Err(error) => Body::Error(Error::into(error)),
            };
            answered.answer(id, body);
        });
        self.rooms.post_done(session.user_id(), session.id(), conversation_id, command, reply);
    }
}

#[async_trait]
impl Handler for Dispatch {
    async fn handle(&self, session: &Session, frame: ClientFrame) {
        let (id, user_id) = (frame.id, session.user_id());
        let answer = match frame.request {
            Some(Request::Send(send)) => return self.send(session, id, send).await,
            Some(Request::Delivered(cursor)) => {
                let command = room_request::Command::Delivered(cursor);
                return self.post(session, id, cursor.conversation_id, command);
            }
            Some(Request::Read(cursor)) => {
                return self.post(session, id, cursor.conversation_id, room_request::Command::Read(cursor));
            }
            Some(Request::Typing(typing)) => {
                return self.post(session, id, typing.conversation_id, room_request::Command::Typing(typing));
            }
            Some(Request::Sync(request)) => {
                self.messages.sync(user_id, request, self.frame_bytes_max).await.map(Body::SyncPage)
            }
            Some(Request::History(request)) => {
                self.messages.history(user_id, request, self.frame_bytes_max).await.map(Body::HistoryPage)
            }
            Some(Request::Ping(_)) => Ok(Body::Pong(Pong {})),
            Some(Request::Hello(_) | Request::Login(_)) => Err(Error::precondition(
                "this connection is signed in already; open another one to sign in as somebody else",
            )),
            Some(
                Request::Edit(_)
                | Request::Recall(_)
                | Request::React(_)
                | Request::WatchPresence(_)
                | Request::SetPresence(_),
            ) => Err(Error::precondition("this server does not offer this request yet; see its CHANGELOG")),
            None => Err(Error::invalid("request", "the frame names no request that this server knows")),
        };
        session.answer(id, answer.unwrap_or_else(|error| Body::Error(error.into())));
    }

    fn forget(&self, cache_key: &str) {
        self.accounts.forget(cache_key);
    }
}
