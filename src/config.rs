//! Every key of `cluster.toml` with its default, its checks, and how the file, the environment and the command line
//! are laid over each other. `cluster.toml` in the repository lists the same keys; `tests/tidy.rs` holds them equal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// The whole configuration of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who the node is.
    pub node: NodeConfig,
    /// How nodes find and talk to each other.
    pub cluster: ClusterConfig,
    /// The HTTP, WebSocket, TCP and line edges.
    pub gateway: GatewayConfig,
    /// The operators' endpoint.
    pub admin: AdminConfig,
    /// The database.
    pub storage: StorageConfig,
    /// The cache in front of it.
    pub cache: CacheConfig,
    /// Writer lanes: group commit.
    pub writer: WriterConfig,
    /// What is refused when more comes than can be stored.
    pub overload: OverloadConfig,
    /// Session actors.
    pub session: SessionConfig,
    /// Room actors.
    pub room: RoomConfig,
    /// What may be done with messages.
    pub messages: MessagesConfig,
    /// The search index.
    pub search: SearchConfig,
    /// Presence shards.
    pub presence: PresenceConfig,
    /// Accounts, passwords and tokens.
    pub accounts: AccountsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self { Self { $($field: $default,)* } }
        }
    };
}

section! {
    /// Who the node is.
    NodeConfig {
        /// Unique in the cluster; letters, digits, `-` and `_`. Empty: made from the cluster port.
        name: String = String::new();
        /// How long a node that was told to stop may take to hand over and flush.
        #[serde(with = "humantime_serde")]
        grace_period: Duration = Duration::from_secs(20);
        /// Threads for all but HTTP: actors, database connections, links. 0: half the cores. With 1, WebSockets live on it
        /// too, and no message wakes a thread on its way through the node; else on the HTTP workers.
        actor_threads: usize = 0;
    }
}

section! {
    /// How nodes find and talk to each other.
    ClusterConfig {
        /// Where the node takes links from other nodes. Port 0: one is chosen.
        listen: String = "127.0.0.1:7946".to_owned();
        /// The host:port that other nodes dial. Empty: the one listened on.
        advertise: String = String::new();
        /// host:port of some nodes of the cluster, retried for ever.
        seeds: Vec<String> = Vec::new();
        /// The secret that nodes of one cluster share.
        cookie: String = "rookery".to_owned();
        /// Encryption between nodes: a PEM file with the certificate of the authority that signs for this cluster and
        /// nothing else. Set all three `tls_` keys on all nodes, or none.
        tls_ca: String = String::new();
        /// A PEM file with this node's certificate, and any between it and the authority's. It must allow server and
        /// client authentication, and bear the host of `advertise`, or `rookery-cluster`, as a name.
        tls_certificate: String = String::new();
        /// A PEM file with the key of that certificate.
        tls_key: String = String::new();
        /// Router lanes a node; all nodes must agree.
        lanes: usize = 4;
        /// How often a node says that it lives.
        #[serde(with = "humantime_serde")]
        heartbeat_interval: Duration = Duration::from_millis(500);
        /// A peer silent for this long is suspect.
        #[serde(with = "humantime_serde")]
        suspect_after: Duration = Duration::from_millis(1500);
        /// A peer silent for this long is down: its link is cut and its actors are owned by others.
        #[serde(with = "humantime_serde")]
        down_after: Duration = Duration::from_secs(3);
        /// How long a dial may take.
        #[serde(with = "humantime_serde")]
        connect_timeout: Duration = Duration::from_secs(2);
        /// How long authentication of a new link may take, on either side.
        #[serde(with = "humantime_serde")]
        handshake_timeout: Duration = Duration::from_secs(3);
        /// A link that reads nothing for this long, or can't write for this long, is cut.
        #[serde(with = "humantime_serde")]
        io_timeout: Duration = Duration::from_secs(8);
        /// First pause before a seed or peer is dialled again; it doubles up to `redial_max`.
        #[serde(with = "humantime_serde")]
        redial_min: Duration = Duration::from_millis(100);
        /// Longest pause between dials.
        #[serde(with = "humantime_serde")]
        redial_max: Duration = Duration::from_secs(3);
        /// How long an ask may take, all retries and re-routings included.
        #[serde(with = "humantime_serde")]
        ask_timeout: Duration = Duration::from_secs(5);
        /// Most items in one envelope.
        envelope_items: usize = 64;
        /// Most payload bytes in one envelope, but for a single larger item.
        envelope_bytes: usize = 32 * 1024;
        /// Most bytes of a single item; larger ones are refused with `resource_exhausted`.
        item_bytes_max: usize = 4 * 1024 * 1024;
        /// Most items that wait for one peer on one lane; beyond, asks fail fast and events are left to sync.
        lane_queue_items: usize = 65_536;
        /// Most bytes that wait for one peer on one lane, and that the open questions of a lane hold; beyond, the same.
        lane_queue_bytes: usize = 16 * 1024 * 1024;
    }
}

