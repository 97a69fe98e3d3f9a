//! The network between the nodes of a run, and what can be done to it: cuts, loss, delay, too little of it.
//!
//! Two nets are alike to their user. [`Namespaces`] gives each node a network namespace and an address of its own, and
//! drops real packets by nftables; it needs root and `iproute2`. [`Proxies`] puts a proxy of ours in front of each node's
//! cluster port and of the database, and holds bytes back; it runs on any Linux. Clients reach every node in both.

mod namespaces;
mod proxies;
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

pub use self::namespaces::Namespaces;
pub use self::proxies::Proxies;
use crate::cli::up::NodeSetting;

/// Most nodes of one net.
pub const NODES_MAX: usize = 16;

/// An end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A node, by its place in the cluster from 0.
    Node(usize),
    /// The database server.
    Database,
}

/// In which direction a path is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing passes.
    Both,
    /// What the first sends to the second vanishes; the other direction passes.
    There,
}

/// A bad link: of one node to all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLink {
    /// Added to each packet's way out.
    pub delay: Duration,
    /// What may leave in a second; 0: as much as there is.
    pub bytes_per_second: u64,
}

/// All that is wrong with the net at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    cuts: BTreeSet<(Place, Place)>,
    /// Percent of the packets between nodes that vanish.
    loss: u8,
    bad_links: BTreeMap<usize, BadLink>,
}

impl Weather {
    /// Whether what `from` sends does not reach `to`.
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cuts.contains(&(from, to))
    }
}

/// A network that can be made worse and healed. Each call returns when it is in force.
#[async_trait]
pub trait Net: Send + Sync {
    /// What it is, in a few words.
    fn describe(&self) -> String;
    /// Whether [`Net::delay`] delays; else it makes the link slow, which queues packets and so delays under load.
    fn can_delay(&self) -> bool;
    /// The address for a database server to listen on, so that the nodes reach it.
    fn database_host(&self) -> String;
    /// Leads the nodes to the database at host:port; to be called before [`Net::setting`] where there is a server.
    async fn attach_database(&mut self, address: &str) -> anyhow::Result<()>;
    /// How the node at this place runs in this net; the second: host:port of the database as this node reaches it, if
    /// one is attached.
    fn setting(&self, at: usize) -> (NodeSetting, Option<String>);
    /// The state to be changed before [`Net::apply`].
    fn weather(&mut self) -> &mut Weather;
    /// Brings the changed state about.
    async fn apply(&mut self) -> anyhow::Result<()>;
    /// Takes the net away as far as it outlives its owner; dropping does the same, blocking.
    async fn end(&mut self) {}

    /// Cuts the path between two ends.
    async fn cut(&mut self, a: Place, b: Place, way: Way) -> anyhow::Result<()> {
        let cuts = &mut self.weather().cuts;
        cuts.insert((a, b));
        if way == Way::Both {
            cuts.insert((b, a));
        }
        self.apply().await
    }

    /// Loses so many percent of what passes between nodes.
    async fn lose(&mut self, percent: u8) -> anyhow::Result<()> {
        self.weather().loss = percent.min(100);
        self.apply().await
    }

    /// Delays what a node sends to the others.
    async fn delay(&mut self, node: usize, delay: Duration) -> anyhow::Result<()> {
        self.weather().bad_links.insert(node, BadLink { delay, bytes_per_second: 0 });
        self.apply().await
    }

    /// Makes the way from a node to the others narrow.
    async fn slow(&mut self, node: usize, bytes_per_second: u64) -> anyhow::Result<()> {
        self.weather().bad_links.insert(node, BadLink { delay: Duration::ZERO, bytes_per_second });
        self.apply().await
    }

    /// Ends all that is wrong.
    async fn heal(&mut self) -> anyhow::Result<()> {
        *self.weather() = Weather::default();
        self.apply().await
    }
}
