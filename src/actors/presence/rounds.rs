//! What keeps watching true whatever is lost: every node tells the shards again whom it watches, after each change of the
//! view and at intervals, and learns from the answers who is connected. And shards whose sessions ended with their node
//! are told to look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::actor::ShardMessage;
use crate::actors::Actors;
use crate::cluster::Address;
use crate::domain::Result;
use crate::protocol::cluster::{ConnectedList, Watch, presence_reply, presence_request};

/// How often it is seen whether something is to be done.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two lookings for watches of sessions that have ended.
const SWEEP_ROUNDS: u32 = 5;

/// Starts the task; it ends with the runtime.
pub fn start(actors: Actors) {
    actors.inner.runtime.clone().spawn(run(actors));
}

async fn run(actors: Actors) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told_at, mut told_view) = (Instant::now(), 0);
    // Shards that have not confirmed, or did not know their users yet.
    let mut again: BTreeSet<u64> = BTreeSet::new();
    for round in 0u32.. {
        rounds.tick().await;
        let inner = &actors.inner;
        let view = actors.cluster().view().version;
        if view != told_view {
            for vitals in inner.shards.vitals() {
                inner.shards.cast_if_active(vitals.address, ShardMessage::Look);
            }
        }
        for shard in inner.directory.flipped() {
            actors.cast_shard(Address::presence(shard), ShardMessage::Look);
        }
        if round % SWEEP_ROUNDS == 0 {
            inner.watches.retain_sessions(|session_id| inner.sessions.get(session_id).is_some());
        }
        let mut shards = std::mem::take(&mut again);
        shards.extend(inner.watches.take_dropped().iter().map(|id| inner.directory.shard_of(*id)));
        let of_shard = by_shard(&actors);
        if view != told_view || told_at.elapsed() >= inner.config.presence.announce_interval {
            (told_at, told_view) = (Instant::now(), view);
            shards.extend(of_shard.keys());
        }
        let asks = shards.iter().map(|shard| {
            let user_ids = of_shard.get(shard).cloned().unwrap_or_default();
            actors.watch_shard(*shard, user_ids, true)
        });
        let answers = futures_util::future::join_all(asks).await;
        for (shard, answer) in shards.iter().zip(answers) {
            match answer {
                Ok(complete) if complete => {}
                _ => {
                    again.insert(*shard);
                }
            }
        }
    }
}

/// The watched users by their shards.
fn by_shard(actors: &Actors) -> BTreeMap<u64, Vec<u64>> {
    let mut by_shard: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for user_id in actors.inner.watches.watched() {
        by_shard.entry(actors.inner.directory.shard_of(user_id)).or_default().push(user_id);
    }
    by_shard
}

impl Actors {
    /// Tells a shard whom of its users this node watches, some more or all of them, and takes up who of them is connected.
    /// Whether the shard knows for certain.
    pub(in crate::actors) async fn watch_shard(
        &self,
        shard: u64,
        user_ids: Vec<u64>,
        all: bool,
    ) -> Result<bool> {
        let watch = Watch {
            node: self.inner.name.clone(),
            incarnation: self.cluster().incarnation(),
            user_ids: user_ids.clone(),
            all,
        };
        let limit = self.inner.config.cluster.ask_timeout;
        let command = presence_request::Command::Watch(watch);
        let presence_reply::Reply::Connected(ConnectedList { user_ids: connected, complete }) =
            self.ask_shard(shard, command, limit).await?
        else {
            return Err(crate::domain::Error::internal("a presence shard answered as something else"));
        };
        let there: BTreeSet<u64> = connected.iter().copied().collect();
        let gone: Vec<u64> = if complete {
            user_ids.into_iter().filter(|user_id| !there.contains(user_id)).collect()
        } else {
            // It has only begun to learn of sessions: who was there may be still.
            Vec::new()
        };
        self.inner.watches.take_news(&connected, &gone, &[]);
        Ok(complete)
    }
}
