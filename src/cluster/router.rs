//! The only remotable actors: one router for each lane of a node, and one for control.
//!
//! Their one message is an encoded `Envelope`, so what crosses between nodes is ours alone, and every peer mirrors only
//! these few actors. A peer finds them through a `pg` group each, named after the node, its incarnation and the lane.

use bytes::Bytes;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorClusterMessage;

use super::transport::{Lanes, LocalNode};

/// What a router takes.
#[derive(RactorClusterMessage)]
pub enum RouterMessage {
    /// An encoded `Envelope`.
    Envelope(Vec<u8>),
}

/// Takes the envelopes of all peers on one lane. Owns nothing, dies with the node.
pub struct Router {
    /// Where envelopes go.
    pub node: LocalNode,
    /// Its number; the one after the last lane is control.
    pub lane: usize,
}

impl Actor for Router {
    type Msg = RouterMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        let group = group(self.node.name(), self.node.incarnation(), self.lane);
        ractor::pg::join(group, vec![myself.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let RouterMessage::Envelope(bytes) = message;
        self.node.take(self.lane, Bytes::from(bytes));
        Ok(())
    }
}

/// The routers of a peer, in the order of their lanes.
pub struct Routers(Vec<ActorRef<RouterMessage>>);

impl Routers {
    /// As one session of `ractor_cluster` mirrors them. None if any is missing. A mirror of an earlier session is never
    /// taken.
    pub fn of(name: &str, incarnation: u64, lanes: usize, session: u64) -> Option<Self> {
        let router = |lane| {
            ractor::pg::get_members(&group(name, incarnation, lane))
                .into_iter()
                .find(|cell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == session))
                .map(ActorRef::from)
        };
        (0..lanes).map(router).collect::<Option<_>>().map(Self)
    }
}

impl Lanes for Routers {
    fn send(&self, lane: usize, envelope: Vec<u8>) {
        // Fails only when the link is ending; what it carried is lost then, as all casts may be.
        let _ = self.0[lane].cast(RouterMessage::Envelope(envelope));
    }
}

fn group(name: &str, incarnation: u64, lane: usize) -> String {
    format!("rookery.router/{name}#{incarnation}/{lane}")
}
