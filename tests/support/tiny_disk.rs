//! A disk of a few MiB that a test can fill: a tmpfs, which takes root to mount.
//!
//! A small shell waits on a pipe held by the test process and unmounts it however that process ends.
//! Test binaries take this file in by `#[path]`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Mounts a tmpfs (the second argument: its size) on the first argument, says so, and unmounts it at the end of input.
const KEEPER: &str = r#"
mount -t tmpfs -o "size=$2" tmpfs "$1" 2>/dev/null && echo mounted || exit 1
exec >/dev/null 2>&1
read -r word
umount -l "$1"
"#;
/// Bytes written at once to fill it.
const STEP: usize = 64 * 1024;
/// The file that fills it.
const FILLER: &str = "filler";

/// A mounted disk. Dropping it unmounts it, also where files on it are still open.
pub struct TinyDisk {
    folder: tempfile::TempDir,
    keeper: Child,
}

impl TinyDisk {
    /// A disk of so many MiB; `None`, with a line that says so: this machine doesn't let us mount one.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("rookery-disk-").tempdir().expect("a temporary folder");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder.path())
            .arg(format!("{mib}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says whether it mounted");
        if line.trim() == "mounted" {
            return Some(Self { folder, keeper });
        }
        drop(keeper.wait());
        eprintln!("skipped: a small disk can't be mounted here (it takes root)");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that leaves no room for anything else.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(FILLER))
            .expect("the disk is ours");
        let mut step = STEP;
        while step > 0 {
            match file.write(&vec![b'x'; step]) {
                Ok(0) | Err(_) => step /= 2,
                Ok(_) => {}
            }
        }
    }

    /// From here on nothing can be written.
    pub fn becomes_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status();
        assert!(done.expect("mount runs").success(), "who may mount may remount");
    }

    /// Removes that file.
    pub fn make_room(&self) {
        fs::remove_file(self.folder.path().join(FILLER)).expect("it was filled before");
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}
