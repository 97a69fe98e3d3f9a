//! Contact lists and blocks: requests both ways, friends, who is blocked, and the events that tell both sides' devices.

use std::sync::Arc;

use super::accounts::no_user;
use super::gate::{Gate, you_block};
use crate::actors::Events;
use crate::clock::now_ms;
use crate::domain::limits::{BLOCKS_MAX, CONTACTS_MAX, DESCRIPTION_MAX, check_length};
use crate::domain::privacy::{Audience, Relation};
use crate::domain::{Error, Result};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ContactState, v1};
use crate::storage::{
    AccountStore, BlockRecord, ContactRecord, ContactStore, PeopleStore, PrivacyChange, PrivacyRecord, Stores,
};

/// Contacts and blocks, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Contacts {
    /// What is shown: it may be cached.
    lists: Arc<dyn ContactStore>,
    store: Arc<dyn ContactStore>,
    people: Arc<dyn PeopleStore>,
    accounts: Arc<dyn AccountStore>,
    gate: Gate,
    events: Events,
}

impl Contacts {
    /// Over these stores.
    pub fn new(readers: &Stores, arbiters: &Stores, gate: Gate, events: Events) -> Self {
        Self {
            lists: readers.contacts.clone(),
            store: arbiters.contacts.clone(),
            people: arbiters.people.clone(),
            accounts: arbiters.accounts.clone(),
            gate,
            events,
        }
    }

    /// Friends and requests both ways, by contact id above `after_id`.
    pub async fn list(&self, by: u64, after_id: u64, limit: u32) -> Result<Vec<ContactRecord>> {
        Ok(self.lists.contacts(by, after_id, limit).await?)
    }

