//! A network namespace for each node, joined by a bridge: real packets, really dropped.
//!
//! The bridge has an address on this machine, by which clients reach the nodes and the nodes the database. What is cut or
//! lost is dropped by nftables at the node's own interface, as it leaves or arrives, so that neither side is told. Delay
//! needs `netem`; where the kernel lacks it a token bucket makes the link slow instead.
//!
//! All names begin with the id of this process. What a dead process left behind is removed when the next one starts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;

use super::relay::Relay;
use super::{NODES_MAX, Net, Place, Weather};
use crate::cli::up::{Addresses, NodeSetting};

/// What every name of ours begins with.
const PREFIX: &str = "rk";
/// Hexadecimal digits of the process id and of the number behind it, in names of at most 15 characters.
const TAG_DIGITS: usize = 9;
/// Where the nodes' addresses begin in the subnet; the bridge has 1.
const FIRST_HOST: u8 = 11;
/// Subnets tried before giving up: 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
const SUBNETS_TRIED: usize = 32;
/// Each node has all its ports to itself.
const HTTP: u16 = 8080;
const TCP: u16 = 8081;
const LINE: u16 = 6000;
const ADMIN: u16 = 8090;
const CLUSTER: u16 = 7946;
/// How much a slow link may send at once, in bytes; a token bucket needs room for a packet.
const BURST_BYTES: u64 = 4096;
/// How long a packet may wait in a slow link's queue.
const QUEUE: Duration = Duration::from_millis(400);
/// What a link carries that is to be delayed where there is no `netem`: packets wait for each other.
const DELAYING_BYTES_PER_SECOND: u64 = 96 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Namespaces {
    tag: String,
    /// The first three bytes of every address.
    subnet: [u8; 3],
    nodes: usize,
    netem: bool,
    weather: Weather,
    applied: Weather,
    database: Option<SocketAddrV4>,
    /// Leads from the bridge to a database that listens elsewhere on this machine.
    relay: Option<Relay>,
    ended: bool,
}

impl Namespaces {
    /// Makes the namespaces of `nodes` nodes. Fails where the machine does not allow it; nothing is left then.
    pub async fn start(nodes: usize) -> anyhow::Result<Self> {
        if nodes == 0 || nodes > NODES_MAX {
            bail!("a net has 1 to {NODES_MAX} nodes");
        }
        spawn_blocking(move || Self::start_blocking(nodes)).await.context("making namespaces panicked")?
    }

