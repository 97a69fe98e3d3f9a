//! Who is heard and who is not: heartbeats, judgements, and what follows from them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Manager, TICK};
use crate::cluster::detector::{self, Deadlines, Direction, Judgement, STALL, Seen};
use crate::cluster::membership::Event as Member;
use crate::cluster::slots::Phase;
use crate::cluster::view::NodeState;
use crate::protocol::cluster::{Heartbeat, item::Item};

impl Manager {
    /// Judges every peer, `since_last` after the last time, and sends heartbeats that are due.
    pub(super) fn listen(&mut self, now: Instant, since_last: Duration) {
        let config = self.routing.config();
        let deadlines = Deadlines { suspect_after: config.suspect_after, down_after: config.down_after };
        let interval = config.heartbeat_interval;
        if since_last > TICK * 2 {
            self.late_at = Some(now);
        }
        if since_last > TICK + STALL {
            tracing::warn!(
                target: "rookery::cluster",
                "this node stood still for {since_last:?}; the others are given time to be heard again"
            );
        }
        let mut judged = Vec::new();
        for slot in self.slots.all_mut() {
            let (Phase::Ready, Some(link)) = (slot.phase, &slot.link) else { continue };
            let silent_for = link.socket.silent_for();
            let seen = Seen {
                silent_for,
                unread: silent_for >= deadlines.suspect_after && link.socket.has_unread(),
                report: link.report(),
            };
            judged.push((link.clone(), slot.detector.tick(since_last, seen, deadlines)));
        }
        let mut to_tell = Vec::new();
        for (link, judgement) in judged {
            let name = &link.peer.name;
            let state = self.membership.peer(name).map(|peer| peer.state);
            match judgement {
                Judgement::Down(Direction::FromPeer) => {
                    self.routing.counters.peers_silent.increment();
                    self.dead(name, "it has been silent for cluster.down_after");
                }
                Judgement::Down(Direction::ToPeer) => {
                    self.routing.counters.peers_deaf.increment();
                    self.dead(name, "it has heard nothing of this node for cluster.down_after");
                }
                Judgement::Suspect(_) if state != Some(NodeState::Up) => {}
                Judgement::Suspect(_) => {
                    self.apply(Member::Silent(name.clone()));
                    to_tell.push(name.clone());
                }
                Judgement::Alive => {
                    if state == Some(NodeState::Suspect) {
                        self.apply(Member::Alive(name.clone()));
                        // It may have counted this node's silence on, and learns at once that it is heard again.
                        to_tell.push(name.clone());
                    }
                    self.look_for_slowness(name, link.unanswered_for(self.routing.now_us()), now);
                }
            }
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + interval;
            self.send_heartbeats(|_| true);
        } else if !to_tell.is_empty() {
            // If nothing comes from it because nothing gets there, it learns of that in time.
            self.send_heartbeats(|name| to_tell.iter().any(|suspect| suspect == name));
        }
        self.give_up_the_lost(detector::counted(since_last, deadlines.suspect_after), deadlines.down_after);
    }

    fn send_heartbeats(&self, to: impl Fn(&str) -> bool) {
        let lane = self.routing.control_lane();
        for slot in self.slots.all() {
            let (Phase::Ready, Some(link)) = (slot.phase, &slot.link) else { continue };
            // What can't leave yet says as much as another heartbeat would.
            if to(&slot.info.name) && link.send_all(lane) {
                let silent_ms = slot.detector.silence().as_millis() as u32;
                let beat = Heartbeat { silent_ms, ..self.routing.heartbeat() };
                link.note_asked(beat.sent_at_us);
                // A peer that does not take it is found out by its silence.
                let _ = link.push(lane, Item::Heartbeat(beat));
            }
        }
    }

    /// Bytes flow, so the peer lives, but heartbeats come late: the link carries less than it is given.
    fn look_for_slowness(&mut self, name: &str, unanswered: Duration, now: Instant) {
        // By then a peer that hears nothing of this node has said so.
        let config = self.routing.config();
        let slow_after = config.suspect_after + config.heartbeat_interval * 2;
        let Some(slot) = self.slots.get_mut(name) else { return };
        // A node that was late itself has nobody to blame.
        let was_late = self.late_at.is_some_and(|at| now.duration_since(at) < slow_after);
        let is_slow = unanswered >= slow_after && !was_late;
        if is_slow && !slot.slow {
            self.routing.counters.links_slow.increment();
            if self.seldom.allows(&format!("slow {name}")) {
                tracing::warn!(
                    target: "rookery::cluster", node = %name, ?unanswered,
                    "the link is slow: it carries less than it is given, so questions to this node may fail and \
                     live delivery is left to sync. Check the network and the node's load"
                );
            }
        }
        slot.slow = is_slow;
    }

    fn give_up_the_lost(&mut self, counted: Duration, down_after: Duration) {
        let mut long_lost = Vec::new();
        for (name, lost_for) in &mut self.lost {
            *lost_for += counted;
            if *lost_for >= down_after {
                long_lost.push(name.clone());
            }
        }
        for name in long_lost {
            self.dead(&name, "its link was lost and it can't be reached");
        }
    }

    pub(super) fn dead(&mut self, name: &str, why: &str) {
        let Some(peer) = self.membership.peer(name) else { return };
        if peer.state == NodeState::Down {
            self.lost.remove(name);
            return;
        }
        tracing::warn!(target: "rookery::cluster", node = %name, "the node is down: {why}");
        // Down first: what was asked of it goes to others at once, and not back over a new link.
        self.apply(Member::Dead(name.to_owned()));
        self.cut(name);
        self.lost.remove(name);
    }
}
