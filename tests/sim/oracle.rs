//! The shadow of the log: what was sent, stored, answered and delivered, checked against the rules as it happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery::domain::changes::{apply, is_change};
use rookery::protocol::MessageKind;
use rookery::protocol::v1::Message;

use crate::trace::Trace;

/// Whether sends pipelined on one connection must be stored in their order, also while their room moves.
///
/// What the protocol promises (section 4, rules 2 and 3), and so what is exempt:
/// - Sends of a connection are stored in the order in which they arrived, repeats included. A send may have arrived
///   several times: each attempt has a place of its own, and the send may take any of them, so it is stored no earlier
///   than its first attempt allows and no later than its last one does.
/// - `unavailable`, `deadline_exceeded` and `internal` say that an attempt may have been stored. Until the repeat, whose
///   place is that of its own arrival, the send has therefore no last place: a copy of the attempt that is still under way
///   may be stored behind later sends. What the client learns is the same as if the repeat had been stored then. This
///   ends with the repeat: the send must not be stored behind what arrived after that.
/// - `resource_exhausted` says that nothing was stored. A copy of such an attempt has no right to a late place.
/// - An attempt that got no answer is not refused: as long as it is the last one, its place holds, even if its connection
///   has ended. Only a repeat moves it.
/// - Between connections nothing is promised: a send that was tried on two of them is judged by its last attempt alone,
///   and nobody is judged by it.
///
/// An attempt that is refused after the send was stored has left the order as well, so the verdict waits for the answer.
/// At the end of a run every send has one.
const PIPELINED_IN_ORDER: bool = true;
/// Whether a send that was refused for good must never be stored. A question may be carried out twice inside the cluster,
/// at two moments and by two owners; between them its sender may have left a group or joined it.
const REFUSED_FOR_GOOD: bool = false;
/// An answer may be given up on after this, and then come out of its order: `ANSWER_WAITS` of the outbox.
const ANSWER_WAIT_MS: u64 = 5_900;

pub struct Oracle {
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Messages as their logs have made them.
    logs: BTreeMap<u64, Vec<Message>>,
    /// By conversation and seq: all that a message has said.
    said: BTreeMap<(u64, u64), Vec<String>>,
    /// By conversation, sender and `client_id`.
    seqs: BTreeMap<(u64, u64, String), u64>,
    /// By sender and `client_id`: the simulation names no two sends of a user alike.
    sends: BTreeMap<(u64, String), Sent>,
    connections: u64,
    /// By connection and conversation: the latest of its sends that was stored, by its first attempt, of those that were
    /// tried on no other connection.
    stored_up_to: BTreeMap<(u64, u64), u64>,
    /// By connection and conversation: the last seq that went out.
    out_up_to: BTreeMap<(u64, u64), u64>,
}

struct Sent {
    text: String,
    /// A send, and not a change of one.
    says: bool,
    /// In the order in which they left their client.
    attempts: Vec<Attempt>,
    refused: bool,
    /// It was stored behind what came later than its last attempt, which was this one.
    overtaken: Option<usize>,
    at_ms: u64,
}

/// A send as it left its client once.
struct Attempt {
    connection: u64,
    index: u64,
    /// The client was told that it may have been stored, and to repeat it.
    open: bool,
}

impl Oracle {
    pub fn new(trace: Arc<Trace>) -> Self {
        Self { trace, inner: Mutex::default() }
    }

    /// A number for a new connection.
    pub fn connection(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.connections += 1;
        inner.connections
    }

    /// A send leaves its client, as the `index`th of its connection.
    pub fn sending(
        &self,
        user_id: u64,
        client_id: &str,
        text: &str,
        says: bool,
        connection: u64,
        index: u64,
    ) {
        let at_ms = self.trace.now_ms();
        let mut inner = self.inner.lock();
        let sent = inner.sends.entry((user_id, client_id.to_owned())).or_insert_with(|| Sent {
            text: text.to_owned(),
            says,
            attempts: Vec::new(),
            refused: false,
            overtaken: None,
            at_ms,
        });
        sent.attempts.push(Attempt { connection, index, open: false });
        sent.at_ms = at_ms;
        let attempts = sent.attempts.len();
        drop(inner);
        self.trace.note(format_args!("u{user_id} c{connection} sends {client_id} (attempt {attempts})"));
    }

