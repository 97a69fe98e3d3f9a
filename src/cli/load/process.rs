//! What a process has used so far, by `/proc`.

use std::fs;
use std::ops::Sub;

use serde::{Deserialize, Serialize};

/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, which is 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time and resident memory at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// In its own code, seconds, all threads.
    pub(super) user_seconds: f64,
    /// In the kernel for it, seconds.
    pub(super) system_seconds: f64,
    /// Resident, in bytes.
    pub(super) memory_bytes: u64,
}

impl Usage {
    /// `None`: there is no such process.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (user_seconds, system_seconds) = seconds_in(&stat)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory_bytes = number_behind(&status, "VmRSS:").unwrap_or(0) * 1024;
        Some(Self { user_seconds, system_seconds, memory_bytes })
    }

    pub(super) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Resident memory of a process, in bytes. `None`: there is no such process.
pub(super) fn memory_of(pid: u32) -> Option<u64> {
    Usage::of(pid).map(|usage| usage.memory_bytes)
}

/// utime and stime: fields 14 and 15 of proc_pid_stat(5). The second field is a name in parentheses that may hold
/// anything, so that fields are counted from behind it.
fn seconds_in(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}

/// The number behind a name at the beginning of a line.
fn number_behind(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What the kernel has counted for a process, or between two moments. Reading it looks at every thread, so it is not
/// for every second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    /// Times that a thread gave up its core to wait; of threads that still live.
    pub(super) voluntary_switches: u64,
    /// Times that one was taken off its core.
    pub(super) involuntary_switches: u64,
    /// Calls of read(2) and its kin. What goes by recv(2) or io_uring is not among them.
    pub(super) read_calls: u64,
    /// Calls of write(2) and its kin; likewise without send(2).
    pub(super) write_calls: u64,
    /// Bytes on their way to a disk.
    pub(super) disk_write_bytes: u64,
}

impl Counts {
    /// Zeros for what can't be read.
    pub(super) fn of(pid: u32) -> Self {
        let mut counts = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            counts.voluntary_switches += number_behind(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            counts.involuntary_switches += number_behind(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        counts.read_calls = number_behind(&io, "syscr:").unwrap_or(0);
        counts.write_calls = number_behind(&io, "syscw:").unwrap_or(0);
        counts.disk_write_bytes = number_behind(&io, "write_bytes:").unwrap_or(0);
        counts
    }
}

impl Sub for Counts {
    type Output = Self;

    /// What was added since `before`. A thread that has ended meanwhile may take more away than came.
    fn sub(self, before: Self) -> Self {
        Self {
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
            read_calls: self.read_calls.saturating_sub(before.read_calls),
            write_calls: self.write_calls.saturating_sub(before.write_calls),
            disk_write_bytes: self.disk_write_bytes.saturating_sub(before.disk_write_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(seconds_in("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20"), Some((2.5, 0.5)));
        let own = Usage::of(std::process::id()).expect("this process is there");
        assert!(own.memory_bytes > 100_000);
        assert_eq!(Usage::of(u32::MAX), None);
        assert_eq!(number_behind("a: 1\nb: 22 kB\n", "b:"), Some(22));
    }

    #[test]
    fn calls_and_switches_are_counted() {
        let own = std::process::id();
        let before = Counts::of(own);
        let after = Counts::of(own);
        assert!(after.voluntary_switches + after.involuntary_switches > 0, "threads have waited: {after:?}");
        assert!(after.read_calls > before.read_calls, "the first look has read files: {after:?}");
        assert_eq!(Counts::of(u32::MAX), Counts::default());
        assert_eq!((before - after).read_calls, 0, "no difference is below nothing");
    }
}
