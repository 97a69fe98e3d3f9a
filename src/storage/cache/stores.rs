//! The stores with the cache before them, in two forms: [`CachedStores::readers`] for services that show, and
//! [`CachedStores::arbiters`] for everything that decides. Both write alike: what a write touches is forgotten on all
//! nodes before it answers. The header of [`super`] tells what is read how.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::codec::{Contact, Group, Member, User};
use super::counters::count;
use super::keys::{self, Key};
use super::{Cache, Cached, LIST_MAX};
use crate::protocol::v1::Message;
use crate::storage::starts::Opening;
use crate::storage::{
    AccountStore, ClientKey, ContactRecord, ContactStore, ConversationRecord, ConversationRow,
    ConversationStore, CursorAdvance, DeviceRecord, ListRow, MemberRecord, MessageStore, NewGroup,
    ProfileChange, StoreError, StoreResult, Stores, TokenOwner, UserRecord,
};

impl Cached for Option<User> {
    fn rows(&self) -> usize {
        1
    }
    fn is_absence(&self) -> bool {
        self.is_none()
    }
}

impl Cached for Option<Group> {
    fn rows(&self) -> usize {
        1
    }
    fn is_absence(&self) -> bool {
        self.is_none()
    }
}

/// Has a key whose lifetime is meant for both answers.
impl Cached for bool {
    fn rows(&self) -> usize {
        1
    }
    fn is_absence(&self) -> bool {
        false
    }
}

impl Cached for Vec<Contact> {
    fn rows(&self) -> usize {
        self.len()
    }
    fn is_absence(&self) -> bool {
        false
    }
}

impl Cached for Vec<Member> {
    fn rows(&self) -> usize {
        self.len()
    }
    fn is_absence(&self) -> bool {
        self.is_empty()
    }
}

/// Stores behind a cache. Cheap to clone.
#[derive(Clone)]
pub struct CachedStores {
    pub(super) plain: Stores,
    cache: Cache,
    reads_cached: bool,
}

impl CachedStores {
    /// Puts the cache before the stores.
    pub fn over(plain: Stores, cache: Cache) -> Self {
        Self { plain, cache, reads_cached: false }
    }

    /// For services that show what they read.
    pub fn readers(&self) -> Stores {
        Self { reads_cached: true, ..self.clone() }.stores()
    }

    /// For whatever decides by what it reads: rooms, writers, sign-in, permissions. Every read is the database's.
    pub fn arbiters(&self) -> Stores {
        Self { reads_cached: false, ..self.clone() }.stores()
    }

    fn stores(self) -> Stores {
        // Appending stays as short as it is without a cache.
        let messages = if self.reads_cached { Arc::new(self.clone()) } else { self.plain.messages.clone() };
        let (marks, search) = (self.plain.marks.clone(), self.plain.search.clone());
        let this = Arc::new(self);
        Stores {
            marks,
            search,
            accounts: this.clone(),
            contacts: this.clone(),
            people: this.clone(),
            rooms: this.clone(),
            retention: this.clone(),
            conversations: this,
            messages,
        }
    }

    pub(super) fn count_plain(&self) {
        count(&self.cache.counters().plain_reads);
    }

