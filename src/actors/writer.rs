//! Writer lanes: group commit. While all lanes are in a transaction, the next batch gathers; a lane that is free takes
//! what there is, after a short wait for more where that pays ([`super::linger`]). The lanes are tasks on one bounded queue rather than actors, because a
//! lane must take all that waits at once. Any lane may take any group, as a room has one group under way at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::linger::Linger;
use super::overload::{Overload, Shed};
use crate::config::WriterConfig;
use crate::protocol::v1::Message;
use crate::storage::{ClientKey, StoreError, StoreResult, Stores};

/// Messages of one room that are stored together or not at all, and who wants to know.
struct Group {
    messages: Vec<Message>,
    since: Instant,
    done: Option<Box<dyn FnOnce(StoreResult<()>) + Send>>,
}

impl Group {
    fn finish(mut self, outcome: StoreResult<()>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Group {
    /// A lane that ended in the middle (a bug) leaves its rooms to read the log, not to wait for ever.
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StoreError::Unsettled("the writer ended".to_owned())));
        }
    }
}

/// All lanes of a node. Cheap to clone.
#[derive(Clone)]
pub struct Writers {
    queue: mpsc::Sender<Group>,
    overload: Arc<Overload>,
}

/// Pause between two tries to read back an uncertain commit.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// How long after its beginning an uncertain append is read back although storage can't be read: a connection may have
/// broken alone. Longer, the senders and all who wait behind them would wait for a database that is away.
const SETTLE_BLIND: Duration = Duration::from_millis(250);

impl Writers {
    /// Starts the lanes on the current runtime; they end when the last clone is dropped and their queues are empty.
    pub fn start(config: &WriterConfig, stores: &Stores, overload: &Arc<Overload>) -> Self {
        let (sender, receiver) = mpsc::channel(config.queue_groups);
        let gathering = Arc::new(Mutex::new(Gathering::new(config, receiver, overload)));
        for _ in 0..config.lanes.min(stores.messages.appends_at_once()) {
            tokio::spawn(run(config.clone(), stores.clone(), Arc::clone(&gathering)));
        }
        Self { queue: sender, overload: Arc::clone(overload) }
    }

    /// Stores a group of messages of one conversation. `done` is called once, on a writer's task: with `Exists` or
    /// `Unsettled` the room has to read the log to know what is stored.
    pub fn append(&self, messages: Vec<Message>, done: impl FnOnce(StoreResult<()>) + Send + 'static) {
        let group = Group { messages, since: Instant::now(), done: Some(Box::new(done)) };
        self.overload.group_waits();
        if let Err(refused) = self.queue.try_send(group) {
            let (group, why) = match refused {
                mpsc::error::TrySendError::Full(group) => (group, "the writers' queue is full"),
                mpsc::error::TrySendError::Closed(group) => (group, "the node is stopping"),
            };
            group.finish(Err(StoreError::Unavailable(why.to_owned())));
        }
    }
}

/// What waits for the lanes. The lane that holds it gathers the next batch.
struct Gathering {
    queue: mpsc::Receiver<Group>,
    /// Out of the queue, oldest first: among them the end of the last batch that made no full statement.
    waiting: VecDeque<Group>,
    /// Messages in `waiting`.
    size: usize,
    batch_messages: usize,
    linger: Linger,
    /// When a lane last stored something.
    stored_at: Instant,
    overload: Arc<Overload>,
}

impl Gathering {
    fn new(config: &WriterConfig, queue: mpsc::Receiver<Group>, overload: &Arc<Overload>) -> Self {
        Self {
            queue,
            overload: Arc::clone(overload),
            waiting: VecDeque::new(),
            size: 0,
            batch_messages: config.batch_messages,
            linger: Linger::new(config.linger, config.linger_messages),
            stored_at: Instant::now(),
        }
    }

