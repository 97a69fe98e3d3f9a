//! The list of a user's conversations, in a number of queries that does not grow with its length: memberships with
//! their conversations, the newest entry of each, and for the page alone its messages, unread counts, peers and
//! member counts.

use std::collections::HashMap;

use sea_orm::sea_query::{
    Expr, ExprTrait as _, Order, Query, SelectStatement, SimpleExpr, SubQueryStatement, UnionType,
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseConnection, DbErr, EntityTrait as _,
    QueryFilter as _, QuerySelect as _,
};

use super::SqlStores;
use super::changes::add_reactions;
use super::convert::{ERASED, int, is_reacted, uint};
use super::entity::{conversation, join_request, member, message, preference};
use super::hidden::hidden_behind;
use super::ladder::padded;
use crate::protocol::v1::Message;
use crate::protocol::{ConversationKind, MemberRole, MessageKind};
use crate::storage::{ConversationRow, PREVIEW_BACK, PreferenceRecord, StoreResult};

/// The last kind that is a message of its own, and not an entry about another.
const LAST_KIND: i16 = MessageKind::System as i16;

/// A membership whose place in the list is known, but not yet all that its row shows.
struct Entry {
    member: member::Model,
    conversation: conversation::Model,
    /// Seq and time of the newest message that the user may see.
    newest: Option<(i64, i64)>,
    /// The user's own, where there are any.
    preferences: Option<preference::Model>,
}

impl Entry {
    /// As [`ConversationRow::activity_ms`].
    fn activity_ms(&self) -> i64 {
        if self.member.removed_at_ms != 0 {
            return self.member.updated_at_ms;
        }
        let last = self.newest.map_or(0, |(_, created_at_ms)| created_at_ms);
        [last, self.conversation.updated_at_ms, self.member.updated_at_ms].into_iter().fold(0, Ord::max)
    }

    /// As [`ConversationRow::changed_ms`].
    fn changed_ms(&self) -> i64 {
        Ord::max(self.preferences.as_ref().map_or(0, |own| own.changed_at_ms), self.activity_ms())
    }
}

