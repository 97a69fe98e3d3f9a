//! The list of a user's conversations, page by page. Which ones a page may have [`super::listing`] says without looking at
//! all of them; of those, [`super::entries`] reads what is one row for each, and for the page alone unread counts and what few
//! have are looked up.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseConnection, DbErr, EntityTrait as _,
    QueryFilter as _, QuerySelect as _,
};

use super::SqlStores;
use super::changes::add_reactions;
use super::convert::{ERASED, int, is_reacted, uint};
use super::driver::{Reads, Texts};
use super::entity::{join_request, message};
use super::entries::{self, Entry, Place};
use super::ladder::padded;
use super::listing::{UNKNOWN, Wanted, candidates, look_up, places};
use crate::protocol::v1::Message;
use crate::protocol::{MemberRole, MessageKind};
use crate::storage::{ConversationRow, ListPlace, ListRow, PREVIEW_BACK, PreferenceRecord, StoreResult};

/// The last kind that is a message of its own, and not an entry about another.
const LAST_KIND: i16 = MessageKind::System as i16;

/// Conversations that are read in one request.
const READ_AT_ONCE: usize = 512;
/// By what the look for candidates grows when a page turned out short because some of them moved meanwhile, and how often
/// before all are taken.
const WIDER: u32 = 4;
const WIDER_MAX: u32 = 2;

/// Unknown places of a sync that are read with all that their rows show, though most may turn out to be older than what is
/// asked for: it saves a look at each. More are looked up first.
const READ_WHOLE: usize = 16;

/// What others have written behind a place and the user has not hidden, (conversation, seq) being given twice for each.
static UNREAD: Texts = Texts::new();

/// What is read of a conversation on a page.
enum Found {
    Whole(Box<Entry>),
    /// All that is wanted of it.
    Place(Place),
}

impl Found {
    fn place(&self) -> Place {
        match self {
            Self::Whole(entry) => entry.place(),
            Self::Place(place) => *place,
        }
    }
}

impl SqlStores {
    /// See [`crate::storage::ConversationStore::list_sparing`].
    pub(super) async fn list(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
        spared: &HashSet<u64>,
    ) -> StoreResult<Vec<ListRow>> {
        let mut wanted = Wanted {
            user_id: int(user_id),
            changed_since_ms: int(changed_since_ms),
            before: before.map(|(activity_ms, id)| (int(activity_ms), int(id))),
            limit,
        };
        let mut round = 0;
        let found = loop {
            let (mut found, is_cut) = self.page(&wanted, spared).await?;
            // A page that is short says that nothing follows. What has moved up since its place was read may have left it so.
            if !is_cut || found.len() >= limit as usize {
                found.truncate(limit as usize);
                break found;
            }
            round += 1;
            wanted.limit = if round > WIDER_MAX { u32::MAX } else { wanted.limit.saturating_mul(WIDER) };
        };
        let entries: Vec<&Entry> = found
            .iter()
            .filter_map(|found| match found {
                Found::Whole(entry) => Some(&**entry),
                Found::Place(_) => None,
            })
            .collect();
        let mut rows = self.shown(user_id, &entries).await?.into_iter();
        let listed = found.iter().filter_map(|found| match found {
            Found::Whole(_) => rows.next().map(|row| ListRow::Whole(Box::new(row))),
            Found::Place(place) => Some(ListRow::Place(ListPlace {
                conversation_id: uint(place.conversation_id),
                activity_ms: uint(place.activity_ms()),
                changed_ms: uint(place.changed_ms()),
                set_ms: uint(place.set_ms()),
                last_seq: place.newest.map_or(0, |(seq, _)| uint(seq)),
            })),
        });
        Ok(listed.collect())
    }

