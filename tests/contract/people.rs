//! [`rookery::storage::PeopleStore`].

use rookery::domain::privacy::{Audience, Relation};
use rookery::protocol::{ContactState, MessageKind, NotificationLevel, PresenceStatus};
use rookery::storage::{
    BlockRecord, ContactRecord, DeviceRecord, Draft, LateErasure, PreferenceChange, PreferenceRecord,
    PresenceRecord, PrivacyChange, PrivacyRecord, ScheduledRecord, StoreError, Stores,
};

use crate::fixture::{group, message, remove_member, user};

fn block(user_id: u64, blocked_id: u64, created_at_ms: u64) -> BlockRecord {
    BlockRecord { user_id, blocked_id, created_at_ms }
}

async fn befriend(stores: &Stores, a: u64, b: u64) {
    let side = |user_id, contact_id| ContactRecord {
        user_id,
        contact_id,
        state: ContactState::Friend,
        message: String::new(),
        updated_at_ms: 1,
    };
    stores.contacts.put_contacts(&[side(a, b), side(b, a)]).await.expect("they are written");
}

pub async fn privacy_is_replaced_and_absent_where_nothing_was_said(stores: &Stores) {
    let mut strict = PrivacyRecord {
        user_id: 5,
        who_may_write: Audience::Contacts,
        who_may_add: Audience::Nobody,
        who_sees_last_seen: Audience::Everyone,
    };
    stores.people.change_privacy(5, strict.into()).await.expect("it is written");
    assert_eq!(stores.people.privacies(&[4, 5, 5, 6]).await, Ok(vec![strict]));
    strict.who_may_write = Audience::Everyone;
    let change = PrivacyChange { who_may_write: Some(Audience::Everyone), ..PrivacyChange::default() };
    stores.people.change_privacy(5, change).await.expect("it is changed");
    stores.people.change_privacy(5, PrivacyChange::default()).await.expect("nothing is changed");
    assert_eq!(stores.people.privacies(&[5]).await, Ok(vec![strict]));
    assert_eq!(stores.people.privacies(&[]).await, Ok(vec![]));
}

async fn presence(stores: &Stores, user_id: u64) -> Option<PresenceRecord> {
    let mut found = stores.people.presences(&[user_id]).await.expect("it is read");
    assert!(found.len() < 2);
    found.pop()
}

pub async fn what_is_said_of_presence_is_kept_and_times_never_move_back(stores: &Stores) {
    assert_eq!(presence(stores, 7).await, None);
    stores.people.note_seen(&[(8, 50), (7, 100), (7, 90)]).await.expect("noted");
    let seen = |status, text: &str, last_seen_ms| {
        Some(PresenceRecord { user_id: 7, status, text: text.to_owned(), last_seen_ms })
    };
    assert_eq!(presence(stores, 7).await, seen(PresenceStatus::Online, "", 100));
    stores.people.set_presence(7, PresenceStatus::Busy, "在开会 🎧", 150).await.expect("said");
    assert_eq!(presence(stores, 7).await, seen(PresenceStatus::Busy, "在开会 🎧", 150));
    stores.people.note_seen(&[(7, 120)]).await.expect("noted");
    assert_eq!(presence(stores, 7).await, seen(PresenceStatus::Busy, "在开会 🎧", 150));
    stores.people.note_seen(&[(7, 160)]).await.expect("noted");
    assert_eq!(presence(stores, 7).await, seen(PresenceStatus::Busy, "在开会 🎧", 160));
    stores.people.note_seen(&[]).await.expect("nothing is fine");
}

pub async fn one_who_is_invisible_is_not_seen(stores: &Stores) {
    stores.people.set_presence(7, PresenceStatus::Invisible, "", 100).await.expect("said");
    stores.people.note_seen(&[(7, 200)]).await.expect("not noted");
    stores.people.set_presence(7, PresenceStatus::Invisible, "hush", 300).await.expect("said again");
    let hidden = presence(stores, 7).await.expect("there");
    assert_eq!((hidden.last_seen_ms, hidden.text.as_str()), (100, "hush"));
    stores.people.set_presence(7, PresenceStatus::Online, "", 400).await.expect("back");
    assert_eq!(presence(stores, 7).await.map(|row| row.last_seen_ms), Some(400));
}