    /// The next batch, of `append_size` of what waits; none when the node stops. Nothing is lost if the caller goes away.
    /// What has waited for too long is refused, unless this batch takes all there is: then nobody gains by it.
    async fn batch(&mut self, stores: &Stores) -> Option<Vec<Group>> {
        if self.waiting.is_empty() {
            let group = self.queue.recv().await?;
            self.push(group);
        }
        self.take_waiting();
        if self.linger.begin(self.size) {
            while self.size < self.linger.enough()
                && let Some(group) = self.linger.wait_for(self.queue.recv()).await
            {
                self.push(group);
                self.take_waiting();
            }
            self.linger.end(self.size);
        }
        while self.size > self.batch_messages
            && let Some(group) = self.waiting.pop_front_if(|group| self.overload.is_late(group.since))
        {
            self.size -= group.messages.len();
            self.overload.count(Shed::Group);
            group.finish(Err(StoreError::Unavailable("more comes than can be stored".to_owned())));
            self.take_waiting();
        }
        let best = stores.messages.append_size(self.size.min(self.batch_messages));
        let batch = take_batch(&mut self.waiting, best);
        self.size -= batch.iter().map(|group| group.messages.len()).sum::<usize>();
        self.overload.oldest_waits_since(self.waiting.front().map(|group| group.since));
        Some(batch)
    }

    /// Takes what there is: one more than fits in a batch, to know how long those wait that stay.
    fn take_waiting(&mut self) {
        while self.size <= self.batch_messages
            && let Ok(group) = self.queue.try_recv()
        {
            self.push(group);
        }
    }

    fn push(&mut self, group: Group) {
        self.linger.came(group.messages.len());
        self.size += group.messages.len();
        self.waiting.push_back(group);
    }

    /// Tells all that wait, at once: one behind the other, each batch would wait as long again.
    fn refuse_all(&mut self, away: &str, groups_max: usize) {
        self.size = 0;
        let queued = std::iter::from_fn(|| self.queue.try_recv().ok()).take(groups_max);
        for group in self.waiting.drain(..).chain(queued) {
            group.finish(Err(StoreError::Unavailable(away.to_owned())));
        }
        // Else the node would be taken for behind, and refuse what alone could show that it is not.
        self.overload.oldest_waits_since(None);
    }
}

async fn run(config: WriterConfig, stores: Stores, gathering: Arc<Mutex<Gathering>>) {
    loop {
        let batch = gathering.lock().await.batch(&stores).await;
        let Some(batch) = batch else { return };
        let began = Instant::now();
        let outcome = store(&config, &stores, batch).await;
        // Held by a lane that waits for a first group, there is nobody to tell; and what comes later deserves a try.
        let Ok(mut gathering) = gathering.try_lock() else { continue };
        match outcome {
            Ok(()) => gathering.stored_at = Instant::now(),
            // Where another lane has stored meanwhile, storage is there, and only this batch was in somebody's way.
            Err(away) if gathering.stored_at < began => gathering.refuse_all(&away, config.queue_groups),
            Err(_) => {}
        }
    }
}

/// The first groups with `best` messages together at most; one at least.
fn take_batch(waiting: &mut VecDeque<Group>, best: usize) -> Vec<Group> {
    let mut size = 0;
    let fitting = waiting
        .iter()
        .take_while(|group| {
            size += group.messages.len();
            size <= best
        })
        .count();
    waiting.drain(..fitting.max(1)).collect()
}

/// Stores a batch and tells every group what became of it. The error: storage is away, and what it said.
async fn store(config: &WriterConfig, stores: &Stores, mut batch: Vec<Group>) -> Result<(), String> {
    let sizes: Vec<usize> = batch.iter().map(|group| group.messages.len()).collect();
    let mut messages: Vec<Message> = batch.iter_mut().flat_map(|group| group.messages.drain(..)).collect();
    let outcome = append_settled(config, stores, &messages).await;
    if batch.len() == 1 || !matches!(outcome, Err(StoreError::Exists)) {
        for group in batch {
            group.finish(outcome.clone());
        }
        return reached(&outcome);
    }
    // Some group's key is taken, which rolled all back: each tries alone, so that only that one learns of it.
    let mut storage = Ok(());
    for (group, size) in batch.into_iter().zip(sizes) {
        let rest = messages.split_off(size);
        let outcome = match &storage {
            Ok(()) => append_settled(config, stores, &messages).await,
            Err(away) => Err(StoreError::Unavailable(String::clone(away))),
        };
        messages = rest;
        storage = storage.and(reached(&outcome));
        group.finish(outcome);
    }
    storage
}

