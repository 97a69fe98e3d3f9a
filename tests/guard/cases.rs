//! What is counted: the steps of a message's way one by one, and the whole way.
//!
//! Each case does `units` of something in a round. A round's input is made beforehand and not counted; what is made of it
//! is dropped within the count, as it is in a node.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery::actors::overload::Overload;
use rookery::actors::registry::Registry;
use rookery::actors::writer::Writers;
use rookery::cluster::{Address, placement};
use rookery::config::{OverloadConfig, StorageConfig, WriterConfig};
use rookery::protocol::codec::{self, Format};
use rookery::protocol::v1::{ClientFrame, ServerFrame};
use rookery::protocol::{ConversationKind, line};
use rookery::storage::Stores;
use rookery::storage::memory::MemoryStores;

use crate::scene::{Scene, Seat};
use crate::{directories, envelopes, frames, outboxes, rooms};

/// Runs the piece of work that it is given, and counts.
pub type Count<'a> = &'a mut dyn FnMut(&mut dyn FnMut());

/// Something that is counted.
pub struct Case {
    /// Its name in `limits.toml`.
    pub name: &'static str,
    /// How many messages, frames, members … a round is about.
    pub units: u64,
    round: Box<dyn FnMut(Count)>,
}

impl Case {
    /// One round: the part to be counted goes to `count`.
    pub fn round(&mut self, count: Count) {
        (self.round)(count);
    }
}

/// A case: `input` is not counted, `run` is.
fn case<I, T>(
    name: &'static str,
    units: u64,
    mut input: impl FnMut() -> I + 'static,
    mut run: impl FnMut(I) -> T + 'static,
) -> Case {
    let round = move |count: Count| {
        let mut made = Some(input());
        count(&mut || {
            if let Some(made) = made.take() {
                drop(black_box(run(black_box(made))));
            }
        });
    };
    Case { name, units, round: Box::new(round) }
}

/// Makes a case. They are made one after the other, as each holds a runtime of its own.
pub type Make = fn() -> Case;

/// All cases, in the order of a message's way.
pub const ALL: &[Make] = &[
    || decode("decode_send_json", Format::Json),
    || decode("decode_send_proto", Format::Proto),
    decode_send_line,
    place,
    || room("room_single", 1),
    || room("room_group_of_16", 16),
    || writer("writer_single", 1),
    || writer("writer_batch_of_64", 64),
    || sqlite("sqlite_single", 1),
    || sqlite("sqlite_batch_of_64", 64),
    || routes("fan_out_plan_here", 1),
    || routes("fan_out_plan_three_nodes", 3),
    || encode_message("encode_message_json", Format::Json),
    || encode_message("encode_message_proto", Format::Proto),
    encode_message_line,
    || encode_sent("encode_sent_json", Format::Json),
    || encode_sent("encode_sent_proto", Format::Proto),
    outbox_messages,
    outbox_answers,
    registry_lookup,
    || pack("envelope_pack_single", 1),
    || pack("envelope_pack_64", 64),
    || unpack("envelope_unpack_64", 64),
    || direct("path_direct_json", Format::Json),
    || direct("path_direct_proto", Format::Proto),
    || direct_together("path_direct_64_at_once", Format::Json),
    || group("path_room_of_100", 1, 100, 4),
    || group("path_room_of_1000", 1, 1000, 1),
    || direct_across("path_direct_two_nodes", Format::Json),
    || group("path_room_of_100_two_nodes", 2, 100, 4),
];

/// Frames of a round of a codec.
const FRAMES: usize = 16;

fn decode(name: &'static str, format: Format) -> Case {
    let text = frames::text(frames::TEXT_BYTES);
    let input = move || -> Vec<Bytes> {
        (0..FRAMES).map(|_| codec::encode(&frames::send_frame(1, &text), format)).collect()
    };
    let run = move |encoded: Vec<Bytes>| {
        for bytes in &encoded {
            let frame: ClientFrame = codec::decode_client(bytes, format).expect("it was just encoded");
            black_box(&frame);
        }
    };
    case(name, FRAMES as u64, input, run)
}

