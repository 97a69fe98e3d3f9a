//! Conversations and their members: what is not a message.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::accounts::no_user;
use super::gate::Gate;
use super::messages::Messages;
use crate::actors::room::Rooms;
use crate::clock::now_ms;
use crate::domain::limits::{DESCRIPTION_MAX, MEMBER_IDS_MAX, NAME_MAX, check_client_id, check_length};
use crate::domain::{Error, Result};
use crate::protocol::{JoinPolicy, v1};
use crate::storage::{
    AccountStore, ConversationStore, MemberRecord, NewGroup, ROSTER_MAX, RoomStore, StoreError, UserRecord,
};

/// What a group is created from.
#[derive(Clone, Debug, Default)]
pub struct GroupRequest {
    /// Its name; not empty.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// Who may join.
    pub join_policy: JoinPolicy,
    /// The first members but for the creator.
    pub member_ids: Vec<u64>,
    /// By which a repeat is known; may be empty.
    pub client_id: String,
}

/// A member and the account behind it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The membership.
    pub record: MemberRecord,
    /// The account.
    pub user: UserRecord,
}

/// Conversations, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    store: Arc<dyn ConversationStore>,
    lists: Arc<dyn RoomStore>,
    /// What is shown of users; may be cached.
    profiles: Arc<dyn AccountStore>,
    /// What is decided by.
    accounts: Arc<dyn AccountStore>,
    rooms: Rooms,
    messages: Messages,
    gate: Gate,
}

impl Conversations {
    /// Over these stores and rooms.
    pub fn new(
        store: Arc<dyn ConversationStore>,
        lists: Arc<dyn RoomStore>,
        profiles: Arc<dyn AccountStore>,
        accounts: Arc<dyn AccountStore>,
        rooms: Rooms,
        messages: Messages,
        gate: Gate,
    ) -> Self {
        Self { store, lists, profiles, accounts, rooms, messages, gate }
    }

    /// Creates a group; whether it did, and not an earlier call of the same `client_id`. One bad member id refuses the whole
    /// call.
    pub async fn create_group(&self, by: u64, request: GroupRequest) -> Result<(v1::Conversation, bool)> {
        let (conversation_id, created) = self.create_group_id(by, request).await?;
        Ok((self.messages.conversation(by, conversation_id).await?, created))
    }

    /// Creates a group and returns its id only.
    pub async fn create_group_id(&self, by: u64, request: GroupRequest) -> Result<(u64, bool)> {
        let client_id = request.client_id.clone();
        if !client_id.is_empty() {
            check_client_id(&client_id)?;
            if let Some(first) = self.store.created_as(by, &client_id).await? {
                self.open(by, first.id).await;
                return Ok((first.id, false));
            }
        }
        let name = request.name.trim();
        if name.is_empty() {
            return Err(Error::invalid("name", "the group has no name; give one"));
        }
        check_length("name", name, NAME_MAX)?;
        check_length("description", &request.description, DESCRIPTION_MAX)?;
        if request.member_ids.contains(&by) {
            return Err(Error::invalid(
                "member_ids",
                "member_ids names you; leave yourself out, the creator is a member anyway",
            ));
        }
        self.check_users("member_ids", &request.member_ids).await?;
        self.gate.may_add(by, &request.member_ids, "member_ids").await?;
        let group = NewGroup {
            owner_id: by,
            name: name.to_owned(),
            description: request.description,
            join_policy: request.join_policy,
            member_ids: request.member_ids,
            client_id: request.client_id,
            now_ms: now_ms(),
        };
        let outcome = self.store.create_group(group).await;
        let (created, id) = match outcome {
            Ok(created) => (true, created.id),
            // Another call was faster, or this one was not confirmed.
            Err(StoreError::Exists | StoreError::Unsettled(_)) if !client_id.is_empty() => {
                let found = self.store.created_as(by, &client_id).await?;
                let is_ours = !matches!(outcome, Err(StoreError::Exists));
                let away = || Error::unavailable("the group was not created for certain; try again");
                (is_ours, found.ok_or_else(away)?.id)
            }
            Err(error) => return Err(error.into()),
        };
        self.open(by, id).await;
        Ok((id, created))
    }

    /// Announces a group that is stored, if it was not yet. To refuse now would make the caller create a second one; its
    /// members learn of it by sync even when this fails.
    async fn open(&self, by: u64, conversation_id: u64) {
        if let Err(error) = self.rooms.opened(by, conversation_id).await {
            tracing::warn!(target: "rookery::conversations", conversation_id, %error, "a new group could not be announced");
        }
    }

    /// The direct conversation with `other`, created if need be; whether it was.
    pub async fn direct(&self, by: u64, other: u64) -> Result<(v1::Conversation, bool)> {
        if other == 0 {
            return Err(Error::invalid("user_id", "user_id is missing; name the other user"));
        }
        if other == by {
            return Err(Error::invalid("user_id", "user_id is your own; name another user"));
        }
        let (conversation_id, created) = self.messages.direct(by, other).await?;
        Ok((self.messages.conversation(by, conversation_id).await?, created))
    }

