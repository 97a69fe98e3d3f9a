//! Who may write to whom, add whom and be told of whom: blocks and privacy settings, for everything that asks.
//!
//! A direct message is refused by what stands here, so it is asked for every one, and remembered in the process. As with
//! tokens, a change is answered when all other nodes have forgotten what it replaced, or must have noticed that they hear nothing
//! of it: from the answer on, a block holds everywhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use moka::sync::Cache;
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use tokio::time::Instant;

use super::tokens::Forgetting;
use crate::actors::Presence;
use crate::actors::gather::{Bounds, Gather};
use crate::actors::overload::Shed;
use crate::domain::privacy::{Audience, Relation};
use crate::domain::{Error, Result};
use crate::protocol::v1::Send;
use crate::storage::{ClientKey, MessageStore, PeopleStore, PrivacyRecord, StoreError, StoreResult, Stores};

/// Pairs of users, users and conversations remembered, each.
const REMEMBERED: u64 = 200_000;
/// How long something is remembered, against whatever forgetting might miss.
const TTL: Duration = Duration::from_secs(600);

/// After this long a write that was not confirmed has been carried out or never will be.
const IN_DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// See the module's header. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    people: Arc<dyn PeopleStore>,
    /// Who may write to whom, looked up for many together.
    acquaintances: Gather<(u64, u64), Acquaintance>,
    /// The users of direct conversations, looked up so.
    pairs: Gather<u64, Option<Option<(u64, u64)>>>,
    messages: Arc<dyn MessageStore>,
    /// From the side of the user with the lower id; with the moment before the database was asked.
    relations: Cache<(u64, u64), (Relation, Instant)>,
    privacies: Cache<u64, (PrivacyRecord, Instant)>,
    /// The two users of a direct conversation, which never change; `None`: it is a group.
    directs: Cache<u64, Option<(u64, u64)>>,
    /// Who may write (by, in the conversation, to the user): the epoch and the moment of which that is so. Every send
    /// looks here, and moka's three look-ups took a tenth of a message's CPU.
    permits: Arc<Permits>,
    /// Counts forgettings: what was read before one is not remembered after it.
    forgotten: Arc<AtomicU64>,
    forgetting: Forgetting,
    presence: Presence,
    observer: Arc<OnceLock<Observer>>,
}

/// What decides whether the first of two users may write to the second.
struct Acquaintance {
    /// From the side of the one with the lower id.
    relation: Relation,
    /// Of the second.
    privacy: PrivacyRecord,
    /// Forgettings before it was read, and when that began.
    epoch: u64,
    since: Instant,
}

/// Look-ups of one kind under way at once, so that a slow one does not hold up all.
const LOOK_UP_LANES: usize = 2;
/// Most pairs or conversations of one look-up.
const LOOK_UPS_TOGETHER: usize = 64;

type Permits = quick_cache::sync::Cache<(u64, u64, u64), (u64, Instant), UnitWeighter, RandomState>;

/// Is told what was forgotten. Must not block.
pub type Observer = Box<dyn Fn(Forgotten) + std::marker::Send + Sync>;

impl Gate {
    /// Over the stores that decide; `readers` tell what a conversation is, which never changes.
    pub fn new(arbiters: &Stores, readers: &Stores, forgetting: Forgetting, presence: Presence) -> Self {
        let (people, conversations) = (arbiters.people.clone(), readers.conversations.clone());
        let forgotten = Arc::new(AtomicU64::new(0));
        let bounds = Bounds { lanes: LOOK_UP_LANES, together: LOOK_UPS_TOGETHER, shed: Shed::Relations };
        let overload = presence.overload();
        let epoch = Arc::clone(&forgotten);
        let acquaintances = Gather::new(overload, bounds, move |keys: Vec<(u64, u64)>| {
            let (people, epoch) = (Arc::clone(&people), epoch.load(Ordering::Acquire));
            async move { acquaintances(&*people, &keys, epoch).await }
        });
        let pairs = Gather::new(overload, bounds, move |ids: Vec<u64>| {
            let conversations = Arc::clone(&conversations);
            async move { conversations.pairs_of(&ids).await }
        });
        Self {
            people: arbiters.people.clone(),
            acquaintances,
            pairs,
            messages: arbiters.messages.clone(),
            relations: Cache::builder().max_capacity(REMEMBERED).time_to_live(TTL).build(),
            privacies: Cache::builder().max_capacity(REMEMBERED).time_to_live(TTL).build(),
            directs: Cache::new(REMEMBERED),
            permits: Arc::new(Permits::with(
                REMEMBERED as usize,
                REMEMBERED,
                UnitWeighter,
                RandomState::default(),
                DefaultLifecycle::default(),
            )),
            forgotten,
            forgetting,
            presence,
            observer: Arc::default(),
        }
    }

