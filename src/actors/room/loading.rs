//! What a room begins with, read for many rooms at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::actors::gather::{Bounds, Gather};
use crate::actors::overload::{Overload, Shed};
use crate::protocol::MemberRole;
use crate::protocol::v1::Message;
use crate::storage::Stores;
use crate::storage::starts::{Opening, first_member, new_direct};

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

/// Direct conversations that were just made here, and will be loaded here next: nothing of them need be read. Should
/// another activation have stored something in one meanwhile, the unique keys say so, as always.
#[derive(Default)]
pub struct Newborns(Mutex<HashMap<u64, (Instant, Opening)>>);

/// A conversation is new for this long.
const NEW_FOR: Duration = Duration::from_secs(1);
/// Most that are remembered; the room of any other is read.
const NEWBORNS_MAX: usize = 4096;

impl Newborns {
    /// A direct conversation of these two was made.
    pub fn put(&self, id: u64, users: (u64, u64), now_ms: u64) {
        let (low, high) = (users.0.min(users.1), users.0.max(users.1));
        let members = [low, high].map(|user_id| first_member(id, user_id, MemberRole::Member, now_ms));
        let opening = Opening { conversation: Some(new_direct(id, now_ms)), members: Some(members.into()) };
        let mut newborns = self.0.lock();
        if newborns.len() >= NEWBORNS_MAX {
            newborns.retain(|_, (since, _)| since.elapsed() < NEW_FOR);
        }
        if newborns.len() < NEWBORNS_MAX {
            newborns.insert(id, (Instant::now(), opening));
        }
    }

    /// What its room begins with, once.
    pub fn take(&self, id: u64) -> Option<Loaded> {
        let (since, opening) = self.0.lock().remove(&id)?;
        (since.elapsed() < NEW_FOR).then(|| Loaded { opening, tail: Vec::new() })
    }
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
            let mut tails = stores.messages.newest(&there, LOAD_MESSAGES).await?.into_iter();
            let load = |opening: Opening| {
                let tail = opening.conversation.as_ref().and_then(|_| tails.next()).unwrap_or_default();
                Loaded { opening, tail }
            };
            Ok(openings.into_iter().map(load).collect())
        }
    })
}
