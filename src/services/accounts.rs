//! Accounts, devices and tokens: signing up, in and out, and the profile.

use std::sync::Arc;

use super::gate::Gate;
use super::passwords::Passwords;
use super::token_lookups::TokenLookups;
use super::tokens::{Forgetting, Identity, TokenCache, device_cache_key, new_token, token_hash};
use crate::actors::Presence;
use crate::clock::now_ms;
use crate::config::{AccountsConfig, DEVICE_POLICY_ALL};
use crate::domain::limits::{
    DESCRIPTION_MAX, NAME_MAX, PASSWORD_MAX, PLATFORM_MAX, check_length, check_password, check_username,
};
use crate::domain::{Error, Result};
use crate::storage::{
    AccountStore, DeviceRecord, LateErasure, PeopleStore, ProfileChange, StoreError, TokenOwner, UserRecord,
};

/// The WebSocket close code of a session whose token was revoked.
const TOKEN_REVOKED: u16 = 4401;
/// The WebSocket close code of a session whose device had to make way for another one.
const REPLACED: u16 = 4409;
/// The name of the one device that all line connections of a user share.
pub const LINE_DEVICE: &str = "line";
/// When a device was last seen is noted to this precision, in milliseconds: a write spared for each reconnect.
const NOTED_EVERY_MS: u64 = 60_000;
/// Longest search query, in characters.
const QUERY_MAX: usize = 64;

/// What a sign-in comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who signed in, as which device.
    pub identity: Identity,
    /// The access token. Empty for the line device, which is not given one.
    pub token: String,
}

/// Accounts, for every edge. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    /// What is decided by.
    store: Arc<dyn AccountStore>,
    /// What is shown: it may be cached, and has no password hashes.
    profiles: Arc<dyn AccountStore>,
    presence: Presence,
    passwords: Passwords,
    tokens: TokenCache,
    lookups: TokenLookups,
    forgetting: Forgetting,
    gate: Gate,
    people: Arc<dyn PeopleStore>,
    config: Arc<AccountsConfig>,
}

impl Accounts {
    /// Computes one password hash; an error means that `accounts.argon2_*` can't be used.
    pub fn new(
        store: Arc<dyn AccountStore>,
        profiles: Arc<dyn AccountStore>,
        presence: Presence,
        forgetting: Forgetting,
        gate: Gate,
        people: Arc<dyn PeopleStore>,
        config: Arc<AccountsConfig>,
    ) -> Result<Self> {
        let passwords = Passwords::new(&config)?;
        let tokens = TokenCache::new(&config);
        let lookups = TokenLookups::new(store.clone(), presence.overload());
        Ok(Self { store, profiles, presence, passwords, tokens, lookups, forgetting, gate, people, config })
    }

