//! Redis itself: finding it (one server, Sentinel, Cluster, TLS), one connection, and the few things it is asked. No
//! other file names the crate.
//!
//! Connections here do not mend themselves. A bare multiplexed connection stays broken once broken, and that is
//! wanted: what comes after a break may be another server, or the same one with an old memory, so the tier has to look
//! before it trusts it (see `remote`). The crate's connection manager would go on over the break unseen.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    RedisError, RedisResult, Script, TlsCertificates, TlsMode, Value,
};

use crate::config::{CacheConfig, ConfigError};

/// How long a connection may take to be made, and any of its first questions.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a token lives that lets a reader store what it reads: longer than any read that is worth keeping.
const LEASE_TTL: Duration = Duration::from_secs(10);

/// Most keys of one script; others go beside it. Redis does nothing else meanwhile.
const KEYS_TOGETHER: usize = 64;

/// KEYS: value and token of each. ARGV: how a value of this epoch begins, a new token, its lifetime in ms. Answers {1, value}
/// or {0, token} for each; an empty token: what is read must not be stored (Redis is full).
static LOOK_UP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = {}
for at = 1, #KEYS, 2 do
  local value = redis.pcall('GET', KEYS[at])
  if type(value) == 'string' and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
    found[#found + 1] = {1, value}
  else
    local token = redis.call('GET', KEYS[at + 1])
    if not token then
      local stored = redis.pcall('SET', KEYS[at + 1], ARGV[2], 'PX', ARGV[3])
      if stored.err then token = '' else token = ARGV[2] end
    end
    found[#found + 1] = {0, token}
  end
end
return found",
    )
});

/// KEYS: value and token of each. ARGV: the token given, the value, its lifetime in ms of each. Stores those that no write came
/// in between of, and answers how many.
static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local count, given = 0, 1
for at = 1, #KEYS, 2 do
  if redis.call('GET', KEYS[at + 1]) == ARGV[given] then
    local stored = redis.pcall('SET', KEYS[at], ARGV[given + 1], 'PX', ARGV[given + 2])
    if not stored.err then count = count + 1 end
  end
  given = given + 3
end
return count",
    )
});

/// What goes wrong with Redis.
pub type Failure = RedisError;
/// What a question comes to.
pub type Outcome<T> = RedisResult<T>;

/// What Redis has for a reader.
pub enum Found {
    /// The value, as it was stored.
    Value(String),
    /// Nothing. The token lets the reader store what it reads elsewhere, unless a write deletes it first.
    Token(String),
}

/// A value to be stored.
pub struct Filling {
    /// Its key.
    pub key: String,
    /// The leave to store it.
    pub token: String,
    /// The value, as it is stored.
    pub value: String,
    /// How long it lives.
    pub ttl: Duration,
}

/// Where Redis is.
#[derive(Clone)]
pub enum Target {
    /// One server.
    Server(Box<Client>),
    /// Whichever server these sentinels name.
    Sentinel {
        /// host and port of the sentinels.
        sentinels: Vec<(String, u16)>,
        /// The name of the master.
        service: String,
        /// How to sign in to it.
        server: Box<ConnectionInfo>,
    },
    /// A cluster, by some of its nodes.
    Cluster(Vec<ConnectionInfo>, Option<TlsCertificates>),
}

/// A connection, with what must be known of what is behind it. Cheap to clone.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To a cluster.
    Cluster(ClusterConnection),
}