    /// Asks `other` to be a friend. If `other` asked before, both are friends at once; friends stay friends.
    pub async fn request(&self, by: u64, other: u64, message: &str) -> Result<ContactRecord> {
        check_length("message", message, DESCRIPTION_MAX)?;
        self.check_other(by, other).await?;
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            row => {
                // One who has asked is answered by this, whatever it takes from others; if it is taken back meanwhile, this asks.
                if row.as_ref().is_none_or(|row| row.state != ContactState::Invited) {
                    self.may_ask(other).await?;
                }
                if row.is_none() {
                    self.check_room(by, other).await?;
                }
                self.put(by, other, [ContactState::Requested, ContactState::Invited], message.to_owned())
                    .await
            }
        }
    }

    /// Takes up `other`'s request.
    pub async fn accept(&self, by: u64, other: u64) -> Result<ContactRecord> {
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            Some(row) if row.state == ContactState::Invited => {
                let accepted = self.store.accept_contacts(by, other, now_ms()).await;
                self.gate.relation_changed(by, other, &accepted).await;
                // The request may have been taken back meanwhile.
                if accepted? { self.tell_of(by, other).await } else { Err(has_not_asked()) }
            }
            _ => Err(has_not_asked()),
        }
    }

    /// Refuses `other`'s request.
    pub async fn decline(&self, by: u64, other: u64) -> Result<()> {
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Invited => self.drop_both(by, other).await,
            _ => Err(Error::not_found(
                "this user has not asked to be your contact; there is nothing to decline",
            )),
        }
    }

    /// Ends a friendship, or takes back a request.
    pub async fn remove(&self, by: u64, other: u64) -> Result<()> {
        match self.state(by, other).await? {
            None => Err(Error::not_found("this user is not among your contacts")),
            Some(_) => self.drop_both(by, other).await,
        }
    }

    /// Makes both friends without asking `other`, as the line protocol's `ADDFRIEND` does. Not where `other` wants to be
    /// asked, or where to be a friend allows more than to be anybody.
    pub async fn befriend(&self, by: u64, other: u64) -> Result<ContactRecord> {
        self.check_other(by, other).await?;
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            Some(row) if row.state == ContactState::Invited => self.accept(by, other).await,
            row => {
                let privacy = self.privacy(other).await?;
                let audiences = [privacy.who_may_add, privacy.who_may_write, privacy.who_sees_last_seen];
                if audiences.iter().any(|audience| *audience != Audience::Everyone) {
                    return Err(Error::denied("this user wants to be asked first; send a contact request"));
                }
                if row.is_none() {
                    self.check_room(by, other).await?;
                }
                self.make_friends(by, other).await
            }
        }
    }

    /// Whom `by` has blocked, by id above `after_id`.
    pub async fn blocks(&self, by: u64, after_id: u64, limit: u32) -> Result<Vec<BlockRecord>> {
        Ok(self.people.blocks(by, after_id, limit).await?)
    }

    /// Blocks `other`, and ends what contact there was: from now on neither writes to, asks or sees the other. When
    /// this returns, that holds on all nodes. Blocking again changes nothing.
    pub async fn block(&self, by: u64, other: u64) -> Result<()> {
        if other == by {
            return Err(Error::invalid("user_id", "user_id is your own; name another user"));
        }
        let relation = self.relation(by, other).await?;
        if !relation.blocks {
            if self.accounts.user(other).await?.is_none() {
                return Err(no_user());
            }
            if self.people.list_sizes(by).await?.1 >= BLOCKS_MAX {
                return Err(Error::precondition(format!(
                    "you have blocked {BLOCKS_MAX} users, which is the most; lift another block first"
                )));
            }
        }
        let was_listed = self.store.contact(other, by).await?.is_some();
        let block = BlockRecord { user_id: by, blocked_id: other, created_at_ms: now_ms() };
        let blocked = self.people.block(block).await;
        // Also when it is not known whether it was stored.
        self.gate.relation_changed(by, other, &blocked).await;
        if blocked? {
            self.tell(by, other, ContactState::Blocked, "");
            if was_listed {
                self.tell(other, by, ContactState::Removed, "");
            }
        }
        Ok(())
    }

    /// Lifts a block. What contact there was stays ended.
    pub async fn unblock(&self, by: u64, other: u64) -> Result<()> {
        let lifted = self.people.unblock(by, other).await;
        self.gate.relation_changed(by, other, &lifted).await;
        if !lifted? {
            return Err(Error::not_found("you have not blocked this user; GET /api/v1/blocks lists those"));
        }
        self.tell(by, other, ContactState::Removed, "");
        Ok(())
    }

    /// A user's own settings.
    pub async fn privacy(&self, user_id: u64) -> Result<PrivacyRecord> {
        let found = self.people.privacies(&[user_id]).await?.pop();
        Ok(found.unwrap_or(PrivacyRecord { user_id, ..PrivacyRecord::default() }))
    }

    /// Changes a user's own settings. When this returns, they hold on all nodes.
    pub async fn change_privacy(&self, user_id: u64, change: PrivacyChange) -> Result<PrivacyRecord> {
        let stored = self.people.change_privacy(user_id, change).await;
        self.gate.privacy_changed(user_id, &stored).await;
        stored?;
        self.privacy(user_id).await
    }

    /// The row of `by` about `other`, unless one of them has blocked the other.
    async fn state(&self, by: u64, other: u64) -> Result<Option<ContactRecord>> {
        if other == by || other == 0 {
            return Ok(None);
        }
        check_blocks(self.relation(by, other).await?)?;
        Ok(self.store.contact(by, other).await?)
    }

    /// From the database, as it is now.
    async fn relation(&self, by: u64, other: u64) -> Result<Relation> {
        Ok(self.people.relations(by, &[other]).await?.pop().unwrap_or_default())
    }

    async fn may_ask(&self, other: u64) -> Result<()> {
        match self.privacy(other).await?.who_may_add {
            Audience::Nobody => Err(Error::denied("this user takes no contact requests")),
            _ => Ok(()),
        }
    }

    /// Both lists must have room for another row.
    async fn check_room(&self, by: u64, other: u64) -> Result<()> {
        for (user_id, whose) in [(by, "your"), (other, "this user's")] {
            if self.people.list_sizes(user_id).await?.0 >= CONTACTS_MAX {
                return Err(Error::precondition(format!(
                    "{whose} contact list has {CONTACTS_MAX} rows, which is the most; remove some first"
                )));
            }
        }
        Ok(())
    }

    async fn check_other(&self, by: u64, other: u64) -> Result<()> {
        if other == by {
            return Err(Error::invalid("user_id", "user_id is your own; name another user"));
        }
        if other == 0 {
            return Err(Error::invalid("user_id", "user_id is missing; name the user to add"));
        }
        match self.accounts.user(other).await? {
            Some(user) if !user.disabled => Ok(()),
            _ => Err(no_user()),
        }
    }

    async fn make_friends(&self, by: u64, other: u64) -> Result<ContactRecord> {
        self.put(by, other, [ContactState::Friend, ContactState::Friend], String::new()).await
    }

    /// Writes both sides and tells both.
    async fn put(
        &self,
        by: u64,
        other: u64,
        states: [ContactState; 2],
        message: String,
    ) -> Result<ContactRecord> {
        let updated_at_ms = now_ms();
        let row = |user_id, contact_id, state| ContactRecord {
            user_id,
            contact_id,
            state,
            message: message.clone(),
            updated_at_ms,
        };
        let rows = [row(by, other, states[0]), row(other, by, states[1])];
        let stored = self.store.put_contacts(&rows).await;
        self.gate.relation_changed(by, other, &stored).await;
        stored?;
        self.tell_of(by, other).await
    }

    /// Tells both of what there is between them now; the row of `by`.
    async fn tell_of(&self, by: u64, other: u64) -> Result<ContactRecord> {
        // A block that was stored meanwhile has ended a contact that was not there yet. This one is not told of.
        if let Err(refusal) = check_blocks(self.relation(by, other).await?) {
            let deleted = self.store.delete_contacts(by, other).await;
            self.gate.relation_changed(by, other, &deleted).await;
            deleted?;
            return Err(refusal);
        }
        // Another request may have crossed this one.
        for (user_id, contact_id) in [(other, by), (by, other)] {
            let Some(row) = self.store.contact(user_id, contact_id).await? else { continue };
            self.tell(user_id, contact_id, row.state, &row.message);
            if user_id == by {
                return Ok(row);
            }
        }
        Err(Error::not_found("this contact has ended meanwhile"))
    }

    async fn drop_both(&self, by: u64, other: u64) -> Result<()> {
        let deleted = self.store.delete_contacts(by, other).await;
        self.gate.relation_changed(by, other, &deleted).await;
        deleted?;
        self.tell(by, other, ContactState::Removed, "");
        self.tell(other, by, ContactState::Removed, "");
        Ok(())
    }

    fn tell(&self, to: u64, about: u64, state: ContactState, message: &str) {
        let event = v1::ContactEvent { user_id: about, state: state as i32, message: message.to_owned() };
        self.events.publish(vec![to], Body::Contact(event), 0);
    }
}

fn has_not_asked() -> Error {
    Error::not_found("this user has not asked to be your contact; POST /api/v1/contacts asks")
}

fn check_blocks(relation: Relation) -> Result<()> {
    if relation.blocks {
        return Err(you_block());
    }
    if relation.blocked {
        return Err(Error::denied("this user takes no requests from you"));
    }
    Ok(())
}
