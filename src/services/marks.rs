//! What members do with messages that stand: hide them from themselves, pin them, forward them. And the veil through which
//! each member reads: nothing is shown of what it has hidden, or of what has expired.

use super::messages::Messages;
use crate::clock;
use crate::domain::changes::is_written;
use crate::domain::limits::{FORWARD_ID_MAX, SEQS_MAX, check_client_id};
use crate::domain::{Error, Result};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{ForwardedFrom, Hidden, Message, Send, Sent, SyncPage};
use crate::storage::{PinRecord, PreferenceChange, veil};

/// Most messages of which one page of sync tells that they were hidden.
const SYNC_HIDDEN_MAX: usize = 2000;
/// What each of them takes in JSON, in a conversation of its own: rounded up.
const HIDDEN_JSON_BYTES: usize = 80;

impl Messages {
    /// Hides messages from the caller, on all of its devices and for good.
    pub async fn hide(&self, by: u64, conversation_id: u64, mut seqs: Vec<u64>) -> Result<()> {
        self.check_seqs(&mut seqs)?;
        let member = self.member(by, conversation_id).await?;
        let last_seq = self.stores.messages.last_seq(conversation_id).await?;
        for seq in &seqs {
            if !(member.first_seq.max(1)..=last_seq).contains(seq) {
                return Err(no_message(*seq));
            }
        }
        self.stores.marks.hide(by, conversation_id, &seqs, clock::now_ms()).await?;
        // Moves the conversation in the next sync of devices that are away.
        let people = &self.stores.people;
        people.set_preferences(by, conversation_id, PreferenceChange::default(), clock::now_ms()).await?;
        self.events.publish(vec![by], Body::Hidden(Hidden { conversation_id, seqs }), 0);
        Ok(())
    }

    /// What the caller has hidden of a conversation, by seq from `from_seq` on.
    pub async fn hidden(&self, by: u64, conversation_id: u64, from_seq: u64, limit: u32) -> Result<Vec<u64>> {
        self.member(by, conversation_id).await?;
        Ok(self.stores.marks.hidden(by, conversation_id, from_seq, limit).await?)
    }

    /// Tells in a page of sync what the caller has hidden since `since_ms`. What does not fit is left to the next sync, whose
    /// time `next_ms` is set back for it.
    pub(super) async fn add_hidden(
        &self,
        by: u64,
        since_ms: u64,
        page: &mut SyncPage,
        next_ms: &mut u64,
        room: &mut usize,
    ) -> Result<()> {
        let most = (*room / 4 / HIDDEN_JSON_BYTES).clamp(1, SYNC_HIDDEN_MAX);
        let mut rows = self.stores.marks.hidden_since(by, since_ms, most as u32 + 1).await?;
        if rows.len() > most {
            // Of one moment all or none is told, as the next sync begins with a moment; of a single one, all that fits.
            let last_ms = rows.pop().map_or(0, |row| row.0);
            let whole = rows.partition_point(|row| row.0 < last_ms);
            *next_ms = (*next_ms).min(if whole == 0 { last_ms + 1 } else { last_ms });
            rows.truncate(if whole == 0 { rows.len() } else { whole });
            page.hidden_more = true;
        }
        *room = room.saturating_sub(rows.len() * HIDDEN_JSON_BYTES);
        for (_, conversation_id, seq) in rows {
            match page.hidden.iter_mut().find(|hidden| hidden.conversation_id == conversation_id) {
                Some(hidden) => hidden.seqs.push(seq),
                None => page.hidden.push(Hidden { conversation_id, seqs: vec![seq] }),
            }
        }
        Ok(())
    }

    /// Pins a message for all, or takes the pin off.
    pub async fn pin(&self, by: u64, conversation_id: u64, seq: u64, remove: bool) -> Result<()> {
        // It is told in the log: whoever may not write may not ring so either.
        self.may_write_in(by, conversation_id).await?;
        self.rooms.pin(by, conversation_id, seq, remove).await
    }

