//! What the full-screen client does over the network: the screen never waits for it. What is to be stored goes through
//! one queue, so that it is stored as it was written; everything else is a task of its own.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::client::{Client, ClientError, Rest};
use crate::domain::Error;
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};
use crate::protocol::{PresenceStatus, v1::WatchPresence};

/// Answers that were not taken yet; more make their tasks wait.
const TELLINGS_MAX: usize = 256;
/// Messages, edits and the like without an answer; more are not taken.
pub(super) const SENDS_MAX: usize = 256;
/// First pause before a refused watch is repeated; it doubles.
const WATCH_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest such pause.
const WATCH_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Messages in one page of history.
const PAST_PAGE: u32 = 50;

/// What a task has to tell.
#[derive(Debug)]
pub(super) enum Told {
    /// What a user is called.
    Name(u64, String),
    /// What a conversation is.
    Conversation(Box<v1::Conversation>),
    /// Earlier messages of a conversation; `None`: they could not be had.
    Past(u64, Option<v1::HistoryPage>),
    /// How users are.
    Presences(Vec<v1::Presence>),
    /// This conversation is to be shown, if the user does nothing else meanwhile.
    Open {
        /// Which one.
        conversation_id: u64,
        /// The one that was shown when the user asked.
        from: Option<u64>,
    },
    /// What went out under this client_id is stored.
    Stored(String),
    /// It is not, and won't be.
    NotStored(String, ClientError),
    /// Something was done.
    Note(String),
    /// Something was not.
    Failed(ClientError),
}

/// What is to be stored, under a client_id of its own.
#[derive(Debug, PartialEq)]
pub(super) enum Outgoing {
    /// A send, edit, recall or reaction.
    Request(Request),
    /// A text to a user by name, whose conversation is then to be shown.
    WriteTo {
        /// As told in [`Told::Stored`].
        client_id: String,
        /// The user's name.
        name: String,
        /// What to write.
        text: String,
        /// The conversation that is shown now.
        from: Option<u64>,
    },
}

/// Where tasks tell what came of them.
pub(super) struct Tellings(mpsc::Receiver<Told>);

impl Tellings {
    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.0.recv().await
    }
}

/// Starts the tasks.
pub(super) struct Worker {
    rest: Rest,
    client: Client,
    tell: mpsc::Sender<Told>,
    sends: mpsc::Sender<Outgoing>,
    watched: watch::Sender<Vec<u64>>,
}

impl Worker {
    pub(super) fn new(rest: Rest, client: Client) -> (Self, Tellings) {
        let (worker, tellings, outgoing) = Self::idle(rest, client);
        tokio::spawn(store_in_order(
            outgoing,
            worker.rest.clone(),
            worker.client.clone(),
            worker.tell.clone(),
        ));
        (worker, tellings)
    }

    /// One that stores nothing by itself: what is to be stored comes out.
    pub(super) fn idle(rest: Rest, client: Client) -> (Self, Tellings, mpsc::Receiver<Outgoing>) {
        let (tell, tellings) = mpsc::channel(TELLINGS_MAX);
        let (sends, outgoing) = mpsc::channel(SENDS_MAX);
        let (watched, wanted) = watch::channel(Vec::new());
        tokio::spawn(keep_watched(wanted, client.clone(), tell.clone()));
        (Self { rest, client, tell, sends, watched }, Tellings(tellings), outgoing)
    }

    /// Puts something behind all that is to be stored already; `false`: there is too much of it.
    pub(super) fn store(&self, outgoing: Outgoing) -> bool {
        self.sends.try_send(outgoing).is_ok()
    }

    /// Ends the device's session at the server.
    pub(super) async fn sign_out(&self) {
        // The token expires by itself.
        let _ = self.rest.sign_out().await;
    }

