//! Order, and how a client catches up.

use std::collections::{BTreeMap, BTreeSet};

use rookery::client::Transport;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::{Cursor, SyncRequest};
use rookery::protocol::{ErrorCode, MessageKind};

use crate::live::{Live, a_text};
use crate::world::{Person, TRANSPORTS, World, within};

impl Live {
    /// Says so many numbered texts at once and waits for all to be stored.
    async fn says_many(&self, conversation_id: u64, count: usize) {
        let mut replies = Vec::with_capacity(count);
        for at in 0..count {
            let send = Request::Send(a_text(conversation_id, &format!("text {at}")));
            replies.push(self.connection.post(send).await.expect("the connection is open"));
        }
        for reply in replies {
            within("sent", reply).await.expect("stored");
        }
    }

    /// Syncs from these cursors until there is no more; the seqs that came, per conversation, in the order they came.
    async fn catches_up(&self, cursors: &[(u64, u64)], limit: u32) -> BTreeMap<u64, Vec<u64>> {
        let mut at: BTreeMap<u64, u64> = cursors.iter().copied().collect();
        let mut came: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        loop {
            let cursors = at.iter().map(|(&conversation_id, &seq)| Cursor { conversation_id, seq }).collect();
            let page = self.syncs(SyncRequest { cursors, limit, ..SyncRequest::default() }).await;
            assert!(limit == 0 || page.messages.len() <= limit as usize, "{} came", page.messages.len());
            for message in &page.messages {
                came.entry(message.conversation_id).or_default().push(message.seq);
                at.insert(message.conversation_id, message.seq);
            }
            if !page.more {
                return came;
            }
            assert!(!page.messages.is_empty(), "an empty page never says more");
        }
    }
}

#[tokio::test]
async fn five_hundred_pipelined_sends_keep_their_order_for_everybody() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let mut bob_live = bob.opens(transport).await;
        let mut ada_elsewhere = ada.on_another_device().await.opens(transport).await;
        let live = ada.opens(transport).await;
        let mut replies = Vec::new();
        for at in 1..=500 {
            let send = Request::Send(a_text(id, &at.to_string()));
            replies.push(live.connection.post(send).await.expect("the connection is open"));
        }
        for (at, reply) in replies.into_iter().enumerate() {
            let Ok(Body::Sent(sent)) = within("sent", reply).await else { panic!("send {at} was refused") };
            assert_eq!(sent.seq, at as u64 + 1, "{transport:?}");
        }
        for listener in [&mut bob_live, &mut ada_elsewhere] {
            for at in 1..=500 {
                let heard = listener.hears_a_message().await;
                assert_eq!((heard.seq, heard.text), (at, at.to_string()), "{transport:?}");
            }
        }
    }
}

#[tokio::test]
async fn answers_and_pushes_of_a_conversation_come_in_seq_order_while_everybody_talks() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let (mut ada_socket, bob_live) = (ada.opens_raw().await, bob.opens(Transport::Tcp).await);
    const EACH: u64 = 200;
    let bob_talks = async {
        for at in 0..EACH {
            bob_live.says(id, &format!("bob {at}")).await;
        }
    };
    let ada_talks = async {
        let mut seqs = Vec::new();
        for at in 0..EACH {
            ada_socket
                .says(serde_json::json!({"id": at + 2, "send": {
                    "conversation_id": id, "client_id": format!("a{at}"), "text": "ada",
                }}))
                .await;
        }
        while seqs.len() < 2 * EACH as usize {
            let frame = ada_socket.hears().await;
            for name in ["sent", "message"] {
                if let Some(seq) = frame[name]["seq"].as_u64() {
                    seqs.push(seq);
                }
            }
        }
        seqs
    };
    let (seqs, ()) = tokio::join!(ada_talks, bob_talks);
    assert_eq!(seqs, (1..=2 * EACH).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_returning_client_gets_exactly_what_it_missed_page_by_page() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let ids = [ada.direct_with(&bob).await, ada.founds_a_group("club", &[&bob]).await];
        let ada_live = ada.opens(transport).await;
        for id in ids {
            ada_live.says_many(id, 30).await;
        }
        let bob_live = bob.opens(transport).await;
        let all = bob_live.catches_up(&[(ids[0], 0), (ids[1], 0)], 7).await;
        let ends: Vec<u64> = ids.iter().map(|id| *all[id].last().expect("30 came")).collect();
        for (id, end) in ids.iter().zip(&ends) {
            assert_eq!(all[id], (1..=*end).collect::<Vec<_>>(), "{transport:?}");
        }
        let rest = bob_live.catches_up(&[(ids[0], ends[0] - 3), (ids[1], ends[1])], 0).await;
        assert_eq!(
            rest,
            BTreeMap::from([(ids[0], vec![ends[0] - 2, ends[0] - 1, ends[0]])]),
            "{transport:?}"
        );
    }
}

