//! What a conversation's row in a list is made of: one statement for all of many conversations, and a narrow one for those
//! of which the reader wants to know only where they stand.

use sea_orm::DbErr;
use sea_orm::sqlx;

use super::driver::{Columns, Reads, Texts};
use super::entity::{conversation, member, message, preference};
use super::ladder::padded;
use super::rows::{self, message as message_at};
use crate::protocol::ConversationKind;

/// A membership's columns beside conversation and user, in the order of [`member_at`].
const MEMBER: [&str; 11] = [
    "role",
    "first_seq",
    "delivered_seq",
    "read_seq",
    "joined_at_ms",
    "removed_at_ms",
    "muted_until_ms",
    "pinned",
    "updated_at_ms",
    "silenced_until_ms",
    "cursors_ms",
];
/// A conversation's columns beside id and key, in the order of [`conversation_at`].
const CONVERSATION: [&str; 17] = [
    "kind",
    "name",
    "description",
    "avatar_file_id",
    "owner_id",
    "join_policy",
    "created_at_ms",
    "updated_at_ms",
    "announcement",
    "read_only",
    "slow_mode_seconds",
    "silence_all",
    "history_open",
    "dissolved_at_ms",
    "retention_seconds",
    "floor_seq",
    "member_count",
];
/// The columns of preferences, in the order of [`preference_at`].
const PREFERENCE: [&str; 8] = [
    "changed_at_ms",
    "archived",
    "hidden_before_seq",
    "notifications",
    "draft",
    "draft_reply_to_seq",
    "draft_at_ms",
    "unread_before_seq",
];
/// Where the columns of each begin in [`whole`]'s rows, the conversation's id being the first.
const MEMBER_AT: usize = 1;
const CONVERSATION_AT: usize = MEMBER_AT + MEMBER.len();
const PREFERENCE_AT: usize = CONVERSATION_AT + CONVERSATION.len();
const PEER_AT: usize = PREFERENCE_AT + PREFERENCE.len();
const MESSAGE_AT: usize = PEER_AT + 1 + MEMBER.len();

static WHOLE: Texts = Texts::new();
static PLACES: Texts = Texts::new();
static MEMBERSHIPS: Texts = Texts::new();

/// A membership whose place in the list is known, but not yet all that its row shows.
#[derive(Clone)]
pub struct Entry {
    pub member: member::Model,
    pub conversation: conversation::Model,
    /// The newest entry of the log that the user may see.
    pub newest: Option<message::Model>,
    /// The user's own, where there are any.
    pub preferences: Option<preference::Model>,
    /// The other side of a direct conversation.
    pub peer: Option<member::Model>,
}

impl Entry {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place {
            conversation_id: self.member.conversation_id,
            removed_at_ms: self.member.removed_at_ms,
            updated_at_ms: Ord::max(self.conversation.updated_at_ms, self.member.updated_at_ms),
            own_ms: self.member.updated_at_ms,
            shown_ms: Ord::max(
                self.preferences.as_ref().map_or(0, |own| own.changed_at_ms),
                self.member.cursors_ms,
            ),
            newest: self.newest.as_ref().map(|newest| (newest.seq, newest.created_at_ms)),
        }
    }
}

/// Where a conversation stands in a user's list.
#[derive(Clone, Copy)]
pub struct Place {
    pub conversation_id: i64,
    /// 0: is a member.
    pub removed_at_ms: i64,
    /// When conversation or membership last changed.
    updated_at_ms: i64,
    /// When the membership did.
    own_ms: i64,
    /// When what only the user's list shows of it did, preferences and cursors; 0: never.
    shown_ms: i64,
    /// Seq and time of the newest entry of the log that the user may see.
    pub newest: Option<(i64, i64)>,
}

impl Place {
    /// As [`crate::storage::ConversationRow::activity_ms`].
    pub fn activity_ms(&self) -> i64 {
        if self.removed_at_ms != 0 {
            return self.own_ms;
        }
        Ord::max(self.newest.map_or(0, |(_, created_at_ms)| created_at_ms), self.updated_at_ms)
    }

