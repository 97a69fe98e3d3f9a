//! The judge of the promises: an own record of what was sent, acknowledged, pushed and synced, and a verdict.
//!
//! It believes nobody: the test tells it what each client wrote and read, and the verdict compares that with the
//! promises of the protocol page. It knows no server code but the wire types.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rookery::protocol::{MessageKind, v1};

/// To whom something was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// By `to_user_id`.
    User(u64),
    /// By `conversation_id`.
    Conversation(u64),
}

/// A message as some client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    seq: u64,
    sender_id: u64,
    client_id: String,
    text: String,
    is_system: bool,
}

impl From<&v1::Message> for Seen {
    fn from(message: &v1::Message) -> Self {
        Self {
            seq: message.seq,
            sender_id: message.sender_id,
            client_id: message.client_id.clone(),
            text: message.text.clone(),
            is_system: message.kind == MessageKind::System as i32,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, sender_id, client_id, text, is_system } = self;
        let kind = if *is_system { "system message" } else { "message" };
        write!(f, "{kind} {seq} of user {sender_id}, client_id '{client_id}', text {text:?}")
    }
}

/// A `sent`.
#[derive(Clone, Debug)]
struct Ack {
    conversation_id: u64,
    seq: u64,
    sender_id: u64,
    client_id: String,
    duplicate: bool,
}

/// What came over one connection, in order.
#[derive(Debug)]
struct Connection {
    user_id: u64,
    label: String,
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Pushed { conversation_id: u64, seen: Seen },
    Sent { conversation_id: u64, seq: u64 },
}

/// Names a connection in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(usize);

/// What the tests saw; shared by all their tasks.
#[derive(Debug)]
pub struct Checker {
    seed: u64,
    record: Mutex<Record>,
}

type Log = Vec<Seen>;

#[derive(Debug, Default)]
struct Record {
    /// What was handed to the server at least once: its text, by sender, target and client_id.
    attempts: HashMap<(u64, Target, String), String>,
    acks: Vec<Ack>,
    /// Conversation → members; groups from their creation, direct ones from their first ack.
    members: BTreeMap<u64, BTreeSet<u64>>,
    /// The direct conversation of two users, the lower id first.
    direct: HashMap<(u64, u64), u64>,
    connections: Vec<Connection>,
    /// User → conversation → what sync from 0 gave, in the order given.
    logs: BTreeMap<u64, BTreeMap<u64, Log>>,
    /// What is wrong by itself, such as a refusal that must not be.
    complaints: Vec<String>,
}

/// What was judged, for the test's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Different messages acknowledged.
    pub acked: usize,
    /// Answers `duplicate: true`.
    pub duplicates: usize,
    /// Messages pushed live, over all connections.
    pub pushed: usize,
    /// Messages in the final logs, over all users.
    pub synced: usize,
}

