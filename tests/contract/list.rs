//! The list of a user's conversations.

use rookery::protocol::v1::Message;
use rookery::storage::{ConversationRow, CursorAdvance, ListRow, Stores};

use crate::fixture::{add_members, group, member, message, remove_member};

async fn list(
    stores: &Stores,
    user_id: u64,
    since: u64,
    before: Option<(u64, u64)>,
    limit: u32,
) -> Vec<ConversationRow> {
    stores.conversations.conversations_of(user_id, since, before, limit).await.expect("it is read")
}

fn ids(rows: &[ConversationRow]) -> Vec<u64> {
    rows.iter().map(|row| row.conversation.id).collect()
}

pub async fn the_newest_activity_comes_first(stores: &Stores) {
    let a = group(stores, &[2], 10).await.id;
    let b = group(stores, &[2], 20).await.id;
    let (c, _) = stores.conversations.direct(1, 2, 15).await.expect("it is created");
    assert_eq!(ids(&list(stores, 1, 0, None, 9).await), [b, c.id, a]);
    stores.messages.append(&[message(a, 1, 2, "x")]).await.expect("it is stored");
    assert_eq!(ids(&list(stores, 1, 0, None, 9).await), [a, b, c.id]);
    remove_member(stores, b, 2, 2_000_000).await;
    assert_eq!(ids(&list(stores, 1, 0, None, 9).await), [b, a, c.id]);
    assert_eq!(ids(&list(stores, 1, 0, None, 2).await), [b, a]);
    assert_eq!(list(stores, 9, 0, None, 9).await, []);
}

pub async fn a_row_tells_all_of_a_conversation(stores: &Stores) {
    let (direct, _) = stores.conversations.direct(1, 2, 15).await.expect("it is created");
    let rooks = group(stores, &[2, 3, 4], 16).await;
    remove_member(stores, rooks.id, 4, 17).await;
    let sent: Vec<_> = (1..=3).map(|seq| message(direct.id, seq, 2, &format!("c{seq}"))).collect();
    stores.messages.append(&sent).await.expect("they are stored");
    let cursor = CursorAdvance {
        conversation_id: direct.id,
        user_id: 2,
        delivered_seq: 3,
        read_seq: 3,
        is_news: true,
    };
    stores.conversations.advance_cursors(&[cursor]).await.expect("they move");

    let rows = list(stores, 1, 0, None, 9).await;
    assert_eq!(ids(&rows), [direct.id, rooks.id]);
    assert_eq!(rows[0].conversation, direct);
    assert_eq!((rows[0].member.user_id, rows[0].member_count), (1, 2));
    let peer = rows[0].peer.as_ref().expect("a direct conversation has another side");
    assert_eq!((peer.user_id, peer.read_seq), (2, 3));
    assert_eq!(rows[0].last_message, Some(sent[2].clone()));
    assert_eq!((rows[0].unread, rows[0].activity_ms()), (3, sent[2].created_at_ms));
    assert_eq!((rows[1].peer.clone(), rows[1].last_message.clone(), rows[1].unread), (None, None, 0));
    assert_eq!((rows[1].member_count, rows[1].activity_ms()), (3, 17));

    for row in rows {
        let one = stores.conversations.conversation_of(1, row.conversation.id).await;
        assert_eq!(one, Ok(Some(row)));
    }
    assert_eq!(stores.conversations.conversation_of(9, rooks.id).await, Ok(None));
}

pub async fn unread_counts_others_messages_behind_the_cursor(stores: &Stores) {
    let rooks = group(stores, &[2, 3], 10).await.id;
    let sent: Vec<_> = (1..=9).map(|seq| message(rooks, seq, 1 + seq % 3, &format!("c{seq}"))).collect();
    stores.messages.append(&sent).await.expect("they are stored");
    let unread = async |user_id| {
        let row = stores.conversations.conversation_of(user_id, rooks).await.expect("it is read");
        row.expect("there is a row").unread
    };
    assert_eq!(unread(1).await, 6);
    let cursor =
        CursorAdvance { conversation_id: rooks, user_id: 1, delivered_seq: 9, read_seq: 7, is_news: true };
    stores.conversations.advance_cursors(&[cursor]).await.expect("they move");
    assert_eq!(unread(1).await, 1, "seq 8 is another's, seq 9 their own");
    assert_eq!(unread(2).await, 6);
}

