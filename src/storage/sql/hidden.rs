//! What users have hidden from themselves of what they have not read: it does not count as unread. Looked for from the
//! side of what is hidden, as that is little, so that nothing costs more for those who hide nothing.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr, Statement, Value};

use super::convert::{ERASED, int};
use super::ladder::padded;
use crate::protocol::MessageKind;

/// How many messages of others behind these places, as (conversation, seq), a user has hidden, by conversation. Those that were
/// taken back are not among them.
pub async fn hidden_behind(
    db: &DatabaseConnection,
    user_id: u64,
    behind: &[(i64, i64)],
) -> Result<HashMap<i64, i64>, DbErr> {
    let mut counts = HashMap::new();
    for list in padded(behind) {
        let any = vec!["(h.conversation_id = ? AND h.seq > ?)"; list.len()].join(" OR ");
        let sql = format!(
            "SELECT h.conversation_id, COUNT(*) FROM hidden h \
             JOIN messages m ON m.conversation_id = h.conversation_id AND m.seq = h.seq \
             WHERE h.user_id = ? AND ({any}) AND m.sender_id <> ? AND m.kind <= ? \
             AND (m.extra IS NULL OR m.extra <> ?) GROUP BY h.conversation_id"
        );
        let mut values = vec![Value::from(int(user_id))];
        values.extend(list.into_iter().flat_map(|(id, seq)| [id, seq]).map(Value::from));
        values.extend([int(user_id).into(), (MessageKind::System as i16).into(), ERASED.into()]);
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        for row in db.query_all_raw(statement).await? {
            counts.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
    }
    Ok(counts)
}