    /// Names who is told of what is forgotten; the first one stays.
    pub fn observe(&self, observer: Observer) {
        let _ = self.observer.set(observer);
    }

    /// Lets a send pass, or says why not; nothing is changed. A repeat of what was stored before it would be refused
    /// passes, so that its sender learns that it was.
    pub async fn pass(&self, by: u64, send: &Send) -> Result<()> {
        let other = match send.to_user_id {
            0 => self.peer(by, send.conversation_id).await?,
            other => Some(other),
        };
        let Some(other) = other else { return Ok(()) };
        match self.may_write(by, other).await {
            Err(refusal) if !refusal.is_retryable() => {
                if self.is_stored(by, other, send).await? {
                    Ok(())
                } else {
                    Err(refusal)
                }
            }
            outcome => outcome,
        }
    }

    /// Whether it is known, without waiting, that `by` may write in a conversation, or to a user where one is named.
    pub fn admits_now(&self, by: u64, conversation_id: u64, to_user_id: u64) -> bool {
        let key = (by, conversation_id, to_user_id);
        let epoch = self.epoch();
        if let Some((then, since)) = self.permits.get(&key)
            && then == epoch
            && since.elapsed() < TTL
            && self.is_good(since)
        {
            return true;
        }
        let Some(since) = self.admits_since(by, conversation_id, to_user_id) else { return false };
        // If something was forgotten meanwhile, this is of an older epoch and counts for nothing.
        self.permits.insert(key, (epoch, since));
        true
    }

    /// The moment of which what is remembered says that `by` may write.
    fn admits_since(&self, by: u64, conversation_id: u64, to_user_id: u64) -> Option<Instant> {
        let other = if to_user_id != 0 {
            to_user_id
        } else {
            // Of a group nothing is refused here, and of one who is no member the room says so.
            let Some(other) = self.directs.get(&conversation_id)?.and_then(|pair| other_of(pair, by)) else {
                return Some(Instant::now());
            };
            other
        };
        let key = (by.min(other), by.max(other));
        let ((relation, since), (privacy, told)) = (self.relations.get(&key)?, self.privacies.get(&other)?);
        let since = since.min(told);
        (self.is_good(since) && privacy.who_may_write.admits(relation)).then_some(since)
    }

    /// Whether what `by` would send to a conversation is refused by its other side.
    pub async fn may_write_in(&self, by: u64, conversation_id: u64) -> Result<()> {
        match self.peer(by, conversation_id).await? {
            Some(other) => self.may_write(by, other).await,
            None => Ok(()),
        }
    }

    /// Whether `by` may send direct messages to `other`.
    pub async fn may_write(&self, by: u64, other: u64) -> Result<()> {
        let (relation, privacy) = self.acquaintance(by, other).await?;
        if relation.blocked {
            return Err(you_block());
        }
        // Blocks are told as what they look like from outside.
        let audience = privacy.who_may_write;
        if relation.blocks || audience == Audience::Nobody {
            return Err(Error::denied("this user takes no messages from you"));
        }
        if !audience.admits(relation) {
            return Err(Error::denied("this user takes messages from contacts only; ask to be one"));
        }
        Ok(())
    }

    /// How `other` stands to `by`, and the settings of `other`.
    async fn acquaintance(&self, by: u64, other: u64) -> Result<(Relation, PrivacyRecord)> {
        let key = (by.min(other), by.max(other));
        let turned = |relation: Relation| if key.0 == other { relation } else { relation.reversed() };
        if let (Some((relation, since)), Some((privacy, told))) =
            (self.relations.get(&key), self.privacies.get(&other))
            && self.is_good(since.min(told))
        {
            return Ok((turned(relation), privacy));
        }
        let Acquaintance { relation, privacy, epoch, since } = self.acquaintances.ask((by, other)).await?;
        self.remember(epoch, &self.relations, key, (relation, since));
        self.remember(epoch, &self.privacies, other, (privacy, since));
        Ok((turned(relation), privacy))
    }

