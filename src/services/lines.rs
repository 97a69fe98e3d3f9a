//! What the line device of a user has been given, so that `PULL` gives each message once.
//!
//! Kept per conversation as ranges of seqs. Lines written live are noted here at once and stored a little later
//! ([`Lines::flush`]); a crash in between only makes `PULL` give them again. What a `PULL` gave, what the user sent and
//! what this protocol does not show all count as given, so that the ranges grow together into one.

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::actors::room::Rooms;
use crate::clock;
use crate::domain::Result;
use crate::domain::ranges::SeqRanges;
use crate::protocol::v1::{Cursor, Message};
use crate::protocol::{ConversationKind, line};
use crate::storage::{
    AccountStore, ConversationRow, ConversationStore, MarkStore, MessageStore, StoreError, Stores, veil,
};

/// Messages read from the log at a time.
const PAGE_MESSAGES: u32 = 200;
/// Conversations read from the list at a time.
const PAGE_CONVERSATIONS: u32 = 100;
/// Ranges kept of one conversation. Seqs that would begin a further one are not noted: `PULL` gives them again, and
/// joins all ranges into one.
const RANGES_MAX: usize = 256;

/// Seqs given, per conversation.
type Given = HashMap<u64, SeqRanges>;

/// What is noted of one user on this node.
#[derive(Default)]
struct UserLines {
    /// Noted but not stored yet. Held for moments only.
    noted: parking_lot::Mutex<Given>,
    /// One reads and writes the stored ranges at a time.
    storing: Mutex<()>,
}

/// Line devices. Cheap to clone.
#[derive(Clone)]
pub struct Lines {
    accounts: Arc<dyn AccountStore>,
    conversations: Arc<dyn ConversationStore>,
    messages: Arc<dyn MessageStore>,
    marks: Arc<dyn MarkStore>,
    rooms: Rooms,
    users: Arc<DashMap<u64, Arc<UserLines>>>,
}

/// A part of what a pull gives.
#[derive(Debug, Default)]
pub struct PullPage {
    /// Lines to write, in order, without their ends.
    pub lines: Vec<String>,
    /// Whether more follows.
    pub more: bool,
}

/// A pull under way: read it page by page, write each page, then mark it done.
pub struct Pull {
    lines: Lines,
    user_id: u64,
    stored: Given,
    /// Where in the conversation list it stands: the (activity, id) of the last row read.
    list_position: Option<(u64, u64)>,
    list_ended: bool,
    rows: std::vec::IntoIter<ConversationRow>,
    current: Option<Current>,
    /// Per conversation, the last seq read.
    read: HashMap<u64, u64>,
}

/// The conversation that a pull stands in.
struct Current {
    conversation_id: u64,
    kind: ConversationKind,
    after_seq: u64,
    last_seq: u64,
}

impl Lines {
    /// Over these stores.
    pub fn new(stores: &Stores, rooms: Rooms) -> Self {
        Self {
            accounts: stores.accounts.clone(),
            conversations: stores.conversations.clone(),
            messages: stores.messages.clone(),
            marks: stores.marks.clone(),
            rooms,
            users: Arc::default(),
        }
    }

    /// Notes that a message was written live, or sent by the user. Stored with the next [`Self::flush`].
    pub fn note(&self, user_id: u64, conversation_id: u64, seq: u64) {
        let user = self.users.entry(user_id).or_default().clone();
        insert_bounded(user.noted.lock().entry(conversation_id).or_default(), seq, seq);
    }

    /// Stores what was noted of a user. After an error it stays noted.
    pub async fn flush(&self, user_id: u64) -> Result<()> {
        let Some(user) = self.users.get(&user_id).map(|user| user.clone()) else { return Ok(()) };
        let result = self.store_noted(user_id, &user).await;
        drop(user);
        // Forget users of whom nothing is noted and whom nobody is storing.
        self.users
            .remove_if(&user_id, |_, user| Arc::strong_count(user) == 1 && user.noted.lock().is_empty());
        result
    }

    async fn store_noted(&self, user_id: u64, user: &UserLines) -> Result<()> {
        let _storing = user.storing.lock().await;
        let noted = std::mem::take(&mut *user.noted.lock());
        if noted.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.merge_into_store(user_id, &noted).await {
            let mut back = user.noted.lock();
            for (conversation_id, ranges) in noted {
                join(back.entry(conversation_id).or_default(), &ranges);
            }
            return Err(error.into());
        }
        Ok(())
    }

    async fn merge_into_store(&self, user_id: u64, noted: &Given) -> Result<(), StoreError> {
        let mut stored = self.load(user_id).await?;
        let mut changed = Vec::with_capacity(noted.len());
        for (conversation_id, ranges) in noted {
            let known = stored.entry(*conversation_id).or_default();
            join(known, ranges);
            changed.push((*conversation_id, known.to_string()));
        }
        self.accounts.set_line_given(user_id, &changed).await
    }

    async fn load(&self, user_id: u64) -> Result<Given, StoreError> {
        let rows = self.accounts.line_given(user_id).await?;
        rows.into_iter()
            .map(|(conversation_id, text)| {
                let ranges = text.parse().map_err(StoreError::Invalid)?;
                Ok((conversation_id, ranges))
            })
            .collect()
    }

