//! Table `privacy`: who may do what to a user, of those who have said so.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "privacy")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Number of the `Audience`.
    pub who_may_write: i16,
    /// Number of the `Audience`.
    pub who_may_add: i16,
    /// Number of the `Audience`.
    pub who_sees_last_seen: i16,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
