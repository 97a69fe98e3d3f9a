//! The actor of a session. Identity: `session/{session_id}`. Owns the order in which its client's frames are handled.
//! Asks rooms and stores by way of the [`Handler`]. Begins with the first frame and ends when there was none for
//! `session.idle_timeout` (the next one starts another), or with the connection.

use std::sync::Arc;

use async_trait::async_trait;
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, MessagingErr};

use super::Session;
use crate::clock;
use crate::domain::{Error, Result};
use crate::protocol::v1::ClientFrame;

/// What handles a client's frames, in their order: the gateway's dispatch.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles a frame that needs no waiting, on the caller's thread, without blocking; gives any other back.
    fn handle_now(&self, session: &Session, frame: ClientFrame) -> Option<ClientFrame>;
    /// Handles one frame. The next one of the session waits until this returns.
    async fn handle(&self, session: &Session, frame: ClientFrame);
    /// Another node has changed something that a cache of this process holds under `cache_key`.
    fn forget(&self, cache_key: &str);
}

/// What a session takes.
pub enum SessionMessage {
    /// From its socket.
    Frame(ClientFrame),
    /// The socket is gone.
    Stop,
}

impl ractor::Message for SessionMessage {}

/// The behaviour.
pub struct SessionActor;

/// What an activation is born with.
pub struct SessionState {
    handler: Arc<dyn Handler>,
    session: Session,
}

impl Actor for SessionActor {
    type Msg = SessionMessage;
    type State = SessionState;
    type Arguments = SessionState;

    async fn pre_start(
        &self,
        _myself: ActorRef<SessionMessage>,
        arguments: SessionState,
    ) -> std::result::Result<SessionState, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        state: &mut SessionState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        match message {
            SessionMessage::Frame(frame) => {
                state.handler.handle(&state.session, frame).await;
                // Not before: a frame that is being handled is not settled, and its actor is not idle.
                state.session.vitals().handle(clock::now_ms());
                state.session.handled();
            }
            SessionMessage::Stop => myself.stop(None),
        }
        Ok(())
    }
}

/// The place of a session's actor. Whoever casts holds it meanwhile, and it is emptied only while nothing waits in the
/// mailbox or is being handled: so no frame is lost between two activations, and none overtakes another.
#[derive(Default)]
pub(super) enum Seat {
    /// No frame came lately.
    #[default]
    Empty,
    /// An actor is active.
    Taken(ActorRef<SessionMessage>),
    /// The connection has ended: no actor begins any more.
    Closed,
}

impl Seat {
    /// Hands a frame, which was counted, to the actor, and starts one if need be. After the end nobody wants the frame.
    /// An error: no actor can take frames of this session any more.
    pub(super) fn cast(&mut self, session: &Session, frame: ClientFrame) -> Result<()> {
        if let Self::Empty = self {
            *self = Self::Taken(start(session)?);
        }
        let Self::Taken(actor) = self else {
            session.vitals().uncast();
            return Ok(());
        };
        match actor.cast(SessionMessage::Frame(frame)) {
            Err(MessagingErr::SendErr(_)) => Err(Error::internal("the session's actor has ended")),
            _ => Ok(()),
        }
    }

    /// Empties the place and ends its actor, if there is one.
    pub(super) fn passivate(&mut self) {
        if let Self::Taken(actor) = self {
            actor.stop(None);
            *self = Self::Empty;
        }
    }

    /// Ends the actor behind what was cast to it, for good.
    pub(super) fn close(&mut self) {
        if let Self::Taken(actor) = std::mem::replace(self, Self::Closed) {
            // One that has ended already needs no last message.
            let _ = actor.cast(SessionMessage::Stop);
        }
    }

    /// Whether an actor is active.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Taken(_))
    }
}

fn start(session: &Session) -> Result<ActorRef<SessionMessage>> {
    let inner = &session.actors().inner;
    let handler = inner.handler.get().ok_or_else(|| Error::unavailable("the node is still starting"))?;
    let state = SessionState { handler: Arc::clone(handler), session: session.clone() };
    let _runtime = inner.runtime.enter();
    let spawned = ActorRuntime::spawn_instant(None, SessionActor, state);
    let (actor, _) =
        spawned.map_err(|error| Error::internal(format!("a session's actor could not start: {error}")))?;
    Ok(actor)
}
