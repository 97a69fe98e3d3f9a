//! The life of a link, from the claim to its end.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Manager, TICK};
use crate::cluster::handshake::Opened;
use crate::cluster::lanes::LaneLimits;
use crate::cluster::link::Link;
use crate::cluster::membership::Event as Member;
use crate::cluster::slots::{Claim, Phase, Verdict};
use crate::cluster::stream::LinkStream;
use crate::cluster::view::{NodeInfo, NodeState};
use crate::protocol::cluster::{Leaving, item::Item};

impl Manager {
    pub(super) fn decide(&mut self, claim: Claim) {
        let config = self.routing.config();
        let opening_max = config.handshake_timeout + TICK;
        let dead_after = config.heartbeat_interval * 2;
        let (info, wish) = (claim.info.clone(), claim.wish);
        match self.slots.claim(claim, opening_max, dead_after) {
            Verdict::Settled => {}
            Verdict::Cut(name) => self.cut(&name),
            Verdict::Dial => self.dial_back(info),
            Verdict::CutAndDial(name) => {
                tracing::info!(
                    target: "rookery::cluster", node = %name, ?wish,
                    "the node has lost its end of the link; a new one is made"
                );
                self.cut(&name);
                self.dial_back(info);
            }
        }
    }

    fn dial_back(&mut self, info: NodeInfo) {
        let address = info.cluster_address.clone();
        self.apply(Member::Met(info));
        let now = Instant::now();
        self.targets.add(&address, now);
        self.targets.hurry(&address, now);
    }

    pub(super) fn on_opened(&mut self, opened: Opened) {
        let config = self.routing.config();
        let limits = LaneLimits {
            envelope_items: config.envelope_items,
            envelope_bytes: config.envelope_bytes,
            queue_items: config.lane_queue_items,
            queue_bytes: config.lane_queue_bytes,
        };
        let until = Instant::now() + config.handshake_timeout;
        let io_timeout = config.io_timeout;
        let Some(slot) = self.slots.by_epoch(opened.epoch).filter(|slot| slot.phase == Phase::Opening) else {
            // Another took its place; dropping the stream tells the peer.
            return;
        };
        let stream = LinkStream::new(opened.epoch, opened.connection, io_timeout);
        let link = Arc::new(Link::new(
            (opened.epoch, opened.peer_epoch),
            Arc::new(opened.info.clone()),
            stream.socket(),
            self.routing.incarnation(),
            self.routing.control_lane() + 1,
            limits,
        ));
        slot.flusher = Some(tokio::spawn(link.clone().keep_flushing()).abort_handle());
        slot.link = Some(link.clone());
        slot.info = opened.info;
        slot.said = opened.said;
        slot.phase = Phase::Handed;
        slot.until = until;
        self.routing.add_link(&link);
        self.handshaker.note_seen(&link.peer.name, link.peer.incarnation, link.peer_epoch);
        if !self.sessions.open(stream, opened.is_server) {
            let name = link.peer.name.clone();
            self.cut(&name);
        }
    }

    pub(super) fn on_ready(&mut self, epoch: u64, session: u64) {
        let Some(slot) = self.slots.by_epoch(epoch).filter(|slot| slot.phase == Phase::Handed) else {
            return;
        };
        let Some(link) = slot.link.clone() else { return };
        let (name, incarnation) = (slot.info.name.clone(), slot.info.incarnation);
        let Some(lanes) = self.sessions.lanes(&slot.info, session) else {
            tracing::error!(
                target: "rookery::cluster", node = %name,
                "the node has not all {} routers; the link is made again", self.routing.control_lane() + 1
            );
            return self.cut(&name);
        };
        slot.phase = Phase::Ready;
        let (info, said) = (slot.info.clone(), slot.said);
        link.attach(lanes);
        self.lost.remove(&name);
        tracing::info!(
            target: "rookery::cluster", node = %name, incarnation, address = %info.cluster_address, epoch,
            "linked"
        );
        self.routing.link_ready(&link);
        self.apply(Member::Linked { info, said });
        self.gossip_to(&link);
        if let (me, NodeState::Leaving) = self.membership.me() {
            let leaving = Leaving { incarnation: me.incarnation, confirmed: false };
            link.push_over(self.routing.control_lane(), Item::Leaving(leaving));
        }
    }

    pub(super) fn on_ended(&mut self, epoch: u64) {
        if let Some(slot) = self.slots.by_epoch(epoch) {
            let name = slot.info.name.clone();
            self.cut(&name);
        }
        self.forget_slot(epoch);
    }

    /// Cuts the link to a node, if there is one; it has ended when its session has.
    pub(super) fn cut(&mut self, name: &str) {
        let Some(slot) = self.slots.get(name) else { return };
        let (epoch, was_ready) = (slot.epoch, slot.phase == Phase::Ready);
        let silent = slot.detector.longest();
        if slot.phase == Phase::Opening {
            return self.forget_slot(epoch);
        }
        let Some(slot) = self.slots.close(name) else { return };
        if let Some(flusher) = &slot.flusher {
            flusher.abort();
        }
        if let Some(link) = &slot.link {
            link.cut();
        }
        self.routing.remove_link(epoch);
        if !was_ready {
            return;
        }
        self.routing.counters.links_lost.increment();
        tracing::warn!(target: "rookery::cluster", node = %name, epoch, "the link is lost");
        self.apply(Member::Unlinked(name.to_owned()));
        let Some(peer) = self.membership.peer(name) else { return };
        let address = peer.info.cluster_address.clone();
        let now = Instant::now();
        if peer.state == NodeState::Suspect {
            self.lost.insert(name.to_owned(), silent);
        }
        if peer.is_wanted() {
            self.targets.add(&address, now);
            self.targets.hurry(&address, now);
        }
    }

    pub(super) fn forget_slot(&mut self, epoch: u64) {
        let Some((slot, waiting)) = self.slots.ended(epoch) else { return };
        if let Some(flusher) = &slot.flusher {
            flusher.abort();
        }
        for claim in waiting {
            self.decide(claim);
        }
    }
}
