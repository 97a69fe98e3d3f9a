//! One run: a cluster and its users, faults from the seed, then calm, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery::cluster::NodeState;
use rookery::protocol::JoinPolicy;
use rookery::services::tokens::token_hash;
use rookery::storage::memory::MemoryStores;
use rookery::storage::{
    AccountStore as _, ConversationStore as _, DeviceRecord, MemberRecord, MessageStore as _, NewGroup,
    UserRecord,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::device::{Command, Device, Handle};
use crate::faults;
use crate::network::Net;
use crate::node::{Node, name};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::stores::Weather;
use crate::trace::Trace;

/// When a run begins, in Unix milliseconds.
pub const BEGAN_MS: u64 = 1_700_000_000_000;
/// How long a cluster that nothing disturbs may take to come to rest: views, sessions, directory, repeats and syncs.
const SETTLE_MAX: Duration = Duration::from_secs(25);
/// How long a message may take to every connected device, once all is at rest.
const PUSH_MAX: Duration = Duration::from_secs(3);

/// More than there are ever ids: of users, devices and conversations.
const IDS_MAX: u64 = 60;

/// What the world is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everybody does what the seed says.
    Wild,
    /// Nothing new but what the judgement needs.
    Calm,
}

pub struct World {
    pub node_count: usize,
    pub rng: Mutex<Rng>,
    pub late_percent: u64,
    pub trace: Arc<Trace>,
    pub oracle: Arc<Oracle>,
    pub net: Net,
    pub memory: MemoryStores,
    pub weather: Arc<Mutex<Weather>>,
    pub nodes: Mutex<Vec<Option<Arc<Node>>>>,
    phase: AtomicU8,
    calmed: Notify,
    users: Mutex<Vec<u64>>,
    groups: Mutex<Vec<u64>>,
}

impl World {
    fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let node_count = rng.range(2, 4) as usize;
        let net = Net::new(rng.fork(), (0, rng.range(1, 12)));
        let weather = Weather::new(rng.fork(), (0, rng.range(0, 6)));
        let oracle = Arc::new(Oracle::new(trace.clone()));
        Arc::new(Self {
            node_count,
            late_percent: rng.range(0, 3) * 10,
            rng: Mutex::new(rng),
            oracle,
            trace,
            net,
            memory: MemoryStores::default(),
            weather: Arc::new(Mutex::new(weather)),
            nodes: Mutex::new((0..node_count).map(|_| None).collect()),
            phase: AtomicU8::new(Phase::Wild as u8),
            calmed: Notify::new(),
            users: Mutex::default(),
            groups: Mutex::default(),
        })
    }

    pub fn phase(&self) -> Phase {
        if self.phase.load(Ordering::Relaxed) == Phase::Wild as u8 { Phase::Wild } else { Phase::Calm }
    }

    /// Nothing new from now on.
    pub fn calm(&self) {
        self.trace.note("calm");
        self.phase.store(Phase::Calm as u8, Ordering::Relaxed);
        self.calmed.notify_waiters();
    }

    /// Returns when it is calm.
    pub async fn calmed(&self) {
        while self.phase() == Phase::Wild {
            self.calmed.notified().await;
        }
    }

    pub fn users(&self) -> Vec<u64> {
        self.users.lock().clone()
    }

    pub fn groups(&self) -> Vec<u64> {
        self.groups.lock().clone()
    }

    /// The nodes that clients may come to.
    pub fn open_nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().iter().flatten().filter(|node| node.takes_clients()).cloned().collect()
    }

    /// The nodes that live.
    pub fn live_nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().iter().flatten().filter(|node| !node.life.is_over()).cloned().collect()
    }

    pub fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.nodes.lock()[index].clone().filter(|node| !node.life.is_over())
    }

    /// Starts a node that does not live.
    pub async fn start_node(self: &Arc<Self>, index: usize) {
        self.net.revive(index);
        let node = Node::start(self, index).await;
        self.nodes.lock()[index] = Some(node);
    }

    /// The conversations of which a user is a member.
    pub fn memberships(&self, user_id: u64) -> Vec<u64> {
        self.members()
            .into_iter()
            .filter(|member| member.user_id == user_id)
            .map(|m| m.conversation_id)
            .collect()
    }

    /// All members of all conversations.
    fn members(&self) -> Vec<MemberRecord> {
        // Ids count up over everything that is stored, and a conversation has members as long as it has messages.
        let of = |id| now(self.memory.members(id)).unwrap_or_default();
        (1..=IDS_MAX).flat_map(of).collect()
    }
}

