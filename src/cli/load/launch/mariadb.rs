//! A MariaDB server of the run's own: data in a temporary folder, a port of its own, the default durability.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::kept::{Kept, free_port, program};

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
/// What has to be installed.
const PACKAGE: &str = "mariadb-server";
const PREPARE: &str = "CREATE DATABASE IF NOT EXISTS rookery;\n\
    CREATE USER IF NOT EXISTS 'rookery'@'%' IDENTIFIED BY 'rookery';\n\
    GRANT ALL ON rookery.* TO 'rookery'@'%';\n";

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
    kept: Kept,
    size: Size,
    host: String,
    port: u16,
}

impl MariaDb {
    /// Installs and starts a server that listens on this address of this machine.
    pub async fn start(host: &str, size: Size) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("rookery-loaddb-{:016x}", rand::random::<u64>()));
        let (host, port) = (host.to_owned(), free_port(host)?);
        let place = folder.clone();
        let mut server = Self { kept: Kept::on(folder), size, host, port };
        spawn_blocking(move || install(&place)).await.context("the installation panicked")??;
        for _ in 0..STARTS {
            server.launch()?;
            if server.answers().await {
                return Ok(server);
            }
            server.port = free_port(&server.host)?;
        }
        let log = std::fs::read_to_string(server.kept.folder().join("server.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        bail!("MariaDB did not start; its log ends: {}", last.join(" | "))
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.kept.pid()
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
        self.kept.kill()
    }

    /// Starts it again on its data and its port, and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        if self.answers().await { Ok(()) } else { bail!("MariaDB did not come back") }
    }

    /// Stops its process without ending it: connections stay open and silent.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.kept.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.kept.thaw()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let prepare = self.kept.folder().join("prepare.sql");
        std::fs::write(&prepare, PREPARE)
            .with_context(|| format!("{} can't be written", prepare.display()))?;
        let mut server = server(self.kept.folder())?;
        server
            .arg(format!("--init-file={}", prepare.display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--bind-address={}", self.host))
            .arg(format!("--max-connections={CONNECTIONS_MAX}"))
            .args(self.size.arguments());
        self.kept.launch(&server)
    }

    /// Waits until it greets, as a server does that takes connections; `false`: its process has ended, or time has.
    async fn answers(&self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let greeting = async { TcpStream::connect(self.address()).await?.read_u8().await };
            if matches!(timeout(LOOK, greeting).await, Ok(Ok(_))) {
                return true;
            }
            if !self.kept.is_running() {
                return false;
            }
            sleep(POLL).await;
        }
        false
    }
}

fn user() -> anyhow::Result<String> {
    let output = Command::new("id").arg("-un").output().context("id can't be run")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Makes the server's tables in a folder.
pub fn install(folder: &Path) -> anyhow::Result<()> {
    // Servers that install at the same time would take each other's temporary files away.
    let temporary = folder.join("tmp");
    std::fs::create_dir_all(&temporary).with_context(|| format!("{} can't be made", temporary.display()))?;
    let output = Command::new(program(&["mariadb-install-db", "mysql_install_db"], PACKAGE)?)
        .arg("--no-defaults")
        .arg(format!("--user={}", user()?))
        .arg(format!("--datadir={}", folder.join("data").display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .output()
        .context("mariadb-install-db can't be run")?;
    if !output.status.success() {
        bail!("mariadb-install-db failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The server on what [`install`] has made in a folder; port, address and sizes are the caller's to add.
pub fn server(folder: &Path) -> anyhow::Result<Command> {
    let in_folder = |name: &str| folder.join(name).display().to_string();
    let mut server = Command::new(program(&["mariadbd", "mysqld"], PACKAGE)?);
    server
        .arg("--no-defaults")
        .arg(format!("--user={}", user()?))
        .arg(format!("--datadir={}", in_folder("data")))
        .arg(format!("--socket={}", in_folder("socket")))
        .arg(format!("--tmpdir={}", in_folder("tmp")))
        .arg(format!("--pid-file={}", in_folder("pid")))
        .arg("--skip-name-resolve");
    Ok(server)
}