impl SqlStores {
    /// See [`crate::storage::ConversationStore::conversations_of`].
    pub(super) async fn list(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>> {
        self.database
            .read(|db| async move {
                let mut wanted = Condition::all().add(member::Column::UserId.eq(int(user_id)));
                if changed_since_ms == 0 {
                    wanted = wanted.add(member::Column::RemovedAtMs.eq(0));
                }
                let own = Condition::all().add(preference::Column::UserId.eq(int(user_id)));
                let mut entries = entries(&db, wanted, own).await?;
                entries.retain(|entry| {
                    let place = (entry.activity_ms(), entry.member.conversation_id);
                    entry.changed_ms() >= int(changed_since_ms)
                        && before.is_none_or(|(activity_ms, id)| place < (int(activity_ms), int(id)))
                });
                entries.sort_unstable_by_key(|entry| {
                    std::cmp::Reverse((entry.activity_ms(), entry.member.conversation_id))
                });
                entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                rows(&db, user_id, entries).await
            })
            .await
    }

    /// See [`crate::storage::ConversationStore::conversation_of`].
    pub(super) async fn list_one(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        self.database
            .read(|db| async move {
                let wanted = Condition::all()
                    .add(member::Column::UserId.eq(int(user_id)))
                    .add(member::Column::ConversationId.eq(int(conversation_id)));
                let own = Condition::all()
                    .add(preference::Column::UserId.eq(int(user_id)))
                    .add(preference::Column::ConversationId.eq(int(conversation_id)));
                let entries = entries(&db, wanted, own).await?;
                Ok(rows(&db, user_id, entries).await?.pop())
            })
            .await
    }
}

/// The memberships wanted, with their conversations, newest messages and preferences (those `own` names). Four queries.
async fn entries(db: &DatabaseConnection, wanted: Condition, own: Condition) -> Result<Vec<Entry>, DbErr> {
    let members = member::Entity::find().filter(wanted.clone()).all(db).await?;
    let conversations: Vec<conversation::Model> = conversation::Entity::find()
        .filter(
            conversation::Column::Id.in_subquery(
                Query::select()
                    .column(member::Column::ConversationId)
                    .from(member::Entity)
                    .cond_where(wanted.clone())
                    .to_owned(),
            ),
        )
        .all(db)
        .await?;
    let mut conversations: HashMap<i64, conversation::Model> =
        conversations.into_iter().map(|row| (row.id, row)).collect();

    let newest = Query::select()
        .column(member::Column::ConversationId)
        .expr_as(newest_of_member(message::Column::Seq), "newest_seq")
        .expr_as(newest_of_member(message::Column::CreatedAtMs), "newest_ms")
        .from(member::Entity)
        .cond_where(wanted)
        .and_where(Expr::col((member::Entity, member::Column::RemovedAtMs)).eq(0))
        .to_owned();
    let mut newest_of: HashMap<i64, (i64, i64)> = HashMap::new();
    for row in db.query_all(&newest).await? {
        let seq: Option<i64> = row.try_get_by_index(1)?;
        let created_at_ms: Option<i64> = row.try_get_by_index(2)?;
        if let (Some(seq), Some(created_at_ms)) = (seq, created_at_ms) {
            newest_of.insert(row.try_get_by_index(0)?, (seq, created_at_ms));
        }
    }

    let preferences = preference::Entity::find().filter(own).all(db).await?;
    let mut preferences: HashMap<i64, preference::Model> =
        preferences.into_iter().map(|row| (row.conversation_id, row)).collect();

    Ok(members
        .into_iter()
        .filter_map(|member| {
            let conversation = conversations.remove(&member.conversation_id)?;
            let newest = newest_of.get(&member.conversation_id).copied();
            let preferences = preferences.remove(&member.conversation_id);
            Some(Entry { member, conversation, newest, preferences })
        })
        .collect())
}

/// A column of the newest message that a member may see: the last step of the primary key's range, not a scan.
fn newest_of_member(column: message::Column) -> SimpleExpr {
    let newest = Query::select()
        .column((message::Entity, column))
        .from(message::Entity)
        .and_where(
            Expr::col((message::Entity, message::Column::ConversationId))
                .equals((member::Entity, member::Column::ConversationId)),
        )
        .and_where(
            Expr::col((message::Entity, message::Column::Seq))
                .gte(Expr::col((member::Entity, member::Column::FirstSeq))),
        )
        .order_by((message::Entity, message::Column::Seq), Order::Desc)
        .limit(1)
        .to_owned();
    SimpleExpr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(newest)))
}

/// The rows of a page, in its order.
async fn rows(
    db: &DatabaseConnection,
    user_id: u64,
    entries: Vec<Entry>,
) -> Result<Vec<ConversationRow>, DbErr> {
    let mut last_messages = last_messages(db, &entries).await?;
    let unread = unread(db, user_id, &entries).await?;
    let counts = member_counts(db, &entries).await?;
    let requests = join_requests(db, &entries).await?;
    let mut peers = peers(db, user_id, &entries).await?;
    entries
        .into_iter()
        .map(|entry| {
            let id = entry.member.conversation_id;
            Ok(ConversationRow {
                peer: peers.remove(&id).map(TryInto::try_into).transpose()?,
                member_count: counts.get(&id).copied().map_or(0, uint),
                newest: entry.newest.map_or((0, 0), |(seq, at_ms)| (uint(seq), uint(at_ms))),
                last_message: last_messages.remove(&id),
                unread: unread.get(&id).copied().map_or(0, uint),
                conversation: entry.conversation.try_into()?,
                member: entry.member.try_into()?,
                preferences: entry
                    .preferences
                    .map(PreferenceRecord::try_from)
                    .transpose()?
                    .unwrap_or_default(),
                pending_requests: requests.get(&id).copied().map_or(0, uint),
            })
        })
        .collect()
}

