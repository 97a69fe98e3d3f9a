//! [`PeopleStore`]: privacy, presence, blocks, preferences, drafts, and the end of an account.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Values};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Statement, Value,
};

use super::SqlStores;
use super::conversations::direct_key;
use super::convert::{ERASED, display_key, int, uint, unknown};
use super::entity::{
    block, contact, device, join_request, line_given, member, message, preference, presence, privacy, user,
};
use super::ladder::{cut, padded};
use super::marks::number;
use crate::domain::limits::username_key;
use crate::domain::privacy::{Audience, Relation};
use crate::protocol::{ContactState, MessageKind, NotificationLevel, PresenceStatus};
use crate::storage::{
    BlockRecord, Draft, LateErasure, PeopleStore, PreferenceChange, PreferenceRecord, PresenceRecord,
    PrivacyChange, PrivacyRecord, StoreResult,
};

impl From<privacy::Model> for PrivacyRecord {
    fn from(row: privacy::Model) -> Self {
        Self {
            user_id: uint(row.user_id),
            who_may_write: Audience::from_number(row.who_may_write),
            who_may_add: Audience::from_number(row.who_may_add),
            who_sees_last_seen: Audience::from_number(row.who_sees_last_seen),
        }
    }
}

impl TryFrom<presence::Model> for PresenceRecord {
    type Error = DbErr;
    fn try_from(row: presence::Model) -> Result<Self, DbErr> {
        Ok(Self {
            user_id: uint(row.user_id),
            status: PresenceStatus::try_from(i32::from(row.status))
                .map_err(|_| unknown("presence status", row.status))?,
            text: row.text,
            last_seen_ms: uint(row.last_seen_ms),
        })
    }
}

impl TryFrom<preference::Model> for PreferenceRecord {
    type Error = DbErr;
    fn try_from(row: preference::Model) -> Result<Self, DbErr> {
        Ok(Self {
            archived: row.archived,
            hidden_before_seq: uint(row.hidden_before_seq),
            unread_before_seq: uint(row.unread_before_seq),
            notifications: NotificationLevel::try_from(i32::from(row.notifications))
                .map_err(|_| unknown("notification level", row.notifications))?,
            draft: Draft {
                text: row.draft,
                reply_to_seq: uint(row.draft_reply_to_seq),
                updated_at_ms: uint(row.draft_at_ms),
            },
            changed_at_ms: uint(row.changed_at_ms),
        })
    }
}

/// What has no words, and without which the log could not be read: whether a reaction is put on or taken off stands where
/// others have their attachments.
const NOT_ERASED: [MessageKind; 3] = [MessageKind::System, MessageKind::Recall, MessageKind::Reaction];

/// A row that says nothing yet.
fn no_preferences(user_id: u64, conversation_id: u64, now_ms: u64) -> preference::ActiveModel {
    preference::ActiveModel {
        user_id: Set(int(user_id)),
        conversation_id: Set(int(conversation_id)),
        archived: Set(false),
        hidden_before_seq: Set(0),
        unread_before_seq: Set(0),
        notifications: Set(NotificationLevel::All as i16),
        draft: Set(String::new()),
        draft_reply_to_seq: Set(0),
        draft_at_ms: Set(0),
        changed_at_ms: Set(int(now_ms)),
    }
}

#[async_trait]
impl PeopleStore for SqlStores {
    async fn privacies(&self, user_ids: &[u64]) -> StoreResult<Vec<PrivacyRecord>> {
        let ids: Vec<i64> = distinct(user_ids);
        let mut found = Vec::new();
        for list in &padded(&ids) {
            let rows = self
                .database
                .read(|db| async move {
                    let some = privacy::Column::UserId.is_in(list.iter().copied());
                    privacy::Entity::find().filter(some).all(&db).await
                })
                .await?;
            found.extend(rows.into_iter().map(PrivacyRecord::from));
        }
        Ok(found)
    }

    async fn change_privacy(&self, user_id: u64, change: PrivacyChange) -> StoreResult<()> {
        let mut privacy = PrivacyRecord { user_id, ..PrivacyRecord::default() };
        change.apply(&mut privacy);
        let settings = [
            (change.who_may_write, privacy::Column::WhoMayWrite),
            (change.who_may_add, privacy::Column::WhoMayAdd),
            (change.who_sees_last_seen, privacy::Column::WhoSeesLastSeen),
        ];
        // Only those, so that none takes back what another device changes at this moment.
        let columns: Vec<_> = settings.into_iter().filter_map(|(to, column)| to.map(|_| column)).collect();
        if columns.is_empty() {
            return Ok(());
        }
        let columns = &columns;
        let row = &privacy::ActiveModel {
            user_id: Set(int(privacy.user_id)),
            who_may_write: Set(privacy.who_may_write as i16),
            who_may_add: Set(privacy.who_may_add as i16),
            who_sees_last_seen: Set(privacy.who_sees_last_seen as i16),
        };
        self.database
            .write(|attempt| async move {
                let replace = OnConflict::column(privacy::Column::UserId)
                    .update_columns(columns.iter().copied())
                    .to_owned();
                privacy::Entity::insert(row.clone())
                    .on_conflict(replace)
                    .exec_without_returning(attempt.single())
                    .await?;
                Ok(())
            })
            .await
    }

