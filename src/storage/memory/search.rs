//! [`SearchStore`] in maps.

use async_trait::async_trait;

use super::MemoryStores;
use crate::storage::StoreResult;
use crate::storage::search::{Find, FoundAt, IndexState, IndexStep, SearchStore};

#[async_trait]
impl SearchStore for MemoryStores {
    async fn index_states(&self, conversation_ids: &[u64]) -> StoreResult<Vec<IndexState>> {
        self.read(|state| {
            let there = conversation_ids.iter().filter(|id| state.conversations.contains_key(*id));
            there
                .map(|id| IndexState {
                    conversation_id: *id,
                    last_seq: state.newest(*id, 0).map_or(0, |message| message.seq),
                    ..state.index_states.get(id).copied().unwrap_or_default()
                })
                .collect()
        })
    }

    async fn index(&self, step: &IndexStep) -> StoreResult<bool> {
        self.write(|state| {
            let id = step.from.conversation_id;
            let floor = state.conversations.get(&id).map_or(0, |record| record.rules.floor_seq);
            let stands = state.index_states.entry(id).or_default();
            if stands.edition != step.from.edition {
                return Ok(false);
            }
            let (low_seq, high_seq, edition) = (step.low_seq, step.high_seq, stands.edition + 1);
            *stands = IndexState { conversation_id: id, low_seq, high_seq, edition, last_seq: 0 };
            for message in &step.messages {
                state.indexed.remove(&(id, message.seq));
                if !message.terms.is_empty() && message.seq >= floor {
                    state.indexed.insert((id, message.seq), message.clone());
                }
            }
            Ok(true)
        })
    }

    async fn forget(
        &self,
        conversation_id: u64,
        sender_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()> {
        self.write(|state| {
            let concerned = from_seq..to_seq;
            state.indexed.retain(|(id, seq), message| {
                *id != conversation_id
                    || !concerned.contains(seq)
                    || (sender_id != 0 && message.sender_id != sender_id)
            });
            if let Some(stands) = state.index_states.get_mut(&conversation_id) {
                stands.edition += 1;
            }
            Ok(())
        })
    }

    async fn find(&self, find: &Find) -> StoreResult<Vec<FoundAt>> {
        self.read(|state| {
            let mut found: Vec<FoundAt> = Vec::new();
            for id in &find.conversation_ids {
                let member = state.members.get(&(*id, find.user_id));
                let Some(member) = member.filter(|member| member.removed_at_ms == 0) else { continue };
                for (_, message) in state.indexed.range((*id, member.first_seq)..=(*id, u64::MAX)) {
                    let at = FoundAt {
                        created_at_ms: message.created_at_ms,
                        conversation_id: *id,
                        seq: message.seq,
                    };
                    let is_wanted = find
                        .lookups
                        .iter()
                        .all(|lookup| message.terms.iter().any(|term| lookup.admits(term)))
                        && (find.sender_id == 0 || message.sender_id == find.sender_id)
                        && find.kind.is_none_or(|kind| message.kind == kind)
                        && message.created_at_ms >= find.from_ms
                        && (find.to_ms == 0 || message.created_at_ms < find.to_ms)
                        && find.behind.is_none_or(|behind| at < behind);
                    if is_wanted {
                        found.push(at);
                    }
                }
            }
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.truncate(find.limit as usize);
            found
        })
    }
}
