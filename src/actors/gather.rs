//! Look-ups that a conversation's first message or a sign-in needs, many in one statement: a few lanes that take all
//! that waits.
//!
//! Those that come while a lane is busy go together next. Where some came together, others will soon: the lane rests a
//! moment for them, as a statement costs much and another key in it little. A lone one waits for nobody. What is cold has
//! no more of the database than its lanes, however much of it comes: messages of loaded rooms go past it. What nobody
//! waits for any more, and what has waited for too long, costs no look-up ([`super::overload`]).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::overload::{Overload, Shed};
use crate::domain::{Error, Result};
use crate::storage::{StoreError, StoreResult};

/// How long a lane waits for company where there was some.
const COMPANY_WAIT: Duration = Duration::from_millis(5);
/// A look-up that takes longer holds up no other: the next lane takes those.
const SLOW: Duration = Duration::from_millis(50);

/// Answers all keys, in their order.
type LookUp<K, V> = Box<dyn Fn(Vec<K>) -> BoxFuture<'static, StoreResult<Vec<V>>> + Send + Sync>;

/// See the module's header. Cheap to clone.
pub struct Gather<K, V>(Arc<Inner<K, V>>);

impl<K, V> Clone for Gather<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K, V> {
    runtime: Handle,
    overload: Arc<Overload>,
    bounds: Bounds,
    look_up: LookUp<K, V>,
    waiting: Mutex<Waiting<K, V>>,
}

/// How much at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Look-ups under way at once, the second where the first is slow, and so on.
    pub lanes: usize,
    /// Most keys of one look-up.
    pub together: usize,
    /// As what it counts where too much waits.
    pub shed: Shed,
}

struct Waiting<K, V> {
    asked: VecDeque<Asked<K, V>>,
    /// Lanes at work.
    lanes: usize,
}

struct Asked<K, V> {
    key: K,
    since: Instant,
    asker: oneshot::Sender<Result<V>>,
}

impl<K, V> fmt::Debug for Gather<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("bounds", &self.0.bounds).finish_non_exhaustive()
    }
}

