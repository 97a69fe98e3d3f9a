//! A proxy in front of each node's cluster port, and between each node and the database. For machines without namespaces.
//!
//! Each node listens on a loopback address of its own (all of 127.0.0.0/8 is this machine) and tells the others its proxy's. A
//! proxy must know who dials, to cut one pair and not another: the kernel's tables tell which process owns the other
//! end of the connection, and its command line tells its name, whatever the protocol on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use tokio::sync::watch;

use super::relay::{Path, Relay};
use super::{NODES_MAX, Net, Place, Weather};
use crate::cli::up::{Addresses, NodeSetting};

/// Where the nodes' addresses, and their proxies', begin in the run's part of loopback.
const FIRST_NODE: u8 = 11;
const FIRST_PROXY: u8 = 101;
/// The ports are drawn below those that the kernel gives to clients. Each node has an address of its own, but a server
/// that listens on all addresses of the machine would be in the way of a fixed one.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// See the module.
#[derive(Debug)]
pub struct Proxies {
    /// The middle of every address: 127.A.B.x.
    part: [u8; 2],
    /// Of cluster listeners and proxies; the others' follow.
    port: u16,
    nodes: usize,
    weather: Weather,
    sender: watch::Sender<Weather>,
    _cluster: Vec<Relay>,
    databases: Vec<Relay>,
}

impl Proxies {
    /// Makes the proxies of `nodes` nodes.
    pub async fn start(nodes: usize) -> anyhow::Result<Self> {
        if nodes == 0 || nodes > NODES_MAX {
            bail!("a net has 1 to {NODES_MAX} nodes");
        }
        let part = [rand::random_range(1..=254), rand::random_range(1..=254)];
        let port = rand::random_range(PORTS);
        let sender = watch::Sender::new(Weather::default());
        let mut cluster = Vec::new();
        for at in 0..nodes {
            let path = Path { from: Arc::new(node_behind), to: Place::Node(at) };
            let target = address(part, FIRST_NODE, at, port).to_string();
            let listen = address(part, FIRST_PROXY, at, port);
            cluster.push(Relay::start(listen, target, Some(path), Some(sender.subscribe())).await?);
        }
        Ok(Self {
            part,
            port,
            nodes,
            weather: Weather::default(),
            sender,
            _cluster: cluster,
            databases: Vec::new(),
        })
    }
}

fn address(part: [u8; 2], first: u8, at: usize, port: u16) -> SocketAddr {
    let last = first + u8::try_from(at).unwrap_or(u8::MAX - first);
    (Ipv4Addr::new(127, part[0], part[1], last), port).into()
}

#[async_trait]
impl Net for Proxies {
    fn describe(&self) -> String {
        "proxies between the nodes on loopback".to_owned()
    }

    fn can_delay(&self) -> bool {
        true
    }

    fn database_host(&self) -> String {
        Ipv4Addr::LOCALHOST.to_string()
    }

    async fn attach_database(&mut self, server: &str) -> anyhow::Result<()> {
        let mut databases = Vec::new();
        for at in 0..self.nodes {
            // Each node has a proxy of its own, so that who dials is known.
            let path = Path { from: Arc::new(move |_, _| Some(Place::Node(at))), to: Place::Database };
            let listen = address(self.part, FIRST_PROXY, at, 0);
            let weather = self.sender.subscribe();
            databases.push(Relay::start(listen, server.to_owned(), Some(path), Some(weather)).await?);
        }
        self.databases = databases;
        Ok(())
    }

    fn setting(&self, at: usize) -> (NodeSetting, Option<String>) {
        let own = |number| address(self.part, FIRST_NODE, at, self.port + number).to_string();
        let listen = Addresses { cluster: own(0), http: own(1), tcp: own(2), line: own(3), admin: own(4) };
        let advertise = address(self.part, FIRST_PROXY, at, self.port).to_string();
        let setting = NodeSetting {
            listen: Some(listen),
            environment: vec![("ROOKERY__CLUSTER__ADVERTISE".to_owned(), advertise)],
            ..NodeSetting::default()
        };
        (setting, self.databases.get(at).map(|relay| relay.address().to_string()))
    }

    fn weather(&mut self) -> &mut Weather {
        &mut self.weather
    }

    async fn apply(&mut self) -> anyhow::Result<()> {
        self.sender.send_replace(self.weather.clone());
        Ok(())
    }
}

/// The node among our child processes that has a connection from `own` to `dialled`.
fn node_behind(own: SocketAddr, dialled: SocketAddr) -> Option<Place> {
    let (SocketAddr::V4(own), SocketAddr::V4(dialled)) = (own, dialled) else { return None };
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    // An address there is the number in the machine's byte order.
    let written = |address: std::net::SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let (own, dialled) = (written(own), written(dialled));
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&own.as_str()) && fields.get(2) == Some(&dialled.as_str()))
            .then(|| fields.get(9).copied())?
    })?;
    let socket = format!("socket:[{inode}]");
    let own_pid = std::process::id();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name in parentheses: state, parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        if parent.parse() != Ok(own_pid) {
            return None;
        }
        let has_it = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*socket));
        if has_it { place_named(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?) } else { None }
    })
}

/// Node n3 is at place 2.
fn place_named(command_line: &[u8]) -> Option<Place> {
    let mut words = command_line.split(|byte| *byte == 0);
    words.find(|word| *word == b"--name")?;
    let number: usize = std::str::from_utf8(words.next()?).ok()?.strip_prefix('n')?.parse().ok()?;
    number.checked_sub(1).map(Place::Node)
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;
