//! Searching the caller's conversations.
//!
//! Conversations are searched in batches, those of the newest activity first, until no later one can hold anything newer
//! than what was found: a page of a common word costs little however many conversations there are. The index follows the
//! logs ([`super::indexer`]); what it lacks of the conversations asked is put in first, within a bound, and the answer
//! says when that was not enough. The index names candidates; the messages as history shows them decide.

use std::time::Duration;

use tokio::time::Instant;

use super::indexer::{Step, searchable, step};
use super::json_size::{FRAME_MARGIN_BYTES, json_bytes, takes};
use super::messages::Messages;
use crate::domain::search_terms::{QUERY_CHARS_MAX, Query};
use crate::domain::{Error, Result};
use crate::protocol::v1::Message;
use crate::storage::Stores;
use crate::storage::search::{Find, FoundAt};

/// Conversations searched by one statement.
const BATCH: usize = 128;
/// Steps by which one search brings indexes up to date, at most; each is a transaction.
const STEPS_MAX: usize = 20;
/// How long one search goes on before it answers with what it has.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is searched for.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    /// Words, or parts of texts without spaces, all of which a message must have.
    pub query: String,
    /// 0: in all conversations.
    pub conversation_id: u64,
    /// 0: from anybody.
    pub sender_id: u64,
    /// `None`: of any kind.
    pub kind: Option<i32>,
    /// Not older, Unix milliseconds.
    pub from_ms: u64,
    /// Older than this, Unix milliseconds; 0: any.
    pub to_ms: u64,
    /// At most so many.
    pub limit: u32,
    /// An earlier `next_cursor`.
    pub cursor: String,
}

/// What was found, newest first.
#[derive(Clone, Debug, Default)]
pub struct SearchPage {
    /// In their current state.
    pub messages: Vec<Message>,
    /// Empty at the end.
    pub next_cursor: String,
    /// All messages of the conversations asked were looked at; else a repeat may find more.
    pub complete: bool,
}

/// Search, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Search {
    stores: Stores,
    messages: Messages,
}

/// A search under way.
struct Run<'a> {
    find: Find,
    query: &'a Query,
    found: Vec<Message>,
    steps_left: usize,
    deadline: Instant,
    complete: bool,
}

impl Search {
    /// Over these stores.
    pub fn new(stores: Stores, messages: Messages) -> Self {
        Self { stores, messages }
    }

    /// A page, no larger than `max_bytes` in JSON. Only conversations that `by` is a member of, from the seq on that it may see.
    pub async fn search(&self, by: u64, request: SearchRequest, max_bytes: usize) -> Result<SearchPage> {
        if request.query.chars().count() > QUERY_CHARS_MAX {
            return Err(Error::invalid(
                "query",
                format!("the query is longer than {QUERY_CHARS_MAX} characters"),
            ));
        }
        let query = Query::parse(&request.query)
            .ok_or_else(|| Error::invalid("query", "there is no word in the query; name what to look for"))?;
        let order = if request.conversation_id == 0 {
            self.stores.conversations.order_of(by).await?
        } else {
            self.messages.member(by, request.conversation_id).await?;
            vec![(u64::MAX, request.conversation_id)]
        };
        let limit = request.limit.max(1);
        let mut run = Run {
            find: Find {
                user_id: by,
                lookups: query.lookups().to_vec(),
                sender_id: request.sender_id,
                kind: request.kind,
                from_ms: request.from_ms,
                to_ms: request.to_ms,
                behind: parse_cursor(&request.cursor)?,
                limit: limit + 1,
                ..Find::default()
            },
            query: &query,
            found: Vec::new(),
            steps_left: STEPS_MAX,
            deadline: Instant::now() + PATIENCE,
            complete: true,
        };
        for batch in order.chunks(BATCH) {
            let newest_left_ms = batch.first().map_or(0, |(activity_ms, _)| *activity_ms);
            let is_full =
                run.found.get(limit as usize).is_some_and(|last| last.created_at_ms > newest_left_ms);
            if is_full || newest_left_ms < request.from_ms {
                break;
            }
            if Instant::now() > run.deadline {
                run.complete = false;
                break;
            }
            let ids: Vec<u64> = batch.iter().map(|(_, id)| *id).collect();
            self.catch_up(&mut run, &ids).await?;
            self.search_batch(&mut run, ids).await?;
        }
        Ok(page(run, limit as usize, max_bytes))
    }

