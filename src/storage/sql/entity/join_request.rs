//! Table `join_requests`: who wants into which group.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "join_requests")]
pub struct Model {
    /// Into which group.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// Who.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// What the request says.
    pub message: String,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
