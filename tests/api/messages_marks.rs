//! Messages that are hidden, pinned, forwarded, scheduled, and that expire.

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, Hidden, Send, SyncRequest};
use rookery::protocol::{ErrorCode, MessageKind};
use serde_json::{Value, json};

use crate::live::{Live, a_text};
use crate::messages_edit::{Hand, edit, hands, path_of, react, recall};
use crate::rooms::FOR_EVER;
use crate::world::{Person, TRANSPORTS, World, eventually, items, number, unique};

impl Live {
    async fn hears_what_is_hidden(&mut self) -> Hidden {
        self.hears("hidden", |event| match event {
            Body::Hidden(hidden) => Some(hidden),
            _ => None,
        })
        .await
    }
}

/// Unix time, milliseconds, so many from now.
fn in_ms(ms: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_millis() as u64 + ms
}

#[tokio::test]
async fn what_one_hides_is_gone_on_all_its_devices_and_for_nobody_else() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    for transport in TRANSPORTS {
        let (one, two, three) =
            (bob.writes(id, "1").await, bob.writes(id, "2").await, bob.writes(id, "3").await);
        let mut elsewhere = ada.on_another_device().await.opens(transport).await;
        let token = elsewhere.syncs(SyncRequest::default()).await.sync_token;
        ada.posts(&format!("/conversations/{id}/messages/hide"), json!({"seqs": [three, one]})).await.is(204);
        let heard = elsewhere.hears_what_is_hidden().await;
        assert_eq!((heard.conversation_id, heard.seqs), (id, vec![one, three]));
        ada.deletes(&path_of(id, two, "?for=me")).await.is(204);
        assert_eq!(elsewhere.hears_what_is_hidden().await.seqs, [two]);
        for seq in [one, two, three] {
            let seen = ada.sees_message(id, seq).await;
            assert_eq!(
                (&seen["text"], &seen["marks"]["hidden"], &seen["recalled"]),
                (&json!(""), &json!(true), &json!(false))
            );
            assert_ne!(bob.sees_message(id, seq).await["text"], "", "it is there for all others");
        }
        assert_eq!(ada.sees(id).await["last_message"]["text"], "");
        let cursors = vec![Cursor { conversation_id: id, seq: one - 1 }];
        let synced = elsewhere.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await.messages;
        assert!(
            synced.iter().all(|m| m.text.is_empty() && m.marks.as_ref().is_some_and(|marks| marks.hidden))
        );
        // A device that was away is told so, and that the conversation has changed, whichever it names.
        for named in [Vec::new(), vec![Cursor { conversation_id: id, seq: three }]] {
            let request = SyncRequest { since: token.clone(), cursors: named, ..SyncRequest::default() };
            let page = elsewhere.syncs(request).await;
            assert!(
                page.conversations.iter().any(|row| row.conversation_id == id),
                "its unread count may differ"
            );
            let told: Vec<&u64> = page.hidden.iter().flat_map(|hidden| &hidden.seqs).collect();
            assert!([one, two, three].iter().all(|seq| told.contains(&seq)), "{:?}", page.hidden);
            assert!(page.hidden.iter().all(|hidden| hidden.conversation_id == id) && !page.hidden_more);
        }
        // To whom nothing was shown before, nothing need be told.
        assert!(elsewhere.syncs(SyncRequest::default()).await.hidden.is_empty());
        assert!(
            bob.opens(transport)
                .await
                .syncs(SyncRequest { since: token, ..SyncRequest::default() })
                .await
                .hidden
                .is_empty()
        );
        let hidden = ada.gets(&format!("/conversations/{id}/hidden?cursor={}", one - 1)).await.is(200);
        assert_eq!(hidden["items"], json!([one, two, three]));
    }
    ada.posts(&format!("/conversations/{id}/messages/hide"), json!({"seqs": [999]}))
        .await
        .is_refused(404, "not_found");
    let stranger = World::shared().person("eve").await;
    let path = format!("/conversations/{id}/messages/hide");
    stranger.posts(&path, json!({"seqs": [1]})).await.is_refused(403, "permission_denied");
}

