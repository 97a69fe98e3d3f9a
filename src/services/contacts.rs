//! Contact lists: requests both ways, friends, and the events that tell both sides' devices.

use std::sync::Arc;

use super::accounts::no_user;
use crate::actors::Events;
use crate::clock::now_ms;
use crate::domain::limits::{DESCRIPTION_MAX, check_length};
use crate::domain::{Error, Result};
use crate::protocol::v1::server_frame::Body;
use crate::protocol::{ContactState, v1};
use crate::storage::{AccountStore, ContactRecord, ContactStore};

/// Contacts, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Contacts {
    store: Arc<dyn ContactStore>,
    accounts: Arc<dyn AccountStore>,
    events: Events,
}

impl Contacts {
    /// Over these stores.
    pub fn new(store: Arc<dyn ContactStore>, accounts: Arc<dyn AccountStore>, events: Events) -> Self {
        Self { store, accounts, events }
    }

    /// Friends and requests both ways, by contact id above `after_id`.
    pub async fn list(&self, by: u64, after_id: u64, limit: u32) -> Result<Vec<ContactRecord>> {
        Ok(self.store.contacts(by, after_id, limit).await?)
    }

    /// Asks `other` to be a friend. If `other` asked before, both are friends at once; friends stay friends.
    pub async fn request(&self, by: u64, other: u64, message: &str) -> Result<ContactRecord> {
        check_length("message", message, DESCRIPTION_MAX)?;
        self.check_other(by, other).await?;
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            Some(row) if row.state == ContactState::Invited => self.make_friends(by, other).await,
            _ => {
                self.put(by, other, [ContactState::Requested, ContactState::Invited], message.to_owned())
                    .await
            }
        }
    }

    /// Takes up `other`'s request.
    pub async fn accept(&self, by: u64, other: u64) -> Result<ContactRecord> {
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            Some(row) if row.state == ContactState::Invited => self.make_friends(by, other).await,
            _ => Err(Error::not_found(
                "this user has not asked to be your contact; POST /api/v1/contacts asks",
            )),
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

    /// Makes both friends without asking `other`, as the line protocol's `ADDFRIEND` does.
    pub async fn befriend(&self, by: u64, other: u64) -> Result<ContactRecord> {
        self.check_other(by, other).await?;
        match self.state(by, other).await? {
            Some(row) if row.state == ContactState::Friend => Ok(row),
            _ => self.make_friends(by, other).await,
        }
    }

    /// The row of `by` about `other`, unless one of them has blocked the other.
    async fn state(&self, by: u64, other: u64) -> Result<Option<ContactRecord>> {
        if other == by || other == 0 {
            return Ok(None);
        }
        let (own, theirs) = (self.store.contact(by, other).await?, self.store.contact(other, by).await?);
        let blocked =
            |row: &Option<ContactRecord>| row.as_ref().is_some_and(|row| row.state == ContactState::Blocked);
        if blocked(&own) {
            return Err(Error::precondition(
                "you have blocked this user; DELETE /api/v1/blocks/{user_id} lifts that",
            ));
        }
        if blocked(&theirs) {
            return Err(Error::denied("this user takes no requests from you"));
        }
        Ok(own)
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
        self.store.put_contacts(&rows).await?;
        for row in &rows {
            self.tell(row.user_id, row.contact_id, row.state, &row.message);
        }
        let [own, _] = rows;
        Ok(own)
    }

    async fn drop_both(&self, by: u64, other: u64) -> Result<()> {
        self.store.delete_contacts(by, other).await?;
        self.tell(by, other, ContactState::Removed, "");
        self.tell(other, by, ContactState::Removed, "");
        Ok(())
    }

    fn tell(&self, to: u64, about: u64, state: ContactState, message: &str) {
        let event = v1::ContactEvent { user_id: about, state: state as i32, message: message.to_owned() };
        self.events.publish(vec![to], Body::Contact(event), 0);
    }
}