/// Whether storage could be reached; the error is what it said instead.
fn reached(outcome: &StoreResult<()>) -> Result<(), String> {
    match outcome {
        Err(StoreError::Unavailable(cause) | StoreError::Unsettled(cause)) => Err(cause.clone()),
        _ => Ok(()),
    }
}

/// Appends; where the database did not confirm, reads back until it tells: for `writer.settle_timeout` at most, and
/// hardly at all while it is away. Takes `storage.request_timeout` and that, and no longer.
async fn append_settled(config: &WriterConfig, stores: &Stores, messages: &[Message]) -> StoreResult<()> {
    let began = Instant::now();
    let unsettled = match stores.messages.append(messages).await {
        Err(StoreError::Unsettled(cause)) => cause,
        outcome => return outcome,
    };
    tracing::warn!(cause = %unsettled, messages = messages.len(), "a commit was not confirmed; reading it back");
    let deadline = Instant::now() + config.settle_timeout;
    let settling = settle(stores, messages, began);
    match timeout_at(deadline, settling).await {
        Ok(Some(outcome)) => outcome,
        // Told by nobody, or cut off in the middle of a further append.
        Ok(None) | Err(_) => Err(StoreError::Unsettled(unsettled)),
    }
}

/// Reads an uncertain append back, and appends again where nothing of it is there. `None`: storage can't be read.
async fn settle(stores: &Stores, messages: &[Message], began: Instant) -> Option<StoreResult<()>> {
    let keys: Vec<ClientKey> = messages.iter().map(key_of).collect();
    loop {
        match stores.messages.stored(&keys).await {
            // Every message under the seq and time that we gave it: our transaction. Anything else there was written by
            // somebody else, an earlier send of the same name or another activation, and the rooms have to look.
            Ok(found)
                if found.len() == keys.len() && found.iter().all(|stored| is_ours(messages, stored)) =>
            {
                return Some(Ok(()));
            }
            Ok(found) if !found.is_empty() => return Some(Err(StoreError::Exists)),
            // Not there now, but the lost statement may still be running: storing again is safe, since the unique keys
            // let only one of the two through, and then the answer is `Exists`. That the second was not stored says
            // nothing of the first, though.
            Ok(_) => match stores.messages.append(messages).await {
                Err(StoreError::Unavailable(_)) if began.elapsed() > SETTLE_BLIND => return None,
                Err(StoreError::Unsettled(_) | StoreError::Unavailable(_)) => {}
                outcome => return Some(outcome),
            },
            Err(_) if began.elapsed() > SETTLE_BLIND => return None,
            Err(error) => tracing::debug!(%error, "the read-back failed; trying again"),
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}

fn key_of(message: &Message) -> ClientKey {
    ClientKey {
        conversation_id: message.conversation_id,
        sender_id: message.sender_id,
        client_id: message.client_id.clone(),
    }
}

fn is_ours(messages: &[Message], (key, seq, created_at_ms): &(ClientKey, u64, u64)) -> bool {
    messages.iter().any(|message| {
        (message.seq, message.created_at_ms) == (*seq, *created_at_ms)
            && (message.conversation_id, message.sender_id) == (key.conversation_id, key.sender_id)
            && message.client_id == key.client_id
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OverloadConfig;

    #[tokio::test(start_paused = true)]
    async fn those_who_are_told_that_storage_is_away_keep_nobody_out_any_more() {
        let overload = Arc::new(Overload::new(&OverloadConfig::default()));
        let (queue, waiting) = mpsc::channel(8);
        let linger = Duration::ZERO;
        let mut gathering =
            Gathering::new(&WriterConfig { linger, ..WriterConfig::default() }, waiting, &overload);
        let writers = Writers { queue, overload: Arc::clone(&overload) };
        let (done, mut told) = mpsc::unbounded_channel();
        writers.append(Vec::new(), move |outcome| drop(done.send(outcome)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(overload.admit().is_err(), "a group waits for a minute");
        gathering.refuse_all("the database is away", 8);
        assert!(matches!(told.recv().await, Some(Err(StoreError::Unavailable(_)))));
        assert!(overload.admit().is_ok());
    }
}
