//! Judges whether the peer of one link lives: by what is heard of it, and by what it says that it hears of us. Pure.
//!
//! Any byte that arrives is a sign of life, so heartbeats that wait behind bulk data harm nobody. But hearing is not
//! enough: where packets are lost in one direction only, one side hears everything and the other nothing, and the reset
//! by which that other one ends the link may be lost as well. So every heartbeat says for how long its sender has heard
//! nothing. A peer that has not heard this node for `suspect_after` is suspect here too, and from then on its silence
//! goes on counting until it says otherwise: both sides come to `down_after` together.
//!
//! Silence is counted in time that this node itself was awake for ([`counted`]): on a loaded machine its own lateness
//! must not be taken for the others' death.

use std::time::Duration;

/// A tick later than this says that the node stood still: stopped, suspended, or starved.
pub const STALL: Duration = Duration::from_secs(1);

/// When silence makes a peer suspect, and when it makes it dead.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// `cluster.suspect_after`.
    pub suspect_after: Duration,
    /// `cluster.down_after`.
    pub down_after: Duration,
}

/// What is known of a link at a tick.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Real time since its last bytes were read.
    pub silent_for: Duration,
    /// Bytes have arrived that this node has not got round to reading.
    pub unread: bool,
    /// How many heartbeats have come, and what the last one said: for how long the peer had heard nothing.
    pub report: (u64, Duration),
}

/// Which direction is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nothing is heard of the peer.
    FromPeer,
    /// The peer hears nothing of this node.
    ToPeer,
}

/// What is to be thought of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It lives.
    Alive,
    /// Nothing passes in that direction since `suspect_after`.
    Suspect(Direction),
    /// Nothing passes in that direction since `down_after`.
    Down(Direction),
}

/// The judge of one link, which must be ready.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detector {
    silence: Duration,
    unheard: Duration,
    reports: u64,
}

impl Detector {
    /// Judges anew, `since_last` after the last time.
    pub fn tick(&mut self, since_last: Duration, seen: Seen, deadlines: Deadlines) -> Judgement {
        let counted = counted(since_last, deadlines.suspect_after);
        if seen.silent_for <= since_last {
            self.silence = seen.silent_for.min(counted);
        } else {
            self.silence += counted;
        }
        let (reports, unheard) = seen.report;
        if reports != self.reports {
            (self.reports, self.unheard) = (reports, unheard);
        } else if self.unheard >= deadlines.suspect_after {
            self.unheard += counted;
        }
        // The silence is our own if its words lie unread; but not for ever, as a link that nobody reads is of no use.
        let excused = seen.unread && self.silence < deadlines.down_after * 2;
        let silence = if excused { Duration::ZERO } else { self.silence };
        let (longest, direction) = if silence >= self.unheard {
            (silence, Direction::FromPeer)
        } else {
            (self.unheard, Direction::ToPeer)
        };
        if longest >= deadlines.down_after {
            Judgement::Down(direction)
        } else if longest >= deadlines.suspect_after {
            Judgement::Suspect(direction)
        } else {
            Judgement::Alive
        }
    }

    /// For how long nothing has been heard, as of the last tick: what heartbeats tell the peer.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// For how long nothing has passed in one direction or the other, as of the last tick: from there the silence of a
    /// link that has ended counts on.
    pub fn longest(&self) -> Duration {
        self.silence.max(self.unheard)
    }
}

