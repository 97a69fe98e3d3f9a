//! A node of the tests: takes part in a cluster, owns actors that echo, and does what its standard input says, one line
//! at a time. It ends when its standard input does, so that no node outlives its test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rookery::cluster::{Address, Cluster, Inbound, ReplyTo, Turn};
use rookery::config::Config;
use rookery::domain::Error;
use rookery::protocol::cluster::{
    Describe, Forget, NodeReply, NodeRequest, PlacementQuery, Reply, Request, RoomReply, RoomRequest,
    node_reply, node_request, reply, request, room_reply, room_request,
};
use rookery::protocol::v1;
use tokio::sync::mpsc;

/// Set in the environment of a process that is to be a node.
pub const NODE: &str = "ROOKERY_LINK_TEST_NODE";
/// Begins every line that a node says; the test harness prints lines of its own.
pub const PREFIX: &str = "node> ";

const DEADLINE: Duration = Duration::from_secs(5);

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub config: Config,
    pub journal: String,
    /// When its clock begins, in Unix milliseconds; 0: it goes right.
    pub clock_ms: u64,
}

impl Settings {
    /// The journal and the clock, then the configuration as TOML.
    pub fn to_text(&self) -> String {
        let config = toml::to_string(&self.config).expect("the configuration is plain data");
        format!("{}\n{}\n{config}", self.journal, self.clock_ms)
    }

    fn from_text(text: &str) -> Self {
        let mut parts = text.splitn(3, '\n');
        let mut next = || parts.next().expect("the harness writes all three");
        let (journal, clock_ms) = (next().to_owned(), next().parse().expect("the harness writes a number"));
        let config = toml::from_str(next()).expect("the harness writes what it has read");
        Self { config, journal, clock_ms }
    }
}

pub fn run_if_asked() {
    let Ok(text) = std::env::var(NODE) else { return };
    let settings = Settings::from_text(&text);
    let filter = std::env::var("ROOKERY_LINK_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(format!("{filter},{}", rookery::cluster::LOG_FILTER))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system has threads");
    runtime.block_on(run(settings));
    std::process::exit(0);
}

fn say(line: &str) {
    // Nobody reads on when the test has ended.
    let _ = writeln!(std::io::stdout().lock(), "\n{PREFIX}{line}");
}

async fn run(settings: Settings) {
    let journal = File::options().append(true).create(true).open(&settings.journal);
    let journal = Some(journal.expect("the test has made a folder"));
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    if settings.clock_ms > 0 {
        // Of this thread, which is the one that binds.
        rookery::clock::simulate(settings.clock_ms);
    }
    let cluster = Cluster::bind(&settings.config).await.expect("the settings are sound and the port is free");
    let echo = Arc::new(Echo { name: cluster.name().to_owned(), journal, ..Echo::default() });
    cluster.start(echo.clone(), cluster.info()).await.expect("it is started once");
    say(&format!("address {}", cluster.local_address()));
    let history = Arc::new(History::default());
    tokio::spawn(history.clone().keep_writing(cluster.clone()));
    let mut node = Node { cluster, echo, history, stream: None, flow: None };
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        if let Some(answer) = Box::pin(node.obey(&words)).await {
            say(&format!("answer {answer}"));
        }
    }
}

struct Node {
    cluster: Cluster,
    echo: Arc<Echo>,
    history: Arc<History>,
    stream: Option<(Arc<AtomicBool>, tokio::task::JoinHandle<String>)>,
    flow: Option<(Arc<AtomicBool>, tokio::task::JoinHandle<String>)>,
}

