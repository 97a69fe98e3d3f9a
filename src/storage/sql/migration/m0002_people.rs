//! The tables of what is each user's own: privacy, presence, blocks, preferences and drafts; and the platform of a
//! device.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        for table in [privacy(of), presence(of), blocks(of), preferences(of)] {
            table.create(manager).await?;
        }
        // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
        if !manager.has_column("devices", "platform").await? {
            let mut platform = of.string("platform", 128).default("").to_owned();
            let add = Table::alter().table("devices").add_column(&mut platform).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what users said is not thrown away; go on with this version".to_owned()))
    }
}

fn privacy(of: Columns) -> NewTable {
    let columns = vec![
        of.int("user_id"),
        of.word("who_may_write"),
        of.word("who_may_add"),
        of.word("who_sees_last_seen"),
    ];
    NewTable::new(of, "privacy", columns).primary_key(["user_id"])
}

fn presence(of: Columns) -> NewTable {
    let columns = vec![of.int("user_id"), of.word("status"), of.string("text", 255), of.int("last_seen_ms")];
    NewTable::new(of, "presence", columns).primary_key(["user_id"])
}

fn blocks(of: Columns) -> NewTable {
    let columns = vec![of.int("user_id"), of.int("blocked_id"), of.int("created_at_ms")];
    NewTable::new(of, "blocks", columns).primary_key(["user_id", "blocked_id"]).index(
        "blocks_blocked",
        false,
        ["blocked_id"],
    )
}

fn preferences(of: Columns) -> NewTable {
    let columns = vec![
        of.int("user_id"),
        of.int("conversation_id"),
        of.flag("archived"),
        of.int("hidden_before_seq"),
        of.word("notifications"),
        of.long_text("draft"),
        of.int("draft_reply_to_seq"),
        of.int("draft_at_ms"),
        of.int("changed_at_ms"),
    ];
    NewTable::new(of, "preferences", columns).primary_key(["user_id", "conversation_id"])
}
