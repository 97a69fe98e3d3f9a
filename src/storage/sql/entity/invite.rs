//! Table `invites`: codes that let into groups.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invites")]
pub struct Model {
    /// The code, compared byte by byte.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code: Vec<u8>,
    /// Into which group.
    pub conversation_id: i64,
    /// Who made it.
    pub created_by: i64,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
    /// Unix time, milliseconds; 0: never.
    pub expires_at_ms: i64,
    /// 0: as often as one likes.
    pub uses_max: i64,
    /// How often it was used.
    pub uses: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
