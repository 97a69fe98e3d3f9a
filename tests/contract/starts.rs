//! What the first messages of conversations need, for many together; and what that costs a MariaDB in statements.

use rookery::domain::privacy::{Audience, Relation};
use rookery::protocol::{ContactState, ConversationKind};
use rookery::storage::starts::{MEMBERS_TOGETHER, new_direct_row};
use rookery::storage::{BlockRecord, ContactRecord, MemberRecord, PrivacyRecord, StoreError, Stores};
use sea_orm::sqlx::{self, Row as _};

use crate::fixture::{add_members, group, member, message, mysql_config, opened, remove_member, user};
use crate::mariadb_server::MariaDb;

/// Pairs of one user with each of so many others.
fn pairs(others: u64) -> Vec<(u64, u64)> {
    (1..=others).map(|other| if other % 2 == 0 { (900, other) } else { (other, 900) }).collect()
}

pub async fn many_direct_conversations_are_made_once(stores: &Stores) {
    let wanted = pairs(150);
    let (old, _) = stores.conversations.direct(900, 3, 5).await.expect("it is created");
    let ada = stores.accounts.create_user(user("ada", "Ada")).await.expect("the name is free").id;
    let found = stores.people.meetings(&wanted).await.expect("they are looked for");
    assert_eq!(found.iter().filter_map(|(id, _)| *id).collect::<Vec<_>>(), [old.id]);
    assert!(found.iter().zip(&wanted).all(|((_, is_there), (_, other))| *is_there == (*other == ada)));
    let found =
        stores.people.meetings(&[(900, ada), (900, 77), (3, 900)]).await.expect("they are looked for");
    assert_eq!(found, [(None, true), (None, false), (Some(old.id), false)]);
    // One of them is there, one is asked for twice.
    let mut asked = wanted.clone();
    asked.push((2, 900));
    let made = stores.conversations.make_directs(&asked, 10).await.expect("they are made");
    assert_eq!(made[2], (old.id, false));
    assert_eq!(made[150].0, made[1].0, "either side of a pair");
    assert_eq!(made[..150].iter().filter(|(_, is_new)| *is_new).count(), 149);
    let ids: Vec<u64> = made.iter().map(|(id, _)| *id).collect();
    let found = stores.people.meetings(&asked).await.expect("they are looked for");
    assert_eq!(found.into_iter().filter_map(|(id, _)| id).collect::<Vec<_>>(), ids);
    // As those that are made one by one.
    let row = stores.conversations.conversation_of(900, ids[7]).await.expect("it is read");
    assert_eq!(row, Some(new_direct_row(ids[7], 900, 8, 10)));
    let row = stores.conversations.conversation_of(8, ids[7]).await.expect("it is read");
    assert_eq!(row, Some(new_direct_row(ids[7], 8, 900, 10)));
    let again = stores.conversations.make_directs(&asked, 20).await.expect("they are there");
    assert!(again.iter().zip(&ids).all(|(again, id)| *again == (*id, false)));
    let bad = stores.conversations.make_directs(&[(1, 700), (4, 4)], 20).await;
    assert!(matches!(bad, Err(StoreError::Invalid(_))), "{bad:?}");
    // A log that begins at once is in the list.
    stores.messages.append(&[message(ids[0], 1, 1, "a")]).await.expect("it is stored");
    let list = stores.conversations.conversations_of(900, 0, None, 1).await.expect("it is read");
    assert_eq!(list[0].conversation.id, ids[0]);
}

