//! What befalls a database, one test a fault: killed, stopped, full, out of connections, locked. Each is measured, and
//! held to what docs/decisions/0009 promises.
//!
//! The table of docs/reliability.md (milliseconds, median / worst: slowest answer to a send, the same once the fault is
//! known, sends back, reads and sign-in back):
//! `ROOKERY_FAULT_ROUNDS=5 cargo test --test api outage_faults -- --nocapture --test-threads 1 2>&1 | grep '^|'`

use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlConnection;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, Executor as _};
use sea_orm::{ConnectionTrait as _, Database};

use crate::mariadb::MariaDb;
use crate::outage_figures::{Promise, measure};
use crate::outage_scene::Scene;
use crate::tiny_disk::TinyDisk;
use crate::world::unique;

/// A server that is gone: noticed within 1.75 s at worst, refused at once from then on, back with the next try.
const AWAY: Promise =
    Promise { answer: Duration::from_secs(3), known: SOON, back: BACK, stores_nothing: true };
/// A server that answers, but not as it should; it does so within its lock wait, or we within `acquire_timeout`.
const HINDERED: Promise =
    Promise { answer: LONGEST, known: Duration::from_secs(4), back: BACK, stores_nothing: true };
/// A disk without room, where a short message may still find some.
const FULL: Promise = Promise { known: SOON, stores_nothing: false, ..HINDERED };
/// After the end of any fault.
const BACK: Duration = Duration::from_secs(2);
/// Once a fault is known.
const SOON: Duration = Duration::from_millis(250);
/// At any time.
const LONGEST: Duration = Duration::from_secs(5);

/// MiB of a disk on which MariaDB fits, and little else.
const MARIADB_DISK: u32 = 300;
/// MiB of a disk for SQLite.
const SQLITE_DISK: u32 = 100;
/// Bytes of a message on such a disk.
const HEAVY: usize = 2_000;
/// Most rows of one size to fill it with.
const ROWS_MAX: usize = 20_000;
/// Rows that a table has before its disk is full.
const ROWS_BEFORE: usize = 5_000;
/// The fewest connections that a server can be told to give.
const FEW: usize = 10;

async fn on_a_server(settings: &[&str]) -> Scene<MariaDb> {
    let server = MariaDb::start_in(&std::env::temp_dir(), settings).await;
    let url = server.database().await;
    Scene::on(server, &url).await
}

#[tokio::test]
async fn a_killed_server_is_refused_at_once_and_found_again_within_two_seconds() {
    let mut scene = on_a_server(&[]).await;
    let name = "MariaDB killed with -9, started again";
    measure(&mut scene, name, &AWAY, async |server| server.kill(), async |server| server.restart().await)
        .await;
}

#[tokio::test]
async fn a_stopped_server_is_refused_soon_and_found_again_within_two_seconds() {
    let mut scene = on_a_server(&[]).await;
    let name = "MariaDB stopped (SIGSTOP), continued";
    measure(&mut scene, name, &AWAY, async |server| server.freeze(), async |server| server.thaw()).await;
}

/// A server with connections for few, and those who take them all.
struct Crowded {
    server: MariaDb,
    crowd: Vec<MySqlConnection>,
}

impl Crowded {
    /// Takes every connection, also those that the node has.
    async fn crowds(&mut self, take: impl AsyncFn(&MariaDb) -> Option<MySqlConnection>) {
        let mut operator = self.server.connect().await.expect("one is left");
        loop {
            let of_node = "SELECT id FROM information_schema.processlist WHERE user = 'rookery' AND db <> ''";
            let ids: Vec<(i64,)> = sqlx::query_as(of_node).fetch_all(&mut operator).await.expect("it lists");
            let mut all_taken = true;
            for (id,) in &ids {
                let kill = sqlx::AssertSqlSafe(format!("KILL CONNECTION {id}"));
                // It may have ended by itself.
                drop(operator.execute(kill).await);
                all_taken = false;
            }
            while let Some(connection) = take(&self.server).await {
                self.crowd.push(connection);
                all_taken = false;
            }
            if all_taken {
                break;
            }
        }
        self.crowd.push(operator);
    }

    /// Lets them go.
    async fn disperses(&mut self) {
        for connection in self.crowd.drain(..) {
            connection.close().await.expect("it says goodbye");
        }
    }
}

