//! Sending, syncing and reading history, for every edge.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::gate::Gate;
use crate::actors::Events;
use crate::actors::gather::{Bounds, Gather};
use crate::actors::overload::{Overload, Shed};
use crate::actors::room::Rooms;
use crate::clock;
use crate::cluster::ReplyTo;
use crate::config::Config;
use crate::domain::limits::{
    ATTACHMENTS_MAX, EXPIRES_IN_MAX_S, MENTIONS_MAX, SYNC_CURSORS_MAX, check_client_id,
};
use crate::domain::{Error, Result};
use crate::protocol::MessageKind;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{
    Conversation, HistoryPage, HistoryRequest, Message, Reaction, Send, Sent, SyncPage, SyncRequest,
};
use crate::storage::starts::new_direct_row;
use crate::storage::{MemberRecord, Stores};

/// What became of looking for the direct conversation of two users.
struct Meeting {
    /// `None`: there is no such other user.
    id: Option<u64>,
    /// It was made for this.
    made_at_ms: Option<u64>,
}

/// Most pairs of one look-up, and so of one transaction.
const MEETINGS_TOGETHER: usize = 64;
/// Look-ups under way at once: the database commits one's conversations while another's are looked for.
const MEETING_LANES: usize = 2;

type Directs = Cache<(u64, u64), u64, UnitWeighter, RandomState>;

/// Messages, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Messages {
    pub(super) stores: Stores,
    pub(super) rooms: Rooms,
    pub(super) events: Events,
    /// (lower id, higher id) → the direct conversation of the two, which never changes.
    directs: Arc<Directs>,
    /// Found or made, for many pairs together.
    meetings: Gather<(u64, u64), Meeting>,
    overload: Arc<Overload>,
    /// `None` until [`Messages::behind`].
    pub(super) gate: Option<Gate>,
    text_bytes_max: usize,
    list_page_max: u32,
    sync_page: u32,
}

/// Direct conversations remembered in the process.
const DIRECTS_REMEMBERED: u64 = 200_000;
/// How far a `sync_token` lies back, so that what was being stored while it was made is listed next time.
const SYNC_OVERLAP: Duration = Duration::from_secs(20);
/// Conversations that a `sync_token` names; more that changed of late are told again.
const SYNC_TOLD_MAX: usize = 100;
/// What a message's JSON takes beside its texts, names and lists, in bytes: rounded up.
const MESSAGE_JSON_BYTES: usize = 420;
/// The same for an attachment, beside its name.
const ATTACHMENT_JSON_BYTES: usize = 160;
/// The same for a reaction, beside its emoji and users.
const REACTION_JSON_BYTES: usize = 64;
/// The same for a message's marks.
const MARKS_JSON_BYTES: usize = 240;
/// The same for a conversation, beside its texts and last message.
const CONVERSATION_JSON_BYTES: usize = 1000;
/// Room in a frame for what stands around its lists.
pub(super) const FRAME_MARGIN_BYTES: usize = 1024;

impl Messages {
    /// Messages over these stores and rooms.
    pub fn new(config: &Config, stores: Stores, rooms: Rooms, events: Events) -> Self {
        let overload = Arc::clone(rooms.overload());
        Self {
            meetings: meetings(&overload, &stores),
            overload,
            stores,
            rooms,
            events,
            directs: Arc::new(Directs::with(
                DIRECTS_REMEMBERED as usize,
                DIRECTS_REMEMBERED,
                UnitWeighter,
                RandomState::default(),
                DefaultLifecycle::default(),
            )),
            gate: None,
            text_bytes_max: config.gateway.text_bytes_max,
            list_page_max: config.accounts.list_page_max,
            sync_page: config.accounts.sync_page,
        }
    }

