//! Table `devices`: signed-in clients and the hashes of their tokens.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "devices")]
pub struct Model {
    /// `device_id`.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// Bytes of the hash as the caller writes it; unique.
    pub token_hash: Vec<u8>,
    /// As the client named it.
    pub name: String,
    /// As the client named it; empty: it did not.
    pub platform: String,
    /// Unix time, milliseconds.
    pub created_at_ms: i64,
    /// Unix time, milliseconds.
    pub last_seen_ms: i64,
    /// Unix time, milliseconds.
    pub expires_at_ms: i64,
}

/// None that SeaORM need know.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
