//! What follows from a change of a group once it is stored: the room knows it, the log says it, and members are told by
//! events. It stands beside the change as data, because a change that the database did not confirm may have been stored all
//! the same, or be stored in a moment: then it is taken up when the room reads it. What the log says of it is stored with the
//! change, and goes when the log has it ([`Saying`]): a room that ends between leaves it to [`crate::services::sayings`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::actor::{RoomMessage, RoomState};
use super::members::{Changed, done, refused};
use super::state::Room;
use crate::domain::Result;
use crate::domain::limits::SYSTEM_PREFIX;
use crate::protocol::v1::ServerFrame;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ConversationKind, MemberRole};
use crate::storage::{
    Condition, ConversationRecord, MemberRecord, RoomChange, RoomWrite, Saying, StoreError, Unmet,
};
use crate::{chance, clock};

/// After this long a change that was not confirmed has been carried out or never will be.
const IN_DOUBT_PAUSE: Duration = Duration::from_secs(10);
/// Changes in doubt that a room remembers; of more, members learn by sync.
const DOUBTS_MAX: usize = 64;

/// What is told of a change.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    by: u64,
    /// What the log says, one message for each.
    pub said: Vec<String>,
    /// Whom that is about.
    about: Vec<u64>,
    /// It is about who is in it: said in small rooms only.
    of_membership: bool,
    /// Who is told how the conversation looks.
    tell: Vec<u64>,
    /// All are, and of a large room those who manage it.
    pub all: bool,
}

impl News {
    /// Nobody need know.
    pub fn none() -> Self {
        Self::default()
    }

    /// The group is another than it was.
    pub fn of_room(by: u64, said: Vec<String>) -> Self {
        Self { by, said, all: true, ..Self::default() }
    }

    /// Others are in it, or those who are have become something else.
    pub fn of_membership(by: u64, text: String, about: Vec<u64>) -> Self {
        let tell = about.clone();
        Self { by, said: vec![text], about, of_membership: true, tell, all: true }
    }

    /// The same, told to these too.
    pub fn and_tell(mut self, user_ids: impl IntoIterator<Item = u64>) -> Self {
        self.tell.extend(user_ids);
        self
    }
}

/// A change that was not confirmed.
pub(super) struct InDoubt {
    writes: Vec<RoomWrite>,
    news: News,
    /// It counts as not stored from then on.
    until: Instant,
    is_stored: Arc<AtomicBool>,
}

impl InDoubt {
    /// Whether the group is now as this makes it, and was not before.
    fn has_landed<W>(
        &self,
        before: &Room<W>,
        conversation: &ConversationRecord,
        members: &[MemberRecord],
    ) -> bool {
        let now = |user_id: u64| {
            let at = members.binary_search_by_key(&user_id, |member| member.user_id);
            at.ok().map(|at| &members[at])
        };
        let mut is_new = false;
        for write in &self.writes {
            // What it makes true, before and now; what a room does not remember says nothing.
            let (was, is) = match write {
                RoomWrite::Settings(change) => {
                    let holds = |record: &ConversationRecord| {
                        let mut changed = record.clone();
                        changed.change(change);
                        changed == *record
                    };
                    (holds(before.conversation()), holds(conversation))
                }
                RoomWrite::Role(user_id, role) => {
                    let holds =
                        |member: Option<&MemberRecord>| member.is_some_and(|member| member.role == *role);
                    (holds(before.member(*user_id)), holds(now(*user_id)))
                }
                RoomWrite::Silence(user_id, until_ms) => {
                    let holds = |member: Option<&MemberRecord>| {
                        member.is_some_and(|member| member.silenced_until_ms == *until_ms)
                    };
                    (holds(before.member(*user_id)), holds(now(*user_id)))
                }
                RoomWrite::Add(records) => (
                    records.iter().all(|record| before.member(record.user_id).is_some()),
                    records.iter().all(|record| now(record.user_id).is_some()),
                ),
                RoomWrite::Remove(user_id) => (before.member(*user_id).is_none(), now(*user_id).is_none()),
                RoomWrite::Dissolve => (
                    before.conversation().rules.dissolved_at_ms != 0,
                    conversation.rules.dissolved_at_ms != 0,
                ),
                _ => continue,
            };
            if !is {
                return false;
            }
            is_new |= !was;
        }
        is_new
    }
}

