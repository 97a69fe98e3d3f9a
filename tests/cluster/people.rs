//! Users, their groups and their devices, and the traffic between them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rookery::client::{Rest, Transport};
use tokio::sync::watch;

use crate::checker::{Checker, Summary, Target};
use crate::device::{Device, DeviceSpec, Endpoints, Troubles, sync_from_zero};
use crate::world::{Cluster, eventually};

/// The password of all.
pub const PASSWORD: &str = "correct horse";
/// How long what is sent in calm may take to reach everybody live.
const LIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Sends of one user under way at once.
const WINDOW: usize = 3;
/// Sign-ups, sign-ins and syncs under way at once.
const CALLS_AT_ONCE: usize = 8;

/// The transports of raw connections.
pub const TRANSPORTS: [Transport; 3] = [Transport::WebSocketJson, Transport::WebSocketProto, Transport::Tcp];

/// A signed-up user with the token of a device.
#[derive(Clone, Debug)]
pub struct Person {
    /// What the user signs in with, besides [`PASSWORD`].
    pub username: String,
    /// Who.
    pub user_id: u64,
    /// Of the first device.
    pub token: String,
}

impl Person {
    /// Signs up and in.
    pub async fn new(rest: &Rest, username: &str) -> Self {
        rest.sign_up(username, PASSWORD, "").await.expect("the name is free");
        let token = Self::sign_in(rest, username).await;
        Self { username: username.to_owned(), user_id: token.user_id, token: token.token }
    }

    async fn sign_in(rest: &Rest, username: &str) -> rookery::client::rest::SignedIn {
        rest.sign_in(username, PASSWORD, "test").await.expect("the account was just made")
    }

    /// The token of one more device.
    pub async fn another_token(&self, rest: &Rest) -> String {
        Self::sign_in(rest, &self.username).await.token
    }
}

/// Everybody in a test.
pub struct People {
    /// All, by place.
    pub all: Vec<Person>,
    /// Conversation ids and the places of their members.
    pub groups: Vec<(u64, Vec<usize>)>,
    /// Who judges.
    pub checker: Arc<Checker>,
    /// Who counts.
    pub troubles: Arc<Troubles>,
    /// Where the nodes are.
    pub endpoints: Endpoints,
    seed: u64,
}

/// One send of the plan.
#[derive(Clone, Debug)]
struct Step {
    target: Target,
    client_id: String,
    text: String,
    /// Sent once more after its answer.
    again: bool,
}

/// How far the traffic may go and has gone, as a share of its steps in percent.
pub struct Traffic {
    users: Vec<tokio::task::JoinHandle<()>>,
    allowed: watch::Sender<usize>,
    done: watch::Receiver<usize>,
    total: usize,
}

impl People {
    /// Signs `count` users up, spread over the nodes.
    pub async fn new(cluster: &Cluster, seed: u64, count: usize) -> Self {
        let endpoints = Endpoints::default();
        for node in cluster.nodes() {
            endpoints.add(node.addresses());
        }
        let addresses = cluster.http_addresses();
        let signing_up = (0..count).map(|at| {
            let rest = Rest::new([addresses[at % addresses.len()].clone()]);
            async move { Person::new(&rest, &format!("user{at}")).await }
        });
        let all = stream::iter(signing_up).buffered(CALLS_AT_ONCE).collect().await;
        let checker = Arc::new(Checker::new(seed));
        Self { all, groups: Vec::new(), checker, troubles: Arc::default(), endpoints, seed }
    }

    /// Makes a group; the first of `members` (places) creates it.
    pub async fn group(&mut self, rest: &Rest, members: &[usize]) -> u64 {
        let creator = &self.all[members[0]];
        let others: Vec<u64> = members[1..].iter().map(|at| self.all[*at].user_id).collect();
        let name = format!("group of {}", members.len());
        let made = rest.with_token(&creator.token).create_group(&name, "", "open", &others).await;
        let id = made.expect("a group can be made").conversation_id;
        self.checker.group(id, members.iter().map(|at| self.all[*at].user_id));
        self.groups.push((id, members.to_vec()));
        id
    }