impl Checker {
    /// An empty record. `seed` is printed with a violation.
    pub fn new(seed: u64) -> Self {
        Self { seed, record: Mutex::default() }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group and its members, the creator included, who all see it from its beginning.
    pub fn group(&self, conversation_id: u64, members: impl IntoIterator<Item = u64>) {
        self.record().members.insert(conversation_id, members.into_iter().collect());
    }

    /// A message is about to be handed to a server, for the first time or again.
    pub fn attempt(&self, sender_id: u64, target: Target, client_id: &str, text: &str) {
        let key = (sender_id, target, client_id.to_owned());
        self.record().attempts.insert(key, text.to_owned());
    }

    /// A connection was signed in.
    pub fn connected(&self, user_id: u64, label: String) -> ConnectionId {
        let mut record = self.record();
        record.connections.push(Connection { user_id, label, items: Vec::new() });
        ConnectionId(record.connections.len() - 1)
    }

    /// `message` was pushed on a connection.
    pub fn pushed(&self, connection: ConnectionId, message: &v1::Message) {
        let item = Item::Pushed { conversation_id: message.conversation_id, seen: Seen::from(message) };
        self.record().connections[connection.0].items.push(item);
    }

    /// `sent` came on a connection, or without one that pushes (by REST).
    pub fn acked(&self, connection: Option<ConnectionId>, sender_id: u64, target: Target, sent: &v1::Sent) {
        let mut record = self.record();
        let conversation_id = sent.conversation_id;
        match target {
            Target::Conversation(id) if id != conversation_id => {
                let complaint = format!(
                    "a send of user {sender_id} to conversation {id} was acknowledged for conversation {conversation_id}"
                );
                record.complaints.push(complaint);
            }
            Target::Conversation(_) => {}
            Target::User(peer) => record.learn_direct(sender_id, peer, conversation_id),
        }
        // The answer to a repeat names an old seq: it has no place in the connection's order.
        if let Some(connection) = connection
            && !sent.duplicate
        {
            record.connections[connection.0].items.push(Item::Sent { conversation_id, seq: sent.seq });
        }
        record.acks.push(Ack {
            conversation_id,
            seq: sent.seq,
            sender_id,
            client_id: sent.client_id.clone(),
            duplicate: sent.duplicate,
        });
    }

    /// Something was seen that must never be.
    pub fn complain(&self, complaint: impl Into<String>) {
        self.record().complaints.push(complaint.into());
    }

    /// The final log of a conversation as a user got it by sync from 0, in the order given.
    pub fn synced(&self, user_id: u64, conversation_id: u64, messages: &[v1::Message]) {
        let log = messages.iter().map(Seen::from).collect();
        self.record().logs.entry(user_id).or_default().insert(conversation_id, log);
    }

    /// Different messages acknowledged so far.
    pub fn acked_so_far(&self) -> usize {
        self.record().acked().len()
    }

    /// Which of the users in `wanted` have had (conversation, seq) pushed on some connection, or sent it themselves.
    pub fn users_with(&self, conversation_id: u64, seq: u64) -> BTreeSet<u64> {
        let record = self.record();
        let has = |connection: &&Connection| {
            connection.items.iter().any(|item| match item {
                Item::Pushed { conversation_id: id, seen } => (*id, seen.seq) == (conversation_id, seq),
                Item::Sent { conversation_id: id, seq: own } => (*id, *own) == (conversation_id, seq),
            })
        };
        record.connections.iter().filter(has).map(|connection| connection.user_id).collect()
    }

    /// Members of a conversation.
    pub fn members(&self, conversation_id: u64) -> BTreeSet<u64> {
        self.record().members.get(&conversation_id).cloned().unwrap_or_default()
    }

    /// The texts of the final log that `user_id` got from others, by (conversation, seq): what a line device is given.
    pub fn texts_from_others(&self, user_id: u64) -> BTreeMap<(u64, u64), String> {
        let record = self.record();
        let Some(logs) = record.logs.get(&user_id) else { return BTreeMap::new() };
        let others = logs.iter().flat_map(|(id, log)| log.iter().map(move |seen| (id, seen)));
        others
            .filter(|(_, seen)| !seen.is_system && seen.sender_id != user_id)
            .map(|(id, seen)| ((*id, seen.seq), seen.text.clone()))
            .collect()
    }

    /// Fails the test with the first violation of the promises; every user's final log must have been told.
    pub fn judge(&self) -> Summary {
        match self.verdict() {
            Ok(summary) => summary,
            Err(violation) => panic!("seed {}: {violation}", self.seed),
        }
    }

    fn verdict(&self) -> Result<Summary, String> {
        let record = self.record();
        if let Some(complaint) = record.complaints.first() {
            return Err(complaint.clone());
        }
        record.acks_agree()?;
        record.logs_are_whole()?;
        record.members_agree()?;
        record.logs_hold_what_was_sent()?;
        record.acked_is_stored()?;
        record.pushes_are_in_order()?;
        Ok(Summary {
            acked: record.acked().len(),
            duplicates: record.acks.iter().filter(|ack| ack.duplicate).count(),
            pushed: record
                .connections
                .iter()
                .map(|c| c.items.iter().filter(|item| matches!(item, Item::Pushed { .. })).count())
                .sum(),
            synced: record.logs.values().flat_map(BTreeMap::values).map(Vec::len).sum(),
        })
    }
}

impl Record {
    fn learn_direct(&mut self, sender_id: u64, peer: u64, conversation_id: u64) {
        let pair = (sender_id.min(peer), sender_id.max(peer));
        let known = *self.direct.entry(pair).or_insert(conversation_id);
        if known != conversation_id {
            self.complaints.push(format!(
                "users {} and {} have two direct conversations, {known} and {conversation_id}",
                pair.0, pair.1
            ));
        }
        self.members.entry(conversation_id).or_default().extend([sender_id, peer]);
    }

