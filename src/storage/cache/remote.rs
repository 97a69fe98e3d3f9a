//! The tier in Redis: the breaker in front of it, the keys it missed, and the task that brings it back.
//!
//! - A look-up waits for Redis at most `cache.redis_wait`. One that fails or takes longer counts against the breaker;
//!   while that is not closed, nobody waits for Redis at all.
//! - Values are tagged with an epoch: the server's run id and a name kept in Redis. A restarted server, or a replica
//!   that took over, has another run id, so that nothing that it remembers from before is believed. Every connection
//!   is made by the task here, which looks at the epoch before anybody uses it, and again every [`EPOCH_CHECK`].
//! - A reader who finds nothing gets a token, and may store what it then reads only if the token is still there. A
//!   write deletes value and token: what was read before the write can't be stored after it.
//! - A write that can't tell Redis notes its keys as missed: they are not used here until they are deleted there. On
//!   the way back they are deleted before the breaker closes; if there were too many, a new epoch begins.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::breaker::{Breaker, Limits};
use super::counters::{CacheCounters, add, count};
use super::keys::Key;
use super::local::jittered;
use super::missed::Missed;
use super::redis::{Connection, Filling, Found, Outcome, Target};
use crate::config::{CacheConfig, ConfigError};

/// How often the task looks whether something is due.
const TICK: Duration = Duration::from_millis(50);
/// How often a connection in use is asked which epoch it is.
const EPOCH_CHECK: Duration = Duration::from_secs(1);
/// How long anything may take that no request waits for.
const BACKGROUND_WAIT: Duration = Duration::from_millis(500);
/// Look-ups whose values are on their way to Redis at once; those of further ones are not stored.
const FILLS_AT_ONCE: usize = 64;
/// Keys deleted at once on the way back.
const MISSED_BATCH: usize = 200;

/// What a look-up comes to.
pub enum LookUp {
    /// The JSON of the value.
    Hit(String),
    /// Nothing; with a token where what is read may be stored.
    Miss(Option<Token>),
}

/// Leave to store a value.
pub struct Token {
    link: Link,
    token: String,
}

/// A connection and the epoch it was seen in.
#[derive(Clone)]
struct Link {
    connection: Connection,
    /// How every value of this epoch begins.
    head: Arc<str>,
    /// Counts the connections of this node.
    serial: u64,
}

struct Gate {
    breaker: Breaker,
    link: Option<Link>,
    missed: Missed,
    serial: u64,
    /// Whether the operators have been told that Redis is away.
    complained: bool,
    checked: Instant,
}

/// The tier. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    prefix: String,
    wait: Duration,
    gate: Mutex<Gate>,
    wake: Arc<Notify>,
    fills: Arc<Semaphore>,
    counters: Arc<CacheCounters>,
}

impl Remote {
    /// The tier that the configuration names, not connected yet; `None`: it names none. Runs on the current runtime.
    pub fn start(config: &CacheConfig, counters: Arc<CacheCounters>) -> Result<Option<Self>, ConfigError> {
        let Some(target) = Target::of(config)? else { return Ok(None) };
        let limits = Limits {
            failures: config.breaker_failures,
            probes: config.breaker_probes,
            open_min: config.breaker_open_min,
            open_max: config.breaker_open_max,
        };
        let now = Instant::now();
        let shared = Arc::new(Shared {
            target,
            prefix: config.key_prefix.clone(),
            wait: config.redis_wait,
            gate: Mutex::new(Gate {
                breaker: Breaker::new(limits, now),
                link: None,
                missed: Missed::new(config.missed_keys),
                serial: 0,
                complained: false,
                checked: now,
            }),
            wake: Arc::default(),
            fills: Arc::new(Semaphore::new(FILLS_AT_ONCE)),
            counters,
        });
        tokio::spawn(keep(Arc::downgrade(&shared), Arc::clone(&shared.wake)));
        Ok(Some(Self { shared }))
    }

