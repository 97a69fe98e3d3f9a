//! What groups have to say: rows that come with a change, in its transaction, and go with the message that says it, in
//! that one's (`super::changes`).

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::SqlStores;
use super::convert::{int, uint};
use super::entity::saying;
use crate::storage::{SAYINGS_MAX, Saying, StoreResult};

/// Keeps what a group has to say.
pub async fn keep(on: &impl ConnectionTrait, conversation_id: u64, saying: &Saying) -> Result<(), DbErr> {
    let about: Vec<String> = saying.about.iter().map(u64::to_string).collect();
    let row = saying::ActiveModel {
        conversation_id: Set(int(conversation_id)),
        client_id: Set(saying.client_id.clone().into_bytes()),
        said_by: Set(int(saying.by)),
        text: Set(saying.text.clone()),
        about: Set(about.join(",")),
        target_seq: Set(int(saying.target_seq)),
        created_at_ms: Set(int(saying.created_at_ms)),
    };
    let keys = [saying::Column::ConversationId, saying::Column::ClientId];
    let keep = OnConflict::columns(keys).update_column(saying::Column::ClientId).to_owned();
    saying::Entity::insert(row).on_conflict(keep).exec_without_returning(on).await?;
    Ok(())
}

impl SqlStores {
    /// See [`crate::storage::RoomStore::sayings`].
    pub(super) async fn kept_sayings(&self, conversation_id: u64) -> StoreResult<Vec<Saying>> {
        let rows = self
            .database
            .read(|db| async move {
                saying::Entity::find()
                    .filter(saying::Column::ConversationId.eq(int(conversation_id)))
                    .order_by_asc(saying::Column::CreatedAtMs)
                    .order_by_asc(saying::Column::ClientId)
                    .limit(SAYINGS_MAX)
                    .all(&db)
                    .await
            })
            .await?;
        let saying = |row: saying::Model| Saying {
            client_id: String::from_utf8_lossy(&row.client_id).into_owned(),
            by: uint(row.said_by),
            text: row.text,
            about: row.about.split(',').filter_map(|id| id.parse().ok()).collect(),
            target_seq: uint(row.target_seq),
            created_at_ms: uint(row.created_at_ms),
        };
        Ok(rows.into_iter().map(saying).collect())
    }

    /// See [`crate::storage::RoomStore::owing`].
    pub(super) async fn with_sayings(
        &self,
        before_ms: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<u64>> {
        let rows: Vec<i64> = self
            .database
            .read(|db| async move {
                saying::Entity::find()
                    .select_only()
                    .column(saying::Column::ConversationId)
                    .distinct()
                    .filter(saying::Column::ConversationId.gt(int(after_id)))
                    .filter(saying::Column::CreatedAtMs.lt(int(before_ms)))
                    .order_by_asc(saying::Column::ConversationId)
                    .limit(u64::from(limit))
                    .into_tuple()
                    .all(&db)
                    .await
            })
            .await?;
        Ok(rows.into_iter().map(uint).collect())
    }
}
