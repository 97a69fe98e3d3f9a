//! What is kept so that it is not lost with a node: what groups have to say of changes of themselves, and what is to be done
//! once more about accounts that were erased.

use sea_orm_migration::prelude::*;

use super::tables::{Columns, NewTable};

/// The migration; its name is this file's.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let of = Columns::of(manager);
        sayings(of).create(manager).await?;
        late_erasures(of).create(manager).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("what is to be done is not thrown away; go on with this version".to_owned()))
    }
}

fn late_erasures(of: Columns) -> NewTable {
    let user = of.int("user_id").primary_key().to_owned();
    let columns = vec![user, of.int("since_ms"), of.int("due_at_ms")];
    NewTable::new(of, "late_erasures", columns).index("late_erasures_due", false, ["due_at_ms"])
}

fn sayings(of: Columns) -> NewTable {
    let columns = vec![
        of.int("conversation_id"),
        of.bytes("client_id", 64),
        of.int("said_by"),
        of.long_text("text"),
        of.long_text("about"),
        of.int("target_seq"),
        of.int("created_at_ms"),
    ];
    NewTable::new(of, "sayings", columns).primary_key(["conversation_id", "client_id"])
}
