//! How long messages live: the retention of groups and where it has come to in each log; when messages were hidden, so that
//! sync can tell; and which scheduled messages are being sent.

use sea_orm_migration::prelude::*;

use super::tables::Columns;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        let added = [
            ("conversations", of.int("retention_seconds").default(0).to_owned()),
            ("conversations", of.int("floor_seq").default(0).to_owned()),
            ("hidden", of.int("hidden_at_ms").default(0).to_owned()),
            ("scheduled", of.flag("claimed").default(false).to_owned()),
        ];
        for (table, mut column) in added {
            // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        let indexes: [(&str, &str, &[&str]); 3] = [
            ("conversations", "conversations_retention", &["retention_seconds"]),
            ("hidden", "hidden_time", &["user_id", "hidden_at_ms"]),
            ("hidden", "hidden_message", &["conversation_id", "seq"]),
        ];
        for (table, name, columns) in indexes {
            if !manager.has_index(table, name).await? {
                let mut index = Index::create().name(name).table(table).to_owned();
                for column in columns {
                    index.col(*column);
                }
                manager.create_index(index).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what was decided is not thrown away; go on with this version".to_owned()))
    }
}
