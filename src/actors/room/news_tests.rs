//! Changes that the database carries out without confirming it, at once or in a moment: they are told all the same, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::testing::{Node, eventually, group};
use crate::domain::Result;
use crate::protocol::cluster::room_request::Command;
use crate::protocol::cluster::{AnswerRequest, Ban, ChangeMember, ChangeRoom, Dissolve, Join, RemoveMember};
use crate::protocol::v1::{Message, Send};
use crate::protocol::{ErrorCode, MessageKind};
use crate::storage::memory::{Fault, MemoryStores};
use crate::storage::{
    BanRecord, InviteRecord, JoinRequestRecord, MemberRecord, RoomChange, RoomStore, Saying, StoreError,
    StoreResult, Stores, Unmet,
};

fn text(room: u64, client_id: &str) -> Send {
    Send { conversation_id: room, client_id: client_id.to_owned(), text: "hi".to_owned(), ..Send::default() }
}

/// What the log says by itself.
async fn said(node: &Node, room: u64) -> Vec<String> {
    let of_system = |message: &Message| message.kind() == MessageKind::System;
    node.log_of(room).await.into_iter().filter(of_system).map(|message| message.text).collect()
}

async fn says(node: &Node, room: u64, wanted: &[&str]) {
    let pause = tokio::time::interval(Duration::from_millis(5));
    tokio::pin!(pause);
    let wait = async {
        while said(node, room).await.len() < wanted.len() {
            pause.tick().await;
        }
    };
    let _ = tokio::time::timeout(super::testing::PATIENCE, wait).await;
    assert_eq!(said(node, room).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_stored_and_not_confirmed_is_done_and_told() {
    let memory = MemoryStores::default();
    let (node, database) = doubtful("doubt", &memory).await;
    let rooms = node.actors.rooms();
    let cases: Vec<(Command, &str)> = vec![
        (
            Command::ChangeRoom(ChangeRoom { name: Some("den".into()), ..ChangeRoom::default() }),
            "renamed the group to den",
        ),
        (Command::RemoveMember(RemoveMember { user_id: 2 }), "removed a member from the group"),
        (Command::Ban(Ban { user_id: 2, reason: String::new() }), "banned a member from the group"),
        (
            Command::ChangeMember(ChangeMember { user_id: 2, role: Some(1), silenced_until_ms: None }),
            "made a member an admin",
        ),
        (
            Command::ChangeMember(ChangeMember { user_id: 2, role: Some(2), silenced_until_ms: None }),
            "handed the group over to a member",
        ),
        (Command::Dissolve(Dissolve {}), "dissolved the group"),
    ];
    for (command, text) in cases {
        let room = group(&memory, 1, vec![2, 3]).await;
        rooms.send(1, self::text(room, "a")).await.expect("it is stored");
        database.fails(How::Stored);
        // It looks what became of it, and that is the answer.
        rooms.change(1, room, command.clone()).await.unwrap_or_else(|error| panic!("{command:?}: {error:?}"));
        says(&node, room, &[text]).await;
    }
    // One who joins is in it, and may write.
    let room = group(&memory, 1, vec![2]).await;
    rooms.send(1, text(room, "a")).await.expect("it is stored");
    database.fails(How::Stored);
    rooms.join(7, room, Join::default()).await.expect("it is so");
    rooms.send(7, text(room, "b")).await.expect("one is in");
    says(&node, room, &["joined the group"]).await;
    // What was not stored is not told, and done by a repeat.
    database.fails(How::Lost);
    let rename = Command::ChangeRoom(ChangeRoom { name: Some("den".into()), ..ChangeRoom::default() });
    let error = rooms.change(1, room, rename.clone()).await.expect_err("nobody knows");
    assert_eq!(error.code, ErrorCode::Unavailable);
    rooms.change(1, room, rename).await.expect("the repeat is confirmed");
    says(&node, room, &["joined the group", "renamed the group to den"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_answered_without_confirmation_lets_its_asker_in_and_tells() {
    let memory = MemoryStores::default();
    let (node, database) = doubtful("answer", &memory).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    let approve = ChangeRoom { join_policy: Some(1), ..ChangeRoom::default() };
    rooms.change(1, room, Command::ChangeRoom(approve)).await.expect("it is stored");
    assert!(rooms.join(9, room, Join::default()).await.expect("it is kept"), "it was only asked");
    database.fails(How::Stored);
    let accept = Command::AnswerRequest(AnswerRequest { user_id: 9, accept: true });
    rooms.change(1, room, accept).await.expect("it is done");
    rooms.send(9, text(room, "a")).await.expect("one is in");
    says(&node, room, &["lets in those who ask from now on", "let a new member in"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_was_not_confirmed_is_told_once() {
    let memory = MemoryStores::default();
    let node = Node::start("pin", &memory).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    let seq = rooms.send(1, text(room, "a")).await.expect("it is stored").seq;
    for (remove, told) in
        [(false, vec!["pinned a message"]), (true, vec!["pinned a message", "took a pin off a message"])]
    {
        memory.fail_next(1, Fault::UnsettledStored);
        rooms.pin(1, room, seq, remove).await.expect("it is so");
        says(&node, room, &told).await;
        rooms.pin(1, room, seq, remove).await.expect("a repeat changes nothing");
        rooms.send(1, text(room, &format!("after-{remove}"))).await.expect("it is stored");
        assert_eq!(said(&node, room).await, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_taken_back_is_not_pinned() {
    let memory = MemoryStores::default();
    let node = Node::start("recall", &memory).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    let seq = rooms.send(1, text(room, "a")).await.expect("it is stored").seq;
    node.door.send(false).expect("the node lives");
    let (reply, recalled) = crate::cluster::ReplyTo::channel();
    let recall =
        crate::protocol::v1::Recall { conversation_id: room, target_seq: seq, client_id: "r".into() };
    let groups = node.groups.load(Ordering::Relaxed);
    rooms.post_entry(1, 0, room, Command::Recall(recall), reply);
    eventually("the recall is on its way", || node.groups.load(Ordering::Relaxed) > groups).await;
    let error = rooms.pin(1, room, seq, false).await.expect_err("it is about to go");
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    node.door.send(true).expect("the node lives");
    recalled.await.expect("it is stored");
    assert_eq!(memory.stores().marks.pins(room).await, Ok(Vec::new()));
}

/// How a change is not confirmed.
#[derive(Clone, Copy)]
enum How {
    /// It is stored.
    Stored,
    /// It is not, and never will be.
    Lost,
    /// It is stored a moment later.
    Late,
}

/// Rooms whose next change is not confirmed.
#[derive(Clone)]
struct Doubtful {
    rooms: Arc<dyn RoomStore>,
    next: Arc<Mutex<Option<How>>>,
    /// Changes asked for.
    changes: Arc<AtomicUsize>,
}

impl Doubtful {
    fn fails(&self, how: How) {
        *self.next.lock() = Some(how);
    }
}

/// A node over such rooms.
async fn doubtful(name: &str, memory: &MemoryStores) -> (Node, Doubtful) {
    let doubtful = Doubtful { rooms: memory.stores().rooms, next: Arc::default(), changes: Arc::default() };
    let rooms = Arc::new(doubtful.clone());
    let node = Node::start_over(name, memory, |_| {}, |stores| Stores { rooms, ..stores }).await;
    (node, doubtful)
}

/// When they are.
const LATE_BY: Duration = Duration::from_secs(2);

#[async_trait]
impl RoomStore for Doubtful {
    async fn change_room(&self, change: &RoomChange) -> StoreResult<Option<Unmet>> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        let Some(how) = self.next.lock().take() else { return self.rooms.change_room(change).await };
        let (rooms, change) = (self.rooms.clone(), change.clone());
        match how {
            How::Stored => {
                rooms.change_room(&change).await?;
            }
            How::Lost => {}
            How::Late => {
                tokio::spawn(async move {
                    tokio::time::sleep(LATE_BY).await;
                    rooms.change_room(&change).await
                });
            }
        }
        Err(StoreError::Unsettled("the commit hangs".to_owned()))
    }
    async fn members_page(&self, id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<MemberRecord>> {
        self.rooms.members_page(id, after_id, limit).await
    }
    async fn join_requests(&self, id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<JoinRequestRecord>> {
        self.rooms.join_requests(id, after_id, limit).await
    }
    async fn bans(&self, id: u64, after_id: u64, limit: u32) -> StoreResult<Vec<BanRecord>> {
        self.rooms.bans(id, after_id, limit).await
    }
    async fn invites(&self, id: u64) -> StoreResult<Vec<InviteRecord>> {
        self.rooms.invites(id).await
    }
    async fn sayings(&self, id: u64) -> StoreResult<Vec<Saying>> {
        self.rooms.sayings(id).await
    }
    async fn owing(&self, before_ms: u64, after_id: u64, limit: u32) -> StoreResult<Vec<u64>> {
        self.rooms.owing(before_ms, after_id, limit).await
    }
    async fn invite(&self, code: &str) -> StoreResult<Option<InviteRecord>> {
        self.rooms.invite(code).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_is_stored_later_than_it_was_asked_for_holds_and_is_told() {
    let memory = MemoryStores::default();
    let (node, database) = doubtful("late", &memory).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    rooms.send(2, text(room, "a")).await.expect("one is in");
    database.fails(How::Late);
    let ban = Command::Ban(Ban { user_id: 2, reason: String::new() });
    let outcome: Result<()> = rooms.change(1, room, ban).await;
    assert_eq!(outcome.expect_err("nobody knows").code, ErrorCode::Unavailable);
    rooms.send(2, text(room, "b")).await.expect("one is in until it is stored");
    says(&node, room, &["banned a member from the group"]).await;
    let error = rooms.send(2, text(room, "c")).await.expect_err("one is banned");
    assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_the_same_again_changes_nothing() {
    let memory = MemoryStores::default();
    let (node, database) = doubtful("ask", &memory).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    let approve = ChangeRoom { join_policy: Some(1), ..ChangeRoom::default() };
    rooms.change(1, room, Command::ChangeRoom(approve)).await.expect("it is stored");
    let ask = async |message: &str| {
        let join = Join { message: message.to_owned(), ..Join::default() };
        assert!(rooms.join(9, room, join).await.expect("it is kept"), "it was only asked");
        database.changes.load(Ordering::Relaxed)
    };
    let first = ask("let me in").await;
    assert_eq!(ask("let me in").await, first);
    assert_eq!(ask("please").await, first + 1);
    for again in 2..6 {
        assert_eq!(ask(&format!("please {again}")).await, first + again);
    }
    // With the next change one waits, as with asking again after one has thought better of it.
    let changes = || database.changes.load(Ordering::Relaxed);
    let waits = async |message: &str| {
        let join = Join { message: message.to_owned(), ..Join::default() };
        let error = rooms.join(9, room, join).await.expect_err("it is too soon");
        assert_eq!(error.code, ErrorCode::ResourceExhausted);
        assert!((1..=60_000).contains(&error.retry_after_ms), "{error:?}");
    };
    waits("pretty please").await;
    assert_eq!(ask("please 5").await, first + 5, "it says so already");
    let withdraw = Command::AnswerRequest(AnswerRequest { user_id: 9, accept: false });
    rooms.change(9, room, withdraw).await.expect("it is taken back");
    waits("let me in").await;
    assert_eq!(changes(), first + 6);
    // Others ask as they like.
    let join = Join { message: "me too".to_owned(), ..Join::default() };
    assert!(rooms.join(8, room, join).await.expect("it is kept"), "it was only asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_that_has_not_heard_of_new_settings_lets_nobody_in_by_the_old_ones() {
    let memory = MemoryStores::default();
    let (old, new) = (Node::start("old", &memory).await, Node::start("new", &memory).await);
    let room = group(&memory, 1, vec![2]).await;
    old.actors.rooms().send(1, text(room, "a")).await.expect("it is stored");
    let close = ChangeRoom { join_policy: Some(2), history_open: Some(true), ..ChangeRoom::default() };
    new.actors.rooms().change(1, room, Command::ChangeRoom(close)).await.expect("it is stored");
    let refused = old.actors.rooms().join(7, room, Join::default()).await.expect_err("it takes a code");
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    // What new members see is decided by what holds now too.
    let open = ChangeRoom { history_open: Some(false), ..ChangeRoom::default() };
    new.actors.rooms().change(1, room, Command::ChangeRoom(open)).await.expect("it is stored");
    old.actors.rooms().add_members(1, room, vec![8]).await.expect("one is added");
    let added = memory.stores().conversations.member(room, 8).await.expect("memory answers").expect("there");
    assert!(added.first_seq > 1, "the past is closed: {added:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_told_how_it_looks_with_the_cursors_that_they_have_moved() {
    let memory = MemoryStores::default();
    let never = Duration::from_secs(3600);
    let node = Node::start_with("told", &memory, |config| config.room.cursor_lazy_flush = never).await;
    let rooms = node.actors.rooms();
    let room = group(&memory, 1, vec![2]).await;
    let seq = rooms.send(1, text(room, "a")).await.expect("it is stored").seq;
    let rename = ChangeRoom { name: Some("den".into()), ..ChangeRoom::default() };
    rooms.change(1, room, Command::ChangeRoom(rename)).await.expect("it is stored");
    let conversations = memory.stores().conversations;
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    let stored = async {
        loop {
            pause.tick().await;
            let member = conversations.member(room, 1).await.expect("memory answers").expect("there");
            if member.read_seq >= seq {
                return;
            }
        }
    };
    tokio::time::timeout(super::testing::PATIENCE, stored).await.expect("whoever writes has read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_had_to_say_when_it_ended_is_said_once_by_the_next() {
    let memory = MemoryStores::default();
    let (old, new) = (Node::start("old", &memory).await, Node::start("new", &memory).await);
    let room = group(&memory, 1, vec![2]).await;
    old.actors.rooms().opened(1, room).await.expect("it is told");
    says(&old, room, &["created the group rooks"]).await;
    // It ends between the changes and their messages: nothing of it reaches the log any more.
    old.door.send(false).expect("the node lives");
    let rename = ChangeRoom {
        name: Some("den".into()),
        description: Some("of rooks".into()),
        ..ChangeRoom::default()
    };
    old.actors.rooms().change(1, room, Command::ChangeRoom(rename)).await.expect("it is stored");
    old.actors.rooms().join(7, room, Join::default()).await.expect("it is stored");
    let all = [
        "created the group rooks",
        "renamed the group to den",
        "changed the description",
        "joined the group",
    ];
    assert_eq!(said(&new, room).await, all[..1]);
    let owing = |before_ms| new.stores.rooms.owing(before_ms, 0, 10);
    assert_eq!(owing(1 + crate::clock::now_ms()).await, Ok(vec![room]));
    for _ in 0..2 {
        new.actors.rooms().say_owed(room).await.expect("it says so");
    }
    says(&new, room, &all).await;
    assert_eq!(owing(1 + crate::clock::now_ms()).await, Ok(Vec::new()));
    // It had not ended, after all.
    old.door.send(true).expect("the node lives");
    old.actors.rooms().send(1, text(room, "a")).await.expect("it is stored");
    new.actors.rooms().say_owed(room).await.expect("nothing is owed");
    assert_eq!(said(&old, room).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_whose_node_ends_before_it_says_so_is_told_by_the_next() {
    let memory = MemoryStores::default();
    let (old, new) = (Node::start("old", &memory).await, Node::start("new", &memory).await);
    let room = group(&memory, 1, vec![2]).await;
    old.actors.rooms().opened(1, room).await.expect("it is told");
    let seq = old.actors.rooms().send(1, text(room, "a")).await.expect("it is stored").seq;
    old.door.send(false).expect("the node lives");
    old.actors.rooms().pin(1, room, seq, false).await.expect("it is pinned");
    new.actors.rooms().say_owed(room).await.expect("it says so");
    says(&new, room, &["created the group rooks", "pinned a message"]).await;
    let told = new.log_of(room).await.pop().expect("there is a log");
    assert_eq!((told.target_seq, told.sender_id), (seq, 1));
    assert_eq!(new.stores.rooms.sayings(room).await, Ok(Vec::new()));
}
