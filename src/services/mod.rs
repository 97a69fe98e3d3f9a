//! What REST, sockets and lines all call.

pub mod accounts;
pub mod changes;
pub mod contacts;
pub mod conversations;
pub mod gate;
mod history;
pub mod indexer;
mod json_size;
pub mod life;
pub mod lines;
mod marks;
pub mod messages;
pub mod operations;
pub mod passwords;
pub mod preferences;
pub mod presence;
pub mod retention;
pub mod rooms;
pub mod sayings;
pub mod search;
mod sync;
mod sync_token;
#[cfg(test)]
mod tests;
pub mod timers;
mod token_lookups;
pub mod tokens;

use std::sync::Arc;

use crate::actors::room::Rooms;
use crate::actors::{Events, Presence};
use crate::config::Config;
use crate::domain::Result;
use crate::storage::Stores;
use crate::storage::cache::Cache;

pub use accounts::Accounts;
pub use contacts::Contacts;
pub use conversations::Conversations;
use gate::Gate;
pub use life::Life;
use life::LifeParts;
pub use lines::Lines;
pub use messages::Messages;
pub use operations::Operations;
pub use preferences::OwnViews;
pub use presence::Presences;
pub use retention::Retention;
pub use rooms::Groups;
pub use sayings::Sayings;
pub use search::Search;
pub use timers::Schedule;
use tokens::Forgetting;
pub use tokens::Identity;

/// All services of a node. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Signing up, in and out; profiles.
    pub accounts: Accounts,
    /// Friends and requests.
    pub contacts: Contacts,
    /// The end of accounts, and what they take along.
    pub life: Life,
    /// Members' own views of conversations.
    pub own_views: OwnViews,
    /// Conversations and members.
    pub conversations: Conversations,
    /// What holds in groups.
    pub groups: Groups,
    /// What line devices have been given.
    pub lines: Lines,
    /// Sending, sync and history.
    pub messages: Messages,
    /// What operators ask.
    pub operations: Operations,
    /// Messages that are kept for a time only.
    pub retention: Retention,
    /// What groups have to say of changes.
    pub sayings: Sayings,
    /// Messages that wait for their time.
    pub schedule: Schedule,
    /// Who is there.
    pub presence: Presences,
    /// Searching messages.
    pub search: Search,
    /// The node's cache, for the operators.
    pub cache: Cache,
}

/// What the services are made of.
pub struct Parts {
    /// The stores that services show from, cached.
    pub readers: Stores,
    /// The stores that they decide by.
    pub arbiters: Stores,
    /// The cache before the first ones.
    pub cache: Cache,
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
}

impl Services {
    /// Takes as long as one password hash. An error means that the configuration can't be used.
    pub fn new(parts: Parts, config: &Config) -> Result<Self> {
        let Parts { readers, arbiters, cache, events, presence, rooms, messages, operations } = parts;
        let accounts_config = Arc::new(config.accounts.clone());
        let forgetting = Forgetting::new(cache.clone(), config);
        let gate = Gate::new(&arbiters, &readers, forgetting.clone(), presence.clone());
        let messages = messages.behind(gate.clone());
        let presences =
            Presences::start(arbiters.people.clone(), gate.clone(), presence.clone(), events.clone());
        let accounts = Accounts::new(
            arbiters.accounts.clone(),
            readers.accounts.clone(),
            presence,
            forgetting,
            gate.clone(),
            arbiters.people.clone(),
            accounts_config,
        )?;
        let contacts = Contacts::new(&readers, &arbiters, gate.clone(), events.clone());
        let life = LifeParts {
            accounts: accounts.clone(),
            contacts: contacts.clone(),
            stores: arbiters.clone(),
            rooms: rooms.clone(),
            events: events.clone(),
        };
        Ok(Self {
            accounts,
            contacts,
            life: Life::new(life, &config.accounts),
            conversations: Conversations::new(
                readers.conversations.clone(),
                readers.rooms.clone(),
                readers.accounts.clone(),
                arbiters.accounts.clone(),
                rooms.clone(),
                messages.clone(),
                gate,
            ),
            groups: Groups::new(
                arbiters.conversations.clone(),
                arbiters.rooms.clone(),
                readers.accounts.clone(),
                rooms.clone(),
            ),
            own_views: OwnViews::new(arbiters.people.clone(), messages.clone(), events),
            sayings: Sayings::new(arbiters.rooms.clone(), rooms.clone()),
            lines: Lines::new(&readers, rooms),
            retention: Retention::new(arbiters.clone(), &messages, &config.messages),
            schedule: Schedule::new(arbiters.marks.clone(), messages.clone(), &config.messages),
            search: Search::new(readers, messages.clone()),
            messages,
            operations,
            presence: presences,
            cache,
        })
    }
}
