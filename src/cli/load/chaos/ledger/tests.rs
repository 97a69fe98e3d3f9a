//! The judge is judged: each kind of violation is found, and what is right is not.

use super::*;

const ROOM: u64 = 9;

/// One room of three devices: 0 and 1 are user 5's, 2 is user 6's.
fn ledger() -> Ledger {
    let ledger = Ledger::new(vec![(ROOM, vec![0, 1, 2])], &[5, 5, 6]);
    (0..3).for_each(|device| ledger.connected(device, device));
    ledger
}

/// Device 0 plans and posts a message, which gets this number. At a time of its own: of a connection of the same microsecond
/// nobody can say whether it was in time.
fn post(ledger: &Ledger) -> u32 {
    let before_us = ledger.now_us();
    while ledger.now_us() == before_us {
        std::hint::spin_loop();
    }
    let number = ledger.plan(0, 0);
    ledger.posted(0, number);
    number
}

fn sent(seq: u64, number: u32, duplicate: bool) -> v1::Sent {
    v1::Sent { conversation_id: ROOM, seq, client_id: client_id(0, number), duplicate, ..v1::Sent::default() }
}

fn message(seq: u64, number: u32) -> v1::Message {
    v1::Message {
        conversation_id: ROOM,
        seq,
        sender_id: 5,
        client_id: client_id(0, number),
        ..v1::Message::default()
    }
}

fn row(seq: u64, number: u32) -> Row {
    Row::from(&message(seq, number))
}

/// Two messages, acknowledged at seqs 1 and 2.
fn two_acked() -> Ledger {
    let ledger = ledger();
    for place in 0..2 {
        let number = post(&ledger);
        ledger.acked(0, number, (place, place), &sent(place + 1, number, false));
    }
    ledger
}

fn broken(ledger: &Ledger) -> Vec<(Broken, u64)> {
    ledger.counts().broken.into_iter().collect()
}

#[test]
fn a_whole_record_is_accepted() {
    let ledger = two_acked();
    for device in [1, 2] {
        assert!(!ledger.pushed(device, &message(1, 0)));
        assert!(!ledger.pushed(device, &message(2, 1)));
    }
    ledger.acked(0, 0, (2, 2), &sent(1, 0, true));
    ledger.verify(ROOM, &[row(1, 0), row(2, 1)]);
    ledger.log_reaches(ROOM, ledger.told_up_to(ROOM));
    ledger.verify_again(ROOM, &[row(1, 0), row(2, 1)]);
    assert_eq!(broken(&ledger), []);
    assert_eq!(ledger.lacking(), []);
    let counts = ledger.counts();
    assert_eq!((counts.acked, counts.duplicates, counts.live, counts.holes), (2, 1, 4, 0));
}

#[test]
fn an_acknowledged_message_that_is_not_in_the_log_is_lost() {
    let ledger = two_acked();
    let told = ledger.told_up_to(ROOM);
    ledger.verify(ROOM, &[row(1, 0)]);
    ledger.log_reaches(ROOM, told);
    assert_eq!(broken(&ledger), [(Broken::Lost, 1)]);
    // Another one stands in its place.
    let ledger = two_acked();
    let third = post(&ledger);
    ledger.verify(ROOM, &[row(1, 0), row(2, third)]);
    assert_eq!(broken(&ledger), [(Broken::Lost, 1)]);
    // It was there, and is not any more.
    let ledger = two_acked();
    ledger.verify(ROOM, &[row(1, 0), row(2, 1)]);
    ledger.verify_again(ROOM, &[row(1, 0)]);
    assert_eq!(broken(&ledger), [(Broken::Lost, 1)]);
}

#[test]
fn one_client_id_at_two_seqs_is_doubled() {
    let ledger = two_acked();
    ledger.verify(ROOM, &[row(1, 0), row(2, 1), row(3, 0)]);
    assert_eq!(broken(&ledger), [(Broken::Doubled, 1)]);
    let ledger = two_acked();
    ledger.acked(0, 0, (2, 2), &sent(3, 0, true));
    assert_eq!(broken(&ledger), [(Broken::Doubled, 1)]);
}

#[test]
fn a_push_twice_or_behind_a_later_one_is_found() {
    let ledger = two_acked();
    ledger.pushed(1, &message(1, 0));
    ledger.pushed(1, &message(1, 0));
    assert_eq!(broken(&ledger), [(Broken::Doubled, 1)]);
    let ledger = two_acked();
    assert!(ledger.pushed(1, &message(2, 1)), "one is missing before it");
    ledger.pushed(1, &message(1, 0));
    assert_eq!(broken(&ledger), [(Broken::OutOfOrder, 1)]);
    // On a new connection it may come again.
    let ledger = two_acked();
    ledger.pushed(1, &message(1, 0));
    ledger.disconnected(1, &[]);
    ledger.connected(1, 0);
    ledger.pushed(1, &message(1, 0));
    assert_eq!(broken(&ledger), []);
}

