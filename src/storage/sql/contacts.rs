//! [`ContactStore`]: contact lists.

use async_trait::async_trait;
use sea_orm::sea_query::{ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::SqlStores;
use super::convert::{all, int, new_contact};
use super::entity::contact::{Column, Entity};
use crate::storage::{ContactRecord, ContactStore, StoreResult};

#[async_trait]
impl ContactStore for SqlStores {
    async fn contact(&self, user_id: u64, contact_id: u64) -> StoreResult<Option<ContactRecord>> {
        self.database
            .read(|db| async move {
                let row = Entity::find_by_id((int(user_id), int(contact_id))).one(&db).await?;
                row.map(ContactRecord::try_from).transpose()
            })
            .await
    }

    async fn contacts(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ContactRecord>> {
        self.database
            .read(|db| async move {
                let rows = Entity::find()
                    .filter(Column::UserId.eq(int(user_id)))
                    .filter(Column::ContactId.gt(int(after_id)))
                    .order_by_asc(Column::ContactId)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await?;
                all(rows)
            })
            .await
    }

    async fn put_contacts(&self, rows: &[ContactRecord; 2]) -> StoreResult<()> {
        // In one order from either side, so that two crossing requests don't lock each other out.
        let mut sides: Vec<&ContactRecord> = rows.iter().collect();
        sides.sort_by_key(|side| side.user_id);
        let sides = &sides;
        self.database
            .write(|attempt| async move {
                let replace = OnConflict::columns([Column::UserId, Column::ContactId])
                    .update_columns([Column::State, Column::Message, Column::UpdatedAtMs])
                    .to_owned();
                Entity::insert_many(sides.iter().map(|side| new_contact(side)))
                    .on_conflict(replace)
                    .exec_without_returning(attempt.single())
                    .await?;
                Ok(())
            })
            .await
    }

    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool> {
        let side = |a: u64, b: u64| Column::UserId.eq(int(a)).and(Column::ContactId.eq(int(b)));
        let both = &Condition::any().add(side(user_id, contact_id)).add(side(contact_id, user_id));
        self.database
            .write(|attempt| async move {
                let gone = Entity::delete_many().filter(both.clone()).exec(attempt.single()).await?;
                Ok(gone.rows_affected > 0)
            })
            .await
    }
}
