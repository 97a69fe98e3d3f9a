//! A node joins under full load: the rooms that move to it pause for a moment, and no send is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rookery::client::connection::Incoming;
use rookery::client::{Connection, Transport};
use rookery::protocol::v1::{self, client_frame::Request, message_kind, server_frame::Body};
use tokio::time::Instant;

use crate::checker::Target;
use crate::device::{send_to, sign_in};
use crate::mariadb_server::MariaDb;
use crate::people::{People, Person};
use crate::world::{Cluster, eventually, seed, within};

/// Users who send, spread over the nodes, and the rooms of each.
const SENDERS: usize = 12;
const ROOMS_EACH: usize = 5;
/// Sends under way in each room.
const UNDER_WAY: usize = 2;
/// Sends that each room must have acknowledged before, and once more after the move.
const ROUNDS: usize = 30;
/// What belongs to the move: from the start of the new process until this long after all have seen the node.
const AFTERMATH: Duration = Duration::from_secs(1);
/// The aim on a machine that is not busy otherwise: how long a send to a moving room takes at most, at the 99th percentile.
const AIM: Duration = Duration::from_millis(500);
/// On a busy one: this many times what sends to rooms that stay take meanwhile.
const BUSY: u32 = 5;
/// In any case; beyond `cluster.ask_timeout` sends would be answered `deadline_exceeded`.
const CAP: Duration = Duration::from_secs(5);
/// Messages of one page of history.
const PAGE: u32 = 200;
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_under_load_pauses_the_moving_rooms_only_and_refuses_nothing() {
    within(TEST_TIMEOUT, "a node joins under load", async {
        let mut cluster = Cluster::on(3, MariaDb::shared().await.database().await).await;
        let rest = cluster.rest();
        let mut people = People::new(&cluster, seed(), SENDERS).await;
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::new(Progress::default()));
        let mut senders = Vec::new();
        for at in 0..SENDERS {
            let mut rooms = Vec::new();
            for _ in 0..ROOMS_EACH {
                rooms.push(people.group(&rest, &[at, (at + 1) % SENDERS]).await);
            }
            let endpoint = people.endpoints.get(at, Transport::WebSocketJson);
            let person = people.all[at].clone();
            senders.push(Sender { endpoint, person, rooms, stop: stop.clone(), progress: progress.clone() });
        }
        let all_rooms: Vec<u64> = senders.iter().flat_map(|sender| sender.rooms.clone()).collect();
        let sending: Vec<_> = senders.into_iter().map(|sender| tokio::spawn(sender.run())).collect();
        progress.reached(ROUNDS * all_rooms.len()).await;
        let began = Instant::now();
        let place = cluster.add().await.expect("a fourth node starts");
        cluster.see_each_other(&[0, 1, 2, 3]).await;
        let ended = Instant::now() + AFTERMATH;
        tokio::time::sleep_until(ended).await;
        progress.reached(progress.acknowledged.load(Ordering::Relaxed) + ROUNDS * all_rooms.len()).await;
        stop.store(true, Ordering::Relaxed);
        let mut sends = Vec::new();
        for sender in sending {
            sends.extend(sender.await.expect("the sender ends"));
        }
        let mut moved = BTreeSet::new();
        for room in all_rooms {
            if cluster.owner_of_room(0, room).await == place {
                moved.insert(room);
            }
        }
        assert!(!moved.is_empty(), "a new node of four owns some rooms of {}", SENDERS * ROOMS_EACH);
        judge_times(&sends, &moved, began, ended);
        for (at, person) in people.all.iter().enumerate() {
            let endpoint = people.endpoints.get(at, Transport::WebSocketJson);
            keeps_order(&endpoint, person, &sends).await;
        }
        cluster.end().await;
    })
    .await;
}

/// One send, and what became of it.
struct Sent {
    room: u64,
    by: u64,
    number: usize,
    at: Instant,
    took: Duration,
}

/// How many sends were acknowledged in all.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
}

impl Progress {
    async fn reached(&self, count: usize) {
        let look = async || (self.acknowledged.load(Ordering::Relaxed) >= count).then_some(());
        eventually(TEST_TIMEOUT, format!("{count} sends are acknowledged"), look).await;
    }
}

