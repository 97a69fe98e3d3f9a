//! `rookery admin`: what operators do, by way of any node's admin endpoint.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

/// How long one call may take: a node waits for the others for `admin.ask_timeout`, which is shorter.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at a node that drains.
const POLL: Duration = Duration::from_millis(100);

/// Arguments of `rookery admin`.
#[derive(clap::Args)]
pub struct AdminArgs {
    /// The admin endpoint (host:port) of any node of the cluster
    #[arg(long, default_value = "127.0.0.1:8090", env = "ROOKERY_ADMIN", global = true)]
    admin: String,
    /// The bearer token, where admin.token is set
    #[arg(long, env = "ROOKERY_ADMIN_TOKEN", hide_env_values = true, default_value = "", global = true)]
    token: String,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(clap::Subcommand)]
enum AdminCommand {
    /// List the nodes, as the one asked sees them
    Nodes,
    /// Have a node hand over, send its clients elsewhere, and end
    Drain {
        /// The node
        name: String,
        /// Return at once, not when the node has gone
        #[arg(long)]
        no_wait: bool,
        /// Give up waiting after so many seconds; the node drains all the same
        #[arg(long, default_value_t = 60)]
        timeout: u64,
    },
    /// Where a room or presence shard lives, by every node's view
    Placement {
        /// `room` or `presence`
        kind: String,
        /// The conversation's or shard's number
        key: u64,
    },
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "a command shows its user what it learned")]
pub async fn run(args: AdminArgs) -> anyhow::Result<()> {
    let endpoint = Endpoint::new(&args)?;
    match args.command {
        AdminCommand::Nodes => print_nodes(&endpoint.get("/nodes").await?),
        AdminCommand::Placement { kind, key } => {
            let placement = endpoint.get(&format!("/placement?kind={kind}&key={key}")).await?;
            println!("{placement:#}");
        }
        AdminCommand::Drain { name, no_wait, timeout } => {
            let node = endpoint.call(Method::POST, &format!("/nodes/{name}/drain")).await?;
            let sessions = &node["load"]["sessions"];
            println!("{name} drains; it had {sessions} sessions");
            if !no_wait {
                let took = gone(&endpoint, &name, &node, Duration::from_secs(timeout)).await?;
                println!("{name} has gone after {:.1} s", took.as_secs_f64());
            }
        }
    }
    Ok(())
}

/// Waits until the node is down for the node asked; or until that one does not answer, if it is the same.
async fn gone(endpoint: &Endpoint, name: &str, node: &Value, limit: Duration) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let is_itself = node["admin"] == endpoint.address.as_str();
    loop {
        let state = match endpoint.ask(Method::GET, &format!("/nodes/{name}")).await {
            Ok((StatusCode::NOT_FOUND, _)) => return Ok(began.elapsed()),
            Ok((_, node)) if node["incarnation"].is_u64() => {
                node["state"].as_str().unwrap_or_default().to_owned()
            }
            Ok((status, _)) => status.to_string(),
            Err(error) if error.is_connect() && is_itself => return Ok(began.elapsed()),
            Err(error) => error.to_string(),
        };
        if state == "down" {
            return Ok(began.elapsed());
        }
        if began.elapsed() >= limit {
            bail!("{name} has not gone within {limit:?}: {state}. It goes on draining; look at its log");
        }
        tokio::time::sleep(POLL).await;
    }
}

#[expect(clippy::print_stdout, reason = "a command shows its user what it learned")]
fn print_nodes(nodes: &Value) {
    println!("{:<16} {:<8} {:>9} {:>7} {:>8}  address", "node", "state", "sessions", "rooms", "rtt µs");
    for node in nodes["items"].as_array().into_iter().flatten() {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let load = |key: &str| node["load"][key].as_u64().unwrap_or_default();
        let rtt = node["link"]["rtt_us"].as_u64().map_or_else(|| "-".to_owned(), |rtt| rtt.to_string());
        println!(
            "{:<16} {:<8} {:>9} {:>7} {:>8}  {}",
            text("name"),
            text("state"),
            load("sessions"),
            load("rooms"),
            rtt,
            text("address")
        );
    }
}

/// An admin endpoint.
struct Endpoint {
    http: reqwest::Client,
    address: String,
    token: String,
}

impl Endpoint {
    fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        // Nodes are named by address; a proxy of the surroundings has no business here.
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build()?;
        Ok(Self { http, address: args.admin.clone(), token: args.token.clone() })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path).await
    }

    async fn call(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(method, path).await.with_context(|| {
            format!("no admin endpoint answers at {}; name that of a running node with --admin", self.address)
        })?;
        if status.is_success() {
            return Ok(body);
        }
        match body["error"]["message"].as_str() {
            Some(message) => bail!("{message}"),
            None => bail!("{} answers {status}; is it an admin endpoint?", self.address),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> reqwest::Result<(StatusCode, Value)> {
        let url = format!("http://{}/admin/v1{path}", self.address);
        let mut request = self.http.request(method, url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }
}