    /// What was acknowledged, repeats counted once. The first answer may have been lost, so `duplicate` says nothing here.
    fn acked(&self) -> BTreeSet<(u64, u64, &str)> {
        self.acks.iter().map(|ack| (ack.conversation_id, ack.sender_id, ack.client_id.as_str())).collect()
    }

    /// One client_id, one seq; and at most one answer says that it was stored just then.
    fn acks_agree(&self) -> Result<(), String> {
        let mut by_id: HashMap<(u64, u64, &str), (u64, usize)> = HashMap::new();
        let mut by_seq: HashMap<(u64, u64), (u64, &str)> = HashMap::new();
        for ack in &self.acks {
            let Ack { conversation_id, seq, sender_id, client_id, duplicate } = ack;
            let name =
                format!("client_id '{client_id}' of user {sender_id} in conversation {conversation_id}");
            let (first_seq, fresh) =
                by_id.entry((*conversation_id, *sender_id, client_id)).or_insert((*seq, 0));
            if first_seq != seq {
                return Err(format!("{name} was acknowledged at seq {first_seq} and at seq {seq}"));
            }
            *fresh += usize::from(!duplicate);
            if *fresh > 1 {
                return Err(format!("{name} was acknowledged twice (seq {seq}) without duplicate: true"));
            }
            let owner = by_seq.entry((*conversation_id, *seq)).or_insert((*sender_id, client_id));
            if *owner != (*sender_id, client_id.as_str()) {
                return Err(format!(
                    "seq {seq} of conversation {conversation_id} was acknowledged for client_id '{}' of user {} and for '{client_id}' of user {sender_id}",
                    owner.1, owner.0
                ));
            }
        }
        Ok(())
    }