    async fn presences(&self, user_ids: &[u64]) -> StoreResult<Vec<PresenceRecord>> {
        let ids: Vec<i64> = distinct(user_ids);
        let mut found = Vec::new();
        for list in &padded(&ids) {
            let rows: Vec<PresenceRecord> = self
                .database
                .read(|db| async move {
                    let some = presence::Column::UserId.is_in(list.iter().copied());
                    super::convert::all(presence::Entity::find().filter(some).all(&db).await?)
                })
                .await?;
            found.extend(rows);
        }
        Ok(found)
    }

    async fn set_presence(
        &self,
        user_id: u64,
        status: PresenceStatus,
        text: &str,
        now_ms: u64,
    ) -> StoreResult<()> {
        let backend = self.database.backend();
        let invisible = PresenceStatus::Invisible as i16;
        // MySQL assigns from left to right: the time is moved while the old status is still there.
        let sql = if backend == DbBackend::MySql {
            "INSERT INTO presence (user_id, status, text, last_seen_ms) VALUES (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE last_seen_ms = IF(status = ? AND VALUES(status) = status, last_seen_ms, \
             GREATEST(last_seen_ms, VALUES(last_seen_ms))), status = VALUES(status), text = VALUES(text)"
        } else {
            "INSERT INTO presence (user_id, status, text, last_seen_ms) VALUES (?, ?, ?, ?) \
             ON CONFLICT (user_id) DO UPDATE SET last_seen_ms = CASE WHEN presence.status = ? \
             AND excluded.status = presence.status THEN presence.last_seen_ms \
             ELSE MAX(presence.last_seen_ms, excluded.last_seen_ms) END, \
             status = excluded.status, text = excluded.text"
        };
        let values: [Value; 5] =
            [int(user_id).into(), (status as i16).into(), text.into(), int(now_ms).into(), invisible.into()];
        let statement = &Statement::from_sql_and_values(backend, sql, values);
        self.database
            .write(|attempt| async move {
                attempt.single().execute_raw(statement.clone()).await?;
                Ok(())
            })
            .await
    }

