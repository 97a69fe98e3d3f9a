//! When a membership's row in lists last changed by reading, and the index that finds those for a device that comes back.

use sea_orm_migration::prelude::*;

use super::tables::Columns;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
        if !manager.has_column("members", "cursors_ms").await? {
            let mut cursors_ms = Columns::of(manager).int("cursors_ms").default(0).to_owned();
            manager
                .alter_table(Table::alter().table("members").add_column(&mut cursors_ms).to_owned())
                .await?;
        }
        if !manager.has_index("members", "members_cursors").await? {
            let mut index = Index::create().name("members_cursors").table("members").to_owned();
            manager.create_index(index.col("user_id").col("cursors_ms").to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what was read when is not forgotten; go on with this version".to_owned()))
    }
}
