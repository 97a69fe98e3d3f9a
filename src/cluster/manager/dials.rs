//! What dials come to, and what that says of the nodes dialled.

use tokio::time::Instant;

use super::Manager;
use crate::cluster::handshake::Outcome;
use crate::cluster::membership::Event as Member;
use crate::cluster::view::NodeInfo;

impl Manager {
    pub(super) fn on_dialed(&mut self, address: &str, outcome: Outcome) {
        let now = Instant::now();
        let wait = self.routing.config().handshake_timeout;
        match outcome {
            Outcome::Opened(info) | Outcome::Busy(info) => {
                self.targets.succeeded(address, &info.name, wait, now);
                self.someone_else(address, &info);
            }
            Outcome::Knocked(info) => {
                self.targets.succeeded(address, &info.name, wait, now);
                self.someone_else(address, &info);
                if let Some(target) = self.targets.get_mut(address) {
                    let before = target.knocked_at.replace(now);
                    if before.is_some() && self.seldom.allows(&format!("knock {address}")) {
                        let (me, _) = self.membership.me();
                        tracing::warn!(
                            target: "rookery::cluster", node = %info.name, address,
                            "the node was asked to dial this one at {} and has not; check cluster.advertise here and \
                             the way there",
                            me.cluster_address
                        );
                    }
                }
                self.apply(Member::Met(info));
            }
            Outcome::Itself => self.targets.remove(address),
            Outcome::Refused(refusal) => {
                self.routing.counters.links_refused.increment();
                if self.seldom.allows(&format!("{address} {}", refusal.message)) {
                    tracing::warn!(
                        target: "rookery::cluster", address,
                        "a link to {address} is refused: {}", refusal.message
                    );
                }
                self.targets.failed(address, now);
            }
            Outcome::Nobody(error) => {
                self.unreachable(address, &error.to_string());
                self.targets.failed(address, now);
                let gone: Vec<String> = self.unlinked_at(address).collect();
                for name in gone {
                    self.dead(&name, "nobody listens on its port any more");
                }
            }
            Outcome::Failed(error) => {
                self.unreachable(address, &error);
                self.targets.failed(address, now);
            }
        }
    }

    fn unreachable(&mut self, address: &str, error: &str) {
        let seed = self.targets.get_mut(address).is_some_and(|target| target.seed);
        if !self.seldom.allows(&format!("{address} unreachable")) {
            return;
        }
        if seed {
            tracing::warn!(
                target: "rookery::cluster", address, error,
                "a seed can't be reached; it is dialled again until it can. Check cluster.seeds if that lasts"
            );
        } else {
            tracing::info!(target: "rookery::cluster", address, error, "a node can't be reached; it is dialled again");
        }
    }

    /// Another node answers at this address: whoever was there is gone.
    fn someone_else(&mut self, address: &str, info: &NodeInfo) {
        if address != info.cluster_address {
            return;
        }
        let gone: Vec<String> = self.unlinked_at(address).filter(|name| *name != info.name).collect();
        for name in gone {
            self.dead(&name, "another node answers at its address");
        }
    }

    fn unlinked_at(&self, address: &str) -> impl Iterator<Item = String> {
        self.membership
            .peers()
            .filter(move |peer| !peer.linked && peer.info.cluster_address == address)
            .map(|peer| peer.info.name.clone())
    }
}