    fn start_blocking(nodes: usize) -> anyhow::Result<Self> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        remove_leftovers();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 0x1000;
        let tag = format!("{PREFIX}{:06x}{number:03x}", std::process::id() & 0xff_ffff);
        let subnet = free_subnet()?;
        // From here on a failure drops `net`, which removes what there is.
        let mut net = Self {
            tag,
            subnet,
            nodes,
            netem: false,
            weather: Weather::default(),
            applied: Weather::default(),
            database: None,
            relay: None,
            ended: false,
        };
        let bridge = net.bridge();
        let mut outside = format!(
            "link add {bridge} type bridge\naddr add {}/24 dev {bridge}\nlink set {bridge} up\n",
            net.host(1)
        );
        for at in 0..nodes {
            let (namespace, link) = (net.namespace(at), net.link(at));
            // Writing to a string doesn't fail.
            let _ = writeln!(outside, "netns add {namespace}");
            let _ = writeln!(outside, "link add {link} type veth peer name eth0 netns {namespace}");
            let _ = writeln!(outside, "link set {link} master {bridge} up");
        }
        run("ip", &["-batch", "-"], &outside)?;
        for at in 0..nodes {
            let inside = format!(
                "link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n",
                net.address_of(Place::Node(at))
            );
            run("ip", &["-n", &net.namespace(at), "-batch", "-"], &inside)?;
            net.load_rules(at, &Weather::default())?;
        }
        let first = net.namespace(0);
        net.netem = run(
            "tc",
            &["-n", &first, "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", "1ms"],
            "",
        )
        .is_ok();
        let limit = net.limit_link(0, &Weather::default());
        limit?;
        Ok(net)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }

    fn namespace(&self, at: usize) -> String {
        format!("{}n{at}", self.tag)
    }

    fn link(&self, at: usize) -> String {
        format!("{}v{at}", self.tag)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    fn address_of(&self, place: Place) -> Ipv4Addr {
        match place {
            Place::Database => self.host(1),
            // At most `NODES_MAX`.
            Place::Node(at) => self.host(FIRST_HOST + u8::try_from(at).unwrap_or(u8::MAX - FIRST_HOST)),
        }
    }

    /// The rules of one node's interface.
    fn rules(&self, at: usize, weather: &Weather) -> String {
        let database = self.database.map(|address| (*address.ip(), address.port()));
        let (mut incoming, mut outgoing) = (String::new(), String::new());
        let own = Place::Node(at);
        for other in (0..self.nodes).filter(|other| *other != at).map(Place::Node) {
            if weather.is_cut(other, own) {
                let _ = writeln!(incoming, "ip saddr {} drop", self.address_of(other));
            }
        }
        if let Some((ip, port)) = database {
            // The bridge's address is the clients' too, so that the port tells the database.
            if weather.is_cut(Place::Database, own) {
                let _ = writeln!(incoming, "ip saddr {ip} tcp sport {port} drop");
            }
            if weather.is_cut(own, Place::Database) {
                let _ = writeln!(outgoing, "ip daddr {ip} tcp dport {port} drop");
            }
        }
        if weather.loss > 0 && self.nodes > 1 {
            let others = (0..self.nodes).filter(|other| *other != at);
            let addresses: Vec<String> =
                others.map(|other| self.address_of(Place::Node(other)).to_string()).collect();
            let _ = writeln!(
                incoming,
                "ip saddr {{ {} }} numgen random mod 100 < {} drop",
                addresses.join(", "),
                weather.loss
            );
        }
        // Named twice, so that it is there to be replaced.
        format!(
            "table netdev chaos\ndelete table netdev chaos\ntable netdev chaos {{\n\
             chain incoming {{ type filter hook ingress device \"eth0\" priority 0; policy accept;\n{incoming}}}\n\
             chain outgoing {{ type filter hook egress device \"eth0\" priority 0; policy accept;\n{outgoing}}}\n}}\n"
        )
    }

    fn load_rules(&self, at: usize, weather: &Weather) -> anyhow::Result<()> {
        run("ip", &["netns", "exec", &self.namespace(at), "nft", "-f", "-"], &self.rules(at, weather))
    }

    /// Sets how fast and with what delay a node's packets leave.
    fn limit_link(&self, at: usize, weather: &Weather) -> anyhow::Result<()> {
        let namespace = self.namespace(at);
        let replace = |discipline: &[&str]| {
            let fixed = ["-n", &namespace, "qdisc", "replace", "dev", "eth0", "root"];
            run("tc", &[&fixed[..], discipline].concat(), "")
        };
        let Some(link) = weather.bad_links.get(&at) else {
            // There may be none to delete.
            let _ = run("tc", &["-n", &namespace, "qdisc", "del", "dev", "eth0", "root"], "");
            return Ok(());
        };
        let bytes_per_second = match (link.bytes_per_second, self.netem) {
            (0, true) => {
                return replace(&["netem", "delay", &format!("{}ms", link.delay.as_millis())]);
            }
            (0, false) => DELAYING_BYTES_PER_SECOND,
            (rate, _) => rate,
        };
        let (rate, burst) = (format!("{}bit", bytes_per_second * 8), format!("{BURST_BYTES}b"));
        replace(&["tbf", "rate", &rate, "burst", &burst, "latency", &format!("{}ms", QUEUE.as_millis())])
    }

    fn remove(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for at in 0..self.nodes {
            // It may never have been made. Its end of the link goes with it.
            let _ = run("ip", &["netns", "del", &self.namespace(at)], "");
            let _ = run("ip", &["link", "del", &self.link(at)], "");
        }
        let _ = run("ip", &["link", "del", &self.bridge()], "");
    }
}

#[async_trait]
impl Net for Namespaces {
    fn describe(&self) -> String {
        let delay = if self.netem { "netem" } else { "no netem: delay is a slow link" };
        format!("network namespaces on {} ({delay})", self.host(1))
    }

    fn can_delay(&self) -> bool {
        self.netem
    }

    fn database_host(&self) -> String {
        self.host(1).to_string()
    }

    async fn attach_database(&mut self, address: &str) -> anyhow::Result<()> {
        let found: Vec<_> = tokio::net::lookup_host(address)
            .await
            .with_context(|| format!("the database's address {address} can't be resolved"))?
            .collect();
        let own = self.host(1);
        let direct = found.iter().find_map(|found| match found {
            std::net::SocketAddr::V4(found) if *found.ip() == own => Some(*found),
            _ => None,
        });
        self.database = match direct {
            Some(address) => Some(address),
            None => {
                let relay = Relay::start((own, 0).into(), address.to_owned(), None, None).await?;
                let port = relay.address().port();
                self.relay = Some(relay);
                Some(SocketAddrV4::new(own, port))
            }
        };
        Ok(())
    }

    fn setting(&self, at: usize) -> (NodeSetting, Option<String>) {
        let ip = self.address_of(Place::Node(at));
        let listen = Addresses {
            http: format!("{ip}:{HTTP}"),
            tcp: format!("{ip}:{TCP}"),
            line: format!("{ip}:{LINE}"),
            admin: format!("{ip}:{ADMIN}"),
            cluster: format!("{ip}:{CLUSTER}"),
        };
        let launcher = ["ip", "netns", "exec", &self.namespace(at)].map(str::to_owned).into();
        let setting = NodeSetting { launcher, listen: Some(listen), ..NodeSetting::default() };
        (setting, self.database.map(|address| address.to_string()))
    }