    /// Writes, then forgets what `touched` names. To the end, also when the caller has gone meanwhile: a write that is
    /// stored but not forgotten elsewhere would leave old entries behind.
    pub(super) async fn write<T, W, K>(&self, write: W, touched: K) -> StoreResult<T>
    where
        T: Send + 'static,
        W: Future<Output = StoreResult<T>> + Send + 'static,
        K: FnOnce(Option<&T>) -> Vec<Key> + Send + 'static,
    {
        let cache = self.cache.clone();
        let task = tokio::spawn(async move {
            let outcome = write.await;
            let unsettled = matches!(outcome, Err(StoreError::Unsettled(_)));
            if outcome.is_ok() || unsettled {
                let keys = touched(outcome.as_ref().ok());
                if !keys.is_empty() {
                    cache.invalidate(&keys).await;
                    if unsettled {
                        cache.invalidate_later(keys);
                    }
                }
            }
            outcome
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(error) => Err(StoreError::Unsettled(format!("a write ended early: {error}"))),
        }
    }

    pub(super) async fn write_conversation<T, W>(
        &self,
        conversation_ids: Vec<u64>,
        write: W,
    ) -> StoreResult<T>
    where
        T: Send + 'static,
        W: Future<Output = StoreResult<T>> + Send + 'static,
    {
        self.write(write, move |_| conversation_ids.into_iter().flat_map(conversation_keys).collect()).await
    }
}

pub(super) fn user_keys(user: &UserRecord) -> Vec<Key> {
    vec![keys::user(user.id), keys::user_info(&user.username)]
}

fn conversation_keys(conversation_id: u64) -> [Key; 2] {
    [keys::group_info(conversation_id), keys::group_members(conversation_id)]
}

#[async_trait]
impl AccountStore for CachedStores {
    async fn create_user(&self, user: UserRecord) -> StoreResult<UserRecord> {
        let (plain, name) = (self.plain.accounts.clone(), user.username.clone());
        let touched = move |created: Option<&UserRecord>| {
            let mut touched = vec![keys::user_info(&name), keys::user_exists(&name)];
            // The id may have been looked for before it was given.
            touched.extend(created.map(|user| keys::user(user.id)));
            touched
        };
        self.write(async move { plain.create_user(user).await }, touched).await
    }

    async fn user(&self, user_id: u64) -> StoreResult<Option<UserRecord>> {
        if !self.reads_cached {
            self.count_plain();
            return self.plain.accounts.user(user_id).await;
        }
        let load = async { Ok(self.plain.accounts.user(user_id).await?.map(User::from)) };
        let user = self.cache.read::<Option<User>>(keys::user(user_id), load).await?;
        Ok(user.as_ref().as_ref().map(User::record))
    }

    async fn users(&self, user_ids: &[u64]) -> StoreResult<Vec<UserRecord>> {
        if !self.reads_cached {
            self.count_plain();
            return self.plain.accounts.users(user_ids).await;
        }
        let mut ids = user_ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let wanted: Vec<Key> = ids.iter().map(|id| keys::user(*id)).collect();
        let load = async |missing: &[usize]| {
            let missing: Vec<u64> = missing.iter().map(|at| ids[*at]).collect();
            let mut found = self.plain.accounts.users(&missing).await?;
            found.sort_by_key(|user| user.id);
            let mut found = found.into_iter().peekable();
            Ok(missing.iter().map(|id| found.next_if(|user| user.id == *id).map(User::from)).collect())
        };
        let users = self.cache.read_many::<Option<User>>(&wanted, load).await?;
        Ok(users.iter().filter_map(|user| user.as_ref().as_ref().map(User::record)).collect())
    }

    async fn user_by_name(&self, username: &str) -> StoreResult<Option<UserRecord>> {
        if !self.reads_cached {
            self.count_plain();
            return self.plain.accounts.user_by_name(username).await;
        }
        let load = async { Ok(self.plain.accounts.user_by_name(username).await?.map(User::from)) };
        let user = self.cache.read::<Option<User>>(keys::user_info(username), load).await?;
        Ok(user.as_ref().as_ref().map(User::record))
    }

    async fn user_exists(&self, username: &str) -> StoreResult<bool> {
        if !self.reads_cached {
            self.count_plain();
            return self.plain.accounts.user_exists(username).await;
        }
        let load = async { self.plain.accounts.user_exists(username).await };
        Ok(*self.cache.read::<bool>(keys::user_exists(username), load).await?)
    }

    async fn search_users(&self, query: &str, after_id: u64, limit: u32) -> StoreResult<Vec<UserRecord>> {
        self.count_plain();
        self.plain.accounts.search_users(query, after_id, limit).await
    }

