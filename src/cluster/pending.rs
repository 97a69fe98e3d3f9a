//! The open questions of this node to others: each is answered once, sent again when its owner or its link changes,
//! and for one address always in the order in which they were asked. Pure but for the sending, which is a trait.
//!
//! There is one shard for each lane. All addresses of a lane are in one shard, so its lock decides their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::address::Address;
use super::refusals::Standing;
use super::reply::ReplyTo;
use crate::domain::Error;
use crate::protocol::cluster::{NodeReply, Reply};

/// The low bits of a question's number name its lane.
pub const LANE_BITS: u32 = 8;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Whoever owns the address.
    Address(Address),
    /// This node and no other.
    Node(Arc<str>),
}

/// Who waits for the answer.
pub enum Asker {
    /// Of an actor's answer.
    Actor(ReplyTo<Reply>),
    /// Of a node's answer.
    Node(ReplyTo<NodeReply>),
}

impl Asker {
    /// Answers with an error.
    pub fn fail(self, error: Error) {
        match self {
            Self::Actor(reply) => reply.send(Err(error)),
            Self::Node(reply) => reply.send(Err(error)),
        }
    }

    /// Whether it is to be refused, as an earlier question of its session was.
    pub fn is_void(&self) -> bool {
        matches!(self, Self::Actor(reply) if reply.is_void())
    }

    /// It will be refused; said while the shard is locked, so that nothing of its session takes a way meanwhile.
    pub fn condemn(&self) {
        if let Self::Actor(reply) = self {
            reply.standing().into_iter().for_each(Standing::condemn);
        }
    }
}

/// What carries questions: a link that is ready.
pub trait Carrier {
    /// Its number, never used twice.
    fn epoch(&self) -> u64;
    /// Sends a question. `anyway`: even if too much waits. False: too much waits.
    fn carry(&self, id: u64, question: &Question, anyway: bool) -> bool;
}

/// Where a question should go now.
pub enum Way<C> {
    /// To this node's own actors.
    Here,
    /// Over this link.
    Over(C),
    /// Nowhere yet: nobody owns it, or its owner can't be reached at the moment.
    Nowhere,
    /// Nowhere any more.
    Gone,
}

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of whom.
    pub goal: Goal,
    /// A `Request`, encoded.
    pub request: Bytes,
    /// Until when.
    pub deadline: Instant,
    /// How often it has been sent.
    pub attempt: u32,
    /// 1: another node has asked this one, which does not own the address.
    pub hops: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Over the link of that epoch.
    Sent(u64),
    /// For a way.
    Waiting,
    /// Asked by the node behind the link of that epoch, which takes this one for the owner: see [`Shard::keep`].
    Kept(u64),
}

struct Open {
    question: Question,
    stage: Stage,
    asker: Asker,
}

/// What became of questions that will not be answered by another node.
#[derive(Default)]
pub struct Moved {
    /// Now for this node's own actors, in order.
    pub home: Vec<(Address, Bytes, ReplyTo<Reply>)>,
    /// To be failed: the node asked is gone.
    pub gone: Vec<Asker>,
    /// To be failed: an earlier question was refused, and whoever asked both has not heard of it.
    pub void: Vec<Asker>,
    /// How many were sent again.
    pub resent: u64,
}

/// What bounds the open questions of a lane.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// `cluster.lane_queue_items`.
    pub questions: usize,
    /// `cluster.lane_queue_bytes`.
    pub bytes: usize,
}

/// Open questions whose addresses share a lane.
pub struct Shard {
    lane: usize,
    limits: ShardLimits,
    count: u64,
    open: BTreeMap<u64, Open>,
    open_bytes: usize,
    /// How many questions are kept, by address.
    kept: HashMap<Address, usize>,
}

/// Why a question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Too many are open, or wait for the link.
    Full,
    /// This node's own actors are to be asked.
    Here,
    /// The node asked is gone.
    Gone,
    /// The view has changed since its way was chosen.
    Late,
    /// An earlier question of its session was refused, and its asker has not heard of it.
    Void,
}

