//! How many are in each group, looked at again: a node of an older build adds and removes members without counting them, as
//! it may while a cluster is updated node by node. Beside the settling ([`super::settling`]) a few groups are counted in each
//! round, all of them in turn, and what is wrong is put right.

use sea_orm::{ConnectionTrait as _, DbErr};

use super::SqlStores;
use super::convert::int;
use super::listing::{marks, statement};
use crate::protocol::ConversationKind;
use crate::storage::StoreResult;

/// Groups of one step.
const AT_ONCE: usize = 50;
/// Memberships counted in one step; one group may have more.
const MEMBERS_AT_ONCE: i64 = 20_000;
/// Counts the members of a group whose row this takes first, as every change of who is in it does.
const RECOUNT: &str = "UPDATE conversations SET member_count = (SELECT COUNT(*) FROM members \
     WHERE members.conversation_id = conversations.id AND members.removed_at_ms = 0) WHERE id = ?";

impl SqlStores {
    /// Counts the members of the next groups behind this one and puts right what is wrong; the last of them. `None`: there are
    /// no more.
    pub async fn recount_next(&self, behind: i64) -> StoreResult<Option<i64>> {
        let groups = self.counted(behind).await?;
        let mut members = 0;
        let fitting = groups
            .iter()
            .take_while(|(_, count)| {
                members += count;
                members <= MEMBERS_AT_ONCE
            })
            .count();
        let some = groups.get(..fitting.max(1)).unwrap_or(&groups);
        let wrong = &self.wrong_among(some).await?;
        for id in wrong {
            let recount = &statement(self.database.backend(), RECOUNT.to_owned(), [*id]);
            self.database
                .write(|attempt| async move { attempt.single().execute_raw(recount.clone()).await.map(drop) })
                .await?;
            tracing::info!(target: "rookery::storage", conversation_id = id, "the members of a group were counted anew");
        }
        Ok(some.last().map(|(id, _)| *id))
    }

    /// Groups behind this one and how many are said to be in them.
    async fn counted(&self, behind: i64) -> StoreResult<Vec<(i64, i64)>> {
        let sql = format!(
            "SELECT id, member_count FROM conversations WHERE id > ? AND kind = ? AND dissolved_at_ms = 0 \
             ORDER BY id LIMIT {AT_ONCE}"
        );
        self.pairs(sql, vec![behind, int(ConversationKind::Group as u64)]).await
    }

    /// Those of which that is not so.
    async fn wrong_among(&self, groups: &[(i64, i64)]) -> StoreResult<Vec<i64>> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT conversation_id, COUNT(*) FROM members WHERE conversation_id IN ({}) AND removed_at_ms = 0 \
             GROUP BY conversation_id",
            marks(groups.len())
        );
        let found = self.pairs(sql, groups.iter().map(|(id, _)| *id).collect()).await?;
        let count = |id: i64| found.iter().find(|(found, _)| *found == id).map_or(0, |(_, count)| *count);
        Ok(groups.iter().filter(|(id, said)| count(*id) != *said).map(|(id, _)| *id).collect())
    }

    async fn pairs(&self, sql: String, values: Vec<i64>) -> StoreResult<Vec<(i64, i64)>> {
        let statement = &statement(self.database.backend(), sql, values);
        self.database
            .read(|db| async move {
                let rows = db.query_all_raw(statement.clone()).await?;
                let pair = |row: &sea_orm::QueryResult| -> Result<(i64, i64), DbErr> {
                    Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))
                };
                rows.iter().map(pair).collect()
            })
            .await
    }
}
