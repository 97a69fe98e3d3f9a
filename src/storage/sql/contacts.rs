//! [`ContactStore`]: contact lists.

use async_trait::async_trait;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::SqlStores;
use super::convert::{all, int, new_contact};
use super::entity::contact::{Column, Entity};
use crate::protocol::ContactState;
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
        let (state, message) = &merged(rows);
        self.database
            .write(|attempt| async move {
                let replace = OnConflict::columns([Column::UserId, Column::ContactId])
                    .value(Column::State, state.clone())
                    .value(Column::Message, message.clone())
                    .update_column(Column::UpdatedAtMs)
                    .to_owned();
                Entity::insert_many(sides.iter().map(|side| new_contact(side)))
                    .on_conflict(replace)
                    .exec_without_returning(attempt.single())
                    .await?;
                Ok(())
            })
            .await
    }

    async fn accept_contacts(&self, user_id: u64, contact_id: u64, now_ms: u64) -> StoreResult<bool> {
        let both = &both(user_id, contact_id);
        let asked = [ContactState::Requested, ContactState::Invited, ContactState::Friend];
        self.database
            .write(|attempt| async move {
                let done = Entity::update_many()
                    .col_expr(Column::State, Expr::value(ContactState::Friend as i16))
                    .col_expr(Column::Message, Expr::value(""))
                    .col_expr(Column::UpdatedAtMs, Expr::value(int(now_ms)))
                    .filter(both.clone())
                    .filter(Column::State.is_in(asked.map(|state| state as i16)))
                    .exec(attempt.single())
                    .await?;
                Ok(done.rows_affected > 0)
            })
            .await
    }

    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool> {
        let both = &both(user_id, contact_id);
        self.database
            .write(|attempt| async move {
                let gone = Entity::delete_many().filter(both.clone()).exec(attempt.single()).await?;
                Ok(gone.rows_affected > 0)
            })
            .await
    }
}

/// Both sides of a relation.
fn both(user_id: u64, contact_id: u64) -> Condition {
    let side = |a: u64, b: u64| Column::UserId.eq(int(a)).and(Column::ContactId.eq(int(b)));
    Condition::any().add(side(user_id, contact_id)).add(side(contact_id, user_id))
}

/// What state and message of a row become that is there already: see [`ContactStore::put_contacts`]. MySQL looks at the
/// new state for the message, SQLite at the old one; whichever it is, it says whether they are friends.
fn merged(rows: &[ContactRecord; 2]) -> (CaseStatement, CaseStatement) {
    let (mut states, mut messages) = (CaseStatement::new(), CaseStatement::new());
    for row in rows {
        let is_row = || Expr::col(Column::UserId).eq(int(row.user_id));
        let makes_friends = match row.state {
            ContactState::Requested => Some([ContactState::Invited, ContactState::Friend]),
            ContactState::Invited => Some([ContactState::Requested, ContactState::Friend]),
            _ => None,
        };
        if let Some(there) = makes_friends {
            let are_friends =
                || is_row().and(Expr::col(Column::State).is_in(there.map(|state| state as i16)));
            states = states.case(are_friends(), ContactState::Friend as i16);
            messages = messages.case(are_friends(), "");
        }
        states = states.case(is_row(), row.state as i16);
        messages = messages.case(is_row(), row.message.as_str());
    }
    (states, messages)
}
