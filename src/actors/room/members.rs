//! Changes of a group's membership: stored first, then known to the room, then told in the log and by events.

use super::actor::{RoomMessage, RoomState};
use crate::domain::{Error, Result};
use crate::protocol::cluster::room_request::Command;
use crate::protocol::v1::ServerFrame;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};
use crate::storage::MemberRecord;
use crate::{chance, clock};

/// How long changes gather before members are told how the conversation looks.
const DESCRIBE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

impl RoomState {
    /// Carries out a command that changes who is in the group.
    pub(super) async fn change_members(&mut self, by: u64, command: Command) -> Result<()> {
        let outcome = match command {
            Command::Opened(_) => self.open(by),
            Command::AddMembers(add) => self.add(by, add.user_ids).await,
            Command::RemoveMember(remove) => self.remove(by, remove.user_id).await,
            Command::Join(_) => self.join(by).await,
            Command::Leave(_) => self.leave(by).await,
            _ => Err(Error::internal("a room does not know this command")),
        };
        // A change that was not confirmed may have been stored.
        self.stale |= outcome.as_ref().is_err_and(Error::is_retryable);
        outcome
    }

    fn open(&mut self, by: u64) -> Result<()> {
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        room.require_member(by)?;
        let others: Vec<u64> = room.member_ids().iter().copied().filter(|id| *id != by).collect();
        if room.last_seq() == 0 && room.pending() == 0 && room.conversation().kind == ConversationKind::Group
        {
            let text = format!("created the group {}", room.conversation().name);
            self.announce(by, text, others);
            self.describe_to_all();
        }
        Ok(())
    }

    async fn add(&mut self, by: u64, user_ids: Vec<u64>) -> Result<()> {
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        room.require_manager(by)?;
        let new: Vec<u64> = user_ids.into_iter().filter(|user_id| room.member(*user_id).is_none()).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.admit(&new).await?;
        self.announce(by, format!("added {} to the group", count(new.len())), new);
        Ok(())
    }

    async fn join(&mut self, by: u64) -> Result<()> {
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        if room.member(by).is_some() {
            return Ok(());
        }
        if room.conversation().kind == ConversationKind::Direct {
            return Err(Error::denied("a direct conversation can't be joined"));
        }
        if room.conversation().join_policy != JoinPolicy::Open {
            return Err(Error::denied("this group is not open; ask its owner or an admin to add you"));
        }
        self.admit(&[by]).await?;
        self.announce(by, "joined the group".to_owned(), vec![by]);
        Ok(())
    }

    async fn leave(&mut self, by: u64) -> Result<()> {
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        if room.conversation().kind == ConversationKind::Direct {
            return Err(Error::precondition("a direct conversation can't be left"));
        }
        let role = room.require_member(by)?.role;
        match room.heir(by) {
            Some(heir) if role == MemberRole::Owner => {
                let (id, now_ms) = (room.conversation().id, clock::now_ms());
                let conversations = &self.actors.inner.stores.conversations;
                if !conversations.pass_on(id, by, heir, now_ms).await? {
                    // Another activation has changed who is a member.
                    self.stale = true;
                    return Err(Error::unavailable("the group has just changed; try again"));
                }
                if let Some(room) = &mut self.room {
                    room.crown(heir);
                }
                self.forget_member(by);
            }
            _ => self.dismiss(by).await?,
        }
        self.announce(by, "left the group".to_owned(), vec![by]);
        Ok(())
    }

    async fn remove(&mut self, by: u64, user_id: u64) -> Result<()> {
        if by == user_id {
            return self.leave(by).await;
        }
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        room.require_manager(by)?;
        let Some(member) = room.member(user_id) else {
            return Err(Error::not_found(format!("user {user_id} is not a member of this group")));
        };
        let by_owner = room.require_member(by)?.role == MemberRole::Owner;
        if member.role == MemberRole::Owner || (member.role == MemberRole::Admin && !by_owner) {
            return Err(Error::denied("an admin can remove members only; the owner can remove admins too"));
        }
        self.dismiss(user_id).await?;
        self.announce(by, "removed a member from the group".to_owned(), vec![user_id]);
        Ok(())
    }

    async fn admit(&mut self, user_ids: &[u64]) -> Result<()> {
        let room = self.room.as_ref().ok_or_else(not_loaded)?;
        let limit = self.actors.inner.config.room.members_max;
        if room.member_ids().len() + user_ids.len() > limit {
            return Err(Error::precondition(format!("a group has at most {limit} members")));
        }
        let (now_ms, first_seq, id) = (clock::now_ms(), room.next_seq(), room.conversation().id);
        let members: Vec<MemberRecord> = user_ids
            .iter()
            .map(|&user_id| MemberRecord {
                conversation_id: id,
                user_id,
                role: MemberRole::Member,
                first_seq,
                delivered_seq: first_seq - 1,
                read_seq: first_seq - 1,
                joined_at_ms: now_ms,
                updated_at_ms: now_ms,
                ..MemberRecord::default()
            })
            .collect();
        self.actors.inner.stores.conversations.add_members(&members).await?;
        if let Some(room) = &mut self.room {
            room.join(members);
        }
        self.describe_to.extend(user_ids);
        self.describe_to_all();
        Ok(())
    }

    async fn dismiss(&mut self, user_id: u64) -> Result<()> {
        let id = self.vitals.address.key;
        self.actors.inner.stores.conversations.remove_member(id, user_id, clock::now_ms()).await?;
        self.forget_member(user_id);
        Ok(())
    }

    fn forget_member(&mut self, user_id: u64) {
        if let Some(room) = &mut self.room {
            room.leave(user_id);
        }
        self.describe_to.push(user_id);
        self.describe_to_all();
    }

    /// A `system` message in the log, where the room is small enough for it.
    fn announce(&mut self, by: u64, text: String, about: Vec<u64>) {
        let small = self.actors.inner.config.room.small_room;
        if let Some(room) = &mut self.room
            && room.member_ids().len() <= small
        {
            room.announce(by, text, about, format!("system-{:016x}", chance::bits()));
        }
    }

    fn describe_to_all(&mut self) {
        if let Some(room) = &self.room
            && room.member_ids().len() <= self.actors.inner.config.room.small_room
        {
            self.describe_to.extend(room.member_ids().iter());
        }
        let myself = self.myself.clone();
        self.actors.inner.runtime.spawn(async move {
            tokio::time::sleep(DESCRIBE_PAUSE).await;
            // A room that has ended leaves this to the clients' next sync.
            let _ = myself.cast(RoomMessage::Describe);
        });
    }

    /// Sends everybody concerned the conversation as it stands for them, off the room's own task.
    pub(super) fn describe_members(&mut self) {
        let mut user_ids = std::mem::take(&mut self.describe_to);
        user_ids.sort_unstable();
        user_ids.dedup();
        let (actors, conversation_id) = (self.actors.clone(), self.vitals.address.key);
        self.actors.inner.runtime.spawn(async move {
            for user_id in user_ids {
                match actors.inner.stores.conversations.conversation_of(user_id, conversation_id).await {
                    Ok(Some(row)) => {
                        let event = ServerFrame { reply_to: 0, body: Some(Body::Conversation(row.into())) };
                        actors.fan_out(&[user_id], 0, event, ConversationKind::Group);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, conversation_id, "members learn of a change by sync only");
                        return;
                    }
                }
            }
        });
    }
}

fn count(members: usize) -> String {
    if members == 1 { "a member".to_owned() } else { format!("{members} members") }
}

fn not_loaded() -> Error {
    Error::internal("a room acts before it is loaded")
}
