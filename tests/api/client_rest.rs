//! The client library's typed calls, each against a real node.

use rookery::client::ClientError;
use rookery::client::rest::{
    GroupChange, PreferenceChange, PrivacyChange, ProfileChange, Rest, Search, Submitted,
};
use rookery::protocol::ErrorCode;
use rookery::protocol::v1::{Edit, React, Recall, Send};

use crate::rooms::now_ms;
use crate::world::{PASSWORD, Person, World, eventually, unique};

impl Person {
    /// The library's calls as this person's device.
    fn rest(&self) -> Rest {
        Rest::new([self.world.node.address("http")]).with_token(&self.token)
    }
}

fn named() -> String {
    format!("r{}", unique())
}

fn a_text(conversation_id: u64, text: &str) -> Send {
    Send { conversation_id, client_id: named(), text: text.to_owned(), ..Send::default() }
}

/// The code of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ErrorCode {
    match answer {
        Err(ClientError::Refused(error)) => error.code,
        other => panic!("it should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn messages_are_changed_hidden_pinned_forwarded_found_and_scheduled() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let (rest, theirs) = (ada.rest(), bob.rest());
    let id = rest.direct(bob.id).await.expect("made").conversation_id;
    let word = format!("raven{}", unique());
    let Ok(Submitted::Sent(sent)) = rest.submit(&a_text(id, &word)).await else { panic!("it is sent") };
    let seq = sent.seq;
    let (edit, react) = (
        Edit { conversation_id: id, target_seq: seq, client_id: named(), text: format!("{word} again") },
        React {
            conversation_id: id, target_seq: seq, client_id: named(), emoji: "👍🏽".into(), remove: false
        },
    );
    assert!(!rest.edit(&edit).await.expect("edited").duplicate);
    assert!(rest.edit(&edit).await.expect("repeated").duplicate);
    theirs.react(&react).await.expect("put on");
    let found = rest.search(&Search { query: word.clone(), conversation_id: id, ..Search::default() }).await;
    let found = found.expect("found").items;
    assert_eq!((found.len(), found[0].text.as_str()), (1, edit.text.as_str()));
    assert_eq!(found[0].reactions[0].user_ids, [bob.id]);
    let none = Search {
        query: word.clone(),
        sender_id: bob.id,
        kind: "text".into(),
        from_ms: 1,
        ..Search::default()
    };
    assert!(rest.search(&none).await.expect("an answer").items.is_empty());
    theirs.react(&React { remove: true, client_id: named(), ..react }).await.expect("taken off");
    assert_eq!(rest.readers(id, seq).await.expect("known").delivered_count, 0);

    rest.pin(id, seq).await.expect("pinned");
    let pins = theirs.pins(id).await.expect("listed").items;
    assert_eq!((pins.len(), pins[0].seq, pins[0].user_id), (1, seq, ada.id));
    theirs.unpin(id, seq).await.expect("the pin is off");
    assert!(rest.pins(id).await.expect("listed").items.is_empty());
    theirs.hide(id, &[seq]).await.expect("hidden");
    assert_eq!(theirs.hidden(id, "").await.expect("listed").items, [seq]);
    assert!(rest.hidden(id, "").await.expect("listed").items.is_empty());

    let club = rest.create_group("club", "", "open", &[]).await.expect("made").conversation_id;
    let name = named();
    let copies = rest.forward(club, id, &[seq], &name).await.expect("forwarded");
    let again = rest.forward(club, id, &[seq], &name).await.expect("repeated");
    assert_eq!((copies.len(), again[0].seq, again[0].duplicate), (1, copies[0].seq, true));

    let send = Send { send_at_ms: now_ms() + 3_600_000, ..a_text(id, "later") };
    let Ok(Submitted::Scheduled(kept)) = rest.submit(&send).await else { panic!("it is kept") };
    let listed = rest.scheduled("").await.expect("listed").items;
    assert_eq!(
        (listed.len(), listed[0].scheduled_id, &*listed[0].message.text),
        (1, kept.scheduled_id, "later")
    );
    assert_eq!(code(theirs.cancel_scheduled(kept.scheduled_id).await), ErrorCode::NotFound);
    rest.cancel_scheduled(kept.scheduled_id).await.expect("taken back");
    assert!(rest.scheduled("").await.expect("listed").items.is_empty());

    let recall = Recall { conversation_id: id, target_seq: seq, client_id: named() };
    assert_eq!(code(theirs.recall(&recall).await), ErrorCode::PermissionDenied);
    rest.recall(&recall).await.expect("taken back");
    let log = rest.messages(id, 0, 50).await.expect("read").items;
    assert!(log.iter().any(|message| message.seq == seq && message.recalled));
}

#[tokio::test]
async fn groups_are_governed() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = World::shared().person("eve").await;
    let (rest, theirs, hers) = (ada.rest(), bob.rest(), eve.rest());
    let id = rest.create_group("club", "what we do", "approval", &[]).await.expect("made").conversation_id;
    let change = GroupChange {
        name: Some("the club".into()),
        announcement: Some("tonight".into()),
        slow_mode_seconds: Some(0),
        retention_seconds: Some(86_400),
        ..GroupChange::default()
    };
    let changed = rest.change_group(id, &change).await.expect("changed");
    assert_eq!((changed.name.as_str(), changed.announcement.as_str()), ("the club", "tonight"));
    assert_eq!((changed.description.as_str(), changed.retention_seconds), ("what we do", 86_400));
    assert!(theirs.ask_to_join(id, "me").await.expect("asked"), "it takes an approval");
    assert_eq!(rest.join_requests(id, "").await.expect("listed").items[0].message, "me");
    rest.answer_join_request(id, bob.id, true).await.expect("let in");
    let invite = rest.make_invite(id, 3600, 2).await.expect("made");
    assert_eq!(rest.invites(id).await.expect("listed").items, std::slice::from_ref(&invite));
    assert_eq!(hers.use_invite(&invite.code).await.expect("joined").conversation_id, id);
    rest.drop_invite(id, &invite.code).await.expect("dropped");
    assert_eq!(rest.set_role(id, bob.id, "admin").await.expect("set").role, "admin");
    let until_ms = now_ms() + 60_000;
    assert_eq!(theirs.silence(id, eve.id, until_ms).await.expect("silenced").silenced_until_ms, until_ms);
    assert_eq!(code(hers.send(&a_text(id, "may I?")).await), ErrorCode::PermissionDenied);
    theirs.silence(id, eve.id, 0).await.expect("over");
    theirs.ban(id, eve.id, "cawing").await.expect("banned");
    let bans = theirs.bans(id, "").await.expect("listed").items;
    assert_eq!((bans[0].user_id, bans[0].banned_by, bans[0].reason.as_str()), (eve.id, bob.id, "cawing"));
    theirs.unban(id, eve.id).await.expect("taken back");
    rest.add_members(id, &[eve.id]).await.expect("added");
    assert_eq!(rest.members(id, "").await.expect("listed").items.len(), 3);
    rest.remove_member(id, eve.id).await.expect("removed");
    assert_eq!(rest.transfer(id, bob.id).await.expect("handed over").role, "owner");
    rest.leave(id).await.expect("left");
    theirs.dissolve(id).await.expect("ended");
    assert_eq!(code(theirs.send(&a_text(id, "anybody?")).await), ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn what_is_a_users_own_is_kept_changed_and_taken_along() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let rest = ada.rest();
    let id = rest.direct(bob.id).await.expect("made").conversation_id;
    let change = PreferenceChange {
        archived: Some(true),
        muted_until_ms: Some(5),
        notifications: Some("mentions".into()),
        ..PreferenceChange::default()
    };
    let seen = rest.prefer(id, &change).await.expect("kept");
    assert_eq!((seen.archived, seen.muted_until_ms, seen.pinned), (true, 5, false));
    rest.keep_draft(id, "begun", 0).await.expect("kept");
    assert_eq!(rest.conversation(id).await.expect("seen").draft.expect("there").text, "begun");
    rest.discard_draft(id).await.expect("gone");
    assert_eq!(rest.conversation(id).await.expect("seen").draft, None);
    let bio = ProfileChange { bio: Some("caw".into()), ..ProfileChange::default() };
    assert_eq!(rest.change_profile(&bio).await.expect("changed").bio, "caw");
    let nobody = PrivacyChange { who_may_add: Some("nobody".into()), ..PrivacyChange::default() };
    assert_eq!(rest.change_privacy(&nobody).await.expect("changed").who_may_add, "nobody");
    assert_eq!(rest.privacy().await.expect("shown").who_may_write, "everyone");
    rest.block(bob.id).await.expect("blocked");
    assert_eq!(rest.blocks("").await.expect("listed").items[0].user_id, bob.id);
    rest.unblock(bob.id).await.expect("lifted");
    assert_eq!(rest.presences(&[bob.id, ada.id]).await.expect("shown").items.len(), 2);
    let lines = rest.export().await.expect("whole");
    assert!(lines.iter().any(|line| line["type"] == "account" && line["bio"] == "caw"));

    let phone = rest.sign_in(&ada.name, PASSWORD, "another phone").await.expect("signed in");
    let devices = rest.devices().await.expect("listed").items;
    assert_eq!(devices.len(), 2);
    assert!(devices.iter().any(|device| device.current && device.device_id == ada.device_id));
    rest.sign_out_device(phone.device_id).await.expect("signed out");
    rest.sign_in(&ada.name, PASSWORD, "a third phone").await.expect("signed in");
    rest.sign_out_all(false).await.expect("signed out");
    assert_eq!(rest.devices().await.expect("listed").items.len(), 1);
    rest.change_password(PASSWORD, "close sesame").await.expect("changed");
    rest.erase_account("close sesame").await.expect("erased");
    eventually("it is gone", async || rest.me().await.is_err().then_some(())).await;
    bob.rest().disable_account().await.expect("disabled");
    assert!(bob.rest().me().await.is_err());
}
