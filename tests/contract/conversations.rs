//! [`rookery::storage::ConversationStore`], but for the list.

use std::collections::HashSet;

use rookery::protocol::{ConversationKind, JoinPolicy, MemberRole};
use rookery::storage::{CursorAdvance, MemberRecord, NewGroup, StoreError, Stores};

use crate::fixture::{add_members, group, member, remove_member};

async fn user_ids(stores: &Stores, conversation_id: u64) -> Vec<u64> {
    let members = stores.conversations.members(conversation_id).await.expect("they are read");
    members.into_iter().map(|member| member.user_id).collect()
}

async fn row(stores: &Stores, conversation_id: u64, user_id: u64) -> MemberRecord {
    stores.conversations.member(conversation_id, user_id).await.expect("it is read").expect("there is a row")
}

pub async fn a_group_begins_with_its_owner_and_members(stores: &Stores) {
    let rooks = group(stores, &[4, 2, 4, 1], 50).await;
    assert_eq!(
        (rooks.kind, rooks.owner_id, rooks.join_policy),
        (ConversationKind::Group, 1, JoinPolicy::Approval)
    );
    assert_eq!((rooks.created_at_ms, rooks.updated_at_ms), (50, 50));
    assert_eq!(stores.conversations.conversation(rooks.id).await, Ok(Some(rooks.clone())));
    assert_eq!(stores.conversations.conversation(rooks.id + 99).await, Ok(None));
    let members = stores.conversations.members(rooks.id).await.expect("they are read");
    let roles: Vec<_> = members.iter().map(|member| (member.user_id, member.role)).collect();
    assert_eq!(roles, [(1, MemberRole::Owner), (2, MemberRole::Member), (4, MemberRole::Member)]);
    assert!(members.iter().all(|member| member.first_seq == 1 && member.joined_at_ms == 50));
    assert_eq!(stores.conversations.member(rooks.id, 3).await, Ok(None));
}

pub async fn a_large_group_is_created_whole(stores: &Stores) {
    let ids: Vec<u64> = (2..=1001).collect();
    let rooks = group(stores, &ids, 1).await;
    assert_eq!(user_ids(stores, rooks.id).await, (1..=1001).collect::<Vec<_>>());
    let more: Vec<_> = (900..2000).map(|id| member(rooks.id, id, 5, 2)).collect();
    add_members(stores, &more).await;
    assert_eq!(user_ids(stores, rooks.id).await, (1..2000).collect::<Vec<_>>());
}

pub async fn a_direct_conversation_is_created_once(stores: &Stores) {
    let (first, is_new) = stores.conversations.direct(7, 3, 10).await.expect("it is created");
    assert!(is_new);
    assert_eq!((first.kind, first.owner_id, first.created_at_ms), (ConversationKind::Direct, 0, 10));
    assert_eq!(stores.conversations.direct(3, 7, 20).await, Ok((first.clone(), false)));
    assert_eq!(user_ids(stores, first.id).await, [3, 7]);
    let (other, is_new) = stores.conversations.direct(3, 8, 20).await.expect("it is created");
    assert!(is_new && other.id != first.id);
    assert!(matches!(stores.conversations.direct(3, 3, 20).await, Err(StoreError::Invalid(_))));
}

pub async fn concurrent_calls_get_the_same_direct_conversation(stores: &Stores) {
    let calls: Vec<_> = (0..32u64)
        .map(|at| {
            let conversations = stores.conversations.clone();
            tokio::spawn(async move {
                if at % 2 == 0 {
                    conversations.direct(1, 2, at).await
                } else {
                    conversations.direct(2, 1, at).await
                }
            })
        })
        .collect();
    let mut ids = HashSet::new();
    let mut created = 0;
    for call in calls {
        let (record, is_new) = call.await.expect("no panic").expect("every call gets it");
        ids.insert(record.id);
        created += u32::from(is_new);
    }
    assert_eq!((ids.len(), created), (1, 1));
}

