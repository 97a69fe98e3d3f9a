//! Where an answer goes: a one-shot continuation that always runs.

use crate::domain::{Error, Result};

/// Takes the answer to one question, exactly once. Dropped without an answer (its actor died, a queue was cleared) it
/// answers `unavailable` by itself, so that nobody waits for ever.
pub struct ReplyTo<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> ReplyTo<T> {
    /// Calls `continuation` with the answer. It runs on the answering task and must not block.
    pub fn new(continuation: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(continuation)))
    }

    /// Nobody wants the answer.
    pub fn ignore() -> Self {
        Self(None)
    }

    /// Answers.
    pub fn send(mut self, answer: Result<T>) {
        if let Some(continuation) = self.0.take() {
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
        if let Some(continuation) = self.0.take() {
            continuation(Err(dropped()));
        }
    }
}

fn dropped() -> Error {
    Error::unavailable("the actor asked has stopped; try again, a send with the same client_id")
}
