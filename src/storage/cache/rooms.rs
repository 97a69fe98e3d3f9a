//! [`RoomStore`] behind the cache. Nothing of it is cached; what it changes of a conversation and its members is
//! forgotten on all nodes.

use async_trait::async_trait;

use super::stores::CachedStores;
use crate::storage::{
    BanRecord, InviteRecord, JoinRequestRecord, MemberRecord, RoomChange, RoomStore, Saying, StoreResult,
    Unmet,
};

#[async_trait]
impl RoomStore for CachedStores {
    async fn change_room(&self, change: &RoomChange) -> StoreResult<Option<Unmet>> {
        let (plain, change) = (self.plain.rooms.clone(), change.clone());
        self.write_conversation(vec![change.conversation_id], async move { plain.change_room(&change).await })
            .await
    }

    async fn members_page(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<MemberRecord>> {
        self.count_plain();
        self.plain.rooms.members_page(conversation_id, after_id, limit).await
    }

    async fn join_requests(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<JoinRequestRecord>> {
        self.count_plain();
        self.plain.rooms.join_requests(conversation_id, after_id, limit).await
    }

    async fn bans(&self, conversation_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BanRecord>> {
        self.count_plain();
        self.plain.rooms.bans(conversation_id, after_id, limit).await
    }

    async fn invites(&self, conversation_id: u64) -> StoreResult<Vec<InviteRecord>> {
        self.count_plain();
        self.plain.rooms.invites(conversation_id).await
    }

    async fn sayings(&self, conversation_id: u64) -> StoreResult<Vec<Saying>> {
        self.count_plain();
        self.plain.rooms.sayings(conversation_id).await
    }

    async fn owing(&self, before_ms: u64, after_id: u64, limit: u32) -> StoreResult<Vec<u64>> {
        self.count_plain();
        self.plain.rooms.owing(before_ms, after_id, limit).await
    }

    async fn invite(&self, code: &str) -> StoreResult<Option<InviteRecord>> {
        self.count_plain();
        self.plain.rooms.invite(code).await
    }
}