    /// Whether `by` may add all of the others to groups. Read from the database, since it is asked seldom.
    pub async fn may_add(&self, by: u64, others: &[u64], field: &'static str) -> Result<()> {
        if others.is_empty() {
            return Ok(());
        }
        let relations = self.people.relations(by, others).await?;
        let privacies = self.people.privacies(others).await?;
        for (other, relation) in others.iter().zip(relations) {
            let audience = privacies.iter().find(|own| own.user_id == *other).map(|own| own.who_may_add);
            if !audience.unwrap_or_default().admits(relation.reversed()) {
                return Err(Error {
                    field: field.into(),
                    ..Error::denied(format!("user {other} may not be added by you; nothing was changed"))
                });
            }
        }
        Ok(())
    }

    /// How `user` stands to `other`, from the side of `user`.
    pub async fn relation(&self, user: u64, other: u64) -> Result<Relation> {
        let key = (user.min(other), user.max(other));
        let turned = |relation: Relation| if key.0 == user { relation } else { relation.reversed() };
        if let Some((relation, since)) = self.relations.get(&key)
            && self.is_good(since)
        {
            return Ok(turned(relation));
        }
        let (epoch, since) = (self.epoch(), Instant::now());
        let relation = self.people.relations(key.0, &[key.1]).await?.pop().unwrap_or_default();
        self.remember(epoch, &self.relations, key, (relation, since));
        Ok(turned(relation))
    }

    /// How `user` stands to all of `others`, from the side of `user`; they are remembered for [`Gate::relation`].
    pub async fn relations(&self, user: u64, others: &[u64]) -> Result<Vec<Relation>> {
        let (epoch, since) = (self.epoch(), Instant::now());
        let relations = self.people.relations(user, others).await?;
        for (other, relation) in others.iter().zip(&relations) {
            let key = (user.min(*other), user.max(*other));
            let kept = if key.0 == user { *relation } else { relation.reversed() };
            self.remember(epoch, &self.relations, key, (kept, since));
        }
        Ok(relations)
    }

    /// The settings of a user.
    pub async fn privacy(&self, user_id: u64) -> Result<PrivacyRecord> {
        if let Some((privacy, since)) = self.privacies.get(&user_id)
            && self.is_good(since)
        {
            return Ok(privacy);
        }
        Ok(self.privacies(&[user_id]).await?.pop().unwrap_or_default())
    }

    /// The settings of users, in their order.
    pub async fn privacies(&self, user_ids: &[u64]) -> Result<Vec<PrivacyRecord>> {
        let (epoch, since) = (self.epoch(), Instant::now());
        let mut found = self.people.privacies(user_ids).await?;
        found.sort_unstable_by_key(|privacy| privacy.user_id);
        let record = |user_id: &u64| {
            let at = found.binary_search_by_key(user_id, |privacy| privacy.user_id);
            let privacy =
                at.map_or(PrivacyRecord { user_id: *user_id, ..Default::default() }, |at| found[at]);
            self.remember(epoch, &self.privacies, *user_id, (privacy, since));
            privacy
        };
        Ok(user_ids.iter().map(record).collect())
    }

    /// Makes all nodes look anew at how two users stand to each other, after a write of which `outcome` tells what became.
    /// To be awaited before the change is answered.
    pub async fn relation_changed<T>(&self, a: u64, b: u64, outcome: &StoreResult<T>) {
        self.changed(format!("relation:{}:{}", a.min(b), a.max(b)), outcome).await;
    }

    /// The same for a user's settings.
    pub async fn privacy_changed<T>(&self, user_id: u64, outcome: &StoreResult<T>) {
        self.changed(format!("privacy:{user_id}"), outcome).await;
    }

