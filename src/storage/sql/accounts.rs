//! [`AccountStore`]: users, devices, and what line devices were given.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::SqlStores;
use super::convert::{display_key, int, new_device, new_user, uint};
use super::entity::{device, line_given, user};
use super::ladder::{cut, padded};
use crate::domain::limits::username_key;
use crate::storage::{AccountStore, DeviceRecord, ProfileChange, StoreResult, TokenOwner, UserRecord};

#[async_trait]
impl AccountStore for SqlStores {
    async fn create_user(&self, user: UserRecord) -> StoreResult<UserRecord> {
        let row = &new_user(&user);
        let id = self
            .database
            .write(|attempt| async move {
                let inserted = user::Entity::insert(row.clone()).exec(attempt.single()).await?;
                Ok(inserted.last_insert_id)
            })
            .await?;
        Ok(UserRecord { id: uint(id), ..user })
    }

    async fn user(&self, user_id: u64) -> StoreResult<Option<UserRecord>> {
        let row = self
            .database
            .read(|db| async move { user::Entity::find_by_id(int(user_id)).one(&db).await })
            .await?;
        Ok(row.map(UserRecord::from))
    }

    async fn users(&self, user_ids: &[u64]) -> StoreResult<Vec<UserRecord>> {
        let mut found = Vec::new();
        let ids: Vec<i64> = user_ids.iter().map(|id| int(*id)).collect();
        for list in &padded(&ids) {
            let rows = self
                .database
                .read(|db| async move {
                    user::Entity::find().filter(user::Column::Id.is_in(list.iter().copied())).all(&db).await
                })
                .await?;
            found.extend(rows.into_iter().map(UserRecord::from));
        }
        Ok(found)
    }

    async fn user_by_name(&self, username: &str) -> StoreResult<Option<UserRecord>> {
        let key = &username_key(username).into_bytes();
        let row = self
            .database
            .read(|db| async move {
                user::Entity::find().filter(user::Column::UsernameKey.eq(key.clone())).one(&db).await
            })
            .await?;
        Ok(row.map(UserRecord::from))
    }

    async fn search_users(&self, query: &str, after_id: u64, limit: u32) -> StoreResult<Vec<UserRecord>> {
        let prefix = username_key(query).into_bytes();
        // No byte of UTF-8 is 0xFF: all keys that begin with the prefix, and no others, lie below.
        let mut end = prefix.clone();
        end.push(0xff);
        let name_begins = user::Column::UsernameKey.gte(prefix).and(user::Column::UsernameKey.lt(end));
        let display_contains =
            Expr::expr(Func::cust("INSTR").arg(Expr::col(user::Column::DisplayKey)).arg(display_key(query)))
                .gt(0);
        let either = &Condition::any().add(name_begins).add(display_contains);
        let rows = self
            .database
            .read(|db| async move {
                user::Entity::find()
                    .filter(user::Column::Id.gt(int(after_id)))
                    .filter(user::Column::Disabled.eq(false))
                    .filter(either.clone())
                    .order_by_asc(user::Column::Id)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await
            })
            .await?;
        Ok(rows.into_iter().map(UserRecord::from).collect())
    }

    async fn change_profile(&self, user_id: u64, change: ProfileChange) -> StoreResult<Option<UserRecord>> {
        let mut row = user::ActiveModel::default();
        if let Some(name) = &change.display_name {
            row.display_name = Set(name.clone());
            row.display_key = Set(display_key(name));
        }
        if let Some(file_id) = change.avatar_file_id {
            row.avatar_file_id = Set(int(file_id));
        }
        if let Some(bio) = &change.bio {
            row.bio = Set(bio.clone());
        }
        let changes_nothing =
            change.display_name.is_none() && change.avatar_file_id.is_none() && change.bio.is_none();
        if !changes_nothing {
            let row = &row;
            self.database
                .write(|attempt| async move {
                    user::Entity::update_many()
                        .set(row.clone())
                        .filter(user::Column::Id.eq(int(user_id)))
                        .exec(attempt.single())
                        .await
                })
                .await?;
        }
        self.user(user_id).await
    }

    async fn set_password(&self, user_id: u64, old_hash: &str, new_hash: &str) -> StoreResult<bool> {
        let changed = self
            .database
            .write(|attempt| async move {
                user::Entity::update_many()
                    .col_expr(user::Column::PasswordHash, Expr::value(new_hash))
                    .filter(user::Column::Id.eq(int(user_id)))
                    .filter(user::Column::PasswordHash.eq(old_hash))
                    .exec(attempt.single())
                    .await
            })
            .await?;
        if changed.rows_affected > 0 {
            return Ok(true);
        }
        // An earlier attempt may have done it.
        Ok(self.user(user_id).await?.is_some_and(|user| user.password_hash == new_hash))
    }

    async fn set_disabled(&self, user_id: u64, disabled: bool) -> StoreResult<()> {
        self.database
            .write(|attempt| async move {
                user::Entity::update_many()
                    .col_expr(user::Column::Disabled, Expr::value(disabled))
                    .filter(user::Column::Id.eq(int(user_id)))
                    .exec(attempt.single())
                    .await
            })
            .await?;
        Ok(())
    }

    async fn create_device(&self, device: DeviceRecord, token_hash: &str) -> StoreResult<DeviceRecord> {
        let row = &new_device(&device, token_hash);
        let id = self
            .database
            .write(|attempt| async move {
                let inserted = device::Entity::insert(row.clone()).exec(attempt.single()).await?;
                Ok(inserted.last_insert_id)
            })
            .await?;
        Ok(DeviceRecord { id: uint(id), ..device })
    }

