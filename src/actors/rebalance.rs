//! What a node does when the view changes, and on its regular rounds: opens and closes presence shards, announces its
//! sessions to the new owners of moved shards, lets go of rooms that others own now, and ends silent connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::doubt::Doubt;
use super::presence::actor::ShardMessage;
use super::reach::Reach;
use super::room::actor::RoomMessage;
use super::{Actors, presence_request_of};
use crate::actors::directory::Place;
use crate::clock;
use crate::cluster::{Address, ReplyTo};
use crate::protocol::cluster::{Register, Reply, SessionRecord, presence_request};

/// How often sessions and rooms are looked over.
const ROUND: Duration = Duration::from_secs(1);

/// Rooms told to push again at a time, and the pause between: live traffic goes on meanwhile.
const PUSH_AGAIN_ROOMS: usize = 200;
const PUSH_AGAIN_PAUSE: Duration = Duration::from_millis(10);

/// Starts the task; it ends with the runtime.
pub(super) fn start(actors: Actors) {
    let runtime = actors.inner.runtime.clone();
    // The first view is taken before anybody can ask for a shard.
    take_view(&actors);
    runtime.spawn(run(actors));
}

async fn run(actors: Actors) {
    let mut views = actors.cluster().watch();
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut announced_at = Instant::now();
    let mut links = Links::new(&actors);
    loop {
        tokio::select! {
            biased;
            changed = views.changed() => {
                if changed.is_err() {
                    return;
                }
                let moved = take_view(&actors);
                // Before rooms are told to move: they push again what they had better not take with them.
                let relinked = look_at_links(&actors, &mut links);
                retire_foreign_rooms(&actors);
                announce(&actors, if relinked { all_shards(&actors) } else { moved.into_iter().collect() });
            }
            _ = rounds.tick() => {
                let relinked = look_at_links(&actors, &mut links);
                actors.sessions().sweep();
                passivate_idle_rooms(&actors);
                retire_foreign_rooms(&actors);
                let mut shards = std::mem::take(&mut *actors.inner.unconfirmed.lock());
                if relinked || announced_at.elapsed() >= actors.inner.config.presence.announce_interval {
                    announced_at = Instant::now();
                    actors.inner.directory.drop_gone(&actors.cluster().view(), &actors.inner.name);
                    shards = all_shards(&actors);
                }
                announce(&actors, shards);
            }
        }
    }
}

/// Which links there were at the last look, and what is still to be done about those that changed.
struct Links {
    reach: Reach,
    doubt: Doubt,
}

impl Links {
    fn new(actors: &Actors) -> Self {
        let reach = reach(actors);
        Self { doubt: Doubt::new(reach.ways()), reach }
    }
}

/// This node's links, but for those to nodes that it has not taken up yet, and those of others.
fn reach(actors: &Actors) -> Reach {
    let mut own = actors.cluster().links();
    own.retain(|name, _| actors.inner.directory.is_live(name));
    Reach { own, others: actors.cluster().reached_by_others() }
}

/// After a link or a node was lost or has come back: rooms read their membership again, and push again what may not have
/// reached everybody. Says whether sessions are to be announced to all shards, as their owners may have forgotten them.
fn look_at_links(actors: &Actors, links: &mut Links) -> bool {
    let inner = &actors.inner;
    let reach = reach(actors);
    // Of many nodes there are many pairs.
    let ways = (reach != links.reach).then(|| {
        // What is pushed again goes by these.
        inner.directory.take_detours(reach.detours());
        links.reach = reach;
        links.reach.ways()
    });
    let found = links.doubt.look(ways, clock::now_ms(), inner.config.room.repush_window);
    // What others push again because of this comes to a directory that has taken the view.
    actors.cluster().say_reached(&links.reach.own);
    if found.members {
        inner.doubts.fetch_add(1, Ordering::Relaxed);
    }
    inner.doubted_since_ms.store(found.in_doubt_since_ms.unwrap_or(u64::MAX), Ordering::Relaxed);
    let Some(since_ms) = found.push_since_ms else { return found.members };
    let mut rooms = inner.rooms.vitals();
    rooms.retain(|vitals| vitals.last_active_ms() >= since_ms);
    tracing::info!(rooms = rooms.len(), "links were lost or have come back: young messages are pushed again");
    let actors = actors.clone();
    actors.inner.runtime.clone().spawn(async move {
        for some in rooms.chunks(PUSH_AGAIN_ROOMS) {
            for vitals in some {
                actors.inner.rooms.cast_if_active(vitals.address, RoomMessage::PushAgain(since_ms));
            }
            tokio::time::sleep(PUSH_AGAIN_PAUSE).await;
        }
    });
    found.members
}