    /// What is wanted, in the list's order, and whether there may be more of it.
    async fn page(&self, wanted: &Wanted, spared: &HashSet<u64>) -> StoreResult<(Vec<Found>, bool)> {
        let found = self
            .database
            .read_on(|mut reads| async move {
                let found = candidates(&mut reads, wanted).await?;
                Ok((reads, found))
            })
            .await?;
        let mut is_cut = found.is_cut;
        let mut ids = found.known;
        let read_whole = if wanted.changed_since_ms == 0 { wanted.limit as usize } else { READ_WHOLE };
        if found.unknown.len() <= read_whole {
            ids.extend(&found.unknown);
        } else {
            // Of those whose place has to be looked up, only what the page may have is read whole.
            let mut looked_up = self.look_up(wanted.user_id, &found.unknown).await?;
            looked_up.retain(|place| place.0 >= wanted.changed_since_ms && wanted.is_behind(*place));
            looked_up.sort_unstable_by(|a, b| b.cmp(a));
            is_cut |= looked_up.len() > wanted.limit as usize;
            looked_up.truncate(wanted.limit as usize);
            ids.extend(looked_up.into_iter().map(|(_, id)| id));
        }
        ids.sort_unstable();
        ids.dedup();
        let mut entries = self.entries(wanted.user_id, &ids, spared).await?;
        self.settle_many_later(found.unknown);
        entries.retain(|entry| {
            let place = entry.place();
            let is_listed = wanted.changed_since_ms != 0 || place.removed_at_ms == 0;
            is_listed && place.changed_ms() >= wanted.changed_since_ms && wanted.is_behind(place.order())
        });
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.place().order()));
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

    /// See [`crate::storage::ConversationStore::these_conversations_of`].
    pub(super) async fn list_these(&self, user_id: u64, ids: &[u64]) -> StoreResult<Vec<ConversationRow>> {
        let mut rows = Vec::with_capacity(ids.len());
        for some in ids.chunks(READ_AT_ONCE) {
            let some = &some.iter().map(|id| int(*id)).collect::<Vec<_>>();
            let entries = self
                .database
                .read_on(|mut reads| async move {
                    let entries = entries::whole(&mut reads, int(user_id), some).await?;
                    Ok((reads, entries))
                })
                .await?;
            rows.extend(self.shown(user_id, &entries.iter().collect::<Vec<_>>()).await?);
        }
        Ok(rows)
    }

    /// Where these conversations, none of which the user has left, stand in the list now: (activity, conversation).
    async fn look_up(&self, user_id: i64, conversation_ids: &[i64]) -> StoreResult<Vec<(i64, i64)>> {
        let mut all = Vec::with_capacity(conversation_ids.len());
        for some in conversation_ids.chunks(READ_AT_ONCE) {
            all.extend(self.database.read(|db| async move { look_up(&db, user_id, some).await }).await?);
        }
        Ok(all)
    }

    /// The user's memberships of these conversations, as they are now.
    async fn entries(&self, user_id: i64, ids: &[i64], spared: &HashSet<u64>) -> StoreResult<Vec<Found>> {
        let (bare, shown): (Vec<i64>, Vec<i64>) = ids.iter().partition(|id| spared.contains(&uint(**id)));
        let mut all = Vec::with_capacity(ids.len());
        for some in shown.chunks(READ_AT_ONCE) {
            let whole = |mut reads: Reads| async move {
                let entries = entries::whole(&mut reads, user_id, some).await?;
                Ok((reads, entries))
            };
            let entries = self.database.read_on(whole).await?;
            all.extend(entries.into_iter().map(|entry| Found::Whole(Box::new(entry))));
        }
        for some in bare.chunks(READ_AT_ONCE) {
            let places = |mut reads: Reads| async move {
                let places = entries::places(&mut reads, user_id, some).await?;
                Ok((reads, places))
            };
            all.extend(self.database.read_on(places).await?.into_iter().map(Found::Place));
        }
        Ok(all)
    }

    /// The rows of a page, in its order.
    async fn shown(&self, user_id: u64, entries: &[&Entry]) -> StoreResult<Vec<ConversationRow>> {
        let behind = &behind(entries);
        let unread = if behind.is_empty() {
            HashMap::new()
        } else {
            let count = |mut reads: Reads| async move {
                let counts = unread(&mut reads, int(user_id), behind).await?;
                Ok((reads, counts))
            };
            self.database.read_on(count).await?
        };
        self.database
            .read(|db| {
                let unread = &unread;
                async move { rows(&db, entries, unread).await }
            })
            .await
    }
}