    async fn note_seen(&self, seen: &[(u64, u64)]) -> StoreResult<()> {
        // One row a user, in the order of the key, in which all nodes take their locks.
        let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
        for (user_id, at_ms) in seen {
            let at = latest.entry(*user_id).or_default();
            *at = Ord::max(*at, *at_ms);
        }
        let rows: Vec<(u64, u64)> = latest.into_iter().collect();
        let backend = self.database.backend();
        for run in cut(&rows, |_| 0) {
            let statement = &note_seen(backend, run);
            self.database
                .write(|attempt| async move {
                    attempt.single().execute_raw(statement.clone()).await?;
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    async fn block(&self, block: BlockRecord) -> StoreResult<bool> {
        let row = &block::ActiveModel {
            user_id: Set(int(block.user_id)),
            blocked_id: Set(int(block.blocked_id)),
            created_at_ms: Set(int(block.created_at_ms)),
        };
        let contacts = &both_contacts(block.user_id, block.blocked_id);
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let there = block::Entity::find_by_id((int(block.user_id), int(block.blocked_id)))
                    .one(&transaction)
                    .await?;
                if there.is_none() {
                    // Another call may be as fast: then its row is as good.
                    let keep = OnConflict::columns([block::Column::UserId, block::Column::BlockedId])
                        .update_column(block::Column::UserId)
                        .to_owned();
                    block::Entity::insert(row.clone())
                        .on_conflict(keep)
                        .exec_without_returning(&transaction)
                        .await?;
                }
                contact::Entity::delete_many().filter(contacts.clone()).exec(&transaction).await?;
                attempt.commit(transaction).await?;
                Ok(there.is_none())
            })
            .await
    }

    async fn unblock(&self, user_id: u64, blocked_id: u64) -> StoreResult<bool> {
        self.database
            .write(|attempt| async move {
                let gone = block::Entity::delete_by_id((int(user_id), int(blocked_id)))
                    .exec(attempt.single())
                    .await?;
                Ok(gone.rows_affected > 0)
            })
            .await
    }

    async fn blocks(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BlockRecord>> {
        let rows = self
            .database
            .read(|db| async move {
                block::Entity::find()
                    .filter(block::Column::UserId.eq(int(user_id)))
                    .filter(block::Column::BlockedId.gt(int(after_id)))
                    .order_by_asc(block::Column::BlockedId)
                    .limit(u64::from(limit))
                    .all(&db)
                    .await
            })
            .await?;
        let record = |row: block::Model| BlockRecord {
            user_id: uint(row.user_id),
            blocked_id: uint(row.blocked_id),
            created_at_ms: uint(row.created_at_ms),
        };
        Ok(rows.into_iter().map(record).collect())
    }

    async fn list_sizes(&self, user_id: u64) -> StoreResult<(u64, u64)> {
        let id = int(user_id);
        self.database
            .read(|db| async move {
                let contacts =
                    contact::Entity::find().filter(contact::Column::UserId.eq(id)).count(&db).await?;
                let blocks = block::Entity::find().filter(block::Column::UserId.eq(id)).count(&db).await?;
                Ok((contacts, blocks))
            })
            .await
    }

    async fn direct_of(&self, a: u64, b: u64) -> StoreResult<Option<u64>> {
        Ok(self.direct_by_key(&direct_key(a, b)).await?.map(|record| record.id))
    }

    async fn meetings(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Option<u64>, bool)>> {
        self.read_meetings(pairs).await
    }

    async fn acquaintances(&self, pairs: &[(u64, u64)]) -> StoreResult<Vec<(Relation, PrivacyRecord)>> {
        self.read_acquaintances(pairs).await
    }

    async fn relations(&self, user_id: u64, others: &[u64]) -> StoreResult<Vec<Relation>> {
        let ids: Vec<i64> = distinct(others);
        let me = int(user_id);
        let mut found: HashMap<i64, Relation> = HashMap::new();
        for list in &padded(&ids) {
            let (friends, blocks) = self
                .database
                .read(|db| async move {
                    let some = || list.iter().copied();
                    let friends = contact::Entity::find()
                        .filter(contact::Column::UserId.eq(me))
                        .filter(contact::Column::ContactId.is_in(some()))
                        .filter(contact::Column::State.eq(ContactState::Friend as i16))
                        .all(&db)
                        .await?;
                    let mine = block::Column::UserId.eq(me).and(block::Column::BlockedId.is_in(some()));
                    let theirs = block::Column::BlockedId.eq(me).and(block::Column::UserId.is_in(some()));
                    let either = Condition::any().add(mine).add(theirs);
                    let blocks = block::Entity::find().filter(either).all(&db).await?;
                    Ok((friends, blocks))
                })
                .await?;
            for row in friends {
                found.entry(row.contact_id).or_default().friends = true;
            }
            for row in blocks {
                if row.user_id == me {
                    found.entry(row.blocked_id).or_default().blocks = true;
                } else {
                    found.entry(row.user_id).or_default().blocked = true;
                }
            }
        }
        Ok(others.iter().map(|other| found.get(&int(*other)).copied().unwrap_or_default()).collect())
    }

    async fn set_preferences(
        &self,
        user_id: u64,
        conversation_id: u64,
        change: PreferenceChange,
        now_ms: u64,
    ) -> StoreResult<bool> {
        let mut row = no_preferences(user_id, conversation_id, now_ms);
        let mut columns = vec![preference::Column::ChangedAtMs];
        if let Some(archived) = change.archived {
            row.archived = Set(archived);
            columns.push(preference::Column::Archived);
        }
        if let Some(seq) = change.hidden_before_seq {
            row.hidden_before_seq = Set(int(seq));
            columns.push(preference::Column::HiddenBeforeSeq);
        }
        if let Some(seq) = change.unread_before_seq {
            row.unread_before_seq = Set(int(seq));
            columns.push(preference::Column::UnreadBeforeSeq);
        }
        if let Some(level) = change.notifications {
            row.notifications = Set(level as i16);
            columns.push(preference::Column::Notifications);
        }
        let mut own = member::ActiveModel::default();
        if let Some(until) = change.muted_until_ms {
            own.muted_until_ms = Set(int(until));
        }
        if let Some(pinned) = change.pinned {
            own.pinned = Set(pinned);
        }
        let touches_member = change.muted_until_ms.is_some() || change.pinned.is_some();
        self.write_preference(user_id, conversation_id, row, columns, touches_member.then_some(own)).await
    }

    async fn set_draft(&self, user_id: u64, conversation_id: u64, draft: Draft) -> StoreResult<bool> {
        let row = preference::ActiveModel {
            draft: Set(draft.text),
            draft_reply_to_seq: Set(int(draft.reply_to_seq)),
            draft_at_ms: Set(int(draft.updated_at_ms)),
            ..no_preferences(user_id, conversation_id, draft.updated_at_ms)
        };
        let columns = vec![
            preference::Column::ChangedAtMs,
            preference::Column::Draft,
            preference::Column::DraftReplyToSeq,
            preference::Column::DraftAtMs,
        ];
        self.write_preference(user_id, conversation_id, row, columns, None).await
    }

    async fn erase_messages(
        &self,
        conversation_id: u64,
        user_id: u64,
        from_seq: u64,
        to_seq: u64,
    ) -> StoreResult<()> {
        self.database
            .write(|attempt| async move {
                message::Entity::update_many()
                    .col_expr(message::Column::Text, Expr::value(""))
                    .col_expr(message::Column::Extra, Expr::value(ERASED))
                    .filter(message::Column::ConversationId.eq(int(conversation_id)))
                    .filter(message::Column::Seq.gte(int(from_seq)))
                    .filter(message::Column::Seq.lt(int(to_seq)))
                    .filter(message::Column::SenderId.eq(int(user_id)))
                    .filter(message::Column::Kind.is_not_in(NOT_ERASED.map(|kind| kind as i16)))
                    .exec(attempt.single())
                    .await?;
                Ok(())
            })
            .await
    }

    async fn late_erasures(&self, now_ms: u64, limit: u32) -> StoreResult<Vec<LateErasure>> {
        let sql = "SELECT user_id, since_ms, due_at_ms FROM late_erasures WHERE due_at_ms <= ? \
                   ORDER BY due_at_ms, user_id LIMIT ?";
        self.rows(sql, vec![int(now_ms).into(), i64::from(limit).into()], |row| {
            Ok(LateErasure {
                user_id: number(row, 0)?,
                since_ms: number(row, 1)?,
                due_at_ms: number(row, 2)?,
            })
        })
        .await
    }

    async fn put_off_erasure(&self, erasure: LateErasure, due_at_ms: u64) -> StoreResult<bool> {
        let sql = "UPDATE late_erasures SET due_at_ms = ? WHERE user_id = ? AND due_at_ms = ?";
        let values = vec![int(due_at_ms).into(), int(erasure.user_id).into(), int(erasure.due_at_ms).into()];
        Ok(self.execute(sql, values).await? > 0)
    }

    async fn finish_erasure(&self, user_id: u64) -> StoreResult<()> {
        let sql = "DELETE FROM late_erasures WHERE user_id = ?";
        self.execute(sql, vec![int(user_id).into()]).await.map(drop)
    }

    async fn erase_user(
        &self,
        user_id: u64,
        username: &str,
        display_name: &str,
        later: Option<LateErasure>,
    ) -> StoreResult<()> {
        let id = int(user_id);
        let ended = &user::ActiveModel {
            username: Set(username.to_owned()),
            username_key: Set(username_key(username).into_bytes()),
            display_name: Set(display_name.to_owned()),
            display_key: Set(display_key(display_name)),
            avatar_file_id: Set(0),
            bio: Set(String::new()),
            password_hash: Set(String::new()),
            disabled: Set(true),
            ..Default::default()
        };
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let on = &transaction;
                user::Entity::update_many()
                    .set(ended.clone())
                    .filter(user::Column::Id.eq(id))
                    .exec(on)
                    .await?;
                device::Entity::delete_many().filter(device::Column::UserId.eq(id)).exec(on).await?;
                // Each relation has a row on either side, and the others' are found by the key only.
                let own = contact::Entity::find().filter(contact::Column::UserId.eq(id)).all(on).await?;
                let others: Vec<i64> = own.iter().map(|row| row.contact_id).collect();
                for list in padded(&others) {
                    contact::Entity::delete_many()
                        .filter(contact::Column::UserId.is_in(list))
                        .filter(contact::Column::ContactId.eq(id))
                        .exec(on)
                        .await?;
                }
                contact::Entity::delete_many().filter(contact::Column::UserId.eq(id)).exec(on).await?;
                let blocks = block::Column::UserId.eq(id).or(block::Column::BlockedId.eq(id));
                block::Entity::delete_many().filter(blocks).exec(on).await?;
                privacy::Entity::delete_by_id(id).exec(on).await?;
                presence::Entity::delete_by_id(id).exec(on).await?;
                preference::Entity::delete_many().filter(preference::Column::UserId.eq(id)).exec(on).await?;
                line_given::Entity::delete_many().filter(line_given::Column::UserId.eq(id)).exec(on).await?;
                let asked = join_request::Column::UserId.eq(id);
                join_request::Entity::delete_many().filter(asked).exec(on).await?;
                for sql in ["DELETE FROM scheduled WHERE user_id = ?", "DELETE FROM hidden WHERE user_id = ?"]
                {
                    let backend = on.get_database_backend();
                    on.execute_raw(Statement::from_sql_and_values(backend, sql, [id.into()])).await?;
                }
                if let Some(LateErasure { since_ms, due_at_ms, .. }) = later {
                    // What an earlier try has kept holds too: it began earlier.
                    let backend = on.get_database_backend();
                    let sql = if backend == DbBackend::MySql {
                        "INSERT IGNORE INTO late_erasures (user_id, since_ms, due_at_ms) VALUES (?, ?, ?)"
                    } else {
                        "INSERT OR IGNORE INTO late_erasures (user_id, since_ms, due_at_ms) VALUES (?, ?, ?)"
                    };
                    let values = [id.into(), int(since_ms).into(), int(due_at_ms).into()];
                    on.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
                }
                attempt.commit(transaction).await
            })
            .await
    }
}

impl SqlStores {
    /// Inserts a row of preferences or replaces the columns named, if the user is a member; whether it is.
    async fn write_preference(
        &self,
        user_id: u64,
        conversation_id: u64,
        row: preference::ActiveModel,
        columns: Vec<preference::Column>,
        own: Option<member::ActiveModel>,
    ) -> StoreResult<bool> {
        let (row, columns, own) = (&row, &columns, &own);
        self.database
            .write(|attempt| async move {
                let transaction = attempt.begin().await?;
                let membership = Condition::all()
                    .add(member::Column::ConversationId.eq(int(conversation_id)))
                    .add(member::Column::UserId.eq(int(user_id)))
                    .add(member::Column::RemovedAtMs.eq(0));
                let there = member::Entity::find().filter(membership.clone()).one(&transaction).await?;
                if there.is_none() {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                if let Some(own) = own {
                    member::Entity::update_many()
                        .set(own.clone())
                        .filter(membership)
                        .exec(&transaction)
                        .await?;
                }
                let replace =
                    OnConflict::columns([preference::Column::UserId, preference::Column::ConversationId])
                        .update_columns(columns.iter().copied())
                        .to_owned();
                preference::Entity::insert(row.clone())
                    .on_conflict(replace)
                    .exec_without_returning(&transaction)
                    .await?;
                attempt.commit(transaction).await?;
                Ok(true)
            })
            .await
    }
}

/// Both sides of a contact.
fn both_contacts(a: u64, b: u64) -> Condition {
    let side = |a: u64, b: u64| contact::Column::UserId.eq(int(a)).and(contact::Column::ContactId.eq(int(b)));
    Condition::any().add(side(a, b)).add(side(b, a))
}

fn distinct(ids: &[u64]) -> Vec<i64> {
    let mut seen = HashSet::new();
    ids.iter().map(|id| int(*id)).filter(|id| seen.insert(*id)).collect()
}

/// One INSERT that moves the times of many users. Such a condition has no common form in the two databases.
fn note_seen(backend: DbBackend, rows: &[(u64, u64)]) -> Statement {
    let online = PresenceStatus::Online as i16;
    let invisible = PresenceStatus::Invisible as i16;
    let list = vec!["(?, ?, '', ?)"; rows.len()].join(", ");
    let insert = format!("INSERT INTO presence (user_id, status, text, last_seen_ms) VALUES {list}");
    let sql = if backend == DbBackend::MySql {
        format!(
            "{insert} ON DUPLICATE KEY UPDATE last_seen_ms = \
             IF(status = {invisible}, last_seen_ms, GREATEST(last_seen_ms, VALUES(last_seen_ms)))"
        )
    } else {
        format!(
            "{insert} ON CONFLICT (user_id) DO UPDATE SET last_seen_ms = \
             CASE WHEN presence.status = {invisible} THEN presence.last_seen_ms \
             ELSE MAX(presence.last_seen_ms, excluded.last_seen_ms) END"
        )
    };
    let values = rows
        .iter()
        .flat_map(|(user_id, at_ms)| {
            [Value::from(int(*user_id)), Value::from(online), Value::from(int(*at_ms))]
        })
        .collect();
    Statement { sql, values: Some(Values(values)), db_backend: backend }
}
