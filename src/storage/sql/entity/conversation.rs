//! Table `conversations`: conversations without what is each member's own.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "conversations")]
pub struct Model {
    /// `conversation_id`.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Number of the `ConversationKind`.
    pub kind: i16,
    /// Unique. `low:high` of the two users of a direct conversation; `owner~hash` of a group that was created under a
    /// `client_id`; null for others.
    pub direct_key: Option<String>,
    /// Empty for direct.
    pub name: String,
    /// Empty for direct.
    pub description: String,
    /// 0: none.
    pub avatar_file_id: i64,
    /// 0 for direct.
    pub owner_id: i64,
    /// Number of the `JoinPolicy`.
    pub join_policy: i16,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
    /// Last change of the row or of its membership.
    pub updated_at_ms: i64,
    /// May be empty.
    pub announcement: String,
    /// Only the owner and admins write.
    pub read_only: bool,
    /// 0: no slow mode.
    pub slow_mode_seconds: i64,
    /// Members are silenced for now.
    pub silence_all: bool,
    /// New members see the past.
    pub history_open: bool,
    /// 0: it goes on.
    pub dissolved_at_ms: i64,
    /// How long its messages are kept; 0: as long as all.
    pub retention_seconds: i64,
    /// Messages before this seq were removed.
    pub floor_seq: i64,
    /// Members who have not left.
    pub member_count: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