    async fn changed<T>(&self, key: String, outcome: &StoreResult<T>) {
        match outcome {
            // Nothing was stored.
            Err(StoreError::Unavailable(_)) => return,
            // It may be carried out later than it failed: what is read until then must not be kept either.
            Err(StoreError::Unsettled(_)) => {
                let (gate, key) = (self.clone(), key.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(IN_DOUBT_PAUSE).await;
                    gate.forget(&key);
                    gate.forgetting.everywhere(vec![key]).await;
                });
            }
            _ => {}
        }
        self.forget(&key);
        self.forgetting.everywhere(vec![key]).await;
    }

    /// Forgets what is remembered under a key, if it is one of these.
    pub fn forget(&self, cache_key: &str) {
        let Some(forgotten) = Forgotten::parse(cache_key) else { return };
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        match forgotten {
            Forgotten::Relation(a, b) => self.relations.invalidate(&(a, b)),
            Forgotten::Privacy(user_id) => self.privacies.invalidate(&user_id),
        }
        // Again: a permit may have been made since, of what was still remembered.
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        if let Some(tell) = self.observer.get() {
            tell(forgotten);
        }
    }

    /// The other side of a direct conversation; `None`: it is a group, or there is none.
    async fn peer(&self, by: u64, conversation_id: u64) -> Result<Option<u64>> {
        let pair = match self.directs.get(&conversation_id) {
            Some(pair) => pair,
            None => {
                let Some(pair) = self.pairs.ask(conversation_id).await? else { return Ok(None) };
                self.directs.insert(conversation_id, pair);
                pair
            }
        };
        // Of one who is no member the room says so.
        Ok(pair.and_then(|pair| other_of(pair, by)))
    }

    async fn is_stored(&self, by: u64, other: u64, send: &Send) -> Result<bool> {
        let conversation_id = match send.conversation_id {
            0 => self.people.direct_of(by, other).await?,
            id => Some(id),
        };
        let Some(conversation_id) = conversation_id else { return Ok(false) };
        let key = ClientKey { conversation_id, sender_id: by, client_id: send.client_id.clone() };
        Ok(!self.messages.stored(&[key]).await?.is_empty())
    }

    /// Whether what was read at a moment may still be used: not if it is old and others can't tell this node what to forget.
    fn is_good(&self, since: Instant) -> bool {
        let age_max = self.forgetting.age_max(self.presence.whole_for());
        since.elapsed() < age_max
    }

    fn epoch(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    fn remember<K, V>(&self, epoch: u64, cache: &Cache<K, V>, key: K, value: V)
    where
        K: std::hash::Hash + Eq + Copy + std::marker::Send + Sync + 'static,
        V: Clone + std::marker::Send + Sync + 'static,
    {
        if self.epoch() != epoch {
            return;
        }
        cache.insert(key, value);
        // A forgetting between the check and the insertion would have missed it.
        if self.epoch() != epoch {
            cache.invalidate(&key);
            // And so may a permit.
            self.forgotten.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Who may write to whom, in the order of the keys.
async fn acquaintances(
    people: &dyn PeopleStore,
    keys: &[(u64, u64)],
    epoch: u64,
) -> StoreResult<Vec<Acquaintance>> {
    let since = Instant::now();
    let found = people.acquaintances(keys).await?;
    let acquaintance = |((by, other), (relation, privacy)): (&(u64, u64), (Relation, PrivacyRecord))| {
        let relation = if by < other { relation } else { relation.reversed() };
        Acquaintance { relation, privacy, epoch, since }
    };
    Ok(keys.iter().zip(found).map(acquaintance).collect())
}

/// The other one of two; `None`: `by` is neither.
fn other_of((a, b): (u64, u64), by: u64) -> Option<u64> {
    match by {
        by if by == a => Some(b),
        by if by == b => Some(a),
        _ => None,
    }
}

/// Whom a forgotten key is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Two users, the lower id first.
    Relation(u64, u64),
    /// One user's settings.
    Privacy(u64),
}

impl Forgotten {
    fn parse(cache_key: &str) -> Option<Self> {
        let (kind, rest) = cache_key.split_once(':')?;
        match kind {
            "relation" => {
                let (a, b) = rest.split_once(':')?;
                Some(Self::Relation(a.parse().ok()?, b.parse().ok()?))
            }
            "privacy" => Some(Self::Privacy(rest.parse().ok()?)),
            _ => None,
        }
    }
}

/// What one is told who has blocked the other.
pub(super) fn you_block() -> Error {
    Error::precondition("you have blocked this user; DELETE /api/v1/blocks/{user_id} lifts that")
}