fn all_shards(actors: &Actors) -> BTreeSet<u64> {
    (0..actors.inner.directory.shards()).collect()
}

/// Applies the newest view; returns the shards that moved.
fn take_view(actors: &Actors) -> Vec<u64> {
    let inner = &actors.inner;
    let view = actors.cluster().view();
    let moved = inner.directory.take_view(&view, &inner.name);
    let places = inner.directory.places();
    for &shard in &moved {
        let address = Address::presence(shard);
        if places[shard as usize] != Place::Here {
            inner.shards.end(address, ShardMessage::Stop);
        }
    }
    if !moved.is_empty() {
        tracing::info!(view = view.version, shards = moved.len(), "presence shards have moved");
    }
    moved
}

/// Announces this node's sessions of the shards to their owners, all of each shard, in batches. Those that are not
/// confirmed are announced again with the next round.
fn announce(actors: &Actors, shards: BTreeSet<u64>) {
    let inner = &actors.inner;
    let newest = inner.sessions.newest();
    if shards.is_empty() || newest == 0 {
        return;
    }
    let mut by_shard: BTreeMap<u64, Vec<SessionRecord>> =
        shards.into_iter().map(|shard| (shard, Vec::new())).collect();
    for session in inner.sessions.all() {
        let record = session.record(actors);
        // Those that began meanwhile announce themselves.
        if record.number <= newest
            && let Some(records) = by_shard.get_mut(&inner.directory.shard_of(session.user_id()))
        {
            records.push(record);
        }
    }
    for (shard, mut records) in by_shard {
        records.sort_unstable_by_key(|record| record.number);
        let mut batches: Vec<Vec<SessionRecord>> =
            records.chunks(inner.config.presence.announce_batch.max(1)).map(<[_]>::to_vec).collect();
        if batches.is_empty() {
            batches.push(Vec::new());
        }
        let (mut after, last) = (0, batches.len() - 1);
        for (at, sessions) in batches.into_iter().enumerate() {
            let up_to = match sessions.last() {
                Some(record) if at < last => record.number,
                _ => newest,
            };
            let ids: Vec<(u64, SessionRecord)> =
                sessions.iter().map(|record| (record.session_id, record.clone())).collect();
            let (node, incarnation) = (inner.name.clone(), actors.cluster().incarnation());
            let register = Register { sessions, node, incarnation, after, up_to };
            let told = actors.clone();
            let reply = ReplyTo::new(move |answer: crate::domain::Result<Reply>| {
                if answer.is_err() {
                    told.announce_again(shard);
                }
                // A session that ended while it was being announced must not stay in the directory.
                for (session_id, record) in &ids {
                    if told.inner.sessions.get(*session_id).is_none() {
                        told.withdraw_record(record);
                    }
                }
            });
            let request = presence_request_of(presence_request::Command::Register(register));
            let limit = inner.config.cluster.ask_timeout;
            actors.cluster().ask(Address::presence(shard), request, limit, reply);
            after = up_to;
        }
    }
}

/// Rooms that another node owns now finish and go there. Also on each round, for one that was started by a message
/// that was on its way when the view changed.
fn retire_foreign_rooms(actors: &Actors) {
    let inner = &actors.inner;
    let view = actors.cluster().view();
    for vitals in inner.rooms.vitals() {
        if view.owner(&vitals.address) != Some(inner.name.as_str()) {
            inner.rooms.cast_if_active(vitals.address, RoomMessage::Retire);
        }
    }
}

fn passivate_idle_rooms(actors: &Actors) {
    let now = clock::now_ms();
    let idle = actors.inner.config.room.idle_timeout.as_millis() as u64;
    for vitals in actors.inner.rooms.vitals() {
        if now.saturating_sub(vitals.last_active_ms()) > idle {
            actors.inner.rooms.cast_if_active(vitals.address, RoomMessage::Passivate);
        }
    }
}
