//! The search index follows the logs, behind the sends and never in their way.
//!
//! A node looks, every `search.index_interval`, which of its rooms had something to do, and indexes what their logs have
//! and their indexes lack, one small transaction at a time and no more than `search.index_per_second` messages. What it
//! does not get to, a search puts in when it is asked for (`super::search`). Steps of two nodes exclude each other by the
//! index's edition, so a crash, a room that moves, or both at once leave the index whole: a step is there or not.
//!
//! The first step of a conversation begins at its newest message. From there the index grows with the log, and back to
//! the log's beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::actors::Actors;
use crate::clock;
use crate::config::SearchConfig;
use crate::domain::search_terms::terms;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;
use crate::storage::search::{IndexState, IndexStep, IndexedMessage};
use crate::storage::{StoreError, StoreResult, Stores};

/// Messages of one step, at most.
const STEP_MESSAGES: u32 = 100;
/// Terms of one step, at most, but for the first message of a step: each is a row that the step writes, and sends wait
/// behind a step where a database has one writer.
const STEP_TERMS: usize = 4_000;
/// Rooms looked at in one round; of more, those with the lowest numbers. The others are left to searches.
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
    let mut terms_left = STEP_TERMS;
    let read = if high < state.last_seq {
        let newer = stores.messages.after(id, high, STEP_MESSAGES).await?;
        let changes = |entry: &Message| {
            matches!(entry.kind(), MessageKind::Edit | MessageKind::Recall)
                && (low..=high).contains(&entry.target_seq)
        };
        let changed: BTreeSet<(u64, u64)> =
            newer.iter().filter(|entry| changes(entry)).map(|entry| (id, entry.target_seq)).collect();
        let changed: Vec<(u64, u64)> = changed.into_iter().collect();
        let mut changed: BTreeMap<u64, IndexedMessage> = stores
            .messages
            .at(&changed)
            .await?
            .iter()
            .map(|message| (message.seq, indexed(message)))
            .collect();
        let mut read = 0;
        for message in &newer {
            let target = if changes(message) { changed.remove(&message.target_seq) } else { None };
            let some: Vec<IndexedMessage> = target.into_iter().chain([indexed(message)]).collect();
            if !takes(&mut terms_left, &some) && read > 0 {
                break;
            }
            to.messages.extend(some);
            to.high_seq = message.seq;
            read += 1;
        }
        if newer.is_empty() {
            to.high_seq = state.last_seq;
        }
        read
    } else {
        let older = stores.messages.before(id, low, 1, STEP_MESSAGES).await?;
        let mut read = 0;
        for message in older.iter().rev() {
            let some = [indexed(message)];
            if !takes(&mut terms_left, &some) && read > 0 {
                break;
            }
            to.messages.extend(some);
            to.low_seq = message.seq;
            read += 1;
        }
        if read == older.len() && older.len() < STEP_MESSAGES as usize {
            to.low_seq = 1;
        }
        read
    };
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
    Ok(Step::Taken(next, read))
}

/// Takes what these messages need from what a step may still write; `false`: it is more than is left.
fn takes(terms_left: &mut usize, messages: &[IndexedMessage]) -> bool {
    let wanted = messages.iter().map(|message| message.terms.len()).sum();
    let fits = wanted <= *terms_left;
    *terms_left = terms_left.saturating_sub(wanted);
    fits
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
    let mut left = BTreeSet::new();
    loop {
        tokio::time::sleep(config.index_interval).await;
        let now_ms = clock::now_ms();
        let mut rooms = std::mem::take(&mut left);
        rooms.extend(actors.rooms_active_since(since_ms, ROOMS_MAX));
        since_ms = now_ms;
        let rooms: Vec<u64> = rooms.into_iter().take(ROOMS_MAX).collect();
        left = round(&stores, &rooms, pace).await;
    }
}

/// Lets the indexes of these rooms follow their logs. Returns those that are not there yet, for the next round. A room that
/// fails for a reason of its own holds up no other, and is left to searches.
async fn round(stores: &Stores, rooms: &[u64], pace: Duration) -> BTreeSet<u64> {
    let mut left = BTreeSet::new();
    for (at, some) in rooms.chunks(BATCH).enumerate() {
        let states = match stores.search.index_states(some).await {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(target: "rookery::search", %error, "how far the index reaches could not be read");
                left.extend(&rooms[at * BATCH..]);
                break;
            }
        };
        for (nth, state) in states.iter().enumerate() {
            match follow(stores, *state, pace).await {
                Ok(true) => {}
                Ok(false) => drop(left.insert(state.conversation_id)),
                Err(StoreError::Unavailable(cause) | StoreError::Unsettled(cause)) => {
                    tracing::debug!(target: "rookery::search", cause, "the index waits for the database");
                    left.extend(states[nth..].iter().map(|state| state.conversation_id));
                    left.extend(rooms.iter().skip((at + 1) * BATCH));
                    return left;
                }
                Err(error) => {
                    let room = state.conversation_id;
                    tracing::warn!(target: "rookery::search", room, %error, "a room's index could not follow its log");
                }
            }
        }
    }
    left
}

