//! What a node does when the view changes, and on its regular rounds: opens and closes presence shards, announces its
//! sessions to the new owners of moved shards, lets go of rooms that others own now, and ends silent connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Actors;
use super::doubt::Doubt;
use super::presence::actor::ShardMessage;
use super::room::actor::RoomMessage;
use crate::actors::directory::Place;
use crate::clock;
use crate::cluster::Address;
use crate::protocol::cluster::SessionRecord;

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
    let mut doubt = Doubt::new(actors.cluster().links());
    // Shards whose owner has not confirmed our sessions yet.
    let mut unconfirmed: BTreeSet<u64> = BTreeSet::new();
    let (confirm, mut failures) = tokio::sync::mpsc::unbounded_channel::<u64>();
    loop {
        tokio::select! {
            biased;
            changed = views.changed() => {
                if changed.is_err() {
                    return;
                }
                // Before rooms are told to move: they push again what they had better not take with them.
                look_at_links(&actors, &mut doubt);
                let moved = take_view(&actors);
                announce(&actors, moved, &confirm);
            }
            Some(shard) = failures.recv() => {
                unconfirmed.insert(shard);
            }
            _ = rounds.tick() => {
                look_at_links(&actors, &mut doubt);
                actors.sessions().sweep();
                passivate_idle_rooms(&actors);
                retire_foreign_rooms(&actors);
                if announced_at.elapsed() >= actors.inner.config.presence.announce_interval {
                    announced_at = Instant::now();
                    unconfirmed = (0..actors.inner.directory.shards()).collect();
                }
                announce(&actors, std::mem::take(&mut unconfirmed).into_iter().collect(), &confirm);
            }
        }
    }
}

/// After a link or a node was lost or has come back: rooms read their membership again, and push again what may not have
/// reached everybody.
fn look_at_links(actors: &Actors, doubt: &mut Doubt) {
    let inner = &actors.inner;
    let found = doubt.look(actors.cluster().links(), clock::now_ms(), inner.config.room.repush_window);
    if found.members {
        inner.doubts.fetch_add(1, Ordering::Relaxed);
    }
    inner.doubted_since_ms.store(found.in_doubt_since_ms.unwrap_or(u64::MAX), Ordering::Relaxed);
    let Some(since_ms) = found.push_since_ms else { return };
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
    retire_foreign_rooms(actors);
    if !moved.is_empty() {
        tracing::info!(view = view.version, shards = moved.len(), "presence shards have moved");
    }
    moved
}

/// Announces this node's sessions of the shards to their owners, in batches, and reports the shards that did not confirm.
fn announce(actors: &Actors, shards: Vec<u64>, failed: &tokio::sync::mpsc::UnboundedSender<u64>) {
    if shards.is_empty() {
        return;
    }
    let wanted: BTreeSet<u64> = shards.into_iter().collect();
    let mut by_shard: BTreeMap<u64, Vec<SessionRecord>> = BTreeMap::new();
    for session in actors.inner.sessions.all() {
        let shard = actors.inner.directory.shard_of(session.user_id());
        if wanted.contains(&shard) {
            by_shard.entry(shard).or_default().push(session.record(actors));
        }
    }
    let limit = actors.inner.config.cluster.ask_timeout;
    for (shard, records) in by_shard {
        for batch in records.chunks(actors.inner.config.presence.announce_batch.max(1)) {
            let (actors, batch, failed) = (actors.clone(), batch.to_vec(), failed.clone());
            let Some(user_id) = batch.first().map(|record| record.user_id) else { continue };
            actors.inner.runtime.clone().spawn(async move {
                if actors.announce(user_id, batch.clone(), limit).await.is_err() {
                    // The receiver lives as long as the runtime.
                    let _ = failed.send(shard);
                }
                // A session that ended while it was being announced must not stay in the directory.
                for record in &batch {
                    if actors.inner.sessions.get(record.session_id).is_none() {
                        actors.withdraw_record(record);
                    }
                }
            });
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
