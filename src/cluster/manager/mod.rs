//! The one task that decides about membership and links. Everything that happens reaches it as an [`Event`], in order;
//! it never waits for a peer.

mod dials;
mod links;
mod listen;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::cluster::handshake::{Opened, Outcome, SharedHandshaker};
use crate::cluster::link::Link;
use crate::cluster::membership::{Change, Event as Member, Membership};
use crate::cluster::routing::Routing;
use crate::cluster::seldom::Seldom;
use crate::cluster::slots::{Claim, Phase, Slot, Slots, Wish};
use crate::cluster::targets::{Progress, Target, Targets};
use crate::cluster::transport::{Session, Sessions};
use crate::cluster::view::{NodeInfo, NodeState, View};
use crate::protocol::cluster::LinkRefusal;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a new node looks for the others before it takes part without them.
const JOIN_MAX: Duration = Duration::from_millis(1500);
/// How long a leaving node waits for the others to confirm.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// How often gossip is repeated, against anything lost.
const GOSSIP_EVERY: Duration = Duration::from_secs(5);
/// How often what has long been down is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What the manager is told. The queue needs no bound of its own, as each sender has one: an inbox rings once until it is
/// emptied, a handshake or a dial waits for an answer before it sends again, a session of a link sends three,
/// and the actors one for each look at their links.
pub enum Event {
    /// A preamble asks for a link.
    Claim {
        /// With whom.
        info: NodeInfo,
        /// Its number here.
        epoch: u64,
        /// What is wanted.
        wish: Wish,
        /// Told when it may be, or why not.
        answer: oneshot::Sender<Result<(), LinkRefusal>>,
    },
    /// A preamble has ended well.
    Opened(Box<Opened>),
    /// A preamble has ended, and its claim is free.
    Abandoned {
        /// The claim.
        epoch: u64,
    },
    /// The transport has made a session of a link.
    SessionOpened {
        /// Of which link.
        epoch: u64,
        /// The session.
        session: Box<dyn Session>,
    },
    /// The session has told us all of the peer's routers.
    SessionReady {
        /// Of which link.
        epoch: u64,
        /// The session's number, by which the transport finds its lanes.
        session: u64,
    },
    /// The session is over.
    SessionEnded {
        /// Of which link.
        epoch: u64,
    },
    /// A dial has ended.
    Dialed {
        /// What was dialled.
        address: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// The peer of a link has said something, which is in the link's inbox.
    Talk(Arc<Link>),
    /// The nodes that this one's actors reach are others, or by other links: the others are to know.
    Reached,
    /// An actor that all links need has died and was made anew: links made before are of no use.
    Reset(&'static str),
    /// This node leaves. Told when the others know.
    Leave(oneshot::Sender<()>),
    /// This node stops. Told when all links are cut.
    Stop(oneshot::Sender<()>),
}

/// See the module.
pub struct Manager {
    routing: Arc<Routing>,
    handshaker: SharedHandshaker,
    sessions: Arc<dyn Sessions>,
    events: mpsc::UnboundedSender<Event>,
    membership: Membership,
    slots: Slots,
    targets: Targets,
    /// Suspects without a link, and for how long nothing has been heard of them.
    lost: BTreeMap<String, Duration>,
    join_until: Option<Instant>,
    leaving: Option<(BTreeSet<String>, Instant, Vec<oneshot::Sender<()>>)>,
    late_at: Option<Instant>,
    next_heartbeat: Instant,
    next_gossip: Instant,
    next_forget: Instant,
    seldom: Seldom,
}

impl Manager {
    /// Knows nobody yet.
    pub fn new(
        info: NodeInfo,
        routing: Arc<Routing>,
        handshaker: SharedHandshaker,
        sessions: Arc<dyn Sessions>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let now = Instant::now();
        let config = routing.config();
        let targets = Targets::new(&config.seeds, config.redial_min, config.redial_max, now);
        Self {
            membership: Membership::new(info, clock::now_ms()),
            slots: Slots::default(),
            targets,
            lost: BTreeMap::new(),
            join_until: Some(now + JOIN_MAX),
            leaving: None,
            late_at: None,
            next_heartbeat: now,
            next_gossip: now + GOSSIP_EVERY,
            next_forget: now + FORGET_EVERY,
            seldom: Seldom::default(),
            routing,
            handshaker,
            sessions,
            events,
        }
    }

    /// Runs until the node stops.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        self.routing.publish(self.membership.view());
        self.proceed();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                // However much happens, deadlines are looked at.
                biased;
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.on_tick(now, now.duration_since(last));
                    last = now;
                }
                event = events.recv() => match event {
                    Some(Event::Stop(done)) => {
                        self.stop();
                        // Who asked may have gone.
                        let _ = done.send(());
                        return;
                    }
                    Some(event) => self.on_event(event),
                    None => return,
                },
            }
            self.proceed();
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Claim { info, epoch, wish, answer } => self.decide(Claim { info, epoch, wish, answer }),
            Event::Opened(opened) => self.on_opened(*opened),
            Event::Abandoned { epoch } => {
                if self.slots.by_epoch(epoch).is_some_and(|slot| slot.phase == Phase::Opening) {
                    self.forget_slot(epoch);
                }
            }
            Event::SessionOpened { epoch, session } => match self.slots.by_epoch(epoch) {
                Some(slot) => {
                    if let Some(link) = &slot.link {
                        link.set_session(session);
                    }
                }
                None => session.stop(),
            },
            Event::SessionReady { epoch, session } => self.on_ready(epoch, session),
            Event::SessionEnded { epoch } => self.on_ended(epoch),
            Event::Dialed { address, outcome } => self.on_dialed(&address, outcome),
            Event::Talk(from) => self.on_talk(&from),
            // With the next tick, so that what changes together is told together.
            Event::Reached => self.next_gossip = Instant::now(),
            Event::Reset(what) => {
                tracing::error!(target: "rookery::cluster", "the {what} has died; all links are made anew");
                for name in self.slots.all().map(|slot| slot.info.name.clone()).collect::<Vec<_>>() {
                    self.cut(&name);
                }
            }
            Event::Leave(done) => self.leave(done),
            // Handled where the loop can end.
            Event::Stop(_) => {}
        }
    }

    /// What follows from any event: dials that are due, and the end of joining and leaving.
    fn proceed(&mut self) {
        let now = Instant::now();
        // Whether the node behind an address is linked, or a link to it is on its way.
        let progress = |address: &str, target: &Target| {
            let slots = self.slots.all().filter(|slot| slot.phase != Phase::Closing);
            slots
                .filter(|slot| {
                    target.name.as_ref() == Some(&slot.info.name) || slot.info.cluster_address == address
                })
                .map(|slot| if slot.phase == Phase::Ready { Progress::Linked } else { Progress::Linking })
                .max()
                .unwrap_or(Progress::None)
        };
        let (_, my_state) = self.membership.me();
        if my_state != NodeState::Leaving {
            let due = self.targets.due(now, progress);
            let lives = |slot: &Slot| matches!(slot.phase, Phase::Handed | Phase::Ready);
            // An address that is not known for that of a linked node is dialled, and nothing is lost by that.
            let lost = if due.is_empty() {
                Default::default()
            } else {
                self.handshaker.lost(|name| self.slots.get(name).is_some_and(lives))
            };
            for address in due {
                let (handshaker, events, lost) = (self.handshaker.clone(), self.events.clone(), lost.clone());
                tokio::spawn(async move {
                    let outcome = handshaker.dial(&address, lost).await;
                    // The manager is gone only when the node is stopping.
                    let _ = events.send(Event::Dialed { address, outcome });
                });
            }
        }
        if let Some(until) = self.join_until
            && (now >= until || (self.targets.all_settled() && self.slots.all().all(|slot| slot.gossiped)))
        {
            self.join_until = None;
            self.set_myself(NodeState::Up);
        }
        if let Some((names, until, _)) = &mut self.leaving {
            names.retain(|name| self.slots.get(name).is_some_and(|slot| slot.phase == Phase::Ready));
            if (names.is_empty() || now >= *until)
                && let Some((names, _, waiting)) = self.leaving.take()
            {
                if !names.is_empty() {
                    tracing::warn!(
                        target: "rookery::cluster", ?names,
                        "leaving was not confirmed by all nodes within {LEAVE_MAX:?}"
                    );
                }
                for done in waiting {
                    // Who asked may have gone.
                    let _ = done.send(());
                }
            }
        }
    }

    fn on_tick(&mut self, now: Instant, since_last: Duration) {
        let config = self.routing.config().clone();
        self.listen(now, since_last);
        if now >= self.next_gossip {
            self.next_gossip = now + GOSSIP_EVERY;
            self.gossip_to_all();
        }
        if now >= self.next_forget {
            self.next_forget = now + FORGET_EVERY;
            let change = self.membership.forget(clock::now_ms());
            self.changed(change);
        }
        for (epoch, name, phase) in self.slots.overdue(now) {
            match phase {
                Phase::Handed => {
                    tracing::warn!(
                        target: "rookery::cluster", node = %name,
                        "a link was opened but did not get ready within {:?} (cluster.handshake_timeout); it is cut",
                        config.handshake_timeout
                    );
                    self.cut(&name);
                }
                Phase::Closing => self.on_ended(epoch),
                Phase::Opening => self.forget_slot(epoch),
                Phase::Ready => {}
            }
        }
    }

    fn stop(&mut self) {
        for slot in self.slots.all() {
            if let Some(flusher) = &slot.flusher {
                flusher.abort();
            }
            if let Some(link) = &slot.link {
                self.routing.remove_link(slot.epoch);
                link.cut();
            }
        }
        self.sessions.stop();
        self.routing.fail_all();
    }

    fn set_myself(&mut self, state: NodeState) {
        self.handshaker.set_said(state);
        self.apply(Member::Myself(state));
        self.gossip_to_all();
    }

    fn apply(&mut self, event: Member) {
        let change = self.membership.apply(event, clock::now_ms());
        self.changed(change);
    }

    fn changed(&mut self, change: Change) {
        if change.view {
            let (before, after) = (self.routing.view(), self.membership.view());
            log_changes(&before, &after);
            self.routing.publish(after);
            let membership = &self.membership;
            self.targets.retain(|address| {
                membership.peers().any(|peer| peer.is_wanted() && peer.info.cluster_address == address)
            });
            let now = Instant::now();
            for peer in self.membership.peers().filter(|peer| peer.is_wanted()) {
                self.targets.add(&peer.info.cluster_address, now);
            }
        }
        if change.learned {
            self.gossip_to_all();
        }
    }
}

fn log_changes(before: &View, after: &View) {
    for node in &after.nodes {
        let was = before.node(&node.info.name).map(|node| node.state);
        if was != Some(node.state) {
            tracing::info!(
                target: "rookery::cluster", node = %node.info.name, incarnation = node.info.incarnation,
                was = was.map_or("unknown", NodeState::as_str), is = node.state.as_str(), view = after.version,
                "the view changes"
            );
        }
    }
}
