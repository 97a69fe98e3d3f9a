//! Table `preferences`: members' own preferences and drafts, of those who have any.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "preferences")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Of which conversation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// Put away from the main list.
    pub archived: bool,
    /// Hidden until a message of this seq or a later one.
    pub hidden_before_seq: i64,
    /// Number of the `NotificationLevel`.
    pub notifications: i16,
    /// What was begun.
    pub draft: String,
    /// What it answers.
    pub draft_reply_to_seq: i64,
    /// Unix time, milliseconds; 0: there never was one.
    pub draft_at_ms: i64,
    /// Unix time, milliseconds.
    pub changed_at_ms: i64,
    /// Marked as unread while no more than what is before this seq was read.
    pub unread_before_seq: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