    /// The database has stored.
    pub fn stored(&self, messages: &[Message]) {
        for message in messages {
            if let Err(rule) = self.store(message) {
                self.trace.violated(rule);
            }
        }
    }

    fn store(&self, message: &Message) -> Result<(), String> {
        let (conversation_id, sender_id, seq) = (message.conversation_id, message.sender_id, message.seq);
        self.trace.note(format_args!(
            "stored {conversation_id}/{seq} u{sender_id} {}",
            name_of(&message.client_id)
        ));
        let mut inner = self.inner.lock();
        let log = inner.logs.entry(conversation_id).or_default();
        let next = log.len() as u64 + 1;
        log.push(message.clone());
        let target_seq = message.target_seq;
        if is_change(message) {
            let Some(target) = (target_seq as usize).checked_sub(1).and_then(|at| log.get_mut(at)) else {
                return Err(format!("a change is about a message: {conversation_id}/{target_seq} is none"));
            };
            if target.recalled {
                return Err(format!(
                    "nothing changes what was taken back: {conversation_id}/{seq} is about {target_seq}"
                ));
            }
            apply(target, message);
            if message.kind() == MessageKind::Recall {
                log.iter_mut()
                    .filter(|other| other.target_seq == target_seq)
                    .for_each(|edit| edit.text.clear());
                let edits = log.iter().filter(|other| other.target_seq == target_seq);
                let emptied: Vec<u64> = edits.map(|edit| edit.seq).chain([target_seq]).collect();
                for seq in emptied {
                    inner.said.entry((conversation_id, seq)).or_default().push(String::new());
                }
            } else {
                inner.said.entry((conversation_id, target_seq)).or_default().push(message.text.clone());
            }
        }
        inner.said.entry((conversation_id, seq)).or_default().push(message.text.clone());
        if seq != next {
            return Err(format!("a log has no gap: {conversation_id} gets seq {seq} where {next} is next"));
        }
        let key = (conversation_id, sender_id, message.client_id.clone());
        if let Some(first) = inner.seqs.insert(key, seq) {
            return Err(format!(
                "one client_id makes one message: {} is {conversation_id}/{first} and /{seq}",
                message.client_id
            ));
        }
        if message.client_id.starts_with("system-") {
            return Ok(());
        }
        let inner = &mut *inner;
        let Some(sent) = inner.sends.get_mut(&(sender_id, message.client_id.clone())) else {
            return Err(format!("what is stored was sent: u{sender_id} never sent {}", message.client_id));
        };
        if sent.text != message.text {
            return Err(format!("what is stored was sent: {} has another text", message.client_id));
        }
        if sent.refused && sent.attempts.len() == 1 {
            let rule = format!("what is refused for good is not stored: {}", message.client_id);
            return if REFUSED_FOR_GOOD { Err(rule) } else { Ok(()) };
        }
        let (Some(first), Some(last)) = (sent.attempts.first(), sent.attempts.last()) else { return Ok(()) };
        let up_to = inner.stored_up_to.entry((last.connection, conversation_id)).or_default();
        if !sent.refused && !last.open && last.index < *up_to {
            self.trace
                .note(format_args!("{} of c{} comes behind a later one", message.client_id, last.connection));
            sent.overtaken = Some(sent.attempts.len());
        }
        if sent.attempts.iter().all(|attempt| attempt.connection == last.connection) {
            *up_to = first.index.max(*up_to);
        }
        Ok(())
    }

    /// A client was told to repeat its send; `may_be_stored`: as it may have been stored, or else because it was not.
    pub fn told_to_repeat(&self, user_id: u64, client_id: &str, may_be_stored: bool) {
        let mut inner = self.inner.lock();
        let Some(sent) = inner.sends.get_mut(&(user_id, client_id.to_owned())) else { return };
        if let Some(last) = sent.attempts.last_mut().filter(|_| may_be_stored) {
            last.open = true;
            sent.overtaken = sent.overtaken.filter(|attempt| *attempt != sent.attempts.len());
        }
    }

