//! Where conversations stand in their members' lists (`super::super::listing`), and the indexes that lists are read by.

use sea_orm_migration::prelude::*;

use super::super::listing::UNKNOWN;
use super::tables::Columns;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        // Unsettled, with a lease that has run out.
        add(manager, "conversations", of.int("awake_until_s").default(1).to_owned()).await?;
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
