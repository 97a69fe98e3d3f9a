//! The judge: all that was acknowledged and delivered, to whom, when, and what of it breaks a promise.
//!
//! It believes nobody: devices tell it what they wrote and read, and the database's logs are compared with that. It keeps a
//! few bytes for each message, so that runs of hours fit. What is said of each message is in [`claims`], the comparison with
//! the logs in [`log`], and how long things took to work again in [`recovery`].

mod claims;
mod log;
mod recovery;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::time::Instant;

use crate::client::ClientError;
use crate::domain::ranges::SeqRanges;
use crate::protocol::{ErrorCode, v1};

use recovery::Watch;

pub use log::Row;

/// Violations that are kept in words; all are counted.
const VIOLATIONS_KEPT: usize = 200;
/// A push later than this behind the answer to its sender is late.
pub const LATE: Duration = Duration::from_secs(1);
/// Messages of one room whose live delivery is under watch.
const RECENT_MAX: usize = 10_000;
/// Kinds of refusals that are told apart.
const REASONS_MAX: usize = 50;

/// What may be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Acknowledged, and not in the log.
    Lost,
    /// Two messages of one `client_id`, or one twice on a connection.
    Doubled,
    /// Behind a later one, on a connection or in the log.
    OutOfOrder,
    /// A log, or a sync, leaves a seq out, or the log changed.
    Gap,
    /// A device that has not got a message in the end.
    Missing,
    /// An answer that the protocol does not allow.
    Protocol,
    /// A round that did not recover, or could not be carried out.
    Unrecovered,
}

/// One broken promise.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// In which round; 0: before the first.
    pub round: usize,
    /// What is broken.
    pub what: Broken,
    /// In words.
    pub text: String,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Author {
    Device { device: u32, number: u32 },
    System,
}

/// A message as first seen; others must agree.
#[derive(Clone, Copy, Debug)]
struct Claim {
    author: Author,
    acked: bool,
}

/// A message under watch until every connection that should have it live has it.
#[derive(Debug)]
struct Recent {
    seq: u64,
    acked_us: u64,
    waiting: Vec<usize>,
}

#[derive(Debug)]
struct Room {
    id: u64,
    /// Devices of its members.
    devices: Vec<usize>,
    /// By seq - 1.
    claims: Vec<Option<Claim>>,
    /// The log is compared up to here.
    verified: u64,
    recent: VecDeque<Recent>,
    /// The latest post among those that were acknowledged.
    answered_post_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    room: u32,
    seq: u64,
    first_posted_us: u64,
    last_posted_us: u64,
}

/// A live connection of a device.
#[derive(Debug)]
struct Connection {
    node: usize,
    since_us: u64,
    /// By room: the last seq that came, pushed or `sent`.
    last: HashMap<usize, u64>,
    /// By room: what was pushed.
    pushed: HashMap<usize, SeqRanges>,
    /// By room: among the sends answered as new, the latest first post, by its place among all posts.
    answered: HashMap<usize, u64>,
}

#[derive(Debug)]
struct Device {
    user_id: u64,
    connection: Option<Connection>,
    seen: HashMap<usize, SeqRanges>,
    /// By room: when the youngest message that was pushed to it had been posted.
    pushed_post_us: HashMap<usize, u64>,
    sendings: Vec<Sending>,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Different messages acknowledged.
    pub acked: u64,
    /// Answers `duplicate: true`.
    pub duplicates: u64,
    /// Messages pushed, over all connections.
    pub live: u64,
    /// Messages that sync brought to a device that did not have them.
    pub by_sync: u64,
    /// Pushes that a live connection should have had and did not.
    pub holes: u64,
    /// Sends refused for now.
    pub refused: u64,
    /// Sends without an answer within the device's patience, or before their connection ended.
    pub unanswered: u64,
    /// Connections made.
    pub connections: u64,
    /// Broken promises by kind.
    pub broken: BTreeMap<Broken, u64>,
}

#[derive(Debug, Default)]
struct State {
    round: usize,
    rooms: Vec<Room>,
    by_id: HashMap<u64, usize>,
    devices: Vec<Device>,
    counts: Counts,
    violations: Vec<Violation>,
    reasons: BTreeMap<String, u64>,
    watches: HashMap<(usize, usize), Watch>,
    /// When the last message was acknowledged that a live connection missed, or got late.
    trouble_us: u64,
    /// The longest way of a message of this round from its first post to its `sent`.
    slowest_ack_us: u64,
}

/// The record of a run.
#[derive(Debug)]
pub struct Ledger {
    epoch: Instant,
    state: Mutex<State>,
}

/// The `client_id` of a device's message.
pub fn client_id(device: usize, number: u32) -> String {
    format!("d{device}-{number}")
}