async fn rows(
    db: &DatabaseConnection,
    entries: &[&Entry],
    unread: &HashMap<i64, i64>,
) -> Result<Vec<ConversationRow>, DbErr> {
    let mut last_messages = last_messages(db, entries).await?;
    let requests = join_requests(db, entries).await?;
    entries
        .iter()
        .map(|entry| {
            let id = entry.member.conversation_id;
            let entry = (*entry).clone();
            Ok(ConversationRow {
                peer: entry.peer.map(TryInto::try_into).transpose()?,
                member_count: uint(entry.conversation.member_count),
                newest: entry.newest.map_or((0, 0), |newest| (uint(newest.seq), uint(newest.created_at_ms))),
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
async fn join_requests(db: &DatabaseConnection, entries: &[&Entry]) -> Result<HashMap<i64, i64>, DbErr> {
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
async fn last_messages(db: &DatabaseConnection, entries: &[&Entry]) -> Result<HashMap<i64, Message>, DbErr> {
    let mut found: HashMap<i64, message::Model> = entries
        .iter()
        .filter_map(|entry| Some((entry.member.conversation_id, entry.newest.clone()?)))
        .collect();
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

/// The places, (conversation, seq), behind which there may be something unread.
fn behind(entries: &[&Entry]) -> Vec<(i64, i64)> {
    let behind = |entry: &&Entry| {
        let floor = Ord::max(entry.member.read_seq, entry.member.first_seq - 1);
        (entry.newest.as_ref()?.seq > floor).then_some((entry.member.conversation_id, floor))
    };
    entries.iter().filter_map(behind).collect()
}

/// How many messages of others are behind these places. What the user has hidden does not count, and is looked for from the side
/// of what is hidden, as that is little.
async fn unread(reads: &mut Reads, user_id: i64, behind: &[(i64, i64)]) -> Result<HashMap<i64, i64>, DbErr> {
    let mut counts = HashMap::new();
    for list in padded(behind) {
        // The first column is the place in the list for those, and the conversation for these.
        let sql = UNREAD.of(list.len(), |keys| {
            // Of what was taken back nothing is left to be read.
            let counts = |m: &str| {
                format!(
                    "{m}.sender_id <> ? AND {m}.kind <= {LAST_KIND} AND ({m}.extra IS NULL OR {m}.extra <> '{ERASED}')"
                )
            };
            let others = |at| {
                format!(
                    "SELECT -{at} - 1, COUNT(*) FROM messages m WHERE m.conversation_id = ? AND m.seq > ? AND {}",
                    counts("m")
                )
            };
            format!(
                "{} UNION ALL SELECT h.conversation_id, COUNT(*) FROM hidden h JOIN messages m \
                 ON m.conversation_id = h.conversation_id AND m.seq = h.seq WHERE h.user_id = ? AND ({}) AND {} \
                 GROUP BY h.conversation_id",
                (0..keys).map(others).collect::<Vec<_>>().join(" UNION ALL "),
                vec!["(h.conversation_id = ? AND h.seq > ?)"; keys].join(" OR "),
                counts("m")
            )
        });
        let mut values: Vec<i64> = list.iter().flat_map(|(id, seq)| [*id, *seq, user_id]).collect();
        values.push(user_id);
        values.extend(list.iter().flat_map(|(id, seq)| [*id, *seq]));
        values.push(user_id);
        let mut hidden = Vec::new();
        for (which, count) in reads.rows(sql, &values, |row| Ok((row.int(0)?, row.int(1)?))).await? {
            match usize::try_from(-which - 1).ok().and_then(|at| list.get(at)) {
                // What pads the list counts the same again.
                Some((id, _)) => drop(counts.insert(*id, count)),
                None => hidden.push((which, count)),
            }
        }
        for (id, count) in hidden {
            counts.entry(id).and_modify(|unread: &mut i64| *unread -= count);
        }
    }
    Ok(counts)
}