impl Target {
    /// Reads `cache.url`; `None`: it is empty.
    pub fn of(config: &CacheConfig) -> Result<Option<Self>, ConfigError> {
        let wrong = |why: String| {
            let shown = crate::config::without_password(&config.url);
            ConfigError(format!("cache.url {shown}: {why}"))
        };
        if config.url.is_empty() {
            return Ok(None);
        }
        let certificates = certificates(&config.ca_file)?;
        let (scheme, rest) = config
            .url
            .split_once("://")
            .ok_or_else(|| wrong("give redis://, rediss://, redis+sentinel:// or redis+cluster://".into()))?;
        let (kind, is_tls) = match scheme {
            "redis" | "rediss" if rest.contains(',') => ("cluster", scheme == "rediss"),
            "redis" | "rediss" => ("server", scheme == "rediss"),
            "redis+sentinel" | "rediss+sentinel" => ("sentinel", scheme.starts_with("rediss")),
            "redis+cluster" | "rediss+cluster" => ("cluster", scheme.starts_with("rediss")),
            _ => {
                return Err(wrong(format!(
                    "'{scheme}' is no kind of Redis; use redis, rediss, redis+sentinel or redis+cluster"
                )));
            }
        };
        let plain = if is_tls { "rediss" } else { "redis" };
        let say = |error: RedisError| wrong(error.to_string());
        match kind {
            "server" => Ok(Some(Self::Server(Box::new(client(&config.url, certificates).map_err(say)?)))),
            "cluster" => {
                // A list may name the scheme and the password again in each part, or leave both to the first one.
                let user =
                    rest.split(',').next().and_then(|first| first.rsplit_once('@')).map(|(user, _)| user);
                let nodes: RedisResult<Vec<ConnectionInfo>> = rest
                    .split(',')
                    .map(|part| {
                        let part = part.split_once("://").map_or(part, |(_, part)| part);
                        let address = part.rsplit_once('@').map_or(part, |(_, address)| address);
                        let user = user.map_or_else(String::new, |user| format!("{user}@"));
                        format!("{plain}://{user}{address}").as_str().into_connection_info()
                    })
                    .collect();
                Ok(Some(Self::Cluster(nodes.map_err(say)?, certificates)))
            }
            _ => {
                let (user, rest) = rest
                    .rsplit_once('@')
                    .map_or((String::new(), rest), |(user, rest)| (format!("{user}@"), rest));
                let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (service, database) = path.split_once('/').unwrap_or((path, "0"));
                if service.is_empty() {
                    return Err(wrong("name the master: redis+sentinel://HOST:PORT,HOST:PORT/NAME".into()));
                }
                let sentinels: Option<Vec<(String, u16)>> = hosts
                    .split(',')
                    .map(|host| {
                        let (name, port) = host.rsplit_once(':').unwrap_or((host, "26379"));
                        Some((name.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
                    })
                    .collect();
                let server =
                    client(&format!("{plain}://{user}server/{database}"), certificates).map_err(say)?;
                Ok(Some(Self::Sentinel {
                    sentinels: sentinels.ok_or_else(|| wrong("a sentinel's port is no number".into()))?,
                    service: service.to_owned(),
                    server: Box::new(server.get_connection_info().clone()),
                }))
            }
        }
    }

    /// A new connection, to whatever is in charge now.
    pub async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        match self {
            Self::Server(client) => {
                Ok(Connection::Server(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Self::Sentinel { sentinels, service, server } => {
                let client = sentinel(sentinels, service, server)?.async_get_client().await?;
                Ok(Connection::Server(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Self::Cluster(nodes, certificates) => {
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .retries(1)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(CONNECT_TIMEOUT);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates.clone());
                }
                Ok(Connection::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }
}

fn certificates(ca_file: &str) -> Result<Option<TlsCertificates>, ConfigError> {
    if ca_file.is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(ca_file)
        .map_err(|error| ConfigError(format!("cache.ca_file {ca_file} can't be read: {error}")))?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }))
}

fn client(url: &str, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates.filter(|_| url.starts_with("rediss")) {
        Some(certificates) => Client::build_with_tls(url, certificates),
        None => Client::open(url),
    }
}

fn sentinel(
    sentinels: &[(String, u16)],
    service: &str,
    server: &ConnectionInfo,
) -> RedisResult<SentinelClient> {
    let sentinels = sentinels.iter().map(|(host, port)| ConnectionAddr::Tcp(host.clone(), *port));
    let mut builder = SentinelClientBuilder::new(sentinels, service, SentinelServerType::Master)?;
    let settings = server.redis_settings();
    builder = builder.set_client_to_redis_db(settings.db());
    if let Some(username) = settings.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if matches!(server.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    builder.build()
}

/// The token's key stands in braces, so that a cluster keeps it in the slot of the value's.
fn token_key(key: &str) -> String {
    format!("{{{key}}}:token")
}

impl Connection {
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Which servers are behind it: another answer means that what is stored there may be older than what was deleted
    /// elsewhere. For a cluster, all its masters.
    pub async fn identity(&mut self) -> RedisResult<String> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let answer = match self {
            Self::Server(connection) => info.query_async::<Value>(connection).await?,
            Self::Cluster(connection) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(info, masters).await?
            }
        };
        let mut runs = Vec::new();
        run_ids(&answer, &mut runs);
        runs.sort_unstable();
        Ok(match runs.as_slice() {
            [] => {
                return Err(RedisError::from((
                    redis::ErrorKind::UnexpectedReturnType,
                    "INFO names no run_id",
                )));
            }
            [one] => one.clone(),
            all => format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.concat().as_bytes())),
        })
    }

    /// The epoch's name that all nodes share; makes `new` the one where there is none, or in any case.
    pub async fn epoch(&mut self, key: &str, new: &str, replace: bool) -> RedisResult<String> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(new);
        if !replace {
            // A full Redis refuses every SET, also one that would change nothing.
            if let Some(name) = self.current_epoch(key).await? {
                return Ok(name);
            }
            set.arg("NX");
        }
        self.ask::<Value>(&set).await?;
        self.ask(redis::cmd("GET").arg(key)).await
    }

    /// The epoch's name as it is.
    pub async fn current_epoch(&mut self, key: &str) -> RedisResult<Option<String>> {
        self.ask(redis::cmd("GET").arg(key)).await
    }

    /// Whether it answers.
    pub async fn ping(&mut self) -> RedisResult<()> {
        self.ask(&redis::cmd("PING")).await
    }

    /// For each key the value of an epoch, or a token to store one: `token`, where no other reader has left his.
    pub async fn look_up(&self, keys: &[String], head: &str, token: &str) -> RedisResult<Vec<Found>> {
        let calls = keys.chunks(self.keys_together()).map(|keys| {
            let mut call = LOOK_UP.prepare_invoke();
            for key in keys {
                call.key(key).key(token_key(key));
            }
            call.arg(head).arg(token).arg(LEASE_TTL.as_millis() as u64);
            let mut connection = self.clone();
            async move {
                match &mut connection {
                    Self::Server(connection) => call.invoke_async::<Vec<(i64, String)>>(connection).await,
                    Self::Cluster(connection) => call.invoke_async(connection).await,
                }
            }
        });
        let found = futures_util::future::try_join_all(calls).await?.into_iter().flatten();
        let found: Vec<Found> = found
            .map(|(is_value, text)| if is_value == 1 { Found::Value(text) } else { Found::Token(text) })
            .collect();
        if found.len() != keys.len() {
            let what = "a look-up answers another number of keys than was asked for";
            return Err(RedisError::from((redis::ErrorKind::UnexpectedReturnType, what)));
        }
        Ok(found)
    }

    /// Stores values for the holders of tokens; how many were.
    pub async fn fill(&self, filling: &[Filling]) -> RedisResult<u64> {
        let calls = filling.chunks(self.keys_together()).map(|filling| {
            let mut call = FILL.prepare_invoke();
            for Filling { key, token, value, ttl } in filling {
                call.key(key).key(token_key(key)).arg(token).arg(value).arg(ttl.as_millis() as u64);
            }
            let mut connection = self.clone();
            async move {
                match &mut connection {
                    Self::Server(connection) => call.invoke_async::<u64>(connection).await,
                    Self::Cluster(connection) => call.invoke_async(connection).await,
                }
            }
        });
        Ok(futures_util::future::try_join_all(calls).await?.into_iter().sum())
    }

    /// A cluster keeps each key in a place of its own.
    fn keys_together(&self) -> usize {
        if matches!(self, Self::Server(_)) { KEYS_TOGETHER } else { 1 }
    }

    /// Deletes values, and with them the tokens of those who are reading old ones.
    pub async fn delete(&mut self, keys: &[String]) -> RedisResult<()> {
        // One command a key: a cluster keeps them in different places.
        let deletions = keys.iter().map(|key| {
            let mut connection = self.clone();
            async move { connection.ask::<()>(redis::cmd("DEL").arg(key).arg(token_key(key))).await }
        });
        futures_util::future::try_join_all(deletions).await.map(|_| ())
    }

    /// Stores or (`None`) deletes plain values.
    pub async fn put(&mut self, rows: &[(String, Option<String>, Duration)]) -> RedisResult<()> {
        let puts = rows.iter().map(|(key, value, ttl)| {
            let mut connection = self.clone();
            async move {
                let command = match value {
                    Some(value) => {
                        let mut set = redis::cmd("SET");
                        set.arg(key).arg(value).arg("PX").arg(ttl.as_millis() as u64);
                        set
                    }
                    None => {
                        let mut del = redis::cmd("DEL");
                        del.arg(key);
                        del
                    }
                };
                connection.ask::<Value>(&command).await
            }
        });
        futures_util::future::try_join_all(puts).await.map(|_| ())
    }
}

/// All run ids in an answer to INFO, which is a text, or a map of them by node.
fn run_ids(answer: &Value, found: &mut Vec<String>) {
    match answer {
        Value::BulkString(bytes) => find_run_id(&String::from_utf8_lossy(bytes), found),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => find_run_id(text, found),
        Value::Array(values) => values.iter().for_each(|value| run_ids(value, found)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, value)| run_ids(value, found)),
        _ => {}
    }
}