/// How many wait to be let in, where the user is one of those who decide it.
async fn join_requests(db: &DatabaseConnection, entries: &[Entry]) -> Result<HashMap<i64, i64>, DbErr> {
    let ids: Vec<i64> = entries
        .iter()
        .filter(|entry| entry.member.role != MemberRole::Member as i16 && entry.member.removed_at_ms == 0)
        .map(|entry| entry.member.conversation_id)
        .collect();
    let mut counts = HashMap::new();
    for list in padded(&ids) {
        let rows: Vec<(i64, i64)> = join_request::Entity::find()
            .select_only()
            .column(join_request::Column::ConversationId)
            .column_as(join_request::Column::UserId.count(), "requests")
            .filter(join_request::Column::ConversationId.is_in(list))
            .group_by(join_request::Column::ConversationId)
            .into_tuple()
            .all(db)
            .await?;
        counts.extend(rows);
    }
    Ok(counts)
}

/// The newest entry of each, or, where that is about a message, the newest message before it.
async fn last_messages(db: &DatabaseConnection, entries: &[Entry]) -> Result<HashMap<i64, Message>, DbErr> {
    let keys: Vec<(i64, i64)> =
        entries.iter().filter_map(|entry| Some((entry.member.conversation_id, entry.newest?.0))).collect();
    let mut found = HashMap::new();
    messages_at(db, &keys, &mut found).await?;
    let changed: Vec<(i64, i64, i64)> = entries
        .iter()
        .filter_map(|entry| {
            let newest = found.get(&entry.member.conversation_id).filter(|row| row.kind > LAST_KIND)?;
            let back = Ord::max(newest.seq - int(PREVIEW_BACK), entry.member.first_seq);
            Some((newest.conversation_id, back, newest.seq))
        })
        .collect();
    let mut written: Vec<(i64, i64)> = Vec::new();
    for list in padded(&changed) {
        let mut selects = list.into_iter().map(|(conversation_id, back, newest)| {
            Query::select()
                .expr(Expr::val(conversation_id))
                .expr(Expr::col(message::Column::Seq).max())
                .from(message::Entity)
                .and_where(Expr::col(message::Column::ConversationId).eq(conversation_id))
                .and_where(Expr::col(message::Column::Seq).gte(back))
                .and_where(Expr::col(message::Column::Seq).lt(newest))
                .and_where(Expr::col(message::Column::Kind).lte(LAST_KIND))
                .to_owned()
        });
        let Some(mut query): Option<SelectStatement> = selects.next() else { continue };
        query.unions(selects.map(|select| (UnionType::All, select)));
        for row in db.query_all(&query).await? {
            let seq: Option<i64> = row.try_get_by_index(1)?;
            let conversation_id: i64 = row.try_get_by_index(0)?;
            written.extend(seq.map(|seq| (conversation_id, seq)));
        }
    }
    messages_at(db, &written, &mut found).await?;
    let mut messages = HashMap::new();
    for (conversation_id, row) in found {
        let reacted: Vec<i64> = is_reacted(&row).then_some(row.seq).into_iter().collect();
        let mut message = Message::try_from(row)?;
        add_reactions(db, std::slice::from_mut(&mut message), &reacted).await?;
        messages.insert(conversation_id, message);
    }
    Ok(messages)
}

/// Puts the rows of these conversations and seqs in the place of what was found of the conversations before.
async fn messages_at(
    db: &DatabaseConnection,
    keys: &[(i64, i64)],
    found: &mut HashMap<i64, message::Model>,
) -> Result<(), DbErr> {
    for list in padded(keys) {
        // Written as alternatives, because a list of pairs is not looked up by the key in every version of MariaDB.
        let any = list.into_iter().fold(Condition::any(), |any, (conversation_id, seq)| {
            any.add(message::Column::ConversationId.eq(conversation_id).and(message::Column::Seq.eq(seq)))
        });
        for row in message::Entity::find().filter(any).all(db).await? {
            found.insert(row.conversation_id, row);
        }
    }
    Ok(())
}