/// A node that signs in at the server as a user without privileges of an operator's.
async fn on_a_crowded_server(settings: &[&str], user_limit: &str) -> Scene<Crowded> {
    let server = MariaDb::start_in(&std::env::temp_dir(), settings).await;
    let url = server.database().await.replace("root@", "rookery:rookery@");
    server.does(&format!("CREATE USER rookery@'127.0.0.1' IDENTIFIED BY 'rookery' {user_limit}")).await;
    server.does("GRANT ALL ON `test_%`.* TO rookery@'127.0.0.1'").await;
    Scene::on(Crowded { server, crowd: Vec::new() }, &url).await
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_unavailable_in_time_and_used_again() {
    let settings = [format!("--max-connections={FEW}")];
    let mut scene = on_a_crowded_server(&[&settings[0]], "").await;
    let begin = async |crowded: &mut Crowded| {
        crowded.crowds(async |server| server.connect().await.ok()).await;
    };
    let name = "max_connections taken by others";
    measure(&mut scene, name, &HINDERED, begin, async |crowded| crowded.disperses().await).await;
}

#[tokio::test]
async fn a_user_without_a_free_connection_is_unavailable_in_time_and_served_again() {
    let limit = format!("WITH MAX_USER_CONNECTIONS {FEW}");
    let mut scene = on_a_crowded_server(&[], &limit).await;
    let begin = async |crowded: &mut Crowded| {
        crowded.crowds(async |server| server.connect_as("rookery", "rookery").await.ok()).await;
    };
    let name = "max_user_connections taken by others";
    measure(&mut scene, name, &HINDERED, begin, async |crowded| crowded.disperses().await).await;
}

/// Stores rows by another connection until there is no room for even a small one.
async fn fill_the_table(url: &str) {
    let other = Database::connect(url).await.expect("it connects");
    for bytes in [HEAVY, 100] {
        for _ in 0..ROWS_MAX {
            let row = format!(
                "INSERT INTO messages VALUES (999999, {}, 1, NULL, 0, '{}', 0, 0, '', NULL, 0)",
                unique(),
                "x".repeat(bytes)
            );
            if other.execute_unprepared(&row).await.is_err() {
                break;
            }
        }
    }
    other.close().await.expect("it closes");
}

#[tokio::test]
async fn a_server_with_a_full_disk_is_unavailable_in_time_and_used_again() {
    let Some(disk) = TinyDisk::mount(MARIADB_DISK) else { return };
    let server = MariaDb::start_in(disk.path(), &["--innodb-log-file-size=16M"]).await;
    let url = server.database().await;
    let mut scene = Scene::on((server, disk), &url).await;
    scene.weight = HEAVY;
    // MariaDB 10.11 kills itself where a small table finds no room, since the rollback needs some too.
    let grown = Database::connect(&url).await.expect("it connects");
    let rows = format!(
        "INSERT INTO messages SELECT 999998, seq, 1, NULL, 0, REPEAT('x', {HEAVY}), 0, 0, '', NULL, 0 \
         FROM seq_1_to_{ROWS_BEFORE}"
    );
    grown.execute_unprepared(&rows).await.expect("there is room");
    grown.close().await.expect("it closes");
    let begin = async |(_, disk): &mut (MariaDb, TinyDisk)| {
        disk.fill();
        fill_the_table(&url).await;
    };
    let end = async |(server, disk): &mut (MariaDb, TinyDisk)| {
        disk.make_room();
        if !server.is_running() {
            server.kill();
            server.restart().await;
        }
    };
    measure(&mut scene, "MariaDB's disk full", &FULL, begin, end).await;
    assert!(scene.database.0.is_running());
}

#[tokio::test]
async fn a_file_on_a_full_disk_is_unavailable_in_time_and_used_again() {
    let Some(disk) = TinyDisk::mount(SQLITE_DISK) else { return };
    let url = format!("sqlite://{}", disk.path().join("rookery.db").display());
    let mut scene = Scene::on(disk, &url).await;
    scene.weight = HEAVY;
    let begin = async |disk: &mut TinyDisk| {
        disk.fill();
        fill_the_table(&url).await;
    };
    measure(&mut scene, "SQLite's disk full", &FULL, begin, async |disk| disk.make_room()).await;
}

#[tokio::test]
async fn a_file_locked_by_another_process_is_unavailable_in_time_and_written_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rookery.db");
    let mut scene = Scene::on(None, &format!("sqlite://{}", file.display())).await;
    let begin = async |lock: &mut Option<SqliteConnection>| {
        let options = SqliteConnectOptions::new().filename(&file).busy_timeout(LONGEST);
        let mut other = options.connect().await.expect("it is there");
        other.execute("BEGIN IMMEDIATE").await.expect("it is granted");
        *lock = Some(other);
    };
    let end = async |lock: &mut Option<SqliteConnection>| {
        lock.take().expect("it is held").close().await.expect("it closes");
    };
    let promise = Promise { known: SOON, ..HINDERED };
    measure(&mut scene, "SQLite locked by another process", &promise, begin, end).await;
}

#[tokio::test]
async fn tables_that_stay_locked_are_unavailable_in_time_and_written_again() {
    let server = MariaDb::start().await;
    let url = server.database().await;
    let mut scene = Scene::on((server, None), &url).await;
    let begin = async |(server, lock): &mut (MariaDb, Option<MySqlConnection>)| {
        let mut operator = server.connect().await.expect("the server answers");
        operator.execute("FLUSH TABLES WITH READ LOCK").await.expect("it is granted");
        *lock = Some(operator);
    };
    let end = async |(_, lock): &mut (MariaDb, Option<MySqlConnection>)| {
        lock.take().expect("it is held").close().await.expect("it says goodbye");
    };
    measure(&mut scene, "MariaDB locked by a backup (FLUSH TABLES WITH READ LOCK)", &HINDERED, begin, end)
        .await;
}
