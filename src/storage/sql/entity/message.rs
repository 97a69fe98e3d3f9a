//! Table `messages`: the logs. They only grow; a row changes by entries behind it that name it (`super::super::changes`), and
//! when its sender's account is erased.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "messages")]
pub struct Model {
    /// Which log.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// Where in it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// By whom.
    pub sender_id: i64,
    /// UTF-8 bytes, unique with conversation and sender; null where the message has none.
    pub client_id: Option<Vec<u8>>,
    /// Number of the `MessageKind`.
    pub kind: i16,
    /// The body.
    pub text: String,
    /// 0: none.
    pub reply_to_seq: i64,
    /// 0: none.
    pub target_seq: i64,
    /// Of a reaction.
    pub emoji: String,
    /// Attachments, mentions and what has become of the message, as JSON; null in most messages.
    pub extra: Option<String>,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
