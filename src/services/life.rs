//! The end of an account, and what it takes along: erasing it, and exporting one's own data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Identity;
use super::accounts::Accounts;
use super::contacts::Contacts;
use super::timers::again_and_again;
use crate::actors::Events;
use crate::actors::room::Rooms;
use crate::clock::now_ms;
use crate::config::AccountsConfig;
use crate::domain::{Error, Result};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ContactState, ConversationKind, ErrorCode, v1};
use crate::storage::{ConversationRow, LateErasure, Stores};

/// Rows read at a time.
const PAGE: u32 = 200;
/// Seqs whose messages are emptied in one transaction.
const ERASED_AT_ONCE: u64 = 5000;
/// Lines of an export that wait for a client that reads slowly.
const EXPORT_AHEAD: usize = 64;
/// When one who may not export now may try again.
const EXPORT_RETRY: Duration = Duration::from_secs(5);
/// How long an export waits for its client to take a line.
const EXPORT_PATIENCE: Duration = Duration::from_secs(30);
/// After this long nothing is on its way any more of what an erased account has sent, in milliseconds.
const LATE_SENDS_MS: u64 = 20_000;
/// By how much nodes' clocks may differ, in milliseconds, so that a message stored after an erasure began seems older.
const CLOCKS_APART_MS: u64 = 600_000;
/// How often a node looks for what is to be done of erased accounts.
const LATE_INTERVAL: Duration = Duration::from_secs(5);
/// For how long a node that does it is left to it, in milliseconds: it may end, or fail.
const LATE_LEASE_MS: u64 = 60_000;
/// Most accounts of a round.
const LATE_PAGE: u32 = 100;
/// What others see in place of one who is gone.
const ERASED_NAME: &str = "Deleted user";

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct Life {
    accounts: Accounts,
    contacts: Contacts,
    stores: Stores,
    rooms: Rooms,
    events: Events,
    exports: Arc<Semaphore>,
    removes_messages: bool,
}

/// What [`Life`] is made of.
pub struct LifeParts {
    /// Accounts.
    pub accounts: Accounts,
    /// Contacts.
    pub contacts: Contacts,
    /// The stores that decide.
    pub stores: Stores,
    /// The rooms.
    pub rooms: Rooms,
    /// Events to users' sessions.
    pub events: Events,
}

impl Life {
    /// Of these.
    pub fn new(parts: LifeParts, config: &AccountsConfig) -> Self {
        let LifeParts { accounts, contacts, stores, rooms, events } = parts;
        Self {
            accounts,
            contacts,
            stores,
            rooms,
            events,
            exports: Arc::new(Semaphore::new(config.exports_at_once.max(1))),
            removes_messages: config.erase_messages == "remove",
        }
    }

    /// Ends the caller's account for good. It leaves its groups; what it wrote stays, as from a deleted user, or is emptied,
    /// as `accounts.erase_messages` says; its name is free again. May be repeated where it was cut off before it answered.
    pub async fn erase(&self, caller: &Identity, password: &str) -> Result<()> {
        let user_id = caller.user_id;
        self.accounts.confirm(user_id, password).await?;
        // All that may fail comes while the caller can still sign in and repeat it.
        let mut pages = Pages::of(user_id, 0);
        while let Some(page) = pages.next(&self.stores).await? {
            let groups = page.iter().filter(|row| row.conversation.kind == ConversationKind::Group);
            for row in groups {
                match self.rooms.leave(user_id, row.conversation.id).await {
                    // Somebody else removed the user, or the group went.
                    Err(error)
                        if matches!(
                            error.code,
                            ErrorCode::PermissionDenied | ErrorCode::NotFound | ErrorCode::FailedPrecondition
                        ) => {}
                    outcome => outcome?,
                }
            }
        }
        let mut emptied = HashMap::new();
        let begun_ms = now_ms();
        if self.removes_messages {
            self.empty_all(user_id, &mut emptied).await?;
        }
        let listed = self.all_contacts(user_id).await?;
        let later = LateErasure {
            user_id,
            since_ms: begun_ms.saturating_sub(CLOCKS_APART_MS),
            due_at_ms: now_ms() + LATE_SENDS_MS,
        };
        let later = self.removes_messages.then_some(later);
        self.accounts.erase(user_id, &format!("~deleted-{user_id}"), ERASED_NAME, later).await?;
        if self.removes_messages {
            // What was sent until then, by other devices or for the user. What was on its way to a room comes later.
            if let Err(error) = self.empty_all(user_id, &mut emptied).await {
                tracing::debug!(target: "rookery::accounts", user_id, %error, "what an erased account sent last is emptied later");
            }
        }
        for contact_id in listed {
            let gone =
                v1::ContactEvent { user_id, state: ContactState::Removed as i32, message: String::new() };
            self.events.publish(vec![contact_id], Body::Contact(gone), 0);
        }
        tracing::info!(target: "rookery::accounts", user_id, "an account was erased");
        Ok(())
    }