section! {
    /// The HTTP, WebSocket, TCP and line edges.
    GatewayConfig {
        /// HTTP and WebSocket.
        http_listen: String = "127.0.0.1:8080".to_owned();
        /// TCP frames.
        tcp_listen: String = "127.0.0.1:8081".to_owned();
        /// TCP lines.
        line_listen: String = "127.0.0.1:6000".to_owned();
        /// Threads that serve HTTP and WebSocket.
        http_workers: usize = 2;
        /// Most open sockets of all transports together; more are refused.
        connections_max: usize = 100_000;
        /// Most body bytes of a REST request.
        body_bytes_max: usize = 1024 * 1024;
        /// Longest frame in either direction.
        frame_bytes_max: usize = 1024 * 1024;
        /// Longest text of a message, in bytes.
        text_bytes_max: usize = 64 * 1024;
        /// Longest line of the line protocol, in bytes.
        line_bytes_max: usize = 64 * 1024;
        /// How long a connection may take to sign in.
        #[serde(with = "humantime_serde")]
        hello_timeout: Duration = Duration::from_secs(10);
        /// Tries to sign in on one connection.
        hello_tries: u32 = 3;
        /// Bad frames in a row that end a connection.
        bad_frames_max: u32 = 10;
        /// How long one side may stay silent is 2.5 times this.
        #[serde(with = "humantime_serde")]
        heartbeat: Duration = Duration::from_secs(30);
        /// Unacknowledged bytes in the kernel for this long end a connection.
        #[serde(with = "humantime_serde")]
        tcp_user_timeout: Duration = Duration::from_secs(20);
        /// Bytes handed to a socket in one go.
        write_batch_bytes: usize = 64 * 1024;
    }
}

section! {
    /// The operators' endpoint.
    AdminConfig {
        /// Where it listens; loopback unless there is a reason.
        listen: String = "127.0.0.1:8090".to_owned();
        /// Bearer token; empty: none is asked for, and only loopback may be listened on.
        token: String = String::new();
        /// Most rows in one page of actors.
        page_max: usize = 1000;
        /// How long other nodes have to answer.
        #[serde(with = "humantime_serde")]
        ask_timeout: Duration = Duration::from_secs(2);
    }
}

section! {
    /// The database.
    StorageConfig {
        /// `sqlite://PATH` or `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
        url: String = "sqlite://data/rookery.db".to_owned();
        /// Most connections to MySQL; with SQLite, most readers beside the one writer.
        connections_max: u32 = 16;
        /// How long a request waits for a free connection.
        #[serde(with = "humantime_serde")]
        acquire_timeout: Duration = Duration::from_secs(2);
        /// How long one request may take.
        #[serde(with = "humantime_serde")]
        request_timeout: Duration = Duration::from_secs(5);
        /// How long SQLite waits for another process's write.
        #[serde(with = "humantime_serde")]
        busy_timeout: Duration = Duration::from_secs(4);
        /// How often a node looks for conversations in which nothing happened for ten minutes, to write down their places in
        /// lists; 0: never, and lists look them up.
        #[serde(with = "humantime_serde")]
        settle_interval: Duration = Duration::from_secs(60);
        /// The most of its time that it works on that, in percent.
        settle_share: u32 = 5;
    }
}

