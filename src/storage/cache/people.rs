//! [`PeopleStore`] behind the cache. Nothing of it is cached here: what permits is read from the database, and
//! services that ask often keep what they learned with a protocol of their own. But blocking and erasing change what
//! is cached of accounts and contact lists.

use async_trait::async_trait;

use super::keys;
use super::stores::{CachedStores, user_keys};
use crate::domain::privacy::Relation;
use crate::protocol::PresenceStatus;
use crate::storage::{
    BlockRecord, Draft, LateErasure, PeopleStore, PreferenceChange, PresenceRecord, PrivacyChange,
    PrivacyRecord, StoreResult,
};

/// Contacts read at a time.
const PAGE: u32 = 500;

#[async_trait]
impl PeopleStore for CachedStores {
    async fn privacies(&self, user_ids: &[u64]) -> StoreResult<Vec<PrivacyRecord>> {
        self.count_plain();
        self.plain.people.privacies(user_ids).await
    }

    async fn change_privacy(&self, user_id: u64, change: PrivacyChange) -> StoreResult<()> {
        self.plain.people.change_privacy(user_id, change).await
    }

    async fn presences(&self, user_ids: &[u64]) -> StoreResult<Vec<PresenceRecord>> {
        self.count_plain();
        self.plain.people.presences(user_ids).await
    }

    async fn set_presence(
        &self,
        user_id: u64,
        status: PresenceStatus,
        text: &str,
        now_ms: u64,
    ) -> StoreResult<()> {
        self.plain.people.set_presence(user_id, status, text, now_ms).await
    }

    async fn note_seen(&self, seen: &[(u64, u64)]) -> StoreResult<()> {
        self.plain.people.note_seen(seen).await
    }

    async fn block(&self, block: BlockRecord) -> StoreResult<bool> {
        let plain = self.plain.people.clone();
        let touched = vec![keys::friends(block.user_id), keys::friends(block.blocked_id)];
        self.write(async move { plain.block(block).await }, move |_| touched).await
    }

    async fn unblock(&self, user_id: u64, blocked_id: u64) -> StoreResult<bool> {
        self.plain.people.unblock(user_id, blocked_id).await
    }

    async fn blocks(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BlockRecord>> {
        self.count_plain();
        self.plain.people.blocks(user_id, after_id, limit).await
    }

    async fn list_sizes(&self, user_id: u64) -> StoreResult<(u64, u64)> {
        self.count_plain();
        self.plain.people.list_sizes(user_id).await
    }

    async fn direct_of(&self, a: u64, b: u64) -> StoreResult<Option<u64>> {
        self.count_plain();
        self.plain.people.direct_of(a, b).await
    }

    async fn meetings(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Option<u64>, bool)>> {
        self.count_plain();
        self.plain.people.meetings(pairs).await
    }

    async fn acquaintances(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Relation, PrivacyRecord)>> {
        self.count_plain();
        self.plain.people.acquaintances(pairs).await
    }

    async fn relations(&self, user_id: u64, others: &[u64]) -> StoreResult<Vec<Relation>> {
        self.count_plain();
        self.plain.people.relations(user_id, others).await
    }

    async fn set_preferences(
        &self,
        user_id: u64,
        conversation_id: u64,
        change: PreferenceChange,
        now_ms: u64,
    ) -> StoreResult<bool> {
        self.plain.people.set_preferences(user_id, conversation_id, change, now_ms).await
    }

    async fn set_draft(&self, user_id: u64, conversation_id: u64, draft: Draft) -> StoreResult<bool> {
        self.plain.people.set_draft(user_id, conversation_id, draft).await
    }

    async fn erase_messages(
        &self,
        conversation_id: u64,
        user_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()> {
        self.plain.people.erase_messages(conversation_id, user_id, from_seq, to_seq).await
    }

    async fn late_erasures(&self, now_ms: u64, limit: u32) -> StoreResult<Vec<LateErasure>> {
        self.count_plain();
        self.plain.people.late_erasures(now_ms, limit).await
    }

    async fn put_off_erasure(&self, erasure: LateErasure, due_at_ms: u64) -> StoreResult<bool> {
        self.plain.people.put_off_erasure(erasure, due_at_ms).await
    }

    async fn finish_erasure(&self, user_id: u64) -> StoreResult<()> {
        self.plain.people.finish_erasure(user_id).await
    }

    async fn erase_user(
        &self,
        user_id: u64,
        username: &str,
        display_name: &str,
        later: Option<LateErasure>,
    ) -> StoreResult<()> {
        let plain = self.plain.clone();
        let mut touched =
            vec![keys::friends(user_id), keys::user_info(username), keys::user_exists(username)];
        if let Some(user) = plain.accounts.user(user_id).await? {
            touched.extend(user_keys(&user));
            touched.push(keys::user_exists(&user.username));
        }
        let mut after_id = 0;
        loop {
            let page = plain.contacts.contacts(user_id, after_id, PAGE).await?;
            touched.extend(page.iter().map(|row| keys::friends(row.contact_id)));
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after_id = last.contact_id,
                _ => break,
            }
        }
        let (username, display_name) = (username.to_owned(), display_name.to_owned());
        let write = async move { plain.people.erase_user(user_id, &username, &display_name, later).await };
        self.write(write, move |_| touched).await
    }
}