    /// Sync gives 1..n in order, each once.
    fn logs_are_whole(&self) -> Result<(), String> {
        for (user_id, logs) in &self.logs {
            for (conversation_id, log) in logs {
                for (at, seen) in log.iter().enumerate() {
                    let expected = at as u64 + 1;
                    if seen.seq != expected {
                        return Err(format!(
                            "the log of conversation {conversation_id} at user {user_id} has {seen} where seq {expected} belongs ({} messages in all)",
                            log.len()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Every member has the same log, and nobody else has it.
    fn members_agree(&self) -> Result<(), String> {
        for (user_id, logs) in &self.logs {
            for conversation_id in logs.keys() {
                if !self.members.get(conversation_id).is_some_and(|members| members.contains(user_id)) {
                    return Err(format!("user {user_id} was given conversation {conversation_id} of others"));
                }
            }
        }
        for (conversation_id, members) in &self.members {
            let mut first: Option<(u64, &Log)> = None;
            for user_id in members {
                let Some(logs) = self.logs.get(user_id) else {
                    return Err(format!("the test has no final log of user {user_id}"));
                };
                let Some(log) = logs.get(conversation_id) else {
                    return Err(format!("user {user_id} lacks all of conversation {conversation_id}"));
                };
                let (other, expected) = *first.get_or_insert((*user_id, log));
                if let Some((a, b)) = expected.iter().zip(log).find(|(a, b)| a != b) {
                    return Err(format!(
                        "conversation {conversation_id} differs: user {other} has {a}; user {user_id} has {b}"
                    ));
                }
                if expected.len() != log.len() {
                    return Err(format!(
                        "conversation {conversation_id} has {} messages at user {other} and {} at user {user_id}",
                        expected.len(),
                        log.len()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Any member's log, since they are the same.
    fn log(&self, conversation_id: u64) -> Option<&Log> {
        self.logs.values().find_map(|logs| logs.get(&conversation_id))
    }

    /// No client_id is stored twice, and what is stored is what somebody sent, word for word.
    fn logs_hold_what_was_sent(&self) -> Result<(), String> {
        let peers: HashMap<u64, (u64, u64)> = self.direct.iter().map(|(pair, id)| (*id, *pair)).collect();
        for conversation_id in self.members.keys() {
            let Some(log) = self.log(*conversation_id) else { continue };
            let mut seqs: HashMap<(u64, &str), u64> = HashMap::new();
            for seen in log.iter().filter(|seen| !seen.is_system) {
                let place = format!("conversation {conversation_id} holds {seen}");
                if let Some(before) = seqs.insert((seen.sender_id, &seen.client_id), seen.seq) {
                    return Err(format!("{place}, whose client_id is stored at seq {before} too"));
                }
                let by_user = peers
                    .get(conversation_id)
                    .map(|(a, b)| Target::User(if *a == seen.sender_id { *b } else { *a }));
                let by_id = Some(Target::Conversation(*conversation_id));
                let sent = [by_user, by_id]
                    .into_iter()
                    .flatten()
                    .find_map(|target| self.attempts.get(&(seen.sender_id, target, seen.client_id.clone())));
                match sent {
                    None => return Err(format!("{place}, which nobody sent")),
                    Some(text) if *text != seen.text => {
                        return Err(format!("{place}, but what was sent is {text:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Each acknowledged message stands in the log at its seq.
    fn acked_is_stored(&self) -> Result<(), String> {
        for ack in &self.acks {
            let Ack { conversation_id, seq, sender_id, client_id, .. } = ack;
            let what = format!(
                "the message acknowledged to user {sender_id} at seq {seq} of conversation {conversation_id} (client_id '{client_id}')"
            );
            let log =
                self.log(*conversation_id).ok_or_else(|| format!("{what} is lost: nobody has the log"))?;
            let stored = seq.checked_sub(1).and_then(|at| log.get(usize::try_from(at).ok()?));
            match stored {
                None => return Err(format!("{what} is lost: the log ends at seq {}", log.len())),
                Some(seen) if (seen.sender_id, &seen.client_id) != (*sender_id, client_id) => {
                    return Err(format!("{what} is lost: the log has {seen} there"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// On each connection the seqs of a conversation rise, over pushes and `sent` together; and a push is what the log
    /// holds.
    fn pushes_are_in_order(&self) -> Result<(), String> {
        for Connection { user_id, label, items } in &self.connections {
            let mut last: HashMap<u64, (u64, &str)> = HashMap::new();
            for item in items {
                let (conversation_id, seq, what) = match item {
                    Item::Pushed { conversation_id, seen } => (*conversation_id, seen.seq, "pushed"),
                    Item::Sent { conversation_id, seq } => (*conversation_id, *seq, "sent"),
                };
                let place =
                    format!("on the connection of user {user_id} ({label}), conversation {conversation_id}");
                if let Some((before, how)) = last.insert(conversation_id, (seq, what))
                    && before >= seq
                {
                    let kind = if before == seq { "is there twice" } else { "is out of order" };
                    return Err(format!("{place}: seq {seq} ({what}) {kind}, behind seq {before} ({how})"));
                }
                if let Item::Pushed { seen, .. } = item {
                    let stored = self.log(conversation_id).and_then(|log| log.get(seq as usize - 1));
                    if stored != Some(seen) {
                        return Err(format!(
                            "{place}: {seen} was pushed, and the log has {}",
                            stored.map_or_else(|| "nothing there".to_owned(), ToString::to_string)
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The judge is judged first: each kind of violation is found, and named.
mod tests {
    use super::*;

    const ROOM: u64 = 9;

    fn message(seq: u64, client_id: &str, text: &str) -> v1::Message {
        v1::Message {
            conversation_id: ROOM,
            seq,
            sender_id: 1,
            client_id: client_id.to_owned(),
            text: text.to_owned(),
            ..v1::Message::default()
        }
    }

    fn sent(seq: u64, client_id: &str, duplicate: bool) -> v1::Sent {
        let client_id = client_id.to_owned();
        v1::Sent { conversation_id: ROOM, seq, client_id, duplicate, ..v1::Sent::default() }
    }

    /// User 1 has sent "a" and "b" to users 1 and 2.
    fn two_messages() -> Checker {
        let checker = Checker::new(7);
        checker.group(ROOM, [1, 2]);
        for (seq, id) in [(1, "a"), (2, "b")] {
            checker.attempt(1, Target::Conversation(ROOM), id, id);
            checker.acked(None, 1, Target::Conversation(ROOM), &sent(seq, id, false));
        }
        checker
    }

    fn with_logs(checker: Checker, log: &[v1::Message]) -> Checker {
        checker.synced(1, ROOM, log);
        checker.synced(2, ROOM, log);
        checker
    }

    fn whole() -> [v1::Message; 2] {
        [message(1, "a", "a"), message(2, "b", "b")]
    }

    fn violation(checker: &Checker) -> String {
        checker.verdict().expect_err("this is a violation")
    }

    #[test]
    fn a_whole_record_is_accepted() {
        let checker = with_logs(two_messages(), &whole());
        let connection = checker.connected(2, "here".to_owned());
        checker.pushed(connection, &message(1, "a", "a"));
        checker.acked(None, 1, Target::Conversation(ROOM), &sent(1, "a", true));
        let summary = checker.verdict();
        assert_eq!(summary, Ok(Summary { acked: 2, duplicates: 1, pushed: 1, synced: 4 }));
    }

    #[test]
    fn a_lost_message_is_found() {
        let lost_at_the_end = with_logs(two_messages(), &whole()[..1]);
        assert!(violation(&lost_at_the_end).contains("seq 2 of conversation 9 (client_id 'b') is lost"));
        let one_lacks_it = two_messages();
        one_lacks_it.synced(1, ROOM, &whole());
        one_lacks_it.synced(2, ROOM, &whole()[..1]);
        assert!(violation(&one_lacks_it).contains("has 2 messages at user 1 and 1 at user 2"));
        let no_log = two_messages();
        no_log.synced(1, ROOM, &whole());
        assert!(violation(&no_log).contains("no final log of user 2"));
    }

    #[test]
    fn a_gap_and_a_double_are_found() {
        let gap = with_logs(two_messages(), &[message(1, "a", "a"), message(3, "b", "b")]);
        assert!(violation(&gap).contains("where seq 2 belongs"));
        let [a, b] = whole();
        let double = with_logs(two_messages(), &[a, b, message(3, "a", "a")]);
        assert!(violation(&double).contains("stored at seq 1 too"));
    }

    #[test]
    fn a_changed_or_invented_text_is_found() {
        let changed = with_logs(two_messages(), &[message(1, "a", "a"), message(2, "b", "x")]);
        assert!(violation(&changed).contains("what was sent is \"b\""));
        let [a, b] = whole();
        let invented = with_logs(two_messages(), &[a, b, message(3, "c", "c")]);
        assert!(violation(&invented).contains("which nobody sent"));
    }

    #[test]
    fn acks_that_contradict_each_other_are_found() {
        let two_seqs = with_logs(two_messages(), &whole());
        two_seqs.acked(None, 1, Target::Conversation(ROOM), &sent(2, "a", true));
        assert!(violation(&two_seqs).contains("at seq 1 and at seq 2"));
        let twice_fresh = with_logs(two_messages(), &whole());
        twice_fresh.acked(None, 1, Target::Conversation(ROOM), &sent(1, "a", false));
        assert!(violation(&twice_fresh).contains("without duplicate: true"));
    }

    #[test]
    fn a_push_out_of_order_or_twice_is_found() {
        let backwards = with_logs(two_messages(), &whole());
        let connection = backwards.connected(2, "n1".to_owned());
        backwards.pushed(connection, &whole()[1]);
        backwards.pushed(connection, &whole()[0]);
        assert!(violation(&backwards).contains("seq 1 (pushed) is out of order, behind seq 2"));
        let own = with_logs(two_messages(), &whole());
        let connection = own.connected(1, "n1".to_owned());
        own.acked(Some(connection), 1, Target::Conversation(ROOM), &sent(3, "c", false));
        own.pushed(connection, &message(3, "c", "c"));
        own.attempt(1, Target::Conversation(ROOM), "c", "c");
        let [a, b] = whole();
        let own = with_logs(own, &[a, b, message(3, "c", "c")]);
        assert!(violation(&own).contains("seq 3 (pushed) is there twice"));
    }

    #[test]
    fn a_second_direct_conversation_is_found() {
        let checker = Checker::new(7);
        for (sender, peer, conversation_id) in [(1, 2, 5), (2, 1, 6)] {
            let sent = v1::Sent { conversation_id, seq: 1, ..v1::Sent::default() };
            checker.acked(None, sender, Target::User(peer), &sent);
        }
        assert!(violation(&checker).contains("two direct conversations, 5 and 6"));
    }
}
