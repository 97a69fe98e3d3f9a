//! Many conversations that nobody used before, all at once, beside those in use; and what is refused when it is too much.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::testing::{Answers, Node, PATIENCE, eventually, group};
use crate::protocol::ErrorCode;
use crate::storage::memory::MemoryStores;

/// Rooms that nobody has loaded.
const COLD: usize = 200;
/// Rooms that are loaded together, and at the same time.
const TOGETHER: usize = 32;
const LANES: usize = 2;

async fn rooms(memory: &MemoryStores, count: usize) -> Vec<u64> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        rooms.push(group(memory, 1, vec![2]).await);
    }
    rooms
}

fn count_of(node: &Node, name: &str) -> u64 {
    let counts = node.actors.overload().counts();
    counts.iter().find(|(of, _)| *of == name).map(|(_, count)| *count).expect("it is counted")
}

#[tokio::test]
async fn a_storm_of_cold_rooms_holds_up_no_room_in_use() {
    let memory = MemoryStores::default();
    let node = Node::start("storm", &memory).await;
    let (warm, cold) = (rooms(&memory, 1).await[0], rooms(&memory, COLD).await);
    let in_use = Answers::default();
    in_use.post(&node, 1, warm, 0);
    in_use.all(1).await;
    node.loads.store(0, Ordering::Relaxed);
    // The database loads nothing now.
    node.load_door.send_replace(false);
    let first = Answers::default();
    for (number, room) in cold.iter().enumerate() {
        first.post(&node, 1, *room, number as u32);
    }
    eventually("rooms are being loaded", || node.loads.load(Ordering::Relaxed) == LANES).await;
    for number in 1..=50 {
        in_use.post(&node, 1, warm, number);
        in_use.all(number as usize + 1).await;
    }
    assert!(in_use.0.lock().iter().all(|(_, answer)| answer.is_ok()), "as if there were no storm");
    assert_eq!(node.loads.load(Ordering::Relaxed), LANES, "the storm has no more of the database than this");
    assert!(first.0.lock().is_empty());
    node.load_door.send_replace(true);
    let answers = first.all(COLD).await;
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
    // Those that began lone, and then the rest.
    let most = LANES + (COLD - LANES).div_ceil(TOGETHER) + LANES;
    let loads = node.loads.load(Ordering::Relaxed);
    assert!(loads <= most, "{loads} look-ups for {COLD} rooms");
    node.cluster.shutdown().await;
}

#[tokio::test]
async fn what_waits_too_long_for_its_room_is_refused_and_what_comes_then_is_not() {
    let memory = MemoryStores::default();
    let wait_max = Duration::from_millis(200);
    let node = Node::start_with("late", &memory, |config| config.overload.wait_max = wait_max).await;
    let cold = rooms(&memory, 3 * TOGETHER).await;
    node.load_door.send_replace(false);
    let first = Answers::default();
    for (number, room) in cold.iter().enumerate() {
        first.post(&node, 1, *room, number as u32);
    }
    eventually("rooms are being loaded", || node.loads.load(Ordering::Relaxed) == LANES).await;
    tokio::time::sleep(2 * wait_max).await;
    // Others wait for long: who comes now need not begin to.
    let late = group(&memory, 1, vec![2]).await;
    let then = Answers::default();
    then.post(&node, 1, late, 0);
    let (_, refused) = then.all(1).await.remove(0);
    let refused = refused.expect_err("it is too much");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.retry_after_ms >= 100, "{refused:?}");
    node.load_door.send_replace(true);
    let answers = first.all(cold.len()).await;
    assert!(answers.iter().all(|(_, answer)| answer.is_err()), "all have waited for too long: {answers:?}");
    assert!(count_of(&node, "sheds_loads") > 0 && count_of(&node, "sheds_room") > 0);
    assert_eq!(node.groups.load(Ordering::Relaxed), 0, "nothing of it came to the database");
    // What comes back is stored, under the same name.
    let again = async {
        loop {
            let then = Answers::default();
            then.post(&node, 1, late, 0);
            if then.all(1).await[0].1.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the storm is over");
    assert_eq!(node.log_of(late).await.len(), 1);
    node.cluster.shutdown().await;
}

#[tokio::test]
async fn while_writers_are_behind_sends_are_refused_before_they_wait() {
    let memory = MemoryStores::default();
    let wait_max = Duration::from_millis(200);
    let node = Node::start_with("behind", &memory, |config| {
        config.overload.wait_max = wait_max;
        config.writer.batch_messages = 1;
    })
    .await;
    let rooms = rooms(&memory, 8).await;
    let warm = Answers::default();
    for (number, room) in rooms.iter().enumerate() {
        warm.post(&node, 1, *room, number as u32);
        // Loading refuses too, where the machine stands still.
        warm.all(number + 1).await;
    }
    node.door.send_replace(false);
    node.groups.store(0, Ordering::Relaxed);
    let waiting = Answers::default();
    for (number, room) in rooms.iter().enumerate().skip(1) {
        waiting.post(&node, 1, *room, 100 + number as u32);
    }
    eventually("both writers are in the middle of it", || node.groups.load(Ordering::Relaxed) == LANES).await;
    tokio::time::sleep(wait_max).await;
    let then = Answers::default();
    then.post(&node, 1, rooms[0], 200);
    let (_, refused) = then.all(1).await.remove(0);
    assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::Unavailable));
    assert!(count_of(&node, "sheds_writers") > 0);
    node.door.send_replace(true);
    // Those that stood behind a batch of one have waited for too long, all but the last: nobody waits behind that.
    let answers = waiting.all(rooms.len() - 1).await;
    assert!(count_of(&node, "sheds_group") > 0, "{answers:?}");
    assert!(answers.iter().filter(|(_, answer)| answer.is_ok()).count() >= LANES, "{answers:?}");
    eventually("nothing waits any more", || node.actors.overload().admit_to_writers().is_ok()).await;
    let then = Answers::default();
    then.post(&node, 1, rooms[0], 200);
    assert!(then.all(1).await[0].1.is_ok());
    node.cluster.shutdown().await;
}