    /// How a device of the user at this place connects.
    pub fn spec(&self, at: usize, transport: Transport, home: usize) -> DeviceSpec {
        DeviceSpec {
            user_id: self.all[at].user_id,
            token: self.all[at].token.clone(),
            transport,
            home,
            endpoints: self.endpoints.clone(),
            checker: Arc::clone(&self.checker),
            troubles: Arc::clone(&self.troubles),
        }
    }

    /// Starts the first device of each user in `places`, spread over `nodes` nodes and all transports.
    pub async fn devices(&self, places: std::ops::Range<usize>, nodes: usize) -> Vec<Arc<Device>> {
        let starting = places.map(|at| {
            let transport = TRANSPORTS[(at / nodes) % TRANSPORTS.len()];
            async move { Arc::new(Device::start(self.spec(at, transport, at % nodes)).await) }
        });
        stream::iter(starting).buffered(CALLS_AT_ONCE).collect().await
    }

    /// Starts the traffic: `steps` sends of each device, to peers (all users, the silent ones too) and groups. It may go
    /// on to `allowed` percent at first.
    pub fn traffic(&self, devices: &[Arc<Device>], steps: usize, allowed: usize) -> Traffic {
        let (allow, allowed) = watch::channel(allowed);
        let (count, done) = watch::channel(0);
        let users = devices.iter().enumerate().map(|(at, device)| {
            let (device, plan) = (Arc::clone(device), self.plan(at, steps));
            let (allowed, count) = (allowed.clone(), count.clone());
            let checker = Arc::clone(&self.checker);
            tokio::spawn(async move {
                let walk = stream::iter(plan.into_iter().enumerate()).map(|(number, step)| {
                    let (device, checker) = (Arc::clone(&device), Arc::clone(&checker));
                    let (mut allowed, count) = (allowed.clone(), count.clone());
                    async move {
                        // The sender ends only with the test.
                        let _ = allowed.wait_for(|percent| number * 100 < *percent * steps).await;
                        take(&device, &checker, &step).await;
                        count.send_modify(|done| *done += 1);
                    }
                });
                walk.buffer_unordered(WINDOW).collect::<Vec<()>>().await;
            })
        });
        Traffic { users: users.collect(), allowed: allow, done, total: devices.len() * steps }
    }

