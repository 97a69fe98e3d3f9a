//! What a room knows of storage: it loads when it begins, learns the truth of its log after a commit that was not
//! confirmed, and reads its membership again when that may have changed behind its back.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::{RoomState, Waiter};
use super::discipline::Pace;
use super::leaving::Wish;
use super::state::{Bounds, Loaded, Phase, Room};
use crate::domain::{Error, Result};
use crate::protocol::v1::Message;
use crate::storage::StoreResult;

/// Most messages that a reload pushes; more are left to sync.
const REPUSH_MAX: u32 = 500;
/// After storage failed, requests that need it are refused with the same answer for this long. Else those that waited in
/// the mailbox meanwhile would each wait for storage anew, one behind the other.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// One who is not a member by our memory is refused without a look into storage only if that is no older than this:
/// another activation may have added him.
const DENIAL_AGE_MAX: Duration = Duration::from_secs(1);

impl RoomState {
    /// Whether the room is loaded and knows the truth of its log and membership.
    pub(super) fn is_settled(&self) -> bool {
        let phase = self.room.as_ref().map(Room::phase);
        let doubts = self.actors.doubts();
        matches!(phase, Some(Phase::Settled | Phase::InFlight))
            && !self.stale
            && self.members_read.is_some_and(|(_, then)| then == doubts)
    }

    /// Loads the room if it is not, learns the log's truth if it is in doubt, and the membership if that is.
    pub(super) async fn settle(&mut self) -> Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        // Read before storage is: what comes into doubt meanwhile stays so.
        let doubts = self.actors.doubts();
        let phase = self.room.as_ref().map(Room::phase);
        if let Err(error) = self.present() {
            // Nobody is left waiting for what is not tried.
            let effects = self.room.as_mut().map(|room| room.give_up(&error)).unwrap_or_default();
            self.perform(effects);
            if self.room.is_none() {
                self.leaving.wish = Some(Wish::Nothing);
            }
            return Err(error);
        }
        let outcome = match phase {
            None => self.load().await.map(|room| self.room = Some(room)),
            Some(Phase::Unsettled) => self.reload().await,
            Some(_) => self.refresh().await,
        };
        if outcome.is_ok() {
            self.stale = false;
            self.members_read = Some((Instant::now(), doubts));
        }
        // A room that does not exist is not worth an actor, nor is one of which nothing could be read: there are more
        // numbers that somebody may name than actors that a node can hold.
        if self.room.is_none() && outcome.is_err() {
            self.leaving.wish = Some(Wish::Nothing);
        }
        self.note(&outcome);
        outcome
    }

    /// Makes sure that one who is not a member by our memory is none by storage's either.
    pub(super) async fn look_for(&mut self, user_id: u64) -> Result<()> {
        let known = self.room.as_ref().is_some_and(|room| room.member(user_id).is_some());
        let fresh = self.members_read.is_some_and(|(at, _)| at.elapsed() < DENIAL_AGE_MAX);
        if known || fresh {
            return Ok(());
        }
        self.present()?;
        let stores = &self.actors.inner.stores;
        let member = stores.conversations.member(self.conversation_id(), user_id).await.map_err(Error::from);
        self.note(&member);
        if member?.is_some_and(|member| member.removed_at_ms == 0) {
            self.stale = true;
            self.settle().await?;
        }
        Ok(())
    }

    /// Refuses while storage is known to be away.
    pub(super) fn present(&self) -> Result<()> {
        match &self.away {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Learns from an answer of storage whether it is away.
    pub(super) fn note<T>(&mut self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.away = None,
            Err(error) if error.is_retryable() => {
                self.away = Some((Instant::now() + AWAY_PAUSE, error.clone()))
            }
            Err(_) => {}
        }
    }

    async fn load(&mut self) -> Result<Room<Waiter>> {
        let actors = self.actors.clone();
        let stores = &actors.inner.stores;
        let conversation_id = self.conversation_id();
        let read = match actors.inner.newborns.take(conversation_id) {
            Some(new) => new,
            None => actors.inner.loads.ask(conversation_id).await?,
        };
        let conversation = read.opening.conversation.ok_or_else(|| {
            Error::not_found(format!(
                "conversation {conversation_id} does not exist; list yours to find its id"
            ))
        })?;
        let members = match read.opening.members {
            Some(members) => members,
            None => stores.conversations.members(conversation_id).await?,
        };
        let recent = read.tail;
        self.pace = Pace::load(stores, &conversation, &recent).await?;
        let last_seq = recent.last().map_or(0, |message| message.seq);
        let bounds = Bounds::of(&actors.inner.config);
        // The owner before us may have died between storing and pushing; sessions drop what they have had.
        let young = self.young_ms();
        let repush: Vec<Message> =
            recent.iter().filter(|message| message.created_at_ms > young).cloned().collect();
        let loaded = Loaded {
            conversation,
            members,
            last_seq,
            unpushed: recent,
            stored: Vec::new(),
            targets: Vec::new(),
        };
        let room = Room::new(loaded, bounds);
        for message in repush {
            self.push_message(&room.member_ids(), room.conversation().kind, message, 0);
        }
        Ok(room)
    }

    /// Reads the membership again.
    async fn refresh(&mut self) -> Result<()> {
        let actors = self.actors.clone();
        let stores = &actors.inner.stores;
        let conversation_id = self.conversation_id();
        // After a fault all rooms in use do this: most connections are left to the writers.
        let _turn = actors.inner.refreshes.acquire().await;
        let conversation = stores.conversations.conversation(conversation_id).await?;
        let members = stores.conversations.members(conversation_id).await?;
        let conversation =
            conversation.ok_or_else(|| Error::not_found("the conversation does not exist any more"))?;
        let landed = self.landed(&conversation, &members);
        let Some(room) = &mut self.room else { return Ok(()) };
        let effects = room.refresh(conversation, members);
        self.perform(effects);
        self.tell_landed(landed);
        Ok(())
    }

    async fn reload(&mut self) -> Result<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        let stores = &self.actors.inner.stores;
        let conversation_id = self.vitals.address.key;
        let (pushed_seq, pending) = (room.pushed_seq(), room.pending_keys());
        let changed = room.pending_targets();
        let answer: StoreResult<Option<Loaded>> = async {
            let Some(conversation) = stores.conversations.conversation(conversation_id).await? else {
                return Ok(None);
            };
            let members = stores.conversations.members(conversation_id).await?;
            // What is pushed is read last, so that nothing found stored before is left out of it.
            let stored = stores.messages.stored(&pending).await?;
            let last_seq = stores.messages.last_seq(conversation_id).await?;
            let mut targets = Vec::new();
            for seq in changed {
                targets.extend(stores.messages.after(conversation_id, seq - 1, 1).await?);
            }
            let unpushed = stores.messages.after(conversation_id, pushed_seq, REPUSH_MAX).await?;
            Ok(Some(Loaded { conversation, members, last_seq, unpushed, stored, targets }))
        }
        .await;
        let mut landed = Vec::new();
        let effects = match answer {
            Ok(Some(loaded)) => {
                landed = self.landed(&loaded.conversation, &loaded.members);
                self.room.as_mut().map(|room| room.reload(loaded)).unwrap_or_default()
            }
            Ok(None) => room.give_up(&Error::not_found("the conversation does not exist any more")),
            Err(error) => {
                let error = Error::from(error);
                let effects = room.give_up(&error);
                self.perform(effects);
                return Err(error);
            }
        };
        self.perform(effects);
        self.tell_landed(landed);
        self.pump();
        Ok(())
    }
}
