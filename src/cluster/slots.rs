//! Decides which link there may be to a node: one at a time, and a new one only when the old one has ended.
//!
//! `ractor_cluster` would let two links to one node fight it out, and either may win; so a second one is never shown to
//! it. Of two nodes the one whose name sorts first dials, the other accepts. So the dialer knows best whether there is
//! a link: what it dials replaces what the acceptor still has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::detector::Detector;
use super::link::Link;
use super::preamble::refusal;
use super::view::{NodeInfo, NodeState};
use crate::protocol::cluster::{LinkRefusal, link_refusal::Code};

/// How long a link that was cut may take to end, before it is taken for ended.
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// Most claims that wait for one link to end.
const WAITING_MAX: usize = 4;

/// What a stream wants to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A link that this node dials.
    Dial,
    /// A link that the other node dials.
    Accept,
    /// No link: the other node asks to be dialled, as it has none. It has had one under that number of ours.
    Knock {
        /// 0: never.
        seen_epoch: u64,
    },
}

/// A wish, and whom to tell.
pub struct Claim {
    /// The other node.
    pub info: NodeInfo,
    /// The number of the link to be.
    pub epoch: u64,
    /// What is wanted.
    pub wish: Wish,
    /// Told when it may be, or why not.
    pub answer: oneshot::Sender<Result<(), LinkRefusal>>,
}

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The preamble runs.
    Opening,
    /// `ractor_cluster` has the stream.
    Handed,
    /// Its routers are known.
    Ready,
    /// It has been cut and will end.
    Closing,
}

/// The link to one node.
pub struct Slot {
    /// Its number.
    pub epoch: u64,
    /// To which incarnation.
    pub info: NodeInfo,
    /// How far it has come.
    pub phase: Phase,
    /// When the phase has taken too long; unused while it is ready.
    pub until: Instant,
    /// What the node said of itself.
    pub said: NodeState,
    /// The link, once the preamble is over.
    pub link: Option<Arc<Link>>,
    /// Its flushing task.
    pub flusher: Option<AbortHandle>,
    /// Whether the node has told whom it knows.
    pub gossiped: bool,
    /// Judges whether it lives, once the link is ready.
    pub detector: Detector,
    /// Its heartbeats are late though bytes flow.
    pub slow: bool,
    waiting: Vec<Claim>,
}

/// What a claim makes necessary.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it has been answered, or waits.
    Settled,
    /// The link to the node named is to be cut; the claim waits for its end.
    Cut(String),
    /// The node has knocked and is to be dialled.
    Dial,
    /// The node has knocked, and its link of this side is lost: cut and dial.
    CutAndDial(String),
}

/// The links by the names of their nodes.
#[derive(Default)]
pub struct Slots {
    slots: BTreeMap<String, Slot>,
}

impl Slots {
    /// Decides on a claim. `opening_max` bounds the preamble; a link silent for `dead_after` may be replaced by another
    /// incarnation.
    pub fn claim(&mut self, claim: Claim, opening_max: Duration, dead_after: Duration) -> Verdict {
        let now = Instant::now();
        let name = claim.info.name.clone();
        let Some(slot) = self.slots.get_mut(&name) else {
            return self.grant(claim, now + opening_max);
        };
        if slot.phase == Phase::Closing {
            if matches!(claim.wish, Wish::Knock { .. }) {
                return answer(claim, Ok(()), Verdict::Dial);
            }
            return slot.wait(claim);
        }
        let same = slot.info.incarnation == claim.info.incarnation;
        if !same && !slot.is_dead(&claim.info, dead_after) {
            let refusal = refusal(
                Code::DuplicateName,
                format!(
                    "two nodes are named '{name}', at {} and {}; give one of them another node.name",
                    slot.info.cluster_address, claim.info.cluster_address
                ),
            );
            return answer(claim, Err(refusal), Verdict::Settled);
        }
        match claim.wish {
            Wish::Dial if same => {
                let busy = refusal(Code::Busy, "there is a link already, or one is being made");
                answer(claim, Err(busy), Verdict::Settled)
            }
            Wish::Knock { seen_epoch } if same && slot.epoch > seen_epoch => {
                // It knocked before it saw the link that is there, or is coming.
                answer(claim, Ok(()), Verdict::Settled)
            }
            Wish::Knock { .. } if slot.phase == Phase::Opening => {
                self.slots.remove(&name);
                answer(claim, Ok(()), Verdict::Dial)
            }
            Wish::Knock { .. } => answer(claim, Ok(()), Verdict::CutAndDial(name)),
            // Nothing but a preamble that nobody waits for any more.
            _ if slot.phase == Phase::Opening => self.grant(claim, now + opening_max),
            _ => {
                slot.wait(claim);
                Verdict::Cut(name)
            }
        }
    }

