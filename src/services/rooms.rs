//! Groups, governed: settings and end, roles and silence, requests to join, invite codes, bans. What changes is decided by
//! the room; what is only shown is read here, for those who may see it.

use std::collections::HashMap;
use std::sync::Arc;

use super::accounts::no_user;
use crate::actors::room::Rooms;
use crate::clock::now_ms;
use crate::domain::limits::{
    ANNOUNCEMENT_MAX, DESCRIPTION_MAX, NAME_MAX, NUMBER_MAX, RETENTION_MAX_S, SLOW_MODE_MAX_S, check_length,
};
use crate::domain::permissions::{self, Act};
use crate::domain::{Error, Result};
use crate::protocol::MemberRole;
use crate::protocol::cluster::room_request::Command;
use crate::protocol::cluster::{
    AnswerRequest, Ban, ChangeMember, ChangeRoom, Dissolve, DropInvite, Join, MakeInvite, Unban,
};
use crate::storage::{
    AccountStore, BanRecord, ConversationStore, InviteRecord, JoinRequestRecord, RoomStore, UserRecord,
};

/// Letters of an invite code: no two are alike to the eye.
const CODE_LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters of a code. 80 bits: nobody guesses one.
const CODE_LENGTH: usize = 16;

/// A row of a list, and the account that it is about.
#[derive(Clone, Debug)]
pub struct About<T> {
    /// The row.
    pub record: T,
    /// The account, where it is still there.
    pub user: Option<UserRecord>,
}

/// What an invite code is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct InviteRequest {
    /// From now; 0: never.
    pub expires_in_seconds: u64,
    /// Unix time, milliseconds; 0: never.
    pub expires_at_ms: u64,
    /// 0: as often as one likes.
    pub uses_max: u64,
}

/// Groups, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Groups {
    conversations: Arc<dyn ConversationStore>,
    store: Arc<dyn RoomStore>,
    /// What is shown of users; may be cached.
    profiles: Arc<dyn AccountStore>,
    rooms: Rooms,
}

impl Groups {
    /// Over these stores, which decide but for `profiles`, and rooms.
    pub fn new(
        conversations: Arc<dyn ConversationStore>,
        store: Arc<dyn RoomStore>,
        profiles: Arc<dyn AccountStore>,
        rooms: Rooms,
    ) -> Self {
        Self { conversations, store, profiles, rooms }
    }

    /// Changes settings; those that are absent stay.
    pub async fn change(&self, by: u64, conversation_id: u64, mut change: ChangeRoom) -> Result<()> {
        if let Some(name) = &mut change.name {
            *name = name.trim().to_owned();
            if name.is_empty() {
                return Err(Error::invalid("name", "a group has a name; leave the field out to keep it"));
            }
            check_length("name", name, NAME_MAX)?;
        }
        check_length("description", change.description.as_deref().unwrap_or_default(), DESCRIPTION_MAX)?;
        check_length("announcement", change.announcement.as_deref().unwrap_or_default(), ANNOUNCEMENT_MAX)?;
        check_number("avatar_file_id", change.avatar_file_id.unwrap_or_default())?;
        if change.slow_mode_seconds.is_some_and(|seconds| seconds > SLOW_MODE_MAX_S) {
            return Err(Error::invalid(
                "slow_mode_seconds",
                format!("slow_mode_seconds is at most {SLOW_MODE_MAX_S}"),
            ));
        }
        if change.retention_seconds.is_some_and(|seconds| seconds > RETENTION_MAX_S) {
            return Err(Error::invalid(
                "retention_seconds",
                format!(
                    "retention_seconds is at most {RETENTION_MAX_S}; 0 keeps messages as long as all are kept"
                ),
            ));
        }
        self.rooms.change(by, conversation_id, Command::ChangeRoom(change)).await
    }

    /// Ends a group for all.
    pub async fn dissolve(&self, by: u64, conversation_id: u64) -> Result<()> {
        self.rooms.change(by, conversation_id, Command::Dissolve(Dissolve {})).await
    }

    /// Changes a member's role, silence or both; `owner` hands the group over, and makes the caller an admin.
    pub async fn change_member(
        &self,
        by: u64,
        conversation_id: u64,
        user_id: u64,
        role: Option<MemberRole>,
        silenced_until_ms: Option<u64>,
    ) -> Result<()> {
        if role.is_none() && silenced_until_ms.is_none() {
            return Err(Error::invalid("role", "name a role, silenced_until_ms, or both"));
        }
        check_number("silenced_until_ms", silenced_until_ms.unwrap_or_default())?;
        let role = role.map(|role| role as u32);
        let change = ChangeMember { user_id, role, silenced_until_ms };
        self.rooms.change(by, conversation_id, Command::ChangeMember(change)).await
    }

    /// Joins a group, or asks to; whether it was only asked.
    pub async fn join(&self, by: u64, conversation_id: u64, message: String) -> Result<bool> {
        check_length("message", &message, DESCRIPTION_MAX)?;
        self.rooms.join(by, conversation_id, Join { message, code: String::new() }).await
    }

    /// Joins the group of an invite code; which one it is.
    pub async fn join_by_code(&self, by: u64, code: String) -> Result<u64> {
        let unknown = || Error::not_found("there is no such invite code; it may have been taken back");
        if code.len() != CODE_LENGTH {
            return Err(unknown());
        }
        let conversation_id = self.store.invite(&code).await?.ok_or_else(unknown)?.conversation_id;
        self.rooms.join(by, conversation_id, Join { message: String::new(), code }).await?;
        Ok(conversation_id)
    }

