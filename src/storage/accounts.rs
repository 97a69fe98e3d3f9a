//! Users, their devices, and whom they know.

use async_trait::async_trait;

use super::StoreResult;
use crate::protocol::ContactState;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserRecord {
    /// `user_id`: 1 and up.
    pub id: u64,
    /// As it was signed up; unique by its [`crate::domain::limits::username_key`].
    pub username: String,
    /// Shown to others.
    pub display_name: String,
    /// 0: none.
    pub avatar_file_id: u64,
    /// A line about oneself.
    pub bio: String,
    /// PHC string of the Argon2id hash.
    pub password_hash: String,
    /// Disabled by the operators: no sign-in.
    pub disabled: bool,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
}

/// The changes of `PATCH /users/me`; `None` leaves the field.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// New display name.
    pub display_name: Option<String>,
    /// New avatar.
    pub avatar_file_id: Option<u64>,
    /// New bio.
    pub bio: Option<String>,
}

/// A signed-in client. Its token is stored as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceRecord {
    /// `device_id`: 1 and up.
    pub id: u64,
    /// Whose it is.
    pub user_id: u64,
    /// As the client named it.
    pub name: String,
    /// What it runs on, as the client named it; may be empty.
    pub platform: String,
    /// Unix time, milliseconds.
    pub created_at_ms: u64,
    /// When its token was last used to sign in, to the minute or so.
    pub last_seen_ms: u64,
    /// The token is refused from here on.
    pub expires_at_ms: u64,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The hash that was asked for.
    pub token_hash: String,
    /// The device it was given to.
    pub device: DeviceRecord,
    /// The account may not sign in.
    pub disabled: bool,
}

/// What one user is to another, from `user_id`'s side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRecord {
    /// Whose list it is in.
    pub user_id: u64,
    /// Who is listed.
    pub contact_id: u64,
    /// `requested` (by `user_id`), `invited` (by `contact_id`), `friend` or `blocked`.
    pub state: ContactState,
    /// What the request said.
    pub message: String,
    /// Unix time, milliseconds.
    pub updated_at_ms: u64,
}

/// Users and their devices.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Stores a user (its `id` is ignored) and returns it with its id. [`Exists`](super::StoreError::Exists): the name is taken.
    async fn create_user(&self, user: UserRecord) -> StoreResult<UserRecord>;
    /// By id.
    async fn user(&self, user_id: u64) -> StoreResult<Option<UserRecord>>;
    /// Those of the ids that exist, in any order.
    async fn users(&self, user_ids: &[u64]) -> StoreResult<Vec<UserRecord>>;
    /// By name, regardless of case.
    async fn user_by_name(&self, username: &str) -> StoreResult<Option<UserRecord>>;
    /// Whether there is a user of this name, regardless of case.
    async fn user_exists(&self, username: &str) -> StoreResult<bool> {
        Ok(self.user_by_name(username).await?.is_some())
    }
    /// Users who are not disabled, whose username begins with `query` or whose display name contains it, regardless of
    /// case, by id above `after_id`.
    async fn search_users(&self, query: &str, after_id: u64, limit: u32) -> StoreResult<Vec<UserRecord>>;
    /// Changes a profile; `None`: no such user.
    async fn change_profile(&self, user_id: u64, change: ProfileChange) -> StoreResult<Option<UserRecord>>;
    /// Replaces the password's hash if it is still the old one; whether it was.
    async fn set_password(&self, user_id: u64, old_hash: &str, new_hash: &str) -> StoreResult<bool>;
    /// Disables or enables sign-in.
    async fn set_disabled(&self, user_id: u64, disabled: bool) -> StoreResult<()>;
    /// Stores a device (its `id` is ignored) under the hash of its token and returns it with its id.
    async fn create_device(&self, device: DeviceRecord, token_hash: &str) -> StoreResult<DeviceRecord>;
    /// The device that a token belongs to.
    async fn device_by_token(&self, token_hash: &str) -> StoreResult<Option<DeviceRecord>>;
    /// Those of the tokens, by hash, that belong to a device of a user who is there, in any order.
    async fn owners_of_tokens(&self, token_hashes: &[String]) -> StoreResult<Vec<TokenOwner>> {
        let mut owners = Vec::new();
        for token_hash in token_hashes {
            let Some(device) = self.device_by_token(token_hash).await? else { continue };
            let Some(user) = self.user(device.user_id).await? else { continue };
            owners.push(TokenOwner { token_hash: token_hash.clone(), device, disabled: user.disabled });
        }
        Ok(owners)
    }
    /// All devices of a user, by id.
    async fn devices(&self, user_id: u64) -> StoreResult<Vec<DeviceRecord>>;
    /// Removes a device, and with it its token; whether there was one.
    async fn delete_device(&self, user_id: u64, device_id: u64) -> StoreResult<bool>;
    /// Notes that a device signed in.
    async fn touch_device(&self, device_id: u64, now_ms: u64) -> StoreResult<()>;
    /// The same for several. Some may be noted when this fails.
    async fn touch_devices(&self, device_ids: &[u64], now_ms: u64) -> StoreResult<()> {
        for device_id in device_ids {
            self.touch_device(*device_id, now_ms).await?;
        }
        Ok(())
    }
    /// Per conversation, the ranges that the user's line device has been given, as [`crate::domain::ranges`] writes them.
    async fn line_given(&self, user_id: u64) -> StoreResult<Vec<(u64, String)>>;
    /// Replaces those ranges for the conversations named.
    async fn set_line_given(&self, user_id: u64, given: &[(u64, String)]) -> StoreResult<()>;
}

/// Contact lists. Each relation is two rows, one from either side; both change in one transaction.
#[async_trait]
pub trait ContactStore: Send + Sync {
    /// The row of `user_id` about `contact_id`.
    async fn contact(&self, user_id: u64, contact_id: u64) -> StoreResult<Option<ContactRecord>>;
    /// The rows of a user by contact id above `after_id`.
    async fn contacts(&self, user_id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<ContactRecord>>;
    /// Writes both sides, replacing what was there; but where the one who is asked has asked too, or both are friends, a
    /// request makes friends: of two that cross, the later one.
    async fn put_contacts(&self, rows: &[ContactRecord; 2]) -> StoreResult<()>;
    /// Makes friends of two who are or of whom one has asked the other; whether they are. Otherwise nothing is written.
    async fn accept_contacts(&self, user_id: u64, contact_id: u64, now_ms: u64) -> StoreResult<bool>;
    /// Removes both sides; whether there was one.
    async fn delete_contacts(&self, user_id: u64, contact_id: u64) -> StoreResult<bool>;
}
