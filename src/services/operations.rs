//! What operators ask: nodes, actors, placement. The answers are JSON as the admin endpoint shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actors::{Actors, live_nodes};
use crate::cluster::{Address, Kind, NodeState, NodeView, ReplyTo};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{
    ActorRow, Drain, InspectSession, ListActors, NodeRequest, PlacementQuery, node_reply, node_request,
};
use crate::storage::Stores;

/// The operators' questions. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    actors: Actors,
    stores: Stores,
    limit: Duration,
    page_max: usize,
}

/// The filters of `GET /actors`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct ActorQuery {
    /// `session`, `room` or `presence`; empty: all.
    pub kind: String,
    /// One node's only.
    pub node: String,
    /// One key only.
    pub key: Option<u64>,
    /// Most rows.
    pub limit: Option<usize>,
    /// An earlier `next_cursor`.
    pub cursor: String,
}

/// Rows of a page, when the operator names no limit.
const ROWS: usize = 100;

impl Operations {
    /// Questions about these actors and stores.
    pub fn new(config: &crate::config::AdminConfig, actors: Actors, stores: Stores) -> Self {
        Self { actors, stores, limit: config.ask_timeout, page_max: config.page_max }
    }

    /// Whether the node takes clients: storage answers and the node is up in its own view. Else why not.
    pub async fn ready(&self) -> std::result::Result<(), String> {
        let view = self.actors.cluster().view();
        let state = view.node(self.actors.node_name()).map(|node| node.state);
        if state != Some(NodeState::Up) {
            return Err(format!("the node is {}", state.map_or("unknown", NodeState::as_str)));
        }
        match self.stores.messages.last_seq(0).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// `{"items": [node…], "counters": {…}}`; the counters are those of the node asked.
    pub async fn nodes(&self) -> Result<Value> {
        let cluster = self.actors.cluster();
        let items: Vec<Value> = cluster.nodes().iter().map(node_json).collect();
        let counters: BTreeMap<&str, u64> =
            cluster.counters().all().into_iter().chain(self.actors.overload().counts()).collect();
        Ok(json!({
            "items": items, "view_version": cluster.view().version, "asked": self.actors.node_name(),
            "counters": counters,
        }))
    }

    /// One node.
    pub async fn node(&self, name: &str) -> Result<Value> {
        let nodes = self.actors.cluster().nodes();
        let node = nodes.iter().find(|node| node.info.name == name);
        node.map(node_json).ok_or_else(|| Error::not_found(format!("no node is called {name}")))
    }

    /// Tells a node to drain, as SIGTERM would, and answers with it as it was before. It goes on by itself: it has gone
    /// when it is `down` here.
    pub async fn drain(&self, name: &str) -> Result<Value> {
        let node = self.node(name).await?;
        if node["state"] == NodeState::Down.as_str() {
            return Err(Error::precondition(format!("{name} is down already")));
        }
        self.ask(name, node_request::Command::Drain(Drain {})).await?;
        tracing::info!(node = name, "an operator has told the node to drain");
        Ok(node)
    }

    /// `{"items": [actor…], "next_cursor", "incomplete": [nodes that did not answer]}`.
    pub async fn actors(&self, query: ActorQuery) -> Result<Value> {
        if !query.kind.is_empty() {
            query.kind.parse::<Kind>().map_err(|why| Error::invalid("kind", why))?;
        }
        let (after_kind, after_key) = match query.cursor.rsplit_once('/') {
            Some((kind, key)) => (
                kind.to_owned(),
                key.parse().map_err(|_| Error::invalid("cursor", "the cursor is not one that was given"))?,
            ),
            None if query.cursor.is_empty() => (String::new(), 0),
            None => return Err(Error::invalid("cursor", "the cursor is not one that was given")),
        };
        let limit = query.limit.unwrap_or(ROWS).clamp(1, self.page_max);
        let list = ListActors {
            kind: query.kind,
            key: query.key.unwrap_or_default(),
            after_key,
            after_kind,
            limit: limit as u32 + 1,
        };
        let view = self.actors.cluster().view();
        let nodes: Vec<String> = live_nodes(&view)
            .filter(|node| query.node.is_empty() || *node == query.node)
            .map(str::to_owned)
            .collect();
        if nodes.is_empty() {
            return Err(Error::not_found(format!("no live node is called {}", query.node)));
        }
        let asks = nodes.iter().map(|node| self.ask(node, node_request::Command::ListActors(list.clone())));
        let (mut rows, mut incomplete) = (Vec::new(), Vec::new());
        for (node, answer) in nodes.iter().zip(futures_util::future::join_all(asks).await) {
            match answer {
                Ok(node_reply::Reply::Actors(list)) => rows.extend(list.actors),
                _ => incomplete.push(node.clone()),
            }
        }
        rows.sort_by(|a, b| (&a.kind, a.key, &a.node).cmp(&(&b.kind, b.key, &b.node)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = match rows.last() {
            Some(last) if more => format!("{}/{}", last.kind, last.key),
            _ => String::new(),
        };
        let items: Vec<Value> = rows.iter().map(row_json).collect();
        Ok(json!({ "items": items, "next_cursor": next_cursor, "incomplete": incomplete }))
    }

    /// One actor's own view of itself.
    pub async fn actor(&self, kind: &str, key: u64) -> Result<Value> {
        let text = match kind.parse().map_err(|why: String| Error::invalid("kind", why))? {
            Kind::Room => self.actors.rooms().inspect(key).await?,
            Kind::Presence => self.actors.inspect_shard(key).await?,
            Kind::Session => self.session(key).await?,
        };
        serde_json::from_str(&text).map_err(|_| Error::internal("an actor's own view is not JSON"))
    }

    /// Where an address lives, and where it would.
    pub async fn placement(&self, kind: &str, key: u64) -> Result<Value> {
        let address = match kind.parse().map_err(|why: String| Error::invalid("kind", why))? {
            Kind::Session => {
                return Err(Error::invalid(
                    "kind",
                    "a session lives where its socket is; look it up under /actors",
                ));
            }
            kind => Address { kind, key },
        };
        let view = self.actors.cluster().view();
        let nodes: Vec<String> = live_nodes(&view).map(str::to_owned).collect();
        let query = PlacementQuery { address: Some(address.into()) };
        let asks = nodes.iter().map(|node| self.ask(node, node_request::Command::Placement(query)));
        let mut views = Vec::new();
        for (node, answer) in nodes.iter().zip(futures_util::future::join_all(asks).await) {
            views.push(match answer {
                Ok(node_reply::Reply::Placement(seen)) => {
                    json!({ "node": node, "view_version": seen.view_version,
                    "owner": seen.owner, "owner_if_lost": seen.owner_if_lost })
                }
                Ok(_) => json!({ "node": node, "error": "it answered as something else" }),
                Err(error) => json!({ "node": node, "error": error.to_string() }),
            });
        }
        let owner = view.owner(&address).unwrap_or_default();
        let owner_if_lost = view.owner_without(&address, owner).unwrap_or_default();
        Ok(
            json!({ "kind": kind, "key": key, "owner": owner, "owner_if_lost": owner_if_lost, "views": views }),
        )
    }

    async fn session(&self, session_id: u64) -> Result<String> {
        let view = self.actors.cluster().view();
        let nodes: Vec<String> = live_nodes(&view).map(str::to_owned).collect();
        let asks = nodes
            .iter()
            .map(|node| self.ask(node, node_request::Command::InspectSession(InspectSession { session_id })));
        for answer in futures_util::future::join_all(asks).await {
            if let Ok(node_reply::Reply::Json(json)) = answer {
                return Ok(json);
            }
        }
        Err(Error::not_found(format!("no node has a session {session_id}")))
    }

    async fn ask(&self, node: &str, command: node_request::Command) -> Result<node_reply::Reply> {
        let (reply, answer) = ReplyTo::channel();
        self.actors.cluster().ask_node(node, NodeRequest { command: Some(command) }, self.limit, reply);
        answer.await?.reply.ok_or_else(|| Error::internal("a node answered nothing"))
    }
}

fn node_json(node: &NodeView) -> Value {
    json!({
        "name": node.info.name, "incarnation": node.info.incarnation, "address": node.info.cluster_address,
        "state": node.state.as_str(), "since_ms": node.since_ms, "version": node.info.version,
        "http": node.info.http_address, "tcp": node.info.tcp_address, "line": node.info.line_address,
        "admin": node.info.admin_address,
        "load": { "sessions": node.sessions, "rooms": node.rooms },
        "link": { "rtt_us": node.rtt_us, "queued_items": node.queued_items, "queued_bytes": node.queued_bytes },
    })
}

fn row_json(row: &ActorRow) -> Value {
    json!({ "kind": row.kind, "key": row.key, "node": row.node, "activation": row.activation,
        "age_ms": row.age_ms, "mailbox_depth": row.mailbox_depth, "messages_handled": row.messages_handled,
        "last_active_ms": row.last_active_ms, "passive": row.passive })
}
