//! Who is there: statuses, who watches whom, and what of it may be shown to whom.
//!
//! Shards know who is connected; what users said of it, and when they were last seen, is stored; blocks and privacy are the
//! gate's. Here they are put together, for one who looks. Events follow the same way: a shard tells the watching nodes that
//! something has changed, and each node looks at what is stored and tells those of its sessions for which
//! it looks different now. So the last word is always storage's, in whichever order news come.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::gate::{Forgotten, Gate};
use crate::actors::presence::watches::Watches;
use crate::actors::{Events, Presence};
use crate::clock::now_ms;
use crate::domain::limits::{PRESENCE_TEXT_MAX, WATCHED_MAX, check_length};
use crate::domain::privacy::{Audience, Relation};
use crate::domain::{Error, Result};
use crate::protocol::PresenceStatus;
use crate::protocol::v1::server_frame::Body;
use crate::protocol::v1::{self, PresencePage};
use crate::storage::{PeopleStore, PresenceRecord};

/// Users looked at together when news are told.
const NEWS_BATCH: usize = 256;
/// Pause after storage failed while news were to be told.
const PAUSE: Duration = Duration::from_secs(1);

/// Presence, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Presences {
    people: Arc<dyn PeopleStore>,
    gate: Gate,
    directory: Presence,
    watches: Arc<Watches>,
    events: Events,
}

impl Presences {
    /// Over these; starts the task that tells watchers, which ends with the runtime.
    pub fn start(people: Arc<dyn PeopleStore>, gate: Gate, directory: Presence, events: Events) -> Self {
        let watches = directory.watches();
        let this = Self { people, gate, directory, watches, events };
        let noted = Arc::clone(&this.watches);
        this.gate.observe(Box::new(move |forgotten| match forgotten {
            Forgotten::Relation(a, b) => noted.look_again(&[a, b]),
            Forgotten::Privacy(user_id) => noted.look_again(&[user_id]),
        }));
        let teller = this.clone();
        tokio::spawn(async move { teller.tell().await });
        this
    }

    /// Says how a user is there; its devices and watchers are told. It holds until something else is said, on all devices and
    /// after reconnects.
    pub async fn set(&self, user_id: u64, session_id: u64, status: i32, text: &str) -> Result<()> {
        let status = match PresenceStatus::try_from(status) {
            Ok(PresenceStatus::Offline) | Err(_) => {
                return Err(Error::invalid("status", "status is online, away, busy or invisible"));
            }
            Ok(status) => status,
        };
        check_length("text", text, PRESENCE_TEXT_MAX)?;
        self.people.set_presence(user_id, status, text, now_ms()).await?;
        let own =
            v1::Presence { user_id, status: status as i32, text: text.to_owned(), last_seen_ms: now_ms() };
        self.events.publish(vec![user_id], Body::Presence(own), session_id);
        // It is stored: if the shard can't be reached, watchers are told when they next ask it.
        if let Err(error) = self.directory.said(user_id).await {
            tracing::debug!(target: "rookery::presence", user_id, %error, "watchers are told later");
        }
        Ok(())
    }

    /// How users look to `viewer`, in the order of their first naming. Those who do not exist look as if they were never there.
    pub async fn look(&self, viewer: u64, user_ids: &[u64]) -> Result<Vec<v1::Presence>> {
        let user_ids = distinct(user_ids)?;
        let connected = self.directory.connected(&user_ids).await?;
        self.compose(viewer, &user_ids, &connected).await
    }

    /// A session watches these users and no others from now on. Answers how they look; when that has been put on its way,
    /// call [`Presences::begin`].
    pub async fn watch(&self, session_id: u64, viewer: u64, user_ids: &[u64]) -> Result<PresencePage> {
        let user_ids = distinct(user_ids)?;
        let wanted: BTreeSet<u64> = user_ids.iter().copied().collect();
        let before = self.watches.replace(session_id, viewer, &wanted)?;
        let page = async {
            let connected = self.directory.watch(&user_ids).await?;
            self.compose(viewer, &user_ids, &connected).await
        };
        match page.await {
            Ok(users) => Ok(PresencePage { users }),
            Err(error) => {
                // What was watched before still is: there is room for it, as it was there a moment ago.
                let _ = self.watches.replace(session_id, viewer, &before);
                self.watches.begin(session_id, []);
                Err(error)
            }
        }
    }

    /// The session has been given its page; events may follow.
    pub fn begin(&self, session_id: u64, page: &PresencePage) {
        self.watches.begin(session_id, page.users.iter().map(|user| (user.user_id, in_short(user))));
    }

