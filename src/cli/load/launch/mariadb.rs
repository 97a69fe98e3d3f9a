//! A MariaDB server of the run's own: data in a temporary folder, a port of its own, the default durability.
//!
//! The server runs under a small shell that waits on a pipe held by this process. However this process ends, the pipe
//! closes, and the shell kills the server and removes the folder. Ctrl-C at the terminal reaches neither: they have a
//! process group of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// How long the server may take to answer after its start, recovery after a kill included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look whether it answers.
const POLL: Duration = Duration::from_millis(10);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);
/// Starts tried, as the port found may be taken by another in between.
const STARTS: usize = 3;
/// Connections for all nodes and for us.
const CONNECTIONS_MAX: u32 = 400;
/// The user, its password and the database that every start makes sure of.
const ACCESS: &str = "rookery:rookery";
const DATABASE: &str = "rookery";
const PREPARE: &str = "CREATE DATABASE IF NOT EXISTS rookery;\n\
    CREATE USER IF NOT EXISTS 'rookery'@'%' IDENTIFIED BY 'rookery';\n\
    GRANT ALL ON rookery.* TO 'rookery'@'%';\n";

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

/// How much room a server takes. Durability is the default with either: fsync at every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For tests of what happens.
    Small,
    /// For measuring: nothing waits for pages or for room in the log.
    Large,
}

impl Size {
    fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Small => ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"],
            Self::Large => ["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M"],
        }
    }
}

/// A server and its folder.
#[derive(Debug)]
pub struct MariaDb {
    folder: PathBuf,
    size: Size,
    host: String,
    port: u16,
    keeper: Option<Child>,
    server: Pid,
}

impl MariaDb {
    /// Installs and starts a server that listens on this address of this machine.
    pub async fn start(host: &str, size: Size) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("rookery-loaddb-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(folder.join("tmp"))
            .with_context(|| format!("{} can't be made", folder.display()))?;
        let (host, port) = (host.to_owned(), free_port(host)?);
        let mut server = Self { folder, size, host, port, keeper: None, server: Pid::from_raw(0) };
        let place = server.folder.clone();
        spawn_blocking(move || install(&place)).await.context("the installation panicked")??;
        for _ in 0..STARTS {
            server.launch()?;
            if server.answers().await {
                return Ok(server);
            }
            server.kill()?;
            server.port = free_port(&server.host)?;
        }
        let log = std::fs::read_to_string(server.folder.join("server.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        bail!("MariaDB did not start; its log ends: {}", last.join(" | "))
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.as_raw().unsigned_abs()
    }

    /// host:port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The URL of its database, as reached at `address`.
    pub fn url(address: &str) -> String {
        format!("mysql://{ACCESS}@{address}/{DATABASE}")
    }

    /// Ends the server as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        if let Some(mut input) = keeper.stdin.take() {
            input.write_all(b"keep\n").context("the database's keeper does not read")?;
        }
        keeper.wait().context("the database's keeper does not end").map(drop)
    }

    /// Starts it again on its data and its port, and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.launch()?;
        if self.answers().await { Ok(()) } else { bail!("MariaDB did not come back") }
    }

    /// Stops its process without ending it: connections stay open and silent.
    pub fn freeze(&self) -> anyhow::Result<()> {
        kill(self.server, Signal::SIGSTOP).context("MariaDB can't be stopped")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        if self.keeper.is_none() {
            bail!("MariaDB does not run");
        }
        kill(self.server, Signal::SIGCONT).context("MariaDB can't go on")
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let folder = &self.folder;
        let prepare = folder.join("prepare.sql");
        std::fs::write(&prepare, PREPARE)
            .with_context(|| format!("{} can't be written", prepare.display()))?;
        let in_folder = |name: &str| folder.join(name).display().to_string();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder)
            .arg(program(["mariadbd", "mysqld"])?)
            .arg("--no-defaults")
            .arg(format!("--user={}", user()?))
            .arg(format!("--datadir={}", in_folder("data")))
            .arg(format!("--socket={}", in_folder("socket")))
            .arg(format!("--tmpdir={}", in_folder("tmp")))
            .arg(format!("--pid-file={}", in_folder("pid")))
            .arg(format!("--init-file={}", prepare.display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--bind-address={}", self.host))
            .arg(format!("--max-connections={CONNECTIONS_MAX}"))
            .arg("--skip-name-resolve")
            .args(self.size.arguments())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("sh can't be run")?;
        let mut line = String::new();
        let output = keeper.stdout.take().context("a pipe was asked for")?;
        let read = BufReader::new(output).read_line(&mut line);
        self.keeper = Some(keeper);
        read.context("the database's keeper says nothing")?;
        let pid = line.trim().parse().context("the database's keeper did not say a process id")?;
        self.server = Pid::from_raw(pid);
        Ok(())
    }

    /// Waits until it greets, as a server does that takes connections; `false`: its process has ended, or time has.
    async fn answers(&self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let greeting = async { TcpStream::connect(self.address()).await?.read_u8().await };
            if matches!(timeout(LOOK, greeting).await, Ok(Ok(_))) {
                return true;
            }
            if kill(self.server, None).is_err() {
                return false;
            }
            sleep(POLL).await;
        }
        false
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // The end of its input makes the keeper kill the server, frozen or not, and clean up.
            drop(keeper.stdin.take());
            // An error would leave nothing to be done.
            let _ = keeper.wait();
        }
        // After `kill` there is no keeper to do it; else it is gone already.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program by its name, also where only root's PATH has it.
fn program(names: [&str; 2]) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from));
    let mut places = folders.flat_map(|folder| names.map(|name| folder.join(name)));
    places
        .find(|place| place.is_file())
        .with_context(|| format!("{} is missing; install MariaDB's server", names[0]))
}

fn user() -> anyhow::Result<String> {
    let output = Command::new("id").arg("-un").output().context("id can't be run")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn install(folder: &Path) -> anyhow::Result<()> {
    let output = Command::new(program(["mariadb-install-db", "mysql_install_db"])?)
        .arg("--no-defaults")
        .arg(format!("--user={}", user()?))
        .arg(format!("--datadir={}", folder.join("data").display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        // Servers that install at the same time would take each other's temporary files away.
        .env("TMPDIR", folder.join("tmp"))
        .stdin(Stdio::null())
        .output()
        .context("mariadb-install-db can't be run")?;
    if !output.status.success() {
        bail!("mariadb-install-db failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn free_port(host: &str) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((host, 0)).with_context(|| format!("no port of {host} is free"))?;
    Ok(listener.local_addr().context("a bound socket has an address")?.port())
}
