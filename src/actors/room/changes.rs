//! Edits, recalls and reactions: entries of the log about an earlier message of it. They take the way of a send, so that the
//! room orders them like sends and a repeat of one gets the first answer; what is decided here is whether one is admitted.
//!
//! That is decided by what the message is after all that was queued before. What storage holds of it is read once and
//! remembered; nobody changes a message but by an entry, so another activation that did is noticed by its seq, and then all
//! that waits is judged anew ([`Room::judge_again`]). No I/O, no clock.

use std::collections::HashMap;

use super::state::{Bounds, Effect, Pending, Room};
use crate::domain::changes::{apply, is_change, is_written};
use crate::domain::limits::MENTION_ALL;
use crate::domain::permissions::{Act, allows, outranks, require};
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_request::Command;
use crate::protocol::cluster::{Expire, Forward};
use crate::protocol::v1::{Edit, Message, React, Recall, Send, Sent};
use crate::protocol::{ConversationKind, MemberRole, MessageKind};

/// What is asked of changes, from `cluster.toml`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeRules {
    /// How long a message can be edited, milliseconds; 0: for ever.
    pub edit_window_ms: u64,
    /// How long its sender can take it back, milliseconds; 0: for ever.
    pub recall_window_ms: u64,
    /// Most different emoji on a message.
    pub reactions_max: usize,
    /// How long messages are kept, milliseconds; 0: for ever.
    pub retention_ms: u64,
}

/// Messages that a room remembers because something changed them lately.
const TARGETS_KEPT: usize = 256;

/// What a room remembers of the messages that are changed: as stored, without what waits.
#[derive(Debug, Default)]
pub struct Targets {
    known: HashMap<u64, Message>,
}

impl Targets {
    /// Remembers a message as it was read.
    pub fn learn(&mut self, mut message: Message) {
        if self.known.len() >= TARGETS_KEPT {
            // Seldom, and then each costs one read again.
            self.known.clear();
        }
        // What it says decides nothing.
        message.text.clear();
        message.attachments.clear();
        self.known.insert(message.seq, message);
    }

    /// Knows these, however many, and nothing else.
    pub fn replace(&mut self, messages: Vec<Message>) {
        self.known = messages.into_iter().map(|message| (message.seq, message)).collect();
    }

    /// Whether it is known.
    pub fn knows(&self, seq: u64) -> bool {
        self.known.contains_key(&seq)
    }

    /// An entry is stored.
    pub fn stored(&mut self, entry: &Message) {
        if entry.kind() == MessageKind::Reaction && entry.recalled {
            // Others may have put on the same; who, is not remembered whole.
            self.known.remove(&entry.target_seq);
        } else if let Some(target) = self.known.get_mut(&entry.target_seq) {
            apply(target, entry);
            target.text.clear();
        }
    }

    /// Storage may hold something else.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// The entry that a command asks for; `None`: it is no change.
pub fn entry_of(by: u64, command: Command) -> std::result::Result<Message, Box<Command>> {
    let entry = |kind: MessageKind, conversation_id, target_seq, client_id| Message {
        conversation_id,
        sender_id: by,
        kind: kind as i32,
        target_seq,
        client_id,
        ..Message::default()
    };
    Ok(match command {
        Command::Edit(Edit { conversation_id, target_seq, client_id, text }) => {
            Message { text, ..entry(MessageKind::Edit, conversation_id, target_seq, client_id) }
        }
        Command::Recall(Recall { conversation_id, target_seq, client_id }) => {
            entry(MessageKind::Recall, conversation_id, target_seq, client_id)
        }
        Command::React(React { conversation_id, target_seq, client_id, emoji, remove }) => Message {
            emoji,
            recalled: remove,
            ..entry(MessageKind::Reaction, conversation_id, target_seq, client_id)
        },
        // The server's own; the name makes it one, whoever asks how often.
        Command::Expire(Expire { seq }) if by == 0 => {
            entry(MessageKind::Recall, 0, seq, format!("expire-{seq}"))
        }
        other => return Err(Box::new(other)),
    })
}

/// The command that a queued message came by.
pub fn command_of(message: &Message, expires_in_seconds: u64) -> Command {
    let Message { conversation_id, target_seq, .. } = *message;
    let client_id = message.client_id.clone();
    match message.kind() {
        MessageKind::Edit => {
            Command::Edit(Edit { conversation_id, target_seq, client_id, text: message.text.clone() })
        }
        MessageKind::Recall if message.sender_id == 0 => Command::Expire(Expire { seq: target_seq }),
        MessageKind::Recall => Command::Recall(Recall { conversation_id, target_seq, client_id }),
        MessageKind::Reaction => Command::React(React {
            conversation_id,
            target_seq,
            client_id,
            emoji: message.emoji.clone(),
            remove: message.recalled,
        }),
        _ => {
            let send = Send {
                conversation_id,
                client_id,
                kind: message.kind,
                text: message.text.clone(),
                attachments: message.attachments.clone(),
                reply_to_seq: message.reply_to_seq,
                mentions: message.mentions.clone(),
                expires_in_seconds,
                send_at_ms: u64::from(message.marks.as_ref().is_some_and(|marks| marks.scheduled)),
                ..Send::default()
            };
            match message.marks.as_ref().and_then(|marks| marks.forwarded_from) {
                Some(from) => Command::Forward(Forward { send: Some(send), from: Some(from) }),
                None => Command::Send(send),
            }
        }
    }
}

impl<W> Room<W> {
    /// Whether what a send refers to is there for its sender: the message that it answers, and whom it mentions. A repeat of
    /// what is stored or waits is not asked again.
    pub fn admits_references(&self, sender_id: u64, send: &Send) -> Result<()> {
        if send.reply_to_seq == 0 && send.mentions.is_empty() {
            return Ok(());
        }
        let key = (sender_id, &send.client_id);
        let same = |pending: &Pending<W>| (pending.message.sender_id, &pending.message.client_id) == key;
        let is_known = self.recent.contains_key(&(sender_id, send.client_id.clone()))
            || self.in_flight.iter().chain(&self.queue).any(same);
        if is_known {
            return Ok(());
        }
        let by = self.require_member(sender_id)?;
        let seq = send.reply_to_seq;
        if seq != 0 && !(by.first_seq..=self.last_seq()).contains(&seq) {
            let why = format!("there is no message {seq} in this conversation for you to reply to");
            return Err(Error::invalid("reply_to_seq", why));
        }
        for user_id in &send.mentions {
            if *user_id == MENTION_ALL {
                if self.conversation().kind == ConversationKind::Group {
                    require(by.role, Act::MentionAll)?;
                }
            } else if self.member(*user_id).is_none() {
                let why = format!(
                    "user {user_id} is not a member of this conversation; mention members, or 0 for all"
                );
                return Err(Error::invalid("mentions", why));
            }
        }
        Ok(())
    }

