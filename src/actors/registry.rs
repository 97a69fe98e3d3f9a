//! The activations of one kind of virtual actor on this node: started by their first message, found by address,
//! removed by (address, activation) so that a late end can't evict a newer one.
//!
//! A message is cast while the entry is held, and an entry is removed before its actor stops. So whatever was cast
//! before the removal is in the mailbox before the actor's last message, and nothing is lost between two activations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use ractor::{ActorRef, Message};

use crate::clock;
use crate::cluster::Address;
use crate::protocol::cluster::ActorRow;

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
            last_active_ms: AtomicU64::new(clock::now_ms()),
        }
    }

    /// A message was put into the mailbox; the depth with it.
    pub fn cast(&self) -> u64 {
        self.depth.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A message was taken out to be handled.
    pub fn handle(&self, now_ms: u64) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it last took a message, Unix milliseconds.
    pub fn last_active_ms(&self) -> u64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }

    /// Messages that wait.
    pub fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed)
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
        }
    }
}

struct Activation<M: Message> {
    actor: ActorRef<M>,
    vitals: Arc<Vitals>,
}

/// See the module's header.
pub struct Registry<M: Message> {
    entries: DashMap<Address, Activation<M>>,
    activations: AtomicU64,
}

impl<M: Message> Default for Registry<M> {
    fn default() -> Self {
        Self { entries: DashMap::new(), activations: AtomicU64::new(1) }
    }
}

impl<M: Message> Registry<M> {
    /// Casts to the actor at `address`, which `activate` starts if there is none. `activate` must not block; messages
    /// wait in the mailbox while the actor loads.
    pub fn cast(
        &self,
        address: Address,
        message: M,
        activate: impl FnOnce(Arc<Vitals>) -> Option<ActorRef<M>>,
    ) {
        if let Some(entry) = self.entries.get(&address) {
            Self::cast_to(&entry, message);
            return;
        }
        let entry = match self.entries.entry(address) {
            MapEntry::Occupied(entry) => entry.into_ref(),
            MapEntry::Vacant(vacant) => {
                let activation = self.activations.fetch_add(1, Ordering::Relaxed);
                let vitals = Arc::new(Vitals::new(address, activation));
                let Some(actor) = activate(Arc::clone(&vitals)) else { return };
                vacant.insert(Activation { actor, vitals })
            }
        };
        Self::cast_to(&entry, message);
    }

    /// Casts to the actor at `address` if it is active; whether it was.
    pub fn cast_if_active(&self, address: Address, message: M) -> bool {
        self.entries.get(&address).map(|entry| Self::cast_to(&entry, message)).is_some()
    }

    /// Removes an activation; whether it was still there. From here on a message for the address starts another.
    pub fn remove(&self, address: Address, activation: u64) -> bool {
        self.entries.remove_if(&address, |_, entry| entry.vitals.activation == activation).is_some()
    }

    /// How many are active.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is active.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The vitals of all.
    pub fn vitals(&self) -> Vec<Arc<Vitals>> {
        self.entries.iter().map(|entry| Arc::clone(&entry.vitals)).collect()
    }

    fn cast_to(entry: &Activation<M>, message: M) {
        entry.vitals.cast();
        // An actor that has ended drops the message, and its reply answers `unavailable`.
        let _ = entry.actor.cast(message);
    }
}