/// A change that turned out to be stored, and who was a member before it.
pub(super) struct Landed {
    news: News,
    says: Vec<Saying>,
    ended_for: Option<Arc<[u64]>>,
}

impl RoomState {
    /// Carries out a command that changes the group, by its writes, if the conditions hold.
    pub(super) async fn store(
        &mut self,
        by: u64,
        conditions: Vec<Condition>,
        writes: Vec<RoomWrite>,
        news: News,
    ) -> Changed {
        match self.try_store(conditions, writes, news).await? {
            None => done(),
            Some(unmet) => refused(unmet, by),
        }
    }

    /// Stores a change and all that follows from it, or says why not.
    pub(super) async fn try_store(
        &mut self,
        conditions: Vec<Condition>,
        mut writes: Vec<RoomWrite>,
        news: News,
    ) -> Result<Option<Unmet>> {
        let said = self.sayings(&writes, &news);
        writes.extend(said.into_iter().map(RoomWrite::Say));
        let change = RoomChange {
            conversation_id: self.conversation_id(),
            now_ms: clock::now_ms(),
            conditions,
            writes,
        };
        match self.actors.inner.stores.rooms.change_room(&change).await {
            Ok(None) => {
                self.take_up(change, news).await;
                Ok(None)
            }
            Ok(unmet) => Ok(unmet),
            Err(StoreError::Unsettled(cause)) => {
                let is_stored = self.doubt(change.writes, news);
                // It may be there already: then it is done, and was told.
                match self.settle().await {
                    Ok(()) if is_stored.load(Ordering::Relaxed) => Ok(None),
                    _ => Err(StoreError::Unsettled(cause).into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is said of a change. Of who is in it, only small rooms speak.
    fn sayings(&mut self, writes: &[RoomWrite], news: &News) -> Vec<Saying> {
        let Some(room) = &self.room else { return Vec::new() };
        let after = writes.iter().fold(room.member_ids().len(), |members, write| match write {
            RoomWrite::Add(new) => members + new.len(),
            RoomWrite::Remove(_) => members.saturating_sub(1),
            _ => members,
        });
        if news.of_membership && after > self.actors.inner.config.room.small_room {
            return Vec::new();
        }
        self.said = self.said.wrapping_add(1);
        let (order, name, created_at_ms) = (self.said, chance::bits(), clock::now_ms());
        let saying = |(at, text): (usize, &String)| Saying {
            client_id: format!("{SYSTEM_PREFIX}{order:08x}-{at:02}-{name:016x}"),
            by: news.by,
            text: text.clone(),
            about: news.about.clone(),
            target_seq: 0,
            created_at_ms,
        };
        news.said.iter().enumerate().map(saying).collect()
    }

    /// Remembers a change until it shows whether it was stored; then what is returned says so.
    fn doubt(&mut self, writes: Vec<RoomWrite>, news: News) -> Arc<AtomicBool> {
        self.stale = true;
        if self.in_doubt.len() >= DOUBTS_MAX {
            self.in_doubt.remove(0);
        }
        let is_stored = Arc::new(AtomicBool::new(false));
        let until = Instant::now() + IN_DOUBT_PAUSE;
        self.in_doubt.push(InDoubt { writes, news, until, is_stored: Arc::clone(&is_stored) });
        self.cast_later(IN_DOUBT_PAUSE, || RoomMessage::DoubtOver);
        is_stored
    }

    /// Looks whether changes that were not confirmed have been stored since.
    pub(super) async fn look_again(&mut self) {
        if self.in_doubt.is_empty() || self.room.is_none() || !self.leaving.stays() {
            return;
        }
        self.stale = true;
        if self.settle().await.is_err() {
            self.cast_later(IN_DOUBT_PAUSE, || RoomMessage::DoubtOver);
        }
        self.pump();
    }

    /// Which of the changes in doubt are in what was read, which the room does not know yet.
    pub(super) fn landed(
        &mut self,
        conversation: &ConversationRecord,
        members: &[MemberRecord],
    ) -> Vec<Landed> {
        let Some(room) = &self.room else { return Vec::new() };
        let (mut landed, now) = (Vec::new(), Instant::now());
        for doubt in std::mem::take(&mut self.in_doubt) {
            if doubt.has_landed(room, conversation, members) {
                doubt.is_stored.store(true, Ordering::Relaxed);
                let ends = doubt.writes.contains(&RoomWrite::Dissolve);
                let ended_for = ends.then(|| room.member_ids());
                landed.push(Landed { news: doubt.news, says: sayings_of(&doubt.writes), ended_for });
            } else if now < doubt.until {
                self.in_doubt.push(doubt);
            } else {
                // How it looks is told in any case: part of what is in doubt a room can't see.
                self.describe_to.extend(doubt.news.tell);
            }
        }
        landed
    }

    /// Tells of changes that the room has taken up by reading them.
    pub(super) fn tell_landed(&mut self, landed: Vec<Landed>) {
        for Landed { news, says, ended_for } in landed {
            self.tell(news, says, ended_for);
        }
        self.describe_soon();
    }

    /// Makes a change that was stored known to the room, and tells of it.
    async fn take_up(&mut self, change: RoomChange, news: News) {
        let RoomChange { conversation_id, now_ms, writes, .. } = change;
        let mut ended_for = None;
        for write in &writes {
            let Some(room) = &mut self.room else { return };
            match write {
                RoomWrite::Settings(settings) => {
                    let mut after = room.conversation().clone();
                    after.change(settings);
                    after.updated_at_ms = after.updated_at_ms.max(now_ms);
                    room.put_conversation(after);
                }
                RoomWrite::Role(user_id, role) => {
                    if *role == MemberRole::Owner {
                        let owned = ConversationRecord { owner_id: *user_id, ..room.conversation().clone() };
                        room.put_conversation(owned);
                    }
                    room.change_member(*user_id, |member| member.role = *role);
                }
                RoomWrite::Silence(user_id, until_ms) => {
                    room.change_member(*user_id, |member| member.silenced_until_ms = *until_ms);
                }
                RoomWrite::Add(records) => {
                    let ids: Vec<u64> = records.iter().map(|record| record.user_id).collect();
                    // As stored: of one who comes back, cursors and silence are as they were.
                    let stores = &self.actors.inner.stores;
                    let stored = stores.conversations.members_among(conversation_id, &ids).await;
                    let Ok(members) = stored else {
                        self.doubt(writes, news);
                        return;
                    };
                    if let Some(room) = &mut self.room {
                        room.join(members);
                    }
                }
                RoomWrite::Remove(user_id) => {
                    room.leave(*user_id);
                }
                RoomWrite::Dissolve => {
                    ended_for = Some(room.member_ids());
                    let mut ended = room.conversation().clone();
                    ended.rules.dissolved_at_ms = now_ms;
                    ended.updated_at_ms = ended.updated_at_ms.max(now_ms);
                    // Whoever waits for a send to be stored is told so.
                    let effects = room.refresh(ended, Vec::new());
                    self.perform(effects);
                }
                _ => {}
            }
        }
        self.tell(news, sayings_of(&writes), ended_for);
    }

    /// Says in the log and by events what was changed; `ended_for`: the group ended, for these.
    fn tell(&mut self, news: News, says: Vec<Saying>, ended_for: Option<Arc<[u64]>>) {
        let News { tell, all, .. } = news;
        says.into_iter().for_each(|saying| self.say(saying));
        if let (Some(members), Some(room)) = (ended_for, &self.room) {
            // The same for all: however many they are, it is one event.
            let epitaph = Body::Conversation(room.conversation().epitaph());
            let event = ServerFrame { reply_to: 0, body: Some(epitaph) };
            return self.actors.fan_out(&members, 0, event, ConversationKind::Group);
        }
        self.describe_to.extend(tell);
        if all {
            self.describe_to_all();
        } else {
            self.describe_soon();
        }
    }
}

/// What a change says.
fn sayings_of(writes: &[RoomWrite]) -> Vec<Saying> {
    let saying = |write: &RoomWrite| match write {
        RoomWrite::Say(saying) => Some(saying.clone()),
        _ => None,
    };
    writes.iter().filter_map(saying).collect()
}
