//! Where an answer goes: a one-shot continuation that always runs.

use super::refusals::Standing;
use crate::domain::{Error, Result};

/// Takes the answer to one question, exactly once. Dropped without an answer (its actor died, a queue was cleared) it
/// answers `unavailable` by itself, so that nobody waits for ever.
pub struct ReplyTo<T> {
    continuation: Option<Box<dyn FnOnce(Result<T>) + Send>>,
    tag: u64,
    standing: Option<Standing>,
}

impl<T> ReplyTo<T> {
    /// Calls `continuation` with the answer. It runs on the answering task and must not block.
    pub fn new(continuation: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self { continuation: Some(Box::new(continuation)), tag: 0, standing: None }
    }

    /// The same with a mark, by which whoever made it knows it again when its question comes back to this node.
    pub fn tagged(tag: u64, continuation: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self { continuation: Some(Box::new(continuation)), tag, standing: None }
    }

    /// The mark; 0: none.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The same, of a send with this standing among those of its session.
    pub fn with_standing(mut self, standing: Option<Standing>) -> Self {
        self.standing = standing;
        self
    }

    /// The standing of the send, if another node sent it.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Whether the question is to be refused, as an earlier one was: see [`super::refusals`].
    pub fn is_void(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_void)
    }

    /// Nobody wants the answer.
    pub fn ignore() -> Self {
        Self { continuation: None, tag: 0, standing: None }
    }

    /// Answers.
    pub fn send(mut self, answer: Result<T>) {
        if let Some(continuation) = self.continuation.take() {
            continuation(answer);
        }
    }
}

impl<T: Send + 'static> ReplyTo<T> {
    /// A reply and the future of its answer.
    pub fn channel() -> (Self, impl Future<Output = Result<T>> + Send) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let reply = Self::new(move |answer| {
            // The asker may have given up; then nobody wants the answer.
            let _ = sender.send(answer);
        });
        (reply, async move { receiver.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

impl<T> Drop for ReplyTo<T> {
    fn drop(&mut self) {
        if let Some(continuation) = self.continuation.take() {
            continuation(Err(dropped()));
        }
    }
}

fn dropped() -> Error {
    Error::unavailable("the actor asked has stopped; try again, a send with the same client_id")
}
