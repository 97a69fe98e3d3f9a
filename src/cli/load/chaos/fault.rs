//! The faults, and which of them a round gets.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

/// What is done to the cluster. The shared cache's faults join when there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node is killed with -9, and started again under its name.
    Kill,
    /// A node's process stands still for 1 to 8 s, its sockets open (SIGSTOP).
    Stop,
    /// A node is cut off from the others, and still reaches the database and its clients.
    Partition,
    /// What one node sends to the others vanishes, or what they send to it.
    OneWay,
    /// The cluster falls into two or three sides.
    Split,
    /// 5 to 30 percent of the packets between nodes vanish.
    Loss,
    /// What a node sends to the others is late.
    Delay,
    /// What a node sends to the others has to pass a narrow link.
    Slow,
    /// A node is cut off from the database.
    DbCut,
    /// The database is killed with -9 and started again.
    DbKill,
    /// The database's process stands still.
    DbStop,
    /// All nodes are told to stop (SIGTERM) and started again, one by one.
    Rolling,
    /// A new node joins.
    Join,
    /// A node is told to stop (SIGTERM), and started again.
    Drain,
}

impl Fault {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is a planned move, during which nothing may be refused.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Rolling | Self::Join | Self::Drain)
    }

    /// Whether sends can't work before it is over, so that recovery is timed from its end.
    pub fn is_outage(self) -> bool {
        matches!(self, Self::DbCut | Self::DbKill | Self::DbStop)
    }

    /// Whether it can be done: to so many nodes, with a database server in reach, and one of our own.
    pub fn is_possible(self, nodes: usize, server: bool, own_server: bool) -> bool {
        match self {
            Self::DbCut => server,
            Self::DbKill | Self::DbStop => own_server,
            Self::Kill | Self::Stop | Self::Join => true,
            _ => nodes > 1,
        }
    }
}

/// Gives each round its fault: every kind once, in an order drawn, then again.
pub fn draw(faults: &[Fault], seed: u64, round: usize) -> Fault {
    let (turn, at) = ((round - 1) / faults.len(), (round - 1) % faults.len());
    let mut bag = faults.to_vec();
    bag.shuffle(&mut random_of(seed, turn as u64));
    bag[at]
}

/// What a round draws from.
pub fn random_of(seed: u64, number: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A time between two, in milliseconds.
pub fn between(random: &mut StdRng, shortest: Duration, longest: Duration) -> Duration {
    let (low, high) = (shortest.as_millis() as u64, longest.as_millis() as u64);
    Duration::from_millis(random.random_range(low.min(high)..=high))
}

/// Puts each node on one of two or three sides, at least two of which have somebody.
pub fn sides(random: &mut StdRng, nodes: &[usize]) -> Vec<(usize, usize)> {
    let count = random.random_range(2..=3_usize.min(nodes.len().max(2)));
    let mut shuffled = nodes.to_vec();
    shuffled.shuffle(random);
    // The first ones make sure that no side is empty.
    let side = |(number, node): (usize, &usize)| {
        (*node, if number < count { number } else { random.random_range(0..count) })
    };
    shuffled.iter().enumerate().map(side).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_turn_and_a_seed_its_order() {
        let faults = [Fault::Kill, Fault::Stop, Fault::Loss];
        let drawn = |seed| -> Vec<Fault> { (1..=9).map(|round| draw(&faults, seed, round)).collect() };
        assert_eq!(drawn(1), drawn(1));
        assert!((2..20).any(|seed| drawn(seed) != drawn(1)));
        for turn in drawn(5).chunks(3) {
            let mut turn = turn.to_vec();
            turn.sort();
            assert_eq!(turn, faults);
        }
    }

    #[test]
    fn a_split_has_at_least_two_sides() {
        for seed in 0..200 {
            let split = sides(&mut random_of(seed, 1), &[0, 1, 2]);
            let mut found: Vec<usize> = split.iter().map(|(_, side)| *side).collect();
            found.sort_unstable();
            found.dedup();
            assert!(found.len() >= 2, "{split:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(Fault::OneWay.name(), "one-way");
        assert_eq!(Fault::from_str("db-cut", false), Ok(Fault::DbCut));
    }
}
