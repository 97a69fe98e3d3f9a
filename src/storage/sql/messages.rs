//! [`MessageStore`]: the logs.

use async_trait::async_trait;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseConnection, DbBackend, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::SqlStores;
use super::append::bytes;
use super::changes::add_reactions;
use super::convert::{all, client_id_text, int, is_reacted, uint};
use super::entity::message::{Column, Entity, Model};
use super::ladder::{cut, padded, rung_below};
use super::rows;
use crate::protocol::v1::Message;
use crate::storage::{ClientKey, MessageStore, StoreResult};

#[async_trait]
impl MessageStore for SqlStores {
    async fn append(&self, messages: &[Message]) -> StoreResult<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let since = self.wake(messages).await?;
        let runs = &cut(messages, bytes);
        let outcome = self.database.write(|attempt| async move { attempt.append(runs).await }).await;
        self.stay_awake(since, messages).await;
        outcome
    }

    fn append_size(&self, waiting: usize) -> usize {
        rung_below(waiting)
    }

    fn appends_at_once(&self) -> usize {
        match self.database.backend() {
            DbBackend::Sqlite => 1,
            _ => usize::MAX,
        }
    }

    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64> {
        let newest: Option<i64> = self
            .database
            .read(|db| async move {
                Entity::find()
                    .select_only()
                    .column(Column::Seq)
                    .filter(Column::ConversationId.eq(int(conversation_id)))
                    .order_by_desc(Column::Seq)
                    .limit(1)
                    .into_tuple()
                    .one(&db)
                    .await
            })
            .await?;
        Ok(newest.map_or(0, uint))
    }

    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>> {
        // Messages without a client_id are not found by one.
        let keys: Vec<&ClientKey> = keys.iter().filter(|key| !key.client_id.is_empty()).collect();
        let mut found = Vec::new();
        for list in padded(&keys) {
            let any = &list.into_iter().fold(Condition::any(), |any, key| {
                any.add(
                    Column::ConversationId
                        .eq(int(key.conversation_id))
                        .and(Column::SenderId.eq(int(key.sender_id)))
                        .and(Column::ClientId.eq(key.client_id.as_bytes())),
                )
            });
            let rows: Vec<(i64, i64, Option<Vec<u8>>, i64, i64)> = self
                .database
                .read(|db| async move {
                    Entity::find()
                        .select_only()
                        .columns([
                            Column::ConversationId,
                            Column::SenderId,
                            Column::ClientId,
                            Column::Seq,
                            Column::CreatedAtMs,
                        ])
                        .filter(any.clone())
                        .into_tuple()
                        .all(&db)
                        .await
                })
                .await?;
            for (conversation_id, sender_id, client_id, seq, created_at_ms) in rows {
                let key = ClientKey {
                    conversation_id: uint(conversation_id),
                    sender_id: uint(sender_id),
                    client_id: client_id_text(client_id).map_err(invalid)?,
                };
                found.push((key, uint(seq), uint(created_at_ms)));
            }
        }
        Ok(found)
    }

    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>> {
        self.database
            .read(|db| async move {
                let rows = rows::after(&db, int(conversation_id), int(after_seq), limit).await?;
                whole(&db, rows).await
            })
            .await
    }

    async fn at(&self, keys: &[(u64, u64)]) -> StoreResult<Vec<Message>> {
        let mut found = Vec::new();
        for list in padded(keys) {
            let any = &list.into_iter().fold(Condition::any(), |any, (conversation_id, seq)| {
                any.add(Column::ConversationId.eq(int(conversation_id)).and(Column::Seq.eq(int(seq))))
            });
            let messages: Vec<Message> = self
                .database
                .read(|db| async move {
                    let mut messages = Vec::new();
                    for row in Entity::find().filter(any.clone()).all(&db).await? {
                        // One by one, as their reactions are looked up by conversation.
                        messages.extend(whole(&db, vec![row]).await?);
                    }
                    Ok(messages)
                })
                .await?;
            found.extend(messages);
        }
        Ok(found)
    }

    async fn tails(&self, conversation_ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        self.read_tails(conversation_ids, limit).await
    }

    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        self.database
            .read(|db| async move {
                let (before, first) = (int(before_seq), int(first_seq));
                let rows = rows::before(&db, int(conversation_id), before, first, limit).await?;
                whole(&db, rows).await
            })
            .await
    }
}

/// Messages of one conversation with their reactions, which few have.
pub(super) async fn whole(db: &DatabaseConnection, rows: Vec<Model>) -> Result<Vec<Message>, DbErr> {
    let reacted: Vec<i64> = rows.iter().filter(|row| is_reacted(row)).map(|row| row.seq).collect();
    let mut messages = all(rows)?;
    if !reacted.is_empty() {
        add_reactions(db, &mut messages, &reacted).await?;
    }
    Ok(messages)
}

fn invalid(error: DbErr) -> crate::storage::StoreError {
    crate::storage::StoreError::Invalid(error.to_string())
}