    async fn compose(
        &self,
        viewer: u64,
        user_ids: &[u64],
        connected: &BTreeSet<u64>,
    ) -> Result<Vec<v1::Presence>> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        let relations = self.gate.relations(viewer, user_ids).await?;
        let privacies = self.gate.privacies(user_ids).await?;
        let rows = self.rows(user_ids).await?;
        let look = |(at, user_id): (usize, &u64)| {
            let sight = Sight {
                own: *user_id == viewer,
                relation: relations[at].reversed(),
                last_seen_to: privacies[at].who_sees_last_seen,
                connected: connected.contains(user_id),
            };
            appearance(*user_id, rows.get(user_id), sight)
        };
        Ok(user_ids.iter().enumerate().map(look).collect())
    }

    async fn rows(&self, user_ids: &[u64]) -> Result<HashMap<u64, PresenceRecord>> {
        let rows = self.people.presences(user_ids).await?;
        Ok(rows.into_iter().map(|row| (row.user_id, row)).collect())
    }

    /// Tells the sessions of this node what has changed of those they watch.
    async fn tell(&self) {
        loop {
            let changed = self.watches.changed(NEWS_BATCH).await;
            if let Err(error) = self.tell_of(&changed).await {
                tracing::debug!(target: "rookery::presence", %error, "watchers are told later");
                self.watches.look_again(&changed);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn tell_of(&self, changed: &[u64]) -> Result<()> {
        let rows = self.rows(changed).await?;
        for user_id in changed {
            let (watchers, connected) = self.watches.watchers(*user_id);
            if watchers.is_empty() {
                continue;
            }
            let last_seen_to = self.gate.privacy(*user_id).await?.who_sees_last_seen;
            for watcher in watchers {
                let own = watcher.user_id == *user_id;
                let relation = if own {
                    Relation::default()
                } else {
                    self.gate.relation(*user_id, watcher.user_id).await?
                };
                let sight = Sight { own, relation, last_seen_to, connected };
                let presence = appearance(*user_id, rows.get(user_id), sight);
                let told = in_short(&presence);
                if told != watcher.told {
                    self.watches.told(watcher.session_id, *user_id, told);
                    self.directory.push(watcher.session_id, Body::Presence(presence));
                }
            }
        }
        Ok(())
    }
}

/// Who looks at a user, and whether there is anything to see.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// The user itself.
    own: bool,
    /// How the user stands to the one who looks.
    relation: Relation,
    last_seen_to: Audience,
    connected: bool,
}

/// What a user looks like.
fn appearance(user_id: u64, row: Option<&PresenceRecord>, sight: Sight) -> v1::Presence {
    let nothing = v1::Presence { user_id, ..v1::Presence::default() };
    if !sight.own && sight.relation.is_blocked() {
        return nothing;
    }
    let status = row.map_or(PresenceStatus::Online, |row| row.status);
    let shows_last_seen = sight.own || sight.last_seen_to.admits(sight.relation);
    let is_there = sight.connected && (sight.own || status != PresenceStatus::Invisible);
    if is_there {
        return v1::Presence {
            status: status as i32,
            text: row.map_or_else(String::new, |row| row.text.clone()),
            last_seen_ms: if shows_last_seen { now_ms() } else { 0 },
            ..nothing
        };
    }
    let last_seen_ms = row.filter(|_| shows_last_seen).map_or(0, |row| row.last_seen_ms);
    v1::Presence { last_seen_ms, ..nothing }
}

/// What tells two appearances apart, but for the time of one who is there, which always passes.
fn in_short(presence: &v1::Presence) -> u64 {
    let mut hasher = DefaultHasher::new();
    let is_there = presence.status != PresenceStatus::Offline as i32;
    (presence.status, &presence.text, is_there || presence.last_seen_ms == 0).hash(&mut hasher);
    hasher.finish().max(1)
}

/// Without doubles, in their order.
fn distinct(user_ids: &[u64]) -> Result<Vec<u64>> {
    let mut seen = BTreeSet::new();
    let ids: Vec<u64> = user_ids.iter().copied().filter(|id| *id != 0 && seen.insert(*id)).collect();
    if ids.len() > WATCHED_MAX || user_ids.len() > 2 * WATCHED_MAX {
        return Err(Error::invalid(
            "user_ids",
            format!("user_ids names {} users; {WATCHED_MAX} is the most", ids.len()),
        ));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: PresenceStatus) -> PresenceRecord {
        PresenceRecord { user_id: 7, status, text: "tea".to_owned(), last_seen_ms: 50 }
    }

    #[test]
    fn what_is_seen_depends_on_who_looks() {
        let friends = Relation { friends: true, ..Relation::default() };
        let stranger = Relation::default();
        let blocked = Relation { blocks: true, ..Relation::default() };
        let to = Audience::Contacts;
        let there = |relation, own, connected, status| {
            let seen =
                appearance(7, Some(&row(status)), Sight { own, relation, last_seen_to: to, connected });
            (seen.status(), seen.text.clone(), seen.last_seen_ms)
        };
        let nothing = (PresenceStatus::Offline, String::new(), 0);
        let away = PresenceStatus::Away;
        let (status, text, at) = there(friends, false, true, away);
        assert_eq!((status, text.as_str(), at > 50), (away, "tea", true));
        assert_eq!(there(stranger, false, true, away), (away, "tea".to_owned(), 0));
        assert_eq!(there(friends, false, false, away), (PresenceStatus::Offline, String::new(), 50));
        assert_eq!(there(stranger, false, false, away), nothing);
        for connected in [true, false] {
            assert_eq!(there(blocked, false, connected, away), nothing);
            assert_eq!(there(blocked.reversed(), false, connected, away), nothing);
        }
        // One who is invisible looks as if it had gone when it became so.
        let invisible = PresenceStatus::Invisible;
        assert_eq!(there(friends, false, true, invisible), (PresenceStatus::Offline, String::new(), 50));
        assert_eq!(there(stranger, true, true, invisible).0, invisible, "but not to itself");
    }
}
