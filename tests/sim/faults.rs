//! What goes wrong in a run. A seed has a few kinds of faults, not all, so that each gets room.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::rng::Rng;
use crate::world::World;

/// How long things go wrong, in milliseconds, from and to.
const WILD_MS: (u64, u64) = (3_000, 9_000);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A process is killed and comes back.
    Kill,
    /// A host goes dark and comes back.
    Dark,
    /// A node drains and comes back.
    Drain,
    /// Two nodes don't reach each other.
    Split,
    /// One node does not reach another, but the other reaches it.
    OneWay,
    /// One node is cut off from all others.
    Isolate,
    /// Connections are lost.
    Sever,
    /// A way is slow.
    Slow,
    /// The database is slow.
    SlowStore,
    /// The database refuses.
    Refuse,
    /// The database does not confirm.
    Unsettle,
    /// A node does not reach the database.
    NoStore,
    /// Nobody does.
    NoStoreAtAll,
}

const ALL: [Fault; 13] = [
    Fault::Kill,
    Fault::Dark,
    Fault::Drain,
    Fault::Split,
    Fault::OneWay,
    Fault::Isolate,
    Fault::Sever,
    Fault::Slow,
    Fault::SlowStore,
    Fault::Refuse,
    Fault::Unsettle,
    Fault::NoStore,
    Fault::NoStoreAtAll,
];

/// Plays the faults of the seed, and mends everything at the end.
pub async fn play(world: &Arc<World>) -> Result<(), String> {
    let mut rng = world.rng.lock().fork();
    let kinds: Vec<Fault> = (0..rng.range(1, 4)).filter_map(|_| rng.pick(&ALL).copied()).collect();
    world.trace.note(format_args!("{} nodes; faults: {kinds:?}", world.node_count));
    let end = Instant::now() + Duration::from_millis(rng.range(WILD_MS.0, WILD_MS.1));
    let pace = rng.range(300, 2000);
    let mut tasks = JoinSet::new();
    while Instant::now() < end {
        for _ in 0..rng.range(50, pace) / 50 {
            sleep(Duration::from_millis(50)).await;
            world.check()?;
        }
        if let Some(kind) = rng.pick(&kinds).copied() {
            let task = Task { world: world.clone(), rng: rng.fork() };
            tasks.spawn(task.play(kind));
        }
    }
    world.calm();
    while tasks.join_next().await.is_some() {
        world.check()?;
    }
    mend(world).await;
    Ok(())
}

/// Everything works again, and every node lives.
async fn mend(world: &Arc<World>) {
    world.trace.note("everything is mended");
    world.net.heal();
    {
        let mut weather = world.weather.lock();
        weather.delay = (0, 2);
        (weather.refused_percent, weather.unsettled_percent) = (0, 0);
        weather.away.clear();
    }
    for index in 0..world.node_count {
        if world.node(index).is_none() {
            world.start_node(index).await;
        }
    }
}

/// One fault, from its beginning to its end.
struct Task {
    world: Arc<World>,
    rng: Rng,
}

impl Task {
    async fn play(mut self, kind: Fault) {
        let world = self.world.clone();
        let nodes = world.node_count as u64;
        let a = self.rng.range(0, nodes - 1) as usize;
        let b = (a + self.rng.range(1, nodes - 1) as usize) % nodes as usize;
        let lasting = Duration::from_millis(self.rng.range(30, 6000));
        match kind {
            Fault::Kill | Fault::Dark => {
                if world.live_nodes().len() < 2 {
                    return;
                }
                let Some(node) = world.node(a) else { return };
                node.crash(&world, kind == Fault::Kill);
                self.last(lasting).await;
                self.bring_back(a).await;
            }
            Fault::Drain => {
                if world.open_nodes().len() < 2 {
                    return;
                }
                let Some(node) = world.node(a).filter(|node| node.takes_clients()) else { return };
                node.drain(&world).await;
                self.last(lasting / 4).await;
                self.bring_back(a).await;
            }
            Fault::Split | Fault::OneWay => {
                world.trace.note(format_args!("{kind:?} n{a} n{b} for {lasting:?}"));
                world.net.block(a, b);
                if kind == Fault::Split {
                    world.net.block(b, a);
                }
                self.last(lasting).await;
                world.net.unblock(a, b);
                world.net.unblock(b, a);
                world.trace.note(format_args!("{kind:?} n{a} n{b} ends"));
            }
            Fault::Isolate => {
                world.trace.note(format_args!("{kind:?} n{a} for {lasting:?}"));
                let others: Vec<usize> = (0..world.node_count).filter(|other| *other != a).collect();
                for other in &others {
                    world.net.block(a, *other);
                    world.net.block(*other, a);
                }
                self.last(lasting).await;
                for other in &others {
                    world.net.unblock(a, *other);
                    world.net.unblock(*other, a);
                }
                world.trace.note(format_args!("{kind:?} n{a} ends"));
            }
            Fault::Sever => {
                world.trace.note(format_args!("{kind:?} n{a} n{b}"));
                world.net.sever(a, b);
            }
            Fault::Slow => {
                let high = self.rng.range(20, 900);
                world.trace.note(format_args!("{kind:?} n{a} n{b} up to {high} ms for {lasting:?}"));
                world.net.slow(a, b, Some((high / 2, high)));
                self.last(lasting).await;
                world.net.slow(a, b, None);
            }
            Fault::SlowStore => {
                let high = self.rng.range(20, 1200);
                world.trace.note(format_args!("{kind:?} up to {high} ms for {lasting:?}"));
                let before = world.weather.lock().delay;
                world.weather.lock().delay = (high / 4, high);
                self.last(lasting).await;
                world.weather.lock().delay = (before.0.min(2), before.1.min(6));
            }
            Fault::Refuse => {
                let percent = self.rng.range(5, 100);
                world.trace.note(format_args!("{kind:?} {percent} % for {lasting:?}"));
                world.weather.lock().refused_percent = percent;
                self.last(lasting / 2).await;
                world.weather.lock().refused_percent = 0;
            }
            Fault::Unsettle => {
                let percent = self.rng.range(5, 100);
                world.trace.note(format_args!("{kind:?} {percent} % for {lasting:?}"));
                world.weather.lock().unsettled_percent = percent;
                self.last(lasting).await;
                world.weather.lock().unsettled_percent = 0;
            }
            Fault::NoStore => {
                world.trace.note(format_args!("{kind:?} n{a} for {lasting:?}"));
                world.weather.lock().away.insert(a);
                self.last(lasting).await;
                world.weather.lock().away.remove(&a);
            }
            Fault::NoStoreAtAll => {
                world.trace.note(format_args!("{kind:?} for {lasting:?}"));
                world.weather.lock().away.extend(0..world.node_count);
                self.last(lasting / 2).await;
                world.weather.lock().away.clear();
            }
        }
    }

    /// Until it has lasted long enough, or everything is to be mended.
    async fn last(&self, time: Duration) {
        // An end of time is all the same.
        let _ = tokio::time::timeout(time, self.world.calmed()).await;
    }

    async fn bring_back(&self, index: usize) {
        // The end of the run may have brought it back already.
        if self.world.node(index).is_none() {
            self.world.start_node(index).await;
        }
    }
}
