//! The cursor lane of a node: stores the moved cursors of all rooms, many rooms in one transaction. While one runs the
//! next gathers. A task with a bounded queue, like the writer lanes; beside them, as cursors may wait and messages not.

use tokio::sync::mpsc;

use crate::storage::{CursorAdvance, StoreError, StoreResult, Stores};

/// Most cursors in one transaction, but for those of a single room.
const BATCH_CURSORS: usize = 1024;
/// Most rooms that wait; beyond, their cursors are refused and tried again later.
const QUEUE_ROOMS: usize = 16_384;

/// Cursors of one room, and who wants to know.
struct Batch {
    cursors: Vec<CursorAdvance>,
    done: Option<Box<dyn FnOnce(StoreResult<()>) + Send>>,
}

impl Batch {
    fn finish(mut self, outcome: StoreResult<()>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Batch {
    /// A lane that ended in the middle (a bug) leaves no room waiting.
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StoreError::Unsettled("the cursor lane ended".to_owned())));
        }
    }
}

/// The lane's entrance.
pub struct CursorLane(mpsc::Sender<Batch>);

impl CursorLane {
    /// Starts the lane on the current runtime; it ends when this is dropped and its queue is empty.
    pub fn start(stores: &Stores) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_ROOMS);
        tokio::spawn(run(stores.clone(), receiver));
        Self(sender)
    }

    /// Stores cursors of one room. `done` is called once, on the lane's task or, when too much waits, at once.
    pub fn store(&self, cursors: Vec<CursorAdvance>, done: impl FnOnce(StoreResult<()>) + Send + 'static) {
        if let Err(refused) = self.0.try_send(Batch { cursors, done: Some(Box::new(done)) }) {
            let (batch, why) = match refused {
                mpsc::error::TrySendError::Full(batch) => (batch, "too many cursors wait to be stored"),
                mpsc::error::TrySendError::Closed(batch) => (batch, "the node is stopping"),
            };
            batch.finish(Err(StoreError::Unavailable(why.to_owned())));
        }
    }
}

async fn run(stores: Stores, mut queue: mpsc::Receiver<Batch>) {
    let mut batches: Vec<Batch> = Vec::new();
    while queue.recv_many(&mut batches, 1).await > 0 {
        let mut size = batches.iter().map(|batch| batch.cursors.len()).sum::<usize>();
        while size < BATCH_CURSORS {
            let Ok(batch) = queue.try_recv() else { break };
            size += batch.cursors.len();
            batches.push(batch);
        }
        let cursors: Vec<CursorAdvance> =
            batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.cursors)).collect();
        let outcome = stores.conversations.advance_cursors(&cursors).await;
        for batch in batches.drain(..) {
            batch.finish(outcome.clone());
        }
        if let Err(away @ (StoreError::Unavailable(_) | StoreError::Unsettled(_))) = outcome {
            // Those that waited meanwhile are told at once; one behind the other, each would wait as long again.
            for batch in std::iter::from_fn(|| queue.try_recv().ok()).take(QUEUE_ROOMS) {
                batch.finish(Err(away.clone()));
            }
        }
    }
}