    /// A client was told that its send is stored.
    pub fn acknowledged(
        &self,
        user_id: u64,
        connection: u64,
        conversation_id: u64,
        seq: u64,
        client_id: &str,
        duplicate: bool,
    ) {
        let repeat = if duplicate { " again" } else { "" };
        self.trace.note(format_args!(
            "u{user_id} c{connection} told {client_id} is {conversation_id}/{seq}{repeat}"
        ));
        let mut inner = self.inner.lock();
        let is_there = inner.logs.get(&conversation_id).and_then(|log| log.get(seq as usize - 1));
        let is_it =
            is_there.is_some_and(|stored| stored.client_id == client_id && stored.sender_id == user_id);
        let sent = inner.sends.get(&(user_id, client_id.to_owned()));
        let waited = sent.map_or(0, |sent| self.trace.now_ms() - sent.at_ms);
        let overtaken = sent.is_some_and(|sent| sent.overtaken.is_some());
        let up_to = inner.out_up_to.entry((connection, conversation_id)).or_default();
        let in_order = duplicate || seq > *up_to || waited >= ANSWER_WAIT_MS;
        let before = *up_to;
        if !duplicate {
            *up_to = seq.max(*up_to);
        }
        drop(inner);
        if PIPELINED_IN_ORDER && overtaken {
            self.trace.violated(format_args!(
                "sends of one connection are stored in their order: {client_id} of u{user_id} is behind a later one"
            ));
        }
        if !is_it {
            self.trace.violated(format_args!(
                "an acknowledged send is in the log: {client_id} is not {conversation_id}/{seq}"
            ));
        }
        if !in_order {
            self.trace.violated(format_args!(
                "a connection gets answers and messages in order: `sent` of {conversation_id}/{seq} on \
                 c{connection} after {before}"
            ));
        }
    }

    /// A client was told that its send will not be stored, whatever it does.
    pub fn refused(&self, user_id: u64, client_id: &str, why: &str) {
        self.trace.note(format_args!("u{user_id} told {client_id} is refused: {why}"));
        let mut inner = self.inner.lock();
        let Some(sent) = inner.sends.get_mut(&(user_id, client_id.to_owned())) else { return };
        sent.refused = true;
        let first = sent.attempts.len() == 1;
        let stored = inner.seqs.keys().any(|(_, sender, name)| *sender == user_id && name == client_id);
        drop(inner);
        if REFUSED_FOR_GOOD && first && stored {
            self.trace.violated(format_args!("what is refused for good is not stored: {client_id}"));
        }
    }

    /// A message went out on a connection by itself.
    pub fn pushed(&self, connection: u64, message: &Message) {
        let (conversation_id, seq) = (message.conversation_id, message.seq);
        self.trace.note(format_args!("c{connection} gets {conversation_id}/{seq}"));
        self.shown(message);
        let mut inner = self.inner.lock();
        let up_to = inner.out_up_to.entry((connection, conversation_id)).or_default();
        let before = std::mem::replace(up_to, seq.max(*up_to));
        drop(inner);
        if seq <= before {
            self.trace.violated(format_args!(
                "a connection gets answers and messages in order, and none twice: {conversation_id}/{seq} on \
                 c{connection} after {before}"
            ));
        }
    }

    /// A client sees a message: it must be the log's.
    pub fn shown(&self, message: &Message) {
        let inner = self.inner.lock();
        let log = inner.logs.get(&message.conversation_id);
        let stored = log.and_then(|log| log.get((message.seq as usize).wrapping_sub(1)));
        let same = stored.is_some_and(|stored| {
            (stored.sender_id, &stored.client_id) == (message.sender_id, &message.client_id)
        }) && inner
            .said
            .get(&(message.conversation_id, message.seq))
            .is_some_and(|said| said.contains(&message.text));
        drop(inner);
        if !same {
            self.trace.violated(format_args!(
                "what is shown is the log's: {}/{} is not",
                message.conversation_id, message.seq
            ));
        }
    }

    /// Whether this is a message, and no change of one, that the user has sent.
    pub fn is_said_by(&self, user_id: u64, client_id: &str) -> bool {
        let inner = self.inner.lock();
        inner.sends.get(&(user_id, client_id.to_owned())).is_some_and(|sent| sent.says)
    }

    /// Messages of a conversation as its log has made them.
    pub fn log(&self, conversation_id: u64) -> Vec<Message> {
        self.inner.lock().logs.get(&conversation_id).cloned().unwrap_or_default()
    }

    /// How long a conversation's log is.
    pub fn last_seq(&self, conversation_id: u64) -> u64 {
        self.inner.lock().logs.get(&conversation_id).map_or(0, |log| log.len() as u64)
    }
}

/// System messages are named at random.
fn name_of(client_id: &str) -> &str {
    client_id.split_once('-').filter(|(first, _)| *first == "system").map_or(client_id, |(first, _)| first)
}
