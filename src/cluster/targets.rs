//! Whom to dial and when. Pure: seeds and the addresses of known nodes, each with its back-off.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// An address that is dialled until there is a link to the node behind it.
#[derive(Clone, Debug)]
pub struct Target {
    /// It is in `cluster.seeds`, and never given up.
    pub seed: bool,
    /// The node that answered there last.
    pub name: Option<String>,
    /// It has come to something, or failed, at least once: a joining node waits for that.
    pub settled: bool,
    /// When it has been asked to dial back, and has not been seen since.
    pub knocked_at: Option<Instant>,
    in_flight: bool,
    next: Instant,
    pause: Duration,
}

/// How far the node behind an address has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// There is no link.
    None,
    /// One is being made.
    Linking,
    /// One is ready.
    Linked,
}

/// All addresses to dial.
pub struct Targets {
    targets: BTreeMap<String, Target>,
    pause_min: Duration,
    pause_max: Duration,
}

impl Targets {
    /// The seeds, which are due at once. Pauses double from `pause_min` to `pause_max`.
    pub fn new(seeds: &[String], pause_min: Duration, pause_max: Duration, now: Instant) -> Self {
        let mut targets = Self { targets: BTreeMap::new(), pause_min, pause_max };
        for seed in seeds {
            let target = Target { seed: true, ..targets.fresh(now) };
            targets.targets.insert(seed.clone(), target);
        }
        targets
    }

    /// Dials `address` too, if it does not already.
    pub fn add(&mut self, address: &str, now: Instant) {
        if !address.is_empty() && !self.targets.contains_key(address) {
            let target = self.fresh(now);
            self.targets.insert(address.to_owned(), target);
        }
    }

    /// Keeps only seeds and the addresses that are `known`.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.targets.retain(|address, target| target.seed || known(address));
    }

    /// It is this node's own address.
    pub fn remove(&mut self, address: &str) {
        self.targets.remove(address);
    }

    /// Dials `address` at once, and with short pauses again.
    pub fn hurry(&mut self, address: &str, now: Instant) {
        let pause = self.pause_min;
        if let Some(target) = self.targets.get_mut(address) {
            (target.next, target.pause, target.knocked_at) = (now, pause, None);
        }
    }

    /// The addresses to dial now, of those where no link is, or is being made. They count as being dialled until
    /// [`Targets::succeeded`] or [`Targets::failed`].
    pub fn due(&mut self, now: Instant, progress: impl Fn(&str, &Target) -> Progress) -> Vec<String> {
        let mut due = Vec::new();
        for (address, target) in &mut self.targets {
            match progress(address, target) {
                Progress::Linked => {
                    target.settled = true;
                    target.knocked_at = None;
                }
                Progress::Linking => {}
                Progress::None if target.in_flight || target.next > now => {}
                Progress::None => {
                    target.in_flight = true;
                    due.push(address.clone());
                }
            }
        }
        due
    }

    /// A dial has come to a link or a knock: it is given `wait` to get ready before the next dial.
    pub fn succeeded(&mut self, address: &str, name: &str, wait: Duration, now: Instant) {
        if let Some(target) = self.targets.get_mut(address) {
            target.in_flight = false;
            target.name = Some(name.to_owned());
            target.next = now + wait;
        }
    }

    /// A dial has failed: the next pause is twice as long.
    pub fn failed(&mut self, address: &str, now: Instant) {
        let pause_max = self.pause_max;
        if let Some(target) = self.targets.get_mut(address) {
            target.in_flight = false;
            target.settled = true;
            target.next = now + target.pause;
            target.pause = (target.pause * 2).min(pause_max);
        }
    }

    /// The target of that address.
    pub fn get_mut(&mut self, address: &str) -> Option<&mut Target> {
        self.targets.get_mut(address)
    }

    /// Whether each has come to something or failed.
    pub fn all_settled(&self) -> bool {
        self.targets.values().all(|target| target.settled)
    }

    fn fresh(&self, now: Instant) -> Target {
        Target {
            seed: false,
            name: None,
            settled: false,
            knocked_at: None,
            in_flight: false,
            next: now,
            pause: self.pause_min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_millis(350);

    fn linked_seed(address: &str, _: &Target) -> Progress {
        if address == "seed:1" { Progress::Linked } else { Progress::None }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut now = Instant::now();
        let mut targets = Targets::new(&["seed:1".to_owned()], MIN, MAX, now);
        assert!(!targets.all_settled());
        for pause in [100, 200, 350, 350] {
            assert_eq!(targets.due(now, |_, _| Progress::None), ["seed:1"]);
            assert!(targets.due(now, |_, _| Progress::None).is_empty(), "it is being dialled");
            targets.failed("seed:1", now);
            now += Duration::from_millis(pause - 1);
            assert!(targets.due(now, |_, _| Progress::None).is_empty());
            now += Duration::from_millis(1);
        }
        assert!(targets.all_settled());
        targets.hurry("seed:1", now);
        assert_eq!(targets.due(now, |_, _| Progress::None), ["seed:1"]);
    }

    #[test]
    fn a_linked_node_is_not_dialled() {
        let now = Instant::now();
        let mut targets = Targets::new(&["seed:1".to_owned()], MIN, MAX, now);
        targets.add("peer:1", now);
        targets.add("", now);
        assert_eq!(targets.due(now, linked_seed), ["peer:1"]);
        targets.succeeded("peer:1", "p", MAX, now);
        assert!(targets.due(now, linked_seed).is_empty());
        assert_eq!(targets.due(now + MAX, linked_seed), ["peer:1"]);
    }

    #[test]
    fn seeds_are_never_given_up() {
        let now = Instant::now();
        let mut targets = Targets::new(&["seed:1".to_owned()], MIN, MAX, now);
        targets.add("peer:1", now);
        targets.retain(|_| false);
        assert_eq!(targets.due(now, |_, _| Progress::None), ["seed:1"]);
    }
}
