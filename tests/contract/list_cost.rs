//! What a page of the conversation list costs, in rows that MariaDB reads: what is on it, and not how long the list is.
//! And `rookery load fill`, which makes the databases that this is measured on.

use rookery::cli::load::fill::{self, FillArgs};
use rookery::config::StorageConfig;
use rookery::storage::sql::SqlStores;
use rookery::storage::{ConversationRow, CursorAdvance, NewGroup, Stores};
use sea_orm::sqlx;

use crate::fixture::{message, mysql_config, opened, sqlite_config, user};
use crate::mariadb_server::MariaDb;

/// The user whose list it is: the first that there is.
const ADA: u64 = 1;
/// Conversations on a page.
const PAGE: u32 = 40;
/// Conversations that change before an incremental sync.
const CHANGED: u64 = 10;
/// The most that the longer list may cost of what the shorter one does, in percent.
const RATIO_MAX: u64 = 125;
/// The most rows that are read for each conversation of a page: its own, its members', the last message, the unread ones.
const ROWS_EACH_MAX: u64 = 40;

async fn filled(config: &StorageConfig, conversations: u64, messages: u64) -> SqlStores {
    let args = FillArgs { user: None, conversations, messages };
    fill::run(args, &config.url).await.expect("there is room");
    opened(config).await
}

/// Rows and keys that the server has read since it started.
async fn rows_read(operator: &mut sqlx::MySqlConnection) -> u64 {
    let counts: Vec<(String, String)> = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Handler_read%'")
        .fetch_all(operator)
        .await
        .expect("the server counts them");
    counts.iter().map(|(_, count)| count.parse::<u64>().expect("it is a number")).sum()
}

async fn page(stores: &Stores, since_ms: u64, before: Option<(u64, u64)>) -> Vec<ConversationRow> {
    stores.conversations.conversations_of(ADA, since_ms, before, PAGE).await.expect("it is read")
}

