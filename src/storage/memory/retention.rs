//! [`RetentionStore`] in maps.

use async_trait::async_trait;

use super::MemoryStores;
use super::state::State;
use crate::domain::changes;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;
use crate::storage::StoreResult;
use crate::storage::retention::{LogEnds, RetentionStore};

/// Whether nothing is left of a message.
fn is_empty(message: &Message) -> bool {
    message.text.is_empty() && message.attachments.is_empty() && message.emoji.is_empty()
}

impl State {
    fn ends(&self, id: u64, retention_seconds: u64) -> LogEnds {
        let oldest = self.messages.range((id, 0)..=(id, u64::MAX)).next().map(|(_, message)| message);
        let newest = self.newest(id, 0);
        LogEnds {
            conversation_id: id,
            retention_seconds,
            oldest_seq: oldest.map_or(0, |message| message.seq),
            oldest_ms: oldest.map_or(0, |message| message.created_at_ms),
            newest_seq: newest.map_or(0, |message| message.seq),
            newest_is_empty: newest.is_some_and(is_empty),
        }
    }

    fn take_off(&mut self, id: u64, seq: u64) {
        self.hidden.retain(|(_, conversation_id, hidden), _| (*conversation_id, *hidden) != (id, seq));
        self.pins.remove(&(id, seq));
        self.expiries.remove(&(id, seq));
        self.indexed.remove(&(id, seq));
    }
}

#[async_trait]
impl RetentionStore for MemoryStores {
    async fn logs(&self, after_id: u64, ruled: bool, limit: u32) -> StoreResult<Vec<LogEnds>> {
        self.read(|state| {
            let behind = state.conversations.range(after_id.saturating_add(1)..);
            let own = |record: &crate::storage::ConversationRecord| record.rules.retention_seconds;
            let wanted = behind.filter(|(_, record)| !ruled || own(record) > 0);
            wanted.map(|(id, record)| state.ends(*id, own(record))).take(limit as usize).collect()
        })
    }

    async fn remove_before(&self, conversation_id: u64, before_seq: u64, most: u32) -> StoreResult<bool> {
        self.write(|state| {
            let id = conversation_id;
            let before = before_seq.min(state.newest(id, 0).map_or(0, |newest| newest.seq));
            if let Some(record) = state.conversations.get_mut(&id) {
                record.rules.floor_seq = record.rules.floor_seq.max(before);
            }
            let old = state.messages.range((id, 0)..(id, before)).map(|((_, seq), _)| *seq);
            let old: Vec<u64> = old.take(most as usize).collect();
            for seq in &old {
                state.take_off(id, *seq);
                if let Some(gone) = state.messages.remove(&(id, *seq)) {
                    state.client_keys.retain(|key, at| {
                        key.conversation_id != id || key.sender_id != gone.sender_id || at != seq
                    });
                }
                for (_, entry) in state.messages.range_mut((id, *seq)..=(id, u64::MAX)) {
                    if entry.kind() == MessageKind::Edit && entry.target_seq == *seq {
                        entry.text.clear();
                    }
                }
            }
            Ok(state.messages.range((id, 0)..(id, before)).next().is_some())
        })
    }

    async fn empty(&self, conversation_id: u64, seq: u64) -> StoreResult<()> {
        self.write(|state| {
            state.take_off(conversation_id, seq);
            if let Some(message) = state.messages.get_mut(&(conversation_id, seq)) {
                changes::empty(message);
                message.emoji.clear();
                message.reply_to_seq = 0;
                // Of what users wrote only it is said that it was taken back.
                message.recalled = changes::is_written(message);
            }
            Ok(())
        })
    }
}
