//! Which messages the application has been given: cursors, gaps, duplicates. Pure: no I/O, no clock.
//!
//! Live pushes may be lost, doubled and out of order; pages of sync may lag behind them. Out of both comes every
//! message of every conversation once and in order. The driver feeds in what arrives, sends [`SyncState::next_request`]
//! whenever there is one, and passes on what the calls return.

use std::collections::BTreeMap;

use crate::domain::changes::empty;
use crate::protocol::v1::{Conversation, Cursor, Hidden, Marks, Message, SyncPage, SyncRequest};

/// Early messages kept for one conversation; later ones are left to sync.
const HELD_MAX: usize = 1024;
/// Cursors named in one sync.
const CURSORS_MAX: usize = 200;
/// Fruitless answers after which a gap is taken to be none: the server no longer shows the conversation.
const STALLS_MAX: u32 = 8;

/// Where the stream of a conversation begins that exists when the client starts. Those that come later are always
/// given whole, as far as the user may see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// With the first message that the user may see.
    #[default]
    Beginning,
    /// Behind the last message that the user has read.
    Unread,
    /// With what comes from now on.
    Now,
}

/// What a conversation's log has come to.
#[derive(Debug, Default)]
struct Log {
    /// All up to here has been given out, or will never be. `None`: unknown until the first list is complete.
    given: Option<u64>,
    /// The newest seq that certainly exists.
    known: u64,
    /// The newest seq of which an event spoke; its message may be on the way.
    hinted: u64,
    /// What came before its turn.
    held: BTreeMap<u64, Message>,
}

impl Log {
    fn place(&mut self, given: u64, out: &mut Vec<Message>) {
        self.given = Some(given);
        self.known = self.known.max(given);
        self.held = self.held.split_off(&(given + 1));
        self.give_held(out);
    }

    /// Gives out the held messages whose turn has come.
    fn give_held(&mut self, out: &mut Vec<Message>) {
        let Some(given) = self.given.as_mut() else { return };
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= *given + 1
        {
            let message = entry.remove();
            if message.seq > *given {
                *given = message.seq;
                out.push(message);
            }
        }
        self.known = self.known.max(*given);
    }

    fn take(&mut self, message: Message, out: &mut Vec<Message>) {
        self.known = self.known.max(message.seq);
        match self.given {
            Some(given) if message.seq <= given => return,
            Some(given) if message.seq == given + 1 => {
                self.given = Some(message.seq);
                out.push(message);
                self.give_held(out);
                return;
            }
            _ => {}
        }
        self.held.insert(message.seq, message);
        if self.held.len() > HELD_MAX {
            // The last one has the longest way to go; `known` still tells of it.
            self.held.pop_last();
        }
    }

    /// Nothing that the user may see lies before `seq`, but what is held.
    fn skip_to(&mut self, seq: u64, out: &mut Vec<Message>) {
        let later = self.held.split_off(&seq);
        let given = self.given.unwrap_or(0);
        out.extend(std::mem::replace(&mut self.held, later).into_values().filter(|m| m.seq > given));
        self.given = Some(given.max(seq.saturating_sub(1)));
        self.give_held(out);
    }

    fn has_gap(&self) -> bool {
        self.given.is_some_and(|given| given < self.known)
    }

