//! Sending, and what all that has to do with messages needs: stores, rooms, the gate. For every edge.

use std::sync::Arc;

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
use crate::domain::limits::{ATTACHMENTS_MAX, EXPIRES_IN_MAX_S, MENTIONS_MAX, check_client_id};
use crate::domain::{Error, Result};
use crate::protocol::MessageKind;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{Conversation, HistoryPage, HistoryRequest, Send, Sent};
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
    pub(super) list_page_max: u32,
    pub(super) sync_page: u32,
}

/// Direct conversations remembered in the process.
const DIRECTS_REMEMBERED: u64 = 200_000;
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