/// What each role may do with messages, beside writing them: a cell is refused with `permission_denied`, or not.
#[tokio::test]
async fn each_role_may_do_with_messages_what_the_table_says() {
    use rookery::domain::permissions::{Act, allows};
    use rookery::protocol::MemberRole;
    let world = World::shared();
    let (owner, admin) = world.two("owner", "admin").await;
    let (member, other) = world.two("member", "other").await;
    let stranger = world.person("stranger").await;
    let id = owner.founds_a_group("club", &[&admin, &member, &other]).await;
    let path = format!("/conversations/{id}/members/{}", admin.id);
    owner.patches(&path, json!({"role": "admin"})).await.succeeds();
    let acts = [
        Act::React,
        Act::ReactAnyway,
        Act::ChangeOwnMessage,
        Act::RecallOthers,
        Act::PinMessage,
        Act::MentionAll,
    ];
    for act in acts {
        let people = [
            (&owner, allows(MemberRole::Owner, act)),
            (&admin, allows(MemberRole::Admin, act)),
            (&member, allows(MemberRole::Member, act)),
            (&stranger, false),
        ];
        for (who, may) in people {
            let theirs = other.writes(id, "hello").await;
            let own = if who.id == stranger.id { theirs } else { who.writes(id, "hello").await };
            if act == Act::ReactAnyway {
                owner.patches(&format!("/conversations/{id}"), json!({"silence_all": true})).await.is(200);
                // What the room says of it is stored before.
                owner.writes(id, "silence!").await;
            }
            let before = number(&owner.sees(id).await, "last_seq");
            let (status, hand) = (if may { 200 } else { 403 }, Hand::Rest(who.clone()));
            let code = |outcome: Result<_, ErrorCode>| match outcome {
                Ok(_) => 200,
                Err(ErrorCode::PermissionDenied) => 403,
                Err(code) => panic!("{act:?} by {}: {code:?}", who.name),
            };
            let got = match act {
                Act::React | Act::ReactAnyway => code(hand.tries(react(id, theirs, "👍", false)).await),
                Act::ChangeOwnMessage => code(hand.tries(edit(id, own, "hello!")).await),
                Act::RecallOthers => code(hand.tries(recall(id, theirs)).await),
                Act::PinMessage => {
                    match who.puts(&format!("/conversations/{id}/pins/{theirs}"), json!({})).await.status {
                        204 => 200,
                        status => status,
                    }
                }
                _ => {
                    let send = json!({"client_id": unique().to_string(), "text": "all!", "mentions": [0]});
                    match who.posts(&format!("/conversations/{id}/messages"), send).await.status {
                        201 => 200,
                        status => status,
                    }
                }
            };
            assert_eq!(got, status, "{act:?} by {}", who.name);
            if !may {
                assert_eq!(number(&owner.sees(id).await, "last_seq"), before, "{act:?}: nothing has changed");
            }
            if act == Act::ReactAnyway {
                owner.patches(&format!("/conversations/{id}"), json!({"silence_all": false})).await.is(200);
            }
        }
    }
}

