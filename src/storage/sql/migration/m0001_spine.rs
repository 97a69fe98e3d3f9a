//! The tables of the spine: accounts, contacts, conversations, logs.
//!
//! Keys that must differ byte by byte are binary columns: text columns of MySQL ignore trailing spaces, and by
//! default case. Text is utf8mb4 whatever the server's default is, so that every character of Unicode fits.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns { backend: manager.get_database_backend() };
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

/// A table, and its indexes beside the primary key.
struct NewTable {
    statement: TableCreateStatement,
    indexes: Vec<IndexCreateStatement>,
}

impl NewTable {
    fn new(of: Columns, name: &'static str, columns: Vec<ColumnDef>) -> Self {
        let mut statement = Table::create().table(name).if_not_exists().to_owned();
        for mut column in columns {
            statement.col(&mut column);
        }
        if of.backend == DbBackend::MySql {
            statement.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
        }
        Self { statement, indexes: Vec::new() }
    }

    fn primary_key<const N: usize>(mut self, columns: [&'static str; N]) -> Self {
        let mut key = Index::create().to_owned();
        for column in columns {
            key.col(column);
        }
        self.statement.primary_key(&mut key);
        self
    }

    fn index<const N: usize>(mut self, name: &'static str, unique: bool, columns: [&'static str; N]) -> Self {
        let mut index = Index::create().name(name).to_owned();
        for column in columns {
            index.col(column);
        }
        if unique {
            index.unique();
        }
        self.indexes.push(index);
        self
    }

    /// With MySQL, which has no `CREATE INDEX IF NOT EXISTS`, the indexes are part of the table's one statement.
    async fn create(mut self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::MySql {
            for index in &mut self.indexes {
                self.statement.index(index);
            }
            return manager.create_table(self.statement).await;
        }
        let table = self.statement.get_table_name().cloned();
        manager.create_table(self.statement).await?;
        for mut index in self.indexes {
            if let Some(table) = table.clone() {
                index.table(table);
            }
            manager.create_index(index.if_not_exists().to_owned()).await?;
        }
        Ok(())
    }
}

/// Columns of either database.
#[derive(Clone, Copy)]
struct Columns {
    backend: DbBackend,
}

impl Columns {
    fn id(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().to_owned()
    }

    fn int(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().to_owned()
    }

    /// Number of an enum's value.
    fn word(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).small_integer().not_null().to_owned()
    }

    fn flag(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).boolean().not_null().to_owned()
    }

    /// A short text, at most so many characters.
    fn string(self, name: &'static str, length: u32) -> ColumnDef {
        ColumnDef::new(name).string_len(length).not_null().to_owned()
    }

    /// A key compared byte by byte, at most so many bytes.
    fn bytes(self, name: &'static str, length: u32) -> ColumnDef {
        ColumnDef::new(name).var_binary(length).not_null().to_owned()
    }

    /// A text of up to 16 MiB. MySQL's TEXT ends at 65,535 bytes, one short of the longest message.
    fn long_text(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        if self.backend == DbBackend::MySql {
            column.custom("mediumtext")
        } else {
            column.text()
        };
        column.not_null().to_owned()
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