/// The answer of an in-memory store, which never waits.
fn now<T>(call: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(call).expect("the in-memory stores don't wait")
}

/// A run of one seed. The error is the rule that was broken.
pub async fn run(seed: u64, trace: Arc<Trace>) -> Result<(), String> {
    let world = World::new(seed, trace);
    let devices = world.begin().await;
    world.until("the first views agree", SETTLE_MAX, async || world.views_agree()).await?;
    faults::play(&world).await?;
    world.until("all comes to rest", SETTLE_MAX, async || world.at_rest(&devices).await).await?;
    world.probe(&devices).await?;
    world.until("all comes to rest again", SETTLE_MAX, async || world.at_rest(&devices).await).await?;
    world.compare(&devices)?;
    world.read_all(&devices).await?;
    for device in &devices {
        let _ = device.commands.send(Command::Leave);
    }
    world.until("nothing is left behind", SETTLE_MAX, async || world.is_empty().await).await
}

impl World {
    /// Users, groups, nodes and devices.
    async fn begin(self: &Arc<Self>) -> Vec<Handle> {
        let (users, groups) = {
            let mut rng = self.rng.lock();
            (rng.range(2, 4), rng.range(1, 3))
        };
        let mut tokens = Vec::new();
        for number in 0..users {
            let user = UserRecord { username: format!("user{number}"), ..UserRecord::default() };
            let user = now(self.memory.create_user(user)).expect("the name is free");
            self.users.lock().push(user.id);
            for which in 0..self.rng.lock().range(1, 2) {
                let token = format!("token-{number}-{which}");
                let device = DeviceRecord {
                    user_id: user.id,
                    name: format!("d{which}"),
                    expires_at_ms: u64::MAX >> 12,
                    ..DeviceRecord::default()
                };
                let hash = token_hash(&token).expect("it is short and not empty");
                now(self.memory.create_device(device, &hash)).expect("the token is new");
                tokens.push((user.id, format!("u{}d{which}", user.id), token));
            }
        }
        for number in 0..groups {
            let mut members = self.users();
            members.retain(|_| self.rng.lock().chance(80));
            let Some(owner_id) = members.pop() else { continue };
            let group = NewGroup {
                owner_id,
                name: format!("group {number}"),
                description: String::new(),
                join_policy: JoinPolicy::Open,
                member_ids: members,
                client_id: String::new(),
                now_ms: BEGAN_MS,
            };
            let group = now(self.memory.create_group(group)).expect("nothing is in the way");
            self.groups.lock().push(group.id);
        }
        for index in 0..self.node_count {
            self.start_node(index).await;
            let pause = self.rng.lock().range(0, 300);
            sleep(Duration::from_millis(pause)).await;
        }
        tokens.into_iter().map(|(user_id, label, token)| Device::start(self, user_id, label, token)).collect()
    }

