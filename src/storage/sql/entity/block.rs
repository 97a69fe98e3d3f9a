//! Table `blocks`: who has blocked whom.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "blocks")]
pub struct Model {
    /// Who has blocked.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub blocked_id: i64,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