    /// The same, refusing what blocks and privacy forbid.
    pub fn behind(self, gate: Gate) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Checks, resolves `to_user_id`, stores. `Sent.duplicate` tells a repeat.
    pub async fn send(&self, by: u64, send: Send) -> Result<Sent> {
        self.overload.admit()?;
        let send = self.resolve(by, 0, send).await?;
        self.rooms.send(by, Send { send_at_ms: 0, ..send }).await
    }

    /// The same for one who has scheduled it, and may not be there now: it is marked so, by the time that stays in it.
    pub async fn send_scheduled(&self, by: u64, send: Send) -> Result<Sent> {
        let send = self.resolve(by, 0, send).await?;
        self.rooms.send(by, send).await
    }

    /// The same for a session, which gets no push of the message, without waiting for the storing. Sends of one caller
    /// to one conversation are stored in the order in which this returns. `reply` makes the answer's continuation once
    /// the conversation is known.
    pub async fn post(
        &self,
        by: u64,
        session_id: u64,
        send: Send,
        reply: impl FnOnce(u64) -> ReplyTo<Sent>,
    ) -> Result<()> {
        self.overload.admit()?;
        let send = Send { send_at_ms: 0, ..self.resolve(by, session_id, send).await? };
        let reply = reply(send.conversation_id);
        self.rooms.post_send(by, session_id, send, reply);
        Ok(())
    }

    /// The same, if the conversation is known, and known to be open to `by`, without asking the database; else gives the
    /// send back.
    pub fn post_now(
        &self,
        by: u64,
        session_id: u64,
        mut send: Send,
        reply: impl FnOnce(u64) -> ReplyTo<Sent>,
    ) -> Result<Option<Send>> {
        // What is for later is no matter of the moment.
        if send.send_at_ms != 0 || !self.may_write_now(by, send.conversation_id, send.to_user_id) {
            return Ok(Some(send));
        }
        if send.conversation_id == 0 {
            let pair = (by.min(send.to_user_id), by.max(send.to_user_id));
            let Some(known) = self.directs.get(&pair) else { return Ok(Some(send)) };
            self.check(&send)?;
            self.overload.admit()?;
            (send.conversation_id, send.to_user_id) = (known, 0);
        } else if send.to_user_id == 0 {
            self.check(&send)?;
            self.overload.admit()?;
        } else {
            return Ok(Some(send));
        }
        let reply = reply(send.conversation_id);
        self.rooms.post_send(by, session_id, send, reply);
        Ok(None)
    }

    /// Whether blocks and privacy let `by` write in a conversation, and so be seen writing.
    pub async fn may_write_in(&self, by: u64, conversation_id: u64) -> Result<()> {
        match &self.gate {
            Some(gate) => gate.may_write_in(by, conversation_id).await,
            None => Ok(()),
        }
    }

