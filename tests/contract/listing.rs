//! The list of conversations while they settle, and when they are written to again: databases alone keep places.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rookery::config::StorageConfig;
use rookery::protocol::MessageKind;
use rookery::protocol::v1::Message;
use rookery::storage::sql::{Settler, SqlStores};
use rookery::storage::{
    CURSORS_GRAIN_MS, CursorAdvance, PreferenceChange, RoomWrite, SettingsChange, StoreError, Stores,
};
use sea_orm::ConnectionTrait as _;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::sync::Barrier;

use crate::fixture::{
    add_members, change, group, member, message, mysql_config, opened, remove_member, sqlite_config,
};
use crate::mariadb_server::MariaDb;

/// How long a conversation stays unsettled here.
const LEASE: Duration = Duration::from_secs(1);
/// The least that there is: the database's clock tells whole seconds.
const NO_LEASE: Duration = Duration::ZERO;
/// How long settling may take after that.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a test looks whether all has settled.
const LOOK: Duration = Duration::from_millis(50);
/// Whose list it is.
const ADA: u64 = 2;

async fn list(stores: &Stores, since_ms: u64, limit: u32) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut before = None;
    loop {
        let page =
            stores.conversations.conversations_of(ADA, since_ms, before, limit).await.expect("it is read");
        ids.extend(page.iter().map(|row| row.conversation.id));
        // Whoever pages takes a short page for the last one.
        let Some(last) = page.last().filter(|_| page.len() == limit as usize) else { return ids };
        before = Some((last.activity_ms(), last.conversation.id));
    }
}

async fn order(stores: &Stores) -> Vec<u64> {
    let order = stores.conversations.order_of(ADA).await.expect("it is read");
    order.into_iter().map(|(_, id)| id).collect()
}