fn decode_send_line() -> Case {
    let line = format!("SEND 7 {}", frames::text(frames::TEXT_BYTES));
    let run = move |()| {
        for _ in 0..FRAMES {
            black_box(line::parse(black_box(&line)).is_ok());
        }
    };
    case("decode_send_line", FRAMES as u64, || (), run)
}

fn place() -> Case {
    const ADDRESSES: u64 = 64;
    let candidate =
        |index: usize| placement::Candidate { hash: placement::node_hash(&format!("node-{index}")), index };
    let candidates: Vec<_> = (0..5).map(candidate).collect();
    let run = move |()| {
        for key in 0..ADDRESSES {
            black_box(placement::owner(black_box(&candidates), &Address::room(key)));
        }
    };
    case("placement_of_5", ADDRESSES, || (), run)
}

fn room(name: &'static str, group: usize) -> Case {
    const GROUPS: usize = 4;
    let mut room = rooms::room(2);
    let input = move || -> Vec<_> { (0..GROUPS).map(|_| rooms::sends(group)).collect() };
    let run = move |groups: Vec<_>| {
        for sends in groups {
            black_box(rooms::plan_and_commit(&mut room, sends));
        }
    };
    case(name, (GROUPS * group) as u64, input, run)
}

/// A runtime on this thread, whose clock stands still while anything can run.
fn still_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing")
}

/// Messages that a round stores, in one batch or more.
const BATCHED: usize = 64;

/// Messages of rooms of their own, that wait for a writer lane together: from the groups to the word that they are stored.
fn writer(name: &'static str, batch: usize) -> Case {
    let batches = BATCHED / batch;
    let runtime = still_runtime();
    let stores = MemoryStores::default().stores();
    // The kernel's timers know nothing of the paused clock.
    let config = WriterConfig { lanes: 1, linger: Duration::ZERO, ..WriterConfig::default() };
    let writers = {
        let _entered = runtime.enter();
        Writers::start(&config, &stores, &Arc::new(Overload::new(&OverloadConfig::default())))
    };
    let text = frames::text(frames::TEXT_BYTES);
    let mut seq = 0;
    let mut groups = move || -> Vec<_> {
        seq += 1;
        (0..batch as u64).map(|room| vec![frames::message(room, seq, &text)]).collect()
    };
    let input = move || -> Vec<_> { (0..batches).map(|_| groups()).collect() };
    let run = move |waiting: Vec<Vec<_>>| {
        runtime.block_on(async {
            let (done, mut stored) = tokio::sync::mpsc::unbounded_channel();
            for groups in waiting {
                for group in groups {
                    let done = done.clone();
                    writers.append(group, move |outcome| {
                        let _ = done.send(outcome);
                    });
                }
                for _ in 0..batch {
                    stored.recv().await.expect("the sender is here").expect("memory takes all");
                }
            }
        });
    };
    case(name, (batches * batch) as u64, input, run)
}

/// SQLite's thread is real and so is its clock; under valgrind, beside other work, it may be slow.
const SQLITE_PATIENCE: Duration = Duration::from_secs(120);

/// What this thread does to store messages in SQLite, whose own work is another thread's: statement, values, pool.
fn sqlite(name: &'static str, batch: usize) -> Case {
    let batches = BATCHED / batch;
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it needs nothing");
    let config = StorageConfig {
        url: format!("sqlite://{}/guard.db?mode=rwc", folder.path().display()),
        acquire_timeout: SQLITE_PATIENCE,
        request_timeout: SQLITE_PATIENCE,
        ..StorageConfig::default()
    };
    let stores: Stores =
        runtime.block_on(rookery::storage::sql::open(&config)).expect("SQLite opens").stores();
    let text = frames::text(frames::TEXT_BYTES);
    let mut seq = 0;
    let mut messages = move || -> Vec<_> {
        seq += 1;
        (0..batch as u64).map(|room| frames::message(room + 1, seq, &text)).collect()
    };
    let input = move || -> Vec<_> { (0..batches).map(|_| messages()).collect() };
    let run = move |waiting: Vec<Vec<_>>| {
        let _ = &folder;
        for messages in waiting {
            runtime.block_on(stores.messages.append(&messages)).expect("SQLite takes all");
        }
    };
    case(name, (batches * batch) as u64, input, run)
}

