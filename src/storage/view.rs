//! Storage's records as clients see them.

use std::collections::HashSet;

use super::{ConversationRecord, ConversationRow, Draft, MarkStore, StoreResult, UserRecord};
use crate::domain::changes::{counts_as_read, empty};
use crate::protocol::v1::{Marks, Message};
use crate::protocol::{ConversationKind, MessageKind, v1};

/// Takes from messages what `by` may not read: what it has hidden, edits of that included, and what has expired by now
/// though its entry still waits to be emptied.
pub async fn veil(
    marks: &dyn MarkStore,
    by: u64,
    messages: Vec<&mut Message>,
    now_ms: u64,
) -> StoreResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let edited = |message: &Message| match message.kind() {
        MessageKind::Edit => Some((message.conversation_id, message.target_seq)),
        _ => None,
    };
    let mut keys: Vec<(u64, u64)> = Vec::with_capacity(messages.len());
    for message in &messages {
        keys.push((message.conversation_id, message.seq));
        keys.extend(edited(message));
    }
    let hidden: HashSet<(u64, u64)> = marks.hidden_among(by, &keys).await?.into_iter().collect();
    for message in messages {
        if message
            .marks
            .as_ref()
            .is_some_and(|marks| marks.expires_at_ms != 0 && marks.expires_at_ms <= now_ms)
        {
            empty(message);
        }
        if hidden.contains(&(message.conversation_id, message.seq))
            || edited(message).is_some_and(|target| hidden.contains(&target))
        {
            veil_from_hider(message);
        }
    }
    Ok(())
}

/// Takes from a message, or an edit of it, what one who has hidden it may not read.
pub fn veil_from_hider(message: &mut Message) {
    let recalled = message.recalled;
    empty(message);
    message.recalled = recalled;
    message.marks = Some(Box::new(Marks { hidden: true, ..Marks::default() }));
}

impl ConversationRecord {
    /// What is left of a group for those who were in it.
    pub fn epitaph(&self) -> v1::Conversation {
        v1::Conversation {
            conversation_id: self.id,
            kind: self.kind as i32,
            name: self.name.clone(),
            description: self.description.clone(),
            avatar_file_id: self.avatar_file_id,
            owner_id: self.owner_id,
            join_policy: self.join_policy as i32,
            updated_at_ms: self.updated_at_ms,
            removed: true,
            dissolved: self.rules.dissolved_at_ms != 0,
            ..v1::Conversation::default()
        }
    }
}

impl ConversationRow {
    /// The same for one who has left. What has changed since is not theirs to know: then not even the name is told.
    fn farewell(&self) -> v1::Conversation {
        let updated_at_ms = self.changed_ms();
        if self.conversation.updated_at_ms <= self.member.removed_at_ms {
            return v1::Conversation { updated_at_ms, ..self.conversation.epitaph() };
        }
        v1::Conversation {
            conversation_id: self.conversation.id,
            kind: self.conversation.kind as i32,
            updated_at_ms,
            removed: true,
            ..v1::Conversation::default()
        }
    }
}

impl From<ConversationRow> for v1::Conversation {
    fn from(row: ConversationRow) -> Self {
        if row.member.removed_at_ms != 0 {
            return row.farewell();
        }
        let updated_at_ms = row.changed_ms();
        let ConversationRow {
            conversation,
            mut member,
            peer,
            member_count,
            newest,
            last_message,
            mut unread,
            preferences,
            pending_requests,
        } = row;
        // Sending counts as having read; the cursor that says so may still wait to be stored.
        if let Some(last) =
            last_message.as_ref().filter(|last| last.sender_id == member.user_id && counts_as_read(last))
        {
            member.read_seq = member.read_seq.max(last.seq);
            member.delivered_seq = member.delivered_seq.max(last.seq);
            unread = 0;
        }
        let is_direct = conversation.kind == ConversationKind::Direct;
        let (peer_user_id, peer_read_seq, peer_delivered_seq) = match peer {
            Some(peer) if is_direct => (peer.user_id, peer.read_seq, peer.delivered_seq),
            _ => (0, 0, 0),
        };
        Self {
            conversation_id: conversation.id,
            kind: conversation.kind as i32,
            name: conversation.name,
            description: conversation.description,
            avatar_file_id: conversation.avatar_file_id,
            owner_id: conversation.owner_id,
            join_policy: conversation.join_policy as i32,
            member_count,
            first_seq: member.first_seq.max(conversation.rules.floor_seq),
            last_seq: newest.0,
            read_seq: member.read_seq,
            delivered_seq: member.delivered_seq,
            unread,
            peer_user_id,
            peer_read_seq,
            peer_delivered_seq,
            role: member.role as i32,
            muted_until_ms: member.muted_until_ms,
            pinned: member.pinned,
            // A reaction is no message that shows it again.
            hidden: preferences.hidden_before_seq
                > last_message.as_ref().map_or(0, |message: &v1::Message| message.seq),
            last_message,
            updated_at_ms,
            removed: false,
            marked_unread: preferences.unread_before_seq > member.read_seq,
            archived: preferences.archived,
            notifications: preferences.notifications as i32,
            draft: (!preferences.draft.is_empty()).then(|| preferences.draft.into()),
            announcement: conversation.rules.announcement,
            read_only: conversation.rules.read_only,
            slow_mode_seconds: conversation.rules.slow_mode_seconds,
            silence_all: conversation.rules.silence_all,
            history_open: conversation.rules.history_open,
            silenced_until_ms: member.silenced_until_ms,
            pending_requests,
            dissolved: conversation.rules.dissolved_at_ms != 0,
            retention_seconds: conversation.rules.retention_seconds,
        }
    }
}

impl Draft {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reply_to_seq == 0
    }
}

impl From<Draft> for v1::Draft {
    fn from(draft: Draft) -> Self {
        let Draft { text, reply_to_seq, updated_at_ms } = draft;
        Self { text, reply_to_seq, updated_at_ms }
    }
}

impl UserRecord {
    /// What may be logged of an account.
    pub fn label(&self) -> String {
        format!("{} ({})", self.username, self.id)
    }
}
