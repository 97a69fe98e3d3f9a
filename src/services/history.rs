//! Pages of a conversation's history: backwards, forwards, around a message, and from a time on.

use super::json_size::{FRAME_MARGIN_BYTES, json_bytes, takes};
use super::messages::Messages;
use crate::domain::limits::HISTORY_PAGE_MAX;
use crate::domain::{Error, Result};
use crate::protocol::v1::{HistoryPage, HistoryRequest, Message};

/// Messages of a page, when the client names no limit.
const PAGE: u32 = 50;

/// A part of a page that fits, in the log's order, and whether there is more of it.
type Part = (Vec<Message>, bool);

/// Of which conversation, and the first seq that the asker may see.
#[derive(Clone, Copy)]
struct Seen {
    conversation_id: u64,
    first_seq: u64,
}

impl Messages {
    /// See [`Messages::history`].
    pub(super) async fn history_page(
        &self,
        by: u64,
        request: HistoryRequest,
        max_bytes: usize,
    ) -> Result<HistoryPage> {
        let ways = [
            ("before_seq", request.before_seq),
            ("after_seq", request.after_seq),
            ("around_seq", request.around_seq),
            ("at_ms", request.at_ms),
        ];
        let mut named = ways.into_iter().filter(|(_, value)| *value != 0);
        let way = named.next();
        if let (Some((first, _)), Some((second, _))) = (way, named.next()) {
            return Err(Error::invalid(first, format!("name {first} or {second}, not both")));
        }
        let member = self.member(by, request.conversation_id).await?;
        let seen = Seen { conversation_id: request.conversation_id, first_seq: member.first_seq };
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(HISTORY_PAGE_MAX),
        };
        let mut room = max_bytes.saturating_sub(FRAME_MARGIN_BYTES);
        match way {
            Some(("after_seq", seq)) => {
                let (messages, more) = self.newer(seen, seq, limit, &mut room).await?;
                Ok(HistoryPage { messages, more, ..HistoryPage::default() })
            }
            Some(("around_seq", seq)) => self.around(seen, seq, limit, room).await,
            Some(("at_ms", at_ms)) => self.since(seen, at_ms, limit, room).await,
            way => {
                let before = way.map_or(u64::MAX >> 1, |(_, seq)| seq);
                let (messages, more) = self.older(seen, before, limit, &mut room).await?;
                Ok(HistoryPage { messages, more, ..HistoryPage::default() })
            }
        }
    }

    /// The message has half of the page before it, or more where there is less behind it.
    async fn around(&self, seen: Seen, seq: u64, limit: u32, room: usize) -> Result<HistoryPage> {
        let mut half = room / 2;
        let (older, more_older) =
            self.older(seen, seq.saturating_add(1), limit.div_ceil(2), &mut half).await?;
        let mut rest = room / 2 + half;
        let wanted = limit - older.len() as u32;
        let (newer, more_newer) = match wanted {
            0 => (Vec::new(), !self.newer(seen, seq, 1, &mut rest).await?.0.is_empty()),
            wanted => self.newer(seen, seq, wanted, &mut rest).await?,
        };
        let messages: Vec<Message> = older.into_iter().chain(newer).collect();
        Ok(HistoryPage { messages, more: more_older || more_newer, more_older, more_newer })
    }

    async fn since(&self, seen: Seen, at_ms: u64, limit: u32, mut room: usize) -> Result<HistoryPage> {
        let first = self.stores.messages.seq_at(seen.conversation_id, at_ms).await?.max(seen.first_seq);
        let (messages, more) = self.newer(seen, first.saturating_sub(1), limit, &mut room).await?;
        let more_older =
            !self.stores.messages.before(seen.conversation_id, first, seen.first_seq, 1).await?.is_empty();
        Ok(HistoryPage { messages, more, more_older, more_newer: more })
    }

    async fn newer(&self, seen: Seen, after_seq: u64, limit: u32, room: &mut usize) -> Result<Part> {
        let after = after_seq.max(seen.first_seq.saturating_sub(1));
        let found = self.stores.messages.after(seen.conversation_id, after, limit + 1).await?;
        Ok(fitting(found.into_iter(), limit, room))
    }

    async fn older(&self, seen: Seen, before_seq: u64, limit: u32, room: &mut usize) -> Result<Part> {
        let log = &self.stores.messages;
        let found = log.before(seen.conversation_id, before_seq, seen.first_seq, limit + 1).await?;
        let (mut messages, more) = fitting(found.into_iter().rev(), limit, room);
        messages.reverse();
        Ok((messages, more))
    }
}

/// The first of the messages that fit, and whether there are others.
fn fitting(messages: impl Iterator<Item = Message>, limit: u32, room: &mut usize) -> Part {
    let mut taken = Vec::new();
    for message in messages {
        if taken.len() == limit as usize || !takes(room, json_bytes(&message)) {
            return (taken, true);
        }
        taken.push(message);
    }
    (taken, false)
}
