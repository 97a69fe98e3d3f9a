//! The stores, in the words of the domain. `sql` keeps them in SQLite or MySQL/MariaDB by SeaORM, `memory` in maps
//! for simulation; `cache` stands in front of either. One contract suite (`tests/contract`) holds all of them to what
//! stands here.
//!
//! Every method returns [`StoreError::Unavailable`] when it certainly stored nothing and [`StoreError::Unsettled`]
//! when it may have stored: the caller of a write settles that by reading back.

mod accounts;
pub mod cache;
mod conversations;
mod marks;
pub mod memory;
mod messages;
mod people;
pub mod retention;
mod rooms;
pub mod search;
pub mod sql;
pub mod starts;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::accounts::{
    AccountStore, ContactRecord, ContactStore, DeviceRecord, ProfileChange, TokenOwner, UserRecord,
};
pub use self::conversations::{
    CURSORS_GRAIN_MS, ConversationRecord, ConversationRow, ConversationStore, CursorAdvance, ListPlace,
    ListRow, MemberRecord, NewGroup, ROSTER_MAX, cursors_ms,
};
pub use self::marks::{MarkStore, PinRecord, ScheduledRecord};
pub use self::messages::{ClientKey, MessageStore, PREVIEW_BACK};
pub use self::people::{
    BlockRecord, Draft, LateErasure, PeopleStore, PreferenceChange, PreferenceRecord, PresenceRecord,
    PrivacyChange, PrivacyRecord,
};
pub use self::retention::RetentionStore;
pub use self::rooms::{
    BanRecord, Condition, InviteRecord, JoinRequestRecord, Listed, RoomChange, RoomRules, RoomStore,
    RoomWrite, SAYINGS_MAX, SAYS_CREATED, Saying, SettingsChange, Unmet,
};
pub use self::search::SearchStore;
pub use self::view::{veil, veil_from_hider};

/// Why a store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A unique key is taken. Nothing was stored.
    #[error("it exists already")]
    Exists,
    /// The database did not take the request. Nothing was stored.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database did not say whether it stored.
    #[error("the database did not confirm the write: {0}")]
    Unsettled(String),
    /// The database holds, or refused, something that should not be: a bug, or a database of a newer version.
    #[error("the database can't be used: {0}")]
    Invalid(String),
}

/// The result of a store's method.
pub type StoreResult<T> = Result<T, StoreError>;

/// All stores of a node.
#[derive(Clone)]
pub struct Stores {
    /// Users and devices.
    pub accounts: Arc<dyn AccountStore>,
    /// Contact lists.
    pub contacts: Arc<dyn ContactStore>,
    /// Conversations and members.
    pub conversations: Arc<dyn ConversationStore>,
    /// What changes in groups.
    pub rooms: Arc<dyn RoomStore>,
    /// What is each user's own.
    pub people: Arc<dyn PeopleStore>,
    /// What stands beside the logs.
    pub marks: Arc<dyn MarkStore>,
    /// What becomes too old.
    pub retention: Arc<dyn RetentionStore>,
    /// Logs.
    pub messages: Arc<dyn MessageStore>,
    /// What is found in them.
    pub search: Arc<dyn SearchStore>,
}

/// Pause between two warnings of the same outage, in milliseconds. Refused at once, requests are many.
const WARN_PAUSE_MS: u64 = 1000;

/// Whether the last warning is long enough ago.
fn may_warn() -> bool {
    static WARNED_AT_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = crate::clock::now_ms();
    let last = WARNED_AT_MS.load(Ordering::Relaxed);
    // A clock that was set back must not silence it.
    now_ms.abs_diff(last) >= WARN_PAUSE_MS
        && WARNED_AT_MS.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl From<StoreError> for crate::domain::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists => Self::exists("it exists already"),
            StoreError::Unavailable(cause) | StoreError::Unsettled(cause) => {
                if may_warn() {
                    tracing::warn!(target: "rookery::storage", %cause, "the database did not answer");
                }
                Self::unavailable("the database is away; try again, a send with the same client_id")
            }
            StoreError::Invalid(cause) => {
                tracing::error!(target: "rookery::storage", %cause, "the database can't be used");
                Self::internal(
                    "the server could not use its database; its operators find the cause in its log",
                )
            }
        }
    }
}
