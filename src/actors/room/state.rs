//! What a room decides: order, repeats, membership, cursors. No I/O, no clock, no randomness; the actor beside it
//! loads, stores and sends. `W` is whoever waits for an answer.
//!
//! Sends wait in `queue` until they leave as one group; one group is in flight at a time, so that the log's order is
//! the queue's order whatever storage does. A group that was not certainly stored, and not certainly not, puts the
//! room into [`Phase::Unsettled`]: nothing gets a seq until [`Room::reload`] has brought the log's truth.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::changes::{ChangeRules, Targets, command_of};
use crate::domain::changes::{counts_as_read, is_change};
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_request::Command;
use crate::protocol::v1::{ForwardedFrom, Marks, Message, Send, Sent};
use crate::protocol::{ConversationKind, MemberRole, MessageKind};
use crate::storage::{ClientKey, ConversationRecord, CursorAdvance, MemberRecord, Saying};

/// Bounds of a room, from `cluster.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sends that may wait, those in flight included.
    pub pending_sends: usize,
    /// Messages in one group.
    pub group_messages: usize,
    /// Answers remembered for repeats.
    pub recent_sends: usize,
    /// What is asked of edits, recalls and reactions.
    pub changes: ChangeRules,
}

/// Whether the room knows its log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does, and nothing is in flight.
    Settled,
    /// A group is being stored.
    InFlight,
    /// It does not: a group may or may not have been stored, or another activation wrote.
    Unsettled,
}

/// A send that has no answer yet.
#[derive(Debug)]
pub(super) struct Pending<W> {
    /// The message; its seq and time are set when its group forms.
    pub message: Message,
    /// Counted from its time on; 0: it stays.
    pub expires_in_s: u64,
    /// The first waiter, its session, and those who repeated the send meanwhile.
    pub waiters: Vec<(W, u64)>,
}

/// What the actor has to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect<W> {
    /// Answer a send.
    Answer(W, Result<Sent>),
    /// Push a stored message to the members, but not to this session (0: none).
    Push(Message, u64),
}

/// What storage says of a conversation.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its record.
    pub conversation: ConversationRecord,
    /// Its members.
    pub members: Vec<MemberRecord>,
    /// Its newest seq.
    pub last_seq: u64,
    /// Messages to push (again), oldest first: those after what this room pushed last.
    pub unpushed: Vec<Message>,
    /// Which of [`Room::pending_keys`] are stored, with seq and time.
    pub stored: Vec<(ClientKey, u64, u64)>,
    /// The messages of [`Room::pending_targets`].
    pub targets: Vec<Message>,
}

/// The state of one conversation's sequencer.
#[derive(Debug)]
pub struct Room<W> {
    conversation: ConversationRecord,
    members: BTreeMap<u64, MemberRecord>,
    member_ids: Arc<[u64]>,
    last_seq: u64,
    /// Everything up to here was handed to fan-out by this activation, or is older than it.
    pushed_seq: u64,
    last_created_at_ms: u64,
    phase: Phase,
    pub(super) queue: VecDeque<Pending<W>>,
    pub(super) in_flight: Vec<Pending<W>>,
    pub(super) recent: HashMap<(u64, String), (u64, u64)>,
    recent_order: VecDeque<(u64, String)>,
    dirty: BTreeMap<u64, u64>,
    /// Of those with a cursor to store, whose moved by reading, which lists show.
    read_by: BTreeSet<u64>,
    /// Messages that were changed lately.
    pub targets: Targets,
    pub(super) bounds: Bounds,
}

impl<W> Room<W> {
    /// A room as storage has it. `loaded.unpushed` is returned as effects of [`Room::reload`] only; here it is taken
    /// as pushed by whoever had the room before, but for what the actor chooses to push again by itself.
    pub fn new(loaded: Loaded, bounds: Bounds) -> Self {
        let mut room = Self {
            conversation: loaded.conversation,
            members: BTreeMap::new(),
            member_ids: Arc::from([]),
            last_seq: loaded.last_seq,
            pushed_seq: loaded.last_seq,
            last_created_at_ms: 0,
            phase: Phase::Settled,
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            recent: HashMap::new(),
            recent_order: VecDeque::new(),
            dirty: BTreeMap::new(),
            read_by: BTreeSet::new(),
            targets: Targets::default(),
            bounds,
        };
        room.put_members(loaded.members);
        for message in &loaded.unpushed {
            room.remember(message);
        }
        room
    }

