//! A server that ends with this process, and the folder it runs on.
//!
//! The server runs under a small shell that waits on a pipe held by this process. However this process ends, also by a
//! panic or a kill, the pipe closes, and the shell kills the server and removes the folder. Ctrl-C at the terminal reaches
//! neither: they have a process group of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// A server and its folder, which is removed in the end.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    running: Option<(Child, Pid)>,
}

impl Kept {
    /// On this folder; nothing runs yet.
    pub fn on(folder: PathBuf) -> Self {
        Self { folder, running: None }
    }

    /// The folder. What the server writes to its outputs is in `server.log` there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a server by the program and the arguments of `server`; one that still runs is killed before.
    pub fn launch(&mut self, server: &Command) -> anyhow::Result<()> {
        self.kill()?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.folder)
            .arg(server.get_program())
            .args(server.get_args())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("sh can't be run")?;
        let mut line = String::new();
        let output = keeper.stdout.take().context("a pipe was asked for")?;
        BufReader::new(output).read_line(&mut line).context("the server's keeper says nothing")?;
        let pid = line.trim().parse().context("the server's keeper did not say a process id")?;
        self.running = Some((keeper, Pid::from_raw(pid)));
        Ok(())
    }

    /// Ends the server as a power cut would, and waits until it is gone. The folder stays.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some((mut keeper, _)) = self.running.take() else { return Ok(()) };
        if let Some(mut input) = keeper.stdin.take() {
            input.write_all(b"keep\n").context("the server's keeper does not read")?;
        }
        keeper.wait().context("the server's keeper does not end").map(drop)
    }

    /// Stops the server's process without ending it: connections stay open and silent.
    pub fn freeze(&self) -> anyhow::Result<()> {
        kill(self.server()?, Signal::SIGSTOP).context("the server can't be stopped")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        kill(self.server()?, Signal::SIGCONT).context("the server can't go on")
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        self.server().is_ok_and(|server| kill(server, None).is_ok())
    }

    /// Its process; 0: there is none.
    pub fn pid(&self) -> u32 {
        self.server().map_or(0, |server| server.as_raw().unsigned_abs())
    }

    fn server(&self) -> anyhow::Result<Pid> {
        self.running.as_ref().map(|(_, server)| *server).context("the server does not run")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some((mut keeper, _)) = self.running.take() {
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
pub fn program(names: &[&str], package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from));
    let mut places = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    places
        .find(|place| place.is_file())
        .with_context(|| format!("{} is missing, and a real one is run: apt-get install {package}", names[0]))
}

/// A port of this address that nobody has at this moment.
pub fn free_port(host: &str) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((host, 0)).with_context(|| format!("no port of {host} is free"))?;
    Ok(listener.local_addr().context("a bound socket has an address")?.port())
}
