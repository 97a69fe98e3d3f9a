//! What a room begins with, read for many rooms at once.

use std::sync::Arc;

use crate::actors::gather::{Bounds, Gather};
use crate::actors::overload::{Overload, Shed};
use crate::protocol::v1::Message;
use crate::storage::Stores;
use crate::storage::starts::Opening;

/// Newest messages that a fresh activation reads, to know repeats of them and to push the young ones again.
const LOAD_MESSAGES: u32 = 64;
/// Rooms that are loaded together: so many times [`LOAD_MESSAGES`] are in memory at once for each of the lanes.
const LOADS_TOGETHER: usize = 32;
/// Loads under way at once, so that a slow one does not hold up all, and loaded rooms keep the rest of the database.
const LOAD_LANES: usize = 2;

/// What was read of a room.
pub struct Loaded {
    /// The conversation and its members.
    pub opening: Opening,
    /// Its newest messages, oldest first.
    pub tail: Vec<Message>,
}

/// Loads rooms from these stores.
pub fn loads(overload: &Arc<Overload>, stores: &Stores) -> Gather<u64, Loaded> {
    let bounds = Bounds { lanes: LOAD_LANES, together: LOADS_TOGETHER, shed: Shed::Loads };
    let stores = stores.clone();
    Gather::new(overload, bounds, move |ids: Vec<u64>| {
        let stores = stores.clone();
        async move {
            let openings = stores.conversations.openings(&ids).await?;
            let there: Vec<u64> = ids
                .iter()
                .zip(&openings)
                .filter_map(|(id, opening)| opening.conversation.as_ref().map(|_| *id))
                .collect();
            // The log last: whoever has stored something has been a member before.
            let mut tails = stores.messages.tails(&there, LOAD_MESSAGES).await?.into_iter();
            let load = |opening: Opening| {
                let tail = opening.conversation.as_ref().and_then(|_| tails.next()).unwrap_or_default();
                Loaded { opening, tail }
            };
            Ok(openings.into_iter().map(load).collect())
        }
    })
}
