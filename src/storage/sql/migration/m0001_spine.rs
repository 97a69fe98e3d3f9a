//! The tables of the spine: accounts, contacts, conversations, logs.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        for table in [
            users(of),
            devices(of),
            contacts(of),
            conversations(of),
            members(of),
            messages(of),
            line_given(of),
        ] {
            table.create(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the first tables are not taken back; remove the database instead".to_owned()))
    }
}

fn users(of: Columns) -> NewTable {
    let columns = vec![
        of.id("id"),
        of.string("username", 64),
        of.bytes("username_key", 255),
        of.string("display_name", 255),
        of.string("display_key", 255),
        of.int("avatar_file_id"),
        of.long_text("bio"),
        of.string("password_hash", 255),
        of.flag("disabled"),
        of.int("created_at_ms"),
    ];
    NewTable::new(of, "users", columns).index("users_username", true, ["username_key"])
}

fn devices(of: Columns) -> NewTable {
    let columns = vec![
        of.id("id"),
        of.int("user_id"),
        of.bytes("token_hash", 128),
        of.string("name", 255),
        of.int("created_at_ms"),
        of.int("last_seen_ms"),
        of.int("expires_at_ms"),
    ];
    NewTable::new(of, "devices", columns).index("devices_token", true, ["token_hash"]).index(
        "devices_user",
        false,
        ["user_id"],
    )
}

fn contacts(of: Columns) -> NewTable {
    let columns = vec![
        of.int("user_id"),
        of.int("contact_id"),
        of.word("state"),
        of.long_text("message"),
        of.int("updated_at_ms"),
    ];
    NewTable::new(of, "contacts", columns).primary_key(["user_id", "contact_id"])
}

fn conversations(of: Columns) -> NewTable {
    let columns = vec![
        of.id("id"),
        of.word("kind"),
        of.string("direct_key", 64).null().to_owned(),
        of.string("name", 255),
        of.long_text("description"),
        of.int("avatar_file_id"),
        of.int("owner_id"),
        of.word("join_policy"),
        of.int("created_at_ms"),
        of.int("updated_at_ms"),
    ];
    NewTable::new(of, "conversations", columns).index("conversations_direct", true, ["direct_key"])
}

fn members(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.int("user_id"),
        of.word("role"),
        of.int("first_seq"),
        of.int("delivered_seq"),
        of.int("read_seq"),
        of.int("joined_at_ms"),
        of.int("removed_at_ms"),
        of.int("muted_until_ms"),
        of.flag("pinned"),
        of.int("updated_at_ms"),
    ];
    NewTable::new(of, "members", columns).primary_key(["conversation_id", "user_id"]).index(
        "members_user",
        false,
        ["user_id"],
    )
}

fn messages(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.int("seq"),
        of.int("sender_id"),
        // 64 characters of up to four bytes each. Null is different from every other null.
        of.bytes("client_id", 256).null().to_owned(),
        of.word("kind"),
        of.long_text("text"),
        of.int("reply_to_seq"),
        of.int("target_seq"),
        of.string("emoji", 255),
        of.long_text("extra").null().to_owned(),
        of.int("created_at_ms"),
    ];
    NewTable::new(of, "messages", columns).primary_key(["conversation_id", "seq"]).index(
        "messages_client",
        true,
        ["conversation_id", "sender_id", "client_id"],
    )
}

fn line_given(of: Columns) -> NewTable {
    let columns = vec![of.int("user_id"), of.int("conversation_id"), of.long_text("ranges")];
    NewTable::new(of, "line_given", columns).primary_key(["user_id", "conversation_id"])
}
