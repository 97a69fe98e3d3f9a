//! One node of a local cluster: a child process, its addresses, its output and its end.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Lines of a node's output that are kept, for error messages and tests.
const LINES_KEPT: usize = 400;
/// Lines of them that an error message shows.
const LINES_SHOWN: usize = 20;
/// How long the output of a node that failed to start is read on for the error message.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Pause between two looks at `/readyz`.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long one look may take.
const READY_CALL: Duration = Duration::from_secs(2);
/// What a started node's line on its standard output begins with.
const READY_LINE: &str = "rookery ready ";

/// Where a node listens, each as host:port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP and WebSocket.
    pub http: String,
    /// TCP frames.
    pub tcp: String,
    /// TCP lines.
    pub line: String,
    /// Admin.
    pub admin: String,
    /// Links from other nodes.
    pub cluster: String,
}

/// Where the nodes' output goes. In each case the last lines are kept in memory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Output {
    /// To our own standard output and error, each line behind the node's name.
    Forward,
    /// Nowhere else.
    #[default]
    Keep,
    /// To a file `NAME.log` for each node in this folder, appended.
    Files(PathBuf),
}

/// How a node is started.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) executable: PathBuf,
    /// A program that becomes the executable, with its arguments; empty: none.
    pub(super) launcher: Vec<String>,
    pub(super) config: Option<PathBuf>,
    /// The folder that it runs in; `None`: ours. The executable's path must be absolute then.
    pub(super) folder: Option<PathBuf>,
    pub(super) listen: Addresses,
    pub(super) seeds: Vec<String>,
    pub(super) database_url: String,
    pub(super) environment: Vec<(String, String)>,
    pub(super) extra_arguments: Vec<String>,
    pub(super) output: Output,
    pub(super) ready_timeout: Duration,
}

/// A node of a local cluster, running or ended.
#[derive(Debug)]
pub struct LocalNode {
    name: String,
    addresses: Addresses,
    process: Process,
    /// Its end was asked for.
    pub(super) end_expected: bool,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    /// A node stops when this closes, so that none outlives us, however we end.
    stdin: Option<ChildStdin>,
    exit: watch::Receiver<Option<ExitStatus>>,
    lines: Lines,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// Tells a node's end: its place in the cluster, its pid and its status.
pub(super) type ExitNotice = (usize, u32, ExitStatus);

impl LocalNode {
    /// Starts the process and waits until it is ready for clients. `at` and `exits`: for the notice of its end.
    pub(super) async fn start(
        spec: Spec,
        at: usize,
        exits: mpsc::Sender<ExitNotice>,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + spec.ready_timeout;
        let mut child = command(&spec)
            .spawn()
            .with_context(|| format!("{} can't be started from {}", spec.name, spec.executable.display()))?;
        let pid = child.id().ok_or_else(|| anyhow!("{} ended before it began", spec.name))?;
        let lines = Lines::default();
        let (ready_sender, mut ready) = watch::channel(None);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let stdin = child.stdin.take();
        let mut readers = Vec::new();
        if let Some(stdout) = stdout {
            let reading = read_output(stdout, false, spec.clone(), Arc::clone(&lines), Some(ready_sender));
            readers.push(tokio::spawn(reading));
        }
        if let Some(stderr) = stderr {
            let reading = read_output(stderr, true, spec.clone(), Arc::clone(&lines), None);
            readers.push(tokio::spawn(reading));
        }
        let (exit_sender, exit) = watch::channel(None);
        tokio::spawn(watch_exit(child, pid, at, exit_sender, exits));
        let process = Process { pid, stdin, exit, lines };
        let mut node =
            Self { name: spec.name, addresses: Addresses::default(), process, end_expected: false };

        // A failure below drops `node`, which kills the process.
        let started = timeout_at(deadline, async {
            tokio::select! {
                addresses = ready.wait_for(Option::is_some) => {
                    let addresses = addresses.map(|a| a.clone().unwrap_or_default());
                    node.addresses = match addresses {
                        Ok(addresses) => addresses,
                        Err(_) => bail!("it closed its standard output before its ready line"),
                    };
                }
                status = node.exited() => bail!("it ended at once: {status}"),
            }
            tokio::select! {
                () = answers_ready(&node.addresses.admin) => Ok(()),
                status = node.exited() => bail!("it ended while it was starting: {status}"),
            }
        })
        .await
        .unwrap_or_else(|_| Err(anyhow!("it was not ready within {} s", spec.ready_timeout.as_secs())));
        match started {
            Ok(()) => Ok(node),
            Err(error) => {
                // Its last words may still be in the pipes.
                let _ = timeout(LAST_WORDS, futures_util::future::join_all(readers)).await;
                Err(anyhow!("{} did not start: {error:#}{}", node.name, node.tail()))
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens; after its end, where it listened.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.is_running().then_some(self.process.pid)
    }

    /// Whether this is its present process.
    pub(super) fn was(&self, pid: u32) -> bool {
        self.process.pid == pid
    }

    /// Whether its process has not ended. A stopped process runs in this sense.
    pub fn is_running(&self) -> bool {
        self.process.exit.borrow().is_none()
    }

    /// The last lines of its output, both streams.
    pub fn output(&self) -> Vec<String> {
        self.process.lines.lock().iter().cloned().collect()
    }

    /// Waits for the end of its process.
    pub async fn exited(&self) -> ExitStatus {
        let mut exit = self.process.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The watching task ends only after it has told.
            Err(_) => ExitStatus::default(),
        }
    }

    /// Waits for its end, up to `limit`.
    pub(super) async fn exited_within(&self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.exited()).await.ok()
    }