/// A read-only room is one to react in; one who is silenced says nothing, so not either.
#[tokio::test]
async fn a_silence_stops_reactions_and_a_read_only_room_does_not() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let eve = world.person("eve").await;
    let id = ada.founds_a_group("club", &[&bob, &eve]).await;
    ada.changes_member(id, &eve, json!({"role": "admin"})).await.is(200);
    let seq = ada.writes(id, "hello").await;
    let denied = Err(ErrorCode::PermissionDenied);
    for hand in hands(&bob).await {
        let (known, off) = (react(id, seq, "👍", false), react(id, seq, "👍", true));
        let first = hand.changes(known.clone()).await;
        let shut = [
            (json!({"read_only": true}), json!({"read_only": false}), true),
            (json!({"slow_mode_seconds": 3600}), json!({"slow_mode_seconds": 0}), true),
            (json!({"silence_all": true}), json!({"silence_all": false}), false),
        ];
        for (change, back, may) in shut {
            ada.changes_room(id, change.clone()).await.is(200);
            for remove in [false, true] {
                let outcome = hand.tries(react(id, seq, "🐦", remove)).await;
                assert_eq!(outcome.is_ok(), may, "{change}: {outcome:?}");
            }
            let again = hand.changes(known.clone()).await;
            assert!(again.duplicate && again.seq == first.seq, "a repeat is answered: {again:?}");
            let admin = Hand::Rest(eve.clone());
            admin.changes(react(id, seq, "🌱", false)).await;
            ada.changes_room(id, back).await.is(200);
        }
        ada.changes_member(id, &bob, json!({"silenced_until_ms": FOR_EVER})).await.is(200);
        assert_eq!(hand.tries(react(id, seq, "🐦", false)).await, denied);
        assert_eq!(hand.tries(off.clone()).await, denied);
        ada.changes_member(id, &bob, json!({"silenced_until_ms": 0})).await.is(200);
        hand.changes(off).await;
    }
    // One of a higher role that is silenced can't either.
    ada.changes_member(id, &eve, json!({"silenced_until_ms": FOR_EVER})).await.is(200);
    assert_eq!(Hand::Rest(eve).tries(react(id, seq, "🐦", false)).await, denied);
    let seen = bob.sees_message(id, seq).await;
    let emoji: Vec<&Value> =
        seen["reactions"].as_array().expect("a list").iter().map(|r| &r["emoji"]).collect();
    assert_eq!(emoji, ["🌱"], "nothing of what was refused is there");
}