pub async fn many_are_seen_at_once(stores: &Stores) {
    let seen: Vec<(u64, u64)> = (1..=300).map(|id| (id, 1000 + id)).collect();
    stores.people.note_seen(&seen).await.expect("noted");
    let ids: Vec<u64> = (1..=301).collect();
    let mut found = stores.people.presences(&ids).await.expect("read");
    found.sort_by_key(|row| row.user_id);
    let found: Vec<(u64, u64)> = found.into_iter().map(|row| (row.user_id, row.last_seen_ms)).collect();
    assert_eq!(found, seen);
}

pub async fn a_block_ends_what_contact_there_was(stores: &Stores) {
    befriend(stores, 1, 2).await;
    befriend(stores, 1, 3).await;
    assert_eq!(stores.people.list_sizes(1).await, Ok((2, 0)));
    assert_eq!(stores.people.block(block(1, 2, 9)).await, Ok(true));
    assert_eq!(stores.people.block(block(1, 2, 10)).await, Ok(false));
    assert_eq!(stores.contacts.contact(1, 2).await, Ok(None));
    assert_eq!(stores.contacts.contact(2, 1).await, Ok(None));
    assert!(stores.contacts.contact(1, 3).await.expect("read").is_some());
    let friends = Relation { friends: true, ..Relation::default() };
    let blocks = Relation { blocks: true, ..Relation::default() };
    let relations = stores.people.relations(1, &[2, 3, 4, 2]).await;
    assert_eq!(relations, Ok(vec![blocks, friends, Relation::default(), blocks]));
    assert_eq!(stores.people.relations(2, &[1]).await, Ok(vec![blocks.reversed()]));
    assert_eq!(stores.people.list_sizes(1).await, Ok((1, 1)));
    assert_eq!(stores.people.unblock(2, 1).await, Ok(false));
    assert_eq!(stores.people.unblock(1, 2).await, Ok(true));
    assert_eq!(stores.people.unblock(1, 2).await, Ok(false));
    assert_eq!(stores.people.relations(1, &[2]).await, Ok(vec![Relation::default()]));
}

pub async fn blocks_are_paged_by_id(stores: &Stores) {
    for other in [9, 3, 7] {
        stores.people.block(block(1, other, other)).await.expect("blocked");
    }
    assert_eq!(stores.people.blocks(1, 0, 2).await, Ok(vec![block(1, 3, 3), block(1, 7, 7)]));
    assert_eq!(stores.people.blocks(1, 7, 2).await, Ok(vec![block(1, 9, 9)]));
    assert_eq!(stores.people.blocks(3, 0, 2).await, Ok(vec![]));
}

pub async fn a_direct_conversation_is_found_from_either_side(stores: &Stores) {
    assert_eq!(stores.people.direct_of(2, 1).await, Ok(None));
    let (made, _) = stores.conversations.direct(1, 2, 5).await.expect("it is created");
    assert_eq!(stores.people.direct_of(2, 1).await, Ok(Some(made.id)));
    assert_eq!(stores.people.direct_of(1, 2).await, Ok(Some(made.id)));
}

pub async fn preferences_change_where_told_to_and_are_each_members_own(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let change = PreferenceChange { pinned: Some(true), muted_until_ms: Some(77), ..Default::default() };
    assert_eq!(stores.people.set_preferences(1, id, change, 20).await, Ok(true));
    let change = PreferenceChange {
        archived: Some(true),
        notifications: Some(NotificationLevel::Mentions),
        hidden_before_seq: Some(4),
        unread_before_seq: Some(6),
        ..Default::default()
    };
    assert_eq!(stores.people.set_preferences(1, id, change, 30).await, Ok(true));
    let row = stores.conversations.conversation_of(1, id).await.expect("read").expect("there");
    assert!(row.member.pinned);
    assert_eq!(row.member.muted_until_ms, 77);
    let expected = PreferenceRecord {
        archived: true,
        hidden_before_seq: 4,
        unread_before_seq: 6,
        notifications: NotificationLevel::Mentions,
        changed_at_ms: 30,
        draft: Draft::default(),
    };
    assert_eq!(row.preferences, expected);
    assert_eq!((row.activity_ms(), row.changed_ms()), (10, 30), "the list's order stays");
    let other = stores.conversations.conversation_of(2, id).await.expect("read").expect("there");
    assert_eq!((other.member.pinned, other.preferences), (false, PreferenceRecord::default()));
    assert_eq!(stores.people.set_preferences(9, id, change, 30).await, Ok(false));
    remove_member(stores, id, 2, 40).await;
    assert_eq!(stores.people.set_preferences(2, id, change, 50).await, Ok(false));
}

