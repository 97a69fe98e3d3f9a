//! Table `members`: who is, or was, in which conversation, and how far they have read.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "members")]
pub struct Model {
    /// Of which conversation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// Who.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Number of the `MemberRole`.
    pub role: i16,
    /// The first seq that the member may see.
    pub first_seq: i64,
    /// Never moves back.
    pub delivered_seq: i64,
    /// Never moves back.
    pub read_seq: i64,
    /// Unix time, milliseconds.
    pub joined_at_ms: i64,
    /// 0: is a member.
    pub removed_at_ms: i64,
    /// 0: not muted.
    pub muted_until_ms: i64,
    /// Kept at the top of the list.
    pub pinned: bool,
    /// Last change but for the cursors.
    pub updated_at_ms: i64,
    /// 0, or until when the member may not write.
    pub silenced_until_ms: i64,
    /// When what lists show of cursors last changed by reading, rounded up.
    pub cursors_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