section! {
    /// The cache in front of the database.
    CacheConfig {
        /// `redis://:PASSWORD@HOST:PORT/DB`, `rediss://` with TLS, several hosts or `redis+cluster://` for a cluster,
        /// `redis+sentinel://:PASSWORD@HOST:PORT,HOST:PORT/MASTER`. Empty: each node's memory alone.
        url: String = String::new();
        /// PEM file of the authorities that Redis' certificate may come from. Empty: those of the system.
        ca_file: String = String::new();
        /// Stands before every key in Redis.
        key_prefix: String = String::new();
        /// The most that a request waits for Redis.
        #[serde(with = "humantime_serde")]
        redis_wait: Duration = Duration::from_millis(30);
        /// Failures in a row after which Redis is left alone; with more than 1 a request may wait as many times.
        breaker_failures: u32 = 1;
        /// Good probes in a row after which it is used again.
        breaker_probes: u32 = 2;
        /// How long it is left alone before the first probe; twice as long after each that fails.
        #[serde(with = "humantime_serde")]
        breaker_open_min: Duration = Duration::from_millis(100);
        /// The most it is left alone between probes.
        #[serde(with = "humantime_serde")]
        breaker_open_max: Duration = Duration::from_secs(5);
        /// Keys written while Redis was away that a node remembers; with more, all that Redis holds is given up.
        missed_keys: usize = 10_000;
        /// Rows held in a node's memory; 0: none.
        local_rows: u64 = 100_000;
        /// How long a node trusts its memory, and the most that a write waits for a node that does not confirm.
        #[serde(with = "humantime_serde")]
        local_ttl: Duration = Duration::from_secs(1);
        /// How long changes of presence gather before they are copied to Redis.
        #[serde(with = "humantime_serde")]
        presence_copy_interval: Duration = Duration::from_millis(500);
    }
}

section! {
    /// Writer lanes: group commit.
    WriterConfig {
        /// Lanes a node; one transaction runs on each at a time. SQLite takes one.
        lanes: usize = 2;
        /// Most messages in one transaction.
        batch_messages: usize = 512;
        /// How long a message may wait for others before they are stored together: only while messages come often enough,
        /// and waiting lately brought some. Ends when as many have come as may be expected in it. Zero: none waits.
        #[serde(with = "humantime_serde")]
        linger: Duration = Duration::from_micros(1200);
        /// With as many messages together, none waits.
        linger_messages: usize = 16;
        /// Most groups of messages that wait for a lane; beyond, sends are refused.
        queue_groups: usize = 16_384;
        /// How long an uncertain commit is read back before its senders are told `unavailable`.
        #[serde(with = "humantime_serde")]
        settle_timeout: Duration = Duration::from_secs(3);
    }
}

section! {
    /// What is refused when more comes than can be stored.
    OverloadConfig {
        /// A send that has waited for its room, or for the database, for this long is refused with `unavailable` and a
        /// time to try again. New ones are at the edge while the node is behind by a quarter of it, all of them from half
        /// of it on.
        #[serde(with = "humantime_serde")]
        wait_max: Duration = Duration::from_secs(3);
        /// Most first messages and sign-ins that wait in one place: to learn who may write, for their conversation, for
        /// their room, for their token.
        starts_waiting: usize = 16_384;
    }
}

section! {
    /// Session actors.
    SessionConfig {
        /// Most frames of one connection that wait to be handled; more pause its reading or close it.
        inbox_frames: usize = 1024;
        /// Unsent frames that end a connection with 4429.
        outbox_frames: usize = 4096;
        /// Unsent bytes that end a connection with 4429.
        outbox_bytes: usize = 4 * 1024 * 1024;
        /// How long a push or an answer waits for the messages before it.
        #[serde(with = "humantime_serde")]
        order_wait: Duration = Duration::from_millis(100);
        /// Conversations whose order a connection remembers.
        ordered_conversations: usize = 4096;
        /// A session's actor without frames for this long leaves memory; the next frame starts another. Longer than the
        /// pauses of a conversation, as a start costs half as much as a message. Sessions that have sent few frames get
        /// a second for each.
        #[serde(with = "humantime_serde")]
        idle_timeout: Duration = Duration::from_secs(10);
        /// How long the presence shard may take to take up a new session.
        #[serde(with = "humantime_serde")]
        register_timeout: Duration = Duration::from_secs(4);
    }
}