    /// The answer to a repeat of what was stored lately.
    pub fn repeated(&self, sender_id: u64, client_id: &str) -> Option<Sent> {
        let (seq, created_at_ms) = *self.recent.get(&(sender_id, client_id.to_owned()))?;
        Some(self.sent(seq, client_id.to_owned(), created_at_ms, true))
    }

    /// Takes a change of a member, about a message that the room knows ([`Room::targets`]). The error says why it is
    /// refused; the waiter is given back with it, as the change may repeat one that was stored.
    pub fn change(
        &mut self,
        session_id: u64,
        entry: Message,
        waiter: W,
        now_ms: u64,
    ) -> std::result::Result<Option<Effect<W>>, (W, Error)> {
        if let Some(sent) = self.repeated(entry.sender_id, &entry.client_id) {
            return Ok(Some(Effect::Answer(waiter, Ok(sent))));
        }
        let same = |pending: &&mut Pending<W>| {
            (pending.message.sender_id, &pending.message.client_id) == (entry.sender_id, &entry.client_id)
        };
        if let Some(first) = self.in_flight.iter_mut().chain(self.queue.iter_mut()).find(same) {
            first.waiters.push((waiter, session_id));
            return Ok(None);
        }
        if let Err(error) = self.has_room().and_then(|()| self.admits(&entry, Some(now_ms))) {
            return Err((waiter, error));
        }
        self.queue.push_back(Pending {
            message: entry,
            expires_in_s: 0,
            waiters: vec![(waiter, session_id)],
        });
        Ok(None)
    }

    /// Whether an entry is admitted behind all that waits; `now_ms`: also by the time that its message has stood.
    pub(super) fn admits(&self, entry: &Message, now_ms: Option<u64>) -> Result<()> {
        let seq = entry.target_seq;
        let server = entry.sender_id == 0;
        let (role, first_seq) = match server {
            true => (MemberRole::Member, 1),
            false => self.require_member(entry.sender_id).map(|by| (by.role, by.first_seq))?,
        };
        let unseen = || Error::not_found(format!("there is no message {seq} in this conversation for you"));
        if seq < first_seq.max(1) {
            return Err(unseen());
        }
        let mut target = self.targets.known.get(&seq).cloned().ok_or_else(unseen)?;
        // It is about to be removed, if it was not already: an entry about it would outlive it.
        let kept_ms = self.conversation().rules.kept_ms(self.bounds.changes.retention_ms);
        if kept_ms != 0 && now_ms.is_some_and(|now_ms| target.created_at_ms.saturating_add(kept_ms) <= now_ms)
        {
            return Err(unseen());
        }
        self.foresee(&mut target);
        if !is_written(&target) {
            return Err(Error::precondition(
                "only messages that users wrote can be edited, taken back or reacted to",
            ));
        }
        let age_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(target.created_at_ms));
        match entry.kind() {
            MessageKind::Edit => self.admits_edit(role, entry, &target, age_ms)?,
            MessageKind::Recall if server => admits_expiry(&target, now_ms)?,
            MessageKind::Recall => self.admits_recall(role, entry, &target, age_ms)?,
            _ => self.admits_reaction(role, entry, &target)?,
        }
        if target.recalled {
            return Err(Error::precondition(format!("message {seq} was taken back; nothing is left of it")));
        }
        Ok(())
    }