pub async fn what_is_taken_back_or_hidden_is_not_unread(stores: &Stores) {
    let (rooks, crows) = (group(stores, &[2, 3], 10).await.id, group(stores, &[2], 20).await.id);
    let sent: Vec<_> = (1..=6).map(|seq| message(rooks, seq, 1, &format!("c{seq}"))).collect();
    stores.messages.append(&sent).await.expect("they are stored");
    stores.messages.append(&[message(crows, 1, 1, "c"), message(crows, 2, 1, "d")]).await.expect("stored");
    let unread = async |user_id| {
        let mut rows = list(stores, user_id, 0, None, 9).await;
        rows.sort_by_key(|row| row.conversation.id);
        let of_rooks = stores.conversations.conversation_of(user_id, rooks).await.expect("it is read");
        assert_eq!(of_rooks.map(|row| row.unread), Some(rows[0].unread));
        rows.iter().map(|row| row.unread).collect::<Vec<_>>()
    };
    assert_eq!(unread(2).await, [6, 2]);
    let kind = rookery::protocol::MessageKind::Recall as i32;
    let recall = Message { kind, target_seq: 3, text: String::new(), ..message(rooks, 7, 1, "r") };
    stores.messages.append(&[recall]).await.expect("it is stored");
    assert_eq!((unread(2).await, unread(3).await), (vec![5, 2], vec![5]));
    stores.marks.hide(2, rooks, &[1, 2, 3], 30).await.expect("hidden");
    stores.marks.hide(2, crows, &[1], 30).await.expect("hidden");
    assert_eq!((unread(2).await, unread(3).await), (vec![3, 1], vec![5]), "3 was taken back before");
    let cursor =
        CursorAdvance { conversation_id: rooks, user_id: 2, delivered_seq: 4, read_seq: 1, is_news: true };
    stores.conversations.advance_cursors(&[cursor]).await.expect("it moves");
    assert_eq!(unread(2).await, [3, 1]);
    stores.marks.hide(1, rooks, &[4], 30).await.expect("hidden");
    assert_eq!(unread(1).await, [0, 0], "one's own was none");
}

pub async fn what_was_left_shows_only_to_those_who_ask_for_changes(stores: &Stores) {
    let a = group(stores, &[2], 10).await.id;
    let b = group(stores, &[2], 20).await.id;
    stores.messages.append(&[message(a, 1, 1, "x")]).await.expect("it is stored");
    remove_member(stores, a, 2, 30).await;
    assert_eq!(ids(&list(stores, 2, 0, None, 9).await), [b]);
    let changed = list(stores, 2, 25, None, 9).await;
    assert_eq!(ids(&changed), [a]);
    assert_eq!((changed[0].member.removed_at_ms, changed[0].unread), (30, 0));
    assert_eq!(changed[0].last_message, None, "what came after is not theirs to see");
    assert_eq!(ids(&list(stores, 2, 30, None, 9).await), [a], "the bound itself counts");
    assert_eq!(ids(&list(stores, 2, 31, None, 9).await), Vec::<u64>::new());
    assert_eq!(ids(&list(stores, 2, 20, None, 9).await), [a, b]);
}