section! {
    /// Room actors.
    RoomConfig {
        /// Sends of one room that wait for storage; more are refused with `resource_exhausted`.
        pending_sends: usize = 4096;
        /// Most members of one room.
        members_max: usize = 100_000;
        /// Most messages of one room in one transaction.
        group_messages: usize = 128;
        /// How often one who asks to be let into a room may say something else, or take it back, in `request_pause`.
        request_changes: u32 = 5;
        /// After as many changes he waits for this long; 0: not at all.
        #[serde(with = "humantime_serde")]
        request_pause: Duration = Duration::from_secs(60);
        /// Answers to sends that a room remembers for repeats; older ones are found in the database.
        recent_sends: usize = 512;
        /// A room without work for this long leaves memory.
        #[serde(with = "humantime_serde")]
        idle_timeout: Duration = Duration::from_secs(120);
        /// How long `read` cursors wait for others, to be stored together; `ok` follows the storing.
        #[serde(with = "humantime_serde")]
        cursor_flush: Duration = Duration::from_millis(20);
        /// How long `delivered` cursors, and those moved by sending, wait; a crash loses at most so much of them.
        #[serde(with = "humantime_serde")]
        cursor_lazy_flush: Duration = Duration::from_secs(5);
        /// Receipts, membership messages and conversation events go to all members of rooms up to this size.
        small_room: usize = 200;
        /// Messages younger than this are pushed again by a room's new owner, in case the old one died before it could.
        #[serde(with = "humantime_serde")]
        repush_window: Duration = Duration::from_secs(10);
    }
}

section! {
    /// What may be done with messages.
    MessagesConfig {
        /// How long a message can be edited by its sender; 0: for ever.
        #[serde(with = "humantime_serde")]
        edit_window: Duration = Duration::ZERO;
        /// How long a message can be taken back by its sender; 0: for ever. Admins of a group always can.
        #[serde(with = "humantime_serde")]
        recall_window: Duration = Duration::from_secs(120);
        /// Most different emoji with which a message is reacted to.
        reactions_max: usize = 20;
        /// Most pinned messages of a conversation.
        pins_max: usize = 50;
        /// Most messages that a user may have scheduled.
        scheduled_max: usize = 200;
        /// How far ahead a message can be scheduled.
        #[serde(with = "humantime_serde")]
        schedule_ahead: Duration = Duration::from_secs(365 * 24 * 3600);
        /// How often a node looks for messages whose time to be sent, or to expire, has come.
        #[serde(with = "humantime_serde")]
        timer_interval: Duration = Duration::from_secs(1);
        /// How long messages are kept: older ones are removed for good; "off" or "0s": for ever. A group may have a
        /// shorter time of its own.
        #[serde(with = "off_or_time")]
        retention: Duration = Duration::ZERO;
        /// How often a node looks for messages that are older.
        #[serde(with = "humantime_serde")]
        retention_interval: Duration = Duration::from_secs(10);
        /// Who is said to be typing, and is not said so again for this long, has stopped.
        #[serde(with = "humantime_serde")]
        typing_timeout: Duration = Duration::from_secs(6);
    }
}

section! {
    /// The search index.
    SearchConfig {
        /// Messages a second that a node indexes, behind the sends, at most; 0: none but when a search asks for them.
        index_per_second: u32 = 500;
        /// How often a node looks which rooms have new messages.
        #[serde(with = "humantime_serde")]
        index_interval: Duration = Duration::from_secs(10);
    }
}

section! {
    /// Presence shards.
    PresenceConfig {
        /// Shards of the cluster; all nodes must agree, and it never changes.
        shards: u64 = 256;
        /// A shard that is new on a node sends events to all nodes for this long, while sessions are announced to it.
        #[serde(with = "humantime_serde")]
        rebuild_window: Duration = Duration::from_secs(4);
        /// Most sessions in one announcement.
        announce_batch: usize = 500;
        /// Every node announces all its sessions again this often, against anything lost.
        #[serde(with = "humantime_serde")]
        announce_interval: Duration = Duration::from_secs(30);
        /// A user whose last session has ended counts as there for this long: a reconnect makes no noise.
        #[serde(with = "humantime_serde")]
        offline_grace: Duration = Duration::from_secs(5);
        /// How often it is written down that those who are connected are there. What a crash may take of somebody's `last_seen_ms`
        /// is no more than this; 0: never, and it is written only when they leave.
        #[serde(with = "humantime_serde")]
        seen_interval: Duration = Duration::from_secs(300);
        /// How long changes of a shard's users gather before those who watch are told.
        #[serde(with = "humantime_serde")]
        gather: Duration = Duration::from_millis(250);
        /// Most pairs of a session and a user it watches on one node.
        watches_max: usize = 1_000_000;
    }
}