impl Shard {
    /// No questions. At most so many are open at once, and hold so many bytes.
    pub fn new(lane: usize, limits: ShardLimits) -> Self {
        Self { lane, limits, count: 0, open: BTreeMap::new(), open_bytes: 0, kept: HashMap::new() }
    }

    /// The lane whose questions carry this number.
    pub fn lane_of(id: u64) -> usize {
        (id & ((1 << LANE_BITS) - 1)) as usize
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a question and sends it, or keeps it until there is a way. A question that is not taken comes back.
    pub fn ask<C: Carrier>(
        &mut self,
        mut question: Question,
        asker: Asker,
        way: Way<C>,
    ) -> Result<(), (Untaken, Asker)> {
        let carrier = match way {
            Way::Here => return Err((Untaken::Here, asker)),
            Way::Gone => return Err((Untaken::Gone, asker)),
            Way::Nowhere => None,
            Way::Over(carrier) => Some(carrier),
        };
        if self.is_full(&question) {
            return Err((Untaken::Full, asker));
        }
        let stage = match carrier {
            None => Stage::Waiting,
            Some(carrier) => {
                question.attempt = 1;
                if !carrier.carry(self.next_id(), &question, false) {
                    return Err((Untaken::Full, asker));
                }
                Stage::Sent(carrier.epoch())
            }
        };
        self.put(question, stage, asker);
        Ok(())
    }

    /// Keeps a question of the node behind the link of that epoch, which takes this node for the owner of its address,
    /// until this one is. It goes nowhere else: the node that asked has it open too, and sends it again when it learns
    /// of another owner. It is not refused either: then this node might become the owner at that moment, and take a
    /// later one that is on its way.
    pub fn keep(&mut self, question: Question, asker: Asker, epoch: u64) -> Result<(), (Untaken, Asker)> {
        if self.is_full(&question) {
            return Err((Untaken::Full, asker));
        }
        if let Goal::Address(address) = &question.goal {
            *self.kept.entry(*address).or_default() += 1;
        }
        self.put(question, Stage::Kept(epoch), asker);
        Ok(())
    }

    /// Whether a question for the address is kept: what follows it must not pass it by.
    pub fn keeps(&self, address: &Address) -> bool {
        self.kept.contains_key(address)
    }

    /// The link of that epoch has ended: takes out what was kept for the node behind it, which asks again.
    pub fn forget(&mut self, epoch: u64) -> Vec<Asker> {
        if self.kept.is_empty() {
            return Vec::new();
        }
        let of_it = |open: &Open| open.stage == Stage::Kept(epoch);
        let ids: Vec<u64> = self.open.iter().filter(|(_, open)| of_it(open)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).map(|open| open.asker).collect()
    }

    fn is_full(&self, question: &Question) -> bool {
        // The first is taken whatever its size.
        let too_large = self.open_bytes + question.request.len() > self.limits.bytes && !self.open.is_empty();
        self.open.len() >= self.limits.questions || too_large
    }

    fn next_id(&self) -> u64 {
        ((self.count + 1) << LANE_BITS) | self.lane as u64
    }

    fn put(&mut self, question: Question, stage: Stage, asker: Asker) {
        let id = self.next_id();
        self.count += 1;
        self.open_bytes += question.request.len();
        self.open.insert(id, Open { question, stage, asker });
    }

    /// Looks at every question again, in order, after owners or links have changed: `way` says where each should go
    /// now.
    pub fn refresh<C: Carrier>(&mut self, way: impl Fn(&Goal) -> Way<C>) -> Moved {
        let mut moved = Moved::default();
        let (mut leaving, mut void) = (Vec::new(), Vec::new());
        for (id, open) in &mut self.open {
            match way(&open.question.goal) {
                Way::Over(_) | Way::Nowhere if matches!(open.stage, Stage::Kept(_)) => {}
                Way::Over(carrier) => {
                    let epoch = carrier.epoch();
                    if open.stage == Stage::Sent(epoch) {
                        continue;
                    }
                    if open.asker.is_void() {
                        void.push(*id);
                        continue;
                    }
                    open.question.attempt += 1;
                    moved.resent += u64::from(open.question.attempt > 1);
                    carrier.carry(*id, &open.question, true);
                    open.stage = Stage::Sent(epoch);
                }
                Way::Nowhere => open.stage = Stage::Waiting,
                Way::Here | Way::Gone => leaving.push(*id),
            }
        }
        for id in leaving {
            let Some(open) = self.take(id) else { continue };
            match (open.question.goal, open.asker) {
                (Goal::Address(address), Asker::Actor(reply)) => {
                    moved.home.push((address, open.question.request, reply));
                }
                (_, asker) => moved.gone.push(asker),
            }
        }
        moved.void.extend(void.into_iter().filter_map(|id| self.take(id)).map(|open| open.asker));
        moved
    }

    /// An answer has come. Gives back who waits for it; none if nobody does, or if the answer is a failure of an
    /// earlier attempt, as the later one will bring its own.
    pub fn answered(&mut self, id: u64, attempt: u32, failed: bool) -> Option<Asker> {
        let open = self.open.get(&id)?;
        if failed && attempt < open.question.attempt {
            return None;
        }
        self.take(id).map(|open| open.asker)
    }

    /// Takes out the questions whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<Asker> {
        let late: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.question.deadline <= now).map(|(id, _)| *id).collect();
        late.into_iter().filter_map(|id| self.take(id)).map(|open| open.asker).collect()
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> Vec<Asker> {
        self.kept.clear();
        self.open_bytes = 0;
        std::mem::take(&mut self.open).into_values().map(|open| open.asker).collect()
    }