pub async fn pages_follow_each_other_without_gap(stores: &Stores) {
    let mut made = Vec::new();
    for at in 0..150u64 {
        // Pairs of the same time, which only the id orders.
        made.push((100 + at / 2, group(stores, &[2], 100 + at / 2).await.id));
    }
    made.sort_unstable();
    made.reverse();
    let wanted: Vec<u64> = made.iter().map(|(_, id)| *id).collect();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = list(stores, 2, 0, before, 40).await;
        let Some(last) = page.last() else { break };
        before = Some((last.activity_ms(), last.conversation.id));
        seen.extend(ids(&page));
    }
    assert_eq!(seen, wanted);
    let all = list(stores, 2, 0, None, 200).await;
    let mut named: Vec<u64> = wanted.iter().step_by(3).copied().collect();
    let rows: Vec<_> = all.iter().step_by(3).cloned().collect();
    named.push(u64::MAX >> 11);
    let mut these = stores.conversations.these_conversations_of(2, &named).await.expect("they are read");
    these.sort_by_key(|row| std::cmp::Reverse((row.activity_ms(), row.conversation.id)));
    assert_eq!(these, rows);
    assert!(all.iter().all(|row| row.member_count == 2));
    assert_eq!(ids(&all), wanted);
}

pub async fn what_was_before_joining_is_not_shown(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await.id;
    let sent: Vec<_> = (1..=4).map(|seq| message(rooks, seq, 2, &format!("c{seq}"))).collect();
    stores.messages.append(&sent).await.expect("they are stored");
    add_members(stores, &[member(rooks, 3, 5, 40)]).await;
    let late = stores.conversations.conversation_of(3, rooks).await.expect("it is read").expect("there");
    assert_eq!((late.last_message, late.unread), (None, 0));
    stores.messages.append(&[message(rooks, 5, 2, "c5")]).await.expect("it is stored");
    let late = stores.conversations.conversation_of(3, rooks).await.expect("it is read").expect("there");
    assert_eq!((late.last_message.map(|m| m.seq), late.unread), (Some(5), 1));
}

pub async fn of_what_the_reader_knows_only_the_places_are_told(stores: &Stores) {
    let mut ids = Vec::new();
    for at in 0..5 {
        let id = group(stores, &[2, 3], 10 + at).await.id;
        let log: Vec<_> = (1..=at).map(|seq| message(id, seq, 1, &format!("m{at}-{seq}"))).collect();
        stores.messages.append(&log).await.expect("they are stored");
        ids.push(id);
    }
    add_members(stores, &[member(ids[4], 4, 5, 40)]).await;
    remove_member(stores, ids[2], 2, 2_000_000).await;
    let archived = rookery::storage::PreferenceChange { archived: Some(true), ..Default::default() };
    stores.people.set_preferences(2, ids[1], archived, 3_000_000).await.expect("they are set");
    for user_id in [2, 3, 4] {
        for (since, before, limit) in
            [(0, None, 9), (1, None, 9), (1_500_000, None, 9), (0, Some((1_000_003, 0)), 2)]
        {
            let rows = list(stores, user_id, since, before, limit).await;
            for spared in [vec![], vec![ids[1]], ids.clone(), vec![ids[2], ids[4], 999]] {
                let spared = spared.into_iter().collect();
                let list = stores.conversations.list_sparing(user_id, since, before, limit, &spared).await;
                let list = list.expect("it is read");
                let places: Vec<_> = list.iter().map(ListRow::place).collect();
                let wanted = rows.iter().map(|row| ListRow::Whole(Box::new(row.clone())).place());
                assert_eq!(places, wanted.collect::<Vec<_>>(), "user {user_id} since {since}, {spared:?}");
                for (listed, row) in list.into_iter().zip(&rows) {
                    let is_spared = spared.contains(&row.conversation.id);
                    assert_eq!(listed.whole(), (!is_spared).then(|| row.clone()));
                }
            }
        }
    }
    let mut members =
        stores.conversations.memberships(2, &[ids[2], ids[0], 999, ids[4]]).await.expect("they are read");
    members.sort_by_key(|member| member.conversation_id);
    let mut one_by_one = Vec::new();
    for id in [ids[0], ids[2], ids[4]] {
        one_by_one.extend(stores.conversations.member(id, 2).await.expect("it is read"));
    }
    assert_eq!(members, one_by_one);
    assert!(members[1].removed_at_ms != 0);
}