#[tokio::test]
async fn a_pin_is_told_in_the_log_and_goes_with_its_message() {
    let world = World::with(&[("messages.pins_max", "2")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let seqs = [ada.writes(id, "1").await, ada.writes(id, "2").await, ada.writes(id, "3").await];
    let pin = |seq: u64| format!("/conversations/{id}/pins/{seq}");
    let mut live = ada.opens(Transport::WebSocketJson).await;
    // Of a direct conversation either side may.
    bob.puts(&pin(seqs[0]), json!({})).await.is(204);
    let heard = live.hears_a_message().await;
    assert_eq!((heard.kind(), heard.target_seq, heard.sender_id), (MessageKind::System, seqs[0], bob.id));
    bob.puts(&pin(seqs[0]), json!({})).await.is(204);
    ada.puts(&pin(seqs[1]), json!({})).await.is(204);
    let heard = live.hears_a_message().await;
    assert_eq!(heard.target_seq, seqs[1], "what is pinned already is not told again");
    ada.puts(&pin(seqs[2]), json!({})).await.is_refused(412, "failed_precondition");
    ada.puts(&pin(999), json!({})).await.is_refused(404, "not_found");
    ada.puts(&pin(heard.seq), json!({})).await.is_refused(412, "failed_precondition");
    let list = bob.gets(&format!("/conversations/{id}/pins")).await.is(200);
    let shown: Vec<(u64, &Value)> =
        items(&list).iter().map(|pin| (number(pin, "seq"), &pin["message"]["text"])).collect();
    assert_eq!(shown, [(seqs[0], &json!("1")), (seqs[1], &json!("2"))], "{list}");
    Hand::Rest(ada.clone()).changes(recall(id, seqs[0])).await;
    bob.deletes(&pin(seqs[1])).await.is(204);
    assert_eq!(items(&bob.gets(&format!("/conversations/{id}/pins")).await.is(200)).len(), 0);
}

#[tokio::test]
async fn what_is_forwarded_says_where_it_is_from_and_a_repeat_makes_no_second_copy() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let eve = World::shared().person("eve").await;
    let (from, to) = (ada.direct_with(&bob).await, ada.direct_with(&eve).await);
    let (one, two) = (bob.writes(from, "1").await, bob.writes(from, "2").await);
    let mut live = eve.opens(Transport::Tcp).await;
    let path = format!("/conversations/{to}/messages/forward");
    let body = json!({"from_conversation_id": from, "seqs": [two, one], "client_id": "f1"});
    let first = ada.posts(&path, body.clone()).await.is(200);
    assert_eq!(items(&first).len(), 2);
    for (seq, text) in [(one, "1"), (two, "2")] {
        let heard = live.hears_a_message().await;
        let marked = heard.marks.and_then(|marks| marks.forwarded_from).expect("it is marked");
        assert_eq!((heard.sender_id, heard.text.as_str()), (ada.id, text));
        assert_eq!((marked.conversation_id, marked.seq, marked.sender_id), (from, seq, bob.id));
    }
    let again = ada.posts(&path, body).await.is(200);
    assert!(items(&again).iter().all(|sent| sent["duplicate"] == true), "{again}");
    assert_eq!(number(&eve.sees(to).await, "last_seq"), 2);
    // What one can't read one can't forward.
    Hand::Rest(bob.clone()).changes(recall(from, two)).await;
    let body = |from: u64, seq: u64| json!({"from_conversation_id": from, "seqs": [seq], "client_id": unique().to_string()});
    ada.posts(&path, body(from, two)).await.is_refused(412, "failed_precondition");
    eve.posts(&path, body(from, one)).await.is_refused(403, "permission_denied");
    ada.posts(&path, body(from, 999)).await.is_refused(404, "not_found");
}

#[tokio::test]
async fn a_scheduled_message_is_sent_at_its_time_once_and_can_be_taken_back() {
    let world = World::with(&[("messages.timer_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let mut bob_live = bob.opens(Transport::WebSocketProto).await;
    let later = json!({"client_id": "never", "text": "never", "send_at_ms": in_ms(3_600_000)});
    let kept = ada.posts(&format!("/conversations/{id}/messages"), later.clone()).await.is(202);
    let again = ada.posts(&format!("/conversations/{id}/messages"), later).await.is(202);
    assert_eq!(kept, again);
    for transport in TRANSPORTS {
        let live = ada.opens(transport).await;
        let send = Send { send_at_ms: in_ms(700), ..a_text(id, "soon") };
        let kept = match live.connection.request(Request::Send(send.clone())).await {
            Ok(Body::Scheduled(kept)) => kept,
            other => panic!("it should be kept: {other:?}"),
        };
        assert_eq!((kept.conversation_id, kept.send_at_ms), (id, send.send_at_ms));
        let heard = bob_live.hears_a_message().await;
        assert_eq!((heard.text.as_str(), &heard.client_id), ("soon", &send.client_id));
        assert!(heard.created_at_ms >= send.send_at_ms, "not before its time");
        // Its name is taken: a repeat when it has been sent is a repeat of a send.
        let repeat = Send { send_at_ms: 0, ..send };
        let sent = live.sends(repeat).await;
        assert_eq!((sent.duplicate, sent.seq), (true, heard.seq));
    }
    // One that was sent leaves the list a moment after its message is there.
    let list = eventually("only what was not sent is listed", async || {
        let list = ada.gets("/scheduled").await.is(200);
        (items(&list).len() == 1).then_some(list)
    })
    .await;
    assert_eq!(
        (number(&items(&list)[0], "scheduled_id"), &items(&list)[0]["message"]["text"]),
        (number(&kept, "scheduled_id"), &json!("never"))
    );
    let path = format!("/scheduled/{}", number(&kept, "scheduled_id"));
    bob.deletes(&path).await.is_refused(404, "not_found");
    ada.deletes(&path).await.is(204);
    assert_eq!(items(&ada.gets("/scheduled").await.is(200)).len(), 0);
    // One who may not write when the time comes finds out why.
    let late = json!({"client_id": "late", "text": "late", "send_at_ms": in_ms(5000)});
    ada.posts(&format!("/conversations/{id}/messages"), late).await.is(202);
    bob.puts(&format!("/blocks/{}", ada.id), json!({})).await.is(204);
    eventually("it is refused", async || {
        let list = ada.gets("/scheduled").await.is(200);
        items(&list).first().filter(|row| row["failure"] != "").map(|_| ())
    })
    .await;
}

/// A room that makes one wait, and a user with much to say there, hold up nobody else's.
#[tokio::test]
async fn what_waits_in_one_room_holds_up_no_other() {
    let world = World::with(&[("messages.timer_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let slow = ada.founds_a_group("slow", &[&bob]).await;
    ada.patches(&format!("/conversations/{slow}"), json!({"slow_mode_seconds": 3600})).await.is(200);
    let direct = ada.direct_with(&bob).await;
    let schedules = async |who: &Person, id: u64, name: String, at_ms: u64| {
        let body = json!({"client_id": name, "text": name, "send_at_ms": at_ms});
        who.posts(&format!("/conversations/{id}/messages"), body).await.is(202);
    };
    let at_ms = in_ms(1500);
    for n in 0..15 {
        schedules(&bob, slow, format!("slow {n}"), at_ms).await;
    }
    schedules(&ada, direct, "direct".to_owned(), at_ms + 1).await;
    let brief = json!({"client_id": "brief", "text": "brief", "expires_in_seconds": 2});
    let seq = number(&ada.posts(&format!("/conversations/{direct}/messages"), brief).await.is(201), "seq");
    eventually("it is sent", async || {
        bob.reads_texts(direct).await.contains(&"direct".to_owned()).then_some(())
    })
    .await;
    eventually("it is emptied", async || {
        let page = bob.gets(&format!("/conversations/{direct}/messages?limit=50")).await.is(200);
        items(&page).iter().any(|entry| entry["kind"] == "recall" && entry["target_seq"] == seq).then_some(())
    })
    .await;
    // The others wait as long as the room wants, and are their sender's until then.
    let waiting = eventually("they are put off", async || {
        let list = bob.gets("/scheduled").await.is(200);
        let is_later = |row: &Value| number(row, "send_at_ms") > at_ms + 1_800_000 && row["failure"] == "";
        (items(&list).len() == 14 && items(&list).iter().all(is_later)).then_some(list)
    })
    .await;
    let id = number(&items(&waiting)[0], "scheduled_id");
    bob.deletes(&format!("/scheduled/{id}")).await.is(204);
    assert_eq!(ada.reads_texts(slow).await.iter().filter(|text| text.starts_with("slow ")).count(), 1);
}

#[tokio::test]
async fn what_was_scheduled_is_not_sent_when_its_account_has_ended() {
    let world = World::with(&[("messages.timer_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/conversations/{id}/messages");
    let at_ms = in_ms(1500);
    ada.posts(&path, json!({"client_id": "a", "text": "ada's", "send_at_ms": at_ms})).await.is(202);
    bob.posts(&path, json!({"client_id": "b", "text": "bob's", "send_at_ms": at_ms + 1})).await.is(202);
    ada.deletes("/users/me").await.is(204);
    eventually("bob's is sent", async || {
        bob.reads_texts(id).await.contains(&"bob's".to_owned()).then_some(())
    })
    .await;
    assert!(!bob.reads_texts(id).await.contains(&"ada's".to_owned()));
}

/// Whoever is told that it was taken back can rely on it, also when its time has just come.
#[tokio::test]
async fn what_was_taken_back_in_the_last_moment_is_not_sent() {
    let world = World::with(&[("messages.timer_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/conversations/{id}/messages");
    let mut sent_in_all = 0;
    for round in 0..2 {
        let at_ms = in_ms(6000);
        let schedules = (0..40).map(|at| {
            let text = format!("{round}-{at}");
            let send = json!({"client_id": text, "text": text, "send_at_ms": at_ms});
            let (ada, path) = (&ada, &path);
            async move { (text, number(&ada.posts(path, send).await.is(202), "scheduled_id")) }
        });
        let kept = futures_util::future::join_all(schedules).await;
        // As soon as the first is there, all the others are taken back, the last ones first.
        let first_is_sent = async || {
            let texts = bob.reads_texts(id).await;
            texts.iter().any(|text| text.starts_with(&format!("{round}-"))).then_some(())
        };
        eventually("the first is sent", first_is_sent).await;
        let takes_back = kept.iter().rev().map(|(text, scheduled)| {
            let (ada, path) = (&ada, format!("/scheduled/{scheduled}"));
            async move { (text.clone(), ada.deletes(&path).await.status) }
        });
        let answers = futures_util::future::join_all(takes_back).await;
        // What it was too late for is sent.
        eventually("all is said", async || {
            let texts = bob.reads_texts(id).await;
            let late = answers.iter().filter(|(_, status)| *status == 404);
            late.into_iter().all(|(text, _)| texts.contains(text)).then_some(())
        })
        .await;
        let texts = bob.reads_texts(id).await;
        for (text, status) in &answers {
            assert!(matches!(status, 204 | 404), "{text}: {status}");
            assert_eq!(texts.contains(text), *status == 404, "{text} was answered {status}");
        }
        sent_in_all += answers.iter().filter(|(_, status)| *status == 404).count();
    }
    assert!(sent_in_all > 0, "at least the first ones were sent");
    assert!(items(&ada.gets("/scheduled").await.is(200)).is_empty());
}

#[tokio::test]
async fn what_is_scheduled_and_what_expires_survives_a_crash() {
    let mut world = World::with(&[("messages.timer_interval", "50ms")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let path = format!("/conversations/{id}/messages");
    let soon = json!({"client_id": "soon", "text": "soon", "send_at_ms": in_ms(1500)});
    ada.posts(&path, soon).await.is(202);
    let brief = json!({"client_id": "brief", "text": "brief", "expires_in_seconds": 2});
    let seq = number(&ada.posts(&path, brief).await.is(201), "seq");
    let (name, bob_name) = (ada.name.clone(), bob.name.clone());
    drop((ada, bob));
    world.restarts();
    let (ada, bob) = (world.signs_in(&name).await, world.signs_in(&bob_name).await);
    eventually("it is sent", async || bob.reads_texts(id).await.contains(&"soon".to_owned()).then_some(()))
        .await;
    // Emptied by an entry of the log.
    eventually("it is emptied", async || {
        let page = bob.gets(&format!("{path}?limit=50")).await.is(200);
        items(&page).iter().any(|entry| entry["kind"] == "recall" && entry["target_seq"] == seq).then_some(())
    })
    .await;
    assert_eq!(ada.sees_message(id, seq).await["recalled"], true);
}

#[tokio::test]
async fn nothing_is_shown_of_what_has_expired_even_before_it_is_emptied() {
    let world = World::with(&[("messages.timer_interval", "1h")]);
    let (ada, bob) = world.two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let live = ada.opens(Transport::Tcp).await;
    // The first round of the timers is over when the node is up; the next is an hour away.
    let sent = live.sends(Send { expires_in_seconds: 2, ..a_text(id, "brief") }).await;
    let seen = bob.sees_message(id, sent.seq).await;
    assert_eq!(number(&seen["marks"], "expires_at_ms"), sent.created_at_ms + 2000, "{seen}");
    assert_eq!(
        Hand::Frames(live).tries(edit(id, sent.seq, "longer")).await,
        Err(ErrorCode::FailedPrecondition)
    );
    eventually("it is veiled", async || {
        let seen = bob.sees_message(id, sent.seq).await;
        (seen["recalled"] == true && seen["text"] == "").then_some(())
    })
    .await;
    assert_eq!(bob.sees(id).await["last_message"]["text"], "");
    let live: Person = bob;
    let page = live.opens(Transport::WebSocketJson).await.syncs(SyncRequest::default()).await;
    assert!(page.conversations.iter().all(|row| row.last_message.as_ref().is_none_or(|m| m.text.is_empty())));
}