    fn take(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.open_bytes -= open.question.request.len();
        if let (Stage::Kept(_), Goal::Address(address)) = (open.stage, &open.question.goal)
            && let Some(count) = self.kept.get_mut(address)
        {
            *count -= 1;
            if *count == 0 {
                self.kept.remove(address);
            }
        }
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::time::Duration;

    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;

    /// A link of the test: keeps what it carried, in order.
    #[derive(Default)]
    struct Wire {
        epoch: u64,
        carried: RefCell<VecDeque<(u64, u32, Bytes)>>,
        full: Cell<bool>,
    }

    impl Carrier for &Wire {
        fn epoch(&self) -> u64 {
            self.epoch
        }

        fn carry(&self, id: u64, question: &Question, anyway: bool) -> bool {
            if self.full.get() && !anyway {
                return false;
            }
            self.carried.borrow_mut().push_back((id, question.attempt, question.request.clone()));
            true
        }
    }

    fn wire(epoch: u64) -> Wire {
        Wire { epoch, ..Wire::default() }
    }

    fn question(number: u8) -> Question {
        Question {
            goal: Goal::Address(Address::room(1)),
            request: vec![number].into(),
            deadline: Instant::now() + Duration::from_secs(5),
            attempt: 0,
            hops: 0,
        }
    }

    fn limits(questions: usize) -> ShardLimits {
        ShardLimits { questions, bytes: 1000 }
    }

    fn numbers(wire: &Wire) -> Vec<u8> {
        wire.carried.borrow().iter().map(|(_, _, request)| request[0]).collect()
    }

    /// An asker that notes how often it was answered.
    fn asker(answers: &Arc<Mutex<Vec<u8>>>, number: u8) -> Asker {
        let answers = answers.clone();
        Asker::Actor(ReplyTo::new(move |_| answers.lock().push(number)))
    }

    fn ignore() -> Asker {
        Asker::Actor(ReplyTo::ignore())
    }

    #[test]
    fn questions_wait_for_a_way_and_leave_in_order() {
        let mut shard = Shard::new(3, limits(10));
        for number in 0..3 {
            shard
                .ask(question(number), ignore(), Way::<&Wire>::Nowhere)
                .map_err(|(why, _)| why)
                .expect("taken");
        }
        let link = wire(1);
        let moved = shard.refresh(|_| Way::Over(&link));
        assert_eq!(numbers(&link), [0, 1, 2]);
        assert_eq!(moved.resent, 0);
        assert!(
            link.carried.borrow().iter().all(|(id, attempt, _)| Shard::lane_of(*id) == 3 && *attempt == 1)
        );
        shard.refresh(|_| Way::Over(&link));
        assert_eq!(numbers(&link).len(), 3, "nothing is sent twice over one link");
    }

    #[test]
    fn a_lost_link_sends_again_over_the_next() {
        let mut shard = Shard::new(0, limits(10));
        let (first, second) = (wire(1), wire(2));
        for number in 0..2 {
            shard.ask(question(number), ignore(), Way::Over(&first)).map_err(|(why, _)| why).expect("taken");
        }
        shard.refresh(|_| Way::<&Wire>::Nowhere);
        assert_eq!(shard.refresh(|_| Way::Over(&second)).resent, 2);
        assert_eq!(numbers(&second), [0, 1]);
        let (id, attempt, _) = second.carried.borrow()[0].clone();
        assert!(
            shard.answered(id, attempt - 1, true).is_none(),
            "a failure of an earlier attempt is not final"
        );
        assert!(shard.answered(id, attempt - 1, false).is_some());
        assert!(shard.answered(id, attempt, false).is_none(), "a question is answered once");
    }

    #[test]
    fn what_comes_home_comes_in_order() {
        let mut shard = Shard::new(0, limits(10));
        let link = wire(1);
        for number in 0..3 {
            shard.ask(question(number), ignore(), Way::Over(&link)).map_err(|(why, _)| why).expect("taken");
        }
        let moved = shard.refresh(|_| Way::<&Wire>::Here);
        assert_eq!(moved.home.iter().map(|(_, request, _)| request[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(shard.is_empty());
    }

    #[test]
    fn what_is_kept_waits_for_this_node_to_be_the_owner_and_goes_nowhere_else() {
        let mut shard = Shard::new(0, limits(10));
        let (asker, other) = (wire(1), wire(2));
        shard.keep(question(0), ignore(), asker.epoch).map_err(|(why, _)| why).expect("kept");
        shard.ask(question(1), ignore(), Way::Over(&other)).map_err(|(why, _)| why).expect("taken");
        shard.keep(question(2), ignore(), asker.epoch).map_err(|(why, _)| why).expect("kept");
        assert!(shard.keeps(&Address::room(1)) && !shard.keeps(&Address::room(2)));
        shard.refresh(|_| Way::Over(&asker));
        shard.refresh(|_| Way::<&Wire>::Nowhere);
        shard.refresh(|_| Way::Over(&other));
        assert_eq!((numbers(&asker), numbers(&other)), (vec![1], vec![1, 1]));
        let home = shard.refresh(|_| Way::<&Wire>::Here).home;
        assert_eq!(home.iter().map(|(_, request, _)| request[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(shard.is_empty() && !shard.keeps(&Address::room(1)));
    }

    #[test]
    fn what_is_kept_is_forgotten_with_its_link() {
        let mut shard = Shard::new(0, limits(10));
        for (number, epoch) in [(0, 1), (1, 2), (2, 1)] {
            shard.keep(question(number), ignore(), epoch).map_err(|(why, _)| why).expect("kept");
        }
        assert_eq!(shard.forget(1).len(), 2);
        assert!(shard.keeps(&Address::room(1)), "the other node's is still kept");
        assert_eq!((shard.forget(1).len(), shard.forget(2).len(), shard.len()), (0, 1, 0));
        assert!(!shard.keeps(&Address::room(1)));
    }

    #[test]
    fn what_can_not_be_taken_comes_back() {
        let mut shard = Shard::new(0, limits(1));
        let link = wire(1);
        let why = |result: Result<(), (Untaken, Asker)>| result.err().map(|(why, _)| why);
        assert_eq!(why(shard.ask(question(0), ignore(), Way::<&Wire>::Here)), Some(Untaken::Here));
        assert_eq!(why(shard.ask(question(0), ignore(), Way::<&Wire>::Gone)), Some(Untaken::Gone));
        link.full.set(true);
        assert_eq!(why(shard.ask(question(0), ignore(), Way::Over(&link))), Some(Untaken::Full));
        link.full.set(false);
        assert_eq!(why(shard.ask(question(0), ignore(), Way::Over(&link))), None);
        assert_eq!(why(shard.ask(question(1), ignore(), Way::Over(&link))), Some(Untaken::Full));
        assert_eq!(shard.expire(Instant::now()).len(), 0);
        assert_eq!(shard.expire(Instant::now() + Duration::from_secs(6)).len(), 1);
    }

    #[test]
    fn open_questions_are_bounded_by_their_bytes() {
        let mut shard = Shard::new(0, limits(10));
        let mut ask = |bytes: usize| {
            let question = Question { request: vec![0; bytes].into(), ..question(0) };
            shard.ask(question, ignore(), Way::<&Wire>::Nowhere).map_err(|(why, _)| why)
        };
        assert_eq!(ask(5000), Ok(()), "the first is taken whatever its size");
        assert_eq!(ask(1), Err(Untaken::Full));
        assert!(shard.answered(1 << LANE_BITS, 1, false).is_some());
        assert_eq!(shard.open_bytes, 0);
        let mut ask = |bytes: usize| {
            let question = Question { request: vec![0; bytes].into(), ..question(0) };
            shard.ask(question, ignore(), Way::<&Wire>::Nowhere).map_err(|(why, _)| why)
        };
        assert_eq!((ask(900), ask(101), ask(100)), (Ok(()), Err(Untaken::Full), Ok(())));
        shard.clear();
        assert_eq!(shard.open_bytes, 0);
    }

    proptest! {
        /// Owners and links change at random, answers come or get lost: each question is answered once, and the owners
        /// see the first occurrences of one address's questions in the order in which they were asked.
        #[test]
        fn each_question_is_answered_once_and_seen_in_order(
            steps in proptest::collection::vec((0_u8..6, any::<bool>()), 1..120),
        ) {
            let answers = Arc::new(Mutex::new(Vec::new()));
            let mut shard = Shard::new(0, limits(1000));
            let mut wires = vec![wire(1)];
            let mut linked = true;
            let mut asked = 0_u8;
            let mut seen: Vec<u8> = Vec::new();
            let see = |seen: &mut Vec<u8>, number: u8| {
                if !seen.contains(&number) {
                    seen.push(number);
                }
            };
            let answer = |shard: &mut Shard, wires: &[Wire], lose: bool, seen: &mut Vec<u8>| {
                let Some((id, attempt, request)) =
                    wires[wires.len() - 1].carried.borrow_mut().pop_front() else { return };
                see(seen, request[0]);
                if !lose && let Some(Asker::Actor(reply)) = shard.answered(id, attempt, false) {
                    reply.send(Ok(Reply::default()));
                }
            };
            for (what, flag) in steps {
                match what {
                    0 | 1 => {
                        let way = if linked { Way::Over(&wires[wires.len() - 1]) } else { Way::Nowhere };
                        let taken = shard.ask(question(asked), asker(&answers, asked), way);
                        prop_assert!(taken.is_ok());
                        asked += 1;
                    }
                    2 => answer(&mut shard, &wires, flag, &mut seen),
                    // The owner's link is lost, with what it carried.
                    3 => {
                        linked = false;
                        shard.refresh(|_| Way::<&Wire>::Nowhere);
                    }
                    // Another owner, or another link.
                    4 => {
                        linked = true;
                        let epoch = wires.len() as u64 + 1;
                        wires.push(wire(epoch));
                        shard.refresh(|_| Way::Over(&wires[wires.len() - 1]));
                    }
                    // Nothing changes.
                    _ => {
                        if linked {
                            shard.refresh(|_| Way::Over(&wires[wires.len() - 1]));
                        }
                    }
                }
            }
            let epoch = wires.len() as u64 + 1;
            wires.push(wire(epoch));
            shard.refresh(|_| Way::Over(&wires[wires.len() - 1]));
            for _ in 0..asked {
                answer(&mut shard, &wires, false, &mut seen);
            }
            prop_assert!(shard.is_empty());
            prop_assert!(seen.is_sorted(), "seen {:?}", seen);
            let mut answers = answers.lock().clone();
            answers.sort_unstable();
            prop_assert_eq!(answers, (0..asked).collect::<Vec<_>>());
        }
    }
}
