//! Rows to the domain's words and back.

use sea_orm::ActiveValue::Set;
use sea_orm::DbErr;
use serde::{Deserialize, Serialize};

use super::entity::{contact, conversation, device, member, message, user};
use crate::domain::limits::username_key;
use crate::protocol::v1::{Attachment, ForwardedFrom, Marks, Message};
use crate::protocol::{ContactState, ConversationKind, JoinPolicy, MemberRole, MessageKind};
use crate::storage::{ContactRecord, ConversationRecord, DeviceRecord, MemberRecord, RoomRules, UserRecord};

/// An id, seq or time as the databases hold it. All of them are below 2^53; a bound such as `u64::MAX`, which stands
/// for "no bound", becomes the largest value.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back again. Nothing negative is ever stored.
pub fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number that only a newer version can have written.
pub fn unknown(what: &str, value: i16) -> DbErr {
    DbErr::Type(format!("{what} {value} is not known to this version"))
}

/// The lower-case form in which display names are searched.
pub fn display_key(name: &str) -> String {
    name.to_lowercase()
}

/// A row to insert; the id is left to the database.
pub fn new_user(user: &UserRecord) -> user::ActiveModel {
    user::ActiveModel {
        username: Set(user.username.clone()),
        username_key: Set(username_key(&user.username).into_bytes()),
        display_name: Set(user.display_name.clone()),
        display_key: Set(display_key(&user.display_name)),
        avatar_file_id: Set(int(user.avatar_file_id)),
        bio: Set(user.bio.clone()),
        password_hash: Set(user.password_hash.clone()),
        disabled: Set(user.disabled),
        created_at_ms: Set(int(user.created_at_ms)),
        ..Default::default()
    }
}

impl From<user::Model> for UserRecord {
    fn from(row: user::Model) -> Self {
        Self {
            id: uint(row.id),
            username: row.username,
            display_name: row.display_name,
            avatar_file_id: uint(row.avatar_file_id),
            bio: row.bio,
            password_hash: row.password_hash,
            disabled: row.disabled,
            created_at_ms: uint(row.created_at_ms),
        }
    }
}

/// A row to insert; the id is left to the database.
pub fn new_device(device: &DeviceRecord, token_hash: &str) -> device::ActiveModel {
    device::ActiveModel {
        user_id: Set(int(device.user_id)),
        token_hash: Set(token_hash.as_bytes().to_vec()),
        name: Set(device.name.clone()),
        platform: Set(device.platform.clone()),
        created_at_ms: Set(int(device.created_at_ms)),
        last_seen_ms: Set(int(device.last_seen_ms)),
        expires_at_ms: Set(int(device.expires_at_ms)),
        ..Default::default()
    }
}

impl From<device::Model> for DeviceRecord {
    fn from(row: device::Model) -> Self {
        Self {
            id: uint(row.id),
            user_id: uint(row.user_id),
            name: row.name,
            platform: row.platform,
            created_at_ms: uint(row.created_at_ms),
            last_seen_ms: uint(row.last_seen_ms),
            expires_at_ms: uint(row.expires_at_ms),
        }
    }
}

/// A row to insert or to replace.
pub fn new_contact(record: &ContactRecord) -> contact::ActiveModel {
    contact::ActiveModel {
        user_id: Set(int(record.user_id)),
        contact_id: Set(int(record.contact_id)),
        state: Set(record.state as i16),
        message: Set(record.message.clone()),
        updated_at_ms: Set(int(record.updated_at_ms)),
    }
}

impl TryFrom<contact::Model> for ContactRecord {
    type Error = DbErr;
    fn try_from(row: contact::Model) -> Result<Self, DbErr> {
        Ok(Self {
            user_id: uint(row.user_id),
            contact_id: uint(row.contact_id),
            state: ContactState::try_from(i32::from(row.state))
                .map_err(|_| unknown("contact state", row.state))?,
            message: row.message,
            updated_at_ms: uint(row.updated_at_ms),
        })
    }
}

impl TryFrom<conversation::Model> for ConversationRecord {
    type Error = DbErr;
    fn try_from(row: conversation::Model) -> Result<Self, DbErr> {
        Ok(Self {
            id: uint(row.id),
            kind: ConversationKind::try_from(i32::from(row.kind))
                .map_err(|_| unknown("conversation kind", row.kind))?,
            name: row.name,
            description: row.description,
            avatar_file_id: uint(row.avatar_file_id),
            owner_id: uint(row.owner_id),
            join_policy: JoinPolicy::try_from(i32::from(row.join_policy))
                .map_err(|_| unknown("join policy", row.join_policy))?,
            created_at_ms: uint(row.created_at_ms),
            updated_at_ms: uint(row.updated_at_ms),
            rules: RoomRules {
                announcement: row.announcement,
                read_only: row.read_only,
                slow_mode_seconds: uint(row.slow_mode_seconds),
                silence_all: row.silence_all,
                history_open: row.history_open,
                dissolved_at_ms: uint(row.dissolved_at_ms),
                retention_seconds: uint(row.retention_seconds),
                floor_seq: uint(row.floor_seq),
            },
        })
    }
}