    /// Asks Redis for all of these at once, within the bound; the answers in their order.
    pub async fn look_up(&self, names: &[&str]) -> Vec<LookUp> {
        let shared = &self.shared;
        let mut answers: Vec<LookUp> = names.iter().map(|_| LookUp::Miss(None)).collect();
        let mut keys: Vec<String> = names.iter().map(|name| shared.key(name)).collect();
        let Some((link, places)) = shared.usable(&keys) else { return answers };
        let keys: Vec<String> = places.iter().map(|at| std::mem::take(&mut keys[*at])).collect();
        let token = format!("{:016x}", rand::random::<u64>());
        count(&shared.counters.redis_requests);
        let asked = Instant::now();
        let found = timeout(shared.wait, link.connection.look_up(&keys, &link.head, &token)).await;
        if let Ok(Ok(_)) = found {
            shared.counters.redis_latency.note(asked.elapsed());
        }
        for (at, found) in places.into_iter().zip(shared.settle(&link, found).unwrap_or_default()) {
            answers[at] = shared.read(&link, found);
        }
        answers
    }

    /// Stores what the holders of tokens of one look-up have read, without anybody waiting for it.
    pub fn fill(&self, read: Vec<(&Key, Token, String, Duration)>) {
        let shared = Arc::clone(&self.shared);
        let Some((_, Token { link, .. }, ..)) = read.first() else { return };
        let Ok(permit) = Arc::clone(&shared.fills).try_acquire_owned() else {
            return add(&shared.counters.fills_refused, read.len() as u64);
        };
        let link = link.clone();
        let filling: Vec<Filling> = read
            .into_iter()
            .map(|(key, Token { token, .. }, json, ttl)| {
                let value = format!("{}\"value\":{json}}}", link.head);
                Filling { key: shared.key(&key.name), token, value, ttl: jittered(ttl) }
            })
            .collect();
        tokio::spawn(async move {
            let _permit = permit;
            count(&shared.counters.redis_requests);
            let stored = timeout(BACKGROUND_WAIT, link.connection.fill(&filling)).await;
            let stored = shared.settle(&link, stored).unwrap_or(0);
            add(&shared.counters.fills, stored);
            add(&shared.counters.fills_refused, (filling.len() as u64).saturating_sub(stored));
        });
    }

    /// Deletes what a write has touched, within the bound; `false`: Redis could not be told, and the keys are not used
    /// here from now on until it was.
    pub async fn invalidate(&self, names: &[String]) -> bool {
        let shared = &self.shared;
        let keys: Vec<String> = names.iter().map(|name| shared.key(name)).collect();
        let link = {
            let mut gate = shared.gate.lock();
            let link = gate.link.clone().filter(|_| gate.breaker.is_closed());
            if link.is_none() {
                gate.missed.note(&keys);
            }
            link
        };
        let Some(mut link) = link else { return false };
        count(&shared.counters.redis_requests);
        let deleted = timeout(shared.wait, link.connection.delete(&keys)).await;
        if shared.settle(&link, deleted).is_some() {
            return true;
        }
        shared.gate.lock().missed.note(&keys);
        shared.wake.notify_one();
        false
    }

    /// Another node could not tell Redis: this one does.
    pub fn distrust(&self, name: &str) {
        let key = self.shared.key(name);
        self.shared.gate.lock().missed.note([&key]);
        self.shared.wake.notify_one();
    }

    /// Stores plain values for other systems; whether they were.
    pub async fn put(&self, rows: Vec<(Key, Option<String>)>) -> bool {
        let shared = &self.shared;
        let link = {
            let gate = shared.gate.lock();
            gate.link.clone().filter(|_| gate.breaker.is_closed())
        };
        let Some(mut link) = link else { return false };
        let rows: Vec<_> =
            rows.into_iter().map(|(key, value)| (shared.key(&key.name), value, key.ttl)).collect();
        let put = timeout(BACKGROUND_WAIT, link.connection.put(&rows)).await;
        shared.settle(&link, put).is_some()
    }

    /// The breaker's state, and how many keys wait to be deleted.
    pub fn state(&self) -> (&'static str, usize) {
        let gate = self.shared.gate.lock();
        (gate.breaker.name(), gate.missed.len())
    }
}