    /// Makes of a message what it is after all that waits.
    pub(super) fn foresee(&self, target: &mut Message) {
        for pending in self.in_flight.iter().chain(&self.queue) {
            if is_change(&pending.message) && pending.message.target_seq == target.seq {
                apply(target, &pending.message);
            }
        }
    }

    fn admits_edit(&self, role: MemberRole, entry: &Message, target: &Message, age_ms: u64) -> Result<()> {
        require(role, Act::ChangeOwnMessage)?;
        if target.sender_id != entry.sender_id {
            return Err(Error::denied("only its sender may edit a message"));
        }
        if target.kind() != MessageKind::Text {
            return Err(Error::precondition("only messages of kind text can be edited"));
        }
        if target.marks.as_ref().is_some_and(|marks| marks.forwarded_from.is_some()) {
            // Else its words would stand as those of whom it was copied from.
            return Err(Error::precondition(
                "a forwarded message is a copy and can't be edited; take it back",
            ));
        }
        if target.marks.as_ref().is_some_and(|marks| marks.expires_at_ms != 0) {
            // Else its text would stand in another entry, which has no time of its own.
            return Err(Error::precondition("a message that expires can't be edited; take it back"));
        }
        within(self.bounds.changes.edit_window_ms, age_ms, "edited")
    }

    fn admits_recall(&self, role: MemberRole, entry: &Message, target: &Message, age_ms: u64) -> Result<()> {
        let in_group = self.conversation().kind == ConversationKind::Group;
        let of_others = in_group && allows(role, Act::RecallOthers);
        if target.sender_id == entry.sender_id {
            require(role, Act::ChangeOwnMessage)?;
            return if of_others {
                Ok(())
            } else {
                within(self.bounds.changes.recall_window_ms, age_ms, "taken back")
            };
        }
        if !in_group {
            return Err(Error::denied("only its sender may take back a message of a direct conversation"));
        }
        require(role, Act::RecallOthers)?;
        // One who has left has no rank any more.
        let theirs = self.member(target.sender_id).map_or(MemberRole::Member, |member| member.role);
        if !outranks(role, theirs) {
            return Err(Error::denied(
                "a message can be taken back by its sender and by those of a higher role",
            ));
        }
        Ok(())
    }

    fn admits_reaction(&self, role: MemberRole, entry: &Message, target: &Message) -> Result<()> {
        require(role, Act::React)?;
        let most = self.bounds.changes.reactions_max;
        let stands = target.reactions.iter().any(|reaction| reaction.emoji == entry.emoji);
        if !entry.recalled && !stands && target.reactions.len() >= most {
            return Err(Error::precondition(format!(
                "the message has {most} different emoji already; take one of those"
            )));
        }
        Ok(())
    }

    /// The log was written to by somebody else: those that wait and would not be admitted any more are refused. The room
    /// knows the messages that they are about anew.
    pub(super) fn judge_again(&mut self, effects: &mut Vec<Effect<W>>) {
        for pending in std::mem::take(&mut self.queue) {
            // How long the message has stood was asked when the entry came.
            match is_change(&pending.message).then(|| self.admits(&pending.message, None)) {
                Some(Err(error)) => {
                    let waiters = pending.waiters.into_iter();
                    effects.extend(waiters.map(|(waiter, _)| Effect::Answer(waiter, Err(error.clone()))));
                }
                _ => self.queue.push_back(pending),
            }
        }
    }

    /// The messages that queued changes are about.
    pub fn pending_targets(&self) -> Vec<u64> {
        let changes = self.queue.iter().map(|pending| &pending.message).filter(|message| is_change(message));
        let mut seqs: Vec<u64> = changes.map(|entry| entry.target_seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }
}

/// Whether a message's time has come.
fn admits_expiry(target: &Message, now_ms: Option<u64>) -> Result<()> {
    let at_ms = target.marks.as_ref().map_or(0, |marks| marks.expires_at_ms);
    if !target.recalled && (at_ms == 0 || now_ms.is_some_and(|now_ms| now_ms < at_ms)) {
        return Err(Error::precondition("the message has not expired"));
    }
    Ok(())
}

/// Whether a window is still open.
fn within(window_ms: u64, age_ms: u64, done: &str) -> Result<()> {
    if window_ms == 0 || age_ms <= window_ms {
        return Ok(());
    }
    Err(Error::precondition(format!("a message can be {done} for {} s after it was sent", window_ms / 1000)))
}

impl Bounds {
    /// Those of the configuration.
    pub fn of(config: &crate::config::Config) -> Self {
        let ms = |window: std::time::Duration| window.as_millis() as u64;
        Self {
            pending_sends: config.room.pending_sends,
            group_messages: config.room.group_messages,
            recent_sends: config.room.recent_sends,
            changes: ChangeRules {
                edit_window_ms: ms(config.messages.edit_window),
                recall_window_ms: ms(config.messages.recall_window),
                reactions_max: config.messages.reactions_max,
                retention_ms: ms(config.messages.retention),
            },
        }
    }
}
