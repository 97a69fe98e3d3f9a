//! One process of the binary, for tests of what it says and how it ends.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::world::{CHEAP, ROOKERY, eventually, within};

/// How long a process may take to say something or to end.
const OBEY: Duration = Duration::from_secs(40);

/// Starts the program (all arguments) and prints its process id. The end of its input ends the program, so that it
/// doesn't outlive the test process; the line "wait" has it wait for the program's own end. Exits as the program did.
const KEEPER: &str = r#"
"$@" </dev/null &
program=$!
echo "pid $program"
read -r word
[ "$word" = wait ] || kill -TERM "$program"
wait "$program"
"#;

/// A running process. Dropping it ends it.
pub struct Rookery {
    keeper: Child,
    pid: Pid,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

impl Rookery {
    /// Starts `rookery` with these arguments and environment, in `folder`.
    pub async fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper", ROOKERY]).args(arguments).current_dir(folder);
        command.envs(CHEAP).envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().expect("sh runs");
        let lines = Arc::default();
        let stdout = keeper.stdout.take().expect("it is a pipe");
        let stderr = keeper.stderr.take().expect("it is a pipe");
        let readers = vec![
            tokio::spawn(read(stdout, Arc::clone(&lines))),
            tokio::spawn(read(stderr, Arc::clone(&lines))),
        ];
        let mut rookery = Self { keeper, pid: Pid::from_raw(0), lines, readers };
        let pid = rookery.line_with(&["pid "]).await;
        rookery.pid = Pid::from_raw(pid["pid ".len()..].parse().expect("a pid is a number"));
        rookery
    }

    /// Starts a node on free ports and an SQLite file in `folder`, and waits until it serves.
    pub async fn serve(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        const FREE_PORTS: [(&str, &str); 4] = [
            ("ROOKERY__GATEWAY__HTTP_LISTEN", "127.0.0.1:0"),
            ("ROOKERY__GATEWAY__TCP_LISTEN", "127.0.0.1:0"),
            ("ROOKERY__GATEWAY__LINE_LISTEN", "127.0.0.1:0"),
            ("ROOKERY__ADMIN__LISTEN", "127.0.0.1:0"),
        ];
        let environment: Vec<(&str, &str)> =
            FREE_PORTS.into_iter().chain(environment.iter().copied()).collect();
        let arguments: Vec<&str> = ["serve"].into_iter().chain(arguments.iter().copied()).collect();
        let rookery = Self::start(folder, &arguments, &environment).await;
        rookery.line_with(&["rookery ready "]).await;
        rookery
    }

    /// Runs `rookery` to its end: whether it succeeded, and all that it said.
    pub async fn run(
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> (ExitStatus, String) {
        let mut rookery = Self::start(folder, arguments, environment).await;
        let status = rookery.ends().await;
        (status, rookery.said())
    }

    /// An address that the ready line names: `http`, `tcp`, `line`, `admin` or `cluster`.
    pub async fn address(&self, of: &str) -> String {
        let line = self.line_with(&["rookery ready "]).await;
        let word = line.split(' ').find_map(|word| word.strip_prefix(&format!("{of}=")));
        word.expect("the ready line names every address").to_owned()
    }

    /// The first line, of either output, that holds all these words; waits for it.
    pub async fn line_with(&self, words: &[&str]) -> String {
        let what = || format!("a line with {words:?}; what it said:\n{}", self.said());
        let found = tokio::time::timeout(OBEY, async {
            eventually(OBEY * 2, "a line", || async {
                let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned()
            })
            .await
        });
        found.await.unwrap_or_else(|_| panic!("not within {OBEY:?}: {}", what()))
    }

    /// All that it said so far, but for the keeper's line.
    pub fn said(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| !line.starts_with("pid ")).map(|line| format!("{line}\n")).collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the process is there");
    }

    /// Waits for its own end, and for all it has to say.
    pub async fn ends(&mut self) -> ExitStatus {
        if let Some(mut input) = self.keeper.stdin.take() {
            input.write_all(b"wait\n").await.expect("the keeper reads");
        }
        let what = format!("the end of process {}", self.pid);
        let status = within(OBEY, &what, self.keeper.wait()).await.expect("a child can be waited for");
        for reader in self.readers.drain(..) {
            within(OBEY, "the end of its output", reader).await.expect("reading doesn't fail");
        }
        status
    }
}

impl Drop for Rookery {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its processes said")]
    fn drop(&mut self) {
        // After "wait" the end of input means nothing to the keeper; an error means that the program has ended.
        if self.keeper.stdin.is_none() && self.keeper.id().is_some() {
            let _ = kill(self.pid, Signal::SIGTERM);
        }
        if std::thread::panicking() {
            eprintln!("--- process {} ---\n{}", self.pid, self.said());
        }
    }
}

async fn read(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