pub async fn members_leave_and_come_back(stores: &Stores) {
    let rooks = group(stores, &[2, 3], 10).await;
    let cursor =
        CursorAdvance { conversation_id: rooks.id, user_id: 2, delivered_seq: 8, read_seq: 6, is_news: true };
    stores.conversations.advance_cursors(&[cursor]).await.expect("they move");
    remove_member(stores, rooks.id, 2, 20).await;
    assert_eq!(user_ids(stores, rooks.id).await, [1, 3]);
    let left = row(stores, rooks.id, 2).await;
    assert_eq!((left.removed_at_ms, left.updated_at_ms), (20, 20));
    let record = stores.conversations.conversation(rooks.id).await.expect("it is read").expect("there");
    assert_eq!(record.updated_at_ms, 20);

    let again = MemberRecord { role: MemberRole::Admin, ..member(rooks.id, 2, 12, 30) };
    add_members(stores, &[again, member(rooks.id, 4, 12, 30)]).await;
    assert_eq!(user_ids(stores, rooks.id).await, [1, 2, 3, 4]);
    let back = row(stores, rooks.id, 2).await;
    assert_eq!((back.role, back.first_seq, back.removed_at_ms), (MemberRole::Admin, 12, 0));
    assert_eq!((back.delivered_seq, back.read_seq, back.joined_at_ms), (8, 6, 30));
    let record = stores.conversations.conversation(rooks.id).await.expect("it is read").expect("there");
    assert_eq!(record.updated_at_ms, 30);
}

