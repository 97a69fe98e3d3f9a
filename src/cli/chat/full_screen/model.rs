//! What the full-screen client knows: conversations, their messages, names, presence, who types. Pure: events and
//! answers go in, what is to be done comes out; `draw` shows it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::client::Event;
use crate::protocol::{ConversationKind, ErrorCode, MessageKind, PresenceStatus, v1};

/// Messages kept of one conversation; beyond, the oldest are forgotten and fetched again when they are scrolled to.
const MESSAGES_MAX: usize = 2000;
/// Names and presences kept; users beyond are shown by number.
const USERS_MAX: usize = 10_000;
/// Most users whose presence is watched, as the protocol has it.
const WATCHED_MAX: usize = 1000;
/// How long "types …" is shown without being told again.
const TYPING_TIME: Duration = Duration::from_secs(6);

/// What is to be done because of something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// The name of this user is wanted.
    LookUp(u64),
    /// What this conversation is, is wanted: nobody tells the one whose message began it.
    Describe(u64),
    /// The user has seen all up to here.
    MarkRead(v1::Cursor),
    /// Messages before this seq (0: the newest) are wanted.
    Older {
        /// Of which conversation.
        conversation_id: u64,
        /// Before which one.
        before_seq: u64,
    },
    /// The presence of these users is wanted, instead of the earlier ones.
    Watch(Vec<u64>),
    /// Something came that the user does not look at.
    Ring,
}

/// Something of the user's own that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// What it went out under.
    pub client_id: String,
    /// Where to; `None`: to a user whose conversation is not known yet.
    pub conversation_id: Option<u64>,
    /// What was written, in words.
    pub text: String,
}

/// Whether there is more of a conversation's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    More,
    Asked,
    Complete,
}

/// A conversation and what is known of its messages.
#[derive(Debug)]
pub(super) struct Room {
    /// As the server told it last.
    pub conversation: v1::Conversation,
    /// By seq, without the entries that only change others.
    pub messages: BTreeMap<u64, v1::Message>,
    /// Others' messages that were not looked at.
    pub unread: u64,
    /// All messages up to here are counted in `unread`.
    counted: u64,
    /// The newest entry of the log.
    newest: u64,
    last_at_ms: u64,
    typing: HashMap<u64, Instant>,
    past: Past,
}

impl Room {
    fn new(conversation: v1::Conversation) -> Self {
        Self {
            unread: 0,
            counted: 0,
            newest: 0,
            last_at_ms: 0,
            conversation,
            messages: BTreeMap::new(),
            typing: HashMap::new(),
            past: Past::More,
        }
    }

    /// Who is typing now.
    pub fn typing(&self, now: Instant) -> Vec<u64> {
        let mut typing: Vec<u64> =
            self.typing.iter().filter(|(_, until)| **until > now).map(|(id, _)| *id).collect();
        typing.sort_unstable();
        typing
    }

    /// The other user of a direct conversation.
    pub fn peer(&self) -> Option<u64> {
        (self.conversation.kind() == ConversationKind::Direct).then_some(self.conversation.peer_user_id)
    }

    fn insert(&mut self, message: v1::Message) {
        self.messages.insert(message.seq, message);
        if self.messages.len() > MESSAGES_MAX {
            self.messages.pop_first();
            self.past = Past::More;
        }
    }

    /// Whether a message may be among those that count as unread.
    fn may_be_unread(&self, seq: u64) -> bool {
        self.unread > 0 && seq > self.conversation.read_seq && seq <= self.counted
    }