#[tokio::test]
async fn without_a_limit_a_sync_page_has_at_most_500_messages() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    ada.opens(Transport::Tcp).await.says_many(id, 510).await;
    let live = bob.opens(Transport::WebSocketProto).await;
    for limit in [0, 500] {
        let cursors = vec![Cursor { conversation_id: id, seq: 0 }];
        let page = live.syncs(SyncRequest { cursors, limit, ..SyncRequest::default() }).await;
        assert_eq!((page.messages.len(), page.more), (500, true), "limit {limit}");
    }
    assert_eq!(live.catches_up(&[(id, 0)], 0).await[&id].len(), 510);
}

#[tokio::test]
async fn a_sync_page_fits_a_frame_though_its_messages_do_not() {
    for transport in TRANSPORTS {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let id = ada.direct_with(&bob).await;
        let ada_live = ada.opens(Transport::Tcp).await;
        for _ in 0..8 {
            // In JSON six times as long: 384 KiB of a frame's 1 MiB.
            ada_live.says(id, &"\u{2}".repeat(64 * 1024)).await;
        }
        let live = bob.opens(transport).await;
        assert_eq!(live.catches_up(&[(id, 0)], 0).await[&id], (1..=8).collect::<Vec<_>>(), "{transport:?}");
        let page = live
            .looks_back(rookery::protocol::v1::HistoryRequest {
                conversation_id: id,
                limit: 200,
                ..Default::default()
            })
            .await;
        assert!(page.more && !page.messages.is_empty(), "{transport:?}");
    }
}

#[tokio::test]
async fn without_cursors_sync_lists_conversations_newest_first_with_their_last_message() {
    let ada = World::shared().person("ada").await;
    let live = ada.opens(Transport::WebSocketJson).await;
    let mut expected = Vec::new();
    for at in 0..3 {
        let id = ada.founds_a_group(&format!("club {at}"), &[]).await;
        expected.push(id);
    }
    // Speaking moves a conversation up.
    live.says(expected[0], "me again").await;
    let order = vec![expected[0], expected[2], expected[1]];
    let page = live.syncs(SyncRequest::default()).await;
    assert!(page.messages.is_empty(), "previews are no delivery");
    let listed: Vec<u64> = page.conversations.iter().map(|listed| listed.conversation_id).collect();
    assert_eq!(listed, order);
    let first = page.conversations[0].last_message.clone().expect("a preview");
    assert_eq!((first.text.as_str(), first.sender_id), ("me again", ada.id));
    assert_eq!(page.next_page, "");
    assert!(!page.sync_token.is_empty());
}

#[tokio::test]
async fn conversations_that_a_sync_does_not_name_are_listed_without_messages() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let named = ada.direct_with(&bob).await;
    let unnamed = ada.founds_a_group("club", &[&bob]).await;
    let live = ada.opens(Transport::Tcp).await;
    live.says(named, "in the named one").await;
    live.says(unnamed, "in the other").await;
    let cursors = vec![Cursor { conversation_id: named, seq: 0 }];
    let page = live.syncs(SyncRequest { cursors, ..SyncRequest::default() }).await;
    assert!(page.messages.iter().all(|message| message.conversation_id == named), "{page:?}");
    assert_eq!(page.messages.iter().filter(|message| message.kind() == MessageKind::Text).count(), 1);
    let listed: Vec<u64> = page.conversations.iter().map(|listed| listed.conversation_id).collect();
    assert_eq!(listed, [unnamed]);
}