    /// Whether that is known for certain without asking the database.
    pub fn may_write_now(&self, by: u64, conversation_id: u64, to_user_id: u64) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.admits_now(by, conversation_id, to_user_id))
    }

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
        let (messages, more) = self.messages_after(by, &request, limit as usize, &mut room).await?;
        let mut page = SyncPage { messages, more, ..SyncPage::default() };
        self.veil(by, page.messages.iter_mut().collect()).await?;
        // While messages remain the client asks again anyway: the list comes with the last of them.
        if !more || !request.page.is_empty() {
            if request.page.is_empty() && token.since_ms != 0 {
                self.add_hidden(by, token.since_ms, &mut page, &mut next.since_ms, &mut room).await?;
            }
            let named: HashSet<u64> = request.cursors.iter().map(|cursor| cursor.conversation_id).collect();
            let list = List { by, token: &token, limit: self.list_page_max, except: &named };
            let (conversations, next_page) = self.list(list, &request.page, room, &mut next).await?;
            (page.conversations, page.next_page) = (conversations, next_page);
        }
        page.sync_token = next.to_string();
        Ok(page)
    }

    /// A page of history, oldest first, no larger than `max_bytes` in JSON.
    pub async fn history(&self, by: u64, request: HistoryRequest, max_bytes: usize) -> Result<HistoryPage> {
        let mut page = self.history_page(by, request, max_bytes).await?;
        self.veil(by, page.messages.iter_mut().collect()).await?;
        Ok(page)
    }

    /// The conversation as `by` sees it.
    pub async fn conversation(&self, by: u64, conversation_id: u64) -> Result<Conversation> {
        let mut conversation = self.rooms.describe(by, conversation_id).await?;
        self.veil(by, conversation.last_message.iter_mut().collect()).await?;
        Ok(conversation)
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
        self.list(list, cursor, usize::MAX, &mut SyncToken::default()).await
    }

    /// The direct conversation of two different users, created if need be (whether it was). `not_found`: no such user.
    /// One that is not there yet is refused where `by` may not write to `other`.
    pub async fn direct(&self, by: u64, other: u64) -> Result<(u64, bool)> {
        if let Some(gate) = &self.gate
            && by != other
            && self.stores.people.direct_of(by, other).await?.is_none()
            && self.stores.accounts.user(other).await?.is_some()
        {
            gate.may_write(by, other).await?;
        }
        self.direct_for(by, 0, other).await
    }

    async fn direct_for(&self, by: u64, session_id: u64, other: u64) -> Result<(u64, bool)> {
        if by == other {
            return Err(Error::invalid(
                "to_user_id",
                "a direct conversation is between two users; name another one",
            ));
        }
        let pair = (by.min(other), by.max(other));
        if let Some(id) = self.directs.get(&pair) {
            return Ok((id, false));
        }
        let Meeting { id, made_at_ms } = self.meetings.ask((by, other)).await?;
        let Some(id) = id else {
            return Err(Error::not_found(format!(
                "user {other} does not exist; search for the name to find the id"
            )));
        };
        self.directs.insert(pair, id);
        if let Some(now_ms) = made_at_ms {
            self.rooms.born(id, pair, now_ms);
            for (user_id, peer_id) in [(by, other), (other, by)] {
                let row = new_direct_row(id, user_id, peer_id, now_ms);
                let except = if user_id == by { session_id } else { 0 };
                self.events.publish(vec![user_id], Body::Conversation(row.into()), except);
            }
        }
        Ok((id, made_at_ms.is_some()))
    }

    /// Checks a send and gives it its conversation.
    pub(super) async fn resolve(&self, by: u64, session_id: u64, mut send: Send) -> Result<Send> {
        self.check(&send)?;
        if let Some(gate) = &self.gate
            && (send.to_user_id == 0) != (send.conversation_id == 0)
            && send.to_user_id != by
        {
            gate.pass(by, &send).await?;
        }
        match (send.conversation_id, send.to_user_id) {
            (0, 0) => Err(Error::invalid("conversation_id", "name a conversation_id or a to_user_id")),
            (0, other) => {
                send.conversation_id = self.direct_for(by, session_id, other).await?.0;
                send.to_user_id = 0;
                Ok(send)
            }
            (_, 0) => Ok(send),
            _ => Err(Error::invalid("to_user_id", "name a conversation_id or a to_user_id, not both")),
        }
    }

    fn check(&self, send: &Send) -> Result<()> {
        check_client_id(&send.client_id)?;
        match MessageKind::try_from(send.kind) {
            Ok(MessageKind::Text) if send.text.is_empty() => {
                return Err(Error::invalid("text", "the text is empty; write something"));
            }
            Ok(
                MessageKind::Text
                | MessageKind::Image
                | MessageKind::Audio
                | MessageKind::Video
                | MessageKind::File
                | MessageKind::Custom,
            ) => {}
            _ => {
                return Err(Error::invalid(
                    "kind",
                    "a send is of kind text, image, audio, video, file or custom; edit, recall and react have requests of their own",
                ));
            }
        }
        if send.text.is_empty() && send.attachments.is_empty() {
            return Err(Error::invalid("text", "the message has neither text nor attachments"));
        }
        self.check_text(&send.text)?;
        let long_name = |name: &str| name.chars().count() > crate::domain::limits::DESCRIPTION_MAX;
        if send.attachments.iter().any(|file| long_name(&file.name) || long_name(&file.mime)) {
            return Err(Error::invalid(
                "attachments",
                "an attachment's name or mime is longer than 1024 characters",
            ));
        }
        if send.attachments.len() > ATTACHMENTS_MAX {
            return Err(Error::invalid(
                "attachments",
                format!("a message has at most {ATTACHMENTS_MAX} attachments"),
            ));
        }
        if send.expires_in_seconds > EXPIRES_IN_MAX_S {
            return Err(Error::invalid(
                "expires_in_seconds",
                format!("a message expires after {EXPIRES_IN_MAX_S} s at most"),
            ));
        }
        if send.mentions.len() > MENTIONS_MAX {
            return Err(Error::invalid(
                "mentions",
                format!("a message mentions at most {MENTIONS_MAX} users"),
            ));
        }
        Ok(())
    }

    pub(super) fn check_text(&self, text: &str) -> Result<()> {
        if text.len() > self.text_bytes_max {
            return Err(Error::invalid(
                "text",
                format!("the text has {} bytes; {} is the most", text.len(), self.text_bytes_max),
            ));
        }
        Ok(())
    }

    /// The membership of one who has not left; the error says why there is none.
    pub(super) async fn member(&self, user_id: u64, conversation_id: u64) -> Result<MemberRecord> {
        let store = &self.stores.conversations;
        match store.member(conversation_id, user_id).await? {
            Some(member) if member.removed_at_ms == 0 => Ok(member),
            _ if conversation_id == 0 || store.conversation(conversation_id).await?.is_none() => {
                Err(Error::not_found(format!(
                    "conversation {conversation_id} does not exist; list yours to find its id"
                )))
            }
            _ => Err(Error::denied(format!(
                "you are not a member of conversation {conversation_id}; join it or ask a member to add you"
            ))),
        }
    }

    async fn messages_after(
        &self,
        by: u64,
        request: &SyncRequest,
        limit: usize,
        room: &mut usize,
    ) -> Result<(Vec<Message>, bool)> {
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
        let mut tails = Vec::with_capacity(places.len());
        for (id, seq) in places {
            let first_seq = match found.get(&id) {
                Some(member) if member.removed_at_ms == 0 => member.first_seq,
                // One who has left learns so from the list, and gets nothing more.
                Some(_) => continue,
                None => self.member(by, id).await?.first_seq,
            };
            tails.push((id, seq.max(first_seq.saturating_sub(1))));
        }
        if tails.is_empty() {
            return Ok((Vec::new(), false));
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
        Ok((messages, more))
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
        let store = &self.stores.conversations;
        let rows = store.list_sparing(by, token.since_ms, before, limit + 1, except).await?;
        let mut conversations = Vec::new();
        let mut last: Option<(u64, u64)> = None;
        let mut more = false;
        for (at, row) in rows.into_iter().enumerate() {
            let place = row.place();
            let state = (place.conversation_id, place.changed_ms, place.last_seq);
            // What the client knows takes no room.
            let conversation =
                if token.told.contains(&state) { None } else { row.whole().map(Conversation::from) };
            let bytes = conversation.as_ref().map_or(0, conversation_bytes);
            if at == limit as usize || (!takes(&mut room, bytes) && last.is_some()) {
                more = true;
                break;
            }
            last = Some((place.activity_ms, place.conversation_id));
            next_token.tell(state);
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

/// At least the length of a conversation's JSON.
fn conversation_bytes(conversation: &Conversation) -> usize {
    CONVERSATION_JSON_BYTES
        + escaped_bytes(&conversation.name)
        + escaped_bytes(&conversation.description)
        + escaped_bytes(&conversation.announcement)
        + conversation.draft.as_ref().map_or(0, |draft| escaped_bytes(&draft.text))
        + conversation.last_message.as_ref().map_or(0, json_bytes)
}

/// What a page of the list is asked for.
struct List<'a> {
    by: u64,
    token: &'a SyncToken,
    limit: u32,
    except: &'a HashSet<u64>,
}

/// What a `sync_token` says: everything that changed before `since_ms` was told, and of what changed later, the
/// conversations in `told` as (id, activity, last seq). The time lies back by [`SYNC_OVERLAP`], since a message is
/// given its time before it is stored; the list keeps what is known already from being told again.
#[derive(Debug, Default, PartialEq, Eq)]
struct SyncToken {
    since_ms: u64,
    told: HashSet<(u64, u64, u64)>,
}

impl SyncToken {
    fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (since, told) = text.split_once(';').unwrap_or((text, ""));
        let states = told.split(',').filter(|state| !state.is_empty()).take(SYNC_TOLD_MAX);
        let parsed: Option<HashSet<_>> = states
            .map(|state| {
                let mut parts = state.split('.').map(|part| part.parse::<u64>().ok());
                Some((parts.next()??, parts.next()??, parts.next()??))
            })
            .collect();
        match (since.parse(), parsed) {
            (Ok(since_ms), Some(told)) => Ok(Self { since_ms, told }),
            _ => Err(Error::invalid(
                "since",
                "since is not a sync_token; send it as it was given, or leave it out",
            )),
        }
    }

    /// The one after this, for a page read at `now_ms` whose list's first page tells changes from `began_ms` on (0: it is
    /// the first): what moves up while a client reads on from page to page is behind none of them.
    fn next(&self, now_ms: u64, began_ms: u64) -> Self {
        let lately = now_ms.saturating_sub(SYNC_OVERLAP.as_millis() as u64);
        let from_ms = if began_ms == 0 { lately } else { lately.min(began_ms) };
        Self { since_ms: from_ms.max(self.since_ms), told: HashSet::new() }
    }

    /// Notes that the client is told of a conversation's state, if the next sync would find it again.
    fn tell(&mut self, state: (u64, u64, u64)) {
        if state.1 >= self.since_ms && self.told.len() < SYNC_TOLD_MAX {
            self.told.insert(state);
        }
    }
}

impl std::fmt::Display for SyncToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.since_ms)?;
        for (at, (id, activity_ms, seq)) in self.told.iter().enumerate() {
            write!(f, "{}{id}.{activity_ms}.{seq}", if at == 0 { ';' } else { ',' })?;
        }
        Ok(())
    }
}

