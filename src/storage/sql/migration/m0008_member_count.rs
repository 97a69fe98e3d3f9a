//! How many are in a conversation, on its row, so that nobody counts them: the list shows it for each of its rows. And
//! indexes by which timers find what is due, in its order.

use sea_orm_migration::prelude::*;

use super::tables::Columns;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// Counts those who are in. It may be repeated.
const COUNT: &str = "UPDATE conversations SET member_count = (SELECT COUNT(*) FROM members \
     WHERE members.conversation_id = conversations.id AND members.removed_at_ms = 0)";

/// Table, name and columns.
const INDEXES: [(&str, &str, [&str; 3]); 2] = [
    ("expiries", "expiries_in_order", ["expires_at_ms", "conversation_id", "seq"]),
    ("scheduled", "scheduled_in_order", ["failed", "send_at_ms", "id"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
        if !manager.has_column("conversations", "member_count").await? {
            let mut count = Columns::of(manager).int("member_count").default(0).to_owned();
            let add = Table::alter().table("conversations").add_column(&mut count).to_owned();
            manager.alter_table(add).await?;
        }
        manager.get_connection().execute_unprepared(COUNT).await?;
        for (table, name, columns) in INDEXES {
            if !manager.has_index(table, name).await? {
                let mut index = Index::create().name(name).table(table).to_owned();
                for column in columns {
                    index.col(column);
                }
                manager.create_index(index).await?;
            }
        }
        // What they begin with alone was too little.
        for (table, name) in [("expiries", "expiries_due"), ("scheduled", "scheduled_due")] {
            if manager.has_index(table, name).await? {
                manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what is counted is not counted anew; go on with this version".to_owned()))
    }
}
