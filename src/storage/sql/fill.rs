//! Users, conversations and memberships in bulk, by multi-row INSERTs and under ids of the caller's choice: for databases
//! that are filled to be measured, and that nobody else uses meanwhile.

use std::collections::HashMap;

use sea_orm::{ActiveValue::Set, ConnectionTrait as _, EntityTrait as _, Statement};

use super::SqlStores;
use super::conversations::direct_key;
use super::convert::{int, new_member, new_user, uint};
use super::entity::{conversation, member, user};
use super::ladder::cut;
use crate::storage::{ConversationRecord, MemberRecord, StoreResult, UserRecord};

/// What to insert. Every record has its id.
#[derive(Default)]
pub struct Filling {
    /// Users.
    pub users: Vec<UserRecord>,
    /// Conversations, direct ones with their two users.
    pub conversations: Vec<(ConversationRecord, Option<(u64, u64)>)>,
    /// All memberships of these conversations.
    pub members: Vec<MemberRecord>,
}

impl SqlStores {
    /// Ids of users and of conversations from which on none is taken.
    pub async fn free_ids(&self) -> StoreResult<(u64, u64)> {
        let backend = self.database.backend();
        let highest = |table: &str| {
            Statement::from_string(backend, format!("SELECT COALESCE(MAX(id), 0) FROM {table}"))
        };
        let (users, conversations) = (&highest("users"), &highest("conversations"));
        self.database
            .read(|db| async move {
                let mut ids = [0i64; 2];
                for (id, statement) in ids.iter_mut().zip([users, conversations]) {
                    if let Some(row) = db.query_one_raw(statement.clone()).await? {
                        *id = row.try_get_by_index(0)?;
                    }
                }
                Ok((uint(ids[0]) + 1, uint(ids[1]) + 1))
            })
            .await
    }

    /// Inserts all of it; what was inserted before an error stays.
    pub async fn fill(&self, filling: &Filling) -> StoreResult<()> {
        for run in cut(&filling.users, |_| 0) {
            let rows =
                || run.iter().map(|record| user::ActiveModel { id: Set(int(record.id)), ..new_user(record) });
            self.database
                .write(|attempt| async move {
                    user::Entity::insert_many(rows()).exec_without_returning(attempt.single()).await.map(drop)
                })
                .await?;
        }
        let mut counts: HashMap<u64, i64> = HashMap::new();
        for member in &filling.members {
            *counts.entry(member.conversation_id).or_default() += 1;
        }
        let counts = &counts;
        for run in cut(&filling.conversations, |_| 0) {
            let rows = || {
                run.iter().map(|(record, pair)| conversation::ActiveModel {
                    member_count: Set(counts.get(&record.id).copied().unwrap_or_default()),
                    ..new_conversation(record, *pair)
                })
            };
            self.database
                .write(|attempt| async move {
                    let insert = conversation::Entity::insert_many(rows());
                    insert.exec_without_returning(attempt.single()).await.map(drop)
                })
                .await?;
        }
        for run in cut(&filling.members, |_| 0) {
            let rows = || run.iter().map(new_member);
            self.database
                .write(|attempt| async move {
                    let insert = member::Entity::insert_many(rows());
                    insert.exec_without_returning(attempt.single()).await.map(drop)
                })
                .await?;
        }
        Ok(())
    }
}

fn new_conversation(record: &ConversationRecord, pair: Option<(u64, u64)>) -> conversation::ActiveModel {
    conversation::ActiveModel {
        id: Set(int(record.id)),
        kind: Set(record.kind as i16),
        direct_key: Set(pair.map(|(a, b)| direct_key(a, b))),
        name: Set(record.name.clone()),
        description: Set(record.description.clone()),
        avatar_file_id: Set(int(record.avatar_file_id)),
        owner_id: Set(int(record.owner_id)),
        join_policy: Set(record.join_policy as i16),
        created_at_ms: Set(int(record.created_at_ms)),
        updated_at_ms: Set(int(record.updated_at_ms)),
        ..Default::default()
    }
}
