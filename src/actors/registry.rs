//! The activations of one kind of virtual actor on this node: started by their first message, found by address,
//! removed by (address, activation) so that a late end can't evict a newer one.
//!
//! A message is cast while the entry is held, and an entry is removed before its actor stops: either when its mailbox is
//! empty, or with a last message behind all that was cast. So nothing is lost between two activations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use foldhash::fast::RandomState;
use ractor::{ActorRef, Message, MessagingErr};
use tokio::time::Instant;

use crate::clock;
use crate::cluster::Address;
use crate::protocol::cluster::ActorRow;

/// Dead activations that one cast replaces before it gives its message up.
const ACTIVATIONS_TRIED: usize = 3;

/// What the admin endpoint shows of an actor, kept beside it.
#[derive(Debug)]
pub struct Vitals {
    /// Who it is.
    pub address: Address,
    /// Which of its lives on this node this is.
    pub activation: u64,
    born: Instant,
    depth: AtomicU64,
    handled: AtomicU64,
    /// Messages in the mailbox that were open to another node and have come home.
    home: AtomicU64,
    last_active_ms: AtomicU64,
}

impl Vitals {
    /// A newborn's.
    pub fn new(address: Address, activation: u64) -> Self {
        Self {
            address,
            activation,
            born: Instant::now(),
            depth: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            home: AtomicU64::new(0),
            last_active_ms: AtomicU64::new(clock::now_ms()),
        }
    }

    /// A message was put into the mailbox; the depth with it.
    pub fn cast(&self) -> u64 {
        self.depth.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A message that was counted has not been put in after all.
    pub fn uncast(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    /// A message was taken out to be handled. Who sees by the depth that it was sees the rest as well: an actor must not be
    /// taken for idle that has just had something to do.
    pub fn handle(&self, now_ms: u64) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now_ms, Ordering::Relaxed);
        self.depth.fetch_sub(1, Ordering::Release);
    }

    /// When it last took a message, Unix milliseconds.
    pub fn last_active_ms(&self) -> u64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }

    /// How many it has handled.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Messages that wait.
    pub fn depth(&self) -> u64 {
        self.depth.load(Ordering::Acquire)
    }

    /// What was open to another node is about to be put into the mailbox. Counted while the registry's entry is held, so
    /// that it counts for the activation that gets it.
    pub fn comes_home(&self) {
        self.home.fetch_add(1, Ordering::AcqRel);
    }

    /// It was taken out to be handled.
    pub fn came_home(&self) {
        self.home.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many of those wait.
    pub fn home(&self) -> u64 {
        self.home.load(Ordering::Acquire)
    }

    /// As a row of the admin endpoint.
    pub fn row(&self, node: &str) -> ActorRow {
        ActorRow {
            kind: self.address.kind.as_str().to_owned(),
            key: self.address.key,
            node: node.to_owned(),
            activation: self.activation,
            age_ms: self.born.elapsed().as_millis() as u64,
            mailbox_depth: self.depth(),
            messages_handled: self.handled.load(Ordering::Relaxed),
            last_active_ms: self.last_active_ms(),
            passive: false,
        }
    }
}

struct Activation<M: Message> {
    actor: ActorRef<M>,
    vitals: Arc<Vitals>,
}

/// See the module's header.
pub struct Registry<M: Message> {
    entries: DashMap<Address, Activation<M>, RandomState>,
    activations: AtomicU64,
}

impl<M: Message> Default for Registry<M> {
    fn default() -> Self {
        Self { entries: DashMap::default(), activations: AtomicU64::new(1) }
    }
}

