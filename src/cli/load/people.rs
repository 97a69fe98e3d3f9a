//! Signs users up and in, and connects them; keeps them in a file for later runs.

use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::LoadArgs;
use super::lean::{self, Credentials, Inlet};
use super::scenarios::Run;
use crate::client::{ClientError, Rest};
use crate::protocol::ErrorCode;

/// Tries of one call that the server refuses because of overload.
const TRIES_MAX: u32 = 60;
/// Pause before such a call is repeated, when the server names none.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections from one source address; a source address has some 28,000 ports by default.
const PER_SOURCE: usize = 20_000;
/// Good enough for users that live for minutes.
const PASSWORD: &str = "load-password";
/// Users that are made and written to the users file in one go, so that a cut-off run leaves what it made.
const SAVED_AT_ONCE: usize = 1000;

/// A user of the run.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) user_id: u64,
    pub(super) rest: Rest,
    username: String,
    token: String,
}

impl Person {
    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials { token: &self.token, username: &self.username, password: PASSWORD }
    }
}

/// A line of the users file.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    user_id: u64,
    username: String,
    token: String,
}

/// A connected user.
#[derive(Debug)]
pub(super) struct Online {
    pub(super) user_id: u64,
    /// Which of the run's players it is, and so its thread.
    pub(super) at: usize,
    pub(super) inlet: Inlet,
}

/// `count` users with a device each: those of the users file, and new ones for what it lacks.
pub(super) async fn sign_up(args: &LoadArgs, count: usize) -> anyhow::Result<Vec<Person>> {
    // One HTTP client for all, which keeps its connections to each node; each person then has its own token.
    let nodes: Vec<Rest> = args.servers.iter().map(|server| Rest::new([server.clone()])).collect();
    let mut people = match &args.users_file {
        Some(file) => known(file, count, &nodes).await?,
        None => Vec::new(),
    };
    // Names of other runs against the same database must not be met.
    let run: u32 = rand::random();
    while people.len() < count {
        let until = count.min(people.len() + SAVED_AT_ONCE);
        let made: Vec<Person> = stream::iter(people.len()..until)
            .map(|at| {
                let rest = nodes[at % nodes.len()].clone();
                sign_up_one(rest, format!("load-{run:08x}-{at}"))
            })
            .buffered(args.at_once)
            .try_collect()
            .await
            .context("the users can't be made")?;
        if let Some(file) = &args.users_file {
            save(file, &made).with_context(|| format!("{} can't be written", file.display()))?;
        }
        people.extend(made);
    }
    Ok(people)
}

async fn sign_up_one(rest: Rest, username: String) -> Result<Person, ClientError> {
    patiently(|| rest.sign_up(&username, PASSWORD, "")).await?;
    let signed_in = patiently(|| rest.sign_in(&username, PASSWORD, "load")).await?;
    let rest = rest.with_token(&signed_in.token);
    Ok(Person { user_id: signed_in.user_id, rest, username, token: signed_in.token })
}

/// Up to `count` users of the file; none if there is no file yet.
async fn known(file: &Path, count: usize, nodes: &[Rest]) -> anyhow::Result<Vec<Person>> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", file.display())),
    };
    let mut people = Vec::new();
    for (at, line) in std::io::BufReader::new(opened).lines().take(count).enumerate() {
        let line = line.with_context(|| format!("{} can't be read", file.display()))?;
        let saved: Saved = serde_json::from_str(&line)
            .with_context(|| format!("line {} of {} is no user of an earlier run", at + 1, file.display()))?;
        let rest = nodes[at % nodes.len()].with_token(&saved.token);
        people.push(Person { user_id: saved.user_id, rest, username: saved.username, token: saved.token });
    }
    // One stands for all: a file is of one database, or it is of another.
    if let Some(first) = people.first() {
        let me = patiently(|| first.rest.me()).await;
        if me.as_ref().is_err_and(|error| error.code() != ErrorCode::Unauthenticated) {
            me.context("the users of the users file can't be asked after")?;
        } else if me.ok().is_none_or(|me| me.user_id != first.user_id) {
            bail!("the users of {} are not known to this server; remove the file", file.display());
        }
    }
    Ok(people)
}

