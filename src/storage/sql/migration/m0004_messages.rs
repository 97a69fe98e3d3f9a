//! What changes messages: the edits of each, so that a recall finds their texts, and the reactions that stand; the messages'
//! own rows hold the rest. And what stands beside them: what users hid from themselves, pins, what is to be sent later, and
//! when messages expire.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        for table in [edits(of), reactions(of), hidden(of), pins(of), scheduled(of), expiries(of)] {
            table.create(manager).await?;
        }
        // Neither database has a form of ADD COLUMN that may be repeated in all its versions.
        if !manager.has_column("preferences", "unread_before_seq").await? {
            let mut mark = of.int("unread_before_seq").default(0).to_owned();
            let add = Table::alter().table("preferences").add_column(&mut mark).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what users said is not thrown away; go on with this version".to_owned()))
    }
}

fn edits(of: Columns) -> NewTable {
    let columns = vec![of.int("conversation_id"), of.int("target_seq"), of.int("seq")];
    NewTable::new(of, "edits", columns).primary_key(["conversation_id", "target_seq", "seq"])
}

fn reactions(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.int("target_seq"),
        of.bytes("emoji", 64),
        of.int("user_id"),
        of.int("seq"),
    ];
    NewTable::new(of, "reactions", columns).primary_key(["conversation_id", "target_seq", "emoji", "user_id"])
}

fn hidden(of: Columns) -> NewTable {
    let columns = vec![of.int("user_id"), of.int("conversation_id"), of.int("seq")];
    NewTable::new(of, "hidden", columns).primary_key(["user_id", "conversation_id", "seq"])
}

fn pins(of: Columns) -> NewTable {
    let columns = vec![of.int("conversation_id"), of.int("seq"), of.int("user_id"), of.int("pinned_at_ms")];
    NewTable::new(of, "pins", columns).primary_key(["conversation_id", "seq"])
}

fn scheduled(of: Columns) -> NewTable {
    let columns = vec![
        of.id("id"),
        of.int("user_id"),
        of.int("conversation_id"),
        of.bytes("client_id", 256),
        of.int("send_at_ms"),
        of.long_text("body"),
        of.flag("failed"),
        of.long_text("failure"),
    ];
    NewTable::new(of, "scheduled", columns)
        .index("scheduled_client", true, ["user_id", "conversation_id", "client_id"])
        .index("scheduled_due", false, ["send_at_ms"])
}

fn expiries(of: Columns) -> NewTable {
    let columns = vec![of.int("conversation_id"), of.int("seq"), of.int("expires_at_ms")];
    NewTable::new(of, "expiries", columns).primary_key(["conversation_id", "seq"]).index(
        "expiries_due",
        false,
        ["expires_at_ms"],
    )
}
