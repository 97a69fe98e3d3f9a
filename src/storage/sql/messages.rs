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
use super::driver::Reads;
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
        let (id, after) = (int(conversation_id), int(after_seq));
        self.log(|mut reads| async move {
            let rows = rows::after(&mut reads, id, after, limit).await?;
            Ok((reads, rows))
        })
        .await
    }

    async fn tails(&self, places: &[(u64, u64)], limit: u32) -> StoreResult<Vec<Message>> {
        let places = &places.iter().map(|(id, seq)| (int(*id), int(*seq))).collect::<Vec<_>>();
        self.log(|mut reads| async move {
            let rows = rows::tails(&mut reads, places, limit).await?;
            Ok((reads, rows))
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

    async fn newest(&self, conversation_ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        self.read_newest(conversation_ids, limit).await
    }

    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        let (id, before, first) = (int(conversation_id), int(before_seq), int(first_seq));
        self.log(|mut reads| async move {
            let rows = rows::before(&mut reads, id, before, first, limit).await?;
            Ok((reads, rows))
        })
        .await
    }
}

impl SqlStores {
    /// Messages that `read` finds, those of a conversation together, with their reactions, which few have.
    async fn log<F, Fut>(&self, read: F) -> StoreResult<Vec<Message>>
    where
        F: Fn(Reads) -> Fut,
        Fut: Future<Output = Result<(Reads, Vec<Model>), DbErr>>,
    {
        let (messages, reacted) = self
            .database
            .read_on(|reads| {
                let read = read(reads);
                async move {
                    let (reads, rows) = read.await?;
                    let reacted: Vec<(i64, i64)> = rows
                        .iter()
                        .filter(|row| is_reacted(row))
                        .map(|row| (row.conversation_id, row.seq))
                        .collect();
                    Ok((reads, (all(rows)?, reacted)))
                }
            })
            .await?;
        if reacted.is_empty() {
            return Ok(messages);
        }
        self.database
            .read(|db| {
                let (mut messages, reacted) = (messages.clone(), &reacted);
                async move {
                    for some in messages.chunk_by_mut(|a: &Message, b| a.conversation_id == b.conversation_id)
                    {
                        let id = some.first().map_or(0, |message| int(message.conversation_id));
                        let seqs: Vec<i64> =
                            reacted.iter().filter(|key| key.0 == id).map(|key| key.1).collect();
                        add_reactions(&db, some, &seqs).await?;
                    }
                    Ok(messages)
                }
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