    /// Requests to join, by user id above `after_id`.
    pub async fn requests(
        &self,
        by: u64,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> Result<Vec<About<JoinRequestRecord>>> {
        self.authorize(by, conversation_id, Act::AnswerRequests).await?;
        let rows = self.store.join_requests(conversation_id, after_id, limit).await?;
        self.with_users(rows, |row| row.user_id).await
    }

    /// Lets one in who has asked, or not; whoever has asked may decline it.
    pub async fn answer(&self, by: u64, conversation_id: u64, user_id: u64, accept: bool) -> Result<()> {
        let answer = AnswerRequest { user_id, accept };
        self.rooms.change(by, conversation_id, Command::AnswerRequest(answer)).await
    }

    /// Makes an invite code.
    pub async fn invite(
        &self,
        by: u64,
        conversation_id: u64,
        request: InviteRequest,
    ) -> Result<InviteRecord> {
        let InviteRequest { expires_in_seconds, expires_at_ms, uses_max } = request;
        if expires_in_seconds != 0 && expires_at_ms != 0 {
            return Err(Error::invalid(
                "expires_at_ms",
                "name expires_in_seconds or expires_at_ms, not both",
            ));
        }
        let now_ms = now_ms();
        let expires_at_ms = match expires_in_seconds {
            0 => expires_at_ms,
            seconds => now_ms.saturating_add(seconds.saturating_mul(1000)),
        };
        check_number("expires_at_ms", expires_at_ms)?;
        check_number("uses_max", uses_max)?;
        if expires_at_ms != 0 && expires_at_ms <= now_ms {
            return Err(Error::invalid("expires_at_ms", "expires_at_ms is past; name a time to come"));
        }
        let code = new_code();
        let invite = MakeInvite { code: code.clone(), expires_at_ms, uses_max };
        self.rooms.change(by, conversation_id, Command::MakeInvite(invite)).await?;
        let made = self.store.invite(&code).await?;
        made.ok_or_else(|| Error::unavailable("the invite code was taken back at once; make another one"))
    }

    /// The codes of a group that are still good.
    pub async fn invites(&self, by: u64, conversation_id: u64) -> Result<Vec<InviteRecord>> {
        self.authorize(by, conversation_id, Act::Invite).await?;
        let (mut rows, now_ms) = (self.store.invites(conversation_id).await?, now_ms());
        rows.retain(|row| row.is_good(now_ms));
        Ok(rows)
    }

    /// Takes a code back.
    pub async fn drop_invite(&self, by: u64, conversation_id: u64, code: String) -> Result<()> {
        self.rooms.change(by, conversation_id, Command::DropInvite(DropInvite { code })).await
    }

    /// Bans, by user id above `after_id`.
    pub async fn bans(
        &self,
        by: u64,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> Result<Vec<About<BanRecord>>> {
        self.authorize(by, conversation_id, Act::DisciplineMembers).await?;
        let rows = self.store.bans(conversation_id, after_id, limit).await?;
        self.with_users(rows, |row| row.user_id).await
    }

    /// Removes a user, who can't come back until [`Groups::unban`]; also one who is no member.
    pub async fn ban(&self, by: u64, conversation_id: u64, user_id: u64, reason: String) -> Result<()> {
        check_length("reason", &reason, DESCRIPTION_MAX)?;
        if self.profiles.user(user_id).await?.is_none() {
            return Err(no_user());
        }
        self.rooms.change(by, conversation_id, Command::Ban(Ban { user_id, reason })).await
    }

    /// Takes a ban back.
    pub async fn unban(&self, by: u64, conversation_id: u64, user_id: u64) -> Result<()> {
        self.rooms.change(by, conversation_id, Command::Unban(Unban { user_id })).await
    }

    /// What the room does before every change, for what is only shown.
    async fn authorize(&self, by: u64, conversation_id: u64, act: Act) -> Result<()> {
        match self.conversations.member(conversation_id, by).await? {
            Some(member) if member.removed_at_ms == 0 => permissions::require(member.role, act),
            _ => match self.conversations.conversation(conversation_id).await? {
                None => Err(Error::not_found(format!(
                    "conversation {conversation_id} does not exist; list yours to find its id"
                ))),
                Some(_) => Err(Error::denied(format!(
                    "you are not a member of conversation {conversation_id}; join it or ask a member to add you"
                ))),
            },
        }
    }

    async fn with_users<T>(&self, rows: Vec<T>, user_id: impl Fn(&T) -> u64) -> Result<Vec<About<T>>> {
        let ids: Vec<u64> = rows.iter().map(&user_id).collect();
        let users = if ids.is_empty() { Vec::new() } else { self.profiles.users(&ids).await? };
        let mut users: HashMap<u64, UserRecord> = users.into_iter().map(|user| (user.id, user)).collect();
        let about = |record: T| About { user: users.remove(&user_id(&record)), record };
        Ok(rows.into_iter().map(about).collect())
    }
}

fn check_number(field: &'static str, number: u64) -> Result<()> {
    if number > NUMBER_MAX {
        return Err(Error::invalid(field, format!("{field} is beyond {NUMBER_MAX}")));
    }
    Ok(())
}

fn new_code() -> String {
    let random = rand::random::<[u8; CODE_LENGTH]>();
    random.iter().map(|byte| char::from(CODE_LETTERS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_can_be_read_out() {
        let (one, other) = (new_code(), new_code());
        assert_ne!(one, other);
        assert!(
            one.len() == CODE_LENGTH && one.bytes().all(|letter| CODE_LETTERS.contains(&letter)),
            "{one}"
        );
    }
}