    /// Begins to give a user what the line device has not been given yet.
    pub async fn pull(&self, user_id: u64) -> Result<Pull> {
        self.flush(user_id).await?;
        let stored = self.load(user_id).await?;
        Ok(Pull {
            lines: self.clone(),
            user_id,
            stored,
            list_position: None,
            list_ended: false,
            rows: Vec::new().into_iter(),
            current: None,
            read: HashMap::new(),
        })
    }
}

impl Pull {
    /// The next lines; none and no more at the end.
    pub async fn next_page(&mut self) -> Result<PullPage> {
        let mut page = PullPage { lines: Vec::new(), more: true };
        while page.lines.is_empty() {
            let Some(current) = self.current.take() else {
                page.more = self.next_conversation().await?;
                if page.more {
                    continue;
                }
                break;
            };
            self.read_some(current, &mut page.lines).await?;
        }
        Ok(page)
    }

    /// All up to which seq of a conversation this pull has read (0: nothing): later live lines of those seqs were
    /// given already.
    pub fn read_up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.read.iter().map(|(conversation_id, last)| (*conversation_id, *last))
    }

    /// Marks all that was read as given; to be called once `+OK pull_done` is written.
    pub async fn done(self) -> Result<()> {
        let user = self.lines.users.entry(self.user_id).or_default().clone();
        {
            let mut noted = user.noted.lock();
            for (conversation_id, last) in &self.read {
                // From 1, not from the first seq the user may see: one range has no gap to keep.
                insert_bounded(noted.entry(*conversation_id).or_default(), 1, *last);
            }
        }
        drop(user);
        self.lines.flush(self.user_id).await?;
        for (conversation_id, seq) in self.read {
            let cursor = Cursor { conversation_id, seq };
            if let Err(error) = self.lines.rooms.delivered(self.user_id, cursor).await {
                tracing::debug!(target: "rookery::line", conversation_id, %error, "a delivered cursor was not moved");
            }
        }
        Ok(())
    }

    /// Moves to the next conversation that may hold something; `false` at the end of the list.
    async fn next_conversation(&mut self) -> Result<bool> {
        loop {
            for row in self.rows.by_ref() {
                self.list_position = Some((row.activity_ms(), row.conversation.id));
                let last_seq = row.last_message.as_ref().map_or(0, |message| message.seq);
                let known = self.stored.get(&row.conversation.id);
                let floor = row.member.first_seq.saturating_sub(1);
                let after_seq = known.map_or(floor, |known| known.first_missing_after(floor) - 1);
                // A conversation that moves up in the list while it is read is not read twice.
                if row.member.removed_at_ms != 0
                    || after_seq >= last_seq
                    || self.read.contains_key(&row.conversation.id)
                {
                    continue;
                }
                self.read.insert(row.conversation.id, after_seq);
                self.current = Some(Current {
                    conversation_id: row.conversation.id,
                    kind: row.conversation.kind,
                    after_seq,
                    last_seq,
                });
                return Ok(true);
            }
            if self.list_ended {
                return Ok(false);
            }
            let rows = self
                .lines
                .conversations
                .conversations_of(self.user_id, 0, self.list_position, PAGE_CONVERSATIONS)
                .await?;
            self.list_ended = rows.len() < PAGE_CONVERSATIONS as usize;
            self.rows = rows.into_iter();
        }
    }

    /// Reads a page of the current conversation; what is new to the user becomes lines.
    async fn read_some(&mut self, mut current: Current, lines: &mut Vec<String>) -> Result<()> {
        let mut messages =
            self.lines.messages.after(current.conversation_id, current.after_seq, PAGE_MESSAGES).await?;
        veil(self.lines.marks.as_ref(), self.user_id, messages.iter_mut().collect(), clock::now_ms()).await?;
        let Some(newest) = messages.last().map(|message| message.seq) else { return Ok(()) };
        let known = self.stored.get(&current.conversation_id);
        let new = |message: &&Message| {
            let is_hidden = message.marks.as_ref().is_some_and(|marks| marks.hidden);
            !is_hidden
                && message.sender_id != self.user_id
                && known.is_none_or(|known| !known.contains(message.seq))
        };
        // What the user has hidden elsewhere is given no more, and counts as given.
        lines.extend(
            messages.iter().filter(new).filter_map(|message| line::message_line(message, current.kind)),
        );
        if let Some(last) = self.read.get_mut(&current.conversation_id) {
            *last = newest;
        }
        current.after_seq = newest;
        // What is stored after the pull began comes live.
        if newest < current.last_seq {
            self.current = Some(current);
        }
        Ok(())
    }
}

/// Adds a range, unless it would be one too many.
fn insert_bounded(ranges: &mut SeqRanges, first: u64, last: u64) {
    let touches = first > 1 && ranges.contains(first - 1) || ranges.contains(last.saturating_add(1));
    if touches || ranges.is_empty() || ranges.len() < RANGES_MAX || first == 1 {
        ranges.insert(first, last);
    }
}

/// Adds all of `more`.
fn join(ranges: &mut SeqRanges, more: &SeqRanges) {
    for (first, last) in more.iter() {
        insert_bounded(ranges, first, last);
    }
}
