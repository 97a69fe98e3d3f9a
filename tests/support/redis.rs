//! A private Redis for tests: own folder, own port on loopback, and a proxy before it that can make it slow.
//!
//! Like `mariadb.rs`, the server runs under a small shell that waits on a pipe held by the test process: however that
//! process ends, the pipe closes, and the shell kills the server and removes the folder. Test binaries take this file
//! in by `#[path]`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Starts tried, as the port found may be taken by another in between.
const STARTS: usize = 3;

/// Runs the server (all arguments behind the first) and prints its process id. The end of its input kills the server
/// and removes the folder; a line "keep" leaves the folder.
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
pub struct Redis {
    folder: PathBuf,
    port: u16,
    keeper: Child,
    server_pid: u32,
    arguments: Vec<String>,
    password: String,
}

impl Redis {
    /// A server with these further arguments (`--maxmemory`, `2mb`).
    pub async fn start(arguments: &[&str]) -> Self {
        let folder =
            tempfile::Builder::new().prefix("rookery-redis-").tempdir().expect("a temporary folder").keep();
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let password = arguments.iter().position(|word| word == "--requirepass");
        let password = password.map_or_else(String::new, |at| arguments[at + 1].clone());
        for _ in 0..STARTS {
            let port = free_port();
            let (keeper, server_pid) = launch(&folder, port, &arguments);
            let mut server = Self {
                folder: folder.clone(),
                port,
                keeper,
                server_pid,
                arguments: arguments.clone(),
                password: password.clone(),
            };
            if server.answers().await {
                return server;
            }
            server.kill();
        }
        panic!("Redis did not start; see {}", folder.join("server.log").display());
    }

    /// A sentinel with this file, which it writes to.
    pub async fn sentinel(file: &std::path::Path) -> Self {
        Self::start(&[&format!("@{}", file.display()), "--sentinel"]).await
    }

    /// host:port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As `cache.url` names it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Ends the server as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut input) = self.keeper.stdin.take() {
            std::io::Write::write_all(&mut input, b"keep\n").expect("the keeper reads");
        }
        self.keeper.wait().expect("the keeper ends");
    }

    /// Starts it again on its port and its folder, and waits until it answers.
    pub async fn restart(&mut self) {
        let (keeper, server_pid) = launch(&self.folder, self.port, &self.arguments);
        self.keeper = keeper;
        self.server_pid = server_pid;
        assert!(self.answers().await, "Redis did not come back");
    }

    /// Stops the server's process without ending it: connections stay open and silent.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.server_pid.to_string()]).status();
        assert!(done.expect("kill runs").success(), "the server's process is there");
    }

    /// What a command answers, as the protocol has it; an error begins with `-`.
    pub async fn asks(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let mut request = String::new();
        let mut commands = Vec::new();
        if !self.password.is_empty() {
            commands.push(vec!["AUTH", self.password.as_str()]);
        }
        let replies = commands.len() + 1;
        commands.push(words.to_vec());
        for command in commands {
            request.push_str(&format!("*{}\r\n", command.len()));
            for word in command {
                request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
        }
        stream.write_all(request.as_bytes()).await?;
        let mut answers = BufReader::new(std::io::Cursor::new(read_replies(&mut stream, replies).await?));
        let mut last = String::new();
        for _ in 0..replies {
            last = one_reply(&mut answers)?;
        }
        Ok(last)
    }

    async fn answers(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            if self.asks(&["PING"]).await.is_ok_and(|answer| answer == "PONG") {
                return true;
            }
            let is_there = Command::new("kill").args(["-0", &self.server_pid.to_string()]).status();
            if !is_there.expect("kill runs").success() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Reads until `replies` complete simple or bulk replies are there.
async fn read_replies(stream: &mut TcpStream, replies: usize) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut part = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        all.extend_from_slice(&part[..read]);
        let mut complete = BufReader::new(std::io::Cursor::new(all.clone()));
        if (0..replies).all(|_| one_reply(&mut complete).is_ok()) {
            return Ok(all);
        }
    }
}

/// One reply: a status, error, number or bulk string; arrays are not asked for here.
fn one_reply(answers: &mut impl std::io::BufRead) -> std::io::Result<String> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or_else(cut)?;
    match line.split_at_checked(1).ok_or_else(cut)? {
        ("+" | ":", text) => Ok(text.to_owned()),
        ("$", "-1") => Ok(String::new()),
        ("$", length) => {
            let length: usize = length.parse().map_err(std::io::Error::other)?;
            let mut text = vec![0; length + 2];
            answers.read_exact(&mut text)?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Ok(line.to_owned()),
    }
}

/// A way to a server that takes its time.
pub struct Proxy {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and passes on what comes, both ways.
    pub async fn to(server: String) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let delay_ms: Arc<AtomicU64> = Arc::default();
        let delay = Arc::clone(&delay_ms);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::spawn(pass_on(client_reads, server_writes, Arc::clone(&delay)));
                tokio::spawn(pass_on(server_reads, client_writes, Arc::clone(&delay)));
            }
        });
        Self { address, delay_ms, task }
    }

    /// As `cache.url` names it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on each way takes so much longer.
    pub fn delays(&self, by: Duration) {
        self.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Arc<AtomicU64>,
) {
    let mut part = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut part).await {
        if read == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(delay.load(Ordering::SeqCst))).await;
        if to.write_all(&part[..read]).await.is_err() {
            return;
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Starts the keeper and the server; the server's process id.
fn launch(folder: &std::path::Path, port: u16, arguments: &[String]) -> (Child, u32) {
    // A configuration file comes first.
    let (file, arguments) = match arguments.split_first() {
        Some((first, others)) if first.starts_with('@') => (Some(first[1..].to_owned()), others),
        _ => (None, arguments),
    };
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(folder)
        .arg("redis-server")
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
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
