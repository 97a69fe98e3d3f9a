//! Sync: what a device has missed, and the list of conversations, by pages of a bounded size.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::json_size::{FRAME_MARGIN_BYTES, conversation_bytes, json_bytes, takes};
use super::messages::Messages;
use super::sync_token::{Page, SyncToken};
use crate::clock;
use crate::domain::limits::SYNC_CURSORS_MAX;
use crate::domain::{Error, Result};
use crate::protocol::v1::{Conversation, Message, SyncPage, SyncRequest};
use crate::storage::ListRow;

/// What a page of the list is asked for.
struct List<'a> {
    by: u64,
    token: &'a SyncToken,
    limit: u32,
    except: &'a HashSet<u64>,
}

impl Messages {
    /// A page of sync, no larger than `max_bytes` in JSON.
    pub async fn sync(&self, by: u64, request: SyncRequest, max_bytes: usize) -> Result<SyncPage> {
        if request.cursors.len() > SYNC_CURSORS_MAX {
            return Err(Error::invalid(
                "cursors",
                format!(
                    "{} cursors are too many; send at most {SYNC_CURSORS_MAX} in one sync",
                    request.cursors.len()
                ),
            ));
        }
        let token = SyncToken::parse(&request.since)?;
        let began_ms = Page::parse(&request.page)?.map_or(0, |page| page.began_ms);
        let mut next = token.next(clock::now_ms(), began_ms);
        let mut room = max_bytes.saturating_sub(FRAME_MARGIN_BYTES);
        let limit = match request.limit {
            0 => self.sync_page,
            limit => limit.min(self.sync_page),
        };
        let (messages, more, left) = self.messages_after(by, &request, limit as usize, &mut room).await?;
        let mut page = SyncPage { messages, more, ..SyncPage::default() };
        self.veil(by, page.messages.iter_mut().collect()).await?;
        // While messages remain the client asks again anyway: the list comes with the last of them.
        if !more || !request.page.is_empty() {
            if request.page.is_empty() && token.since_ms != 0 {
                self.add_hidden(by, token.since_ms, &mut page, &mut next.since_ms, &mut room).await?;
            }
            let mut ended = Vec::new();
            // The list of one who has no token is of those that the user is in.
            if token.since_ms == 0 && request.page.is_empty() {
                let rows = self.stores.conversations.these_conversations_of(by, &left).await?;
                let rows = rows.into_iter().map(Conversation::from);
                ended.extend(rows.filter(|row| takes(&mut room, conversation_bytes(row))));
            }
            let named: HashSet<u64> = request.cursors.iter().map(|cursor| cursor.conversation_id).collect();
            let list = List { by, token: &token, limit: self.list_page_max, except: &named };
            let (conversations, next_page) = self.list(list, &request.page, room, &mut next).await?;
            (page.conversations, page.next_page) = (conversations, next_page);
            page.conversations.extend(ended);
        }
        page.sync_token = next.to_string();
        Ok(page)
    }

    /// The conversation list of `by`, newest first; `cursor` is an earlier answer's second part (empty: from the top).
    pub async fn conversations(
        &self,
        by: u64,
        cursor: &str,
        limit: u32,
    ) -> Result<(Vec<Conversation>, String)> {
        let limit = if limit == 0 { self.list_page_max } else { limit.min(self.list_page_max) };
        let list = List { by, token: &SyncToken::default(), limit, except: &HashSet::new() };
        let listed = self.list(list, cursor, usize::MAX, &mut SyncToken::default()).await;
        listed.map_err(|error| match &*error.field {
            // What sync calls so.
            "page" => Error { field: "cursor".into(), ..error },
            _ => error,
        })
    }

