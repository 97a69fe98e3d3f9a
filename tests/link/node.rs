//! A node of the tests: takes part in a cluster, owns actors that echo, and does what its standard input says, one line
//! at a time. It ends when its standard input does, so that no node outlives its test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rookery::cluster::{Address, Cluster, Inbound, ReplyTo};
use rookery::config::Config;
use rookery::domain::Error;
use rookery::protocol::cluster::{
    Describe, NodeReply, NodeRequest, PlacementQuery, Reply, Request, RoomReply, RoomRequest, node_reply,
    node_request, reply, request, room_reply, room_request,
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
    pub name: String,
    pub listen: String,
    pub seeds: Vec<String>,
    pub cookie: String,
    pub lanes: usize,
    pub journal: String,
}

impl Settings {
    pub fn to_line(&self) -> String {
        [
            &self.name,
            &self.listen,
            &self.seeds.join(","),
            &self.cookie,
            &self.lanes.to_string(),
            &self.journal,
        ]
        .map(String::as_str)
        .join(";")
    }

    fn from_line(line: &str) -> Self {
        let parts: Vec<&str> = line.split(';').collect();
        Self {
            name: parts[0].to_owned(),
            listen: parts[1].to_owned(),
            seeds: parts[2].split(',').filter(|seed| !seed.is_empty()).map(str::to_owned).collect(),
            cookie: parts[3].to_owned(),
            lanes: parts[4].parse().expect("the harness writes a number"),
            journal: parts[5].to_owned(),
        }
    }
}

pub fn run_if_asked() {
    let Ok(line) = std::env::var(NODE) else { return };
    let settings = Settings::from_line(&line);
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
    let mut config = Config::default();
    config.node.name = settings.name;
    config.cluster.listen = settings.listen;
    config.cluster.seeds = settings.seeds;
    config.cluster.cookie = settings.cookie;
    config.cluster.lanes = settings.lanes;
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    let cluster = Cluster::bind(&config).await.expect("the settings are sound and the port is free");
    let echo = Arc::new(Echo { name: cluster.name().to_owned(), journal, ..Echo::default() });
    cluster.start(echo.clone(), cluster.info()).await.expect("it is started once");
    say(&format!("address {}", cluster.local_address()));
    let mut node = Node { cluster, echo, stream: None };
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
    stream: Option<(Arc<AtomicBool>, tokio::task::JoinHandle<String>)>,
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

    fn ask(&self, to: Address, request: Request, reply: ReplyTo<Reply>) {
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
