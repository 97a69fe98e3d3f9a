//! The address of a virtual actor: what it is and which one.

use std::fmt;
use std::str::FromStr;

use crate::protocol::cluster::{ActorAddress, actor_address};

/// Kinds of actors that have an address in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A conversation's sequencer; the key is the `conversation_id`.
    Room,
    /// A shard of the session directory; the key is its number.
    Presence,
    /// A live connection's actor; the key is the `session_id`. It lives where its socket is, not where placement says.
    Session,
}

impl Kind {
    /// The word of the admin endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Presence => "presence",
            Self::Session => "session",
        }
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Room, Self::Presence, Self::Session]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| format!("'{word}' is no kind of actor; take session, room or presence"))
    }
}

/// Names one actor in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub key: u64,
}

impl Address {
    /// The room of a conversation.
    pub fn room(conversation_id: u64) -> Self {
        Self { kind: Kind::Room, key: conversation_id }
    }

    /// A presence shard.
    pub fn presence(shard: u64) -> Self {
        Self { kind: Kind::Presence, key: shard }
    }

    /// A session.
    pub fn session(session_id: u64) -> Self {
        Self { kind: Kind::Session, key: session_id }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.key)
    }
}

impl From<Address> for ActorAddress {
    fn from(address: Address) -> Self {
        let kind = match address.kind {
            Kind::Room => actor_address::Kind::Room,
            Kind::Presence => actor_address::Kind::Presence,
            Kind::Session => actor_address::Kind::Session,
        };
        Self { kind: kind as i32, key: address.key }
    }
}

impl TryFrom<&ActorAddress> for Address {
    type Error = crate::domain::Error;
    fn try_from(wire: &ActorAddress) -> Result<Self, Self::Error> {
        let kind = match wire.kind() {
            actor_address::Kind::Room => Kind::Room,
            actor_address::Kind::Presence => Kind::Presence,
            actor_address::Kind::Session => Kind::Session,
            actor_address::Kind::Node => {
                return Err(crate::domain::Error::internal("a node is not addressed as an actor"));
            }
        };
        Ok(Self { kind, key: wire.key })
    }
}