pub async fn a_draft_is_kept_beside_preferences(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let change = PreferenceChange { archived: Some(true), ..Default::default() };
    stores.people.set_preferences(1, id, change, 20).await.expect("changed");
    let draft = Draft { text: "你好, half a sen".to_owned(), reply_to_seq: 3, updated_at_ms: 25 };
    assert_eq!(stores.people.set_draft(1, id, draft.clone()).await, Ok(true));
    assert_eq!(stores.people.set_draft(9, id, draft.clone()).await, Ok(false));
    let row = stores.conversations.conversation_of(1, id).await.expect("read").expect("there");
    assert_eq!(
        (row.preferences.draft, row.preferences.archived, row.preferences.changed_at_ms),
        (draft, true, 25)
    );
    let none = Draft { updated_at_ms: 30, ..Draft::default() };
    stores.people.set_draft(1, id, none.clone()).await.expect("changed");
    let row = stores.conversations.conversation_of(1, id).await.expect("read").expect("there");
    assert_eq!((row.preferences.draft, row.preferences.archived), (none, true));
}

pub async fn a_changed_preference_is_listed_as_changed_without_moving_the_row(stores: &Stores) {
    let a = group(stores, &[2], 10).await.id;
    let b = group(stores, &[2], 20).await.id;
    let change = PreferenceChange { pinned: Some(true), ..Default::default() };
    stores.people.set_preferences(1, a, change, 100).await.expect("changed");
    let ids = async |since| -> Vec<u64> {
        let rows = stores.conversations.conversations_of(1, since, None, 9).await.expect("read");
        rows.into_iter().map(|row| row.conversation.id).collect()
    };
    assert_eq!(ids(0).await, [b, a]);
    assert_eq!(ids(50).await, [a]);
    assert_eq!(ids(101).await, Vec::<u64>::new());
}

pub async fn erased_messages_are_emptied_and_keep_their_place(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let mut system = message(id, 4, 1, "");
    system.kind = MessageKind::System as i32;
    let sent = [
        message(id, 1, 1, "a"),
        message(id, 2, 2, "b"),
        message(id, 3, 1, "c"),
        system,
        message(id, 5, 1, "d"),
    ];
    stores.messages.append(&sent).await.expect("stored");
    stores.people.erase_messages(id, 1, 1, 5).await.expect("emptied");
    stores.people.erase_messages(id, 1, 5, 5).await.expect("nothing to do");
    let left = stores.messages.after(id, 0, 9).await.expect("read");
    let texts: Vec<(&str, bool)> = left.iter().map(|m| (m.text.as_str(), m.recalled)).collect();
    assert_eq!(texts, [("", true), ("text 2", false), ("", true), ("text 4", false), ("text 5", false)]);
    assert_eq!(left[0].client_id, "a", "a repeat is still known");
}

