//! What tables and columns are made of, for either database.
//!
//! Keys that must differ byte by byte are binary columns: text columns of MySQL ignore trailing spaces, and by
//! default case. Text is utf8mb4 whatever the server's default is, so that every character of Unicode fits.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

/// A table, and its indexes beside the primary key.
pub struct NewTable {
    statement: TableCreateStatement,
    indexes: Vec<IndexCreateStatement>,
}

impl NewTable {
    /// A table of these columns; nothing happens if it is there already.
    pub fn new(of: Columns, name: &'static str, columns: Vec<ColumnDef>) -> Self {
        let mut statement = Table::create().table(name).if_not_exists().to_owned();
        for mut column in columns {
            statement.col(&mut column);
        }
        if of.backend == DbBackend::MySql {
            statement.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
        }
        Self { statement, indexes: Vec::new() }
    }

    /// With this primary key, where no column is one by itself.
    pub fn primary_key<const N: usize>(mut self, columns: [&'static str; N]) -> Self {
        let mut key = Index::create().to_owned();
        for column in columns {
            key.col(column);
        }
        self.statement.primary_key(&mut key);
        self
    }

    /// With this index.
    pub fn index<const N: usize>(
        mut self,
        name: &'static str,
        unique: bool,
        columns: [&'static str; N],
    ) -> Self {
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
    pub async fn create(mut self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
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
pub struct Columns {
    backend: DbBackend,
}

impl Columns {
    /// For the database that is migrated.
    pub fn of(manager: &SchemaManager<'_>) -> Self {
        Self { backend: manager.get_database_backend() }
    }

    /// A number that the database gives.
    pub fn id(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().to_owned()
    }

    /// An id, seq or time.
    pub fn int(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().to_owned()
    }

    /// Number of an enum's value.
    pub fn word(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).small_integer().not_null().to_owned()
    }

    /// Yes or no.
    pub fn flag(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).boolean().not_null().to_owned()
    }

    /// A short text, at most so many characters.
    pub fn string(self, name: &'static str, length: u32) -> ColumnDef {
        ColumnDef::new(name).string_len(length).not_null().to_owned()
    }

    /// A key compared byte by byte, at most so many bytes.
    pub fn bytes(self, name: &'static str, length: u32) -> ColumnDef {
        ColumnDef::new(name).var_binary(length).not_null().to_owned()
    }

    /// A text of up to 16 MiB. MySQL's TEXT ends at 65,535 bytes, one short of the longest message.
    pub fn long_text(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        if self.backend == DbBackend::MySql {
            column.custom("mediumtext")
        } else {
            column.text()
        };
        column.not_null().to_owned()
    }
}
