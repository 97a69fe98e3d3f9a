//! The search index follows the logs, behind the sends and never in their way.
//!
//! A node looks, every `search.index_interval`, which of its rooms had something to do, and indexes what their logs have
//! and their indexes lack, one small transaction at a time and no more than `search.index_per_second` messages. What it
//! does not get to, a search puts in when it is asked for (`super::search`). Steps of two nodes exclude each other by the
//! index's edition, so a crash, a room that moves, or both at once leave the index whole: a step is there or not.
//!
//! The first step of a conversation begins at its newest message. From there the index grows with the log, and back to
//! the log's beginning.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::actors::Actors;
use crate::clock;
use crate::config::SearchConfig;
use crate::domain::search_terms::terms;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;
use crate::storage::search::{IndexState, IndexStep, IndexedMessage};
use crate::storage::{StoreResult, Stores};

/// Messages of one step.
const STEP_MESSAGES: u32 = 100;
/// Rooms looked at in one round; of more, those with the lowest numbers.
const ROOMS_MAX: usize = 10_000;
/// Rooms whose indexes are read at once.
const BATCH: usize = 128;
/// Steps for one room in a round, so that a long log does not keep others waiting.
const STEPS_MAX: usize = 10;

/// What became of a step.
pub enum Step {
    /// It was taken; where the index stands now, and how many messages were read.
    Taken(IndexState, usize),
    /// The index has moved meanwhile; nothing was done.
    Overtaken,
}

/// What a message is found by: its text, and the names of its files.
pub fn searchable(message: &Message) -> String {
    let mut text = message.text.clone();
    for file in &message.attachments {
        text.push('\n');
        text.push_str(&file.name);
    }
    text
}

fn indexed(message: &Message) -> IndexedMessage {
    // Entries about other messages are found by those; what the server says, not at all.
    let is_found = message.kind < MessageKind::System as i32 && !message.recalled;
    IndexedMessage {
        seq: message.seq,
        sender_id: message.sender_id,
        kind: message.kind,
        created_at_ms: message.created_at_ms,
        terms: if is_found { terms(&searchable(message)) } else { Vec::new() },
    }
}

/// Indexes the next messages of a conversation: newer ones first, then older ones. Messages that an entry among them has
/// edited or taken back are indexed anew, as they are now.
pub async fn step(stores: &Stores, state: &IndexState) -> StoreResult<Step> {
    let id = state.conversation_id;
    let (low, high) = match state.edition {
        0 => (state.last_seq + 1, state.last_seq),
        _ => (state.low_seq, state.high_seq),
    };
    let mut to = IndexStep { from: *state, low_seq: low, high_seq: high, messages: Vec::new() };
    let read = if high < state.last_seq {
        let newer = stores.messages.after(id, high, STEP_MESSAGES).await?;
        to.high_seq = newer.last().map_or(state.last_seq, |message| message.seq);
        let mut changed = BTreeSet::new();
        for message in &newer {
            let changes = matches!(message.kind(), MessageKind::Edit | MessageKind::Recall);
            if changes && (low..=high).contains(&message.target_seq) {
                changed.insert((id, message.target_seq));
            }
        }
        let changed: Vec<(u64, u64)> = changed.into_iter().collect();
        to.messages.extend(stores.messages.at(&changed).await?.iter().map(indexed));
        newer
    } else {
        let older = stores.messages.before(id, low, 1, STEP_MESSAGES).await?;
        let is_last = older.len() < STEP_MESSAGES as usize;
        to.low_seq = older.first().filter(|_| !is_last).map_or(1, |message| message.seq);
        older
    };
    to.messages.extend(read.iter().map(indexed));
    if !stores.search.index(&to).await? {
        return Ok(Step::Overtaken);
    }
    let next = IndexState {
        low_seq: to.low_seq,
        high_seq: to.high_seq,
        edition: state.edition + 1,
        last_seq: state.last_seq.max(to.high_seq),
        ..*state
    };
    Ok(Step::Taken(next, read.len()))
}

/// The indexer of a node.
pub struct Indexer {
    task: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts it on the current runtime, unless `search.index_per_second` is 0.
    pub fn start(config: &SearchConfig, actors: Actors, stores: Stores) -> Self {
        let task = (config.index_per_second > 0).then(|| tokio::spawn(run(config.clone(), actors, stores)));
        Self { task }
    }

    /// Ends it; a step under way is there or not.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(config: SearchConfig, actors: Actors, stores: Stores) {
    let mut since_ms = clock::now_ms();
    let pace = Duration::from_secs(1) / config.index_per_second.max(1);
    loop {
        tokio::time::sleep(config.index_interval).await;
        let now_ms = clock::now_ms();
        let rooms = actors.rooms_active_since(since_ms, ROOMS_MAX);
        since_ms = now_ms;
        for some in rooms.chunks(BATCH) {
            if let Err(error) = follow(&stores, some, pace).await {
                // The next round, or a search, begins where this one ended.
                tracing::debug!(target: "rookery::search", %error, "the index could not follow");
                break;
            }
        }
    }
}

async fn follow(stores: &Stores, rooms: &[u64], pace: Duration) -> StoreResult<()> {
    for mut state in stores.search.index_states(rooms).await? {
        for _ in 0..STEPS_MAX {
            if state.is_complete() {
                break;
            }
            match step(stores, &state).await? {
                Step::Taken(next, read) => {
                    state = next;
                    tokio::time::sleep(pace * read as u32).await;
                }
                Step::Overtaken => break,
            }
        }
    }
    Ok(())
}
