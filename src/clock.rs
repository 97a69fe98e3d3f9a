//! Wall-clock time as the protocol writes it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

thread_local! {
    /// Where simulated time began: its Unix milliseconds, and the same moment of tokio's clock.
    static SIMULATED: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    match SIMULATED.get() {
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        Some((began_ms, began)) => began_ms + began.elapsed().as_millis() as u64,
    }
}

/// From now on, on this thread, it is `unix_ms` and passes as tokio's clock does, which a simulation moves by itself.
pub fn simulate(unix_ms: u64) {
    SIMULATED.set(Some((unix_ms, Instant::now())));
}
