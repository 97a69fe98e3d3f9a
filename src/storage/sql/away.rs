//! Whether the server is there, and the pools that reach it while it is.
//!
//! Without this, each request would find out for itself that the server is gone, and wait for its own timeout. A task
//! asks a MySQL server on a connection of its own, often, and at once when a request fails. When the server neither
//! answers that nor any request, it is *away*: requests under way are told so, new ones are refused at once, and the
//! pools are thrown away with every connection they hold, as those may be dead without knowing it. The same task then
//! tries until the server answers, and opens new pools.
//!
//! A file (SQLite) can't be away; its pools stay.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::driver::Kept;
use super::pools::{self, Location};
use crate::config::StorageConfig;
use crate::storage::{StoreError, StoreResult};

/// Pause between two questions whether the server is there.
const ASK_PAUSE: Duration = Duration::from_millis(250);
/// How long the server may take to answer one, unless it answers requests meanwhile.
const ASK_TIMEOUT: Duration = Duration::from_millis(1500);
/// Pause between two questions that a failed request has hastened.
const HASTE_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two tries to reach a server that is away.
const RETURN_PAUSE: Duration = Duration::from_millis(100);
/// How long a host that is away may take to accept a connection. Short, as a lost packet is sent again too late.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server whose host accepts connections may take to greet. Long, because a server that goes on after a
/// stop counts the connections given up against `max_connect_errors`, and in the end refuses the host.
const GREET_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two times that all connections are made anew because the server takes no writes.
const MAKE_ANEW_PAUSE: Duration = Duration::from_secs(1);
/// How long connections of pools thrown away have to say goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// The two pools of a database.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For requests that change nothing.
    pub read: DatabaseConnection,
    /// With SQLite one connection of its own; with MySQL the same pool.
    pub write: DatabaseConnection,
    /// Of the writing pool, for appends.
    pub kept: Kept,
    /// The same of the reading pool, for lists and logs.
    pub kept_reads: Kept,
}

impl Pools {
    /// Ends all connections once they are free. Requests are refused from the first moment.
    async fn close(&self) {
        self.kept.clear();
        self.kept_reads.clear();
        for pool in [&self.read, &self.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::debug!(target: "rookery::storage", %error, "a pool did not close");
            }
        }
    }
}

/// How the database stands.
#[derive(Debug)]
enum State {
    There(Pools),
    /// With what it said, or did not say.
    Away(String),
    Closed,
}

/// What requests and the task that watches share.
#[derive(Debug)]
pub struct Reach {
    state: watch::Sender<State>,
    /// Requests answered so far: a server that answers those is there, however long it lets a question wait.
    answers: AtomicU64,
    /// A request failed in a way that may mean that the server is gone.
    doubt: Arc<Notify>,
    /// The server takes no writes: its name may be another's by now.
    demoted: AtomicBool,
}

/// A request's hold on the pools.
pub struct Hold {
    /// As they were when it began.
    pub pools: Pools,
    state: watch::Receiver<State>,
}

impl Hold {
    /// Waits until these pools are given up; why.
    pub async fn given_up(&mut self) -> String {
        // The sender is dropped with the stores only, which the request holds.
        let _ = self.state.changed().await;
        match &*self.state.borrow() {
            State::Away(cause) => cause.clone(),
            State::There(_) => "the database was away for a moment".to_owned(),
            State::Closed => "the database was closed".to_owned(),
        }
    }
}

impl Reach {
    /// Opens the pools, and with a server begins to watch it.
    pub fn open(config: &StorageConfig) -> StoreResult<Arc<Self>> {
        let (state, _) = watch::channel(State::There(pools::open(config)?));
        let reach = Arc::new(Self {
            state,
            answers: AtomicU64::new(0),
            doubt: Arc::default(),
            demoted: AtomicBool::new(false),
        });
        if let Location::MySql(options) = Location::of(config)? {
            tokio::spawn(watch_server(
                Arc::downgrade(&reach),
                Arc::clone(&reach.doubt),
                config.clone(),
                *options,
            ));
        }
        Ok(reach)
    }

    /// The pools for one try of a request. [`StoreError::Unavailable`], at once: it is known to be away.
    pub fn hold(&self) -> StoreResult<Hold> {
        let mut state = self.state.subscribe();
        let pools = match &*state.borrow_and_update() {
            State::There(pools) => pools.clone(),
            State::Away(cause) => return Err(StoreError::Unavailable(cause.clone())),
            State::Closed => return Err(StoreError::Unavailable("the database was closed".to_owned())),
        };
        Ok(Hold { pools, state })
    }

    /// A request was answered.
    pub fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was not: the server is asked at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// The server takes no writes: all connections are made anew, to whichever server has the name now.
    pub fn look_again(&self) {
        self.answered();
        self.demoted.store(true, Ordering::Relaxed);
    }

    /// Ends all connections once they are free; every later request is refused.
    pub async fn close(&self) {
        if let State::There(pools) = self.state.send_replace(State::Closed)
            && timeout(GOODBYE_TIMEOUT, pools.close()).await.is_err()
        {
            tracing::debug!(target: "rookery::storage", "connections were left without a goodbye");
        }
    }

    fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed)
    }

    /// Moves on to another state, unless it was closed. Pools that are given up are closed in the background.
    fn becomes(&self, next: State) {
        let mut given_up = None;
        self.state.send_if_modified(|state| {
            if matches!(state, State::Closed) {
                return false;
            }
            given_up = Some(std::mem::replace(state, next));
            true
        });
        if let Some(State::There(pools)) = given_up {
            tokio::spawn(async move { drop(timeout(GOODBYE_TIMEOUT, pools.close()).await) });
        }
    }
}

/// Watches a server until its stores are closed or dropped.
async fn watch_server(
    reach: Weak<Reach>,
    doubt: Arc<Notify>,
    config: StorageConfig,
    options: MySqlConnectOptions,
) {
    let mut line: Option<MySqlConnection> = None;
    let mut made_anew: Option<Instant> = None;
    loop {
        let Some(reach_now) = reach.upgrade().filter(|reach| !reach.is_closed()) else { break };
        if let Err(cause) = ask(&reach_now, &mut line, &options).await {
            line = None;
            if let Some(back) = until_it_is_back(reach_now, &reach, &config, &options, cause).await {
                line = Some(back);
            }
            continue;
        }
        if reach_now.demoted.swap(false, Ordering::Relaxed)
            && made_anew.is_none_or(|at| at.elapsed() > MAKE_ANEW_PAUSE)
        {
            made_anew = Some(Instant::now());
            line = None;
            match pools::open(&config) {
                Ok(pools) => reach_now.becomes(State::There(pools)),
                Err(error) => tracing::error!(target: "rookery::storage", %error, "no new pool"),
            }
            tracing::warn!(target: "rookery::storage", "the database takes no writes; its connections are made anew");
        }
        drop(reach_now);
        tokio::time::sleep(HASTE_PAUSE).await;
        // A doubt that was noted meanwhile is taken up at once.
        drop(timeout(ASK_PAUSE, doubt.notified()).await);
    }
    if let Some(line) = line {
        drop(timeout(GOODBYE_TIMEOUT, line.close()).await);
    }
}

/// Refuses all requests until the server answers; the connection on which it did. `None`: nobody needs it any more.
async fn until_it_is_back(
    reach_now: Arc<Reach>,
    reach: &Weak<Reach>,
    config: &StorageConfig,
    options: &MySqlConnectOptions,
    mut cause: String,
) -> Option<MySqlConnection> {
    let since = Instant::now();
    tracing::error!(
        target: "rookery::storage",
        %cause, "the database is away: requests are refused until it answers"
    );
    reach_now.becomes(State::Away(format!("the database is away: {cause}")));
    drop(reach_now);
    loop {
        tokio::time::sleep(RETURN_PAUSE).await;
        reach.upgrade().filter(|reach| !reach.is_closed())?;
        let outcome = match knock(options).await {
            Ok(()) => connect(options, GREET_TIMEOUT).await,
            Err(error) => Err(error),
        };
        let reach = reach.upgrade()?;
        match outcome.map(|line| (line, pools::open(config))) {
            Ok((line, Ok(pools))) => {
                reach.becomes(State::There(pools));
                tracing::info!(
                    target: "rookery::storage",
                    away_ms = since.elapsed().as_millis() as u64, "the database is back"
                );
                return Some(line);
            }
            // The settings were good when the node started.
            Ok((_, Err(error))) => tracing::error!(target: "rookery::storage", %error, "no new pool"),
            Err(error) => {
                let now = error.to_string();
                if now != cause {
                    tracing::warn!(target: "rookery::storage", cause = %now, "the database is still away");
                    reach.becomes(State::Away(format!("the database is away: {now}")));
                    cause = now;
                }
            }
        }
    }
}

/// Asks whether the server is there, on `line`, or on a new connection where that is broken. The error: it is not, and
/// what it said. A server that answers requests meanwhile is there, also if it takes no further connection.
async fn ask(
    reach: &Reach,
    line: &mut Option<MySqlConnection>,
    options: &MySqlConnectOptions,
) -> Result<(), String> {
    let before = reach.answers.load(Ordering::Relaxed);
    if let Some(mut kept) = line.take() {
        match timeout(ASK_TIMEOUT, kept.ping()).await {
            Ok(Ok(())) => {
                *line = Some(kept);
                return Ok(());
            }
            Ok(Err(_)) => {}
            Err(_) if reach.answers.load(Ordering::Relaxed) != before => return Ok(()),
            Err(_) => return Err(format!("no answer within {ASK_TIMEOUT:?}")),
        }
    }
    match connect(options, ASK_TIMEOUT).await {
        Ok(new) => *line = Some(new),
        Err(_) if reach.answers.load(Ordering::Relaxed) != before => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// Whether the server's host takes connections.
async fn knock(options: &MySqlConnectOptions) -> Result<(), sqlx::Error> {
    if options.get_socket().is_some() {
        return Ok(());
    }
    let dial = TcpStream::connect((options.get_host(), options.get_port()));
    match timeout(KNOCK_TIMEOUT, dial).await {
        Ok(dialled) => dialled.map(drop).map_err(sqlx::Error::Io),
        Err(_) => Err(late(KNOCK_TIMEOUT)),
    }
}

/// One try to connect.
pub async fn connect(options: &MySqlConnectOptions, limit: Duration) -> Result<MySqlConnection, sqlx::Error> {
    match timeout(limit, options.connect()).await {
        Ok(connected) => connected,
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> sqlx::Error {
    let sentence = format!("no answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, sentence))
}
