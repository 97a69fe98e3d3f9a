//! A private MariaDB for tests: own folder, own port on loopback, default durability. It ends with the test process.
//! Test binaries take this file in by `#[path]`.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rookery::cli::load::launch::kept::{Kept, free_port};
use rookery::cli::load::launch::mariadb::{install, server};
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::OnceCell;

/// How long a server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts tried, as the port found may be taken by another in between.
const STARTS: usize = 3;

/// A server and its folder.
pub struct MariaDb {
    kept: Kept,
    port: u16,
    databases: AtomicU32,
    /// Settings of its own, as arguments that override the others.
    settings: Vec<String>,
}

impl MariaDb {
    /// The one server that the tests of a binary share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<MariaDb> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A server of one's own, for tests that stop it.
    pub async fn start() -> Self {
        Self::start_in(&std::env::temp_dir(), &[]).await
    }

    /// The same with its data in a folder of its own below `parent`, and with settings (`--max-connections=10`).
    pub async fn start_in(parent: &Path, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("rookery-mariadb-")
            .tempdir_in(parent)
            .expect("a temporary folder");
        install(folder.path()).unwrap_or_else(|error| panic!("{error:#}"));
        let mut server = Self {
            kept: Kept::on(folder.keep()),
            port: 0,
            databases: AtomicU32::new(0),
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        };
        for _ in 0..STARTS {
            server.port = free_port("127.0.0.1").expect("a free port");
            server.launch();
            if server.answers().await {
                return server;
            }
        }
        panic!("MariaDB did not start; see {}", server.kept.folder().join("server.log").display());
    }

    /// A new, empty database; its URL.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.does(&format!("CREATE DATABASE {name}")).await;
        format!("mysql://root@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends the server as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.kept.kill().expect("the server ends");
    }

    /// Starts it again on its data and its port, and waits until it answers.
    pub async fn restart(&mut self) {
        self.launch();
        assert!(self.answers().await, "MariaDB did not come back");
    }

    /// Stops the server's process without ending it: connections stay open and silent.
    pub fn freeze(&self) {
        self.kept.freeze().expect("the server runs");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.kept.thaw().expect("the server runs");
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a statement as the server's operator.
    pub async fn does(&self, sql: &str) {
        let mut connection = self.connect().await.expect("the server answers");
        let done = connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("it says goodbye");
    }

    /// Takes all connections that the server still gives; they end with their handles.
    pub async fn all_connections(&self) -> Vec<MySqlConnection> {
        let mut taken = Vec::new();
        while let Ok(connection) = self.connect().await {
            taken.push(connection);
        }
        taken
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        self.kept.is_running()
    }

    /// A connection of the server's operator.
    pub async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        MySqlConnectOptions::new().host("127.0.0.1").port(self.port).username("root").connect().await
    }

    /// A connection of another user.
    pub async fn connect_as(&self, user: &str, password: &str) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new().host("127.0.0.1").port(self.port);
        options.username(user).password(password).connect().await
    }

    fn launch(&mut self) {
        let mut server = server(self.kept.folder()).unwrap_or_else(|error| panic!("{error:#}"));
        server
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--max-connections=400"])
            .args(["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"])
            // Not what the tables need: they must say themselves what they are.
            .args(["--character-set-server=latin1", "--collation-server=latin1_swedish_ci"])
            .args(&self.settings);
        self.kept.launch(&server).unwrap_or_else(|error| panic!("{error:#}"));
    }

    async fn answers(&self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(mut connection) = self.connect().await
                && connection.ping().await.is_ok()
            {
                return true;
            }
            if !self.is_running() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}
