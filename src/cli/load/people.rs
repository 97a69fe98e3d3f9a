//! Signs users up and in, and connects them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::LoadArgs;
use crate::client::{ClientError, Connection, ConnectionOptions, Events, Rest};
use crate::protocol::ErrorCode;

/// Tries of one call that the server refuses because of overload.
const TRIES_MAX: u32 = 60;
/// Pause before such a call is repeated, when the server names none.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections from one source address; a source address has some 28,000 ports by default.
const PER_SOURCE: usize = 20_000;
/// Good enough for users that live for minutes.
const PASSWORD: &str = "load-password";

/// A user of the run.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) user_id: u64,
    pub(super) rest: Rest,
    token: String,
}

/// A connected user.
#[derive(Debug)]
pub(super) struct Online {
    pub(super) user_id: u64,
    pub(super) connection: Connection,
    pub(super) events: Events,
}

/// Makes `count` users with a device each.
pub(super) async fn sign_up(args: &LoadArgs, count: usize) -> anyhow::Result<Vec<Person>> {
    // Names of other runs against the same database must not be met.
    let run: u32 = rand::random();
    // One HTTP client for all, which keeps its connections to each node; each person then has its own token.
    let nodes: Vec<Rest> = args.servers.iter().map(|server| Rest::new([server.clone()])).collect();
    stream::iter(0..count)
        .map(|at| {
            let rest = nodes[at % nodes.len()].clone();
            let username = format!("load-{run:08x}-{at}");
            async move {
                patiently(|| rest.sign_up(&username, PASSWORD, "")).await?;
                let signed_in = patiently(|| rest.sign_in(&username, PASSWORD, "load")).await?;
                let rest = rest.with_token(&signed_in.token);
                Ok::<_, ClientError>(Person { user_id: signed_in.user_id, rest, token: signed_in.token })
            }
        })
        .buffered(args.at_once)
        .try_collect()
        .await
        .context("the users can't be made")
}

/// Connects everybody, spread over the nodes; keeps their order.
pub(super) async fn connect(args: &LoadArgs, people: &[Person]) -> anyhow::Result<Vec<Online>> {
    let endpoints = args.endpoints();
    stream::iter(people.iter().enumerate())
        .map(|(at, person)| async move {
            let source = u8::try_from(1 + at / PER_SOURCE).unwrap_or(u8::MAX);
            let options = ConnectionOptions {
                transport: args.transport.into(),
                local_address: (at >= PER_SOURCE).then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, source))),
                ..ConnectionOptions::default()
            };
            let endpoint = &endpoints[at % endpoints.len()];
            let (connection, events) = Connection::connect(endpoint, &options).await?;
            patiently(|| connection.hello(&person.token)).await?;
            Ok::<_, ClientError>(Online { user_id: person.user_id, connection, events })
        })
        .buffered(args.at_once)
        .try_collect()
        .await
        .context("not everybody can connect")
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
