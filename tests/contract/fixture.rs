//! Stores to test, fresh for each case, and small makers of records.

use std::path::Path;
use std::time::Duration;

use rookery::config::StorageConfig;
use rookery::protocol::v1::Message;
use rookery::protocol::{JoinPolicy, MemberRole};
use rookery::storage::memory::MemoryStores;
use rookery::storage::sql::{self, SqlStores};
use rookery::storage::{
    ConversationRecord, MemberRecord, NewGroup, RoomChange, RoomWrite, Stores, UserRecord,
};
use tempfile::TempDir;

use crate::mariadb_server::MariaDb;

/// Stores, and what must live as long as they do.
pub struct Fixture {
    pub stores: Stores,
    _folder: Option<TempDir>,
}

pub async fn memory() -> Fixture {
    Fixture { stores: MemoryStores::default().stores(), _folder: None }
}

pub async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stores = opened(&sqlite_config(folder.path())).await;
    Fixture { stores: stores.stores(), _folder: Some(folder) }
}

pub async fn mariadb() -> Fixture {
    let config = mysql_config(MariaDb::shared().await).await;
    Fixture { stores: opened(&config).await.stores(), _folder: None }
}

/// A database file in a folder that is still to be made.
pub fn sqlite_config(folder: &Path) -> StorageConfig {
    StorageConfig { url: format!("sqlite://{}/data/rookery.db", folder.display()), ..patient() }
}

/// A new database on a server.
pub async fn mysql_config(server: &MariaDb) -> StorageConfig {
    StorageConfig { url: server.database().await, connections_max: 8, ..patient() }
}

/// The cases run side by side on few cores; none of them is about being slow.
fn patient() -> StorageConfig {
    StorageConfig {
        acquire_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(30),
        busy_timeout: Duration::from_secs(20),
        ..StorageConfig::default()
    }
}

pub async fn opened(config: &StorageConfig) -> SqlStores {
    sql::open(config).await.expect("the database opens")
}

/// A message of a text.
pub fn message(conversation_id: u64, seq: u64, sender_id: u64, client_id: &str) -> Message {
    Message {
        conversation_id,
        seq,
        sender_id,
        client_id: client_id.to_owned(),
        text: format!("text {seq}"),
        created_at_ms: 1_000_000 + seq,
        ..Message::default()
    }
}

pub fn user(username: &str, display_name: &str) -> UserRecord {
    UserRecord {
        username: username.to_owned(),
        display_name: display_name.to_owned(),
        password_hash: "$argon2id$".to_owned(),
        created_at_ms: 7,
        ..UserRecord::default()
    }
}

pub fn member(conversation_id: u64, user_id: u64, first_seq: u64, now_ms: u64) -> MemberRecord {
    MemberRecord {
        conversation_id,
        user_id,
        role: MemberRole::Member,
        first_seq,
        joined_at_ms: now_ms,
        updated_at_ms: now_ms,
        ..MemberRecord::default()
    }
}

/// A group of user 1 and the members named.
pub async fn group(stores: &Stores, member_ids: &[u64], now_ms: u64) -> ConversationRecord {
    let group = NewGroup {
        owner_id: 1,
        name: "Rooks".to_owned(),
        description: "We caw.".to_owned(),
        join_policy: JoinPolicy::Approval,
        member_ids: member_ids.to_vec(),
        client_id: String::new(),
        now_ms,
    };
    stores.conversations.create_group(group).await.expect("the group is created")
}

/// A change of a room that must be carried out.
pub async fn change(stores: &Stores, conversation_id: u64, now_ms: u64, writes: Vec<RoomWrite>) {
    let change = RoomChange { conversation_id, now_ms, conditions: Vec::new(), writes };
    assert_eq!(stores.rooms.change_room(&change).await, Ok(None), "{change:?}");
}

/// Adds members, all of one room.
pub async fn add_members(stores: &Stores, members: &[MemberRecord]) {
    let Some(first) = members.first() else { return };
    let now_ms = members.iter().map(|member| member.updated_at_ms).max().unwrap_or_default();
    change(stores, first.conversation_id, now_ms, vec![RoomWrite::Add(members.to_vec())]).await;
}

/// A member leaves.
pub async fn remove_member(stores: &Stores, conversation_id: u64, user_id: u64, now_ms: u64) {
    change(stores, conversation_id, now_ms, vec![RoomWrite::Remove(user_id)]).await;
}
