//! The way to this node's own actors, past the gate that views close.

use super::questions::Held;
use super::{Routing, not_started};
use crate::cluster::address::Address;
use crate::cluster::gate::Turn;
use crate::cluster::pending::Untaken;
use crate::cluster::reply::ReplyTo;
use crate::protocol::cluster::{Reply, Request};

/// What reaches this node's own actors.
pub(super) enum Delivery {
    Tell(Address, Request),
    Ask(Address, Request, ReplyTo<Reply>),
    /// A question that was open to another node.
    Home(Address, Request, ReplyTo<Reply>),
    /// Of an address that another node owns, to the actor that may still be active here.
    Held(Box<Held>),
}

impl Routing {
    pub(super) fn deliver_tell(&self, to: Address, request: Request) {
        if let Some(delivery) = self.pass(Delivery::Tell(to, request)) {
            self.hand_in(delivery);
        }
    }

    /// To this node's own actors, of which the address is one; given back if the turn is over.
    pub(super) fn deliver_ask(
        &self,
        to: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        turn: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        let Some(Delivery::Ask(to, request, reply)) = self.pass(Delivery::Ask(to, request, reply)) else {
            return None;
        };
        match self.inbound() {
            Some(inbound) => inbound.ask(to, request, reply, turn),
            None => {
                reply.send(Err(not_started()));
                None
            }
        }
    }

    /// A delivery that is to be made now, by whoever has called; others wait, or are refused.
    pub(super) fn pass(&self, delivery: Delivery) -> Option<Delivery> {
        match self.gate.pass(delivery) {
            Ok(delivery) => return delivery,
            Err(Delivery::Ask(_, _, reply) | Delivery::Home(_, _, reply)) => {
                reply.send(Err(self.untaken(Untaken::Full)));
            }
            Err(Delivery::Held(held)) => held.reply.send(Err(self.untaken(Untaken::Full))),
            Err(Delivery::Tell(..)) => self.counters.tells_overflowed.increment(),
        }
        None
    }

    /// What has waited at the gate, or needs no order. Called by whoever publishes views: no turn ends meanwhile, so
    /// nothing is given back.
    pub(super) fn hand_in(&self, delivery: Delivery) {
        let Some(inbound) = self.inbound() else {
            match delivery {
                Delivery::Ask(_, _, reply) | Delivery::Home(_, _, reply) => {
                    reply.send(Err(not_started()));
                }
                Delivery::Held(held) => held.reply.send(Err(not_started())),
                Delivery::Tell(..) => {}
            }
            return;
        };
        let back = match delivery {
            Delivery::Tell(to, request) => {
                inbound.tell(to, request);
                None
            }
            Delivery::Ask(to, request, reply) => inbound.ask(to, request, reply, Turn::endless()),
            Delivery::Home(to, request, reply) => inbound.ask(to, request, reply, Turn::homeward()),
            // It is this node's now. To queue it again would put it behind later ones.
            Delivery::Held(held) if self.owns(&held.to) => {
                inbound.ask(held.to, held.request, held.reply, Turn::endless())
            }
            Delivery::Held(held) => {
                self.ask_held(*held, Turn::endless()).map(|held| (held.request, held.reply))
            }
        };
        debug_assert!(back.is_none(), "an endless turn is never over");
    }
}
