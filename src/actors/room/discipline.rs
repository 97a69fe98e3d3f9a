//! What members may: roles, silence, bans, and whether one may write now.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::actor::RoomState;
use super::members::{Changed, done};
use super::news::News;
use crate::clock;
use crate::domain::changes::is_written;
use crate::domain::limits::BANS_MAX;
use crate::domain::permissions::{self, Act};
use crate::domain::{Error, Result};
use crate::protocol::cluster::{Ban, ChangeMember};
use crate::protocol::v1::Message;
use crate::protocol::{MemberRole, MessageKind};
use crate::storage::{
    BanRecord, Condition, ConversationRecord, Listed, MemberRecord, RoomWrite, StoreResult, Stores,
};

/// Messages that a room in slow mode looks back on when it starts. A busier room lets those wait less who wrote before.
const LOOKBACK_MAX: usize = 1000;
/// Messages read at a time for that.
const LOOKBACK_PAGE: u32 = 200;
/// Writers remembered before those whose time is over are forgotten.
const WRITERS_MIN: usize = 256;

/// When members of a room in slow mode wrote last.
#[derive(Debug, Default)]
pub struct Pace {
    /// By user, Unix milliseconds; empty without slow mode.
    wrote: HashMap<u64, u64, RandomState>,
    /// Size from which on the map is cleared of what is over.
    full: usize,
}

impl Pace {
    /// Of a room that starts; `recent` are its newest messages, oldest first.
    pub async fn load(stores: &Stores, room: &ConversationRecord, recent: &[Message]) -> StoreResult<Self> {
        let mut pace = Self::default();
        let seconds = room.rules.slow_mode_seconds;
        if seconds == 0 {
            return Ok(pace);
        }
        recent.iter().for_each(|message| pace.wrote(message, seconds));
        let young = clock::now_ms().saturating_sub(pause_ms(seconds));
        let mut seen = recent.len();
        let mut oldest = recent.first().map(|first| (first.seq, first.created_at_ms));
        while let Some((seq, at_ms)) = oldest
            && seq > 1
            && at_ms > young
            && seen < LOOKBACK_MAX
        {
            let page = stores.messages.before(room.id, seq, 1, LOOKBACK_PAGE).await?;
            page.iter().for_each(|message| pace.wrote(message, seconds));
            seen += page.len();
            oldest = page.first().map(|first| (first.seq, first.created_at_ms));
        }
        Ok(pace)
    }

    /// A message is stored in a room whose slow mode is this.
    pub fn wrote(&mut self, message: &Message, seconds: u64) {
        if seconds == 0 {
            if !self.wrote.is_empty() {
                self.wrote = HashMap::default();
            }
            return;
        }
        if message.kind >= MessageKind::System as i32 {
            return;
        }
        let at_ms = self.wrote.entry(message.sender_id).or_default();
        *at_ms = (*at_ms).max(message.created_at_ms);
        if self.wrote.len() > self.full.max(WRITERS_MIN) {
            let young = message.created_at_ms.saturating_sub(pause_ms(seconds));
            self.wrote.retain(|_, at_ms| *at_ms > young);
            self.full = 2 * self.wrote.len();
        }
    }

    /// How long a member has to wait yet, in milliseconds.
    fn wait_ms(&self, user_id: u64, seconds: u64, now_ms: u64) -> u64 {
        let pause_ms = pause_ms(seconds);
        let free_at_ms = self.wrote.get(&user_id).map_or(0, |at_ms| at_ms.saturating_add(pause_ms));
        free_at_ms.saturating_sub(now_ms).min(pause_ms)
    }
}