    fn weather(&mut self) -> &mut Weather {
        &mut self.weather
    }

    async fn apply(&mut self) -> anyhow::Result<()> {
        let (weather, applied) = (self.weather.clone(), self.applied.clone());
        for at in 0..self.nodes {
            if self.rules(at, &weather) != self.rules(at, &applied) {
                self.load_rules(at, &weather)?;
            }
            if weather.bad_links.get(&at) != applied.bad_links.get(&at) {
                self.limit_link(at, &weather)?;
            }
        }
        self.applied = weather;
        Ok(())
    }

    async fn end(&mut self) {
        self.relay = None;
        self.remove();
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Runs a program with this input. These take milliseconds, so that callers may block for them.
fn run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    output_of(program, arguments, input).map(drop)
}

fn output_of(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("'{}' can't be run", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says why it failed.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("'{}' can't be run", shown()))?;
    if !output.status.success() {
        bail!("'{}' failed: {}", shown(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A subnet that no interface of this machine is in.
fn free_subnet() -> anyhow::Result<[u8; 3]> {
    let taken = output_of("ip", &["-o", "-4", "addr"], "")?;
    for _ in 0..SUBNETS_TRIED {
        let subnet = [198, rand::random_range(18..=19), rand::random_range(1..=254)];
        let [a, b, c] = subnet;
        if !taken.contains(&format!("{a}.{b}.{c}.")) {
            return Ok(subnet);
        }
    }
    bail!("no subnet of 198.18.0.0/15 is free")
}

/// The process whose name a namespace or a bridge bears, if it is one of ours.
fn owner_of(name: &str) -> Option<u32> {
    let tag = name.strip_prefix(PREFIX)?.get(..TAG_DIGITS)?;
    let kind = name.get(PREFIX.len() + TAG_DIGITS..)?;
    let digits = tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let known = kind == "b" || kind.strip_prefix('n').is_some_and(|at| at.parse::<usize>().is_ok());
    if digits && known { u32::from_str_radix(&tag[..6], 16).ok() } else { None }
}

/// Removes what processes of ours that are no more have left.
fn remove_leftovers() {
    let is_dead = |name: &str| {
        owner_of(name).is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    };
    // Where these can't be listed, nothing can be made either, and the caller is told by that.
    for line in output_of("ip", &["netns", "list"], "").unwrap_or_default().lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_dead(name) {
            // Nodes end with the run that started them, but for one that stood still at that moment.
            for pid in output_of("ip", &["netns", "pids", name], "").unwrap_or_default().split_whitespace() {
                if let Ok(pid) = pid.parse() {
                    // It may have ended meanwhile.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = run("ip", &["netns", "del", name], "");
        }
    }
    for line in output_of("ip", &["-o", "link", "show", "type", "bridge"], "").unwrap_or_default().lines() {
        let name = line.split(": ").nth(1).unwrap_or_default();
        if is_dead(name) {
            let _ = run("ip", &["link", "del", name], "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Way;
    use super::*;

    fn unmade() -> Namespaces {
        Namespaces {
            tag: "rk00000a00b".to_owned(),
            subnet: [198, 18, 7],
            nodes: 3,
            netem: false,
            weather: Weather::default(),
            applied: Weather::default(),
            database: Some(SocketAddrV4::new(Ipv4Addr::new(198, 18, 7, 1), 3306)),
            relay: None,
            // There is nothing to remove.
            ended: true,
        }
    }

    #[test]
    fn a_cut_is_dropped_where_it_arrives() {
        let mut net = unmade();
        let Weather { cuts, .. } = &mut net.weather;
        cuts.insert((Place::Node(0), Place::Node(1)));
        cuts.insert((Place::Node(1), Place::Database));
        let weather = net.weather.clone();
        let rules = net.rules(1, &weather);
        assert!(rules.contains("ip saddr 198.18.7.11 drop"), "{rules}");
        assert!(rules.contains("ip daddr 198.18.7.1 tcp dport 3306 drop"), "{rules}");
        assert!(!rules.contains("sport"), "the answers pass: {rules}");
        assert!(!net.rules(0, &weather).contains("drop"), "one way only");
    }

    #[test]
    fn loss_is_between_nodes() {
        let mut net = unmade();
        net.weather.loss = 7;
        let rules = net.rules(2, &net.weather.clone());
        assert!(
            rules.contains("ip saddr { 198.18.7.11, 198.18.7.12 } numgen random mod 100 < 7 drop"),
            "{rules}"
        );
        assert_ne!(Way::Both, Way::There);
    }

    #[test]
    fn only_names_of_ours_are_taken_for_leftovers() {
        assert_eq!(owner_of("rk00000a00bn12"), Some(10));
        assert_eq!(owner_of("rk00000a00bb"), Some(10));
        for other in ["rk", "rkette", "rk00000a00b", "rk00000A00bb", "rk00000a00bx", "docker0"] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }
}
