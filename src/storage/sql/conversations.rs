//! [`ConversationStore`]: conversations and memberships. The list of a user's conversations is in [`super::list`].
//! What changes in groups is in [`super::rooms`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::sea_query::Values;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, Statement, Value,
};
use sha2::{Digest as _, Sha256};

use super::SqlStores;
use super::convert::{all, int, new_member, uint};
use super::entity::{conversation, member};
use super::entries;
use super::ladder::{cut, padded};
use super::sayings;
use crate::clock::now_ms;
use crate::protocol::{ConversationKind, MemberRole};
use crate::storage::starts::{Opening, first_member, new_direct};
use crate::storage::{
    ConversationRecord, ConversationRow, ConversationStore, CursorAdvance, ListRow, MemberRecord, NewGroup,
    ROSTER_MAX, RoomRules, RoomStore as _, Saying, StoreError, StoreResult, cursors_ms,
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
            rules: RoomRules::default(),
        };
        let mut user_ids = group.member_ids.clone();
        user_ids.retain(|id| *id != group.owner_id);
        user_ids.sort_unstable();
        user_ids.dedup();
        let mut members = vec![first_member(0, group.owner_id, MemberRole::Owner, group.now_ms)];
        members.extend(user_ids.iter().map(|id| first_member(0, *id, MemberRole::Member, group.now_ms)));
        let key = (!group.client_id.is_empty()).then(|| group_key(group.owner_id, &group.client_id));
        self.create(record, key, members).await
    }

    async fn created_as(&self, owner_id: u64, client_id: &str) -> StoreResult<Option<ConversationRecord>> {
        self.direct_by_key(&group_key(owner_id, client_id)).await
    }

    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)> {
        if a == b {
            return Err(StoreError::Invalid(format!("user {a} has no direct conversation with itself")));
        }
        let key = direct_key(a, b);
        if let Some(there) = self.direct_by_key(&key).await? {
            return Ok((there, false));
        }
        let record = new_direct(0, now_ms);
        let members = [a.min(b), a.max(b)].map(|id| first_member(0, id, MemberRole::Member, now_ms)).to_vec();
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

    async fn make_directs(&self, pairs: &[(u64, u64)], now_ms: u64) -> StoreResult<Vec<(u64, bool)>> {
        self.found_directs(pairs, now_ms).await
    }

    async fn pairs_of(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Option<Option<(u64, u64)>>>> {
        self.read_pairs(conversation_ids).await
    }

    async fn openings(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Opening>> {
        self.read_openings(conversation_ids).await
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

    async fn roster(&self, conversation_id: u64) -> StoreResult<Arc<Vec<MemberRecord>>> {
        let mut rows = self.members_page(conversation_id, 0, ROSTER_MAX as u32 + 1).await?;
        for row in &mut rows {
            (row.delivered_seq, row.read_seq, row.muted_until_ms, row.pinned) = (0, 0, 0, false);
            (row.updated_at_ms, row.silenced_until_ms) = (0, 0);
        }
        Ok(Arc::new(rows))
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

    async fn memberships(&self, user_id: u64, conversation_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        let ids = &conversation_ids.iter().map(|id| int(*id)).collect::<Vec<_>>();
        self.database
            .read_on(|mut reads| async move {
                let rows = entries::memberships(&mut reads, int(user_id), ids).await?;
                Ok((reads, all(rows)?))
            })
            .await
    }

    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()> {
        // One entry a row, in the order of the primary key, in which all nodes take their locks.
        let mut furthest: BTreeMap<(u64, u64), (u64, u64, u64)> = BTreeMap::new();
        let news_ms = cursors_ms(now_ms());
        for cursor in cursors {
            let entry = furthest.entry((cursor.conversation_id, cursor.user_id)).or_default();
            let at_ms = if cursor.is_news { news_ms } else { 0 };
            *entry = (entry.0.max(cursor.delivered_seq), entry.1.max(cursor.read_seq), entry.2.max(at_ms));
        }
        let rows: Vec<[i64; 5]> = furthest
            .into_iter()
            .map(|((conversation_id, user_id), (delivered, read, at_ms))| {
                [int(conversation_id), int(user_id), int(delivered), int(read), int(at_ms)]
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
        let listed = self.list(user_id, changed_since_ms, before, limit, &HashSet::new()).await?;
        Ok(listed.into_iter().filter_map(ListRow::whole).collect())
    }

    async fn list_sparing(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
        spared: &HashSet<u64>,
    ) -> StoreResult<Vec<ListRow>> {
        self.list(user_id, changed_since_ms, before, limit, spared).await
    }

    async fn order_of(&self, user_id: u64) -> StoreResult<Vec<(u64, u64)>> {
        self.order(user_id).await
    }

    async fn conversation_of(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        Ok(self.list_these(user_id, &[conversation_id]).await?.pop())
    }

    async fn these_conversations_of(&self, user_id: u64, ids: &[u64]) -> StoreResult<Vec<ConversationRow>> {
        self.list_these(user_id, ids).await
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
            member_count: Set(int(members.len() as u64)),
            ..Default::default()
        };
        let (record, members) = (&record, &members);
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
                if record.kind == ConversationKind::Group {
                    let others = members.iter().skip(1).map(|member| member.user_id).collect();
                    let says = Saying::created(record.owner_id, &record.name, others, record.created_at_ms);
                    sayings::keep(&transaction, uint(id), &says).await?;
                }
                attempt.commit(transaction).await?;
                Ok(id)
            })
            .await?;
        Ok(ConversationRecord { id: uint(id), ..record.clone() })
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

/// What names a group by who has created it and under which `client_id`, in the column of [`direct_key`], whose keys have
/// another form. 128 bits of a hash, as the column is short.
fn group_key(owner_id: u64, client_id: &str) -> String {
    format!("{owner_id}~{}", hex::encode(&Sha256::digest(client_id)[..16]))
}

/// One UPDATE that moves the cursors of many rows. An UPDATE that joins a list of values has no common form in the
/// two databases, and one statement a row would cost a round trip each.
fn advance(backend: DbBackend, rows: &[[i64; 5]]) -> Statement {
    let sql = if backend == DbBackend::MySql {
        let list = format!(
            "SELECT ? AS c, ? AS u, ? AS d, ? AS r, ? AS n{}",
            " UNION ALL SELECT ?, ?, ?, ?, ?".repeat(rows.len() - 1)
        );
        format!(
            "UPDATE members m JOIN ({list}) v ON m.conversation_id = v.c AND m.user_id = v.u \
             SET m.delivered_seq = GREATEST(m.delivered_seq, v.d), m.read_seq = GREATEST(m.read_seq, v.r), \
             m.cursors_ms = GREATEST(m.cursors_ms, v.n)"
        )
    } else {
        let list = format!("(?, ?, ?, ?, ?){}", ", (?, ?, ?, ?, ?)".repeat(rows.len() - 1));
        format!(
            "WITH v(c, u, d, r, n) AS (VALUES {list}) UPDATE members \
             SET delivered_seq = MAX(delivered_seq, v.d), read_seq = MAX(read_seq, v.r), \
             cursors_ms = MAX(cursors_ms, v.n) \
             FROM v WHERE members.conversation_id = v.c AND members.user_id = v.u"
        )
    };
    let values = rows.iter().flatten().map(|value| Value::from(*value)).collect();
    Statement { sql, values: Some(Values(values)), db_backend: backend }
}
