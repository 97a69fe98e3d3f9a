//! The actor of a session. Identity: `session/{session_id}`. Owns the order in which its client's frames are handled.
//! Asks rooms and stores by way of the [`Handler`]. Lives with its socket, and dies when the connection closes.

use std::sync::Arc;

use async_trait::async_trait;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::Session;
use crate::actors::registry::Vitals;
use crate::clock;
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

/// What a session is born with.
pub struct SessionState {
    pub(super) handler: Arc<dyn Handler>,
    /// Set by the first message: the session exists before its handle does.
    pub(super) session: Arc<std::sync::OnceLock<Session>>,
    pub(super) vitals: Arc<Vitals>,
}

impl Actor for SessionActor {
    type Msg = SessionMessage;
    type State = SessionState;
    type Arguments = SessionState;

    async fn pre_start(
        &self,
        _myself: ActorRef<SessionMessage>,
        arguments: SessionState,
    ) -> Result<SessionState, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMessage::Frame(frame) => {
                if let Some(session) = state.session.get() {
                    state.handler.handle(session, frame).await;
                    // Not before: a frame that is being handled is not settled.
                    state.vitals.handle(clock::now_ms());
                    session.handled();
                }
            }
            SessionMessage::Stop => myself.stop(None),
        }
        Ok(())
    }
}
