//! The services on a node of one, over the stores in memory.

use std::sync::Arc;

use async_trait::async_trait;

use super::accounts::LINE_DEVICE;
use super::conversations::GroupRequest;
use super::lines::Pull;
use super::{Messages, Operations, Parts, Services};
use crate::actors::Actors;
use crate::actors::session::{Handler, Session};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::protocol::v1::{ClientFrame, Cursor, Message, Send, SyncRequest};
use crate::protocol::{ContactState, ErrorCode};
use crate::storage::cache::{Cache, CachedStores};
use crate::storage::memory::{Fault, MemoryStores};
use crate::storage::{RoomChange, RoomWrite, Saying};

/// No client comes in these tests.
struct NoClients;

#[async_trait]
impl Handler for NoClients {
    fn handle_now(&self, _: &Session, frame: ClientFrame) -> Option<ClientFrame> {
        Some(frame)
    }
    async fn handle(&self, _: &Session, _: ClientFrame) {}
    fn forget(&self, _: &str) {}
}

struct Node {
    services: Services,
    memory: MemoryStores,
    cluster: Cluster,
}

impl Node {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(set: impl FnOnce(&mut Config)) -> Self {
        Self::over(MemoryStores::default(), set).await
    }

    /// Over a database that others may share.
    async fn over(memory: MemoryStores, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        set(&mut config);
        config.cluster.listen = "127.0.0.1:0".to_owned();
        config.accounts.argon2_memory_kib = 8;
        config.accounts.argon2_passes = 1;
        config.accounts.devices_max = 2;
        let cluster = Cluster::bind(&config).await.expect("port 0 can be bound");
        let cache = Cache::start(&config.cache).expect("no Redis is named");
        let stores = CachedStores::over(memory.stores(), cache.clone());
        let actors = Actors::new(cluster.name(), &config, stores.arbiters());
        actors.connect(cluster.clone(), Arc::new(NoClients));
        let parts = Parts {
            readers: stores.readers(),
            arbiters: stores.arbiters(),
            cache,
            events: actors.events(),
            presence: actors.presence(),
            rooms: actors.rooms(),
            messages: Messages::new(&config, stores.readers(), actors.rooms(), actors.events()),
            operations: Operations::new(&config.admin, actors.clone(), memory.stores()),
        };
        let services = Services::new(parts, &config).expect("the configuration is valid");
        cluster.start(Arc::new(actors), cluster.info()).await.expect("a node of one needs nobody");
        Self { services, memory, cluster }
    }

    async fn user(&self, name: &str) -> u64 {
        self.services.accounts.sign_up(name, "secret1", "").await.expect("signed up").id
    }

    async fn says(&self, by: u64, to: u64, text: &str) -> (u64, u64) {
        let send = Send {
            to_user_id: to,
            client_id: format!("{by}-{text}"),
            text: text.to_owned(),
            ..Send::default()
        };
        let sent = self.services.messages.send(by, send).await.expect("sent");
        (sent.conversation_id, sent.seq)
    }

    async fn stop(self) {
        self.cluster.shutdown().await;
    }
}

