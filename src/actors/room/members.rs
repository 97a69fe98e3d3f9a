//! Changes of a group: stored first, then known to the room, then told in the log and by events. Here those of who is in
//! it; what else changes is in [`super::settings`], [`super::joining`] and [`super::discipline`].
//!
//! A change is stored with the conditions that it was decided by, so that another activation of the room can't have made it
//! wrong meanwhile: then the room reads again and decides anew. What is told of it goes with it ([`super::news`]), as it may
//! turn out to be stored later than it was asked for.

use super::actor::RoomState;
use super::news::News;
use super::state::Room;
use crate::clock;
use crate::domain::permissions::{self, Act};
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_request::Command;
use crate::protocol::cluster::{Done, room_reply};
use crate::protocol::{ConversationKind, ErrorCode, MemberRole};
use crate::storage::{Condition, Listed, MemberRecord, RoomWrite, Saying, Unmet};

/// How often a change is decided when the database turns out to hold something else than the room thought.
const DECISIONS_MAX: u32 = 4;

/// What came of a change; `None`: the room decided by what does not hold any more.
pub(super) type Changed = Result<Option<room_reply::Reply>>;

/// The answer of a change that says no more than that it is done.
pub(super) fn done() -> Changed {
    Ok(Some(room_reply::Reply::Done(Done {})))
}