    /// The link of that number.
    pub fn by_epoch(&mut self, epoch: u64) -> Option<&mut Slot> {
        self.slots.values_mut().find(|slot| slot.epoch == epoch)
    }

    /// The link to that node.
    pub fn get(&self, name: &str) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// The link to that node.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Slot> {
        self.slots.get_mut(name)
    }

    /// All links.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.values_mut()
    }

    /// All links.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// Marks a link as cut. None: there is none to be cut.
    pub fn close(&mut self, name: &str) -> Option<&Slot> {
        let slot = self.slots.get_mut(name).filter(|slot| slot.phase != Phase::Closing)?;
        slot.phase = Phase::Closing;
        slot.until = Instant::now() + CLOSING_MAX;
        Some(slot)
    }

    /// A link has ended. Gives it back with the claims that waited for that, to be decided anew.
    pub fn ended(&mut self, epoch: u64) -> Option<(Slot, Vec<Claim>)> {
        let name = self.by_epoch(epoch)?.info.name.clone();
        let mut slot = self.slots.remove(&name)?;
        let waiting = std::mem::take(&mut slot.waiting);
        Some((slot, waiting))
    }

    /// The links whose phase has taken too long.
    pub fn overdue(&self, now: Instant) -> Vec<(u64, String, Phase)> {
        self.slots
            .values()
            .filter(|slot| slot.phase != Phase::Ready && slot.until <= now)
            .map(|slot| (slot.epoch, slot.info.name.clone(), slot.phase))
            .collect()
    }

    fn grant(&mut self, claim: Claim, until: Instant) -> Verdict {
        if let Wish::Knock { .. } = claim.wish {
            return answer(claim, Ok(()), Verdict::Dial);
        }
        let slot = Slot {
            epoch: claim.epoch,
            info: claim.info.clone(),
            phase: Phase::Opening,
            until,
            said: NodeState::Joining,
            link: None,
            flusher: None,
            gossiped: false,
            detector: Detector::default(),
            slow: false,
            waiting: Vec::new(),
        };
        self.slots.insert(claim.info.name.clone(), slot);
        answer(claim, Ok(()), Verdict::Settled)
    }
}

impl Slot {
    /// Whether another incarnation of the node may take the place of this one: it listens where this one did, or this
    /// one is silent.
    fn is_dead(&self, other: &NodeInfo, dead_after: Duration) -> bool {
        self.info.cluster_address == other.cluster_address
            || self.link.as_ref().is_none_or(|link| link.socket.silent_for() >= dead_after)
    }

    fn wait(&mut self, claim: Claim) -> Verdict {
        if self.waiting.len() >= WAITING_MAX {
            let busy = refusal(Code::Busy, "an old link to the node is still ending");
            return answer(claim, Err(busy), Verdict::Settled);
        }
        self.waiting.push(claim);
        Verdict::Settled
    }
}

