//! What is stored in a room's log: sends, changes of messages, and the groups in which they leave for the writers; and how
//! those are refused who may not.

use std::sync::Arc;

use super::actor::{RoomMessage, RoomState, SWEEP_EVERY, Waiter, room};
use super::leaving::Stay;
use super::state::Room;
use crate::actors::overload::Shed;
use crate::clock;
use crate::cluster::refusals;
use crate::domain::Error;
use crate::protocol::cluster::room_reply;
use crate::protocol::v1::{ForwardedFrom, Message, Send as SendRequest, Sent};
use crate::protocol::{ErrorCode, MessageKind};
use crate::storage::{ClientKey, StoreError, StoreResult};

impl RoomState {
    pub(super) fn send(
        &mut self,
        user_id: u64,
        session_id: u64,
        send: SendRequest,
        forwarded_from: Option<ForwardedFrom>,
        waiter: Waiter,
    ) {
        // Its client has waited for long enough to try again, and what it says then is stored instead.
        let overload = &self.actors.inner.overload;
        if overload.is_late(waiter.since) {
            return waiter.answer(Err(overload.shed(Shed::Room)));
        }
        if let Err(error) = self.may_write(user_id, &send.client_id) {
            return self.refuse(user_id, send.client_id, error, waiter);
        }
        let Some(room) = &mut self.room else { return };
        if let Err(error) = room.admits_references(user_id, &send) {
            return self.refuse(user_id, send.client_id, error, waiter);
        }
        // Looked at here, when it takes its place in the order: the earlier one may have been refused while both waited. Not
        // before, so that what is refused for good is not told to try again.
        if waiter.reply.is_void() {
            return waiter.answer(Err(refusals::void()));
        }
        let effects = room.send_copy(user_id, session_id, send, forwarded_from, waiter).into_iter().collect();
        self.perform(effects);
        self.pump();
    }

    /// Changes a message by an entry about it. The room waits for the message if it has not had to do with it lately, as later
    /// entries must be judged behind this one.
    pub(super) async fn change_message(&mut self, session_id: u64, mut entry: Message, waiter: Waiter) {
        entry.conversation_id = self.conversation_id();
        let (by, target_seq) = (entry.sender_id, entry.target_seq);
        let Some(room) = &self.room else { return };
        if by != 0
            && let Err(error) = room.require_member(by)
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        // To edit is to write, but for the pauses of slow mode.
        if entry.kind() == MessageKind::Edit
            && let Err(error) = self.may_write(by, &entry.client_id)
            && error.code != ErrorCode::ResourceExhausted
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        if entry.kind() == MessageKind::Reaction
            && let Err(error) = self.may_react(by, &entry.client_id)
        {
            return self.refuse(by, entry.client_id, error, waiter);
        }
        let known = room.targets.knows(target_seq) || room.repeated(by, &entry.client_id).is_some();
        if !known && (1..=room.last_seq()).contains(&target_seq) {
            let log = self.actors.inner.stores.messages.clone();
            // Only what storage itself says counts: else one refusal would prolong the next for ever.
            let found = match self.present() {
                Ok(()) => {
                    let found = log.after(self.conversation_id(), target_seq - 1, 1).await;
                    let found = found.map_err(Error::from);
                    self.note(&found);
                    found
                }
                Err(away) => Err(away),
            };
            match (found, &mut self.room) {
                (Ok(found), Some(room)) => found.into_iter().for_each(|target| room.targets.learn(target)),
                (Err(error), _) => return waiter.answer(Err(error)),
                _ => return,
            }
        }
        let Some(room) = &mut self.room else { return };
        if waiter.reply.is_void() {
            return waiter.answer(Err(refusals::void()));
        }
        let client_id = entry.client_id.clone();
        match room.change(session_id, entry, waiter, clock::now_ms()) {
            Ok(effect) => {
                self.perform(effect.into_iter().collect());
                self.pump();
            }
            Err((waiter, error)) if error.is_retryable() || by == 0 => waiter.answer(Err(error)),
            Err((waiter, error)) => self.refuse(by, client_id, error, waiter),
        }
    }

    /// Refuses what would be stored, unless it repeats something that was when it was still allowed; off the room's own
    /// task, so that those who are refused hold up nobody.
    fn refuse(&self, user_id: u64, client_id: String, error: Error, waiter: Waiter) {
        // What its session has sent since must not be stored meanwhile: the refusal may get lost, and this one be asked again
        // when it is allowed.
        if let Some(standing) = waiter.reply.standing() {
            standing.condemn();
        }
        let Ok(turn) = Arc::clone(&self.actors.inner.denials).try_acquire_owned() else {
            let error = "too much that is not allowed is asked; try again in a moment";
            return waiter.answer(Err(Error::exhausted(error, SWEEP_EVERY)));
        };
        let (actors, conversation_id) = (self.actors.clone(), self.conversation_id());
        self.actors.inner.runtime.spawn(async move {
            let _turn = turn;
            let stores = &actors.inner.stores;
            let key = ClientKey { conversation_id, sender_id: user_id, client_id };
            let found = match stores.conversations.member(conversation_id, user_id).await {
                Ok(Some(_)) => stores.messages.stored(std::slice::from_ref(&key)).await,
                other => other.map(|_| Vec::new()),
            };
            waiter.answer(match found {
                Ok(found) => match found.first() {
                    Some((_, seq, created_at_ms)) => Ok(room(room_reply::Reply::Sent(Sent {
                        conversation_id,
                        seq: *seq,
                        client_id: key.client_id,
                        created_at_ms: *created_at_ms,
                        duplicate: true,
                    }))),
                    None => Err(error),
                },
                Err(away) => Err(away.into()),
            });
        });
    }

    /// Lets the next group leave, if it may. A room that moves begins nothing new but what only it can say.
    pub(super) fn pump(&mut self) {
        let Some(room) = &mut self.room else { return };
        match self.leaving.stay {
            Stay::Here => {}
            Stay::Finishing if room.has_announcement() => {}
            _ => return,
        }
        if let Some(group) = room.next_group(clock::now_ms()) {
            let myself = self.myself.clone();
            self.actors.inner.writers.append(group, move |outcome| {
                // The room outlives its group in flight.
                let _ = myself.cast(RoomMessage::GroupDone(outcome));
            });
        }
    }

    pub(super) fn group_stored(&mut self) {
        let effects = self.room.as_mut().map(Room::stored).unwrap_or_default();
        self.perform(effects);
        self.pump();
    }

    pub(super) async fn group_done(&mut self, outcome: StoreResult<()>) {
        let Some(room) = &mut self.room else { return };
        match outcome {
            Ok(()) => self.group_stored(),
            Err(StoreError::Exists | StoreError::Unsettled(_)) => {
                room.unsettle();
                // An error was told to everybody who waits; the next request tries again.
                let _ = self.settle().await;
            }
            Err(error) => {
                let error = Error::from(error);
                let mut effects = room.refused(&error);
                if error.is_retryable() {
                    // Those behind would only wait for the same, group after group.
                    effects.extend(room.give_up(&error));
                }
                if matches!(self.leaving.stay, Stay::Finishing) {
                    room.drop_announcements();
                }
                self.perform(effects);
                // What is left, the room's own, is tried again by the sweep; what waited behind a group that was refused
                // for its own fault, now.
                let at_fault = !error.is_retryable();
                self.note::<()>(&Err(error));
                if at_fault {
                    self.pump();
                }
            }
        }
    }
}
