//! What nodes tell each other about nodes: gossip, and that one leaves.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{LEAVE_MAX, Manager};
use crate::cluster::link::Link;
use crate::cluster::membership::Event as Told;
use crate::cluster::view::{NodeInfo, NodeState, ViewNode};
use crate::protocol::cluster::{Gossip, Leaving, Member, item::Item};

impl Manager {
    pub(super) fn on_talk(&mut self, from: &Link) {
        let words = from.inbox.take();
        if let Some(gossip) = words.gossip {
            self.on_gossip(from, gossip);
        }
        if words.leaves {
            self.on_leaving(from);
        }
        if words.confirms
            && let Some((names, _, _)) = &mut self.leaving
        {
            names.remove(&from.peer.name);
        }
    }

    fn on_gossip(&mut self, from: &Link, gossip: Gossip) {
        let Some(slot) = self.slots.by_epoch(from.epoch) else { return };
        slot.gossiped = true;
        // It may come before this side has seen that the link is ready.
        let own = gossip.members.iter().find(|member| member.name == from.peer.name);
        slot.said = own.map_or(slot.said, |member| member.state().into());
        let reached = gossip.members.iter().filter(|member| member.link > 0);
        from.set_reached(reached.map(|member| (member.name.clone(), member.link)).collect());
        for member in gossip.members {
            let (info, state) = NodeInfo::from_member(member);
            if info.name == from.peer.name {
                self.apply(Told::Said { name: info.name, incarnation: info.incarnation, state });
            } else if info.name != self.routing.name() {
                self.apply(Told::Heard { info, leaving: state == NodeState::Leaving });
            }
        }
    }

    fn on_leaving(&mut self, from: &Link) {
        let name = from.peer.name.clone();
        let incarnation = from.peer.incarnation;
        if let Some(slot) = self.slots.by_epoch(from.epoch) {
            slot.said = NodeState::Leaving;
        }
        self.apply(Told::Said { name, incarnation, state: NodeState::Leaving });
        let confirmed = Leaving { incarnation, confirmed: true };
        from.push_over(self.routing.control_lane(), Item::Leaving(confirmed));
    }

    pub(super) fn leave(&mut self, done: oneshot::Sender<()>) {
        self.join_until = None;
        self.set_myself(NodeState::Leaving);
        let until = Instant::now() + LEAVE_MAX;
        let lane = self.routing.control_lane();
        let incarnation = self.routing.incarnation();
        let mut names = BTreeSet::new();
        for link in self.routing.links() {
            link.push_over(lane, Item::Leaving(Leaving { incarnation, confirmed: false }));
            names.insert(link.peer.name.clone());
        }
        self.leaving.get_or_insert_with(|| (names, until, Vec::new())).2.push(done);
    }

    pub(super) fn gossip_to_all(&self) {
        let gossip = self.gossip();
        for link in self.routing.links() {
            self.tell(&link, gossip.clone());
        }
    }

    pub(super) fn gossip_to(&self, link: &Link) {
        self.tell(link, self.gossip());
    }

    fn gossip(&self) -> Gossip {
        let (view, reached) = (self.membership.view(), self.routing.reached());
        let member = |node: &ViewNode| {
            let link = reached.get(&node.info.name).copied().unwrap_or_default();
            Member { link, ..node.info.to_member(node.state) }
        };
        Gossip {
            members: view.nodes.iter().filter(|node| node.state != NodeState::Down).map(member).collect(),
        }
    }

    fn tell(&self, link: &Link, gossip: Gossip) {
        // A peer that does not take it is found out by its silence, and gossip is repeated.
        let _ = link.push(self.routing.control_lane(), Item::Gossip(gossip));
    }
}