/// Where a page of the list begins: behind this conversation in its order.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    activity_ms: u64,
    id: u64,
    /// From when on the first page's `sync_token` tells changes; 0: there is none.
    began_ms: u64,
}

impl Page {
    fn parse(page: &str) -> Result<Option<Self>> {
        if page.is_empty() {
            return Ok(None);
        }
        let numbers: Option<Vec<u64>> = page.split('-').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([activity_ms, id]) => Ok(Some(Self { activity_ms: *activity_ms, id: *id, began_ms: 0 })),
            Some([activity_ms, id, began_ms]) => {
                Ok(Some(Self { activity_ms: *activity_ms, id: *id, began_ms: *began_ms }))
            }
            _ => {
                Err(Error::invalid("page", "the page or cursor is not one that was given; start without it"))
            }
        }
    }
}

/// Takes `bytes` out of `room`; whether they fitted.
pub(super) fn takes(room: &mut usize, bytes: usize) -> bool {
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// At least the length of a message's JSON.
pub(super) fn json_bytes(message: &Message) -> usize {
    let attachments: usize = message
        .attachments
        .iter()
        .map(|file| ATTACHMENT_JSON_BYTES + escaped_bytes(&file.name) + escaped_bytes(&file.mime))
        .sum();
    MESSAGE_JSON_BYTES
        + escaped_bytes(&message.text)
        + escaped_bytes(&message.client_id)
        + escaped_bytes(&message.emoji)
        + attachments
        + message.mentions.len() * 20
        + message.marks.as_ref().map_or(0, |_| MARKS_JSON_BYTES)
        + message.reactions.iter().map(reaction_bytes).sum::<usize>()
}

fn reaction_bytes(reaction: &Reaction) -> usize {
    REACTION_JSON_BYTES + escaped_bytes(&reaction.emoji) + reaction.user_ids.len() * 20
}

/// The length of a string in JSON: control characters take up to six bytes, quotes and backslashes two.
fn escaped_bytes(text: &str) -> usize {
    text.bytes().map(|byte| if byte < 0x20 { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum()
}

/// Finds the direct conversations of pairs, the first of each being the one who writes, and makes those there are not.
fn meetings(overload: &Arc<Overload>, stores: &Stores) -> Gather<(u64, u64), Meeting> {
    let bounds = Bounds { lanes: MEETING_LANES, together: MEETINGS_TOGETHER, shed: Shed::Directs };
    let stores = stores.clone();
    Gather::new(overload, bounds, move |pairs: Vec<(u64, u64)>| {
        let stores = stores.clone();
        async move {
            let found = stores.people.meetings(&pairs).await?;
            let wanted: Vec<usize> =
                (0..pairs.len()).filter(|at| matches!(found[*at], (None, true))).collect();
            let mut answers: Vec<Meeting> =
                found.into_iter().map(|(id, _)| Meeting { id, made_at_ms: None }).collect();
            if wanted.is_empty() {
                return Ok(answers);
            }
            let now_ms = clock::now_ms();
            let new: Vec<(u64, u64)> = wanted.iter().map(|at| pairs[*at]).collect();
            for (at, (id, is_new)) in
                wanted.into_iter().zip(stores.conversations.make_directs(&new, now_ms).await?)
            {
                answers[at] = Meeting { id: Some(id), made_at_ms: is_new.then_some(now_ms) };
            }
            Ok(answers)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_when_the_first_one_was_read() {
        let page = |activity_ms, id, began_ms| Some(Page { activity_ms, id, began_ms });
        assert_eq!(Page::parse("7-8-9").ok(), Some(page(7, 8, 9)));
        assert_eq!(Page::parse("7-8").ok(), Some(page(7, 8, 0)));
        assert_eq!(Page::parse("").ok(), Some(None));
        for wrong in ["7", "x-8", "7-8-", "7-8-9-1"] {
            assert!(Page::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_pages_token_tells_what_moved_up_since_the_first_one() {
        let overlap_ms = SYNC_OVERLAP.as_millis() as u64;
        let token = SyncToken { since_ms: 1000, told: HashSet::new() };
        let first = token.next(1_000_000 + overlap_ms, 0);
        assert_eq!(first.since_ms, 1_000_000);
        assert_eq!(token.next(9_000_000, first.since_ms).since_ms, 1_000_000);
        assert_eq!(token.next(9_000_000, 1).since_ms, 1000, "nobody goes back behind what was told");
    }

    #[test]
    fn a_sync_token_comes_back_as_it_was() {
        let mut token = SyncToken { since_ms: 500, told: HashSet::new() };
        token.tell((7, 600, 3));
        token.tell((8, 700, 0));
        token.tell((9, 400, 1));
        assert_eq!(token.told.len(), 2, "what lies before the token's time is not found again");
        assert_eq!(SyncToken::parse(&token.to_string()).ok(), Some(token));
        for wrong in ["x", "5;1.2", "5;1.x.3", "-1"] {
            assert!(SyncToken::parse(wrong).is_err(), "{wrong}");
        }
    }
}