impl Shared {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn epoch_key(&self) -> String {
        self.key("cache:epoch")
    }

    /// A connection, and the places of the keys that may be used; `None`: nothing is to be asked.
    fn usable(&self, keys: &[String]) -> Option<(Link, Vec<usize>)> {
        let gate = self.gate.lock();
        let link = gate.link.clone().filter(|_| gate.breaker.is_closed())?;
        let places: Vec<usize> = (0..keys.len()).filter(|at| !gate.missed.holds(&keys[*at])).collect();
        (!places.is_empty()).then_some((link, places))
    }

    /// What an answer says.
    fn read(&self, link: &Link, found: Found) -> LookUp {
        match found {
            Found::Value(text) => {
                let value = text.strip_prefix(&*link.head).and_then(|text| text.strip_suffix('}'));
                match value.and_then(|text| text.strip_prefix("\"value\":")) {
                    Some(value) => LookUp::Hit(value.to_owned()),
                    None => LookUp::Miss(None),
                }
            }
            Found::Token(token) if token.is_empty() => {
                count(&self.counters.fills_refused);
                LookUp::Miss(None)
            }
            Found::Token(token) => LookUp::Miss(Some(Token { link: link.clone(), token })),
        }
    }

    /// Counts an answer, or its absence.
    fn settle<T>(&self, link: &Link, answer: Result<Outcome<T>, tokio::time::error::Elapsed>) -> Option<T> {
        let why = match answer {
            Ok(Ok(value)) => {
                let mut gate = self.gate.lock();
                if gate.serial == link.serial {
                    gate.breaker.succeeded();
                }
                return Some(value);
            }
            Ok(Err(error)) => {
                count(&self.counters.redis_errors);
                error.to_string()
            }
            Err(_) => {
                count(&self.counters.redis_timeouts);
                "it did not answer in time".to_owned()
            }
        };
        let mut gate = self.gate.lock();
        if gate.serial == link.serial && gate.breaker.failed(Instant::now()) {
            gate.link = None;
            count(&self.counters.opened);
            self.wake.notify_one();
            drop(gate);
            tracing::info!(target: "rookery::cache", %why, "Redis is left alone until it answers again");
        }
        None
    }

    /// One look at what is due.
    async fn step(&self) {
        let due = {
            let mut gate = self.gate.lock();
            let now = Instant::now();
            if gate.breaker.is_closed() {
                let check = now.duration_since(gate.checked) >= EPOCH_CHECK;
                if check {
                    gate.checked = now;
                }
                Due::Tend { check, flush: !gate.missed.is_empty() }
            } else if gate.breaker.wants_probe(now) {
                Due::Open
            } else {
                Due::Nothing
            }
        };
        match due {
            Due::Nothing => {}
            Due::Tend { check, flush } => self.tend(check, flush).await,
            Due::Open => self.reopen().await,
        }
    }

    /// Looks after a connection in use.
    async fn tend(&self, check: bool, flush: bool) {
        let Some(mut link) = self.gate.lock().link.clone() else { return };
        if check {
            let seen = timeout(BACKGROUND_WAIT, self.head_of(&mut link.connection)).await;
            let Some(seen) = self.settle(&link, seen) else { return };
            if seen.is_none_or(|head| head != *link.head) {
                tracing::info!(target: "rookery::cache", "Redis has forgotten its epoch or is another one; it is opened anew");
                let mut gate = self.gate.lock();
                gate.breaker.trip(Instant::now());
                gate.link = None;
                self.wake.notify_one();
                return;
            }
        }
        if flush {
            let (batch, overflowed) = {
                let gate = self.gate.lock();
                (gate.missed.batch(MISSED_BATCH), gate.missed.has_overflowed())
            };
            if overflowed {
                self.gate.lock().breaker.trip(Instant::now());
                self.wake.notify_one();
                return;
            }
            let keys: Vec<String> = batch.iter().map(|(key, _)| key.clone()).collect();
            let deleted = timeout(BACKGROUND_WAIT, link.connection.delete(&keys)).await;
            if self.settle(&link, deleted).is_some() {
                let mut gate = self.gate.lock();
                gate.missed.settle(&batch);
                if !gate.missed.is_empty() {
                    self.wake.notify_one();
                }
            }
        }
    }

