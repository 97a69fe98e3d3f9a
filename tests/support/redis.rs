//! A private Redis for tests: own folder, own port on loopback, and a proxy before it that can make it slow. It ends with
//! the test process. Test binaries take this file in by `#[path]`.

use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rookery::cli::load::launch::kept::{Kept, free_port, program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Starts tried, as the port found may be taken by another in between.
const STARTS: usize = 3;

/// A server and its folder.
pub struct Redis {
    kept: Kept,
    port: u16,
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
        let mut server = Self { kept: Kept::on(folder), port: 0, arguments, password };
        for _ in 0..STARTS {
            server.port = free_port("127.0.0.1").expect("a free port");
            server.launch();
            if server.answers().await {
                return server;
            }
        }
        panic!("Redis did not start; see {}", server.kept.folder().join("server.log").display());
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
        self.kept.kill().expect("the server ends");
    }

    /// Starts it again on its port and its folder, and waits until it answers.
    pub async fn restart(&mut self) {
        self.launch();
        assert!(self.answers().await, "Redis did not come back");
    }

    /// Stops the server's process without ending it: connections stay open and silent.
    pub fn freeze(&self) {
        self.kept.freeze().expect("the server runs");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.kept.thaw().expect("the server runs");
    }

    fn launch(&mut self) {
        let redis = program(&["redis-server"], "redis-server").unwrap_or_else(|error| panic!("{error:#}"));
        // A configuration file comes first.
        let (file, arguments) = match self.arguments.split_first() {
            Some((first, others)) if first.starts_with('@') => (Some(&first[1..]), others),
            _ => (None, &self.arguments[..]),
        };
        let mut server = Command::new(redis);
        server
            .args(file)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.kept.folder())
            .args(arguments);
        self.kept.launch(&server).unwrap_or_else(|error| panic!("{error:#}"));
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
            if !self.kept.is_running() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
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