/// A row to insert.
pub fn new_member(record: &MemberRecord) -> member::ActiveModel {
    member::ActiveModel {
        conversation_id: Set(int(record.conversation_id)),
        user_id: Set(int(record.user_id)),
        role: Set(record.role as i16),
        first_seq: Set(int(record.first_seq)),
        delivered_seq: Set(int(record.delivered_seq)),
        read_seq: Set(int(record.read_seq)),
        joined_at_ms: Set(int(record.joined_at_ms)),
        removed_at_ms: Set(int(record.removed_at_ms)),
        muted_until_ms: Set(int(record.muted_until_ms)),
        pinned: Set(record.pinned),
        updated_at_ms: Set(int(record.updated_at_ms)),
        silenced_until_ms: Set(int(record.silenced_until_ms)),
        cursors_ms: Set(int(record.cursors_ms)),
    }
}

impl TryFrom<member::Model> for MemberRecord {
    type Error = DbErr;
    fn try_from(row: member::Model) -> Result<Self, DbErr> {
        Ok(Self {
            conversation_id: uint(row.conversation_id),
            user_id: uint(row.user_id),
            role: MemberRole::try_from(i32::from(row.role)).map_err(|_| unknown("member role", row.role))?,
            first_seq: uint(row.first_seq),
            delivered_seq: uint(row.delivered_seq),
            read_seq: uint(row.read_seq),
            joined_at_ms: uint(row.joined_at_ms),
            removed_at_ms: uint(row.removed_at_ms),
            muted_until_ms: uint(row.muted_until_ms),
            pinned: row.pinned,
            updated_at_ms: uint(row.updated_at_ms),
            silenced_until_ms: uint(row.silenced_until_ms),
            cursors_ms: uint(row.cursors_ms),
        })
    }
}

/// What few messages have, in one column that most leave null.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Extra {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<u64>,
    /// See [`ERASED`].
    #[serde(skip_serializing)]
    erased: bool,
    /// Of a reaction: it takes one off.
    #[serde(skip_serializing_if = "is_false")]
    removed: bool,
    #[serde(skip_serializing_if = "is_zero")]
    expires_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_from: Option<ForwardedFrom>,
    #[serde(skip_serializing_if = "is_false")]
    scheduled: bool,
    /// Set by `changes` when the text is.
    #[serde(skip_serializing)]
    edited_at_ms: u64,
    /// Set by `changes` once somebody has reacted: not 0.
    #[serde(skip_serializing)]
    reacted: u8,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The column `extra` of a message that was emptied: taken back, or of an account that was erased.
pub const ERASED: &str = r#"{"erased":true}"#;

/// The column `extra` of a message.
pub fn extra_json(message: &Message) -> Option<String> {
    let removed = message.recalled && message.kind == MessageKind::Reaction as i32;
    let is_plain = message.attachments.is_empty() && message.mentions.is_empty() && message.marks.is_none();
    (!is_plain || removed).then(|| {
        let extra = Extra {
            attachments: message.attachments.clone(),
            mentions: message.mentions.clone(),
            removed,
            expires_at_ms: message.marks.as_ref().map_or(0, |marks| marks.expires_at_ms),
            forwarded_from: message.marks.as_ref().and_then(|marks| marks.forwarded_from),
            scheduled: message.marks.as_ref().is_some_and(|marks| marks.scheduled),
            ..Extra::default()
        };
        serde_json::to_string(&extra).expect("attachments and mentions are plain data")
    })
}

impl TryFrom<message::Model> for Message {
    type Error = DbErr;
    fn try_from(row: message::Model) -> Result<Self, DbErr> {
        let extra: Extra = match &row.extra {
            Some(json) => serde_json::from_str(json).map_err(|error| DbErr::Json(error.to_string()))?,
            None => Extra::default(),
        };
        let is_erased = extra.erased && row.kind < MessageKind::System as i16;
        Ok(Self {
            conversation_id: uint(row.conversation_id),
            seq: uint(row.seq),
            sender_id: uint(row.sender_id),
            client_id: client_id_text(row.client_id)?,
            kind: i32::from(row.kind),
            text: row.text,
            attachments: extra.attachments,
            reply_to_seq: uint(row.reply_to_seq),
            mentions: extra.mentions,
            target_seq: uint(row.target_seq),
            emoji: row.emoji,
            created_at_ms: uint(row.created_at_ms),
            edited_at_ms: extra.edited_at_ms,
            recalled: is_erased || extra.removed,
            marks: (extra.expires_at_ms != 0 || extra.forwarded_from.is_some() || extra.scheduled).then(
                || {
                    Box::new(Marks {
                        expires_at_ms: extra.expires_at_ms,
                        hidden: false,
                        forwarded_from: extra.forwarded_from,
                        scheduled: extra.scheduled,
                    })
                },
            ),
            ..Self::default()
        })
    }
}

/// Whether a message may have reactions, which are kept apart.
pub fn is_reacted(row: &message::Model) -> bool {
    // A name in quotes is found in an attachment's name too, but with its quotes escaped.
    row.extra.as_ref().is_some_and(|extra| extra.contains("\"reacted\""))
}

/// A `client_id` as text; empty where there is none.
pub fn client_id_text(bytes: Option<Vec<u8>>) -> Result<String, DbErr> {
    String::from_utf8(bytes.unwrap_or_default())
        .map_err(|_| DbErr::Type("a client_id is not UTF-8".to_owned()))
}

/// Every row turned, or the first one that can't be.
pub fn all<M, T: TryFrom<M, Error = DbErr>>(rows: Vec<M>) -> Result<Vec<T>, DbErr> {
    rows.into_iter().map(T::try_from).collect()
}