fn routes(name: &'static str, nodes: usize) -> Case {
    const MEMBERS: u64 = 100;
    let directory = directories::directory(nodes, MEMBERS);
    let members: Vec<u64> = (1..=MEMBERS).collect();
    case(name, MEMBERS, || (), move |()| directory.routes(&members, 0, directories::HERE, true))
}

fn encode_all(name: &'static str, format: Format, frame: impl Fn() -> ServerFrame + 'static) -> Case {
    let input = move || -> Vec<ServerFrame> { (0..FRAMES).map(|_| frame()).collect() };
    let run = move |frames: Vec<ServerFrame>| {
        for frame in &frames {
            black_box(codec::encode(frame, format));
        }
    };
    case(name, FRAMES as u64, input, run)
}

fn encode_message(name: &'static str, format: Format) -> Case {
    let text = frames::text(frames::TEXT_BYTES);
    encode_all(name, format, move || frames::message_frame(frames::message(1, 5, &text)))
}

fn encode_sent(name: &'static str, format: Format) -> Case {
    encode_all(name, format, || frames::sent_frame(1, 5))
}

fn encode_message_line() -> Case {
    let message = frames::message(1, 5, &frames::text(frames::TEXT_BYTES));
    let run = move |()| {
        for _ in 0..FRAMES {
            black_box(line::message_line(black_box(&message), ConversationKind::Direct));
        }
    };
    case("encode_message_line", FRAMES as u64, || (), run)
}

fn outbox_messages() -> Case {
    const MESSAGES: u64 = 64;
    let runtime = still_runtime();
    let outbox = {
        let _entered = runtime.enter();
        outboxes::outbox()
    };
    let bytes = Bytes::from(frames::text(300));
    let mut seq = 1;
    let run = move |()| {
        let _ = &runtime;
        let drained = outboxes::push_and_drain(&outbox, seq, MESSAGES, &bytes);
        seq += MESSAGES;
        drained
    };
    case("outbox_message", MESSAGES, || (), run)
}

fn outbox_answers() -> Case {
    const ANSWERS: u64 = 16;
    let runtime = still_runtime();
    let outbox = {
        let _entered = runtime.enter();
        outboxes::outbox()
    };
    let bytes = Bytes::from(frames::text(120));
    let mut seq = 0;
    let run = move |()| {
        let _ = &runtime;
        for _ in 0..ANSWERS {
            seq += 1;
            black_box(outboxes::answer_and_drain(&outbox, seq, &bytes));
        }
    };
    case("outbox_answer", ANSWERS, || (), run)
}

fn registry_lookup() -> Case {
    const ADDRESSES: u64 = 64;
    let runtime = still_runtime();
    let registry: Arc<Registry<_>> = runtime.block_on(crate::registries::registry(1000));
    let run = move |()| {
        let _ = &runtime;
        for key in 0..ADDRESSES {
            black_box(registry.depth(Address::room(key)));
        }
    };
    case("registry_lookup", ADDRESSES, || (), run)
}

fn pack(name: &'static str, items: usize) -> Case {
    let runtime = still_runtime();
    let now = runtime.block_on(async { tokio::time::Instant::now() });
    let mut lane = envelopes::lane();
    let run = move |requests: Vec<_>| envelopes::pack(&mut lane, &requests, now);
    case(name, items as u64, move || envelopes::requests(items), run)
}