/// How much of the time since the last tick counts as the others' silence. A node that stood still was deaf meanwhile,
/// so next to none of it does. Of a tick that is merely late, half does: silence on a machine so loaded is noticed at
/// most twice as late, and a peer that lives is not taken for dead.
pub fn counted(since_last: Duration, suspect_after: Duration) -> Duration {
    /// A tick is never quicker than every 50 ms, so up to twice of that it is punctual.
    const PUNCTUAL: Duration = Duration::from_millis(100);
    if since_last > STALL.min(suspect_after) {
        return PUNCTUAL;
    }
    since_last.min(PUNCTUAL.max(since_last / 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINES: Deadlines =
        Deadlines { suspect_after: Duration::from_millis(1500), down_after: Duration::from_secs(3) };
    const TICK: Duration = Duration::from_millis(50);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn silent(silent_for: Duration) -> Seen {
        Seen { silent_for, unread: false, report: (0, Duration::ZERO) }
    }

    /// Ticks punctually and in silence until the judgement changes from `from`; says after how long.
    fn until_it_changes(detector: &mut Detector, from: Judgement, seen: Seen) -> (Judgement, Duration) {
        let mut passed = Duration::ZERO;
        loop {
            passed += TICK;
            let silent_for = seen.silent_for + passed;
            let judgement = detector.tick(TICK, Seen { silent_for, ..seen }, DEADLINES);
            if judgement != from {
                return (judgement, passed);
            }
            assert!(passed < ms(60_000), "{from:?} for ever");
        }
    }

    #[test]
    fn silence_makes_suspect_then_down() {
        let mut detector = Detector::default();
        assert_eq!(detector.tick(TICK, silent(Duration::ZERO), DEADLINES), Judgement::Alive);
        let suspect = Judgement::Suspect(Direction::FromPeer);
        assert_eq!(
            until_it_changes(&mut detector, Judgement::Alive, silent(Duration::ZERO)),
            (suspect, ms(1500))
        );
        let down = Judgement::Down(Direction::FromPeer);
        assert_eq!(until_it_changes(&mut detector, suspect, silent(ms(1500))), (down, ms(1500)));
        assert_eq!(detector.tick(TICK, silent(ms(10)), DEADLINES), Judgement::Alive);
    }

    #[test]
    fn who_is_not_heard_by_the_peer_comes_to_the_deadline_together_with_it() {
        let mut detector = Detector::default();
        // It hears us less and less, and at last cuts the link: no report comes any more, though bytes may.
        for (count, unheard) in [(1, 400), (2, 900), (3, 1400)] {
            let seen = Seen { report: (count, ms(unheard)), ..silent(Duration::ZERO) };
            assert_eq!(detector.tick(TICK, seen, DEADLINES), Judgement::Alive);
        }
        let suspect = Judgement::Suspect(Direction::ToPeer);
        let seen = Seen { report: (4, ms(1500)), ..silent(Duration::ZERO) };
        assert_eq!(detector.tick(TICK, seen, DEADLINES), suspect);
        let mut passed = Duration::ZERO;
        while detector.tick(TICK, seen, DEADLINES) == suspect {
            passed += TICK;
        }
        assert_eq!(passed, ms(1450));
        let heard = Seen { report: (5, Duration::ZERO), ..seen };
        assert_eq!(detector.tick(TICK, heard, DEADLINES), Judgement::Alive);
    }

    #[test]
    fn a_report_that_is_merely_old_does_not_count_on() {
        let mut detector = Detector::default();
        let seen = Seen { report: (1, ms(600)), ..silent(Duration::ZERO) };
        for _ in 0..200 {
            assert_eq!(detector.tick(TICK, seen, DEADLINES), Judgement::Alive);
        }
    }

    #[test]
    fn a_node_that_stood_still_takes_nobody_for_dead() {
        let mut detector = Detector::default();
        assert_eq!(detector.tick(TICK, silent(Duration::ZERO), DEADLINES), Judgement::Alive);
        assert_eq!(detector.tick(ms(65_000), silent(ms(65_050)), DEADLINES), Judgement::Alive);
        assert!(detector.silence() < ms(200));
        // Who really is gone is found out from then on.
        let (_, after) = until_it_changes(&mut detector, Judgement::Alive, silent(ms(65_050)));
        assert!(after <= ms(1500), "{after:?}");
    }

    #[test]
    fn late_ticks_count_half() {
        let mut detector = Detector::default();
        let mut passed = Duration::ZERO;
        while detector.tick(ms(400), silent(passed + ms(401)), DEADLINES) == Judgement::Alive {
            passed += ms(400);
        }
        assert!((ms(2400)..=ms(3200)).contains(&passed), "{passed:?}");
    }

    #[test]
    fn unread_bytes_excuse_the_peer_for_a_while() {
        let mut detector = Detector::default();
        let seen = Seen { unread: true, ..silent(Duration::ZERO) };
        let down = Judgement::Down(Direction::FromPeer);
        assert_eq!(until_it_changes(&mut detector, Judgement::Alive, seen), (down, ms(6000)));
    }

    proptest! {
        /// Whatever this node's own delays: a peer heard at least every second lives, and one never heard is down
        /// before twice the deadline has passed in ticks that are late, and once the deadline has in punctual ones.
        #[test]
        fn who_is_heard_lives_and_who_is_not_dies(gaps in proptest::collection::vec(1_u64..900, 1..200)) {
            let (mut heard, mut deaf) = (Detector::default(), Detector::default());
            let mut passed = 0;
            for gap in gaps {
                passed += gap;
                let alive = heard.tick(ms(gap), silent(ms(passed % 1000)), DEADLINES);
                prop_assert_eq!(alive, Judgement::Alive);
                let judgement = deaf.tick(ms(gap), silent(ms(passed + 1)), DEADLINES);
                if passed >= 6900 {
                    prop_assert_eq!(judgement, Judgement::Down(Direction::FromPeer));
                }
                if passed < 3000 {
                    prop_assert!(!matches!(judgement, Judgement::Down(_)));
                }
            }
        }
    }
}
