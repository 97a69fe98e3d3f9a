//! [`RoomStore`]: what changes in groups.
//!
//! Every change takes the conversation's row first: it is the lock that orders changes of one group, whichever nodes they
//! come from. What a change's conditions read after that stays so until it is committed.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition as Filter, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::SqlStores;
use super::convert::{all, int, new_member, uint};
use super::entity::{ban, conversation, invite, join_request, member};
use super::ladder::{cut, padded};
use super::listing::unsettle;
use super::sayings;
use crate::domain::limits::INVITES_MAX;
use crate::protocol::MemberRole;
use crate::storage::{
    BanRecord, Condition, InviteRecord, JoinRequestRecord, Listed, MemberRecord, RoomChange, RoomStore,
    RoomWrite, Saying, SettingsChange, StoreResult, Unmet,
};

#[async_trait]
impl RoomStore for SqlStores {
    async fn change_room(&self, change: &RoomChange) -> StoreResult<Option<Unmet>> {
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let unmet = carry_out(&transaction, change).await?;
                match unmet {
                    None => attempt.commit(transaction).await?,
                    Some(_) => transaction.rollback().await?,
                }
                Ok(unmet)
            })
            .await
    }

    async fn members_page(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<MemberRecord>> {
        self.database
            .read(|db| async move {
                let rows = member::Entity::find()
                    .filter(member::Column::ConversationId.eq(int(conversation_id)))
                    .filter(member::Column::UserId.gt(int(after_id)))
                    .filter(member::Column::RemovedAtMs.eq(0))
                    .order_by_asc(member::Column::UserId)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await?;
                all(rows)
            })
            .await
    }

    async fn join_requests(
        &self,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<JoinRequestRecord>> {
        let rows = self
            .database
            .read(|db| async move {
                join_request::Entity::find()
                    .filter(join_request::Column::ConversationId.eq(int(conversation_id)))
                    .filter(join_request::Column::UserId.gt(int(after_id)))
                    .order_by_asc(join_request::Column::UserId)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await
            })
            .await?;
        let record = |row: join_request::Model| JoinRequestRecord {
            conversation_id,
            user_id: uint(row.user_id),
            message: row.message,
            created_at_ms: uint(row.created_at_ms),
        };
        Ok(rows.into_iter().map(record).collect())
    }

    async fn bans(&self, conversation_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BanRecord>> {
        let rows = self
            .database
            .read(|db| async move {
                ban::Entity::find()
                    .filter(ban::Column::ConversationId.eq(int(conversation_id)))
                    .filter(ban::Column::UserId.gt(int(after_id)))
                    .order_by_asc(ban::Column::UserId)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await
            })
            .await?;
        let record = |row: ban::Model| BanRecord {
            conversation_id,
            user_id: uint(row.user_id),
            banned_by: uint(row.banned_by),
            reason: row.reason,
            created_at_ms: uint(row.created_at_ms),
        };
        Ok(rows.into_iter().map(record).collect())
    }

    async fn invites(&self, conversation_id: u64) -> StoreResult<Vec<InviteRecord>> {
        let rows = self
            .database
            .read(|db| async move {
                invite::Entity::find()
                    .filter(invite::Column::ConversationId.eq(int(conversation_id)))
                    .order_by_asc(invite::Column::CreatedAtMs)
                    .order_by_asc(invite::Column::Code)
                    .limit(INVITES_MAX)
                    .all(&db)
                    .await
            })
            .await?;
        Ok(rows.into_iter().map(InviteRecord::from).collect())
    }

    async fn sayings(&self, conversation_id: u64) -> StoreResult<Vec<Saying>> {
        self.kept_sayings(conversation_id).await
    }

    async fn owing(&self, before_ms: u64, after_id: u64, limit: u32) -> StoreResult<Vec<u64>> {
        self.with_sayings(before_ms, after_id, limit).await
    }

    async fn invite(&self, code: &str) -> StoreResult<Option<InviteRecord>> {
        let row = self
            .database
            .read(|db| async move { invite::Entity::find_by_id(code.as_bytes().to_vec()).one(&db).await })
            .await?;
        Ok(row.map(InviteRecord::from))
    }
}

impl From<invite::Model> for InviteRecord {
    fn from(row: invite::Model) -> Self {
        Self {
            code: String::from_utf8_lossy(&row.code).into_owned(),
            conversation_id: uint(row.conversation_id),
            created_by: uint(row.created_by),
            created_at_ms: uint(row.created_at_ms),
            expires_at_ms: uint(row.expires_at_ms),
            uses_max: uint(row.uses_max),
            uses: uint(row.uses),
        }
    }
}

async fn carry_out(on: &DatabaseTransaction, change: &RoomChange) -> Result<Option<Unmet>, DbErr> {
    let shows = change.writes.iter().any(RoomWrite::shows);
    if !lock(on, change.conversation_id, if shows { change.now_ms } else { 0 }).await? {
        return Ok(Some(Unmet::Gone));
    }
    unsettle(on, int(change.conversation_id)).await?;
    for condition in &change.conditions {
        let unmet = check(on, change, condition).await?;
        if unmet.is_some() {
            return Ok(unmet);
        }
    }
    for write in &change.writes {
        let unmet = apply(on, change, write).await?;
        if unmet.is_some() {
            return Ok(unmet);
        }
    }
    Ok(None)
}

/// Locks a conversation until the transaction ends, and moves its `updated_at_ms` forward; `false`: it is gone.
async fn lock(on: &DatabaseTransaction, conversation_id: u64, now_ms: u64) -> Result<bool, DbErr> {
    let stored = Expr::col(conversation::Column::UpdatedAtMs);
    let forward = Expr::case(stored.clone().lt(int(now_ms)), int(now_ms)).finally(stored);
    let locked = conversation::Entity::update_many()
        .col_expr(conversation::Column::UpdatedAtMs, forward.into())
        .filter(conversation::Column::Id.eq(int(conversation_id)))
        .filter(conversation::Column::DissolvedAtMs.eq(0))
        .exec(on)
        .await?;
    Ok(locked.rows_affected > 0)
}

async fn check(
    on: &DatabaseTransaction,
    change: &RoomChange,
    condition: &Condition,
) -> Result<Option<Unmet>, DbErr> {
    let id = change.conversation_id;
    Ok(match condition {
        Condition::Role(user_id, role) => {
            let row = member::Entity::find().filter(is_member(id, *user_id)).one(on).await?;
            let holds = row.is_some_and(|row| row.role == *role as i16);
            (!holds).then_some(Unmet::Membership(*user_id))
        }
        Condition::NoMember(user_id) => {
            let row = member::Entity::find().filter(is_member(id, *user_id)).one(on).await?;
            row.map(|_| Unmet::Membership(*user_id))
        }
        Condition::Alone(user_id) => {
            let other = member::Entity::find()
                .filter(member::Column::ConversationId.eq(int(id)))
                .filter(member::Column::RemovedAtMs.eq(0))
                .filter(member::Column::UserId.ne(int(*user_id)))
                .one(on)
                .await?;
            other.map(|row| Unmet::Membership(uint(row.user_id)))
        }
        Condition::NotBanned(user_ids) => {
            let ids: Vec<i64> = user_ids.iter().map(|id| int(*id)).collect();
            for list in padded(&ids) {
                let banned = ban::Entity::find()
                    .filter(ban::Column::ConversationId.eq(int(id)))
                    .filter(ban::Column::UserId.is_in(list))
                    .one(on)
                    .await?;
                if let Some(row) = banned {
                    return Ok(Some(Unmet::Banned(uint(row.user_id))));
                }
            }
            None
        }
        Condition::Banned(user_id) => {
            let row = ban::Entity::find_by_id((int(id), int(*user_id))).one(on).await?;
            row.is_none().then_some(Unmet::NotBanned(*user_id))
        }
        Condition::Requested(user_id) => {
            let row = join_request::Entity::find_by_id((int(id), int(*user_id))).one(on).await?;
            row.is_none().then_some(Unmet::NotRequested(*user_id))
        }
        Condition::Below(listed, max) => {
            let rows = match listed {
                Listed::Requests => {
                    let own = join_request::Column::ConversationId.eq(int(id));
                    join_request::Entity::find().filter(own).count(on).await?
                }
                Listed::Bans => {
                    ban::Entity::find().filter(ban::Column::ConversationId.eq(int(id))).count(on).await?
                }
                Listed::Invites => {
                    let own = invite::Column::ConversationId.eq(int(id));
                    invite::Entity::find().filter(own).filter(is_good(change.now_ms)).count(on).await?
                }
                Listed::Members => settings(on, id).await?.map_or(0, |row| uint(row.member_count)),
            };
            (rows >= *max).then_some(Unmet::Full(*listed))
        }
        Condition::JoinPolicy(policy) => {
            let holds = settings(on, id).await?.is_some_and(|row| row.join_policy == *policy as i16);
            (!holds).then_some(Unmet::Settings)
        }
        Condition::HistoryOpen(is_open) => {
            let holds = settings(on, id).await?.is_some_and(|row| row.history_open == *is_open);
            (!holds).then_some(Unmet::Settings)
        }
    })
}

/// The row that this transaction has locked.
async fn settings(on: &DatabaseTransaction, id: u64) -> Result<Option<conversation::Model>, DbErr> {
    conversation::Entity::find_by_id(int(id)).one(on).await
}

/// So many members more, or less. The row is locked, so that counts follow each other.
async fn count(on: &DatabaseTransaction, id: u64, more: i64) -> Result<(), DbErr> {
    if more == 0 {
        return Ok(());
    }
    conversation::Entity::update_many()
        .col_expr(conversation::Column::MemberCount, Expr::col(conversation::Column::MemberCount).add(more))
        .filter(conversation::Column::Id.eq(int(id)))
        .exec(on)
        .await?;
    Ok(())
}

async fn apply(
    on: &DatabaseTransaction,
    change: &RoomChange,
    write: &RoomWrite,
) -> Result<Option<Unmet>, DbErr> {
    let (id, now_ms) = (change.conversation_id, int(change.now_ms));
    match write {
        RoomWrite::Settings(settings) => change_settings(on, id, settings).await?,
        RoomWrite::Role(user_id, role) => {
            if *role == MemberRole::Owner {
                conversation::Entity::update_many()
                    .col_expr(conversation::Column::OwnerId, Expr::value(int(*user_id)))
                    .filter(conversation::Column::Id.eq(int(id)))
                    .exec(on)
                    .await?;
            }
            member::Entity::update_many()
                .col_expr(member::Column::Role, Expr::value(*role as i16))
                .col_expr(member::Column::UpdatedAtMs, Expr::value(now_ms))
                .filter(is_member(id, *user_id))
                .exec(on)
                .await?;
        }
        RoomWrite::Silence(user_id, until_ms) => {
            member::Entity::update_many()
                .col_expr(member::Column::SilencedUntilMs, Expr::value(int(*until_ms)))
                .col_expr(member::Column::UpdatedAtMs, Expr::value(now_ms))
                .filter(is_member(id, *user_id))
                .exec(on)
                .await?;
        }
        RoomWrite::Add(records) => {
            let records: BTreeMap<u64, &MemberRecord> =
                records.iter().map(|record| (record.user_id, record)).collect();
            let added = add_to(on, id, &records).await?;
            count(on, id, added).await?;
        }
        RoomWrite::Remove(user_id) => {
            let removed = member::Entity::update_many()
                .col_expr(member::Column::RemovedAtMs, Expr::value(now_ms))
                .col_expr(member::Column::UpdatedAtMs, Expr::value(now_ms))
                .filter(is_member(id, *user_id))
                .exec(on)
                .await?;
            count(on, id, -int(removed.rows_affected)).await?;
        }
        RoomWrite::Ask(request) => {
            let row = join_request::ActiveModel {
                conversation_id: Set(int(id)),
                user_id: Set(int(request.user_id)),
                message: Set(request.message.clone()),
                created_at_ms: Set(int(request.created_at_ms)),
            };
            let keys = [join_request::Column::ConversationId, join_request::Column::UserId];
            let replace = OnConflict::columns(keys).update_column(join_request::Column::Message).to_owned();
            join_request::Entity::insert(row).on_conflict(replace).exec_without_returning(on).await?;
        }
        RoomWrite::Unask(user_id) => {
            join_request::Entity::delete_by_id((int(id), int(*user_id))).exec(on).await?;
        }
        RoomWrite::Ban(record) => {
            let row = ban::ActiveModel {
                conversation_id: Set(int(id)),
                user_id: Set(int(record.user_id)),
                banned_by: Set(int(record.banned_by)),
                reason: Set(record.reason.clone()),
                created_at_ms: Set(int(record.created_at_ms)),
            };
            let keys = [ban::Column::ConversationId, ban::Column::UserId];
            let keep = OnConflict::columns(keys).update_column(ban::Column::UserId).to_owned();
            ban::Entity::insert(row).on_conflict(keep).exec_without_returning(on).await?;
            join_request::Entity::delete_by_id((int(id), int(record.user_id))).exec(on).await?;
        }
        RoomWrite::Unban(user_id) => {
            ban::Entity::delete_by_id((int(id), int(*user_id))).exec(on).await?;
        }
        RoomWrite::Invite(record) => {
            invite::Entity::delete_many()
                .filter(invite::Column::ConversationId.eq(int(id)))
                .filter(is_good(change.now_ms).not())
                .exec(on)
                .await?;
            let row = invite::ActiveModel {
                code: Set(record.code.clone().into_bytes()),
                conversation_id: Set(int(id)),
                created_by: Set(int(record.created_by)),
                created_at_ms: Set(int(record.created_at_ms)),
                expires_at_ms: Set(int(record.expires_at_ms)),
                uses_max: Set(int(record.uses_max)),
                uses: Set(int(record.uses)),
            };
            invite::Entity::insert(row).exec_without_returning(on).await?;
        }
        RoomWrite::UseInvite(code) => {
            let used = invite::Entity::update_many()
                .col_expr(invite::Column::Uses, Expr::col(invite::Column::Uses).add(1))
                .filter(is_code(id, code))
                .filter(is_good(change.now_ms))
                .exec(on)
                .await?;
            return Ok((used.rows_affected == 0).then_some(Unmet::Invite));
        }
        RoomWrite::DropInvite(code) => {
            let gone = invite::Entity::delete_many().filter(is_code(id, code)).exec(on).await?;
            return Ok((gone.rows_affected == 0).then_some(Unmet::Invite));
        }
        RoomWrite::Touch(user_ids) => {
            let ids: Vec<i64> = user_ids.iter().map(|id| int(*id)).collect();
            for list in padded(&ids) {
                member::Entity::update_many()
                    .col_expr(member::Column::UpdatedAtMs, Expr::value(now_ms))
                    .filter(member::Column::ConversationId.eq(int(id)))
                    .filter(member::Column::UserId.is_in(list))
                    .filter(member::Column::RemovedAtMs.eq(0))
                    .exec(on)
                    .await?;
            }
        }
        RoomWrite::Say(saying) => sayings::keep(on, id, saying).await?,
        RoomWrite::Dissolve => dissolve(on, id, now_ms).await?,
    }
    Ok(None)
}

async fn change_settings(on: &DatabaseTransaction, id: u64, change: &SettingsChange) -> Result<(), DbErr> {
    let set = |value: Option<u64>| value.map(int).map_or(sea_orm::ActiveValue::NotSet, Set);
    let flag = |value: Option<bool>| value.map_or(sea_orm::ActiveValue::NotSet, Set);
    let text = |value: &Option<String>| value.clone().map_or(sea_orm::ActiveValue::NotSet, Set);
    let row = conversation::ActiveModel {
        name: text(&change.name),
        description: text(&change.description),
        avatar_file_id: set(change.avatar_file_id),
        join_policy: change.join_policy.map_or(sea_orm::ActiveValue::NotSet, |policy| Set(policy as i16)),
        announcement: text(&change.announcement),
        read_only: flag(change.read_only),
        slow_mode_seconds: set(change.slow_mode_seconds),
        silence_all: flag(change.silence_all),
        history_open: flag(change.history_open),
        retention_seconds: set(change.retention_seconds),
        ..Default::default()
    };
    if *change != SettingsChange::default() {
        let own = conversation::Column::Id.eq(int(id));
        conversation::Entity::update_many().set(row).filter(own).exec(on).await?;
    }
    if change.history_open == Some(true) {
        member::Entity::update_many()
            .col_expr(member::Column::FirstSeq, Expr::value(1i64))
            .filter(member::Column::ConversationId.eq(int(id)))
            .filter(member::Column::FirstSeq.gt(1))
            .filter(member::Column::RemovedAtMs.eq(0))
            .exec(on)
            .await?;
    }
    Ok(())
}

async fn dissolve(on: &DatabaseTransaction, id: u64, now_ms: i64) -> Result<(), DbErr> {
    conversation::Entity::update_many()
        .col_expr(conversation::Column::DissolvedAtMs, Expr::value(now_ms))
        .col_expr(conversation::Column::MemberCount, Expr::value(0i64))
        .filter(conversation::Column::Id.eq(int(id)))
        .exec(on)
        .await?;
    member::Entity::update_many()
        .col_expr(member::Column::RemovedAtMs, Expr::value(now_ms))
        .col_expr(member::Column::UpdatedAtMs, Expr::value(now_ms))
        .filter(member::Column::ConversationId.eq(int(id)))
        .filter(member::Column::RemovedAtMs.eq(0))
        .exec(on)
        .await?;
    let requests = join_request::Column::ConversationId.eq(int(id));
    join_request::Entity::delete_many().filter(requests).exec(on).await?;
    invite::Entity::delete_many().filter(invite::Column::ConversationId.eq(int(id))).exec(on).await?;
    Ok(())
}

/// The row of one who has not left.
fn is_member(conversation_id: u64, user_id: u64) -> Filter {
    Filter::all()
        .add(member::Column::ConversationId.eq(int(conversation_id)))
        .add(member::Column::UserId.eq(int(user_id)))
        .add(member::Column::RemovedAtMs.eq(0))
}

/// The row of a code, if it is one of this room.
fn is_code(conversation_id: u64, code: &str) -> Filter {
    Filter::all()
        .add(invite::Column::Code.eq(code.as_bytes().to_vec()))
        .add(invite::Column::ConversationId.eq(int(conversation_id)))
}

/// As [`InviteRecord::is_good`].
fn is_good(now_ms: u64) -> Filter {
    let unused = invite::Column::UsesMax
        .eq(0)
        .or(Expr::col(invite::Column::Uses).lt(Expr::col(invite::Column::UsesMax)));
    let young = invite::Column::ExpiresAtMs.eq(0).or(invite::Column::ExpiresAtMs.gt(int(now_ms)));
    Filter::all().add(unused).add(young)
}

/// Inserts those who have no row, and replaces the rows of those who had left. Their cursors stay, because cursors
/// never move back, and so do their own preferences, and what they may not. Whoever is in has nothing to ask for. How many
/// were not members before.
async fn add_to(
    on: &DatabaseTransaction,
    conversation_id: u64,
    records: &BTreeMap<u64, &MemberRecord>,
) -> Result<i64, DbErr> {
    let user_ids: Vec<i64> = records.keys().map(|id| int(*id)).collect();
    let mut there: HashMap<u64, member::Model> = HashMap::new();
    for list in padded(&user_ids) {
        let rows = member::Entity::find()
            .filter(member::Column::ConversationId.eq(int(conversation_id)))
            .filter(member::Column::UserId.is_in(list.clone()))
            .all(on)
            .await?;
        there.extend(rows.into_iter().map(|row| (uint(row.user_id), row)));
        join_request::Entity::delete_many()
            .filter(join_request::Column::ConversationId.eq(int(conversation_id)))
            .filter(join_request::Column::UserId.is_in(list))
            .exec(on)
            .await?;
    }
    let returning: Vec<i64> =
        there.values().filter(|row| row.removed_at_ms != 0).map(|row| row.user_id).collect();
    for list in padded(&returning) {
        member::Entity::delete_many()
            .filter(member::Column::ConversationId.eq(int(conversation_id)))
            .filter(member::Column::UserId.is_in(list))
            .exec(on)
            .await?;
    }
    let mut rows = Vec::new();
    for (user_id, record) in records {
        let mut row = new_member(record);
        row.removed_at_ms = Set(0);
        match there.get(user_id) {
            Some(old) if old.removed_at_ms == 0 => continue,
            Some(old) => {
                row.delivered_seq = Set(Ord::max(old.delivered_seq, int(record.delivered_seq)));
                row.read_seq = Set(Ord::max(old.read_seq, int(record.read_seq)));
                row.muted_until_ms = Set(old.muted_until_ms);
                row.pinned = Set(old.pinned);
                row.silenced_until_ms = Set(old.silenced_until_ms);
            }
            None => {}
        }
        rows.push(row);
    }
    for run in cut(&rows, |_| 0) {
        member::Entity::insert_many(run.iter().cloned()).exec_without_returning(on).await?;
    }
    Ok(int(rows.len() as u64))
}