    /// How values of the present epoch begin; `None`: there is no epoch.
    async fn head_of(&self, connection: &mut Connection) -> Outcome<Option<String>> {
        let Some(name) = connection.current_epoch(&self.epoch_key()).await? else { return Ok(None) };
        Ok(Some(head(&connection.identity().await?, &name)))
    }

    /// Connects, and closes the breaker if all goes well.
    async fn reopen(&self) {
        match timeout(4 * BACKGROUND_WAIT, self.try_open()).await {
            Ok(Ok(())) => {
                count(&self.counters.closed);
                self.gate.lock().complained = false;
                tracing::info!(target: "rookery::cache", "Redis is in use");
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why,
                    _ => "it did not answer in time".to_owned(),
                };
                let mut gate = self.gate.lock();
                gate.breaker.probe_failed(Instant::now());
                let first = !std::mem::replace(&mut gate.complained, true);
                drop(gate);
                if first {
                    tracing::warn!(target: "rookery::cache", %why, "Redis can't be used; the database serves alone, and it is tried again");
                } else {
                    tracing::debug!(target: "rookery::cache", %why, "Redis can't be used yet");
                }
            }
        }
    }

    async fn try_open(&self) -> Result<(), String> {
        let say = |error: super::redis::Failure| error.to_string();
        let mut connection = self.target.connect().await.map_err(say)?;
        let begins = {
            let mut gate = self.gate.lock();
            let begins = gate.missed.has_overflowed();
            if begins {
                gate.missed.begin_epoch();
            }
            begins
        };
        let new = format!("{:016x}", rand::random::<u64>());
        let opened = self.open_epoch(&mut connection, &new, begins).await;
        if begins && opened.is_err() {
            self.gate.lock().missed.epoch_failed();
        }
        let head = opened.map_err(say)?;
        loop {
            let asked = Instant::now();
            connection.ping().await.map_err(say)?;
            if asked.elapsed() > self.wait {
                return Err("it answers too slowly".to_owned());
            }
            if self.gate.lock().breaker.probe_succeeded() {
                break;
            }
        }
        loop {
            let batch = {
                let mut gate = self.gate.lock();
                if gate.missed.has_overflowed() {
                    return Err("too much was written meanwhile".to_owned());
                }
                let batch = gate.missed.batch(MISSED_BATCH);
                if batch.is_empty() {
                    // Under one lock with the look at the log: a write that comes later finds the breaker closed.
                    gate.serial += 1;
                    let serial = gate.serial;
                    gate.link = Some(Link { connection, head: head.into(), serial });
                    gate.checked = Instant::now();
                    gate.breaker.close();
                    return Ok(());
                }
                batch
            };
            let keys: Vec<String> = batch.iter().map(|(key, _)| key.clone()).collect();
            connection.delete(&keys).await.map_err(say)?;
            self.gate.lock().missed.settle(&batch);
        }
    }

    async fn open_epoch(&self, connection: &mut Connection, new: &str, begins: bool) -> Outcome<String> {
        let name = connection.epoch(&self.epoch_key(), new, begins).await?;
        if name == new {
            count(&self.counters.epochs);
        }
        Ok(head(&connection.identity().await?, &name))
    }
}

enum Due {
    Nothing,
    Tend { check: bool, flush: bool },
    Open,
}

/// How a value begins in the epoch of this name on these servers.
fn head(identity: &str, name: &str) -> String {
    format!("{{\"epoch\":\"{}-{name}\",", identity.get(..16).unwrap_or(identity))
}

/// Tends the tier until nobody has it any more.
async fn keep(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        // Waking early is what `notify_one` is for; the tick is the longest wait.
        let _ = timeout(TICK, wake.notified()).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.step().await;
    }
}