    /// Runs a task; an error is told to the user.
    fn spawn(&self, work: impl Future<Output = Result<Option<Told>, ClientError>> + Send + 'static) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let told = match work.await {
                Ok(None) => return,
                Ok(Some(told)) => told,
                Err(error) => Told::Failed(error),
            };
            // Nobody listens any more when the screen is gone.
            let _ = tell.send(told).await;
        });
    }

    pub(super) fn look_up(&self, user_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            // An unknown name is shown as a number.
            let Ok(user) = rest.user(user_id).await else { return Ok(None) };
            let name = if user.display_name.is_empty() { user.username } else { user.display_name };
            Ok(Some(Told::Name(user_id, name)))
        });
    }

    pub(super) fn describe(&self, conversation_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            Ok(Some(Told::Conversation(Box::new(rest.conversation(conversation_id).await?))))
        });
    }

    pub(super) fn mark_read(&self, cursor: v1::Cursor) {
        let client = self.client.clone();
        self.spawn(async move {
            // A refusal costs nothing but an unread mark.
            let _ = client.mark_read(cursor.conversation_id, cursor.seq).await;
            Ok(None)
        });
    }

    pub(super) fn older(&self, conversation_id: u64, before_seq: u64) {
        let client = self.client.clone();
        self.spawn(async move {
            let page = client.history(conversation_id, before_seq, PAST_PAGE).await;
            Ok(Some(Told::Past(conversation_id, page.ok())))
        });
    }

    /// Watches these users instead of the earlier ones, on the connection that there is now.
    pub(super) fn watch(&self, user_ids: Vec<u64>) {
        self.watched.send_replace(user_ids);
    }

    pub(super) fn tell_typing(&self, conversation_id: u64) {
        let client = self.client.clone();
        self.spawn(async move {
            // Not worth a word when it fails.
            let _ = client.request(Request::Typing(v1::TypingState { conversation_id, active: true })).await;
            Ok(None)
        });
    }

    pub(super) fn make_group(&self, name: &str, from: Option<u64>) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let made = rest.create_group(&name, "", "open", &[]).await?;
            Ok(Some(Told::Open { conversation_id: made.conversation_id, from }))
        });
    }

    pub(super) fn join(&self, conversation_id: u64, from: Option<u64>) {
        let rest = self.rest.clone();
        self.spawn(async move {
            if rest.join(conversation_id).await? {
                return Ok(Some(Told::Note("its owner and admins have been asked to let you in".to_owned())));
            }
            Ok(Some(Told::Open { conversation_id, from }))
        });
    }

    pub(super) fn leave(&self, conversation_id: u64) {
        let rest = self.rest.clone();
        self.spawn(async move {
            rest.leave(conversation_id).await?;
            Ok(Some(Told::Note("you have left the group".to_owned())))
        });
    }

    pub(super) fn befriend(&self, name: &str) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let user = rest.user_by_name(&name).await?;
            let contact = rest.add_contact(user.user_id, "").await?;
            let note = if contact.state == "friend" { "is a friend now" } else { "has been asked" };
            Ok(Some(Told::Note(format!("{name} {note}"))))
        });
    }

    pub(super) fn add_member(&self, conversation_id: u64, name: &str) {
        let (rest, name) = (self.rest.clone(), name.to_owned());
        self.spawn(async move {
            let user = rest.user_by_name(&name).await?;
            rest.add_members(conversation_id, &[user.user_id]).await?;
            Ok(Some(Told::Note(format!("{name} is a member now"))))
        });
    }

    /// Says how the user is: a word, and a text behind it. The error says which words there are.
    pub(super) fn set_presence(&self, words: &str) -> Result<(), String> {
        let (word, text) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let status = PresenceStatus::from_str_name(word)
            .filter(|status| *status != PresenceStatus::Offline)
            .ok_or("/status WORD TEXT: the word is online, away, busy or invisible")?;
        let mut set = v1::SetPresence { text: text.trim().to_owned(), ..v1::SetPresence::default() };
        set.set_status(status);
        let (client, note) = (self.client.clone(), format!("you are {word} now"));
        self.spawn(async move {
            match client.request(Request::SetPresence(set)).await? {
                Body::Ok(_) => Ok(Some(Told::Note(note))),
                _ => Err(ClientError::Refused(Error::internal("the server answered something else"))),
            }
        });
        Ok(())
    }
}

/// Hands over what is to be stored, in its order, to the client, which keeps that order for each conversation.
async fn store_in_order(
    mut outgoing: mpsc::Receiver<Outgoing>,
    rest: Rest,
    client: Client,
    tell: mpsc::Sender<Told>,
) {
    while let Some(outgoing) = outgoing.recv().await {
        let client_id = client_id_of(&outgoing).to_owned();
        match outgoing {
            Outgoing::Request(request) => match client.hand_over(request).await {
                Ok(stored) => {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        let told = match stored.answer().await {
                            Ok(_) => Told::Stored(client_id),
                            Err(error) => Told::NotStored(client_id, error),
                        };
                        // Nobody listens any more when the screen is gone.
                        let _ = tell.send(told).await;
                    });
                }
                Err(error) => {
                    let _ = tell.send(Told::NotStored(client_id, error)).await;
                }
            },
            // What is written next may go to the same user's conversation, so it waits for the answer.
            Outgoing::WriteTo { name, text, from, .. } => {
                let sent = async {
                    let to_user_id = rest.user_by_name(&name).await?.user_id;
                    let client_id = client_id.clone();
                    client.send(v1::Send { to_user_id, client_id, text, ..v1::Send::default() }).await
                };
                let told = match sent.await {
                    Ok(sent) => {
                        let _ = tell.send(Told::Stored(client_id)).await;
                        Told::Open { conversation_id: sent.conversation_id, from }
                    }
                    Err(error) => Told::NotStored(client_id, error),
                };
                let _ = tell.send(told).await;
            }
        }
    }
}

/// What [`Told::Stored`] will name.
pub(super) fn client_id_of(outgoing: &Outgoing) -> &str {
    match outgoing {
        Outgoing::Request(Request::Send(send)) => &send.client_id,
        Outgoing::Request(Request::Edit(edit)) => &edit.client_id,
        Outgoing::Request(Request::Recall(recall)) => &recall.client_id,
        Outgoing::Request(Request::React(react)) => &react.client_id,
        Outgoing::WriteTo { client_id, .. } => client_id,
        // Nothing else is stored.
        Outgoing::Request(_) => "",
    }
}

/// Has the server watch whom it is told to, and asks again after a pause where that failed.
async fn keep_watched(mut wanted: watch::Receiver<Vec<u64>>, client: Client, tell: mpsc::Sender<Told>) {
    while wanted.changed().await.is_ok() {
        let mut pause = WATCH_PAUSE_MIN;
        loop {
            let user_ids = wanted.borrow_and_update().clone();
            let told = match client.request(Request::WatchPresence(WatchPresence { user_ids })).await {
                Ok(Body::PresencePage(page)) => Told::Presences(page.users),
                Ok(_) => break,
                Err(error) if error.may_repeat() => {
                    let asked = Duration::from_millis(error.retry_after_ms());
                    tokio::select! {
                        changed = wanted.changed() => if changed.is_err() { return },
                        () = sleep(pause.max(asked)) => {}
                    }
                    pause = (pause * 2).min(WATCH_PAUSE_MAX);
                    continue;
                }
                Err(error) => Told::Failed(error),
            };
            let _ = tell.send(told).await;
            break;
        }
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
