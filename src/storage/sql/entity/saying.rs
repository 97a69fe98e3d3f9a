//! Table `sayings`: what groups have to say of changes of themselves, until their logs have it.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sayings")]
pub struct Model {
    /// Which group.
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: i64,
    /// The name of the message that says it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub client_id: Vec<u8>,
    /// In whose name.
    pub said_by: i64,
    /// What.
    pub text: String,
    /// Ids of users, with commas between.
    pub about: String,
    /// The message that it is about; 0: none.
    pub target_seq: i64,
    /// When it was changed, Unix time, milliseconds.
    pub created_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