    async fn device_by_token(&self, token_hash: &str) -> StoreResult<Option<DeviceRecord>> {
        let row = self
            .database
            .read(|db| async move {
                device::Entity::find()
                    .filter(device::Column::TokenHash.eq(token_hash.as_bytes()))
                    .one(&db)
                    .await
            })
            .await?;
        Ok(row.map(DeviceRecord::from))
    }

    async fn owners_of_tokens(&self, token_hashes: &[String]) -> StoreResult<Vec<TokenOwner>> {
        let hashes: Vec<&[u8]> = token_hashes.iter().map(String::as_bytes).collect();
        let lists = &padded(&hashes);
        let (devices, users) = self
            .database
            .read(|db| async move {
                let (mut devices, mut users) = (Vec::new(), BTreeMap::new());
                for list in lists {
                    let found = device::Entity::find()
                        .filter(device::Column::TokenHash.is_in(list.iter().copied()))
                        .all(&db)
                        .await?;
                    let user_ids: Vec<i64> = found.iter().map(|device| device.user_id).collect();
                    for list in padded(&user_ids) {
                        let flags: Vec<(i64, bool)> = user::Entity::find()
                            .select_only()
                            .columns([user::Column::Id, user::Column::Disabled])
                            .filter(user::Column::Id.is_in(list))
                            .into_tuple()
                            .all(&db)
                            .await?;
                        users.extend(flags);
                    }
                    devices.extend(found);
                }
                Ok((devices, users))
            })
            .await?;
        let owner = |row: device::Model| {
            let disabled = *users.get(&row.user_id)?;
            let token_hash = String::from_utf8_lossy(&row.token_hash).into_owned();
            Some(TokenOwner { token_hash, device: DeviceRecord::from(row), disabled })
        };
        Ok(devices.into_iter().filter_map(owner).collect())
    }

    async fn devices(&self, user_id: u64) -> StoreResult<Vec<DeviceRecord>> {
        let rows = self
            .database
            .read(|db| async move {
                device::Entity::find()
                    .filter(device::Column::UserId.eq(int(user_id)))
                    .order_by_asc(device::Column::Id)
                    .all(&db)
                    .await
            })
            .await?;
        Ok(rows.into_iter().map(DeviceRecord::from).collect())
    }

    async fn delete_device(&self, user_id: u64, device_id: u64) -> StoreResult<bool> {
        self.database
            .write(|attempt| async move {
                let gone = device::Entity::delete_many()
                    .filter(device::Column::Id.eq(int(device_id)))
                    .filter(device::Column::UserId.eq(int(user_id)))
                    .exec(attempt.single())
                    .await?;
                Ok(gone.rows_affected > 0)
            })
            .await
    }

    async fn touch_device(&self, device_id: u64, now_ms: u64) -> StoreResult<()> {
        self.database
            .write(|attempt| async move {
                device::Entity::update_many()
                    .col_expr(device::Column::LastSeenMs, Expr::value(int(now_ms)))
                    .filter(device::Column::Id.eq(int(device_id)))
                    .exec(attempt.single())
                    .await
            })
            .await?;
        Ok(())
    }

    async fn touch_devices(&self, device_ids: &[u64], now_ms: u64) -> StoreResult<()> {
        // In the order of the key, so that two nodes that note the same devices don't wait for each other in a ring.
        let mut device_ids: Vec<i64> = device_ids.iter().copied().map(int).collect();
        device_ids.sort_unstable();
        for list in &padded(&device_ids) {
            self.database
                .write(|attempt| async move {
                    device::Entity::update_many()
                        .col_expr(device::Column::LastSeenMs, Expr::value(int(now_ms)))
                        .filter(device::Column::Id.is_in(list.iter().copied()))
                        .exec(attempt.single())
                        .await
                })
                .await?;
        }
        Ok(())
    }

    async fn line_given(&self, user_id: u64) -> StoreResult<Vec<(u64, String)>> {
        let rows = self
            .database
            .read(|db| async move {
                line_given::Entity::find().filter(line_given::Column::UserId.eq(int(user_id))).all(&db).await
            })
            .await?;
        Ok(rows.into_iter().map(|row| (uint(row.conversation_id), row.ranges)).collect())
    }

    async fn set_line_given(&self, user_id: u64, given: &[(u64, String)]) -> StoreResult<()> {
        let runs = &cut(given, |(_, ranges)| 64 + ranges.len());
        self.database
            .write(|attempt| async move {
                if runs.is_empty() {
                    return Ok(());
                }
                let replace =
                    OnConflict::columns([line_given::Column::UserId, line_given::Column::ConversationId])
                        .update_column(line_given::Column::Ranges)
                        .to_owned();
                let transaction = attempt.begin().await?;
                for run in runs {
                    let rows = run.iter().map(|(conversation_id, ranges)| line_given::ActiveModel {
                        user_id: Set(int(user_id)),
                        conversation_id: Set(int(*conversation_id)),
                        ranges: Set(ranges.clone()),
                    });
                    line_given::Entity::insert_many(rows)
                        .on_conflict(replace.clone())
                        .exec_without_returning(&transaction)
                        .await?;
                }
                attempt.commit(transaction).await
            })
            .await
    }
}