/// Settles what is due until all places are written down.
async fn settles(sql: &SqlStores) {
    let settled = async {
        let mut pause = tokio::time::interval(LOOK);
        while sql.unsettled(ADA).await.expect("it is read") > 0 {
            pause.tick().await;
            sql.settle_all().await.expect("they settle");
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("all settle");
}

/// Rooms of Ada's with a message each, the last one the newest.
async fn rooms<const N: usize>(stores: &Stores) -> [u64; N] {
    let mut ids = [0; N];
    for (at, place) in ids.iter_mut().enumerate() {
        let id = group(stores, &[ADA], 10 + at as u64).await.id;
        stores.messages.append(&[message(id, 1, 1, "first")]).await.expect("it is stored");
        *place = id;
    }
    ids
}

/// An entry of a room's log, made at this time.
fn entry(conversation_id: u64, seq: u64, kind: MessageKind, at_ms: u64) -> Message {
    Message {
        kind: kind as i32,
        target_seq: if kind == MessageKind::Text { 0 } else { 1 },
        created_at_ms: at_ms,
        ..message(conversation_id, seq, 1, &format!("c{seq}"))
    }
}

async fn what_is_settled_is_listed_like_everything_else(sql: SqlStores, elsewhere: SqlStores) {
    let stores = &sql.stores();
    let [a, b, c, d, e, f] = rooms(stores).await;
    // Of equal times the higher id comes first.
    let all = [f, e, d, c, b, a];
    assert_eq!(list(stores, 0, 100).await, all);
    assert_eq!(sql.unsettled(ADA).await, Ok(6));
    settles(&sql).await;
    assert_eq!(list(stores, 0, 100).await, all);
    assert_eq!(list(stores, 0, 2).await, all, "page by page");
    assert_eq!(order(stores).await, all);

    // A message, by another process and by this one.
    elsewhere.stores().messages.append(&[message(b, 2, 1, "later")]).await.expect("it is stored");
    assert_eq!(list(stores, 0, 100).await, [b, f, e, d, c, a]);
    let later = [message(c, 2, 1, "later"), message(c, 3, 1, "again")];
    stores.messages.append(&later).await.expect("they are stored");
    assert_eq!(list(stores, 0, 100).await, [c, b, f, e, d, a]);
    assert_eq!(order(stores).await, [c, b, f, e, d, a]);
    // A change of who is in it; one that is left.
    remove_member(stores, a, 1, 2_000_000).await;
    assert_eq!(list(stores, 0, 100).await, [a, c, b, f, e, d]);
    remove_member(stores, e, ADA, 2_000_001).await;
    assert_eq!(list(stores, 0, 2).await, [a, c, b, f, d]);
    assert_eq!(list(stores, 1_000_002, 2).await, [e, a, c, b], "what changed since");
    settles(&sql).await;
    assert_eq!(list(stores, 0, 2).await, [a, c, b, f, d]);
    assert_eq!(list(stores, 1_000_002, 2).await, [e, a, c, b], "what changed since");
    let archived = PreferenceChange { archived: Some(true), ..Default::default() };
    assert_eq!(stores.people.set_preferences(ADA, d, archived, 3_000_000).await, Ok(true));
    assert_eq!(list(stores, 2_500_000, 100).await, [d]);
    // What was read, in the list's order, with or without a place; not what only moved with a message.
    let since_ms = rookery::clock::now_ms();
    let cursor = |conversation_id, is_news| CursorAdvance {
        conversation_id,
        user_id: ADA,
        delivered_seq: 1,
        read_seq: 1,
        is_news,
    };
    stores.conversations.advance_cursors(&[cursor(b, false)]).await.expect("they move");
    assert!(list(stores, since_ms, 100).await.is_empty());
    let read = [d, c, f, b].map(|id| cursor(id, true));
    stores.conversations.advance_cursors(&read).await.expect("they move");
    for limit in [100, 3, 2, 1] {
        assert_eq!(list(stores, since_ms, limit).await, [c, b, f, d], "page by page of {limit}");
    }
    stores.messages.append(&[message(f, 2, 1, "news")]).await.expect("it is stored");
    for limit in [100, 2, 1] {
        assert_eq!(list(stores, since_ms, limit).await, [c, f, b, d], "one has no place any more");
    }
    assert_eq!(list(stores, 0, 2).await, [a, c, f, b, d], "reading moves nothing in the list");
    assert!(list(stores, since_ms + 2 * CURSORS_GRAIN_MS, 100).await.is_empty());
}

/// Whatever happens in a settled conversation, lists show it at once.
async fn everything_that_happens_takes_a_place_back(sql: SqlStores, elsewhere: SqlStores) {
    let stores = &sql.stores();
    let [a, b, c, d] = rooms(stores).await;
    add_members(stores, &[member(d, 3, 1, 14)]).await;
    settles(&sql).await;
    let mut now_ms = 2_000_000;
    let kinds = [MessageKind::Edit, MessageKind::Reaction, MessageKind::Recall];
    for (at, kind) in kinds.into_iter().enumerate() {
        now_ms += 1;
        let entry = entry(a, 2 + at as u64, kind, now_ms);
        elsewhere.stores().messages.append(&[entry]).await.expect("it is stored");
        assert_eq!(list(stores, now_ms, 100).await, [a], "{kind:?}");
        settles(&sql).await;
        assert_eq!(list(stores, now_ms, 100).await, [a], "{kind:?}, settled");
    }
    let writes = [
        RoomWrite::Settings(SettingsChange { name: Some("Crows".to_owned()), ..SettingsChange::default() }),
        RoomWrite::Touch(vec![ADA]),
        RoomWrite::Silence(ADA, 9_000_000),
        RoomWrite::Add(vec![member(b, 3, 2, 0)]),
        RoomWrite::Remove(3),
        RoomWrite::Dissolve,
    ];
    for write in writes {
        now_ms += 1;
        change(stores, b, now_ms, vec![write.clone()]).await;
        assert_eq!(list(stores, now_ms, 100).await, [b], "{write:?}");
        settles(&sql).await;
        assert_eq!(list(stores, now_ms, 100).await, [b], "{write:?}, settled");
    }
    assert_eq!(list(stores, 0, 100).await, [a, d, c]);
    // One who sees nothing of the past, until it is opened.
    remove_member(stores, c, ADA, now_ms + 1).await;
    let mut again = member(c, ADA, 2, 20);
    again.updated_at_ms = 20;
    let old = entry(c, 2, MessageKind::Text, now_ms + 9);
    stores.messages.append(&[old]).await.expect("it is stored");
    again.first_seq = 3;
    change(stores, c, now_ms + 2, vec![RoomWrite::Add(vec![again])]).await;
    settles(&sql).await;
    assert_eq!(list(stores, now_ms + 3, 100).await, [] as [u64; 0]);
    let open = SettingsChange { history_open: Some(true), ..SettingsChange::default() };
    change(stores, c, now_ms + 2, vec![RoomWrite::Settings(open)]).await;
    assert_eq!(list(stores, now_ms + 3, 100).await, [c]);
}

/// A room's members beyond which it is never settled, and one that is at the limit.
async fn large_rooms_are_looked_up(sql: SqlStores, _: SqlStores) {
    let stores = &sql.stores();
    let small: Vec<u64> = (2..=200).collect();
    let large: Vec<u64> = (2..=201).collect();
    let small = group(stores, &small, 10).await.id;
    let large = group(stores, &large, 20).await.id;
    sql.settle_all().await.expect("they settle");
    assert_eq!(sql.unsettled(ADA).await, Ok(1));
    assert_eq!(sql.settle_all().await, Ok(0), "it is not looked at again");
    assert_eq!(list(stores, 0, 100).await, [large, small]);
    stores.messages.append(&[message(small, 1, 1, "x")]).await.expect("it is stored");
    stores.messages.append(&[message(large, 1, 1, "x")]).await.expect("it is stored");
    assert_eq!(list(stores, 0, 1).await, [large, small]);
}

/// Nobody lists anything, and what is quiet settles all the same; what is not quiet doesn't.
async fn a_node_settles_what_is_quiet_and_nothing_else(sql: SqlStores, elsewhere: SqlStores) {
    let awake = elsewhere.clone().leasing(Duration::from_secs(600));
    let stores = &sql.stores();
    let [_, _, c, _] = rooms(stores).await;
    let sweeps = [&sql, &elsewhere].map(|node| Settler::start(node.clone(), LOOK, 50));
    awake.stores().messages.append(&[message(c, 2, 1, "x")]).await.expect("it is stored");
    let all_but_one = async {
        while sql.unsettled(ADA).await.expect("it is read") != 1 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_but_one).await.expect("three settle");
    drop(sweeps);
    assert_eq!(sql.settle_all().await, Ok(0), "nothing else is due");
    assert_eq!(sql.unsettled(ADA).await, Ok(1));
    assert_eq!(list(stores, 0, 2).await.first(), Some(&c));
}

/// Rooms that two nodes write to while both settle.
const ROOMS: usize = 12;
/// Messages to each.
const ROUNDS: u64 = 40;

/// Two nodes write, in turns to each room, and settle all the time: what was acknowledged by either is in the next list of the
/// other's, and in the next sync.
async fn two_nodes_write_and_settle(config: StorageConfig) {
    let one = opened(&config).await.leasing(NO_LEASE);
    let two = opened(&config).await.leasing(LEASE);
    let ids: [u64; ROOMS] = rooms(&one.stores()).await;
    let sweeps = [&one, &two].map(|node| Settler::start(node.clone(), Duration::from_millis(5), 100));
    let all = Arc::new(Barrier::new(ROOMS));
    let mut writers = Vec::new();
    for id in ids {
        let (sql, one, two, all) = (one.clone(), one.stores(), two.stores(), Arc::clone(&all));
        writers.push(tokio::spawn(async move {
            let mut newest_ms = 0;
            for round in 1..=ROUNDS {
                let (by, reader) = if (id + round / 3) % 2 == 0 { (&one, &two) } else { (&two, &one) };
                newest_ms = 10_000_000 + 100 * round + id;
                let sent = entry(id, 1 + round, MessageKind::Text, newest_ms);
                by.messages.append(&[sent]).await.expect("it is stored");
                let changed = list(reader, newest_ms, 5).await;
                assert!(changed.contains(&id), "round {round}: {id} is not among {changed:?}");
                if round % 10 == 0 {
                    all.wait().await;
                    settles(&sql).await;
                    all.wait().await;
                }
            }
            (newest_ms, id)
        }));
    }
    let mut newest = BTreeMap::new();
    for writer in writers {
        let (newest_ms, id) = writer.await.expect("no panic");
        newest.insert(newest_ms, id);
    }
    let expected: Vec<u64> = newest.into_values().rev().collect();
    assert_eq!(list(&one.stores(), 0, 5).await, expected);
    settles(&one).await;
    drop(sweeps);
    assert_eq!(list(&two.stores(), 0, 5).await, expected);
    assert_eq!(order(&one.stores()).await, expected);
}

async fn on_sqlite() -> (tempfile::TempDir, StorageConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = sqlite_config(folder.path());
    (folder, config)
}

/// Each case on SQLite and on MariaDB, with the stores of two processes.
macro_rules! on_both {
    ($($case:ident: fn $sqlite:ident, fn $mariadb:ident;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sqlite() {
                let (_folder, config) = on_sqlite().await;
                $case(opened(&config).await.leasing(LEASE), opened(&config).await.leasing(LEASE)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $mariadb() {
                let config = mysql_config(MariaDb::shared().await).await;
                $case(opened(&config).await.leasing(LEASE), opened(&config).await.leasing(LEASE)).await;
            }
        )+
    };
}

on_both! {
    what_is_settled_is_listed_like_everything_else:
        fn sqlite_lists_what_is_settled_like_everything_else,
        fn mariadb_lists_what_is_settled_like_everything_else;
    everything_that_happens_takes_a_place_back:
        fn sqlite_takes_a_place_back_whatever_happens,
        fn mariadb_takes_a_place_back_whatever_happens;
    large_rooms_are_looked_up:
        fn sqlite_looks_large_rooms_up,
        fn mariadb_looks_large_rooms_up;
    a_node_settles_what_is_quiet_and_nothing_else:
        fn sqlite_is_settled_by_its_nodes_where_it_is_quiet,
        fn mariadb_is_settled_by_its_nodes_where_it_is_quiet;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_write_and_settle_list_all_on_sqlite() {
    let (_folder, config) = on_sqlite().await;
    two_nodes_write_and_settle(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_write_and_settle_list_all_on_mariadb() {
    two_nodes_write_and_settle(mysql_config(MariaDb::shared().await).await).await;
}

/// A conversation may move up between the look for candidates and the reading of their rows. Here it has always just done so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_full_though_a_conversation_moved_up_while_it_was_read() {
    let (_folder, config) = on_sqlite().await;
    let sql = opened(&config).await.leasing(NO_LEASE);
    let stores = sql.stores();
    let ids: [u64; 6] = rooms(&stores).await;
    for (id, at_ms) in ids.into_iter().zip(2_000_001..) {
        stores.messages.append(&[entry(id, 2, MessageKind::Text, at_ms)]).await.expect("it is stored");
    }
    settles(&sql).await;
    let file = sea_orm::Database::connect(&config.url).await.expect("the file is there");
    let before_it_moved = format!(
        "UPDATE members SET listed_ms = 2000004 WHERE conversation_id = {} AND user_id = {ADA}",
        ids[5]
    );
    file.execute_unprepared(&before_it_moved).await.expect("it is written");
    file.close().await.expect("it closes");
    let page = stores.conversations.conversations_of(ADA, 0, Some((2_000_005, ids[4])), 2).await;
    let page: Vec<u64> = page.expect("it is read").iter().map(|row| row.conversation.id).collect();
    assert_eq!(page, [ids[3], ids[2]]);
}

/// Nodes of an older build change who is in a group without counting.
async fn what_was_not_counted_is_counted_later(config: StorageConfig) {
    let sql = opened(&config).await;
    let stores = sql.stores();
    let ids: [u64; 60] = rooms(&stores).await;
    let database = sea_orm::Database::connect(&config.url).await.expect("it is there");
    for (id, count) in [(ids[3], 7), (ids[55], 0)] {
        let wrong = format!("UPDATE conversations SET member_count = {count} WHERE id = {id}");
        database.execute_unprepared(&wrong).await.expect("it is written");
    }
    let gone =
        format!("UPDATE members SET removed_at_ms = 5 WHERE conversation_id = {} AND user_id = 1", ids[9]);
    database.execute_unprepared(&gone).await.expect("it is written");
    database.close().await.expect("it closes");
    let settler = Settler::start(sql.clone(), Duration::from_millis(20), 100);
    let counts = async || {
        let page = stores.conversations.conversations_of(ADA, 0, None, 100).await.expect("it is read");
        let mut counts: Vec<(u64, u64)> =
            page.iter().map(|row| (row.conversation.id, row.member_count)).collect();
        counts.sort_unstable();
        counts
    };
    let right: Vec<(u64, u64)> = ids.iter().map(|id| (*id, if *id == ids[9] { 1 } else { 2 })).collect();
    let mended = async {
        let mut pause = tokio::time::interval(LOOK);
        while counts().await != right {
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, mended).await.expect("all are counted");
    settler.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_counts_members_again() {
    let (_folder, config) = on_sqlite().await;
    what_was_not_counted_is_counted_later(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_counts_members_again() {
    what_was_not_counted_is_counted_later(mysql_config(MariaDb::shared().await).await).await;
}

/// While it is updated node by node, some of them may not know that there is something to wake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_use_settles_nothing_until_an_update_is_over() {
    let (_folder, config) = on_sqlite().await;
    let old = opened(&config).await;
    group(&old.stores(), &[ADA], 10).await;
    old.close().await;
    let file = sea_orm::Database::connect(&config.url).await.expect("the file is there");
    let as_before = [
        "DROP INDEX conversations_awake",
        "ALTER TABLE conversations DROP COLUMN awake_until_s",
        "DELETE FROM seaql_migrations WHERE version = 'm0006_listing'",
    ];
    for sql in as_before {
        file.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    file.close().await.expect("it closes");
    let new = opened(&config).await;
    assert_eq!(new.settle_all().await, Ok(0));
    assert_eq!(new.unsettled(ADA).await, Ok(1));
}

/// An append that is held up until its lease has run out and the conversation has settled is listed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_outlasts_its_lease_is_listed() {
    /// A busy machine may take longer to settle than an append waits for a lock.
    const TRIES: u64 = 20;
    let server = MariaDb::shared().await;
    let config = mysql_config(server).await;
    let database = config.url.rsplit('/').next().expect("it has a name").to_owned();
    let (slow, other) = (opened(&config).await.leasing(NO_LEASE), opened(&config).await);
    let [a] = rooms(&slow.stores()).await;
    settles(&slow).await;
    for _ in 0..TRIES {
        let mut rival = server.connect().await.expect("the server answers");
        rival.execute("BEGIN").await.expect("it begins");
        let row =
            format!("INSERT INTO {database}.messages VALUES ({a}, 2, 9, NULL, 0, '', 0, 0, '', NULL, 0)");
        rival.execute(AssertSqlSafe(row)).await.expect("it takes the lock");
        let stores = slow.stores();
        let held_up = tokio::spawn(async move { stores.messages.append(&[message(a, 2, 1, "late")]).await });
        // It has woken the conversation, which settles again before it gets on.
        let woken = async {
            while other.unsettled(ADA).await.expect("it is read") == 0 && !held_up.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, woken).await.expect("it wakes the conversation");
        settles(&other).await;
        rival.close().await.expect("it goes, and its row with it");
        match held_up.await.expect("no panic") {
            Ok(()) => {
                assert_eq!(list(&other.stores(), 1_000_002, 100).await, [a]);
                return;
            }
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("settling took longer than a lock is waited for, {TRIES} times");
}