    fn plan(&self, at: usize, steps: usize) -> Vec<Step> {
        let mut random =
            StdRng::seed_from_u64(self.seed ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let own: Vec<u64> =
            self.groups.iter().filter(|(_, members)| members.contains(&at)).map(|(id, _)| *id).collect();
        // A few peers each, so that conversations have some length.
        let mut peers: Vec<u64> = self.all.iter().map(|person| person.user_id).collect();
        peers.retain(|id| *id != self.all[at].user_id);
        peers.shuffle(&mut random);
        peers.truncate(4);
        let step = |number: usize| {
            let group = own.choose(&mut random).filter(|_| number.is_multiple_of(2));
            let target = match (group, peers.choose(&mut random)) {
                (Some(id), _) => Target::Conversation(*id),
                (None, Some(id)) => Target::User(*id),
                (None, None) => panic!("a user alone has nobody to write to"),
            };
            Step {
                target,
                client_id: format!("{at}-{number}-{:08x}", random.random::<u32>()),
                text: text(&mut random, at, number),
                again: random.random_ratio(1, 12),
            }
        };
        (0..steps).map(step).collect()
    }

    /// In calm, a message to each group reaches each member with a live device, live.
    pub async fn all_are_reached_live(&self, devices: &[Arc<Device>]) {
        let sending = self.groups.iter().enumerate().map(|(number, (id, members))| async move {
            let sender =
                members.iter().find_map(|at| devices.get(*at)).expect("somebody of each group is live");
            let sent = sender.send(Target::Conversation(*id), &format!("calm-{number}"), "in calm").await;
            (*id, sent.seq)
        });
        for (id, seq) in join_all(sending).await {
            self.reaches_all_live(devices, id, seq).await;
        }
    }

    /// A message of a group reaches each member with a live device, live.
    pub async fn reaches_all_live(&self, devices: &[Arc<Device>], id: u64, seq: u64) {
        let live: BTreeSet<u64> = devices.iter().map(|device| device.user_id).collect();
        let wanted: BTreeSet<u64> = self.checker.members(id).intersection(&live).copied().collect();
        let what = format!("seq {seq} of conversation {id} is pushed to all of {wanted:?}");
        eventually(LIVE_TIMEOUT, what, || async {
            wanted.is_subset(&self.checker.users_with(id, seq)).then_some(())
        })
        .await;
    }

    /// Every user syncs from 0 through some node of `homes`, and the checker gives its verdict.
    pub async fn judge(&self, homes: &[usize]) -> Summary {
        let syncing = self.all.iter().enumerate().map(|(at, person)| async move {
            let transport = TRANSPORTS[at % TRANSPORTS.len()];
            let endpoint = self.endpoints.get(homes[at % homes.len()], transport);
            // A device of its own: those that are connected stay so.
            let rest = Rest::new([self.endpoints.get(homes[at % homes.len()], Transport::WebSocketJson)]);
            let token = person.another_token(&rest).await;
            let synced = sync_from_zero(&endpoint, transport, &token, &self.checker).await;
            if let Err(error) = synced {
                panic!("{} can't sync at {endpoint} by {transport:?}: {error}", person.username);
            }
        });
        stream::iter(syncing).buffer_unordered(CALLS_AT_ONCE).collect::<Vec<()>>().await;
        self.checker.judge()
    }

    /// One line for the test's output.
    pub fn describe_troubles(&self) -> String {
        let Troubles { refused, unanswered, go_aways, reasons, .. } = &*self.troubles;
        format!(
            "{} sends refused for now {:?}, {} unanswered, {} go_away",
            refused.load(Ordering::Relaxed),
            reasons.lock().unwrap_or_else(PoisonError::into_inner),
            unanswered.load(Ordering::Relaxed),
            go_aways.load(Ordering::Relaxed)
        )
    }
}

/// Sends a step until it is acknowledged, and where the plan says so once more.
async fn take(device: &Device, checker: &Checker, step: &Step) {
    let Step { target, client_id, text, again } = step;
    let sent = device.send(*target, client_id, text).await;
    if *again {
        let repeated = device.send(*target, client_id, text).await;
        if !repeated.duplicate || repeated.seq != sent.seq {
            checker.complain(format!("the repeat of {sent:?} was answered with {repeated:?}"));
        }
    }
}

/// A text with letters that framings like to break, of any length up to some hundred bytes.
fn text(random: &mut StdRng, at: usize, number: usize) -> String {
    const PIECES: [&str; 8] = ["rook", " ", "\n", "\\", "\"quoted\"", "Türme", "城", "🏰"];
    let mut text = format!("{at}/{number}:");
    for _ in 0..random.random_range(0..30) {
        text.push_str(PIECES.choose(random).expect("there are pieces"));
    }
    // Ends in a letter, since a line of text may lose spaces at its end.
    text.push('.');
    text
}

impl Traffic {
    /// Lets it go on to `percent`.
    pub fn allow(&self, percent: usize) {
        self.allowed.send_replace(percent);
    }

    /// Waits until `percent` of all sends are acknowledged.
    pub async fn reached(&mut self, percent: usize) {
        let wanted = self.total * percent / 100;
        self.done.wait_for(|done| *done >= wanted).await.expect("the traffic goes on until it is done");
    }

    /// Sends acknowledged so far.
    pub fn so_far(&self) -> usize {
        *self.done.borrow()
    }

    /// Waits until more than so many are acknowledged.
    pub async fn goes_beyond(&mut self, so_far: usize) {
        self.done.wait_for(|done| *done > so_far).await.expect("the traffic goes on until it is done");
    }

    /// Lets it go to its end, and waits for that.
    pub async fn finish(self) {
        self.allow(100);
        for user in self.users {
            user.await.expect("a user's traffic ends well");
        }
    }
}

/// Ends devices that nobody else holds.
pub async fn stop(devices: Vec<Arc<Device>>) {
    join_all(devices.into_iter().map(|device| async move {
        Arc::into_inner(device).expect("the traffic has ended").stop().await;
    }))
    .await;
}