fn save(file: &Path, people: &[Person]) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for person in people {
        let saved =
            Saved { user_id: person.user_id, username: person.username.clone(), token: person.token.clone() };
        serde_json::to_writer(&mut lines, &saved)?;
        lines.push(b'\n');
    }
    std::fs::File::options().create(true).append(true).open(file)?.write_all(&lines)
}

/// Connects everybody, each to the node that `node_of` says for its place in `people`; keeps their order. They are the
/// run's players from `first` on.
pub(super) async fn connect(
    run: &Run,
    people: &[Person],
    first: usize,
    node_of: impl Fn(usize) -> usize,
) -> anyhow::Result<Vec<Online>> {
    stream::iter(people.iter().enumerate())
        .map(|(place, person)| connect_one(run, person.clone(), first + place, node_of(place)))
        .buffered(run.args.at_once)
        .try_collect()
        .await
        .context("not everybody can connect")
}

/// Connects one on its thread, and holds the connection.
pub(super) async fn connect_one(
    run: &Run,
    person: Person,
    at: usize,
    node: usize,
) -> Result<Online, ClientError> {
    let endpoint = run.endpoint(node);
    let framing = run.args.transport.into();
    let connecting = async move {
        patiently(|| async {
            let mut inlet = lean::connect(&endpoint, framing, source(at)).await?;
            inlet.sign_in(person.credentials()).await?;
            Ok(Online { user_id: person.user_id, at, inlet })
        })
        .await
    };
    let online = run
        .pool
        .on(at)
        .spawn(connecting)
        .await
        .map_err(|error| ClientError::Protocol(format!("the task that connects has ended: {error}")))??;
    run.pool.hold(&online.inlet.link);
    Ok(online)
}

/// The address that player `at` connects from: beyond the ports of one, another of this machine's.
fn source(at: usize) -> Option<Ipv4Addr> {
    let source = u8::try_from(1 + at / PER_SOURCE).unwrap_or(u8::MAX);
    (at >= PER_SOURCE).then_some(Ipv4Addr::new(127, 0, 0, source))
}

/// Repeats a call that is refused because of overload.
pub(super) async fn patiently<T, F>(call: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut tries = 1;
    loop {
        match call().await {
            Err(error)
                if tries < TRIES_MAX
                    && matches!(error.code(), ErrorCode::ResourceExhausted | ErrorCode::Unavailable)
                    && matches!(error, ClientError::Refused(_)) =>
            {
                tries += 1;
                tokio::time::sleep(PAUSE.max(Duration::from_millis(error.retry_after_ms()))).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(at: u64) -> Person {
        let rest = Rest::new(["127.0.0.1:1"]);
        Person { user_id: at, rest, username: format!("load-{at}"), token: format!("token-{at}") }
    }

    #[tokio::test]
    async fn people_are_found_again_in_their_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("users.jsonl");
        assert!(known(&file, 5, &[]).await.expect("no file is no user").is_empty());
        save(&file, &[person(1), person(2)]).expect("the folder is ours");
        save(&file, &[person(3)]).expect("the folder is ours");
        let lines = std::fs::read_to_string(&file).expect("it was written");
        assert_eq!(lines.lines().count(), 3);
        assert!(lines.starts_with(r#"{"user_id":1,"username":"load-1","token":"token-1"}"#), "{lines}");
        let error = known(&file, 5, &[Rest::new(["127.0.0.1:1"])]).await.expect_err("nobody is there to ask");
        assert!(error.to_string().contains("can't be asked after"), "{error:#}");
    }

    #[test]
    fn many_connections_have_several_sources() {
        assert_eq!(source(PER_SOURCE - 1), None);
        assert_eq!(source(PER_SOURCE), Some(Ipv4Addr::new(127, 0, 0, 2)));
    }
}