impl RoomState {
    /// Carries out a command that changes the group.
    pub(super) async fn change(&mut self, by: u64, command: Command) -> Result<room_reply::Reply> {
        for _ in 0..DECISIONS_MAX {
            let outcome = self.decide(by, &command).await;
            // A change that was not confirmed may have been stored.
            self.stale |= match &outcome {
                Ok(answer) => answer.is_none(),
                // Who is to wait was refused before anything was asked of the database.
                Err(error) => error.is_retryable() && error.code != ErrorCode::ResourceExhausted,
            };
            match outcome {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => self.settle().await?,
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the group changes all the time; try again"))
    }

    async fn decide(&mut self, by: u64, command: &Command) -> Changed {
        match command {
            Command::Opened(_) => self.open(by),
            Command::AddMembers(add) => self.add(by, &add.user_ids).await,
            Command::RemoveMember(remove) => self.remove(by, remove.user_id).await,
            Command::Join(join) => self.join(by, join).await,
            Command::Leave(_) => self.leave(by).await,
            Command::ChangeRoom(change) => self.change_settings(by, change).await,
            Command::Dissolve(_) => self.dissolve(by).await,
            Command::ChangeMember(change) => self.change_member(by, change).await,
            Command::AnswerRequest(answer) => self.answer_request(by, answer).await,
            Command::Ban(ban) => self.ban(by, ban).await,
            Command::Unban(unban) => self.unban(by, unban.user_id).await,
            Command::MakeInvite(invite) => self.make_invite(by, invite).await,
            Command::DropInvite(invite) => self.drop_invite(by, &invite.code).await,
            _ => Err(Error::internal("a room does not know this command")),
        }
    }

    pub(super) fn known(&self) -> Result<&Room<super::actor::Waiter>> {
        self.room.as_ref().ok_or_else(|| Error::internal("a room acts before it is loaded"))
    }

    /// The caller's role, if it may do this in the group.
    pub(super) fn authorize(&self, by: u64, act: Act) -> Result<MemberRole> {
        let room = self.known()?;
        let role = room.require_member(by)?.role;
        if room.conversation().kind == ConversationKind::Direct {
            return Err(Error::precondition(
                "this is a direct conversation, which has no settings, roles or guests; create a group",
            ));
        }
        permissions::require(role, act)?;
        Ok(role)
    }

    fn open(&mut self, by: u64) -> Changed {
        let room = self.known()?;
        room.require_member(by)?;
        let others: Vec<u64> = room.member_ids().iter().copied().filter(|id| *id != by).collect();
        if room.last_seq() == 0 && room.pending() == 0 && room.conversation().kind == ConversationKind::Group
        {
            let name = room.conversation().name.clone();
            self.describe_to.extend(&others);
            self.say(Saying::created(by, &name, others, clock::now_ms()));
            self.describe_to_all();
        }
        done()
    }

    async fn add(&mut self, by: u64, user_ids: &[u64]) -> Changed {
        let role = self.authorize(by, Act::AddMembers)?;
        let room = self.known()?;
        let new: Vec<u64> =
            user_ids.iter().copied().filter(|user_id| room.member(*user_id).is_none()).collect();
        if new.is_empty() {
            return done();
        }
        let conditions = vec![Condition::Role(by, role), Condition::NotBanned(new.clone())];
        let news = News::of_membership(by, format!("added {} to the group", count(new.len())), new.clone());
        self.admit(by, &new, conditions, Vec::new(), news).await
    }

    async fn leave(&mut self, by: u64) -> Changed {
        let room = self.known()?;
        let role = room.require_member(by)?.role;
        if room.conversation().kind == ConversationKind::Direct {
            return Err(Error::precondition("a direct conversation can't be left"));
        }
        permissions::require(role, Act::Leave)?;
        let heir = room.heir(by).and_then(|heir| room.member(heir)).map(|heir| (heir.user_id, heir.role));
        let left = News::of_membership(by, "left the group".to_owned(), vec![by]);
        match heir {
            Some((heir, heirs_role)) if role == MemberRole::Owner => {
                let conditions = vec![Condition::Role(by, role), Condition::Role(heir, heirs_role)];
                let writes = vec![
                    RoomWrite::Role(heir, MemberRole::Owner),
                    RoomWrite::Silence(heir, 0),
                    RoomWrite::Remove(by),
                ];
                self.store(by, conditions, writes, left.and_tell([heir])).await
            }
            // The last one out: nobody could ever let anybody in again.
            None => {
                let conditions = vec![Condition::Role(by, role), Condition::Alone(by)];
                self.end_for_all(by, conditions).await
            }
            Some(_) => {
                let conditions = vec![Condition::Role(by, role)];
                self.store(by, conditions, vec![RoomWrite::Remove(by)], left).await
            }
        }
    }

    async fn remove(&mut self, by: u64, user_id: u64) -> Changed {
        if by == user_id {
            return self.leave(by).await;
        }
        let role = self.authorize(by, Act::DisciplineMembers)?;
        let subject = self.subject(role, user_id)?;
        let conditions = vec![Condition::Role(by, role), Condition::Role(user_id, subject)];
        let news = News::of_membership(by, "removed a member from the group".to_owned(), vec![user_id]);
        self.store(by, conditions, vec![RoomWrite::Remove(user_id)], news).await
    }

    /// The role of a member whom one of role `by` may discipline.
    pub(super) fn subject(&self, by: MemberRole, user_id: u64) -> Result<MemberRole> {
        let Some(member) = self.known()?.member(user_id) else {
            return Err(Error::not_found(format!("user {user_id} is not a member of this group")));
        };
        if !permissions::outranks(by, member.role) {
            return Err(Error::denied(
                "this can be done only to members of a lower role: by admins to members, by the owner to admins too",
            ));
        }
        Ok(member.role)
    }

    /// Stores new members, with what else changes with that.
    pub(super) async fn admit(
        &mut self,
        by: u64,
        user_ids: &[u64],
        mut conditions: Vec<Condition>,
        mut writes: Vec<RoomWrite>,
        news: News,
    ) -> Changed {
        let room = self.known()?;
        let limit = self.actors.inner.config.room.members_max;
        if room.member_ids().len() + user_ids.len() > limit {
            return Err(Error::precondition(format!("a group has at most {limit} members")));
        }
        let (now_ms, next_seq, id) = (clock::now_ms(), room.next_seq(), room.conversation().id);
        let history_open = room.conversation().rules.history_open;
        let first_seq = if history_open { 1 } else { next_seq };
        conditions.push(Condition::HistoryOpen(history_open));
        conditions.push(Condition::Below(Listed::Members, (limit + 1 - user_ids.len()) as u64));
        let members: Vec<MemberRecord> = user_ids
            .iter()
            .map(|&user_id| MemberRecord {
                conversation_id: id,
                user_id,
                role: MemberRole::Member,
                first_seq,
                // What was before is theirs to see, perhaps, but not to catch up with.
                delivered_seq: next_seq - 1,
                read_seq: next_seq - 1,
                joined_at_ms: now_ms,
                updated_at_ms: now_ms,
                ..MemberRecord::default()
            })
            .collect();
        writes.push(RoomWrite::Add(members));
        self.store(by, conditions, writes, news).await
    }

    /// A `system` message in the log, unless it is on its way there. Storage takes it off what is to be said.
    pub(super) fn say(&mut self, saying: Saying) {
        if let Some(room) = &mut self.room
            && !room.knows(saying.by, &saying.client_id)
        {
            room.announce(saying);
        }
    }

    /// Says what was kept to be said and is not in the log, as whoever kept it may have ended.
    pub(super) async fn say_owed(&mut self) -> Result<()> {
        let owed = self.actors.inner.stores.rooms.sayings(self.conversation_id()).await?;
        owed.into_iter().for_each(|saying| self.say(saying));
        Ok(())
    }
}

/// What a change that storage did not carry out is answered with; `None`: it is to be decided anew.
pub(super) fn refused(unmet: Unmet, by: u64) -> Changed {
    Err(match unmet {
        Unmet::Gone | Unmet::Membership(_) | Unmet::Settings => return Ok(None),
        Unmet::Banned(user_id) if user_id == by => Error::denied("you are banned from this group"),
        Unmet::Banned(user_id) => Error {
            field: "user_ids".into(),
            ..Error::precondition(format!(
                "user {user_id} is banned from this group; take the ban back first; nothing was changed"
            ))
        },
        Unmet::NotBanned(user_id) => {
            Error::not_found(format!("user {user_id} is not banned from this group"))
        }
        Unmet::NotRequested(user_id) => {
            Error::not_found(format!("user {user_id} has not asked to join, or was answered already"))
        }
        Unmet::Full(Listed::Requests) => {
            Error::precondition("too many wait to be let into this group already; try again another day")
        }
        Unmet::Full(Listed::Members) => Error::precondition("this group is full"),
        Unmet::Full(Listed::Bans) => Error::precondition("this group has too many bans; take some back"),
        Unmet::Full(Listed::Invites) => {
            Error::precondition("this group has too many invite codes; take some back")
        }
        Unmet::Invite => {
            Error::precondition("this invite code is used up, expired or taken back; ask for another one")
        }
    })
}

fn count(members: usize) -> String {
    if members == 1 { "a member".to_owned() } else { format!("{members} members") }
}
