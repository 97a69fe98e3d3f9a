//! Table `users`: accounts.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// `user_id`.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// As it was signed up.
    pub username: String,
    /// UTF-8 bytes of the form that is compared; unique.
    pub username_key: Vec<u8>,
    /// Shown to others.
    pub display_name: String,
    /// `display_name` in lower case, for the search.
    pub display_key: String,
    /// 0: none.
    pub avatar_file_id: i64,
    /// A line about oneself.
    pub bio: String,
    /// PHC string.
    pub password_hash: String,
    /// No sign-in.
    pub disabled: bool,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