fn find_run_id(text: &str, found: &mut Vec<String>) {
    found.extend(text.lines().filter_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Option<Target>, ConfigError> {
        Target::of(&CacheConfig { url: url.to_owned(), ..CacheConfig::default() })
    }

    #[test]
    fn a_url_says_which_kind_of_redis_it_is() {
        assert!(matches!(target(""), Ok(None)));
        for url in ["redis://127.0.0.1", "rediss://:secret@cache.example:6380/2"] {
            assert!(matches!(target(url), Ok(Some(Target::Server(_)))), "{url}");
        }
        for url in ["redis://:secret@a:1,b:2", "redis://a:1,redis://b:2", "rediss+cluster://:s@a:1,b:2"] {
            let Ok(Some(Target::Cluster(nodes, _))) = target(url) else { panic!("{url}") };
            assert_eq!(nodes.len(), 2, "{url}");
            assert_eq!(nodes[0].redis_settings().password(), nodes[1].redis_settings().password());
        }
        let sentinel = target("redis+sentinel://:secret@a:1,b/main/3");
        let Ok(Some(Target::Sentinel { sentinels, service, server })) = sentinel else {
            panic!("a sentinel")
        };
        assert_eq!(sentinels, [("a".to_owned(), 1), ("b".to_owned(), 26379)]);
        assert_eq!((service.as_str(), server.redis_settings().db()), ("main", 3));
        assert_eq!(server.redis_settings().password(), Some("secret"));
    }

    #[test]
    fn a_wrong_url_is_refused_without_telling_the_password() {
        for url in [
            "127.0.0.1:6379",
            "http://:secret@a",
            "redis+sentinel://:secret@a:1",
            "redis+sentinel://:secret@a:x/m",
        ] {
            let error = target(url).err().expect(url).to_string();
            assert!(error.contains("cache.url") && !error.contains("secret"), "{error}");
        }
    }
}