pub async fn an_erased_user_leaves_a_name_and_nothing_else(stores: &Stores) {
    let ada = stores.accounts.create_user(user("ada", "Ada")).await.expect("created").id;
    let bob = stores.accounts.create_user(user("bob", "Bob")).await.expect("created").id;
    let eve = stores.accounts.create_user(user("eve", "Eve")).await.expect("created").id;
    let device = DeviceRecord { user_id: ada, name: "phone".to_owned(), ..DeviceRecord::default() };
    stores.accounts.create_device(device.clone(), "hash of ada").await.expect("created");
    let theirs = DeviceRecord { user_id: bob, ..device };
    stores.accounts.create_device(theirs, "hash of bob").await.expect("created");
    befriend(stores, ada, bob).await;
    befriend(stores, bob, eve).await;
    stores.people.block(block(ada, eve, 1)).await.expect("blocked");
    stores.people.set_presence(ada, PresenceStatus::Away, "tea", 5).await.expect("said");
    stores.people.change_privacy(ada, PrivacyRecord::default().into()).await.expect("set");
    stores.accounts.set_line_given(ada, &[(1, "1-2".to_owned())]).await.expect("noted");

    stores.marks.hide(ada, 7, &[1], 5).await.expect("hidden");
    let later = ScheduledRecord { user_id: ada, send_at_ms: 5, ..ScheduledRecord::default() };
    stores.marks.schedule(later.clone()).await.expect("kept");
    stores.marks.schedule(ScheduledRecord { user_id: bob, ..later }).await.expect("kept");

    assert_eq!(stores.people.erase_user(ada, "bob", "x", None).await, Err(StoreError::Exists));
    assert_eq!(stores.accounts.devices(ada).await.map(|devices| devices.len()), Ok(1), "all or nothing");
    let later = LateErasure { user_id: ada, since_ms: 5, due_at_ms: 70 };
    stores.people.erase_user(ada, "~gone", "Deleted user", Some(later)).await.expect("erased");

    assert_eq!(stores.marks.hidden(ada, 7, 0, 9).await, Ok(Vec::new()));
    let due = stores.marks.due(9, (0, 0), 9).await.expect("read");
    assert_eq!(due.iter().map(|record| record.user_id).collect::<Vec<_>>(), [bob]);
    let left = stores.accounts.user(ada).await.expect("read").expect("the row stays");
    assert_eq!((left.username.as_str(), left.display_name.as_str()), ("~gone", "Deleted user"));
    assert!(left.disabled && left.password_hash.is_empty());
    assert_eq!(stores.accounts.user_by_name("ada").await, Ok(None));
    assert_eq!(stores.accounts.device_by_token("hash of ada").await, Ok(None));
    assert!(stores.accounts.device_by_token("hash of bob").await.expect("read").is_some());
    assert_eq!(stores.people.list_sizes(ada).await, Ok((0, 0)));
    assert_eq!(stores.people.list_sizes(bob).await, Ok((1, 0)));
    assert_eq!(stores.people.relations(eve, &[ada]).await, Ok(vec![Relation::default()]));
    assert_eq!(presence(stores, ada).await, None);
    assert_eq!(stores.people.privacies(&[ada]).await, Ok(vec![]));
    assert_eq!(stores.accounts.line_given(ada).await, Ok(vec![]));
}

pub async fn what_is_to_be_done_of_an_erased_account_is_kept_until_it_is(stores: &Stores) {
    let ada = stores.accounts.create_user(user("ada", "Ada")).await.expect("created").id;
    let later = LateErasure { user_id: ada, since_ms: 5, due_at_ms: 70 };
    stores.people.erase_user(ada, "~gone", "Deleted user", Some(later)).await.expect("erased");
    let due = async |now_ms| {
        let mut due = stores.people.late_erasures(now_ms, 99).await.expect("read");
        due.retain(|erasure| erasure.user_id == ada);
        due
    };
    assert_eq!((due(69).await, due(70).await), (Vec::new(), vec![later]));
    assert_eq!(stores.people.put_off_erasure(later, 90).await, Ok(true));
    assert_eq!(stores.people.put_off_erasure(later, 95).await, Ok(false), "another one was first");
    let off = LateErasure { due_at_ms: 90, ..later };
    assert_eq!((due(89).await, due(90).await), (Vec::new(), vec![off]));
    // What is repeated later leaves it as it is.
    let again = LateErasure { since_ms: 60, due_at_ms: 160, ..later };
    stores.people.erase_user(ada, "~gone", "Deleted user", Some(again)).await.expect("erased again");
    assert_eq!(due(90).await, [off]);
    stores.people.finish_erasure(ada).await.expect("done");
    assert_eq!(due(999).await, []);
}