    /// The pins that the caller may see, by seq, each with its message.
    pub async fn pins(&self, by: u64, conversation_id: u64) -> Result<Vec<(PinRecord, Message)>> {
        let member = self.member(by, conversation_id).await?;
        let mut pins = Vec::new();
        for pin in self.stores.marks.pins(conversation_id).await? {
            if pin.seq < member.first_seq {
                continue;
            }
            let found = self.stores.messages.after(conversation_id, pin.seq - 1, 1).await?;
            // The message may have been removed meanwhile.
            pins.extend(found.into_iter().filter(|found| found.seq == pin.seq).map(|message| (pin, message)));
        }
        self.veil(by, pins.iter_mut().map(|(_, message)| message).collect()).await?;
        Ok(pins)
    }

    /// Sends copies of messages of one conversation to another, in the order of their seqs. Each copy's `client_id` is made of
    /// the one given, so that a repeat makes no second copies.
    pub async fn forward(
        &self,
        by: u64,
        conversation_id: u64,
        from_conversation_id: u64,
        mut seqs: Vec<u64>,
        client_id: &str,
    ) -> Result<Vec<Sent>> {
        self.check_seqs(&mut seqs)?;
        check_client_id(client_id)?;
        if client_id.chars().count() > FORWARD_ID_MAX {
            let rule = format!("the client_id of a forwarding has at most {FORWARD_ID_MAX} characters");
            return Err(Error::invalid("client_id", rule));
        }
        let member = self.member(by, from_conversation_id).await?;
        let mut copies = Vec::new();
        for &seq in &seqs {
            let found = match seq >= member.first_seq.max(1) {
                true => self.stores.messages.after(from_conversation_id, seq - 1, 1).await?,
                false => Vec::new(),
            };
            copies.push(found.into_iter().find(|message| message.seq == seq).ok_or_else(|| no_message(seq))?);
        }
        self.veil(by, copies.iter_mut().collect()).await?;
        if let Some(gone) = copies.iter().find(|message| !is_written(message) || message.recalled) {
            return Err(Error::precondition(format!("message {} is none that can be forwarded", gone.seq)));
        }
        if copies.iter().any(|message| message.marks.as_ref().is_some_and(|marks| marks.expires_at_ms != 0)) {
            return Err(Error::precondition(
                "a message that expires can't be forwarded: its copy would stay",
            ));
        }
        let mut sent = Vec::new();
        for (at, message) in copies.into_iter().enumerate() {
            // What is a copy already names what it was copied from.
            let from =
                message.marks.as_ref().and_then(|marks| marks.forwarded_from).unwrap_or(ForwardedFrom {
                    conversation_id: message.conversation_id,
                    seq: message.seq,
                    sender_id: message.sender_id,
                    created_at_ms: message.created_at_ms,
                });
            let send = Send {
                conversation_id,
                client_id: format!("{client_id}.{}", at + 1),
                kind: message.kind,
                text: message.text,
                attachments: message.attachments,
                ..Send::default()
            };
            if let Some(gate) = &self.gate {
                gate.pass(by, &send).await?;
            }
            sent.push(self.rooms.forward(by, send, from).await?);
        }
        Ok(sent)
    }

    /// Takes from messages what `by` may not read: what it has hidden, and what has expired though its entry still waits to be
    /// emptied.
    pub(super) async fn veil(&self, by: u64, messages: Vec<&mut Message>) -> Result<()> {
        Ok(veil(self.stores.marks.as_ref(), by, messages, clock::now_ms()).await?)
    }

    fn check_seqs(&self, seqs: &mut Vec<u64>) -> Result<()> {
        seqs.sort_unstable();
        seqs.dedup();
        if seqs.is_empty() || seqs.len() > SEQS_MAX {
            return Err(Error::invalid("seqs", format!("name 1 to {SEQS_MAX} messages by their seqs")));
        }
        Ok(())
    }
}

pub(super) fn no_message(seq: u64) -> Error {
    Error::not_found(format!("there is no message {seq} in this conversation for you"))
}
