//! What groups have to say of changes of themselves and their logs have not got, as their room's node ended in between:
//! every node looks for it at intervals, in the rooms that it owns, and lets them say it. That two nodes do is harmless, as
//! the messages have their names.

use std::sync::Arc;
use std::time::Duration;

use super::timers::{Round, again_and_again};
use crate::actors::room::Rooms;
use crate::clock::now_ms;
use crate::domain::Result;
use crate::storage::RoomStore;

/// How often a node looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// A room is left to say by itself what is younger, in milliseconds.
const YOUNG_MS: u64 = 10_000;
/// Rooms read at a time.
const PAGE: u32 = 200;
/// Most pages of a round; what is left comes with the next.
const PAGES_MAX: usize = 20;

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct Sayings {
    store: Arc<dyn RoomStore>,
    rooms: Rooms,
}

impl Sayings {
    /// Over this store, which decides, and rooms.
    pub fn new(store: Arc<dyn RoomStore>, rooms: Rooms) -> Self {
        Self { store, rooms }
    }

    /// Lets the rooms of this node say what they owe, again and again, as long as the node runs.
    pub fn start(&self) {
        let this = self.clone();
        tokio::spawn(again_and_again(INTERVAL, async move || {
            this.say_owed(now_ms().saturating_sub(YOUNG_MS)).await
        }));
    }

    /// What is older than this.
    pub async fn say_owed(&self, before_ms: u64) -> Result<()> {
        let (mut round, mut after_id) = (Round::default(), 0);
        for _ in 0..PAGES_MAX {
            let page = self.store.owing(before_ms, after_id, PAGE).await?;
            for &id in page.iter().filter(|id| self.rooms.is_here(**id)) {
                round.bear(id, self.rooms.say_owed(id).await)?;
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
            after_id = *last;
        }
        Ok(())
    }
}