impl Ledger {
    /// Rooms by id with the places of their members' devices; the user of each device.
    pub fn new(rooms: Vec<(u64, Vec<usize>)>, users: &[u64]) -> Self {
        let by_id = rooms.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let rooms = rooms.into_iter().map(|(id, devices)| Room {
            id,
            devices,
            claims: Vec::new(),
            verified: 0,
            recent: VecDeque::new(),
            answered_post_us: 0,
        });
        let devices = users.iter().map(|user_id| Device {
            user_id: *user_id,
            connection: None,
            seen: HashMap::new(),
            pushed_post_us: HashMap::new(),
            sendings: Vec::new(),
        });
        let state = State { rooms: rooms.collect(), by_id, devices: devices.collect(), ..State::default() };
        Self { epoch: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What follows belongs to this round.
    pub fn begin_round(&self, round: usize) {
        let mut state = self.state();
        state.round = round;
        state.slowest_ack_us = 0;
        state.watches.clear();
    }

    /// The longest way of a message of this round from its first post to its `sent`, in milliseconds.
    pub fn slowest_ack_ms(&self) -> f64 {
        self.state().slowest_ack_us as f64 / 1000.0
    }

    /// A promise is broken.
    pub fn broken(&self, what: Broken, text: impl Into<String>) {
        self.state().broken(what, text.into());
    }

    /// A device is to send a message to a room; its number.
    pub fn plan(&self, device: usize, room: usize) -> u32 {
        let mut state = self.state();
        let sendings = &mut state.devices[device].sendings;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        sendings.push(Sending { room, seq: 0, first_posted_us: 0, last_posted_us: 0 });
        u32::try_from(sendings.len() - 1).unwrap_or(u32::MAX)
    }

    /// A message is about to be handed to the server.
    pub fn posted(&self, device: usize, number: u32) {
        let now = self.now_us();
        let mut state = self.state();
        let sending = &mut state.devices[device].sendings[number as usize];
        sending.last_posted_us = now;
        if sending.first_posted_us == 0 {
            sending.first_posted_us = now;
        }
    }

    /// A device is signed in at a node.
    pub fn connected(&self, device: usize, node: usize) {
        let now = self.now_us();
        let mut state = self.state();
        state.counts.connections += 1;
        state.devices[device].connection = Some(Connection {
            node,
            since_us: now,
            last: HashMap::new(),
            pushed: HashMap::new(),
            answered: HashMap::new(),
        });
    }

    /// Its connection is gone, and with it the answers to these sends.
    pub fn disconnected(&self, device: usize, unanswered: &[u32]) {
        let now = self.now_us();
        let mut state = self.state();
        state.counts.unanswered += unanswered.len() as u64;
        unanswered.iter().for_each(|number| state.failed(device, *number, now));
        state.devices[device].connection = None;
        let State { rooms, counts, trouble_us, .. } = &mut *state;
        for room in rooms.iter_mut().filter(|room| room.devices.contains(&device)) {
            for recent in &mut room.recent {
                let before = recent.waiting.len();
                recent.waiting.retain(|other| *other != device);
                // Fresh ones went down with the connection; older ones it should have had long before.
                if recent.waiting.len() < before && now.saturating_sub(recent.acked_us) > micros(LATE) {
                    counts.holes += 1;
                    *trouble_us = (*trouble_us).max(recent.acked_us);
                }
            }
            room.forget();
        }
    }

    /// A send was answered with `sent`. `places`: of its first and its last post on this connection, among all posts. A
    /// post that was refused may have been stored all the same, so that any of them may be the one that counts.
    pub fn acked(&self, device: usize, number: u32, places: (u64, u64), sent: &v1::Sent) {
        let now = self.now_us();
        let mut state = self.state();
        let Some(room) = state.by_id.get(&sent.conversation_id).copied() else {
            return state
                .broken(Broken::Protocol, format!("an answer for an unknown conversation: {sent:?}"));
        };
        let sending = state.devices[device].sendings[number as usize];
        if sending.room as usize != room || sent.client_id != client_id(device, number) || sent.seq == 0 {
            let text = format!("the send {} was answered with {sent:?}", client_id(device, number));
            return state.broken(Broken::Protocol, text);
        }
        state.counts.duplicates += u64::from(sent.duplicate);
        let author = Author::Device { device: id(device), number };
        let first = state.claim(room, sent.seq, author, true, "acknowledged");
        state.mark_seen(device, room, sent.seq);
        if first {
            state.counts.acked += 1;
            state.slowest_ack_us = state.slowest_ack_us.max(now.saturating_sub(sending.first_posted_us));
            state.expect_pushes(device, room, sent.seq, sending.first_posted_us, now);
        }
        let answered = &mut state.rooms[room].answered_post_us;
        *answered = (*answered).max(sending.last_posted_us);
        let Some(connection) = &mut state.devices[device].connection else { return };
        let node = connection.node;
        if !sent.duplicate {
            let latest = connection.answered.entry(room).or_default();
            let is_behind = *latest > places.1;
            *latest = (*latest).max(places.0);
            if is_behind {
                let text = format!(
                    "room {}: {} was posted before another one on its connection and stored behind it, at seq {}",
                    sent.conversation_id, sent.client_id, sent.seq
                );
                state.broken(Broken::OutOfOrder, text);
            }
            // The answer to a repeat names an old seq: it has no place in the connection's order.
            state.comes(device, room, sent.seq, "sent");
        }
        if let Some(watch) = state.watches.get_mut(&(room, node))
            && watch.answered.is_none()
            && (watch.any_send || sending.last_posted_us >= watch.since_us)
        {
            watch.answered = Some((sending.last_posted_us, now));
        }
    }

    /// A message was pushed. Gives whether the device lacks one before it.
    pub fn pushed(&self, device: usize, message: &v1::Message) -> bool {
        let now = self.now_us();
        let mut state = self.state();
        let Some(room) = state.by_id.get(&message.conversation_id).copied() else { return false };
        let seq = message.seq;
        state.counts.live += 1;
        state.take(device, room, &Row::from(message), "pushed");
        state.comes(device, room, seq, "pushed");
        state.mark_seen(device, room, seq);
        let posted = state.posted_us_of(room, seq);
        let State { rooms, devices, counts, trouble_us, .. } = &mut *state;
        let youngest = devices[device].pushed_post_us.entry(room).or_default();
        *youngest = (*youngest).max(posted);
        if let Some(connection) = &mut devices[device].connection {
            connection.pushed.entry(room).or_default().insert(seq, seq);
        }
        for recent in rooms[room].recent.iter_mut().filter(|recent| recent.seq <= seq) {
            let before = recent.waiting.len();
            recent.waiting.retain(|other| *other != device);
            if recent.waiting.len() == before {
                continue;
            }
            // What was passed over does not come any more: pushes are in order.
            let hole = recent.seq < seq;
            counts.holes += u64::from(hole);
            if hole || now.saturating_sub(recent.acked_us) > micros(LATE) {
                *trouble_us = (*trouble_us).max(recent.acked_us);
            }
        }
        rooms[room].forget();
        devices[device].seen.get(&room).is_some_and(|seen| seen.first_missing_after(0) < seq)
    }

    /// A page of sync came for these cursors. Gives how many of its messages the device did not have.
    pub fn synced(&self, device: usize, cursors: &[(usize, u64)], messages: &[v1::Message]) -> usize {
        let mut state = self.state();
        let mut next: HashMap<usize, u64> = cursors.iter().map(|(room, seq)| (*room, seq + 1)).collect();
        let mut new = 0;
        for message in messages {
            let Some(room) = state.by_id.get(&message.conversation_id).copied() else { continue };
            let expected = next.entry(room).or_insert(message.seq);
            if *expected != message.seq {
                let text = format!(
                    "room {}: a sync of device {device} has seq {} where {expected} belongs",
                    message.conversation_id, message.seq
                );
                state.broken(Broken::Gap, text);
            }
            next.insert(room, message.seq + 1);
            state.take(device, room, &Row::from(message), "synced");
            if state.mark_seen(device, room, message.seq) {
                new += 1;
            }
        }
        state.counts.by_sync += new as u64;
        new
    }

    /// A send was refused.
    pub fn refused(&self, device: usize, number: u32, error: &ClientError) {
        let now = self.now_us();
        let mut state = self.state();
        state.counts.refused += 1;
        state.failed(device, number, now);
        let reason = error.to_string();
        if state.reasons.len() < REASONS_MAX || state.reasons.contains_key(&reason) {
            *state.reasons.entry(reason).or_default() += 1;
        }
        let name = client_id(device, number);
        if !error.may_repeat() {
            state.broken(Broken::Protocol, format!("the send {name} was refused for good: {error}"));
        }
        if error.code() == ErrorCode::Unavailable && error.retry_after_ms() == 0 {
            let text = format!("the send {name} was answered unavailable without retry_after_ms: {error}");
            state.broken(Broken::Protocol, text);
        }
    }

    /// Where a device is to begin its sync: what it has of each room without a gap.
    pub fn cursors(&self, device: usize, rooms: &[usize]) -> Vec<(usize, u64)> {
        let state = self.state();
        let seen = &state.devices[device].seen;
        let has = |room: &usize| seen.get(room).map_or(0, |seen| seen.first_missing_after(0) - 1);
        rooms.iter().map(|room| (*room, has(room))).collect()
    }

    /// The conversation's number of a room.
    pub fn room_id(&self, room: usize) -> u64 {
        self.state().rooms[room].id
    }

    /// The node at which a device is signed in.
    pub fn node_of(&self, device: usize) -> Option<usize> {
        self.state().devices[device].connection.as_ref().map(|connection| connection.node)
    }

    /// Devices without a connection.
    pub fn offline(&self) -> usize {
        self.state().devices.iter().filter(|device| device.connection.is_none()).count()
    }

    /// Sends that have no `sent` yet.
    pub fn waiting_sends(&self) -> usize {
        let state = self.state();
        state.devices.iter().map(|device| device.sendings.iter().filter(|s| s.seq == 0).count()).sum()
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// How often each refusal was given.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.state().reasons.clone()
    }

    /// The violations, as far as they are kept.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }
}

impl Room {
    fn forget(&mut self) {
        self.recent.retain(|recent| !recent.waiting.is_empty());
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn id(device: usize) -> u32 {
    u32::try_from(device).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