section! {
    /// Accounts, passwords and tokens.
    AccountsConfig {
        /// Shortest password, in characters.
        password_min: usize = 6;
        /// Argon2id memory, in KiB.
        argon2_memory_kib: u32 = 19 * 1024;
        /// Argon2id passes.
        argon2_passes: u32 = 2;
        /// Password hashes computed at once.
        hashes_at_once: usize = 2;
        /// Password hashes that wait; beyond, sign-ins are refused with `resource_exhausted`.
        hashes_waiting: usize = 256;
        /// How long an access token lives.
        #[serde(with = "humantime_serde")]
        token_lifetime: Duration = Duration::from_secs(90 * 24 * 3600);
        /// Most devices of one user; the oldest is signed out for a new one.
        devices_max: usize = 100;
        /// Which devices of a user may be signed in at once: `all`, `one_per_platform` or `single`. The newest stays.
        device_policy: String = DEVICE_POLICY_ALL.to_owned();
        /// Whether a device's later connection closes its earlier one with 4409, on whichever nodes they are. Off, several live
        /// side by side: the tabs of one browser, say.
        one_connection: bool = false;
        /// What becomes of the messages of an account that is erased: `keep` (as from a deleted user) or `remove`.
        erase_messages: String = "keep".to_owned();
        /// Exports of users' own data at the same time; more are refused with `resource_exhausted`.
        exports_at_once: usize = 2;
        /// Tokens whose device is remembered in the process.
        token_cache: u64 = 100_000;
        /// How long a remembered token is trusted without asking the database.
        #[serde(with = "humantime_serde")]
        token_cache_ttl: Duration = Duration::from_secs(30);
        /// Most conversations of one page of a list.
        list_page_max: u32 = 200;
        /// Messages of a sync page, when the client names no limit; also the most it may name.
        sync_page: u32 = 500;
    }
}

section! {
    /// What is logged, and how.
    LogConfig {
        /// A filter such as `info` or `rookery=debug,info`.
        filter: String = "info".to_owned();
        /// `text` or `json`.
        format: String = "text".to_owned();
    }
}

/// A time, or "off", which is none.
mod off_or_time {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// As it is written in the file.
    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if time.is_zero() { to.serialize_str("off") } else { humantime_serde::serialize(time, to) }
    }

    /// Of either form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        if text.eq_ignore_ascii_case("off") {
            return Ok(Duration::ZERO);
        }
        humantime_serde::deserialize(serde::de::value::StringDeserializer::new(text))
    }
}

/// `accounts.device_policy` under which no device makes way for another.
/// Most threads for actors: far more than a machine has cores.
const ACTOR_THREADS_MAX: usize = 1024;
pub const DEVICE_POLICY_ALL: &str = "all";

/// What is wrong with a configuration; the text says how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The file read when none is named.
pub const DEFAULT_FILE: &str = "cluster.toml";