    /// Gives up waiting for what is missing.
    fn settle(&mut self) {
        self.held.clear();
        if let Some(given) = self.given {
            self.known = given;
            self.hinted = given;
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
enum InFlight {
    List,
    /// The messages after these seqs.
    Fetch(BTreeMap<u64, u64>),
}

/// A list of conversations that is being read page by page.
#[derive(Debug, Default)]
struct Listing {
    page: String,
    /// The first page's token: what changes while the list is read is listed again next time.
    token: String,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct SyncState {
    start: Start,
    logs: BTreeMap<u64, Log>,
    /// Of the last complete list.
    token: String,
    /// A complete list has been read once.
    listed: bool,
    list_wanted: bool,
    listing: Option<Listing>,
    in_flight: Option<InFlight>,
    stalls: u32,
}

/// What a page came to, to be passed on in this order.
#[derive(Debug, Default)]
pub struct PageOutcome {
    /// New or changed conversations.
    pub conversations: Vec<Conversation>,
    /// Messages that the user has hidden from itself, on whichever device.
    pub hidden: Vec<Hidden>,
    /// Messages whose turn has come.
    pub messages: Vec<Message>,
}

impl SyncState {
    /// A client that knows nothing yet.
    pub fn new(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// A connection has been made anew: what was under way is lost, and the list is to be asked for.
    pub fn connected(&mut self) {
        self.in_flight = None;
        self.listing = None;
        self.list_wanted = true;
        self.stalls = 0;
    }

    /// Asks for a sync now, behind the one that is under way.
    pub fn want_list(&mut self) {
        self.list_wanted = true;
    }

    /// Whether nothing is known to be missing.
    pub fn is_synced(&self) -> bool {
        !self.list_wanted
            && self.listing.is_none()
            && self.in_flight.is_none()
            && !self.logs.values().any(Log::has_gap)
    }

    /// Fruitless answers in a row: pause before the next request, the longer the more they are.
    pub fn stalls(&self) -> u32 {
        self.stalls
    }

    /// The highest seq up to which everything of the conversation has been given out.
    pub fn cursor(&self, conversation_id: u64) -> Option<u64> {
        self.logs.get(&conversation_id)?.given
    }

    /// The sync to send now, if any. It counts as under way until [`Self::page`] or [`Self::refused`].
    pub fn next_request(&mut self) -> Option<SyncRequest> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.list_wanted && self.listing.is_none() {
            self.list_wanted = false;
            self.listing = Some(Listing::default());
        }
        if let Some(listing) = &self.listing {
            self.in_flight = Some(InFlight::List);
            return Some(SyncRequest {
                since: self.token.clone(),
                page: listing.page.clone(),
                ..SyncRequest::default()
            });
        }
        // One that the server can't answer must not hold the others back.
        let most = if self.stalls >= STALLS_MAX / 2 { 1 } else { CURSORS_MAX };
        let cursors: BTreeMap<u64, u64> = self
            .logs
            .iter()
            .filter(|(_, log)| log.has_gap())
            .filter_map(|(id, log)| Some((*id, log.given?)))
            .take(most)
            .collect();
        if cursors.is_empty() {
            return None;
        }
        let named = cursors.iter().map(|(id, seq)| Cursor { conversation_id: *id, seq: *seq }).collect();
        self.in_flight = Some(InFlight::Fetch(cursors));
        Some(SyncRequest { cursors: named, since: self.token.clone(), ..SyncRequest::default() })
    }

    /// Takes the answer to the request under way.
    pub fn page(&mut self, page: SyncPage) -> PageOutcome {
        let mut outcome = PageOutcome::default();
        let fruitless = !page.more || page.messages.is_empty();
        let cursors = match self.in_flight.take() {
            Some(InFlight::Fetch(cursors)) => cursors,
            Some(InFlight::List) => BTreeMap::new(),
            // A stray answer; its messages are as good as live ones.
            None => BTreeMap::new(),
        };
        for hidden in page.hidden {
            self.hide(&hidden);
            outcome.hidden.push(hidden);
        }
        for conversation in page.conversations {
            self.take_conversation(&conversation, true, &mut outcome.messages);
            outcome.conversations.push(conversation);
        }
        if cursors.is_empty() {
            self.end_list_page(page.next_page, page.sync_token, &mut outcome.messages);
        }
        // The token tells the server where to go on.
        self.list_wanted |= page.hidden_more;
        for message in page.messages {
            let log = self.logs.entry(message.conversation_id).or_default();
            if cursors.contains_key(&message.conversation_id) {
                // The page begins right behind the cursor, so that nothing visible lies between.
                log.skip_to(message.seq, &mut outcome.messages);
            }
            log.take(message, &mut outcome.messages);
        }
        if !cursors.is_empty() && fruitless {
            self.count_stall(&cursors);
        }
        if self.is_synced() {
            self.stalls = 0;
        }
        outcome
    }

    /// The request under way was answered with an error. Starts over from a whole list, since something that the
    /// client believes is not so; [`Self::stalls`] grows.
    pub fn refused(&mut self) {
        let cursors = match self.in_flight.take() {
            Some(InFlight::Fetch(cursors)) => cursors,
            _ => BTreeMap::new(),
        };
        self.token.clear();
        self.listing = None;
        self.list_wanted = true;
        self.count_stall(&cursors);
    }

    /// The request under way could not be answered now: it is asked again as it was.
    pub fn put_off(&mut self) {
        self.in_flight = None;
    }

    /// A message was pushed, or `sent` completed one of our own.
    pub fn live(&mut self, message: Message) -> Vec<Message> {
        let mut out = Vec::new();
        let id = message.conversation_id;
        if !self.logs.contains_key(&id) {
            // A conversation that began after the start is given whole; of one that may be older, the list tells.
            let given = (self.listed || self.start == Start::Beginning).then_some(0);
            self.logs.insert(id, Log { given, ..Log::default() });
        }
        if let Some(log) = self.logs.get_mut(&id) {
            log.take(message, &mut out);
        }
        out
    }

    /// The user has hidden messages: of those that wait for their turn nothing is shown.
    pub fn hide(&mut self, hidden: &Hidden) {
        let Some(log) = self.logs.get_mut(&hidden.conversation_id) else { return };
        for seq in &hidden.seqs {
            if let Some(message) = log.held.get_mut(seq) {
                let recalled = message.recalled;
                empty(message);
                message.recalled = recalled;
                message.marks = Some(Box::new(Marks { hidden: true, ..Marks::default() }));
            }
        }
    }

    /// A message of our own certainly exists, but its text is the server's to tell.
    pub fn exists(&mut self, conversation_id: u64, seq: u64) {
        let given = (self.listed || self.start == Start::Beginning).then_some(0);
        let log = self.logs.entry(conversation_id).or_insert_with(|| Log { given, ..Log::default() });
        log.known = log.known.max(seq);
    }

    /// An event told of a conversation.
    pub fn conversation(&mut self, conversation: &Conversation) -> Vec<Message> {
        let mut out = Vec::new();
        self.take_conversation(conversation, false, &mut out);
        out
    }

    /// Messages that events spoke of and that have had time to arrive are missing from now on.
    pub fn confirm_hints(&mut self) {
        for log in self.logs.values_mut() {
            log.known = log.known.max(log.hinted);
        }
    }

    fn take_conversation(&mut self, conversation: &Conversation, certain: bool, out: &mut Vec<Message>) {
        let (start, listed) = (self.start, self.listed);
        let log = self.logs.entry(conversation.conversation_id).or_default();
        if conversation.removed {
            // What is missing can't be had any more; what is held was the user's to see.
            let given = log.given.unwrap_or(0);
            let held = std::mem::take(&mut log.held).into_values().filter(|message| message.seq > given);
            let before = out.len();
            out.extend(held);
            log.given = Some(out[before..].last().map_or(given, |message| message.seq));
            log.settle();
            return;
        }
        let before_first = conversation.first_seq.saturating_sub(1);
        match log.given {
            None => {
                let wished = match start {
                    _ if listed => before_first,
                    Start::Beginning => before_first,
                    Start::Unread => conversation.read_seq.max(before_first),
                    Start::Now => conversation.last_seq.max(before_first),
                };
                // What was pushed to this very connection is new, whatever the list says by now.
                let pushed = log.held.keys().next().map_or(u64::MAX, |seq| seq - 1);
                log.place(wished.min(pushed), out);
            }
            Some(given) if given < before_first => log.skip_to(conversation.first_seq, out),
            Some(_) => {}
        }
        if certain {
            log.known = log.known.max(conversation.last_seq);
        } else {
            log.hinted = log.hinted.max(conversation.last_seq);
        }
    }

    fn end_list_page(&mut self, next_page: String, token: String, out: &mut Vec<Message>) {
        let Some(listing) = &mut self.listing else { return };
        if listing.page.is_empty() || listing.token.is_empty() {
            listing.token = token;
        }
        if !next_page.is_empty() && next_page != listing.page {
            listing.page = next_page;
            return;
        }
        if !listing.token.is_empty() {
            self.token = std::mem::take(&mut listing.token);
        }
        self.listing = None;
        self.listed = true;
        for log in self.logs.values_mut().filter(|log| log.given.is_none()) {
            log.place(0, out);
        }
    }

    /// Counts an answer that left all the gaps it was to fill as they were; gives those up after a while.
    fn count_stall(&mut self, cursors: &BTreeMap<u64, u64>) {
        let moved = |(id, cursor): (&u64, &u64)| self.cursor(*id).is_some_and(|given| given > *cursor);
        if !cursors.is_empty() && cursors.iter().any(moved) {
            self.stalls = 0;
            return;
        }
        self.stalls += 1;
        if self.stalls >= STALLS_MAX {
            self.stalls = 0;
            for id in cursors.keys() {
                if let Some(log) = self.logs.get_mut(id) {
                    log.settle();
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
