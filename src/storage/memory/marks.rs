//! [`MarkStore`] in maps.

use async_trait::async_trait;

use super::MemoryStores;
use crate::storage::{MarkStore, PinRecord, ScheduledRecord, StoreResult};

#[async_trait]
impl MarkStore for MemoryStores {
    async fn hide(&self, user_id: u64, conversation_id: u64, seqs: &[u64], now_ms: u64) -> StoreResult<()> {
        self.write(|state| {
            for seq in seqs {
                state.hidden.entry((user_id, conversation_id, *seq)).or_insert(now_ms);
            }
            Ok(())
        })
    }

    async fn hidden_since(
        &self,
        user_id: u64,
        since_ms: u64,
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>> {
        self.read(|state| {
            let own = state.hidden.range((user_id, 0, 0)..=(user_id, u64::MAX, u64::MAX));
            let late = own.filter(|(_, at_ms)| **at_ms >= since_ms);
            let mut found: Vec<(u64, u64, u64)> =
                late.map(|((_, id, seq), at_ms)| (*at_ms, *id, *seq)).collect();
            found.sort_unstable();
            found.truncate(limit as usize);
            found
        })
    }

    async fn hidden(
        &self,
        user_id: u64,
        conversation_id: u64,
        from_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<u64>> {
        self.read(|state| {
            let range = (user_id, conversation_id, from_seq)..=(user_id, conversation_id, u64::MAX);
            state.hidden.range(range).map(|((_, _, seq), _)| *seq).take(limit as usize).collect()
        })
    }

    async fn hiders(&self, conversation_id: u64, seq: u64, limit: u32) -> StoreResult<Vec<u64>> {
        self.read(|state| {
            let of = |key: &&(u64, u64, u64)| (key.1, key.2) == (conversation_id, seq);
            state.hidden.keys().filter(of).map(|key| key.0).take(limit as usize).collect()
        })
    }

    async fn hidden_among(&self, user_id: u64, messages: &[(u64, u64)]) -> StoreResult<Vec<(u64, u64)>> {
        self.read(|state| {
            let is_hidden = |(id, seq): &&(u64, u64)| state.hidden.contains_key(&(user_id, *id, *seq));
            messages.iter().filter(is_hidden).copied().collect()
        })
    }

    async fn pin(&self, pin: PinRecord) -> StoreResult<bool> {
        self.write(|state| {
            let key = (pin.conversation_id, pin.seq);
            let is_new = !state.pins.contains_key(&key);
            state.pins.entry(key).or_insert(pin);
            Ok(is_new)
        })
    }

    async fn unpin(&self, conversation_id: u64, seq: u64) -> StoreResult<bool> {
        self.write(|state| Ok(state.pins.remove(&(conversation_id, seq)).is_some()))
    }

    async fn pins(&self, conversation_id: u64) -> StoreResult<Vec<PinRecord>> {
        self.read(|state| {
            let range = (conversation_id, 0)..=(conversation_id, u64::MAX);
            state.pins.range(range).map(|(_, pin)| *pin).collect()
        })
    }

    async fn schedule(&self, record: ScheduledRecord) -> StoreResult<ScheduledRecord> {
        self.write(|state| {
            let same = |other: &&ScheduledRecord| {
                (other.user_id, other.send.conversation_id, &other.send.client_id)
                    == (record.user_id, record.send.conversation_id, &record.send.client_id)
            };
            if let Some(first) = state.scheduled.values().find(same) {
                return Ok(first.clone());
            }
            let record =
                ScheduledRecord { id: state.next_id(), failure: String::new(), claimed: false, ..record };
            state.scheduled.insert(record.id, record.clone());
            Ok(record)
        })
    }

    async fn scheduled(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ScheduledRecord>> {
        self.read(|state| {
            let behind = state.scheduled.range(after_id.saturating_add(1)..).map(|(_, record)| record);
            let own = behind.filter(|record| record.user_id == user_id && !record.claimed);
            own.take(limit as usize).cloned().collect()
        })
    }

    async fn due(&self, now_ms: u64, after: (u64, u64), limit: u32) -> StoreResult<Vec<ScheduledRecord>> {
        self.read(|state| {
            let is_due = |record: &&ScheduledRecord| {
                record.send_at_ms <= now_ms
                    && record.failure.is_empty()
                    && (record.send_at_ms, record.id) > after
            };
            let mut due: Vec<ScheduledRecord> = state.scheduled.values().filter(is_due).cloned().collect();
            due.sort_by_key(|record| (record.send_at_ms, record.id));
            due.truncate(limit as usize);
            due
        })
    }

    async fn unschedule(&self, user_id: u64, id: u64) -> StoreResult<bool> {
        self.write(|state| {
            let is_theirs =
                state.scheduled.get(&id).is_some_and(|record| record.user_id == user_id && !record.claimed);
            Ok(is_theirs && state.scheduled.remove(&id).is_some())
        })
    }

    async fn claim(&self, id: u64) -> StoreResult<bool> {
        self.write(|state| {
            let open = |record: &&mut ScheduledRecord| record.failure.is_empty() && !record.claimed;
            let found = state.scheduled.get_mut(&id).filter(open);
            Ok(found.map(|record| record.claimed = true).is_some())
        })
    }

    async fn put_off(&self, id: u64, send_at_ms: u64, claimed: bool) -> StoreResult<()> {
        self.write(|state| {
            if let Some(record) = state.scheduled.get_mut(&id) {
                (record.send_at_ms, record.claimed) = (send_at_ms, claimed);
            }
            Ok(())
        })
    }

    async fn finish(&self, id: u64) -> StoreResult<()> {
        self.write(|state| {
            state.scheduled.remove(&id);
            Ok(())
        })
    }

    async fn note_failure(&self, id: u64, failure: &str) -> StoreResult<()> {
        self.write(|state| {
            if let Some(record) = state.scheduled.get_mut(&id) {
                record.claimed = false;
                failure.clone_into(&mut record.failure);
            }
            Ok(())
        })
    }

    async fn expired(
        &self,
        now_ms: u64,
        after: (u64, u64, u64),
        limit: u32,
    ) -> StoreResult<Vec<(u64, u64, u64)>> {
        self.read(|state| {
            let rows = state.expiries.iter().map(|(&(id, seq), &at_ms)| (at_ms, id, seq));
            let mut rows: Vec<(u64, u64, u64)> = rows.filter(|row| row.0 <= now_ms && *row > after).collect();
            rows.sort_unstable();
            rows.truncate(limit as usize);
            rows
        })
    }

    async fn forget_expiry(&self, conversation_id: u64, seq: u64) -> StoreResult<()> {
        self.write(|state| {
            state.expiries.remove(&(conversation_id, seq));
            Ok(())
        })
    }
}