    /// Empties what erased accounts had sent last and was stored later, again and again, as long as the node runs. It is kept
    /// with the erasure, so that it outlives any node; two nodes share the work.
    pub fn start(&self) {
        let this = self.clone();
        tokio::spawn(again_and_again(LATE_INTERVAL, async move || this.empty_late(now_ms()).await));
    }

    /// What is due by then.
    pub(super) async fn empty_late(&self, now_ms: u64) -> Result<()> {
        for erasure in self.stores.people.late_erasures(now_ms, LATE_PAGE).await? {
            let leased = LateErasure { due_at_ms: now_ms + LATE_LEASE_MS, ..erasure };
            if !self.stores.people.put_off_erasure(erasure, leased.due_at_ms).await? {
                continue;
            }
            let mut pages = Pages::of(erasure.user_id, 1);
            while let Some(page) = pages.next(&self.stores).await? {
                for row in page {
                    let id = row.conversation.id;
                    let from_seq = self.stores.messages.seq_at(id, erasure.since_ms).await?;
                    self.empty(erasure.user_id, id, from_seq.max(1)).await?;
                }
            }
            self.stores.people.finish_erasure(erasure.user_id).await?;
        }
        Ok(())
    }

    /// Empties what a user has written, behind what was emptied before: seqs by conversation.
    async fn empty_all(&self, user_id: u64, emptied: &mut HashMap<u64, u64>) -> Result<()> {
        // From 1: those that were left too.
        let mut pages = Pages::of(user_id, 1);
        while let Some(page) = pages.next(&self.stores).await? {
            for row in page {
                let id = row.conversation.id;
                let to_seq = emptied.entry(id).or_default();
                *to_seq = self.empty(user_id, id, *to_seq + 1).await?;
            }
        }
        Ok(())
    }

    /// The same in one conversation; up to which seq.
    async fn empty(&self, user_id: u64, conversation_id: u64, mut from_seq: u64) -> Result<u64> {
        let last_seq = self.stores.messages.last_seq(conversation_id).await?;
        while from_seq <= last_seq {
            let to_seq = from_seq + ERASED_AT_ONCE;
            self.stores.people.erase_messages(conversation_id, user_id, from_seq, to_seq).await?;
            // Later, so that what is indexed meanwhile is indexed without its words.
            self.stores.search.forget(conversation_id, user_id, from_seq, to_seq).await?;
            from_seq = to_seq;
        }
        Ok(last_seq)
    }

    async fn all_contacts(&self, user_id: u64) -> Result<Vec<u64>> {
        let mut ids: Vec<u64> = Vec::new();
        loop {
            let after_id = ids.last().copied().unwrap_or_default();
            let page = self.stores.contacts.contacts(user_id, after_id, PAGE).await?;
            ids.extend(page.iter().map(|row| row.contact_id));
            if page.len() < PAGE as usize {
                return Ok(ids);
            }
        }
    }

    /// All that is kept of the caller and by the caller, as lines of JSON, each with its line break: account, devices,
    /// contacts, blocks, conversations, and the messages that the caller wrote. The last one has the type `end`; without
    /// it the export is not whole. `resource_exhausted` while `accounts.exports_at_once` others are under way on this node.
    pub async fn export(&self, caller: &Identity) -> Result<mpsc::Receiver<Bytes>> {
        let Ok(permit) = Arc::clone(&self.exports).try_acquire_owned() else {
            return Err(Error::exhausted(
                "too many exports are under way; try again in a while",
                EXPORT_RETRY,
            ));
        };
        let user = self.accounts.user(caller.user_id).await?;
        let (lines, export) = mpsc::channel(EXPORT_AHEAD);
        let (this, user_id) = (self.clone(), caller.user_id);
        tokio::spawn(async move {
            let out = Export { lines, _permit: permit };
            let account = json!({
                "type": "account", "user_id": user.id, "username": user.username,
                "display_name": user.display_name, "avatar_file_id": user.avatar_file_id, "bio": user.bio,
                "created_at_ms": user.created_at_ms,
            });
            let outcome = match out.line(account).await {
                Ok(()) => this.write_export(user_id, &out).await,
                gone => gone,
            };
            let last = match outcome {
                Ok(()) => json!({ "type": "end" }),
                Err(error) => json!({ "type": "error", "message": error.message }),
            };
            // A client that has gone needs no last line.
            let _ = out.line(last).await;
        });
        Ok(export)
    }

