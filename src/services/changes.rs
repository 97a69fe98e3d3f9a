//! Editing, taking back and reacting, for every edge. The room decides; here is what needs no room.

use super::messages::Messages;
use crate::cluster::ReplyTo;
use crate::domain::limits::{check_client_id, check_emoji};
use crate::domain::{Error, Result};
use crate::protocol::cluster::ReaderList;
use crate::protocol::cluster::room_request::Command;
use crate::protocol::v1::{Edit, React, Recall, Send, Sent};

/// A change of a message that was sent before.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another text.
    Edit(Edit),
    /// Nothing of it is left.
    Recall(Recall),
    /// A reaction to it, put on or taken off.
    React(React),
}

impl Change {
    /// In which conversation.
    pub fn conversation_id(&self) -> u64 {
        match self {
            Self::Edit(edit) => edit.conversation_id,
            Self::Recall(recall) => recall.conversation_id,
            Self::React(react) => react.conversation_id,
        }
    }

    fn client_id(&self) -> &str {
        match self {
            Self::Edit(edit) => &edit.client_id,
            Self::Recall(recall) => &recall.client_id,
            Self::React(react) => &react.client_id,
        }
    }

    fn target_seq(&self) -> u64 {
        match self {
            Self::Edit(edit) => edit.target_seq,
            Self::Recall(recall) => recall.target_seq,
            Self::React(react) => react.target_seq,
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Edit(edit) => Command::Edit(edit),
            Self::Recall(recall) => Command::Recall(recall),
            Self::React(react) => Command::React(react),
        }
    }
}

impl Messages {
    /// Stores a change as an entry of the log, under a `client_id` of the same space as sends'.
    pub async fn change(&self, by: u64, change: Change) -> Result<Sent> {
        let (reply, answer) = ReplyTo::channel();
        self.post_change(by, 0, change, |_| reply).await?;
        answer.await
    }

    /// The same for a session, without waiting for the storing; see [`Messages::post`], whose order it shares.
    pub async fn post_change(
        &self,
        by: u64,
        session_id: u64,
        change: Change,
        reply: impl FnOnce(u64) -> ReplyTo<Sent>,
    ) -> Result<()> {
        self.check_change(&change)?;
        let conversation_id = change.conversation_id();
        // Whoever may not write may not say anything by editing and reacting either. To take something back hurts nobody.
        if let Some(gate) = &self.gate
            && !matches!(change, Change::Recall(_))
        {
            let client_id = change.client_id().to_owned();
            gate.pass(by, &Send { conversation_id, client_id, ..Send::default() }).await?;
        }
        self.rooms.post_entry(by, session_id, conversation_id, change.command(), reply(conversation_id));
        Ok(())
    }

    /// Whom a message has reached and who has read it, its sender left out.
    pub async fn readers(&self, by: u64, conversation_id: u64, seq: u64) -> Result<ReaderList> {
        let member = self.member(by, conversation_id).await?;
        let none = || Error::not_found(format!("there is no message {seq} in this conversation for you"));
        if seq < member.first_seq.max(1) {
            return Err(none());
        }
        let found = self.stores.messages.after(conversation_id, seq - 1, 1).await?;
        let message = found.first().filter(|message| message.seq == seq).ok_or_else(none)?;
        self.rooms.readers(by, conversation_id, seq, message.sender_id).await
    }

    fn check_change(&self, change: &Change) -> Result<()> {
        check_client_id(change.client_id())?;
        if change.conversation_id() == 0 {
            return Err(Error::invalid("conversation_id", "name the conversation_id"));
        }
        if change.target_seq() == 0 {
            return Err(Error::invalid("target_seq", "name the seq of the message as target_seq"));
        }
        match change {
            Change::Edit(edit) if edit.text.is_empty() => {
                Err(Error::invalid("text", "the text is empty; write something, or take the message back"))
            }
            Change::Edit(edit) => self.check_text(&edit.text),
            Change::Recall(_) => Ok(()),
            Change::React(react) => check_emoji(&react.emoji),
        }
    }
}