impl Node {
    async fn obey(&mut self, words: &[&str]) -> Option<String> {
        let number = |at: usize| words[at].parse::<u64>().expect("the test says a number");
        let cluster = &self.cluster;
        Some(match words[0] {
            "view" => {
                let nodes = cluster.view().nodes.clone();
                let words: Vec<String> =
                    nodes.iter().map(|node| format!("{}:{}", node.info.name, node.state.as_str())).collect();
                words.join(" ")
            }
            "owners" => {
                let view = cluster.view();
                let mut counts = BTreeMap::new();
                for key in 0..number(1) {
                    let owner = view.owner(&Address::room(key)).unwrap_or("nobody").to_owned();
                    *counts.entry(owner).or_insert(0) += 1;
                }
                let words: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name}:{count}")).collect();
                words.join(" ")
            }
            "incarnation" => {
                cluster.view().node(words[1]).map_or(0, |node| node.info.incarnation).to_string()
            }
            "counter" => {
                let all = cluster.counters().all();
                let found = all.iter().find(|(name, _)| *name == words[1]);
                found.expect("the test names a counter").1.to_string()
            }
            "asked" => self.echo.asked.load(Ordering::Relaxed).to_string(),
            "told" => self.echo.told.load(Ordering::Relaxed).to_string(),
            "tell" => {
                for key in 0..number(1) {
                    cluster.tell(Address::room(key), request(0, key));
                }
                "told".to_owned()
            }
            "big" => {
                let text = "x".repeat(number(1) as usize);
                let key = remote_key(cluster);
                let send = v1::Send { text, ..v1::Send::default() };
                let command = Some(room_request::Command::Send(send));
                let room = RoomRequest { command, ..RoomRequest::default() };
                match ask(cluster, key, Request { request: Some(request::Request::Room(room)) }).await {
                    Ok(_) => format!("ok {}", number(1)),
                    Err(error) => format!("{:?} {error}", error.code),
                }
            }
            "ask_node" => {
                let (reply, answer) = ReplyTo::channel();
                let command = Some(node_request::Command::Placement(PlacementQuery::default()));
                cluster.ask_node(words[1], NodeRequest { command }, DEADLINE, reply);
                match answer.await {
                    Ok(NodeReply { reply: Some(node_reply::Reply::Json(text)) }) => text,
                    Ok(other) => format!("{other:?}"),
                    Err(error) => format!("{:?} {error}", error.code),
                }
            }
            "flood" => flood(cluster, number(1), number(2)).await,
            "stream" => {
                let stop = Arc::new(AtomicBool::new(false));
                let task = tokio::spawn(stream(cluster.clone(), number(1), stop.clone()));
                self.stream = Some((stop, task));
                return None;
            }
            "stop_stream" => {
                let (stop, task) = self.stream.take().expect("the test has started a stream");
                stop.store(true, Ordering::Relaxed);
                task.await.expect("the stream does not panic")
            }
            "flow" => {
                let stop = Arc::new(AtomicBool::new(false));
                let flow = Flow::to(cluster, words[1], number(2), number(3));
                self.flow = Some((stop.clone(), tokio::spawn(flow.keep_going(cluster.clone(), stop))));
                return None;
            }
            "stop_flow" => {
                let (stop, task) = self.flow.take().expect("the test has started a flow");
                stop.store(true, Ordering::Relaxed);
                task.await.expect("the flow does not panic")
            }
            "when" => self
                .history
                .when(words[1], words[2], number(3))
                .map_or("never".to_owned(), |at| at.to_string()),
            "queued" => {
                let nodes = cluster.nodes();
                let node = nodes.iter().find(|node| node.info.name == words[1]);
                node.map_or(0, |node| node.queued_bytes).to_string()
            }
            "kill_router" => {
                kill_router(cluster, number(1));
                "killed".to_owned()
            }
            "kill_server" => {
                kill_server(cluster, words[1]);
                "killed".to_owned()
            }
            "measure" => measure(cluster, number(1)).await,
            "measure_local" => measure_local(cluster).await,
            "leave" => {
                cluster.leave().await;
                "left".to_owned()
            }
            "shutdown" => {
                cluster.shutdown().await;
                "down".to_owned()
            }
            other => format!("'{other}' is no command"),
        })
    }
}

fn request(asker: u64, number: u64) -> Request {
    let command = Some(room_request::Command::Describe(Describe {}));
    let room = RoomRequest { user_id: asker, session_id: number, command };
    Request { request: Some(request::Request::Room(room)) }
}

async fn ask(cluster: &Cluster, key: u64, request: Request) -> Result<String, Error> {
    let (reply, answer) = ReplyTo::channel();
    cluster.ask(Address::room(key), request, DEADLINE, reply);
    match answer.await?.reply {
        Some(reply::Reply::Room(RoomReply { reply: Some(room_reply::Reply::Inspection(text)) })) => Ok(text),
        other => Err(Error::internal(format!("{other:?} is no echo"))),
    }
}

fn remote_key(cluster: &Cluster) -> u64 {
    let remote = |key: &u64| !cluster.owns(&Address::room(*key));
    (0..10_000).find(remote).expect("other nodes own some of so many keys")
}

/// What came of many questions, in one line.
#[derive(Default)]
struct Tally {
    ok: u64,
    failed: BTreeMap<String, u64>,
    owners: BTreeSet<String>,
    longest: Duration,
}

impl Tally {
    fn add(&mut self, result: Result<String, Error>, took: Duration) {
        match result {
            Ok(owner) => {
                self.ok += 1;
                self.owners.insert(owner);
            }
            Err(error) => *self.failed.entry(format!("{:?}: {error}", error.code)).or_default() += 1,
        }
        self.longest = self.longest.max(took);
    }

    fn line(&self) -> String {
        let failed: u64 = self.failed.values().sum();
        let owners: Vec<&str> = self.owners.iter().map(String::as_str).collect();
        format!(
            "{};{failed};{};{};{:?}",
            self.ok,
            owners.join(","),
            self.longest.as_millis(),
            self.failed.keys().collect::<Vec<_>>()
        )
    }
}

