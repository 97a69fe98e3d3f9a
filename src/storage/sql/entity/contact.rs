//! Table `contacts`: one side of a relation between two users; there is a row for each side.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "contacts")]
pub struct Model {
    /// Whose list it is in.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// Who is listed.
    #[sea_orm(primary_key, auto_increment = false)]
    pub contact_id: i64,
    /// Number of the `ContactState`.
    pub state: i16,
    /// What the request said.
    pub message: String,
    /// Unix time, milliseconds.
    pub updated_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
