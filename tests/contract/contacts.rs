//! [`rookery::storage::ContactStore`].

use rookery::protocol::ContactState;
use rookery::storage::{ContactRecord, Stores};

fn pair(a: u64, b: u64, states: [ContactState; 2], at: u64) -> [ContactRecord; 2] {
    let side = |user_id, contact_id, state| ContactRecord {
        user_id,
        contact_id,
        state,
        message: format!("你好 {at} 👋"),
        updated_at_ms: at,
    };
    [side(a, b, states[0]), side(b, a, states[1])]
}

pub async fn both_sides_are_written_and_removed_together(stores: &Stores) {
    let asked = pair(1, 2, [ContactState::Requested, ContactState::Invited], 5);
    stores.contacts.put_contacts(&asked).await.expect("they are written");
    assert_eq!(stores.contacts.contact(1, 2).await, Ok(Some(asked[0].clone())));
    assert_eq!(stores.contacts.contact(2, 1).await, Ok(Some(asked[1].clone())));
    let friends = pair(2, 1, [ContactState::Friend; 2], 6);
    stores.contacts.put_contacts(&friends).await.expect("they are replaced");
    assert_eq!(stores.contacts.contact(1, 2).await, Ok(Some(friends[1].clone())));
    assert_eq!(stores.contacts.delete_contacts(1, 2).await, Ok(true));
    assert_eq!(stores.contacts.delete_contacts(2, 1).await, Ok(false));
    assert_eq!(stores.contacts.contact(2, 1).await, Ok(None));
}

pub async fn contacts_are_paged_by_id(stores: &Stores) {
    for other in [9, 3, 7, 5] {
        let rows = pair(1, other, [ContactState::Friend, ContactState::Blocked], other);
        stores.contacts.put_contacts(&rows).await.expect("they are written");
    }
    let page = async |after_id, limit| -> Vec<u64> {
        let rows = stores.contacts.contacts(1, after_id, limit).await.expect("they are read");
        rows.into_iter().map(|row| row.contact_id).collect()
    };
    assert_eq!(page(0, 3).await, [3, 5, 7]);
    assert_eq!(page(7, 3).await, [9]);
    assert_eq!(page(9, 3).await, Vec::<u64>::new());
    let theirs = stores.contacts.contacts(7, 0, 9).await.expect("they are read");
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].state, ContactState::Blocked);
}

pub async fn of_requests_that_cross_the_later_one_makes_friends(stores: &Stores) {
    use ContactState::{Friend, Invited, Requested};
    let states = async |a, b| {
        let mine = stores.contacts.contact(a, b).await.expect("it is read").map(|row| row.state);
        (mine, stores.contacts.contact(b, a).await.expect("it is read").map(|row| row.state))
    };
    let ask = async |a, b, at| {
        let rows = pair(a, b, [Requested, Invited], at);
        stores.contacts.put_contacts(&rows).await.expect("they are written");
    };
    for (a, b) in [(1, 2), (4, 3)] {
        ask(a, b, 1).await;
        ask(a, b, 2).await;
        assert_eq!(states(a, b).await, (Some(Requested), Some(Invited)), "asking again changes nothing");
        ask(b, a, 3).await;
        assert_eq!(states(a, b).await, (Some(Friend), Some(Friend)));
        ask(a, b, 4).await;
        assert_eq!(states(a, b).await, (Some(Friend), Some(Friend)), "friends stay friends");
        for (user_id, contact_id) in [(a, b), (b, a)] {
            let row = stores.contacts.contact(user_id, contact_id).await.expect("it is read").expect("there");
            assert_eq!((row.message.as_str(), row.updated_at_ms), ("", 4), "what was asked is answered");
        }
    }
    assert_eq!(stores.contacts.accept_contacts(5, 6, 9).await, Ok(false), "nobody has asked");
    assert_eq!(states(5, 6).await, (None, None));
    ask(5, 6, 8).await;
    assert_eq!(stores.contacts.accept_contacts(6, 5, 9).await, Ok(true));
    assert_eq!(states(5, 6).await, (Some(Friend), Some(Friend)));
    let row = stores.contacts.contact(5, 6).await.expect("it is read").expect("there");
    assert_eq!((row.message.as_str(), row.updated_at_ms), ("", 9));
    assert_eq!(stores.contacts.accept_contacts(5, 6, 9).await, Ok(true), "again, at the same moment");
}

pub async fn crossing_requests_all_end(stores: &Stores) {
    let tasks: Vec<_> = (0..32u64)
        .map(|at| {
            let contacts = stores.contacts.clone();
            let (a, b) = if at % 2 == 0 { (1, 2) } else { (2, 1) };
            tokio::spawn(
                async move { contacts.put_contacts(&pair(a, b, [ContactState::Friend; 2], at)).await },
            )
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), Ok(()));
    }
    let mine = stores.contacts.contact(1, 2).await.expect("it is read").expect("there");
    let theirs = stores.contacts.contact(2, 1).await.expect("it is read").expect("there");
    assert_eq!(mine.updated_at_ms, theirs.updated_at_ms, "both sides are of one call");
}
