//! What the watched processes cost, over the run and second by second.
//!
//! A task looks each second at `/proc` and takes the recorder's passing second. It runs on the generator's runtime: when
//! that is late, the second is longer, and says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::args::{LoadArgs, SECONDS_MAX};
use super::measure::{Recorder, Tick};
use super::process::{Counts, Usage};
use super::report::{Process, Report, Sample, Second};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A last second shorter than this is added to the one before.
const SHORT: f64 = 0.5;

/// A process and what it had used when measuring began.
struct Watched {
    role: &'static str,
    pid: u32,
    usage: Usage,
    counts: Counts,
}

/// What the processes had used when measuring began, and the task that watches them since.
pub(super) struct Costs {
    since: Instant,
    processes: Vec<Watched>,
    stop: watch::Sender<bool>,
    sampling: JoinHandle<Vec<Second>>,
}

impl Costs {
    /// Begins to watch the processes that the arguments name, and this one; with `recorder`, its times as well.
    pub(super) fn begin(args: &LoadArgs, recorder: Option<&Arc<Recorder>>) -> Self {
        let servers = args.server_pids.iter().map(|pid| ("server", *pid));
        let databases = args.database_pids.iter().map(|pid| ("database", *pid));
        let own = [("this load", std::process::id())];
        let processes: Vec<Watched> = servers
            .chain(databases)
            .chain(own)
            .filter_map(|(role, pid)| {
                Some(Watched { role, pid, usage: Usage::of(pid)?, counts: Counts::of(pid) })
            })
            .collect();
        if let Some(recorder) = recorder {
            // What came before belongs to no second.
            recorder.tick();
        }
        let since = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let sampler = Sampler {
            began: since,
            before: since,
            usages: processes.iter().map(|process| (process.pid, process.usage)).collect(),
            recorder: recorder.map(Arc::clone),
            seconds: Vec::new(),
        };
        Self { since, processes, stop, sampling: tokio::spawn(sampler.run(stopped)) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Stops watching, and fills in the report's processes and its seconds. Its messages and deliveries are in already.
    /// `connections`: how many each server holds, where they are what is measured.
    pub(super) async fn end(self, report: &mut Report, connections: Option<f64>) {
        let seconds = self.since.elapsed().as_secs_f64();
        for Watched { role, pid, usage: before, counts } in self.processes {
            let Some(usage) = Usage::of(pid) else { continue };
            let counts = Counts::of(pid) - counts;
            let used = usage.cpu_seconds() - before.cpu_seconds();
            let growth = signed(usage.memory_bytes) - signed(before.memory_bytes);
            let per = |count: u64| (count > 0).then(|| used * 1e6 / count as f64);
            let held = connections.filter(|_| role == "server");
            report.processes.push(Process {
                role: role.to_owned(),
                pid,
                cpu_seconds: used,
                user_seconds: usage.user_seconds - before.user_seconds,
                system_seconds: usage.system_seconds - before.system_seconds,
                cores: used / seconds,
                cpu_us_per_message: per(report.messages),
                cpu_us_per_delivery: per(report.deliveries),
                memory_bytes: usage.memory_bytes,
                memory_growth_bytes: growth,
                memory_bytes_per_connection: held.map(|held| growth as f64 / held),
                counts,
            });
        }
        self.stop.send_replace(true);
        // A task that panicked leaves the report without seconds, which is better than no report.
        report.series = self.sampling.await.unwrap_or_default();
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// To a thousandth: the clock ticks of `/proc` know no more.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

struct Sampler {
    began: Instant,
    before: Instant,
    usages: Vec<(u32, Usage)>,
    recorder: Option<Arc<Recorder>>,
    seconds: Vec<Second>,
}

impl Sampler {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Vec<Second> {
        let mut next = self.began + INTERVAL;
        // The bound is that of a run, plus what a slow drain adds.
        while self.seconds.len() < 2 * SECONDS_MAX as usize {
            tokio::select! {
                biased;
                // An error means that whoever measured has given up.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = sleep_until(next) => {}
            }
            let second = self.look();
            self.seconds.push(second);
            next += INTERVAL;
            // Looks that were missed are not made up for.
            if next <= Instant::now() {
                next = Instant::now() + INTERVAL;
            }
        }
        let last = self.look();
        match self.seconds.last_mut() {
            Some(second) if last.seconds < SHORT => second.absorb(last),
            _ => self.seconds.push(last),
        }
        self.seconds
    }

    /// The time since the last look.
    fn look(&mut self) -> Second {
        let now = Instant::now();
        let seconds = (now - self.before).as_secs_f64();
        self.before = now;
        let tick = self.recorder.as_ref().map(|recorder| recorder.tick()).unwrap_or_default();
        let Tick { messages, deliveries, refused, send_to_ack, send_to_receive } = tick;
        let processes = self.usages.iter_mut().map(|(pid, before)| {
            // A process that has ended uses nothing.
            let usage = Usage::of(*pid).unwrap_or(Usage { memory_bytes: 0, ..*before });
            let cores = (usage.cpu_seconds() - before.cpu_seconds()) / seconds.max(f64::EPSILON);
            *before = usage;
            Sample { cores: rounded(cores), memory_bytes: usage.memory_bytes }
        });
        Second {
            at: rounded((now - self.began).as_secs_f64()),
            seconds: rounded(seconds),
            messages,
            deliveries,
            refused,
            send_to_ack,
            send_to_receive,
            processes: processes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::read;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn seconds_add_up_to_the_run_and_name_each_process() {
        let own = std::process::id().to_string();
        let args = read(&["load", "--server-pid", &own, "idle"]);
        let recorder = Arc::new(Recorder::new());
        recorder.measure(true);
        recorder.acked(0);
        let costs = Costs::begin(&args, Some(&recorder));
        for _ in 0..7 {
            recorder.acked(recorder.now_us());
            recorder.delivered_at(0, recorder.now_us());
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        recorder.refused();
        let mut report = Report { messages: 7, deliveries: 7, ..Report::default() };
        costs.end(&mut report, Some(2.0)).await;
        let series = &report.series;
        assert_eq!(series.iter().map(|second| second.messages).sum::<u64>(), 7, "{series:?}");
        assert_eq!(series.iter().map(|second| second.deliveries).sum::<u64>(), 7, "{series:?}");
        assert_eq!(series.iter().map(|second| second.refused).sum::<u64>(), 1, "{series:?}");
        let length: f64 = series.iter().map(|second| second.seconds).sum();
        assert!((2.7..=2.9).contains(&length), "{series:?}");
        assert_eq!(series.len(), 3, "{series:?}");
        let roles: Vec<&str> = report.processes.iter().map(|process| process.role.as_str()).collect();
        assert_eq!(roles, ["server", "this load"]);
        assert!(series.iter().all(|second| second.processes.len() == 2), "{series:?}");
        assert!(report.processes[0].memory_bytes_per_connection.is_some());
        assert!(report.processes[1].memory_bytes_per_connection.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_belongs_to_the_second_before() {
        let recorder = Arc::new(Recorder::new());
        recorder.measure(true);
        let costs = Costs::begin(&read(&["load", "idle"]), Some(&recorder));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        recorder.acked(recorder.now_us());
        let mut report = Report::default();
        costs.end(&mut report, None).await;
        assert_eq!(report.series.len(), 1);
        assert_eq!(report.series[0].messages, 1);
        assert!((report.series[0].seconds - 1.1).abs() < 0.05, "{:?}", report.series);
    }
}
