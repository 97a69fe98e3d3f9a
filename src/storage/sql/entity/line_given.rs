//! Table `line_given`: what the line device of a user has been given of a conversation.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "line_given")]
pub struct Model {
    /// Whose device.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Of which conversation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// As `crate::domain::ranges` writes them.
    pub ranges: String,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