    /// Sends a signal to the process, if it runs.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { bail!("{} does not run", self.name) };
        let pid = Pid::from_raw(i32::try_from(pid).context("a pid fits 31 bits")?);
        kill(pid, signal).with_context(|| format!("{} can't be sent {signal}", self.name))
    }

    /// The last lines, for an error message.
    fn tail(&self) -> String {
        let lines = self.process.lines.lock();
        let shown: Vec<&str> =
            lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).map(String::as_str).collect();
        if shown.is_empty() { String::new() } else { format!("; its last lines:\n  {}", shown.join("\n  ")) }
    }
}

impl Drop for LocalNode {
    fn drop(&mut self) {
        // Closing the standard input asks it to stop; a stopped or hung one would not notice.
        self.process.stdin = None;
        if self.is_running() {
            // An error means that it has just ended.
            let _ = self.signal(Signal::SIGKILL);
        }
    }
}

fn command(spec: &Spec) -> Command {
    let mut command = match spec.launcher.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&spec.executable);
            command
        }
        None => Command::new(&spec.executable),
    };
    command.arg("serve").args(["--name", &spec.name]);
    if let Some(config) = &spec.config {
        command.arg("--config").arg(config);
    }
    let listen = &spec.listen;
    for (option, address) in [
        ("--http-listen", &listen.http),
        ("--tcp-listen", &listen.tcp),
        ("--line-listen", &listen.line),
        ("--admin-listen", &listen.admin),
        ("--cluster-listen", &listen.cluster),
    ] {
        command.args([option, address]);
    }
    for seed in &spec.seeds {
        command.args(["--seed", seed]);
    }
    command.args(["--database-url", &spec.database_url, "--stop-on-stdin-close"]);
    command.args(&spec.extra_arguments);
    if let Some(folder) = &spec.folder {
        command.current_dir(folder);
    }
    command.envs(spec.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C at the terminal is for us, and we stop the nodes in order.
    command.process_group(0).kill_on_drop(true);
    command
}

async fn watch_exit(
    mut child: Child,
    pid: u32,
    at: usize,
    exit: watch::Sender<Option<ExitStatus>>,
    exits: mpsc::Sender<ExitNotice>,
) {
    let status = child.wait().await.unwrap_or_default();
    exit.send_replace(Some(status));
    // When nobody takes notices, there is nobody to miss them.
    let _ = exits.try_send((at, pid, status));
}

async fn read_output(
    stream: impl AsyncRead + Unpin,
    is_error: bool,
    spec: Spec,
    lines: Lines,
    ready: Option<watch::Sender<Option<Addresses>>>,
) {
    let mut file = match &spec.output {
        Output::Files(folder) => {
            let path = folder.join(format!("{}.log", spec.name));
            tokio::fs::OpenOptions::new().create(true).append(true).open(path).await.ok()
        }
        _ => None,
    };
    let mut reader = BufReader::new(stream);
    let mut raw = Vec::new();
    // Bytes and not `lines()`, since a node may print what isn't UTF-8.
    while let Ok(1..) = reader.read_until(b'\n', &mut raw).await {
        let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
        raw.clear();
        if let Some(ready) = &ready
            && let Some(addresses) = parse_ready(&line)
        {
            ready.send_replace(Some(addresses));
        }
        if spec.output == Output::Forward {
            forward(&spec.name, &line, is_error);
        }
        if let Some(file) = &mut file {
            // A full disk must not stop the node, which would block on its output.
            let _ = file.write_all(format!("{line}\n").as_bytes()).await;
        }
        let mut lines = lines.lock();
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "forwarding output is its purpose")]
fn forward(name: &str, line: &str, is_error: bool) {
    if is_error {
        eprintln!("{name} | {line}");
    } else {
        println!("{name} | {line}");
    }
}

/// Reads `rookery ready name=n1 http=127.0.0.1:8080 tcp=… line=… admin=… cluster=…`.
fn parse_ready(line: &str) -> Option<Addresses> {
    let mut addresses = Addresses::default();
    for word in line.strip_prefix(READY_LINE)?.split_whitespace() {
        let (key, value) = word.split_once('=')?;
        let place = match key {
            "http" => &mut addresses.http,
            "tcp" => &mut addresses.tcp,
            "line" => &mut addresses.line,
            "admin" => &mut addresses.admin,
            "cluster" => &mut addresses.cluster,
            _ => continue,
        };
        value.clone_into(place);
    }
    (!addresses.admin.is_empty()).then_some(addresses)
}

/// Waits until `/readyz` at the admin address answers 200. Has no deadline of its own.
async fn answers_ready(admin: &str) {
    let http = reqwest::Client::builder()
        .timeout(READY_CALL)
        .no_proxy()
        .build()
        .expect("the settings are valid, and no TLS back end has to be loaded");
    let url = format!("http://{admin}/readyz");
    loop {
        if http.get(&url).send().await.is_ok_and(|response| response.status().is_success()) {
            return;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read() {
        let line = "rookery ready name=n1 http=127.0.0.1:1 tcp=127.0.0.1:2 line=127.0.0.1:3 admin=127.0.0.1:4 \
                    cluster=127.0.0.1:5 more=later";
        let addresses = parse_ready(line).expect("it is the ready line");
        assert_eq!((addresses.http.as_str(), addresses.cluster.as_str()), ("127.0.0.1:1", "127.0.0.1:5"));
        assert_eq!(parse_ready("INFO rookery ready"), None);
        assert_eq!(parse_ready("rookery ready name=n1"), None);
    }
}
