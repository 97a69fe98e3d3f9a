//! What groups have beside a name: rules, silenced members, requests to join, bans and invite codes.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        for table in [join_requests(of), bans(of), invites(of)] {
            table.create(manager).await?;
        }
        let added = [
            ("conversations", of.string("announcement", 2048).default("").to_owned()),
            ("conversations", of.flag("read_only").default(false).to_owned()),
            ("conversations", of.int("slow_mode_seconds").default(0).to_owned()),
            ("conversations", of.flag("silence_all").default(false).to_owned()),
            ("conversations", of.flag("history_open").default(false).to_owned()),
            ("conversations", of.int("dissolved_at_ms").default(0).to_owned()),
            ("members", of.int("silenced_until_ms").default(0).to_owned()),
        ];
        for (table, mut column) in added {
            // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what rooms decided is not thrown away; go on with this version".to_owned()))
    }
}

fn join_requests(of: Columns) -> NewTable {
    let columns =
        vec![of.int("conversation_id"), of.int("user_id"), of.long_text("message"), of.int("created_at_ms")];
    NewTable::new(of, "join_requests", columns).primary_key(["conversation_id", "user_id"]).index(
        "join_requests_user",
        false,
        ["user_id"],
    )
}

fn bans(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.int("user_id"),
        of.int("banned_by"),
        of.long_text("reason"),
        of.int("created_at_ms"),
    ];
    NewTable::new(of, "bans", columns).primary_key(["conversation_id", "user_id"])
}

fn invites(of: Columns) -> NewTable {
    let columns = vec![
        of.bytes("code", 64),
        of.int("conversation_id"),
        of.int("created_by"),
        of.int("created_at_ms"),
        of.int("expires_at_ms"),
        of.int("uses_max"),
        of.int("uses"),
    ];
    NewTable::new(of, "invites", columns).primary_key(["code"]).index(
        "invites_conversation",
        false,
        ["conversation_id"],
    )
}
