//! [`ConversationStore`]: conversations and memberships. The list of a user's conversations is in [`super::list`].
//!
//! Transactions that change a membership change the conversation's row first: it is the lock that orders them.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use sea_orm::sea_query::{Expr, Values};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait as _, QueryFilter as _, QueryOrder as _, Statement, Value,
};

use super::SqlStores;
use super::convert::{all, int, new_member, uint};
use super::entity::{conversation, member};
use super::ladder::{cut, padded};
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};
use crate::storage::{
    ConversationRecord, ConversationRow, ConversationStore, CursorAdvance, MemberRecord, NewGroup,
    StoreError, StoreResult,
};

#[async_trait]
impl ConversationStore for SqlStores {
    async fn create_group(&self, group: NewGroup) -> StoreResult<ConversationRecord> {
        let record = ConversationRecord {
            id: 0,
            kind: ConversationKind::Group,
            name: group.name.clone(),
            description: group.description.clone(),
            avatar_file_id: 0,
            owner_id: group.owner_id,
            join_policy: group.join_policy,
            created_at_ms: group.now_ms,
            updated_at_ms: group.now_ms,
        };
        let mut user_ids = group.member_ids.clone();
        user_ids.retain(|id| *id != group.owner_id);
        user_ids.sort_unstable();
        user_ids.dedup();
        let mut members = vec![first_member(group.owner_id, MemberRole::Owner, group.now_ms)];
        members.extend(user_ids.iter().map(|id| first_member(*id, MemberRole::Member, group.now_ms)));
        self.create(record, None, members).await
    }

    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)> {
        if a == b {
            return Err(StoreError::Invalid(format!("user {a} has no direct conversation with itself")));
        }
        let key = direct_key(a, b);
        if let Some(there) = self.direct_by_key(&key).await? {
            return Ok((there, false));
        }
        let record = ConversationRecord {
            id: 0,
            kind: ConversationKind::Direct,
            name: String::new(),
            description: String::new(),
            avatar_file_id: 0,
            owner_id: 0,
            join_policy: JoinPolicy::Invite,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        };
        let members = [a.min(b), a.max(b)].map(|id| first_member(id, MemberRole::Member, now_ms)).to_vec();
        match self.create(record, Some(key.clone()), members).await {
            Ok(created) => Ok((created, true)),
            // Another call was first, or our own before it lost its answer: the key says which conversation it is.
            Err(StoreError::Exists) => {
                let there = self.direct_by_key(&key).await?;
                Ok((
                    there.ok_or_else(|| StoreError::Unavailable("a conversation came and went".into()))?,
                    false,
                ))
            }
            Err(error) => Err(error),
        }
    }

    async fn conversation(&self, conversation_id: u64) -> StoreResult<Option<ConversationRecord>> {
        self.database
            .read(|db| async move {
                let row = conversation::Entity::find_by_id(int(conversation_id)).one(&db).await?;
                row.map(ConversationRecord::try_from).transpose()
            })
            .await
    }

    async fn members(&self, conversation_id: u64) -> StoreResult<Vec<MemberRecord>> {
        self.database
            .read(|db| async move {
                let rows = member::Entity::find()
                    .filter(member::Column::ConversationId.eq(int(conversation_id)))
                    .filter(member::Column::RemovedAtMs.eq(0))
                    .order_by_asc(member::Column::UserId)
                    .all(&db)
                    .await?;
                all(rows)
            })
            .await
    }

    async fn members_among(&self, conversation_id: u64, user_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        let mut ids: Vec<i64> = user_ids.iter().map(|id| int(*id)).collect();
        ids.sort_unstable();
        ids.dedup();
        let lists = padded(&ids);
        self.database
            .read(|db| {
                let lists = lists.clone();
                async move {
                    let mut rows = Vec::new();
                    for list in lists {
                        let some = member::Entity::find()
                            .filter(member::Column::ConversationId.eq(int(conversation_id)))
                            .filter(member::Column::UserId.is_in(list))
                            .filter(member::Column::RemovedAtMs.eq(0))
                            .all(&db)
                            .await?;
                        rows.extend(some);
                    }
                    all(rows)
                }
            })
            .await
    }

    async fn member(&self, conversation_id: u64, user_id: u64) -> StoreResult<Option<MemberRecord>> {
        self.database
            .read(|db| async move {
                let row = member::Entity::find_by_id((int(conversation_id), int(user_id))).one(&db).await?;
                row.map(MemberRecord::try_from).transpose()
            })
            .await
    }

    async fn add_members(&self, members: &[MemberRecord]) -> StoreResult<()> {
        let mut by_conversation: BTreeMap<u64, BTreeMap<u64, &MemberRecord>> = BTreeMap::new();
        for record in members {
            by_conversation.entry(record.conversation_id).or_default().insert(record.user_id, record);
        }
        let by_conversation = &by_conversation;
        self.database
            .write(|attempt| async move {
                if by_conversation.is_empty() {
                    return Ok(());
                }
                let transaction = attempt.begin().await?;
                for (conversation_id, records) in by_conversation {
                    let now_ms = records.values().map(|r| r.updated_at_ms.max(r.joined_at_ms)).max();
                    move_updated_at(&transaction, *conversation_id, now_ms.unwrap_or(0), None).await?;
                    add_to(&transaction, *conversation_id, records).await?;
                }
                attempt.commit(transaction).await
            })
            .await
    }

    async fn remove_member(&self, conversation_id: u64, user_id: u64, now_ms: u64) -> StoreResult<bool> {
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                move_updated_at(&transaction, conversation_id, now_ms, None).await?;
                let removed = member::Entity::update_many()
                    .col_expr(member::Column::RemovedAtMs, Expr::value(int(now_ms)))
                    .col_expr(member::Column::UpdatedAtMs, Expr::value(int(now_ms)))
                    .filter(is_member(conversation_id, user_id))
                    .exec(&transaction)
                    .await?;
                if removed.rows_affected == 0 {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                attempt.commit(transaction).await?;
                Ok(true)
            })
            .await
    }

    async fn pass_on(
        &self,
        conversation_id: u64,
        owner_id: u64,
        heir_id: u64,
        now_ms: u64,
    ) -> StoreResult<bool> {
        if owner_id == heir_id {
            return Ok(false);
        }
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                move_updated_at(&transaction, conversation_id, now_ms, Some(heir_id)).await?;
                let removed = member::Entity::update_many()
                    .col_expr(member::Column::RemovedAtMs, Expr::value(int(now_ms)))
                    .col_expr(member::Column::UpdatedAtMs, Expr::value(int(now_ms)))
                    .filter(is_member(conversation_id, owner_id))
                    .exec(&transaction)
                    .await?;
                let crowned = member::Entity::update_many()
                    .col_expr(member::Column::Role, Expr::value(MemberRole::Owner as i16))
                    .col_expr(member::Column::UpdatedAtMs, Expr::value(int(now_ms)))
                    .filter(is_member(conversation_id, heir_id))
                    .exec(&transaction)
                    .await?;
                if removed.rows_affected == 0 || crowned.rows_affected == 0 {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                attempt.commit(transaction).await?;
                Ok(true)
            })
            .await
    }

    async fn set_role(
        &self,
        conversation_id: u64,
        user_id: u64,
        role: MemberRole,
        now_ms: u64,
    ) -> StoreResult<()> {
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let owner = (role == MemberRole::Owner).then_some(user_id);
                move_updated_at(&transaction, conversation_id, now_ms, owner).await?;
                let changed = member::Entity::update_many()
                    .col_expr(member::Column::Role, Expr::value(role as i16))
                    .col_expr(member::Column::UpdatedAtMs, Expr::value(int(now_ms)))
                    .filter(is_member(conversation_id, user_id))
                    .exec(&transaction)
                    .await?;
                if changed.rows_affected == 0 {
                    return transaction.rollback().await;
                }
                attempt.commit(transaction).await
            })
            .await
    }

    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()> {
        // One entry a row, in the order of the primary key, in which all nodes take their locks.
        let mut furthest: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for cursor in cursors {
            let entry = furthest.entry((cursor.conversation_id, cursor.user_id)).or_default();
            *entry = (entry.0.max(cursor.delivered_seq), entry.1.max(cursor.read_seq));
        }
        let rows: Vec<[i64; 4]> = furthest
            .into_iter()
            .map(|((conversation_id, user_id), (delivered, read))| {
                [int(conversation_id), int(user_id), int(delivered), int(read)]
            })
            .collect();
        let runs = &cut(&rows, |_| 0);
        let backend = self.database.backend();
        self.database
            .write(|attempt| async move {
                match runs.as_slice() {
                    [] => {}
                    [run] => {
                        attempt.single().execute_raw(advance(backend, run)).await?;
                    }
                    runs => {
                        let transaction = attempt.begin().await?;
                        for run in runs {
                            transaction.execute_raw(advance(backend, run)).await?;
                        }
                        attempt.commit(transaction).await?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn conversations_of(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>> {
        self.list(user_id, changed_since_ms, before, limit).await
    }

    async fn conversation_of(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        self.list_one(user_id, conversation_id).await
    }
}

impl SqlStores {
    /// Stores a conversation and its first members in one transaction; the record's id and the members' conversation
    /// are filled in.
    async fn create(
        &self,
        record: ConversationRecord,
        direct_key: Option<String>,
        members: Vec<MemberRecord>,
    ) -> StoreResult<ConversationRecord> {
        let row = &conversation::ActiveModel {
            kind: Set(record.kind as i16),
            direct_key: Set(direct_key),
            name: Set(record.name.clone()),
            description: Set(record.description.clone()),
            avatar_file_id: Set(int(record.avatar_file_id)),
            owner_id: Set(int(record.owner_id)),
            join_policy: Set(record.join_policy as i16),
            created_at_ms: Set(int(record.created_at_ms)),
            updated_at_ms: Set(int(record.updated_at_ms)),
            ..Default::default()
        };
        let members = &members;
        let id = self
            .database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let id = conversation::Entity::insert(row.clone()).exec(&transaction).await?.last_insert_id;
                for run in cut(members, |_| 0) {
                    let rows = run.iter().map(|record| {
                        new_member(&MemberRecord { conversation_id: uint(id), ..record.clone() })
                    });
                    member::Entity::insert_many(rows).exec_without_returning(&transaction).await?;
                }
                attempt.commit(transaction).await?;
                Ok(id)
            })
            .await?;
        Ok(ConversationRecord { id: uint(id), ..record })
    }

    /// The direct conversation of this [`direct_key`].
    pub(super) async fn direct_by_key(&self, key: &str) -> StoreResult<Option<ConversationRecord>> {
        self.database
            .read(|db| async move {
                let row = conversation::Entity::find()
                    .filter(conversation::Column::DirectKey.eq(key))
                    .one(&db)
                    .await?;
                row.map(ConversationRecord::try_from).transpose()
            })
            .await
    }
}

/// What names the direct conversation of two users.
pub(super) fn direct_key(a: u64, b: u64) -> String {
    format!("{}:{}", a.min(b), a.max(b))
}

/// A member from the conversation's beginning.
fn first_member(user_id: u64, role: MemberRole, now_ms: u64) -> MemberRecord {
    MemberRecord {
        user_id,
        role,
        first_seq: 1,
        joined_at_ms: now_ms,
        updated_at_ms: now_ms,
        ..MemberRecord::default()
    }
}

/// The row of one who has not left.
fn is_member(conversation_id: u64, user_id: u64) -> Condition {
    Condition::all()
        .add(member::Column::ConversationId.eq(int(conversation_id)))
        .add(member::Column::UserId.eq(int(user_id)))
        .add(member::Column::RemovedAtMs.eq(0))
}

/// Moves a conversation's `updated_at_ms` forward, and so locks it until the transaction ends.
async fn move_updated_at(
    transaction: &DatabaseTransaction,
    conversation_id: u64,
    now_ms: u64,
    owner: Option<u64>,
) -> Result<(), DbErr> {
    use sea_orm::sea_query::ExprTrait as _;
    let stored = Expr::col(conversation::Column::UpdatedAtMs);
    let forward = Expr::case(stored.clone().lt(int(now_ms)), int(now_ms)).finally(stored);
    let mut update = conversation::Entity::update_many()
        .col_expr(conversation::Column::UpdatedAtMs, forward.into())
        .filter(conversation::Column::Id.eq(int(conversation_id)));
    if let Some(owner) = owner {
        update = update.col_expr(conversation::Column::OwnerId, Expr::value(int(owner)));
    }
    update.exec(transaction).await?;
    Ok(())
}

/// Inserts those who have no row, and replaces the rows of those who had left. Their cursors stay, because cursors
/// never move back, and so do their own preferences.
async fn add_to(
    transaction: &DatabaseTransaction,
    conversation_id: u64,
    records: &BTreeMap<u64, &MemberRecord>,
) -> Result<(), DbErr> {
    let user_ids: Vec<i64> = records.keys().map(|id| int(*id)).collect();
    let mut there: HashMap<u64, member::Model> = HashMap::new();
    for list in padded(&user_ids) {
        let rows = member::Entity::find()
            .filter(member::Column::ConversationId.eq(int(conversation_id)))
            .filter(member::Column::UserId.is_in(list))
            .all(transaction)
            .await?;
        there.extend(rows.into_iter().map(|row| (uint(row.user_id), row)));
    }
    let returning: Vec<i64> =
        there.values().filter(|row| row.removed_at_ms != 0).map(|row| row.user_id).collect();
    for list in padded(&returning) {
        member::Entity::delete_many()
            .filter(member::Column::ConversationId.eq(int(conversation_id)))
            .filter(member::Column::UserId.is_in(list))
            .exec(transaction)
            .await?;
    }
    let mut rows = Vec::new();
    for (user_id, record) in records {
        let mut row = new_member(record);
        row.removed_at_ms = Set(0);
        match there.get(user_id) {
            Some(old) if old.removed_at_ms == 0 => continue,
            Some(old) => {
                row.delivered_seq = Set(old.delivered_seq.max(int(record.delivered_seq)));
                row.read_seq = Set(old.read_seq.max(int(record.read_seq)));
                row.muted_until_ms = Set(old.muted_until_ms);
                row.pinned = Set(old.pinned);
            }
            None => {}
        }
        rows.push(row);
    }
    for run in cut(&rows, |_| 0) {
        member::Entity::insert_many(run.iter().cloned()).exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// One UPDATE that moves the cursors of many rows. An UPDATE that joins a list of values has no common form in the
/// two databases, and one statement a row would cost a round trip each.
fn advance(backend: DbBackend, rows: &[[i64; 4]]) -> Statement {
    let sql = if backend == DbBackend::MySql {
        let list = format!(
            "SELECT ? AS c, ? AS u, ? AS d, ? AS r{}",
            " UNION ALL SELECT ?, ?, ?, ?".repeat(rows.len() - 1)
        );
        format!(
            "UPDATE members m JOIN ({list}) v ON m.conversation_id = v.c AND m.user_id = v.u \
             SET m.delivered_seq = GREATEST(m.delivered_seq, v.d), m.read_seq = GREATEST(m.read_seq, v.r)"
        )
    } else {
        let list = format!("(?, ?, ?, ?){}", ", (?, ?, ?, ?)".repeat(rows.len() - 1));
        format!(
            "WITH v(c, u, d, r) AS (VALUES {list}) UPDATE members \
             SET delivered_seq = MAX(delivered_seq, v.d), read_seq = MAX(read_seq, v.r) \
             FROM v WHERE members.conversation_id = v.c AND members.user_id = v.u"
        )
    };
    let values = rows.iter().flatten().map(|value| Value::from(*value)).collect();
    Statement { sql, values: Some(Values(values)), db_backend: backend }
}
