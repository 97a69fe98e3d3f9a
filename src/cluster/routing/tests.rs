//! What happens between two looks of a thread at the view: the actors of these tests change it at that moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::questions::PASSED_ON;
use super::*;
use crate::cluster::gate::Turn;
use crate::cluster::lanes::LaneLimits;
use crate::cluster::network::{Connection, Cut};
use crate::cluster::placement;
use crate::cluster::reply::ReplyTo;
use crate::cluster::stream::LinkStream;
use crate::cluster::view::{NodeInfo, NodeState, ViewNode};
use crate::protocol::cluster::{
    Answer, Ask, Envelope, Item as EnvelopeItem, NodeReply, NodeRequest, Reply, Request, RoomRequest, answer,
    item::Item, request, room_request,
};
use crate::protocol::codec;

const ROOM: Address = Address { kind: crate::cluster::Kind::Room, key: 7 };

struct NoCut;

impl Cut for NoCut {
    fn cut(&self) {}
}

/// One question: its number, and who waits for its answer.
type Taken = (u64, ReplyTo<Reply>);

/// The only actor of a node: keeps what it is asked in a mailbox.
#[derive(Default)]
struct Actors {
    routing: OnceLock<Weak<Routing>>,
    mailbox: Mutex<VecDeque<Taken>>,
    /// The view turns to and fro at the next look whether the actor is active.
    flips_at_look: AtomicBool,
    /// The view turns away as the next question is about to enter.
    turns_at_entry: AtomicBool,
}

impl Actors {
    fn routing(&self) -> Arc<Routing> {
        self.routing.get().and_then(Weak::upgrade).expect("the test keeps the routing")
    }

    /// What has come, in order; forgotten thereby.
    fn take(&self) -> Vec<u64> {
        self.mailbox.lock().drain(..).map(|(number, _)| number).collect()
    }

    /// Hands on what waits, as an actor does that moves.
    fn hand_on(&self) {
        let routing = self.routing();
        let waiting = std::mem::take(&mut *self.mailbox.lock());
        for (number, reply) in waiting {
            let deadline = Instant::now() + Duration::from_secs(5);
            let handed = routing.hand_on(ROOM, request(number), deadline, 0, reply, routing.turn());
            assert!(handed.is_ok(), "another node is the owner");
        }
    }

    fn put(
        &self,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        if self.turns_at_entry.swap(false, Ordering::Relaxed) {
            own(&self.routing(), false);
        }
        if turn.is_over() {
            return Some((request, reply));
        }
        let Some(request::Request::Room(room)) = request.request else { panic!("rooms only") };
        self.mailbox.lock().push_back((room.user_id, reply));
        None
    }
}

impl Inbound for Actors {
    fn tell(&self, _: Address, _: Request) {}

    fn ask(
        &self,
        _: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        self.put(request, reply, turn)
    }

    fn holds(&self, _: &Address) -> bool {
        let holds = !self.mailbox.lock().is_empty();
        if self.flips_at_look.swap(false, Ordering::Relaxed) {
            own(&self.routing(), true);
            own(&self.routing(), false);
        }
        holds
    }

    fn ask_held(
        &self,
        _: Address,
        request: Request,
        _: u32,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        if self.mailbox.lock().is_empty() { Some((request, reply)) } else { self.put(request, reply, turn) }
    }

    fn tell_node(&self, _: &str, _: NodeRequest) {}

    fn ask_node(&self, _: &str, _: NodeRequest, _: ReplyTo<NodeReply>) {}

    fn load(&self) -> (u64, u64) {
        (0, 0)
    }
}

fn request(number: u64) -> Request {
    Request {
        request: Some(request::Request::Room(RoomRequest { user_id: number, ..RoomRequest::default() })),
    }
}

fn node() -> (Arc<Routing>, Arc<Actors>) {
    let (events, _) = mpsc::unbounded_channel();
    let routing = Arc::new(Routing::new("here", 1, ClusterConfig::default(), events));
    let actors = Arc::new(Actors::default());
    actors.routing.set(Arc::downgrade(&routing)).expect("it is set once");
    assert!(routing.set_inbound(actors.clone()));
    own(&routing, false);
    (routing, actors)
}

/// Every address is this node's, or that of another which can't be reached.
fn own(routing: &Routing, owns: bool) {
    let node = |name: &str, is_up| ViewNode {
        info: Arc::new(NodeInfo { name: name.to_owned(), incarnation: 1, ..NodeInfo::default() }),
        state: if is_up { NodeState::Up } else { NodeState::Joining },
        since_ms: 0,
        has_left: false,
    };
    let version = routing.view().version + 1;
    routing.publish(View::new(version, vec![node("here", owns), node("there", !owns)], "here"));
}

fn ask(routing: &Routing, number: u64) {
    routing.ask(ROOM, request(number), Duration::from_secs(5), ReplyTo::ignore());
}

#[test]
fn a_question_does_not_pass_by_one_that_came_home_while_it_looked_for_its_way() {
    let (routing, actors) = node();
    ask(&routing, 1);
    actors.flips_at_look.store(true, Ordering::Relaxed);
    ask(&routing, 2);
    actors.hand_on();
    own(&routing, true);
    assert_eq!(actors.take(), [1, 2]);
    assert_eq!(routing.open_questions(), 0);
}

#[test]
fn a_question_that_enters_when_its_turn_is_over_finds_its_way_anew() {
    let (routing, actors) = node();
    own(&routing, true);
    actors.turns_at_entry.store(true, Ordering::Relaxed);
    ask(&routing, 1);
    assert_eq!((actors.take(), routing.open_questions()), (vec![], 1), "another node is the owner now");
    ask(&routing, 2);
    own(&routing, true);
    assert_eq!(actors.take(), [1, 2]);
}

