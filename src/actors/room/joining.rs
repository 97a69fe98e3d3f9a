//! How one gets into a group by oneself: open doors, requests that managers answer, and invite codes. Who is banned gets in
//! by none of them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::actor::RoomState;
use super::describe::MANAGERS_TOLD_MAX;
use super::members::{Changed, done, refused};
use super::news::News;
use crate::clock;
use crate::config::RoomConfig;
use crate::domain::limits::{INVITES_MAX, JOIN_REQUESTS_MAX};
use crate::domain::permissions::Act;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{AnswerRequest, Join, JoinAnswer, MakeInvite, room_reply};
use crate::protocol::{ConversationKind, JoinPolicy};
use crate::storage::{Condition, InviteRecord, JoinRequestRecord, Listed, RoomWrite, Unmet};

fn joined(requested: bool) -> Changed {
    Ok(Some(room_reply::Reply::Join(JoinAnswer { requested })))
}

/// Those who have lately changed what their requests to join say, or have taken them back. Each such change is a transaction
/// that costs its asker nothing, so there is a pause after some. A room that starts anew knows of none, as it starts after
/// a pause of its own.
#[derive(Default)]
pub(super) struct Askers {
    changes: HashMap<u64, Changes, RandomState>,
}

struct Changes {
    since: Instant,
    count: u32,
}

impl Askers {
    /// Whether one may ask something new now.
    fn may_ask(&self, user_id: u64, config: &RoomConfig) -> Result<()> {
        let made = self.changes.get(&user_id).filter(|made| made.count >= config.request_changes);
        let left = made.map(|made| config.request_pause.saturating_sub(made.since.elapsed()));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Error::exhausted(
                "you have changed your request often enough for now; wait with the next change",
                left,
            )),
        }
    }

    /// One has changed or taken back a request.
    fn note(&mut self, user_id: u64, config: &RoomConfig) {
        if self.changes.len() as u64 >= JOIN_REQUESTS_MAX {
            self.changes.retain(|_, made| made.since.elapsed() < config.request_pause);
        }
        // Of more at a time, some wait less.
        if self.changes.len() as u64 >= JOIN_REQUESTS_MAX && !self.changes.contains_key(&user_id) {
            return;
        }
        let made = self.changes.entry(user_id).or_insert(Changes { since: Instant::now(), count: 0 });
        if made.since.elapsed() >= config.request_pause {
            *made = Changes { since: Instant::now(), count: 0 };
        }
        made.count += 1;
    }
}

impl RoomState {
    pub(super) async fn join(&mut self, by: u64, join: &Join) -> Changed {
        let room = self.known()?;
        if room.member(by).is_some() {
            return joined(false);
        }
        if room.conversation().kind == ConversationKind::Direct {
            return Err(Error::denied("a direct conversation can't be joined"));
        }
        room.require_not_dissolved()?;
        let mut writes = Vec::new();
        let mut conditions = vec![Condition::NoMember(by), Condition::NotBanned(vec![by])];
        if !join.code.is_empty() {
            writes.push(RoomWrite::UseInvite(join.code.clone()));
        } else {
            match room.conversation().join_policy {
                JoinPolicy::Open => conditions.push(Condition::JoinPolicy(JoinPolicy::Open)),
                JoinPolicy::Approval => return self.ask(by, join.message.clone()).await,
                JoinPolicy::Invite => {
                    return Err(Error::denied(
                        "this group takes in those who have an invite code; ask its owner or an admin for one",
                    ));
                }
            }
        }
        let news = News::of_membership(by, "joined the group".to_owned(), vec![by]);
        match self.admit(by, &[by], conditions, writes, news).await? {
            Some(_) => joined(false),
            None => Ok(None),
        }
    }