/// Rows read for the first page, for the last full one, and for a sync after some changes.
async fn costs(server: &MariaDb, conversations: u64) -> [u64; 3] {
    let config = mysql_config(server).await;
    let stores = filled(&config, conversations, 4 * conversations).await.stores();
    let database = config.url.rsplit('/').next().expect("it has a name").to_owned();
    // The server does so by itself, some time later.
    server
        .does(&format!("ANALYZE TABLE {database}.members, {database}.conversations, {database}.messages"))
        .await;
    let order = stores.conversations.order_of(ADA).await.expect("it is read");
    let deep = order[order.len() - PAGE as usize - 1];
    let now_ms = order[0].0 + 1_000_000;
    for (_, id) in order.iter().skip(7).step_by(11).take(CHANGED as usize) {
        let seq = stores.messages.last_seq(*id).await.expect("it is read") + 1;
        let mut sent = message(*id, seq, ADA, &format!("new {seq}"));
        sent.created_at_ms = now_ms + *id;
        stores.messages.append(&[sent]).await.expect("it is stored");
    }
    let mut operator = server.connect().await.expect("the server answers");
    let mut costs = [0; 3];
    let asked = [(0, None, PAGE as usize), (0, Some(deep), PAGE as usize), (now_ms, None, CHANGED as usize)];
    for (cost, (since_ms, before, length)) in costs.iter_mut().zip(asked) {
        // What asking the server costs by itself.
        let from = rows_read(&mut operator).await;
        let idle = rows_read(&mut operator).await - from;
        let from = rows_read(&mut operator).await;
        let rows = page(&stores, since_ms, before).await;
        *cost = rows_read(&mut operator).await - from - idle;
        assert_eq!(rows.len(), length);
    }
    costs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are quoted in the documents")]
async fn a_page_of_a_long_list_reads_no_more_rows_than_one_of_a_short_list() {
    let server = MariaDb::start().await;
    let short = costs(&server, 500).await;
    let long = costs(&server, 5000).await;
    let said = format!("first page, last page, sync: {short:?} rows of 500 conversations, {long:?} of 5,000");
    println!("{said}");
    for (at, (short, long)) in short.into_iter().zip(long).enumerate() {
        assert!(100 * long <= RATIO_MAX * short, "{said}");
        // The sync looks at what has just changed, besides.
        let most = ROWS_EACH_MAX * u64::from(PAGE);
        assert!(long <= most, "{said}: {at} is more than {most}");
    }
}

/// The same by the calls that a server makes: users sign up, conversations are created and written to, cursors move, and
/// ten minutes pass.
async fn lived(config: &StorageConfig, filled: &Stores, conversations: u64) -> SqlStores {
    let sql = opened(config).await.leasing(std::time::Duration::ZERO);
    let stores = sql.stores();
    let mut users = 0;
    while let Some(one) = filled.accounts.user(users + 1).await.expect("it is read") {
        let made = stores.accounts.create_user(one.clone()).await.expect("there is room");
        assert_eq!(made, one);
        users += 1;
    }
    assert_eq!(users, conversations + conversations.div_ceil(10) + 1);
    for id in 1..=conversations + conversations.div_ceil(10) {
        let record = filled.conversations.conversation(id).await.expect("it is read").expect("it is there");
        let members = filled.conversations.members(id).await.expect("it is read");
        let ids: Vec<u64> = members.iter().map(|member| member.user_id).collect();
        let made = if record.owner_id == 0 {
            let made = stores.conversations.direct(ids[0], ids[1], record.created_at_ms).await;
            made.expect("there is room").0
        } else {
            let group = NewGroup {
                owner_id: record.owner_id,
                name: record.name.clone(),
                description: String::new(),
                join_policy: record.join_policy,
                member_ids: ids,
                now_ms: record.created_at_ms,
                client_id: String::new(),
            };
            stores.conversations.create_group(group).await.expect("there is room")
        };
        assert_eq!(made, record);
        let log = filled.messages.after(id, 0, 10_000).await.expect("it is read");
        stores.messages.append(&log).await.expect("there is room");
        let cursors: Vec<CursorAdvance> = members
            .iter()
            .map(|member| CursorAdvance {
                conversation_id: id,
                user_id: member.user_id,
                delivered_seq: member.delivered_seq,
                read_seq: member.read_seq,
                is_news: false,
            })
            .collect();
        stores.conversations.advance_cursors(&cursors).await.expect("they move");
        assert_eq!(stores.messages.after(id, 0, 10_000).await, Ok(log));
    }
    sql
}

async fn what_is_filled_is_what_a_server_would_have_stored(fill: StorageConfig, live: StorageConfig) {
    const CONVERSATIONS: u64 = 40;
    let filled = filled(&fill, CONVERSATIONS, 2000).await;
    let lived = lived(&live, &filled.stores(), CONVERSATIONS).await;
    let all_settle = async {
        // In whole seconds of the database's clock.
        while lived.unsettled(ADA).await.expect("it is read") > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            lived.settle_all().await.expect("they settle");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), all_settle).await.expect("all settle");
    let list = async |stores: &Stores, user_id| {
        let rows = stores.conversations.conversations_of(user_id, 0, None, 1000).await.expect("it is read");
        (rows, stores.conversations.order_of(user_id).await.expect("it is read"))
    };
    for user_id in [ADA, 2, 7, 30, 45] {
        assert_eq!(filled.unsettled(user_id).await, Ok(0));
        let (rows, order) = list(&filled.stores(), user_id).await;
        assert_eq!((rows.clone(), order), list(&lived.stores(), user_id).await, "user {user_id}");
        if user_id == ADA {
            assert_eq!(rows.len() as u64, CONVERSATIONS);
            assert_eq!(rows.iter().filter(|row| row.conversation.owner_id != 0).count(), 8, "groups");
            assert!(rows.iter().all(|row| row.newest.0 == 25 && row.unread > 0 && row.member_count >= 2));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_filled_on_sqlite_is_what_a_server_would_have_stored() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let [fill, live] = folders.each_ref().map(|folder| sqlite_config(folder.path()));
    what_is_filled_is_what_a_server_would_have_stored(fill, live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_filled_on_mariadb_is_what_a_server_would_have_stored() {
    let server = MariaDb::shared().await;
    let (fill, live) = (mysql_config(server).await, mysql_config(server).await);
    what_is_filled_is_what_a_server_would_have_stored(fill, live).await;
}

#[tokio::test]
async fn an_account_that_is_there_gets_the_conversations() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = sqlite_config(folder.path());
    let stores = opened(&config).await.stores();
    for name in ["eve", "ada"] {
        stores.accounts.create_user(user(name, name)).await.expect("there is room");
    }
    let args = |user| FillArgs { user: Some(user), conversations: 11, messages: 50 };
    fill::run(args(2), &config.url).await.expect("there is room");
    let order = stores.conversations.order_of(2).await.expect("it is read");
    assert_eq!(order.len(), 11);
    let refusal = fill::run(args(999), &config.url).await.expect_err("there is no such user").to_string();
    assert!(refusal.contains("no user 999"), "{refusal}");
}
