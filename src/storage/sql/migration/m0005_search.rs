//! The tables of the search index.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        for table in [positions(of), messages(of), terms(of)] {
            table.create(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the search index is not taken back; go on with this version".to_owned()))
    }
}

fn positions(of: Columns) -> NewTable {
    let columns = vec![of.int("conversation_id"), of.int("low_seq"), of.int("high_seq"), of.int("edition")];
    NewTable::new(of, "search_positions", columns).primary_key(["conversation_id"])
}

fn messages(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.int("seq"),
        of.int("sender_id"),
        of.word("kind"),
        of.int("created_at_ms"),
        of.long_text("terms"),
    ];
    NewTable::new(of, "search_messages", columns).primary_key(["conversation_id", "seq"])
}

fn terms(of: Columns) -> NewTable {
    let columns = vec![of.int("conversation_id"), of.bytes("term", 32), of.int("seq")];
    NewTable::new(of, "search_terms", columns).primary_key(["conversation_id", "term", "seq"])
}