    /// As [`crate::storage::ConversationRow::changed_ms`].
    pub fn changed_ms(&self) -> i64 {
        Ord::max(self.shown_ms, self.activity_ms())
    }

    /// As [`crate::storage::ConversationRow::set_ms`].
    pub fn set_ms(&self) -> i64 {
        if self.removed_at_ms != 0 {
            return self.changed_ms();
        }
        Ord::max(self.shown_ms, self.updated_at_ms)
    }

    /// In the list's order.
    pub fn order(&self) -> (i64, i64) {
        (self.activity_ms(), self.conversation_id)
    }
}

/// The user's memberships of these conversations with all that is in tables of one row for each, as they are now.
pub async fn whole(reads: &mut Reads, user_id: i64, ids: &[i64]) -> Result<Vec<Entry>, DbErr> {
    let mut all = Vec::with_capacity(ids.len());
    for mut values in padded(ids) {
        let sql = WHOLE.of(values.len(), |keys| {
            let columns = [
                of("m", &["conversation_id"]),
                of("m", &MEMBER),
                of("c", &CONVERSATION),
                of("p", &PREFERENCE),
                of("o", &["user_id"]),
                of("o", &MEMBER),
                of("n", &rows::COLUMNS),
            ];
            // No conversation has the id 0: the members of a group are not looked through for another one.
            format!(
                "SELECT {} FROM {} LEFT JOIN members o ON o.conversation_id = \
                 CASE WHEN c.kind = {} THEN m.conversation_id ELSE 0 END AND o.user_id <> m.user_id WHERE {}",
                columns.join(", "),
                JOINED,
                ConversationKind::Direct as i16,
                condition(keys)
            )
        });
        values.push(user_id);
        all.extend(reads.rows(sql, &values, |row| entry(user_id, row)).await?);
    }
    Ok(all)
}

/// Where these conversations stand in the user's list, as they are now.
pub async fn places(reads: &mut Reads, user_id: i64, ids: &[i64]) -> Result<Vec<Place>, DbErr> {
    let mut all = Vec::with_capacity(ids.len());
    for mut values in padded(ids) {
        let sql = PLACES.of(values.len(), |keys| {
            format!(
                "SELECT m.conversation_id, m.removed_at_ms, c.updated_at_ms, m.updated_at_ms, p.changed_at_ms, \
                 n.seq, n.created_at_ms, m.cursors_ms FROM {JOINED} WHERE {}",
                condition(keys)
            )
        });
        values.push(user_id);
        let read = |row: &dyn Columns| {
            let (removed_at_ms, own_ms) = (row.int(1)?, row.int(3)?);
            let newest = match row.maybe_int(5)? {
                Some(seq) if removed_at_ms == 0 => Some((seq, row.int(6)?)),
                _ => None,
            };
            Ok(Place {
                conversation_id: row.int(0)?,
                removed_at_ms,
                updated_at_ms: Ord::max(row.int(2)?, own_ms),
                own_ms,
                shown_ms: Ord::max(row.maybe_int(4)?.unwrap_or(0), row.int(7)?),
                newest,
            })
        };
        all.extend(reads.rows(sql, &values, read).await?);
    }
    Ok(all)
}

/// The user's memberships of these conversations, also of those that it has left.
pub async fn memberships(reads: &mut Reads, user_id: i64, ids: &[i64]) -> Result<Vec<member::Model>, DbErr> {
    let mut all = Vec::with_capacity(ids.len());
    for mut values in padded(ids) {
        let sql = MEMBERSHIPS.of(values.len(), |keys| {
            let columns = [of("m", &["conversation_id"]), of("m", &MEMBER)].join(", ");
            format!("SELECT {columns} FROM members m WHERE {}", condition(keys))
        });
        values.push(user_id);
        let read = |row: &dyn Columns| member_at(row.int(0)?, user_id, row, MEMBER_AT);
        all.extend(reads.rows(sql, &values, read).await?);
    }
    Ok(all)
}

