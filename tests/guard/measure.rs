//! Rounds of a case, and what is counted in this process: allocations.

use std::hint::black_box;

use crate::cases::{ALL, Case};

/// Rounds before anything is counted: caches, tables and queues have their size then.
const WARM_UP: usize = 3;
/// Rounds that are counted. The least is taken: what comes only now and then (a table that grows) is not the message's.
pub const ROUNDS: usize = 5;

/// What one unit of a case costs.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The case.
    pub name: &'static str,
    /// Units of a round.
    pub units: u64,
    /// Calls of the allocator that give memory, growing included.
    pub allocations: f64,
    /// Bytes that they gave.
    pub bytes: f64,
    /// Instructions, where they were counted.
    pub instructions: Option<f64>,
}

fn wanted(only: &str) -> impl Iterator<Item = Case> {
    ALL.iter().map(|make| make()).filter(move |case| case.name.contains(only))
}

/// Counts the allocations of this thread, which is the only one that works.
pub fn allocations(only: &str) -> Vec<Counted> {
    let count = |mut case: Case| {
        warm_up(&mut case);
        let (mut allocations, mut bytes) = (u64::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            case.round(&mut |work| {
                let counted = allocation_counter::measure(work);
                allocations = allocations.min(counted.count_total);
                bytes = bytes.min(counted.bytes_total);
            });
        }
        let a_unit = |total: u64| total as f64 / case.units as f64;
        Counted {
            name: case.name,
            units: case.units,
            allocations: a_unit(allocations),
            bytes: a_unit(bytes),
            instructions: None,
        }
    };
    wanted(only).map(count).collect()
}

/// Runs every case under the eyes of callgrind, which looks only into [`rookery_guard_counted`].
pub fn run_counted(only: &str) {
    for mut case in wanted(only) {
        warm_up(&mut case);
        for _ in 0..ROUNDS {
            case.round(&mut |work| rookery_guard_counted(work));
        }
    }
}

fn warm_up(case: &mut Case) {
    for _ in 0..WARM_UP {
        case.round(&mut |work| work());
    }
}

/// Callgrind knows it by its name, and counts from its beginning to its end.
#[inline(never)]
fn rookery_guard_counted(work: &mut dyn FnMut()) {
    work();
    // Else the call above would be a jump, and this function over before its work has begun.
    black_box(());
}