/// Numbers the questions of this process for each key, so that a node can see their order.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

fn asker() -> u64 {
    u64::from(std::process::id())
}

async fn flood(cluster: &Cluster, keys: u64, count: u64) -> String {
    let (sender, mut answers) = mpsc::unbounded_channel();
    for _ in 0..count {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (sender, asked) = (sender.clone(), Instant::now());
        let reply = ReplyTo::new(move |answer: Result<Reply, Error>| {
            let _ = sender.send((answer, asked.elapsed()));
        });
        cluster.ask(Address::room(number % keys), request(asker(), number), DEADLINE, reply);
    }
    let mut tally = Tally::default();
    for _ in 0..count {
        let (answer, took) = answers.recv().await.expect("every question is answered");
        tally.add(answer.map(text), took);
    }
    tally.line()
}

fn text(reply: Reply) -> String {
    match reply.reply {
        Some(reply::Reply::Room(RoomReply { reply: Some(room_reply::Reply::Inspection(text)) })) => text,
        other => format!("{other:?}"),
    }
}

/// Asks all the time, with some questions always open, until it is told to stop.
async fn stream(cluster: Cluster, keys: u64, stop: Arc<AtomicBool>) -> String {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let (mut open, mut tally) = (0, Tally::default());
    while open > 0 || !stop.load(Ordering::Relaxed) {
        while open < 4 * keys && !stop.load(Ordering::Relaxed) {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let (sender, asked) = (sender.clone(), Instant::now());
            let reply = ReplyTo::new(move |answer: Result<Reply, Error>| {
                let _ = sender.send((answer, asked.elapsed()));
            });
            cluster.ask(Address::room(number % keys), request(asker(), number), DEADLINE, reply);
            open += 1;
        }
        let (answer, took) = answers.recv().await.expect("every question is answered");
        open -= 1;
        tally.add(answer.map(text), took);
    }
    tally.line()
}

/// When this node saw which node in which state: name, state, Unix milliseconds.
#[derive(Default)]
struct History(Mutex<Vec<(String, String, u64)>>);

impl History {
    async fn keep_writing(self: Arc<Self>, cluster: Cluster) {
        let mut views = cluster.watch();
        loop {
            let view = views.borrow_and_update().clone();
            for node in &view.nodes {
                let entry = (node.info.name.clone(), node.state.as_str().to_owned(), node.since_ms);
                let mut seen = self.0.lock().expect("nobody panics with it");
                if !seen.contains(&entry) {
                    seen.push(entry);
                }
            }
            if views.changed().await.is_err() {
                return;
            }
        }
    }

    /// When a node came into a state for the first time at or after that moment.
    fn when(&self, name: &str, state: &str, after_ms: u64) -> Option<u64> {
        let seen = self.0.lock().expect("nobody panics with it");
        let found = seen.iter().find(|(of, is, at)| of == name && is == state && *at >= after_ms);
        found.map(|(_, _, at)| *at)
    }
}

/// Messages and questions to one node at a rate, whatever becomes of them.
struct Flow {
    node: String,
    /// Rooms that the node owned at the beginning.
    keys: Vec<u64>,
    /// Items in a second; every fourth is a question.
    rate: u64,
    text: String,
}

impl Flow {
    fn to(cluster: &Cluster, node: &str, rate: u64, bytes: u64) -> Self {
        let view = cluster.view();
        let owned = |key: &u64| view.owner(&Address::room(*key)) == Some(node);
        let keys: Vec<u64> = (0..4000).filter(owned).take(64).collect();
        Self { node: node.to_owned(), keys, rate, text: "x".repeat(bytes as usize) }
    }

    async fn keep_going(self, cluster: Cluster, stop: Arc<AtomicBool>) -> String {
        const STEP: Duration = Duration::from_millis(10);
        let (sender, mut answers) = mpsc::unbounded_channel();
        let mut steps = tokio::time::interval(STEP);
        let (mut asked, mut answered, mut number) = (0_u64, 0_u64, 0_u64);
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) {
            steps.tick().await;
            for _ in 0..self.rate * STEP.as_millis() as u64 / 1000 {
                number += 1;
                if number.is_multiple_of(4) {
                    let (sender, at) = (sender.clone(), Instant::now());
                    let reply = ReplyTo::new(move |answer: Result<Reply, Error>| {
                        let _ = sender.send((answer, at.elapsed()));
                    });
                    let key = self.keys[number as usize % self.keys.len()];
                    cluster.ask(Address::room(key), self.question(), DEADLINE, reply);
                    asked += 1;
                } else {
                    let forget = Forget { cache_keys: vec![self.text.clone()] };
                    let command = Some(node_request::Command::Forget(forget));
                    cluster.tell_node_keyed(&self.node, number, NodeRequest { command });
                }
            }
            while let Ok((answer, took)) = answers.try_recv() {
                answered += 1;
                tally.add(answer.map(text), took);
            }
        }
        for _ in answered..asked {
            let (answer, took) = answers.recv().await.expect("every question is answered");
            tally.add(answer.map(text), took);
        }
        tally.line()
    }

    fn question(&self) -> Request {
        let send = v1::Send { text: self.text.clone(), ..v1::Send::default() };
        let command = Some(room_request::Command::Send(send));
        Request { request: Some(request::Request::Room(RoomRequest { command, ..RoomRequest::default() })) }
    }
}