fn answer(claim: Claim, answer: Result<(), LinkRefusal>, verdict: Verdict) -> Verdict {
    // Who gave up meanwhile gives the claim back, or never held it.
    let _ = claim.answer.send(answer);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    type Answer = oneshot::Receiver<Result<(), LinkRefusal>>;

    fn claim(epoch: u64, incarnation: u64, wish: Wish) -> (Claim, Answer) {
        let (answer, receiver) = oneshot::channel();
        let info = NodeInfo { name: "b".to_owned(), incarnation, ..NodeInfo::default() };
        (Claim { info, epoch, wish, answer }, receiver)
    }

    fn answered(mut answer: Answer) -> Option<Result<(), Code>> {
        answer.try_recv().ok().map(|answer| answer.map_err(|refusal| refusal.code()))
    }

    /// Slots with a link 1 in that phase.
    fn slots(phase: Phase) -> Slots {
        let mut slots = Slots::default();
        let (first, answer) = claim(1, 1, Wish::Dial);
        assert_eq!(slots.claim(first, LONG, LONG), Verdict::Settled);
        assert_eq!(answered(answer), Some(Ok(())));
        slots.by_epoch(1).expect("it was granted").phase = phase;
        slots
    }

    #[test]
    fn a_second_dial_finds_the_place_taken() {
        for phase in [Phase::Opening, Phase::Handed, Phase::Ready] {
            let (second, answer) = claim(2, 1, Wish::Dial);
            assert_eq!(slots(phase).claim(second, LONG, LONG), Verdict::Settled);
            assert_eq!(answered(answer), Some(Err(Code::Busy)));
        }
    }

    #[test]
    fn what_the_dialer_dials_replaces_what_the_acceptor_has() {
        let mut slots = slots(Phase::Ready);
        let (second, mut answer) = claim(2, 1, Wish::Accept);
        assert_eq!(slots.claim(second, LONG, LONG), Verdict::Cut("b".to_owned()));
        assert!(answer.try_recv().is_err(), "it waits for the end of the old link");
        assert!(slots.close("b").is_some());
        assert!(slots.close("b").is_none());
        let (_, mut waiting) = slots.ended(1).expect("it was there");
        assert_eq!(slots.claim(waiting.remove(0), LONG, LONG), Verdict::Settled);
        assert_eq!(answered(answer), Some(Ok(())));
        assert!(slots.by_epoch(2).is_some());
    }

    #[test]
    fn a_knock_ends_only_a_link_that_was_there_before_it() {
        for (seen_epoch, verdict) in [(0, Verdict::Settled), (1, Verdict::CutAndDial("b".to_owned()))] {
            let (knock, answer) = claim(2, 1, Wish::Knock { seen_epoch });
            assert_eq!(slots(Phase::Ready).claim(knock, LONG, LONG), verdict);
            assert_eq!(answered(answer), Some(Ok(())));
        }
        let (knock, _answer) = claim(2, 1, Wish::Knock { seen_epoch: 0 });
        assert_eq!(Slots::default().claim(knock, LONG, LONG), Verdict::Dial);
    }

    #[test]
    fn claims_wait_for_a_closing_link_up_to_a_bound() {
        let mut slots = slots(Phase::Closing);
        let mut answers = Vec::new();
        for epoch in 2..8 {
            let (next, answer) = claim(epoch, 1, Wish::Dial);
            assert_eq!(slots.claim(next, LONG, LONG), Verdict::Settled);
            answers.push(answered(answer));
        }
        assert_eq!(answers[..WAITING_MAX], [None, None, None, None]);
        assert_eq!(answers[WAITING_MAX..], [Some(Err(Code::Busy)), Some(Err(Code::Busy))]);
    }

    #[test]
    fn phases_that_take_too_long_are_found() {
        let mut slots = slots(Phase::Ready);
        let late = Instant::now() + LONG + LONG;
        assert!(slots.overdue(late).is_empty());
        slots.by_epoch(1).expect("it is there").phase = Phase::Handed;
        assert_eq!(slots.overdue(late), [(1, "b".to_owned(), Phase::Handed)]);
    }
}