/// Memberships with their conversations, the user's preferences and the newest entries of the logs. That is looked for from the
/// log's end and only then held against `first_seq`: to look for it from `first_seq` on would go through the whole log of one
/// who may see nothing of it.
const JOINED: &str = "members m JOIN conversations c ON c.id = m.conversation_id \
     LEFT JOIN preferences p ON p.user_id = m.user_id AND p.conversation_id = m.conversation_id \
     LEFT JOIN messages n ON n.conversation_id = m.conversation_id AND n.seq >= m.first_seq \
     AND n.seq = (SELECT x.seq FROM messages x WHERE x.conversation_id = m.conversation_id \
     ORDER BY x.conversation_id DESC, x.seq DESC LIMIT 1)";

fn condition(keys: usize) -> String {
    format!("m.conversation_id IN ({}) AND m.user_id = ?", vec!["?"; keys].join(", "))
}

fn of(table: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

fn entry(user_id: i64, row: &dyn Columns) -> Result<Entry, sqlx::Error> {
    let id = row.int(0)?;
    let member = member_at(id, user_id, row, MEMBER_AT)?;
    let newest = match row.maybe_int(MESSAGE_AT)? {
        Some(_) if member.removed_at_ms == 0 => Some(message_at(id, row, MESSAGE_AT)?),
        _ => None,
    };
    let peer = match row.maybe_int(PEER_AT)? {
        Some(peer_id) => Some(member_at(id, peer_id, row, PEER_AT + 1)?),
        None => None,
    };
    let preferences = match row.maybe_int(PREFERENCE_AT)? {
        Some(_) => Some(preference_at(id, user_id, row, PREFERENCE_AT)?),
        None => None,
    };
    let conversation = conversation_at(id, row, CONVERSATION_AT)?;
    Ok(Entry { member, conversation, newest, preferences, peer })
}

fn member_at(
    conversation_id: i64,
    user_id: i64,
    row: &dyn Columns,
    from: usize,
) -> Result<member::Model, sqlx::Error> {
    Ok(member::Model {
        conversation_id,
        user_id,
        role: row.word(from)?,
        first_seq: row.int(from + 1)?,
        delivered_seq: row.int(from + 2)?,
        read_seq: row.int(from + 3)?,
        joined_at_ms: row.int(from + 4)?,
        removed_at_ms: row.int(from + 5)?,
        muted_until_ms: row.int(from + 6)?,
        pinned: row.flag(from + 7)?,
        updated_at_ms: row.int(from + 8)?,
        silenced_until_ms: row.int(from + 9)?,
        cursors_ms: row.int(from + 10)?,
    })
}

fn conversation_at(id: i64, row: &dyn Columns, from: usize) -> Result<conversation::Model, sqlx::Error> {
    Ok(conversation::Model {
        id,
        kind: row.word(from)?,
        // Which conversation it is, is known.
        direct_key: None,
        name: row.text(from + 1)?,
        description: row.text(from + 2)?,
        avatar_file_id: row.int(from + 3)?,
        owner_id: row.int(from + 4)?,
        join_policy: row.word(from + 5)?,
        created_at_ms: row.int(from + 6)?,
        updated_at_ms: row.int(from + 7)?,
        announcement: row.text(from + 8)?,
        read_only: row.flag(from + 9)?,
        slow_mode_seconds: row.int(from + 10)?,
        silence_all: row.flag(from + 11)?,
        history_open: row.flag(from + 12)?,
        dissolved_at_ms: row.int(from + 13)?,
        retention_seconds: row.int(from + 14)?,
        floor_seq: row.int(from + 15)?,
        member_count: row.int(from + 16)?,
    })
}

fn preference_at(
    conversation_id: i64,
    user_id: i64,
    row: &dyn Columns,
    from: usize,
) -> Result<preference::Model, sqlx::Error> {
    Ok(preference::Model {
        user_id,
        conversation_id,
        changed_at_ms: row.int(from)?,
        archived: row.flag(from + 1)?,
        hidden_before_seq: row.int(from + 2)?,
        notifications: row.word(from + 3)?,
        draft: row.text(from + 4)?,
        draft_reply_to_seq: row.int(from + 5)?,
        draft_at_ms: row.int(from + 6)?,
        unread_before_seq: row.int(from + 7)?,
    })
}