impl Config {
    /// Defaults, then `file` (or [`DEFAULT_FILE`] where it exists), then `ROOKERY__SECTION__KEY` from the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path: PathBuf = match file {
            Some(path) if !path.is_file() => {
                return Err(ConfigError(format!(
                    "{} can't be read; name an existing file with --config, or leave the option out",
                    path.display()
                )));
            }
            Some(path) => path.to_owned(),
            None => DEFAULT_FILE.into(),
        };
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if path.is_file() {
            figment = figment.merge(Toml::file_exact(&path));
        }
        figment = figment.merge(Env::prefixed("ROOKERY__").split("__"));
        let config: Self = figment.extract().map_err(|error| explain(&error))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types can't.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: &str| Err(ConfigError(what.to_owned()));
        if !self.node.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            return wrong("node.name may hold letters, digits, '-' and '_' only");
        }
        if self.node.actor_threads > ACTOR_THREADS_MAX {
            return wrong("node.actor_threads must be at most 1024; 0 means half the cores");
        }
        if self.overload.wait_max < Duration::from_millis(1) || self.overload.starts_waiting == 0 {
            return wrong("overload.wait_max must be at least 1ms, and overload.starts_waiting 1");
        }
        if self.cluster.lanes == 0 || self.writer.lanes == 0 || self.presence.shards == 0 {
            return wrong("cluster.lanes, writer.lanes and presence.shards must be at least 1");
        }
        if self.cluster.heartbeat_interval >= self.cluster.suspect_after
            || self.cluster.suspect_after >= self.cluster.down_after
        {
            return wrong(
                "cluster.heartbeat_interval must be below cluster.suspect_after, and that below cluster.down_after",
            );
        }
        if !self.storage.url.starts_with("sqlite:") && !self.storage.url.starts_with("mysql:") {
            return wrong("storage.url must begin with sqlite:// or mysql://");
        }
        if !(1..=100).contains(&self.storage.settle_share) {
            return wrong("storage.settle_share must be 1 to 100 percent");
        }
        if self.cache.redis_wait.is_zero() || self.cache.breaker_open_min.is_zero() {
            return wrong("cache.redis_wait and cache.breaker_open_min must be longer than nothing");
        }
        if self.gateway.text_bytes_max >= self.gateway.frame_bytes_max {
            return wrong("gateway.text_bytes_max must be below gateway.frame_bytes_max");
        }
        if !matches!(self.accounts.device_policy.as_str(), DEVICE_POLICY_ALL | "one_per_platform" | "single")
        {
            return wrong("accounts.device_policy must be \"all\", \"one_per_platform\" or \"single\"");
        }
        if !matches!(self.accounts.erase_messages.as_str(), "keep" | "remove") {
            return wrong("accounts.erase_messages must be \"keep\" or \"remove\"");
        }
        if !matches!(self.log.format.as_str(), "text" | "json") {
            return wrong("log.format must be \"text\" or \"json\"");
        }
        let loopback = self.admin.listen.starts_with("127.")
            || self.admin.listen.starts_with("[::1]")
            || self.admin.listen.starts_with("localhost:");
        if self.admin.token.is_empty() && !loopback {
            return wrong("admin.token must be set when admin.listen is not a loopback address");
        }
        Ok(())
    }

    /// The configuration as TOML, with secrets blotted out.
    pub fn redacted_toml(&self) -> String {
        let mut shown = self.clone();
        for secret in [&mut shown.cluster.cookie, &mut shown.admin.token] {
            if !secret.is_empty() {
                *secret = "…".to_owned();
            }
        }
        shown.storage.url = without_password(&shown.storage.url);
        shown.cache.url = without_password(&shown.cache.url);
        toml::to_string_pretty(&shown).expect("the configuration is plain data")
    }
}

/// A database URL as it may be shown.
pub fn without_password(url: &str) -> String {
    if let Some((before, host)) = url.rsplit_once('@')
        && let Some((scheme, user)) = before.split_once("://")
        && let Some((user, _)) = user.split_once(':')
    {
        return format!("{scheme}://{user}:…@{host}");
    }
    url.to_owned()
}

/// Names the key, where it was set, and for an unknown key the nearest known one.
fn explain(errors: &figment::Error) -> ConfigError {
    let sentences: Vec<String> = errors.clone().into_iter().map(|error| explain_one(&error)).collect();
    ConfigError(sentences.join("; "))
}

fn explain_one(error: &figment::Error) -> String {
    use figment::error::Kind;
    let mut path: Vec<String> = error.path.clone();
    let place = error.metadata.as_ref().map_or_else(String::new, |metadata| {
        let source = metadata.source.as_ref().map_or_else(|| metadata.name.to_string(), ToString::to_string);
        format!(" (in {source})")
    });
    match &error.kind {
        Kind::UnknownField(key, known) => {
            if path.last() != Some(key) {
                path.push(key.clone());
            }
            let nearest = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, key));
            let hint = nearest.map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
            format!("'{}' is not a key{place}{hint}", path.join("."))
        }
        // The file is no TOML at all. The parser draws the line with the fault; the sentence leaves the picture out.
        kind if path.is_empty() => {
            let text = kind.to_string();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|'));
            format!("the configuration can't be read{place}: {}", lines.collect::<Vec<_>>().join(": "))
        }
        kind => format!("'{}': {kind}{place}", path.join(".")),
    }
}