pub async fn some_members_and_the_roster_are_the_members(stores: &Stores) {
    let rooks = group(stores, &[2, 3, 4], 10).await;
    let cursor =
        CursorAdvance { conversation_id: rooks.id, user_id: 2, delivered_seq: 8, read_seq: 6, is_news: true };
    stores.conversations.advance_cursors(&[cursor]).await.expect("they move");
    remove_member(stores, rooks.id, 3, 20).await;
    let among = async |ids: &[u64]| {
        let mut some = stores.conversations.members_among(rooks.id, ids).await.expect("they are read");
        some.sort_by_key(|member| member.user_id);
        some
    };
    let some = among(&[9, 4, 2, 3, 2]).await;
    assert_eq!(some.iter().map(|member| member.user_id).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(some[0], row(stores, rooks.id, 2).await);
    assert!(among(&[]).await.is_empty() && among(&[3]).await.is_empty());
    let many: Vec<u64> = (1..1000).collect();
    assert_eq!(among(&many).await.len(), 3);
    let roster = stores.conversations.roster(rooks.id).await.expect("it is read");
    assert_eq!(roster.iter().map(|member| member.user_id).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!((roster[0].role, roster[1].read_seq, roster[1].delivered_seq), (MemberRole::Owner, 0, 0));
}

pub async fn members_stay_as_they_are_when_added_again(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await;
    let before = row(stores, rooks.id, 1).await;
    let owner_as_member = MemberRecord { first_seq: 99, ..member(rooks.id, 1, 99, 40) };
    add_members(stores, &[owner_as_member]).await;
    assert_eq!(row(stores, rooks.id, 1).await, before);

    let tasks: Vec<_> = (0..16u64)
        .map(|at| {
            let stores = stores.clone();
            let rows: Vec<_> = (0..8).map(|n| member(rooks.id, 100 + (at + n) % 12, at + 1, 50)).collect();
            tokio::spawn(async move { add_members(&stores, &rows).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("all are added");
    }
    assert_eq!(user_ids(stores, rooks.id).await.len(), 14);
}

pub async fn cursors_never_move_back(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await;
    let at = |user_id, delivered_seq, read_seq| CursorAdvance {
        conversation_id: rooks.id,
        user_id,
        delivered_seq,
        read_seq,
        is_news: true,
    };
    let seqs = async |user_id| {
        let row = row(stores, rooks.id, user_id).await;
        (row.delivered_seq, row.read_seq, row.updated_at_ms)
    };
    stores.conversations.advance_cursors(&[at(1, 5, 2), at(2, 9, 9)]).await.expect("they move");
    stores.conversations.advance_cursors(&[at(1, 3, 4)]).await.expect("one of them moves");
    stores.conversations.advance_cursors(&[at(2, 1, 1), at(7, 4, 4)]).await.expect("none of them moves");
    stores.conversations.advance_cursors(&[]).await.expect("nothing to move");
    assert_eq!(seqs(1).await, (5, 4, 10));
    assert_eq!(seqs(2).await, (9, 9, 10));
    assert_eq!(stores.conversations.member(rooks.id, 7).await, Ok(None), "no row comes of a cursor");
    stores.conversations.advance_cursors(&[at(1, 8, 0), at(1, 7, 8), at(1, 0, 3)]).await.expect("they move");
    assert_eq!(seqs(1).await, (8, 8, 10), "the furthest of one batch holds");
}

pub async fn many_cursors_move_at_once(stores: &Stores) {
    let ids: Vec<u64> = (2..=300).collect();
    let rooks = group(stores, &ids, 10).await;
    let to = |seq: u64| -> Vec<CursorAdvance> {
        let cursor = |user_id| CursorAdvance {
            conversation_id: rooks.id,
            user_id,
            delivered_seq: seq,
            read_seq: seq,
            is_news: true,
        };
        (1..=300).map(cursor).collect()
    };
    let tasks: Vec<_> = (1..=8u64)
        .map(|seq| {
            let conversations = stores.conversations.clone();
            let mut cursors = to(seq);
            if seq % 2 == 0 {
                cursors.reverse();
            }
            tokio::spawn(async move { conversations.advance_cursors(&cursors).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), Ok(()));
    }
    let members = stores.conversations.members(rooks.id).await.expect("they are read");
    assert!(members.iter().all(|member| (member.delivered_seq, member.read_seq) == (8, 8)));
}

pub async fn time_of_change_never_moves_back(stores: &Stores) {
    let rooks = group(stores, &[2], 100).await;
    add_members(stores, &[member(rooks.id, 3, 1, 90)]).await;
    let record = stores.conversations.conversation(rooks.id).await.expect("it is read").expect("there");
    assert_eq!(record.updated_at_ms, 100, "clocks of two nodes differ");
}

pub async fn a_group_is_created_once_under_a_client_id(stores: &Stores) {
    let wanted = |owner_id: u64, client_id: &str| NewGroup {
        owner_id,
        name: "Rooks".to_owned(),
        description: String::new(),
        join_policy: JoinPolicy::Open,
        member_ids: vec![7],
        client_id: client_id.to_owned(),
        now_ms: 10,
    };
    let create =
        async |owner_id, client_id| stores.conversations.create_group(wanted(owner_id, client_id)).await;
    let as_named = async |owner_id, client_id| {
        stores.conversations.created_as(owner_id, client_id).await.expect("it is looked for")
    };
    assert_eq!(as_named(1, "g").await, None);
    let first = create(1, "g").await.expect("it is created");
    assert_eq!(create(1, "g").await, Err(StoreError::Exists));
    assert_eq!(as_named(1, "g").await, Some(first.clone()));
    for (owner_id, client_id) in [(1, "G"), (1, "g "), (2, "g"), (1, "鸟🐦")] {
        let other =
            create(owner_id, client_id).await.expect("names differ by every byte, and are each user's own");
        assert_ne!(other.id, first.id);
        assert_eq!(as_named(owner_id, client_id).await, Some(other));
    }
    // Without a name there is nothing to repeat.
    let (one, two) = (create(1, "").await.expect("created"), create(1, "").await.expect("created"));
    assert_ne!(one.id, two.id);
    assert_eq!(stores.conversations.members(first.id).await.expect("they are read").len(), 2);
}