fn pause_ms(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

impl RoomState {
    /// Whether a member may send now. A send that is known already passes: it is answered, not stored again.
    pub(super) fn may_write(&self, user_id: u64, client_id: &str) -> Result<()> {
        let room = self.known()?;
        let member = room.require_member(user_id)?;
        let rules = &room.conversation().rules;
        let free = !rules.read_only && !rules.silence_all && rules.slow_mode_seconds == 0;
        if (free && member.silenced_until_ms == 0) || room.knows(user_id, client_id) {
            return Ok(());
        }
        let now_ms = clock::now_ms();
        not_silenced(member, now_ms)?;
        if permissions::allows(member.role, Act::WriteAnyway) {
            return Ok(());
        }
        permissions::require(member.role, Act::Write)?;
        if rules.read_only {
            return Err(Error::denied("this group is read-only: its owner and admins write, members read"));
        }
        if rules.silence_all {
            return Err(all_silenced());
        }
        if rules.slow_mode_seconds == 0 {
            return Ok(());
        }
        let wait_ms = match self.pace.wait_ms(user_id, rules.slow_mode_seconds, now_ms) {
            // What is no message of one's own, such as a reaction, makes nobody wait.
            0 if room.pending_of(user_id).any(is_written) => pause_ms(rules.slow_mode_seconds),
            wait_ms => wait_ms,
        };
        if wait_ms == 0 {
            return Ok(());
        }
        Err(Error::exhausted(
            format!("this group is in slow mode: one message in {} s; wait", rules.slow_mode_seconds),
            std::time::Duration::from_millis(wait_ms),
        ))
    }

    /// Whether a member may react now, or take a reaction off: also where the room is read-only or slow, but not while it is
    /// silenced. A repeat of what is known passes.
    pub(super) fn may_react(&self, user_id: u64, client_id: &str) -> Result<()> {
        let room = self.known()?;
        let member = room.require_member(user_id)?;
        let silence_all = room.conversation().rules.silence_all;
        if (!silence_all && member.silenced_until_ms == 0) || room.knows(user_id, client_id) {
            return Ok(());
        }
        not_silenced(member, clock::now_ms())?;
        if silence_all && !permissions::allows(member.role, Act::ReactAnyway) {
            return Err(all_silenced());
        }
        Ok(())
    }

    pub(super) async fn change_member(&mut self, by: u64, change: &ChangeMember) -> Changed {
        let user_id = change.user_id;
        let wanted = change.role.map(role_of).transpose()?;
        let mut role = None;
        if let Some(wanted) = wanted {
            let act = if wanted == MemberRole::Owner { Act::Transfer } else { Act::SetRoles };
            role = Some(self.authorize(by, act)?);
        }
        if change.silenced_until_ms.is_some() || role.is_none() {
            role = Some(self.authorize(by, Act::DisciplineMembers)?);
        }
        let role = role.unwrap_or_default();
        let Some(subject) = self.known()?.member(user_id).cloned() else {
            return Err(Error::not_found(format!("user {user_id} is not a member of this group")));
        };
        if let Some(wanted) = wanted
            && user_id == by
            && wanted != role
        {
            return Err(Error::precondition("the owner stays the owner; make another member the owner"));
        }
        let wanted = wanted.filter(|wanted| *wanted != subject.role);
        let silence = change.silenced_until_ms.filter(|until_ms| *until_ms != subject.silenced_until_ms);
        if change.silenced_until_ms.is_some() {
            self.subject(role, user_id)?;
        }
        let mut writes: Vec<RoomWrite> = Vec::new();
        writes.extend(wanted.map(|wanted| RoomWrite::Role(user_id, wanted)));
        writes.extend(silence.map(|until_ms| RoomWrite::Silence(user_id, until_ms)));
        if wanted == Some(MemberRole::Owner) {
            // Nobody could end the silence of an owner.
            writes.extend([RoomWrite::Role(by, MemberRole::Admin), RoomWrite::Silence(user_id, 0)]);
        }
        if writes.is_empty() {
            return done();
        }
        let conditions = vec![Condition::Role(by, role), Condition::Role(user_id, subject.role)];
        let mut said = Vec::new();
        if let Some(until_ms) = silence {
            let lets =
                if until_ms > clock::now_ms() { "silenced a member" } else { "lets a member write again" };
            said.push(lets);
        }
        said.extend(wanted.map(|wanted| match wanted {
            MemberRole::Owner => "handed the group over to a member",
            MemberRole::Admin => "made a member an admin",
            MemberRole::Member => "made an admin a member",
        }));
        let mut news = News::of_membership(by, String::new(), vec![user_id]);
        news.said = said.into_iter().map(str::to_owned).collect();
        // One's silence is shown to oneself alone.
        news.all = wanted.is_some();
        self.store(by, conditions, writes, news).await
    }

    pub(super) async fn ban(&mut self, by: u64, ban: &Ban) -> Changed {
        let role = self.authorize(by, Act::DisciplineMembers)?;
        let user_id = ban.user_id;
        if user_id == by {
            return Err(Error::denied("nobody can ban themselves; leave the group instead"));
        }
        let record = BanRecord {
            conversation_id: self.conversation_id(),
            user_id,
            banned_by: by,
            reason: ban.reason.clone(),
            created_at_ms: clock::now_ms(),
        };
        let mut conditions = vec![Condition::Role(by, role), Condition::Below(Listed::Bans, BANS_MAX)];
        let mut writes = vec![RoomWrite::Ban(record)];
        let is_member = self.known()?.member(user_id).is_some();
        if is_member {
            conditions.push(Condition::Role(user_id, self.subject(role, user_id)?));
            writes.push(RoomWrite::Remove(user_id));
        } else {
            conditions.push(Condition::NoMember(user_id));
        }
        let news = match is_member {
            true => News::of_membership(by, "banned a member from the group".to_owned(), vec![user_id]),
            false => News::none(),
        };
        self.store(by, conditions, writes, news).await
    }

    pub(super) async fn unban(&mut self, by: u64, user_id: u64) -> Changed {
        let role = self.authorize(by, Act::DisciplineMembers)?;
        let conditions = vec![Condition::Role(by, role), Condition::Banned(user_id)];
        self.store(by, conditions, vec![RoomWrite::Unban(user_id)], News::none()).await
    }
}

/// Whether a member's own silence is over. None holds for the owner.
fn not_silenced(member: &MemberRecord, now_ms: u64) -> Result<()> {
    if member.silenced_until_ms <= now_ms || member.role == MemberRole::Owner {
        return Ok(());
    }
    let left_s = (member.silenced_until_ms - now_ms).div_ceil(1000);
    Err(Error::denied(format!(
        "you are silenced in this group for another {left_s} s, until {} in Unix milliseconds",
        member.silenced_until_ms
    )))
}

fn all_silenced() -> Error {
    Error::denied("all members are silenced for now: only the owner and admins write until they end it")
}

fn role_of(number: u32) -> Result<MemberRole> {
    let role = i32::try_from(number).ok().and_then(|number| MemberRole::try_from(number).ok());
    role.ok_or_else(|| Error::invalid("role", "role is owner, admin or member"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender_id: u64, created_at_ms: u64, kind: MessageKind) -> Message {
        Message { sender_id, created_at_ms, kind: kind as i32, ..Message::default() }
    }

    #[test]
    fn each_waits_from_its_own_last_message() {
        let mut pace = Pace::default();
        pace.wrote(&message(1, 1000, MessageKind::Text), 10);
        pace.wrote(&message(2, 9000, MessageKind::File), 10);
        pace.wrote(&message(2, 9500, MessageKind::System), 10);
        let waits = |pace: &Pace, now_ms| [1, 2, 3].map(|user_id| pace.wait_ms(user_id, 10, now_ms));
        assert_eq!(waits(&pace, 9000), [2000, 10_000, 0]);
        assert_eq!(waits(&pace, 11_000), [0, 8000, 0]);
        assert_eq!(pace.wait_ms(2, 10, 0), 10_000, "a clock that was set back does not make it longer");
        pace.wrote(&message(3, 12_000, MessageKind::Text), 0);
        assert_eq!(waits(&pace, 12_000), [0, 0, 0], "it was ended");
    }

    #[test]
    fn those_whose_time_is_over_are_forgotten() {
        let mut pace = Pace::default();
        for user_id in 0..100_000 {
            pace.wrote(&message(user_id, user_id, MessageKind::Text), 1);
        }
        assert!(pace.wrote.len() <= 4 * 1000, "{}", pace.wrote.len());
    }
}