    /// An entry that changes the message it names. What is there may be newer: pages of history have the last state.
    fn change(&mut self, entry: &v1::Message) {
        let Some(target) = self.messages.get_mut(&entry.target_seq) else { return };
        match entry.kind() {
            MessageKind::Edit if entry.created_at_ms >= target.edited_at_ms && !target.recalled => {
                target.text.clone_from(&entry.text);
                target.edited_at_ms = entry.created_at_ms;
            }
            MessageKind::Recall => {
                target.recalled = true;
                target.text.clear();
                target.attachments.clear();
            }
            MessageKind::Reaction => crate::domain::changes::react(target, entry),
            _ => {}
        }
    }
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Model {
    /// Who has signed in.
    pub own_id: u64,
    /// By id.
    pub rooms: HashMap<u64, Room>,
    /// The conversation that is shown.
    pub open: Option<u64>,
    /// The one line at the bottom.
    pub note: String,
    /// Where the client is connected, if it is.
    pub connected_to: Option<String>,
    /// What the user wrote and the server has not stored yet, in order; `work::SENDS_MAX` bounds it.
    pub pending: Vec<Pending>,
    /// Lines scrolled up from the newest message.
    pub scrolled: usize,
    names: HashMap<u64, String>,
    asked_names: HashSet<u64>,
    presences: HashMap<u64, v1::Presence>,
    watched: BTreeSet<u64>,
}

impl Model {
    pub(super) fn new(own_id: u64) -> Self {
        Self {
            own_id,
            rooms: HashMap::new(),
            open: None,
            note: String::new(),
            connected_to: None,
            pending: Vec::new(),
            scrolled: 0,
            names: HashMap::new(),
            asked_names: HashSet::new(),
            presences: HashMap::new(),
            watched: BTreeSet::new(),
        }
    }

    /// The conversations as they are listed: pinned first, then by their newest message.
    pub(super) fn list(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self
            .rooms
            .iter()
            .filter(|(_, room)| !room.conversation.removed && !room.conversation.hidden)
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable_by_key(|id| {
            let room = &self.rooms[id];
            (!room.conversation.pinned, std::cmp::Reverse(room.last_at_ms), *id)
        });
        ids
    }

    /// The conversation that is shown.
    pub(super) fn open_room(&self) -> Option<&Room> {
        self.rooms.get(&self.open?)
    }

    /// What a user is called, as far as it is known.
    pub(super) fn name(&self, user_id: u64) -> String {
        if user_id == self.own_id {
            return "you".to_owned();
        }
        self.names.get(&user_id).cloned().unwrap_or_else(|| format!("user {user_id}"))
    }

    /// What a conversation is called.
    pub(super) fn title(&self, room: &Room) -> String {
        match (room.peer(), room.conversation.name.as_str()) {
            (Some(peer), _) => self.name(peer),
            (None, "") => format!("conversation {}", room.conversation.conversation_id),
            (None, name) => name.to_owned(),
        }
    }

    /// What is known of somebody's presence.
    pub(super) fn presence(&self, user_id: u64) -> Option<&v1::Presence> {
        self.presences.get(&user_id)
    }

