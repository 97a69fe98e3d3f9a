//! Views, links and deadlines change what becomes of open questions.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::time::Instant;

use super::{Routes, Routing};
use crate::cluster::link::Link;
use crate::cluster::pending::{Asker, Moved, Shard};
use crate::cluster::refusals;
use crate::cluster::routing::here::Delivery;
use crate::cluster::view::View;
use crate::domain::Error;
use crate::protocol::codec;

/// How often open questions are looked at for deadlines, while there are any.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

impl Routing {
    /// Publishes a view: questions whose owner it changes are sent again, before anything newer.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view);
        let mut shards = self.lock_shards();
        let mut moved = Moved::default();
        {
            let mut waiting = self.gate.close();
            *self.view.write() = view.clone();
            self.refresh(&mut shards, &mut moved);
            waiting.extend(moved.home.drain(..).map(|(address, request, reply)| {
                // What can't be decoded is handed in empty, and the actor answers that.
                let request = codec::decode_cluster_shared(request).unwrap_or_default();
                Delivery::Home(address, request, reply)
            }));
        }
        drop(shards);
        self.gate.drain(|delivery| self.hand_in(delivery));
        self.finish(moved);
        self.views.send_replace(view);
    }

    /// A link has been opened: envelopes may come over it.
    pub fn add_link(&self, link: &Arc<Link>) {
        self.routes.write().by_epoch.insert(link.epoch, link.clone());
    }

    /// A link is ready: questions that waited for it leave.
    pub fn link_ready(&self, link: &Arc<Link>) {
        self.counters.links_ready.increment();
        self.change_routes(|routes| {
            routes.ready.insert(link.peer.name.clone(), link.clone());
        });
    }

    /// A link has ended: nothing is taken from it any more, and its open questions wait for another.
    pub fn remove_link(&self, epoch: u64) {
        self.change_routes(|routes| {
            routes.by_epoch.remove(&epoch);
            routes.ready.retain(|_, link| link.epoch != epoch);
        });
        // What the peer asked of this node as the owner, and this node is not. Their answers go nowhere now.
        let kept: Vec<Asker> = self.shards.iter().flat_map(|shard| shard.lock().forget(epoch)).collect();
        drop(kept);
    }

    /// Answers what is open with `unavailable`; for the end.
    pub fn fail_all(&self) {
        let askers: Vec<Asker> = self.shards.iter().flat_map(|shard| shard.lock().clear()).collect();
        for asker in askers {
            asker.fail(Error::unavailable("this node is stopping; ask another"));
        }
    }

    /// Watches over deadlines. Runs until it is dropped.
    pub async fn keep_sweeping(self: Arc<Self>) {
        loop {
            self.sweep.notified().await;
            while self.shards.iter().any(|shard| !shard.lock().is_empty()) {
                tokio::time::sleep(SWEEP_EVERY).await;
                self.sweep_once(Instant::now());
            }
        }
    }

    fn sweep_once(&self, now: Instant) {
        for shard in &self.shards {
            let expired = shard.lock().expire(now);
            for asker in expired {
                self.counters.asks_expired.increment();
                asker.fail(Error::new(
                    crate::protocol::ErrorCode::DeadlineExceeded,
                    "the node asked has not answered in time; try again, a send with the same client_id",
                ));
            }
        }
    }

    fn lock_shards(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock()).collect()
    }

    fn refresh(&self, shards: &mut [MutexGuard<'_, Shard>], moved: &mut Moved) {
        let view = self.view.read();
        let routes = self.routes.read();
        for shard in shards {
            let more = shard.refresh(|goal| self.way(&view, &routes, goal));
            moved.home.extend(more.home);
            moved.gone.extend(more.gone);
            moved.void.extend(more.void);
            moved.resent += more.resent;
        }
    }

    fn change_routes(&self, change: impl FnOnce(&mut Routes)) {
        let mut moved = Moved::default();
        {
            let mut shards = self.lock_shards();
            change(&mut self.routes.write());
            self.refresh(&mut shards, &mut moved);
        }
        self.finish(moved);
    }

    fn finish(&self, moved: Moved) {
        for _ in 0..moved.resent {
            self.counters.asks_resent.increment();
        }
        for asker in moved.gone {
            asker.fail(Error::unavailable("the node asked is gone"));
        }
        for asker in moved.void {
            asker.fail(refusals::void());
        }
    }
}
