//! Numbers that only have to differ, such as session ids. Secrets are made elsewhere, and never simulated.

use std::cell::Cell;

thread_local! {
    /// The state of a simulation's numbers.
    static SIMULATED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// 64 random bits.
pub fn bits() -> u64 {
    match SIMULATED.get() {
        None => rand::random(),
        Some(state) => {
            // SplitMix64 (Steele, Lea, Flood 2014), which never repeats a number within its period.
            let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            SIMULATED.set(Some(state));
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }
}

/// From now on, on this thread, the numbers are those of `seed`, so that a simulation can be repeated.
pub fn simulate(seed: u64) {
    SIMULATED.set(Some(seed));
}