    async fn change_profile(&self, user_id: u64, change: ProfileChange) -> StoreResult<Option<UserRecord>> {
        let plain = self.plain.accounts.clone();
        // The name is needed to forget what stands under it; it never changes.
        let user = plain.user(user_id).await?;
        let touched = move |_: Option<&Option<UserRecord>>| user.as_ref().map(user_keys).unwrap_or_default();
        self.write(async move { plain.change_profile(user_id, change).await }, touched).await
    }

    async fn set_password(&self, user_id: u64, old_hash: &str, new_hash: &str) -> StoreResult<bool> {
        // No hash is cached.
        self.plain.accounts.set_password(user_id, old_hash, new_hash).await
    }

    async fn set_disabled(&self, user_id: u64, disabled: bool) -> StoreResult<()> {
        let plain = self.plain.accounts.clone();
        let user = plain.user(user_id).await?;
        let touched = move |_: Option<&()>| user.as_ref().map(user_keys).unwrap_or_default();
        self.write(async move { plain.set_disabled(user_id, disabled).await }, touched).await
    }

    async fn create_device(&self, device: DeviceRecord, token_hash: &str) -> StoreResult<DeviceRecord> {
        self.plain.accounts.create_device(device, token_hash).await
    }

    async fn device_by_token(&self, token_hash: &str) -> StoreResult<Option<DeviceRecord>> {
        self.count_plain();
        self.plain.accounts.device_by_token(token_hash).await
    }

    async fn owners_of_tokens(&self, token_hashes: &[String]) -> StoreResult<Vec<TokenOwner>> {
        self.count_plain();
        self.plain.accounts.owners_of_tokens(token_hashes).await
    }

    async fn devices(&self, user_id: u64) -> StoreResult<Vec<DeviceRecord>> {
        self.count_plain();
        self.plain.accounts.devices(user_id).await
    }

    async fn delete_device(&self, user_id: u64, device_id: u64) -> StoreResult<bool> {
        self.plain.accounts.delete_device(user_id, device_id).await
    }

    async fn touch_device(&self, device_id: u64, now_ms: u64) -> StoreResult<()> {
        self.plain.accounts.touch_device(device_id, now_ms).await
    }

    async fn touch_devices(&self, device_ids: &[u64], now_ms: u64) -> StoreResult<()> {
        self.plain.accounts.touch_devices(device_ids, now_ms).await
    }

    async fn line_given(&self, user_id: u64) -> StoreResult<Vec<(u64, String)>> {
        self.count_plain();
        self.plain.accounts.line_given(user_id).await
    }

    async fn set_line_given(&self, user_id: u64, given: &[(u64, String)]) -> StoreResult<()> {
        self.plain.accounts.set_line_given(user_id, given).await
    }
}

#[async_trait]
impl ContactStore for CachedStores {
    async fn contact(&self, user_id: u64, contact_id: u64) -> StoreResult<Option<ContactRecord>> {
        self.count_plain();
        self.plain.contacts.contact(user_id, contact_id).await
    }

