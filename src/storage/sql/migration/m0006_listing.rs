//! Where conversations stand in their members' lists (`super::super::listing`), and the indexes that lists are read by.

use sea_orm::{ConnectionTrait as _, Statement};
use sea_orm_migration::prelude::*;

use super::super::convert::int;
use super::super::listing::UNKNOWN;
use super::tables::Columns;
use crate::clock::now_ms;

/// How long a rolling update may take, in seconds.
const UPDATE_S: i64 = 3600;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        // Unsettled. Where there are conversations, nodes may still run that know nothing of this, and append without waking:
        // a rolling update has an hour before any conversation settles.
        let is_new = has_no_conversations(manager).await?;
        let awake_until_s = if is_new { 1 } else { int(now_ms() / 1000) + UPDATE_S };
        add(manager, "conversations", of.int("awake_until_s").default(awake_until_s).to_owned()).await?;
        add(manager, "members", of.int("listed_ms").default(UNKNOWN).to_owned()).await?;
        let listed = ["user_id", "removed_at_ms", "listed_ms", "conversation_id"];
        index(manager, "members", "members_listed", &listed).await?;
        index(manager, "conversations", "conversations_awake", &["awake_until_s"]).await?;
        index(manager, "preferences", "preferences_changed", &["user_id", "changed_at_ms"]).await?;
        // The first one begins with the same column.
        if manager.has_index("members", "members_user").await? {
            manager.drop_index(Index::drop().name("members_user").table("members").to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the order of lists is not taken back; go on with this version".to_owned()))
    }
}

async fn has_no_conversations(manager: &SchemaManager<'_>) -> Result<bool, DbErr> {
    let db = manager.get_connection();
    let any = Statement::from_string(db.get_database_backend(), "SELECT id FROM conversations LIMIT 1");
    Ok(db.query_one_raw(any).await?.is_none())
}

/// Neither database has a form of ADD COLUMN that may be repeated in all its versions.
async fn add(manager: &SchemaManager<'_>, table: &'static str, mut column: ColumnDef) -> Result<(), DbErr> {
    if manager.has_column(table, column.get_column_name()).await? {
        return Ok(());
    }
    manager.alter_table(Table::alter().table(table).add_column(&mut column).to_owned()).await
}

async fn index(
    manager: &SchemaManager<'_>,
    table: &'static str,
    name: &'static str,
    columns: &[&'static str],
) -> Result<(), DbErr> {
    if manager.has_index(table, name).await? {
        return Ok(());
    }
    let mut index = Index::create().name(name).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    manager.create_index(index).await
}
