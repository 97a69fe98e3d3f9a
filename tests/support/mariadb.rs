//! A private MariaDB for tests: own folder, own port on loopback, default durability.
//!
//! The server runs under a small shell that waits on a pipe held by the test process. However that process ends, also
//! by a panic or a kill, the pipe closes, and the shell kills the server and removes the folder.
//! Test binaries take this file in by `#[path]`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::OnceCell;

/// How long a server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts tried, as the port found may be taken by another in between.
const STARTS: usize = 3;

/// Runs the server (all arguments behind the first) and prints its process id. A line "keep" on its input kills
/// the server and leaves the folder (the first argument); the end of its input kills it and removes the folder.
const KEEPER: &str = r#"
folder="$1"; shift
"$@" >>"$folder/server.log" 2>&1 </dev/null &
server=$!
echo "$server"
exec >/dev/null 2>&1
read -r word
kill -9 "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$folder"
"#;

/// A server and its folder.
pub struct MariaDb {
    folder: PathBuf,
    port: u16,
    keeper: Child,
    server_pid: u32,
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
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        install(folder.path());
        // From here on the keeper removes it.
        let folder = folder.keep();
        for _ in 0..STARTS {
            let port = free_port();
            let (keeper, server_pid) = launch(&folder, port, &settings);
            let databases = AtomicU32::new(0);
            let (folder, settings) = (folder.clone(), settings.clone());
            let mut server = Self { folder, port, keeper, server_pid, databases, settings };
            if server.wait_until_it_answers().await {
                return server;
            }
            server.kill();
        }
        panic!("MariaDB did not start; see {}", folder.join("server.log").display());
    }

    /// A new, empty database; its URL.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.does(&format!("CREATE DATABASE {name}")).await;
        format!("mysql://root@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends the server as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut input) = self.keeper.stdin.take() {
            input.write_all(b"keep\n").expect("the keeper reads");
        }
        self.keeper.wait().expect("the keeper ends");
    }

    /// Starts it again on its data and its port, and waits until it answers.
    pub async fn restart(&mut self) {
        let (keeper, server_pid) = launch(&self.folder, self.port, &self.settings);
        self.keeper = keeper;
        self.server_pid = server_pid;
        assert!(self.wait_until_it_answers().await, "MariaDB did not come back");
    }

    /// Stops the server's process without ending it: connections stay open and silent.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
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
        let pid = self.server_pid.to_string();
        let is_there = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status();
        is_there.expect("kill runs").success()
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.server_pid.to_string()]).status();
        assert!(done.expect("kill runs").success(), "the server's process is there");
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

    async fn wait_until_it_answers(&mut self) -> bool {
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

impl Drop for MariaDb {
    fn drop(&mut self) {
        // A server that may be frozen is killed all the same. Its end of input makes the keeper clean up.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
        // After `kill` there is no keeper to do it; else it is gone already.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A program by its name, also where only root's PATH has it.
fn program(names: [&str; 2]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from));
    let places: Vec<PathBuf> = folders.flat_map(|folder| names.map(|name| folder.join(name))).collect();
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("{} is missing, and these tests run a real MariaDB: apt-get install mariadb-server", names[0])
    })
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn install(folder: &Path) {
    // Servers that install at the same time would take each other's temporary files away.
    let temporary = folder.join("tmp");
    std::fs::create_dir(&temporary).expect("the folder is ours");
    let output = Command::new(program(["mariadb-install-db", "mysql_install_db"]))
        .arg("--no-defaults")
        .arg(format!("--user={}", user()))
        .arg(format!("--datadir={}", folder.join("data").display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()
        .expect("mariadb-install-db runs");
    assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Starts the keeper and the server; the server's process id.
fn launch(folder: &Path, port: u16, settings: &[String]) -> (Child, u32) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(folder)
        .arg(program(["mariadbd", "mysqld"]))
        .arg("--no-defaults")
        .arg(format!("--user={}", user()))
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--tmpdir={}", folder.join("tmp").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--port={port}"))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=400"])
        .args(["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"])
        // Not what the tables need: they must say themselves what they are.
        .args(["--character-set-server=latin1", "--collation-server=latin1_swedish_ci"])
        .args(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    let mut line = String::new();
    let output = keeper.stdout.take().expect("it is a pipe");
    BufReader::new(output).read_line(&mut line).expect("the keeper says the process id");
    let server_pid = line.trim().parse().expect("a process id is a number");
    (keeper, server_pid)
}