    async fn contacts(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ContactRecord>> {
        if self.reads_cached {
            // One row more than is cached tells a longer list, which is cut off and not kept.
            let load = async {
                let rows = self.plain.contacts.contacts(user_id, 0, LIST_MAX as u32 + 1).await?;
                Ok(rows.into_iter().map(Contact::from).collect())
            };
            let list = self.cache.read::<Vec<Contact>>(keys::friends(user_id), load).await?;
            let page = list.iter().filter(|row| row.contact_id() > after_id).take(limit as usize);
            let rows: Option<Vec<ContactRecord>> = page.map(|row| row.record(user_id)).collect();
            if list.len() <= LIST_MAX
                && let Some(rows) = rows
            {
                return Ok(rows);
            }
        }
        self.count_plain();
        self.plain.contacts.contacts(user_id, after_id, limit).await
    }

    async fn put_contacts(&self, rows: &[ContactRecord; 2]) -> StoreResult<()> {
        let (plain, rows) = (self.plain.contacts.clone(), rows.clone());
        let touched = rows.each_ref().map(|row| keys::friends(row.user_id));
        self.write(async move { plain.put_contacts(&rows).await }, move |_| touched.into()).await
    }

    async fn accept_contacts(&self, user_id: u64, contact_id: u64, now_ms: u64) -> StoreResult<bool> {
        let plain = self.plain.contacts.clone();
        let touched = vec![keys::friends(user_id), keys::friends(contact_id)];
        let accept = async move { plain.accept_contacts(user_id, contact_id, now_ms).await };
        self.write(accept, move |_| touched).await
    }

    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool> {
        let plain = self.plain.contacts.clone();
        let touched = vec![keys::friends(user_id), keys::friends(contact_id)];
        self.write(async move { plain.delete_contacts(user_id, contact_id).await }, move |_| touched).await
    }
}

#[async_trait]
impl ConversationStore for CachedStores {
    async fn create_group(&self, group: NewGroup) -> StoreResult<ConversationRecord> {
        let plain = self.plain.conversations.clone();
        let touched = |created: Option<&ConversationRecord>| {
            created.map_or_else(Vec::new, |created| conversation_keys(created.id).into())
        };
        self.write(async move { plain.create_group(group).await }, touched).await
    }

    async fn created_as(&self, owner_id: u64, client_id: &str) -> StoreResult<Option<ConversationRecord>> {
        self.plain.conversations.created_as(owner_id, client_id).await
    }

    async fn direct(&self, a: u64, b: u64, now_ms: u64) -> StoreResult<(ConversationRecord, bool)> {
        let plain = self.plain.conversations.clone();
        let touched = |made: Option<&(ConversationRecord, bool)>| match made {
            Some((created, true)) => conversation_keys(created.id).into(),
            _ => Vec::new(),
        };
        self.write(async move { plain.direct(a, b, now_ms).await }, touched).await
    }

    async fn make_directs(&self, pairs: &[(u64, u64)], now_ms: u64) -> StoreResult<Vec<(u64, bool)>> {
        let (plain, pairs) = (self.plain.conversations.clone(), pairs.to_vec());
        let touched = |made: Option<&Vec<(u64, bool)>>| {
            let new = made.into_iter().flatten().filter(|(_, is_new)| *is_new);
            new.flat_map(|(id, _)| conversation_keys(*id)).collect()
        };
        self.write(async move { plain.make_directs(&pairs, now_ms).await }, touched).await
    }