    /// Keeps a request to join, and tells those who answer it. Who asks the same again changes nothing.
    async fn ask(&mut self, by: u64, message: String) -> Changed {
        let lists = &self.actors.inner.stores.rooms;
        let asked = lists.join_requests(self.conversation_id(), by.saturating_sub(1), 1).await?;
        let asked = asked.into_iter().find(|asked| asked.user_id == by);
        if asked.as_ref().is_some_and(|asked| asked.message == message) {
            return joined(true);
        }
        self.askers.may_ask(by, &self.actors.inner.config.room)?;
        let request = JoinRequestRecord {
            conversation_id: self.conversation_id(),
            user_id: by,
            message,
            created_at_ms: clock::now_ms(),
        };
        let managers = self.known()?.managers(MANAGERS_TOLD_MAX);
        let conditions = vec![
            Condition::NoMember(by),
            Condition::NotBanned(vec![by]),
            Condition::Below(Listed::Requests, JOIN_REQUESTS_MAX),
            Condition::JoinPolicy(JoinPolicy::Approval),
        ];
        let writes = vec![RoomWrite::Ask(request), RoomWrite::Touch(managers.clone())];
        match self.store(by, conditions, writes, News::none().and_tell(managers)).await? {
            Some(_) => {
                if asked.is_some() {
                    self.askers.note(by, &self.actors.inner.config.room);
                }
                joined(true)
            }
            None => Ok(None),
        }
    }

    /// Lets one in who has asked, or not. Whoever has asked may take the request back by declining it.
    pub(super) async fn answer_request(&mut self, by: u64, answer: &AnswerRequest) -> Changed {
        let asker = answer.user_id;
        let mut conditions = vec![Condition::Requested(asker)];
        let withdraws = by == asker && !answer.accept;
        if withdraws {
            self.known()?.require_not_dissolved()?;
        } else {
            let role = self.authorize(by, Act::AnswerRequests)?;
            conditions.push(Condition::Role(by, role));
        }
        let managers = self.known()?.managers(MANAGERS_TOLD_MAX);
        if !answer.accept {
            let writes = vec![RoomWrite::Unask(asker), RoomWrite::Touch(managers.clone())];
            let answer = self.store(by, conditions, writes, News::none().and_tell(managers)).await?;
            if withdraws && answer.is_some() {
                self.askers.note(by, &self.actors.inner.config.room);
            }
            return Ok(answer);
        }
        conditions.extend([Condition::NoMember(asker), Condition::NotBanned(vec![asker])]);
        let news = News::of_membership(by, "let a new member in".to_owned(), vec![asker]).and_tell(managers);
        self.admit(by, &[asker], conditions, Vec::new(), news).await
    }

    pub(super) async fn make_invite(&mut self, by: u64, invite: &MakeInvite) -> Changed {
        let role = self.authorize(by, Act::Invite)?;
        let record = InviteRecord {
            code: invite.code.clone(),
            conversation_id: self.conversation_id(),
            created_by: by,
            created_at_ms: clock::now_ms(),
            expires_at_ms: invite.expires_at_ms,
            uses_max: invite.uses_max,
            uses: 0,
        };
        let conditions = vec![Condition::Role(by, role), Condition::Below(Listed::Invites, INVITES_MAX)];
        self.store(by, conditions, vec![RoomWrite::Invite(record)], News::none()).await
    }

    pub(super) async fn drop_invite(&mut self, by: u64, code: &str) -> Changed {
        let role = self.authorize(by, Act::Invite)?;
        let conditions = vec![Condition::Role(by, role)];
        match self.try_store(conditions, vec![RoomWrite::DropInvite(code.to_owned())], News::none()).await? {
            None => done(),
            Some(Unmet::Invite) => Err(Error::not_found("this group has no such invite code")),
            Some(unmet) => refused(unmet, by),
        }
    }
}

/// What a service is told of a join: whether the caller has only asked so far.
pub(super) fn is_requested(answer: room_reply::Reply) -> Result<bool> {
    match answer {
        room_reply::Reply::Join(JoinAnswer { requested }) => Ok(requested),
        _ => Err(Error::internal("a room answered as something else")),
    }
}