    /// The conversation's record.
    pub fn conversation(&self) -> &ConversationRecord {
        &self.conversation
    }

    /// Whether it knows its log's end.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The newest stored seq that the room knows of.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// What was pushed.
    pub fn pushed_seq(&self) -> u64 {
        self.pushed_seq
    }

    /// Sends without an answer.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.in_flight.len()
    }

    /// The members' ids, in order; shared, not copied.
    pub fn member_ids(&self) -> Arc<[u64]> {
        Arc::clone(&self.member_ids)
    }

    /// A member.
    pub fn member(&self, user_id: u64) -> Option<&MemberRecord> {
        self.members.get(&user_id)
    }

    /// All of them, by id.
    pub(super) fn members(&self) -> &BTreeMap<u64, MemberRecord> {
        &self.members
    }

    /// Whether nothing would be lost by forgetting the room.
    pub fn is_idle(&self) -> bool {
        self.pending() == 0 && self.phase == Phase::Settled && self.dirty.is_empty()
    }

    /// The member, or why the user may do nothing here.
    pub fn require_member(&self, user_id: u64) -> Result<&MemberRecord> {
        if let Some(member) = self.members.get(&user_id) {
            return Ok(member);
        }
        self.require_not_dissolved()?;
        Err(Error::denied(format!(
            "you are not a member of conversation {}; join it or ask a member to add you",
            self.conversation.id
        )))
    }

    /// What those may do who are no members needs a group that goes on.
    pub fn require_not_dissolved(&self) -> Result<()> {
        if self.conversation.rules.dissolved_at_ms == 0 {
            return Ok(());
        }
        Err(Error::precondition("this group was dissolved; nothing can be done in it any more"))
    }

    /// Takes a send of a member. The waiter is answered by an effect, now or after storing.
    pub fn send(&mut self, sender_id: u64, session_id: u64, send: Send, waiter: W) -> Option<Effect<W>> {
        self.send_copy(sender_id, session_id, send, None, waiter)
    }

    /// The same for a copy of another message.
    pub fn send_copy(
        &mut self,
        sender_id: u64,
        session_id: u64,
        send: Send,
        forwarded_from: Option<ForwardedFrom>,
        waiter: W,
    ) -> Option<Effect<W>> {
        let key = (sender_id, send.client_id);
        // What is stored is stored, even if its sender has left since.
        if let Some(&(seq, created_at_ms)) = self.recent.get(&key) {
            return Some(Effect::Answer(waiter, Ok(self.sent(seq, key.1, created_at_ms, true))));
        }
        if let Err(error) = self.require_member(sender_id) {
            return Some(Effect::Answer(waiter, Err(error)));
        }
        let same = |pending: &&mut Pending<W>| {
            pending.message.sender_id == key.0 && pending.message.client_id == key.1
        };
        if let Some(first) = self.in_flight.iter_mut().chain(self.queue.iter_mut()).find(same) {
            first.waiters.push((waiter, session_id));
            return None;
        }
        if let Err(error) = self.has_room() {
            return Some(Effect::Answer(waiter, Err(error)));
        }
        // Edges leave the time in what they send for somebody.
        let scheduled = send.send_at_ms != 0;
        let message = Message {
            conversation_id: self.conversation.id,
            sender_id,
            client_id: key.1,
            kind: send.kind,
            text: send.text,
            attachments: send.attachments,
            reply_to_seq: send.reply_to_seq,
            mentions: send.mentions,
            marks: (forwarded_from.is_some() || scheduled)
                .then(|| Box::new(Marks { forwarded_from, scheduled, ..Marks::default() })),
            ..Message::default()
        };
        let waiters = vec![(waiter, session_id)];
        self.queue.push_back(Pending { message, expires_in_s: send.expires_in_seconds, waiters });
        None
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> Result<()> {
        if self.pending() < self.bounds.pending_sends {
            return Ok(());
        }
        Err(Error::exhausted(
            format!("{} sends wait in this conversation already; send more slowly", self.pending()),
            std::time::Duration::from_millis(200),
        ))
    }

    /// Queues a message of the room's own.
    pub fn announce(&mut self, saying: Saying) {
        let Saying { client_id, by, text, about, target_seq, .. } = saying;
        let message = Message {
            conversation_id: self.conversation.id,
            sender_id: by,
            client_id,
            kind: MessageKind::System as i32,
            text,
            mentions: about,
            target_seq,
            ..Message::default()
        };
        self.queue.push_back(Pending { message, expires_in_s: 0, waiters: Vec::new() });
    }

    /// The next group to store, if one may leave now. Its fate is told by [`Room::stored`], [`Room::refused`] or
    /// [`Room::unsettle`].
    pub fn next_group(&mut self, now_ms: u64) -> Option<Vec<Message>> {
        if self.phase != Phase::Settled || self.queue.is_empty() {
            return None;
        }
        // Times never run backwards within a log, whatever the node's clock does.
        let created_at_ms = now_ms.max(self.last_created_at_ms);
        let size = self.queue.len().min(self.bounds.group_messages);
        self.in_flight.extend(self.queue.drain(..size));
        let mut seq = self.last_seq;
        for pending in &mut self.in_flight {
            seq += 1;
            pending.message.seq = seq;
            pending.message.created_at_ms = created_at_ms;
            if pending.expires_in_s != 0 {
                let marks = pending.message.marks.get_or_insert_default();
                marks.expires_at_ms = created_at_ms + 1000 * pending.expires_in_s;
            }
        }
        self.phase = Phase::InFlight;
        Some(self.in_flight.iter().map(|pending| pending.message.clone()).collect())
    }

    /// The group in flight is stored.
    pub fn stored(&mut self) -> Vec<Effect<W>> {
        debug_assert_eq!(self.phase, Phase::InFlight, "only a group in flight can be stored");
        self.phase = Phase::Settled;
        let mut effects = Vec::with_capacity(2 * self.in_flight.len());
        for pending in std::mem::take(&mut self.in_flight) {
            self.last_seq = pending.message.seq;
            self.pushed_seq = pending.message.seq;
            self.finish(pending, false, true, &mut effects);
        }
        effects
    }

    /// The group in flight was certainly not stored. What the room itself had to say waits for a better time.
    pub fn refused(&mut self, error: &Error) -> Vec<Effect<W>> {
        debug_assert_eq!(self.phase, Phase::InFlight, "only a group in flight can be refused");
        self.phase = Phase::Settled;
        let refused = std::mem::take(&mut self.in_flight);
        let (own, refused) = sort_out(refused, error);
        for pending in own.into_iter().rev() {
            self.queue.push_front(pending);
        }
        refused
    }

    /// The fate of the group in flight is unknown, or somebody else wrote to the log: it waits for [`Room::reload`].
    pub fn unsettle(&mut self) {
        self.phase = Phase::Unsettled;
        self.targets.forget();
        for pending in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.queue.push_front(pending);
        }
    }

    /// What to ask storage about before [`Room::reload`].
    pub fn pending_keys(&self) -> Vec<ClientKey> {
        let key = |pending: &Pending<W>| ClientKey {
            conversation_id: pending.message.conversation_id,
            sender_id: pending.message.sender_id,
            client_id: pending.message.client_id.clone(),
        };
        self.queue.iter().map(key).collect()
    }

    /// The log's truth is known again: pushes what was not pushed, answers what is stored, keeps the rest queued.
    pub fn reload(&mut self, loaded: Loaded) -> Vec<Effect<W>> {
        debug_assert!(self.in_flight.is_empty(), "a room reloads with nothing in flight");
        self.phase = Phase::Settled;
        self.conversation = loaded.conversation;
        self.last_seq = self.last_seq.max(loaded.last_seq);
        self.put_members(loaded.members);
        let mut effects = Vec::new();
        let stored: HashMap<(u64, String), (u64, u64)> = loaded
            .stored
            .into_iter()
            .map(|(key, seq, created_at_ms)| ((key.sender_id, key.client_id), (seq, created_at_ms)))
            .collect();
        let (mut answered, mut queue) = (BTreeMap::new(), VecDeque::new());
        for mut pending in std::mem::take(&mut self.queue) {
            let key = (pending.message.sender_id, pending.message.client_id.clone());
            match stored.get(&key) {
                Some(&(seq, created_at_ms)) => {
                    // Ours if it is where we had put it; else an earlier send of the same name.
                    let ours = pending.message.seq == seq && pending.message.created_at_ms == created_at_ms;
                    (pending.message.seq, pending.message.created_at_ms) = (seq, created_at_ms);
                    answered.insert(seq, (pending, !ours));
                }
                // One who was removed meanwhile may not send any more. That somebody has left is said in his name.
                None if !self.members.contains_key(&pending.message.sender_id) && !is_by_server(&pending) => {
                    expel(pending, &mut effects);
                }
                None => queue.push_back(pending),
            }
        }
        self.queue = queue;
        self.targets.replace(loaded.targets);
        self.judge_again(&mut effects);
        // Answers and pushes in the log's order.
        let pushed_seq = self.pushed_seq;
        for message in loaded.unpushed.into_iter().filter(|m| m.seq > pushed_seq) {
            let below = answered.split_off(&message.seq);
            for (_, (pending, duplicate)) in std::mem::replace(&mut answered, below) {
                self.finish(pending, duplicate, false, &mut effects);
            }
            self.remember(&message);
            let (seq, mut except) = (message.seq, 0);
            let mine = answered.remove(&seq);
            if let Some((pending, _)) = &mine {
                except = pending.waiters.first().map_or(0, |(_, session_id)| *session_id);
            }
            effects.push(Effect::Push(message, except));
            if let Some((pending, duplicate)) = mine {
                self.finish(pending, duplicate, false, &mut effects);
            }
        }
        for (_, (pending, duplicate)) in answered {
            self.finish(pending, duplicate, false, &mut effects);
        }
        self.pushed_seq = self.last_seq;
        effects
    }

    /// Storage is away: everybody who waits is told so. What was in doubt stays in doubt, and what the room itself had to
    /// say waits for a better time.
    pub fn give_up(&mut self, error: &Error) -> Vec<Effect<W>> {
        let (own, refused) = sort_out(std::mem::take(&mut self.queue), error);
        self.queue.extend(own);
        refused
    }

    /// Whether a message of the room's own waits to be stored.
    pub fn has_announcement(&self) -> bool {
        self.queue.iter().any(is_announcement)
    }

    /// Forgets what the room itself had to say: members learn of it by events only.
    pub fn drop_announcements(&mut self) {
        self.queue.retain(|pending| !is_announcement(pending));
    }

    /// Takes out the waiters who have waited for too long. A send that nobody waits for any more is not begun.
    pub fn expire(&mut self, is_late: impl Fn(&W) -> bool) -> Vec<W> {
        let mut late = Vec::new();
        let mut take_late = |pending: &mut Pending<W>| {
            let had = !pending.waiters.is_empty();
            for at in (0..pending.waiters.len()).rev() {
                if is_late(&pending.waiters[at].0) {
                    late.push(pending.waiters.remove(at).0);
                }
            }
            !had || !pending.waiters.is_empty()
        };
        for pending in &mut self.in_flight {
            take_late(pending);
        }
        self.queue.retain_mut(take_late);
        late
    }

    /// The membership as storage has it now, whatever is in flight. Those who were removed are told so.
    pub fn refresh(
        &mut self,
        conversation: ConversationRecord,
        members: Vec<MemberRecord>,
    ) -> Vec<Effect<W>> {
        self.conversation = conversation;
        self.put_members(members);
        let (stay, gone) = std::mem::take(&mut self.queue).into_iter().partition(|pending| {
            self.members.contains_key(&pending.message.sender_id) || is_by_server(pending)
        });
        self.queue = stay;
        let mut effects = Vec::new();
        for pending in gone {
            expel(pending, &mut effects);
        }
        effects
    }

    /// What is queued, as it was asked for, for another activation to take.
    pub fn take_queue(&mut self) -> Vec<(u64, u64, Command, W)> {
        let mut commands = Vec::new();
        for Pending { message, expires_in_s, waiters } in std::mem::take(&mut self.queue) {
            for (waiter, session_id) in waiters {
                let command = command_of(&message, expires_in_s);
                commands.push((message.sender_id, session_id, command, waiter));
            }
        }
        commands
    }

    /// Moves a member's cursors forward, `read` carrying `delivered` with it; whether one moved.
    pub fn advance(
        &mut self,
        user_id: u64,
        delivered_seq: u64,
        read_seq: u64,
        session_id: u64,
    ) -> Result<bool> {
        self.require_member(user_id)?;
        let last_seq = self.last_seq;
        let member = self.members.get_mut(&user_id).expect("it was required just above");
        let read = read_seq.min(last_seq).max(member.read_seq);
        let delivered = delivered_seq.min(last_seq).max(read).max(member.delivered_seq);
        let moved = (read, delivered) != (member.read_seq, member.delivered_seq);
        let has_read = read != member.read_seq;
        if moved {
            (member.read_seq, member.delivered_seq) = (read, delivered);
            self.dirty.insert(user_id, session_id);
        }
        if has_read {
            self.read_by.insert(user_id);
        }
        Ok(moved)
    }

    /// The cursors to store now. They count as clean; [`Room::cursors_failed`] makes them dirty again.
    pub fn take_dirty(&mut self) -> Vec<CursorAdvance> {
        let dirty = std::mem::take(&mut self.dirty);
        let read_by = std::mem::take(&mut self.read_by);
        let mut moved: BTreeMap<u64, bool> =
            dirty.into_keys().map(|user_id| (user_id, read_by.contains(&user_id))).collect();
        if self.conversation.kind == ConversationKind::Direct && !read_by.is_empty() {
            // Each sees in its list how far the other has read.
            moved.extend(self.members.keys().map(|user_id| (*user_id, true)));
        }
        let advance = |(user_id, is_news): (u64, bool)| {
            self.members.get(&user_id).map(|member| CursorAdvance {
                conversation_id: member.conversation_id,
                user_id,
                delivered_seq: member.delivered_seq,
                read_seq: member.read_seq,
                is_news,
            })
        };
        moved.into_iter().filter_map(advance).collect()
    }

    /// Cursors that storage did not take.
    pub fn cursors_failed(&mut self, cursors: &[CursorAdvance]) {
        for cursor in cursors {
            self.dirty.entry(cursor.user_id).or_insert(0);
            if cursor.is_news {
                self.read_by.insert(cursor.user_id);
            }
        }
    }

    /// Whether a cursor of this member waits to be stored.
    pub fn is_dirty(&self, user_id: u64) -> bool {
        self.dirty.contains_key(&user_id)
    }

    /// Whether some cursor waits to be stored.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Members have joined (as stored).
    pub fn join(&mut self, members: Vec<MemberRecord>) {
        for member in members {
            self.members.entry(member.user_id).or_insert(member);
        }
        self.renumber();
    }

    /// A member has left.
    pub fn leave(&mut self, user_id: u64) -> Option<MemberRecord> {
        let gone = self.members.remove(&user_id);
        self.dirty.remove(&user_id);
        self.renumber();
        gone
    }

    /// Who takes the group over when its owner leaves: the oldest admin, else the oldest member.
    pub fn heir(&self, leaving: u64) -> Option<u64> {
        self.members
            .values()
            .filter(|member| member.user_id != leaving)
            .min_by_key(|member| (member.role != MemberRole::Admin, member.joined_at_ms, member.user_id))
            .map(|member| member.user_id)
    }

    /// The record has changed (as stored). If the past was opened, members see it from the beginning.
    pub fn put_conversation(&mut self, conversation: ConversationRecord) {
        if conversation.rules.history_open && !self.conversation.rules.history_open {
            self.members.values_mut().for_each(|member| member.first_seq = 1);
        }
        self.conversation = conversation;
    }

    /// A membership has changed (as stored).
    pub fn change_member(&mut self, user_id: u64, change: impl FnOnce(&mut MemberRecord)) {
        if let Some(member) = self.members.get_mut(&user_id) {
            change(member);
        }
    }

    /// The owner and admins, by id; the first `most` of them.
    pub fn managers(&self, most: usize) -> Vec<u64> {
        let managers = self.members.values().filter(|member| member.role != MemberRole::Member);
        managers.map(|member| member.user_id).take(most).collect()
    }

    /// Whether a send of this name is stored, as far as it is remembered, or waits to be.
    pub fn knows(&self, sender_id: u64, client_id: &str) -> bool {
        self.recent.contains_key(&(sender_id, client_id.to_owned()))
            || self.pending_of(sender_id).any(|message| message.client_id == client_id)
    }

    /// What a member has sent that waits to be stored.
    pub fn pending_of(&self, sender_id: u64) -> impl Iterator<Item = &Message> {
        let pending = self.in_flight.iter().chain(&self.queue).map(|pending| &pending.message);
        pending.filter(move |message| message.sender_id == sender_id)
    }

    /// The seq that the next new member sees first. What waits to be stored while it joins counts as later: its seqs
    /// are not certain yet, and a member must never miss what it was pushed.
    pub fn next_seq(&self) -> u64 {
        self.last_seq + 1
    }

    fn finish(&mut self, pending: Pending<W>, duplicate: bool, push: bool, effects: &mut Vec<Effect<W>>) {
        let message = pending.message;
        self.remember(&message);
        if is_change(&message) {
            self.targets.stored(&message);
        } else if counts_as_read(&message)
            && let Some(sender) = self.members.get_mut(&message.sender_id)
            && sender.read_seq < message.seq
        {
            // Sending counts as having read up to one's own message.
            sender.read_seq = message.seq;
            sender.delivered_seq = sender.delivered_seq.max(message.seq);
            self.dirty.entry(message.sender_id).or_insert(0);
        }
        let (seq, created_at_ms, client_id) = (message.seq, message.created_at_ms, message.client_id.clone());
        if push {
            let except = pending.waiters.first().map_or(0, |(_, session_id)| *session_id);
            effects.push(Effect::Push(message, except));
        }
        for (at, (waiter, _)) in pending.waiters.into_iter().enumerate() {
            let sent = self.sent(seq, client_id.clone(), created_at_ms, duplicate || at > 0);
            effects.push(Effect::Answer(waiter, Ok(sent)));
        }
    }

    pub(super) fn sent(&self, seq: u64, client_id: String, created_at_ms: u64, duplicate: bool) -> Sent {
        Sent { conversation_id: self.conversation.id, seq, client_id, created_at_ms, duplicate }
    }

    fn remember(&mut self, message: &Message) {
        self.last_created_at_ms = self.last_created_at_ms.max(message.created_at_ms);
        let key = (message.sender_id, message.client_id.clone());
        if self.recent.insert(key.clone(), (message.seq, message.created_at_ms)).is_none() {
            self.recent_order.push_back(key);
        }
        while self.recent_order.len() > self.bounds.recent_sends {
            if let Some(oldest) = self.recent_order.pop_front() {
                self.recent.remove(&oldest);
            }
        }
    }

    fn put_members(&mut self, members: Vec<MemberRecord>) {
        let mut fresh: BTreeMap<u64, MemberRecord> =
            members.into_iter().map(|member| (member.user_id, member)).collect();
        for (user_id, member) in &mut fresh {
            // Cursors in memory may be ahead of the stored ones.
            if let Some(known) = self.members.get(user_id) {
                member.read_seq = member.read_seq.max(known.read_seq);
                member.delivered_seq = member.delivered_seq.max(known.delivered_seq);
            }
        }
        self.dirty.retain(|user_id, _| fresh.contains_key(user_id));
        self.members = fresh;
        self.renumber();
    }

    fn renumber(&mut self) {
        self.member_ids = self.members.keys().copied().collect();
    }
}

/// A message of the room's own: nobody waits for an answer.
fn is_announcement<W>(pending: &Pending<W>) -> bool {
    pending.message.kind == MessageKind::System as i32
}

/// A message of the room's own, or one in nobody's name: nobody need be a member for it.
fn is_by_server<W>(pending: &Pending<W>) -> bool {
    is_announcement(pending) || pending.message.sender_id == 0
}

/// The room's own messages, kept if the error may pass, and what to tell those who wait for the others.
fn sort_out<W>(
    waiting: impl IntoIterator<Item = Pending<W>>,
    error: &Error,
) -> (Vec<Pending<W>>, Vec<Effect<W>>) {
    let (own, theirs): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|pending| is_announcement(pending) && error.is_retryable());
    let waiters = theirs.into_iter().flat_map(|pending| pending.waiters);
    (own, waiters.map(|(waiter, _)| Effect::Answer(waiter, Err(error.clone()))).collect())
}

fn expel<W>(pending: Pending<W>, effects: &mut Vec<Effect<W>>) {
    let error = Error::denied("you are not a member of this conversation any more");
    for (waiter, _) in pending.waiters {
        effects.push(Effect::Answer(waiter, Err(error.clone())));
    }
}
