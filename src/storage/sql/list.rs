//! The list of a user's conversations, page by page. Which ones a page may have [`super::listing`] says without looking at
//! all of them; of those, memberships with their conversations and the newest entry of each, and for the page alone its
//! messages, unread counts and peers.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, UnionType};
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
use super::listing::{UNKNOWN, Wanted, candidates, look_up, newest, places};
use crate::protocol::v1::Message;
use crate::protocol::{ConversationKind, MemberRole, MessageKind};
use crate::storage::{ConversationRow, PREVIEW_BACK, PreferenceRecord, StoreResult};

/// The last kind that is a message of its own, and not an entry about another.
const LAST_KIND: i16 = MessageKind::System as i16;

/// Conversations that are read in one request.
const READ_AT_ONCE: usize = 512;
/// By what the look for candidates grows when a page turned out short because some of them moved meanwhile, and how often
/// before all are taken.
const WIDER: u32 = 4;
const WIDER_MAX: u32 = 2;

/// A membership whose place in the list is known, but not yet all that its row shows.
#[derive(Clone)]
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

    /// Its place in the list.
    fn place(&self) -> (i64, i64) {
        (self.activity_ms(), self.member.conversation_id)
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
        let mut wanted = Wanted {
            user_id: int(user_id),
            changed_since_ms: int(changed_since_ms),
            before: before.map(|(activity_ms, id)| (int(activity_ms), int(id))),
            limit,
        };
        let mut round = 0;
        let entries = loop {
            let (mut entries, is_cut) = self.page(&wanted).await?;
            // A page that is short says that nothing follows. What has moved up since its place was read may have left it so.
            if !is_cut || entries.len() >= limit as usize {
                entries.truncate(limit as usize);
                break entries;
            }
            round += 1;
            wanted.limit = if round > WIDER_MAX { u32::MAX } else { wanted.limit.saturating_mul(WIDER) };
        };
        let entries = &entries;
        self.database.read(|db| async move { rows(&db, user_id, entries).await }).await
    }

    /// What is wanted, in the list's order, and whether there may be more of it.
    async fn page(&self, wanted: &Wanted) -> StoreResult<(Vec<Entry>, bool)> {
        let found = self.database.read(|db| async move { candidates(&db, wanted).await }).await?;
        // Of those whose place had to be looked up, only what the page may have is read whole.
        let mut looked_up = self.look_up(wanted.user_id, &found.unknown).await?;
        looked_up.retain(|place| place.0 >= wanted.changed_since_ms && wanted.is_behind(*place));
        looked_up.sort_unstable_by(|a, b| b.cmp(a));
        let is_cut = found.is_cut || looked_up.len() > wanted.limit as usize;
        looked_up.truncate(wanted.limit as usize);
        let mut ids = found.known;
        ids.extend(looked_up.into_iter().map(|(_, id)| id));
        ids.sort_unstable();
        ids.dedup();
        let mut entries = self.entries(wanted.user_id, &ids).await?;
        self.settle_many_later(found.unknown);
        entries.retain(|entry| {
            let is_listed = wanted.changed_since_ms != 0 || entry.member.removed_at_ms == 0;
            is_listed && entry.changed_ms() >= wanted.changed_since_ms && wanted.is_behind(entry.place())
        });
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.place()));
        Ok((entries, is_cut))
    }

    /// See [`crate::storage::ConversationStore::order_of`].
    pub(super) async fn order(&self, user_id: u64) -> StoreResult<Vec<(u64, u64)>> {
        let places = self.database.read(|db| async move { places(&db, int(user_id)).await }).await?;
        let (unknown, known): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(listed_ms, _)| *listed_ms == UNKNOWN);
        let unknown: Vec<i64> = unknown.into_iter().map(|(_, id)| id).collect();
        let mut order: Vec<(u64, u64)> =
            known.into_iter().map(|(listed_ms, id)| (uint(listed_ms), uint(id))).collect();
        let looked_up = self.look_up(int(user_id), &unknown).await?;
        order.extend(looked_up.into_iter().map(|(activity_ms, id)| (uint(activity_ms), uint(id))));
        self.settle_many_later(unknown);
        order.sort_unstable_by(|a, b| b.cmp(a));
        Ok(order)
    }

    /// See [`crate::storage::ConversationStore::conversation_of`].
    pub(super) async fn list_one(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        let entries = &self.entries(int(user_id), &[int(conversation_id)]).await?;
        Ok(self.database.read(|db| async move { rows(&db, user_id, entries).await }).await?.pop())
    }

    /// Where these conversations, none of which the user has left, stand in the list now: (activity, conversation).
    async fn look_up(&self, user_id: i64, conversation_ids: &[i64]) -> StoreResult<Vec<(i64, i64)>> {
        let mut all = Vec::with_capacity(conversation_ids.len());
        for some in conversation_ids.chunks(READ_AT_ONCE) {
            all.extend(self.database.read(|db| async move { look_up(&db, user_id, some).await }).await?);
        }
        Ok(all)
    }

    /// The user's memberships of these conversations, as they are now: four queries for as many as a statement takes.
    async fn entries(&self, user_id: i64, conversation_ids: &[i64]) -> StoreResult<Vec<Entry>> {
        let mut all = Vec::with_capacity(conversation_ids.len());
        for some in conversation_ids.chunks(READ_AT_ONCE) {
            all.extend(self.database.read(|db| async move { entries(&db, user_id, some).await }).await?);
        }
        Ok(all)
    }
}