fn link(routing: &Routing, peer: &str, epoch: u64) -> Arc<Link> {
    let connection =
        Connection::new(Box::new(tokio::io::empty()), Box::new(tokio::io::sink()), Arc::new(NoCut));
    let socket = LinkStream::new(epoch, connection, Duration::from_secs(1)).socket();
    let limits =
        LaneLimits { envelope_items: 64, envelope_bytes: 4000, queue_items: 100, queue_bytes: 10_000 };
    let peer = Arc::new(NodeInfo { name: peer.to_owned(), incarnation: 3, ..NodeInfo::default() });
    let lanes = ClusterConfig::default().lanes + 1;
    let link = Arc::new(Link::new((epoch, 1), peer, socket, 1, lanes, limits));
    routing.add_link(&link);
    link
}

fn lane() -> usize {
    placement::lane(&ROOM, ClusterConfig::default().lanes)
}

/// The name of a node's question of that number to another.
fn id(number: u64) -> u64 {
    (number << crate::cluster::pending::LANE_BITS) | lane() as u64
}

/// The `seq`th envelope of the link has come.
fn comes(routing: &Arc<Routing>, link: &Link, seq: u64, item: Item) {
    let envelope = Envelope {
        link_epoch: link.epoch,
        incarnation: 3,
        lane_seq: seq,
        items: vec![EnvelopeItem { item: Some(item) }],
        ..Envelope::default()
    };
    routing.on_envelope(lane(), codec::encode_cluster(&envelope).into());
}

/// A question that the node behind the link passes on.
fn passed_on(routing: &Arc<Routing>, link: &Link, number: u64) {
    let ask = Ask {
        to: Some(ROOM.into()),
        hops: PASSED_ON,
        ask_id: id(number),
        deadline_ms: 5000,
        request: codec::encode_cluster(&request(number)).into(),
        attempt: 1,
        heard: 0,
    };
    comes(routing, link, number, Item::Ask(ask));
}

/// A send of a session at the node behind the link, which had heard of so many refusals.
fn sent(routing: &Arc<Routing>, link: &Link, seq: u64, number: u64, heard: u64) {
    let command = Some(room_request::Command::Send(Default::default()));
    let room = RoomRequest { user_id: number, session_id: 9, command };
    let request = Request { request: Some(request::Request::Room(room)) };
    let ask = Ask {
        to: Some(ROOM.into()),
        hops: 0,
        ask_id: id(number),
        deadline_ms: 5000,
        request: codec::encode_cluster(&request).into(),
        attempt: 1,
        heard,
    };
    comes(routing, link, seq, Item::Ask(ask));
}

#[tokio::test]
async fn what_follows_a_refusal_that_was_not_heard_of_is_void() {
    let (routing, actors) = node();
    let link = link(&routing, "asker", 5);
    own(&routing, true);
    for (seq, heard) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
        sent(&routing, &link, seq, seq, heard);
    }
    let mut taken: VecDeque<Taken> = std::mem::take(&mut *actors.mailbox.lock());
    let void = |taken: &VecDeque<Taken>| taken.iter().map(|(_, reply)| reply.is_void()).collect::<Vec<_>>();
    assert_eq!(void(&taken), [false; 4]);
    let refuse = |taken: &mut VecDeque<Taken>, error: Error| {
        let (_, reply) = taken.pop_front().expect("four have come");
        reply.send(Err(error));
    };
    // One that is refused for good may be asked again when it is allowed.
    refuse(&mut taken, Error::denied("you are not a member"));
    assert_eq!(void(&taken), [true, false, false]);
    // The link is gone, and its questions are here still.
    routing.remove_link(5);
    refuse(&mut taken, Error::unavailable("storage is away"));
    assert_eq!(void(&taken), [true, false]);
}

#[tokio::test]
async fn what_a_node_passes_on_does_not_outlive_a_refusal_that_its_asker_has_not_heard_of() {
    let (routing, _actors) = node();
    let link_of_asker = link(&routing, "asker", 5);
    sent(&routing, &link_of_asker, 1, 1, 0);
    sent(&routing, &link_of_asker, 2, 2, 0);
    assert_eq!(routing.open_questions(), 2, "they wait for a way to the owner");
    let error = Error::unavailable("storage is away").into();
    let result = Some(answer::Result::Error(error));
    let refused = Answer { ask_id: id(1), attempt: 1, result, refusal: 4 };
    comes(&routing, &link_of_asker, 3, Item::Answer(refused));
    assert_eq!((link_of_asker.heard(lane()), routing.open_questions()), (4, 1));
    sent(&routing, &link_of_asker, 4, 3, 0);
    assert_eq!(routing.open_questions(), 1, "it is refused at once");
    let link_of_owner = link(&routing, "there", 6);
    routing.link_ready(&link_of_owner);
    assert_eq!((link_of_owner.queued(), routing.open_questions()), (0, 0), "the second takes no way either");
    // Condemned, refused, and two that were void.
    sent(&routing, &link_of_asker, 5, 4, 4);
    assert_eq!((link_of_owner.queued(), routing.open_questions()), (1, 1));
}

#[tokio::test]
async fn of_two_questions_for_a_node_that_is_about_to_own_them_the_first_stays_first() {
    let (routing, actors) = node();
    let link = link(&routing, "asker", 5);
    passed_on(&routing, &link, 1);
    own(&routing, true);
    passed_on(&routing, &link, 2);
    assert_eq!(actors.take(), [1, 2]);
    // What is kept for a node is forgotten with its link: it asks again.
    own(&routing, false);
    passed_on(&routing, &link, 3);
    assert_eq!((actors.take(), routing.open_questions()), (vec![], 1));
    routing.remove_link(5);
    assert_eq!(routing.open_questions(), 0);
}
