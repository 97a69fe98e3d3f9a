//! The actor of a presence shard. Identity: `presence/{shard}`. Owns the shard's slot of the [`Directory`]: it alone
//! writes it. Never asks anybody. Dies when its shard moves away.
//!
//! [`Directory`]: crate::actors::directory::Directory

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use crate::actors::directory::Directory;
use crate::actors::registry::Vitals;
use crate::clock;
use crate::cluster::ReplyTo;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    Done, PresenceReply, PresenceRequest, Reply, SessionList, presence_reply, presence_request, reply,
};

/// What a shard takes.
pub enum ShardMessage {
    /// From any node.
    Request(PresenceRequest, ReplyTo<Reply>),
    /// The shard has moved.
    Stop,
}

impl ractor::Message for ShardMessage {}

/// The behaviour; its state is the slot.
pub struct ShardActor;

/// What a shard is born with.
pub struct ShardArguments {
    /// Where its slot is.
    pub directory: Arc<Directory>,
    /// Its own vitals.
    pub vitals: Arc<Vitals>,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardArguments;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> std::result::Result<ShardArguments, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardArguments,
    ) -> std::result::Result<(), ActorProcessingErr> {
        state.vitals.handle(clock::now_ms());
        match message {
            ShardMessage::Request(request, reply) => reply.send(state.answer(request)),
            ShardMessage::Stop => myself.stop(None),
        }
        Ok(())
    }
}

impl ShardArguments {
    fn answer(&self, request: PresenceRequest) -> Result<Reply> {
        use presence_request::Command;
        let (shard, directory) = (self.vitals.address.key, &self.directory);
        let answer = match request.command {
            Some(Command::Register(register)) => {
                directory.register(shard, register);
                presence_reply::Reply::Done(Done {})
            }
            Some(Command::Unregister(gone)) => {
                directory.unregister(shard, gone.user_id, gone.session_id);
                presence_reply::Reply::Done(Done {})
            }
            Some(Command::Lookup(lookup)) => {
                let sessions =
                    lookup.user_ids.iter().flat_map(|user_id| directory.sessions_of(*user_id)).collect();
                presence_reply::Reply::Sessions(SessionList { sessions })
            }
            Some(Command::Inspect(_)) => {
                let (users, sessions, complete) = directory.counts(shard).unwrap_or_default();
                let view = json!({ "shard": shard, "users": users, "sessions": sessions, "watchers": 0,
                    "complete": complete, "activation": self.vitals.activation });
                presence_reply::Reply::Inspection(view.to_string())
            }
            None => return Err(Error::internal("a presence request without a command")),
        };
        Ok(Reply { reply: Some(reply::Reply::Presence(PresenceReply { reply: Some(answer) })) })
    }
}