    /// The caller's conversations, newest first; `cursor` is an earlier answer's second part.
    pub async fn list(&self, by: u64, cursor: &str, limit: u32) -> Result<(Vec<v1::Conversation>, String)> {
        self.messages.conversations(by, cursor, limit).await
    }

    /// One conversation as the caller sees it.
    pub async fn get(&self, by: u64, conversation_id: u64) -> Result<v1::Conversation> {
        self.messages.conversation(by, conversation_id).await
    }

    /// The members by user id above `after_id`, to a member; whether there are more.
    pub async fn members(
        &self,
        by: u64,
        conversation_id: u64,
        after_id: u64,
        limit: u32,
    ) -> Result<(Vec<Member>, bool)> {
        // The roster only says which rows to ask for: whoever is not a member any more is in none of them.
        let roster = self.store.roster(conversation_id).await?;
        let mut ids: Vec<u64> = if roster.len() <= ROSTER_MAX {
            roster.iter().map(|row| row.user_id).filter(|id| *id > after_id).collect()
        } else {
            let page = self.lists.members_page(conversation_id, after_id, limit + 1).await?;
            page.into_iter().map(|row| row.user_id).collect()
        };
        ids.sort_unstable();
        let more = ids.len() > limit as usize;
        ids.truncate(limit as usize);
        let mut present = self.present(by, conversation_id, &ids).await?;
        let users = self.profiles.users(&ids).await?;
        let mut users: HashMap<u64, UserRecord> = users.into_iter().map(|user| (user.id, user)).collect();
        let member = |id: &u64| Some(Member { record: present.remove(id)?, user: users.remove(id)? });
        Ok((ids.iter().filter_map(member).collect(), more))
    }

    /// One member, to a member.
    pub async fn member(&self, by: u64, conversation_id: u64, user_id: u64) -> Result<Member> {
        let mut present = self.present(by, conversation_id, &[user_id]).await?;
        let user = self.profiles.user(user_id).await?;
        match (present.remove(&user_id), user) {
            (Some(record), Some(user)) => Ok(Member { record, user }),
            _ => Err(Error::not_found(format!("user {user_id} is not a member of this group"))),
        }
    }

    /// Those of the users who are members, for `by`, who must be one.
    async fn present(
        &self,
        by: u64,
        conversation_id: u64,
        user_ids: &[u64],
    ) -> Result<HashMap<u64, MemberRecord>> {
        let asked: Vec<u64> = user_ids.iter().copied().chain([by]).collect();
        let present = self.store.members_among(conversation_id, &asked).await?;
        let present: HashMap<u64, MemberRecord> =
            present.into_iter().map(|member| (member.user_id, member)).collect();
        if present.contains_key(&by) {
            return Ok(present);
        }
        Err(match self.store.conversation(conversation_id).await? {
            None => Error::not_found(format!(
                "conversation {conversation_id} does not exist; list yours to find its id"
            )),
            Some(_) => Error::denied(format!(
                "you are not a member of conversation {conversation_id}; join it or ask a member to add you"
            )),
        })
    }

    /// Adds users to a group; those who are members already stay as they are.
    pub async fn add_members(&self, by: u64, conversation_id: u64, user_ids: Vec<u64>) -> Result<()> {
        if user_ids.is_empty() {
            return Err(Error::invalid("user_ids", "user_ids is empty; name the users to add"));
        }
        self.check_users("user_ids", &user_ids).await?;
        self.gate.may_add(by, &user_ids, "user_ids").await?;
        self.rooms.add_members(by, conversation_id, user_ids).await
    }

    /// Removes a member from a group; removing oneself is leaving.
    pub async fn remove_member(&self, by: u64, conversation_id: u64, user_id: u64) -> Result<()> {
        if user_id == by {
            return self.rooms.leave(by, conversation_id).await;
        }
        self.rooms.remove_member(by, conversation_id, user_id).await
    }

    /// Leaves a group.
    pub async fn leave(&self, by: u64, conversation_id: u64) -> Result<()> {
        self.rooms.leave(by, conversation_id).await
    }

    /// All of the ids must be those of enabled accounts, none twice, and not too many.
    async fn check_users(&self, field: &'static str, user_ids: &[u64]) -> Result<()> {
        if user_ids.len() > MEMBER_IDS_MAX {
            return Err(Error::invalid(
                field,
                format!("{field} has {} ids; {MEMBER_IDS_MAX} is the most in one call", user_ids.len()),
            ));
        }
        let mut seen = HashSet::new();
        if let Some(doubled) = user_ids.iter().find(|id| !seen.insert(**id)) {
            return Err(Error::invalid(field, format!("{field} names {doubled} twice; name each user once")));
        }
        if user_ids.is_empty() {
            return Ok(());
        }
        for user in self.accounts.users(user_ids).await? {
            if !user.disabled {
                seen.remove(&user.id);
            }
        }
        match seen.into_iter().min() {
            None => Ok(()),
            Some(unknown) => Err(Error {
                field: field.into(),
                message: format!("{field} names {unknown}, who is no user; nothing was changed").into(),
                ..no_user()
            }),
        }
    }
}