/// A user who keeps some sends under way in each room.
struct Sender {
    endpoint: String,
    person: Person,
    rooms: Vec<u64>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Sender {
    async fn run(self) -> Vec<Sent> {
        let signed_in = sign_in(&self.endpoint, Transport::WebSocketJson, &self.person.token).await;
        let (connection, mut events, _) = signed_in.expect("the node signs us in");
        let (mut under_way, mut sent) = (BTreeMap::new(), Vec::new());
        let mut waiting = vec![0; self.rooms.len()];
        let mut numbers = vec![0; self.rooms.len()];
        let mut next_tag = 1;
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            for place in 0..self.rooms.len() {
                while !stopping && waiting[place] < UNDER_WAY && connection.room() > 0 {
                    let (room, number) = (self.rooms[place], numbers[place]);
                    let client_id = format!("{}-{room}-{number}", self.person.username);
                    let send = send_to(Target::Conversation(room), &client_id, &number.to_string());
                    under_way.insert(next_tag, (place, number, Instant::now()));
                    connection
                        .post_tagged(next_tag, Request::Send(send))
                        .await
                        .expect("the node stays connected");
                    next_tag += 1;
                    waiting[place] += 1;
                    numbers[place] += 1;
                }
            }
            if stopping && under_way.is_empty() {
                break;
            }
            let incoming = events.next_incoming().await.expect("the node stays connected");
            let Incoming::Answer { tag, result } = incoming else { continue };
            let (place, number, at) = under_way.remove(&tag).expect("each request is answered once");
            match result {
                Ok(Body::Sent(_)) => {}
                other => panic!("send {number} to room {} was refused: {other:?}", self.rooms[place]),
            }
            waiting[place] -= 1;
            let (room, by) = (self.rooms[place], self.person.user_id);
            sent.push(Sent { room, by, number, at, took: at.elapsed() });
            self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        connection.close().await;
        sent
    }
}

#[expect(clippy::print_stderr, reason = "the figures are what the test is for")]
fn judge_times(sends: &[Sent], moved: &BTreeSet<u64>, began: Instant, ended: Instant) {
    let of = |moves: bool| {
        let mut took: Vec<Duration> = Vec::new();
        let mut worst: BTreeMap<u64, Duration> = BTreeMap::new();
        for send in sends {
            if moved.contains(&send.room) == moves && send.at < ended && send.at + send.took > began {
                took.push(send.took);
                let worst = worst.entry(send.room).or_default();
                *worst = send.took.max(*worst);
            }
        }
        took.sort_unstable();
        let mut worst: Vec<Duration> = worst.into_values().collect();
        worst.sort_unstable();
        let which = if moves { "moved" } else { "stayed" };
        eprintln!(
            "{} rooms that {which}, {} sends: P50 {:?} P99 {:?} max {:?}; the worst of each room: P50 {:?} P99 {:?}",
            worst.len(),
            took.len(),
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
            percentile(&worst, 50),
            percentile(&worst, 99),
        );
        (percentile(&worst, 99), percentile(&took, 100))
    };
    let ((paused, longest), (stayed, _)) = (of(true), of(false));
    let limit = AIM.max(stayed * BUSY);
    assert!(paused < limit, "moving rooms paused for {paused:?}; {limit:?} is the limit");
    assert!(longest < CAP, "a send took {longest:?}");
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().expect("something was measured")
}

/// All that a person sent is in each room's log once, in the order in which it was sent.
async fn keeps_order(endpoint: &str, person: &Person, sends: &[Sent]) {
    let signed_in = sign_in(endpoint, Transport::WebSocketJson, &person.token).await;
    let (connection, events, _) = signed_in.expect("the node signs us in");
    drop(events);
    let mut count: BTreeMap<u64, usize> = BTreeMap::new();
    for send in sends.iter().filter(|send| send.by == person.user_id) {
        let count = count.entry(send.room).or_default();
        *count = (*count).max(send.number + 1);
    }
    for (room, count) in count {
        let numbers = history(&connection, room, person.user_id).await;
        assert!(numbers.iter().copied().eq(0..count), "room {room}: {count} sends, stored as {numbers:?}");
    }
    connection.close().await;
}

/// The numbers that a person sent to a room, as they are stored.
async fn history(connection: &Connection, room: u64, by: u64) -> Vec<usize> {
    let (mut numbers, mut after_seq) = (Vec::new(), 0);
    loop {
        let request = v1::HistoryRequest {
            conversation_id: room,
            after_seq,
            limit: PAGE,
            ..v1::HistoryRequest::default()
        };
        // Zero stands for the newest page, and the first message of a group is its own.
        let request = v1::HistoryRequest { after_seq: request.after_seq.max(1), ..request };
        let page = connection.history(request).await.expect("history answers a member");
        let texts = page
            .messages
            .iter()
            .filter(|message| message.kind() == message_kind::Kind::Text && message.sender_id == by);
        numbers.extend(texts.map(|message| message.text.parse::<usize>().expect("a number")));
        match page.messages.last() {
            Some(last) => after_seq = last.seq,
            None => return numbers,
        }
    }
}
