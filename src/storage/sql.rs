//! The stores in SQLite or MySQL/MariaDB, by SeaORM.