fn unpack(name: &'static str, items: usize) -> Case {
    let runtime = still_runtime();
    let now = runtime.block_on(async { tokio::time::Instant::now() });
    let mut lane = envelopes::lane();
    let input = move || Bytes::from(envelopes::pack(&mut lane, &envelopes::requests(items), now));
    case(name, items as u64, input, envelopes::unpack)
}

/// The whole way, one message after the other between two users: frame in, `sent` and `message` out.
fn direct(name: &'static str, format: Format) -> Case {
    const MESSAGES: usize = 16;
    let mut scene = Scene::start(1);
    let seats = scene.sign_in(2, format);
    let conversation = scene.direct(&seats[0], &seats[1]);
    let sends = move || -> Vec<(Seat, Bytes)> {
        let text = frames::text(frames::TEXT_BYTES);
        (0..MESSAGES).map(|_| seats[0].send(conversation, &text)).collect()
    };
    played(name, MESSAGES, scene, sends, |scene, sends| scene.play_each(sends, 2))
}

/// The whole way between users on two nodes: every other message by a room on the sender's, and on the receiver's.
fn direct_across(name: &'static str, format: Format) -> Case {
    const PAIRS: usize = 32;
    const MESSAGES: usize = 16;
    let mut scene = Scene::start(2);
    let seats = scene.sign_in(2 * PAIRS, format);
    let pairs = seats.chunks(2).map(|pair| (pair[0].clone(), scene.direct(&pair[0], &pair[1])));
    let (near, far): (Vec<_>, Vec<_>) = pairs.partition(|(_, room)| scene.is_on_first_node(*room));
    let rooms = [near[0].clone(), far[0].clone()];
    let sends = move || -> Vec<(Seat, Bytes)> {
        let text = frames::text(frames::TEXT_BYTES);
        let turns = rooms.iter().cycle().take(MESSAGES);
        turns.map(|(seat, conversation)| seat.send(*conversation, &text)).collect()
    };
    played(name, MESSAGES, scene, sends, |scene, sends| scene.play_each(sends, 2))
}

/// The whole way of messages that pairs send at the same moment, so that they are stored together.
fn direct_together(name: &'static str, format: Format) -> Case {
    const PAIRS: usize = 64;
    let mut scene = Scene::start(1);
    let seats = scene.sign_in(2 * PAIRS, format);
    let pair = |pair: &[Seat]| (pair[0].clone(), scene.direct(&pair[0], &pair[1]));
    let senders: Vec<(Seat, u64)> = seats.chunks(2).map(pair).collect();
    let sends = move || -> Vec<(Seat, Bytes)> {
        let text = frames::text(frames::TEXT_BYTES);
        senders.iter().map(|(seat, conversation)| seat.send(*conversation, &text)).collect()
    };
    played(name, PAIRS, scene, sends, |scene, sends| scene.play(sends, 2 * PAIRS))
}

/// The whole way in a group, counted by delivery (the sender's `sent` is one).
fn group(name: &'static str, nodes: usize, members: usize, messages: usize) -> Case {
    let mut scene = Scene::start(nodes);
    let seats = scene.sign_in(members, Format::Json);
    let group = scene.group(&seats);
    let sends = move || -> Vec<(Seat, Bytes)> {
        let text = frames::text(frames::TEXT_BYTES);
        (0..messages).map(|_| seats[0].send(group, &text)).collect()
    };
    played(name, members * messages, scene, sends, move |scene, sends| scene.play_each(sends, members))
}

/// A case on a scene, which has a pause before each round.
fn played(
    name: &'static str,
    units: usize,
    scene: Scene,
    mut sends: impl FnMut() -> Vec<(Seat, Bytes)> + 'static,
    play: impl Fn(&Scene, &[(Seat, Bytes)]) -> usize + 'static,
) -> Case {
    let scene = Rc::new(scene);
    let stage = Rc::clone(&scene);
    let input = move || {
        scene.pause();
        sends()
    };
    case(name, units as u64, input, move |sends: Vec<(Seat, Bytes)>| play(&stage, &sends))
}