    /// What is behind the cursors, whether there is more, and which of the conversations named the user has left.
    async fn messages_after(
        &self,
        by: u64,
        request: &SyncRequest,
        limit: usize,
        room: &mut usize,
    ) -> Result<(Vec<Message>, bool, Vec<u64>)> {
        let mut places: Vec<(u64, u64)> = Vec::with_capacity(request.cursors.len());
        let mut named: HashMap<u64, usize> = HashMap::with_capacity(request.cursors.len());
        for cursor in &request.cursors {
            // Of one that is named twice, nothing is told twice.
            match named.entry(cursor.conversation_id) {
                Entry::Occupied(at) => places[*at.get()].1 = places[*at.get()].1.min(cursor.seq),
                Entry::Vacant(place) => {
                    place.insert(places.len());
                    places.push((cursor.conversation_id, cursor.seq));
                }
            }
        }
        let ids: Vec<u64> = places.iter().map(|(id, _)| *id).collect();
        let mut found = HashMap::with_capacity(ids.len());
        if !ids.is_empty() {
            let members = self.stores.conversations.memberships(by, &ids).await?;
            found.extend(members.into_iter().map(|member| (member.conversation_id, member)));
        }
        let (mut tails, mut left) = (Vec::with_capacity(places.len()), Vec::new());
        for (id, seq) in places {
            let first_seq = match found.get(&id) {
                Some(member) if member.removed_at_ms == 0 => member.first_seq,
                // One who has left learns so, and gets nothing more.
                Some(_) => {
                    left.push(id);
                    continue;
                }
                None => self.member(by, id).await?.first_seq,
            };
            tails.push((id, seq.max(first_seq.saturating_sub(1))));
        }
        if tails.is_empty() {
            return Ok((Vec::new(), false, left));
        }
        let mut messages = self.stores.messages.tails(&tails, limit as u32 + 1).await?;
        // The first message always fits: a frame holds the longest one.
        let fitting = messages
            .iter()
            .enumerate()
            .take_while(|(at, message)| *at < limit && (takes(room, json_bytes(message)) || *at == 0))
            .count();
        let more = fitting < messages.len();
        messages.truncate(fitting);
        Ok((messages, more, left))
    }

    async fn list(
        &self,
        list: List<'_>,
        page: &str,
        mut room: usize,
        next_token: &mut SyncToken,
    ) -> Result<(Vec<Conversation>, String)> {
        let List { by, token, limit, except } = list;
        let before = Page::parse(page)?.map(|page| (page.activity_ms, page.id));
        let (store, now_ms) = (&self.stores.conversations, clock::now_ms());
        let rows = store.list_sparing(by, token.since_ms, before, limit + 1, except).await?;
        // The messages of those named come by their cursors, and nothing else would say what else has changed.
        let is_news = |row: &ListRow| match row {
            ListRow::Place(place) => token.is_news(place.conversation_id, place.set_ms),
            ListRow::Whole(_) => false,
        };
        let news: Vec<u64> =
            rows.iter().filter(|row| is_news(row)).map(|row| row.place().conversation_id).collect();
        let mut changed = HashMap::new();
        if !news.is_empty() {
            let rows = store.these_conversations_of(by, &news).await?;
            changed.extend(rows.into_iter().map(|row| (row.conversation.id, row)));
        }
        let mut conversations = Vec::new();
        let mut last: Option<(u64, u64)> = None;
        let mut more = false;
        for (at, row) in rows.into_iter().enumerate() {
            let place = row.place();
            let state = (place.conversation_id, place.changed_ms, place.last_seq);
            let row = match row {
                // What the client knows takes no room.
                _ if token.told.contains(&state) => None,
                ListRow::Whole(row) => Some(*row),
                ListRow::Place(place) => changed.remove(&place.conversation_id),
            };
            let conversation = row.map(Conversation::from);
            let bytes = conversation.as_ref().map_or(0, conversation_bytes);
            if at == limit as usize || (!takes(&mut room, bytes) && last.is_some()) {
                more = true;
                break;
            }
            last = Some((place.activity_ms, place.conversation_id));
            next_token.tell(state, now_ms);
            conversations.extend(conversation);
        }
        let previews = conversations.iter_mut().filter_map(|row| row.last_message.as_mut());
        self.veil(by, previews.collect()).await?;
        let next = match last {
            Some((activity_ms, id)) if more => format!("{activity_ms}-{id}-{}", next_token.since_ms),
            _ => String::new(),
        };
        Ok((conversations, next))
    }
}
