//! The live sessions of this node, by number and by user.

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::Session;
use crate::actors::frame::{InLog, SharedFrame};
use crate::protocol::codec::Format;

/// Of more users than this, those who are here are looked for, if they are fewer.
const MANY: usize = 512;

/// See the module's header.
#[derive(Default)]
pub struct SessionTable {
    by_id: DashMap<u64, Session, RandomState>,
    by_user: DashMap<u64, Vec<Session>, RandomState>,
    /// The number of the newest session.
    newest: Mutex<u64>,
}

impl SessionTable {
    /// Takes up a session and numbers it.
    pub fn insert(&self, session: Session) {
        let mut newest = self.newest.lock();
        *newest += 1;
        session.set_number(*newest);
        self.by_user.entry(session.user_id()).or_default().push(session.clone());
        self.by_id.insert(session.id(), session);
    }

    /// The number of the newest session: all those up to it that have not ended are in [`SessionTable::all`] from now on.
    pub fn newest(&self) -> u64 {
        *self.newest.lock()
    }

    /// Drops a session; whether it was there.
    pub fn remove(&self, session: &Session) -> bool {
        if let Some(mut of_user) = self.by_user.get_mut(&session.user_id()) {
            of_user.retain(|other| other.id() != session.id());
        }
        self.by_user.remove_if(&session.user_id(), |_, of_user| of_user.is_empty());
        self.by_id.remove(&session.id()).is_some()
    }

    /// By number.
    pub fn get(&self, session_id: u64) -> Option<Session> {
        self.by_id.get(&session_id).map(|session| session.clone())
    }

    /// All of them, as they are now, by number.
    pub fn all(&self) -> Vec<Session> {
        let mut all: Vec<_> = self.by_id.iter().map(|session| session.clone()).collect();
        all.sort_unstable_by_key(Session::id);
        all
    }

    /// The sessions of a user.
    pub fn of_user(&self, user_id: u64) -> Vec<Session> {
        self.by_user.get(&user_id).map(|sessions| sessions.clone()).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Hands an event to every session of the users that is here: a push into each outbox, no mailbox between.
    pub fn deliver(&self, user_ids: &[u64], except_session_id: u64, frame: &SharedFrame) {
        let here: Vec<u64>;
        let mut user_ids = user_ids;
        // Of a large room's members, when an event goes to every node, few may be here.
        if user_ids.len() > MANY && user_ids.len() > self.by_user.len() && user_ids.is_sorted() {
            here = self.of_these(user_ids);
            user_ids = &here;
        }
        for user_id in user_ids {
            if let Some(sessions) = self.by_user.get(user_id) {
                give(*user_id, &sessions, except_session_id, frame);
            }
        }
    }

    /// Those of these users who have sessions here, in order, as the users are.
    fn of_these(&self, user_ids: &[u64]) -> Vec<u64> {
        let users = self.by_user.iter().map(|user| *user.key());
        let mut here: Vec<u64> = users.filter(|user_id| user_ids.binary_search(user_id).is_ok()).collect();
        here.sort_unstable();
        here
    }
}

/// Hands an event to the sessions of a user.
fn give(user_id: u64, sessions: &[Session], except_session_id: u64, frame: &SharedFrame) {
    let message = frame.message();
    for session in sessions.iter().filter(|session| session.id() != except_session_id) {
        // The line protocol has no word for a user's own messages from elsewhere.
        let own_on_a_line =
            session.format() == Format::Line && message.is_some_and(|message| message.sender_id == user_id);
        if own_on_a_line {
            continue;
        }
        let Some(bytes) = frame.bytes(session.format()) else { continue };
        match message {
            Some(InLog { conversation_id, seq, sender_id }) if session.format() != Format::Line => {
                session.outbox().message(conversation_id, seq, sender_id == user_id, bytes);
            }
            // A line connection is not told of its own sends' seqs, so that it has no order to wait for.
            Some(InLog { conversation_id, seq, .. }) => session.outbox().line(conversation_id, seq, bytes),
            None => session.outbox().event(bytes),
        }
    }
}
