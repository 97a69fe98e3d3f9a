//! What statements cost a MariaDB: rows read, and locks that meet. Each on a server of its own, whose counters nobody else
//! moves.

use rookery::protocol::MessageKind;
use rookery::protocol::v1::Message;
use rookery::storage::{Condition, Listed, RoomChange, RoomWrite, Stores};
use sea_orm::sqlx::{self, Row as _};

use crate::fixture::{add_members, group, member, message, mysql_config, opened};
use crate::mariadb_server::MariaDb;

/// A number that the server keeps.
async fn number(server: &MariaDb, sql: &'static str) -> i64 {
    let mut connection = server.connect().await.expect("the server answers");
    sqlx::query(sql).fetch_one(&mut connection).await.expect("it is read").get(0)
}

/// Rows of tables that the server has read so far, all of them by a key or one behind another.
async fn rows_read(server: &MariaDb) -> i64 {
    let sql = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.GLOBAL_STATUS \
               WHERE VARIABLE_NAME IN ('HANDLER_READ_NEXT', 'HANDLER_READ_PREV', 'HANDLER_READ_RND', 'INNODB_ROWS_READ')";
    number(server, sql).await
}

fn entry(id: u64, seq: u64, by: u64, kind: MessageKind, target_seq: u64) -> Message {
    let emoji = if kind == MessageKind::Reaction { "👍" } else { "" }.to_owned();
    Message { kind: kind as i32, target_seq, emoji, ..message(id, seq, by, &format!("e{by}-{seq}")) }
}