#[tokio::test]
async fn a_list_longer_than_a_page_goes_on_with_next_page() {
    let world = World::with(&[("accounts.list_page_max", "3")]);
    let ada = world.person("ada").await;
    let mut expected = BTreeSet::new();
    for at in 0..8 {
        expected.insert(ada.founds_a_group(&format!("club {at}"), &[]).await);
    }
    for transport in TRANSPORTS {
        let live = ada.opens(transport).await;
        let mut listed = Vec::new();
        let mut page_key = String::new();
        loop {
            let page = live.syncs(SyncRequest { page: page_key, ..SyncRequest::default() }).await;
            assert!(page.conversations.len() <= 3);
            listed.extend(page.conversations.iter().map(|listed| listed.conversation_id));
            page_key = page.next_page;
            if page_key.is_empty() {
                break;
            }
        }
        assert_eq!(listed.len(), expected.len(), "none twice: {listed:?}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "{transport:?}");
    }
}

#[tokio::test]
async fn with_an_earlier_sync_token_everything_that_changed_since_is_listed() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let quiet = ada.direct_with(&bob).await;
    let busy = ada.founds_a_group("club", &[&bob]).await;
    let live = ada.opens(Transport::WebSocketJson).await;
    let token = live.syncs(SyncRequest::default()).await.sync_token;
    let bob_live = bob.opens(Transport::Tcp).await;
    bob_live.says(busy, "news").await;
    let since = live.syncs(SyncRequest { since: token.clone(), ..SyncRequest::default() }).await;
    let listed: Vec<u64> = since.conversations.iter().map(|listed| listed.conversation_id).collect();
    // The token may reach back a little, so the quiet one may be listed; the busy one must be.
    assert!(listed.contains(&busy), "{listed:?}");
    assert!(listed.iter().all(|id| [quiet, busy].contains(id)));
    // Leaving changes it too, and says so.
    ada.posts(&format!("/conversations/{busy}/leave"), serde_json::json!({})).await.succeeds();
    let since = live.syncs(SyncRequest { since: token, ..SyncRequest::default() }).await;
    let left = since.conversations.iter().find(|listed| listed.conversation_id == busy).expect("a change");
    assert!(left.removed, "{left:?}");
    assert_eq!(
        live.is_refused(Request::Sync(SyncRequest { since: "yesterday".into(), ..SyncRequest::default() }))
            .await
            .code,
        ErrorCode::InvalidArgument
    );
    assert_eq!(
        live.is_refused(Request::Sync(SyncRequest { page: "three".into(), ..SyncRequest::default() }))
            .await
            .code,
        ErrorCode::InvalidArgument
    );
}

#[tokio::test]
async fn what_was_read_elsewhere_is_listed_with_an_earlier_token() {
    for kind in ["direct", "group"] {
        let (ada, bob) = World::shared().two("ada", "bob").await;
        let id = match kind {
            "direct" => ada.direct_with(&bob).await,
            _ => ada.founds_a_group("club", &[&bob]).await,
        };
        let ada_live = ada.opens(Transport::WebSocketJson).await;
        let seq = ada_live.says(id, "news").await.seq;
        let (live, elsewhere) = (bob.opens(Transport::Tcp).await, bob.on_another_device().await);
        let first = live.syncs(SyncRequest::default()).await;
        assert!(first.conversations[0].unread >= 1, "{kind}: {first:?}");
        let ada_token = ada_live.syncs(SyncRequest::default()).await.sync_token;
        elsewhere.opens(Transport::WebSocketProto).await.has_read(id, seq).await;
        // Also if the other conversation is named, whose messages come by its cursor.
        for named in [vec![], vec![Cursor { conversation_id: id, seq }]] {
            let since =
                SyncRequest { since: first.sync_token.clone(), cursors: named, ..SyncRequest::default() };
            let page = live.syncs(since).await;
            let row =
                page.conversations.iter().find(|row| row.conversation_id == id).expect("it has changed");
            assert_eq!((row.unread, row.read_seq), (0, seq), "{kind}");
        }
        let since = SyncRequest { since: ada_token, ..SyncRequest::default() };
        let page = ada_live.syncs(since).await;
        let row = page.conversations.iter().find(|row| row.conversation_id == id);
        match kind {
            "direct" => assert_eq!(row.map(|row| row.peer_read_seq), Some(seq), "the ticks of a direct one"),
            _ => assert!(row.is_none(), "{row:?}"),
        }
    }
}