/// The texts that a pull gives, and the pull at its end.
async fn texts(mut pull: Pull) -> (Vec<String>, Pull) {
    let mut texts = Vec::new();
    loop {
        let page = pull.next_page().await.expect("the stores answer");
        if !page.more {
            return (texts, pull);
        }
        for line in page.lines {
            texts.push(line.split_once("text=").expect("a line ends with its text").1.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_until_its_device_is_signed_out() {
    let node = Node::start().await;
    let accounts = &node.services.accounts;
    let user_id = node.user("ann").await;
    let signed_in = accounts.sign_in("ANN", "secret1", "phone", "").await.expect("regardless of case");
    assert_eq!(accounts.authenticate(&signed_in.token).await, Ok(signed_in.identity.clone()));
    assert_eq!(accounts.remembered(&signed_in.token), Some(signed_in.identity.clone()));
    accounts.sign_out(user_id, signed_in.identity.device_id).await.expect("it is there");
    assert_eq!(accounts.remembered(&signed_in.token), None);
    let refused = accounts.authenticate(&signed_in.token).await.expect_err("it was signed out");
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    let again = accounts.sign_out(user_id, signed_in.identity.device_id).await.expect_err("it has gone");
    assert_eq!(again.code, ErrorCode::NotFound);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_gives_the_one_of_exactly_the_name_first_and_everybody_once() {
    let node = Node::start().await;
    let mut all = Vec::new();
    for name in ["anna", "ann-b", "annc", "ANN", "annd"] {
        all.push(node.user(name).await);
    }
    let accounts = &node.services.accounts;
    for limit in 1..=6 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = accounts.search("ann", after, limit).await.expect("it is searched");
            assert!(
                page.len() <= limit as usize && !(page.is_empty() && next.is_some()),
                "{limit}: {page:?}"
            );
            found.extend(page.into_iter().map(|user| user.id));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [all[3], all[0], all[1], all[2], all[4]], "{limit} a page");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_and_a_wrong_password_are_refused_alike() {
    let node = Node::start().await;
    let accounts = &node.services.accounts;
    let user_id = node.user("ann").await;
    let wrong = accounts.sign_in("ann", "secret2", "", "").await.expect_err("a wrong password");
    let unknown = accounts.sign_in("bob", "secret1", "", "").await.expect_err("an unknown name");
    let impossible = accounts.sign_in("", "secret1", "", "").await.expect_err("an impossible name");
    assert_eq!(wrong.code, ErrorCode::Unauthenticated);
    assert_eq!((&wrong, &wrong), (&unknown, &impossible));
    accounts.deactivate(user_id).await.expect("it is there");
    let disabled = accounts.sign_in("ann", "secret1", "", "").await.expect_err("it is disabled");
    assert_eq!(disabled.code, ErrorCode::PermissionDenied);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_too_many_signs_the_oldest_out() {
    let node = Node::start().await;
    let accounts = &node.services.accounts;
    let user_id = node.user("ann").await;
    let mut tokens = Vec::new();
    for name in ["a", "b", "c"] {
        tokens.push(accounts.sign_in("ann", "secret1", name, "").await.expect("signed in").token);
    }
    let names: Vec<String> =
        accounts.devices(user_id).await.expect("listed").into_iter().map(|device| device.name).collect();
    assert_eq!(names, ["b", "c"]);
    assert!(accounts.authenticate(&tokens[0]).await.is_err());
    assert!(accounts.authenticate(&tokens[2]).await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_signs_the_other_devices_out() {
    let node = Node::start().await;
    let accounts = &node.services.accounts;
    node.user("ann").await;
    let other = accounts.sign_in("ann", "secret1", "other", "").await.expect("signed in");
    let here = accounts.sign_in("ann", "secret1", "here", "").await.expect("signed in");
    let wrong = accounts.change_password(&here.identity, "secret2", "secret3").await;
    assert_eq!(wrong.expect_err("the old one is wrong").code, ErrorCode::PermissionDenied);
    accounts.change_password(&here.identity, "secret1", "secret3").await.expect("changed");
    assert!(accounts.authenticate(&here.token).await.is_ok());
    assert!(accounts.authenticate(&other.token).await.is_err());
    assert!(accounts.sign_in("ann", "secret1", "", "").await.is_err());
    accounts.sign_in("ann", "secret3", "", "").await.expect("the new one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_in_doubt_is_settled_by_reading_back() {
    let node = Node::start().await;
    node.memory.fail_next(1, Fault::UnsettledStored);
    let user = node.services.accounts.sign_up("ann", "secret1", "").await.expect("it was stored");
    assert_eq!(user.username, "ann");
    node.memory.fail_next(1, Fault::UnsettledLost);
    let lost = node.services.accounts.sign_up("bob", "secret1", "").await.expect_err("it was not stored");
    assert_eq!(lost.code, ErrorCode::Unavailable);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_connections_share_one_device() {
    let node = Node::start().await;
    let user_id = node.user("ann").await;
    let accounts = &node.services.accounts;
    let first = accounts.sign_in_line("ann", "secret1").await.expect("signed in");
    let second = accounts.sign_in_line("ann", "secret1").await.expect("signed in");
    assert_eq!(first, second);
    assert_eq!((first.user_id, first.device_name.as_str()), (user_id, LINE_DEVICE));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_meets_another_makes_friends() {
    let node = Node::start().await;
    let contacts = &node.services.contacts;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let state = async |by, other| {
        let list = contacts.list(by, 0, 10).await.expect("listed");
        list.iter().find(|row| row.contact_id == other).map(|row| row.state)
    };
    contacts.request(ann, bob, "hi").await.expect("asked");
    assert_eq!(
        (state(ann, bob).await, state(bob, ann).await),
        (Some(ContactState::Requested), Some(ContactState::Invited))
    );
    assert!(contacts.accept(ann, bob).await.is_err(), "one can't accept one's own request");
    contacts.request(bob, ann, "").await.expect("asked back");
    assert_eq!(
        (state(ann, bob).await, state(bob, ann).await),
        (Some(ContactState::Friend), Some(ContactState::Friend))
    );
    assert_eq!(contacts.request(ann, bob, "").await.expect("no change").state, ContactState::Friend);
    contacts.remove(ann, bob).await.expect("removed");
    assert_eq!((state(ann, bob).await, state(bob, ann).await), (None, None));
    assert_eq!(contacts.request(ann, ann, "").await.expect_err("oneself").code, ErrorCode::InvalidArgument);
    assert_eq!(contacts.request(ann, 99, "").await.expect_err("nobody").code, ErrorCode::NotFound);
    contacts.befriend(ann, bob).await.expect("at once");
    assert_eq!(state(bob, ann).await, Some(ContactState::Friend));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_created_again_under_its_client_id_is_the_first_one() {
    let node = Node::start().await;
    let conversations = &node.services.conversations;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let request = |client_id: &str| GroupRequest {
        name: "tea".to_owned(),
        client_id: client_id.to_owned(),
        ..GroupRequest::default()
    };
    // Stored and not confirmed: it is looked for.
    node.memory.fail_next(1, Fault::UnsettledStored);
    let (first, created) = conversations.create_group(ann, request("g1")).await.expect("it is there");
    assert!(created);
    let (again, created) = conversations.create_group(ann, request("g1")).await.expect("it is there");
    assert_eq!((again.conversation_id, created), (first.conversation_id, false));
    node.memory.fail_next(1, Fault::UnsettledLost);
    let lost = conversations.create_group(ann, request("g2")).await.expect_err("nothing was stored");
    assert_eq!(lost.code, ErrorCode::Unavailable);
    let (second, created) = conversations.create_group(ann, request("g2")).await.expect("created");
    assert!(created && second.conversation_id != first.conversation_id);
    let (theirs, created) = conversations.create_group(bob, request("g1")).await.expect("created");
    assert!(created && theirs.conversation_id != first.conversation_id, "the names are each user's own");
    let (listed, _) = conversations.list(ann, "", 10).await.expect("listed");
    assert_eq!(listed.len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_member_id_refuses_the_whole_group() {
    let node = Node::start().await;
    let conversations = &node.services.conversations;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let group = |member_ids: Vec<u64>| GroupRequest {
        name: "tea".to_owned(),
        description: String::new(),
        member_ids,
        ..GroupRequest::default()
    };
    for (ids, code) in [
        (vec![bob, 99], ErrorCode::NotFound),
        (vec![bob, bob], ErrorCode::InvalidArgument),
        (vec![ann], ErrorCode::InvalidArgument),
        ((1..=1001).collect(), ErrorCode::InvalidArgument),
    ] {
        let refused = conversations.create_group(bob.min(ann), group(ids)).await.expect_err("a bad id");
        assert_eq!((refused.code, refused.field.as_ref()), (code, "member_ids"));
    }
    let (none, _) = conversations.list(ann, "", 10).await.expect("listed");
    assert!(none.is_empty());
    let (created, _) = conversations.create_group(ann, group(vec![bob])).await.expect("created");
    assert_eq!(created.member_count, 2);
    let (members, more) = conversations.members(bob, created.conversation_id, 0, 1).await.expect("a member");
    assert_eq!((members.len(), more, members[0].user.username.as_str()), (1, true, "ann"));
    let stranger = node.user("cid").await;
    assert!(conversations.members(stranger, created.conversation_id, 0, 10).await.is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_gives_each_message_of_others_once() {
    let node = Node::start().await;
    let lines = &node.services.lines;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    for text in ["1", "2", "3"] {
        node.says(ann, bob, text).await;
    }
    node.says(bob, ann, "mine").await;
    let (conversation_id, seq) = node.says(ann, bob, "live").await;
    lines.note(bob, conversation_id, seq);
    node.says(ann, bob, "6").await;
    let (first, pull) = texts(lines.pull(bob).await.expect("begun")).await;
    assert_eq!(
        first,
        ["1", "2", "3", "6"],
        "what was written live counts as given, and one's own is not given"
    );
    // Not marked before its end was written.
    drop(pull);
    let (again, pull) = texts(lines.pull(bob).await.expect("begun")).await;
    assert_eq!(again, first);
    pull.done().await.expect("marked");
    assert!(texts(lines.pull(bob).await.expect("begun")).await.0.is_empty());
    node.says(ann, bob, "7").await;
    assert_eq!(texts(lines.pull(bob).await.expect("begun")).await.0, ["7"]);
    assert_eq!(texts(lines.pull(ann).await.expect("begun")).await.0, ["mine"]);
    let stored = node.memory.stores().accounts.line_given(bob).await.expect("read");
    assert_eq!(stored, [(conversation_id, "1-6".to_owned())], "the ranges have grown into one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_as_given_stays_noted() {
    let node = Node::start().await;
    let lines = &node.services.lines;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let (conversation_id, seq) = node.says(ann, bob, "live").await;
    lines.note(bob, conversation_id, seq);
    node.memory.fail_next(1, Fault::Unavailable);
    assert!(lines.flush(bob).await.is_err());
    lines.flush(bob).await.expect("the store is back");
    assert!(texts(lines.pull(bob).await.expect("begun")).await.0.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_tells_all_that_was_hidden_in_as_many_pages_as_it_takes() {
    let node = Node::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let (id, _) = node.says(ben, ann, "hello").await;
    let marks = node.memory.stores().marks;
    // More than one page tells, three in each moment.
    for seq in 1..=5000 {
        marks.hide(ann, id, &[seq], 1000 + seq / 3).await.expect("hidden");
    }
    let messages = &node.services.messages;
    let (mut since, mut told, mut pages) = ("1".to_owned(), Vec::new(), 0);
    loop {
        let request = SyncRequest { since, ..SyncRequest::default() };
        let page = messages.sync(ann, request, 1 << 20).await.expect("a page");
        told.extend(page.hidden.iter().flat_map(|hidden| hidden.seqs.clone()));
        (since, pages) = (page.sync_token, pages + 1);
        if !page.hidden_more {
            break;
        }
    }
    assert!(pages >= 3, "{pages}");
    assert_eq!(told, (1..=5000).collect::<Vec<u64>>(), "each once, in the order in which they were hidden");
    // A page that may be small tells few of them, and the whole of a moment.
    let request = SyncRequest { since: "1".to_owned(), ..SyncRequest::default() };
    let page = messages.sync(ann, request, 5000).await.expect("a page");
    assert!(page.hidden_more && page.hidden[0].seqs.last().is_some_and(|seq| seq % 3 == 2), "{page:?}");
    let request = SyncRequest { since: "1".to_owned(), ..SyncRequest::default() };
    assert!(messages.sync(ben, request, 1 << 20).await.expect("a page").hidden.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_in_a_sync_comes_once_in_order_and_is_not_listed_again() {
    let node = Node::start().await;
    let (ann, ben, cat) = (node.user("ann").await, node.user("ben").await, node.user("cat").await);
    let mut ids = Vec::new();
    for other in [ben, cat] {
        for at in 0..6 {
            let (id, _) = node.says(other, ann, &format!("text {at}")).await;
            if at == 0 {
                ids.push(id);
            }
        }
    }
    let (third, _) = node.says(ben, cat, "not ann's").await;
    let messages = &node.services.messages;
    let cursor = |conversation_id, seq| Cursor { conversation_id, seq };
    let all: Vec<(u64, u64)> =
        (3..=6).map(|seq| (ids[1], seq)).chain((1..=6).map(|seq| (ids[0], seq))).collect();
    for limit in 1..=11 {
        let (mut came, mut at) = (Vec::new(), vec![cursor(ids[1], 2), cursor(ids[0], 4), cursor(ids[0], 0)]);
        loop {
            let request = SyncRequest { cursors: at.clone(), limit, ..SyncRequest::default() };
            let page = messages.sync(ann, request, 1 << 20).await.expect("a page");
            assert!(page.messages.len() <= limit as usize && !(page.more && page.messages.is_empty()));
            for message in &page.messages {
                came.push((message.conversation_id, message.seq));
                at.retain(|cursor| cursor.conversation_id != message.conversation_id);
                at.push(cursor(message.conversation_id, message.seq));
            }
            // In the order in which they were named first.
            at.sort_by_key(|cursor| cursor.conversation_id != ids[1]);
            if !page.more {
                assert!(page.conversations.is_empty(), "both were named: {page:?}");
                break;
            }
        }
        assert_eq!(came, all, "limit {limit}");
    }
    let one = SyncRequest { cursors: vec![cursor(ids[0], 6)], ..SyncRequest::default() };
    let page = messages.sync(ann, one, 1 << 20).await.expect("a page");
    let listed: Vec<u64> = page.conversations.iter().map(|one| one.conversation_id).collect();
    assert_eq!((page.messages.len(), listed), (0, vec![ids[1]]));
    // Its token knows of both.
    let next = SyncRequest { since: page.sync_token, ..SyncRequest::default() };
    let page = messages.sync(ann, next, 1 << 20).await.expect("a page");
    assert!(page.conversations.is_empty(), "{page:?}");
    for (wrong, code) in [(third, ErrorCode::PermissionDenied), (999, ErrorCode::NotFound)] {
        let request =
            SyncRequest { cursors: vec![cursor(ids[0], 0), cursor(wrong, 0)], ..SyncRequest::default() };
        assert_eq!(messages.sync(ann, request, 1 << 20).await.expect_err("refused").code, code);
    }
    node.stop().await;
}

/// Whoever has claimed it has ended before it was sent: it is sent all the same, once, and meanwhile not taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_before_a_crash_is_sent_once() {
    let node = Node::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let (id, _) = node.says(ann, ben, "hello").await;
    let schedule = &node.services.schedule;
    let send = |name: &str| Send {
        conversation_id: id,
        client_id: name.to_owned(),
        text: name.to_owned(),
        send_at_ms: crate::clock::now_ms() + 50,
        ..Send::default()
    };
    let mut kept = Vec::new();
    for name in ["claimed", "sent and claimed"] {
        kept.push(schedule.add(ann, send(name)).await.expect("kept").scheduled_id);
        assert_eq!(node.memory.stores().marks.claim(kept[kept.len() - 1]).await, Ok(true));
    }
    // The second one was even stored.
    let stored = Send { send_at_ms: 0, ..send("sent and claimed") };
    node.services.messages.send(ann, stored).await.expect("stored");
    assert_eq!(schedule.list(ann, 0, 9).await.expect("listed"), []);
    for id in kept {
        let refused = schedule.cancel(ann, id).await.expect_err("it may have been sent");
        assert_eq!(refused.code, ErrorCode::NotFound);
    }
    schedule.start(std::time::Duration::from_millis(10));
    let log = node.memory.stores().messages;
    let due = node.memory.stores().marks;
    let done = async {
        while !due.due(u64::MAX, (0, 0), 9).await.expect("read").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), done).await.expect("it is sent");
    let log = log.after(id, 0, 99).await.expect("read");
    let mut texts: Vec<&str> = log.iter().map(|message| message.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["claimed", "hello", "sent and claimed"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_one_sends_while_its_account_is_erased() {
    let node = Node::start_with(|config| config.accounts.erase_messages = "remove".to_owned()).await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let signed_in = node.services.accounts.sign_in("ann", "secret1", "phone", "").await.expect("signed in");
    let (id, _) = node.says(ann, bob, "first").await;
    // Another device goes on as long as it may.
    let (services, accounts) = (node.services.clone(), node.memory.stores().accounts);
    let writes = tokio::spawn(async move {
        for number in 0u64.. {
            let user = accounts.user(ann).await.expect("memory answers").expect("the row stays");
            if user.disabled {
                return number;
            }
            let (client_id, text) = (format!("c{number}"), "secret".to_owned());
            let send = Send { conversation_id: id, client_id, text, ..Send::default() };
            // Refused by a full room, perhaps.
            let _ = services.messages.send(ann, send).await;
        }
        0
    });
    node.services.life.start();
    node.services.life.erase(&signed_in.identity, "secret1").await.expect("it is erased");
    assert!(writes.await.expect("no panic") > 0, "it wrote meanwhile");
    let log = node.memory.stores().messages;
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
    let emptied = async {
        loop {
            pause.tick().await;
            let messages = log.after(id, 0, 1_000_000).await.expect("memory answers");
            if messages.iter().all(|message| message.sender_id != ann || message.text.is_empty()) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), emptied).await.expect("nothing is left");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_that_nobody_told_has_to_say_is_looked_for() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let request = GroupRequest { name: "rooks".to_owned(), ..GroupRequest::default() };
    let (group, _) = node.services.conversations.create_group(ann, request).await.expect("it is created");
    // As by a node that ended before it said so.
    let saying = Saying { client_id: "system-1".into(), by: ann, text: "flew".into(), ..Saying::default() };
    let change = RoomChange {
        conversation_id: group.conversation_id,
        writes: vec![RoomWrite::Say(saying)],
        ..RoomChange::default()
    };
    assert_eq!(node.memory.stores().rooms.change_room(&change).await, Ok(None));
    node.services.sayings.start();
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
    let said = async {
        loop {
            pause.tick().await;
            let log = node.memory.stores().messages.after(group.conversation_id, 0, 10).await;
            if log.expect("memory answers").iter().any(|message| message.text == "flew") {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), said).await.expect("it is said");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_erased_account_had_on_its_way_is_emptied_though_its_node_ends() {
    let node = Node::start_with(|config| config.accounts.erase_messages = "remove".to_owned()).await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let signed_in = node.services.accounts.sign_in("ann", "secret1", "phone", "").await.expect("signed in");
    let (id, _) = node.says(ann, bob, "first").await;
    node.says(bob, ann, "mine").await;
    node.services.life.erase(&signed_in.identity, "secret1").await.expect("it is erased");
    let memory = node.memory.clone();
    node.stop().await;
    let now_ms = crate::clock::now_ms();
    let late = Message {
        conversation_id: id,
        seq: 3,
        sender_id: ann,
        text: "secret".to_owned(),
        created_at_ms: now_ms,
        ..Message::default()
    };
    memory.stores().messages.append(&[late]).await.expect("it is stored");
    // Another node, to which nothing was told; its own messages stay as it says.
    let next = Node::over(memory.clone(), |_| {}).await;
    let text =
        async || memory.stores().messages.after(id, 2, 1).await.expect("memory answers")[0].text.clone();
    next.services.life.empty_late(now_ms).await.expect("memory answers");
    assert_eq!(text().await, "secret", "it is too early");
    let due_ms = now_ms + 21_000;
    memory.fail_next(1, Fault::Unavailable);
    next.services.life.empty_late(due_ms).await.expect_err("storage is away");
    next.services.life.empty_late(due_ms).await.expect("memory answers");
    assert_eq!(text().await, "");
    assert_eq!(memory.stores().people.late_erasures(u64::MAX, 9).await, Ok(Vec::new()));
    next.stop().await;
}
