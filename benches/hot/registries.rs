//! A registry with actors that do nothing.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime};
use rookery::actors::registry::{Registry, Vitals};
use rookery::cluster::Address;

/// Does nothing with what it is told but to count it as handled.
struct Idler;

/// What it is told.
pub struct Nothing;

impl ractor::Message for Nothing {}

impl Actor for Idler {
    type Msg = Nothing;
    type State = Arc<Vitals>;
    type Arguments = Arc<Vitals>;

    async fn pre_start(
        &self,
        _: ActorRef<Nothing>,
        vitals: Arc<Vitals>,
    ) -> Result<Arc<Vitals>, ActorProcessingErr> {
        Ok(vitals)
    }

    async fn handle(
        &self,
        _: ActorRef<Nothing>,
        _: Nothing,
        vitals: &mut Arc<Vitals>,
    ) -> Result<(), ActorProcessingErr> {
        vitals.handle(0);
        Ok(())
    }
}

/// A registry in which the rooms 0 to `rooms` are active. Needs a runtime.
pub async fn registry(rooms: u64) -> Arc<Registry<Nothing>> {
    let registry = Arc::new(Registry::default());
    for key in 0..rooms {
        cast(&registry, key);
    }
    registry
}

/// Casts to a room, which starts if need be.
pub fn cast(registry: &Registry<Nothing>, key: u64) {
    let start = |vitals| ActorRuntime::spawn_instant(None, Idler, vitals).ok().map(|(actor, _)| actor);
    let back = registry.cast(Address::room(key), Nothing, |_| true, start);
    assert!(back.is_none(), "it was let in");
}