    /// Creates an account; an empty display name becomes the user name. `already_exists`: the name is taken.
    pub async fn sign_up(&self, username: &str, password: &str, display_name: &str) -> Result<UserRecord> {
        check_username(username)?;
        check_password(password, self.config.password_min)?;
        let display_name = if display_name.trim().is_empty() { username } else { display_name.trim() };
        check_length("display_name", display_name, NAME_MAX)?;
        // Before the hash, which costs much more than the look-up; the store settles a race.
        if self.profiles.user_exists(username).await? {
            return Err(taken());
        }
        let user = UserRecord {
            username: username.to_owned(),
            display_name: display_name.to_owned(),
            password_hash: self.passwords.hash(password.to_owned()).await?,
            created_at_ms: now_ms(),
            ..UserRecord::default()
        };
        match self.store.create_user(user.clone()).await {
            Ok(created) => Ok(created),
            Err(StoreError::Exists) => Err(taken()),
            Err(error @ StoreError::Unsettled(_)) => match self.store.user_by_name(username).await? {
                // Nobody else can have made this very hash.
                Some(found) if found.password_hash == user.password_hash => Ok(found),
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new device with its token. Devices that `accounts.device_policy` does not allow beside it are signed out
    /// everywhere before this returns, and beyond `accounts.devices_max` the oldest. `unauthenticated` for an unknown name
    /// and a wrong password alike, after the same work.
    pub async fn sign_in(
        &self,
        username: &str,
        password: &str,
        device_name: &str,
        platform: &str,
    ) -> Result<SignedIn> {
        check_length("device_name", device_name, NAME_MAX)?;
        check_length("platform", platform, PLATFORM_MAX)?;
        let user = self.check_credentials(username, password).await?;
        let platform = platform.trim().to_lowercase();
        let signed_in = self.new_device(&user, device_name, &platform).await?;
        self.still_stands(&user, signed_in.identity.device_id).await?;
        self.make_way(user.id, signed_in.identity.device_id, &platform, false).await?;
        self.sign_out_surplus(user.id, signed_in.identity.device_id).await?;
        Ok(signed_in)
    }

    /// Ends the devices that the policy does not allow beside this one. Of two that sign in at the same moment the later one
    /// stays: only older ones make way, unless `all` have to.
    async fn make_way(&self, user_id: u64, device_id: u64, platform: &str, all: bool) -> Result<()> {
        let makes_way = |device: &DeviceRecord| match self.config.device_policy.as_str() {
            "single" => true,
            "one_per_platform" => device.platform == platform,
            _ => false,
        };
        if self.config.device_policy == DEVICE_POLICY_ALL {
            return Ok(());
        }
        let devices = self.store.devices(user_id).await?;
        let others = devices.iter().filter(|device| device.id < device_id || (all && device.id != device_id));
        let ended: Vec<u64> = others.filter(|device| makes_way(device)).map(|device| device.id).collect();
        if !ended.is_empty() {
            let end = End { code: REPLACED, reason: "replaced by a sign-in on another device" };
            self.end_devices(user_id, &ended, end).await?;
        }
        Ok(())
    }

    /// Signs in over the line protocol: all line connections of a user are one device, since what has been given by
    /// `PULL` is kept per user.
    pub async fn sign_in_line(&self, username: &str, password: &str) -> Result<Identity> {
        let user = self.check_credentials(username, password).await?;
        self.line_device(&user).await
    }

    /// The line device of an account that was just signed up over the line protocol.
    pub async fn line_device(&self, user: &UserRecord) -> Result<Identity> {
        let devices = self.store.devices(user.id).await?;
        match devices.into_iter().find(|device| device.name == LINE_DEVICE) {
            Some(device) => {
                self.store.touch_device(device.id, now_ms()).await?;
                self.make_way(user.id, device.id, LINE_DEVICE, true).await?;
                Ok(identity_of(device))
            }
            None => {
                let identity = self.new_device(user, LINE_DEVICE, LINE_DEVICE).await?.identity;
                self.still_stands(user, identity.device_id).await?;
                self.make_way(user.id, identity.device_id, LINE_DEVICE, false).await?;
                Ok(identity)
            }
        }
    }

    /// Who a token speaks for, if that is remembered in this process: no waiting.
    pub fn remembered(&self, token: &str) -> Option<Identity> {
        self.recall(&token_hash(token)?)
    }

    fn recall(&self, token_hash: &str) -> Option<Identity> {
        let age_max = self.forgetting.age_max(self.presence.whole_for());
        self.tokens.get(token_hash, now_ms(), age_max)
    }

    /// Who a token speaks for. `unauthenticated`: nobody.
    pub async fn authenticate(&self, token: &str) -> Result<Identity> {
        let hash = token_hash(token).ok_or_else(bad_token)?;
        if let Some(identity) = self.recall(&hash) {
            return Ok(identity);
        }
        let epoch = self.tokens.epoch();
        let TokenOwner { device, disabled: is_disabled, .. } =
            self.lookups.owner(&hash).await?.ok_or_else(|| {
                self.tokens.refused(&hash);
                bad_token()
            })?;
        let now = now_ms();
        if device.expires_at_ms <= now {
            return Err(Error::unauthenticated("the access token has expired; sign in again"));
        }
        if is_disabled {
            return Err(disabled());
        }
        let last_seen_ms = device.last_seen_ms;
        let identity = identity_of(device);
        self.tokens.remember(&hash, &identity, epoch);
        if now.saturating_sub(last_seen_ms) >= NOTED_EVERY_MS {
            self.lookups.used(identity.device_id);
        }
        Ok(identity)
    }

    /// Forgets what this process remembers under a key that another node named.
    pub fn forget(&self, cache_key: &str) {
        self.tokens.forget(cache_key);
        self.gate.forget(cache_key);
        self.forgetting.here(cache_key);
    }

    /// The user's devices, oldest first.
    pub async fn devices(&self, user_id: u64) -> Result<Vec<DeviceRecord>> {
        Ok(self.store.devices(user_id).await?)
    }

    /// Ends a device: its token is refused from now on and its live sessions close with 4401, on all nodes.
    /// `not_found`: the user has no such device.
    pub async fn sign_out(&self, user_id: u64, device_id: u64) -> Result<()> {
        if !self.end_devices(user_id, &[device_id], SIGNED_OUT).await? {
            return Err(Error::not_found("you have no device of this id; GET /api/v1/sessions lists them"));
        }
        Ok(())
    }

    /// Ends all of the caller's devices at once, or all but the one that it calls from.
    pub async fn sign_out_all(&self, caller: &Identity, with_current: bool) -> Result<()> {
        let devices = self.store.devices(caller.user_id).await?;
        let ids = devices.iter().map(|device| device.id);
        let ended: Vec<u64> = ids.filter(|id| with_current || *id != caller.device_id).collect();
        self.end_devices(caller.user_id, &ended, SIGNED_OUT).await.map(|_| ())
    }

    /// Ends devices, which other requests may be ending too; whether any was there.
    async fn end_devices(&self, user_id: u64, device_ids: &[u64], end: End) -> Result<bool> {
        if device_ids.is_empty() {
            return Ok(false);
        }
        let mut ended = Vec::new();
        let mut outcome = Ok(());
        for device_id in device_ids {
            let deleted = self.store.delete_device(user_id, *device_id).await;
            self.tokens.forget(&device_cache_key(*device_id));
            match deleted {
                Ok(true) => ended.push(*device_id),
                Ok(false) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        // All at once: nodes that can't be reached are waited for once. Also after an error, when some may be gone.
        let keys = device_ids.iter().map(|device_id| device_cache_key(*device_id)).collect();
        self.forgetting.everywhere(keys).await;
        // The tokens are refused from here on whether or not the sessions can be reached; they are told as well as can be.
        let closings = ended.iter().map(|device_id| async move {
            if let Err(error) =
                self.presence.close_sessions(user_id, *device_id, end.code, end.reason).await
            {
                tracing::warn!(target: "rookery::accounts", user_id, device_id, %error, "sessions of a signed-out device were not told");
            }
        });
        futures_util::future::join_all(closings).await;
        outcome?;
        Ok(!ended.is_empty())
    }

    /// An account by id.
    pub async fn user(&self, user_id: u64) -> Result<UserRecord> {
        self.profiles.user(user_id).await?.ok_or_else(no_user)
    }

    /// Those of the ids that exist, in any order.
    pub async fn users(&self, user_ids: &[u64]) -> Result<Vec<UserRecord>> {
        Ok(self.profiles.users(user_ids).await?)
    }

    /// Accounts whose user name begins with `query` or whose display name contains it, at most `limit`, and where the
    /// next page goes on, if there is one. They go by id, but the one of exactly this name comes first of all.
    /// `after`: where an earlier page said that this one goes on.
    pub async fn search(
        &self,
        query: &str,
        after: Option<u64>,
        limit: u32,
    ) -> Result<(Vec<UserRecord>, Option<u64>)> {
        let query = query.trim();
        if query.is_empty() {
            return Err(Error::invalid("query", "query is empty; give the beginning of a name"));
        }
        check_length("query", query, QUERY_MAX)?;
        let exact = self.store.user_by_name(query).await?.filter(|user| !user.disabled);
        let begin = after.unwrap_or(0);
        // One for the exact one among them, and one that tells whether there are more.
        let mut others = self.store.search_users(query, begin, limit.saturating_add(2)).await?;
        others.retain(|user| exact.as_ref().is_none_or(|exact| exact.id != user.id));
        let first = exact.filter(|_| after.is_none());
        let room = (limit as usize).saturating_sub(usize::from(first.is_some()));
        let more = others.len() > room;
        others.truncate(room);
        let next = more.then(|| others.last().map_or(begin, |user| user.id));
        Ok((first.into_iter().chain(others).collect(), next))
    }

    /// Changes the caller's profile.
    pub async fn change_profile(&self, user_id: u64, change: ProfileChange) -> Result<UserRecord> {
        if let Some(name) = &change.display_name {
            if name.trim().is_empty() {
                return Err(Error::invalid("display_name", "display_name is empty; give a name to be shown"));
            }
            check_length("display_name", name, NAME_MAX)?;
        }
        if let Some(bio) = &change.bio {
            check_length("bio", bio, DESCRIPTION_MAX)?;
        }
        self.store.change_profile(user_id, change).await?.ok_or_else(no_user)
    }

    /// Replaces the password after checking the old one, and signs all other devices out.
    pub async fn change_password(&self, caller: &Identity, old: &str, new: &str) -> Result<()> {
        check_password(new, self.config.password_min)
            .map_err(|error| Error { field: "new_password".into(), ..error })?;
        let user = self.store.user(caller.user_id).await?.ok_or_else(no_user)?;
        let refused = || Error::denied("old_password is not the account's password; nothing was changed");
        if !self.passwords.verify(bounded(old), Some(user.password_hash.clone())).await? {
            return Err(refused());
        }
        let hash = self.passwords.hash(new.to_owned()).await?;
        // Another device may have changed it meanwhile.
        if !self.store.set_password(caller.user_id, &user.password_hash, &hash).await? {
            return Err(refused());
        }
        let devices = self.store.devices(caller.user_id).await?;
        let others = devices.iter().map(|device| device.id).filter(|id| *id != caller.device_id);
        self.end_devices(caller.user_id, &others.collect::<Vec<_>>(), SIGNED_OUT).await?;
        Ok(())
    }

    /// Refuses what is asked if this is not the account's password.
    pub async fn confirm(&self, user_id: u64, password: &str) -> Result<()> {
        let user = self.store.user(user_id).await?.ok_or_else(no_user)?;
        if !self.passwords.verify(bounded(password), Some(user.password_hash)).await? {
            return Err(Error {
                field: "password".into(),
                ..Error::denied("password is not the account's password; nothing was changed")
            });
        }
        Ok(())
    }

    /// Ends an account in storage, and with it its devices, which are out on all nodes when this returns.
    /// What is to be done `later` is kept with that.
    pub(super) async fn erase(
        &self,
        user_id: u64,
        username: &str,
        display_name: &str,
        later: Option<LateErasure>,
    ) -> Result<()> {
        let devices = self.store.devices(user_id).await?;
        let erased = self.people.erase_user(user_id, username, display_name, later).await;
        if matches!(erased, Err(StoreError::Unavailable(_) | StoreError::Exists | StoreError::Invalid(_))) {
            return Ok(erased?);
        }
        // Also when it is not known whether it was stored.
        let keys: Vec<String> = devices.iter().map(|device| device_cache_key(device.id)).collect();
        keys.iter().for_each(|key| self.tokens.forget(key));
        self.forgetting.everywhere(keys).await;
        self.gate.privacy_changed(user_id, &erased).await;
        erased?;
        if let Err(error) =
            self.presence.close_sessions(user_id, 0, TOKEN_REVOKED, "the account was erased").await
        {
            tracing::warn!(target: "rookery::accounts", user_id, %error, "sessions of an erased account were not told");
        }
        Ok(())
    }

    /// Disables the account and signs all its devices out. Its messages stay with those who have them.
    pub async fn deactivate(&self, user_id: u64) -> Result<()> {
        self.store.set_disabled(user_id, true).await?;
        let devices = self.store.devices(user_id).await?;
        let ids: Vec<u64> = devices.iter().map(|device| device.id).collect();
        self.end_devices(user_id, &ids, SIGNED_OUT).await?;
        Ok(())
    }

    async fn check_credentials(&self, username: &str, password: &str) -> Result<UserRecord> {
        // A name that can't exist costs the same work as one that does not.
        let user = match check_username(username) {
            Ok(()) => self.store.user_by_name(username).await?,
            Err(_) => None,
        };
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let fits = self.passwords.verify(bounded(password), hash).await?;
        match user {
            Some(user) if fits && user.disabled => Err(disabled()),
            Some(user) if fits && password.chars().count() <= PASSWORD_MAX => Ok(user),
            _ => {
                Err(Error::unauthenticated("the username or password is wrong; check both, or sign up first"))
            }
        }
    }

    /// Takes a new device back if its account was disabled or erased, or its password changed, while the old one was being
    /// checked: whoever did that listed the devices to end before this one was there, or will find it.
    async fn still_stands(&self, user: &UserRecord, device_id: u64) -> Result<()> {
        let stands = match self.store.user(user.id).await {
            Ok(Some(now)) if now.disabled => Err(disabled()),
            Ok(Some(now)) if now.password_hash == user.password_hash => return Ok(()),
            Ok(_) => Err(Error::unauthenticated("the account has changed meanwhile; sign in again")),
            Err(error) => Err(error.into()),
        };
        // Nobody knows its token. If this fails too, the device is listed and can be ended.
        let _ = self.store.delete_device(user.id, device_id).await;
        stands
    }

    /// Changes with every sign-out that this node hears of.
    pub fn forgettings(&self) -> u64 {
        self.tokens.forgettings()
    }

    /// Whether a device has not been signed out, by the database.
    pub async fn is_signed_in(&self, identity: &Identity) -> Result<bool> {
        let devices = self.store.devices(identity.user_id).await?;
        Ok(devices.iter().any(|device| device.id == identity.device_id))
    }

    async fn new_device(&self, user: &UserRecord, name: &str, platform: &str) -> Result<SignedIn> {
        let token = new_token();
        let hash = token_hash(&token).expect("our own tokens are short and not empty");
        let now = now_ms();
        let lifetime = u64::try_from(self.config.token_lifetime.as_millis()).unwrap_or(u64::MAX);
        let device = DeviceRecord {
            id: 0,
            user_id: user.id,
            name: name.to_owned(),
            platform: platform.to_owned(),
            created_at_ms: now,
            last_seen_ms: now,
            // Bounded so that it stays a JSON number that every client reads exactly.
            expires_at_ms: now.saturating_add(lifetime).min((1 << 53) - 1),
        };
        let device = match self.store.create_device(device, &hash).await {
            Err(error @ StoreError::Unsettled(_)) => {
                self.store.device_by_token(&hash).await?.ok_or(Error::from(error))?
            }
            other => other?,
        };
        Ok(SignedIn { identity: identity_of(device), token })
    }

    async fn sign_out_surplus(&self, user_id: u64, newest: u64) -> Result<()> {
        let mut devices = self.store.devices(user_id).await?;
        let surplus = devices.len().saturating_sub(self.config.devices_max.max(1));
        devices.sort_by_key(|device| (device.created_at_ms, device.id));
        let older = devices.iter().map(|device| device.id).filter(|id| *id != newest).take(surplus);
        let older: Vec<u64> = older.collect();
        if !older.is_empty() {
            self.end_devices(user_id, &older, SIGNED_OUT).await?;
        }
        Ok(())
    }
}

/// How sessions of an ended device are closed.
#[derive(Clone, Copy)]
struct End {
    code: u16,
    reason: &'static str,
}

/// Its user, or the operators, signed it out.
const SIGNED_OUT: End = End { code: TOKEN_REVOKED, reason: "signed out" };

fn identity_of(device: DeviceRecord) -> Identity {
    Identity {
        user_id: device.user_id,
        device_id: device.id,
        device_name: device.name,
        expires_at_ms: device.expires_at_ms,
    }
}

/// No password is longer than the limit, so that a longer one need not be hashed whole to be refused.
fn bounded(password: &str) -> String {
    password.chars().take(PASSWORD_MAX + 1).collect()
}

fn taken() -> Error {
    Error { field: "username".into(), ..Error::exists("the username is taken; choose another") }
}

fn bad_token() -> Error {
    Error::unauthenticated("the access token is not valid; sign in again")
}

fn disabled() -> Error {
    Error::denied("the account is disabled; ask the operators of the server")
}

/// What is answered for a user id that nobody has.
pub(super) fn no_user() -> Error {
    Error::not_found("there is no user of this id; GET /api/v1/users?query= finds users by name")
}
