//! How one gets into a group by oneself: open doors, requests that managers answer, and invite codes. Who is banned gets in
//! by none of them.

use super::actor::RoomState;
use super::members::{Changed, MANAGERS_TOLD_MAX, done, refused};
use crate::clock;
use crate::domain::limits::{INVITES_MAX, JOIN_REQUESTS_MAX};
use crate::domain::permissions::Act;
use crate::domain::{Error, Result};
use crate::protocol::cluster::{AnswerRequest, Join, JoinAnswer, MakeInvite, room_reply};
use crate::protocol::{ConversationKind, JoinPolicy};
use crate::storage::{Condition, InviteRecord, JoinRequestRecord, Listed, RoomWrite, Unmet};

fn joined(requested: bool) -> Changed {
    Ok(Some(room_reply::Reply::Join(JoinAnswer { requested })))
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
        if room.conversation().rules.dissolved_at_ms != 0 {
            return Err(Error::precondition("this group was dissolved; it can't be joined any more"));
        }
        let mut writes = Vec::new();
        if !join.code.is_empty() {
            writes.push(RoomWrite::UseInvite(join.code.clone()));
        } else {
            match room.conversation().join_policy {
                JoinPolicy::Open => {}
                JoinPolicy::Approval => return self.ask(by, join.message.clone()).await,
                JoinPolicy::Invite => {
                    return Err(Error::denied(
                        "this group takes in those who have an invite code; ask its owner or an admin for one",
                    ));
                }
            }
        }
        let conditions = vec![Condition::NoMember(by), Condition::NotBanned(vec![by])];
        if let Some(unmet) = self.admit(&[by], conditions, writes).await? {
            return refused(unmet, by);
        }
        self.announce_membership(by, "joined the group".to_owned(), vec![by]);
        joined(false)
    }

    /// Keeps a request to join, and tells those who answer it.
    async fn ask(&mut self, by: u64, message: String) -> Changed {
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
        ];
        let writes = vec![RoomWrite::Ask(request), RoomWrite::Touch(managers.clone())];
        if let Some(unmet) = self.store(conditions, writes).await? {
            return refused(unmet, by);
        }
        self.tell(managers);
        joined(true)
    }

    /// Lets one in who has asked, or not. Whoever has asked may take the request back by declining it.
    pub(super) async fn answer_request(&mut self, by: u64, answer: &AnswerRequest) -> Changed {
        let asker = answer.user_id;
        let mut conditions = vec![Condition::Requested(asker)];
        let withdraws = by == asker && !answer.accept;
        if !withdraws {
            let role = self.authorize(by, Act::AnswerRequests)?;
            conditions.push(Condition::Role(by, role));
        }
        let managers = self.known()?.managers(MANAGERS_TOLD_MAX);
        if !answer.accept {
            let writes = vec![RoomWrite::Unask(asker), RoomWrite::Touch(managers.clone())];
            if let Some(unmet) = self.store(conditions, writes).await? {
                return refused(unmet, by);
            }
        } else {
            conditions.extend([Condition::NoMember(asker), Condition::NotBanned(vec![asker])]);
            if let Some(unmet) = self.admit(&[asker], conditions, Vec::new()).await? {
                return refused(unmet, by);
            }
            self.announce_membership(by, "let a new member in".to_owned(), vec![asker]);
        }
        self.tell(managers);
        done()
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
        match self.store(conditions, vec![RoomWrite::Invite(record)]).await? {
            None => done(),
            Some(unmet) => refused(unmet, by),
        }
    }

    pub(super) async fn drop_invite(&mut self, by: u64, code: &str) -> Changed {
        let role = self.authorize(by, Act::Invite)?;
        let conditions = vec![Condition::Role(by, role)];
        match self.store(conditions, vec![RoomWrite::DropInvite(code.to_owned())]).await? {
            None => done(),
            Some(Unmet::Invite) => Err(Error::not_found("this group has no such invite code")),
            Some(unmet) => refused(unmet, by),
        }
    }

    fn tell(&mut self, user_ids: Vec<u64>) {
        self.describe_to.extend(user_ids);
        self.describe_soon();
    }
}

/// What a service is told of a join: whether the caller has only asked so far.
pub(super) fn is_requested(answer: room_reply::Reply) -> Result<bool> {
    match answer {
        room_reply::Reply::Join(JoinAnswer { requested }) => Ok(requested),
        _ => Err(Error::internal("a room answered as something else")),
    }
}