    /// Brings the indexes of these conversations up to date, as far as the search's bounds allow.
    async fn catch_up(&self, run: &mut Run<'_>, conversation_ids: &[u64]) -> Result<()> {
        let mut states = self.stores.search.index_states(conversation_ids).await?;
        // Those of the newest activity first, as the bounds may end before the last.
        states.sort_by_key(|state| conversation_ids.iter().position(|id| *id == state.conversation_id));
        for mut state in states {
            while !state.is_complete() {
                if run.steps_left == 0 || Instant::now() > run.deadline {
                    run.complete = false;
                    break;
                }
                run.steps_left -= 1;
                match step(&self.stores, &state).await? {
                    Step::Taken(next, _) => state = next,
                    // Somebody else indexes it; where it stands now, we don't know.
                    Step::Overtaken => {
                        match self.stores.search.index_states(&[state.conversation_id]).await?.pop() {
                            Some(next) => state = next,
                            None => break,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds what is found in these conversations; newest first, and no more than the page needs.
    async fn search_batch(&self, run: &mut Run<'_>, conversation_ids: Vec<u64>) -> Result<()> {
        let mut find = Find { conversation_ids, ..run.find.clone() };
        let wanted = find.limit as usize;
        let mut here = 0;
        loop {
            let candidates = self.stores.search.find(&find).await?;
            let keys: Vec<(u64, u64)> = candidates.iter().map(|at| (at.conversation_id, at.seq)).collect();
            let mut messages = self.stores.messages.at(&keys).await?;
            // What one has hidden, or what has expired, is not found.
            self.messages.veil(find.user_id, messages.iter_mut().collect()).await?;
            for message in messages {
                if run.query.matches(&searchable(&message)) {
                    here += 1;
                    run.found.push(message);
                }
            }
            match candidates.last() {
                // Some of them were none: there may be more behind.
                Some(last) if candidates.len() == wanted && here < wanted => find.behind = Some(*last),
                _ => break,
            }
            if Instant::now() > run.deadline {
                run.complete = false;
                break;
            }
        }
        run.found.sort_unstable_by_key(|message| std::cmp::Reverse(place(message)));
        run.found.truncate(wanted);
        Ok(())
    }
}

fn place(message: &Message) -> FoundAt {
    FoundAt {
        created_at_ms: message.created_at_ms,
        conversation_id: message.conversation_id,
        seq: message.seq,
    }
}

fn page(run: Run<'_>, limit: usize, max_bytes: usize) -> SearchPage {
    let mut room = max_bytes.saturating_sub(FRAME_MARGIN_BYTES);
    let mut page = SearchPage { complete: run.complete, ..SearchPage::default() };
    for message in run.found {
        let fits = takes(&mut room, json_bytes(&message)) || page.messages.is_empty();
        if page.messages.len() == limit || !fits {
            page.next_cursor = page.messages.last().map(|last| cursor(place(last))).unwrap_or_default();
            break;
        }
        page.messages.push(message);
    }
    page
}

fn cursor(at: FoundAt) -> String {
    format!("{}-{}-{}", at.created_at_ms, at.conversation_id, at.seq)
}

fn parse_cursor(cursor: &str) -> Result<Option<FoundAt>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let mut numbers = cursor.split('-').map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    match (next(), next(), next()) {
        (Some(created_at_ms), Some(conversation_id), Some(seq)) => {
            Ok(Some(FoundAt { created_at_ms, conversation_id, seq }))
        }
        _ => Err(Error::invalid("cursor", "cursor is none that was given; leave it out to begin at the top")),
    }
}