    /// Lets time pass until it holds. The error is a broken rule, or that it takes too long.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            let Err(why) = holds().await else {
                self.trace.note(what);
                return Ok(());
            };
            if Instant::now() >= deadline {
                self.trace.violated(format_args!("{what} within {limit:?}: {why}"));
                return self.check();
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether a rule was broken, or something panicked.
    pub fn check(&self) -> Result<(), String> {
        if let Some(panic) = crate::take_panic() {
            self.trace.violated(format_args!("nothing panics: {panic}"));
        }
        self.trace.violation().map_or(Ok(()), Err)
    }

    /// Every live node sees all live nodes up, in their present lives, and no others.
    fn views_agree(&self) -> Result<(), String> {
        let live = self.live_nodes();
        let expected: BTreeSet<(String, u64)> =
            live.iter().map(|node| (name(node.index), node.cluster.incarnation())).collect();
        for node in &live {
            let view = node.cluster.view();
            let present = view.nodes.iter().filter(|other| other.state != NodeState::Down);
            let seen: Vec<String> = present
                .clone()
                .map(|other| format!("{}:{}", other.info.name, other.state.as_str()))
                .collect();
            let up: BTreeSet<(String, u64)> = present
                .filter(|other| other.state == NodeState::Up)
                .map(|other| (other.info.name.clone(), other.info.incarnation))
                .collect();
            if up != expected || seen.len() != expected.len() {
                return Err(format!("n{} sees {seen:?} of {} nodes", node.index, expected.len()));
            }
        }
        Ok(())
    }

    /// Nothing is on its way, and the directory tells the truth.
    async fn at_rest(&self, devices: &[Handle]) -> Result<(), String> {
        self.views_agree()?;
        let mut sessions = BTreeMap::new();
        for device in devices {
            let seen = device.seen.lock();
            let Some((node, session)) = seen.connected else {
                return Err(format!("a device of u{} is not connected", device.user_id));
            };
            if seen.unanswered > 0 || !seen.synced {
                let (unanswered, synced) = (seen.unanswered, seen.synced);
                return Err(format!(
                    "a device of u{} has {unanswered} sends unanswered, synced: {synced}",
                    device.user_id
                ));
            }
            sessions.insert(session, node);
        }
        self.tables_hold(&sessions)?;
        self.directory_holds(&sessions).await
    }

    /// The nodes hold these sessions and no others, and no link has a queue.
    fn tables_hold(&self, sessions: &BTreeMap<u64, usize>) -> Result<(), String> {
        for node in self.live_nodes() {
            let (held, _, _) = node.actors.counts();
            let expected = sessions.values().filter(|index| **index == node.index).count();
            if held != expected {
                return Err(format!("n{} holds {held} sessions, not {expected}", node.index));
            }
            let queued: u64 = node.cluster.nodes().iter().map(|other| other.queued_items).sum();
            let open = node.cluster.open_questions();
            if queued + open > 0 {
                return Err(format!("n{} has {queued} items queued and {open} questions open", node.index));
            }
        }
        Ok(())
    }

    /// The directory, asked from every node, lists these sessions, each once.
    async fn directory_holds(&self, sessions: &BTreeMap<u64, usize>) -> Result<(), String> {
        let users = self.users();
        for node in self.live_nodes() {
            let found = node
                .actors
                .presence()
                .sessions_of(&users)
                .await
                .map_err(|error| format!("the directory does not answer n{}: {error:?}", node.index))?;
            let count = found.len();
            let listed: BTreeSet<(u64, String)> =
                found.into_iter().map(|record| (record.session_id, record.node)).collect();
            let expected: BTreeSet<(u64, String)> =
                sessions.iter().map(|(session, index)| (*session, name(*index))).collect();
            if listed != expected || count != expected.len() {
                return Err(format!(
                    "asked by n{}, the directory lists {count} sessions; too many: {:?}, missing: {:?}",
                    node.index,
                    listed.difference(&expected).collect::<Vec<_>>(),
                    expected.difference(&listed).collect::<Vec<_>>()
                ));
            }
        }
        Ok(())
    }

    /// A message to each conversation comes to every device of its members by itself.
    async fn probe(&self, devices: &[Handle]) -> Result<(), String> {
        let members = self.members();
        let conversations: BTreeSet<u64> = members.iter().map(|member| member.conversation_id).collect();
        let mut probes = Vec::new();
        for id in conversations {
            let of = |device: &Handle| {
                members.iter().any(|m| m.conversation_id == id && m.user_id == device.user_id)
            };
            let candidates: Vec<usize> = (0..devices.len()).filter(|at| of(&devices[*at])).collect();
            let Some(sender) = self.rng.lock().pick(&candidates).copied() else { continue };
            let client_id = format!("probe-{id}");
            let _ = devices[sender].commands.send(Command::Send(id, client_id.clone()));
            let others: Vec<usize> = candidates.into_iter().filter(|at| *at != sender).collect();
            probes.push((id, client_id, sender, others));
        }
        let arrived = async || {
            for (id, client_id, sender, others) in &probes {
                let own = devices[*sender].seen.lock();
                if !own.given.get(id).is_some_and(|given| given.values().any(|given| *given == *client_id)) {
                    return Err(format!("{client_id} is not answered"));
                }
                drop(own);
                for at in others {
                    if !devices[*at].seen.lock().pushed.contains(&(*id, client_id.clone())) {
                        return Err(format!(
                            "{client_id} is not pushed to a device of u{}",
                            devices[*at].user_id
                        ));
                    }
                }
            }
            Ok(())
        };
        self.until("live delivery reaches every device", PUSH_MAX, arrived).await
    }

    /// Every device was given the whole log, from where its user may see it.
    fn compare(&self, devices: &[Handle]) -> Result<(), String> {
        let members = self.members();
        for id in members.iter().map(|member| member.conversation_id).collect::<BTreeSet<u64>>() {
            if now(self.memory.after(id, 0, u32::MAX)).as_ref() != Ok(&self.oracle.log(id)) {
                self.trace
                    .violated(format_args!("messages are what their log made of them: not those of {id}"));
            }
        }
        for device in devices {
            let seen = device.seen.lock();
            for member in members.iter().filter(|member| member.user_id == device.user_id) {
                let id = member.conversation_id;
                let last = self.oracle.last_seq(id);
                let given = seen.given.get(&id);
                let missing =
                    (member.first_seq..=last).find(|seq| given.is_none_or(|given| !given.contains_key(seq)));
                if let Some(seq) = missing {
                    self.trace.violated(format_args!(
                        "everything is fetched: a device of u{} was never given {id}/{seq} (of {}..={last})",
                        device.user_id, member.first_seq
                    ));
                }
            }
        }
        self.check()
    }

    /// Reads that were confirmed are stored.
    async fn read_all(&self, devices: &[Handle]) -> Result<(), String> {
        for device in devices {
            let _ = device.commands.send(Command::ReadAll);
        }
        let stored = async || {
            for member in self.members() {
                let (id, last) = (member.conversation_id, self.oracle.last_seq(member.conversation_id));
                let has_device = devices.iter().any(|device| device.user_id == member.user_id);
                if has_device && member.read_seq < last {
                    return Err(format!(
                        "u{} has read {id} up to {} of {last}",
                        member.user_id, member.read_seq
                    ));
                }
            }
            Ok(())
        };
        self.until("what is read is stored", PUSH_MAX, stored).await?;
        let members = self.members();
        for device in devices {
            for (id, seq) in &device.seen.lock().read {
                let stored = members
                    .iter()
                    .find(|m| m.conversation_id == *id && m.user_id == device.user_id)
                    .map(|member| member.read_seq);
                if stored.is_some_and(|stored| stored < *seq) {
                    self.trace.violated(format_args!(
                        "a read that was confirmed is stored: u{} read {id}/{seq}",
                        device.user_id
                    ));
                }
            }
        }
        self.check()
    }

    /// No session and no room is left, nor anything queued.
    async fn is_empty(&self) -> Result<(), String> {
        let nobody = BTreeMap::new();
        self.tables_hold(&nobody)?;
        for node in self.live_nodes() {
            let (_, rooms, _) = node.actors.counts();
            if rooms > 0 {
                return Err(format!("n{} still has {rooms} rooms", node.index));
            }
        }
        self.directory_holds(&nobody).await
    }
}
