//! What a run ran on: figures mean nothing without it.

use std::fs;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a database may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a greeting in which the version stands.
const GREETING_BYTES: usize = 80;
/// Bytes before the version in a MySQL greeting: length, number, protocol.
const GREETING_HEAD: usize = 5;

/// The machine, its state when the run began, and what ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) cpu: String,
    /// Cores that this process may use.
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    /// Runnable threads on average over the minute before: above zero, something else ran, too.
    pub(super) load_before: f64,
    /// This program.
    pub(super) rookery: String,
    /// The commit of this program, where its build was told (`ROOKERY_COMMIT`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<String>,
    /// The database and its version, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
}

impl Machine {
    /// This machine, now; empty where something can't be read.
    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default();
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let load = read("/proc/loadavg");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            rookery: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("ROOKERY_COMMIT").map(str::to_owned),
            database: None,
        }
    }
}

/// The version of the database behind a URL, as it tells everyone who connects.
pub(super) async fn database_version(url: &str) -> Option<String> {
    if url.starts_with("sqlite:") {
        return Some("SQLite".to_owned());
    }
    let address = url.strip_prefix("mysql://")?;
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    let address = address.split('/').next()?;
    let greeting = async {
        let mut greeting = Vec::new();
        let stream = TcpStream::connect(address).await.ok()?;
        stream.take(GREETING_BYTES as u64).read_to_end(&mut greeting).await.ok()?;
        Some(greeting)
    };
    version_in(&timeout(GREETING_TIMEOUT, greeting).await.ok()??)
}

/// The text behind the head, up to a zero. MariaDB puts "5.5.5-" before its version for old replicas.
fn version_in(greeting: &[u8]) -> Option<String> {
    let text = greeting.get(GREETING_HEAD..)?.split(|byte| *byte == 0).next()?;
    let version = std::str::from_utf8(text).ok()?;
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let name = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    (!version.is_empty()).then(|| format!("{name} {}", version.split('-').next().unwrap_or(version)))
}

/// Now, as 2026-01-31T12:00:00Z.
pub(super) fn date() -> String {
    humantime_serde::re::humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The command that this process was started with, as one would type it.
pub(super) fn command_line() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(program).chain(words).map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::here();
        assert!(
            machine.cores > 0 && machine.memory_bytes > 1 << 20 && !machine.kernel.is_empty(),
            "{machine:?}"
        );
    }

    #[test]
    fn a_command_can_be_typed_again() {
        assert_eq!(quoted("--json"), "--json");
        assert_eq!(quoted("it's 1"), r"'it'\''s 1'");
        assert_eq!(quoted(""), "''");
    }

    #[tokio::test]
    async fn a_database_tells_its_version() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut greeting = b"\x6a\0\0\0\x0a5.5.5-10.11.6-MariaDB-0+deb12u1\0".to_vec();
        greeting.resize(GREETING_BYTES + 20, 1);
        let database = async {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            stream.write_all(&greeting).await.expect("they read");
            stream
        };
        let url = format!("mysql://a:b@{address}/c");
        let (version, _stream) = tokio::join!(database_version(&url), database);
        assert_eq!(version.as_deref(), Some("MariaDB 10.11.6"));
        assert_eq!(version_in(b"\x6a\0\0\0\x0a8.4.2\0").as_deref(), Some("MySQL 8.4.2"));
        assert_eq!(version_in(b""), None);
    }
}
