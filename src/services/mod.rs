//! What REST, sockets and lines all call.

pub mod accounts;
pub mod contacts;
pub mod conversations;
pub mod lines;
pub mod messages;
pub mod operations;
pub mod passwords;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::sync::Arc;

use crate::actors::room::Rooms;
use crate::actors::{Events, Presence};
use crate::config::Config;
use crate::domain::Result;
use crate::storage::Stores;

pub use accounts::{Accounts, TellForget};
pub use contacts::Contacts;
pub use conversations::Conversations;
pub use lines::Lines;
pub use messages::Messages;
pub use operations::Operations;
pub use tokens::Identity;

/// All services of a node. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Signing up, in and out; profiles.
    pub accounts: Accounts,
    /// Friends and requests.
    pub contacts: Contacts,
    /// Conversations and members.
    pub conversations: Conversations,
    /// What line devices have been given.
    pub lines: Lines,
    /// Sending, sync and history.
    pub messages: Messages,
    /// What operators ask.
    pub operations: Operations,
}

/// What the services are made of.
pub struct Parts {
    /// The stores.
    pub stores: Stores,
    /// Events to users' sessions.
    pub events: Events,
    /// The directory of live sessions.
    pub presence: Presence,
    /// The rooms.
    pub rooms: Rooms,
    /// Messages.
    pub messages: Messages,
    /// The operators' questions.
    pub operations: Operations,
    /// Tells other nodes what to forget.
    pub tell_forget: TellForget,
}

impl Services {
    /// Takes as long as one password hash. An error means that the configuration can't be used.
    pub fn new(parts: Parts, config: &Config) -> Result<Self> {
        let Parts { stores, events, presence, rooms, messages, operations, tell_forget } = parts;
        let accounts_config = Arc::new(config.accounts.clone());
        Ok(Self {
            accounts: Accounts::new(stores.accounts.clone(), presence, tell_forget, accounts_config)?,
            contacts: Contacts::new(stores.contacts.clone(), stores.accounts.clone(), events),
            conversations: Conversations::new(
                stores.conversations.clone(),
                stores.accounts.clone(),
                rooms.clone(),
                messages.clone(),
            ),
            lines: Lines::new(&stores, rooms),
            messages,
            operations,
        })
    }
}