/// Others' messages behind the read cursor, counted only where there are any messages behind it.
async fn unread(
    db: &DatabaseConnection,
    user_id: u64,
    entries: &[Entry],
) -> Result<HashMap<i64, i64>, DbErr> {
    let behind: Vec<(i64, i64)> = entries
        .iter()
        .filter_map(|entry| {
            let floor = Ord::max(entry.member.read_seq, entry.member.first_seq - 1);
            (entry.newest?.0 > floor).then_some((entry.member.conversation_id, floor))
        })
        .collect();
    let mut counts = HashMap::new();
    for mut list in padded(&behind) {
        // The padding would count again; no conversation has the id 0.
        let mut seen = std::collections::HashSet::new();
        list.iter_mut().filter(|(id, _)| !seen.insert(*id)).for_each(|key| *key = (0, 0));
        let mut selects = list.into_iter().map(|(conversation_id, floor)| {
            Query::select()
                .expr(Expr::val(conversation_id))
                .expr(Expr::col(message::Column::Seq).count())
                .from(message::Entity)
                .and_where(Expr::col(message::Column::ConversationId).eq(conversation_id))
                .and_where(Expr::col(message::Column::Seq).gt(floor))
                .and_where(Expr::col(message::Column::SenderId).ne(int(user_id)))
                .and_where(Expr::col(message::Column::Kind).lte(LAST_KIND))
                // Of what was taken back nothing is left to be read.
                .and_where(
                    Expr::col(message::Column::Extra)
                        .is_null()
                        .or(Expr::col(message::Column::Extra).ne(ERASED)),
                )
                .to_owned()
        });
        let Some(mut query): Option<SelectStatement> = selects.next() else { continue };
        query.unions(selects.map(|select| (UnionType::All, select)));
        for row in db.query_all(&query).await? {
            counts.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
    }
    for (id, hidden) in hidden_behind(db, user_id, &behind).await? {
        counts.entry(id).and_modify(|count: &mut i64| *count -= hidden);
    }
    Ok(counts)
}

async fn member_counts(db: &DatabaseConnection, entries: &[Entry]) -> Result<HashMap<i64, i64>, DbErr> {
    let ids: Vec<i64> = entries.iter().map(|entry| entry.member.conversation_id).collect();
    let mut counts = HashMap::new();
    for list in padded(&ids) {
        let rows: Vec<(i64, i64)> = member::Entity::find()
            .select_only()
            .column(member::Column::ConversationId)
            .column_as(member::Column::UserId.count(), "members")
            .filter(member::Column::ConversationId.is_in(list))
            .filter(member::Column::RemovedAtMs.eq(0))
            .group_by(member::Column::ConversationId)
            .into_tuple()
            .all(db)
            .await?;
        counts.extend(rows);
    }
    Ok(counts)
}

/// The other sides of the direct conversations.
async fn peers(
    db: &DatabaseConnection,
    user_id: u64,
    entries: &[Entry],
) -> Result<HashMap<i64, member::Model>, DbErr> {
    let ids: Vec<i64> = entries
        .iter()
        .filter(|entry| entry.conversation.kind == ConversationKind::Direct as i16)
        .map(|entry| entry.member.conversation_id)
        .collect();
    let mut found = HashMap::new();
    for list in padded(&ids) {
        let rows = member::Entity::find()
            .filter(member::Column::ConversationId.is_in(list))
            .filter(member::Column::UserId.ne(int(user_id)))
            .all(db)
            .await?;
        found.extend(rows.into_iter().map(|row| (row.conversation_id, row)));
    }
    Ok(found)
}