impl<M: Message> Registry<M> {
    /// Casts to the actor at `address`, which `activate` starts if there is none. `activate` must not block; messages
    /// wait in the mailbox while the actor loads. An actor that has ended without leaving (a panic) is replaced.
    /// `may_enter` is asked while the entry is held, so that it can neither go nor come before the message is in the
    /// mailbox; if it says no, the message is given back.
    pub fn cast(
        &self,
        address: Address,
        message: M,
        may_enter: impl Fn(&Vitals) -> bool,
        activate: impl Fn(Arc<Vitals>) -> Option<ActorRef<M>>,
    ) -> Option<M> {
        let mut message = message;
        for _ in 0..ACTIVATIONS_TRIED {
            let (returned, dead) = match self.entries.get(&address) {
                Some(entry) if !may_enter(&entry.vitals) => return Some(message),
                Some(entry) => (Self::cast_to(&entry, message), entry.vitals.activation),
                None => {
                    let entry = match self.entries.entry(address) {
                        MapEntry::Occupied(entry) if !may_enter(&entry.get().vitals) => return Some(message),
                        MapEntry::Occupied(entry) => entry.into_ref(),
                        MapEntry::Vacant(vacant) => {
                            let activation = self.activations.fetch_add(1, Ordering::Relaxed);
                            let vitals = Arc::new(Vitals::new(address, activation));
                            if !may_enter(&vitals) {
                                return Some(message);
                            }
                            let actor = activate(Arc::clone(&vitals))?;
                            vacant.insert(Activation { actor, vitals })
                        }
                    };
                    (Self::cast_to(&entry, message), entry.vitals.activation)
                }
            };
            message = returned?;
            tracing::error!(%address, "an actor had ended without leaving the registry; another takes its place");
            self.remove(address, dead);
        }
        None
    }

    /// Casts to the actor at `address` if it is active; else, or if `may_enter` says no, gives the message back.
    pub fn offer(&self, address: Address, message: M, may_enter: impl Fn() -> bool) -> Option<M> {
        match self.entries.get(&address) {
            Some(entry) if may_enter() => Self::cast_to(&entry, message),
            _ => Some(message),
        }
    }

    /// Whether an actor is active at `address`.
    pub fn is_active(&self, address: &Address) -> bool {
        self.entries.contains_key(address)
    }

    /// Casts to the actor at `address` if it is active; whether it was.
    pub fn cast_if_active(&self, address: Address, message: M) -> bool {
        self.entries.get(&address).is_some_and(|entry| Self::cast_to(&entry, message).is_none())
    }

    /// Messages that wait for the actor at `address`; 0 if it is not active.
    pub fn depth(&self, address: Address) -> u64 {
        self.entries.get(&address).map_or(0, |entry| entry.vitals.depth())
    }

    /// Removes an activation; whether it was still there. From here on a message for the address starts another.
    pub fn remove(&self, address: Address, activation: u64) -> bool {
        self.entries.remove_if(&address, |_, entry| entry.vitals.activation == activation).is_some()
    }

    /// Removes an activation if nothing waits in its mailbox; whether it did. Nothing can be cast to it meanwhile.
    pub fn remove_if_empty(&self, address: Address, activation: u64) -> bool {
        let is_done =
            |entry: &Activation<M>| entry.vitals.activation == activation && entry.vitals.depth() == 0;
        self.entries.remove_if(&address, |_, entry| is_done(entry)).is_some()
    }

    /// Removes whatever is active at `address` and casts its last message to it, behind all that came before.
    pub fn end(&self, address: Address, last: M) {
        if let Some((_, entry)) = self.entries.remove(&address) {
            // One that has ended already needs no last message.
            let _ = Self::cast_to(&entry, last);
        }
    }

    /// How many are active.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is active.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The vitals of all, by address.
    pub fn vitals(&self) -> Vec<Arc<Vitals>> {
        let mut all: Vec<_> = self.entries.iter().map(|entry| Arc::clone(&entry.vitals)).collect();
        all.sort_unstable_by_key(|vitals| vitals.address);
        all
    }

    /// Gives the message back if the actor has ended.
    fn cast_to(entry: &Activation<M>, message: M) -> Option<M> {
        entry.vitals.cast();
        match entry.actor.cast(message) {
            Err(MessagingErr::SendErr(message)) => Some(message),
            _ => None,
        }
    }
}