/// The actors by which other nodes reach this one, or by which it reaches another.
fn routers(cluster: &Cluster, name: &str, lane: u64) -> Vec<ractor::ActorCell> {
    let view = cluster.view();
    let incarnation = view.node(name).expect("the test names a node").info.incarnation;
    ractor::pg::get_members(&format!("rookery.router/{name}#{incarnation}/{lane}"))
}

fn kill_router(cluster: &Cluster, lane: u64) {
    for router in routers(cluster, cluster.name(), lane) {
        router.kill();
    }
}

/// The server is the grandparent of each router that it mirrors for a peer.
fn kill_server(cluster: &Cluster, peer: &str) {
    let mirror = routers(cluster, peer, 0).pop().expect("there is a link to the peer");
    let session = mirror.try_get_supervisor().expect("a session supervises its mirrors");
    session.try_get_supervisor().expect("the server supervises its sessions").kill();
}

async fn measure(cluster: &Cluster, window: u64) -> String {
    let keys: Vec<u64> =
        (0..4000).filter(|key| !cluster.owns(&Address::room(*key))).take(window.max(64) as usize).collect();
    let (sender, mut answers) = mpsc::unbounded_channel();
    let began = Instant::now();
    let (mut open, mut done, mut times) = (0, 0_u64, Vec::new());
    while began.elapsed() < Duration::from_secs(3) {
        while open < window {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let (sender, asked) = (sender.clone(), Instant::now());
            let reply = ReplyTo::new(move |_: Result<Reply, Error>| {
                let _ = sender.send(asked.elapsed());
            });
            let key = keys[number as usize % keys.len()];
            cluster.ask(Address::room(key), request(asker(), number), DEADLINE, reply);
            open += 1;
        }
        times.push(answers.recv().await.expect("every question is answered"));
        open -= 1;
        done += 1;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    format!("{rate:.0}/s, P50 {:?}, P99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn measure_local(cluster: &Cluster) -> String {
    const COUNT: u32 = 1_000_000;
    let key = (0..10_000).find(|key| cluster.owns(&Address::room(*key))).expect("this node owns some");
    let began = Instant::now();
    for _ in 0..COUNT {
        cluster.tell(Address::room(key), request(0, 0));
    }
    let tell = began.elapsed() / COUNT;
    let began = Instant::now();
    let mut owned = 0;
    for key in 0..u64::from(COUNT) {
        owned += u32::from(cluster.owns(&Address::room(key)));
    }
    format!("tell {tell:?}, placement {:?} ({owned} owned)", began.elapsed() / COUNT)
}

/// The actors of a node of the tests: they answer with its name, and note what they are asked in a journal that all
/// nodes of a test share, as they share a database in earnest.
#[derive(Default)]
struct Echo {
    name: String,
    asked: AtomicU64,
    told: AtomicU64,
    journal: Option<File>,
}

impl Inbound for Echo {
    fn tell(&self, _: Address, _: Request) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    fn ask(
        &self,
        to: Address,
        request: Request,
        reply: ReplyTo<Reply>,
        _: Turn<'_>,
    ) -> Option<(Request, ReplyTo<Reply>)> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(request::Request::Room(room)) = request.request
            && room.session_id > 0
        {
            // One short write to a file opened for appending is one line, whoever else writes.
            let line = format!("{} {} {}\n", to.key, room.user_id, room.session_id);
            let journal = self.journal.as_ref().expect("nodes are started with a journal");
            (&*journal).write_all(line.as_bytes()).expect("the disk has room");
        }
        let text = room_reply::Reply::Inspection(self.name.clone());
        let reply_to_room = reply::Reply::Room(RoomReply { reply: Some(text) });
        reply.send(Ok(Reply { reply: Some(reply_to_room) }));
        None
    }

    fn tell_node(&self, _: &str, _: NodeRequest) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    fn ask_node(&self, from: &str, _: NodeRequest, reply: ReplyTo<NodeReply>) {
        let text = format!("{} was asked by {from}", self.name);
        reply.send(Ok(NodeReply { reply: Some(node_reply::Reply::Json(text)) }));
    }

    fn load(&self) -> (u64, u64) {
        (1, 2)
    }
}