/// Whether it is complete now.
async fn follow(stores: &Stores, mut state: IndexState, pace: Duration) -> StoreResult<bool> {
    for _ in 0..STEPS_MAX {
        if state.is_complete() {
            break;
        }
        match step(stores, &state).await? {
            Step::Taken(next, read) => {
                state = next;
                tokio::time::sleep(pace * read as u32).await;
            }
            Step::Overtaken => return Ok(false),
        }
    }
    Ok(state.is_complete())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::domain::search_terms::TERMS_MAX;
    use crate::protocol::JoinPolicy;
    use crate::storage::NewGroup;
    use crate::storage::memory::MemoryStores;
    use crate::storage::search::{Find, FoundAt, SearchStore};

    /// A store whose conversation `fails` can't be indexed.
    struct Failing {
        inner: Arc<dyn SearchStore>,
        fails: u64,
    }

    #[async_trait]
    impl SearchStore for Failing {
        async fn index_states(&self, ids: &[u64]) -> StoreResult<Vec<IndexState>> {
            self.inner.index_states(ids).await
        }
        async fn index(&self, step: &IndexStep) -> StoreResult<bool> {
            if step.from.conversation_id == self.fails {
                return Err(StoreError::Invalid("a row that should not be".to_owned()));
            }
            self.inner.index(step).await
        }
        async fn forget(&self, id: u64, sender_id: u64, from_seq: u64, to_seq: u64) -> StoreResult<()> {
            self.inner.forget(id, sender_id, from_seq, to_seq).await
        }
        async fn find(&self, find: &Find) -> StoreResult<Vec<FoundAt>> {
            self.inner.find(find).await
        }
    }

    /// A group with messages of these texts.
    async fn group(stores: &Stores, texts: &[String]) -> u64 {
        let group = NewGroup {
            owner_id: 1,
            name: "indexed".to_owned(),
            description: String::new(),
            join_policy: JoinPolicy::Open,
            client_id: String::new(),
            member_ids: Vec::new(),
            now_ms: 1,
        };
        let id = stores.conversations.create_group(group).await.expect("it is made").id;
        let log: Vec<Message> = (1..)
            .zip(texts)
            .map(|(seq, text)| Message {
                conversation_id: id,
                seq,
                sender_id: 1,
                client_id: format!("c{seq}"),
                text: text.clone(),
                created_at_ms: seq,
                ..Message::default()
            })
            .collect();
        stores.messages.append(&log).await.expect("they are stored");
        id
    }

    async fn state(stores: &Stores, id: u64) -> IndexState {
        stores.search.index_states(&[id]).await.expect("it is read")[0]
    }

    #[tokio::test]
    async fn a_step_writes_no_more_terms_than_one_transaction_may() {
        let stores = MemoryStores::default().stores();
        // Each text has as many terms as a message may have.
        let texts: Vec<String> =
            (0..7).map(|_| ('\u{4e00}'..).take(TERMS_MAX + 100).collect::<String>()).collect();
        let id = group(&stores, &texts).await;
        let mut steps = 0;
        let mut at = state(&stores, id).await;
        while !at.is_complete() {
            let Step::Taken(next, read) = step(&stores, &at).await.expect("it is indexed") else {
                panic!("nobody else indexes it")
            };
            assert!(read * TERMS_MAX <= STEP_TERMS.max(TERMS_MAX), "{read} messages in a step");
            assert_eq!(state(&stores, id).await, next);
            at = next;
            steps += 1;
        }
        assert!(steps >= texts.len() * TERMS_MAX / STEP_TERMS, "{steps} steps");
        assert_eq!((at.low_seq, at.high_seq), (1, texts.len() as u64));
    }

    #[tokio::test]
    async fn a_room_that_fails_holds_up_no_other() {
        let stores = MemoryStores::default().stores();
        let (bad, good) = (group(&stores, &["a".to_owned()]).await, group(&stores, &["b".to_owned()]).await);
        let failing = Failing { inner: stores.search.clone(), fails: bad };
        let stores = Stores { search: Arc::new(failing), ..stores };
        let left = round(&stores, &[bad, good], Duration::ZERO).await;
        assert!(left.is_empty(), "neither is tried again and again: {left:?}");
        assert!(state(&stores, good).await.is_complete());
        assert!(!state(&stores, bad).await.is_complete());
    }

    #[tokio::test]
    async fn a_long_log_is_gone_on_with_in_the_next_round() {
        let stores = MemoryStores::default().stores();
        let texts: Vec<String> = (0..STEP_MESSAGES as usize * STEPS_MAX + 1).map(|n| n.to_string()).collect();
        let id = group(&stores, &texts).await;
        let left = round(&stores, &[id], Duration::ZERO).await;
        assert_eq!(left, BTreeSet::from([id]));
        assert!(round(&stores, &[id], Duration::ZERO).await.is_empty());
        assert!(state(&stores, id).await.is_complete());
    }
}