#[tokio::test]
async fn a_conversation_that_is_named_is_listed_where_more_than_its_messages_changed() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let mut rooms = Vec::new();
    for name in ["written to", "renamed", "lost", "pinned", "ended"] {
        rooms.push(ada.founds_a_group(name, &[&bob]).await);
    }
    let [written, renamed, lost, pinned, ended] = rooms[..] else { panic!("{rooms:?}") };
    let live = bob.opens(Transport::WebSocketJson).await;
    // Behind the changes that made them.
    let token = crate::world::eventually("a token that lists nothing", async || {
        let token = live.syncs(SyncRequest::default()).await.sync_token;
        let since = SyncRequest { since: token.clone(), ..SyncRequest::default() };
        live.syncs(since).await.conversations.is_empty().then_some(token)
    })
    .await;
    let text = ada.opens(Transport::Tcp).await.says(written, "news").await.seq;
    ada.changes_room(renamed, serde_json::json!({"name": "new"})).await.is(200);
    ada.deletes(&format!("/conversations/{lost}/members/{}", bob.id)).await.is(204);
    bob.puts(&format!("/conversations/{pinned}/preferences"), serde_json::json!({"pinned": true}))
        .await
        .succeeds();
    ada.deletes(&format!("/conversations/{ended}")).await.is(204);
    let cursors = |ids: &[u64]| ids.iter().map(|&id| Cursor { conversation_id: id, seq: 0 }).collect();
    let since = SyncRequest { since: token, cursors: cursors(&rooms), ..SyncRequest::default() };
    let page = live.syncs(since).await;
    assert!(page.messages.iter().any(|message| (message.conversation_id, message.seq) == (written, text)));
    let row = |id| page.conversations.iter().find(|row| row.conversation_id == id);
    assert_eq!(row(written), None, "all that is new comes by its cursor");
    assert_eq!(row(renamed).map(|row| row.name.as_str()), Some("new"));
    assert!(row(pinned).is_some_and(|row| row.pinned));
    assert!(row(lost).is_some_and(|row| row.removed) && row(ended).is_some_and(|row| row.removed));
    // Who has no token learns it too.
    let page = live.syncs(SyncRequest { cursors: cursors(&rooms), ..SyncRequest::default() }).await;
    let listed: BTreeSet<u64> = page.conversations.iter().map(|row| row.conversation_id).collect();
    assert_eq!(listed, BTreeSet::from([lost, ended]), "of those that it names, what it has lost");
}

#[tokio::test]
async fn an_old_sync_token_lists_nothing_that_has_not_changed() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let live = ada.opens(Transport::WebSocketJson).await;
    let quiet = ada.direct_with(&bob).await;
    // Tokens overlap by some seconds against writes under way; once one lies after the change, it is not listed.
    crate::world::eventually("a token from after the change", async || {
        let token = live.syncs(SyncRequest::default()).await.sync_token;
        let since = live.syncs(SyncRequest { since: token, ..SyncRequest::default() }).await;
        since.conversations.is_empty().then_some(())
    })
    .await;
    let listed = live.syncs(SyncRequest::default()).await;
    assert_eq!(listed.conversations.first().map(|listed| listed.conversation_id), Some(quiet));
}

#[tokio::test]
async fn a_newcomer_syncs_from_its_joining_on() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.founds_a_group("club", &[]).await;
    let ada_live = ada.opens(Transport::Tcp).await;
    let secret = ada_live.says(id, "before bob").await;
    bob.posts(&format!("/conversations/{id}/join"), serde_json::json!({})).await.succeeds();
    let after = ada_live.says(id, "after bob").await;
    for transport in TRANSPORTS {
        let live = bob.opens(transport).await;
        let came = live.catches_up(&[(id, 0)], 0).await;
        let first = came[&id][0];
        assert!(first > secret.seq && first <= after.seq, "{came:?}");
        let page = live.syncs(SyncRequest::default()).await;
        assert_eq!(page.conversations[0].first_seq, first, "{transport:?}");
        assert_eq!(came[&id], (first..=after.seq).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn live_push_begins_at_welcome_so_that_sync_and_push_leave_no_gap() {
    let (ada, bob) = World::shared().two("ada", "bob").await;
    let id = ada.direct_with(&bob).await;
    let ada_live = ada.opens(Transport::Tcp).await;
    const ALL: u64 = 150;
    let talks = async {
        for at in 0..ALL {
            ada_live.says(id, &format!("{at}")).await;
        }
    };
    let joins = async {
        for turn in 0..6 {
            let transport = TRANSPORTS[turn % TRANSPORTS.len()];
            misses_nothing(&bob, transport, id).await;
        }
    };
    tokio::join!(talks, joins);
}

/// Opens a connection while others talk: what it syncs and what it hears must join without a gap.
async fn misses_nothing(person: &Person, transport: Transport, id: u64) {
    let mut live = person.opens(transport).await;
    let synced = live.catches_up(&[(id, 0)], 0).await.remove(&id).unwrap_or_default();
    let mut next = synced.last().copied().unwrap_or(0) + 1;
    if next > 140 {
        return;
    }
    for _ in 0..5 {
        let heard = live.hears_a_message().await.seq;
        assert!(heard <= next, "{transport:?}: {heard} came before {next}");
        if heard == next {
            next += 1;
        }
    }
}