impl<K, V> Gather<K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Send + 'static,
{
    /// Look-ups on the current runtime, whichever thread asks later. `look_up` answers all its keys, in their order; the
    /// same key may come twice.
    pub fn new<F>(
        overload: &Arc<Overload>,
        bounds: Bounds,
        look_up: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = StoreResult<Vec<V>>> + Send + 'static,
    {
        Self(Arc::new(Inner {
            runtime: Handle::current(),
            overload: Arc::clone(overload),
            bounds,
            look_up: Box::new(move |keys| Box::pin(look_up(keys))),
            waiting: Mutex::new(Waiting { asked: VecDeque::new(), lanes: 0 }),
        }))
    }

    /// The answer for a key. `unavailable`: too much waits, or the database is away; nothing was changed for certain
    /// where it is the former.
    pub async fn ask(&self, key: K) -> Result<V> {
        let (asker, answer) = oneshot::channel();
        let Inner { overload, bounds, .. } = &*self.0;
        let begins = {
            let mut waiting = self.0.waiting.lock();
            let is_behind = waiting.asked.front().is_some_and(|oldest| overload.is_behind(oldest.since));
            if is_behind || waiting.asked.len() >= overload.starts_waiting {
                drop(waiting);
                return Err(overload.shed(bounds.shed));
            }
            waiting.asked.push_back(Asked { key, since: Instant::now(), asker });
            let begins = waiting.lanes == 0;
            waiting.lanes += usize::from(begins);
            begins
        };
        if begins {
            self.0.runtime.spawn(self.clone().lane());
        }
        // Dropped unanswered: a bug in a look-up, told where it happened.
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("a look-up ended early; try again")))
    }

    /// Works until nobody waits.
    async fn lane(self) {
        let mut has_company = false;
        loop {
            if has_company && self.0.waiting.lock().asked.len() < self.0.bounds.together {
                tokio::time::sleep(COMPANY_WAIT).await;
            }
            let Some(batch) = self.next() else { return };
            has_company = batch.len() > 1;
            if batch.is_empty() {
                continue;
            }
            // A task of its own, so that a bug costs a batch and not the lane.
            let mut look_up = self.0.runtime.spawn(self.clone().answer(batch));
            if tokio::time::timeout(SLOW, &mut look_up).await.is_err() {
                self.begin_another();
                let _ = look_up.await;
            }
        }
    }

    /// Another lane takes what waits, and what will, if there may be one.
    fn begin_another(&self) {
        {
            let mut waiting = self.0.waiting.lock();
            if waiting.lanes >= self.0.bounds.lanes {
                return;
            }
            waiting.lanes += 1;
        }
        self.0.runtime.spawn(self.clone().lane());
    }

    /// The next ones that are worth it; `None`: nobody waits, and the lane has ended.
    fn next(&self) -> Option<Vec<Asked<K, V>>> {
        let Inner { overload, bounds, waiting, .. } = &*self.0;
        let taken: Vec<Asked<K, V>> = {
            let mut waiting = waiting.lock();
            let together = waiting.asked.len().min(bounds.together);
            if together == 0 {
                waiting.lanes -= 1;
                return None;
            }
            waiting.asked.drain(..together).collect()
        };
        let mut batch = Vec::with_capacity(taken.len());
        for asked in taken {
            if overload.is_late(asked.since) {
                // Who has gone need not be told.
                let _ = asked.asker.send(Err(overload.shed(bounds.shed)));
            } else if !asked.asker.is_closed() {
                batch.push(asked);
            }
        }
        Some(batch)
    }

    async fn answer(self, batch: Vec<Asked<K, V>>) {
        let keys: Vec<K> = batch.iter().map(|asked| asked.key.clone()).collect();
        match (self.0.look_up)(keys).await {
            Ok(answers) => {
                for (asked, answer) in batch.into_iter().zip(answers) {
                    let _ = asked.asker.send(Ok(answer));
                }
            }
            // One that can't be answered must not keep the others from it.
            Err(StoreError::Invalid(_) | StoreError::Exists) if batch.len() > 1 => {
                for asked in batch {
                    let answer = (self.0.look_up)(vec![asked.key]).await;
                    let answer = answer.map_err(Error::from).and_then(|answers| {
                        answers.into_iter().next().ok_or_else(|| Error::internal("a look-up found nothing"))
                    });
                    let _ = asked.asker.send(answer);
                }
            }
            Err(error) => {
                for asked in batch {
                    let _ = asked.asker.send(Err(error.clone().into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::config::OverloadConfig;
    use crate::protocol::ErrorCode;

    /// Look-ups that end when the test lets them.
    struct Scene {
        gather: Gather<u64, u64>,
        doors: Arc<Semaphore>,
        sizes: Arc<Mutex<Vec<usize>>>,
        overload: Arc<Overload>,
    }

    fn scene(starts_waiting: usize) -> Scene {
        let config = OverloadConfig { wait_max: Duration::from_secs(1), starts_waiting };
        let overload = Arc::new(Overload::new(&config));
        let (doors, sizes) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (door, noted) = (Arc::clone(&doors), Arc::clone(&sizes));
        let bounds = Bounds { lanes: 1, together: 10, shed: Shed::Loads };
        let gather = Gather::new(&overload, bounds, move |keys: Vec<u64>| {
            let (door, noted) = (Arc::clone(&door), Arc::clone(&noted));
            async move {
                noted.lock().push(keys.len());
                door.acquire().await.expect("the test keeps the doors").forget();
                if keys.contains(&13) {
                    return Err(StoreError::Invalid("unlucky".to_owned()));
                }
                Ok(keys.iter().map(|key| key * 2).collect())
            }
        });
        Scene { gather, doors, sizes, overload }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_the_lane_is_busy_goes_together() {
        let scene = scene(100);
        scene.doors.add_permits(100);
        assert_eq!(scene.gather.ask(4).await, Ok(8));
        let answers = join_all((20..45).map(|key| scene.gather.ask(key))).await;
        assert!(answers.iter().zip(20..).all(|(answer, key)| *answer == Ok(key * 2)));
        assert_eq!(*scene.sizes.lock(), [1, 10, 10, 5]);
        tokio::time::sleep(2 * COMPANY_WAIT).await;
        assert_eq!(scene.gather.0.waiting.lock().lanes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_answered_costs_nobody_else_his_answer() {
        let scene = scene(100);
        scene.doors.add_permits(100);
        let answers = join_all((10..20).map(|key| scene.gather.ask(key))).await;
        let failed: Vec<usize> = (0..10).filter(|at| answers[*at].is_err()).collect();
        assert_eq!(failed, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused_without_a_look_up_and_so_is_who_comes_behind() {
        let scene = scene(100);
        let told = Arc::new(AtomicUsize::new(0));
        let ask = |key: u64| {
            let (gather, told) = (scene.gather.clone(), Arc::clone(&told));
            tokio::spawn(async move {
                let answer = gather.ask(key).await;
                told.fetch_add(1, Ordering::Relaxed);
                answer
            })
        };
        let first = ask(1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = ask(2);
        tokio::time::sleep(Duration::from_millis(600)).await;
        let third = ask(3).await.expect("no panic").expect_err("the second has waited for half of the time");
        assert_eq!(third.code, ErrorCode::Unavailable);
        assert!(third.retry_after_ms >= 500, "{third:?}");
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(told.load(Ordering::Relaxed), 1);
        scene.doors.add_permits(9);
        assert_eq!(first.await.expect("no panic"), Ok(2), "what is under way is answered, however late");
        assert!(second.await.expect("no panic").is_err());
        assert_eq!(*scene.sizes.lock(), [1], "no look-up for what is too late");
        assert!(scene.overload.counts().contains(&("sheds_loads", 2)));
        assert_eq!(scene.gather.ask(5).await, Ok(10), "and then it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may_and_nothing_is_looked_up_for_who_has_gone() {
        let scene = scene(3);
        let asks: Vec<_> = (1..=4)
            .map(|key| {
                let gather = scene.gather.clone();
                tokio::spawn(async move { gather.ask(key).await })
            })
            .collect();
        tokio::task::yield_now().await;
        while scene.sizes.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        // The three first were taken together, or the one with which the lane began; whoever waits has gone now.
        asks.iter().for_each(tokio::task::JoinHandle::abort);
        for ask in asks {
            let _ = ask.await;
        }
        scene.doors.add_permits(9);
        assert_eq!(scene.gather.ask(7).await, Ok(14));
        assert!(scene.sizes.lock().iter().skip(1).all(|size| *size == 1), "{:?}", scene.sizes.lock());
        let full = join_all((1..=9).map(|key| scene.gather.ask(key))).await;
        assert_eq!(full.iter().filter(|answer| answer.is_err()).count(), 6);
    }
}