    async fn write_export(&self, user_id: u64, out: &Export) -> Result<()> {
        let privacy = self.contacts.privacy(user_id).await?;
        out.line(json!({
            "type": "privacy", "who_may_write": privacy.who_may_write.as_str(),
            "who_may_add": privacy.who_may_add.as_str(),
            "who_sees_last_seen": privacy.who_sees_last_seen.as_str(),
        }))
        .await?;
        for presence in self.stores.people.presences(&[user_id]).await? {
            out.line(json!({
                "type": "presence", "status": presence.status.as_str_name(), "text": presence.text,
                "last_seen_ms": presence.last_seen_ms,
            }))
            .await?;
        }
        for device in self.accounts.devices(user_id).await? {
            out.line(json!({
                "type": "device", "device_id": device.id, "device_name": device.name,
                "platform": device.platform, "created_at_ms": device.created_at_ms,
                "last_seen_ms": device.last_seen_ms, "expires_at_ms": device.expires_at_ms,
            }))
            .await?;
        }
        let mut after_id = 0;
        loop {
            let page = self.stores.contacts.contacts(user_id, after_id, PAGE).await?;
            for contact in &page {
                out.line(json!({
                    "type": "contact", "user_id": contact.contact_id, "state": contact.state.as_str_name(),
                    "message": contact.message, "updated_at_ms": contact.updated_at_ms,
                }))
                .await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after_id = last.contact_id,
                _ => break,
            }
        }
        after_id = 0;
        loop {
            let page = self.stores.people.blocks(user_id, after_id, PAGE).await?;
            for block in &page {
                out.line(json!({
                    "type": "block", "user_id": block.blocked_id, "created_at_ms": block.created_at_ms,
                }))
                .await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after_id = last.blocked_id,
                _ => break,
            }
        }
        after_id = 0;
        loop {
            let page = self.stores.marks.scheduled(user_id, after_id, PAGE).await?;
            for record in &page {
                out.object("scheduled", &record.send).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after_id = last.id,
                _ => break,
            }
        }
        let mut pages = Pages::of(user_id, 1);
        while let Some(page) = pages.next(&self.stores).await? {
            for row in page {
                self.export_conversation(user_id, row, out).await?;
            }
        }
        Ok(())
    }

    async fn export_conversation(&self, user_id: u64, row: ConversationRow, out: &Export) -> Result<()> {
        let conversation_id = row.conversation.id;
        // Others' words are not the caller's to take along.
        let shown = v1::Conversation { last_message: None, ..v1::Conversation::from(row) };
        out.object("conversation", &shown).await?;
        let mut after_seq = 0;
        loop {
            let page = self.stores.messages.after(conversation_id, after_seq, PAGE).await?;
            for message in &page {
                if message.sender_id == user_id {
                    out.object("message", message).await?;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after_seq = last.seq,
                _ => return Ok(()),
            }
        }
    }
}

/// A user's conversations, page by page.
struct Pages {
    user_id: u64,
    changed_since_ms: u64,
    before: Option<(u64, u64)>,
    ended: bool,
}

impl Pages {
    /// `changed_since_ms` as in storage's list.
    fn of(user_id: u64, changed_since_ms: u64) -> Self {
        Self { user_id, changed_since_ms, before: None, ended: false }
    }

    async fn next(&mut self, stores: &Stores) -> Result<Option<Vec<ConversationRow>>> {
        if self.ended {
            return Ok(None);
        }
        let list = &stores.conversations;
        let page = list.conversations_of(self.user_id, self.changed_since_ms, self.before, PAGE).await?;
        self.before = page.last().map(|last| (last.activity_ms(), last.conversation.id));
        self.ended = page.len() < PAGE as usize;
        Ok(Some(page))
    }
}

/// An export under way; its place is free when this is dropped.
struct Export {
    lines: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    /// An error: the client has gone, or does not read.
    async fn line(&self, line: Value) -> Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        let sent = self.lines.send_timeout(text.into(), EXPORT_PATIENCE).await;
        sent.map_err(|_| Error::new(ErrorCode::DeadlineExceeded, "the export was not read on"))
    }

    async fn object(&self, kind: &str, object: &impl serde::Serialize) -> Result<()> {
        let mut line = serde_json::to_value(object)
            .map_err(|_| Error::internal("an object of the protocol is not JSON"))?;
        line["type"] = kind.into();
        self.line(line).await
    }
}