async fn entries(
    db: &DatabaseConnection,
    user_id: i64,
    conversation_ids: &[i64],
) -> Result<Vec<Entry>, DbErr> {
    let mut entries = Vec::new();
    for list in padded(conversation_ids) {
        let members = member::Entity::find()
            .filter(member::Column::ConversationId.is_in(list.clone()))
            .filter(member::Column::UserId.eq(user_id))
            .all(db)
            .await?;
        let conversations =
            conversation::Entity::find().filter(conversation::Column::Id.is_in(list.clone())).all(db).await?;
        let mut conversations: HashMap<i64, conversation::Model> =
            conversations.into_iter().map(|row| (row.id, row)).collect();
        let floors: Vec<(i64, i64)> = members
            .iter()
            .filter(|member| member.removed_at_ms == 0)
            .map(|member| (member.conversation_id, member.first_seq))
            .collect();
        let newest_of = newest(db, &floors).await?;
        let preferences = preference::Entity::find()
            .filter(preference::Column::UserId.eq(user_id))
            .filter(preference::Column::ConversationId.is_in(list))
            .all(db)
            .await?;
        let mut preferences: HashMap<i64, preference::Model> =
            preferences.into_iter().map(|row| (row.conversation_id, row)).collect();
        entries.extend(members.into_iter().filter_map(|member| {
            let conversation = conversations.remove(&member.conversation_id)?;
            let newest = newest_of.get(&member.conversation_id).copied();
            let preferences = preferences.remove(&member.conversation_id);
            Some(Entry { member, conversation, newest, preferences })
        }));
    }
    Ok(entries)
}

/// The rows of a page, in its order.
async fn rows(
    db: &DatabaseConnection,
    user_id: u64,
    entries: &[Entry],
) -> Result<Vec<ConversationRow>, DbErr> {
    let mut last_messages = last_messages(db, entries).await?;
    let unread = unread(db, user_id, entries).await?;
    let requests = join_requests(db, entries).await?;
    let mut peers = peers(db, user_id, entries).await?;
    entries
        .iter()
        .cloned()
        .map(|entry| {
            let id = entry.member.conversation_id;
            Ok(ConversationRow {
                peer: peers.remove(&id).map(TryInto::try_into).transpose()?,
                member_count: uint(entry.conversation.member_count),
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