pub async fn nodes_that_make_the_same_conversations_agree(stores: &Stores) {
    let tasks: Vec<_> = (0..4u64)
        .map(|node| {
            let conversations = stores.conversations.clone();
            // Each begins elsewhere, so that they meet in the middle.
            let wanted: Vec<(u64, u64)> = (node * 10..node * 10 + 25).map(|other| (900, other + 1)).collect();
            tokio::spawn(async move {
                let made = conversations.make_directs(&wanted, node).await.expect("they are made");
                wanted.into_iter().zip(made).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut ids = std::collections::BTreeMap::new();
    let mut new = 0;
    for task in tasks {
        for (pair, (id, is_new)) in task.await.expect("no panic") {
            assert_eq!(*ids.entry(pair).or_insert(id), id, "{pair:?}");
            new += usize::from(is_new);
        }
    }
    assert_eq!((ids.len(), new), (55, 55), "each was made by one of them");
    for id in ids.values() {
        let members = stores.conversations.members(*id).await.expect("they are read");
        assert_eq!(members.len(), 2);
    }
}

pub async fn rooms_open_as_when_they_are_read_one_by_one(stores: &Stores) {
    let (direct, _) = stores.conversations.direct(7, 3, 10).await.expect("it is created");
    let small = group(stores, &[2, 3, 4], 10).await.id;
    remove_member(stores, small, 3, 20).await;
    let large = group(stores, &(2..=MEMBERS_TOGETHER as u64 + 1).collect::<Vec<_>>(), 10).await.id;
    let full = group(stores, &(2..=MEMBERS_TOGETHER as u64).collect::<Vec<_>>(), 10).await.id;
    let ids = [direct.id, small, 999_999, large, full, small];
    let openings = stores.conversations.openings(&ids).await.expect("they are read");
    for (id, opening) in ids.iter().zip(&openings) {
        let conversation = stores.conversations.conversation(*id).await.expect("it is read");
        assert_eq!(opening.conversation, conversation);
        let members: Vec<MemberRecord> = stores.conversations.members(*id).await.expect("they are read");
        match &opening.members {
            Some(found) => assert_eq!(found, &members, "of {id}"),
            None => assert!(*id == large || conversation.is_none(), "{id}"),
        }
    }
    assert_eq!(openings[3].members, None);
    assert_eq!(openings[1].members.as_ref().map(Vec::len), Some(3));
    // Who leaves a large room makes it small enough.
    remove_member(stores, large, 2, 30).await;
    add_members(stores, &[member(small, 77, 1, 40)]).await;
    let openings = stores.conversations.openings(&[large, small]).await.expect("they are read");
    assert_eq!(openings[0].members.as_ref().map(Vec::len), Some(MEMBERS_TOGETHER));
    assert!(openings[1].members.iter().flatten().any(|member| member.user_id == 77));
    let pairs = stores.conversations.pairs_of(&ids).await.expect("they are read");
    assert_eq!(pairs[..4], [Some(Some((3, 7))), Some(None), None, Some(None)]);
    assert_eq!(direct.kind, ConversationKind::Direct);
}

pub async fn the_newest_messages_are_those_of_each(stores: &Stores) {
    for id in 1..=20u64 {
        let log: Vec<_> = (1..=id).map(|seq| message(id, seq, 5, &format!("m{seq}"))).collect();
        stores.messages.append(&log).await.expect("it is stored");
    }
    let reaction = rookery::protocol::v1::Message {
        kind: rookery::protocol::MessageKind::Reaction as i32,
        target_seq: 6,
        emoji: "👍".to_owned(),
        ..message(7, 8, 6, "r")
    };
    stores.messages.append(&[reaction]).await.expect("it is stored");
    let ids = [7, 3, 99, 20, 3, 1, 12, 2, 15];
    let tails = stores.messages.newest(&ids, 8).await.expect("they are read");
    for (id, tail) in ids.iter().zip(&tails) {
        let alone = stores.messages.before(*id, u64::MAX >> 1, 1, 8).await.expect("it is read");
        assert_eq!(tail, &alone, "of {id}");
    }
    assert_eq!((tails[3].len(), tails[2].len(), tails[0][5].reactions.len()), (8, 0, 1));
}

pub async fn acquaintances_of_many_are_those_of_each(stores: &Stores) {
    let contact = |user_id, contact_id, state| ContactRecord {
        user_id,
        contact_id,
        state,
        message: String::new(),
        updated_at_ms: 1,
    };
    let friends = |a, b| [contact(a, b, ContactState::Friend), contact(b, a, ContactState::Friend)];
    stores.contacts.put_contacts(&friends(1, 2)).await.expect("it is stored");
    stores.contacts.put_contacts(&friends(40, 8)).await.expect("it is stored");
    let asked = [contact(5, 6, ContactState::Requested), contact(6, 5, ContactState::Invited)];
    stores.contacts.put_contacts(&asked).await.expect("it is stored");
    for (user_id, blocked_id) in [(3, 1), (9, 10), (10, 9)] {
        let block = BlockRecord { user_id, blocked_id, created_at_ms: 1 };
        stores.people.block(block).await.expect("it is stored");
    }
    let mut wanted = vec![(1, 2), (2, 1), (1, 3), (3, 1), (8, 40), (5, 6), (9, 10)];
    wanted.extend((100..200).map(|user| (user, user + 1)));
    let strict = PrivacyRecord {
        user_id: 3,
        who_may_write: Audience::Contacts,
        who_may_add: Audience::Nobody,
        ..PrivacyRecord::default()
    };
    stores.people.change_privacy(3, strict.into()).await.expect("it is stored");
    let all = stores.people.acquaintances(&wanted).await.expect("they are read");
    for ((user, other), (relation, privacy)) in wanted.iter().zip(&all) {
        let alone = stores.people.relations(*user, &[*other]).await.expect("they are read");
        assert_eq!(alone, [*relation], "{user} and {other}");
        let alone = PrivacyRecord { user_id: *other, ..PrivacyRecord::default() };
        assert_eq!(*privacy, if *other == 3 { strict } else { alone });
    }
    let found: Vec<Relation> = all.into_iter().map(|(relation, _)| relation).collect();
    assert!(found[0].friends && found[4].friends && !found[5].friends);
    assert_eq!(found[3], Relation { blocks: true, ..Relation::default() });
    assert!(found[6].blocks && found[6].blocked);
}

/// Statements of clients that the server has carried out.
async fn statements(server: &MariaDb) -> i64 {
    let sql = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME \
               IN ('COM_SELECT', 'COM_INSERT', 'COM_UPDATE', 'COM_UPDATE_MULTI', 'COM_BEGIN', 'COM_COMMIT')";
    let mut connection = server.connect().await.expect("the server answers");
    sqlx::query(sql).fetch_one(&mut connection).await.expect("it is read").get(0)
}

/// Statements of what is done, less those that are made to look.
async fn cost<T>(server: &MariaDb, what: impl Future<Output = T>) -> (i64, T) {
    let looking = statements(server).await;
    let before = statements(server).await;
    let answer = what.await;
    (statements(server).await - before - (before - looking), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_messages_of_many_conversations_cost_few_statements() {
    const MANY: u64 = 64;
    let server = MariaDb::start().await;
    let config = mysql_config(&server).await;
    let stores = opened(&config).await.stores();
    let wanted = pairs(MANY);
    let (made_by, made) = cost(&server, stores.conversations.make_directs(&wanted, 10)).await;
    let ids: Vec<u64> = made.expect("they are made").into_iter().map(|(id, _)| id).collect();
    assert!(made_by <= 5, "BEGIN, conversations, their ids, members, COMMIT: {made_by}");
    let first: Vec<_> = ids.iter().map(|id| message(*id, 1, 900, "first")).collect();
    let (sent_by, sent) = cost(&server, stores.messages.append(&first)).await;
    assert_eq!(sent, Ok(()));
    assert_eq!(sent_by, 1, "what was just made is awake");
    // Another node, that knows nothing yet: as after a restart.
    let others = opened(&config).await.stores();
    let second: Vec<_> = ids.iter().map(|id| message(*id, 2, 900, "second")).collect();
    let (sent_by, sent) = cost(&server, others.messages.append(&second)).await;
    assert_eq!(sent, Ok(()));
    assert_eq!(sent_by, 2, "one to lengthen the leases, one to append");
    let (opened_by, openings) = cost(&server, others.conversations.openings(&ids)).await;
    assert_eq!(openings.expect("they are read").len(), ids.len());
    let (read_by, tails) = cost(&server, others.messages.newest(&ids, 64)).await;
    assert!(tails.expect("they are read").iter().all(|tail| tail.len() == 2));
    assert_eq!(opened_by, 1, "conversations with their members");
    assert_eq!(read_by, 1);
    let (related_by, _) = cost(&server, others.people.acquaintances(&wanted)).await;
    assert!(related_by <= 2, "{related_by}");
    let (found_by, _) = cost(&server, others.people.meetings(&wanted)).await;
    assert_eq!(found_by, 1);
    let (made_by, _) = cost(&server, others.conversations.make_directs(&[(800, 801)], 10)).await;
    assert!(made_by <= 4, "BEGIN, conversation, members, COMMIT: {made_by}");
}