    /// Something happened.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Connected { endpoint, welcome } => {
                self.note = format!("connected to node {} at {endpoint}", welcome.node);
                self.connected_to = Some(welcome.node);
                // What was watched was watched by the connection before.
                self.watched.clear();
                self.watch(&mut effects);
            }
            Event::Disconnected { endpoint, close } => {
                self.note = format!("lost the connection to {endpoint}: {close}; reconnecting …");
                self.connected_to = None;
            }
            Event::Synced(_) => {}
            Event::Message(message) => self.message(message, now, &mut effects),
            Event::Conversation(conversation) => self.conversation(conversation, &mut effects),
            Event::Receipt(receipt) => self.receipt(&receipt),
            Event::Typing(typing) => {
                let Some(room) = self.rooms.get_mut(&typing.conversation_id) else { return effects };
                if typing.active {
                    room.typing.insert(typing.user_id, now + TYPING_TIME);
                } else {
                    room.typing.remove(&typing.user_id);
                }
                self.want_name(typing.user_id, &mut effects);
            }
            Event::Presence(presence) => self.learn_presence(presence),
            Event::Contact(contact) => {
                let who = self.name(contact.user_id);
                self.note = format!("{who}: {}", contact.state().as_str_name());
                self.want_name(contact.user_id, &mut effects);
            }
            Event::Hidden(hidden) => self.hide(&hidden, &mut effects),
            Event::Notice(notice) => {
                self.note = format!("{}: {}", notice.title, notice.text);
                effects.push(Effect::Ring);
            }
            Event::Ended(error) => {
                self.note = format!("signed out by the server: {error}");
                self.connected_to = None;
            }
        }
        effects
    }

    /// A page of history came, or could not be had.
    pub(super) fn past(&mut self, conversation_id: u64, page: Option<v1::HistoryPage>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(room) = self.rooms.get_mut(&conversation_id) else { return effects };
        let Some(page) = page else {
            room.past = Past::More;
            return effects;
        };
        room.past = if page.more { Past::More } else { Past::Complete };
        let senders: BTreeSet<u64> = page.messages.iter().map(|message| message.sender_id).collect();
        for message in page.messages {
            room.newest = room.newest.max(message.seq);
            room.last_at_ms = room.last_at_ms.max(message.created_at_ms);
            if !changes_another(&message) && room.messages.len() < MESSAGES_MAX {
                room.messages.insert(message.seq, message);
            }
        }
        for sender in senders {
            self.want_name(sender, &mut effects);
        }
        effects
    }

    /// Asks for more of the shown conversation's past, if there is any.
    pub(super) fn want_past(&mut self) -> Option<Effect> {
        let id = self.open?;
        let room = self.rooms.get_mut(&id)?;
        if room.past != Past::More {
            return None;
        }
        room.past = Past::Asked;
        let before_seq = room.messages.keys().next().copied().unwrap_or(0);
        Some(Effect::Older { conversation_id: id, before_seq })
    }

    /// Shows a conversation.
    pub(super) fn show(&mut self, conversation_id: u64) -> Vec<Effect> {
        self.open = Some(conversation_id);
        self.scrolled = 0;
        let mut effects = self.read_open();
        if self.open_room().is_some_and(|room| room.messages.len() < 50) {
            effects.extend(self.want_past());
        }
        effects
    }

    /// Shows the conversation so many places further down the list; none is shown yet: the first.
    pub(super) fn step(&mut self, places: isize) -> Vec<Effect> {
        let list = self.list();
        if list.is_empty() {
            return Vec::new();
        }
        let at = self.open.and_then(|open| list.iter().position(|id| *id == open));
        let next = at.map_or(0, |at| (at as isize + places).rem_euclid(list.len() as isize) as usize);
        self.show(list[next])
    }

    /// Shows the next conversation with something unread.
    pub(super) fn next_unread(&mut self) -> Vec<Effect> {
        let unread = self.list().into_iter().find(|id| self.rooms[id].unread > 0);
        unread.map(|id| self.show(id)).unwrap_or_default()
    }

    /// The user's own newest message in the shown conversation that can be changed.
    pub(super) fn last_own(&self) -> Option<&v1::Message> {
        let own = |message: &&v1::Message| {
            message.sender_id == self.own_id && message.kind() == MessageKind::Text && !message.recalled
        };
        self.open_room()?.messages.values().rev().find(own)
    }

    /// The newest message of somebody else in the shown conversation.
    pub(super) fn last_of_others(&self) -> Option<&v1::Message> {
        let others = |message: &&v1::Message| {
            message.sender_id != self.own_id && message.kind() != MessageKind::System && !message.recalled
        };
        self.open_room()?.messages.values().rev().find(others)
    }

    /// A conversation by its title, its beginning, or its number.
    pub(super) fn find(&self, wanted: &str) -> Option<u64> {
        let wanted = wanted.to_lowercase();
        let named = |matches: &dyn Fn(&str) -> bool| {
            self.list().into_iter().find(|id| matches(&self.title(&self.rooms[id]).to_lowercase()))
        };
        let number = wanted.parse().ok().filter(|id| self.rooms.contains_key(id));
        number
            .or_else(|| named(&|title| title == wanted))
            .or_else(|| named(&|title| title.starts_with(&wanted)))
    }

    /// The answer to something that was pending has come; what it was.
    pub(super) fn settle(&mut self, client_id: &str) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.client_id == client_id)?;
        Some(self.pending.remove(at))
    }

    /// A name was looked up.
    pub(super) fn learn_name(&mut self, user_id: u64, name: String) {
        if self.names.len() < USERS_MAX {
            self.names.insert(user_id, name);
        }
    }

    /// Somebody's presence was told.
    pub(super) fn learn_presence(&mut self, presence: v1::Presence) {
        if self.presences.len() < USERS_MAX || self.presences.contains_key(&presence.user_id) {
            self.presences.insert(presence.user_id, presence);
        }
    }

    /// What went wrong.
    pub(super) fn complain(&mut self, error: &crate::client::ClientError) {
        let advice = match error.code() {
            ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => "; try again in a moment",
            _ => "",
        };
        self.note = format!("{error}{advice}");
    }

    fn hide(&mut self, hidden: &v1::Hidden, effects: &mut Vec<Effect>) {
        let id = hidden.conversation_id;
        let Some(room) = self.rooms.get_mut(&id) else { return };
        // The server may have counted without them already.
        if hidden.seqs.iter().any(|seq| room.may_be_unread(*seq)) {
            effects.push(Effect::Describe(id));
        }
        for seq in &hidden.seqs {
            if let Some(message) = room.messages.get_mut(seq) {
                crate::domain::changes::empty(message);
            }
        }
    }

    fn message(&mut self, message: v1::Message, now: Instant, effects: &mut Vec<Effect>) {
        let (id, seq, sender_id) = (message.conversation_id, message.seq, message.sender_id);
        self.want_name(sender_id, effects);
        if sender_id == self.own_id {
            self.settle(&message.client_id);
        }
        let is_shown = self.open == Some(id) && self.scrolled == 0;
        let own_id = self.own_id;
        if !self.rooms.contains_key(&id) {
            effects.push(Effect::Describe(id));
        }
        let room = self.rooms.entry(id).or_insert_with(|| {
            Room::new(v1::Conversation { conversation_id: id, ..v1::Conversation::default() })
        });
        room.newest = room.newest.max(seq);
        room.last_at_ms = room.last_at_ms.max(message.created_at_ms);
        if let Some(until) = room.typing.get_mut(&sender_id) {
            *until = now;
        }
        if changes_another(&message) {
            if message.kind() == MessageKind::Recall
                && seq > room.counted
                && room.may_be_unread(message.target_seq)
            {
                match room.messages.get(&message.target_seq) {
                    Some(target) if target.sender_id == own_id || target.recalled => {}
                    Some(_) => room.unread -= 1,
                    // It is not known whose it was.
                    None => effects.push(Effect::Describe(id)),
                }
            }
            room.counted = room.counted.max(seq);
            room.change(&message);
        } else {
            if sender_id == own_id {
                room.unread = 0;
                room.conversation.read_seq = room.conversation.read_seq.max(seq);
            } else if seq > room.counted {
                room.unread += 1;
                let level = room.conversation.notifications();
                let named = message.mentions.contains(&own_id) || message.mentions.contains(&0);
                let wanted = match level {
                    crate::protocol::NotificationLevel::All => true,
                    crate::protocol::NotificationLevel::Mentions => named,
                    crate::protocol::NotificationLevel::None => false,
                };
                if !is_shown && wanted && message.kind() != MessageKind::System {
                    effects.push(Effect::Ring);
                }
            }
            room.counted = room.counted.max(seq);
            room.insert(message);
        }
        if is_shown {
            effects.extend(self.read_open());
        }
    }

    fn conversation(&mut self, conversation: v1::Conversation, effects: &mut Vec<Effect>) {
        let id = conversation.conversation_id;
        let room = self.rooms.entry(id).or_insert_with(|| Room::new(v1::Conversation::default()));
        room.unread = conversation.unread;
        room.counted = room.counted.max(conversation.last_seq);
        room.newest = room.newest.max(conversation.last_seq);
        let last = conversation.last_message.as_ref().map_or(0, |last| last.created_at_ms);
        room.last_at_ms = room.last_at_ms.max(last);
        let (removed, peer) = (conversation.removed, conversation.peer_user_id);
        room.conversation = conversation;
        if removed && self.open == Some(id) {
            self.open = None;
            self.note = "you are no longer a member of this conversation".to_owned();
        }
        if peer != 0 {
            self.want_name(peer, effects);
        }
        self.watch(effects);
        if self.open == Some(id) && self.scrolled == 0 {
            effects.extend(self.read_open());
        }
    }

    fn receipt(&mut self, receipt: &v1::Receipt) {
        let Some(room) = self.rooms.get_mut(&receipt.conversation_id) else { return };
        if receipt.user_id == self.own_id {
            // Read on another device.
            room.conversation.read_seq = room.conversation.read_seq.max(receipt.read_seq);
            if receipt.read_seq >= room.newest {
                room.unread = 0;
            }
        } else if room.conversation.peer_user_id == receipt.user_id {
            let conversation = &mut room.conversation;
            conversation.peer_read_seq = conversation.peer_read_seq.max(receipt.read_seq);
            conversation.peer_delivered_seq = conversation.peer_delivered_seq.max(receipt.delivered_seq);
        }
    }

    /// The user looks at the newest message of the shown conversation.
    fn read_open(&mut self) -> Vec<Effect> {
        let Some((id, room)) = self.open.and_then(|id| Some((id, self.rooms.get_mut(&id)?))) else {
            return Vec::new();
        };
        if room.unread == 0 {
            return Vec::new();
        }
        room.unread = 0;
        room.conversation.read_seq = room.newest;
        vec![Effect::MarkRead(v1::Cursor { conversation_id: id, seq: room.newest })]
    }

    fn want_name(&mut self, user_id: u64, effects: &mut Vec<Effect>) {
        if user_id != self.own_id && self.asked_names.len() < USERS_MAX && self.asked_names.insert(user_id) {
            effects.push(Effect::LookUp(user_id));
        }
    }

    /// The peers of direct conversations are watched.
    fn watch(&mut self, effects: &mut Vec<Effect>) {
        let peers: BTreeSet<u64> =
            self.rooms.values().filter_map(Room::peer).filter(|id| *id != 0).take(WATCHED_MAX).collect();
        if self.connected_to.is_some() && peers != self.watched {
            effects.retain(|effect| !matches!(effect, Effect::Watch(_)));
            effects.push(Effect::Watch(peers.iter().copied().collect()));
            self.watched = peers;
        }
    }
}

/// Whether the entry stands for a change of another message and is not shown itself.
fn changes_another(message: &v1::Message) -> bool {
    matches!(message.kind(), MessageKind::Edit | MessageKind::Recall | MessageKind::Reaction)
}

/// The mark and word of a presence.
pub(super) fn presence_word(presence: Option<&v1::Presence>) -> (&'static str, String) {
    let Some(presence) = presence else { return ("○", String::new()) };
    let (mark, word) = match presence.status() {
        PresenceStatus::Online => ("●", "online"),
        PresenceStatus::Away => ("◐", "away"),
        PresenceStatus::Busy => ("◍", "busy"),
        PresenceStatus::Offline | PresenceStatus::Invisible => ("○", "offline"),
    };
    let text = if presence.text.is_empty() { String::new() } else { format!(", {}", presence.text) };
    (mark, format!("{word}{text}"))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