    async fn pairs_of(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Option<Option<(u64, u64)>>>> {
        // Remembered by the one who asks.
        self.count_plain();
        self.plain.conversations.pairs_of(conversation_ids).await
    }

    async fn openings(&self, conversation_ids: &[u64]) -> StoreResult<Vec<Opening>> {
        self.count_plain();
        self.plain.conversations.openings(conversation_ids).await
    }

    async fn conversation(&self, conversation_id: u64) -> StoreResult<Option<ConversationRecord>> {
        if self.reads_cached {
            let load =
                async { Ok(self.plain.conversations.conversation(conversation_id).await?.map(Group::from)) };
            let group = self.cache.read::<Option<Group>>(keys::group_info(conversation_id), load).await?;
            match group.as_ref() {
                None => return Ok(None),
                Some(group) => {
                    if let Some(record) = group.record() {
                        return Ok(Some(record));
                    }
                }
            }
        }
        self.count_plain();
        self.plain.conversations.conversation(conversation_id).await
    }

    async fn members(&self, conversation_id: u64) -> StoreResult<Vec<MemberRecord>> {
        self.count_plain();
        self.plain.conversations.members(conversation_id).await
    }

    async fn roster(&self, conversation_id: u64) -> StoreResult<Arc<Vec<MemberRecord>>> {
        if self.reads_cached {
            let load = async {
                let roster = self.plain.conversations.roster(conversation_id).await?;
                Ok(roster.iter().map(Member::from).collect())
            };
            let roster = self.cache.read::<Vec<Member>>(keys::group_members(conversation_id), load).await?;
            let rows: Option<Vec<_>> = roster.iter().map(|row| row.record(conversation_id)).collect();
            if let Some(rows) = rows {
                return Ok(Arc::new(rows));
            }
        }
        self.count_plain();
        self.plain.conversations.roster(conversation_id).await
    }

    async fn members_among(&self, conversation_id: u64, user_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        self.count_plain();
        self.plain.conversations.members_among(conversation_id, user_ids).await
    }

    async fn member(&self, conversation_id: u64, user_id: u64) -> StoreResult<Option<MemberRecord>> {
        self.count_plain();
        self.plain.conversations.member(conversation_id, user_id).await
    }

    async fn memberships(&self, user_id: u64, conversation_ids: &[u64]) -> StoreResult<Vec<MemberRecord>> {
        self.count_plain();
        self.plain.conversations.memberships(user_id, conversation_ids).await
    }

    async fn advance_cursors(&self, cursors: &[CursorAdvance]) -> StoreResult<()> {
        // No cursor is cached.
        self.plain.conversations.advance_cursors(cursors).await
    }

    async fn conversations_of(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
    ) -> StoreResult<Vec<ConversationRow>> {
        self.count_plain();
        self.plain.conversations.conversations_of(user_id, changed_since_ms, before, limit).await
    }

    async fn list_sparing(
        &self,
        user_id: u64,
        changed_since_ms: u64,
        before: Option<(u64, u64)>,
        limit: u32,
        spared: &HashSet<u64>,
    ) -> StoreResult<Vec<ListRow>> {
        self.count_plain();
        self.plain.conversations.list_sparing(user_id, changed_since_ms, before, limit, spared).await
    }

    async fn order_of(&self, user_id: u64) -> StoreResult<Vec<(u64, u64)>> {
        self.count_plain();
        self.plain.conversations.order_of(user_id).await
    }

    async fn conversation_of(
        &self,
        user_id: u64,
        conversation_id: u64,
    ) -> StoreResult<Option<ConversationRow>> {
        self.count_plain();
        self.plain.conversations.conversation_of(user_id, conversation_id).await
    }

    async fn these_conversations_of(&self, user_id: u64, ids: &[u64]) -> StoreResult<Vec<ConversationRow>> {
        self.count_plain();
        self.plain.conversations.these_conversations_of(user_id, ids).await
    }
}

/// Counts what services read; nothing of it is cached.
#[async_trait]
impl MessageStore for CachedStores {
    async fn append(&self, messages: &[Message]) -> StoreResult<()> {
        self.plain.messages.append(messages).await
    }

    fn append_size(&self, waiting: usize) -> usize {
        self.plain.messages.append_size(waiting)
    }

    fn appends_at_once(&self) -> usize {
        self.plain.messages.appends_at_once()
    }

    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64> {
        self.count_plain();
        self.plain.messages.last_seq(conversation_id).await
    }

    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>> {
        self.count_plain();
        self.plain.messages.stored(keys).await
    }

    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>> {
        self.count_plain();
        self.plain.messages.after(conversation_id, after_seq, limit).await
    }

    async fn newest(&self, conversation_ids: &[u64], limit: u32) -> StoreResult<Vec<Vec<Message>>> {
        self.count_plain();
        self.plain.messages.newest(conversation_ids, limit).await
    }

    async fn tails(&self, places: &[(u64, u64)], limit: u32) -> StoreResult<Vec<Message>> {
        self.count_plain();
        self.plain.messages.tails(places, limit).await
    }

    async fn at(&self, keys: &[(u64, u64)]) -> StoreResult<Vec<Message>> {
        self.count_plain();
        self.plain.messages.at(keys).await
    }

    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        self.count_plain();
        self.plain.messages.before(conversation_id, before_seq, first_seq, limit).await
    }
}