#[test]
fn a_send_stored_behind_a_later_one_of_its_connection_is_found() {
    let ledger = ledger();
    let (first, second) = (post(&ledger), post(&ledger));
    ledger.acked(0, second, (1, 1), &sent(1, second, false));
    ledger.acked(0, first, (0, 0), &sent(2, first, false));
    assert_eq!(broken(&ledger), [(Broken::OutOfOrder, 1)]);
}

#[test]
fn a_refused_send_may_count_from_its_first_post() {
    let ledger = ledger();
    let (first, second) = (post(&ledger), post(&ledger));
    // Posted at 0, refused, posted again at 2, and stored by the first post after all: before the one posted at 1.
    ledger.acked(0, first, (0, 2), &sent(1, first, false));
    ledger.acked(0, second, (1, 1), &sent(2, second, false));
    assert_eq!(broken(&ledger), []);
    // By the second post: behind one posted at 3, it is stored too late all the same.
    let (third, fourth) = (post(&ledger), post(&ledger));
    ledger.acked(0, fourth, (5, 5), &sent(3, fourth, false));
    ledger.acked(0, third, (3, 4), &sent(4, third, false));
    assert_eq!(broken(&ledger), [(Broken::OutOfOrder, 1)]);
}

#[test]
fn gaps_and_strangers_in_a_log_are_found() {
    let ledger = two_acked();
    ledger.verify(ROOM, &[row(1, 0), row(3, 1)]);
    assert!(broken(&ledger).contains(&(Broken::Gap, 1)), "{:?}", broken(&ledger));
    let ledger = two_acked();
    ledger.synced(2, &[(0, 0)], &[message(2, 1)]);
    assert_eq!(broken(&ledger), [(Broken::Gap, 1)]);
    let ledger = two_acked();
    ledger.verify(ROOM, &[row(1, 0), row(2, 1), row(3, 77)]);
    assert_eq!(broken(&ledger), [(Broken::Gap, 1)]);
    let ledger = two_acked();
    let stranger = Row { sender_id: 6, ..row(1, 0) };
    ledger.verify(ROOM, &[stranger]);
    assert_eq!(broken(&ledger), [(Broken::Gap, 1)]);
}

#[test]
fn a_device_that_lacks_something_is_named() {
    let ledger = two_acked();
    ledger.verify(ROOM, &[row(1, 0), row(2, 1)]);
    ledger.pushed(1, &message(1, 0));
    assert_eq!(ledger.lacking(), [(1, 0, 2), (2, 0, 1)]);
    assert_eq!(ledger.cursors(1, &[0]), [(0, 1)]);
    assert_eq!(ledger.synced(1, &[(0, 1)], &[message(2, 1)]), 1);
    assert_eq!(ledger.lacking(), [(2, 0, 1)]);
}

#[test]
fn wrong_answers_are_found() {
    let ledger = ledger();
    let number = post(&ledger);
    ledger.acked(0, number, (0, 0), &v1::Sent { conversation_id: ROOM + 1, ..sent(1, number, false) });
    ledger.acked(0, number, (0, 0), &sent(1, number + 1, false));
    let refused = crate::domain::Error { retry_after_ms: 0, ..crate::domain::Error::unavailable("away") };
    ledger.refused(0, number, &ClientError::Refused(refused));
    ledger.refused(0, number, &ClientError::Refused(crate::domain::Error::denied("no")));
    assert_eq!(broken(&ledger), [(Broken::Protocol, 4)]);
}

#[test]
fn a_push_passed_over_is_a_hole_and_one_of_before_the_connection_is_not() {
    let ledger = two_acked();
    ledger.pushed(1, &message(2, 1));
    assert_eq!(ledger.counts().holes, 1);
    assert!(ledger.trouble_us() > 0);
    let ledger = self::ledger();
    let number = post(&ledger);
    // It may have been pushed before this one was there.
    ledger.connected(1, 0);
    ledger.acked(0, number, (0, 0), &sent(1, number, false));
    let number = post(&ledger);
    ledger.acked(0, number, (1, 1), &sent(2, number, false));
    ledger.pushed(1, &message(2, number));
    assert_eq!(ledger.counts().holes, 0);
}

#[test]
fn a_time_is_told_only_when_somebody_tried_all_the_while() {
    let ledger = ledger();
    let since = ledger.now_us();
    ledger.watch(since, false, [(0, 0), (0, 1)]);
    let number = post(&ledger);
    assert_eq!(ledger.unanswered_pairs(), [(0, 0), (0, 1)]);
    ledger.acked(0, number, (0, 0), &sent(1, number, false));
    assert_eq!(ledger.unanswered_pairs(), [(0, 1)]);
    assert_eq!((ledger.watched_ms().len(), ledger.unmeasured()), (1, 1));
    let late = Watch { since_us: 0, any_send: false, failed_us: 0, answered: Some((5_000_000, 5_000_100)) };
    assert_eq!(late.took_us(), None, "nobody had tried before");
    let tried = Watch { failed_us: 4_900_000, ..late };
    assert_eq!(tried.took_us(), Some(5_000_100));
    let waited = Watch { answered: Some((5_000_000, 6_000_000)), ..late };
    assert_eq!(waited.took_us(), Some(6_000_000));
}