/// Rows read by an append, less those that are read to look.
async fn cost(server: &MariaDb, stores: &Stores, messages: &[Message]) -> i64 {
    let looking = rows_read(server).await;
    let before = rows_read(server).await;
    stores.messages.append(messages).await.expect("it is stored");
    rows_read(server).await - before - (before - looking)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_reads_the_message_and_its_edits_and_not_the_log() {
    let server = MariaDb::start().await;
    let stores = opened(&mysql_config(&server).await).await.stores();
    for from in (1..=5000).step_by(500) {
        let many: Vec<Message> =
            (from..from + 500).map(|seq| message(1, seq, 1, &format!("m{seq}"))).collect();
        stores.messages.append(&many).await.expect("they are stored");
    }
    let edits: Vec<Message> = (5001..=5003).map(|seq| entry(1, seq, 1, MessageKind::Edit, 7)).collect();
    stores.messages.append(&edits).await.expect("they are stored");
    for (seq, target) in [(5004, 7), (5005, 8)] {
        let read = cost(&server, &stores, &[entry(1, seq, 1, MessageKind::Recall, target)]).await;
        assert!(read < 100, "message {target}: {read} rows");
    }
    let log = stores.messages.after(1, 5000, 9).await.expect("it is read");
    assert!(log[..3].iter().all(|edit| edit.text.is_empty()), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_reactions_in_neighbouring_conversations_do_not_wait_for_each_other() {
    const DEADLOCKS: &str =
        "SELECT CAST(COUNT AS SIGNED) FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'";
    const ROUNDS: u64 = 60;
    let server = MariaDb::start().await;
    let stores = opened(&mysql_config(&server).await).await.stores();
    for id in 1..=2 * ROUNDS {
        stores.messages.append(&[message(id, 1, 1, "a")]).await.expect("it is stored");
    }
    let before = number(&server, DEADLOCKS).await;
    // From the last to the first, so that all land in one gap, two at a time.
    for round in (0..ROUNDS).rev() {
        let react = async |id: u64| {
            let batch: Vec<Message> =
                (2..=40).map(|seq| entry(id, seq, seq, MessageKind::Reaction, 1)).collect();
            stores.messages.append(&batch).await
        };
        let (one, two) = tokio::join!(react(2 * round + 1), react(2 * round + 2));
        assert_eq!((one, two), (Ok(()), Ok(())));
    }
    assert_eq!(number(&server, DEADLOCKS).await, before, "none waited for one that waited for it");
    let found = stores.messages.after(1, 0, 1).await.expect("it is read").remove(0);
    assert_eq!(found.reactions[0].count, 39);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_large_room_costs_no_more_than_in_a_small_one() {
    let server = MariaDb::start().await;
    let stores = opened(&mysql_config(&server).await).await.stores();
    let mut costs = Vec::new();
    for size in [10, 3000] {
        let id = group(&stores, &(2..=size).collect::<Vec<u64>>(), 5).await.id;
        let looking = rows_read(&server).await;
        let before = rows_read(&server).await;
        let add = RoomChange {
            conversation_id: id,
            now_ms: 9,
            conditions: vec![
                Condition::NoMember(9000),
                Condition::HistoryOpen(false),
                Condition::Below(Listed::Members, 100_000),
            ],
            writes: vec![RoomWrite::Add(vec![member(id, 9000, 1, 9)])],
        };
        assert_eq!(stores.rooms.change_room(&add).await, Ok(None));
        // Who is told of it.
        for user_id in [1, 9000] {
            let row = stores.conversations.conversation_of(user_id, id).await.expect("it is read");
            assert_eq!(row.map(|row| row.member_count), Some(size + 1));
        }
        costs.push(rows_read(&server).await - before - (before - looking));
    }
    assert!(costs[1] <= 2 * costs[0] + 20, "rows read with 10 and with 3000 members: {costs:?}");
}

/// Prepared statements that the server has carried out so far.
async fn executed(server: &MariaDb) -> i64 {
    let sql = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS \
               WHERE VARIABLE_NAME = 'COM_STMT_EXECUTE'";
    number(server, sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_asks_no_more_for_many_conversations_than_for_few() {
    let server = MariaDb::start().await;
    let stores = opened(&mysql_config(&server).await).await.stores();
    let mut ids = Vec::new();
    for at in 0..40 {
        // One is in all, the other in two.
        let id = group(&stores, if at < 2 { &[2, 3] } else { &[3] }, 5).await.id;
        let log: Vec<Message> = (1..=5).map(|seq| message(id, seq, 1, &format!("m{seq}"))).collect();
        stores.messages.append(&log).await.expect("they are stored");
        ids.push(id);
    }
    let mut costs = Vec::new();
    for (user_id, count) in [(2, 2), (3, 40)] {
        let ids = &ids[..count];
        let looking = executed(&server).await;
        let before = executed(&server).await;
        let rows = stores.conversations.conversations_of(user_id, 0, None, 200).await.expect("they are read");
        assert!(rows.iter().all(|row| row.unread == 5) && rows.len() == count);
        let members = stores.conversations.memberships(user_id, ids).await.expect("they are read");
        assert_eq!(members.len(), count);
        let places: Vec<(u64, u64)> = ids.iter().map(|id| (*id, 1)).collect();
        let missed = stores.messages.tails(&places, 500).await.expect("they are read");
        assert_eq!(missed.len(), 4 * count);
        let keys: Vec<(u64, u64)> = missed.iter().map(|one| (one.conversation_id, one.seq)).collect();
        assert_eq!(stores.marks.hidden_among(user_id, &keys).await, Ok(Vec::new()));
        let spared = ids.iter().copied().collect();
        let list = stores.conversations.list_sparing(user_id, 0, None, 200, &spared).await;
        assert_eq!(list.map(|list| list.len()), Ok(count));
        costs.push(executed(&server).await - before - (before - looking));
    }
    // The list: candidates, rows, unread counts. Memberships, the logs' ends, the messages, and what is hidden of them. Then the
    // list of what is known: candidates, and nothing but places.
    assert_eq!(costs, [9, 9], "statements for 2 and for 40 conversations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_one_who_may_see_nothing_of_a_long_log_does_not_go_through_it() {
    let server = MariaDb::start().await;
    let stores = opened(&mysql_config(&server).await).await.stores();
    let id = group(&stores, &[], 5).await.id;
    for from in (1..=5000).step_by(500) {
        let many: Vec<Message> =
            (from..from + 500).map(|seq| message(id, seq, 1, &format!("m{seq}"))).collect();
        stores.messages.append(&many).await.expect("they are stored");
    }
    add_members(&stores, &[member(id, 2, 5001, 9)]).await;
    // With one conversation alone the server knows the log and where to begin before it plans.
    group(&stores, &[2], 5).await;
    let looking = rows_read(&server).await;
    let before = rows_read(&server).await;
    let rows = stores.conversations.conversations_of(2, 0, None, 9).await.expect("it is read");
    let read = rows_read(&server).await - before - (before - looking);
    assert_eq!((rows.len(), rows[0].newest, rows[0].unread), (2, (0, 0), 0));
    assert!(read < 100, "{read} rows");
}
